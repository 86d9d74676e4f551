//! Objects that come and go: what is found is what is there, at no time more, and nothing is kept alive.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::model::{ReaderKind, Snapshot};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::{ids, read, reader};
use test_support::objects::{Churn, Herd, Kind, Made, Map, Program, uapi, wait_until_gone};
use test_support::readers::counting_by;

/// How long the kernel may take to free what nobody holds.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn exactly_what_was_made() {
    let before = settled();
    let herd = Herd::new(300, 500).expect("they can be made");
    let during = ids(&read(ReaderKind::Walk));
    let added = |kind: usize| &during[kind] - &before[kind];
    let made: BTreeSet<_> = herd.programs().iter().map(Program::id).collect();
    assert_eq!(added(0), made);
    let made_maps: BTreeSet<_> = herd.maps().iter().map(Map::id).collect();
    assert_eq!(added(1), made_maps);
    let btfs: BTreeSet<_> = herd.programs().iter().filter_map(|program| Some(program.btf()?.id())).collect();
    assert_eq!(added(3), btfs);

    drop(herd);
    wait_until_gone(Kind::Program, &made.into_iter().collect::<Vec<_>>(), SOON).expect("programs end");
    wait_until_gone(Kind::Map, &made_maps.into_iter().collect::<Vec<_>>(), SOON).expect("maps end");
    wait_until_gone(Kind::Btf, &btfs.into_iter().collect::<Vec<_>>(), SOON).expect("BTF objects end");
    assert_eq!(ids(&read(ReaderKind::Walk)), before);
}

/// What is there once the kernel has freed what earlier tests made.
fn settled() -> [BTreeSet<u32>; 4] {
    const QUIET: Duration = Duration::from_millis(300);
    let end = Instant::now() + SOON;
    let mut last = (Instant::now(), ids(&read(ReaderKind::Walk)));
    while last.0.elapsed() < QUIET {
        assert!(Instant::now() < end, "objects come and go that are not ours");
        let now = ids(&read(ReaderKind::Walk));
        if now != last.1 {
            last = (Instant::now(), now);
        }
        std::thread::yield_now();
    }
    last.1
}

pub(crate) fn facts_are_shared() {
    let herd = Herd::new(20, 20).expect("they can be made");
    let mut reader = reader(ReaderKind::Walk);
    let (first, second) = (reader.read(), reader.read());
    let programs = first.programs.iter().flatten().zip(second.programs.iter().flatten());
    assert!(programs.clone().count() >= herd.programs().len());
    for (first, second) in programs {
        assert!(Arc::ptr_eq(&first.facts, &second.facts), "program {}", first.facts.id);
    }
    for (first, second) in first.maps.iter().flatten().zip(second.maps.iter().flatten()) {
        assert!(Arc::ptr_eq(&first.facts, &second.facts), "map {}", first.facts.id);
    }
    for (first, second) in first.btfs.iter().flatten().zip(second.btfs.iter().flatten()) {
        assert!(Arc::ptr_eq(first, second), "BTF object {}", first.id);
    }
}

pub(crate) fn no_descriptor_is_kept() {
    let descriptors = || fs::read_dir("/proc/self/fd").expect("Linux has /proc").count();
    let herd = Herd::new(50, 50).expect("they can be made");
    let mut reader = reader(ReaderKind::Walk);
    let before = descriptors();
    for _ in 0..3 {
        reader.read();
    }
    assert_eq!(descriptors(), before);
    drop(herd);
}

/// Takes every descriptor that this process may have, and gives them back when it goes.
struct Exhausted {
    limit: (rlim_t, rlim_t),
    _descriptors: Vec<fs::File>,
}

impl Exhausted {
    fn new() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        let open = fs::read_dir("/proc/self/fd").expect("Linux has /proc").count() as rlim_t;
        // A few more than are open, so that there are few to take.
        setrlimit(Resource::RLIMIT_NOFILE, open + 10, limit.1).expect("a limit can be lowered");
        let descriptors = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        Self { limit, _descriptors: descriptors }
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.limit.0, self.limit.1).expect("a limit can be put back");
    }
}

pub(crate) fn no_descriptors_left() {
    let herd = Herd::new(20, 20).expect("they can be made");
    let mut reader = counting_by(ReaderKind::Walk);
    let before = reader.read();
    let moving = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.programs.iter().flatten().map(|program| program.runs.is_some()).collect()
    };
    assert!(moving(&before).into_iter().all(|known| known), "runs are counted");
    let mut met_nothing = super::reader(ReaderKind::Walk);
    let (known, unknown) = {
        let _exhausted = Exhausted::new();
        (reader.read(), met_nothing.read())
    };
    assert_eq!(ids(&known), ids(&before), "what is listed and was met lives on");
    assert!(moving(&known).into_iter().all(|known| !known), "what moves is not known");
    let mem = |snapshot: &Snapshot, kind| -> Vec<_> {
        let maps = snapshot.maps.iter().flatten();
        maps.filter(|map| map.facts.map_type.number == kind).map(|map| map.mem).collect()
    };
    let (array, hash) = (uapi::map_type::ARRAY, uapi::map_type::HASH);
    assert_eq!(mem(&known, array), mem(&before, array), "an array takes what it took");
    assert!(mem(&known, array).iter().all(Option::is_some));
    assert!(mem(&known, hash).contains(&None), "what a growing hash takes is not known");
    for snapshot in [&known, &unknown] {
        let programs = snapshot.issues.iter().find(|issue| issue.call == "BPF_PROG_GET_FD_BY_ID");
        let programs = programs.expect("it is an issue");
        assert_eq!(programs.error, "EMFILE");
        assert!(programs.count >= herd.programs().len() as u64);
        assert!(snapshot.collectors.iter().filter(|collector| collector.success).count() < 3);
    }
    assert_eq!(unknown.programs.map(|programs| programs.len()), Some(0), "what was never met is not made up");
    let after = reader.read();
    assert_eq!(ids(&after), ids(&before));
    assert!(after.issues.iter().all(|issue| issue.count == 0 && issue.total > 0), "the total stays");
}

pub(crate) fn churn() {
    let herd = Herd::new(200, 200).expect("they can be made");
    let kept: BTreeSet<_> = herd.programs().iter().map(Program::id).collect();
    let kept_maps: BTreeSet<_> = herd.maps().iter().map(Map::id).collect();
    let before = settled();
    let churn = Churn::start(500).expect("it starts");
    let mut reader = reader(ReaderKind::Walk);
    let (mut readings, mut foreign) = (0, 0);
    let end = Instant::now() + SOON;
    let enough = |made: Made| made.programs > 100 && made.maps > 100 && made.links > 100;
    while foreign == 0 || readings < 20 || !enough(churn.made()) {
        assert!(Instant::now() < end, "{readings} readings with {foreign} that came, {:?}", churn.made());
        let snapshot = reader.read();
        assert_eq!(snapshot.issues, [], "an object that vanishes is no issue");
        assert!(snapshot.collectors.iter().all(|collector| collector.success));
        let [programs, maps, links, _] = ids(&snapshot);
        assert!(programs.is_superset(&kept) && maps.is_superset(&kept_maps), "what stays is always found");
        let rows = snapshot.programs.as_ref().map(Vec::len);
        assert_eq!(rows, Some(programs.len()), "nothing is found twice");
        foreign += programs.difference(&kept).chain(maps.difference(&kept_maps)).chain(&links).count();
        readings += 1;
    }
    churn.stop().expect("it went well");

    // The last of them are freed a moment later.
    let end = Instant::now() + SOON;
    while ids(&reader.read()) != before {
        assert!(Instant::now() < end, "what is gone is still found");
        std::thread::yield_now();
    }
}
