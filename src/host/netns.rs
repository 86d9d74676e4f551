//! The network namespaces: which there are, what they are called, and going into one.
//! Knows nothing of what hangs in them. Begin at [`Names::read`] and [`every`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::host::text::text;
use crate::sys::errno_of;

/// Where iproute2 and container runtimes give names to network namespaces: one directory or two.
const NAMED: [&str; 2] = ["run/netns", "var/run/netns"];

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// The number of its inode.
    pub(crate) inode: u64,
    /// Its name and number, or its number only: `blue (4026532208)`.
    pub(crate) label: Arc<str>,
    /// What keeps it for as long as it is looked at.
    pub(crate) file: File,
}

impl Namespace {
    /// The one in which this thread is.
    pub(crate) fn of_this_thread(names: &Names) -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"), names)
    }

    /// The one that a file stands for.
    pub(crate) fn open(path: &Path, names: &Names) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { inode, label: names.label(inode), file })
    }

    /// Moves this thread, and no other, into it.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
    }
}

/// The names that network namespaces have, by the numbers of their inodes.
#[derive(Debug, Default)]
pub(crate) struct Names {
    named: BTreeMap<u64, (String, PathBuf)>,
}

impl Names {
    /// Reads them below a directory that stands for `/`. Of several names the first in the alphabet is taken. `device` is that of
    /// the file system of namespaces: a file of any other is a name that nothing was mounted on.
    pub(crate) fn read(root: &Path, device: u64) -> (Self, Vec<io::Error>) {
        let (mut names, mut errors) = (Self::default(), Vec::new());
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
                let name = text(entry.file_name().as_encoded_bytes());
                let first = names.named.entry(metadata.ino()).or_insert_with(|| (name.clone(), entry.path()));
                if name < first.0 {
                    *first = (name, entry.path());
                }
            }
        }
        (names, errors)
    }

    fn label(&self, inode: u64) -> Arc<str> {
        match self.named.get(&inode) {
            Some((name, _)) => format!("{name} ({inode})").into(),
            None => inode.to_string().into(),
        }
    }
}

/// A file for every network namespace that has a name or a process, each once. What cannot be asked of a process that is still
/// there is an error.
pub(crate) fn every(root: &Path, names: &Names) -> (Vec<PathBuf>, Vec<io::Error>) {
    let mut seen: BTreeSet<u64> = names.named.keys().copied().collect();
    let mut files: Vec<PathBuf> = names.named.values().map(|(_, path)| path.clone()).collect();
    let mut errors = Vec::new();
    match processes(root) {
        Ok(processes) => {
            for (_, directory) in processes {
                let file = directory.join("ns/net");
                match fs::read_link(&file) {
                    Ok(link) => {
                        if number(&link).is_some_and(|inode| seen.insert(inode)) {
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

/// The number in `net:[4026531840]`.
fn number(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The processes that can be seen: their ids, and their directories in `/proc`.
pub(crate) fn processes(root: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir(root.join("proc"))?;
    let process = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
    };
    Ok(entries.filter_map(process).collect())
}

/// Whether a file of a process cannot be read since the process has ended.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    [Errno::ENOENT, Errno::ESRCH].contains(&errno_of(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory that is gone when the test is over.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("namespaces-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("run/netns")).expect("it can be made");
            Self(path)
        }

        fn process(&self, pid: &str, link: &str) {
            let directory = self.0.join("proc").join(pid).join("ns");
            fs::create_dir_all(&directory).expect("it can be made");
            symlink(link, directory.join("net")).expect("it can be made");
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it can be removed");
        }
    }

    #[test]
    fn a_namespace_has_the_first_of_its_names_and_its_number() {
        let root = Directory::new("names");
        let directory = root.0.join("run/netns");
        fs::write(directory.join("green"), "").expect("it can be written");
        fs::hard_link(directory.join("green"), directory.join("blue")).expect("it can be made");
        let metadata = fs::metadata(directory.join("green")).expect("it is there");
        let (names, errors) = Names::read(&root.0, metadata.dev());
        assert!(errors.is_empty());
        assert_eq!(&*names.label(metadata.ino()), format!("blue ({})", metadata.ino()));
        assert_eq!(&*names.label(7), "7");
        let (names, _) = Names::read(&root.0, metadata.dev() + 1);
        assert_eq!(&*names.label(metadata.ino()), metadata.ino().to_string(), "nothing is mounted there");
    }

    #[test]
    fn every_namespace_of_a_process_is_found_once() {
        let root = Directory::new("every");
        for (pid, link) in
            [("1", "net:[11]"), ("2", "net:[12]"), ("3", "net:[11]"), ("4", "net:x"), ("self", "net:[13]")]
        {
            root.process(pid, link);
        }
        fs::create_dir_all(root.0.join("proc/5/ns")).expect("it can be made");
        let (files, errors) = every(&root.0, &Names::default());
        assert!(errors.is_empty(), "who has ended is no issue");
        let links: BTreeSet<_> = files.iter().map(|file| fs::read_link(file).expect("it is there")).collect();
        assert_eq!(links, ["net:[11]", "net:[12]"].map(PathBuf::from).into());
        let (files, errors) = every(Path::new("/nonexistent"), &Names::default());
        assert_eq!((files.len(), errors.len()), (0, 1), "who sees no process says so");
    }
}
