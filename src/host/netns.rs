//! Network namespaces: lists them with their names, and enters them.
//!
//! Entry points: [`NetnsNames::read`] and [`namespace_files`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::model::NetNs;
use crate::sys::errno_of;
use crate::text::printable;

/// The directories in which iproute2 and container runtimes name network namespaces; often one is a link to the other.
const NAMED: [&str; 2] = ["run/netns", "var/run/netns"];

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Its inode number and name.
    pub(crate) netns: NetNs,
    /// Keeps the namespace alive while it is read.
    pub(crate) file: File,
}

impl Namespace {
    /// Opens the namespace of the calling thread.
    pub(crate) fn of_this_thread(names: &NetnsNames) -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"), names)
    }

    /// Opens the namespace that a file refers to.
    pub(crate) fn open(path: &Path, names: &NetnsNames) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { netns: NetNs { inode, name: names.get(inode) }, file })
    }

    /// Moves the calling thread, and no other, into the namespace.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_SYS_ADMIN`.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
    }
}

/// Names of network namespaces by inode number.
#[derive(Debug, Default)]
pub(crate) struct NetnsNames {
    named: BTreeMap<u64, (Arc<str>, PathBuf)>,
}

impl NetnsNames {
    /// Reads the names below `root`, which replaces `/`. Of several names the first in alphabetical order is used.
    pub(crate) fn read(root: &Path) -> (Self, Vec<io::Error>) {
        let (mut names, mut errors) = (Self::default(), Vec::new());
        // A file of another file system than that of namespaces has no namespace mounted on it.
        let device = match fs::metadata(root.join("proc/self/ns/net")) {
            Ok(ours) => ours.dev(),
            Err(error) => return (names, vec![error]),
        };
        for directory in NAMED {
            let entries = match fs::read_dir(root.join(directory)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            for entry in entries.flatten() {
                let Ok(metadata) = fs::metadata(entry.path()) else { continue };
                if metadata.dev() != device {
                    continue;
                }
                let name = Arc::from(printable(entry.file_name().as_encoded_bytes()));
                let first =
                    names.named.entry(metadata.ino()).or_insert_with(|| (Arc::clone(&name), entry.path()));
                if name < first.0 {
                    *first = (name, entry.path());
                }
            }
        }
        (names, errors)
    }

    /// Returns the name of a namespace.
    pub(crate) fn get(&self, inode: u64) -> Option<Arc<str>> {
        self.named.get(&inode).map(|(name, _)| Arc::clone(name))
    }
}

/// Returns one file for each network namespace that has a name or a process. Failures to read a living process are errors.
pub(crate) fn namespace_files(root: &Path, names: &NetnsNames) -> (Vec<PathBuf>, Vec<io::Error>) {
    let mut seen: BTreeSet<u64> = names.named.keys().copied().collect();
    let mut files: Vec<PathBuf> = names.named.values().map(|(_, path)| path.clone()).collect();
    let mut errors = Vec::new();
    match processes(root) {
        Ok(processes) => {
            for (_, directory) in processes {
                let file = directory.join("ns/net");
                match fs::read_link(&file) {
                    Ok(link) => {
                        if parse_inode(&link).is_some_and(|inode| seen.insert(inode)) {
                            files.push(file);
                        }
                    }
                    Err(error) if is_gone(&error) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        Err(error) => errors.push(error),
    }
    (files, errors)
}

/// Parses the inode number in `net:[4026531840]`.
fn parse_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Lists the visible processes: ids, and directories in `/proc`.
pub(crate) fn processes(root: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir(root.join("proc"))?;
    let process = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
    };
    Ok(entries.filter_map(process).collect())
}

/// Returns whether an error means that the process of a file has ended.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    [Errno::ENOENT, Errno::ESRCH].contains(&errno_of(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A temporary directory in place of `/`.
    struct NetnsTree(TempDir);

    impl NetnsTree {
        fn new() -> Self {
            let root = TempDir::new().expect("a temporary directory can be created");
            fs::create_dir_all(root.path().join("run/netns")).expect("the directory is writable");
            Self(root)
        }

        fn process(&self, pid: &str, link: &str) {
            let directory = self.0.path().join("proc").join(pid).join("ns");
            fs::create_dir_all(&directory).expect("the directory is writable");
            symlink(link, directory.join("net")).expect("the directory is writable");
        }
    }

    #[test]
    fn a_namespace_has_the_first_of_its_names() {
        let root = NetnsTree::new();
        let directory = root.0.path().join("run/netns");
        fs::write(directory.join("green"), "").expect("the directory is writable");
        fs::hard_link(directory.join("green"), directory.join("blue")).expect("the directory is writable");
        let metadata = fs::metadata(directory.join("green")).expect("the file exists");
        let (names, errors) = NetnsNames::read(root.0.path());
        assert!(names.get(metadata.ino()).is_none() && errors.len() == 1, "there is no /proc");

        let ours = root.0.path().join("proc/self/ns/net");
        fs::create_dir_all(root.0.path().join("proc/self/ns")).expect("the directory is writable");
        fs::write(&ours, "").expect("the directory is writable");
        let (names, errors) = NetnsNames::read(root.0.path());
        assert!(errors.is_empty());
        assert_eq!(names.get(metadata.ino()).as_deref(), Some("blue"));
        assert_eq!(names.get(7), None);

        fs::remove_file(&ours).expect("it is there");
        symlink("/proc/self/ns/net", ours).expect("the directory is writable");
        let (names, _) = NetnsNames::read(root.0.path());
        assert_eq!(names.get(metadata.ino()), None, "no namespace is mounted there");
    }

    #[test]
    fn namespaces_of_processes_are_found_once() {
        let root = NetnsTree::new();
        for (pid, link) in
            [("1", "net:[11]"), ("2", "net:[12]"), ("3", "net:[11]"), ("4", "net:x"), ("self", "net:[13]")]
        {
            root.process(pid, link);
        }
        fs::create_dir_all(root.0.path().join("proc/5/ns")).expect("the directory is writable");
        let (files, errors) = namespace_files(root.0.path(), &NetnsNames::default());
        assert!(errors.is_empty(), "an ended process is not an error");
        let links: BTreeSet<_> =
            files.iter().map(|file| fs::read_link(file).expect("the link exists")).collect();
        assert_eq!(links, ["net:[11]", "net:[12]"].map(PathBuf::from).into());
        let (files, errors) = namespace_files(Path::new("/nonexistent"), &NetnsNames::default());
        assert_eq!((files.len(), errors.len()), (0, 1), "a missing /proc is an error");
    }
}
