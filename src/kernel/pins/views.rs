//! The directories from which each bpffs can be seen, the best view of it first.
//! Entry point: [`views`]. Independent of what is pinned.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::sys::statfs::{BPF_FS_MAGIC, fstatfs};

use crate::host::issues::Issues;
use crate::host::mounts::{self, Mount, OtherMount};
use crate::host::procfs;
use crate::model::{Capability, Feature, Part, Reason};
use crate::sys::{Error, Result, failed};

/// The type of these file systems in `mountinfo`.
const BPFFS: &str = "bpf";

/// The inode of a bpffs's root. Source: `simple_fill_super`, `fs/libfs.c`.
const ROOT: u64 = 1;

/// A directory from which a bpffs can be seen, completely or in part. The order is by file system, then from the best view to the
/// worst.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct View {
    /// The device number of the bpffs.
    pub(crate) device: u64,
    /// Distance from the root of the bpffs, in directories.
    depth: usize,
    origin: Origin,
    /// Length of the path.
    len: usize,
    /// The path in its mount namespace.
    pub(crate) path: PathBuf,
    /// The root directory of a process in that namespace; `None` for ours.
    root: Option<PathBuf>,
}

/// How a view was found. No order depends on which processes of a mount namespace live: the paths of pins would change with
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A mount in our mount namespace.
    Own,
    /// The user named it.
    Given,
    /// A mount in the mount namespace of the first process, usually that of the host.
    FirstProcess,
    /// A mount in any other mount namespace, where its creator chose the path.
    OtherProcess,
}

/// An open view.
pub(crate) struct OpenView {
    pub(crate) fd: OwnedFd,
    /// Its inode.
    pub(crate) inode: u64,
}

impl View {
    fn new(device: u64, depth: usize, origin: Origin, path: PathBuf, root: Option<PathBuf>) -> Self {
        Self { device, depth, origin, len: path.as_os_str().len(), path, root }
    }

    fn of_mount(mount: Mount, origin: Origin, root: Option<PathBuf>) -> Self {
        let depth = mount.root.components().count().saturating_sub(1);
        Self::new(mount.device, depth, origin, mount.point, root)
    }

    fn of_own_mount(mount: Mount) -> Self {
        Self::of_mount(mount, Origin::Own, None)
    }

    fn of_other_mount(OtherMount { mount, pid, root }: OtherMount) -> Self {
        let origin = if pid == 1 { Origin::FirstProcess } else { Origin::OtherProcess };
        Self::of_mount(mount, origin, Some(root))
    }

    /// Returns what distinguishes its paths from those of other mount namespaces: the device number of the bpffs, which is the
    /// same in each of them, as `0:45`. `None` if they are paths of ours.
    pub(crate) fn bpffs(&self) -> Option<Arc<str>> {
        self.root.as_ref().map(|_| format!("{}:{}", major(self.device), minor(self.device)).into())
    }

    /// Returns whether it shows the bpffs from its root.
    pub(crate) fn is_from_root(&self) -> bool {
        self.depth == 0
    }

    /// Opens the directory; `None` where another file system is mounted over it, or it is gone.
    pub(crate) fn open(&self, issues: &mut Issues) -> Option<OpenView> {
        let below = |root: &PathBuf| root.join(self.path.strip_prefix("/").unwrap_or(&self.path));
        let path = self.root.as_ref().map_or(Cow::Borrowed(&self.path), |root| Cow::Owned(below(root)));
        let (fd, device, inode) = match open_directory(&path) {
            Ok(opened) => opened,
            Err(Error { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) if self.origin != Origin::Given => {
                return None;
            }
            Err(error) => {
                issues.record(Part::Pin, error);
                return None;
            }
        };
        (device == self.device).then_some(OpenView { fd, inode })
    }
}

/// Returns the views of every mounted bpffs, and those given by the user. `None`, and an issue, when the mounts could not be read. A
/// given directory that does not exist, or is not in a bpffs (`ENODEV`), is an issue.
///
/// Unless these show all bpffs in `existing` from their roots, those in other mount namespaces follow. If `existing` is `None`,
/// the feature is limited if there may be a namespace that could not be read.
pub(crate) fn views(given: &[PathBuf], existing: Option<&[u64]>, issues: &mut Issues) -> Option<Vec<View>> {
    let mounts = mounts::read(Path::new("/"))
        .map_err(|error| issues.record(Part::Pin, failed("mountinfo")(error)))
        .ok()?;
    let mounts = mounts.into_iter().filter(|mount| mount.file_system == BPFFS);
    let mut views: Vec<_> = mounts.map(View::of_own_mount).collect();
    for path in given {
        match device_and_inode(path) {
            // The distance from the root is unknown, but larger than that of any view that shows the root.
            Ok((device, inode)) => {
                let depth = if inode == ROOT { 0 } else { usize::MAX };
                views.push(View::new(device, depth, Origin::Given, path.clone(), None));
            }
            Err(error) => issues.record(Part::Pin, error),
        }
    }
    let shows = |device: &u64| views.iter().any(|view| view.device == *device && view.is_from_root());
    if !existing.is_some_and(|existing| existing.iter().all(shows)) {
        let others = mounts::of_other_namespaces(Path::new("/"), BPFFS);
        if existing.is_none() {
            limit_by_processes(others.refused, issues);
        }
        views.extend(others.mounts.into_iter().map(View::of_other_mount));
    }
    views.sort_unstable();
    views.dedup();
    Some(views)
}

/// Limits the feature if the mount namespace of some process is unknown.
fn limit_by_processes(refused: Option<Error>, issues: &mut Issues) {
    let rights = issues.rights();
    let refused = refused.map(|_| rights.missing(Capability::SysPtrace).unwrap_or(Reason::Refused));
    if let Some(reason) = procfs::hidden(Path::new("/proc"), rights).or(refused) {
        issues.limit(Feature::Pins, reason);
    }
}

/// Returns the device and inode of a directory in a bpffs.
fn device_and_inode(path: &Path) -> Result<(u64, u64)> {
    let (fd, device, inode) = open_directory(path)?;
    let system = fstatfs(&fd).map_err(failed("fstatfs"))?;
    if system.filesystem_type() == BPF_FS_MAGIC {
        Ok((device, inode))
    } else {
        Err(Error::new("fstatfs", Errno::ENODEV))
    }
}

fn open_directory(path: &Path) -> Result<(OwnedFd, u64, u64)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty()).map_err(failed("open"))?;
    let stat = fstat(&fd).map_err(failed("fstat"))?;
    Ok((fd, stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::Origin::{FirstProcess, Given, OtherProcess, Own};
    use super::*;

    #[test]
    fn the_names_of_pins_elsewhere_do_not_depend_on_the_process() {
        let other = |pid: u32, minor| {
            let mount = Mount {
                device: libc::makedev(0, minor),
                root: "/".into(),
                point: "/sys/fs/bpf".into(),
                file_system: BPFFS.to_owned(),
                options: String::new(),
            };
            View::of_other_mount(OtherMount { mount, pid, root: format!("/proc/{pid}/root").into() })
        };
        for view in [other(7, 300), other(123, 300)] {
            assert_eq!((view.path.to_str(), view.bpffs().as_deref()), (Some("/sys/fs/bpf"), Some("0:300")));
        }
        assert!(other(1, 45) < other(7, 45) && other(7, 45).origin == OtherProcess);
        assert_eq!(View::new(45, 0, Own, "/sys/fs/bpf".into(), None).bpffs(), None);
    }

    #[test]
    fn the_view_that_shows_the_most_comes_first() {
        let view = |device, depth, origin, path: &str| View::new(device, depth, origin, path.into(), None);
        let best_first = [
            view(1, 0, Own, "/z"),
            view(1, 0, Own, "/bb"),
            view(1, 0, Own, "/bc"),
            view(1, 0, Given, "/a"),
            view(1, 0, FirstProcess, "/bb"),
            view(1, 0, OtherProcess, "/a"),
            view(1, 1, Own, "/a"),
            view(1, usize::MAX, Given, "/"),
            view(2, 0, Own, "/"),
        ];
        assert!(best_first.is_sorted(), "{best_first:?}");
    }

    #[test]
    fn a_given_directory_outside_of_bpffs_is_an_issue_in_each_reading() {
        let given = [PathBuf::from("/proc/self"), PathBuf::from("/proc/self/no_such_directory")];
        let mut issues = Issues::default();
        for _ in 0..2 {
            issues.start_reading();
            let views = views(&given, Some(&[]), &mut issues).expect("there is /proc");
            assert!(views.iter().all(|view| view.origin != Given));
            let recorded: Vec<_> =
                issues.all().iter().map(|issue| (&*issue.call, &*issue.error, issue.count)).collect();
            assert_eq!(recorded, [("fstatfs", "ENODEV", 1), ("open", "ENOENT", 1)]);
        }
    }
}
