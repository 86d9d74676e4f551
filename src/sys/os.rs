//! What is not bpf(2) and has no safe wrapper: handles of cgroups, shared tables of descriptors, names of interfaces.
//! Knows no object of BPF. Begin at [`open_cgroup`].
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::{Result, failed};

/// The directory of the cgroup that has this id, in the hierarchy of which `mount` is any directory.
///
/// Source: `kernfs_fh_to_dentry`, `fs/kernfs/mount.c`, with handles of this type since 5.5. On any other file system the answer says
/// nothing.
///
/// # Errors
///
/// `ESTALE` when there is none (any more); `EPERM` without `CAP_DAC_READ_SEARCH`, and where a filter of system calls refuses it.
pub(crate) fn open_cgroup(mount: BorrowedFd<'_>, id: u64) -> Result<OwnedFd> {
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
    let fd = Errno::result(fd).map_err(failed("open_by_handle_at"))?;
    // SAFETY: on success the call returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor is an int")) })
}

/// Whether two threads share their table of descriptors, by their ids in our pid namespace.
///
/// # Errors
///
/// `ESRCH` when one is gone; `EPERM` for whom this process may not trace; `ENOSYS` where the kernel cannot compare
/// (`CONFIG_KCMP`).
pub(crate) fn share_descriptors(one: u32, other: u32) -> Result<bool> {
    /// `KCMP_FILES` of `enum kcmp_type`, `include/uapi/linux/kcmp.h`.
    const FILES: libc::c_int = 2;
    // SAFETY: kcmp(2) takes numbers, and no address with this type.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, FILES, 0_u64, 0_u64) };
    Errno::result(order).map(|order| order == 0).map_err(failed("kcmp"))
}

/// The name that an index of an interface has in this process's network namespace.
pub(crate) fn interface_name(index: u32) -> Option<Vec<u8>> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the function writes at most `IF_NAMESIZE` bytes, as many as there are, with a zero at the end.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    let len = name.iter().position(|&byte| byte == 0)?;
    (!found.is_null()).then(|| name[..len].to_vec())
}
