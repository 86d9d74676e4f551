//! Ownership of BPF objects: holders, pins, and the identity of owners.
//! Entry points: [`Identity`], and [`Owner`], an identity with its label values.

use std::borrow::Cow;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hash::hash;
use super::kind::Kind;

/// Kind of owner, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// A Kubernetes pod.
    Pod,
    /// A container outside of a pod.
    Container,
    /// A systemd unit.
    Unit,
    /// A process outside of these.
    Process,
    /// A directory of pins, if no other owner is known.
    Pin,
    /// The kernel: no other owner is known.
    Kernel,
}

impl OwnerKind {
    /// Every kind, in order of precedence.
    pub const ALL: [Self; 6] =
        [Self::Pod, Self::Container, Self::Unit, Self::Process, Self::Pin, Self::Kernel];

    /// Returns the word used in labels and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Unit => "unit",
            Self::Process => "process",
            Self::Pin => "pin",
            Self::Kernel => "kernel",
        }
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Source: `task_struct.tgid`.
    pub pid: u32,
    /// When it was started, in nanoseconds since boot: with the pid, its identity. Source: `task_struct.start_boottime` of its
    /// first thread, rounded to the clock tick of `/proc` (10 ms).
    pub started_at_boot_ns: u64,
    /// The name of its first thread, 15 characters at most. Source: `task_struct.comm`.
    pub name: String,
    /// File name of its executable. `None` if that may not be read.
    pub executable_name: Option<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Its id in the runtime.
    pub id: String,
    /// The runtime: `docker`, `containerd`, `cri-o`, `podman`. `None` if the path of the cgroup does not contain it.
    pub runtime: Option<Cow<'static, str>>,
    /// Human-readable name; `None` until looked up.
    pub name: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// Its part in the paths of its cgroups: its uid, or the hash of its configuration for a static pod.
    pub key: String,
    /// UID assigned by the API server; `None` for a static pod, whose key is a hash.
    pub uid: Option<String>,
    /// `None` until looked up.
    pub namespace: Option<String>,
    /// `None` until looked up.
    pub name: Option<String>,
}

/// How the container or pod of a process or cgroup was identified: any process may create cgroups with any name below its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentifiedBy {
    /// By the outermost container on the path of the cgroup: only the host creates cgroups there.
    Path,
    /// By a container inside of that one, which the node's log directory or its container runtime confirms.
    Confirmed,
    /// By a container below a unit whose processes may create cgroups, such as a user's service manager: its name is the word of
    /// that unit.
    Delegated,
}

impl IdentifiedBy {
    /// Returns the word used in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Confirmed => "confirmed",
            Self::Delegated => "delegated",
        }
    }
}

/// Several owners of one kind and name, of which nothing else is the same: processes, or containers of two runtimes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnerGroup {
    /// Kind of each.
    pub kind: OwnerKind,
    /// Name of each; for processes [`Process::name`].
    pub name: String,
}

/// Identity of a holder or owner, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The process.
    pub process: Option<Process>,
    /// The container it is in.
    pub container: Option<Container>,
    /// The pod it is in.
    pub pod: Option<Pod>,
    /// How container and pod were identified. `None` without them, and for several owners that differ in it.
    pub identified_by: Option<IdentifiedBy>,
    /// The systemd unit it is in: `cilium.service`, or with its manager `user@1000.service/app.service`. Of a container, the unit
    /// below which it was created, if that may create any: `user@1000.service`.
    pub unit: Option<String>,
    /// A directory of pins.
    pub pin: Option<String>,
    /// Of a directory of pins as a holder, [`Pin::bpffs`]: directories of several mount namespaces can have the same path.
    pub bpffs: Option<Arc<str>>,
    /// What several owners have in common.
    pub group: Option<OwnerGroup>,
}

impl Identity {
    /// Returns the kind of owner.
    #[must_use]
    pub const fn kind(&self) -> OwnerKind {
        match self {
            Self { group: Some(group), .. } => group.kind,
            Self { pod: Some(_), .. } => OwnerKind::Pod,
            Self { container: Some(_), .. } => OwnerKind::Container,
            Self { unit: Some(_), .. } => OwnerKind::Unit,
            Self { process: Some(_), .. } => OwnerKind::Process,
            Self { pin: Some(_), .. } => OwnerKind::Pin,
            _ => OwnerKind::Kernel,
        }
    }

    /// Returns its human-readable name: `namespace/name` of a pod; the name of a container, after its unit if it is
    /// [`IdentifiedBy::Delegated`]; the ids of both until their names are looked up; a unit; the name of a process; the path of
    /// pins; `kernel`.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some(group) = &self.group {
            group.name.clone()
        } else if let Some(Pod { key, namespace, name, .. }) = &self.pod {
            match (namespace, name) {
                (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
                _ => key.clone(),
            }
        } else if let Some(Container { id, name, .. }) = &self.container {
            let name = name.as_deref().unwrap_or_else(|| short(id));
            self.unit.as_ref().map_or_else(|| name.to_owned(), |unit| format!("{unit}/{name}"))
        } else if let Some(unit) = &self.unit {
            unit.clone()
        } else if let Some(Process { name, .. }) = &self.process {
            name.clone()
        } else if let Some(pin) = &self.pin {
            pin.clone()
        } else {
            "kernel".to_owned()
        }
    }

    /// Returns the owner it belongs to: of a process in a container of a pod, only the pod; of a process in none, all processes of
    /// its name; of a directory of pins, all of its path.
    #[must_use]
    pub fn top_level(&self) -> Self {
        let Self { pod, container, identified_by, unit, pin, .. } = self.clone();
        match self.kind() {
            OwnerKind::Pod => Self { pod, identified_by, ..Self::default() },
            OwnerKind::Container => Self { container, identified_by, unit, ..Self::default() },
            OwnerKind::Unit => Self { unit, ..Self::default() },
            OwnerKind::Process => Self::processes(self.name()),
            OwnerKind::Pin => Self { pin, ..Self::default() },
            OwnerKind::Kernel => Self::default(),
        }
    }

    /// Returns the owner that is all processes of this name outside of units.
    #[must_use]
    pub fn processes(name: String) -> Self {
        Self { group: Some(OwnerGroup { kind: OwnerKind::Process, name }), ..Self::default() }
    }

    /// Returns what it has in common with another owner of the same kind and name.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        fn same<T: Clone + PartialEq>(one: Option<&T>, other: Option<&T>) -> Option<T> {
            one.filter(|_| one == other).cloned()
        }
        let mut common = Self {
            process: None,
            container: same(self.container.as_ref(), other.container.as_ref()),
            pod: None,
            identified_by: same(self.identified_by.as_ref(), other.identified_by.as_ref()),
            unit: same(self.unit.as_ref(), other.unit.as_ref()),
            pin: same(self.pin.as_ref(), other.pin.as_ref()),
            bpffs: same(self.bpffs.as_ref(), other.bpffs.as_ref()),
            group: same(self.group.as_ref(), other.group.as_ref()),
        };
        if let (Some(one), Some(other)) = (&self.pod, &other.pod) {
            let (uid, key) =
                (same(one.uid.as_ref(), other.uid.as_ref()), std::cmp::min(&one.key, &other.key).clone());
            common.pod = Some(Pod { key, uid, ..one.clone() });
        }
        if common.kind() != self.kind() || common.name() != self.name() {
            common.group = Some(OwnerGroup { kind: self.kind(), name: self.name() });
        }
        common
    }

    /// Returns a number that identifies it: a process by its pid and start, also if its names change; a directory of pins in
    /// another mount namespace also by its bpffs; everything else, and owners in particular, by kind and name.
    fn key(&self, name: &str) -> u64 {
        match (&self.process, &self.bpffs) {
            (Some(process), _) => hash((process.pid, process.started_at_boot_ns)),
            (None, Some(bpffs)) => hash((self.kind(), name, bpffs)),
            (None, None) => hash((self.kind(), name)),
        }
    }
}

/// Returns the first characters of an id, as runtimes show it.
fn short(id: &str) -> &str {
    id.get(..12).filter(|_| id.len() == 64).unwrap_or(id)
}

/// A holder or owner of BPF objects, with its label values. Shared by all its objects.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Identity", into = "Identity")]
pub struct Owner {
    identity: Identity,
    name: String,
    key: u64,
    revision: u64,
    awaits_name: bool,
}

impl Owner {
    /// Returns an owner whose name is being looked up: nothing belongs to it yet.
    #[must_use]
    pub fn awaiting_name(identity: Identity) -> Self {
        let owner = Self::from(identity);
        Self { revision: !owner.revision, awaits_name: true, ..owner }
    }

    /// Returns whether its name is still being looked up. A name that is found later would make its series two.
    #[must_use]
    pub const fn awaits_name(&self) -> bool {
        self.awaits_name
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a number that identifies it: a process by its pid and start, a directory of pins by its path and bpffs, an owner by
    /// its kind and name.
    #[must_use]
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// Returns a number that changes whenever anything about it changes.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }
}

impl Deref for Owner {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

impl From<Identity> for Owner {
    fn from(identity: Identity) -> Self {
        let name = identity.name();
        Self { key: identity.key(&name), name, revision: hash(&identity), awaits_name: false, identity }
    }
}

impl From<Owner> for Identity {
    fn from(owner: Owner) -> Self {
        owner.identity
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity && self.awaits_name == other.awaits_name
    }
}

impl Eq for Owner {}

/// How an object is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldBy {
    /// By a process with a descriptor of it.
    Process,
    /// By a pin in a bpffs.
    Pin,
    /// By the memory cgroup charged for it, that of its creator: it may not keep the object alive any more.
    Creator,
}

impl HeldBy {
    /// Returns the word used in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Pin => "pin",
            Self::Creator => "creator",
        }
    }

    /// Returns whether this keeps the object alive: being charged for it does not.
    #[must_use]
    pub const fn keeps(self) -> bool {
        matches!(self, Self::Process | Self::Pin)
    }
}

/// An object and one of its holders. A process with several descriptors of it is one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The object.
    pub id: u32,
    /// How it is held.
    pub held_by: HeldBy,
    /// The holder.
    pub owner: Arc<Owner>,
}

/// Holders by kind of object, in ascending order of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holders {
    /// Of programs.
    pub programs: Vec<Holder>,
    /// Of maps.
    pub maps: Vec<Holder>,
    /// Of links.
    pub links: Vec<Holder>,
    /// Of BTF objects.
    pub btfs: Vec<Holder>,
}

impl Holders {
    /// Returns the holders of a kind of object.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> &Vec<Holder> {
        match kind {
            Kind::Program => &self.programs,
            Kind::Map => &self.maps,
            Kind::Link => &self.links,
            Kind::Btf => &self.btfs,
        }
    }

    /// Returns the holders of a kind of object.
    pub const fn of_mut(&mut self, kind: Kind) -> &mut Vec<Holder> {
        match kind {
            Kind::Program => &mut self.programs,
            Kind::Map => &mut self.maps,
            Kind::Link => &mut self.links,
            Kind::Btf => &mut self.btfs,
        }
    }
}

/// A pin: an object with a path in a bpffs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin {
    /// Kind of the pinned object.
    pub kind: Kind,
    /// Id of the pinned object.
    pub id: u32,
    /// Path of the pin, in our mount namespace or in that of [`Self::bpffs`].
    pub path: Arc<str>,
    /// The first directory below the mount that contains it, usually that of its loader; the path itself if there is none.
    pub directory: Arc<str>,
    /// The device number of the file system as `0:45`, if the path is one of another mount namespace: the same path may lead to
    /// another file system in each of them. Source: `super_block.s_dev`.
    pub bpffs: Option<Arc<str>>,
}

/// A process and the objects it has descriptors of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFiles {
    /// Its id in the initial pid namespace, whatever namespace the exporter is in. Source: `task_struct.tgid`. If it was found
    /// in `/proc`, its id there.
    pub pid: u32,
    /// When it was started, in nanoseconds since boot, rounded to the tick of `/proc`. Source: `task_struct.start_boottime` of its first
    /// thread.
    pub started_at_boot_ns: u64,
    /// The name of its first thread. Source: `task_struct.comm`.
    pub name: String,
    /// The file name of its executable. Source: `mm_struct.exe_file`. `None` if it was not read; then `/proc/PID/exe` has it.
    pub executable: Option<String>,
    /// Id of its cgroup in the hierarchy that accounts memory. `None` if that could not be read.
    pub cgroup: Option<u64>,
    /// The objects, each once, ascending.
    pub objects: Vec<(Kind, u32)>,
}
