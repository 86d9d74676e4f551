//! The rule that determines the owner of an object, with its reasons.
//! Entry point: [`assign`]. Independent of processes and paths: it only sees holders.
//!
//! An object belongs to the first of these that is known:
//!
//! 1. **Its creator**, whose memory cgroup is charged for it. The kernel keeps it for maps only. The creator of a program is taken
//!    to be that of its newest map, since loaders create the maps of a program just before it and may use older ones of others;
//!    a link belongs to the creator of its program. So a process that only attaches or pins objects of others does not own them.
//! 2. **A process with a descriptor of it**: of several, one in a pod before one in a container, in a unit, or in none; then
//!    the one that was started first.
//! 3. **A process with a descriptor of a related object**: a link of the program, a map that the program uses, the program that
//!    uses the map or that the link attaches.
//! 4. **The directory in which it is pinned**, or in which a related object is.
//! 5. **The kernel**, if nothing else is known, and every process was seen, and then every pin.
//!
//! The owner is then the pod of the one found, else its container, else its systemd unit, else all processes of its name. While
//! the name of the pod or container is being looked up, an object has no owner yet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::identity::top_level;
use super::unheld::UnheldSince;
use crate::ascending::Ascending;
use crate::model::{
    BootTime, HeldBy, Holder, Holders, Identity, Kind, Object, Owner, OwnerKind, ProgramFacts, Snapshot,
};

/// When all processes and all pins were seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct WholeSearch {
    /// When the search for processes began and ended.
    pub(super) searched_at: BootTime,
    pub(super) searched_until: BootTime,
    /// When the scan of pins began.
    pub(super) pins_taken_at: BootTime,
}

/// Sets the owner of every program, map and link.
///
/// Without other evidence an object is the kernel's once a search that began after its creation has found no process, and a scan
/// that began after that search no pin. Until then it has no owner, nor if `seen` is `None`, since some processes or pins were not
/// seen, nor if it is unknown which maps a program uses that may be related to it.
pub(super) fn assign(
    snapshot: &mut Snapshot,
    holders: &Holders,
    seen: Option<WholeSearch>,
    owners: &mut OwnerInterner,
    unowned: &mut UnheldSince,
) {
    let evidence = Evidence::new(snapshot, holders);
    let programs: Vec<_> =
        evidence.programs.iter().map(|program| owners.of(evidence.of_program(program))).collect();
    let maps: Vec<_> = evidence.maps.iter().map(|&id| owners.of(evidence.of_map(id, &programs))).collect();
    let links: Vec<_> = evidence
        .links
        .iter()
        .map(|&(id, program)| owners.of(evidence.of_link(id, program, &programs)))
        .collect();
    let found = FoundOwners { programs, maps, links };
    if let Some(seen) = seen {
        unowned.update(&found.without_owner(snapshot, seen.searched_at), seen.searched_until);
    }
    let known = |owner: Arc<Owner>, kind, id| {
        let is_known = owner.kind() != OwnerKind::Kernel
            || seen.is_some_and(|seen| unowned.is_before(Object { kind, id }, seen.pins_taken_at));
        (is_known && !owner.awaits_name()).then_some(owner)
    };
    let FoundOwners { programs, maps, links } = found;
    for (program, owner) in snapshot.programs.iter_mut().flatten().zip(programs) {
        program.owner = known(owner, Kind::Program, program.facts.id);
    }
    for (map, owner) in snapshot.maps.iter_mut().flatten().zip(maps) {
        map.owner = known(owner, Kind::Map, map.facts.id);
    }
    for (link, owner) in snapshot.links.iter_mut().flatten().zip(links) {
        link.owner = known(owner, Kind::Link, link.facts.id);
    }
    owners.end_reading();
}

/// The owners that the evidence shows, in the order of the tables; the kernel where there is none.
struct FoundOwners {
    programs: Vec<Arc<Owner>>,
    maps: Vec<Arc<Owner>>,
    links: Vec<Arc<Owner>>,
}

impl FoundOwners {
    /// Returns the objects without evidence of another owner than the kernel, of those that were there at `searched_at`.
    fn without_owner(&self, snapshot: &Snapshot, searched_at: BootTime) -> HashSet<Object> {
        let is_kernel = |owner: &Arc<Owner>| owner.kind() == OwnerKind::Kernel;
        let uses_known = snapshot.knows_map_uses();
        let knows_maps = |facts: &ProgramFacts| facts.map_ids.is_some();
        let unknown: HashSet<u32> = if uses_known {
            HashSet::new()
        } else {
            let programs = snapshot.programs.iter().flatten().map(|program| &program.facts);
            programs.filter(|facts| !knows_maps(facts)).map(|facts| facts.id).collect()
        };
        let programs = snapshot.programs.iter().flatten().zip(&self.programs).filter(|(program, owner)| {
            is_kernel(owner) && program.facts.loaded_at <= searched_at && knows_maps(&program.facts)
        });
        let maps = snapshot
            .maps
            .iter()
            .flatten()
            .zip(&self.maps)
            .filter(|(map, owner)| is_kernel(owner) && map.facts.first_seen <= searched_at && uses_known);
        let links = snapshot.links.iter().flatten().zip(&self.links).filter(|(link, owner)| {
            let program_known = link.facts.prog_id.is_none_or(|id| !unknown.contains(&id));
            is_kernel(owner) && link.facts.first_seen <= searched_at && program_known
        });
        programs
            .map(|(program, _)| Object { kind: Kind::Program, id: program.facts.id })
            .chain(maps.map(|(map, _)| Object { kind: Kind::Map, id: map.facts.id }))
            .chain(links.map(|(link, _)| Object { kind: Kind::Link, id: link.facts.id }))
            .collect()
    }
}

/// How many names processes outside of units are known by as owners at the same time. All others are one owner.
const MOST_PROCESS_NAMES: usize = 1_000;

/// How long a name counts after its last use: a series that ended stays in a database.
const NAME_KEPT: Duration = Duration::from_hours(1);

/// Name of the processes beyond that. No process can have it: it is longer than 15 characters.
const OTHER_PROCESSES: &str = "(other processes)";

/// Shares one value per top-level owner.
#[derive(Debug, Default)]
pub(super) struct OwnerInterner {
    owners: HashMap<(u64, u64), InternedOwner>,
    /// The last one returned: the next object often has the same owner.
    last: Option<((u64, u64), Arc<Owner>)>,
    /// Owners that are processes, by key, and when they were last seen.
    process_names: HashMap<u64, Instant>,
}

#[derive(Debug)]
struct InternedOwner {
    owner: Arc<Owner>,
    used: bool,
}

impl OwnerInterner {
    /// Returns the top-level owner of a holder; the kernel for none.
    fn of(&mut self, holder: Option<&Arc<Owner>>) -> Arc<Owner> {
        let key = holder.map_or((0, 0), |holder| (holder.key(), holder.revision()));
        if let Some((_, owner)) = self.last.as_ref().filter(|(last, _)| *last == key) {
            return Arc::clone(owner);
        }
        let process_names = &mut self.process_names;
        let interned = self.owners.entry(key).or_insert_with(|| {
            let owner = holder.map_or_else(|| Owner::from(Identity::default()), |holder| top_level(holder));
            InternedOwner { owner: Arc::new(bounded(owner, process_names)), used: true }
        });
        interned.used = true;
        self.last = Some((key, Arc::clone(&interned.owner)));
        Arc::clone(&interned.owner)
    }

    fn end_reading(&mut self) {
        self.last = None;
        let now = Instant::now();
        self.owners.retain(|_, interned| {
            let used = std::mem::take(&mut interned.used);
            if let Some(seen) = self.process_names.get_mut(&interned.owner.key()).filter(|_| used) {
                *seen = now;
            }
            used
        });
        self.process_names.retain(|_, seen| now.duration_since(*seen) < NAME_KEPT);
    }
}

/// Returns the owner of further processes in place of a process beyond [`MOST_PROCESS_NAMES`].
fn bounded(owner: Owner, process_names: &mut HashMap<u64, Instant>) -> Owner {
    if owner.kind() == OwnerKind::Process && !process_names.contains_key(&owner.key()) {
        if process_names.len() >= MOST_PROCESS_NAMES {
            return Owner::from(Identity::processes(OTHER_PROCESSES.to_owned()));
        }
        process_names.insert(owner.key(), Instant::now());
    }
    owner
}

/// Everything that determines owners. Every table is in ascending order.
struct Evidence<'a> {
    /// By kind.
    holders: [Ascending<Holder, &'a [Holder]>; Kind::ALL.len()],
    /// Programs and the maps they use.
    programs: Vec<(u32, &'a [u32])>,
    maps: Vec<u32>,
    /// Links and the programs they attach.
    links: Vec<(u32, Option<u32>)>,
    /// Maps and the indices of the programs that use them.
    users: Ascending<(u32, usize)>,
    /// Programs and the links that attach them.
    attached: Ascending<(u32, u32)>,
}

impl<'a> Evidence<'a> {
    fn new(snapshot: &'a Snapshot, holders: &'a Holders) -> Self {
        let programs: Vec<(u32, &[u32])> = snapshot
            .programs
            .iter()
            .flatten()
            .map(|program| (program.facts.id, program.facts.map_ids.as_deref().unwrap_or_default()))
            .collect();
        let links: Vec<_> =
            snapshot.links.iter().flatten().map(|link| (link.facts.id, link.facts.prog_id)).collect();
        let mut users: Vec<_> = programs
            .iter()
            .enumerate()
            .flat_map(|(place, (_, map_ids))| map_ids.iter().map(move |&map_id| (map_id, place)))
            .collect();
        users.sort_unstable();
        let mut attached: Vec<_> = links.iter().filter_map(|&(id, program)| Some((program?, id))).collect();
        attached.sort_unstable();
        let maps = snapshot.maps.iter().flatten().map(|map| map.facts.id).collect();
        Self {
            holders: Kind::ALL.map(|kind| Ascending::new(&holders.of(kind)[..], |holder| holder.id)),
            programs,
            maps,
            links,
            users: Ascending::new(users, |&(map, _)| map),
            attached: Ascending::new(attached, |&(program, _)| program),
        }
    }

    fn of_program(&self, program: &(u32, &[u32])) -> Option<&Arc<Owner>> {
        let &(id, map_ids) = program;
        let links = || self.attached.equal(id).iter().map(|&(_, link)| (Kind::Link, link));
        // The newest first: ids grow.
        let maps = || map_ids.iter().rev().map(|&map| (Kind::Map, map));
        self.creator(map_ids)
            .or_else(|| self.process(Kind::Program, id))
            .or_else(|| {
                links().filter_map(|(kind, id)| self.process(kind, id)).min_by_key(|owner| first(owner))
            })
            .or_else(|| maps().find_map(|(kind, id)| self.process(kind, id)))
            .or_else(|| self.pin(Kind::Program, id))
            .or_else(|| links().chain(maps()).find_map(|(kind, id)| self.pin(kind, id)))
    }

    fn of_map<'b>(&'b self, id: u32, programs: &'b [Arc<Owner>]) -> Option<&'b Arc<Owner>> {
        let users = || self.users.equal(id).iter().map(|&(_, place)| &programs[place]);
        self.creator(&[id])
            .or_else(|| self.process(Kind::Map, id))
            .or_else(|| users().find(|owner| is_alive(owner)))
            .or_else(|| self.pin(Kind::Map, id))
            .or_else(|| users().next())
    }

    fn of_link<'b>(
        &'b self,
        id: u32,
        program: Option<u32>,
        programs: &'b [Arc<Owner>],
    ) -> Option<&'b Arc<Owner>> {
        let place =
            program.and_then(|program| self.programs.binary_search_by_key(&program, |&(id, _)| id).ok());
        let owner = place.map(|place| &programs[place]);
        place
            .and_then(|place| self.creator(self.programs[place].1))
            .or_else(|| self.process(Kind::Link, id))
            .or_else(|| owner.filter(|owner| is_alive(owner)))
            .or_else(|| self.pin(Kind::Link, id))
            .or(owner)
    }

    /// Returns the creator of the newest of these maps that has a known one.
    fn creator(&self, map_ids: &[u32]) -> Option<&Arc<Owner>> {
        map_ids.iter().rev().find_map(|&id| {
            let holders = self.holders(Kind::Map, id);
            holders.iter().find(|holder| holder.held_by == HeldBy::Creator).map(|holder| &holder.owner)
        })
    }

    /// Returns the first of the processes with descriptors of an object.
    fn process(&self, kind: Kind, id: u32) -> Option<&Arc<Owner>> {
        let processes = self.holders(kind, id).iter().filter(|holder| holder.held_by == HeldBy::Process);
        processes.map(|holder| &holder.owner).min_by_key(|owner| first(owner))
    }

    /// Returns the directory in which an object is pinned.
    fn pin(&self, kind: Kind, id: u32) -> Option<&Arc<Owner>> {
        let pins = self.holders(kind, id).iter().filter(|holder| holder.held_by == HeldBy::Pin);
        pins.map(|holder| &holder.owner).min_by_key(|owner| owner.name())
    }

    fn holders(&self, kind: Kind, id: u32) -> &[Holder] {
        self.holders[kind as usize].equal(id)
    }
}

/// Returns the order in which processes are preferred.
fn first(owner: &Owner) -> (OwnerKind, Option<(u64, u32)>) {
    let process = owner.process.as_ref();
    (owner.kind(), process.map(|process| (process.started_at_boot_ns, process.pid)))
}

/// Returns whether an owner is more than a directory of pins.
fn is_alive(owner: &Owner) -> bool {
    owner.kind() < OwnerKind::Pin
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::example::{holder, link, map, pin, pod, process, program, second, snapshot, unit};
    use super::*;
    use crate::model::HeldBy::{Creator, Pin, Process};

    /// Assigns owners in the first reading, with a search and a scan of pins at these seconds.
    fn assign_at(
        snapshot: &mut Snapshot,
        holders: &Holders,
        at: Option<(u64, u64)>,
        owners: &mut OwnerInterner,
    ) {
        assign(snapshot, holders, at.map(seen), owners, &mut UnheldSince::default());
    }

    fn seen((searched, pins): (u64, u64)) -> WholeSearch {
        WholeSearch {
            searched_at: second(searched),
            searched_until: second(searched),
            pins_taken_at: second(pins),
        }
    }

    /// The names of the owners of programs, maps and links.
    fn owners(mut snapshot: Snapshot, holders: &Holders) -> [Vec<String>; 3] {
        assign_at(&mut snapshot, holders, Some((1_000, 1_000)), &mut OwnerInterner::default());
        let name = |owner: &Option<Arc<Owner>>| owner.as_ref().expect("each has one").name().to_owned();
        [
            snapshot.programs.iter().flatten().map(|program| name(&program.owner)).collect(),
            snapshot.maps.iter().flatten().map(|map| name(&map.owner)).collect(),
            snapshot.links.iter().flatten().map(|link| name(&link.owner)).collect(),
        ]
    }

    #[test]
    fn attaching_or_pinning_an_object_of_another_does_not_make_an_owner() {
        let snapshot = snapshot(vec![program(1, &[10, 11])], vec![map(10), map(11)], vec![link(5, Some(1))]);
        let manager = || Identity { process: process(1).process, ..pod("manager") };
        let holders = Holders {
            programs: vec![holder(1, Process, manager())],
            maps: vec![
                holder(10, Creator, pod("older")),
                holder(10, Process, manager()),
                holder(11, Creator, unit("creator.service")),
            ],
            links: vec![holder(5, Process, manager()), holder(5, Pin, pin("/sys/fs/bpf/manager"))],
            btfs: Vec::new(),
        };
        let creator = || "creator.service".to_owned();
        assert_eq!(
            owners(snapshot, &holders),
            [vec![creator()], vec!["older".to_owned(), creator()], vec![creator()]],
            "a program and its links belong to the creator of the newest map"
        );
    }

    #[test]
    fn of_several_processes_one_in_a_pod_then_the_oldest_is_the_owner() {
        let in_pod = |pid| Identity { process: process(pid).process, ..pod("p") };
        let holders = Holders {
            programs: vec![
                holder(1, Process, process(3)),
                holder(1, Process, in_pod(9)),
                holder(2, Process, process(8)),
                holder(2, Process, process(4)),
                holder(2, Pin, pin("/a")),
            ],
            ..Holders::default()
        };
        let snapshot = snapshot(vec![program(1, &[]), program(2, &[])], Vec::new(), Vec::new());
        assert_eq!(owners(snapshot, &holders)[0], ["p", "process_4"]);
    }

    #[test]
    fn objects_without_a_holder_belong_to_the_holder_of_a_related_object() {
        let programs = vec![program(1, &[10]), program(2, &[11]), program(3, &[]), program(4, &[12])];
        let maps = vec![map(10), map(11), map(12)];
        let links = vec![link(5, Some(1)), link(6, Some(3)), link(7, None)];
        let holders = Holders {
            maps: vec![holder(11, Process, process(2)), holder(12, Pin, pin("/of/map"))],
            links: vec![holder(5, Process, process(1)), holder(6, Pin, pin("/of/link"))],
            ..Holders::default()
        };
        assert_eq!(
            owners(snapshot(programs, maps, links), &holders),
            [
                vec!["process_1", "process_2", "/of/link", "/of/map"],
                vec!["process_1", "process_2", "/of/map"],
                vec!["process_1", "/of/link", "kernel"],
            ]
            .map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
        );
    }

    #[test]
    fn holders_in_one_pod_have_one_owner() {
        let mut snapshot = snapshot(vec![program(1, &[]), program(2, &[])], Vec::new(), Vec::new());
        let part = |pid| Identity { process: process(pid).process, ..pod("p") };
        let holders = Holders {
            programs: vec![holder(1, Process, part(1)), holder(2, Process, part(2))],
            ..Holders::default()
        };
        let mut owners = OwnerInterner::default();
        assign_at(&mut snapshot, &holders, Some((1_000, 1_000)), &mut owners);
        let owners: Vec<_> =
            snapshot.programs.iter().flatten().filter_map(|program| program.owner.clone()).collect();
        assert!(owners.len() == 2 && owners[0] == owners[1] && owners[0].process.is_none());
        assert_eq!(*owners[0], Owner::from(pod("p")));
    }

    #[test]
    fn objects_newer_than_the_search_have_no_owner_unless_their_creator_is_known() {
        let mut snapshot = snapshot(vec![program(1, &[10])], vec![map(10), map(11)], vec![link(5, None)]);
        let holders = Holders { maps: vec![holder(10, Creator, pod("p"))], ..Holders::default() };
        // The maps and the link were first seen at 1000, the program was loaded at 1.
        assign_at(&mut snapshot, &holders, Some((999, 999)), &mut OwnerInterner::default());
        let maps: Vec<_> = snapshot.maps.iter().flatten().map(|map| map.owner.is_some()).collect();
        assert_eq!(maps, [true, false]);
        let [links] = &snapshot.links.expect("there is one")[..] else { panic!("there is one") };
        assert!(links.owner.is_none());
        assert_eq!(
            snapshot.programs.expect("there is one")[0].owner.as_ref().map(|owner| owner.name()),
            Some("p")
        );
    }

    #[test]
    fn an_object_is_the_kernels_once_a_scan_after_a_search_found_no_pin() {
        let mut unowned = UnheldSince::default();
        let mut owner = |holders: &Holders, search, pins| {
            let mut snapshot = snapshot(vec![program(1, &[])], Vec::new(), Vec::new());
            let (seen, mut owners) = (Some(seen((search, pins))), OwnerInterner::default());
            assign(&mut snapshot, holders, seen, &mut owners, &mut unowned);
            let owner = snapshot.programs.expect("it is there")[0].owner.clone();
            owner.map(|owner| owner.name().to_owned())
        };
        let none = Holders::default();
        let by = |held_by, owner| Holders { programs: vec![holder(1, held_by, owner)], ..Holders::default() };
        assert_eq!(owner(&none, 10, 9), None, "it may have been pinned since");
        assert_eq!(owner(&none, 12, 11).as_deref(), Some("kernel"), "no later search has to come first");
        assert_eq!(owner(&by(Process, process(7)), 13, 11).as_deref(), Some("process_7"));
        assert_eq!(owner(&none, 15, 14), None, "the process may have pinned it");
        assert_eq!(owner(&by(Pin, pin("/a")), 17, 16).as_deref(), Some("/a"));
    }

    #[test]
    fn a_map_has_no_owner_while_the_maps_of_a_program_are_unknown() {
        let mut unknown = program(1, &[]);
        Arc::make_mut(&mut unknown.facts).map_ids = None;
        let mut snapshot =
            snapshot(vec![unknown, program(2, &[])], vec![map(10), map(11)], vec![link(5, Some(1))]);
        let holders = Holders { maps: vec![holder(11, Process, process(1))], ..Holders::default() };
        assign_at(&mut snapshot, &holders, Some((1_000, 1_000)), &mut OwnerInterner::default());
        let programs = snapshot.programs.iter().flatten().map(|program| program.owner.is_some());
        assert_eq!(programs.collect::<Vec<_>>(), [false, true]);
        let maps = snapshot.maps.iter().flatten().map(|map| map.owner.is_some());
        assert_eq!(maps.collect::<Vec<_>>(), [false, true], "that is evidence");
        assert!(snapshot.links.iter().flatten().all(|link| link.owner.is_none()));
    }

    #[test]
    fn processes_of_one_name_are_one_owner() {
        let mut snapshot = snapshot(vec![program(1, &[]), program(2, &[])], Vec::new(), Vec::new());
        let agent = |pid| {
            let process = process(pid)
                .process
                .map(|process| crate::model::Process { name: "agent".to_owned(), ..process });
            Identity { process, ..Identity::default() }
        };
        let holders = Holders {
            programs: vec![holder(1, Process, agent(1)), holder(2, Process, agent(2))],
            ..Holders::default()
        };
        assign_at(&mut snapshot, &holders, Some((1_000, 1_000)), &mut OwnerInterner::default());
        let owners: Vec<_> =
            snapshot.programs.iter().flatten().filter_map(|program| program.owner.as_deref()).collect();
        assert_eq!((owners[0].key(), owners[0].revision()), (owners[1].key(), owners[1].revision()));
        assert_eq!((owners[0].kind(), owners[0].name()), (OwnerKind::Process, "agent"));
        assert!(owners[0].process.is_none(), "a pid belongs to a holder");
    }

    #[test]
    fn names_of_processes_are_bounded() {
        let mut owners = OwnerInterner::default();
        let most = u32::try_from(MOST_PROCESS_NAMES).expect("it is small");
        let mut named = |pid| {
            let name = owners.of(Some(&holder(1, Process, process(pid)).owner)).name().to_owned();
            owners.end_reading();
            name
        };
        for pid in 0..most {
            assert_eq!(named(pid), format!("process_{pid}"));
        }
        assert_eq!(named(most), OTHER_PROCESSES);
        assert_eq!(named(0), "process_0", "it is known");
        assert_eq!(named(most), OTHER_PROCESSES, "names that have gone count for an hour");
        let gone = Instant::now().checked_sub(NAME_KEPT).expect("the machine has been up for longer");
        owners.process_names.values_mut().for_each(|seen| *seen = gone);
        owners.end_reading();
        assert_eq!(
            owners.of(Some(&holder(1, Process, process(most)).owner)).name(),
            format!("process_{most}")
        );
    }

    #[test]
    fn objects_have_no_owner_while_its_name_is_looked_up() {
        let mut snapshot = snapshot(vec![program(1, &[10])], vec![map(10), map(11)], Vec::new());
        let owner = Arc::new(Owner::awaiting_name(pod("p")));
        let holders =
            Holders { maps: vec![Holder { id: 10, held_by: Creator, owner }], ..Holders::default() };
        assign_at(&mut snapshot, &holders, Some((1_000, 1_000)), &mut OwnerInterner::default());
        assert_eq!(snapshot.programs.expect("it is there")[0].owner, None);
        let maps = snapshot.maps.expect("they are there");
        let names: Vec<_> = maps.iter().map(|map| map.owner.as_ref().map(|owner| owner.name())).collect();
        assert_eq!(names, [None, Some("kernel")]);
    }

    #[test]
    fn objects_have_no_owner_without_evidence_if_some_processes_or_pins_are_hidden() {
        let mut snapshot = snapshot(
            vec![program(1, &[10]), program(2, &[])],
            vec![map(10), map(11)],
            vec![link(5, Some(2))],
        );
        let holders = Holders { programs: vec![holder(1, Process, process(1))], ..Holders::default() };
        assign_at(&mut snapshot, &holders, None, &mut OwnerInterner::default());
        let programs = snapshot.programs.iter().flatten().map(|program| program.owner.is_some());
        assert_eq!(programs.collect::<Vec<_>>(), [true, false]);
        let maps = snapshot.maps.iter().flatten().map(|map| map.owner.is_some());
        assert_eq!(maps.collect::<Vec<_>>(), [true, false], "a related object is evidence");
        assert!(snapshot.links.iter().flatten().all(|link| link.owner.is_none()));
    }

    fn identities() -> impl Strategy<Value = Identity> {
        prop_oneof![
            (1..6_u32).prop_map(process),
            "[ab]\\.service".prop_map(|name| unit(&name)),
            "[pq]".prop_map(|key| pod(&key)),
            "/[xy]".prop_map(|directory| pin(&directory)),
        ]
    }

    fn holders(ids: u32) -> impl Strategy<Value = Vec<Holder>> {
        let held_by = prop_oneof![Just(Process), Just(Pin), Just(Creator)];
        prop::collection::vec((0..ids, held_by, identities()), 0..20).prop_map(|mut rows| {
            rows.sort_by_key(|(id, ..)| *id);
            rows.into_iter().map(|(id, held_by, identity)| holder(id, held_by, identity)).collect()
        })
    }

    proptest! {
        #[test]
        fn every_object_has_one_owner_and_that_is_a_holder_or_the_kernel(
            programs in holders(8), maps in holders(8), links in holders(8),
            uses in prop::collection::vec(prop::collection::btree_set(0..8_u32, 0..4), 8),
        ) {
            let programs_of = (0..8).zip(&uses).map(|(id, maps)| program(id, &maps.iter().copied().collect::<Vec<_>>())).collect();
            let links_of = (0..8).map(|id| link(id, (id % 3 != 0).then_some(id / 2))).collect();
            let mut snapshot = snapshot(programs_of, (0..8).map(map).collect(), links_of);
            let holders = Holders { programs, maps, links, btfs: Vec::new() };
            assign_at(&mut snapshot, &holders, Some((1_000, 1_000)), &mut OwnerInterner::default());
            let known: Vec<Owner> = [&holders.programs, &holders.maps, &holders.links]
                .into_iter()
                .flatten()
                .map(|holder| Owner::from(holder.owner.top_level()))
                .chain([Owner::from(Identity::default())])
                .collect();
            let owners = snapshot.programs.iter().flatten().map(|program| &program.owner)
                .chain(snapshot.maps.iter().flatten().map(|map| &map.owner))
                .chain(snapshot.links.iter().flatten().map(|link| &link.owner));
            for owner in owners {
                prop_assert!(owner.as_deref().is_some_and(|owner| known.contains(owner)));
            }
            for map in snapshot.maps.iter().flatten() {
                let creator = holders.maps.iter().find(|h| h.id == map.facts.id && h.held_by == Creator);
                if let Some(creator) = creator {
                    prop_assert_eq!(map.owner.as_ref().map(|owner| owner.name()), Some(creator.owner.name()));
                }
            }
        }
    }
}
