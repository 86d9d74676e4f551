//! Who holds which object: processes, pins and the cgroups that pay, each told as whom it belongs to.
//! Knows where to look nothing up; it is given what was found. Begin at [`People::process`] and [`collect`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::cgroup::{Place, is_uid};
use super::names::NameCache;
use crate::ascending::Ascending;
use crate::model::{
    Container, HeldBy, Holder, Holders, Identity, Kind, Owner, OwnerKind, Pin, Pod, Process, ProcessFiles,
    Snapshot,
};

/// Those who were met, by what they are told from each other; shared by all that they hold.
#[derive(Debug, Default)]
pub(super) struct People {
    processes: HashMap<(u32, u64), Known<String>>,
    cgroups: HashMap<u64, Known<Arc<str>>>,
    pins: HashMap<Arc<str>, Known<()>>,
    /// The revision of the names that they are told with.
    revision: u64,
}

/// Somebody, and what that was made of.
#[derive(Debug)]
struct Known<S> {
    seen_as: S,
    cgroup: Option<u64>,
    owner: Arc<Owner>,
    /// Whether this reading met it.
    met: bool,
}

impl<S> Known<S> {
    /// That a reading met it.
    fn meet(&mut self, names: &NameCache) -> Arc<Owner> {
        self.met = true;
        keep(names, &self.owner);
        Arc::clone(&self.owner)
    }
}

impl People {
    /// Begins a reading: who has got another name since is described anew.
    pub(super) fn begin(&mut self, names: &NameCache) {
        let revision = names.revision();
        if self.revision != revision {
            self.revision = revision;
            self.processes.clear();
            self.cgroups.clear();
        }
    }

    /// A process, described when it is met for the first time, under another name, or in another cgroup; each time where only the
    /// path tells its cgroup, since it may have moved.
    pub(super) fn process(
        &mut self,
        files: &ProcessFiles,
        names: &NameCache,
        describe: impl FnOnce() -> (Process, Option<Arc<str>>),
    ) -> Arc<Owner> {
        let key = (files.pid, files.started_at_boot_ns);
        let mut known = self.processes.get_mut(&key).filter(|known| known.seen_as == files.name);
        if let Some(known) = &mut known
            && files.cgroup.is_some()
            && known.cgroup == files.cgroup
        {
            return known.meet(names);
        }
        let (process, path) = describe();
        if let (Some(known), None, None) = (&mut known, &path, files.cgroup) {
            // It has ended meanwhile.
            return known.meet(names);
        }
        let place = path.map(|path| Place::of(&path)).unwrap_or_default();
        let owner = Owner::from(identity(place, Some(process), names));
        if let Some(known) = known.filter(|known| known.owner.revision() == owner.revision()) {
            known.cgroup = files.cgroup;
            return known.meet(names);
        }
        let owner = Arc::new(owner);
        let known =
            Known { seen_as: files.name.clone(), cgroup: files.cgroup, owner: Arc::clone(&owner), met: true };
        self.processes.insert(key, known);
        owner
    }

    /// A cgroup as somebody who made what it pays for. `None` when its path names nobody.
    pub(super) fn cgroup(&mut self, id: u64, path: &Arc<str>, names: &NameCache) -> Option<Arc<Owner>> {
        let owner = match self.cgroups.get_mut(&id) {
            Some(known) if known.seen_as == *path => known.meet(names),
            _ => {
                let owner = Arc::new(Owner::from(identity(Place::of(path), None, names)));
                let known = Known {
                    seen_as: Arc::clone(path),
                    cgroup: Some(id),
                    owner: Arc::clone(&owner),
                    met: true,
                };
                self.cgroups.insert(id, known);
                owner
            }
        };
        (owner.kind() != OwnerKind::Kernel).then_some(owner)
    }

    /// A directory of pins.
    fn pins(&mut self, directory: &Arc<str>) -> Arc<Owner> {
        let known = self.pins.entry(Arc::clone(directory)).or_insert_with(|| {
            let identity = Identity { pin: Some(directory.to_string()), ..Identity::default() };
            Known { seen_as: (), cgroup: None, owner: Arc::new(Owner::from(identity)), met: true }
        });
        known.met = true;
        Arc::clone(&known.owner)
    }

    /// Ends a reading: forgets those it did not meet.
    pub(super) fn end_reading(&mut self) {
        fn forget<K, S>(people: &mut HashMap<K, Known<S>>) {
            people.retain(|_, known| std::mem::take(&mut known.met));
        }
        forget(&mut self.processes);
        forget(&mut self.cgroups);
        forget(&mut self.pins);
    }
}

/// Asks for the names again, so that they are not forgotten.
fn keep(names: &NameCache, owner: &Owner) {
    if let Some(container) = &owner.container {
        let _known = names.container(&container.id);
    }
    if let Some(pod) = &owner.pod {
        let _known = names.pod(&pod.key);
    }
}

/// What is known of somebody in a cgroup.
fn identity(place: Place, process: Option<Process>, names: &NameCache) -> Identity {
    let told = place.container.as_deref().and_then(|id| names.container(id));
    let (container_name, pod_of_container) = told.map(|told| (told.name, told.pod)).unwrap_or_default();
    let container = place.container.map(|id| Container {
        id,
        runtime: place.runtime.map(Cow::into_owned).map(Cow::Owned),
        name: container_name,
    });
    let pod = place.pod.or(pod_of_container).map(|key| {
        let told = names.pod(&key);
        let (namespace, name) = told.map(|told| (told.namespace, told.name)).unzip();
        Pod { uid: is_uid(&key).then(|| key.clone()), key, namespace, name }
    });
    Identity { process, container, pod, unit: place.unit, pin: None }
}

/// Who holds what of a snapshot: these processes, the pins in it, and those who pay for its maps.
pub(super) fn collect(
    snapshot: &Snapshot,
    processes: &[(Arc<Owner>, &ProcessFiles)],
    creators: Vec<Holder>,
    people: &mut People,
) -> Holders {
    let mut holders = Holders::default();
    for (owner, files) in processes {
        for &(kind, id) in &files.objects {
            let owner = Arc::clone(owner);
            holders.of_mut(kind).push(Holder { id, held_by: HeldBy::Process, owner });
        }
    }
    for Pin { kind, id, directory, .. } in snapshot.pins.iter().flatten() {
        let owner = people.pins(directory);
        holders.of_mut(*kind).push(Holder { id: *id, held_by: HeldBy::Pin, owner });
    }
    holders.maps.extend(creators);
    for kind in Kind::ALL {
        let rows = holders.of_mut(kind);
        rows.sort_by_key(|holder| (holder.id, holder.held_by, holder.owner.key()));
        // Several pins in one directory are one holder.
        rows.dedup_by_key(|holder| (holder.id, holder.held_by, holder.owner.key()));
        keep_those_of(rows, &snapshot.ids(kind));
    }
    holders
}

/// Drops the rows of objects that came after the table was read: the next reading tells both. Both are ascending.
fn keep_those_of(rows: &mut Vec<Holder>, ids: &[u32]) {
    let ids = Ascending::new(ids, |&id| id);
    rows.retain(|holder| ids.seek(holder.id).is_some());
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::enrich::names::{ContainerName, PodName};
    use crate::model::{Btf, Map, MapFacts, ObjectType};

    fn place(path: &str) -> (Process, Option<Arc<str>>) {
        let process =
            Process { pid: 7, started_at_boot_ns: 1, name: "agent".to_owned(), executable_name: None };
        (process, Some(path.into()))
    }

    fn files(name: &str, objects: Vec<(Kind, u32)>) -> ProcessFiles {
        ProcessFiles { pid: 7, started_at_boot_ns: 1, name: name.to_owned(), cgroup: Some(5), objects }
    }

    #[test]
    fn a_process_is_described_once_until_something_of_it_changes() {
        let (names, mut people) = (NameCache::default(), People::default());
        let pod = "/kubepods/besteffort/pod2c48913c-b29f-11e7-9350-020968147796/\
                   0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        people.begin(&names);
        let first = people.process(&files("agent", Vec::new()), &names, || place(pod));
        assert_eq!((first.kind(), first.name()), (OwnerKind::Pod, "2c48913c-b29f-11e7-9350-020968147796"));
        people.end_reading();
        people.begin(&names);
        let again =
            people.process(&files("agent", Vec::new()), &names, || panic!("it is known and has not changed"));
        assert!(Arc::ptr_eq(&first, &again));

        let told = PodName { namespace: "shop".to_owned(), name: "cart".to_owned() };
        names.set_pod("2c48913c-b29f-11e7-9350-020968147796", told);
        people.begin(&names);
        let told = people.process(&files("agent", Vec::new()), &names, || place(pod));
        assert_eq!(told.name(), "shop/cart");
        assert_eq!(told.key(), first.key(), "a name that comes late makes nobody another");
        assert_ne!(told.revision(), first.revision());

        let renamed =
            people.process(&files("other", Vec::new()), &names, || place("/system.slice/x.service"));
        assert_eq!((renamed.kind(), renamed.name()), (OwnerKind::Unit, "x.service"));
        people.end_reading();
        people.end_reading();
        assert!(people.processes.is_empty(), "who was not met is forgotten");
    }

    #[test]
    fn static_pods_have_no_uid() {
        const HASH: &str = "36b6d6be73b1065af369b3985edafa09";
        const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";
        const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let names = NameCache::default();
        let uid = |path: &str| {
            let pod = identity(Place::of(path), None, &names).pod.expect("it is in a pod");
            (pod.key, pod.uid)
        };
        assert_eq!(uid(&format!("/kubepods/pod{UID}/{CONTAINER}")), (UID.to_owned(), Some(UID.to_owned())));
        assert_eq!(uid(&format!("/kubepods/pod{HASH}/{CONTAINER}")), (HASH.to_owned(), None));
        let container = ContainerName { name: None, pod: Some(HASH.to_owned()) };
        names.set_container(CONTAINER, container);
        assert_eq!(
            uid(&format!("/docker/{CONTAINER}")),
            (HASH.to_owned(), None),
            "its runtime reports the pod"
        );
    }

    #[test]
    fn a_process_of_which_only_the_path_tells_the_cgroup_is_another_when_it_has_moved() {
        let (names, mut people) = (NameCache::default(), People::default());
        let files = ProcessFiles { cgroup: None, ..files("agent", Vec::new()) };
        people.begin(&names);
        let first = people.process(&files, &names, || place("/a.service"));
        for described in [place("/a.service"), (place("/").0, None)] {
            let again = people.process(&files, &names, || described);
            assert!(Arc::ptr_eq(&first, &again), "it has not moved, or has ended");
        }
        assert_eq!(people.process(&files, &names, || place("/b.service")).name(), "b.service");
    }

    #[test]
    fn rows_are_in_order_once_each_and_of_objects_that_were_read() {
        let map = |id| Map {
            facts: Arc::new(MapFacts {
                id,
                name: String::new(),
                map_type: ObjectType { number: 1, name: None },
                key_size: 4,
                value_size: 4,
                max_entries: 1,
                flags: 0,
                btf_id: None,
                first_seen: Timestamp::UNIX_EPOCH,
            }),
            frozen: None,
            mem: None,
            entries: None,
            backlog: None,
            memory_cgroup: None,
            owner: None,
        };
        let pin = |id, path: &str, directory: &str| Pin {
            kind: Kind::Map,
            id,
            path: path.into(),
            directory: directory.into(),
        };
        let btf = Btf { id: 4, name: None, kernel: None, size: 1, first_seen: Timestamp::UNIX_EPOCH };
        let snapshot = Snapshot {
            maps: Some(vec![map(2), map(3)]),
            btfs: Some(vec![Arc::new(btf)]),
            pins: Some(vec![pin(3, "/b/x/1", "/b/x"), pin(3, "/b/x/2", "/b/x"), pin(3, "/b/y", "/b/y")]),
            ..Snapshot::begun(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH)
        };
        let (names, mut people) = (NameCache::default(), People::default());
        let objects = vec![(Kind::Map, 1), (Kind::Map, 3), (Kind::Btf, 4), (Kind::Program, 8)];
        let files = files("agent", objects);
        let process = people.process(&files, &names, || place("/"));
        let unit =
            Arc::new(Owner::from(Identity { unit: Some("u.service".to_owned()), ..Identity::default() }));
        let creators = vec![Holder { id: 2, held_by: HeldBy::Creator, owner: unit }];
        let holders = collect(&snapshot, &[(process, &files)], creators, &mut people);
        let told: Vec<_> = holders.maps.iter().map(|h| (h.id, h.held_by.as_str(), h.owner.name())).collect();
        let mut pins = [(3, "pin", "/b/x"), (3, "pin", "/b/y")];
        pins.sort_by_key(|&(.., directory)| people.pins(&directory.into()).key());
        let expected = [(2, "creator", "u.service"), (3, "process", "agent"), pins[0], pins[1]];
        let mut sorted = told.clone();
        sorted.sort_unstable();
        let mut wanted = expected.to_vec();
        wanted.sort_unstable();
        assert_eq!(sorted, wanted);
        assert_eq!(holders.btfs.len(), 1);
        assert!(holders.programs.is_empty(), "no table of programs was read");
    }
}
