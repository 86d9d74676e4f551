//! Which namespaces this process is in, and which capabilities it has: what it may see of the host.
//! Entry points: [`Rights::of_this_thread`] and [`is_initial`].

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;

use crate::model::{Capability, Reason};
use crate::sys::os;

/// A kind of namespace with a fixed inode number for the initial one. Source: `include/linux/proc_ns.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceKind {
    /// Of processes.
    Pid,
    /// Of users and capabilities.
    User,
    /// Of the host's name.
    Uts,
    /// Of System V objects.
    Ipc,
    /// Of cgroups.
    Cgroup,
}

impl NamespaceKind {
    /// Returns its file in the directory of a process, and the inode number of the initial namespace.
    const fn file_and_initial(self) -> (&'static str, u64) {
        match self {
            // `PROC_PID_INIT_INO`
            Self::Pid => ("ns/pid", 0xEFFF_FFFC),
            // `PROC_USER_INIT_INO`
            Self::User => ("ns/user", 0xEFFF_FFFD),
            // `PROC_UTS_INIT_INO`
            Self::Uts => ("ns/uts", 0xEFFF_FFFE),
            // `PROC_IPC_INIT_INO`
            Self::Ipc => ("ns/ipc", 0xEFFF_FFFF),
            // `PROC_CGROUP_INIT_INO`
            Self::Cgroup => ("ns/cgroup", 0xEFFF_FFFB),
        }
    }
}

/// Returns whether a process, given by its directory in `/proc`, is in the initial namespace of this kind.
///
/// # Errors
///
/// `EACCES` for another process without `CAP_SYS_PTRACE`; `ENOENT` without `/proc`, or without this kind of namespace.
pub(crate) fn is_initial(process: &Path, kind: NamespaceKind) -> io::Result<bool> {
    let (file, initial) = kind.file_and_initial();
    Ok(fs::metadata(process.join(file))?.ino() == initial)
}

/// Returns whether this process is in the initial user namespace, which nothing but its own calls could change.
fn is_in_initial_user_namespace() -> io::Result<bool> {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    if let Some(&known) = KNOWN.get() {
        return Ok(known);
    }
    let is_initial = is_initial(Path::new("/proc/self"), NamespaceKind::User)?;
    Ok(*KNOWN.get_or_init(|| is_initial))
}

/// What the calling thread may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The effective capabilities, one bit each.
    effective: u64,
    /// Whether it is in the initial user namespace, the only one whose capabilities count for BPF.
    initial_user_namespace: bool,
}

impl Default for Rights {
    /// Every right: then each refusal is a failure.
    fn default() -> Self {
        Self { effective: u64::MAX, initial_user_namespace: true }
    }
}

impl Rights {
    /// Reads the rights of the calling thread. What cannot be read is taken to be granted, so that a refusal stays a failure.
    pub(crate) fn of_this_thread() -> Self {
        Self {
            effective: os::effective_capabilities().unwrap_or(u64::MAX),
            initial_user_namespace: is_in_initial_user_namespace().unwrap_or(true),
        }
    }

    /// Returns why a call that needs a capability is refused; `None` if it should not be.
    pub(crate) fn missing(self, capability: Capability) -> Option<Reason> {
        if !self.initial_user_namespace {
            return Some(Reason::UserNamespace);
        }
        let has = self.effective >> (capability as u32) & 1 == 1;
        (!has).then_some(Reason::Missing(capability))
    }

    /// Returns rights with only these capabilities.
    #[cfg(test)]
    pub(crate) fn only(capabilities: &[Capability]) -> Self {
        let effective = capabilities.iter().fold(0, |bits, &capability| bits | 1 << capability as u32);
        Self { effective, initial_user_namespace: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_counts_in_the_initial_user_namespace_only() {
        let rights = Rights::only(&[Capability::SysAdmin, Capability::Bpf]);
        assert_eq!(rights.missing(Capability::SysAdmin), None);
        assert_eq!(rights.missing(Capability::Bpf), None);
        let missing = Some(Reason::Missing(Capability::SysPtrace));
        assert_eq!(rights.missing(Capability::SysPtrace), missing);
        let elsewhere = Rights { initial_user_namespace: false, ..rights };
        assert_eq!(elsewhere.missing(Capability::SysAdmin), Some(Reason::UserNamespace));
    }

    #[test]
    fn the_capabilities_are_those_of_proc_status() {
        let status = fs::read_to_string("/proc/thread-self/status").expect("Linux has it");
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("Linux has it");
        let effective = u64::from_str_radix(line.trim(), 16).expect("it is hexadecimal");
        assert_eq!(Rights::of_this_thread().effective, effective);
    }
}
