//! System calls other than bpf(2) without a safe wrapper: cgroup handles, comparison of descriptor tables, identity of network
//! namespaces, capabilities.
//!
//! Entry point: [`open_cgroup`]. Independent of BPF objects.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::{Result, failed};

/// Opens the directory of the cgroup with this id. `mount` is any directory of its hierarchy.
///
/// Source: `kernfs_fh_to_dentry`, `fs/kernfs/mount.c`, which supports this type of handle since 5.5. On other file systems the
/// result is meaningless.
///
/// # Errors
///
/// `ESTALE` if there is no such cgroup; `EPERM` without `CAP_DAC_READ_SEARCH`, or if a seccomp filter refuses the call.
pub(crate) fn open_cgroup(mount: BorrowedFd<'_>, id: u64) -> Result<OwnedFd> {
    /// `struct file_handle` of `include/linux/fs.h` with the one type of handle that kernfs has.
    #[repr(C)]
    struct CgroupHandle {
        bytes: u32,
        handle_type: i32,
        id: [u8; 8],
    }
    /// `FILEID_KERNFS` of `enum fid_type`, `include/linux/exportfs.h`.
    const FILEID_KERNFS: i32 = 0xfe;
    let mut handle = CgroupHandle { bytes: 8, handle_type: FILEID_KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `handle` outlives the call, and its last field is as long as the first one says.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, flags) };
    let fd = Errno::result(fd).map_err(failed("open_by_handle_at"))?;
    // SAFETY: on success the call returns a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor is an int")) })
}

/// Returns whether two threads, given by their ids in our pid namespace, share their table of descriptors.
///
/// # Errors
///
/// `ESRCH` if one has ended; `EPERM` if this process may not trace one; `ENOSYS` if the kernel is built without `CONFIG_KCMP`.
pub(crate) fn share_descriptors(one: u32, other: u32) -> Result<bool> {
    /// `KCMP_FILES` of `enum kcmp_type`, `include/uapi/linux/kcmp.h`.
    const KCMP_FILES: libc::c_int = 2;
    // SAFETY: kcmp(2) takes numbers, and no address with this type.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0_u64, 0_u64) };
    Errno::result(order).map(|order| order == 0).map_err(failed("kcmp"))
}

/// Returns the cookie of a socket's network namespace, which is unique until the host restarts, while inode numbers of namespaces are
/// reused.
///
/// Source: `SO_NETNS_COOKIE`, `sk_getsockopt` in `net/core/sock.c`, since 5.14.
///
/// # Errors
///
/// `ENOPROTOOPT` on older kernels; `ENOTSOCK` for another descriptor.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> Result<u64> {
    /// `SO_NETNS_COOKIE` of `include/uapi/asm-generic/socket.h`.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).expect("the size is 8");
    let level = libc::SOL_SOCKET;
    // SAFETY: `cookie` and `len` outlive the call, and `len` is the size of `cookie`.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    Errno::result(result).map(|_| cookie).map_err(failed("getsockopt(SO_NETNS_COOKIE)"))
}

/// Returns the effective capabilities of the calling thread, one bit each. Source: `cap_get_proc`, `kernel/capability.c`.
///
/// # Errors
///
/// None on any kernel that this program supports; `EPERM` or `ENOSYS` if a seccomp filter refuses the call.
pub(crate) fn effective_capabilities() -> Result<u64> {
    /// `struct __user_cap_header_struct` of `include/uapi/linux/capability.h`.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// `struct __user_cap_data_struct`: half of the bits of each set.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: with this version the kernel writes two halves, which `halves` has room for, and at most the version of the header.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    Errno::result(result).map_err(failed("capget"))?;
    let [low, high] = halves.map(|half| u64::from(half.effective));
    Ok(high << 32 | low)
}
