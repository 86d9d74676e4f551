//! Descriptors that only serve as entries of maps: sockets that the standard library does not make, and of processes.

use super::{checked, checked_fd};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

/// A socket of `AF_XDP`, bound to nothing.
pub(in super::super) fn xdp_socket() -> io::Result<OwnedFd> {
    // SAFETY: the arguments are numbers.
    let opened = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: socket makes a new fd.
    unsafe { checked_fd(opened.into()) }
}

/// A UDP socket at some port of 127.0.0.1 that others may share (`SO_REUSEPORT`).
pub(in super::super) fn shared_udp_socket() -> io::Result<OwnedFd> {
    const YES: c_int = 1;
    // SAFETY: the arguments are numbers.
    let opened = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: socket makes a new fd.
    let socket = unsafe { checked_fd(opened.into()) }?;
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel reads one number of the given size.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_REUSEPORT,
            ptr::from_ref(&YES).cast(),
            size::<c_int>(),
        )
    };
    checked(set.into())?;
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).map_err(io::Error::other)?,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    // SAFETY: the kernel reads an address of the given size.
    let bound = unsafe { libc::bind(fd, ptr::from_ref(&address).cast(), size::<libc::sockaddr_in>()) };
    checked(bound.into())?;
    Ok(socket)
}

/// A descriptor of this process: `pidfd_open(2)` (5.3).
pub(in super::super) fn process_fd() -> io::Result<OwnedFd> {
    const NO_FLAGS: c_int = 0;
    // SAFETY: the arguments are numbers.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), NO_FLAGS) };
    // SAFETY: pidfd_open makes a new fd.
    unsafe { checked_fd(opened) }
}

/// The size of an argument, as the C library takes it.
fn size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("arguments are small")
}
