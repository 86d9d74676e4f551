//! What `/proc` says of one process, at once: it may end at any time.
//!
//! Entry point: [`describe`].

use std::path::Path;

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::Mode;

use super::read_file;
use super::text::{cgroup_path, has_v1, stat_field};
use crate::host::clock::ProcTime;
use crate::model::BootTime;
use crate::text::{escaped, printable};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessFacts {
    /// When it was started, rounded to the tick of `/proc`.
    pub(crate) started_at: BootTime,
    /// The process that started it, or that took it over. `None` without one.
    pub(crate) parent: Option<u32>,
    /// Whether it is a thread of the kernel.
    pub(crate) is_kernel: bool,
    /// Name of its first thread.
    pub(crate) name: String,
    /// Path of its executable. `None` if that may not be read, or it has none.
    pub(crate) executable: Option<String>,
    /// Its cgroup.
    pub(crate) cgroup: ProcessCgroup,
}

/// The cgroup of a process in the hierarchy that accounts memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProcessCgroup {
    /// Its path.
    Path(String),
    /// The kernel has no cgroups.
    None,
    /// The process is about to end, and the kernel does not say any more in which one it was.
    Left,
}

/// Reads a process in `proc`. `None` if it has ended or is not visible.
pub(crate) fn describe(proc: &Path, pid: u32) -> Option<ProcessFacts> {
    // Flags of `include/linux/sched.h`, in field 9.
    const PF_EXITING: u64 = 0x4;
    const PF_KTHREAD: u64 = 0x0020_0000;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // Lookups in the open directory find files of this process or fail.
    let process = nix::fcntl::open(&proc.join(pid.to_string()), flags, Mode::empty()).ok()?;
    let cgroup = read_file(&process, "cgroup").ok();
    let executable = readlinkat(&process, "exe").ok();
    // After what it says of: a process that is not about to end now was not then, and one that is there still was there.
    let stat = read_file(&process, "stat").ok()?;
    let flags = stat_field(&stat, 9)?;
    let name = stat.get(stat.iter().position(|&byte| byte == b'(')? + 1..)?;
    let name = &name[..name.iter().rposition(|&byte| byte == b')')?];
    Some(ProcessFacts {
        started_at: ProcTime::of_this_process().moment(stat_field(&stat, 22)?),
        parent: stat_field(&stat, 4).and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0),
        is_kernel: flags & PF_KTHREAD != 0,
        name: printable(name),
        executable: executable.map(|path| escaped(path.as_encoded_bytes())).filter(|path| !path.is_empty()),
        cgroup: place(cgroup.as_deref(), flags & PF_EXITING != 0),
    })
}

/// Returns the cgroup that a file `cgroup` says.
///
/// A process that is about to end is in the root of every hierarchy of cgroup v1 (`proc_cgroup_show`, `kernel/cgroup/cgroup.c`).
fn place(file: Option<&[u8]>, is_exiting: bool) -> ProcessCgroup {
    match file.and_then(cgroup_path) {
        Some(b"/") if is_exiting && file.is_some_and(has_v1) => ProcessCgroup::Left,
        Some(path) => ProcessCgroup::Path(escaped(path)),
        None => ProcessCgroup::None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::super::text::examples::STAT;
    use super::*;

    #[test]
    fn a_process_is_described_as_far_as_it_can_be_read() {
        let proc = TempDir::new().expect("a temporary directory can be created");
        let process = proc.path().join("7");
        fs::create_dir(&process).expect("the directory is writable");
        assert_eq!(describe(proc.path(), 7), None, "it has ended");
        fs::write(process.join("stat"), STAT).expect("the directory is writable");
        let bare = describe(proc.path(), 7).expect("it is there");
        assert_eq!((&*bare.name, bare.parent, bare.is_kernel), ("a b) c", Some(1), false));
        assert_eq!((bare.executable, bare.cgroup), (None, ProcessCgroup::None));
        fs::write(process.join("cgroup"), "0::/system.slice/a.service\n").expect("the directory is writable");
        symlink("/usr/bin/a", process.join("exe")).expect("the directory is writable");
        fs::write(process.join("stat"), STAT.replace(" 4194560 ", " 69238880 ")).expect("it is writable");
        let all = describe(proc.path(), 7).expect("it is there");
        assert_eq!(all.executable.as_deref(), Some("/usr/bin/a"));
        assert_eq!(all.cgroup, ProcessCgroup::Path("/system.slice/a.service".to_owned()));
        assert!(all.is_kernel, "flags of a kworker");
        assert_eq!(describe(proc.path(), 8), None);
    }

    #[test]
    fn a_process_that_is_about_to_end_is_not_in_the_root_of_cgroup_v1() {
        let path = |path: &str| ProcessCgroup::Path(path.to_owned());
        let root = b"4:memory:/\n0::/\n";
        assert_eq!(place(Some(root), true), ProcessCgroup::Left);
        assert_eq!(place(Some(root), false), path("/"));
        assert_eq!(place(Some(b"4:memory:/a\n0::/\n"), true), path("/a"), "it was read before");
        assert_eq!(place(Some(b"0::/\n"), true), path("/"), "cgroup v2 keeps it");
        assert_eq!(place(None, true), ProcessCgroup::None);
    }
}
