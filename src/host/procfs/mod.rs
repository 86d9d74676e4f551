//! What `/proc` tells of processes: their descriptors of BPF objects where no iterator tells them, and what no iterator tells.
//! Knows no reader, and takes the place of `/proc` as an argument. Begin at [`files`].

mod text;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use self::text::{cgroup_path, id, kind, last_part, start_ticks};
use crate::host::clock::tick;
use crate::host::issues::Issues;
use crate::host::text::text as printable;
use crate::model::{Kind, Part, ProcessFiles};
use crate::sys::os::share_descriptors;
use crate::sys::{Error, Result, errno_of, failed};

/// Which process has descriptors of which objects, in ascending order of pids; of our own, only those of `kept` objects. `None`,
/// and an issue, when there is no `/proc`; an issue for each process that may not be looked at.
///
/// The pids are those of the namespace that `/proc` was mounted in.
pub(crate) fn files(proc: &Path, kept: &[(Kind, u32)], issues: &mut Issues) -> Option<Vec<ProcessFiles>> {
    match Search::below(proc, kept) {
        Ok(search) => Some(search.files(issues)),
        Err(error) => {
            issues.record(Part::Holder, error);
            None
        }
    }
}

/// The last part of the path of a process's executable. `None` where that may not be read, and for one that is gone.
pub(crate) fn executable_name(proc: &Path, files: &ProcessFiles) -> Option<String> {
    let path = readlinkat(same(proc, files)?, "exe").ok()?;
    Some(last_part(path.as_encoded_bytes())).filter(|name| !name.is_empty())
}

/// The path of a process's cgroup in the hierarchy that accounts memory. `None` where that may not be read, and for one that is
/// gone.
pub(crate) fn cgroup(proc: &Path, files: &ProcessFiles) -> Option<String> {
    let told = contents(same(proc, files)?, "cgroup").ok()?;
    cgroup_path(&told).map(printable)
}

/// The directory of a process, if it is of this one and not of a later or another namespace's with the same pid.
///
/// As long as it is open, what is looked up in it is this process's or not found at all.
fn same(proc: &Path, files: &ProcessFiles) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let process = nix::fcntl::open(&proc.join(files.pid.to_string()), flags, Mode::empty()).ok()?;
    (started_at(&process).ok()? == files.started_at_boot_ns).then_some(process)
}

/// A search through the descriptors of all processes.
struct Search<'a> {
    proc: Dir,
    pids: Vec<u32>,
    kept: &'a [(Kind, u32)],
    /// Our own pid in this `/proc`; `None` where we are not in it.
    own: Option<u32>,
}

impl<'a> Search<'a> {
    fn below(proc: &Path, kept: &'a [(Kind, u32)]) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut proc = Dir::open(proc, flags, Mode::empty()).map_err(failed("/proc"))?;
        let pids = numbers(&mut proc).map_err(failed("/proc"))?;
        let own = readlinkat(&proc, "self").ok().and_then(|pid| pid.to_str()?.parse().ok());
        Ok(Self { proc, pids, kept, own })
    }

    fn files(&self, issues: &mut Issues) -> Vec<ProcessFiles> {
        // The first process of a pid namespace lives as long as any of it. Where it is not seen (`hidepid`), others are not either.
        if !self.pids.contains(&1) {
            issues.record(Part::Holder, Error::new("/proc/1", Errno::ENOENT));
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

    /// A process, if it holds anything.
    fn process(&self, pid: u32) -> Result<Option<ProcessFiles>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let process = openat(&self.proc, &*pid.to_string(), flags, Mode::empty());
        let process = process.map_err(failed("/proc/PID"))?;
        let mut objects = Vec::new();
        descriptors(&process, "", &mut objects)?;
        for thread in self.apart(&process, pid)? {
            match descriptors(&process, &format!("task/{thread}/"), &mut objects) {
                Err(error) if is_gone(error.errno) => {}
                looked_at => looked_at?,
            }
        }
        if self.own == Some(pid) {
            objects.retain(|object| self.kept.contains(object));
        }
        if objects.is_empty() {
            return Ok(None);
        }
        let name = contents(&process, "comm").map_err(failed("/proc/PID/comm"))?;
        Ok(Some(ProcessFiles {
            pid,
            started_at_boot_ns: started_at(&process).map_err(failed("/proc/PID/stat"))?,
            name: printable(name.strip_suffix(b"\n").unwrap_or(&name)),
            cgroup: None,
            objects,
        }))
    }

    /// The threads of a process that may have descriptors of their own (`CLONE_FILES` not given, or `unshare`).
    fn apart(&self, process: &OwnedFd, pid: u32) -> Result<Vec<u32>> {
        /// A directory has two links, and `task` another one for each thread (`proc_task_getattr`, `fs/proc/base.c`).
        const OF_ONE_THREAD: u64 = 3;
        const CALL: &str = "/proc/PID/task";
        let task = fstatat(process, "task", AtFlags::empty()).map_err(failed(CALL))?;
        if task.st_nlink == OF_ONE_THREAD {
            return Ok(Vec::new());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut threads = Dir::openat(process, "task", flags, Mode::empty())
            .and_then(|mut task| numbers(&mut task))
            .map_err(failed(CALL))?;
        // The kernel compares threads by pids of our own namespace. Where it does not, each is looked at.
        let comparable = self.own == Some(std::process::id());
        let shares = |thread| comparable && share_descriptors(pid, thread) == Ok(true);
        threads.retain(|&thread| thread != pid && !shares(thread));
        Ok(threads)
    }
}

/// Adds the objects that the descriptors in a process's or a thread's directory are of.
fn descriptors(process: &OwnedFd, below: &str, objects: &mut Vec<(Kind, u32)>) -> Result<()> {
    const CALL: &str = "/proc/PID/fd";
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut links =
        Dir::openat(process, &*format!("{below}fd"), flags, Mode::empty()).map_err(failed(CALL))?;
    for descriptor in numbers(&mut links).map_err(failed(CALL))? {
        let link = match readlinkat(&links, &*descriptor.to_string()) {
            Ok(link) => link,
            // It was closed.
            Err(errno) if is_gone(errno) => continue,
            Err(errno) => return Err(Error::new(CALL, errno)),
        };
        let Some((kind, key)) = kind(link.as_encoded_bytes()) else { continue };
        match contents(process, &format!("{below}fdinfo/{descriptor}")) {
            // Where no id is told, it is another file's descriptor by now.
            Ok(told) => objects.extend(id(&told, key).map(|id| (kind, id))),
            Err(errno) if is_gone(errno) => {}
            Err(errno) => return Err(Error::new("/proc/PID/fdinfo", errno)),
        }
    }
    Ok(())
}

/// When a process was started, in nanoseconds since boot.
fn started_at(process: &OwnedFd) -> Result<u64, Errno> {
    let ticks = start_ticks(&contents(process, "stat")?).ok_or(Errno::EBADMSG)?;
    ticks.checked_mul(tick()).ok_or(Errno::EBADMSG)
}

/// The names in a directory that are numbers.
fn numbers(directory: &mut Dir) -> Result<Vec<u32>, Errno> {
    let mut numbers = Vec::new();
    for entry in directory.iter() {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

fn contents(directory: impl AsFd, name: &str) -> Result<Vec<u8>, Errno> {
    let file = openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut contents = Vec::with_capacity(1024);
    File::from(file).read_to_end(&mut contents).map_err(|error| errno_of(&error))?;
    Ok(contents)
}

/// Whether a process, a thread or a descriptor has ended meanwhile.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESRCH)
}

/// Each process once, in ascending order of pids, with each of its objects once. What is known of it is what was told first.
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::text::examples::{HYBRID, LINK, STAT};
    use super::*;

    /// An issue: the call, the error, and how often.
    type Met = (String, String, u64);

    /// A `/proc` of a test's own.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root =
                std::env::temp_dir().join(format!("bpf-metrics-exporter-{name}-{}", std::process::id()));
            fs::create_dir(&root).expect("a new directory");
            Self(root)
        }

        /// A process of one thread with these descriptors: what they are links to, and what is told of them.
        fn process(&self, pid: u32, name: &str, descriptors: &[(&str, &str)]) -> PathBuf {
            let process = self.0.join(pid.to_string());
            let thread = format!("task/{pid}");
            for directory in [process.join("fd"), process.join("fdinfo"), process.join(thread)] {
                fs::create_dir_all(directory).expect("it is ours");
            }
            fs::write(process.join("comm"), format!("{name}\n")).expect("it is ours");
            fs::write(process.join("stat"), STAT).expect("it is ours");
            Self::add(&process, descriptors);
            process
        }

        fn add(process: &Path, descriptors: &[(&str, &str)]) {
            for (number, (link, told)) in descriptors.iter().enumerate() {
                symlink(link, process.join(format!("fd/{number}"))).expect("it is ours");
                fs::write(process.join(format!("fdinfo/{number}")), told).expect("it is ours");
            }
        }

        fn files(&self, kept: &[(Kind, u32)]) -> (Option<Vec<ProcessFiles>>, Vec<Met>) {
            let mut issues = Issues::default();
            let files = files(&self.0, kept, &mut issues);
            let met = issues.all().iter();
            (files, met.map(|issue| (issue.call.to_string(), issue.error.to_string(), issue.count)).collect())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }

    const MAP: (&str, &str) = ("anon_inode:bpf-map", "pos:\t0\nmap_type:\t2\nmap_id:\t11\nfrozen:\t0\n");
    const PROGRAM: (&str, &str) = ("anon_inode:bpf-prog", "prog_type:\t1\nprog_id:\t3\n");
    const SOCKET: (&str, &str) = ("socket:[123]", "pos:\t0\nmap_id:\t99\n");

    fn holding(pid: u32, name: &str, objects: &[(Kind, u32)]) -> ProcessFiles {
        let started_at_boot_ns = 2510 * tick();
        ProcessFiles {
            pid,
            started_at_boot_ns,
            name: name.to_owned(),
            cgroup: None,
            objects: objects.to_vec(),
        }
    }

    #[test]
    fn processes_are_found_with_what_they_hold() {
        let tree = Tree::new("processes");
        tree.process(1, "init", &[SOCKET]);
        tree.process(20, "a\nb) \u{7}", &[MAP, SOCKET, MAP, PROGRAM, ("anon_inode:bpf_link", LINK)]);
        // A thread with descriptors of its own.
        let apart = tree.process(3, "apart", &[MAP]).join("task/4");
        fs::create_dir_all(apart.join("fd")).expect("it is ours");
        fs::create_dir_all(apart.join("fdinfo")).expect("it is ours");
        Tree::add(&apart, &[SOCKET, PROGRAM]);
        // A descriptor that was another file's when it was looked at the second time.
        tree.process(30, "quick", &[("anon_inode:bpf-map", SOCKET.0)]);
        fs::write(tree.0.join("uptime"), "1").expect("it is ours");
        let wanted = vec![
            holding(3, "apart", &[(Kind::Program, 3), (Kind::Map, 11)]),
            holding(20, "a\nb) \\x07", &[(Kind::Program, 3), (Kind::Map, 11), (Kind::Link, 41)]),
        ];
        assert_eq!(tree.files(&[]), (Some(wanted), vec![]));
    }

    #[test]
    fn of_our_own_only_what_is_kept_is_held() {
        let tree = Tree::new("own");
        tree.process(1, "init", &[MAP]);
        tree.process(8, "this", &[MAP, PROGRAM]);
        symlink("8", tree.0.join("self")).expect("it is ours");
        let init = holding(1, "init", &[(Kind::Map, 11)]);
        assert_eq!(tree.files(&[]), (Some(vec![init.clone()]), vec![]));
        let kept = holding(8, "this", &[(Kind::Program, 3)]);
        assert_eq!(tree.files(&[(Kind::Program, 3)]), (Some(vec![init, kept]), vec![]));
    }

    #[test]
    fn what_is_gone_is_no_issue_and_what_is_wrong_is_one() {
        let tree = Tree::new("issues");
        let missing = |call: &str, error: &str| vec![(call.to_owned(), error.to_owned(), 1)];
        tree.process(20, "ends", &[MAP]);
        fs::remove_file(tree.0.join("20/comm")).expect("it is ours");
        assert_eq!(tree.files(&[]), (Some(vec![]), missing("/proc/1", "ENOENT")), "processes are hidden");
        tree.process(1, "init", &[MAP]);
        fs::write(tree.0.join("1/stat"), "1 (init) S\n").expect("it is ours");
        assert_eq!(tree.files(&[]), (Some(vec![]), missing("/proc/PID/stat", "EBADMSG")));
        let mut issues = Issues::default();
        assert_eq!(files(&tree.0.join("nowhere"), &[], &mut issues), None);
        assert!(issues.any(Part::Holder), "there is no /proc");
    }

    #[test]
    fn only_the_same_process_is_looked_up() {
        let tree = Tree::new("same");
        let process = tree.process(20, "agent", &[MAP]);
        symlink("/opt/agent (deleted)", process.join("exe")).expect("it is ours");
        fs::write(process.join("cgroup"), HYBRID).expect("it is ours");
        let files = holding(20, "agent", &[]);
        assert_eq!(executable_name(&tree.0, &files).as_deref(), Some("agent"));
        assert_eq!(cgroup(&tree.0, &files).as_deref(), Some("/pod/x:y"));
        for other in
            [ProcessFiles { pid: 21, ..files.clone() }, ProcessFiles { started_at_boot_ns: 0, ..files }]
        {
            assert_eq!((executable_name(&tree.0, &other), cgroup(&tree.0, &other)), (None, None));
        }
    }
}
