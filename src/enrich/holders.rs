//! Holders of objects: processes, pins, and the cgroups charged for maps, each with its identity.
//! Entry points: [`HolderCache::process`] and [`collect`]. Independent of how holders are found.

use std::collections::HashMap;
use std::sync::Arc;

use super::cgroup::CgroupIdentity;
use super::identity::identity;
use super::names::NameCache;
use crate::ascending::Ascending;
use crate::model::{
    HeldBy, Holder, Holders, Identity, Kind, Owner, OwnerKind, Pin, Process, ProcessFiles, Snapshot,
};

/// How often a process may change its name without executing another program, each time becoming another owner. Some put a number
/// or their state in it.
const MOST_RENAMES: u8 = 4;

/// Holders of the last reading; shared by all objects that they hold.
#[derive(Debug, Default)]
pub(super) struct HolderCache {
    processes: HashMap<(u32, u64), CachedProcess>,
    cgroups: HashMap<u64, CachedHolder<Arc<str>>>,
    pins: HashMap<PinDirectory, CachedHolder<()>>,
    /// Revision of the names in their identities.
    revision: u64,
}

/// A directory of pins: its path and [`Pin::bpffs`].
type PinDirectory = (Arc<str>, Option<Arc<str>>);

/// A process as a holder, and what it was made from.
#[derive(Debug)]
struct CachedProcess {
    holder: CachedHolder<String>,
    /// Whether names have changed since it was described.
    is_stale: bool,
    /// How often it has changed its name since it executed its program.
    renames: u8,
}

impl CachedProcess {
    /// Returns how often the process has changed its name, given how it is called now.
    fn renames(&self, now: &Process) -> u8 {
        let before = self.holder.owner.process.as_ref();
        let is_same = before.is_some_and(|before| before.executable_name == now.executable_name);
        if is_same { self.renames.saturating_add(u8::from(self.holder.seen_as != now.name)) } else { 0 }
    }
}

/// A holder and what it was made from.
#[derive(Debug)]
struct CachedHolder<S> {
    seen_as: S,
    cgroup: Option<u64>,
    owner: Arc<Owner>,
    /// Whether it was used in this reading.
    used: bool,
}

impl<S> CachedHolder<S> {
    /// Marks it as used in this reading.
    fn reuse(&mut self, names: &NameCache) -> Arc<Owner> {
        self.used = true;
        keep_names(names, &self.owner);
        Arc::clone(&self.owner)
    }
}
impl HolderCache {
    /// Starts a reading: if names have changed, every holder is described again.
    pub(super) fn start_reading(&mut self, names: &NameCache) {
        let revision = names.start_reading();
        if self.revision != revision {
            self.revision = revision;
            for cached in self.processes.values_mut() {
                cached.is_stale = true;
            }
            self.cgroups.clear();
        }
    }

    /// Returns a process as a holder. It is described when it is seen for the first time, with another name, or in another
    /// cgroup; and each time if the id of its cgroup is unknown, since it may have moved.
    pub(super) fn process(
        &mut self,
        files: &ProcessFiles,
        names: &NameCache,
        describe: impl FnOnce() -> (Process, Option<Arc<str>>),
    ) -> Arc<Owner> {
        let key = (files.pid, files.started_at_boot_ns);
        let mut cached = self.processes.get_mut(&key);
        let mut known = cached.as_deref_mut().filter(|cached| cached.holder.seen_as == files.name);
        if let Some(CachedProcess { holder, is_stale: false, .. }) = &mut known
            && files.cgroup.is_some()
            && holder.cgroup == files.cgroup
        {
            return holder.reuse(names);
        }
        let (mut process, path) = describe();
        if let (Some(known), None, None) = (known, &path, files.cgroup) {
            // It has ended in the meantime.
            return known.holder.reuse(names);
        }
        let renames = cached.as_ref().map_or(0, |cached| cached.renames(&process));
        if renames > MOST_RENAMES
            && let Some(before) = cached.as_ref().and_then(|cached| cached.holder.owner.process.as_ref())
        {
            process.name.clone_from(&before.name);
        }
        let cgroup = path.map(|path| CgroupIdentity::of(&path)).unwrap_or_default();
        let mut owner = Arc::new(identity(cgroup, Some(process), names));
        if let Some(cached) = cached.filter(|cached| cached.holder.owner.revision() == owner.revision()) {
            owner = Arc::clone(&cached.holder.owner);
        }
        let holder = CachedHolder {
            seen_as: files.name.clone(),
            cgroup: files.cgroup,
            owner: Arc::clone(&owner),
            used: true,
        };
        self.processes.insert(key, CachedProcess { holder, is_stale: false, renames });
        owner
    }

    /// Returns a cgroup as the creator of the maps it is charged for. `None` if its path identifies no owner.
    pub(super) fn cgroup(&mut self, id: u64, path: &Arc<str>, names: &NameCache) -> Option<Arc<Owner>> {
        let owner = match self.cgroups.get_mut(&id) {
            Some(cached) if cached.seen_as == *path => cached.reuse(names),
            _ => {
                let owner = Arc::new(identity(CgroupIdentity::of(path), None, names));
                let cached = CachedHolder {
                    seen_as: Arc::clone(path),
                    cgroup: Some(id),
                    owner: Arc::clone(&owner),
                    used: true,
                };
                self.cgroups.insert(id, cached);
                owner
            }
        };
        (owner.kind() != OwnerKind::Kernel).then_some(owner)
    }

    /// Returns a directory of pins as a holder.
    fn pins(&mut self, directory: &Arc<str>, bpffs: Option<&Arc<str>>) -> Arc<Owner> {
        let key = (Arc::clone(directory), bpffs.cloned());
        let cached = self.pins.entry(key).or_insert_with(|| {
            let (pin, bpffs) = (Some(directory.to_string()), bpffs.cloned());
            let identity = Identity { pin, bpffs, ..Identity::default() };
            CachedHolder { seen_as: (), cgroup: None, owner: Arc::new(Owner::from(identity)), used: true }
        });
        cached.used = true;
        Arc::clone(&cached.owner)
    }

    /// Ends a reading: forgets holders that were not used.
    pub(super) fn end_reading(&mut self) {
        fn forget<K, S>(holders: &mut HashMap<K, CachedHolder<S>>) {
            holders.retain(|_, cached| std::mem::take(&mut cached.used));
        }
        self.processes.retain(|_, cached| std::mem::take(&mut cached.holder.used));
        forget(&mut self.cgroups);
        forget(&mut self.pins);
    }
}

/// Queries the names again, so that the cache of names keeps them.
fn keep_names(names: &NameCache, owner: &Owner) {
    if let Some(container) = &owner.container {
        let _known = names.container(&container.id);
    }
    if let Some(pod) = &owner.pod {
        let _known = names.pod(&pod.key);
    }
}

/// Returns the holders of a snapshot's objects: these processes, its pins, and the creators of its maps.
pub(super) fn collect(
    snapshot: &Snapshot,
    processes: &[(Arc<Owner>, &ProcessFiles)],
    creators: Vec<Holder>,
    cache: &mut HolderCache,
) -> Holders {
    let mut holders = Holders::default();
    for (owner, files) in processes {
        for &(kind, id) in &files.objects {
            let owner = Arc::clone(owner);
            holders.of_mut(kind).push(Holder { id, held_by: HeldBy::Process, owner });
        }
    }
    for Pin { kind, id, directory, bpffs, .. } in snapshot.pins.iter().flatten() {
        let owner = cache.pins(directory, bpffs.as_ref());
        holders.of_mut(*kind).push(Holder { id: *id, held_by: HeldBy::Pin, owner });
    }
    holders.maps.extend(creators);
    for kind in Kind::ALL {
        let rows = holders.of_mut(kind);
        rows.sort_by_key(|holder| (holder.id, holder.held_by, holder.owner.key()));
        // Several pins in one directory are one holder.
        rows.dedup_by_key(|holder| (holder.id, holder.held_by, holder.owner.key()));
        retain_objects(rows, &snapshot.ids(kind));
    }
    holders
}

/// Drops the holders of objects that were created after the table was read: the next reading has both. Both are ascending.
fn retain_objects(rows: &mut Vec<Holder>, ids: &[u32]) {
    let ids = Ascending::new(ids, |&id| id);
    rows.retain(|holder| ids.seek(holder.id).is_some());
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::enrich::names::{NameSourceId, PodName};
    use crate::model::{BootTime, Btf, Map, MapFacts, ObjectType, WallClock};

    fn described(path: &str) -> (Process, Option<Arc<str>>) {
        let process =
            Process { pid: 7, started_at_boot_ns: 1, name: "agent".to_owned(), executable_name: None };
        (process, Some(path.into()))
    }

    fn files(name: &str, objects: Vec<(Kind, u32)>) -> ProcessFiles {
        ProcessFiles {
            pid: 7,
            started_at_boot_ns: 1,
            name: name.to_owned(),
            executable: None,
            cgroup: Some(5),
            objects,
        }
    }

    #[test]
    fn processes_are_described_again_only_when_something_changes() {
        let (names, mut cache) = (NameCache::default(), HolderCache::default());
        let pod = "/kubepods/besteffort/pod2c48913c-b29f-11e7-9350-020968147796/\
                   0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        cache.start_reading(&names);
        let first = cache.process(&files("agent", Vec::new()), &names, || described(pod));
        assert_eq!((first.kind(), first.name()), (OwnerKind::Pod, "2c48913c-b29f-11e7-9350-020968147796"));
        cache.end_reading();
        cache.start_reading(&names);
        let again = cache.process(&files("agent", Vec::new()), &names, || panic!("it has not changed"));
        assert!(Arc::ptr_eq(&first, &again));

        let name = PodName { namespace: "shop".to_owned(), name: "cart".to_owned() };
        names.set_pod("2c48913c-b29f-11e7-9350-020968147796", name, NameSourceId(0));
        cache.start_reading(&names);
        let renewed = cache.process(&files("agent", Vec::new()), &names, || described(pod));
        assert_eq!(renewed.name(), "shop/cart");
        assert_eq!(renewed.key(), first.key(), "a name found later does not change the identity");
        assert_ne!(renewed.revision(), first.revision());

        let renamed =
            cache.process(&files("other", Vec::new()), &names, || described("/system.slice/x.service"));
        assert_eq!((renamed.kind(), renamed.name()), (OwnerKind::Unit, "x.service"));
        cache.end_reading();
        cache.end_reading();
        assert!(cache.processes.is_empty(), "unused holders are forgotten");
    }

    #[test]
    fn processes_without_a_cgroup_id_are_looked_up_in_each_reading() {
        let (names, mut cache) = (NameCache::default(), HolderCache::default());
        let files = ProcessFiles { cgroup: None, ..files("agent", Vec::new()) };
        cache.start_reading(&names);
        let first = cache.process(&files, &names, || described("/a.service"));
        for description in [described("/a.service"), (described("/").0, None)] {
            let again = cache.process(&files, &names, || description);
            assert!(Arc::ptr_eq(&first, &again), "it has not moved, or has ended");
        }
        assert_eq!(cache.process(&files, &names, || described("/b.service")).name(), "b.service");
    }

    #[test]
    fn holders_are_sorted_unique_and_of_objects_in_the_snapshot() {
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
                first_seen: BootTime::default(),
            }),
            frozen: None,
            mem: None,
            entries: None,
            backlog: None,
            memory_cgroup: None,
            owner: None,
        };
        let pin = |id, path: &str, directory: &str, bpffs: Option<&str>| Pin {
            kind: Kind::Map,
            id,
            path: path.into(),
            directory: directory.into(),
            bpffs: bpffs.map(Into::into),
        };
        let btf = Btf { id: 4, name: None, kernel: None, size: 1, first_seen: BootTime::default() };
        let snapshot = Snapshot {
            maps: Some(vec![map(2), map(3)]),
            btfs: Some(vec![Arc::new(btf)]),
            pins: Some(vec![
                pin(3, "/b/x/1", "/b/x", None),
                pin(3, "/b/x/1", "/b/x", Some("0:45")),
                pin(3, "/b/x/2", "/b/x", None),
                pin(3, "/b/x/2", "/b/x", Some("0:45")),
                pin(3, "/b/y", "/b/y", None),
            ]),
            ..Snapshot::begun(BootTime::default(), BootTime::default(), WallClock::default())
        };
        let (names, mut cache) = (NameCache::default(), HolderCache::default());
        let objects = vec![(Kind::Map, 1), (Kind::Map, 3), (Kind::Btf, 4), (Kind::Program, 8)];
        let files = files("agent", objects);
        let process = cache.process(&files, &names, || described("/"));
        let unit =
            Arc::new(Owner::from(Identity { unit: Some("u.service".to_owned()), ..Identity::default() }));
        let creators = vec![Holder { id: 2, held_by: HeldBy::Creator, owner: unit }];
        let holders = collect(&snapshot, &[(process, &files)], creators, &mut cache);
        let order = |h: &Holder| (h.id, h.held_by, h.owner.key());
        assert!(holders.maps.is_sorted_by(|one, other| order(one) < order(other)));
        let mut found: Vec<_> = holders
            .maps
            .iter()
            .map(|h| (h.id, h.held_by.as_str(), h.owner.name(), h.owner.bpffs.as_deref()))
            .collect();
        found.sort_unstable();
        let expected = [
            (2, "creator", "u.service", None),
            (3, "pin", "/b/x", None),
            (3, "pin", "/b/x", Some("0:45")),
            (3, "pin", "/b/y", None),
            (3, "process", "agent", None),
        ];
        assert_eq!(found, expected);
        let owners = holders.maps.iter().map(|h| Owner::from(h.owner.top_level()));
        let of_pins: HashSet<u64> =
            owners.filter(|owner| owner.name() == "/b/x").map(|owner| owner.key()).collect();
        assert_eq!(of_pins.len(), 1, "owners of the same kind and name are one");
        assert_eq!(holders.btfs.len(), 1);
        assert!(holders.programs.is_empty(), "no table of programs was read");
    }

    #[test]
    fn a_process_that_keeps_changing_its_name_stays_one_owner() {
        let (names, mut cache) = (NameCache::default(), HolderCache::default());
        let mut seen = |name: &str, executable: &str| {
            let process = Process {
                pid: 7,
                started_at_boot_ns: 1,
                name: name.to_owned(),
                executable_name: Some(executable.to_owned()),
            };
            cache.start_reading(&names);
            let owner = cache.process(&files(name, Vec::new()), &names, || (process, Some("/".into())));
            cache.end_reading();
            owner.name().to_owned()
        };
        let called: Vec<_> = (0..20).map(|number| seen(&format!("worker-{number}"), "worker")).collect();
        assert_eq!(called[..5], ["worker-0", "worker-1", "worker-2", "worker-3", "worker-4"]);
        assert!(called[5..].iter().all(|name| name == "worker-4"), "{called:?}");
        assert_eq!(seen("other", "other"), "other", "it executes another program");
    }
}
