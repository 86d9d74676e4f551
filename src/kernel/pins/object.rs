//! The object of a pin. Entry point: [`pinned`]. Independent of where pins are.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::host::procfs::object_kind;
use crate::model::Kind;
use crate::sys::bpf as sys;
use crate::sys::{Error, Result, failed};

/// Returns the kind and the id of the object that a file of a bpffs pins. `pin` may be open as a path only (`O_PATH`), which needs
/// no permission for the file.
///
/// The object is opened through the descriptor, so that it is the right one even if the name is another file's now.
///
/// # Errors
///
/// `BPF_OBJ_GET` fails where the pin's mode does not allow reading (writing, for a link).
pub(crate) fn pinned(pin: BorrowedFd<'_>) -> Result<(Kind, u32)> {
    let path = CString::new(format!("/proc/self/fd/{}", pin.as_raw_fd())).expect("it has no zero byte");
    // The kernel opens links only for whoever may write the pin (`bpf_obj_get_user`, `kernel/bpf/inode.c`), and refuses
    // otherwise with an error of its own. Other objects need fewer privileges.
    let opened = match sys::open_pinned(&path, true) {
        Err(Error { errno: Errno::EINVAL, .. }) => sys::open_pinned(&path, false),
        opened => opened,
    };
    let object = opened?;
    // The information on an object starts alike for all kinds, so only the file's name distinguishes them.
    let name = fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd())).map_err(failed("readlink"))?;
    let kind =
        object_kind(name.as_os_str().as_encoded_bytes()).ok_or(Error::new("readlink", Errno::ENOTSUP))?;
    let id = sys::object_id(object.as_fd())?;
    Ok((kind, id))
}
