//! Pins: names of objects in a BPF file system, removed when dropped.
//! Entry point: the method `pin` of a program, map or link; [`super::Mount`] makes a BPF file system.

use super::error::failed_to;
use super::sys;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A pin. It keeps its object alive until it is dropped.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
}

impl Pin {
    pub(super) fn make(fd: BorrowedFd<'_>, path: &Path) -> io::Result<Self> {
        sys::object_pin(fd, path).map_err(|error| failed_to(format!("pin at {}", path.display()), error))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Opens the pinned object.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(&self) -> io::Result<OwnedFd> {
        sys::object_get(&self.path).map_err(|error| failed_to(format!("open {}", self.path.display()), error))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Nothing is left to do about a pin that cannot be removed: its file system goes, and the pin with it.
        let _removed = fs::remove_file(&self.path);
    }
}
