//! Both backends report the same of every object, in every field that both can know.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{Kind, ReaderKind, Snapshot};

use super::fields::{self, Parts};
use super::readers;
use test_support::objects::{
    Churn, Filled, Herd, Link, Map, Program, Recursion, cpus, every_aimed_program, every_countable_map,
    every_link_kind, every_map_type, every_program_type, if_possible, run_statistics, uapi,
};

const KINDS: [Kind; 3] = [Kind::Program, Kind::Map, Kind::Link];

/// A table, by id; `None` where it was not read.
type Table = Option<BTreeMap<u32, Parts>>;

fn table(snapshot: &Snapshot, kind: Kind) -> Table {
    fn parts<Row>(rows: Option<&Vec<Row>>, of: fn(&Row) -> Parts) -> Table {
        Some(rows?.iter().map(of).map(|parts| (parts.id, parts)).collect())
    }
    match kind {
        Kind::Program => parts(snapshot.programs.as_ref(), fields::program),
        Kind::Map => parts(snapshot.maps.as_ref(), fields::map),
        Kind::Link => parts(snapshot.links.as_ref(), fields::link),
        Kind::Btf => unreachable!("there is no iterator over them"),
    }
}

/// Fields that system calls do not report for some objects, and iterators do. Both backends know all others.
const NOT_OF_ALL: [&str; 4] = ["attach_to", "target", "netns", "missed"];

/// A reader of each backend, and the results of the comparison.
pub(super) struct Both {
    iterators: Reader,
    ids: Reader,
    /// Number of compared objects of each kind.
    objects: BTreeMap<Kind, u64>,
    /// Number of times that each changing field was known to both, and equal.
    fields: BTreeMap<&'static str, u64>,
    /// Differences found.
    differences: Vec<String>,
}

/// Returns whether the iterator reports more of a target: the group of a tracepoint, which the id walk does not find without tracefs,
/// the name of an interface, whose namespace the id walk does not know, and the cgroup of an iterator.
fn reports_more(field: &str, found: Option<&str>, walked: Option<&str>) -> bool {
    let (Some(found), Some(walked)) = (found, walked) else { return false };
    let Some((start, end)) = walked.split_once("None") else { return false };
    let can_lack_a_name =
        start.starts_with("Tracepoint { group: ") || start.starts_with("Device(Device { ifindex: ");
    field == "target"
        && can_lack_a_name
        && found.starts_with(&format!("{start}Some("))
        && found.ends_with(end)
}

impl Both {
    pub(super) fn new() -> Self {
        Self::of(readers::by_iterators(), readers::by_ids())
    }

    pub(super) fn of(iterators: Reader, ids: Reader) -> Self {
        readers::assert_iterates(&iterators);
        Self { iterators, ids, objects: BTreeMap::new(), fields: BTreeMap::new(), differences: Vec::new() }
    }

    /// Reads with iterators between two readings by id: an object that is in both of these is in the first, and the same.
    pub(super) fn compare(&mut self) {
        let (before, between, after) = (self.ids.read(), self.iterators.read(), self.ids.read());
        assert!(before.issues.is_empty() && after.issues.is_empty(), "{:?}", after.issues);
        for kind in KINDS {
            assert!(between.issues.iter().all(|issue| issue.part != kind.into()), "{:?}", between.issues);
            let [before, between, after] = [&before, &between, &after]
                .map(|snapshot| table(snapshot, kind).expect("root may list every table"));
            for (id, first) in &before {
                let same = |last: &&Parts| last.identity == first.identity;
                let Some(last) = after.get(id).filter(same) else { continue };
                let found = between.get(id).unwrap_or_else(|| panic!("{kind:?} {id} is not reported"));
                assert_eq!(found.identity, first.identity, "{kind:?} {id}");
                assert_eq!(found.facts, first.facts, "{kind:?} {id}");
                self.compare_moving(first, found, last);
                *self.objects.entry(kind).or_default() += 1;
            }
        }
        assert!(self.differences.is_empty(), "{:#?}", self.differences);
    }

    fn compare_moving(&mut self, first: &Parts, found: &Parts, last: &Parts) {
        for ((walked, found), again) in first.moving.iter().zip(&found.moving).zip(&last.moving) {
            let (name, value) = walked;
            // An iterator reports none of more maps than the verifier lets a program name.
            let too_many = || value.as_ref().is_some_and(|ids| ids.split(',').count() > 64);
            let is_limit = *name == "map_ids" && found.1.is_none() && too_many();
            // Values that changed between the readings cannot be compared.
            if walked != again || (value.is_none() && NOT_OF_ALL.contains(name)) || is_limit {
                continue;
            }
            if found != walked && !reports_more(name, found.1.as_deref(), value.as_deref()) {
                self.differences.push(format!(
                    "{name} of {} with {:?}: {found:?} is walked as {value:?}",
                    first.id, first.facts
                ));
            }
            *self.fields.entry(name).or_default() += u64::from(value.is_some());
        }
    }

    /// Asserts that at least this many objects of each kind were compared.
    pub(super) fn assert_compared(&self, least: [u64; 3]) {
        for (kind, least) in KINDS.into_iter().zip(least) {
            let compared = self.objects.get(&kind).copied().unwrap_or_default();
            assert!(compared >= least, "only {compared} of {kind:?} were compared: {:?}", self.objects);
        }
    }
}

pub(crate) fn on_everything() {
    let mut both = Both::new();
    let herd = Herd::new(150, 100).expect("they can be made");
    let programs: Vec<_> =
        every_program_type().into_iter().filter_map(|(_, made)| if_possible(made)).collect();
    let maps: Vec<_> = every_map_type().into_iter().filter_map(|(_, made)| if_possible(made)).collect();
    let links: Vec<_> = every_link_kind().into_iter().filter_map(|(_, made)| made.ok()).collect();
    let aimed: Vec<_> = every_aimed_program().into_iter().filter_map(|(_, made)| if_possible(made)).collect();
    let filled: Vec<_> =
        every_countable_map().into_iter().filter_map(|(_, made)| if_possible(made)).collect();
    let used: Vec<&Map> = filled.iter().take(5).map(Filled::map).collect();
    let using = Program::using("using", &used).expect("it can be loaded");
    let functions = Program::with_functions("functions", 7).expect("it can be loaded");
    // Once new, and once cached.
    both.compare();
    both.compare();
    let count = |len: usize| 2 * u64::try_from(len).expect("lengths fit 64 bits");
    both.assert_compared([
        count(herd.programs().len() + programs.len() + aimed.len()),
        count(herd.maps().len() + maps.len() + filled.len()),
        count(links.len()),
    ]);
    drop((using, functions));
}

pub(crate) fn on_changes() {
    let mut both = Both::new();
    let mut grows = Filled::empty(
        Map::ready_with(uapi::map_type::HASH, "grows", uapi::map_flag::NO_PREALLOC).expect("it can be made"),
    )
    .expect("it can be filled");
    let frozen = Map::ready(uapi::map_type::ARRAY, "frozen").expect("it can be made");
    let program = Program::using("binds", &[&frozen]).expect("it can be loaded");
    let link = Link::cgroup().expect("it can be attached");
    let other = Program::ready(uapi::program_type::CGROUP_SKB, "other").expect("it can be loaded");
    // Maps of the iterators themselves grow in the first reading.
    both.iterators.read();
    both.compare();
    grows.add(0..50).expect("there is room");
    both.compare();
    frozen.freeze().expect("it can be frozen");
    program.bind(grows.map()).expect("maps can be bound");
    link.replace_program(&other).expect("a cgroup's link takes another program");
    both.compare();
    grows.remove(10..50).expect("they are in");
    both.compare();
    both.assert_compared([4 * 2, 4 * 2, 4]);
    let of_every_map = both.objects[&Kind::Map];
    assert_eq!((both.fields["mem"], both.fields["frozen"]), (of_every_map, of_every_map));
}

pub(crate) fn on_runs() {
    let mut both = Both::of(readers::counting_by(ReaderKind::Iter), readers::counting_by(ReaderKind::Walk));
    let statistics = run_statistics().expect("statistics can be switched on");
    let programs = Herd::new(10, 0).expect("they can be made");
    let recursion = if_possible(Recursion::new());
    for (program, times) in programs.programs().iter().zip(1..) {
        for cpu in cpus().expect("there are CPUs") {
            program.run_on(cpu, times * 10).expect("it can be run there");
        }
        both.compare();
    }
    if let Some(recursion) = &recursion {
        recursion.miss(30).expect("it can be run");
        both.compare();
    }
    both.assert_compared([10 * 10, 0, 0]);
    assert!(both.fields["runs"] >= 10 * 10 && both.fields["run_time"] >= 10 * 10, "{:?}", both.fields);
    drop(statistics);
}

pub(crate) fn under_churn() {
    const FOR: Duration = Duration::from_secs(4);
    const AT_MOST: Duration = Duration::from_mins(1);
    let mut both = Both::new();
    let herd = Herd::new(100, 100).expect("they can be made");
    let churn = Churn::start(500).expect("it starts");
    let started = Instant::now();
    let mut readings = 0;
    while started.elapsed() < FOR || churn.made().programs < 50 || readings < 10 {
        assert!(started.elapsed() < AT_MOST, "{readings} readings while {:?} were made", churn.made());
        both.compare();
        readings += 1;
    }
    churn.stop().expect("it went well");
    both.assert_compared([readings * 100, readings * 100, 0]);
    drop(herd);
}
