//! Records of the iterators, with the layout and names of `bpf/records.h`. A test compares both.
//!
//! Entry point: [`ProgramRecord`].

use std::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::sys::bpf::uapi::OBJ_NAME_LEN;

/// The value of an unknown field.
pub(crate) const UNKNOWN_U32: u32 = u32::MAX;

/// The length of a thread's name with its terminating zero.
pub(crate) const TASK_COMM_LEN: usize = 16;

/// The most maps of a program whose ids are reported.
pub(crate) const MAX_REPORTED_MAPS: u32 = 4096;

/// One per program: identity and counters.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProgramRecord {
    pub(crate) id: u32,
    pub(crate) used_maps: u32,
    pub(crate) load_time: u64,
    pub(crate) tag: [u8; 8],
    pub(crate) runs: u64,
    pub(crate) run_time: u64,
    pub(crate) misses: u64,
    pub(crate) has_facts: u32,
    pub(crate) padding: u32,
}

/// `struct program_facts`: follows a program record with `has_facts`; followed by the full name, the attach target's name, the
/// map ids, and a number that is not 0 if these are the ids.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProgramFactsRecord {
    pub(crate) program_type: u32,
    pub(crate) size_translated: u32,
    pub(crate) size_jitted: u32,
    pub(crate) pages: u32,
    pub(crate) gpl_compatible: u32,
    pub(crate) uid: u32,
    pub(crate) btf_id: u32,
    pub(crate) verified_instructions: u32,
    pub(crate) name: [u8; OBJ_NAME_LEN],
    pub(crate) full_name_len: u32,
    pub(crate) attach_to_len: u32,
    pub(crate) map_count: u32,
    pub(crate) padding: u32,
}

/// One per map: its identity, then the changing fields.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MapRecord {
    pub(crate) identity: MapIdentity,
    pub(crate) memory_cgroup: u64,
    pub(crate) entries: i64,
    pub(crate) backlog: i64,
    pub(crate) frozen: u64,
}

/// The immutable fields of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MapIdentity {
    pub(crate) id: u32,
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) btf_id: u32,
    pub(crate) padding: u32,
    pub(crate) name: [u8; OBJ_NAME_LEN],
    pub(crate) cookie: u64,
}

/// What changes of a program. The last record of a pass has the id [`UNKNOWN_U32`], and says in `used_maps` whether every object was
/// reported.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProgramCounters {
    pub(crate) id: u32,
    pub(crate) used_maps: u32,
    pub(crate) runs: u64,
    pub(crate) run_time: u64,
    pub(crate) misses: u64,
}

/// What changes of a map. The last record of a pass has the id [`UNKNOWN_U32`], and says in `frozen` whether every object was reported.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MapCounters {
    pub(crate) id: u32,
    pub(crate) frozen: u32,
    pub(crate) entries: i64,
    pub(crate) backlog: i64,
    pub(crate) memory_cgroup: u64,
}

/// One per link, followed by its name and group. Only the first field changes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LinkRecord {
    pub(crate) missed: i64,
    pub(crate) id: u32,
    pub(crate) link_type: u32,
    pub(crate) prog_id: u32,
    pub(crate) attach_type: u32,
    pub(crate) target: u32,
    pub(crate) return_probe: u32,
    pub(crate) first: u64,
    pub(crate) second: u64,
    pub(crate) name_len: u32,
    pub(crate) group_len: u32,
}

/// `enum target`: the kind of a link's target.
pub(crate) mod target {
    pub(crate) const RAW_TRACEPOINT: u32 = 1;
    pub(crate) const FUNCTION: u32 = 2;
    pub(crate) const CGROUP: u32 = 3;
    pub(crate) const ITERATOR: u32 = 4;
    pub(crate) const ITERATOR_MAP: u32 = 5;
    pub(crate) const ITERATOR_CGROUP: u32 = 6;
    pub(crate) const ITERATOR_THREAD: u32 = 7;
    pub(crate) const ITERATOR_PROCESS: u32 = 8;
    pub(crate) const NETNS: u32 = 9;
    pub(crate) const DEVICE: u32 = 10;
    pub(crate) const KPROBE: u32 = 11;
    pub(crate) const UPROBE: u32 = 12;
    pub(crate) const TRACEPOINT: u32 = 13;
    pub(crate) const PERF_EVENT: u32 = 14;
    pub(crate) const KPROBE_MULTI: u32 = 15;
    pub(crate) const MAP: u32 = 16;
    pub(crate) const NETFILTER: u32 = 17;
}

/// `enum file_kind`: the kind of a record of the iterator over descriptors.
pub(crate) mod file_kind {
    pub(crate) const PROGRAM: u32 = 0;
    pub(crate) const MAP: u32 = 1;
    pub(crate) const LINK: u32 = 2;
    pub(crate) const BTF: u32 = 3;
    pub(crate) const KINDS: u32 = 4;
    /// The process that the following records belong to.
    pub(crate) const PROCESS: u32 = 5;
    /// The last record of a walk through all processes.
    pub(crate) const END: u32 = 6;
}

/// The process that holds the descriptors in the records up to the next process record; followed by the file name of its
/// executable.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProcessRecord {
    pub(crate) kind: u32,
    pub(crate) pid: u32,
    pub(crate) own: u32,
    pub(crate) executable_len: u32,
    pub(crate) start_time: u64,
    pub(crate) cgroup: u64,
    pub(crate) name: [u8; TASK_COMM_LEN],
}

/// One per descriptor of a BPF object.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FileRecord {
    pub(crate) kind: u32,
    pub(crate) id: u32,
}

/// The last record of a walk through all processes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct EndRecord {
    pub(crate) kind: u32,
    pub(crate) padding: u32,
}

/// The position of a walk through all processes; its default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct WalkState {
    pub(crate) task: u64,
    pub(crate) start_time: u64,
    pub(crate) id: u32,
    pub(crate) word: u32,
    pub(crate) reached: u64,
    pub(crate) skip_before: u64,
    pub(crate) done: u32,
    pub(crate) padding: u32,
}

/// A file system of pins; the last record has the device 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct BpffsRecord {
    /// `super_block.s_dev`.
    pub(crate) device: u32,
}

/// How files of BPF objects are recognized.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FileKinds {
    pub(crate) release_ops: [u64; file_kind::KINDS as usize],
    pub(crate) sample_fds: [i32; file_kind::KINDS as usize],
    /// The head of the list of processes; 0 until found.
    pub(crate) init_task: u64,
}

/// `struct request`: parameters of an iteration.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct IterRequest {
    /// Facts are written for programs with this id or a higher one.
    pub(crate) program_facts_from: u32,
    /// Bits of `trace_event_call.flags`.
    pub(crate) flag_tracepoint: u32,
    pub(crate) flag_kprobe: u32,
    pub(crate) flag_uprobe: u32,
    /// Programs or maps with a lower id are skipped; with 0 all objects are learned.
    pub(crate) known_below: u32,
    /// Number of CPUs in the array, and of those at its start that are online.
    pub(crate) possible_cpus: u32,
    pub(crate) online_cpus: u32,
    /// Another number begins a pass.
    pub(crate) pass: u32,
}

const _: () = assert!(size_of::<LinkRecord>() == 56);
const _: () = assert!(size_of::<ProgramRecord>() == 56);
const _: () = assert!(size_of::<ProgramFactsRecord>() == 64);
const _: () = assert!(size_of::<MapRecord>() == 88);
const _: () = assert!(size_of::<ProgramCounters>() == 32 && size_of::<MapCounters>() == 32);
const _: () = assert!(size_of::<ProcessRecord>() == 48);
const _: () = assert!(size_of::<FileRecord>() == 8);
const _: () = assert!(size_of::<EndRecord>() == 8);

#[cfg(test)]
mod tests;
