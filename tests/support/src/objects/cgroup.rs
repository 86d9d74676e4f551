//! Cgroups (version 2) for tests: an empty one, removed when dropped.
//! It must not depend on where, or whether, the machine has mounted cgroup2: hybrid layouts differ.

use super::error::failed_to;
use super::mount::Mount;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A cgroup below the root of the one cgroup2 hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    name: String,
    id: u64,
    directory: File,
    mount: Mount,
}

impl Cgroup {
    /// Makes one with a name that is this process's own.
    ///
    /// # Errors
    /// A kernel without cgroup2; a refusal to make the directory.
    pub fn new() -> io::Result<Self> {
        let name = format!("objects-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mount = Mount::detached(c"cgroup2")?;
        let path = mount.path().join(&name);
        fs::create_dir(&path).map_err(|error| failed_to(format!("make cgroup {name}"), error))?;
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.ino(), file)));
        match opened {
            Ok((id, directory)) => Ok(Self { name, id, directory, mount }),
            Err(error) => {
                fs::remove_dir(&path)?;
                Err(error)
            }
        }
    }

    /// Its path from the root of the hierarchy, without the leading slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's id of it, as links report it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its directory, good in this process only.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.mount.path().join(&self.name)
    }

    /// An fd of its directory.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It is busy only if a test has left a process in it.
        let _removed = fs::remove_dir(self.path());
    }
}
