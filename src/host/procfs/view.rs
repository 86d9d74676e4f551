//! Which processes a `/proc` shows. Entry point: [`hidden`].

use std::fs;
use std::path::Path;

use crate::host::mounts;
use crate::host::namespaces::{NamespaceKind, Rights, is_initial};
use crate::model::{Capability, Reason};

/// Returns why a `/proc` does not show every process of the host; `None` if it does.
///
/// A `/proc` shows the processes of the pid namespace in which it was mounted, whose first process is process 1. `hidepid` hides
/// those of others from a process without `CAP_SYS_PTRACE` (`has_pid_permissions`, `fs/proc/base.c`).
pub(crate) fn hidden(proc: &Path, rights: Rights) -> Option<Reason> {
    if !is_of_initial_namespace(proc) {
        Some(Reason::PidNamespace)
    } else if rights.missing(Capability::SysPtrace).is_some() && hides_processes(proc) {
        Some(Reason::Hidepid)
    } else {
        None
    }
}

/// Returns whether a `/proc` was mounted in the initial pid namespace; `false` if that is not known.
fn is_of_initial_namespace(proc: &Path) -> bool {
    // Process 1 of a container that uses the host's /proc is the host's.
    is_initial(&proc.join("1"), NamespaceKind::Pid).unwrap_or_else(|_not_permitted| {
        // Then it is that of our own namespace if it has our own pid, which another one would map to another number.
        let own = fs::read_link(proc.join("self"));
        own.is_ok_and(|own| own == Path::new(&std::process::id().to_string()))
            && is_initial(&proc.join("self"), NamespaceKind::Pid).unwrap_or(false)
    })
}

/// Returns whether a `/proc` was mounted with `hidepid`; `true` if that is not known.
fn hides_processes(proc: &Path) -> bool {
    let Some(root) = proc.parent() else { return true };
    let mounts = mounts::read(root).unwrap_or_default();
    // The last mount at a path is on top.
    let mount = mounts.iter().rfind(|mount| mount.file_system == "proc" && mount.point == proc);
    mount.is_none_or(|mount| {
        let hidepid = mount.options.split(',').find_map(|option| option.strip_prefix("hidepid="));
        // Words since 5.8, numbers before.
        hidepid.is_some_and(|value| !["0", "off"].contains(&value))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A root directory whose `/proc` is that of the initial pid namespace, mounted with these options.
    fn root(options: &str) -> TempDir {
        let root = TempDir::new().expect("a temporary directory can be created");
        let own = std::process::id().to_string();
        let process = root.path().join("proc").join(&own);
        fs::create_dir_all(process.join("ns")).expect("the directory is writable");
        symlink(&own, root.path().join("proc/self")).expect("the directory is writable");
        let mountinfo = format!("22 1 0:21 / /proc rw,relatime - proc proc rw{options}\n");
        fs::write(process.join("mountinfo"), mountinfo).expect("the directory is writable");
        root
    }

    #[test]
    fn hidepid_hides_unless_every_process_may_be_traced() {
        let (with, without) = (Rights::only(&[Capability::SysPtrace]), Rights::only(&[]));
        for (options, hides) in [
            ("", false),
            (",hidepid=0", false),
            (",hidepid=off,gid=5", false),
            (",hidepid=1", true),
            (",gid=5,hidepid=2", true),
            (",hidepid=invisible", true),
            (",hidepid=ptraceable,subset=pid", true),
        ] {
            let root = root(options);
            let proc = root.path().join("proc");
            assert_eq!(hides_processes(&proc), hides, "{options}");
            // The namespace files of the kernel cannot be made.
            for rights in [with, without] {
                assert_eq!(hidden(&proc, rights), Some(Reason::PidNamespace));
            }
        }
        assert!(hides_processes(Path::new("/nonexistent/proc")), "unknown is not complete");
    }

    #[test]
    fn our_own_proc_is_judged_by_our_own_namespace() {
        let proc = Path::new("/proc");
        let initial = is_initial(&proc.join("self"), NamespaceKind::Pid).expect("Linux has it");
        let own = fs::read_link("/proc/self").expect("Linux has it");
        if own == Path::new(&std::process::id().to_string()) {
            assert_eq!(is_of_initial_namespace(proc), initial);
        }
    }
}
