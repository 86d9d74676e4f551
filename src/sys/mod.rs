//! Calls the kernel: every `unsafe` block of the program, with typed values in and owned file descriptors out.
//!
//! Independent of what the values mean; errors name the failed call.

pub(crate) mod bpf;
mod error;
pub mod malloc;
pub(crate) mod os;

pub(crate) use self::error::{Error, Result, errno_of, failed};
