//! Structures that `BPF_OBJ_GET_INFO_BY_FD` fills, up to the last field that this program reads.
//!
//! Source: `include/uapi/linux/bpf.h`. The layout is the same on every 64-bit little-endian architecture.

use std::mem::{offset_of, size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A structure that the kernel filled, and how much of it this kernel supports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported<T> {
    /// The structure; zero after `len`.
    pub(crate) value: T,
    /// The number of bytes that this kernel supports: it writes the length back.
    pub(crate) len: usize,
}

/// Returns a field of a [`Reported`] structure: `Some` iff the field ends within the length that the kernel wrote back.
/// Otherwise zero and unknown would be the same.
macro_rules! reported {
    ($reported:expr, $structure:ty, $field:ident) => {{
        let reported: &$crate::sys::bpf::uapi::Reported<$structure> = $reported;
        let field = reported.value.$field;
        let end = std::mem::offset_of!($structure, $field) + std::mem::size_of_val(&field);
        (end <= reported.len).then_some(field)
    }};
}
pub(crate) use reported;

/// `BPF_OBJ_NAME_LEN`: a name and its terminating zero.
pub(crate) const OBJ_NAME_LEN: usize = 16;

/// `BPF_F_NO_PREALLOC`: memory of entries is allocated when they are added.
pub(crate) const NO_PREALLOC: u32 = 1;

/// `struct bpf_prog_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProgramInfo {
    pub(crate) prog_type: u32,
    pub(crate) id: u32,
    pub(crate) tag: [u8; 8],
    pub(crate) jited_prog_len: u32,
    pub(crate) xlated_prog_len: u32,
    pub(crate) jited_prog_insns: u64,
    pub(crate) xlated_prog_insns: u64,
    pub(crate) load_time: u64,
    pub(crate) created_by_uid: u32,
    pub(crate) nr_map_ids: u32,
    pub(crate) map_ids: u64,
    pub(crate) name: [u8; OBJ_NAME_LEN],
    pub(crate) ifindex: u32,
    /// `gpl_compatible` is bit 0.
    pub(crate) gpl_compatible: u32,
    pub(crate) netns_dev: u64,
    pub(crate) netns_ino: u64,
    pub(crate) nr_jited_ksyms: u32,
    pub(crate) nr_jited_func_lens: u32,
    pub(crate) jited_ksyms: u64,
    pub(crate) jited_func_lens: u64,
    pub(crate) btf_id: u32,
    pub(crate) func_info_rec_size: u32,
    pub(crate) func_info: u64,
    pub(crate) nr_func_info: u32,
    pub(crate) nr_line_info: u32,
    pub(crate) line_info: u64,
    pub(crate) jited_line_info: u64,
    pub(crate) nr_jited_line_info: u32,
    pub(crate) line_info_rec_size: u32,
    pub(crate) jited_line_info_rec_size: u32,
    pub(crate) nr_prog_tags: u32,
    pub(crate) prog_tags: u64,
    pub(crate) run_time_ns: u64,
    pub(crate) run_cnt: u64,
    /// Since 5.12.
    pub(crate) recursion_misses: u64,
    /// Since 5.16.
    pub(crate) verified_insns: u32,
    /// Since 6.0, with `attach_btf_id`. From 5.16 on there was padding in its place, which counts as reported.
    pub(crate) attach_btf_obj_id: u32,
    pub(crate) attach_btf_id: u32,
    pub(crate) padding: u32,
}
const _: () = assert!(size_of::<ProgramInfo>() == 232);

/// `struct bpf_func_info`: the first instruction of a function, and its BTF type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FunctionInfo {
    pub(crate) insn_off: u32,
    pub(crate) type_id: u32,
}
const _: () = assert!(size_of::<FunctionInfo>() == 8);

/// `struct bpf_line_info`: the source line of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LineInfo {
    pub(crate) insn_off: u32,
    pub(crate) file_name_off: u32,
    pub(crate) line_off: u32,
    pub(crate) line_col: u32,
}
const _: () = assert!(size_of::<LineInfo>() == 16);

/// `struct bpf_core_relo`: what the kernel puts into an instruction, by its own types. Since 5.17.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct CoreRelocation {
    /// In bytes, where the other two count instructions.
    pub(crate) insn_off: u32,
    pub(crate) type_id: u32,
    pub(crate) access_str_off: u32,
    pub(crate) kind: u32,
}
const _: () = assert!(size_of::<CoreRelocation>() == 16);

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// The destination in the lower half, the source in the upper one, on little-endian machines.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}
const _: () = assert!(size_of::<Instruction>() == 8);

/// `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MapInfo {
    pub(crate) map_type: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) name: [u8; OBJ_NAME_LEN],
    pub(crate) ifindex: u32,
    pub(crate) btf_vmlinux_value_type_id: u32,
    pub(crate) netns_dev: u64,
    pub(crate) netns_ino: u64,
    pub(crate) btf_id: u32,
    pub(crate) btf_key_type_id: u32,
    pub(crate) btf_value_type_id: u32,
    /// Since 6.9; padding before.
    pub(crate) btf_vmlinux_id: u32,
}
const _: () = assert!(size_of::<MapInfo>() == 80);

/// `struct bpf_link_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LinkInfo {
    pub(crate) link_type: u32,
    pub(crate) id: u32,
    pub(crate) prog_id: u32,
    pub(crate) padding: u32,
    /// The union, with one structure for each link type.
    pub(crate) of_type: [u64; 6],
}
const _: () = assert!(size_of::<LinkInfo>() == 64);

impl Reported<LinkInfo> {
    /// Returns the union as one of the structures below.
    ///
    /// A union has the length of its longest member: a field that ends within it is not necessarily supported by the kernel, but
    /// is zero if it is not.
    pub(crate) fn of_type<T: FromBytes>(&self) -> Reported<T> {
        let (value, _) = T::read_from_prefix(self.value.of_type.as_bytes())
            .unwrap_or_else(|_| unreachable!("every member is as long as the union or shorter"));
        Reported { value, len: self.len.saturating_sub(offset_of!(LinkInfo, of_type)) }
    }
}

/// Defines the members of the union in `struct bpf_link_info`, with the link types that use them.
macro_rules! link_types {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* } is $size:literal)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(crate) struct $name { $($(#[$field_doc])* pub(crate) $field: $type,)* }
        const _: () = assert!(size_of::<$name>() == $size && $size <= size_of::<[u64; 6]>());
    )*};
}

link_types! {
    /// `tracing`: a function of the kernel or of a program.
    TracingLink {
        attach_type: u32,
        /// The id of a BTF object or of a program. Since 5.13, with `target_btf_id`.
        target_obj_id: u32,
        target_btf_id: u32,
        padding: u32,
    } is 16
    /// `cgroup`.
    CgroupLink { cgroup_id: u64, attach_type: u32, padding: u32, } is 16
    /// `iter`, over the elements of a map, cgroups, or anything without a parameter.
    IterLink {
        target_name: u64,
        target_name_len: u32,
        /// Since 5.10.
        map_id: u32,
        /// Since 6.1.
        cgroup_id: u64,
    } is 24
    /// `iter`, over tasks. Since 6.1.
    TaskIterLink { target_name: u64, target_name_len: u32, map_id: u32, tid: u32, pid: u32, } is 24
    /// `netns`.
    NetnsLink { netns_ino: u32, attach_type: u32, } is 8
    /// `xdp`.
    XdpLink { ifindex: u32, } is 4
    /// `tcx` and `netkit`.
    DeviceLink { ifindex: u32, attach_type: u32, } is 8
    /// `struct_ops`.
    StructOpsLink { map_id: u32, } is 4
    /// `sockmap`.
    SockmapLink { map_id: u32, attach_type: u32, } is 8
    /// `netfilter`.
    NetfilterLink { pf: u32, hooknum: u32, priority: i32, flags: u32, } is 16
    /// `kprobe_multi`. Filled since 6.6.
    KprobeMultiLink {
        addrs: u64,
        count: u32,
        flags: u32,
        /// Since 6.7.
        missed: u64,
    } is 24
    /// `uprobe_multi`. Filled since 6.8.
    UprobeMultiLink {
        path: u64,
        offsets: u64,
        ref_ctr_offsets: u64,
        cookies: u64,
        path_size: u32,
        count: u32,
        flags: u32,
        pid: u32,
    } is 48
    /// `perf_event`, of any type. Filled since 6.6.
    PerfEventLink {
        /// A number of `enum bpf_perf_event_type`, which selects one of the three structures below.
        perf_type: u32,
        padding: u32,
    } is 8
    /// `perf_event`: a probe in the kernel.
    KprobeLink {
        perf_type: u32,
        padding: u32,
        func_name: u64,
        name_len: u32,
        offset: u32,
        addr: u64,
        /// Since 6.7.
        missed: u64,
    } is 40
    /// `perf_event`: a probe in a file.
    UprobeLink { perf_type: u32, padding: u32, file_name: u64, name_len: u32, offset: u32, } is 24
    /// `perf_event`: an event that is neither a probe nor a tracepoint.
    EventLink { perf_type: u32, padding: u32, config: u64, event_type: u32, padding_after: u32, } is 24
}

/// `BPF_F_KPROBE_MULTI_RETURN`, and of the same value `BPF_F_UPROBE_MULTI_RETURN`.
pub(crate) const MULTI_RETURN: u32 = 1;

/// Longer than any name in `struct bpf_link_info`: `PATH_MAX`.
pub(crate) const LINK_NAME_LEN: u32 = 4096;

/// `struct bpf_btf_info`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct BtfInfo {
    pub(crate) btf: u64,
    pub(crate) btf_size: u32,
    pub(crate) id: u32,
    /// Since 5.11, with `name_len`.
    pub(crate) name: u64,
    pub(crate) name_len: u32,
    /// Since 5.11.
    pub(crate) kernel_btf: u32,
}
const _: () = assert!(size_of::<BtfInfo>() == 32);

/// The length of [`BtfInfo`] from 4.18 to 5.10.
pub(crate) const BTF_INFO_LEN_5_4: usize = 16;

/// Longer than any module's name (`MODULE_NAME_LEN` is 56 on 64-bit architectures).
pub(crate) const BTF_NAME_LEN: usize = 64;

/// A buffer for the name of a BTF object.
pub(crate) type BtfName = [u8; BTF_NAME_LEN];
