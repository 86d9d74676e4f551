//! Processes in `/proc`: their descriptors of BPF objects, executables and cgroups.
//!
//! Entry point: [`files`]. The directory in place of `/proc` is an argument.

mod actor;
mod text;
mod view;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{SysconfVar, sysconf};

pub(crate) use self::actor::{ProcessCgroup, ProcessFacts, describe};
use self::text::{cgroup_path, file_name, object_id, object_of_file, start_ticks};
pub(crate) use self::text::{object_kind, stat_field};
pub(crate) use self::view::hidden;
use crate::host::clock::ProcTime;
use crate::host::issues::Issues;
use crate::model::{Feature, Kind, Part, ProcessFiles, Reason};
use crate::sys::os::share_descriptors;
use crate::sys::{Error, Result, errno_of, failed};
use crate::text::{escaped, printable};

/// Returns the size of a memory page, in bytes: the kernel counts memory in pages.
pub(crate) fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().expect("Linux reports the page size");
    u64::try_from(size).expect("a size is not negative")
}

/// Returns the processes that have descriptors of BPF objects, with these objects, in ascending order of pids. Of this process,
/// only `own_objects` are included. `None`, and an issue, without `/proc`; an issue for each process that cannot be read. Limits the
/// feature if other processes may be hidden.
///
/// The pids are those of the namespace in which `/proc` was mounted.
pub(crate) fn files(
    proc: &Path,
    own_objects: &[(Kind, u32)],
    issues: &mut Issues,
) -> Option<Vec<ProcessFiles>> {
    if let Some(reason) = hidden(proc, issues.rights()) {
        issues.limit(Feature::Processes, reason);
    }
    match ProcessScan::open(proc, own_objects) {
        Ok(scan) => Some(scan.files(issues)),
        Err(error) => {
            issues.record(Part::Holder, error);
            None
        }
    }
}

/// Returns the file name of a process's executable. `None` if it cannot be read or the process has ended.
pub(crate) fn executable_name(proc: &Path, files: &ProcessFiles) -> Option<String> {
    let path = readlinkat(open_process(proc, files)?, "exe").ok()?;
    Some(file_name(path.as_encoded_bytes())).filter(|name| !name.is_empty())
}

/// Returns the path of a process's cgroup in the hierarchy that accounts memory. `None` if it cannot be read or the process has
/// ended.
pub(crate) fn cgroup(proc: &Path, files: &ProcessFiles) -> Option<String> {
    let contents = read_file(open_process(proc, files)?, "cgroup").ok()?;
    cgroup_path(&contents).map(escaped)
}

/// Opens the directory of a process, unless it is that of a later process, or one of another namespace, with the same pid.
///
/// Lookups in the open directory find files of this process or fail.
fn open_process(proc: &Path, files: &ProcessFiles) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let process = nix::fcntl::open(&proc.join(files.pid.to_string()), flags, Mode::empty()).ok()?;
    (started_at(&process).ok()? == files.started_at_boot_ns).then_some(process)
}

/// A scan of the descriptors of all processes.
struct ProcessScan<'a> {
    proc: Dir,
    pids: Vec<u32>,
    own_objects: &'a [(Kind, u32)],
    /// The pid of this process in this `/proc`; `None` if it is not in it.
    own_pid: Option<u32>,
}

impl<'a> ProcessScan<'a> {
    fn open(proc: &Path, own_objects: &'a [(Kind, u32)]) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut proc = Dir::open(proc, flags, Mode::empty()).map_err(failed("/proc"))?;
        let pids = numeric_names(&mut proc).map_err(failed("/proc"))?;
        let own_pid = readlinkat(&proc, "self").ok().and_then(|pid| pid.to_str()?.parse().ok());
        Ok(Self { proc, pids, own_objects, own_pid })
    }

    fn files(&self, issues: &mut Issues) -> Vec<ProcessFiles> {
        // The first process of a pid namespace lives as long as any other in it. If it is hidden (`hidepid`), so are others.
        if !self.pids.contains(&1) {
            issues.limit(Feature::Processes, Reason::Hidepid);
        }
        let mut processes = Vec::new();
        for &pid in &self.pids {
            match self.process(pid) {
                Ok(None) => {}
                Ok(Some(process)) => processes.push(process),
                Err(error) if is_gone(error.errno) => {}
                Err(error) => issues.record(Part::Holder, error),
            }
        }
        merge_by_pid(processes)
    }

    /// Reads a process; `None` if it has no descriptors of BPF objects.
    fn process(&self, pid: u32) -> Result<Option<ProcessFiles>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let process = openat(&self.proc, &*pid.to_string(), flags, Mode::empty());
        let process = process.map_err(failed("/proc/PID"))?;
        let mut objects = Vec::new();
        add_objects(&process, "", &mut objects)?;
        for thread in self.threads_with_own_descriptors(&process, pid)? {
            match add_objects(&process, &format!("task/{thread}/"), &mut objects) {
                Err(error) if is_gone(error.errno) => {}
                result => result?,
            }
        }
        if self.own_pid == Some(pid) {
            objects.retain(|object| self.own_objects.contains(object));
        }
        if objects.is_empty() {
            return Ok(None);
        }
        let name = read_file(&process, "comm").map_err(failed("/proc/PID/comm"))?;
        Ok(Some(ProcessFiles {
            pid,
            started_at_boot_ns: started_at(&process).map_err(failed("/proc/PID/stat"))?,
            name: printable(name.strip_suffix(b"\n").unwrap_or(&name)),
            executable: None,
            cgroup: None,
            objects,
        }))
    }

    /// Returns the threads of a process that may have their own descriptors (cloned without `CLONE_FILES`, or `unshare`).
    fn threads_with_own_descriptors(&self, process: &OwnedFd, pid: u32) -> Result<Vec<u32>> {
        /// A directory has two links, and `task` another one for each thread (`proc_task_getattr`, `fs/proc/base.c`).
        const LINKS_OF_ONE_THREAD: libc::nlink_t = 3;
        const CALL: &str = "/proc/PID/task";
        let task = fstatat(process, "task", AtFlags::empty()).map_err(failed(CALL))?;
        if task.st_nlink == LINKS_OF_ONE_THREAD {
            return Ok(Vec::new());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut threads = Dir::openat(process, "task", flags, Mode::empty())
            .and_then(|mut task| numeric_names(&mut task))
            .map_err(failed(CALL))?;
        // kcmp(2) takes pids of our own pid namespace. If this `/proc` is that of another one, every thread is read.
        let comparable = self.own_pid == Some(std::process::id());
        let shares = |thread| comparable && share_descriptors(pid, thread) == Ok(true);
        threads.retain(|&thread| thread != pid && !shares(thread));
        Ok(threads)
    }
}

/// Adds the BPF objects of the descriptors in `directory` of a process: that of a thread, or the process's own.
fn add_objects(process: &OwnedFd, directory: &str, objects: &mut Vec<(Kind, u32)>) -> Result<()> {
    const CALL: &str = "/proc/PID/fd";
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut links =
        Dir::openat(process, &*format!("{directory}fd"), flags, Mode::empty()).map_err(failed(CALL))?;
    for descriptor in numeric_names(&mut links).map_err(failed(CALL))? {
        let link = match readlinkat(&links, &*descriptor.to_string()) {
            Ok(link) => link,
            // It was closed.
            Err(errno) if is_gone(errno) => continue,
            Err(errno) => return Err(Error::new(CALL, errno)),
        };
        let Some((kind, key)) = object_of_file(link.as_encoded_bytes()) else { continue };
        match read_file(process, &format!("{directory}fdinfo/{descriptor}")) {
            // Without an id the descriptor is another file's by now.
            Ok(fdinfo) => objects.extend(object_id(&fdinfo, key).map(|id| (kind, id))),
            Err(errno) if is_gone(errno) => {}
            Err(errno) => return Err(Error::new("/proc/PID/fdinfo", errno)),
        }
    }
    Ok(())
}

/// Returns the start time of a process, in nanoseconds since boot.
fn started_at(process: &OwnedFd) -> Result<u64, Errno> {
    let ticks = start_ticks(&read_file(process, "stat")?).ok_or(Errno::EBADMSG)?;
    Ok(ProcTime::of_this_process().moment(ticks).0)
}

/// Returns the names in a directory that are numbers: pids, thread ids or descriptors.
fn numeric_names(directory: &mut Dir) -> Result<Vec<u32>, Errno> {
    let mut numbers = Vec::new();
    for entry in directory.iter() {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

fn read_file(directory: impl AsFd, name: &str) -> Result<Vec<u8>, Errno> {
    let file = openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut contents = Vec::with_capacity(1024);
    File::from(file).read_to_end(&mut contents).map_err(|error| errno_of(&error))?;
    Ok(contents)
}

/// Returns whether an error means that a process or thread has ended or a descriptor was closed.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESRCH)
}

/// Merges the entries of each process: ascending order of pids, each object once, other fields from the first entry.
pub(crate) fn merge_by_pid(mut processes: Vec<ProcessFiles>) -> Vec<ProcessFiles> {
    processes.sort_by_key(|process| (process.pid, process.started_at_boot_ns));
    processes.dedup_by(|later, first| {
        let same = (later.pid, later.started_at_boot_ns) == (first.pid, first.started_at_boot_ns);
        if same {
            first.objects.append(&mut later.objects);
        }
        same
    });
    for process in &mut processes {
        process.objects.sort_unstable();
        process.objects.dedup();
    }
    processes
}

/// Entry point of a fuzzer: parses any bytes as each file of a process.
pub(crate) fn fuzz(bytes: &[u8]) {
    let _any = (start_ticks(bytes), cgroup_path(bytes), object_kind(bytes));
    for key in [&b"prog_id:"[..], b"map_id:", b"link_id:", b"btf_id:"] {
        let _id = object_id(bytes, key);
    }
    assert!(file_name(bytes).len() <= crate::text::MAX_LEN);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::text::examples::{HYBRID, LINK, STAT};
    use super::*;
    use crate::model::Issue;

    /// An issue: call, error and count.
    type RecordedIssue = (String, String, u64);

    /// A temporary directory in place of `/proc`.
    struct ProcTree(TempDir);

    impl ProcTree {
        fn new() -> Self {
            Self(TempDir::new().expect("a temporary directory can be created"))
        }

        /// Adds a process of one thread with descriptors, given by the target of the link and the contents of the fdinfo.
        fn process(&self, pid: u32, name: &str, descriptors: &[(&str, &str)]) -> PathBuf {
            let process = self.0.path().join(pid.to_string());
            let thread = format!("task/{pid}");
            for directory in [process.join("fd"), process.join("fdinfo"), process.join(thread)] {
                fs::create_dir_all(directory).expect("the directory is writable");
            }
            fs::write(process.join("comm"), format!("{name}\n")).expect("the directory is writable");
            fs::write(process.join("stat"), STAT).expect("the directory is writable");
            Self::add(&process, descriptors);
            process
        }

        fn add(process: &Path, descriptors: &[(&str, &str)]) {
            for (number, (link, fdinfo)) in descriptors.iter().enumerate() {
                symlink(link, process.join(format!("fd/{number}"))).expect("the directory is writable");
                fs::write(process.join(format!("fdinfo/{number}")), fdinfo)
                    .expect("the directory is writable");
            }
        }

        fn files(&self, own_objects: &[(Kind, u32)]) -> (Option<Vec<ProcessFiles>>, Vec<RecordedIssue>) {
            let mut issues = Issues::default();
            let files = files(self.0.path(), own_objects, &mut issues);
            let issue = |issue: &Issue| (issue.call.to_string(), issue.error.to_string(), issue.count);
            (files, issues.all().iter().map(issue).collect())
        }
    }

    const MAP: (&str, &str) = ("anon_inode:bpf-map", "pos:\t0\nmap_type:\t2\nmap_id:\t11\nfrozen:\t0\n");
    const PROGRAM: (&str, &str) = ("anon_inode:bpf-prog", "prog_type:\t1\nprog_id:\t3\n");
    const SOCKET: (&str, &str) = ("socket:[123]", "pos:\t0\nmap_id:\t99\n");

    fn holding(pid: u32, name: &str, objects: &[(Kind, u32)]) -> ProcessFiles {
        let started_at_boot_ns = ProcTime::of_this_process().moment(2510).0;
        ProcessFiles {
            pid,
            started_at_boot_ns,
            name: name.to_owned(),
            executable: None,
            cgroup: None,
            objects: objects.to_vec(),
        }
    }

    #[test]
    fn processes_are_found_with_their_objects() {
        let tree = ProcTree::new();
        tree.process(1, "init", &[SOCKET]);
        tree.process(20, "a\nb) \u{7}", &[MAP, SOCKET, MAP, PROGRAM, ("anon_inode:bpf_link", LINK)]);
        // A thread with its own descriptors.
        let thread = tree.process(3, "threads", &[MAP]).join("task/4");
        fs::create_dir_all(thread.join("fd")).expect("the directory is writable");
        fs::create_dir_all(thread.join("fdinfo")).expect("the directory is writable");
        ProcTree::add(&thread, &[SOCKET, PROGRAM]);
        // A descriptor that is replaced between reading its link and its fdinfo.
        tree.process(30, "quick", &[("anon_inode:bpf-map", SOCKET.0)]);
        fs::write(tree.0.path().join("uptime"), "1").expect("the directory is writable");
        let expected = vec![
            holding(3, "threads", &[(Kind::Program, 3), (Kind::Map, 11)]),
            holding(20, "a\\x0ab) \\x07", &[(Kind::Program, 3), (Kind::Map, 11), (Kind::Link, 41)]),
        ];
        assert_eq!(tree.files(&[]), (Some(expected), vec![]));
    }

    #[test]
    fn this_process_holds_only_its_own_objects() {
        let tree = ProcTree::new();
        tree.process(1, "init", &[MAP]);
        tree.process(8, "this", &[MAP, PROGRAM]);
        symlink("8", tree.0.path().join("self")).expect("the directory is writable");
        let init = holding(1, "init", &[(Kind::Map, 11)]);
        assert_eq!(tree.files(&[]), (Some(vec![init.clone()]), vec![]));
        let this = holding(8, "this", &[(Kind::Program, 3)]);
        assert_eq!(tree.files(&[(Kind::Program, 3)]), (Some(vec![init, this]), vec![]));
    }

    #[test]
    fn malformed_files_are_issues_but_ended_processes_are_not() {
        let tree = ProcTree::new();
        let issue = |call: &str, error: &str| vec![(call.to_owned(), error.to_owned(), 1)];
        tree.process(20, "ends", &[MAP]);
        fs::remove_file(tree.0.path().join("20/comm")).expect("the directory is writable");
        assert_eq!(tree.files(&[]), (Some(vec![]), vec![]), "it has ended");
        tree.process(1, "init", &[MAP]);
        fs::write(tree.0.path().join("1/stat"), "1 (init) S\n").expect("the directory is writable");
        assert_eq!(tree.files(&[]), (Some(vec![]), issue("/proc/PID/stat", "EBADMSG")));
        let mut issues = Issues::default();
        assert_eq!(files(&tree.0.path().join("nowhere"), &[], &mut issues), None);
        assert!(issues.any(Part::Holder), "there is no /proc");
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_read() {
        let tree = ProcTree::new();
        let process = tree.process(20, "agent", &[MAP]);
        symlink("/opt/agent (deleted)", process.join("exe")).expect("the directory is writable");
        fs::write(process.join("cgroup"), HYBRID).expect("the directory is writable");
        let files = holding(20, "agent", &[]);
        assert_eq!(executable_name(tree.0.path(), &files).as_deref(), Some("agent"));
        assert_eq!(cgroup(tree.0.path(), &files).as_deref(), Some("/pod/x:y"));
        for other in
            [ProcessFiles { pid: 21, ..files.clone() }, ProcessFiles { started_at_boot_ns: 0, ..files }]
        {
            assert_eq!((executable_name(tree.0.path(), &other), cgroup(tree.0.path(), &other)), (None, None));
        }
    }
}
