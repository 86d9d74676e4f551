//! The system call bpf(2), and what else has no safe wrapper: numbers in, owned file descriptors and plain structures out.
//! Knows no snapshot and gives no error a meaning. The only `unsafe` of the program is here.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::ffi::CStr;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::uapi::{
    BTF_INFO_LEN_5_4, BTF_NAME_LEN, BtfInfo, BtfName, FunctionInfo, KprobeMultiLink, LINK_NAME_LEN, LinkInfo,
    MapInfo, ProgramInfo, Reported, UprobeMultiLink, link_type, map_type,
};
use crate::model::Kind;

/// A command of bpf(2) that this program uses. Source: `enum bpf_cmd`, `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    MapLookupElem = 1,
    MapUpdateElem = 2,
    MapGetNextKey = 4,
    ObjGet = 7,
    ProgGetNextId = 11,
    MapGetNextId = 12,
    ProgGetFdById = 13,
    MapGetFdById = 14,
    ObjGetInfoByFd = 15,
    ProgQuery = 16,
    BtfLoad = 18,
    BtfGetFdById = 19,
    TaskFdQuery = 20,
    BtfGetNextId = 23,
    LinkCreate = 28,
    MapLookupBatch = 24,
    LinkGetFdById = 30,
    LinkGetNextId = 31,
    EnableStats = 32,
    IterCreate = 33,
}

impl Call {
    /// The kernel's name of the command.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::MapLookupElem => "BPF_MAP_LOOKUP_ELEM",
            Self::MapUpdateElem => "BPF_MAP_UPDATE_ELEM",
            Self::ProgQuery => "BPF_PROG_QUERY",
            Self::TaskFdQuery => "BPF_TASK_FD_QUERY",
            Self::LinkCreate => "BPF_LINK_CREATE",
            Self::IterCreate => "BPF_ITER_CREATE",
            Self::ObjGet => "BPF_OBJ_GET",
            Self::MapGetNextKey => "BPF_MAP_GET_NEXT_KEY",
            Self::MapLookupBatch => "BPF_MAP_LOOKUP_BATCH",
            Self::ProgGetNextId => "BPF_PROG_GET_NEXT_ID",
            Self::MapGetNextId => "BPF_MAP_GET_NEXT_ID",
            Self::ProgGetFdById => "BPF_PROG_GET_FD_BY_ID",
            Self::MapGetFdById => "BPF_MAP_GET_FD_BY_ID",
            Self::ObjGetInfoByFd => "BPF_OBJ_GET_INFO_BY_FD",
            Self::BtfLoad => "BPF_BTF_LOAD",
            Self::BtfGetFdById => "BPF_BTF_GET_FD_BY_ID",
            Self::BtfGetNextId => "BPF_BTF_GET_NEXT_ID",
            Self::LinkGetFdById => "BPF_LINK_GET_FD_BY_ID",
            Self::LinkGetNextId => "BPF_LINK_GET_NEXT_ID",
            Self::EnableStats => "BPF_ENABLE_STATS",
        }
    }

    /// The command that finds the next id of a kind.
    #[must_use]
    pub(super) const fn next_id(kind: Kind) -> Self {
        match kind {
            Kind::Program => Self::ProgGetNextId,
            Kind::Map => Self::MapGetNextId,
            Kind::Link => Self::LinkGetNextId,
            Kind::Btf => Self::BtfGetNextId,
        }
    }

    /// The command that opens an object of a kind by its id.
    #[must_use]
    pub(super) const fn fd_by_id(kind: Kind) -> Self {
        match kind {
            Kind::Program => Self::ProgGetFdById,
            Kind::Map => Self::MapGetFdById,
            Kind::Link => Self::LinkGetFdById,
            Kind::Btf => Self::BtfGetFdById,
        }
    }
}

/// `union bpf_attr` as `*_GET_NEXT_ID` and `*_GET_FD_BY_ID` use it.
#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The beginning of `union bpf_attr` as `BPF_OBJ_GET` uses it.
#[repr(C, align(8))]
struct PathAttr {
    path: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr` as `BPF_OBJ_GET_INFO_BY_FD` uses it.
#[repr(C, align(8))]
struct InfoAttr {
    fd: i32,
    info_len: u32,
    info: u64,
}

/// `union bpf_attr` as `BPF_MAP_UPDATE_ELEM` uses it.
#[repr(C, align(8))]
struct UpdateAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The beginning of `union bpf_attr` as `BPF_LINK_CREATE` uses it.
#[repr(C)]
struct LinkAttr {
    program_fd: i32,
    target_fd: i32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` as `BPF_ITER_CREATE` uses it.
#[repr(C)]
struct IterAttr {
    link_fd: i32,
    flags: u32,
}

/// The beginning of `union bpf_attr` as `BPF_BTF_LOAD` uses it.
#[repr(C, align(8))]
struct BtfAttr {
    btf: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// `union bpf_attr` as `BPF_MAP_GET_NEXT_KEY` uses it.
#[repr(C, align(8))]
struct NextKeyAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    next_key: u64,
    flags: u64,
}

/// `union bpf_attr` as `BPF_MAP_LOOKUP_BATCH` uses it.
#[repr(C, align(8))]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: i32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` as `BPF_MAP_LOOKUP_ELEM` uses it.
#[repr(C, align(8))]
struct LookupAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` as `BPF_PROG_QUERY` uses it, up to what 6.6 added.
#[repr(C, align(8))]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// `union bpf_attr` as `BPF_TASK_FD_QUERY` uses it.
#[repr(C, align(8))]
struct TaskFdAttr {
    pid: u32,
    fd: u32,
    flags: u32,
    buffer_len: u32,
    buffer: u64,
    program_id: u32,
    fd_type: u32,
    probe_offset: u64,
    probe_address: u64,
}

/// `union bpf_attr` as `BPF_ENABLE_STATS` uses it.
#[repr(C)]
struct StatsAttr {
    kind: u32,
}

/// Calls bpf(2) and gives back what it returned.
///
/// # Safety
///
/// `attr` is laid out as `command` expects it, and every address in it is valid for what the command does with it.
unsafe fn bpf<T>(command: Call, attr: &mut T) -> Result<i32, Errno> {
    let size = size_of::<T>();
    // SAFETY: `attr` is exclusively borrowed and `size` bytes long; the caller answers for the addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, &raw mut *attr, size) };
    Errno::result(result).map(|value| i32::try_from(value).expect("bpf(2) returns an int"))
}

/// The id of the first object of a kind behind `id`; `None` when there is none.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` when the kernel does not know the kind.
pub(super) fn next_id(kind: Kind, id: u32) -> Result<Option<u32>, Errno> {
    let mut attr = IdAttr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the `*_GET_NEXT_ID` commands take an `IdAttr`, which holds no address.
    match unsafe { bpf(Call::next_id(kind), &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens the object of a kind that has this id.
///
/// # Errors
///
/// `ENOENT` when it is gone; `EAGAIN` for a link that is still being made; `EPERM` without `CAP_SYS_ADMIN`.
pub(super) fn fd_by_id(kind: Kind, id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = IdAttr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the `*_GET_FD_BY_ID` commands take an `IdAttr`, which holds no address.
    let fd = unsafe { bpf(Call::fd_by_id(kind), &mut attr) }?;
    // SAFETY: on success these commands return a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the object that is pinned at a path, to be read only or without limits. A link can be had without limits only.
///
/// # Errors
///
/// `EACCES` where the pin's mode or the process's rights do not allow it, and for what is no pin; `EROFS` without limits in a bpffs
/// that is mounted to be read only; `EINVAL` for a link to be read only.
pub(super) fn open_pinned(path: &CStr, read_only: bool) -> Result<OwnedFd, Errno> {
    /// `BPF_F_RDONLY`, 4.15.
    const READ_ONLY: u32 = 1 << 3;
    let mut attr =
        PathAttr { path: path.as_ptr() as u64, bpf_fd: 0, file_flags: if read_only { READ_ONLY } else { 0 } };
    // SAFETY: `BPF_OBJ_GET` takes a `PathAttr`; its one address is that of `path`, which outlives the call and ends with a zero byte.
    let fd = unsafe { bpf(Call::ObjGet, &mut attr) }?;
    // SAFETY: on success the command returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The id of a program, a map or a link.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn object_id(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    /// With which `struct bpf_prog_info`, `bpf_map_info` and `bpf_link_info` begin.
    #[derive(FromBytes, IntoBytes)]
    #[repr(C)]
    struct Beginning {
        of_type: u32,
        id: u32,
    }
    // SAFETY: there is no address in so short a beginning.
    unsafe { info(fd, Beginning::new_zeroed(), size_of::<Beginning>()) }.map(|told| told.value.id)
}

/// The directory of the cgroup that has this id, in the hierarchy of which `mount` is any directory.
///
/// Source: `kernfs_fh_to_dentry`, `fs/kernfs/mount.c`, with handles of this type since 5.5. On any other file system the answer says
/// nothing.
///
/// # Errors
///
/// `ESTALE` when there is none (any more); `EPERM` without `CAP_DAC_READ_SEARCH`, and where a filter of system calls refuses it.
pub(super) fn open_cgroup(mount: BorrowedFd<'_>, id: u64) -> Result<OwnedFd, Errno> {
    /// `struct file_handle` of `include/linux/fs.h` with the one kind of handle that kernfs has.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    /// `FILEID_KERNFS` of `enum fid_type`, `include/linux/exportfs.h`.
    const KERNFS: i32 = 0xfe;
    let mut handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `handle` outlives the call, and what follows its two numbers is as long as the first says.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: on success the call returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor is an int")) })
}

/// Has the kernel count the runs of every program and their time, for as long as the descriptor is open.
///
/// The kernel counts its descriptors, so that this one takes nothing from whoever else has one, and takes it back from a
/// process that ends in whatever way.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` before 5.8.
pub(super) fn enable_stats() -> Result<OwnedFd, Errno> {
    /// `BPF_STATS_RUN_TIME` of `enum bpf_stats_type`, the only one there is.
    const RUN_TIME: u32 = 0;
    let mut attr = StatsAttr { kind: RUN_TIME };
    // SAFETY: `BPF_ENABLE_STATS` takes a `StatsAttr`, which holds no address.
    let fd = unsafe { bpf(Call::EnableStats, &mut attr) }?;
    // SAFETY: on success the command returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel says of a program.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn program_info(fd: BorrowedFd<'_>) -> Result<Reported<ProgramInfo>, Errno> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, ProgramInfo::new_zeroed(), size_of::<ProgramInfo>()) }
}

/// The first entry of a program's function table, which describes its entry function; `None` when it has no table.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn program_entry_function(fd: BorrowedFd<'_>) -> Result<Option<FunctionInfo>, Errno> {
    let mut function = FunctionInfo::new_zeroed();
    let mut request = ProgramInfo::new_zeroed();
    request.func_info = (&raw mut function) as u64;
    request.nr_func_info = 1;
    request.func_info_rec_size = size_of_u32::<FunctionInfo>();
    // SAFETY: the one address that is not null is `function`, which outlives the call and has room for the one record
    // of the size that the request names.
    let reported = unsafe { info(fd, request, size_of::<ProgramInfo>()) }?;
    Ok((reported.value.nr_func_info > 0).then_some(function))
}

/// The ids of the maps that a program uses, in the kernel's order. `expected` is how many there were a moment ago.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn program_map_ids(fd: BorrowedFd<'_>, expected: u32) -> Result<Vec<u32>, Errno> {
    let mut room = expected;
    loop {
        let mut ids = vec![0_u32; room as usize];
        let mut request = ProgramInfo::new_zeroed();
        request.map_ids = ids.as_mut_ptr() as u64;
        request.nr_map_ids = room;
        // SAFETY: the one address that is not null is `ids`, which outlives the call and has room for as many ids as the
        // request names.
        let there_are = unsafe { info(fd, request, size_of::<ProgramInfo>()) }?.value.nr_map_ids;
        if there_are <= room {
            ids.truncate(there_are as usize);
            return Ok(ids);
        }
        // More were bound meanwhile (`BPF_PROG_BIND_MAP`, 5.10).
        room = there_are;
    }
}

/// What the kernel says of a map.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn map_info(fd: BorrowedFd<'_>) -> Result<Reported<MapInfo>, Errno> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, MapInfo::new_zeroed(), size_of::<MapInfo>()) }
}

/// What the kernel says of a link of any type.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn link_info(fd: BorrowedFd<'_>) -> Result<Reported<LinkInfo>, Errno> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, LinkInfo::new_zeroed(), size_of::<LinkInfo>()) }
}

/// The name in what the kernel says of a link, up to its first zero byte: that of a tracepoint, an iterator's target, a symbol,
/// a file. `None` for a type of link that has none, and where the kernel does not tell it.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn link_name(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Errno> {
    let told = link_info(fd)?;
    // Which words of the union hold the buffer's address and its length.
    let (address, len) = match told.value.link_type {
        link_type::RAW_TRACEPOINT | link_type::ITER => (0, 1),
        link_type::PERF_EVENT => (1, 2),
        link_type::UPROBE_MULTI => (0, 4),
        _ => return Ok(None),
    };
    // A kernel whose structure ends before the length does not know it, and refuses what is not zero there.
    if told.len < offset_of!(LinkInfo, of_type) + (len + 1) * size_of::<u64>() {
        return Ok(None);
    }
    let mut name = vec![0_u8; LINK_NAME_LEN as usize];
    let mut request = LinkInfo::new_zeroed();
    request.of_type[address] = name.as_mut_ptr() as u64;
    request.of_type[len] = LINK_NAME_LEN.into();
    // SAFETY: the one address that is not null is `name`, which outlives the call, with its own length. These are the words that
    // the link's type uses for them, and a link does not change its type.
    match unsafe { info(fd, request, size_of::<LinkInfo>()) } {
        // A longer name was cut.
        Ok(_) | Err(Errno::ENOSPC) => {}
        Err(errno) => return Err(errno),
    }
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.truncate(len);
    Ok((len > 0).then_some(name))
}

/// The place of a `kprobe_multi` or `uprobe_multi` link that has only one: an address of the kernel, 0 for who may not know it,
/// or an offset in a file. `None` for any other link.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn link_place(fd: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
    let told = link_info(fd)?;
    let mut place = 0_u64;
    let mut request = LinkInfo::new_zeroed();
    match told.value.link_type {
        link_type::KPROBE_MULTI if told.of_type::<KprobeMultiLink>().value.count == 1 => {
            request.of_type[0] = (&raw mut place) as u64;
            request.of_type[1] = 1;
        }
        link_type::UPROBE_MULTI if told.of_type::<UprobeMultiLink>().value.count == 1 => {
            request.of_type[1] = (&raw mut place) as u64;
            request.of_type[4] = 1 << 32;
        }
        _ => return Ok(None),
    }
    // SAFETY: the one address that is not null is `place`, which outlives the call and has room for the one number that the
    // count beside it allows. These are the words that the link's type uses for them, and a link does not change its type.
    unsafe { info(fd, request, size_of::<LinkInfo>()) }?;
    Ok(Some(place))
}

/// What the kernel says of a BTF object, and its name, which ends at the first zero byte.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn btf_info(fd: BorrowedFd<'_>) -> Result<(Reported<BtfInfo>, BtfName), Errno> {
    let mut name = [0_u8; BTF_NAME_LEN];
    let mut request = BtfInfo::new_zeroed();
    request.name = name.as_mut_ptr() as u64;
    request.name_len = size_of_u32::<BtfName>();
    // SAFETY: the one address that is not null is `name`, which outlives the call, with its own length.
    let reported = match unsafe { info(fd, request, size_of::<BtfInfo>()) } {
        // Before 5.11 the structure ends before the name, and a tail that is not zero is refused.
        Err(Errno::E2BIG) => {
            // SAFETY: every address in a zeroed structure is null.
            unsafe { info(fd, BtfInfo::new_zeroed(), BTF_INFO_LEN_5_4) }?
        }
        other => other?,
    };
    Ok((reported, name))
}

/// The type information of a BTF object of `size` bytes.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(super) fn btf_data(fd: BorrowedFd<'_>, size: u32) -> Result<Vec<u8>, Errno> {
    let mut data = vec![0_u8; size as usize];
    let mut request = BtfInfo::new_zeroed();
    request.btf = data.as_mut_ptr() as u64;
    request.btf_size = size;
    // SAFETY: the one address that is not null is `data`, which outlives the call, with its own length.
    unsafe { info(fd, request, BTF_INFO_LEN_5_4) }?;
    Ok(data)
}

/// Makes a BTF object of this type information.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF`; `EINVAL` for what the kernel does not understand.
pub(super) fn load_btf(types: &[u8]) -> Result<OwnedFd, Errno> {
    let size = u32::try_from(types.len()).map_err(|_| Errno::E2BIG)?;
    let mut attr =
        BtfAttr { btf: types.as_ptr() as u64, log: 0, size, log_size: 0, log_level: 0, padding: 0 };
    // SAFETY: `attr.btf` is `types`, which outlives the call and is as long as `attr.size` says; there is no log.
    let fd = unsafe { bpf(Call::BtfLoad, &mut attr) }?;
    // SAFETY: on success the command returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether two threads share their table of descriptors, by their ids in our pid namespace.
///
/// # Errors
///
/// `ESRCH` when one is gone; `EPERM` for whom this process may not trace; `ENOSYS` where the kernel cannot compare
/// (`CONFIG_KCMP`).
pub(crate) fn share_descriptors(one: u32, other: u32) -> Result<bool, Errno> {
    /// `KCMP_FILES` of `enum kcmp_type`, `include/uapi/linux/kcmp.h`.
    const FILES: libc::c_int = 2;
    // SAFETY: kcmp(2) takes numbers, and no address with this type.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, FILES, 0_u64, 0_u64) };
    Errno::result(order).map(|order| order == 0)
}

/// Sets an element of a map of our own, whose keys and values are `K` and `V`.
///
/// # Errors
///
/// `E2BIG` when there is no such element.
///
/// # Panics
///
/// When the map's values are not as long as `V`: the kernel would read beyond it.
pub(super) fn update_map<V: IntoBytes + Immutable>(
    map: BorrowedFd<'_>,
    key: u32,
    value: &V,
) -> Result<(), Errno> {
    let info = map_info(map)?.value;
    assert_eq!((info.key_size as usize, info.value_size as usize), (size_of::<u32>(), size_of::<V>()));
    let mut attr = UpdateAttr {
        map_fd: map.as_raw_fd(),
        padding: 0,
        key: (&raw const key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    // SAFETY: `attr.key` and `attr.value` outlive the call and are as long as the map says, which was asked above and never
    // changes.
    unsafe { bpf(Call::MapUpdateElem, &mut attr) }?;
    Ok(())
}

/// Links an iterator program to its table.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF` and `CAP_PERFMON`; `EINVAL` when the program is no iterator.
pub(super) fn link_iterator(program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    /// `enum bpf_attach_type`.
    const BPF_TRACE_ITER: u32 = 28;
    let mut attr =
        LinkAttr { program_fd: program.as_raw_fd(), target_fd: 0, attach_type: BPF_TRACE_ITER, flags: 0 };
    // SAFETY: `BPF_LINK_CREATE` takes a `LinkAttr`, which holds no address.
    let fd = unsafe { bpf(Call::LinkCreate, &mut attr) }?;
    // SAFETY: on success the command returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A fresh iterator of a link, to be read from its beginning to its end.
///
/// # Errors
///
/// `EINVAL` when the link is not one of an iterator; before 5.19 `EPERM` without `CAP_BPF`, where unprivileged bpf(2) is
/// disabled.
pub(super) fn create_iterator(link: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut attr = IterAttr { link_fd: link.as_raw_fd(), flags: 0 };
    // SAFETY: `BPF_ITER_CREATE` takes an `IterAttr`, which holds no address.
    let fd = unsafe { bpf(Call::IterCreate, &mut attr) }?;
    // SAFETY: on success the command returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where programs are attached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hooked<'a> {
    /// A cgroup, a network namespace or a map.
    At(BorrowedFd<'a>),
    /// An interface of the calling thread's network namespace, which can tell the links too.
    Interface(u32),
}

/// What is attached somewhere, in the order in which the kernel runs it.
#[derive(Clone, Debug, Default)]
pub(super) struct Attached {
    /// The ids of the programs.
    pub(super) programs: Vec<u32>,
    /// The ids of their links, 0 for an attachment without one. Empty where the kernel does not tell.
    pub(super) links: Vec<u32>,
}

/// Asks which programs are attached somewhere, into `attached`, whose memory serves again.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN`; `ENOENT` at an interface that has none, `EINVAL` and `E2BIG` for a type of attachment that
/// this kernel does not know; `ENOSPC` when more of them came again and again.
pub(super) fn attached(at: Hooked<'_>, attach_type: u32, attached: &mut Attached) -> Result<(), Errno> {
    /// With so much room nearly every answer is had at the first time.
    const FIRST_ROOM: usize = 32;
    const ATTEMPTS: usize = 8;
    let tells_links = matches!(at, Hooked::Interface(_));
    let mut room = FIRST_ROOM;
    for _ in 0..ATTEMPTS {
        attached.programs.resize(room, 0);
        attached.links.resize(if tells_links { room } else { 0 }, 0);
        attached.links.fill(0);
        let mut attr = QueryAttr {
            target: match at {
                Hooked::At(fd) => fd.as_raw_fd().cast_unsigned(),
                Hooked::Interface(index) => index,
            },
            attach_type,
            query_flags: 0,
            attach_flags: 0,
            program_ids: attached.programs.as_mut_ptr() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            padding: 0,
            program_attach_flags: 0,
            link_ids: if tells_links { attached.links.as_mut_ptr() as u64 } else { 0 },
            link_attach_flags: 0,
            revision: 0,
        };
        // SAFETY: the addresses that are not null are those of vectors that outlive the call and hold `count` ids each, which is
        // the most that the kernel writes.
        let answer = unsafe { bpf(Call::ProgQuery, &mut attr) };
        let there_are = attr.count as usize;
        match answer {
            Ok(_) if there_are <= room => {
                attached.programs.truncate(there_are);
                attached.links.truncate(there_are);
                return Ok(());
            }
            Ok(_) | Err(Errno::ENOSPC) => room = there_are.max(room + 1).next_power_of_two(),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::ENOSPC)
}

/// The program behind a descriptor of a process, and the event that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventProgram {
    /// Its id.
    pub(super) program_id: u32,
    /// Of `enum bpf_task_fd_type`.
    pub(super) fd_type: u32,
    /// The tracepoint, the symbol or the file, up to the first zero byte; empty for a probe that was set by address.
    pub(super) name: Vec<u8>,
    /// How far behind the symbol, or where in the file.
    pub(super) offset: u64,
    /// The address of a probe in the kernel; 0 for who may not know it.
    pub(super) address: u64,
}

/// Asks which program a perf event or raw tracepoint has, by the descriptor of a process.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOENT` when the process is gone or the event has no program; `EBADF` when the descriptor is
/// gone; `EOPNOTSUPP` for an event that is no tracepoint and no probe.
pub(super) fn event_program(pid: u32, fd: u32) -> Result<EventProgram, Errno> {
    let mut name = vec![0_u8; LINK_NAME_LEN as usize];
    let mut attr = TaskFdAttr {
        pid,
        fd,
        flags: 0,
        buffer_len: LINK_NAME_LEN,
        buffer: name.as_mut_ptr() as u64,
        program_id: 0,
        fd_type: 0,
        probe_offset: 0,
        probe_address: 0,
    };
    // SAFETY: the one address is `name`, which outlives the call and is as long as the request says.
    match unsafe { bpf(Call::TaskFdQuery, &mut attr) } {
        // A longer name was cut.
        Ok(_) | Err(Errno::ENOSPC) => {}
        Err(errno) => return Err(errno),
    }
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.truncate(len);
    Ok(EventProgram {
        program_id: attr.program_id,
        fd_type: attr.fd_type,
        name,
        offset: attr.probe_offset,
        address: attr.probe_address,
    })
}

/// The name that an index of an interface has in this process's network namespace.
pub(super) fn interface_name(index: u32) -> Option<Vec<u8>> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the function writes at most `IF_NAMESIZE` bytes, as many as there are, with a zero at the end.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    let len = name.iter().position(|&byte| byte == 0)?;
    (!found.is_null()).then(|| name[..len].to_vec())
}

/// A map's entries, with the sizes by which the kernel reads and writes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries<'a> {
    fd: BorrowedFd<'a>,
    map_type: u32,
    key_size: usize,
    value_size: usize,
}

/// Where in a map a batch begins, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u64);

/// What one batch of entries held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// How many entries.
    pub(super) count: u32,
    /// Where the next one begins; `None` at the end.
    pub(super) next: Option<Position>,
}

impl<'a> Entries<'a> {
    /// The entries of a map, whose sizes the kernel is asked for.
    ///
    /// # Errors
    ///
    /// Those of `BPF_OBJ_GET_INFO_BY_FD`.
    pub(super) fn of(fd: BorrowedFd<'a>) -> Result<Self, Errno> {
        let map = map_info(fd)?.value;
        Ok(Self {
            fd,
            map_type: map.map_type,
            key_size: map.key_size as usize,
            value_size: map.value_size as usize,
        })
    }

    /// The length of a key.
    pub(super) fn key_size(&self) -> usize {
        self.key_size
    }

    /// What an entry takes in a batch.
    pub(super) fn size(&self) -> usize {
        self.key_size + self.value_size
    }

    /// Writes the key that follows `key`, or the first, to `next`. `false` at the end. After a key that is not there any more
    /// comes the first one.
    ///
    /// # Errors
    ///
    /// `EPERM` when the map may not be read; `EINVAL` also for a slice that is not as long as a key.
    pub(super) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool, Errno> {
        if next.len() != self.key_size || key.is_some_and(|key| key.len() != self.key_size) {
            return Err(Errno::EINVAL);
        }
        let mut attr = NextKeyAttr {
            map_fd: self.fd.as_raw_fd(),
            padding: 0,
            key: key.map_or(0, |key| key.as_ptr() as u64),
            next_key: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both slices outlive the call and are as long as the map's keys, by which the kernel goes: `of` asked it, and
        // the borrowed descriptor is of the same map still. A null key stands for none.
        match unsafe { bpf(Call::MapGetNextKey, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// How long the value is that [`Self::lookup`] copies: that of a map that holds others is an id.
    pub(super) fn value_len(&self) -> Result<usize, Errno> {
        match self.map_type {
            map_type::PROG_ARRAY | map_type::ARRAY_OF_MAPS | map_type::HASH_OF_MAPS => Ok(size_of::<u32>()),
            map_type::DEVMAP | map_type::DEVMAP_HASH | map_type::CPUMAP | map_type::STRUCT_OPS => {
                Ok(self.value_size)
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Copies the value of a key to `value`. `false` when there is none.
    ///
    /// # Errors
    ///
    /// `EPERM` when the map may not be read; `EOPNOTSUPP` for every type of map but those that hold programs and maps; `EINVAL`
    /// also for slices that are not as long as key and value.
    pub(super) fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool, Errno> {
        if key.len() != self.key_size || value.len() != self.value_len()? {
            return Err(Errno::EINVAL);
        }
        let mut attr = LookupAttr {
            map_fd: self.fd.as_raw_fd(),
            padding: 0,
            key: key.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both slices outlive the call. The key is as long as the map's, and the value as long as what the kernel copies
        // for maps of these types (`bpf_map_value_size`, `kernel/bpf/syscall.c`): an id, or the size that `of` was told.
        match unsafe { bpf(Call::MapLookupElem, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Copies entries to `buffer`, from `after` on or from the beginning: whole buckets, as many as there is room for.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when a bucket holds more than there is room for; `EBUSY` when one is locked (since 6.0); `EINVAL` before 5.6;
    /// `EOPNOTSUPP` for every type but `hash` and `lru_hash`: those of others have another form or length.
    pub(super) fn lookup_batch(&self, after: Option<Position>, buffer: &mut [u8]) -> Result<Batch, Errno> {
        if ![map_type::HASH, map_type::LRU_HASH].contains(&self.map_type) {
            return Err(Errno::EOPNOTSUPP);
        }
        let room = u32::try_from(buffer.len() / self.size()).unwrap_or(u32::MAX);
        let (keys, values) = buffer.split_at_mut(self.key_size * room as usize);
        let mut next = Position(0);
        let mut attr = BatchAttr {
            in_batch: after.as_ref().map_or(0, |after| (&raw const after.0) as u64),
            out_batch: (&raw mut next.0) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room,
            map_fd: self.fd.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: all that the addresses point to outlives the call. The kernel writes no more than `count` keys and as many
        // values, for which the two parts of the buffer have room: in maps of these two types an entry has one value, of the
        // size that `of` was told. A position is 4 bytes of the 8 (`__htab_map_lookup_and_delete_batch`,
        // `kernel/bpf/hashtab.c`).
        match unsafe { bpf(Call::MapLookupBatch, &mut attr) } {
            Ok(_) => Ok(Batch { count: attr.count, next: Some(next) }),
            Err(Errno::ENOENT) => Ok(Batch { count: attr.count, next: None }),
            Err(errno) => Err(errno),
        }
    }
}

/// Has the kernel fill the first `len` bytes of `request`.
///
/// What the kernel has nothing to say about stays as it came (of programs always, of maps since 6.18): a request has to be
/// fresh and zero, or an object would inherit what the one before it had.
///
/// # Safety
///
/// Every address in `request` is null or that of a buffer that lives through the call and is as long as `request` says.
unsafe fn info<T: FromBytes + IntoBytes>(
    fd: BorrowedFd<'_>,
    request: T,
    len: usize,
) -> Result<Reported<T>, Errno> {
    let mut value = request;
    let mut attr = InfoAttr {
        fd: fd.as_raw_fd(),
        info_len: u32::try_from(len.min(size_of::<T>())).expect("information structures are small"),
        info: (&raw mut value) as u64,
    };
    // SAFETY: `attr.info` is `value`, at least `info_len` bytes long and valid for any content (`FromBytes`); the caller
    // answers for the addresses in it.
    unsafe { bpf(Call::ObjGetInfoByFd, &mut attr) }?;
    Ok(Reported { value, len: attr.info_len as usize })
}

fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("kernel structures are small")
}
