//! Creation of our own objects: maps, iterator programs, their links and BTF, iterators, and the descriptor that enables run
//! statistics.
//!
//! Entry points: [`load_iterator`] and [`link_iterator`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::info::size_of_u32;
use super::uapi::{CoreRelocation, FunctionInfo, Instruction, LineInfo, OBJ_NAME_LEN};
use super::{Command, bpf, open};
use crate::model::enums::{attach_type, program_type};
use crate::sys::{Error, Result};

/// The leading fields of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; OBJ_NAME_LEN],
    ifindex: u32,
    btf_fd: i32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to the fields of 5.17.
#[derive(Default)]
#[repr(C, align(8))]
struct ProgramAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; OBJ_NAME_LEN],
    ifindex: u32,
    expected_attach_type: u32,
    btf_fd: i32,
    function_info_size: u32,
    functions: u64,
    function_count: u32,
    line_info_size: u32,
    lines: u64,
    line_count: u32,
    attach_btf_id: u32,
    attach_btf_fd: i32,
    core_relocation_count: u32,
    fds: u64,
    core_relocations: u64,
    core_relocation_size: u32,
    padding: u32,
}
const _: () = assert!(size_of::<MapAttr>() == 60 && size_of::<ProgramAttr>() == 144);

/// The leading fields of `union bpf_attr` for `BPF_BTF_LOAD`.
#[repr(C, align(8))]
struct BtfAttr {
    btf: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// The leading fields of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C, align(8))]
struct LinkAttr {
    program_fd: i32,
    target_fd: i32,
    attach_type: u32,
    flags: u32,
    iterator_info: u64,
    iterator_info_len: u32,
}

/// `union bpf_attr` for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterAttr {
    link_fd: i32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_ENABLE_STATS`.
#[repr(C)]
struct StatsAttr {
    kind: u32,
}

/// A map to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapDefinition {
    pub(crate) name: String,
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    /// The types of its keys and values in the BTF object that it is created with.
    pub(crate) key_type_id: u32,
    pub(crate) value_type_id: u32,
}

/// A program to be loaded that runs over one of the kernel's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IteratorProgram<'a> {
    pub(crate) name: &'a str,
    pub(crate) license: &'a CStr,
    pub(crate) instructions: &'a [Instruction],
    /// The BTF object that the three lists refer to.
    pub(crate) btf: BorrowedFd<'a>,
    pub(crate) functions: &'a [FunctionInfo],
    pub(crate) lines: &'a [LineInfo],
    pub(crate) core_relocations: &'a [CoreRelocation],
    /// The type id of the table's function `bpf_iter_*` in the kernel's BTF.
    pub(crate) attach_btf_id: u32,
}

/// Creates a map.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF` where unprivileged bpf(2) is disabled; `EINVAL` for an unknown type or flag.
pub(crate) fn create_map(map: &MapDefinition, btf: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = MapAttr {
        map_type: map.map_type,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.flags,
        inner_map_fd: 0,
        numa_node: 0,
        name: object_name(&map.name),
        ifindex: 0,
        btf_fd: btf.as_raw_fd(),
        btf_key_type_id: map.key_type_id,
        btf_value_type_id: map.value_type_id,
    };
    // SAFETY: `BPF_MAP_CREATE` takes a `MapAttr`, which holds no address, and returns a new descriptor.
    unsafe { open(Command::MapCreate, &mut attr) }
}

/// Returns whether the kernel applies CO-RE relocations itself (5.17); `true` also if this process may not load programs.
pub(crate) fn relocates_programs() -> bool {
    // Unsupported flags: every kernel refuses the request.
    let mut attr = ProgramAttr { core_relocation_size: 16, flags: u32::MAX, ..ProgramAttr::default() };
    // SAFETY: `BPF_PROG_LOAD` takes a `ProgramAttr`; every address in it is null.
    let refused = unsafe { bpf(Command::ProgLoad, &mut attr) };
    // E2BIG: a field beyond this kernel's `union bpf_attr` is not zero (`bpf_check_uarg_tail_zero`, `kernel/bpf/syscall.c`).
    refused.err().is_none_or(|error| error.errno != Errno::E2BIG)
}

/// Loads an iterator program. On refusal, the verifier's messages are in `log`, zero-terminated, unless it is empty.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF` and `CAP_PERFMON`; `E2BIG` before 5.17; those of the verifier.
pub(crate) fn load_iterator(program: &IteratorProgram<'_>, log: &mut [u8]) -> Result<OwnedFd> {
    /// The verifier returns EAGAIN while a signal is pending (a frozen cgroup, an attached debugger). libbpf tries as often.
    const ATTEMPTS: usize = 5;
    /// `BPF_LOG_STATS` of `include/linux/bpf_verifier.h`: errors and figures, and not every instruction.
    const LOG_ERRORS: u32 = 4;
    let mut attr = ProgramAttr {
        program_type: program_type::TRACING,
        instruction_count: count(Command::ProgLoad, program.instructions)?,
        instructions: program.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        log_level: if log.is_empty() { 0 } else { LOG_ERRORS },
        log_size: count(Command::ProgLoad, log)?,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        name: object_name(program.name),
        expected_attach_type: attach_type::TRACE_ITER,
        btf_fd: program.btf.as_raw_fd(),
        function_info_size: size_of_u32::<FunctionInfo>(),
        functions: program.functions.as_ptr() as u64,
        function_count: count(Command::ProgLoad, program.functions)?,
        line_info_size: size_of_u32::<LineInfo>(),
        lines: program.lines.as_ptr() as u64,
        line_count: count(Command::ProgLoad, program.lines)?,
        attach_btf_id: program.attach_btf_id,
        core_relocations: program.core_relocations.as_ptr() as u64,
        core_relocation_count: count(Command::ProgLoad, program.core_relocations)?,
        core_relocation_size: size_of_u32::<CoreRelocation>(),
        ..ProgramAttr::default()
    };
    // SAFETY: `BPF_PROG_LOAD` takes a `ProgramAttr` and returns a new descriptor. Each address is that of a slice that outlives
    // the call and has the count and record size given, or of `license`, which is zero-terminated; the kernel writes only to `log`,
    // and at most `log_size` bytes.
    let mut load = || unsafe { open(Command::ProgLoad, &mut attr) };
    for _ in 1..ATTEMPTS {
        match load() {
            Err(Error { errno: Errno::EAGAIN, .. }) => {}
            result => return result,
        }
    }
    load()
}

/// Loads type information as a BTF object.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF`; `EINVAL` for kinds of types that the kernel does not know.
pub(crate) fn load_btf(types: &[u8]) -> Result<OwnedFd> {
    let size = count(Command::BtfLoad, types)?;
    let mut attr =
        BtfAttr { btf: types.as_ptr() as u64, log: 0, size, log_size: 0, log_level: 0, padding: 0 };
    // SAFETY: `BPF_BTF_LOAD` takes a `BtfAttr` and returns a new descriptor; `attr.btf` is `types`, which outlives the call and is as
    // long as `attr.size` says; there is no log.
    unsafe { open(Command::BtfLoad, &mut attr) }
}

/// Links an iterator program to its table. One over tasks visits only `thread`, if there is one, by its id in the pid namespace of the
/// caller; before 6.1 it visits all tasks of that namespace nevertheless.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF` and `CAP_PERFMON`; `EINVAL` when the program is no iterator, or `thread` is none.
pub(crate) fn link_iterator(program: BorrowedFd<'_>, thread: Option<Pid>) -> Result<OwnedFd> {
    // `union bpf_iter_link_info` with the first field of a task.
    let info = thread.map(Pid::as_raw);
    let mut attr = LinkAttr {
        program_fd: program.as_raw_fd(),
        target_fd: 0,
        attach_type: attach_type::TRACE_ITER,
        flags: 0,
        iterator_info: info.as_ref().map_or(0, |info| std::ptr::from_ref(info) as u64),
        iterator_info_len: info.as_ref().map_or(0, |_| size_of_u32::<i32>()),
    };
    // SAFETY: `BPF_LINK_CREATE` takes a `LinkAttr` and returns a new descriptor; the one address in it is null or that of `info`, which
    // outlives the call and is as long as the length says.
    unsafe { open(Command::LinkCreate, &mut attr) }
}

/// Creates an iterator of a link. It can be read once, from start to end.
///
/// # Errors
///
/// `EINVAL` if the link is not one of an iterator; before 5.19 `EPERM` without `CAP_BPF` if unprivileged bpf(2) is disabled.
pub(crate) fn create_iterator(link: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = IterAttr { link_fd: link.as_raw_fd(), flags: 0 };
    // SAFETY: `BPF_ITER_CREATE` takes an `IterAttr`, which holds no address, and returns a new descriptor.
    unsafe { open(Command::IterCreate, &mut attr) }
}

/// Enables run statistics of all programs: the kernel counts runs and run time while the descriptor is open.
///
/// The kernel counts such descriptors, so other processes' requests are independent of this one, and closes that of a process
/// that is killed.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` before 5.8.
pub(crate) fn enable_stats() -> Result<OwnedFd> {
    /// `BPF_STATS_RUN_TIME`, the only value of `enum bpf_stats_type`.
    const RUN_TIME: u32 = 0;
    let mut attr = StatsAttr { kind: RUN_TIME };
    // SAFETY: `BPF_ENABLE_STATS` takes a `StatsAttr`, which holds no address, and returns a new descriptor.
    unsafe { open(Command::EnableStats, &mut attr) }
}

/// Returns a name as the kernel stores it: cut at 15 characters, NUL-terminated.
fn object_name(name: &str) -> [u8; OBJ_NAME_LEN] {
    let mut bytes = [0; OBJ_NAME_LEN];
    let len = name.len().min(OBJ_NAME_LEN - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

fn count<T>(command: Command, of: &[T]) -> Result<u32> {
    u32::try_from(of.len()).map_err(|_| Error::new(command.as_str(), Errno::E2BIG))
}
