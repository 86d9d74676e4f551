//! Programs, maps, links and BTF objects.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attachment::{NetNs, Target};
use super::enums::{ObjectType, map_type};
use super::owner::Owner;
use super::program_capability::{MetadataVariable, ProgramCapabilities};
use super::time::BootTime;

/// A loaded program: immutable facts, and what changes while it is loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Immutable facts, shared by all snapshots with this program.
    #[serde(flatten)]
    pub facts: Arc<ProgramFacts>,
    /// Time between the start and the end of its runs, summed over all CPUs. Advances only while run statistics are on.
    /// Source: `bpf_prog_info.run_time_ns`. `None` while statistics are off, and if this reading could not query the program.
    pub run_time: Option<Duration>,
    /// Number of runs. Advances only while run statistics are on.
    /// Source: `bpf_prog_info.run_cnt`. `None` as for [`Program::run_time`].
    pub runs: Option<u64>,
    /// Runs skipped because the program, or for probes another one, was already running on that CPU. Counted even
    /// while run statistics are off.
    /// Source: `bpf_prog_info.recursion_misses`. `None` before 5.12.
    pub recursion_misses: Option<u64>,
    /// What it can do, shared by programs that can do the same. Read once. Source: its translated instructions. `None` before that, and
    /// if the kernel does not show them.
    #[serde(default)]
    pub capabilities: Option<Arc<ProgramCapabilities>>,
    /// Its variables `bpf_metadata_*`, ascending by name. Read once for its maps. Source: its `.rodata`. `None` if that could not be
    /// read, or is not read yet.
    #[serde(default)]
    pub metadata: Option<Arc<[MetadataVariable]>>,
    /// Its owner. `None` if not determined.
    pub owner: Option<Arc<Owner>>,
}

/// Immutable facts about a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// Source: `bpf_prog_info.id`.
    pub id: u32,
    /// The full name if its BTF has it, else the 15 characters of `bpf_prog_info.name`.
    pub name: String,
    /// Source: `bpf_prog_info.type`, of `enum bpf_prog_type`.
    #[serde(rename = "type")]
    pub program_type: ObjectType,
    /// Source: `bpf_prog_info.tag`.
    pub tag: Tag,
    /// Source: `bpf_prog_info.gpl_compatible`.
    pub gpl_compatible: bool,
    /// When it was loaded: with the id and the tag, the program's identity. Source: `bpf_prog_info.load_time`.
    #[serde(rename = "loaded_at_boot_ns")]
    pub loaded_at: BootTime,
    /// User id of the loader. Source: `bpf_prog_info.created_by_uid`.
    pub uid: u32,
    /// Its BTF object. Source: `bpf_prog_info.btf_id`; `None` if it has none.
    pub btf_id: Option<u32>,
    /// Size of the machine code of all its functions, in bytes; 0 if it is interpreted. Source: `bpf_prog_info.jited_prog_len`.
    pub size_jitted: u32,
    /// Size of the instructions after verification, in bytes. Source: `bpf_prog_info.xlated_prog_len`.
    pub size_translated: u32,
    /// Memory charged for it, in bytes. Source: `memlock` of `/proc/self/fdinfo`; `None` if that could not be read.
    pub mem: Option<u64>,
    /// Instructions that the verifier processed. Source: `bpf_prog_info.verified_insns`. `None` before 5.16.
    pub verified_instructions: Option<u32>,
    /// The function it was compiled against: of the kernel for `tracing` and `lsm`, of another program for `ext`, a member
    /// for `struct_ops`. Source: `bpf_prog_aux.attach_func_name`; in `bpf_prog_info` since 6.0. `None` for other types.
    pub attach_to: Option<String>,
    /// Ids of the maps it uses, ascending. Source: `bpf_prog_info.map_ids`; `None` if they could not be read.
    ///
    /// A loader can bind more maps to a loaded program: a program with more maps is a new value of the facts.
    pub map_ids: Option<Vec<u32>>,
}

/// A map: immutable facts, and what changes while it exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Map {
    /// Immutable facts, shared by all snapshots with this map.
    #[serde(flatten)]
    pub facts: Arc<MapFacts>,
    /// Whether user space can no longer write to it. Source: `bpf_map.frozen`, `frozen` of `/proc/self/fdinfo`. `None`
    /// if it could not be read.
    pub frozen: Option<bool>,
    /// Memory charged for it, in bytes. Source: `memlock` of `/proc/self/fdinfo`; `None` if that could not be read.
    pub mem: Option<u64>,
    /// Number of entries. Source: `bpf_map.elem_count` since 6.6, or the counter of its type. `None` where the
    /// kernel keeps no count.
    pub entries: Option<u64>,
    /// Bytes in a ring buffer that are not consumed yet. Source: the positions in `struct bpf_ringbuf`.
    /// `None` for other types.
    pub backlog: Option<u64>,
    /// Id of the memory cgroup charged for it: that of its creator, even after the creator has ended.
    /// Source: `bpf_map.objcg`, `bpf_map.memcg` before 6.1. `None` if it has none or it could not be read.
    pub memory_cgroup: Option<u64>,
    /// Its owner. `None` if not determined.
    pub owner: Option<Arc<Owner>>,
}

impl Map {
    /// Returns the fraction of entries in use, for types that refuse another entry when they are full.
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

/// Immutable facts about a map.
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
    /// BTF object that describes its key and value. Source: `bpf_map_info.btf_id`; `None` if it has none.
    pub btf_id: Option<u32>,
    /// The first reading that found it: the kernel does not report when a map was created.
    #[serde(rename = "first_seen_boot_ns")]
    pub first_seen: BootTime,
}

/// A link, which keeps a program attached: facts, and what changes while it exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Facts, shared by all snapshots in which they are the same.
    #[serde(flatten)]
    pub facts: Arc<LinkFacts>,
    /// Number of missed runs. Source: `missed` in `bpf_link_info` since 6.7, or the counter
    /// of the probe. `None` for link types that do not count them.
    pub missed: Option<u64>,
    /// Its owner. `None` if not determined.
    pub owner: Option<Arc<Owner>>,
}

/// Facts about a link. It is another link once its program is replaced, but not if its target is renamed or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// Source: `bpf_link_info.id`.
    pub id: u32,
    /// Source: `bpf_link_info.type`, of `enum bpf_link_type`.
    #[serde(rename = "type")]
    pub link_type: ObjectType,
    /// The program it attaches. Source: `bpf_link_info.prog_id`; `None` for links without one (`struct_ops`).
    pub prog_id: Option<u32>,
    /// The hook. Source: `attach_type` in `bpf_link_info`, of `enum bpf_attach_type`; `None` for link
    /// types without one (`xdp`, `iter`, probes, tracepoints) and for the extension of a program.
    pub attach_type: Option<ObjectType>,
    /// What it is attached to. `None` if it has no target, the target is gone, or the kernel does not report it: functions since
    /// 5.13, probes and perf events since 6.6, `uprobe_multi` since 6.8. Source: `bpf_link_info`.
    pub target: Option<Target>,
    /// The network namespace of the target. `None` where the target is in none, or it is not known in which: `bpf_link_info` does not
    /// report that of an interface or of a hook of netfilter.
    #[serde(default)]
    pub netns: Option<NetNs>,
    /// The first reading that found it: the kernel does not report when a link was created.
    #[serde(rename = "first_seen_boot_ns")]
    pub first_seen: BootTime,
}

/// A BTF object: type information of the kernel, of a module, or from a loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Btf {
    /// Source: `bpf_btf_info.id`.
    pub id: u32,
    /// `vmlinux` or the module's name; `None` for one from a loader, and before 5.11. Source: `bpf_btf_info.name`.
    pub name: Option<String>,
    /// Whether it describes the kernel or a module. Source: `bpf_btf_info.kernel_btf`. `None` before 5.11.
    pub kernel: Option<bool>,
    /// In bytes. Source: `bpf_btf_info.btf_size`.
    pub size: u32,
    /// The first reading that found it: the kernel does not report when a BTF object was loaded.
    #[serde(rename = "first_seen_boot_ns")]
    pub first_seen: BootTime,
}

/// The kernel's hash of a program's instructions.
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
