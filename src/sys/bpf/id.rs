//! Which objects there are by their ids, and descriptors of them, by id and by pin.
//! Does not know what the kernel says of an object; that is in `info.rs`. Begin at [`next_id`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{Call, bpf, open};
use crate::model::Kind;
use crate::sys::{Error, Result};

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

/// The id of the first object of a kind behind `id`; `None` when there is none.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` when the kernel does not know the kind.
pub(crate) fn next_id(kind: Kind, id: u32) -> Result<Option<u32>> {
    let mut attr = IdAttr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the `*_GET_NEXT_ID` commands take an `IdAttr`, which holds no address.
    match unsafe { bpf(Call::next_id(kind), &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(Error { errno: Errno::ENOENT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the object of a kind that has this id.
///
/// # Errors
///
/// `ENOENT` when it is gone; `EAGAIN` for a link that is still being made; `EPERM` without `CAP_SYS_ADMIN`.
pub(crate) fn fd_by_id(kind: Kind, id: u32) -> Result<OwnedFd> {
    let mut attr = IdAttr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the `*_GET_FD_BY_ID` commands take an `IdAttr`, which holds no address, and return a new descriptor.
    unsafe { open(Call::fd_by_id(kind), &mut attr) }
}

/// Opens the object that is pinned at a path, to be read only or without limits. A link can be had without limits only.
///
/// # Errors
///
/// `EACCES` where the pin's mode or the process's rights do not allow it, and for what is no pin; `EROFS` without limits in a bpffs
/// that is mounted to be read only; `EINVAL` for a link to be read only.
pub(crate) fn open_pinned(path: &CStr, read_only: bool) -> Result<OwnedFd> {
    /// `BPF_F_RDONLY`, 4.15.
    const READ_ONLY: u32 = 1 << 3;
    let mut attr =
        PathAttr { path: path.as_ptr() as u64, bpf_fd: 0, file_flags: if read_only { READ_ONLY } else { 0 } };
    // SAFETY: `BPF_OBJ_GET` takes a `PathAttr` and returns a new descriptor; the one address is that of `path`, which outlives the
    // call and ends with a zero byte.
    unsafe { open(Call::ObjGet, &mut attr) }
}
