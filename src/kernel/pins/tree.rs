//! Directories of a bpffs as a tree of parents and names. A path is made only for directories with pins.
//! Entry point: [`Tree`].

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::sys::{Result, failed};
use crate::text::{MAX_LEN, bounded, escaped};

/// Number of directories that are kept open: mostly one of them has the next directory.
const OPEN: usize = 8;

/// The number of a directory in its tree.
pub(crate) type NodeId = u32;

/// The directory from which the bpffs is seen.
pub(crate) const ROOT: NodeId = 0;

/// The directories of a view that were found.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The path of the view.
    path: String,
    root: Rc<OwnedFd>,
    nodes: Vec<Node>,
    /// Directories that are open, the latest last.
    open: Vec<(NodeId, Rc<OwnedFd>)>,
}

#[derive(Debug)]
struct Node {
    /// A parent is before its children.
    parent: NodeId,
    /// As listed in its parent.
    inode: u64,
    name: Box<CStr>,
}

impl Tree {
    pub(crate) fn new(path: &Path, root: OwnedFd, inode: u64) -> Self {
        let nodes = vec![Node { parent: ROOT, inode, name: c"".into() }];
        let path = escaped(path.as_os_str().as_encoded_bytes());
        Self { path, root: Rc::new(root), nodes, open: Vec::new() }
    }

    /// Adds a directory. There are never more than fit a number: a scan has a limit.
    pub(crate) fn add(&mut self, parent: NodeId, name: &CStr, inode: u64) -> NodeId {
        let id = NodeId::try_from(self.nodes.len()).expect("a scan has a limit");
        self.nodes.push(Node { parent, inode, name: name.into() });
        id
    }

    /// Returns the memory that [`Self::add`] takes for a name.
    pub(crate) const fn size_of(name: &CStr) -> usize {
        size_of::<Node>() + name.count_bytes()
    }

    /// Returns the inode of a directory as it is listed in its parent.
    pub(crate) fn inode(&self, id: NodeId) -> u64 {
        self.nodes[id as usize].inode
    }

    /// Returns a directory and those above it, without the root.
    pub(crate) fn with_ancestors(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let node = move |id: NodeId| (id != ROOT).then_some(id);
        std::iter::successors(node(id), move |&id| node(self.nodes[id as usize].parent))
    }

    /// Opens a directory, one component at a time: none of them may be a symbolic link, and a path may be longer than the kernel
    /// takes.
    pub(crate) fn open(&mut self, id: NodeId) -> Result<OwnedFd> {
        let mut above = Rc::clone(&self.root);
        let mut closed = Vec::new();
        for id in self.with_ancestors(id) {
            if let Some((_, fd)) = self.open.iter().find(|(open, _)| *open == id) {
                above = Rc::clone(fd);
                break;
            }
            closed.push(id);
        }
        let open = |above: &OwnedFd, name: &CStr, flags| {
            let flags = flags | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(above, name, flags, Mode::empty()).map_err(failed("openat"))
        };
        let Some((&last, closed)) = closed.split_first() else {
            return open(&above, c".", OFlag::O_RDONLY);
        };
        for &id in closed.iter().rev() {
            above = Rc::new(open(&above, &self.nodes[id as usize].name, OFlag::O_PATH)?);
            self.keep_open(id, Rc::clone(&above));
        }
        open(&above, &self.nodes[last as usize].name, OFlag::O_RDONLY)
    }

    /// Keeps a directory open, for those in it.
    pub(crate) fn keep_open(&mut self, id: NodeId, fd: Rc<OwnedFd>) {
        if self.open.len() == OPEN {
            self.open.remove(0);
        }
        self.open.push((id, fd));
    }

    /// Returns the path of a directory, of any length.
    pub(crate) fn path(&self, id: NodeId) -> String {
        let names: Vec<_> = self.with_ancestors(id).map(|id| escaped(self.name(id))).collect();
        let mut path = self.path.clone();
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// Returns about how long the path of a directory is when it is reported.
    pub(crate) fn path_len(&self, id: NodeId) -> usize {
        let names = self.with_ancestors(id).map(|id| 1 + self.name(id).len());
        // The ancestors of a deep one need not all be visited.
        names.take(MAX_LEN).sum::<usize>().saturating_add(self.path.len()).min(MAX_LEN)
    }

    /// Returns the path of the first directory below the view that contains this one; `None` for the view itself.
    pub(crate) fn top(&self, id: NodeId) -> Option<Arc<str>> {
        let top = self.with_ancestors(id).last()?;
        Some(joined(&self.path, self.name(top)).into())
    }

    fn name(&self, id: NodeId) -> &[u8] {
        self.nodes[id as usize].name.to_bytes()
    }
}

/// Returns the path of a file in a directory as it is reported.
pub(crate) fn joined(directory: &str, name: &[u8]) -> String {
    // Escaped part by part: an escape does not cross a slash.
    bounded(&format!("{directory}/{}", escaped(name))).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use nix::errno::Errno;
    use nix::sys::stat::fstat;
    use tempfile::TempDir;

    use super::*;

    fn tree(path: &Path) -> Tree {
        Tree::new(path, File::open(path).expect("it is there").into(), 1)
    }

    #[test]
    fn paths_are_made_of_names_and_bounded_when_reported() {
        let mut tree = tree(Path::new("/proc"));
        let one = tree.add(ROOT, c"one\n", 2);
        let two = tree.add(one, c"two", 3);
        assert_eq!((tree.path(ROOT), tree.path(two)), ("/proc".to_owned(), "/proc/one\\x0a/two".to_owned()));
        assert_eq!((tree.top(ROOT), tree.top(two).as_deref()), (None, Some("/proc/one\\x0a")));
        assert_eq!(tree.with_ancestors(two).collect::<Vec<_>>(), [two, one]);
        assert_eq!(joined(&tree.path(two), b"\xff"), "/proc/one\\x0a/two/\\xff");
        let deep = (0..1_000).fold(two, |above, _| tree.add(above, c"directory", 4));
        let path = tree.path(deep);
        assert_eq!(path.len(), "/proc/one\\x0a/two".len() + 10_000);
        let pin = joined(&path, b"pin");
        assert!(
            pin.len() <= 1024 && pin.starts_with("/proc/one\\x0a") && pin.ends_with("/directory/pin"),
            "{pin}"
        );
        assert_eq!(
            crate::text::printable(format!("{}/{}", path.replace("\\x0a", "\n"), "pin").as_bytes()),
            pin
        );
    }

    #[test]
    fn directories_are_opened_below_others_that_are_open_or_not() {
        let root = TempDir::new().expect("a temporary directory can be created");
        let names = ["a", "b", "c", "d"];
        fs::create_dir_all(root.path().join("a/b/c/d")).expect("it is writable");
        let mut tree = tree(root.path());
        let mut ids = vec![ROOT];
        for name in names {
            let name = std::ffi::CString::new(name).expect("it has no zero");
            ids.push(tree.add(ids[ids.len() - 1], &name, 0));
        }
        let inode =
            |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("it is there"));
        for _ in 0..2 {
            for (&id, path) in ids.iter().zip([".", "a", "a/b", "a/b/c", "a/b/c/d"]).rev() {
                let opened = tree.open(id).expect("it is there");
                assert_eq!(fstat(&opened).expect("it is open").st_ino, inode(&root.path().join(path)));
            }
        }
        assert_eq!(tree.open.len(), 3, "those above are kept open");
        // A directory that became a symbolic link is not followed.
        fs::rename(root.path().join("a/b"), root.path().join("other")).expect("it is writable");
        std::os::unix::fs::symlink("../other", root.path().join("a/b")).expect("it is writable");
        tree.open.clear();
        assert_eq!(tree.open(ids[4]).map_err(|error| error.errno).err(), Some(Errno::ENOTDIR));
    }
}
