//! One reading's view of a cgroup hierarchy: opens cgroups by id, or lists all of them if that is not permitted.
//!
//! Entry point: [`CgroupView::open`].

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};

use super::Hierarchy;
use crate::host::mounts::{self, Mount};
use crate::sys::os;
use crate::sys::{Error, Result, errno_of, failed};
use crate::text::escaped;

/// Errors of one reading.
pub(crate) type CgroupErrors = Vec<Error>;

/// The id and inode number of the root of every hierarchy. Source: `kernfs_create_root`, `fs/kernfs/dir.c`.
const ROOT_ID: u64 = 1;

/// A mount that shows a hierarchy or a part of it.
#[derive(Debug)]
pub(crate) struct CgroupView {
    /// The mount point.
    point: PathBuf,
    /// The inode number of the mounted directory.
    inode: u64,
    /// The path of the mounted directory in its hierarchy.
    path: PathBuf,
    /// Opens cgroups by id; `None` if that is not possible.
    handles: Option<CgroupHandles>,
    /// The paths of all cgroups, once they were listed.
    listed: Option<HashMap<u64, Arc<str>>>,
}

/// Opens cgroups by id.
#[derive(Debug)]
struct CgroupHandles {
    /// The mount point.
    directory: OwnedFd,
    /// Its path as `/proc/self/fd` reports it.
    path: PathBuf,
}

impl CgroupView {
    /// Opens the mount that shows most of a hierarchy. `None` if none shows any of it.
    pub(crate) fn open(root: &Path, hierarchy: Hierarchy, errors: &mut CgroupErrors) -> Option<Self> {
        let mounts = mounts::read(root)
            .map_err(|error| errors.push(Error::new("mountinfo", errno_of(&error))))
            .ok()?;
        let any_v1 = hierarchy == Hierarchy::Memory
            && (mounts.iter().any(is_memory_v1) || memory_is_v1(root, errors)?);
        let wanted =
            |mount: &Mount| if any_v1 { is_memory_v1(mount) } else { mount.file_system == "cgroup2" };
        let mut best = best_mount(mounts, wanted, errors);
        if best.as_ref().is_none_or(|view| view.inode != ROOT_ID) {
            // In a cgroup namespace our own mounts may not show cgroups outside of it, but those of the first process do. If they
            // cannot be read, only cgroups inside are visible.
            let others = mounts::read_of_first_process(root).unwrap_or_default();
            let other =
                best_mount(others, wanted, &mut CgroupErrors::new()).filter(|view| view.inode == ROOT_ID);
            best = other.or(best);
        }
        let mut view = best?;
        view.handles = CgroupHandles::open(&view);
        Some(view)
    }

    /// Returns whether it shows the hierarchy from its root.
    pub(crate) fn is_from_root(&self) -> bool {
        self.inode == ROOT_ID
    }

    /// Returns whether all cgroups were listed.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// Returns the path of a cgroup.
    pub(crate) fn path(&mut self, id: u64, errors: &mut CgroupErrors) -> Option<Arc<str>> {
        if let Some(handles) = &self.handles {
            match handles.relative_path(id) {
                Ok(relative) => return Some(path_text(&joined(&self.path, &relative))),
                // It was removed, or the id is that of a file in a cgroup: a list would not have it either.
                Err(Error { errno: Errno::ESTALE | Errno::ENOENT | Errno::ENOTDIR, .. }) => return None,
                Err(_) => self.handles = None,
            }
        }
        if self.listed.is_none() {
            self.listed = Some(self.list(errors));
        }
        self.listed.as_ref().and_then(|listed| listed.get(&id).cloned())
    }

    /// Lists all cgroups. On 64-bit kernels, a directory's inode number is the id of its cgroup (since 5.5).
    fn list(&self, errors: &mut CgroupErrors) -> HashMap<u64, Arc<str>> {
        let mut paths = HashMap::from([(self.inode, path_text(&self.path))]);
        let mut pending = vec![(self.point.clone(), self.path.clone())];
        while let Some((directory, path)) = pending.pop() {
            let mut read = || -> io::Result<()> {
                for entry in fs::read_dir(&directory)? {
                    let entry = entry?;
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        let path = path.join(entry.file_name());
                        paths.insert(entry.ino(), path_text(&path));
                        pending.push((entry.path(), path));
                    }
                }
                Ok(())
            };
            match read() {
                // It was removed in the meantime.
                Ok(()) => {}
                Err(error)
                    if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => errors.push(Error::new("getdents64", errno_of(&error))),
            }
        }
        paths
    }
}

impl CgroupHandles {
    /// `None` if cgroups cannot be opened by id, for lack of `CAP_DAC_READ_SEARCH` or due to a seccomp filter.
    fn open(view: &CgroupView) -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(&view.point, flags, Mode::empty()).ok()?;
        // Other file systems do not support these handles, and return ESTALE for all of them.
        let file_system = fstatfs(&directory).ok()?.filesystem_type();
        if ![CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&file_system) {
            return None;
        }
        // So does any kernel before 5.5.
        os::open_cgroup(directory.as_fd(), view.inode).ok()?;
        let path = fd_path(&directory).ok()?;
        Some(Self { directory, path })
    }

    /// Returns the path of a cgroup relative to the mount point.
    fn relative_path(&self, id: u64) -> Result<PathBuf> {
        /// The path that the kernel reports is not below the mount point.
        const NOT_BELOW: Error = Error::new("readlink", Errno::EXDEV);
        let path = fd_path(&os::open_cgroup(self.directory.as_fd(), id)?)?;
        // The kernel reports another path for a cgroup that the mount does not show, and appends to that of a removed cgroup.
        let relative = path.strip_prefix(&self.path).map_err(|_| NOT_BELOW)?;
        if path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)") {
            return Err(NOT_BELOW);
        }
        Ok(relative.to_owned())
    }
}

/// A mount of the version 2 hierarchy.
pub(crate) struct UnifiedMount {
    /// The mount point.
    pub(crate) point: PathBuf,
    /// The path of the mounted directory in the hierarchy.
    pub(crate) path: PathBuf,
    /// Whether it is the root of the hierarchy, so that all cgroups are below it.
    pub(crate) is_root: bool,
}

/// Returns the mount of this process that shows most of the version 2 hierarchy.
///
/// # Errors
///
/// The first error of reading the mounts; `ENOENT` if no mount shows the hierarchy.
pub(crate) fn unified(root: &Path) -> Result<UnifiedMount> {
    let mounts = mounts::read(root).map_err(failed("/proc/self/mountinfo"))?;
    let mut errors = CgroupErrors::new();
    let view = best_mount(mounts, |mount| mount.file_system == "cgroup2", &mut errors);
    let missing = || errors.first().copied().unwrap_or(Error::new("mount of cgroup2", Errno::ENOENT));
    let CgroupView { point, path, inode, .. } = view.ok_or_else(missing)?;
    Ok(UnifiedMount { point, path, is_root: inode == ROOT_ID })
}

fn fd_path(fd: &OwnedFd) -> Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(failed("readlink"))
}

/// Returns the mount that shows most of a hierarchy.
///
/// In a cgroup namespace, the root of a mount that shows more than the namespace starts with one `/..` for each level above it.
fn best_mount(
    mounts: Vec<Mount>,
    wanted: impl Fn(&Mount) -> bool,
    errors: &mut CgroupErrors,
) -> Option<CgroupView> {
    let levels_above =
        |mount: &Mount| mount.root.components().filter(|part| *part == Component::ParentDir).count();
    let mut wanted: Vec<_> = mounts.into_iter().filter(wanted).collect();
    wanted.sort_by_key(|mount| {
        (without_parents(&mount.root).components().count(), Reverse(levels_above(mount)))
    });
    wanted.into_iter().find_map(|mount| match fs::metadata(&mount.point) {
        // With another device number, another file system is mounted over it.
        Ok(metadata) if metadata.dev() == mount.device => {
            let path = Path::new("/").join(without_parents(&mount.root));
            Some(CgroupView { point: mount.point, inode: metadata.ino(), path, handles: None, listed: None })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            errors.push(Error::new("stat", errno_of(&error)));
            None
        }
        _ => None,
    })
}

/// Returns a path without its `/` and every `..`.
fn without_parents(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn is_memory_v1(mount: &Mount) -> bool {
    mount.file_system == "cgroup" && mount.options.split(',').any(|option| option == "memory")
}

/// Returns whether a hierarchy of version 1 accounts memory, even if it is not mounted. A kernel without support for that does
/// not list memory (since 6.14). `None`, and an error, on failure.
fn memory_is_v1(root: &Path, errors: &mut CgroupErrors) -> Option<bool> {
    let hierarchies = match fs::read_to_string(root.join("proc/cgroups")) {
        Ok(hierarchies) => hierarchies,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(false),
        Err(error) => {
            errors.push(Error::new("/proc/cgroups", errno_of(&error)));
            return None;
        }
    };
    let mut memory = hierarchies.lines().filter_map(|line| line.strip_prefix("memory\t")?.split('\t').next());
    Some(memory.next().is_some_and(|hierarchy| hierarchy != "0"))
}

/// Joins paths without the trailing slash that an empty relative path would add.
fn joined(path: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() { path.to_owned() } else { path.join(relative) }
}

/// Returns a path of any length, since what it identifies is parsed from it. The kernel bounds those that it reports itself.
fn path_text(path: &Path) -> Arc<str> {
    escaped(path.as_os_str().as_encoded_bytes()).into()
}
