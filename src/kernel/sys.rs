//! The system call bpf(2), made safe: numbers in, owned file descriptors and plain structures out.
//! Knows no snapshot and gives no error a meaning. The only `unsafe` of the program is here.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::uapi::{
    BTF_INFO_LEN_5_4, BTF_NAME_LEN, BtfInfo, BtfName, FunctionInfo, LinkInfo, MapInfo, ProgramInfo, Reported,
};
use crate::model::Kind;

/// A command of bpf(2) that this program uses. Source: `enum bpf_cmd`, `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    ProgGetNextId = 11,
    MapGetNextId = 12,
    ProgGetFdById = 13,
    MapGetFdById = 14,
    ObjGetInfoByFd = 15,
    BtfGetFdById = 19,
    BtfGetNextId = 23,
    LinkGetFdById = 30,
    LinkGetNextId = 31,
    EnableStats = 32,
}

impl Call {
    /// The kernel's name of the command.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ProgGetNextId => "BPF_PROG_GET_NEXT_ID",
            Self::MapGetNextId => "BPF_MAP_GET_NEXT_ID",
            Self::ProgGetFdById => "BPF_PROG_GET_FD_BY_ID",
            Self::MapGetFdById => "BPF_MAP_GET_FD_BY_ID",
            Self::ObjGetInfoByFd => "BPF_OBJ_GET_INFO_BY_FD",
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

/// `union bpf_attr` as `BPF_OBJ_GET_INFO_BY_FD` uses it.
#[repr(C, align(8))]
struct InfoAttr {
    fd: i32,
    info_len: u32,
    info: u64,
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
    // SAFETY: the structure holds no address.
    unsafe { info(fd, LinkInfo::new_zeroed(), size_of::<LinkInfo>()) }
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
