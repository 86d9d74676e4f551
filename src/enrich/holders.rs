//! Holders of objects: processes, pins, and the cgroups charged for maps, each with its identity.
//! Entry points: [`HolderCache::process`] and [`collect`]. Independent of how holders are found.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::cgroup::{CgroupIdentity, is_uid};
use super::names::{Known, NameCache};
use crate::ascending::Ascending;
use crate::model::{
    Container, HeldBy, Holder, Holders, IdentifiedBy, Identity, Kind, Owner, OwnerKind, Pin, Pod, Process,
    ProcessFiles, Snapshot,
};

/// How often a process may change its name without executing another program, each time becoming another owner. Some put a number
/// or their state in it.
const MOST_RENAMES: u8 = 4;

/// Holders of the last reading; shared by all objects that they hold.
#[derive(Debug, Default)]
pub(super) struct HolderCache {
    processes: HashMap<(u32, u64), CachedProcess>,
    cgroups: HashMap<u64, CachedHolder<Arc<str>>>,
    pins: HashMap<Arc<str>, CachedHolder<()>>,
    /// Revision of the names in their identities.
    revision: u64,
}

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
        if !is_same { 0 } else { self.renames.saturating_add(u8::from(self.holder.seen_as != now.name)) }
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
    /// Starts a reading: makes all identities anew if names have changed.
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
    fn pins(&mut self, directory: &Arc<str>) -> Arc<Owner> {
        let cached = self.pins.entry(Arc::clone(directory)).or_insert_with(|| {
            let identity = Identity { pin: Some(directory.to_string()), ..Identity::default() };
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

/// Returns a process or creator in a cgroup as a holder.
fn identity(mut cgroup: CgroupIdentity, process: Option<Process>, names: &NameCache) -> Owner {
    if cgroup.identified_by == Some(IdentifiedBy::Path) {
        learn_source(&cgroup, names);
    }
    let mut inside = cgroup.nested.take();
    while let Some(mut nested) = inside {
        inside = nested.nested.take();
        if is_confirmed(&nested, names) {
            cgroup = CgroupIdentity { identified_by: Some(IdentifiedBy::Confirmed), ..*nested };
            break;
        }
    }
    // Who can make up ids could have none of its objects reported with an owner, by a new one every few seconds.
    let waits = cgroup.identified_by != Some(IdentifiedBy::Delegated);
    let found = cgroup.container.as_deref().map(|id| names.query_container(id));
    let mut is_awaited = waits && found.as_ref().is_some_and(Known::is_awaited);
    let (container_name, pod_of_container) =
        found.and_then(Known::name).map(|found| (found.name, found.pod)).unwrap_or_default();
    // The unit may have named a container of another one.
    let pod_of_container = pod_of_container.filter(|_| cgroup.identified_by != Some(IdentifiedBy::Delegated));
    let container = cgroup.container.map(|id| Container {
        id,
        runtime: cgroup.runtime.map(Cow::into_owned).map(Cow::Owned),
        name: container_name,
    });
    let pod = cgroup.pod.or(pod_of_container).map(|key| {
        let found = names.query_pod(&key);
        is_awaited |= found.is_awaited();
        let (namespace, name) = found.name().map(|found| (found.namespace, found.name)).unzip();
        Pod { uid: is_uid(&key).then(|| key.clone()), key, namespace, name }
    });
    let (identified_by, unit) = (cgroup.identified_by, cgroup.unit);
    let identity = Identity { process, container, pod, identified_by, unit, ..Identity::default() };
    if is_awaited { Owner::awaiting_name(identity) } else { Owner::from(identity) }
}

/// Records which source names this outermost container or pod.
fn learn_source(outermost: &CgroupIdentity, names: &NameCache) {
    let container = outermost.container.as_deref().map(|id| names.query_container(id));
    let pod = outermost.pod.as_deref().map(|key| names.query_pod(key));
    let of_container = container.and_then(|known| known.source());
    for source in of_container.into_iter().chain(pod.and_then(|known| known.source())) {
        names.saw_outermost(source);
    }
}

/// Returns whether the node confirms a container or pod inside of a container: a process in it may have created a cgroup of any name.
///
/// It is confirmed by a source that has it, in the same pod, and that has no container or pod which is in no other: the runtime of
/// the outer container knows none inside of it, whatever the ids say.
fn is_confirmed(nested: &CgroupIdentity, names: &NameCache) -> bool {
    let source = match (&nested.container, &nested.pod) {
        (Some(id), pod) => match names.query_container(id) {
            Known::Name(name, source) if pod.is_none() || name.pod == *pod => Some(source),
            _ => None,
        },
        (None, Some(key)) => names.query_pod(key).source(),
        (None, None) => None,
    };
    source.is_some_and(|source| names.may_be_nested(source))
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
    for Pin { kind, id, directory, .. } in snapshot.pins.iter().flatten() {
        let owner = cache.pins(directory);
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
    use super::*;
    use crate::enrich::names::{ContainerName, NameSourceId, PodName};
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
    fn static_pods_have_no_uid() {
        const HASH: &str = "36b6d6be73b1065af369b3985edafa09";
        const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";
        const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let names = NameCache::default();
        let uid = |path: &str| {
            let holder = identity(CgroupIdentity::of(path), None, &names);
            let pod = holder.pod.as_ref().expect("it is in a pod");
            (pod.key.clone(), pod.uid.clone())
        };
        assert_eq!(uid(&format!("/kubepods/pod{UID}/{CONTAINER}")), (UID.to_owned(), Some(UID.to_owned())));
        assert_eq!(uid(&format!("/kubepods/pod{HASH}/{CONTAINER}")), (HASH.to_owned(), None));
        let container = ContainerName { name: None, pod: Some(HASH.to_owned()) };
        names.set_container(CONTAINER, container, NameSourceId(0));
        assert_eq!(
            uid(&format!("/docker/{CONTAINER}")),
            (HASH.to_owned(), None),
            "its runtime reports the pod"
        );
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
        let pin = |id, path: &str, directory: &str| Pin {
            kind: Kind::Map,
            id,
            path: path.into(),
            directory: directory.into(),
        };
        let btf = Btf { id: 4, name: None, kernel: None, size: 1, first_seen: BootTime::default() };
        let snapshot = Snapshot {
            maps: Some(vec![map(2), map(3)]),
            btfs: Some(vec![Arc::new(btf)]),
            pins: Some(vec![pin(3, "/b/x/1", "/b/x"), pin(3, "/b/x/2", "/b/x"), pin(3, "/b/y", "/b/y")]),
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
        let found: Vec<_> = holders.maps.iter().map(|h| (h.id, h.held_by.as_str(), h.owner.name())).collect();
        let mut pins = [(3, "pin", "/b/x"), (3, "pin", "/b/y")];
        pins.sort_by_key(|&(.., directory)| cache.pins(&directory.into()).key());
        let expected = [(2, "creator", "u.service"), (3, "process", "agent"), pins[0], pins[1]];
        let mut sorted = found.clone();
        sorted.sort_unstable();
        let mut wanted = expected.to_vec();
        wanted.sort_unstable();
        assert_eq!(sorted, wanted);
        assert_eq!(holders.btfs.len(), 1);
        assert!(holders.programs.is_empty(), "no table of programs was read");
    }

    const OUTER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const INNER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
    const OTHER: &str = "7a1b2c3d-fdcc-454b-97bd-aadfdeb4c340";
    /// The runtime that runs the outer container, and the one inside of it.
    const HOST: NameSourceId = NameSourceId(1);
    const NODE: NameSourceId = NameSourceId(0);

    /// Returns kind and name of the owner of a process in this cgroup, and how it was identified.
    fn owner_in(path: &str, names: &NameCache) -> (OwnerKind, String, Option<IdentifiedBy>) {
        let path = path.replace("OUTER", OUTER).replace("INNER", INNER).replace("UID", UID);
        let owner = identity(CgroupIdentity::of(&path), None, names).top_level();
        (owner.kind(), owner.name(), owner.identified_by)
    }

    /// Returns a cache that was queried for everything.
    fn queried() -> NameCache {
        let names = NameCache::default();
        for id in [INNER, OUTER] {
            let _unknown = names.container(id);
        }
        for key in [UID, OTHER] {
            let _unknown = names.pod(key);
        }
        names
    }

    fn name_pod(names: &NameCache, source: NameSourceId, pod: &str, container: &str, name: &str) {
        names.set_pod(pod, PodName { namespace: "shop".to_owned(), name: name.to_owned() }, source);
        let container_name = ContainerName { name: Some("web".to_owned()), pod: Some(pod.to_owned()) };
        names.set_container(container, container_name, source);
    }

    #[test]
    fn a_nested_pod_needs_the_word_of_the_node() {
        const NESTED: [&str; 2] = [
            "/docker/OUTER/kubelet/kubepods/burstable/podUID/INNER",
            "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/\
             kubelet-kubepods-pod2fc932ce_fdcc_454b_97bd_aadfdeb4c340.slice/cri-containerd-INNER.scope",
        ];
        for path in NESTED {
            let outer = (OwnerKind::Container, OUTER[..12].to_owned(), Some(IdentifiedBy::Path));
            assert_eq!(owner_in(path, &queried()), outer, "nobody knows it");

            let names = queried();
            name_pod(&names, NODE, UID, INNER, "cart");
            let confirmed = (OwnerKind::Pod, "shop/cart".to_owned(), Some(IdentifiedBy::Confirmed));
            assert_eq!(owner_in(path, &names), confirmed);

            let names = queried();
            name_pod(&names, NODE, OTHER, INNER, "cart");
            assert_eq!(owner_in(path, &names), outer, "its container is in another pod");

            let names = queried();
            names.set_pod(UID, PodName { namespace: "shop".to_owned(), name: "cart".to_owned() }, NODE);
            assert_eq!(owner_in(path, &names), outer, "the pod exists, the container was made up");
        }
    }

    #[test]
    fn a_runtime_of_the_host_does_not_confirm_nested_containers() {
        // A pod that knows the ids of another one.
        let forged = "/kubepods/podUID/OUTER/kubepods/pod7a1b2c3d-fdcc-454b-97bd-aadfdeb4c340/INNER";
        let names = queried();
        name_pod(&names, NODE, UID, OUTER, "forger");
        name_pod(&names, NODE, OTHER, INNER, "victim");
        let forger = (OwnerKind::Pod, "shop/forger".to_owned(), Some(IdentifiedBy::Path));
        assert_eq!(owner_in(forged, &names), forger);

        // A container of Docker that does, where another runtime runs the pods.
        let forged = "/docker/OUTER/kubepods/podUID/INNER";
        let names = queried();
        let forger = ContainerName { name: Some("forger".to_owned()), pod: None };
        names.set_container(OUTER, forger, HOST);
        name_pod(&names, NODE, UID, INNER, "victim");
        let victim = owner_in("/kubepods/podUID/INNER", &names);
        assert_eq!((victim.1, victim.2), ("shop/victim".to_owned(), Some(IdentifiedBy::Path)));
        let forger = (OwnerKind::Container, "forger".to_owned(), Some(IdentifiedBy::Path));
        assert_eq!(owner_in(forged, &names), forger);
    }

    #[test]
    fn a_user_cannot_take_the_name_of_a_pod_or_container_of_the_host() {
        let names = queried();
        name_pod(&names, NODE, UID, INNER, "victim");
        let names_of_user =
            |path: &str| owner_in(&format!("/user.slice/user-1000.slice/user@1000.service/{path}"), &names);
        let own = (OwnerKind::Container, "user@1000.service/web".to_owned(), Some(IdentifiedBy::Delegated));
        for path in
            ["docker-INNER.scope", "kubepods/podUID/INNER", "app.slice/x.service/libpod-payload-INNER"]
        {
            assert_eq!(names_of_user(path), own, "{path}");
        }
        assert_eq!(names_of_user("kubepods/podUID").1, "user@1000.service");
    }

    #[test]
    fn owners_await_the_names_that_are_looked_up() {
        let names = NameCache::awaiting_lookups();
        let path = format!("/kubepods/podUID/{INNER}").replace("UID", UID);
        let holder = || identity(CgroupIdentity::of(&path), None, &names);
        assert!(holder().awaits_name());
        name_pod(&names, NODE, UID, INNER, "cart");
        assert!(!holder().awaits_name());
        assert_eq!(holder().name(), "shop/cart");
        assert!(!identity(CgroupIdentity::of("/system.slice/a.service"), None, &names).awaits_name());
        // Ids that were made up are not waited for.
        for made_up in ["/system.slice/a.service/docker/OUTER", "/kubepods/podUID/INNER/docker/OUTER"] {
            let path = made_up.replace("OUTER", OUTER).replace("INNER", INNER).replace("UID", UID);
            assert!(!identity(CgroupIdentity::of(&path), None, &names).awaits_name(), "{made_up}");
        }
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
