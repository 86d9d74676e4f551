//! How a reading went: its parts, their durations, what they could not read, and run statistics.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// Part of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The table of programs.
    Program,
    /// The table of maps.
    Map,
    /// The table of links.
    Link,
    /// The table of BTF objects.
    Btf,
    /// Open files and names of processes.
    Holder,
    /// The mounted bpffs.
    Pin,
    /// Paths of cgroups.
    Cgroup,
    /// Attachments.
    Hook,
    /// Loads and unloads of programs.
    Event,
    /// Settings of the kernel, and the memory of machine code.
    Host,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 10] = [
        Self::Program,
        Self::Map,
        Self::Link,
        Self::Btf,
        Self::Holder,
        Self::Pin,
        Self::Cgroup,
        Self::Hook,
        Self::Event,
        Self::Host,
    ];

    /// Returns the word used in labels and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Program => Kind::Program.as_str(),
            Self::Map => Kind::Map.as_str(),
            Self::Link => Kind::Link.as_str(),
            Self::Btf => Kind::Btf.as_str(),
            Self::Holder => "holder",
            Self::Pin => "pin",
            Self::Cgroup => "cgroup",
            Self::Hook => "hook",
            Self::Event => "event",
            Self::Host => "host",
        }
    }
}

impl From<Kind> for Part {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Program => Self::Program,
            Kind::Map => Self::Map,
            Kind::Link => Self::Link,
            Kind::Btf => Self::Btf,
        }
    }
}

/// How the kernel's tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReaderKind {
    /// By a BPF iterator: a few reads for a whole table.
    Iter,
    /// By id: a few system calls per object.
    Walk,
}

impl ReaderKind {
    /// Returns the word used in labels, flags and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iter => "iter",
            Self::Walk => "walk",
        }
    }
}

/// How one part of a reading went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collector {
    /// The part.
    #[serde(rename = "kind")]
    pub part: Part,
    /// How it was read. `None` where there is only one way.
    pub reader: Option<ReaderKind>,
    /// How long it took.
    pub duration: Duration,
    /// How long before this reading it began; 0 for what is part of every reading.
    #[serde(default)]
    pub age: Duration,
    /// Whether it read everything that the granted rights and the view allow.
    pub success: bool,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// The part of the reading in which it occurred.
    #[serde(rename = "kind")]
    pub part: Part,
    /// The failed call, by the kernel's name.
    pub call: Cow<'static, str>,
    /// The error, by its symbol: `EPERM`.
    pub error: Cow<'static, str>,
    /// Occurrences in this reading.
    pub count: u64,
    /// Occurrences since the reader was started.
    pub total: u64,
}

/// Whether run statistics are on, and for how long they have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStats {
    /// Whether this exporter turns them on, all the time or in samples.
    pub by_exporter: bool,
    /// Whether the sysctl `kernel.bpf_stats_enabled` does; `None` if it could not be read.
    pub by_sysctl: Option<bool>,
    /// How long they have been on since the reader was started, up to this reading: the divisor of run times.
    pub covered: Duration,
}

impl RunStats {
    /// Returns whether they are known to be on. The kernel does not report descriptors of `BPF_ENABLE_STATS` that other
    /// processes hold.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.by_exporter || self.by_sysctl == Some(true)
    }
}
