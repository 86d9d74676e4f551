//! Objects that come and go: what exists is reported, nothing else is, and readings keep nothing alive. Other processes make and free
//! objects at any time, so only those of a test are compared.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::model::{Map as Found, ReaderKind, Snapshot};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::{ids, read, reader};
use test_support::objects::{Churn, Herd, Kind, Made, Map, Program, uapi, wait_until, wait_until_gone};
use test_support::readers::{self, counting_by, descriptors};

/// Deadline for the kernel to free objects without a reference.
const SOON: Duration = Duration::from_secs(20);

const KINDS: [Kind; 4] = [Kind::Program, Kind::Map, Kind::Link, Kind::Btf];

/// The ids of every program, map, link and BTF object of a herd.
fn made(herd: &Herd) -> [BTreeSet<u32>; 4] {
    [
        herd.programs().iter().map(Program::id).collect(),
        herd.maps().iter().map(Map::id).collect(),
        BTreeSet::new(),
        herd.programs().iter().filter_map(|program| Some(program.btf()?.id())).collect(),
    ]
}

/// Asserts that all of these are reported.
#[track_caller]
fn assert_reported(snapshot: &Snapshot, wanted: &[BTreeSet<u32>; 4]) {
    for (reported, wanted) in ids(snapshot).iter().zip(wanted) {
        assert!(reported.is_superset(wanted), "{:?} are not reported", wanted - reported);
    }
}

pub(crate) fn exactly_what_was_made() {
    let herd = Herd::new(300, 500).expect("they can be made");
    let made = made(&herd);
    assert!(!made[3].is_empty(), "some have BTF");
    let before: [BTreeSet<u32>; 4] = KINDS.map(|kind| kind.ids().expect("root may list them"));
    let reported = ids(&read(ReaderKind::Walk));
    let after = KINDS.map(|kind| kind.ids().expect("root may list them"));
    for (kind, made) in made.iter().enumerate() {
        assert!(reported[kind].is_superset(made), "{:?} are not reported", made - &reported[kind]);
        // What was there before and after the reading was there during it.
        let lasting = &before[kind] & &after[kind];
        assert!(reported[kind].is_superset(&lasting), "{:?} are not reported", &lasting - &reported[kind]);
        // Ids ascend, so an object that came and went during the reading has a larger one than all before it.
        let largest = before[kind].last().copied().unwrap_or(0);
        let extra = &(&reported[kind] - &before[kind]) - &after[kind];
        assert!(
            extra.iter().all(|&id| id > largest),
            "{extra:?} did not exist, {largest} was the largest id"
        );
    }

    drop(herd);
    for (kind, made) in KINDS.into_iter().zip(&made) {
        wait_until_gone(kind, &made.iter().copied().collect::<Vec<_>>(), SOON).expect("they are freed");
    }
    for (reported, made) in ids(&read(ReaderKind::Walk)).iter().zip(&made) {
        assert!(reported.is_disjoint(made), "{:?} are still reported", reported & made);
    }
}

pub(crate) fn facts_are_shared() {
    let herd = Herd::new(120, 20).expect("they can be made");
    let mut reader = reader(ReaderKind::Walk);
    let (first, second) = (reader.read(), reader.read());
    for program in herd.programs() {
        let facts = |snapshot| &readers::program(snapshot, program.id()).facts;
        assert!(Arc::ptr_eq(facts(&first), facts(&second)), "program {}", program.id());
    }
    for map in herd.maps() {
        let facts = |snapshot| &readers::map(snapshot, map.id()).facts;
        assert!(Arc::ptr_eq(facts(&first), facts(&second)), "map {}", map.id());
    }
    for id in herd.programs().iter().filter_map(|program| Some(program.btf()?.id())) {
        let btf = |snapshot: &Snapshot| {
            let found = snapshot.btfs.iter().flatten().find(|btf| btf.id == id).cloned();
            found.expect("the BTF object is reported")
        };
        assert!(Arc::ptr_eq(&btf(&first), &btf(&second)), "BTF object {id}");
    }
}

pub(crate) fn no_descriptor_is_kept() {
    let herd = Herd::new(50, 50).expect("they can be made");
    let mut reader = reader(ReaderKind::Walk);
    let before = descriptors();
    for _ in 0..3 {
        reader.read();
    }
    assert_eq!(descriptors(), before);
    drop(herd);
}

/// Uses up all descriptors of this process until dropped.
struct Exhausted {
    limit: (rlim_t, rlim_t),
    _descriptors: Vec<fs::File>,
}

impl Exhausted {
    fn new() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        let open = fs::read_dir("/proc/self/fd").expect("Linux has /proc").count() as rlim_t;
        // A few more than are open, so that there are few to use up.
        setrlimit(Resource::RLIMIT_NOFILE, open + 10, limit.1).expect("a limit can be lowered");
        let descriptors = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        Self { limit, _descriptors: descriptors }
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.limit.0, self.limit.1).expect("a limit can be restored");
    }
}

pub(crate) fn no_descriptors_left() {
    let herd = Herd::new(20, 20).expect("they can be made");
    let made = made(&herd);
    let mut reader = counting_by(ReaderKind::Walk);
    let before = reader.read();
    assert_reported(&before, &made);
    let counted = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.programs.iter().flatten().map(|program| program.runs.is_some()).collect()
    };
    assert!(counted(&before).into_iter().all(|counted| counted), "runs are counted");
    let mut without_cache = super::reader(ReaderKind::Walk);
    let (cached, uncached) = {
        let _exhausted = Exhausted::new();
        (reader.read(), without_cache.read())
    };
    assert_reported(&cached, &made);
    assert!(counted(&cached).into_iter().all(|counted| !counted), "counters are unknown");
    let mem = |snapshot: &Snapshot, kind| -> Vec<_> {
        let is_ours = |map: &&Found| made[1].contains(&map.facts.id) && map.facts.map_type.number == kind;
        snapshot.maps.iter().flatten().filter(is_ours).map(|map| map.mem).collect()
    };
    let (array, hash) = (uapi::map_type::ARRAY, uapi::map_type::HASH);
    assert_eq!(mem(&cached, array), mem(&before, array), "the memory of an array is constant");
    assert!(mem(&cached, array).iter().all(Option::is_some));
    assert!(mem(&cached, hash).contains(&None), "the memory of a growing hash is unknown");
    for snapshot in [&cached, &uncached] {
        let programs = snapshot.issues.iter().find(|issue| issue.call == "BPF_PROG_GET_FD_BY_ID");
        let programs = programs.expect("it is an issue");
        assert_eq!(programs.error, "EMFILE");
        assert!(programs.count >= herd.programs().len() as u64);
        assert!(snapshot.collectors.iter().filter(|collector| collector.success).count() < 3);
    }
    assert_eq!(uncached.programs.map(|programs| programs.len()), Some(0), "nothing is made up");
    let after = reader.read();
    assert_reported(&after, &made);
    assert!(after.issues.iter().all(|issue| issue.count == 0 && issue.total > 0), "the total stays");
}

pub(crate) fn churn() {
    let herd = Herd::new(200, 200).expect("they can be made");
    let kept = made(&herd);
    let churn = Churn::start(500).expect("it starts");
    let mut reader = reader(ReaderKind::Walk);
    let (mut readings, mut transient) = (0, <[BTreeSet<u32>; 4]>::default());
    let end = Instant::now() + SOON;
    let enough = |made: Made| made.programs > 100 && made.maps > 100 && made.links > 100;
    while transient[..3].iter().all(BTreeSet::is_empty) || readings < 20 || !enough(churn.made()) {
        assert!(Instant::now() < end, "{readings} readings, {transient:?}, {:?}", churn.made());
        let snapshot = reader.read();
        assert_eq!(snapshot.issues, [], "an object that vanishes is no issue");
        assert!(snapshot.collectors.iter().all(|collector| collector.success));
        assert_reported(&snapshot, &kept);
        let reported = ids(&snapshot);
        let rows = [
            snapshot.programs.as_ref().map(Vec::len),
            snapshot.maps.as_ref().map(Vec::len),
            snapshot.links.as_ref().map(Vec::len),
            snapshot.btfs.as_ref().map(Vec::len),
        ];
        assert_eq!(rows, reported.each_ref().map(|ids| Some(ids.len())), "nothing is reported twice");
        for ((transient, reported), kept) in transient.iter_mut().zip(&reported).zip(&kept) {
            transient.extend(reported - kept);
        }
        readings += 1;
    }
    churn.stop().expect("it went well");

    // The last of them are freed a moment later. Ids are not reused soon, so those the kernel does not know any more were freed.
    wait_until("freed objects are not reported", SOON, || {
        let existing = KINDS.map(|kind| kind.ids().expect("root may list them"));
        let reported = ids(&reader.read());
        let ghosts = |kind: usize| &(&transient[kind] - &existing[kind]) & &reported[kind];
        Ok((0..KINDS.len()).all(|kind| ghosts(kind).is_empty()))
    })
    .expect("no freed object stays");
}
