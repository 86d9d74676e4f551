//! What all objects of an owner, and all of the host, are and cost together.
//! Knows no more than a snapshot does, and what it saw in earlier ones. Begin at [`Totals::add_up`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Kind, Owner, OwnerTotal, Program, Snapshot};

/// How many owners that have nothing any more are remembered, in case that they come back.
const REMEMBERED: usize = 1_000;

/// Adds up, and keeps account of the run time of programs that are gone.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// The run time of each program at the last reading, in ascending order of ids.
    programs: Vec<RunTime>,
    /// By the key of the owner.
    owners: HashMap<u64, Account>,
    host: Account,
    readings: u64,
}

/// What is kept of a program.
#[derive(Clone, Copy, Debug)]
struct RunTime {
    id: u32,
    loaded_at_boot_ns: u64,
    time: Duration,
}

/// What is kept of an owner.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// The birth of the run time: the first program's load, or the first reading.
    since: Option<Timestamp>,
    run_time: Duration,
    /// The last reading in which it had anything.
    met: u64,
}

impl Totals {
    /// Fills [`Snapshot::owners`] and [`Snapshot::totals`], of objects whose owners are known.
    pub(super) fn add_up(&mut self, snapshot: &mut Snapshot) {
        self.readings += 1;
        let taken_at = snapshot.taken_at;
        let mut owners = Owners { snapshot, totals: Vec::new(), places: HashMap::new(), last: None };
        // Programs that could not be read go on from where they were.
        let known = if snapshot.programs.is_some() { std::mem::take(&mut self.programs) } else { Vec::new() };
        let mut earlier = known.into_iter().peekable();
        for program in snapshot.programs.iter().flatten() {
            if let Some(total) = owners.of(program.owner.as_ref()) {
                count(&mut total.programs);
                add(&mut total.mem, program.facts.mem);
            }
            let (id, loaded_at_boot_ns) = (program.facts.id, program.facts.loaded_at_boot_ns);
            while earlier.next_if(|earlier| earlier.id < id).is_some() {}
            let before = earlier.next_if(|earlier| earlier.id == id);
            let before = before.filter(|before| before.loaded_at_boot_ns == loaded_at_boot_ns);
            let before = before.map(|before| before.time);
            // One that could not be asked this time goes on from where it was.
            let Some(time) = program.run_time.or(before) else { continue };
            self.programs.push(RunTime { id, loaded_at_boot_ns, time });
            let ran = time.saturating_sub(before.unwrap_or_default());
            self.host.ran(program, ran);
            if let Some(owner) = &program.owner {
                self.owners.entry(owner.key()).or_default().ran(program, ran);
            }
        }
        for map in snapshot.maps.iter().flatten() {
            if let Some(total) = owners.of(map.owner.as_ref()) {
                count(&mut total.maps);
                add(&mut total.mem, map.mem);
            }
        }
        for link in snapshot.links.iter().flatten() {
            if let Some(total) = owners.of(link.owner.as_ref()) {
                count(&mut total.links);
            }
        }
        let mut owners = owners.totals;
        let counted = snapshot.run_stats.is_on() && snapshot.programs.is_some();
        for total in &mut owners {
            let account = self.owners.entry(total.owner.key()).or_default();
            account.met = self.readings;
            total.since = *account.since.get_or_insert(taken_at);
            total.run_time = counted.then_some(account.run_time);
        }
        self.forget();
        owners.sort_by(|a, b| {
            let (a, b) = (&a.owner, &b.owner);
            (a.kind(), a.name(), a.key()).cmp(&(b.kind(), b.name(), b.key()))
        });
        snapshot.owners = owners;
        self.host.met = self.readings;
        if let Some(programs) = snapshot.totals.iter_mut().find(|total| total.kind == Kind::Program) {
            programs.since = self.host.since.unwrap_or(programs.since);
            programs.run_time = counted.then_some(self.host.run_time);
        }
    }

    /// Forgets owners that have had nothing for longest, beyond those that are remembered.
    fn forget(&mut self) {
        let mut gone: Vec<(u64, u64)> = self
            .owners
            .iter()
            .filter(|(_, account)| account.met < self.readings)
            .map(|(&key, account)| (account.met, key))
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
    fn ran(&mut self, program: &Program, time: Duration) {
        let loaded_at = program.facts.loaded_at;
        // The programs that are seen at first ran before that; later ones were loaded after it.
        if self.met == 0 {
            self.since = Some(self.since.map_or(loaded_at, |since| since.min(loaded_at)));
        }
        self.run_time += time;
    }
}

/// The owners of a snapshot, as they are met.
struct Owners<'a> {
    snapshot: &'a Snapshot,
    totals: Vec<OwnerTotal>,
    places: HashMap<u64, usize>,
    /// The one that was met last: the next object is often its own too.
    last: Option<(u64, usize)>,
}

impl Owners<'_> {
    fn of(&mut self, owner: Option<&Arc<Owner>>) -> Option<&mut OwnerTotal> {
        let owner = owner?;
        let key = owner.key();
        let place = match self.last {
            Some((last, place)) if last == key => place,
            _ => *self.places.entry(key).or_insert_with(|| {
                self.totals.push(nothing_yet(owner, self.snapshot));
                self.totals.len() - 1
            }),
        };
        self.last = Some((key, place));
        Some(&mut self.totals[place])
    }
}

/// An owner of whose objects none was met yet.
fn nothing_yet(owner: &Arc<Owner>, snapshot: &Snapshot) -> OwnerTotal {
    OwnerTotal {
        owner: Arc::clone(owner),
        since: snapshot.taken_at,
        programs: snapshot.programs.as_ref().map(|_| 0),
        maps: snapshot.maps.as_ref().map(|_| 0),
        links: snapshot.links.as_ref().map(|_| 0),
        mem: None,
        run_time: None,
    }
}

fn count(objects: &mut Option<u64>) {
    *objects = Some(objects.unwrap_or(0) + 1);
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
    use crate::model::Map;

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
    fn run_time_stays_when_programs_go_and_when_an_owner_comes_back() {
        let (a, b) = (Arc::new(Owner::from(pod("a"))), Arc::new(Owner::from(pod("b"))));
        let mut totals = Totals::default();
        let mut add_up = |programs: Vec<Program>| {
            let mut snapshot = snapshot(programs, Vec::new(), Vec::new());
            totals.add_up(&mut snapshot);
            snapshot
        };
        let first = add_up(vec![owned(program(1, &[]), 10, &a), owned(program(2, &[]), 5, &b)]);
        assert_eq!(run_times(&first), [("a".to_owned(), 10), ("b".to_owned(), 5)]);
        assert_eq!(first.owners[0].since, program(1, &[]).facts.loaded_at, "it ran since it was loaded");
        let second = add_up(vec![owned(program(2, &[]), 8, &b)]);
        assert_eq!(run_times(&second), [("b".to_owned(), 8)]);
        // The id is used again.
        let mut again = owned(program(1, &[]), 3, &a);
        Arc::make_mut(&mut again.facts).loaded_at_boot_ns += 1;
        let third = add_up(vec![again, owned(program(2, &[]), 8, &b)]);
        assert_eq!(run_times(&third), [("a".to_owned(), 13), ("b".to_owned(), 8)]);
        assert_eq!(third.owners[0].since, first.owners[0].since);
        let host = third.totals.iter().find(|total| total.kind == Kind::Program).expect("they were read");
        assert_eq!(host.run_time, Some(Duration::from_nanos(21)));
    }

    #[test]
    fn a_reading_without_programs_loses_and_doubles_nothing() {
        let owner = Arc::new(Owner::from(pod("a")));
        let mut totals = Totals::default();
        let mut add_up = |programs: Option<Vec<Program>>| {
            let mut snapshot = Snapshot { programs, ..snapshot(Vec::new(), Vec::new(), Vec::new()) };
            snapshot.totals = snapshot.add_up();
            totals.add_up(&mut snapshot);
            snapshot
        };
        let programs = |run_time| Some(vec![owned(program(1, &[]), run_time, &owner)]);
        add_up(programs(10));
        let refused = add_up(None);
        assert!(refused.owners.is_empty() && refused.totals.iter().all(|total| total.run_time.is_none()));
        assert_eq!(run_times(&add_up(programs(12))), [("a".to_owned(), 12)]);
    }

    #[test]
    fn owners_that_are_gone_are_forgotten_beyond_a_number() {
        let mut totals = Totals::default();
        for pid in 0..2_000 {
            let owner = Arc::new(Owner::from(process(pid)));
            totals.add_up(&mut snapshot(vec![owned(program(pid, &[]), 1, &owner)], Vec::new(), Vec::new()));
        }
        assert_eq!(totals.owners.len(), REMEMBERED + 1);
    }

    /// What happens to a host: each of ten programs is loaded, runs, goes, or changes hands.
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
                for (place, change) in step.iter().enumerate() {
                    let Some((number, time)) = *change else { living.remove(&place); continue };
                    let (loaded, run_time) = living.entry(place).or_insert_with(|| { loads += 1; (loads, 0) });
                    *run_time += u64::from(time);
                    ran += u128::from(time);
                    let id = u32::try_from(place).expect("ten of them");
                    let mut program = owned(program(id, &[]), *run_time, owner(number));
                    Arc::make_mut(&mut program.facts).loaded_at_boot_ns = *loaded;
                    programs.push(program);
                }
                let maps: Vec<Map> = (0..)
                    .zip(&maps)
                    .map(|(id, &number)| Map { owner: Some(Arc::clone(owner(number))), ..map(id) })
                    .collect();
                let mut snapshot = snapshot(programs, maps, Vec::new());
                totals.add_up(&mut snapshot);

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
