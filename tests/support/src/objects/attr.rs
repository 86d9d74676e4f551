//! Layouts of the members of `union bpf_attr` that are used here, one struct per command, and of `struct perf_event_attr`.
//! They hold numbers and addresses without guarantees: [`super::sys`] fills them in and keeps the invariants.
//! Padding is spelt out, since the kernel reads every byte and refuses an unknown one that is not zero.

/// `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProgramLoad {
    pub(super) program_type: u32,
    pub(super) instruction_count: u32,
    pub(super) instructions: u64,
    pub(super) license: u64,
    pub(super) log_level: u32,
    pub(super) log_size: u32,
    pub(super) log: u64,
    pub(super) kernel_version: u32,
    pub(super) flags: u32,
    pub(super) name: [u8; 16],
    pub(super) interface: u32,
    pub(super) expected_attach_type: u32,
    pub(super) btf_fd: u32,
    pub(super) function_record_size: u32,
    pub(super) functions: u64,
    pub(super) function_count: u32,
    pub(super) line_record_size: u32,
    pub(super) lines: u64,
    pub(super) line_count: u32,
    pub(super) attach_btf_id: u32,
    pub(super) attach_program_fd: u32,
    pub(super) padding: u32,
}

/// The size of [`FunctionRecord`], as the kernel expects it.
pub(super) const FUNCTION_RECORD_SIZE: u32 = 8;

/// `struct bpf_func_info`: the BTF function that begins at an instruction.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FunctionRecord {
    pub(super) first_instruction: u32,
    pub(super) type_id: u32,
}

/// `BPF_MAP_CREATE`, up to `map_extra` (5.16).
#[repr(C)]
#[derive(Default)]
pub(super) struct MapCreate {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    pub(super) inner_map_fd: u32,
    pub(super) numa_node: u32,
    pub(super) name: [u8; 16],
    pub(super) interface: u32,
    pub(super) btf_fd: u32,
    pub(super) btf_key_type: u32,
    pub(super) btf_value_type: u32,
    pub(super) kernel_value_type: u32,
    pub(super) extra: u64,
}

/// `BPF_MAP_UPDATE_ELEM` and similar commands; for `BPF_MAP_GET_NEXT_KEY` the value field is the next key.
#[repr(C)]
#[derive(Default)]
pub(super) struct MapElement {
    pub(super) map_fd: u32,
    pub(super) padding: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
}

/// `BPF_MAP_UPDATE_BATCH`.
#[repr(C)]
#[derive(Default)]
pub(super) struct MapBatch {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) count: u32,
    pub(super) map_fd: u32,
    pub(super) element_flags: u64,
    pub(super) flags: u64,
}

/// `BPF_PROG_ATTACH`, up to `expected_revision` (6.6).
#[repr(C)]
#[derive(Default)]
pub(super) struct ProgramAttach {
    pub(super) target: u32,
    pub(super) program_fd: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) replaced_fd: u32,
    pub(super) relative: u32,
    pub(super) expected_revision: u64,
}

/// `BPF_MAP_FREEZE`.
#[repr(C)]
pub(super) struct MapFreeze {
    pub(super) map_fd: u32,
}

/// `BPF_PROG_BIND_MAP`.
#[repr(C)]
#[derive(Default)]
pub(super) struct BindMap {
    pub(super) program_fd: u32,
    pub(super) map_fd: u32,
    pub(super) flags: u32,
}

/// `BPF_BTF_LOAD`.
#[repr(C)]
#[derive(Default)]
pub(super) struct BtfLoad {
    pub(super) blob: u64,
    pub(super) log: u64,
    pub(super) blob_size: u32,
    pub(super) log_size: u32,
    pub(super) log_level: u32,
    pub(super) padding: u32,
}

/// `BPF_OBJ_PIN`.
#[repr(C)]
#[derive(Default)]
pub(super) struct ObjectPin {
    pub(super) path: u64,
    pub(super) fd: u32,
    pub(super) flags: u32,
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
pub(super) struct ObjectInfo {
    pub(super) fd: u32,
    pub(super) info_size: u32,
    pub(super) info: u64,
}

/// `BPF_PROG_GET_NEXT_ID` and its sisters.
#[repr(C)]
#[derive(Default)]
pub(super) struct NextId {
    pub(super) start: u32,
    pub(super) next: u32,
    pub(super) open_flags: u32,
}

/// `BPF_PROG_TEST_RUN`, as far as programs that look at a packet need it.
#[repr(C)]
#[derive(Default)]
pub(super) struct TestRun {
    pub(super) program_fd: u32,
    pub(super) returned: u32,
    pub(super) packet_size: u32,
    pub(super) output_size: u32,
    pub(super) packet: u64,
    pub(super) output: u64,
    pub(super) repeat: u32,
    pub(super) duration: u32,
}

/// `BPF_ENABLE_STATS`.
#[repr(C)]
pub(super) struct EnableStats {
    pub(super) kind: u32,
}

/// `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
#[derive(Default)]
pub(super) struct RawTracepointOpen {
    pub(super) name: u64,
    pub(super) program_fd: u32,
    pub(super) padding: u32,
}

/// `BPF_LINK_CREATE`: a common head, and `Options` for the kind of place.
#[repr(C)]
pub(super) struct LinkCreate<Options> {
    pub(super) object_fd: u32,
    pub(super) target: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) options: Options,
}

/// `link_update`.
#[repr(C)]
#[derive(Default)]
pub(super) struct LinkUpdate {
    pub(super) link_fd: u32,
    pub(super) new_program_fd: u32,
    pub(super) flags: u32,
    pub(super) old_program_fd: u32,
}

/// `link_create.kprobe_multi`.
#[repr(C)]
#[derive(Default)]
pub(super) struct KprobeMulti {
    pub(super) flags: u32,
    pub(super) count: u32,
    pub(super) symbols: u64,
    pub(super) addresses: u64,
    pub(super) cookies: u64,
}

/// `link_create.uprobe_multi`.
#[repr(C)]
#[derive(Default)]
pub(super) struct UprobeMulti {
    pub(super) path: u64,
    pub(super) offsets: u64,
    pub(super) reference_counters: u64,
    pub(super) cookies: u64,
    pub(super) count: u32,
    pub(super) flags: u32,
    pub(super) process: u32,
    pub(super) padding: u32,
}

/// `link_create.iter_info` and its length.
#[repr(C)]
#[derive(Default)]
pub(super) struct IteratorLink {
    pub(super) within: u64,
    pub(super) size: u32,
    pub(super) padding: u32,
}

/// `link_create.netfilter`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Netfilter {
    pub(super) family: u32,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) flags: u32,
}

/// The size of [`PerfEvent`], as the kernel expects it (`PERF_ATTR_SIZE_VER1`).
pub(super) const PERF_EVENT_SIZE: u32 = 72;

/// `struct perf_event_attr` up to `config2`.
#[repr(C)]
#[derive(Default)]
pub(super) struct PerfEvent {
    pub(super) event_type: u32,
    pub(super) size: u32,
    pub(super) config: u64,
    pub(super) sample_period: u64,
    pub(super) sample_type: u64,
    pub(super) read_format: u64,
    pub(super) flags: u64,
    pub(super) wakeup_events: u32,
    pub(super) breakpoint_type: u32,
    pub(super) config1: u64,
    pub(super) config2: u64,
}

/// The sum of the fields: what holds for these structs is that the compiler adds no hidden padding.
const _: () = {
    assert!(size_of::<ProgramLoad>() == 120);
    assert!(size_of::<FunctionRecord>() == FUNCTION_RECORD_SIZE as usize);
    assert!(size_of::<MapCreate>() == 72);
    assert!(size_of::<MapElement>() == 32);
    assert!(size_of::<MapBatch>() == 56);
    assert!(size_of::<MapFreeze>() == 4);
    assert!(size_of::<BindMap>() == 12);
    assert!(size_of::<BtfLoad>() == 32);
    assert!(size_of::<ObjectPin>() == 16);
    assert!(size_of::<ObjectInfo>() == 16);
    assert!(size_of::<NextId>() == 12);
    assert!(size_of::<TestRun>() == 40);
    assert!(size_of::<RawTracepointOpen>() == 16);
    assert!(size_of::<LinkCreate<()>>() == 16);
    assert!(size_of::<LinkCreate<KprobeMulti>>() == 48);
    assert!(size_of::<LinkCreate<UprobeMulti>>() == 64);
    assert!(size_of::<LinkCreate<Netfilter>>() == 32);
    assert!(size_of::<LinkCreate<IteratorLink>>() == 32);
    assert!(size_of::<PerfEvent>() == PERF_EVENT_SIZE as usize);
};
