//! System calls: typed values in, owned file descriptors and plain structures out. All `unsafe` code of the program is here.
//!
//! Independent of what the values mean; errors name the failed call.

pub(crate) mod bpf;
mod error;
pub mod inherited;
pub mod malloc;
pub mod nss;
pub(crate) mod os;
pub(crate) mod perf;

pub(crate) use self::error::{Error, Result, errno_of, failed};
