//! Totals of objects, memory and run time: of the host by kind of object, and of each owner.
//! Entry point: [`Totals::fill`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::orphans::Orphaned;
use crate::ascending::Ascending;
use crate::model::{BootTime, Kind, KindTotal, Owner, OwnerTotal, Program, ProgramCapabilities, Snapshot};

/// How many owners without objects are remembered, in case they come back.
const REMEMBERED: usize = 1_000;

/// Computes totals, and keeps the run time of programs that were unloaded.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// The run time of each program at the last reading, in ascending order of ids.
    programs: Vec<RunTime>,
    /// By the key of the owner.
    owners: HashMap<u64, Account>,
    host: Account,
    readings: u64,
}

/// The last known run time of a program.
#[derive(Clone, Copy, Debug)]
struct RunTime {
    id: u32,
    loaded_at: BootTime,
    time: Duration,
    /// The part of it that no owner has yet.
    unowned: Duration,
}

/// The run time of an owner, or of the host.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Start of the run time: the first program's load, or the first reading.
    since: Option<BootTime>,
    run_time: Duration,
    /// The last reading in which it had objects.
    last_reading: u64,
}

impl Totals {
    /// Fills [`Snapshot::totals`] and [`Snapshot::owners`] once the owners of objects are known. Without owners only the former.
    pub(super) fn fill(&mut self, snapshot: &mut Snapshot, orphans: Option<&Orphaned>) {
        self.readings += 1;
        self.add_run_times(snapshot);
        let counted = snapshot.run_stats.is_on() && snapshot.programs.is_some();
        snapshot.owners = self.of_owners(snapshot, counted);
        snapshot.totals = of_kinds(snapshot);
        self.host.last_reading = self.readings;
        for total in &mut snapshot.totals {
            total.orphaned = orphans.and_then(|orphans| orphans.of(total.kind));
            if total.kind == Kind::Program {
                total.since = self.host.since.unwrap_or(total.since);
                total.run_time = counted.then_some(self.host.run_time);
            }
        }
        self.forget();
    }

    /// Adds the run time of each program since the last reading to its owner's and to the host's.
    fn add_run_times(&mut self, snapshot: &Snapshot) {
        // If programs could not be read, the next reading continues from the one before.
        let Some(programs) = &snapshot.programs else { return };
        let earlier = Ascending::new(std::mem::take(&mut self.programs), |program| program.id);
        for program in programs {
            let (id, loaded_at) = (program.facts.id, program.facts.loaded_at);
            let before = earlier.seek(id).filter(|before| before.loaded_at == loaded_at);
            let unowned = before.map_or(Duration::ZERO, |before| before.unowned);
            let before = before.map(|before| before.time);
            // A program that could not be queried this time continues from its last known value.
            let Some(time) = program.run_time.or(before) else { continue };
            let ran = time.saturating_sub(before.unwrap_or_default());
            self.host.add(program, ran);
            // What it ran before its owner was known belongs to that owner too.
            let mut unowned = unowned + ran;
            if let Some(owner) = &program.owner {
                let ran = std::mem::take(&mut unowned);
                self.owners.entry(owner.key()).or_default().add(program, ran);
            }
            self.programs.push(RunTime { id, loaded_at, time, unowned });
        }
    }

    /// Returns what each owner has, by kind and name of the owner.
    fn of_owners(&mut self, snapshot: &Snapshot, counted: bool) -> Vec<OwnerTotal> {
        let mut sums = OwnerSums {
            snapshot,
            totals: Vec::new(),
            indices: HashMap::new(),
            merged: HashSet::new(),
            last: None,
        };
        for program in snapshot.programs.iter().flatten() {
            if let Some(total) = sums.of(program.owner.as_ref()) {
                count(&mut total.programs);
                add(&mut total.mem, program.facts.mem);
                count_words(total, program.capabilities.as_deref());
            }
        }
        for map in snapshot.maps.iter().flatten() {
            if let Some(total) = sums.of(map.owner.as_ref()) {
                count(&mut total.maps);
                add(&mut total.mem, map.mem);
            }
        }
        for link in snapshot.links.iter().flatten() {
            if let Some(total) = sums.of(link.owner.as_ref()) {
                count(&mut total.links);
            }
        }
        let mut owners = sums.totals;
        for total in &mut owners {
            let account = self.owners.entry(total.owner.key()).or_default();
            account.last_reading = self.readings;
            total.since = *account.since.get_or_insert(snapshot.taken_at);
            total.run_time = counted.then_some(account.run_time);
        }
        owners.sort_by(|a, b| {
            let (a, b) = (&a.owner, &b.owner);
            (a.kind(), a.name(), a.key()).cmp(&(b.kind(), b.name(), b.key()))
        });
        owners
    }

    /// Forgets the owners that have been without objects for longest, beyond [`REMEMBERED`].
    fn forget(&mut self) {
        let mut gone: Vec<(u64, u64)> = self
            .owners
            .iter()
            .filter(|(_, account)| account.last_reading < self.readings)
            .map(|(&key, account)| (account.last_reading, key))
            .collect();
        if let Some(excess) = gone.len().checked_sub(REMEMBERED) {
            gone.sort_unstable();
            for (_, key) in gone.drain(..excess) {
                self.owners.remove(&key);
            }
        }
    }
}

impl Account {
    fn add(&mut self, program: &Program, time: Duration) {
        let loaded_at = program.facts.loaded_at;
        // Programs of the first reading had run before it; later ones were loaded after it.
        if self.last_reading == 0 {
            self.since = Some(self.since.map_or(loaded_at, |since| since.min(loaded_at)));
        }
        self.run_time += time;
    }
}

/// Returns the number of objects of each kind that could be read, and the memory charged for them. What other sources know
/// is `None`.
fn of_kinds(snapshot: &Snapshot) -> Vec<KindTotal> {
    let total = |kind, objects: Option<usize>, mem| {
        objects.map(|objects| KindTotal {
            kind,
            objects,
            orphaned: None,
            mem,
            since: snapshot.reader_started_at,
            run_time: None,
        })
    };
    let programs = snapshot.programs.as_ref();
    let program_mem = programs.and_then(|programs| sum(programs.iter().map(|p| p.facts.mem)));
    let maps = snapshot.maps.as_ref();
    let map_mem = maps.and_then(|maps| sum(maps.iter().map(|m| m.mem)));
    [
        total(Kind::Program, programs.map(Vec::len), program_mem),
        total(Kind::Map, maps.map(Vec::len), map_mem),
        total(Kind::Link, snapshot.links.as_ref().map(Vec::len), None),
        total(Kind::Btf, snapshot.btfs.as_ref().map(Vec::len), None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the sum of the known sizes; `None` if none is known.
fn sum(sizes: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    sizes.flatten().reduce(u64::saturating_add)
}

/// Totals of the owners of a snapshot, in the order in which they are found.
struct OwnerSums<'a> {
    snapshot: &'a Snapshot,
    totals: Vec<OwnerTotal>,
    indices: HashMap<u64, usize>,
    /// Revisions of owners that have the kind and name of another one, with which they are one total.
    merged: HashSet<u64>,
    /// The revision of the last owner and its index: the next object often has the same.
    last: Option<(u64, usize)>,
}

impl OwnerSums<'_> {
    fn of(&mut self, owner: Option<&Arc<Owner>>) -> Option<&mut OwnerTotal> {
        let owner = owner?;
        let index = match self.last {
            Some((last, index)) if last == owner.revision() => index,
            _ => {
                let index = *self.indices.entry(owner.key()).or_insert_with(|| {
                    self.totals.push(zero(owner, self.snapshot));
                    self.totals.len() - 1
                });
                self.merge(owner, index);
                index
            }
        };
        self.last = Some((owner.revision(), index));
        Some(&mut self.totals[index])
    }

    /// Leaves of the identity of a total what this owner has in common with it.
    fn merge(&mut self, owner: &Arc<Owner>, index: usize) {
        let total = &mut self.totals[index].owner;
        if total.revision() != owner.revision() && self.merged.insert(owner.revision()) {
            *total = Arc::new(Owner::from(total.common(owner)));
        }
    }
}

/// Returns the total of no objects.
fn zero(owner: &Arc<Owner>, snapshot: &Snapshot) -> OwnerTotal {
    OwnerTotal {
        owner: Arc::clone(owner),
        since: snapshot.taken_at,
        programs: snapshot.programs.as_ref().map(|_| 0),
        maps: snapshot.maps.as_ref().map(|_| 0),
        links: snapshot.links.as_ref().map(|_| 0),
        mem: None,
        run_time: None,
        fingerprint: None,
        capable: None,
    }
}

fn count(objects: &mut Option<u64>) {
    *objects = Some(objects.unwrap_or(0) + 1);
}

/// Adds a program of an owner to those with the same words. What is unknown of one is unknown of the owner.
fn count_words(total: &mut OwnerTotal, capabilities: Option<&ProgramCapabilities>) {
    if total.programs == Some(1) {
        total.capable = Some(BTreeMap::new());
    }
    match (capabilities, &mut total.capable) {
        (Some(capabilities), Some(capable)) => {
            for &word in &capabilities.words {
                *capable.entry(word).or_default() += 1;
            }
        }
        _ => total.capable = None,
    }
}

fn add(sum: &mut Option<u64>, size: Option<u64>) {
    if let Some(size) = size {
        *sum = Some(sum.unwrap_or(0).saturating_add(size));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::example::{map, pod, process, program, snapshot};
    use super::*;
    use crate::model::{Container, IdentifiedBy, Identity, Map, OwnerKind, Pod};

    fn owned(mut program: Program, run_time: u64, owner: &Arc<Owner>) -> Program {
        program.run_time = Some(Duration::from_nanos(run_time));
        program.owner = Some(Arc::clone(owner));
        program
    }

    fn run_times(snapshot: &Snapshot) -> Vec<(String, u128)> {
        let of = |total: &OwnerTotal| {
            (total.owner.name().to_owned(), total.run_time.expect("statistics are on").as_nanos())
        };
        snapshot.owners.iter().map(of).collect()
    }

    #[test]
    fn run_time_is_kept_when_programs_are_unloaded_and_owners_come_back() {
        let (a, b) = (Arc::new(Owner::from(pod("a"))), Arc::new(Owner::from(pod("b"))));
        let mut totals = Totals::default();
        let mut fill = |programs: Vec<Program>| {
            let mut snapshot = snapshot(programs, Vec::new(), Vec::new());
            totals.fill(&mut snapshot, None);
            snapshot
        };
        let first = fill(vec![owned(program(1, &[]), 10, &a), owned(program(2, &[]), 5, &b)]);
        assert_eq!(run_times(&first), [("a".to_owned(), 10), ("b".to_owned(), 5)]);
        assert_eq!(first.owners[0].since, program(1, &[]).facts.loaded_at, "it ran since it was loaded");
        let second = fill(vec![owned(program(2, &[]), 8, &b)]);
        assert_eq!(run_times(&second), [("b".to_owned(), 8)]);
        // The id is used again.
        let mut again = owned(program(1, &[]), 3, &a);
        Arc::make_mut(&mut again.facts).loaded_at.0 += 1;
        let third = fill(vec![again, owned(program(2, &[]), 8, &b)]);
        assert_eq!(run_times(&third), [("a".to_owned(), 13), ("b".to_owned(), 8)]);
        assert_eq!(third.owners[0].since, first.owners[0].since);
        let host = third.totals.iter().find(|total| total.kind == Kind::Program).expect("they were read");
        assert_eq!(host.run_time, Some(Duration::from_nanos(21)));
    }

    #[test]
    fn a_reading_without_programs_neither_loses_nor_doubles_run_time() {
        let owner = Arc::new(Owner::from(pod("a")));
        let mut totals = Totals::default();
        let mut fill = |programs: Option<Vec<Program>>| {
            let mut snapshot = Snapshot { programs, ..snapshot(Vec::new(), Vec::new(), Vec::new()) };
            totals.fill(&mut snapshot, None);
            snapshot
        };
        let programs = |run_time| Some(vec![owned(program(1, &[]), run_time, &owner)]);
        fill(programs(10));
        let refused = fill(None);
        assert!(refused.owners.is_empty() && refused.totals.iter().all(|total| total.run_time.is_none()));
        assert_eq!(run_times(&fill(programs(12))), [("a".to_owned(), 12)]);
    }

    #[test]
    fn run_time_before_the_owner_was_known_belongs_to_it() {
        let owner = Arc::new(Owner::from(pod("a")));
        let mut totals = Totals::default();
        let mut fill = |program: Program| {
            let mut snapshot = snapshot(vec![program], Vec::new(), Vec::new());
            totals.fill(&mut snapshot, None);
            run_times(&snapshot)
        };
        let unowned = |run_time| Program { owner: None, ..owned(program(1, &[]), run_time, &owner) };
        assert!(fill(unowned(10)).is_empty() && fill(unowned(15)).is_empty());
        assert_eq!(fill(owned(program(1, &[]), 17, &owner)), [("a".to_owned(), 17)]);
        assert_eq!(fill(owned(program(1, &[]), 18, &owner)), [("a".to_owned(), 18)]);
    }

    #[test]
    fn owners_of_one_kind_and_name_are_one_total() {
        let container = |id: &str| {
            let container = Container { id: id.to_owned(), runtime: None, name: Some("web".to_owned()) };
            let container = Some(container);
            Identity { container, identified_by: Some(IdentifiedBy::Path), ..Identity::default() }
        };
        let recreated = |uid: &str| {
            let (namespace, name) = (Some("shop".to_owned()), Some("db-0".to_owned()));
            let pod = Some(Pod { key: uid.to_owned(), uid: Some(uid.to_owned()), namespace, name });
            Identity { pod, identified_by: Some(IdentifiedBy::Path), ..Identity::default() }
        };
        let owners =
            [container("1"), container("2"), recreated("3"), recreated("4")].map(Owner::from).map(Arc::new);
        let programs = (1..).zip(&owners).map(|(id, owner)| owned(program(id, &[]), 5, owner)).collect();
        let mut snapshot = snapshot(programs, Vec::new(), Vec::new());
        Totals::default().fill(&mut snapshot, None);
        assert_eq!(run_times(&snapshot), [("shop/db-0".to_owned(), 10), ("web".to_owned(), 10)]);
        let [pod, container] = &snapshot.owners[..] else { panic!("there are two") };
        assert_eq!((container.owner.kind(), container.programs), (OwnerKind::Container, Some(2)));
        assert!(container.owner.container.is_none(), "their ids differ");
        assert_eq!(container.owner.identified_by, Some(IdentifiedBy::Path));
        let pod = pod.owner.pod.as_ref().expect("it is one");
        assert_eq!((pod.uid.as_deref(), pod.name.as_deref()), (None, Some("db-0")));
    }

    #[test]
    fn owners_without_objects_are_forgotten_beyond_a_limit() {
        let mut totals = Totals::default();
        for pid in 0..2_000 {
            let owner = Arc::new(Owner::from(process(pid).top_level()));
            totals
                .fill(&mut snapshot(vec![owned(program(pid, &[]), 1, &owner)], Vec::new(), Vec::new()), None);
        }
        assert_eq!(totals.owners.len(), REMEMBERED + 1);
    }

    /// A change of the host: each of ten programs is loaded, runs, is unloaded, or changes its owner.
    type Step = [Option<(u8, u16)>; 10];

    proptest! {
        #[test]
        fn totals_are_the_sums_of_objects_and_run_time_never_decreases(
            steps in prop::collection::vec(any::<Step>(), 1..30),
            maps in prop::collection::vec(0..3_u8, 0..10),
        ) {
            let owners: Vec<_> = ["a", "b", "c"].iter().map(|key| Arc::new(Owner::from(pod(key)))).collect();
            let owner = |number: u8| &owners[usize::from(number % 3)];
            let mut totals = Totals::default();
            let mut living: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
            let mut loads = 0;
            let mut before: BTreeMap<String, u128> = BTreeMap::new();
            let (mut ran, mut host_before) = (0_u128, 0);
            for step in steps {
                let mut programs = Vec::new();
                for (index, change) in step.iter().enumerate() {
                    let Some((number, time)) = *change else { living.remove(&index); continue };
                    let (loaded, run_time) = living.entry(index).or_insert_with(|| { loads += 1; (loads, 0) });
                    *run_time += u64::from(time);
                    ran += u128::from(time);
                    let id = u32::try_from(index).expect("ten of them");
                    let mut program = owned(program(id, &[]), *run_time, owner(number));
                    Arc::make_mut(&mut program.facts).loaded_at = BootTime(*loaded);
                    programs.push(program);
                }
                let maps: Vec<Map> = (0..)
                    .zip(&maps)
                    .map(|(id, &number)| Map { owner: Some(Arc::clone(owner(number))), ..map(id) })
                    .collect();
                let mut snapshot = snapshot(programs, maps, Vec::new());
                totals.fill(&mut snapshot, None);

                let of = |kind| snapshot.totals.iter().find(|total: &&crate::model::KindTotal| total.kind == kind).copied();
                let (host_programs, host_maps) = (of(Kind::Program).expect("read"), of(Kind::Map).expect("read"));
                let sum = |read: fn(&OwnerTotal) -> Option<u64>| snapshot.owners.iter().filter_map(read).sum::<u64>();
                prop_assert_eq!(sum(|o| o.programs), host_programs.objects as u64);
                prop_assert_eq!(sum(|o| o.maps), host_maps.objects as u64);
                prop_assert_eq!(sum(|o| o.mem), host_programs.mem.unwrap_or(0) + host_maps.mem.unwrap_or(0));
                let host = host_programs.run_time.expect("statistics are on").as_nanos();
                prop_assert_eq!(host, ran);
                prop_assert!(host >= host_before);
                host_before = host;
                for (name, run_time) in run_times(&snapshot) {
                    prop_assert!(run_time >= before.get(&name).copied().unwrap_or(0));
                    before.insert(name, run_time);
                }
                prop_assert_eq!(before.values().sum::<u128>(), ran, "each run belongs to one owner");
            }
        }
    }
}
