//! Cgroups in the hierarchy that accounts memory, whichever version that has on this machine.
#![allow(dead_code, reason = "shared as source: each test uses its own part of it")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::objects::wait_until;

const SOON: Duration = Duration::from_secs(20);

/// Where the hierarchy that accounts memory is mounted as a whole, and whether it is of version 1.
pub(crate) fn hierarchy() -> (PathBuf, bool) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    let lines =
        || mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|line| line[3] == "/");
    let is_v1 = |line: &Vec<&str>| {
        line.contains(&"cgroup")
            && line.last().is_some_and(|options| options.split(',').any(|option| option == "memory"))
    };
    let found = lines().find(is_v1).map(|line| (line[4].into(), true));
    found
        .or_else(|| lines().find(|line| line.contains(&"cgroup2")).map(|line| (line[4].into(), false)))
        .expect("a hierarchy accounts memory")
}

/// A cgroup in that hierarchy, removed when dropped.
pub(crate) struct Group {
    pub(crate) directory: PathBuf,
    pub(crate) path: String,
    pub(crate) id: u64,
}

impl Group {
    /// Makes one with a name that begins as this process's own, and ends like this.
    pub(crate) fn new(name: &str) -> Self {
        let path = format!("/memory-{}-{name}", std::process::id());
        let directory = hierarchy().0.join(path.trim_start_matches('/'));
        fs::create_dir(&directory).expect("root may");
        let id = fs::metadata(&directory).expect("it is there").ino();
        Self { directory, path, id }
    }

    /// Whether memory is accounted for this cgroup: in version 2 only where the one above it says so.
    pub(crate) fn accounts_memory(&self) -> bool {
        self.directory.join("memory.stat").exists()
    }

    /// Removes it, as soon as nobody is in it any more.
    pub(crate) fn remove(&self) {
        let removed = || match fs::remove_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(false),
            removed => removed.map(|()| true),
        };
        wait_until("the cgroup is empty", SOON, removed).expect("it can be removed");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.directory.exists() {
            self.remove();
        }
    }
}

/// Moves a process into a cgroup.
pub(crate) fn enter(directory: &Path, pid: u32) {
    fs::write(directory.join("cgroup.procs"), pid.to_string()).expect("root may");
}
