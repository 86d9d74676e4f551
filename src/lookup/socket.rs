//! Paths of runtime sockets: the well-known ones, or those from the command line.
//!
//! Entry point: [`Sockets`].

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::LookupError;
use crate::worker::Worker;

/// containerd, CRI-O, the containerd of k3s, and Docker through cri-dockerd.
pub(super) const WELL_KNOWN_CRI: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "run/k3s/containerd/containerd.sock",
    "var/run/cri-dockerd.sock",
];

/// Docker, at its current and its former path, and Podman.
pub(super) const WELL_KNOWN_DOCKER: [&str; 3] =
    ["run/docker.sock", "var/run/docker.sock", "run/podman/podman.sock"];

/// Sockets to query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// The well-known ones that exist at the time of a query.
    WellKnown,
    /// These paths; one that does not exist is an error. Empty for no socket.
    Given(Vec<PathBuf>),
}

impl Sockets {
    pub(super) fn paths(&self, root: &Path, well_known: &[&str]) -> impl Iterator<Item = SocketPath> + use<> {
        let paths: Vec<_> = match self {
            Self::WellKnown => well_known.iter().map(|path| SocketPath::Optional(root.join(path))).collect(),
            Self::Given(paths) => paths.iter().cloned().map(SocketPath::Required).collect(),
        };
        paths.into_iter()
    }
}

/// Path of a socket, and whether its absence is an error.
#[derive(Debug)]
pub(super) enum SocketPath {
    Optional(PathBuf),
    Required(PathBuf),
}

impl SocketPath {
    pub(super) fn path(&self) -> &Path {
        let (Self::Optional(path) | Self::Required(path)) = self;
        path
    }
}

/// Sockets found in one round by device and inode, so that one with several paths is queried once. Sockets come and go with their
/// runtimes, so each round looks for them again.
#[derive(Debug, Default)]
pub(super) struct FoundSockets(HashSet<(u64, u64)>);

impl FoundSockets {
    /// Returns the path of a socket, if it exists and was not found under another path. It is looked for on the thread of `files`.
    pub(super) async fn find<'a>(
        &mut self,
        socket: &'a SocketPath,
        files: &Worker,
    ) -> Result<Option<&'a Path>, LookupError> {
        let path = socket.path().to_owned();
        match files.run(move || path.metadata()).await {
            Ok(file) if file.file_type().is_socket() => {
                Ok(self.0.insert((file.dev(), file.ino())).then_some(socket.path()))
            }
            Ok(_) if matches!(socket, SocketPath::Optional(_)) => Ok(None),
            // Connecting to something else returns the error to report.
            Ok(_) => Ok(Some(socket.path())),
            Err(error)
                if matches!(socket, SocketPath::Optional(_))
                    && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(LookupError::Connect(error)),
        }
    }
}
