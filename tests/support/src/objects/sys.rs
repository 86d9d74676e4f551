//! System calls made safe: bpf(2) command by command, and the few others that BPF objects need around them.
//! All unsafe code is here and in the modules below: every address for the kernel is taken here, from a borrow that outlives the call.
#![expect(unsafe_code, reason = "the one module that talks to the kernel")]

mod cpu;
mod element;
mod mapping;
mod socket;

pub(super) use cpu::{allowed_cpus, pin_to_cpu};
pub(super) use element::{
    Element, map_delete, map_freeze, map_lookup, map_next_key, map_pop, map_update, map_update_batch,
};
pub(super) use mapping::{Access, Mapping, page_size};
pub(super) use socket::{process_fd, shared_udp_socket, xdp_socket};

use super::attr;
use super::error::invalid;
use super::instruction::Instruction;
use super::kind::Kind;
use super::place::{Event, Options, Place};
use std::ffi::{CStr, CString, c_int, c_long, c_uint};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Once;

// enum bpf_cmd, include/uapi/linux/bpf.h.
const MAP_CREATE: c_int = 0;
const PROG_LOAD: c_int = 5;
const OBJ_PIN: c_int = 6;
const OBJ_GET: c_int = 7;
const PROG_TEST_RUN: c_int = 10;
const PROG_GET_NEXT_ID: c_int = 11;
const MAP_GET_NEXT_ID: c_int = 12;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const RAW_TRACEPOINT_OPEN: c_int = 17;
const BTF_LOAD: c_int = 18;
const BTF_GET_NEXT_ID: c_int = 23;
const LINK_CREATE: c_int = 28;
const LINK_GET_FD_BY_ID: c_int = 30;
const LINK_GET_NEXT_ID: c_int = 31;
const ENABLE_STATS: c_int = 32;

/// The verifier returns EAGAIN when a signal interrupts it; libbpf, too, tries five times.
const LOAD_ATTEMPTS: usize = 5;

/// What a system call returned, or its errno.
fn checked(returned: c_long) -> io::Result<c_int> {
    if returned == -1 {
        return Err(io::Error::last_os_error());
    }
    c_int::try_from(returned).map_err(|_| invalid(format!("the kernel returned {returned}")))
}

/// # Safety
/// `returned` is what a system call that makes an fd returned: no one else owns that fd.
unsafe fn checked_fd(returned: c_long) -> io::Result<OwnedFd> {
    let fd = checked(returned)?;
    // SAFETY: the caller vouches that the fd is new, and it is not -1.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
/// `attr` is the command's own member of `union bpf_attr`, and each address in it is good for what the command does with it.
unsafe fn bpf<T>(command: c_int, attr: &mut T) -> io::Result<c_int> {
    // SAFETY: the attribute is alive and has this size; the caller guarantees what it points to.
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<T>()) })
}

/// bpf(2) with a command that makes an fd.
///
/// # Safety
/// As [`bpf`]; and the command does make one.
unsafe fn bpf_fd<T>(command: c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the attribute.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the caller vouches that the fd is new, and it is not -1.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An fd as the attributes hold it.
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T: ?Sized>(of: &T) -> u64 {
    ptr::from_ref(of).cast::<u8>().expose_provenance() as u64
}

fn address_mut<T: ?Sized>(of: &mut T) -> u64 {
    ptr::from_mut(of).cast::<u8>().expose_provenance() as u64
}

fn length<T>(of: &[T]) -> io::Result<u32> {
    u32::try_from(of.len()).map_err(|_| invalid(format!("{} elements are too many", of.len())))
}

fn path_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// `BPF_PROG_LOAD`. `attr` brings the numbers; every address and length in it is set here.
/// The verifier writes its reasons into `log`, ended by a zero byte; an empty one makes it faster and silent.
pub(super) fn program_load(
    attr: &attr::ProgramLoad,
    instructions: &[Instruction],
    license: &CStr,
    functions: &[attr::FunctionRecord],
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut attr = attr::ProgramLoad {
        instructions: address(instructions),
        instruction_count: length(instructions)?,
        license: address(license),
        functions: address(functions),
        function_count: length(functions)?,
        function_record_size: attr::FUNCTION_RECORD_SIZE,
        lines: 0,
        line_count: 0,
        log: if log.is_empty() { 0 } else { address_mut(log) },
        log_size: length(log)?,
        log_level: u32::from(!log.is_empty()),
        ..*attr
    };
    raise_limits();
    for _ in 1..LOAD_ATTEMPTS {
        // SAFETY: the kernel reads the borrowed slices within the given lengths and writes only into the borrowed log.
        match unsafe { bpf_fd(PROG_LOAD, &mut attr) } {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            loaded => return loaded,
        }
    }
    // SAFETY: as above.
    unsafe { bpf_fd(PROG_LOAD, &mut attr) }
}

/// `BPF_MAP_CREATE`, which takes no address.
pub(super) fn map_create(mut attr: attr::MapCreate) -> io::Result<OwnedFd> {
    raise_limits();
    // SAFETY: the attribute holds numbers only.
    unsafe { bpf_fd(MAP_CREATE, &mut attr) }
}

/// `BPF_BTF_LOAD`. The kernel writes its reasons for a refusal into `log`.
pub(super) fn btf_load(blob: &[u8], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attr = attr::BtfLoad {
        blob: address(blob),
        blob_size: length(blob)?,
        log: address_mut(log),
        log_size: length(log)?,
        log_level: 1,
        ..Default::default()
    };
    // SAFETY: the kernel reads the borrowed blob and writes only into the borrowed log.
    unsafe { bpf_fd(BTF_LOAD, &mut attr) }
}

/// `BPF_OBJ_PIN`.
pub(super) fn object_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_string(path)?;
    let mut attr = attr::ObjectPin { path: address(path.as_c_str()), fd: number(fd), ..Default::default() };
    // SAFETY: the path is alive and ends with a zero byte.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(drop)
}

/// `BPF_OBJ_GET`, for reading and writing.
pub(super) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_string(path)?;
    let mut attr = attr::ObjectPin { path: address(path.as_c_str()), ..Default::default() };
    // SAFETY: the path is alive and ends with a zero byte.
    unsafe { bpf_fd(OBJ_GET, &mut attr) }
}

/// `BPF_LINK_GET_FD_BY_ID`.
pub(super) fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = attr::NextId { start: id, ..Default::default() };
    // SAFETY: the attribute holds numbers only.
    unsafe { bpf_fd(LINK_GET_FD_BY_ID, &mut attr) }
}

/// `BPF_PROG_TEST_RUN` with a packet, `repeat` times; with an empty one for types that take none, and then know no repeating.
/// Gives what the program returned the last time.
pub(super) fn program_run(fd: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> io::Result<u32> {
    let mut attr = attr::TestRun {
        program_fd: number(fd),
        packet: if packet.is_empty() { 0 } else { address(packet) },
        packet_size: length(packet)?,
        repeat,
        ..Default::default()
    };
    // SAFETY: the kernel reads the borrowed packet and, without an output buffer, writes only into the attribute.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    Ok(attr.returned)
}

/// `BPF_PROG_BIND_MAP` (5.10): the program keeps the map from now on.
pub(super) fn program_bind_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    const PROG_BIND_MAP: c_int = 35;
    let mut attr = attr::BindMap { program_fd: number(program), map_fd: number(map), ..Default::default() };
    // SAFETY: the attribute holds numbers only.
    unsafe { bpf(PROG_BIND_MAP, &mut attr) }.map(drop)
}

/// How many 32-bit words of `struct bpf_*_info` are requested: more than any kernel has.
pub(super) const INFO_WORDS: usize = 64;

/// `BPF_OBJ_GET_INFO_BY_FD`: the struct's words; zeros beyond what the kernel knows.
pub(super) fn object_info(fd: BorrowedFd<'_>) -> io::Result<[u32; INFO_WORDS]> {
    let mut info = [0; INFO_WORDS];
    let mut attr =
        attr::ObjectInfo { fd: number(fd), info_size: length(&info)? * 4, info: address_mut(&mut info) };
    // SAFETY: the kernel writes at most `info_size` bytes there, and follows no address in it, since all are zero.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// The sizes of a program's functions as machine code (`jited_func_lens`), at most `most` of them.
pub(super) fn function_sizes(program: BorrowedFd<'_>, most: u32) -> io::Result<Vec<u32>> {
    /// Where in `struct bpf_prog_info` the number of sizes and the address for them stand, in bytes.
    const COUNT: usize = 108;
    const SIZES: usize = 120;
    let mut sizes = vec![0_u32; most as usize];
    let mut info = [0_u8; INFO_WORDS * 4];
    info[COUNT..][..4].copy_from_slice(&most.to_ne_bytes());
    info[SIZES..][..8].copy_from_slice(&address_mut(&mut *sizes).to_ne_bytes());
    let mut attr =
        attr::ObjectInfo { fd: number(program), info_size: length(&info)?, info: address_mut(&mut info) };
    // SAFETY: the kernel writes at most `info_size` bytes there, and `most` sizes to the one address in it.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let count = u32::from_ne_bytes([info[COUNT], info[COUNT + 1], info[COUNT + 2], info[COUNT + 3]]);
    sizes.truncate(count as usize);
    Ok(sizes)
}

/// `BPF_PROG_GET_NEXT_ID` or one of its sisters: the smallest id above `id`.
pub(super) fn next_id(kind: Kind, id: u32) -> io::Result<u32> {
    let command = match kind {
        Kind::Program => PROG_GET_NEXT_ID,
        Kind::Map => MAP_GET_NEXT_ID,
        Kind::Link => LINK_GET_NEXT_ID,
        Kind::Btf => BTF_GET_NEXT_ID,
    };
    let mut attr = attr::NextId { start: id, ..Default::default() };
    // SAFETY: the attribute holds numbers only.
    unsafe { bpf(command, &mut attr) }?;
    Ok(attr.next)
}

/// Counts and times every program's runs, for as long as the fd is open (`BPF_ENABLE_STATS`, 5.8).
///
/// # Errors
/// The kernel's refusal: EPERM without `CAP_SYS_ADMIN`.
pub fn run_statistics() -> io::Result<OwnedFd> {
    let mut attr = attr::EnableStats { kind: 0 };
    // SAFETY: the attribute holds numbers only.
    unsafe { bpf_fd(ENABLE_STATS, &mut attr) }
}

/// `BPF_RAW_TRACEPOINT_OPEN`: attaches to a raw tracepoint by name; without one, to the attach point of the program.
pub(super) fn raw_tracepoint_open(program: BorrowedFd<'_>, name: Option<&CStr>) -> io::Result<OwnedFd> {
    let mut attr = attr::RawTracepointOpen {
        name: name.map_or(0, address),
        program_fd: number(program),
        ..Default::default()
    };
    // SAFETY: the name, if any, is alive and ends with a zero byte.
    unsafe { bpf_fd(RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// `BPF_LINK_CREATE` for a program, or for a map of struct operations.
pub(super) fn link_create(object: BorrowedFd<'_>, place: Place<'_>) -> io::Result<OwnedFd> {
    match place.options {
        Options::None => link_create_with(object, place, ()),
        Options::Netfilter { family, hook, priority } => {
            let options = attr::Netfilter { family, hook, priority, flags: 0 };
            link_create_with(object, place, options)
        }
        Options::KernelFunctions(symbols) => {
            let count = length(symbols)?;
            let symbols: Vec<u64> = symbols.iter().map(|&symbol| address(symbol)).collect();
            let options =
                attr::KprobeMulti { count, symbols: address(symbols.as_slice()), ..Default::default() };
            link_create_with(object, place, options)
        }
        Options::UserFunctions { path, offsets } => {
            let options = attr::UprobeMulti {
                path: address(path),
                offsets: address(offsets),
                count: length(offsets)?,
                ..Default::default()
            };
            link_create_with(object, place, options)
        }
        Options::Iterator(within) => {
            let options =
                attr::IteratorLink { within: address(within), size: length(within)? * 4, padding: 0 };
            link_create_with(object, place, options)
        }
    }
}

/// The one call behind [`link_create`], which keeps alive what `options` points to.
fn link_create_with<T>(object: BorrowedFd<'_>, place: Place<'_>, options: T) -> io::Result<OwnedFd> {
    let mut attr = attr::LinkCreate {
        object_fd: number(object),
        target: place.target,
        attach_type: place.attach_type,
        flags: place.flags,
        options,
    };
    // SAFETY: the kernel only reads through addresses in the options, and `link_create`, the only caller,
    // has them from borrows that outlive this call.
    unsafe { bpf_fd(LINK_CREATE, &mut attr) }
}

/// `BPF_LINK_UPDATE`: another program in the place of the link's.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const LINK_UPDATE: c_int = 29;
    let mut attr =
        attr::LinkUpdate { link_fd: number(link), new_program_fd: number(program), ..Default::default() };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(drop)
}

/// `BPF_PROG_ATTACH`: attaches without a link, to an fd or the index of an interface.
pub(super) fn program_attach(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<()> {
    const PROG_ATTACH: c_int = 8;
    let program_fd = number(program);
    let mut attr = attr::ProgramAttach { target, program_fd, attach_type, flags, ..Default::default() };
    // SAFETY: the attribute holds numbers only.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// `PERF_EVENT_IOC_SET_BPF`: attaches to a perf event without a link, for as long as the event is open.
pub(super) fn perf_event_set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const SET_BPF: libc::Ioctl = 0x4004_2408;
    // SAFETY: the arguments are numbers.
    checked(unsafe { libc::ioctl(event.as_raw_fd(), SET_BPF, program.as_raw_fd()) }.into()).map(drop)
}

/// `perf_event_open(2)` for every process, on the first CPU. Nothing reads the event: it carries programs.
pub(super) fn perf_event_open(event: &Event<'_>) -> io::Result<OwnedFd> {
    const TYPE_SOFTWARE: u32 = 1;
    const TYPE_TRACEPOINT: u32 = 2;
    const EVERY_PROCESS: c_int = -1;
    const FIRST_CPU: c_int = 0;
    const NO_GROUP: c_int = -1;
    const FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    let mut attr = attr::PerfEvent { size: attr::PERF_EVENT_SIZE, ..Default::default() };
    match *event {
        Event::Software { id, period } => {
            (attr.event_type, attr.config, attr.sample_period) = (TYPE_SOFTWARE, id, period);
        }
        Event::Tracepoint(id) => {
            (attr.event_type, attr.config, attr.sample_period) = (TYPE_TRACEPOINT, id, 1);
        }
        Event::Probe { pmu, place, offset, on_return } => {
            (attr.event_type, attr.config1, attr.config2) = (pmu, address(place), offset);
            attr.config = u64::from(on_return);
        }
    }
    // SAFETY: the kernel reads the attribute, whose size is in it, and the name.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            ptr::from_ref(&attr),
            EVERY_PROCESS,
            FIRST_CPU,
            NO_GROUP,
            FLAG_FD_CLOEXEC,
        )
    };
    // SAFETY: perf_event_open makes a new fd.
    unsafe { checked_fd(returned) }
}

/// A file system mounted nowhere: fsopen(2), fsconfig(2), fsmount(2), all of 5.2. The fd is the root directory.
pub(super) fn mount_detached(file_system: &CStr) -> io::Result<OwnedFd> {
    const CLOEXEC: c_uint = 1;
    const CONFIG_CREATE: c_uint = 6;
    let nothing = ptr::null::<u8>();
    // SAFETY: the name is alive and ends with a zero byte.
    let opened = unsafe { libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), CLOEXEC) };
    // SAFETY: fsopen makes a new fd.
    let context = unsafe { checked_fd(opened) }?;
    let fd = context.as_raw_fd();
    // SAFETY: this command takes neither key nor value.
    checked(unsafe { libc::syscall(libc::SYS_fsconfig, fd, CONFIG_CREATE, nothing, nothing, 0) })?;
    // SAFETY: the arguments are numbers.
    let mounted = unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, 0) };
    // SAFETY: fsmount makes a new fd.
    unsafe { checked_fd(mounted) }
}

/// Makes a detached mount visible at `directory`: `move_mount(2)`.
pub(super) fn mount_at(mount: BorrowedFd<'_>, directory: &Path) -> io::Result<()> {
    const FROM_IS_THE_FD: c_uint = 4;
    let directory = path_string(directory)?;
    // SAFETY: both paths are alive and end with a zero byte.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            directory.as_ptr(),
            FROM_IS_THE_FD,
        )
    };
    checked(returned).map(drop)
}

/// Takes a mount out of sight at once, though something may still use it: umount2(2).
pub(super) fn unmount(directory: &Path) -> io::Result<()> {
    let directory = path_string(directory)?;
    // SAFETY: the path is alive and ends with a zero byte.
    let returned = unsafe { libc::umount2(directory.as_ptr(), libc::MNT_DETACH) };
    checked(returned.into()).map(drop)
}

/// Moves the calling thread, and no other, into a new network namespace.
pub(super) fn unshare_network() -> io::Result<()> {
    // SAFETY: the argument is a number.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) }.into()).map(drop)
}

/// Moves the calling thread, and no other, into a network namespace.
pub(super) fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the arguments are numbers.
    checked(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }.into()).map(drop)
}

/// A routing netlink socket of the calling thread's network namespace, to be written and read like a file.
pub(super) fn route_socket() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: the arguments are numbers.
    let opened = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    // SAFETY: socket makes a new fd.
    unsafe { checked_fd(opened.into()) }.map(File::from)
}

/// Raises the limits of this process, once: open files as far as the hard limit, locked memory altogether if it may.
/// Before 5.11 the kernel counts programs and maps as locked memory and, with the usual limit, soon answers EPERM.
/// A refusal changes nothing: whoever needs more hears it from the call that needs it.
fn raise_limits() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The C libraries do not agree on the type of these constants.
        let files = c_long::from(libc::RLIMIT_NOFILE);
        let locked_memory = c_long::from(libc::RLIMIT_MEMLOCK);
        for resource in [files, locked_memory] {
            let _raised = limit(resource, Some(Limit::all(u64::MAX)))
                .or_else(|_| limit(resource, Some(Limit::all(limit(resource, None)?.hard))));
        }
    });
}

/// `struct rlimit64`; the largest number means no limit.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Limit {
    soft: u64,
    hard: u64,
}

impl Limit {
    fn all(most: u64) -> Self {
        Self { soft: most, hard: most }
    }
}

/// Sets a limit of this process, if there is a `new` one, and returns the old: prlimit(2).
fn limit(resource: c_long, new: Option<Limit>) -> io::Result<Limit> {
    const THIS_PROCESS: c_int = 0;
    let mut old = Limit::default();
    let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
    let call = libc::SYS_prlimit64;
    // SAFETY: the kernel reads one limit, or none, and writes one.
    let returned = unsafe { libc::syscall(call, THIS_PROCESS, resource, new, &raw mut old) };
    checked(returned).map(|_| old)
}
