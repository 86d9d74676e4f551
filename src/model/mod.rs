//! What one reading of a host's BPF objects found: plain values that can be written down and read back.
//! Knows no system call, no metric and no protocol. Begin at [`Snapshot`].

pub mod enums;
mod owner;

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::enums::map_type;
pub use self::owner::{
    AttachPointStatus, AttachmentScan, Container, Content, HeldBy, Holder, Holders, Hook, Identity,
    KindTotal, Owner, OwnerKind, OwnerTotal, Pin, Pod, Process, ProcessFiles,
};

/// One reading: every BPF object of the host at one moment, and what could not be read.
///
/// A table is `None` when the kernel refused it or does not know it, which is not the same as an empty one.
/// Objects are in ascending order of their ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the reading began.
    pub taken_at: Timestamp,
    /// When the reader that took it was started: the birth of the counters in [`Snapshot::issues`].
    pub reader_started_at: Timestamp,
    /// Every loaded program.
    pub programs: Option<Vec<Program>>,
    /// Every map.
    pub maps: Option<Vec<Map>>,
    /// Every link. The kernel has them since 5.8.
    pub links: Option<Vec<Link>>,
    /// Every BTF object.
    pub btfs: Option<Vec<Arc<Btf>>>,
    /// Who holds which of them. `None` when it could not be found out, or nobody wants to know.
    pub holders: Option<Holders>,
    /// What is pinned where, by path. `None` when no bpffs could be read.
    pub pins: Option<Vec<Pin>>,
    /// What hangs where, at the last look. `None` before the first.
    pub hooks: Option<Arc<AttachmentScan>>,
    /// What each owner's objects are and cost together, whatever part of the objects is told here.
    #[serde(default)]
    pub owners: Vec<OwnerTotal>,
    /// What all objects of each kind are and cost together, whatever part of them is told here. A kind that could not be read is
    /// missing.
    #[serde(default)]
    pub totals: Vec<KindTotal>,
    /// Who counts the runs of programs, and for how long they have been counted.
    pub run_stats: RunStats,
    /// How each part of the reading went.
    pub collectors: Vec<Collector>,
    /// What could not be read, counted since the reader was started.
    pub issues: Vec<Issue>,
}

impl Snapshot {
    /// A reading in which nothing has been read yet.
    #[must_use]
    pub fn begun(taken_at: Timestamp, reader_started_at: Timestamp) -> Self {
        Self {
            taken_at,
            reader_started_at,
            programs: None,
            maps: None,
            links: None,
            btfs: None,
            holders: None,
            pins: None,
            hooks: None,
            owners: Vec::new(),
            totals: Vec::new(),
            run_stats: RunStats::default(),
            collectors: Vec::new(),
            issues: Vec::new(),
        }
    }

    /// Whether no table at all could be read.
    #[must_use]
    pub fn is_all_refused(&self) -> bool {
        self.programs.is_none() && self.maps.is_none() && self.links.is_none() && self.btfs.is_none()
    }

    /// The ids of the objects of a kind, in order; none of a table that could not be read.
    #[must_use]
    pub fn ids(&self, kind: Kind) -> Vec<u32> {
        match kind {
            Kind::Program => self.programs.iter().flatten().map(|program| program.facts.id).collect(),
            Kind::Map => self.maps.iter().flatten().map(|map| map.facts.id).collect(),
            Kind::Link => self.links.iter().flatten().map(|link| link.facts.id).collect(),
            Kind::Btf => self.btfs.iter().flatten().map(|btf| btf.id).collect(),
        }
    }

    /// Returns a copy with only the rows whose object `keep` accepts: the object itself, its holders and pins, the hooks where
    /// it is attached, and what a map contains. A table that could not be read stays `None`; totals and counts of many
    /// objects stay as they are.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(Object) -> bool) -> Self {
        fn rows<T: Clone>(rows: &[T], keep: impl Fn(&T) -> bool) -> Vec<T> {
            rows.iter().filter(|row| keep(row)).cloned().collect()
        }
        let is_kept = |kind, id| keep(Object { kind, id });
        Self {
            programs: self.programs.as_ref().map(|all| rows(all, |p| is_kept(Kind::Program, p.facts.id))),
            maps: self.maps.as_ref().map(|all| rows(all, |m| is_kept(Kind::Map, m.facts.id))),
            links: self.links.as_ref().map(|all| rows(all, |l| is_kept(Kind::Link, l.facts.id))),
            btfs: self.btfs.as_ref().map(|all| rows(all, |b| is_kept(Kind::Btf, b.id))),
            holders: self.holders.as_ref().map(|holders| Holders {
                programs: rows(&holders.programs, |h| is_kept(Kind::Program, h.id)),
                maps: rows(&holders.maps, |h| is_kept(Kind::Map, h.id)),
                links: rows(&holders.links, |h| is_kept(Kind::Link, h.id)),
                btfs: rows(&holders.btfs, |h| is_kept(Kind::Btf, h.id)),
            }),
            pins: self.pins.as_ref().map(|all| rows(all, |pin| is_kept(pin.kind, pin.id))),
            hooks: self.hooks.as_ref().map(|look| {
                Arc::new(AttachmentScan {
                    taken_at: look.taken_at,
                    hooks: rows(&look.hooks, |hook| keep(hook.object())),
                    contents: rows(&look.contents, |content| is_kept(Kind::Map, content.map_id)),
                    attach_points: look.attach_points.clone(),
                    unqueryable: look.unqueryable.clone(),
                    complete: look.complete,
                })
            }),
            owners: self.owners.clone(),
            totals: self.totals.clone(),
            collectors: self.collectors.clone(),
            issues: self.issues.clone(),
            taken_at: self.taken_at,
            reader_started_at: self.reader_started_at,
            run_stats: self.run_stats,
        }
    }
}

/// One of the kernel's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its id, unique among the objects of its kind that exist at one time.
    pub id: u32,
}

/// The kinds of object that the kernel keeps a table of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A loaded program.
    Program,
    /// A map.
    Map,
    /// A link.
    Link,
    /// A BTF object.
    Btf,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 4] = [Self::Program, Self::Map, Self::Link, Self::Btf];

    /// The word used in labels and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Map => "map",
            Self::Link => "link",
            Self::Btf => "btf",
        }
    }
}

/// The parts of a reading.
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
    /// The files and names of processes.
    Holder,
    /// The mounted bpffs.
    Pin,
    /// The paths of cgroups.
    Cgroup,
    /// What hangs where.
    Hook,
}

impl Part {
    /// The word used in labels and messages.
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

/// A value of one of the kernel's enumerations of types, and the word that bpftool prints for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectType {
    /// The kernel's number.
    pub number: u32,
    /// The kernel tools' word; `None` for a type newer than this program.
    pub name: Option<Cow<'static, str>>,
}

impl ObjectType {
    /// The word, or the number of a type that has none.
    #[must_use]
    pub fn word_or_number(&self) -> Cow<'static, str> {
        self.name.clone().unwrap_or_else(|| Cow::Owned(self.number.to_string()))
    }
}

/// A loaded program: its facts, and what moves while it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// What never changes, shared by every snapshot that holds this program.
    #[serde(flatten)]
    pub facts: Arc<ProgramFacts>,
    /// Time between the start and the end of its runs, summed over all CPUs. Advances only while run statistics are on.
    /// Source: `bpf_prog_info.run_time_ns`. `None` while statistics are off, and when this reading could not ask the
    /// program again.
    pub run_time: Option<Duration>,
    /// How often it ran. Advances only while run statistics are on.
    /// Source: `bpf_prog_info.run_cnt`. `None` as for [`Program::run_time`].
    pub runs: Option<u64>,
    /// Runs that were skipped because the program, or for probes another one, was already running on that CPU. Counted also
    /// while run statistics are off.
    /// Source: `bpf_prog_info.recursion_misses`. `None` before 5.12.
    pub recursion_misses: Option<u64>,
    /// Whose it is. `None` when that was not asked.
    pub owner: Option<Arc<Owner>>,
}

/// What never changes in a program's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// Source: `bpf_prog_info.id`.
    pub id: u32,
    /// The full name where BTF knows it, else the 15 characters of `bpf_prog_info.name`.
    pub name: String,
    /// Source: `bpf_prog_info.type`, of `enum bpf_prog_type`.
    #[serde(rename = "type")]
    pub program_type: ObjectType,
    /// Source: `bpf_prog_info.tag`.
    pub tag: Tag,
    /// Source: `bpf_prog_info.gpl_compatible`.
    pub gpl_compatible: bool,
    /// When it was loaded, in whole seconds.
    ///
    /// The kernel keeps the time since boot to the nanosecond; the wall clock's distance from it can only be measured
    /// to some hundred nanoseconds. Whole seconds are what a restarted exporter finds again.
    pub loaded_at: Timestamp,
    /// When it was loaded, in nanoseconds since boot: with the id and the tag, the program's identity.
    /// Source: `bpf_prog_info.load_time`.
    pub loaded_at_boot_ns: u64,
    /// The user who loaded it. Source: `bpf_prog_info.created_by_uid`.
    pub uid: u32,
    /// The BTF object that describes it. Source: `bpf_prog_info.btf_id`; `None` when it has none.
    pub btf_id: Option<u32>,
    /// Machine code of all its functions, in bytes; 0 when it is interpreted. Source: `bpf_prog_info.jited_prog_len`.
    pub size_jitted: u32,
    /// Instructions after verification, in bytes. Source: `bpf_prog_info.xlated_prog_len`.
    pub size_translated: u32,
    /// Memory charged for it, in bytes. Source: `memlock` of `/proc/self/fdinfo`; `None` when that could not be read.
    pub mem: Option<u64>,
    /// Instructions the verifier walked through. Source: `bpf_prog_info.verified_insns`. `None` before 5.16.
    pub verified_instructions: Option<u32>,
    /// The function it was compiled against: of the kernel for `tracing` and `lsm`, of another program for `ext`, a member
    /// for `struct_ops`. Source: `bpf_prog_aux.attach_func_name`; in `bpf_prog_info` since 6.0. `None` for other types.
    pub attach_to: Option<String>,
    /// The maps it uses, ascending. Source: `bpf_prog_info.map_ids`; `None` when they could not be read.
    ///
    /// A loader can bind more maps to a program that runs already: a program with more maps is a new value of the facts.
    pub map_ids: Option<Vec<u32>>,
}

/// A map: its facts, and what moves while it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Map {
    /// What never changes, shared by every snapshot that holds this map.
    #[serde(flatten)]
    pub facts: Arc<MapFacts>,
    /// Whether user space may not change it any more. Source: `bpf_map.frozen`, `frozen` of `/proc/self/fdinfo`. `None`
    /// when it could not be read.
    pub frozen: Option<bool>,
    /// Memory charged for it, in bytes. Source: `memlock` of `/proc/self/fdinfo`; `None` when that could not be read.
    pub mem: Option<u64>,
    /// How many entries it holds. Source: `bpf_map.elem_count` since 6.6, or the counter of its type. `None` where the
    /// kernel keeps no count.
    pub entries: Option<u64>,
    /// What was written to a ring buffer and not consumed yet, in bytes. Source: the positions in `struct bpf_ringbuf`.
    /// `None` for other types.
    pub backlog: Option<u64>,
    /// The memory cgroup that pays for it, by its id: its creator's, even after that has ended.
    /// Source: `bpf_map.objcg`, `bpf_map.memcg` before 6.1. `None` when it has none or it could not be read.
    pub memory_cgroup: Option<u64>,
    /// Whose it is. `None` when that was not asked.
    pub owner: Option<Arc<Owner>>,
}

impl Map {
    /// Entries as a part of what fits, where a full map refuses more.
    #[must_use]
    pub fn fill(&self) -> Option<f64> {
        let full_refuses = FULL_REFUSES.contains(&self.facts.map_type.number);
        let entries = self.entries.filter(|_| full_refuses && self.facts.max_entries > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "a map has far less than 2^52 entries")]
        Some(entries as f64 / f64::from(self.facts.max_entries))
    }
}

/// The types of map that refuse another entry when they are full. The `lru` ones drop an old entry instead, and arrays are always
/// full.
const FULL_REFUSES: [u32; 8] = [
    map_type::HASH,
    map_type::PERCPU_HASH,
    map_type::LPM_TRIE,
    map_type::HASH_OF_MAPS,
    map_type::SOCKHASH,
    map_type::QUEUE,
    map_type::STACK,
    map_type::DEVMAP_HASH,
];

/// What never changes in a map's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapFacts {
    /// Source: `bpf_map_info.id`.
    pub id: u32,
    /// Source: `bpf_map_info.name`.
    pub name: String,
    /// Source: `bpf_map_info.type`, of `enum bpf_map_type`.
    #[serde(rename = "type")]
    pub map_type: ObjectType,
    /// In bytes. Source: `bpf_map_info.key_size`.
    pub key_size: u32,
    /// In bytes. Source: `bpf_map_info.value_size`.
    pub value_size: u32,
    /// Source: `bpf_map_info.max_entries`.
    pub max_entries: u32,
    /// Flags given at creation. Source: `bpf_map_info.map_flags`.
    pub flags: u32,
    /// The BTF object that describes its key and value. Source: `bpf_map_info.btf_id`; `None` when it has none.
    pub btf_id: Option<u32>,
    /// The first reading that saw it: the kernel does not say when a map was made.
    pub first_seen: Timestamp,
}

/// A link, which keeps a program attached: what it is, and what moves while it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// What it is, shared by every snapshot in which that is so.
    #[serde(flatten)]
    pub facts: Arc<LinkFacts>,
    /// How often its program should have run and could not. Source: `missed` in `bpf_link_info` since 6.7, or the counter
    /// of the probe. `None` for types of link that do not count it.
    pub missed: Option<u64>,
    /// Whose it is. `None` when that was not asked.
    pub owner: Option<Arc<Owner>>,
}

/// What a link is. One whose program was replaced is another link, one whose target was renamed or went is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// Source: `bpf_link_info.id`.
    pub id: u32,
    /// Source: `bpf_link_info.type`, of `enum bpf_link_type`.
    #[serde(rename = "type")]
    pub link_type: ObjectType,
    /// The program it attaches. Source: `bpf_link_info.prog_id`; `None` for links without one (`struct_ops`).
    pub prog_id: Option<u32>,
    /// At which hook it attaches. Source: `attach_type` in `bpf_link_info`, of `enum bpf_attach_type`; `None` for types of
    /// link that have none (`xdp`, `iter`, probes, tracepoints) and for the extension of a program.
    pub attach_type: Option<ObjectType>,
    /// What it is attached to, as people write it: `eth0 (2)`, `/system.slice/x.service`, `sched:sched_switch`,
    /// `tcp_connect`, `/usr/bin/x:0x1234`. `None` where it has no target, the target is gone, or the kernel does not tell it:
    /// functions since 5.13, probes and perf events since 6.6, `uprobe_multi` since 6.8. Source: `bpf_link_info`.
    pub target: Option<String>,
    /// The first reading that saw it: the kernel does not say when a link was made.
    pub first_seen: Timestamp,
}

/// A BTF object: the type information of the kernel, of a module, or of what a loader brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Btf {
    /// Source: `bpf_btf_info.id`.
    pub id: u32,
    /// `vmlinux` or the module's name; `None` for a loader's, and before 5.11. Source: `bpf_btf_info.name`.
    pub name: Option<String>,
    /// Whether it describes the kernel or a module. Source: `bpf_btf_info.kernel_btf`. `None` before 5.11.
    pub kernel: Option<bool>,
    /// In bytes. Source: `bpf_btf_info.btf_size`.
    pub size: u32,
    /// The first reading that saw it: the kernel does not say when a BTF object was loaded.
    pub first_seen: Timestamp,
}

/// Who counts the runs of programs, and for how long they have been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStats {
    /// Whether this exporter has them counted, all the time or in samples.
    pub by_exporter: bool,
    /// Whether the sysctl `kernel.bpf_stats_enabled` has; `None` when it could not be read.
    pub by_sysctl: Option<bool>,
    /// How long they have been counted since the reader was started, up to this reading: the divisor of run times.
    pub covered: Duration,
}

impl RunStats {
    /// Whether anybody has them counted that this program knows of. Of other processes' descriptors from
    /// `BPF_ENABLE_STATS` the kernel tells nothing.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.by_exporter || self.by_sysctl == Some(true)
    }
}

/// How the kernel's tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReaderKind {
    /// By a BPF iterator: a few reads for the whole table.
    Iter,
    /// By ids: a few system calls for each object.
    Walk,
}

impl ReaderKind {
    /// The word used in labels, flags and messages.
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
    /// What it reads.
    #[serde(rename = "kind")]
    pub part: Part,
    /// How it reads it. `None` where there is only one way.
    pub reader: Option<ReaderKind>,
    /// How long it took.
    pub duration: Duration,
    /// How long before this reading it took place.
    #[serde(default)]
    pub age: Duration,
    /// Whether it read everything it asked for.
    pub success: bool,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// The collector that met it.
    #[serde(rename = "kind")]
    pub part: Part,
    /// The call that failed, by the kernel's name.
    pub call: Cow<'static, str>,
    /// The error, by its symbol: `EPERM`.
    pub error: Cow<'static, str>,
    /// How often it was met in this reading.
    pub count: u64,
    /// How often it was met since the reader was started.
    pub total: u64,
}

/// The hash by which the kernel names a program's instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub [u8; 8]);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

impl Serialize for Tag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(serde::de::Error::custom(format!("a tag is 16 hexadecimal digits, not {text:?}")));
        }
        let number = u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// What the exporter knows of itself and no reading can tell.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// What was built.
    pub build: Build,
    /// How the delivery over OTLP goes; `None` when nothing is pushed.
    pub delivery: Option<Delivery>,
}

/// What was built, from which source, by which compiler.
#[derive(Clone, Debug)]
pub struct Build {
    /// When this process started.
    pub started_at: Timestamp,
    /// The package's version.
    pub version: &'static str,
    /// The source revision; `None` when it was not built from a checkout.
    pub revision: Option<&'static str>,
    /// The compiler's version; `None` when the build could not ask it.
    pub rustc: Option<&'static str>,
}

/// How the delivery over OTLP goes.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Points by what became of them at the receiver.
    pub points: Vec<Tally>,
    /// Points given up, by the reason.
    pub dropped: Vec<Tally>,
    /// Requests by how they ended.
    pub requests: Vec<Tally>,
    /// What waits to be sent.
    pub backlog: Backlog,
}

/// One count of several that differ in a label.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// The label's value.
    pub label: &'static str,
    /// The count.
    pub count: u64,
    /// Since when it is counted.
    pub since: Timestamp,
}

/// What waits to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Its encoded size.
    pub bytes: u64,
    /// Since when there is a backlog to speak of: the exporter's start.
    pub since: Timestamp,
}
/// A number that stands for a value, the same as long as the program runs. That of another value is another, as good as always.
pub(crate) fn hash(value: impl Hash) -> u64 {
    FixedState::default().hash_one(value)
}
