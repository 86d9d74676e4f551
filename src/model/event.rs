//! Events: what happened to BPF objects, when, and by whom. Entry point: [`Event`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attachment::Target;
use super::kind::Kind;
use super::object::Tag;
use super::owner::Owner;
use super::time::BootTime;

/// Something that happened to a BPF object of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in the order in which this exporter published them, from 1; 0 until it is published.
    pub number: u64,
    /// What happened.
    pub kind: EventKind,
    /// When it happened; of an event with [`EventSource::Comparison`] the reading that found it.
    #[serde(rename = "at_boot_ns")]
    pub at: BootTime,
    /// For an event with [`EventSource::Comparison`] the reading before: it happened after that one.
    #[serde(rename = "after_boot_ns", skip_serializing_if = "Option::is_none")]
    pub after: Option<BootTime>,
    /// When the exporter saw it.
    #[serde(rename = "observed_at_boot_ns")]
    pub observed_at: BootTime,
    /// How it was seen.
    pub source: EventSource,
    /// The object.
    pub subject: Subject,
    /// Who did it. `None` if unknown.
    pub actor: Option<Actor>,
    /// The owner of the object. `None` if not determined.
    pub owner: Option<Arc<Owner>>,
}

impl Event {
    /// Returns an event that is not published yet: what happened, when, and when that was seen. Actor and owner are not known.
    #[must_use]
    pub fn new(
        kind: EventKind,
        source: EventSource,
        (at, observed_at): (BootTime, BootTime),
        subject: Subject,
    ) -> Self {
        Self { number: 0, kind, at, after: None, observed_at, source, subject, actor: None, owner: None }
    }
}

/// The object of an event, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Its kind and id. `None` for an attachment of an unknown program.
    pub kind: Option<Kind>,
    /// See [`Self::kind`].
    pub id: Option<u32>,
    /// Its name. `None` for links, and if nothing reported it before the object was gone.
    pub name: Option<String>,
    /// Its type, as the kernel's tools spell it. `None` if the object was gone before it could be queried.
    #[serde(rename = "type")]
    pub object_type: Option<String>,
    /// Of a program.
    pub tag: Option<Tag>,
    /// When it was loaded or created, if known.
    #[serde(rename = "since_boot_ns")]
    pub since: Option<BootTime>,
    /// Of a link or attachment: the program.
    pub prog_id: Option<u32>,
    /// Of an attachment: its hook, as the kernel's tools spell it.
    pub hook: Option<String>,
    /// Of a link or attachment: what it is attached to.
    pub target: Option<Target>,
    /// Of a pin: its path.
    pub path: Option<Arc<str>>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A program was loaded.
    #[serde(rename = "bpf.program.load")]
    ProgramLoad,
    /// A program was unloaded.
    #[serde(rename = "bpf.program.unload")]
    ProgramUnload,
    /// A program that is not in the baseline was found.
    #[serde(rename = "bpf.program.unexpected")]
    ProgramUnexpected,
    /// A map was created.
    #[serde(rename = "bpf.map.create")]
    MapCreate,
    /// A map was destroyed.
    #[serde(rename = "bpf.map.destroy")]
    MapDestroy,
    /// A link was created.
    #[serde(rename = "bpf.link.attach")]
    LinkAttach,
    /// A link was detached or destroyed.
    #[serde(rename = "bpf.link.detach")]
    LinkDetach,
    /// A program was attached to a hook without a link.
    #[serde(rename = "bpf.hook.attach")]
    HookAttach,
    /// A program without a link was detached from a hook.
    #[serde(rename = "bpf.hook.detach")]
    HookDetach,
    /// An object was pinned.
    #[serde(rename = "bpf.pin.create")]
    PinCreate,
    /// A pin was removed.
    #[serde(rename = "bpf.pin.remove")]
    PinRemove,
    /// The last holder of an object ended, and it stays loaded: a leak.
    #[serde(rename = "bpf.object.orphan")]
    ObjectOrphan,
}

impl EventKind {
    /// Every kind, in order.
    pub const ALL: [Self; 12] = [
        Self::ProgramLoad,
        Self::ProgramUnload,
        Self::ProgramUnexpected,
        Self::MapCreate,
        Self::MapDestroy,
        Self::LinkAttach,
        Self::LinkDetach,
        Self::HookAttach,
        Self::HookDetach,
        Self::PinCreate,
        Self::PinRemove,
        Self::ObjectOrphan,
    ];

    /// Returns its name, which is the `event_name` of its log record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProgramLoad => "bpf.program.load",
            Self::ProgramUnload => "bpf.program.unload",
            Self::ProgramUnexpected => "bpf.program.unexpected",
            Self::MapCreate => "bpf.map.create",
            Self::MapDestroy => "bpf.map.destroy",
            Self::LinkAttach => "bpf.link.attach",
            Self::LinkDetach => "bpf.link.detach",
            Self::HookAttach => "bpf.hook.attach",
            Self::HookDetach => "bpf.hook.detach",
            Self::PinCreate => "bpf.pin.create",
            Self::PinRemove => "bpf.pin.remove",
            Self::ObjectOrphan => "bpf.object.orphan",
        }
    }

    /// Returns whether somebody should look at it: the severity of its log record is `WARN` instead of `INFO`.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::ProgramUnexpected | Self::ObjectOrphan)
    }

    /// Returns the severity of its log record, as OpenTelemetry spells it.
    #[must_use]
    pub const fn severity(self) -> &'static str {
        if self.is_warning() { "WARN" } else { "INFO" }
    }
}

/// How an event was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventSource {
    /// The kernel reported it when it happened. Source: `PERF_RECORD_BPF_EVENT`.
    Kernel,
    /// Two readings differ.
    Comparison,
}

impl EventSource {
    /// Returns the word used in attributes and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Comparison => "comparison",
        }
    }
}

/// Who did something: a thread of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Actor {
    /// Source: `task_struct.tgid`, in the exporter's pid namespace. `None` if the process is not visible there.
    pub pid: Option<u32>,
    /// Source: `task_struct.pid`, in the exporter's pid namespace.
    pub thread: Option<u32>,
    /// The process that started it.
    pub parent: Option<u32>,
    /// Path of its executable.
    pub executable: Option<String>,
    /// The process with its container, pod and unit. `None` if nothing is known but the pid.
    pub identity: Option<Arc<Owner>>,
    /// How [`Self::identity`] is known.
    pub known_by: ActorSource,
}

impl Actor {
    /// Returns the file name of its executable.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.executable.as_deref()?.rsplit('/').next()
    }
}

/// How the identity of an actor is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorSource {
    /// The process existed when it was looked up.
    Process,
    /// The process had ended; it was seen before.
    Memory,
    /// By nothing.
    Unknown,
}

impl ActorSource {
    /// Returns the word used in attributes and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Memory => "memory",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_those_of_log_records() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).expect("it is a word"), kind.as_str());
        }
    }
}
