//! The walk through one bpffs: breadth first, so that pins near its root are found before what lies deep.
//! Entry point: [`FileSystemWalk::run`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::budget::{Budget, EntryType};
use super::object::pinned;
use super::tree::{NodeId, ROOT, Tree, joined};
use super::views::{OpenView, View};
use super::{CachedPin, FileId, PinCache};
use crate::host::issues::Issues;
use crate::model::{Feature, Kind, Part, Pin, Reason};
use crate::sys::{Error, Result, failed};

/// The state of a scan on its way through one bpffs.
pub(super) struct FileSystemWalk<'a> {
    device: u64,
    cache: &'a mut PinCache,
    budget: Budget,
    issues: &'a mut Issues,
    /// The pins found.
    pub(super) pins: Vec<Pin>,
    /// The directories that have pins, in them or below.
    pub(super) directories: HashSet<FileId>,
    /// The directories listed, by inode, with the number of the last view in which they were visited.
    listed: HashMap<u64, u32>,
    /// Directories that exist and are hidden below other mounts.
    hidden: Vec<u64>,
    /// The number of the view.
    view: u32,
    /// What distinguishes its paths from those of other mount namespaces.
    bpffs: Option<Arc<str>>,
}

/// Memory for a pin, without its path.
const PIN_SIZE: usize = size_of::<Pin>() + size_of::<(FileId, CachedPin)>();

/// A directory to be read.
struct Directory {
    id: NodeId,
    inode: u64,
    /// Whether its pins were listed in another view.
    is_listed: bool,
}

/// The paths of a directory with pins.
struct Paths {
    /// Its own, of any length.
    own: String,
    /// That of the first directory of the view that contains it; `None` for the view itself.
    top: Option<Arc<str>>,
}

impl Paths {
    /// Returns the path of a pin in it, and the path of the top directory, which is that of the pin if there is none.
    fn of(&self, pin: String) -> (Arc<str>, Arc<str>) {
        let pin = Arc::from(pin);
        let top = self.top.as_ref().unwrap_or(&pin);
        (Arc::clone(&pin), Arc::clone(top))
    }
}

impl<'a> FileSystemWalk<'a> {
    pub(super) fn new(device: u64, cache: &'a mut PinCache, budget: Budget, issues: &'a mut Issues) -> Self {
        Self {
            device,
            cache,
            budget,
            issues,
            pins: Vec::new(),
            directories: HashSet::new(),
            listed: HashMap::new(),
            hidden: Vec::new(),
            view: 0,
            bpffs: None,
        }
    }

    /// Reads a bpffs through its views, the best one first. Returns whether one of them is visible.
    pub(super) fn run(&mut self, views: &[View]) -> bool {
        let mut from_root = false;
        for view in views {
            if from_root && self.hidden.is_empty() {
                break;
            }
            if let Some(opened) = view.open(self.issues) {
                self.view += 1;
                self.bpffs = view.bpffs();
                from_root |= view.is_from_root();
                self.walk(view, opened);
            }
        }
        let is_visible = self.view > 0;
        if is_visible && !(from_root && self.hidden.is_empty()) {
            // No mount of ours shows the rest.
            self.issues.limit(Feature::Pins, Reason::MountNamespace);
        }
        for (error, count) in self.budget.left_out() {
            self.issues.record_times(Part::Pin, error, count);
        }
        is_visible
    }

    /// Returns the CPU time that it took.
    pub(super) fn time(&self) -> Duration {
        self.budget.taken()
    }

    /// Reads everything in a view.
    fn walk(&mut self, view: &View, opened: OpenView) {
        let mut tree = Tree::new(&view.path, opened.fd, opened.inode);
        let mut queue = VecDeque::from([ROOT]);
        while let Some(id) = queue.pop_front() {
            if self.budget.is_over() {
                self.budget.too_late(1 + queue.len());
                return;
            }
            let read = self.enter(&mut tree, id).and_then(|opened| match opened {
                Some((directory, fd)) => self.read(&mut tree, &mut queue, &directory, fd),
                None => Ok(()),
            });
            match read {
                // One that was removed has nothing to list, nor has one that was replaced by a symbolic link or a pin.
                Ok(()) | Err(Error { errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP, .. }) => {}
                Err(error) => self.issues.record(Part::Pin, error),
            }
        }
    }

    /// Opens a directory; `None` if it belongs to another file system or was read already.
    fn enter(&mut self, tree: &mut Tree, id: NodeId) -> Result<Option<(Directory, OwnedFd)>> {
        let fd = tree.open(id)?;
        let stat = fstat(&fd).map_err(failed("fstat"))?;
        if (stat.st_dev, stat.st_ino) != (self.device, tree.inode(id)) {
            self.hidden.push(tree.inode(id));
        }
        if stat.st_dev != self.device {
            // Another file system is mounted here. If it is a bpffs, it has views of its own.
            return Ok(None);
        }
        let inode = stat.st_ino;
        let before = self.listed.insert(inode, self.view);
        if before == Some(self.view) || (before.is_some() && self.hidden.is_empty()) {
            // A directory that is mounted below itself, or in another view, which hides nothing.
            return Ok(None);
        }
        self.hidden.retain(|&hidden| hidden != inode);
        Ok(Some((Directory { id, inode, is_listed: before.is_some() }, fd)))
    }

    /// Reads a directory: its pins, unless they are listed, and the directories in it.
    fn read(
        &mut self,
        tree: &mut Tree,
        queue: &mut VecDeque<NodeId>,
        directory: &Directory,
        fd: OwnedFd,
    ) -> Result<()> {
        let mut opened = Dir::from_fd(fd).map_err(failed("fdopendir"))?;
        let (mut files, mut has_directories) = (Vec::new(), false);
        let mut path_len = None;
        // A listing that fails still has the entries before the failure.
        let mut end = Ok(());
        for entry in opened.iter() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    end = Err(Error::new("getdents64", errno));
                    break;
                }
            };
            if self.budget.is_over_soon() {
                self.budget.too_late(1);
                break;
            }
            let (name, inode) = (entry.file_name(), entry.ino());
            match entry.file_type() {
                Some(Type::File) if !directory.is_listed => {
                    let known = self.cache.pins.contains_key(&self.file(inode));
                    let path_len = *path_len.get_or_insert_with(|| tree.path_len(directory.id));
                    if self.budget.take(EntryType::Pin, PIN_SIZE + name.count_bytes() + path_len, known) {
                        files.push((name.to_owned(), inode));
                    }
                }
                Some(Type::Directory) if name != c"." && name != c".." => {
                    let known = self.cache.directories.contains(&self.file(inode));
                    if self.budget.take(EntryType::Directory, Tree::size_of(name), known) {
                        let id = tree.add(directory.id, name, inode);
                        if known {
                            queue.push_front(id);
                        } else {
                            queue.push_back(id);
                        }
                        has_directories = true;
                    }
                }
                // A symbolic link.
                _ => {}
            }
        }
        self.add_pins(tree, directory, opened.as_fd(), files);
        if has_directories {
            let fd = opened.as_fd().try_clone_to_owned().map_err(failed("fcntl"))?;
            tree.keep_open(directory.id, Rc::new(fd));
        }
        end
    }

    /// Adds the files of a directory.
    fn add_pins(
        &mut self,
        tree: &Tree,
        directory: &Directory,
        fd: BorrowedFd<'_>,
        files: Vec<(CString, u64)>,
    ) {
        if files.is_empty() {
            return;
        }
        let paths = Paths { own: tree.path(directory.id), top: tree.top(directory.id) };
        let before = self.pins.len();
        let mut files = files.into_iter();
        while let Some((name, inode)) = files.next() {
            if !self.cache.pins.contains_key(&self.file(inode)) && self.budget.is_over() {
                self.budget.too_late(1 + files.len());
                break;
            }
            match self.pin(fd, &paths, &name, inode) {
                Ok(pin) => self.pins.extend(pin),
                // It was removed.
                Err(Error { errno: Errno::ENOENT, .. }) => {}
                Err(error) => self.issues.record(Part::Pin, error),
            }
        }
        if self.pins.len() > before {
            self.directories.insert(self.file(directory.inode));
            for id in tree.with_ancestors(directory.id).skip(1) {
                if !self.directories.insert(FileId { device: self.device, inode: tree.inode(id) }) {
                    break;
                }
            }
        }
    }

    /// Returns a pin. Its object is looked up if it is new; `None` if the name is another file's now.
    fn pin(&mut self, fd: BorrowedFd<'_>, paths: &Paths, name: &CStr, inode: u64) -> Result<Option<Pin>> {
        let file = self.file(inode);
        let path = joined(&paths.own, name.to_bytes());
        let cached = if let Some(cached) = self.cache.pins.get_mut(&file) {
            if *cached.path != *path {
                // It was renamed, or this is another name of it.
                (cached.path, cached.directory) = paths.of(path);
            }
            cached
        } else {
            let Some((kind, id)) = object_of(fd, name, inode)? else { return Ok(None) };
            let (path, directory) = paths.of(path);
            self.cache.pins.entry(file).or_insert(CachedPin { kind, id, path, directory, listed: 0 })
        };
        cached.listed = self.cache.scan;
        Ok(Some(cached.pin(self.bpffs.clone())))
    }

    fn file(&self, inode: u64) -> FileId {
        FileId { device: self.device, inode }
    }
}

impl CachedPin {
    fn pin(&self, bpffs: Option<Arc<str>>) -> Pin {
        let Self { kind, id, path, directory, .. } = self;
        Pin { kind: *kind, id: *id, path: Arc::clone(path), directory: Arc::clone(directory), bpffs }
    }
}

/// Returns the object of a pin; `None` when the name is another file's now. `ENOENT` also for a pin of a link that the kernel created
/// itself (`CONFIG_BPF_PRELOAD`) and that is gone: no table has it (seen on 6.18).
fn object_of(directory: BorrowedFd<'_>, name: &CStr, inode: u64) -> Result<Option<(Kind, u32)>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(directory, name, flags, Mode::empty()).map_err(failed("openat"))?;
    let stat = fstat(&fd).map_err(failed("fstat"))?;
    if stat.st_ino != inode {
        return Ok(None);
    }
    pinned(fd.as_fd()).map(Some)
}
