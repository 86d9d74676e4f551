//! A small file of procfs, sysfs or securityfs that each reading reads: opened once, since to look up its path takes longer than to read
//! it. Entry point: [`KeptFile::read`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The longest content, in bytes: a page.
const MAX_LEN: usize = 4096;

/// A file, open from the first time that it is read.
#[derive(Debug)]
pub(crate) struct KeptFile {
    path: PathBuf,
    /// `None` before the first reading and after a failure.
    file: Option<File>,
}

impl KeptFile {
    /// Returns a file that is not opened yet.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    /// As [`Self::new`]; a path from the root directory on is below this one.
    pub(crate) fn below(root: &Path, path: &str) -> Self {
        Self::new(root.join(path.trim_start_matches('/')))
    }

    /// Reads the text that the file has now. A file that could not be read is opened again the next time.
    ///
    /// # Errors
    ///
    /// Those of open(2) and pread(2); `InvalidData` for what is no UTF-8, or longer than a page.
    pub(crate) fn read(&mut self) -> io::Result<String> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        let text = text(&file)?;
        self.file = Some(file);
        Ok(text)
    }
}

/// Reads a file from its beginning. The kernel makes such a file's text when it is read from there, and gives all of it at once if there is
/// room, so that a text that leaves some is complete.
fn text(file: &File) -> io::Result<String> {
    let mut buffer = [0; MAX_LEN + 1];
    let len = file.read_at(&mut buffer, 0)?;
    if len > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than a page"));
    }
    let text = std::str::from_utf8(&buffer[..len]);
    text.map(str::to_owned).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn each_reading_has_the_present_text() {
        let directory = TempDir::new().expect("a temporary directory can be created");
        let path = directory.path().join("setting");
        let mut kept = KeptFile::below(directory.path(), "/setting");
        let missing = kept.read().expect_err("it does not exist yet");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        for text in ["0\n", "12\n", "", "1\n"] {
            fs::write(&path, text).expect("the directory is writable");
            assert_eq!(kept.read().expect("it exists"), text);
        }
        fs::write(&path, vec![b'x'; MAX_LEN + 1]).expect("the directory is writable");
        assert_eq!(kept.read().expect_err("too long").kind(), io::ErrorKind::InvalidData);
        // It was opened again after the failure: the file of that name now.
        fs::rename(&path, directory.path().join("other")).expect("the directory is writable");
        fs::write(&path, "new").expect("the directory is writable");
        assert_eq!(kept.read().expect("it exists"), "new");
    }

    #[test]
    fn files_of_the_kernel_are_read_again_from_their_beginning() {
        let mut kept = ["/proc/self/stat", "/proc/sys/kernel/osrelease", "/sys/devices/system/cpu/online"]
            .map(KeptFile::new);
        for kept in &mut kept {
            let [first, second] = [kept.read(), kept.read()].map(|text| text.expect("every kernel has it"));
            assert!(first.ends_with('\n') && second.ends_with('\n'), "{kept:?}: {first:?} {second:?}");
        }
    }
}
