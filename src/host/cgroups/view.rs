//! A hierarchy of cgroups where it can be seen, for one reading: asked for one cgroup by its id, or listed where that is refused.
//! Keeps no path from one reading to the next. Begin at [`View::best`].

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
use crate::host::text::text;
use crate::sys::os;
use crate::sys::{Error, Result, errno_of, failed};

/// What could not be read.
type Errors = Vec<Error>;

/// The id of the root of every hierarchy, and its inode. Source: `kernfs_create_root`, `fs/kernfs/dir.c`.
const ROOT: u64 = 1;

/// A directory from which a hierarchy can be seen, wholly or in part.
#[derive(Debug)]
pub(crate) struct View {
    point: PathBuf,
    /// The inode of that directory.
    inode: u64,
    /// The path of that directory in its hierarchy.
    above: PathBuf,
    /// By which a cgroup can be had for its id; `None` where it cannot.
    handles: Option<Handles>,
    /// The paths of all, once they were listed.
    listed: Option<HashMap<u64, Arc<str>>>,
}

#[derive(Debug)]
struct Handles {
    directory: OwnedFd,
    /// The path of that directory as the kernel tells paths of descriptors.
    path: PathBuf,
}

impl View {
    /// That which shows the most of a hierarchy. `None` where nothing does.
    pub(crate) fn best(root: &Path, hierarchy: Hierarchy, errors: &mut Errors) -> Option<Self> {
        let mounts = mounts::read(root)
            .map_err(|error| errors.push(Error::new("mountinfo", errno_of(&error))))
            .ok()?;
        let any_v1 = hierarchy == Hierarchy::Memory
            && (mounts.iter().any(is_memory_v1) || memory_is_v1(root, errors)?);
        let wanted =
            |mount: &Mount| if any_v1 { is_memory_v1(mount) } else { mount.file_system == "cgroup2" };
        let mut best = best_of(mounts, wanted, errors);
        if best.as_ref().is_none_or(|view| view.inode != ROOT) {
            // In a cgroup namespace no mount of ours may show what is outside of it. Whoever may not look there sees what is inside.
            let others = mounts::read_of_first_process(root).unwrap_or_default();
            let other = best_of(others, wanted, &mut Errors::new()).filter(|view| view.inode == ROOT);
            best = other.or(best);
        }
        let mut view = best?;
        view.handles = Handles::of(&view);
        Some(view)
    }

    /// Whether all cgroups were listed.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// The path of a cgroup.
    pub(crate) fn path(&mut self, id: u64, errors: &mut Errors) -> Option<Arc<str>> {
        if let Some(handles) = &self.handles {
            match handles.below(id) {
                Ok(below) => return Some(words(&joined(&self.above, &below))),
                // It is gone, or is a file's in one: a list would not have it either.
                Err(Error { errno: Errno::ESTALE | Errno::ENOENT | Errno::ENOTDIR, .. }) => return None,
                Err(_) => self.handles = None,
            }
        }
        if self.listed.is_none() {
            self.listed = Some(self.list(errors));
        }
        self.listed.as_ref().and_then(|listed| listed.get(&id).cloned())
    }

    /// Every cgroup. On kernels of 64 bits, a directory's inode is the cgroup's id (since 5.5).
    fn list(&self, errors: &mut Errors) -> HashMap<u64, Arc<str>> {
        let mut found = HashMap::from([(self.inode, words(&self.above))]);
        let mut waiting = vec![(self.point.clone(), self.above.clone())];
        while let Some((directory, path)) = waiting.pop() {
            let mut read = || -> io::Result<()> {
                for entry in fs::read_dir(&directory)? {
                    let entry = entry?;
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        let path = path.join(entry.file_name());
                        found.insert(entry.ino(), words(&path));
                        waiting.push((entry.path(), path));
                    }
                }
                Ok(())
            };
            match read() {
                // One that went meanwhile has nothing to list.
                Ok(()) => {}
                Err(error)
                    if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => errors.push(Error::new("getdents64", errno_of(&error))),
            }
        }
        found
    }
}

impl Handles {
    /// `None` where cgroups cannot be had by their ids: it needs `CAP_DAC_READ_SEARCH`, and no filter that is against it.
    fn of(view: &View) -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(&view.point, flags, Mode::empty()).ok()?;
        // Others know no such handle, and would say of any that it is gone.
        let file_system = fstatfs(&directory).ok()?.filesystem_type();
        if ![CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&file_system) {
            return None;
        }
        // So would a kernel before 5.5.
        os::open_cgroup(directory.as_fd(), view.inode).ok()?;
        let path = path_of(&directory).ok()?;
        Some(Self { directory, path })
    }

    /// The path of a cgroup from the directory.
    fn below(&self, id: u64) -> Result<PathBuf> {
        let found = path_of(&os::open_cgroup(self.directory.as_fd(), id)?)?;
        // Of a cgroup that the mount does not show the kernel tells another path, of one that went meanwhile a longer one.
        /// The path that the kernel reports is not below the directory.
        const NOT_BELOW: Error = Error::new("readlink", Errno::EXDEV);
        let below = found.strip_prefix(&self.path).map_err(|_| NOT_BELOW)?;
        if found.as_os_str().as_encoded_bytes().ends_with(b" (deleted)") {
            return Err(NOT_BELOW);
        }
        Ok(below.to_owned())
    }
}

/// Where the hierarchy of version 2 can be seen.
pub(crate) struct Unified {
    /// The directory.
    pub(crate) point: PathBuf,
    /// Its path in the hierarchy.
    pub(crate) path: PathBuf,
    /// Whether it is the root, so that all is below it.
    pub(crate) is_root: bool,
}

/// Where our own mounts show the most of the hierarchy of version 2.
///
/// # Errors
///
/// What could not be read; `ENOENT` where no mount shows it.
pub(crate) fn unified(root: &Path) -> Result<Unified> {
    let mounts = mounts::read(root).map_err(failed("/proc/self/mountinfo"))?;
    let mut errors = Errors::new();
    let view = best_of(mounts, |mount| mount.file_system == "cgroup2", &mut errors);
    let nowhere = || errors.first().copied().unwrap_or(Error::new("mount of cgroup2", Errno::ENOENT));
    let View { point, above: path, inode, .. } = view.ok_or_else(nowhere)?;
    Ok(Unified { point, path, is_root: inode == ROOT })
}

fn path_of(fd: &OwnedFd) -> Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(failed("readlink"))
}

/// The one of these mounts that shows the most.
///
/// Seen from a cgroup namespace, the root of a mount that shows more than the namespace begins with `/..`, as often as it is above.
fn best_of(mounts: Vec<Mount>, wanted: impl Fn(&Mount) -> bool, errors: &mut Errors) -> Option<View> {
    let above = |mount: &Mount| mount.root.components().filter(|part| *part == Component::ParentDir).count();
    let mut wanted: Vec<_> = mounts.into_iter().filter(wanted).collect();
    wanted.sort_by_key(|mount| (named(&mount.root).components().count(), Reverse(above(mount))));
    wanted.into_iter().find_map(|mount| match fs::metadata(&mount.point) {
        // Else another file system is mounted over it.
        Ok(seen) if seen.dev() == mount.device => {
            let above = Path::new("/").join(named(&mount.root));
            Some(View { point: mount.point, inode: seen.ino(), above, handles: None, listed: None })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            errors.push(Error::new("stat", errno_of(&error)));
            None
        }
        _ => None,
    })
}

/// The part of a path that has names: behind `/` and every `..`.
fn named(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn is_memory_v1(mount: &Mount) -> bool {
    mount.file_system == "cgroup" && mount.options.split(',').any(|option| option == "memory")
}

/// Whether a hierarchy of version 1 accounts memory, wherever it may be mounted. A kernel that cannot do that any more leaves
/// memory out of the list (since 6.14). `None` where it could not be found out.
fn memory_is_v1(root: &Path, errors: &mut Errors) -> Option<bool> {
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

fn joined(above: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { above.to_owned() } else { above.join(below) }
}

fn words(path: &Path) -> Arc<str> {
    text(path.as_os_str().as_encoded_bytes()).into()
}
