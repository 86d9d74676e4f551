//! Errors of system calls, each with the name of the call that failed.

use std::io;

use nix::errno::Errno;

/// A failed system call, or a failure to read one of the kernel's files. Displayed as `BPF_PROG_QUERY failed: EPERM: ...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {errno}")]
pub(crate) struct Error {
    /// The name of the system call or of the bpf(2) command, or the path of the file.
    pub(crate) call: &'static str,
    /// The kernel's error number.
    pub(crate) errno: Errno,
}

/// The result of a system call.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Attributes an error number to a call.
    pub(crate) const fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }
}

/// Returns a function for `map_err` that attributes an error to a call.
pub(crate) fn failed<E: Into<io::Error>>(call: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::new(call, errno_of(&error.into()))
}

/// Returns the error number in an error of the standard library; `EIO` if it did not come from the kernel.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
