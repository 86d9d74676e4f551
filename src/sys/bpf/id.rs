//! Ids of BPF objects, and descriptors of objects by id and by pin.
//!
//! Entry point: [`next_id`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{Command, bpf, open};
use crate::model::Kind;
use crate::sys::{Error, Result};

/// `union bpf_attr` for `*_GET_NEXT_ID` and `*_GET_FD_BY_ID`.
#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The start of `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C, align(8))]
struct PathAttr {
    path: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Returns the lowest id above `id` of an object of a kind; `None` if there is none.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` if the kernel predates the kind.
pub(crate) fn next_id(kind: Kind, id: u32) -> Result<Option<u32>> {
    let mut attr = IdAttr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the `*_GET_NEXT_ID` commands take an `IdAttr`, which holds no address.
    match unsafe { bpf(Command::next_id(kind), &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(Error { errno: Errno::ENOENT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the object of a kind with this id.
///
/// # Errors
///
/// `ENOENT` if it was removed; `EAGAIN` for a link that is still being created; `EPERM` without `CAP_SYS_ADMIN`.
pub(crate) fn fd_by_id(kind: Kind, id: u32) -> Result<OwnedFd> {
    let mut attr = IdAttr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the `*_GET_FD_BY_ID` commands take an `IdAttr`, which holds no address, and return a new descriptor.
    unsafe { open(Command::fd_by_id(kind), &mut attr) }
}

/// Opens the object pinned at a path, for reading only or for reading and writing. A link can only be opened for both.
///
/// # Errors
///
/// `EACCES` if the mode of the pin does not permit it, or the file is not a pin; `EROFS` for writing in a read-only bpffs;
/// `EINVAL` for a link and reading only.
pub(crate) fn open_pinned(path: &CStr, read_only: bool) -> Result<OwnedFd> {
    /// Since 4.15.
    const BPF_F_RDONLY: u32 = 1 << 3;
    let file_flags = if read_only { BPF_F_RDONLY } else { 0 };
    let mut attr = PathAttr { path: path.as_ptr() as u64, bpf_fd: 0, file_flags };
    // SAFETY: `BPF_OBJ_GET` takes a `PathAttr` and returns a new descriptor. The one address is that of `path`, which outlives the
    // call and ends with a zero byte.
    unsafe { open(Command::ObjGet, &mut attr) }
}
