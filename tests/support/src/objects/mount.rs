//! File systems for tests: BPF file systems for pins, cgroup2 for cgroups, tracefs for tracepoints.
//! They are mounted nowhere and reached through an fd, so that even a killed test leaves nothing. Entry point: [`Mount::detached`].

use super::error::failed_to;
use super::sys;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mounted file system, gone when dropped.
#[derive(Debug)]
pub struct Mount {
    root: OwnedFd,
    at: Option<PathBuf>,
}

impl Mount {
    /// Mounts a file system where only this process sees it.
    /// Into a BPF file system, a kernel with `CONFIG_BPF_PRELOAD` puts two pins of its own: `maps.debug` and `progs.debug`.
    ///
    /// # Errors
    /// A file system that the kernel does not have; a kernel before 5.2.
    pub fn detached(file_system: &CStr) -> io::Result<Self> {
        let root = sys::mount_detached(file_system)
            .map_err(|error| failed_to(format!("mount {}", file_system.to_string_lossy()), error))?;
        Ok(Self { root, at: None })
    }

    /// Mounts a file system at a directory, where every process sees it. A killed test leaves it there.
    ///
    /// # Errors
    /// As [`Self::detached`]; a directory that cannot be mounted on.
    pub fn visible(file_system: &CStr, directory: &Path) -> io::Result<Self> {
        let mut mount = Self::detached(file_system)?;
        sys::mount_at(mount.root.as_fd(), directory)
            .map_err(|error| failed_to(format!("mount at {}", directory.display()), error))?;
        mount.at = Some(directory.to_owned());
        Ok(mount)
    }

    /// Its root directory. Without a mount point the path is good in this process only.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let by_fd = || PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()));
        self.at.clone().unwrap_or_else(by_fd)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(directory) = &self.at {
            // A test may have unmounted it on purpose.
            let _unmounted = sys::unmount(directory);
        }
    }
}
