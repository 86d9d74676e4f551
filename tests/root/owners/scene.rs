//! Cgroups of the memory hierarchy for loaders, and a bpffs for their pins, removed when dropped. Entry points: [`Group`] and
//! [`Bpffs`].

use std::fs;
use std::path::{Path, PathBuf};

use super::SOON;
use super::readers;
use tempfile::TempDir;
use test_support::objects::{Mount, wait_until};
use test_support::running::Running;

/// Returns where the root of the memory hierarchy is mounted, and whether it is of version 1.
fn hierarchy() -> Option<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    let lines: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
    let roots = || lines.iter().filter(|line| line[3] == "/");
    let is_memory = |line: &&Vec<&str>| {
        let options = line.last().map_or("", |options| options);
        line.contains(&"cgroup") && options.split(',').any(|option| option == "memory")
    };
    let found = roots().find(is_memory).map(|line| (line[4].into(), true));
    found.or_else(|| roots().find(|line| line.contains(&"cgroup2")).map(|line| (line[4].into(), false)))
}

/// Returns why the creator of a map is unknown here; `None` where it is known.
pub(crate) fn missing() -> Option<String> {
    if readers::version() < (5, 19) {
        return Some("needs Linux 5.19, for iterators that report the memory cgroup".to_owned());
    }
    let Some((root, is_v1)) = hierarchy() else { return Some("needs cgroups to be mounted".to_owned()) };
    let given = || fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    let accounts = is_v1 || given().split_whitespace().any(|controller| controller == "memory");
    (!accounts).then(|| "needs cgroups of their own to be accounted memory".to_owned())
}

/// A cgroup and its ancestors up to one of the test's own, removed when dropped.
pub(crate) struct Group {
    made: Vec<PathBuf>,
}

impl Group {
    /// A cgroup with a path that identifies no owner.
    pub(crate) fn nameless(test: &str) -> Self {
        Self::new(test, "")
    }

    /// A cgroup whose path ends like this.
    pub(crate) fn new(test: &str, path: &str) -> Self {
        let (mut at, is_v1) = hierarchy().expect("cgroups are mounted");
        let own = format!("root-owners-{}-{test}", std::process::id());
        let mut group = Self { made: Vec::new() };
        for name in [&*own].into_iter().chain(path.split('/').filter(|name| !name.is_empty())) {
            if !is_v1 && !group.made.is_empty() {
                // Children account memory only where their parent enables it.
                let _not_here = fs::write(at.join("cgroup.subtree_control"), "+memory");
            }
            at.push(name);
            fs::create_dir(&at).expect("root may");
            group.made.push(at.clone());
        }
        group
    }

    /// Returns its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.made.last().expect("there is one at least")
    }

    /// Moves a process with all its threads into it.
    pub(crate) fn take_in(&self, process: &Running) {
        fs::write(self.directory().join("cgroup.procs"), process.0.id().to_string()).expect("it runs");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            // It is busy until its last process has exited.
            let removed = wait_until("a cgroup is empty", SOON, || Ok(fs::remove_dir(directory).is_ok()));
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", directory.display());
        }
    }
}

/// A bpffs of a test's own, removed with its pins when dropped.
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
        fs::create_dir(&path).expect("the name is free");
        path
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Only then the directory can be removed.
        drop(self.mount.take());
    }
}
