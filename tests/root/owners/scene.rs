//! Where loaders run and what they leave behind: cgroups in the hierarchy that accounts memory, and a bpffs. All is gone when it is
//! dropped. Begin at [`Group`] and [`Bpffs`].

use std::fs;
use std::path::{Path, PathBuf};

use super::SOON;
use super::readers;
use tempfile::TempDir;
use test_support::objects::{Mount, wait_until};
use test_support::running::Running;

/// Where the hierarchy that accounts memory is mounted as a whole, and whether it is of version 1.
fn hierarchy() -> Option<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    let lines: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let whole = || lines.iter().filter(|line| line[3] == "/");
    let is_memory = |line: &&Vec<&str>| {
        let options = line.last().map_or("", |options| options);
        line.contains(&"cgroup") && options.split(',').any(|option| option == "memory")
    };
    let found = whole().find(is_memory).map(|line| (line[4].into(), true));
    found.or_else(|| whole().find(|line| line.contains(&"cgroup2")).map(|line| (line[4].into(), false)))
}

/// Why nobody can say here who made a map.
pub(crate) fn missing() -> Option<String> {
    if readers::version() < (5, 19) {
        return Some("needs Linux 5.19, whose iterators tell which cgroup pays".to_owned());
    }
    let Some((root, is_v1)) = hierarchy() else { return Some("needs cgroups to be mounted".to_owned()) };
    let given = || fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    let accounts = is_v1 || given().split_whitespace().any(|controller| controller == "memory");
    (!accounts).then(|| "needs cgroups of their own to be accounted memory".to_owned())
}

/// A cgroup and those above it up to one of the test's own, removed when dropped.
pub(crate) struct Group {
    made: Vec<PathBuf>,
}

impl Group {
    /// One whose path names nobody.
    pub(crate) fn nameless(test: &str) -> Self {
        Self::new(test, "")
    }

    /// One with a path that ends so.
    pub(crate) fn new(test: &str, path: &str) -> Self {
        let (mut at, is_v1) = hierarchy().expect("cgroups are mounted");
        let own = format!("root-owners-{}-{test}", std::process::id());
        let mut group = Self { made: Vec::new() };
        for name in [&*own].into_iter().chain(path.split('/').filter(|name| !name.is_empty())) {
            if !is_v1 && !group.made.is_empty() {
                // Those below account for themselves where those above let them.
                let _not_here = fs::write(at.join("cgroup.subtree_control"), "+memory");
            }
            at.push(name);
            fs::create_dir(&at).expect("root may");
            group.made.push(at.clone());
        }
        group
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.made.last().expect("there is one at least")
    }

    /// Moves a process into it, with all its threads.
    pub(crate) fn take_in(&self, process: &Running) {
        fs::write(self.directory().join("cgroup.procs"), process.0.id().to_string()).expect("it runs");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            // As long as its last process ends it is busy.
            let removed = wait_until("a cgroup is empty", SOON, || Ok(fs::remove_dir(directory).is_ok()));
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", directory.display());
        }
    }
}

/// A bpffs of a test's own. What is pinned in it goes with it.
pub(crate) struct Bpffs {
    mount: Option<Mount>,
    directory: TempDir,
}

impl Bpffs {
    pub(crate) fn new() -> Self {
        let directory = TempDir::with_prefix("root-owners-").expect("there is room");
        let mount = Mount::visible(c"bpf", directory.path()).expect("root may");
        Self { mount: Some(mount), directory }
    }

    /// Makes a directory in it.
    pub(crate) fn make(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).expect("nobody else has this name");
        path
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // The directory can be removed only then.
        drop(self.mount.take());
    }
}
