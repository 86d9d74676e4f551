//! Whose objects are: who holds them, where they are pinned and what they hang on, and what all of an owner's cost together.
//! Begin at [`Identity`], what is known of somebody, and [`Owner`], by which label values it goes.

use std::borrow::Cow;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Kind, Object, hash};

/// What somebody is who has BPF objects. From the first that applies to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// A pod of Kubernetes.
    Pod,
    /// A container outside of a pod.
    Container,
    /// A unit of systemd.
    Unit,
    /// A process outside of these.
    Process,
    /// A directory of pins that nobody else is known to belong to.
    Pin,
    /// Nobody but the kernel.
    Kernel,
}

impl OwnerKind {
    /// The word used in labels and messages.
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

/// A process, as far as may be known without its leave.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Source: `task_struct.tgid`.
    pub pid: u32,
    /// When it was started, in nanoseconds since boot: with the pid, its identity. Source: `task_struct.start_boottime` of its
    /// first thread, to the clock tick of `/proc` (10 ms).
    pub started_at_boot_ns: u64,
    /// The name of its first thread, 15 characters at most. Source: `task_struct.comm`.
    pub name: String,
    /// The last part of its executable's path. `None` where that may not be read.
    pub executable_name: Option<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// As its runtime calls it.
    pub id: String,
    /// Which runtime that is: `docker`, `containerd`, `cri-o`, `podman`. `None` where the cgroup's path does not tell.
    pub runtime: Option<Cow<'static, str>>,
    /// As people call it. `None` as long as nobody told it.
    pub name: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// What stands for it in the paths of its cgroups: its uid, or the hash of its configuration for a static one.
    pub key: String,
    /// UID assigned by the API server; `None` for a static pod, whose key is a hash.
    pub uid: Option<String>,
    /// `None` as long as nobody told it.
    pub namespace: Option<String>,
    /// `None` as long as nobody told it.
    pub name: Option<String>,
}

/// Somebody, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The process.
    pub process: Option<Process>,
    /// The container it is in.
    pub container: Option<Container>,
    /// The pod it is in.
    pub pod: Option<Pod>,
    /// The unit of systemd it is in: `cilium.service`, or behind its manager `user@1000.service/app.service`.
    pub unit: Option<String>,
    /// Where something is pinned.
    pub pin: Option<String>,
}

impl Identity {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> OwnerKind {
        match self {
            Self { pod: Some(_), .. } => OwnerKind::Pod,
            Self { container: Some(_), .. } => OwnerKind::Container,
            Self { unit: Some(_), .. } => OwnerKind::Unit,
            Self { process: Some(_), .. } => OwnerKind::Process,
            Self { pin: Some(_), .. } => OwnerKind::Pin,
            _ => OwnerKind::Kernel,
        }
    }

    /// What people call it: `namespace/name` of a pod, the name of a container, and their ids as long as those are not known;
    /// a unit; the name of a process; the path of pins; `kernel`.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some(Pod { key, namespace, name, .. }) = &self.pod {
            match (namespace, name) {
                (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
                _ => key.clone(),
            }
        } else if let Some(Container { id, name, .. }) = &self.container {
            name.clone().unwrap_or_else(|| short(id).to_owned())
        } else if let Some(unit) = &self.unit {
            unit.clone()
        } else if let Some(Process { name, executable_name, .. }) = &self.process {
            executable_name.as_ref().unwrap_or(name).clone()
        } else if let Some(pin) = &self.pin {
            pin.clone()
        } else {
            "kernel".to_owned()
        }
    }

    /// The owner that it belongs to, without what tells its parts from one another: the pod without the container and the process.
    #[must_use]
    pub fn whole(&self) -> Self {
        match self.kind() {
            OwnerKind::Pod => Self { pod: self.pod.clone(), ..Self::default() },
            OwnerKind::Container => Self { container: self.container.clone(), ..Self::default() },
            OwnerKind::Unit => Self { unit: self.unit.clone(), ..Self::default() },
            OwnerKind::Process => Self { process: self.process.clone(), ..Self::default() },
            OwnerKind::Pin => Self { pin: self.pin.clone(), ..Self::default() },
            OwnerKind::Kernel => Self::default(),
        }
    }

    /// What stays the same whatever becomes known of its names.
    fn key(&self) -> u64 {
        hash((
            self.process.as_ref().map(|process| (process.pid, process.started_at_boot_ns)),
            self.container.as_ref().map(|container| &container.id),
            self.pod.as_ref().map(|pod| &pod.key),
            &self.unit,
            &self.pin,
        ))
    }
}

/// The first characters of an id, as runtimes show it.
fn short(id: &str) -> &str {
    id.get(..12).filter(|_| id.len() == 64).unwrap_or(id)
}

/// Somebody who has BPF objects, and by what it is told from others. Shared by all that it has.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Identity", into = "Identity")]
pub struct Owner {
    identity: Identity,
    name: String,
    key: u64,
    revision: u64,
}

impl Owner {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A number that it has for good, whatever becomes known of its names.
    #[must_use]
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// Another number whenever something else is known of it.
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
        Self { name: identity.name(), key: identity.key(), revision: hash(&identity), identity }
    }
}

impl From<Owner> for Identity {
    fn from(owner: Owner) -> Self {
        owner.identity
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Owner {}

/// How an object is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldBy {
    /// By a process that has a descriptor of it.
    Process,
    /// By a pin in a bpffs.
    Pin,
    /// By the memory cgroup that pays for it, its creator's: it may hold nothing any more.
    Creator,
}

impl HeldBy {
    /// The word used in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Pin => "pin",
            Self::Creator => "creator",
        }
    }

    /// Whether this keeps the object: to have paid for it does not.
    #[must_use]
    pub const fn keeps(self) -> bool {
        matches!(self, Self::Process | Self::Pin)
    }
}

/// An object, and one who holds it. A process that has several descriptors of it holds it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The object.
    pub id: u32,
    /// How it is held.
    pub held_by: HeldBy,
    /// By whom.
    pub owner: Arc<Owner>,
}

/// Who holds what, by the kind of object, in ascending order of ids.
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
    /// Those of the objects of a kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> &Vec<Holder> {
        match kind {
            Kind::Program => &self.programs,
            Kind::Map => &self.maps,
            Kind::Link => &self.links,
            Kind::Btf => &self.btfs,
        }
    }

    /// Those of the objects of a kind, to add some.
    pub const fn of_mut(&mut self, kind: Kind) -> &mut Vec<Holder> {
        match kind {
            Kind::Program => &mut self.programs,
            Kind::Map => &mut self.maps,
            Kind::Link => &mut self.links,
            Kind::Btf => &mut self.btfs,
        }
    }
}

/// An object in a bpffs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin {
    /// What is pinned.
    pub kind: Kind,
    /// Its id.
    pub id: u32,
    /// Where.
    pub path: Arc<str>,
    /// The first directory below the mount in which it is, or the path itself where it is in none: what loaders have for
    /// themselves.
    pub directory: Arc<str>,
}

/// A program where the kernel runs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hook {
    /// The hook, as the kernel's tools spell it: `tcx_ingress`, `tc_egress`, `xdp`, `cgroup_inet4_connect`, `kprobe`.
    pub hook: Cow<'static, str>,
    /// What it is attached to: see [`LinkFacts::target`](super::LinkFacts::target). `None` where there is no target.
    pub target: Option<Arc<str>>,
    /// The network namespace of that target: its name in `/run/netns` and its number, `blue (4026532208)`, or the number only.
    /// `None` where the target is in none.
    pub netns: Option<Arc<str>>,
    /// Which one of those at the same hook and target runs it, from 0: programs run in this order.
    pub position: u32,
    /// The program. `None` for a `struct_ops` map, which has several.
    pub prog_id: Option<u32>,
    /// The link that keeps it there. `None` for the older attachments that have none.
    pub link_id: Option<u32>,
    /// The map that is attached, for `struct_ops`.
    pub map_id: Option<u32>,
}

impl Hook {
    /// Returns the object that is attached: the program, else the map, else the link; the program of id 0, which no object has,
    /// where none is known.
    #[must_use]
    pub fn object(&self) -> Object {
        let object = |kind| move |id| Object { kind, id };
        let program = self.prog_id.map(object(Kind::Program));
        let map = || self.map_id.map(object(Kind::Map));
        let link = || self.link_id.map(object(Kind::Link));
        program.or_else(map).or_else(link).unwrap_or(Object { kind: Kind::Program, id: 0 })
    }
}

/// An object that holds another in itself: a `prog_array` a program, a map of maps a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    /// The map.
    pub map_id: u32,
    /// The kind of what is in it.
    pub kind: Kind,
    /// Its id.
    pub id: u32,
}

/// What a look at the hooks found. It is taken less often than a reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentScan {
    /// When it began.
    pub taken_at: Timestamp,
    /// What hangs where, by hook, namespace, target and position.
    pub hooks: Vec<Hook>,
    /// Which maps hold others, where it is in doubt who does.
    pub contents: Vec<Content>,
    /// Each hook and target that had a program, with what became of it.
    pub attach_points: Vec<AttachPointStatus>,
    /// The numbers of the types of program that can hang where nobody could be asked.
    pub unqueryable: Vec<u32>,
    /// Whether links were seen, and all maps were looked into that can hold an object of which nobody else is known to.
    pub complete: bool,
}

/// A hook and target at which programs hang, or hung at an earlier look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPointStatus {
    /// See [`Hook::hook`].
    pub hook: Cow<'static, str>,
    /// See [`Hook::target`].
    pub target: Option<Arc<str>>,
    /// See [`Hook::netns`].
    pub netns: Option<Arc<str>>,
    /// How many programs hang there.
    pub programs: u64,
    /// How many were gone at a look that had been there at the one before, replaced ones included.
    pub detached: u64,
    /// The first look that saw it.
    pub since: Timestamp,
}

/// What all objects of an owner are and cost together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnerTotal {
    /// Whose.
    pub owner: Arc<Owner>,
    /// Since when it has been known: the birth of its run time.
    pub since: Timestamp,
    /// How many programs. `None` when they could not be read.
    pub programs: Option<u64>,
    /// How many maps. `None` when they could not be read.
    pub maps: Option<u64>,
    /// How many links. `None` when they could not be read.
    pub links: Option<u64>,
    /// Memory charged for programs and maps, in bytes. `None` when that of none is known.
    pub mem: Option<u64>,
    /// The run time of all its programs since then, also of those that are gone. `None` while statistics are off.
    pub run_time: Option<Duration>,
}

/// What all objects of a kind are and cost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindTotal {
    /// The kind.
    pub kind: Kind,
    /// How many there are.
    pub objects: usize,
    /// How many of them no process, pin, link or hook holds, directly or through another. `None` as long as not everybody was
    /// asked who could hold one.
    pub orphaned: Option<usize>,
    /// Memory charged for them, in bytes. `None` for links and BTF objects, and when that of none is known.
    pub mem: Option<u64>,
    /// The birth of the run time: the load of the first program that was seen, or when the reader was started.
    pub since: Timestamp,
    /// The run time of all programs since then, also of those that are gone. `None` for other kinds, and while statistics are
    /// off.
    pub run_time: Option<Duration>,
}

/// A process and the objects of which it has descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFiles {
    /// Its id in the initial pid namespace, whatever namespace we are in. Source: `task_struct.tgid`. Where it was found in
    /// `/proc`, its id there.
    pub pid: u32,
    /// When it was started, in nanoseconds since boot, to the tick of `/proc`. Source: `task_struct.start_boottime` of its first
    /// thread.
    pub started_at_boot_ns: u64,
    /// The name of its first thread. Source: `task_struct.comm`.
    pub name: String,
    /// Its cgroup in the hierarchy that accounts memory. `None` where that could not be read.
    pub cgroup: Option<u64>,
    /// The objects, each once, in order.
    pub objects: Vec<(Kind, u32)>,
}
