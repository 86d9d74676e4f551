//! The memory of maps, calculated from their entries or from that of others: it is what the kernel reports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bpf_metrics_exporter::kernel::Reader;
use caps::{CapSet, Capability};
use test_support::objects::uapi::{map_flag, map_type};
use test_support::objects::{Filled, Map, fdinfo, if_possible};
use test_support::readers;

/// Types whose memory grows on every kernel with iterators, with the flags that this takes.
const KINDS: [(u32, u32); 3] = [
    (map_type::HASH, map_flag::NO_PREALLOC),
    (map_type::PERCPU_HASH, map_flag::NO_PREALLOC),
    (map_type::LPM_TRIE, 0),
];

/// Types that need a device or a socket for each entry.
const OTHERS: [u32; 3] = [map_type::DEVMAP_HASH, map_type::SOCKHASH, map_type::HASH_OF_MAPS];

/// What the kernel reports of a map in another way.
fn memory(map: &Map) -> Option<u64> {
    fdinfo(map.fd(), "memlock").expect("/proc is there")?.parse().ok()
}

fn empty(kind: u32, flags: u32) -> std::io::Result<Filled> {
    Filled::empty(Map::ready_with(kind, "calculated", flags)?)
}

/// Adds an entry, and empties a map that is full.
fn change(map: &mut Filled) {
    let entries = u32::try_from(map.entries()).expect("a few");
    if map.add(entries..entries + 1).is_err() {
        map.remove(0..entries).expect("they are in");
    }
}

fn compare(reader: &mut Reader, maps: &[Filled]) {
    let snapshot = reader.read();
    for map in maps.iter().map(Filled::map) {
        let found = readers::map(&snapshot, map.id());
        assert_eq!(found.mem, memory(map), "{:?} with {:?} entries", map.shape(), found.entries);
    }
    assert_eq!(snapshot.issues, []);
}

pub(crate) fn calculated() {
    let mut maps = Vec::new();
    for (kind, flags) in KINDS {
        maps.extend((0..4).map(|_| empty(kind, flags).expect("it can be made")));
    }
    for kind in OTHERS {
        let flags = if kind == map_type::HASH_OF_MAPS { map_flag::NO_PREALLOC } else { 0 };
        maps.extend((0..4).map_while(|_| if_possible(empty(kind, flags))));
    }
    let mut reader = readers::by_iterators();
    for round in 0..20 {
        // Different numbers of entries, and some maps that do not change.
        for map in maps.iter_mut().skip(round % 3).step_by(2) {
            change(map);
        }
        compare(&mut reader, &maps);
    }
    // Without the right to ask, what is right can only have been calculated.
    thread::scope(|scope| {
        let without_rights = scope.spawn(|| {
            caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)
                .expect("a thread may drop capabilities");
            for _ in 0..3 {
                maps.iter_mut().for_each(change);
                compare(&mut reader, &maps);
            }
        });
        without_rights.join().expect("all are right");
    });
}

/// Types whose memory is allocated when they are created.
const FIXED: [u32; 8] = [
    map_type::ARRAY,
    map_type::PERCPU_ARRAY,
    map_type::PROG_ARRAY,
    map_type::HASH,
    map_type::LRU_HASH,
    map_type::QUEUE,
    map_type::STACK_TRACE,
    map_type::RINGBUF,
];

pub(crate) fn of_new_maps() {
    let make = |count| -> Vec<Map> {
        let of_type = |kind| (0..count).map(move |_| Map::ready(kind, "fixed").expect("it can be made"));
        FIXED.into_iter().flat_map(of_type).collect()
    };
    let compare = |reader: &mut Reader, maps: &[Map]| {
        let snapshot = reader.read();
        for map in maps {
            let found = readers::map(&snapshot, map.id()).mem;
            assert!(found.is_some() && found == memory(map), "{:?}: {found:?}", map.shape());
        }
        assert_eq!(snapshot.issues, []);
    };
    let mut reader = readers::by_iterators();
    let first = make(12);
    compare(&mut reader, &first);
    // Without the right to ask, what is right was taken from the others.
    thread::scope(|scope| {
        let without_rights = scope.spawn(|| {
            let second = make(3);
            caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)
                .expect("a thread may drop capabilities");
            compare(&mut reader, &second);
        });
        without_rights.join().expect("all are right");
    });
}

pub(crate) fn in_motion() {
    let make = || empty(map_type::HASH, map_flag::NO_PREALLOC).expect("it can be made");
    let (mut moving, mut resting) = ([make(), make(), make()], [make(), make()]);
    let mut reader = readers::by_iterators();
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                moving.iter_mut().for_each(change);
            }
        });
        for _ in 0..200 {
            let snapshot = reader.read();
            if !snapshot.issues.is_empty() {
                stopped.store(true, Ordering::Relaxed);
            }
            assert_eq!(snapshot.issues, [], "a map that changes while it is measured is no issue");
        }
        stopped.store(true, Ordering::Relaxed);
    });
    // However wrong the measurements were: those of maps at rest are right, and so is what is calculated of others after them.
    for _ in 0..20 {
        resting.iter_mut().for_each(change);
        reader.read();
    }
    moving.iter_mut().for_each(change);
    compare(&mut reader, &moving);
    compare(&mut reader, &resting);
}
