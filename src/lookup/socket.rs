//! Where those who are asked listen: the well-known sockets, or those that the user names.
//! Begin at [`Sockets`].

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Failure;

/// containerd, CRI-O, the containerd of k3s, and Docker behind cri-dockerd.
pub(super) const WELL_KNOWN_CRI: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "run/k3s/containerd/containerd.sock",
    "var/run/cri-dockerd.sock",
];

/// Docker, where it is or was, and Podman.
pub(super) const WELL_KNOWN_DOCKER: [&str; 3] =
    ["run/docker.sock", "var/run/docker.sock", "run/podman/podman.sock"];

/// Which sockets to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// The well-known ones that exist when something is to be asked.
    WellKnown,
    /// These, and it is a failure when one is not there; none of them for an empty list.
    Given(Vec<PathBuf>),
}

impl Sockets {
    pub(super) fn places(&self, root: &Path, well_known: &[&str]) -> impl Iterator<Item = Place> {
        let places: Vec<_> = match self {
            Self::WellKnown => well_known.iter().map(|path| Place::Perhaps(root.join(path))).collect(),
            Self::Given(paths) => paths.iter().cloned().map(Place::Certainly).collect(),
        };
        places.into_iter()
    }
}

/// Where there is a socket.
#[derive(Debug)]
pub(super) enum Place {
    Perhaps(PathBuf),
    Certainly(PathBuf),
}

impl Place {
    pub(super) fn path(&self) -> &Path {
        let (Self::Perhaps(path) | Self::Certainly(path)) = self;
        path
    }
}

/// The sockets that were found, each once, whatever the number of its names. They come and go with those who listen, so they
/// are looked for each time.
#[derive(Debug, Default)]
pub(super) struct Present(HashSet<(u64, u64)>);

impl Present {
    /// The path of a socket, if it is there and was not found under another name.
    pub(super) async fn find<'a>(&mut self, place: &'a Place) -> Result<Option<&'a Path>, Failure> {
        let path = place.path().to_owned();
        let found = tokio::task::spawn_blocking(move || path.metadata()).await;
        match found.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(socket) if socket.file_type().is_socket() => {
                Ok(self.0.insert((socket.dev(), socket.ino())).then_some(place.path()))
            }
            Ok(_) if matches!(place, Place::Perhaps(_)) => Ok(None),
            // Connecting says what is wrong with what else is there.
            Ok(_) => Ok(Some(place.path())),
            Err(error)
                if matches!(place, Place::Perhaps(_))
                    && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::Connect(error)),
        }
    }
}
