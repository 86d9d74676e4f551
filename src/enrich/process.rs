//! Which process holds which object, and what is known of the processes.
//! Knows no object but by its id, and never asks how a process was called. Begin at [`Processes::read`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::host::issues::Issues;
use crate::host::procfs;
use crate::kernel::Reader;
use crate::model::{Part, Process, ProcessFiles, ReaderKind};

/// Finds out who holds what, and remembers of each process what seldom changes.
#[derive(Debug)]
pub(super) struct Processes {
    proc: PathBuf,
    known: HashMap<Identity, Known>,
    /// For one part in how many of the time descriptors may be searched for.
    share: Option<u32>,
    last: Option<Search>,
    /// When to search again.
    due: Option<Instant>,
}

/// What a search through the descriptors of all processes found.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// By which road.
    pub(super) road: ReaderKind,
    /// Which process has descriptors of which objects, in ascending order of pids. `None` when that could not be found out.
    pub(super) files: Option<Arc<[ProcessFiles]>>,
    /// When it began.
    pub(super) taken_at: Timestamp,
    /// Whether no process was missed.
    pub(super) success: bool,
}

/// A pid, and when its process was started: pids are used again.
type Identity = (u32, u64);

/// What was looked up of a process, be it in vain.
#[derive(Debug, Default)]
struct Known {
    /// The executable's name, with the name that the process had when it was looked up.
    executable: Option<(String, Option<String>)>,
    /// The path of the cgroup that has this id.
    cgroup: Option<(u64, Option<Arc<str>>)>,
    /// Whether anybody asked for it, or kept it, since the last reading.
    asked: bool,
}

impl Processes {
    /// Those that are found with `root` in the place of `/`, searched for one part in `share` of the time at most.
    pub(super) fn below(root: &Path, share: Option<u32>) -> Self {
        Self { proc: root.join("proc"), known: HashMap::new(), share, last: None, due: None }
    }

    /// Which process has descriptors of which objects, now or at the last search: what a search costs depends on how many files
    /// the whole host has open, and not on how many objects there are.
    pub(super) fn read(&mut self, reader: &mut Reader, issues: &mut Issues) -> Search {
        let began = Instant::now();
        if let Some(last) = self.last.as_ref().filter(|_| self.due.is_some_and(|due| began < due)) {
            return last.clone();
        }
        let taken_at = Timestamp::now();
        let road = reader.files_road();
        let files = match road {
            ReaderKind::Iter => reader.files(issues),
            ReaderKind::Walk => procfs::files(&self.proc, reader.kept(), issues),
        };
        let success = !issues.any(Part::Holder);
        let search = Search { road, files: files.map(Into::into), taken_at, success };
        self.due = self.share.map(|share| began + began.elapsed().saturating_mul(share));
        self.last = Some(search.clone());
        search
    }

    /// What is known of a process, looked up when it is first asked for and when its name has changed: it may have been seen
    /// before it executed what it is for.
    ///
    /// There is nothing to be looked up where `/proc` is not of the pid namespace that the pid is of.
    pub(super) fn describe(&mut self, files: &ProcessFiles) -> Process {
        let known = self.known.entry(identity(files)).or_default();
        known.asked = true;
        let executable_name = match &known.executable {
            Some((name, executable_name)) if *name == files.name => executable_name.clone(),
            _ => {
                let executable_name = procfs::executable_name(&self.proc, files);
                known.executable = Some((files.name.clone(), executable_name.clone()));
                executable_name
            }
        };
        Process {
            pid: files.pid,
            started_at_boot_ns: files.started_at_boot_ns,
            name: files.name.clone(),
            executable_name,
        }
    }

    /// The path of a process's cgroup in the hierarchy that accounts memory, as our own cgroup namespace shows it. It is looked
    /// up again when the process is in another one than before, and each time where that is not known.
    pub(super) fn cgroup(&mut self, files: &ProcessFiles) -> Option<Arc<str>> {
        let known = self.known.entry(identity(files)).or_default();
        known.asked = true;
        match (&known.cgroup, files.cgroup) {
            (Some((id, path)), Some(now)) if *id == now => return path.clone(),
            _ => {}
        }
        let path: Option<Arc<str>> = procfs::cgroup(&self.proc, files).map(Arc::from);
        known.cgroup = files.cgroup.map(|id| (id, path.clone()));
        path
    }

    /// Keeps what is known of a process that is still there, for when it has to be described again.
    pub(super) fn keep(&mut self, files: &ProcessFiles) {
        if let Some(known) = self.known.get_mut(&identity(files)) {
            known.asked = true;
        }
    }

    /// Forgets those that nobody asked for since the last time, nor kept.
    pub(super) fn end_reading(&mut self) {
        self.known.retain(|_, known| std::mem::take(&mut known.asked));
    }
}

fn identity(files: &ProcessFiles) -> Identity {
    (files.pid, files.started_at_boot_ns)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::kernel::{Options, ReaderChoice};

    /// A root in which process 20 is there since the first tick.
    fn root(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("bpf-metrics-exporter-{name}-{}", std::process::id()));
        let process = root.join("proc/20");
        fs::create_dir_all(&process).expect("a new directory");
        fs::write(process.join("stat"), "20 (agent) S 1 7 7 0 -1 0 1 0 0 0 1 2 0 0 20 0 1 0 0 1\n")
            .expect("it is ours");
        root
    }

    fn agent() -> ProcessFiles {
        let name = "agent".to_owned();
        ProcessFiles { pid: 20, started_at_boot_ns: 0, name, cgroup: Some(5), objects: vec![] }
    }

    #[test]
    fn a_search_serves_until_the_next_is_due() {
        let mut reader =
            Reader::new(Options { reader: ReaderChoice::Only(ReaderKind::Walk), ..Options::default() });
        let mut issues = Issues::default();
        let mut seldom = Processes::below(Path::new("/"), Some(u32::MAX));
        let first = seldom.read(&mut reader, &mut issues);
        assert_eq!(seldom.read(&mut reader, &mut issues).taken_at, first.taken_at);
        let mut always = Processes::below(Path::new("/"), None);
        let first = always.read(&mut reader, &mut issues);
        assert!(always.read(&mut reader, &mut issues).taken_at > first.taken_at);
    }

    #[test]
    fn an_executable_is_looked_up_once_for_a_name() {
        let root = root("executables");
        let mut processes = Processes::below(&root, None);
        let mut executable = |files: &ProcessFiles| processes.describe(files).executable_name;
        assert_eq!(executable(&agent()), None);
        symlink("/opt/agent", root.join("proc/20/exe")).expect("it is ours");
        assert_eq!(executable(&agent()), None, "a refusal is not asked for again");
        let renamed = ProcessFiles { name: "other".to_owned(), ..agent() };
        assert_eq!(executable(&renamed).as_deref(), Some("agent"));
        fs::remove_dir_all(&root).expect("it is ours");
        assert_eq!(executable(&renamed).as_deref(), Some("agent"), "it is remembered");
    }

    #[test]
    fn a_cgroup_is_looked_up_when_it_is_another_one_or_not_known() {
        let root = root("cgroups");
        let mut processes = Processes::below(&root, None);
        let told =
            |path: &str| fs::write(root.join("proc/20/cgroup"), format!("0::{path}\n")).expect("it is ours");
        let mut path = |files: &ProcessFiles| processes.cgroup(files);
        told("/a");
        assert_eq!(path(&agent()).as_deref(), Some("/a"));
        told("/b");
        assert_eq!(path(&agent()).as_deref(), Some("/a"), "it has not moved");
        let moved = ProcessFiles { cgroup: Some(6), ..agent() };
        assert_eq!(path(&moved).as_deref(), Some("/b"));
        let unknown = ProcessFiles { cgroup: None, ..agent() };
        told("/c");
        assert_eq!(path(&unknown).as_deref(), Some("/c"));
        told("/d");
        assert_eq!(path(&unknown).as_deref(), Some("/d"));
        fs::remove_dir_all(&root).expect("it is ours");
    }

    #[test]
    fn who_is_not_asked_for_is_forgotten() {
        let mut processes = Processes::below(Path::new("/nowhere"), None);
        processes.describe(&agent());
        processes.cgroup(&ProcessFiles { pid: 21, ..agent() });
        processes.end_reading();
        assert_eq!(processes.known.len(), 2);
        processes.describe(&agent());
        processes.end_reading();
        assert_eq!(processes.known.keys().collect::<Vec<_>>(), [&(20, 0)]);
    }
}
