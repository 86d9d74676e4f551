//! Objects that come and go: what exists is reported, completely and once, and facts are read once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::model::{Kind as Table, Part, ReaderKind, Snapshot};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::readers;
use test_support::objects::{
    Churn, Filled, Herd, Kind, Link, Map, Program, uapi, wait_until, wait_until_gone,
};

/// Deadline for the kernel to free objects without a reference.
const SOON: Duration = Duration::from_secs(20);

const TABLES: [Table; 3] = [Table::Program, Table::Map, Table::Link];

/// The ids of every program, map and link.
fn ids(snapshot: &Snapshot) -> [BTreeSet<u32>; 3] {
    [
        snapshot.programs.iter().flatten().map(|program| program.facts.id).collect(),
        snapshot.maps.iter().flatten().map(|map| map.facts.id).collect(),
        snapshot.links.iter().flatten().map(|link| link.facts.id).collect(),
    ]
}

/// The ids of those that were made.
fn made(herd: &Herd) -> [BTreeSet<u32>; 2] {
    [herd.programs().iter().map(Program::id).collect(), herd.maps().iter().map(Map::id).collect()]
}

pub(crate) fn facts_are_shared(backend: ReaderKind) {
    let mut reader = readers::by(backend);
    let herd = Herd::new(120, 50).expect("they can be made");
    let mut grows = Filled::empty(
        Map::ready_with(uapi::map_type::HASH, "grows", uapi::map_flag::NO_PREALLOC).expect("it can be made"),
    )
    .expect("it can be filled");
    let link = Link::cgroup().expect("it can be attached");
    let first = reader.read();
    // Counters do not change the facts.
    grows.add(0..10).expect("there is room");
    herd.programs()[0].run(64, 10).expect("it can be run");
    let second = reader.read();
    grows.remove(0..10).expect("they are in");
    for program in herd.programs() {
        let of = |snapshot| &readers::program(snapshot, program.id()).facts;
        assert!(Arc::ptr_eq(of(&first), of(&second)), "program {}", program.id());
    }
    for map in herd.maps().iter().chain([grows.map()]) {
        let of = |snapshot| &readers::map(snapshot, map.id()).facts;
        assert!(Arc::ptr_eq(of(&first), of(&second)), "map {}", map.id());
    }
    let of = |snapshot| &readers::link(snapshot, link.id()).facts;
    assert!(Arc::ptr_eq(of(&first), of(&second)), "link {}", link.id());
}

pub(crate) fn exactly_what_was_made(backend: ReaderKind) {
    let mut reader = readers::by(backend);
    let herd = Herd::new(150, 250).expect("they can be made");
    let made = made(&herd);
    let [programs, maps, _] = ids(&reader.read());
    assert!(programs.is_superset(&made[0]) && maps.is_superset(&made[1]));
    drop(herd);
    let [programs, maps] = made.map(Vec::from_iter);
    wait_until_gone(Kind::Program, &programs, SOON).expect("programs end");
    wait_until_gone(Kind::Map, &maps, SOON).expect("maps end");
    let [found_programs, found_maps, _] = ids(&reader.read());
    assert!(programs.iter().all(|id| !found_programs.contains(id)));
    assert!(maps.iter().all(|id| !found_maps.contains(id)));
}

pub(crate) fn newcomers(backend: ReaderKind) {
    let mut reader = readers::by(backend);
    let herd = Herd::new(30, 30).expect("they can be made");
    let mut before = reader.read();
    for round in 0..4 {
        let name = format!("newcomer_{round}_with_a_name_that_is_cut");
        let program = Program::with_full_name(&name).expect("it can be loaded");
        let map = Map::ready(uapi::map_type::HASH, "newcomer").expect("it can be made");
        let using = Program::using("newcomer", &[&map]).expect("it can be loaded");
        // In every other round a cached object changes together with the new ones.
        let bound = (round % 2 == 1).then(|| herd.programs()[round].bind(&map).expect("it can be bound"));
        let after = reader.read();
        assert_eq!(readers::program(&after, program.id()).facts.name, name);
        assert_eq!(readers::program(&after, using.id()).facts.map_ids, Some(vec![map.id()]));
        assert!(readers::map(&after, map.id()).facts.first_seen >= after.taken_at);
        for (number, program) in herd.programs().iter().enumerate() {
            let [before, after] = [&before, &after].map(|snapshot| readers::program(snapshot, program.id()));
            let shared = Arc::ptr_eq(&before.facts, &after.facts);
            let kept = number != round || bound.is_none();
            assert!(shared || !kept, "program {number} in round {round}");
            if !kept {
                assert_eq!(after.facts.map_ids.as_deref(), Some(&[map.id()][..]));
                assert_eq!(before.facts.loaded_at, after.facts.loaded_at, "it is the same series");
            }
        }
        before = after;
    }
}

pub(crate) fn churn(backend: ReaderKind) {
    let mut reader = readers::by(backend);
    let herd = Herd::new(200, 200).expect("they can be made");
    let kept = made(&herd);
    let link = Link::cgroup().expect("it can be attached");
    let churn = Churn::start(500).expect("it starts");
    let (mut readings, mut came) = (0, BTreeSet::new());
    let end = Instant::now() + SOON;
    while readings < 20 || came.is_empty() || churn.made().links < 50 {
        assert!(Instant::now() < end, "{readings} readings while {:?} were made", churn.made());
        let snapshot = reader.read();
        assert_eq!(snapshot.issues, [], "an object that vanishes is no issue");
        assert!(snapshot.collectors.iter().all(|collector| collector.success));
        let found = ids(&snapshot);
        assert!(
            found[0].is_superset(&kept[0]) && found[1].is_superset(&kept[1]),
            "lasting objects are reported"
        );
        assert!(found[2].contains(&link.id()));
        let rows = [
            snapshot.programs.as_ref().map(Vec::len),
            snapshot.maps.as_ref().map(Vec::len),
            snapshot.links.as_ref().map(Vec::len),
        ];
        assert_eq!(rows, found.each_ref().map(|ids| Some(ids.len())), "nothing is reported twice");
        let named =
            snapshot.programs.iter().flatten().filter(|program| program.facts.name.starts_with("churn"));
        came.extend(named.map(|program| program.facts.id));
        readings += 1;
    }
    churn.stop().expect("it went well");
    wait_until("freed programs are not reported", SOON, || {
        let existing = Kind::Program.ids()?;
        Ok((&came - &existing).is_disjoint(&ids(&reader.read())[0]))
    })
    .expect("no freed program stays");
}

/// Leaves this process without free descriptors until dropped.
struct Exhausted((u64, u64));

impl Exhausted {
    fn new() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        setrlimit(Resource::RLIMIT_NOFILE, 0, limit.1).expect("a limit can be lowered");
        Self(limit)
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.0.0, self.0.1).expect("a limit can be restored");
    }
}

pub(crate) fn failure() {
    let mut reader = readers::by_iterators();
    let herd = Herd::new(20, 20).expect("they can be made");
    let link = Link::cgroup().expect("it can be attached");
    let before = reader.read();
    let failed = {
        let _exhausted = Exhausted::new();
        reader.read()
    };
    assert!(failed.programs.is_none() && failed.maps.is_none() && failed.links.is_none());
    for table in TABLES {
        let mut issues =
            failed.issues.iter().filter(|issue| issue.part == table.into() && issue.call.contains("ITER"));
        let issue = issues.next().expect("it is an issue");
        // A pass over the known objects fails, and then the iterator.
        let times = if matches!(table, Table::Link) { 1 } else { 2 };
        assert_eq!((&*issue.call, &*issue.error, issue.count), ("BPF_ITER_CREATE", "EMFILE", times));
        let collector = failed.collectors.iter().find(|collector| collector.part == table.into());
        assert!(
            collector
                .is_some_and(|collector| !collector.success && collector.reader == Some(ReaderKind::Iter))
        );
    }
    let after = reader.read();
    assert!(after.issues.iter().all(|issue| issue.count == 0 && issue.total > 0), "the total stays");
    for program in herd.programs() {
        let of = |snapshot| &readers::program(snapshot, program.id()).facts;
        assert!(Arc::ptr_eq(of(&before), of(&after)), "program {}", program.id());
    }
    for map in herd.maps() {
        let of = |snapshot| readers::map(snapshot, map.id());
        assert!(Arc::ptr_eq(&of(&before).facts, &of(&after).facts), "map {}", map.id());
        assert_eq!(of(&before).mem, of(&after).mem);
    }
    let of = |snapshot| &readers::link(snapshot, link.id()).facts;
    assert!(Arc::ptr_eq(of(&before), of(&after)), "link {}", link.id());
}

pub(crate) fn many_maps(backend: ReaderKind) {
    let mut reader = readers::by(backend);
    let make = || Map::ready(uapi::map_type::ARRAY, "one_of_many").expect("it can be made");
    let first = make();
    let program = Program::using("many_maps", &[&first]).expect("it can be loaded");
    let mut ids = vec![first.id()];
    // One more than the verifier lets a program name, several times that, and more than an iterator reports.
    for count in [65, 700, 4_200] {
        while ids.len() < count {
            let map = make();
            program.bind(&map).expect("maps can be bound since 5.10");
            ids.push(map.id());
        }
        let (first, second) = (reader.read(), reader.read());
        let of = |snapshot| &readers::program(snapshot, program.id()).facts;
        assert_eq!(of(&first).map_ids.as_ref(), Some(&ids), "{count} maps");
        assert!(Arc::ptr_eq(of(&first), of(&second)), "they are read once");
        assert!(second.issues.iter().all(|issue| issue.part != Part::Program), "{:?}", second.issues);
        if readers::version() < (5, 11) && count > 65 {
            // Maps count as locked memory, of which there is little.
            break;
        }
    }
}

pub(crate) fn growing_churn() {
    const AT_ONCE: usize = 40;
    let mut reader = readers::by_iterators();
    let make = || {
        let map = Map::ready_with(uapi::map_type::HASH, "grows_and_goes", uapi::map_flag::NO_PREALLOC);
        Filled::empty(map.expect("it can be made")).expect("it can be filled")
    };
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut maps: VecDeque<Filled> = (0..AT_ONCE).map(|_| make()).collect();
            let mut gone = 0_u32;
            while !stopped.load(Ordering::Relaxed) {
                for map in &mut maps {
                    let number = u32::try_from(map.entries()).expect("a few");
                    // Full ones stay as they are.
                    let _full = map.add(number..number + 1);
                }
                maps.pop_front();
                maps.push_back(make());
                gone += 1;
            }
            gone
        });
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            let snapshot = reader.read();
            if !snapshot.issues.is_empty() {
                stopped.store(true, Ordering::Relaxed);
            }
            assert_eq!(snapshot.issues, [], "an object that vanishes is no issue");
        }
        stopped.store(true, Ordering::Relaxed);
        assert!(churn.join().expect("it does not panic") > 50);
    });
}
