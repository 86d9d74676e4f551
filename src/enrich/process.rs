//! Processes that hold BPF objects: the search for them, and a cache of their executables and cgroups.
//! Entry point: [`Processes::read`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::host::clock;
use crate::host::issues::Issues;
use crate::host::procfs;
use crate::kernel::Reader;
use crate::model::{BootTime, Capability, Feature, FeatureState, Part, Process, ProcessFiles, ReaderKind};

/// Searches for holders, and caches facts about each process that rarely change.
#[derive(Debug)]
pub(super) struct Processes {
    proc: PathBuf,
    cache: HashMap<ProcessKey, CachedProcess>,
    /// See [`EnrichOptions::holders_share`](super::EnrichOptions::holders_share).
    share: Option<u32>,
    last: Option<HolderSearch>,
    /// When to search again.
    due: Option<Instant>,
}

/// Result of a search through the descriptors of all processes.
#[derive(Clone, Debug)]
pub(super) struct HolderSearch {
    /// By an iterator or in `/proc`.
    pub(super) backend: ReaderKind,
    /// Processes with descriptors of BPF objects, in ascending order of pids. `None` if they could not be read.
    pub(super) files: Option<Arc<[ProcessFiles]>>,
    /// When it began and ended.
    pub(super) taken_at: BootTime,
    pub(super) ended_at: BootTime,
    /// Whether every visible process was read.
    pub(super) success: bool,
    /// Whether it saw all processes, and their executables.
    pub(super) features: [FeatureState; 2],
}

/// A pid and the start time of its process: pids are reused.
type ProcessKey = (u32, u64);

/// Facts about a process that were looked up, including failures.
#[derive(Debug, Default)]
struct CachedProcess {
    /// The name of the executable, with the name of the process at the time of the lookup.
    executable: Option<(String, Option<String>)>,
    /// The id of a cgroup and its path.
    cgroup: Option<(u64, Option<Arc<str>>)>,
    /// Whether it was used in this reading.
    used: bool,
}

impl Processes {
    /// Reads `/proc` below `root`, and spends at most one part in `share` of the time on searches.
    pub(super) fn below(root: &Path, share: Option<u32>) -> Self {
        Self { proc: root.join("proc"), cache: HashMap::new(), share, last: None, due: None }
    }

    /// Returns the processes with descriptors of BPF objects, now or at the last search: the cost of a search depends on the
    /// number of open files of the host, not on the number of objects.
    pub(super) fn read(&mut self, reader: &mut Reader, issues: &mut Issues) -> HolderSearch {
        let began = Instant::now();
        if let Some(last) = self.last.as_ref().filter(|_| self.due.is_some_and(|due| began < due)) {
            return last.clone();
        }
        let taken_at = clock::now();
        let (backend, files) = reader.holders(issues);
        let ended_at = clock::now();
        let success = !issues.any(Part::Holder);
        let files: Option<Arc<[ProcessFiles]>> = files.map(Arc::from);
        // An iterator reports executables itself.
        let mut found = files.iter().flat_map(|files| files.iter());
        if backend == ReaderKind::Walk || found.any(|process| process.executable.is_none()) {
            let unnamed = procfs::hidden(&self.proc, issues.rights());
            if let Some(reason) = unnamed.or_else(|| issues.rights().missing(Capability::SysPtrace)) {
                issues.limit(Feature::ExecutableNames, reason);
            }
        }
        let features = [Feature::Processes, Feature::ExecutableNames].map(|feature| issues.state(feature));
        let search = HolderSearch { backend, files, taken_at, ended_at, success, features };
        self.due = self.share.map(|share| began + began.elapsed().saturating_mul(share));
        self.last = Some(search.clone());
        search
    }

    /// Returns a process with its executable, which is looked up in `/proc` if the search did not report it.
    pub(super) fn describe(&mut self, files: &ProcessFiles) -> Process {
        let executable_name = files.executable.clone().or_else(|| self.executable_name(files));
        Process {
            pid: files.pid,
            started_at_boot_ns: files.started_at_boot_ns,
            name: files.name.clone(),
            executable_name,
        }
    }

    /// Looks up the name of an executable when its process is first seen and when its name has changed: it may have been seen
    /// before it called `execve`.
    ///
    /// Finds nothing if `/proc` belongs to another pid namespace than the pid.
    fn executable_name(&mut self, files: &ProcessFiles) -> Option<String> {
        let cached = self.cache.entry(key(files)).or_default();
        cached.used = true;
        if let Some((name, executable_name)) = &cached.executable
            && *name == files.name
        {
            return executable_name.clone();
        }
        let executable_name = procfs::executable_name(&self.proc, files);
        cached.executable = Some((files.name.clone(), executable_name.clone()));
        executable_name
    }

    /// Returns the path of a process's cgroup in the hierarchy that accounts memory, as seen in our own cgroup namespace. It is
    /// looked up again when the process has moved, and each time if the id of its cgroup is unknown.
    pub(super) fn cgroup(&mut self, files: &ProcessFiles) -> Option<Arc<str>> {
        let cached = self.cache.entry(key(files)).or_default();
        cached.used = true;
        match (&cached.cgroup, files.cgroup) {
            (Some((id, path)), Some(now)) if *id == now => return path.clone(),
            _ => {}
        }
        let path: Option<Arc<str>> = procfs::cgroup(&self.proc, files).map(Arc::from);
        cached.cgroup = files.cgroup.map(|id| (id, path.clone()));
        path
    }

    /// Keeps the cached facts about a process that still exists, for when it has to be described again.
    pub(super) fn keep(&mut self, files: &ProcessFiles) {
        if let Some(cached) = self.cache.get_mut(&key(files)) {
            cached.used = true;
        }
    }

    /// Forgets processes that were not used since the last call.
    pub(super) fn end_reading(&mut self) {
        self.cache.retain(|_, cached| std::mem::take(&mut cached.used));
    }
}

fn key(files: &ProcessFiles) -> ProcessKey {
    (files.pid, files.started_at_boot_ns)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::kernel::{ReaderChoice, ReaderOptions};

    /// Creates a root directory with process 20, started at the first tick.
    fn root() -> TempDir {
        let root = TempDir::new().expect("a temporary directory can be created");
        let process = root.path().join("proc/20");
        fs::create_dir_all(&process).expect("the directory is writable");
        fs::write(process.join("stat"), "20 (agent) S 1 7 7 0 -1 0 1 0 0 0 1 2 0 0 20 0 1 0 0 1\n")
            .expect("the directory is writable");
        root
    }

    fn agent() -> ProcessFiles {
        let name = "agent".to_owned();
        ProcessFiles {
            pid: 20,
            started_at_boot_ns: 0,
            name,
            executable: None,
            cgroup: Some(5),
            objects: vec![],
        }
    }

    #[test]
    fn a_search_is_reused_until_the_next_is_due() {
        let mut reader = Reader::new(ReaderOptions {
            reader: ReaderChoice::Only(ReaderKind::Walk),
            ..ReaderOptions::default()
        });
        let mut issues = Issues::default();
        let mut seldom = Processes::below(Path::new("/"), Some(u32::MAX));
        let first = seldom.read(&mut reader, &mut issues);
        assert_eq!(seldom.read(&mut reader, &mut issues).taken_at, first.taken_at);
        let mut always = Processes::below(Path::new("/"), None);
        let first = always.read(&mut reader, &mut issues);
        assert!(always.read(&mut reader, &mut issues).taken_at > first.taken_at);
    }

    #[test]
    fn executables_are_looked_up_once_per_process_name() {
        let root = root();
        let mut processes = Processes::below(root.path(), None);
        let mut executable = |files: &ProcessFiles| processes.describe(files).executable_name;
        assert_eq!(executable(&agent()), None);
        symlink("/opt/agent", root.path().join("proc/20/exe")).expect("the directory is writable");
        assert_eq!(executable(&agent()), None, "a failed lookup is not repeated");
        let renamed = ProcessFiles { name: "other".to_owned(), ..agent() };
        assert_eq!(executable(&renamed).as_deref(), Some("agent"));
        root.close().expect("the directory is writable");
        assert_eq!(executable(&renamed).as_deref(), Some("agent"), "it is cached");
        let reported = ProcessFiles { executable: Some("reported".to_owned()), ..agent() };
        assert_eq!(executable(&reported).as_deref(), Some("reported"), "it is not looked up");
    }

    #[test]
    fn cgroups_are_looked_up_when_the_id_changes_or_is_unknown() {
        let root = root();
        let mut processes = Processes::below(root.path(), None);
        let move_to = |path: &str| {
            fs::write(root.path().join("proc/20/cgroup"), format!("0::{path}\n"))
                .expect("the directory is writable");
        };
        let mut path = |files: &ProcessFiles| processes.cgroup(files);
        move_to("/a");
        assert_eq!(path(&agent()).as_deref(), Some("/a"));
        move_to("/b");
        assert_eq!(path(&agent()).as_deref(), Some("/a"), "it has not moved");
        let moved = ProcessFiles { cgroup: Some(6), ..agent() };
        assert_eq!(path(&moved).as_deref(), Some("/b"));
        let unknown = ProcessFiles { cgroup: None, ..agent() };
        move_to("/c");
        assert_eq!(path(&unknown).as_deref(), Some("/c"));
        move_to("/d");
        assert_eq!(path(&unknown).as_deref(), Some("/d"));
    }

    #[test]
    fn unused_processes_are_forgotten() {
        let mut processes = Processes::below(Path::new("/nowhere"), None);
        processes.describe(&agent());
        processes.cgroup(&ProcessFiles { pid: 21, ..agent() });
        processes.end_reading();
        assert_eq!(processes.cache.len(), 2);
        processes.describe(&agent());
        processes.end_reading();
        assert_eq!(processes.cache.keys().collect::<Vec<_>>(), [&(20, 0)]);
    }
}
