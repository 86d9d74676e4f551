//! Where commands write: standard output, or a file that appears as a whole. Entry points: [`write()`] and [`Recorder`].

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, IsTerminal as _, Stdout, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::NamedTempFile;

use crate::print;

/// How often standard output is looked at, which may be closed while nothing happens.
const LOOK: Duration = Duration::from_millis(500);

/// Permissions of files: `node_exporter`, which reads them, is not root.
const MODE: u32 = 0o644;

/// Returns whether standard output has colours.
pub(super) fn colour() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    io::stdout().is_terminal() && !no_colour
}

/// Writes a text to a file, or to standard output. The file is replaced when all of it is on the disk; if that fails, it stays as it is.
pub(super) fn write(file: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let Some(path) = file else { return print(text) };
    let replace = || -> anyhow::Result<()> {
        let mut file = temporary(path)?;
        file.write_all(text.as_bytes())?;
        persist(file, path)?;
        Ok(())
    };
    replace().with_context(|| format!("failed to write {}", path.display()))
}

/// Returns a new file in the folder of another one, with a name that nobody can know before. It is removed unless it takes the place of
/// the other one.
fn temporary(path: &Path) -> anyhow::Result<NamedTempFile> {
    // Not even root wants /dev/null replaced. What a link leads to is up to whoever made it.
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => bail!("it is a symbolic link; give the path that it leads to"),
        Ok(found) if !found.is_file() => bail!("it is not a regular file"),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let name = path.file_name().context("it has no file name")?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    // tempfile adds characters of its own until the name is free, which are not as hard to guess.
    prefix.push(format!(".{:016x}", rand::random::<u64>()));
    // Prefix and suffix keep it from being read for what it will be: node_exporter reads *.prom.
    let file = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(folder(path))?;
    file.as_file().set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

/// Gives a file its name, with all that was written to it.
fn persist(file: NamedTempFile, path: &Path) -> io::Result<File> {
    file.as_file().sync_all()?;
    let file = file.persist(path).map_err(|error| error.error)?;
    // The name is on the disk once its folder is.
    File::open(folder(path))?.sync_all()?;
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes lines as they come.
pub(super) enum Recorder {
    /// To standard output.
    Stdout,
    /// To a file that appears with its first line, in place of an earlier one.
    Pending(PathBuf),
    /// To that file.
    File(PathBuf, File),
}

impl Recorder {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        file.map_or(Self::Stdout, Self::Pending)
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            Self::Pending(path) => {
                let path = std::mem::take(path);
                let in_file =
                    |error: anyhow::Error| io::Error::other(format!("{}: {error:#}", path.display()));
                let mut file = temporary(&path).map_err(in_file)?;
                file.write_all(text.as_bytes()).map_err(|error| in_file(error.into()))?;
                let file = persist(file, &path).map_err(|error| in_file(error.into()))?;
                *self = Self::File(path, file);
                Ok(())
            }
            Self::File(path, file) => file
                .write_all(text.as_bytes())
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display()))),
        }
    }
}

/// Waits until nobody is left to read what is written.
pub(super) async fn closed(stdout: Stdout) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let is_closed = poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0].revents().is_some_and(|found| found.intersects(gone));
        if is_closed {
            return;
        }
    }
}
