//! What the iterators write, as `bpf/records.h` lays it out. Begin at [`ProgramRecord`].

use std::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::kernel::uapi::OBJ_NAME_LEN;

/// Where a smaller number is not known.
pub(super) const UNKNOWN_U32: u32 = u32::MAX;

/// Each program: what moves, and what tells it from another with the same id.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ProgramRecord {
    pub(super) id: u32,
    pub(super) used_maps: u32,
    pub(super) load_time: u64,
    pub(super) tag: [u8; 8],
    pub(super) runs: u64,
    pub(super) run_time: u64,
    pub(super) misses: u64,
    pub(super) has_facts: u32,
    pub(super) padding: u32,
}

/// Behind a program's record where it has facts; behind it the full name, what it attaches to, and the ids of its maps.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ProgramFactsRecord {
    pub(super) program_type: u32,
    pub(super) size_translated: u32,
    pub(super) size_jitted: u32,
    pub(super) pages: u32,
    pub(super) gpl_compatible: u32,
    pub(super) uid: u32,
    pub(super) btf_id: u32,
    pub(super) verified_instructions: u32,
    pub(super) name: [u8; OBJ_NAME_LEN],
    pub(super) full_name_len: u32,
    pub(super) attach_to_len: u32,
    pub(super) map_count: u32,
    pub(super) padding: u32,
}

/// Each map: what never changes, all of which tells it from another with the same id, and what moves.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MapRecord {
    pub(super) identity: MapIdentity,
    pub(super) memory_cgroup: u64,
    pub(super) entries: i64,
    pub(super) backlog: i64,
    pub(super) frozen: u64,
}

/// What of a map never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MapIdentity {
    pub(super) id: u32,
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    pub(super) btf_id: u32,
    pub(super) padding: u32,
    pub(super) name: [u8; OBJ_NAME_LEN],
    pub(super) cookie: u64,
}

/// Each link; behind it its name and group. All but the last field says what it is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct LinkRecord {
    pub(super) id: u32,
    pub(super) link_type: u32,
    pub(super) prog_id: u32,
    pub(super) attach_type: u32,
    pub(super) target: u32,
    pub(super) return_probe: u32,
    pub(super) first: u64,
    pub(super) second: u64,
    pub(super) name_len: u32,
    pub(super) group_len: u32,
    pub(super) missed: i64,
}

/// What a link's target is: `enum target`.
pub(super) mod target {
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

/// What the programs are asked.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Request {
    /// Programs whose id is not less have their facts written.
    pub(super) program_facts_from: u32,
    /// Bits of `trace_event_call.flags`.
    pub(super) flag_tracepoint: u32,
    pub(super) flag_kprobe: u32,
    pub(super) flag_uprobe: u32,
    /// For `iter/task_file`, which nothing loads yet.
    pub(super) own_pid: u32,
    pub(super) padding: u32,
    pub(super) operations: [u64; 4],
}

const _: () = assert!(size_of::<LinkRecord>() == 56);
const _: () = assert!(size_of::<ProgramRecord>() == 56);
const _: () = assert!(size_of::<ProgramFactsRecord>() == 64);
const _: () = assert!(size_of::<MapRecord>() == 88);
