//! Which object a pin is of. Knows nothing of where pins are, and keeps nothing open.
//! Begin at [`pinned`].

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::model::Kind;
use crate::sys::bpf as sys;
use crate::sys::{Error, Result, failed};

/// The kind and the id of the object that a file of a bpffs is a pin of. `pin` may be open as a path only (`O_PATH`), which needs
/// no right to the file.
///
/// It goes by the file and not by its name, so that the answer is right also where the name is another file's meanwhile.
///
/// # Errors
///
/// The call that failed, and how: `BPF_OBJ_GET` where the pin's mode does not allow to read it (write it, for a link).
pub(crate) fn pinned(pin: BorrowedFd<'_>) -> Result<(Kind, u32)> {
    let path = CString::new(format!("/proc/self/fd/{}", pin.as_raw_fd())).expect("it has no zero byte");
    // The kernel opens links only for whoever may write the pin (`bpf_obj_get_user`, `kernel/bpf/inode.c`), and refuses
    // otherwise with an error of its own. All else is to be had with less.
    let opened = match sys::open_pinned(&path, true) {
        Err(Error { errno: Errno::EINVAL, .. }) => sys::open_pinned(&path, false),
        opened => opened,
    };
    let object = opened?;
    // What the kernel tells of an object begins alike for all kinds, so only the name of the file tells which one it is.
    let name = fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd())).map_err(failed("readlink"))?;
    let kind = kind(name.as_os_str().as_encoded_bytes()).ok_or(Error::new("readlink", Errno::ENOTSUP))?;
    let id = sys::object_id(object.as_fd())?;
    Ok((kind, id))
}

/// Source: the names given to `anon_inode_getfd` and `anon_inode_getfile` in `kernel/bpf/syscall.c`.
fn kind(file: &[u8]) -> Option<Kind> {
    match file {
        b"anon_inode:bpf-prog" => Some(Kind::Program),
        b"anon_inode:bpf-map" => Some(Kind::Map),
        // Spelt with an underscore by the command that makes a link, and with a hyphen by that which opens it again.
        b"anon_inode:bpf-link" | b"anon_inode:bpf_link" => Some(Kind::Link),
        _ => None,
    }
}
