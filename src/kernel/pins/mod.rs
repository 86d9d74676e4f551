//! What is pinned where, in every bpffs that is mounted in our view, and in those that the user names.
//! Keeps no file open, and opens no pin that it knows. Begin at [`Pins::read`].

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
use self::views::{Opened, View, views};
use crate::host::issues::Issues;
use crate::host::text::printable;
use crate::model::{Kind, Part, Pin};
use crate::sys::{Error, Result, failed};

/// How long a path below an open directory may be before another directory is opened on the way. The kernel takes 4,095 bytes,
/// and a name has 255 at most.
const LONGEST: usize = 2048;

/// Reads the mounted bpffs, and remembers which object each pin is of: a file of a bpffs never becomes another object's.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    given: Vec<PathBuf>,
    directories: HashMap<File, Directory>,
    /// What the last reading found, by path.
    found: Vec<Pin>,
    reading: u64,
}

/// A file by its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct File {
    device: u64,
    inode: u64,
}

/// What is known of a directory.
#[derive(Debug)]
struct Directory {
    /// By which path its pins are told.
    path: Box<str>,
    /// The pins in it, by name.
    pins: HashMap<Box<CStr>, Known>,
    /// The last reading in which it was listed.
    listed: u64,
    /// The last walk that came here: each goes by another view.
    walk: u64,
}

/// What is known of a pin.
#[derive(Debug)]
struct Known {
    inode: u64,
    pin: Pin,
    /// The last reading in which it was listed.
    listed: u64,
}

impl Pins {
    /// Reads what is mounted, and these directories beside.
    pub(crate) fn new(given: Vec<PathBuf>) -> Self {
        Self { given, ..Self::default() }
    }

    /// Every pin, by path, each once. `None`, and an issue, when it is not known what is mounted.
    ///
    /// A bpffs is told by the view that shows the most of it. The others of the same are walked only for what is hidden in it
    /// below other mounts.
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
            known: 0,
            changed: false,
            issues,
        };
        let mut whole = false;
        for view in views {
            if walk.device != view.device {
                (walk.device, whole) = (view.device, false);
                walk.hidden.clear();
            }
            if whole && walk.hidden.is_empty() {
                continue;
            }
            if let Some(opened) = view.open(walk.issues) {
                walk.number += 1;
                whole |= view.is_whole();
                walk.go(&view, opened);
            }
        }
        let (listed, known, changed) = (walk.listed, walk.known, walk.changed);
        if changed || known != self.found.len() || listed != self.directories.len() {
            self.forget_and_sort();
        }
        Some(self.found.clone())
    }

    /// Forgets what this reading did not find, and puts in order what it did.
    fn forget_and_sort(&mut self) {
        let reading = self.reading;
        self.directories.retain(|_, directory| {
            directory.pins.retain(|_, pin| pin.listed == reading);
            directory.listed == reading
        });
        let pins = self.directories.values().flat_map(|directory| directory.pins.values());
        self.found = pins.map(|known| known.pin.clone()).collect();
        self.found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    }
}

/// A reading on its way through the directories.
struct Walk<'a> {
    directories: &'a mut HashMap<File, Directory>,
    reading: u64,
    /// Of this walk since the reading began, one for each view.
    number: u64,
    /// Of the bpffs it is in.
    device: u64,
    /// Directories of this bpffs that were seen to be there and are below other mounts.
    hidden: Vec<u64>,
    /// How many directories were listed.
    listed: usize,
    /// How many pins were.
    known: usize,
    /// Whether one of them is new, or has another path.
    changed: bool,
    issues: &'a mut Issues,
}

/// A directory yet to be read.
struct Waiting {
    /// An open directory at or above it: few are open at a time, however many wait.
    above: Rc<OwnedFd>,
    /// Its path from there.
    below: Vec<u8>,
    /// Its inode, as the directory says that it is in.
    inode: u64,
    path: String,
    /// The first directory of the view in which it is, or itself.
    top: Option<Arc<str>>,
}

impl Walk<'_> {
    /// Reads all that a view shows. No recursion: a tree may be as deep as its maker likes.
    fn go(&mut self, view: &View, opened: Opened) {
        let mut waiting = vec![Waiting {
            above: Rc::new(opened.fd),
            below: b".".to_vec(),
            inode: opened.inode,
            path: printable(view.path.as_os_str().as_bytes()),
            top: None,
        }];
        while let Some(directory) = waiting.pop() {
            // One that went meanwhile has nothing to list, nor has one that has become a symbolic link or a pin.
            match self.enter(directory, &mut waiting) {
                Ok(()) | Err(Error { errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP, .. }) => {}
                Err(error) => self.issues.record(Part::Pin, error),
            }
        }
    }

    fn enter(&mut self, waiting: Waiting, more: &mut Vec<Waiting>) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&waiting.above, Path::new(OsStr::from_bytes(&waiting.below)), flags, Mode::empty())
            .map_err(failed("openat"))?;
        let stat = fstat(&fd).map_err(failed("fstat"))?;
        if (stat.st_dev, stat.st_ino) != (self.device, waiting.inode) {
            self.hidden.push(waiting.inode);
        }
        if stat.st_dev != self.device {
            // Another file system is mounted here. If it is a bpffs, it is a view by itself.
            return Ok(());
        }
        let file = File { device: self.device, inode: stat.st_ino };
        let remembered = self.directories.get(&file);
        if remembered.is_some_and(|known| known.listed == self.reading && known.walk == self.number) {
            // A directory that is mounted below itself.
            return Ok(());
        }
        let listed = remembered.is_some_and(|known| known.listed == self.reading);
        if listed && self.hidden.is_empty() {
            return Ok(());
        }
        self.hidden.retain(|&hidden| hidden != stat.st_ino);
        self.list(file, listed, fd, waiting, more)
    }

    /// Lists a directory: its pins, unless another walk did, and the directories in it.
    fn list(
        &mut self,
        file: File,
        listed: bool,
        fd: OwnedFd,
        waiting: Waiting,
        more: &mut Vec<Waiting>,
    ) -> Result<()> {
        let Waiting { mut above, mut below, path, top, .. } = waiting;
        if below.len() > LONGEST {
            above = Rc::new(fd.try_clone().map_err(failed("fcntl"))?);
            below = b".".to_vec();
        }
        let mut directory = Dir::from_fd(fd).map_err(failed("fdopendir"))?;
        let remembered = self.directories.entry(file).or_insert_with(|| Directory {
            path: path.as_str().into(),
            pins: HashMap::new(),
            listed: 0,
            walk: 0,
        });
        (remembered.listed, remembered.walk) = (self.reading, self.number);
        self.listed += usize::from(!listed);
        if !listed && *remembered.path != *path {
            // It was renamed, or is seen from elsewhere.
            remembered.path = path.as_str().into();
            remembered.pins.clear();
        }
        let mut new: Vec<(CString, u64)> = Vec::new();
        let mut end = Ok(());
        for entry in directory.iter() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    end = Err(Error::new("getdents64", errno));
                    break;
                }
            };
            let name = entry.file_name();
            match entry.file_type() {
                Some(Type::File) if !listed => match remembered.pins.get_mut(name) {
                    Some(known) if known.inode == entry.ino() => {
                        // The kernel may name an entry twice in a listing during which others come and go.
                        self.known += usize::from(known.listed != self.reading);
                        known.listed = self.reading;
                    }
                    _ => new.push((name.to_owned(), entry.ino())),
                },
                Some(Type::Directory) if name != c"." && name != c".." => {
                    let path = format!("{path}/{}", printable(name.to_bytes()));
                    more.push(Waiting {
                        above: Rc::clone(&above),
                        below: [&below, &b"/"[..], name.to_bytes()].concat(),
                        inode: entry.ino(),
                        top: Some(top.clone().unwrap_or_else(|| path.as_str().into())),
                        path,
                    });
                }
                // A symbolic link.
                _ => {}
            }
        }
        for (name, inode) in new {
            let (kind, id) = match look(&directory, &name, inode) {
                Ok(Some(object)) => object,
                // It went meanwhile, or the name is another file's now: the next reading looks at that one.
                Ok(None) | Err(Error { errno: Errno::ENOENT, .. }) => continue,
                Err(error) => {
                    self.issues.record(Part::Pin, error);
                    continue;
                }
            };
            let path: Arc<str> = format!("{path}/{}", printable(name.to_bytes())).into();
            let directory = top.clone().unwrap_or_else(|| Arc::clone(&path));
            let pin = Pin { kind, id, path, directory };
            let known = Known { inode, pin, listed: self.reading };
            let before = remembered.pins.insert(name.into_boxed_c_str(), known);
            self.known += usize::from(before.is_none_or(|before| before.listed != self.reading));
            self.changed = true;
        }
        end
    }
}

/// Which object a pin is of that nobody has looked at yet; `None` when the name is another file's meanwhile. `ENOENT` also for a pin
/// that the kernel made of a link of its own (`CONFIG_BPF_PRELOAD`) which is gone: no table has it (seen on 6.18).
fn look(directory: &Dir, name: &CStr, inode: u64) -> Result<Option<(Kind, u32)>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(directory.as_fd(), name, flags, Mode::empty()).map_err(failed("openat"))?;
    let stat = fstat(&fd).map_err(failed("fstat"))?;
    if stat.st_ino != inode {
        return Ok(None);
    }
    pinned(fd.as_fd()).map(Some)
}
