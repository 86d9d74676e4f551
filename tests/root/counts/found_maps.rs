//! Maps as iterators report them, compared with their contents.

use bpf_metrics_exporter::model::{Kind, Map as Found};

use super::readers;
use test_support::objects::{
    Filled, Map, Ring, UserRing, every_countable_map, every_map_type, every_uncounted_map, fdinfo,
    if_possible, uapi,
};
use uapi::map_flag::NO_PREALLOC;
use uapi::map_type as kind;

/// Returns whether this kernel certainly counts the entries of a map. Older ones may as well, where the change was backported.
fn counts(map: &Map) -> bool {
    match map.shape().kind {
        // Those without preallocation have always counted, for their own limit.
        kind::HASH | kind::PERCPU_HASH | kind::HASH_OF_MAPS if map.shape().flags & NO_PREALLOC != 0 => true,
        kind::HASH | kind::PERCPU_HASH | kind::HASH_OF_MAPS | kind::LRU_HASH | kind::LRU_PERCPU_HASH => {
            readers::version() >= (6, 6)
        }
        kind::DEVMAP | kind::XSKMAP => readers::version() >= (6, 4),
        _ => true,
    }
}

/// Asserts the number of entries; where the kernel may not count them, it may be absent.
fn assert_entries(name: &str, filled: &Filled, found: &Found) {
    let uncounted = found.entries.is_none() && !counts(filled.map());
    assert!(
        uncounted || found.entries == Some(filled.entries()),
        "{name}: {:?} of {}",
        found.entries,
        filled.entries()
    );
}

/// Returns whether a full map evicts old entries, and so never refuses new ones.
fn is_lru(map: &Map) -> bool {
    matches!(map.shape().kind, kind::LRU_HASH | kind::LRU_PERCPU_HASH)
}

fn possible<Name>(made: Vec<(Name, std::io::Result<Filled>)>) -> Vec<(Name, Filled)> {
    made.into_iter().filter_map(|(name, filled)| Some((name, if_possible(filled)?))).collect()
}

pub(crate) fn entries() {
    let mut reader = readers::by_iterators();
    let made = possible(every_countable_map());
    let snapshot = reader.read();
    let mut counted = 0;
    for (name, filled) in &made {
        let found = readers::map(&snapshot, filled.map().id());
        assert_entries(name, filled, found);
        #[expect(clippy::cast_precision_loss, reason = "they are few")]
        let part = |entries: u64| entries as f64 / f64::from(filled.map().shape().max_entries);
        assert_eq!(found.fill(), found.entries.map(part).filter(|_| !is_lru(filled.map())), "{name}");
        assert_eq!(found.backlog, None, "{name}");
        counted += usize::from(found.entries.is_some());
    }
    assert!(counted >= 6 * 5 && made.len() >= 12 * 5, "{counted} of {} are counted", made.len());
}

pub(crate) fn uncounted() {
    let mut reader = readers::by_iterators();
    let made = possible(every_uncounted_map());
    let snapshot = reader.read();
    for (name, filled) in &made {
        let found = readers::map(&snapshot, filled.map().id());
        match filled.map().shape().kind {
            kind::ARRAY | kind::PERCPU_ARRAY => {
                assert_eq!(found.entries, Some(filled.map().shape().max_entries.into()), "{name}");
            }
            // For these the kernel counts the elements in use.
            kind::DEVMAP | kind::XSKMAP => assert_entries(name, filled, found),
            _ => assert_eq!(found.entries, None, "{name}"),
        }
        assert_eq!((found.fill(), found.backlog), (None, None), "{name}");
    }
    assert!(made.len() >= 12);
}

pub(crate) fn million() {
    const MILLION: u32 = 1_000_000;
    let mut reader = readers::by_iterators();
    for flags in [0, NO_PREALLOC] {
        let map = Map::hash_of(MILLION, flags).expect("there is memory");
        let snapshot = reader.read();
        let found = readers::map(&snapshot, map.id());
        assert_eq!(found.mem, memlock(&map));
        assert!(found.entries.is_some() || !counts(&map));
        if found.entries.is_some() {
            assert_eq!((found.entries, found.fill()), (Some(MILLION.into()), Some(1.0)));
            map.delete(&7_u32.to_ne_bytes()).expect("it is in");
            assert_eq!(readers::map(&reader.read(), map.id()).entries, Some(u64::from(MILLION) - 1));
        }
    }
}

pub(crate) fn backlogs() {
    const SIZE: u32 = 64 * 1024;
    let mut reader = readers::by_iterators();
    let mut backlog = |map: &Map| {
        let snapshot = reader.read();
        let found = readers::map(&snapshot, map.id());
        assert_eq!((found.entries, found.fill()), (None, None));
        found.backlog
    };
    let ring = Ring::new(SIZE).expect("ring buffers exist since 5.8");
    assert_eq!(backlog(ring.map()), Some(0));
    ring.produce(1000).expect("there is room");
    assert_eq!(backlog(ring.map()), Some(1000 * Ring::RECORD));
    ring.consume(500).expect("they were written");
    assert_eq!(backlog(ring.map()), Some(500 * Ring::RECORD));
    // Once around, so that positions and offsets differ.
    ring.produce(1500).expect("there is room");
    ring.consume(2000 - 7).expect("they were written");
    assert_eq!(backlog(ring.map()), Some(7 * Ring::RECORD));

    if let Some(ring) = if_possible(UserRing::new(SIZE)) {
        assert_eq!(backlog(ring.map()), Some(0));
        ring.produce(100, 13).expect("there is room");
        assert_eq!(backlog(ring.map()), Some(UserRing::taken_up(100, 13)));
        ring.produce(5000, 13).expect_err("the buffer has no room for them");
        assert_eq!(backlog(ring.map()), Some(UserRing::taken_up(SIZE / 24, 13)));
    }
}

pub(crate) fn nonsense() {
    const SIZE: u32 = 64 * 1024;
    let mut reader = readers::by_iterators();
    let ring = Ring::new(SIZE).expect("ring buffers exist since 5.8");
    for _ in 0..3 {
        ring.produce(1000).expect("there is room");
        ring.consume(1000).expect("they were written");
    }
    let produced = 3000 * Ring::RECORD;
    let size = u64::from(SIZE);
    for (consumed, wanted) in [
        (produced, Some(0)),
        (produced - 8, Some(8)),
        (produced - size, Some(size)),
        // More than the size, and less than nothing.
        (produced - size - 8, None),
        (0, None),
        (produced + 8, None),
        (u64::MAX, None),
        (u64::MAX / 2, None),
    ] {
        ring.claim_consumed(consumed);
        let snapshot = reader.read();
        assert_eq!(readers::map(&snapshot, ring.map().id()).backlog, wanted, "{consumed} of {produced}");
    }
}

pub(crate) fn frozen() {
    let mut reader = readers::by_iterators();
    let map = Map::ready(kind::HASH, "frozen").expect("a hash can be made");
    let before = reader.read();
    map.freeze().expect("a hash can be frozen");
    let after = reader.read();
    let [before, after] = [&before, &after].map(|snapshot| readers::map(snapshot, map.id()));
    assert_eq!((before.frozen, after.frozen), (Some(false), Some(true)));
    assert!(std::sync::Arc::ptr_eq(&before.facts, &after.facts), "it is the same map");
}

fn memlock(map: &Map) -> Option<u64> {
    fdinfo(map.fd(), "memlock").expect("an open file has an fdinfo")?.parse().ok()
}

pub(crate) fn memory() {
    let mut reader = readers::by_iterators();
    let fill =
        |(number, map): (u32, _)| Some((number.to_string(), if_possible(Filled::empty(if_possible(map)?))?));
    let mut made: Vec<(String, Filled)> = every_map_type().into_iter().filter_map(fill).collect();
    made.extend(possible(every_countable_map()).into_iter().filter(|(name, _)| name.ends_with(", some")));
    assert!(made.len() >= 25 + 12);
    let mut moved = Vec::new();
    // Nothing changes between the first two.
    for numbers in [None, None, Some(10..11), Some(11..40), None] {
        let before: Vec<_> = made.iter().map(|(_, filled)| memlock(filled.map())).collect();
        for (_, filled) in &mut made {
            // A map that refuses has as much memory as before.
            let _refused = numbers.clone().map(|numbers| filled.add(numbers));
        }
        let snapshot = reader.read();
        for ((name, filled), before) in made.iter().zip(before) {
            let mem = memlock(filled.map());
            assert!(mem.is_some(), "{name}");
            assert_eq!(readers::map(&snapshot, filled.map().id()).mem, mem, "{name} after {numbers:?}");
            if mem != before {
                moved.push(name.clone());
            }
        }
        assert!(snapshot.issues.iter().all(|issue| issue.part != Kind::Map.into()), "{:?}", snapshot.issues);
    }
    // Since 6.4 the kernel reports the memory in use, not the possible maximum.
    let grows = readers::version() >= (6, 4);
    assert_eq!(grows, moved.iter().any(|name| name.starts_with("hash_no_prealloc")), "{moved:?}");
}
