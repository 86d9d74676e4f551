//! Errors with the failed action and the kernel's errno.
//! They stay `std::io::Error`, so that a test needs no second error type. Entry point: [`errno`].

use std::error::Error;
use std::fmt;
use std::io;

/// What failed, and why: reads as "failed to load program 'x': Invalid argument (os error 22)".
#[derive(Debug)]
struct Failure {
    doing: String,
    source: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "failed to {}: {}", self.doing, self.source)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Wraps `source` with what was being done; its kind and errno stay readable.
pub(super) fn failed_to(doing: String, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Failure { doing, source })
}

/// An error without errno: an invalid request, or an unknown response of the kernel.
pub(super) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// An error without errno, of kind `Unsupported`: this kernel cannot do it, and trying would harm the machine.
pub(super) fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what.to_owned())
}

/// The errno beneath an error of this module: `None` without a system call.
#[must_use]
pub fn errno(error: &io::Error) -> Option<i32> {
    let beneath = || errno(&error.get_ref()?.downcast_ref::<Failure>()?.source);
    error.raw_os_error().or_else(beneath)
}

/// What was made, or nothing where it is this machine that cannot make it.
///
/// # Panics
/// If the request itself is invalid, on any machine.
pub fn if_possible<T>(made: io::Result<T>) -> Option<T> {
    made.map_err(|error| {
        let elsewhere = matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::NotFound);
        assert!(elsewhere || errno(&error).is_some(), "{error}");
    })
    .ok()
}
