//! Reads `/proc/self/fdinfo` of BPF objects, another interface of the same kernel. Entry point: [`fdinfo`].

use super::error::failed_to;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One line of it, for instance `memlock`; `None` where this kernel does not have that line.
///
/// # Errors
/// A system without /proc.
pub fn fdinfo(fd: BorrowedFd<'_>, key: &str) -> io::Result<Option<String>> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = fs::read_to_string(&path).map_err(|error| failed_to(format!("read {path}"), error))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.map(|value| value.trim().to_owned()))
}
