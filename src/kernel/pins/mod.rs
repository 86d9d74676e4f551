//! Pins, in every bpffs that is mounted in our mount namespace, and in those that the user names.
//! Entry point: [`Pins::read`]. Keeps no file open between readings, and opens each pin once.

mod object;
mod views;

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use self::object::pinned;
use self::views::{OpenView, View, views};
use crate::host::issues::Issues;
use crate::model::{Kind, Part, Pin};
use crate::sys::{Error, Result, failed};
use crate::text::printable;

/// The longest path below an open directory, in bytes; a longer one starts at another open directory. The kernel takes 4,095
/// bytes, and a name has 255 at most.
const MAX_PATH_LEN: usize = 2048;

/// Reads the mounted bpffs, and caches the object of each pin: a file of a bpffs never becomes another object's.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    given: Vec<PathBuf>,
    directories: HashMap<FileId, CachedDirectory>,
    /// The pins of the last reading, by path.
    found: Vec<Pin>,
    reading: u64,
}

/// The identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct FileId {
    device: u64,
    inode: u64,
}

/// A directory of a bpffs, cached across readings.
#[derive(Debug)]
struct CachedDirectory {
    /// The path below which its pins are reported.
    path: Box<str>,
    /// The pins in it, by name.
    pins: HashMap<Box<CStr>, CachedPin>,
    /// The last reading in which it was listed.
    listed: u64,
    /// The last walk that visited it: each is of another view.
    walk: u64,
}

/// A pin, cached across readings.
#[derive(Debug)]
struct CachedPin {
    inode: u64,
    pin: Pin,
    /// The last reading in which it was listed.
    listed: u64,
}

impl Pins {
    /// Returns a reader of every mounted bpffs and of these directories.
    pub(crate) fn new(given: Vec<PathBuf>) -> Self {
        Self { given, ..Self::default() }
    }

    /// Reads every pin, by path, each once. `None`, and an issue, when the mounts could not be read.
    ///
    /// The pins of a bpffs have the paths of the view that shows the most of it. Its other views are walked only for what other
    /// mounts hide in the first.
    pub(crate) fn read(&mut self, issues: &mut Issues) -> Option<Vec<Pin>> {
        let views = views(&self.given, issues)?;
        self.reading += 1;
        let mut walk = Walk {
            directories: &mut self.directories,
            reading: self.reading,
            number: 0,
            device: 0,
            hidden: Vec::new(),
            listed: 0,
            pins: 0,
            changed: false,
            pending: Vec::new(),
            issues,
        };
        let mut from_root = false;
        for view in views {
            if walk.device != view.device {
                (walk.device, from_root) = (view.device, false);
                walk.hidden.clear();
            }
            if from_root && walk.hidden.is_empty() {
                continue;
            }
            if let Some(opened) = view.open(walk.issues) {
                walk.number += 1;
                from_root |= view.is_from_root();
                walk.run(&view, opened);
            }
        }
        let (listed, pins, changed) = (walk.listed, walk.pins, walk.changed);
        if changed || pins != self.found.len() || listed != self.directories.len() {
            self.drop_missing_and_sort();
        }
        Some(self.found.clone())
    }

    /// Drops pins that this reading did not find, and sorts the others.
    fn drop_missing_and_sort(&mut self) {
        let reading = self.reading;
        self.directories.retain(|_, directory| {
            directory.pins.retain(|_, pin| pin.listed == reading);
            directory.listed == reading
        });
        let pins = self.directories.values().flat_map(|directory| directory.pins.values());
        self.found = pins.map(|cached| cached.pin.clone()).collect();
        self.found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    }
}

/// The state of a reading on its way through the directories.
struct Walk<'a> {
    directories: &'a mut HashMap<FileId, CachedDirectory>,
    reading: u64,
    /// Number of this walk in the reading, one for each view.
    number: u64,
    /// The device of the bpffs.
    device: u64,
    /// Directories of this bpffs that exist and are hidden below other mounts.
    hidden: Vec<u64>,
    /// The number of directories listed.
    listed: usize,
    /// The number of pins listed.
    pins: usize,
    /// Whether one of them is new, or has another path.
    changed: bool,
    pending: Vec<PendingDirectory>,
    issues: &'a mut Issues,
}

/// A directory yet to be read.
struct PendingDirectory {
    /// An open directory at or above it: few are open at a time, however many are pending.
    above: Rc<OwnedFd>,
    /// Its path from there.
    below: Vec<u8>,
    /// Its inode, as listed in its parent.
    inode: u64,
    path: String,
    /// The first directory of the view in which it is, or itself.
    top: Option<Arc<str>>,
}

impl PendingDirectory {
    /// A directory in this one. It is opened from here, or from where this one is.
    fn child(&self, name: &CStr, inode: u64) -> Self {
        let path = format!("{}/{}", self.path, printable(name.to_bytes()));
        Self {
            above: Rc::clone(&self.above),
            below: [&self.below, &b"/"[..], name.to_bytes()].concat(),
            inode,
            top: Some(self.top.clone().unwrap_or_else(|| path.as_str().into())),
            path,
        }
    }
}

/// An open directory of the bpffs.
struct OpenDirectory {
    file: FileId,
    /// Whether another walk of this reading has listed its pins.
    is_listed: bool,
    pending: PendingDirectory,
}

impl Walk<'_> {
    /// Reads everything in a view. Not recursive: a tree may be of any depth.
    fn run(&mut self, view: &View, opened: OpenView) {
        self.pending.push(PendingDirectory {
            above: Rc::new(opened.fd),
            below: b".".to_vec(),
            inode: opened.inode,
            path: printable(view.path.as_os_str().as_bytes()),
            top: None,
        });
        while let Some(directory) = self.pending.pop() {
            // One that was removed has nothing to list, nor has one that was replaced by a symbolic link or a pin.
            match self.enter(directory) {
                Ok(()) | Err(Error { errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP, .. }) => {}
                Err(error) => self.issues.record(Part::Pin, error),
            }
        }
    }

    /// Opens a directory and reads it, unless it belongs to another file system or was read already.
    fn enter(&mut self, pending: PendingDirectory) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&pending.above, Path::new(OsStr::from_bytes(&pending.below)), flags, Mode::empty())
            .map_err(failed("openat"))?;
        let stat = fstat(&fd).map_err(failed("fstat"))?;
        if (stat.st_dev, stat.st_ino) != (self.device, pending.inode) {
            self.hidden.push(pending.inode);
        }
        if stat.st_dev != self.device {
            // Another file system is mounted here. If it is a bpffs, it is a view by itself.
            return Ok(());
        }
        let file = FileId { device: self.device, inode: stat.st_ino };
        let cached = self.directories.get(&file).filter(|cached| cached.listed == self.reading);
        if cached.is_some_and(|cached| cached.walk == self.number) {
            // A directory that is mounted below itself.
            return Ok(());
        }
        let is_listed = cached.is_some();
        if is_listed && self.hidden.is_empty() {
            return Ok(());
        }
        self.hidden.retain(|&hidden| hidden != stat.st_ino);
        self.read(OpenDirectory { file, is_listed, pending }, fd)
    }

    /// Reads a directory: its pins, unless they are listed, and the directories in it.
    fn read(&mut self, mut opened: OpenDirectory, fd: OwnedFd) -> Result<()> {
        if opened.pending.below.len() > MAX_PATH_LEN {
            opened.pending.above = Rc::new(fd.try_clone().map_err(failed("fcntl"))?);
            opened.pending.below = b".".to_vec();
        }
        let mut directory = Dir::from_fd(fd).map_err(failed("fdopendir"))?;
        self.visit(&opened);
        let mut new = Vec::new();
        // A listing that fails still has the entries before the failure.
        let end = self.list(&opened, &mut directory, &mut new);
        for (name, inode) in new {
            self.add(&opened, &directory, name, inode);
        }
        end
    }

    /// Marks a directory as visited by this walk.
    fn visit(&mut self, opened: &OpenDirectory) {
        let path = &*opened.pending.path;
        let cached = self.directories.entry(opened.file).or_insert_with(|| CachedDirectory {
            path: path.into(),
            pins: HashMap::new(),
            listed: 0,
            walk: 0,
        });
        (cached.listed, cached.walk) = (self.reading, self.number);
        self.listed += usize::from(!opened.is_listed);
        if !opened.is_listed && *cached.path != *path {
            // It was renamed, or is seen through another view.
            cached.path = path.into();
            cached.pins.clear();
        }
    }

    /// Lists a directory: marks its cached pins as listed, collects the names and inodes of new ones, and queues the directories
    /// in it.
    fn list(
        &mut self,
        opened: &OpenDirectory,
        directory: &mut Dir,
        new: &mut Vec<(CString, u64)>,
    ) -> Result<()> {
        let cached = self.directories.get_mut(&opened.file).expect("it was visited");
        for entry in directory.iter() {
            let entry = entry.map_err(failed("getdents64"))?;
            let name = entry.file_name();
            match entry.file_type() {
                Some(Type::File) if !opened.is_listed => match cached.pins.get_mut(name) {
                    Some(pin) if pin.inode == entry.ino() => {
                        // The kernel may name an entry twice in a listing during which others come and go.
                        self.pins += usize::from(pin.listed != self.reading);
                        pin.listed = self.reading;
                    }
                    _ => new.push((name.to_owned(), entry.ino())),
                },
                Some(Type::Directory) if name != c"." && name != c".." => {
                    self.pending.push(opened.pending.child(name, entry.ino()));
                }
                // A symbolic link.
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks up the object of a new pin, and caches the pin.
    fn add(&mut self, opened: &OpenDirectory, directory: &Dir, name: CString, inode: u64) {
        let (kind, id) = match object_of(directory, &name, inode) {
            Ok(Some(object)) => object,
            // It was removed, or the name is another file's now, which the next reading looks up.
            Ok(None) | Err(Error { errno: Errno::ENOENT, .. }) => return,
            Err(error) => return self.issues.record(Part::Pin, error),
        };
        let PendingDirectory { path, top, .. } = &opened.pending;
        let path: Arc<str> = format!("{path}/{}", printable(name.to_bytes())).into();
        let directory = top.clone().unwrap_or_else(|| Arc::clone(&path));
        let pin = CachedPin { inode, pin: Pin { kind, id, path, directory }, listed: self.reading };
        let cached = self.directories.get_mut(&opened.file).expect("it was visited");
        let before = cached.pins.insert(name.into_boxed_c_str(), pin);
        self.pins += usize::from(before.is_none_or(|before| before.listed != self.reading));
        self.changed = true;
    }
}

/// Returns the object of a pin; `None` when the name is another file's now. `ENOENT` also for a pin of a link that the kernel created
/// itself (`CONFIG_BPF_PRELOAD`) and that is gone: no table has it (seen on 6.18).
fn object_of(directory: &Dir, name: &CStr, inode: u64) -> Result<Option<(Kind, u32)>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(directory.as_fd(), name, flags, Mode::empty()).map_err(failed("openat"))?;
    let stat = fstat(&fd).map_err(failed("fstat"))?;
    if stat.st_ino != inode {
        return Ok(None);
    }
    pinned(fd.as_fd()).map(Some)
}
