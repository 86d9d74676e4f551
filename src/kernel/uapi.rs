//! The structures that `BPF_OBJ_GET_INFO_BY_FD` fills, as far as this program reads them.
//! Source: `include/uapi/linux/bpf.h`; the same on every 64-bit little-endian architecture.

use std::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the kernel filled in, and how much of it the kernel knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported<T> {
    /// The structure; zero behind `len`.
    pub(super) value: T,
    /// How many bytes this kernel knows: it writes the length back.
    pub(super) len: usize,
}

/// A field of a [`Reported`] structure: `Some` iff the field ends within the length that the kernel wrote back.
/// Zero and unknown would be the same otherwise.
macro_rules! reported {
    ($reported:expr, $structure:ty, $field:ident) => {{
        let reported: &$crate::kernel::uapi::Reported<$structure> = $reported;
        let field = reported.value.$field;
        let end = std::mem::offset_of!($structure, $field) + std::mem::size_of_val(&field);
        (end <= reported.len).then_some(field)
    }};
}
pub(crate) use reported;

/// `BPF_OBJ_NAME_LEN`: a name and its terminating zero.
pub(super) const OBJ_NAME_LEN: usize = 16;

/// `enum bpf_map_type`, as far as this program tells types of map apart.
pub(super) mod map_type {
    pub(in crate::kernel) const HASH: u32 = 1;
    pub(in crate::kernel) const ARRAY: u32 = 2;
    pub(in crate::kernel) const PERCPU_HASH: u32 = 5;
    pub(in crate::kernel) const PERCPU_ARRAY: u32 = 6;
    pub(in crate::kernel) const STACK_TRACE: u32 = 7;
    pub(in crate::kernel) const LRU_HASH: u32 = 9;
    pub(in crate::kernel) const LRU_PERCPU_HASH: u32 = 10;
    pub(in crate::kernel) const LPM_TRIE: u32 = 11;
    pub(in crate::kernel) const HASH_OF_MAPS: u32 = 13;
    pub(in crate::kernel) const DEVMAP: u32 = 14;
    pub(in crate::kernel) const SOCKHASH: u32 = 18;
    pub(in crate::kernel) const DEVMAP_HASH: u32 = 25;
}

/// `BPF_F_NO_PREALLOC`: entries get their memory when they are made.
pub(super) const NO_PREALLOC: u32 = 1;

/// `enum bpf_prog_type`, as far as this program tells types of program apart.
pub(super) mod program_type {
    pub(in crate::kernel) const TRACING: u32 = 26;
    pub(in crate::kernel) const EXT: u32 = 28;
    pub(in crate::kernel) const LSM: u32 = 29;
}

/// `struct bpf_prog_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ProgramInfo {
    pub(super) prog_type: u32,
    pub(super) id: u32,
    pub(super) tag: [u8; 8],
    pub(super) jited_prog_len: u32,
    pub(super) xlated_prog_len: u32,
    pub(super) jited_prog_insns: u64,
    pub(super) xlated_prog_insns: u64,
    pub(super) load_time: u64,
    pub(super) created_by_uid: u32,
    pub(super) nr_map_ids: u32,
    pub(super) map_ids: u64,
    pub(super) name: [u8; OBJ_NAME_LEN],
    pub(super) ifindex: u32,
    /// `gpl_compatible` is bit 0.
    pub(super) gpl_compatible: u32,
    pub(super) netns_dev: u64,
    pub(super) netns_ino: u64,
    pub(super) nr_jited_ksyms: u32,
    pub(super) nr_jited_func_lens: u32,
    pub(super) jited_ksyms: u64,
    pub(super) jited_func_lens: u64,
    pub(super) btf_id: u32,
    pub(super) func_info_rec_size: u32,
    pub(super) func_info: u64,
    pub(super) nr_func_info: u32,
    pub(super) nr_line_info: u32,
    pub(super) line_info: u64,
    pub(super) jited_line_info: u64,
    pub(super) nr_jited_line_info: u32,
    pub(super) line_info_rec_size: u32,
    pub(super) jited_line_info_rec_size: u32,
    pub(super) nr_prog_tags: u32,
    pub(super) prog_tags: u64,
    pub(super) run_time_ns: u64,
    pub(super) run_cnt: u64,
    /// Since 5.12.
    pub(super) recursion_misses: u64,
    /// Since 5.16.
    pub(super) verified_insns: u32,
    /// Since 6.0, with `attach_btf_id`. Before, padding of 5.16 stands in its place, which counts as known.
    pub(super) attach_btf_obj_id: u32,
    pub(super) attach_btf_id: u32,
    pub(super) padding: u32,
}
const _: () = assert!(size_of::<ProgramInfo>() == 232);

/// `struct bpf_func_info`: where a function begins and which BTF type describes it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct FunctionInfo {
    pub(super) insn_off: u32,
    pub(super) type_id: u32,
}
const _: () = assert!(size_of::<FunctionInfo>() == 8);

/// `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MapInfo {
    pub(super) map_type: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    pub(super) name: [u8; OBJ_NAME_LEN],
    pub(super) ifindex: u32,
    pub(super) btf_vmlinux_value_type_id: u32,
    pub(super) netns_dev: u64,
    pub(super) netns_ino: u64,
    pub(super) btf_id: u32,
    pub(super) btf_key_type_id: u32,
    pub(super) btf_value_type_id: u32,
    pub(super) padding: u32,
}
const _: () = assert!(size_of::<MapInfo>() == 80);

/// The beginning of `struct bpf_link_info`, the same for every type of link.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct LinkInfo {
    pub(super) link_type: u32,
    pub(super) id: u32,
    pub(super) prog_id: u32,
    pub(super) padding: u32,
}
const _: () = assert!(size_of::<LinkInfo>() == 16);

/// `struct bpf_btf_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct BtfInfo {
    pub(super) btf: u64,
    pub(super) btf_size: u32,
    pub(super) id: u32,
    /// Since 5.11, with `name_len`.
    pub(super) name: u64,
    pub(super) name_len: u32,
    /// Since 5.11.
    pub(super) kernel_btf: u32,
}
const _: () = assert!(size_of::<BtfInfo>() == 32);

/// The length of [`BtfInfo`] from 4.18 to 5.10.
pub(super) const BTF_INFO_LEN_5_4: usize = 16;

/// Longer than any module's name (`MODULE_NAME_LEN` is 56 on 64-bit architectures).
pub(super) const BTF_NAME_LEN: usize = 64;

/// A buffer for the name of a BTF object.
pub(super) type BtfName = [u8; BTF_NAME_LEN];
