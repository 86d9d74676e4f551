//! Sockets to listen on: TCP, Unix, and those that systemd passes. Entry points: [`Listener::tcp`], [`Listener::unix`] and
//! [`Listener::inherited`].

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike as _, SockaddrStorage, UnixAddr, bind,
    getsockname, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// On a port.
    Tcp(TcpListener),
    /// On a path.
    Unix {
        /// The socket.
        socket: UnixListener,
        /// Its file, if it is ours to remove.
        file: Option<SocketFile>,
    },
}

/// The file of a socket, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another instance may have replaced it. A file that remains does no harm: the next start replaces it.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!("{} remains: {error}", self.path.display());
        }
    }
}

impl Listener {
    /// Listens on a port of an address, or of every address of this host.
    ///
    /// # Errors
    ///
    /// If the address is in use, not local, or not permitted.
    pub fn tcp(host: Option<&str>, port: u16) -> io::Result<Self> {
        let socket = match host {
            Some(host) => TcpListener::bind((host, port)),
            // The IPv6 socket accepts IPv4 as well, if the host has IPv6.
            None => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|error| match error.kind() {
                ErrorKind::AddrInUse => Err(error),
                _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
            }),
        }?;
        socket.set_nonblocking(true)?;
        Ok(Self::Tcp(socket))
    }

    /// Listens on a path, with these permission bits, which decide who may connect. Replaces a socket on which nobody listens.
    ///
    /// # Errors
    ///
    /// If somebody listens there, something else than a socket is there, or the directory does not permit it.
    pub fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        is_free(path)?;
        // Under a name of its own until its mode is set: who may connect then is not kept out before.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        // Left behind by one that was killed: in a container, every start has the same process id.
        if is_free(&unfinished)? {
            fs::remove_file(&unfinished)?;
        }
        let socket = bind_for_owner(&unfinished)?;
        let place = || -> io::Result<u64> {
            fs::set_permissions(&unfinished, Permissions::from_mode(mode))?;
            fs::rename(&unfinished, path)?;
            Ok(fs::symlink_metadata(path)?.ino())
        };
        let inode = match place() {
            Ok(inode) => inode,
            Err(error) => {
                let _the_first_error_counts = fs::remove_file(&unfinished);
                return Err(error);
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Self::Unix { socket, file: Some(SocketFile { path: path.to_owned(), inode }) })
    }

    /// Takes a socket that another process has made.
    ///
    /// # Errors
    ///
    /// If it is not a stream socket that listens, or of another family than IPv4, IPv6 and Unix.
    pub fn inherited(socket: OwnedFd) -> io::Result<Self> {
        if getsockopt(&socket, sockopt::SockType)? != SockType::Stream
            || !getsockopt(&socket, sockopt::AcceptConn)?
        {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a stream socket that listens"));
        }
        let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        match address.family() {
            Some(AddressFamily::Inet | AddressFamily::Inet6) => {
                let socket = TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp(socket))
            }
            Some(AddressFamily::Unix) => {
                let socket = UnixListener::from(socket);
                socket.set_nonblocking(true)?;
                Ok(Self::Unix { socket, file: None })
            }
            family => {
                let problem =
                    format!("a socket of the family {family:?}, which is none of IPv4, IPv6 and Unix");
                Err(io::Error::new(ErrorKind::InvalidInput, problem))
            }
        }
    }

    /// Returns whether every user of the host can connect, unless the directory of the socket keeps them out.
    #[must_use]
    pub fn is_for_everyone(&self) -> bool {
        let Self::Unix { socket, .. } = self else { return true };
        match self.path() {
            // Who may write to it may connect.
            Some(path) => fs::metadata(path).is_ok_and(|file| file.mode() & 0o002 != 0),
            // An abstract socket has no permissions.
            None => socket.local_addr().map_or(true, |address| !address.is_unnamed()),
        }
    }

    /// Returns the path of a Unix socket; `None` if it has none.
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            // The kernel knows it by the name that it had first.
            Self::Unix { file: Some(file), .. } => Some(file.path.clone()),
            Self::Unix { socket, file: None } => socket.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }

    /// Returns the directory in which the file of the socket is removed at the end.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Unix { file: Some(file), .. } => file.path.parent().map(Path::to_owned),
            Self::Unix { file: None, .. } | Self::Tcp(_) => None,
        }
    }

    /// Returns the URL of a path that is served on it, over TLS or not.
    #[must_use]
    pub fn url(&self, tls: bool, path: &str) -> String {
        let scheme = if tls { "https" } else { "http" };
        match self {
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(address) => format!("{scheme}://{address}{path}"),
                Err(error) => format!("an unknown address ({error})"),
            },
            Self::Unix { .. } => self.path().map_or_else(
                || "an unnamed socket".to_owned(),
                |file| format!("unix:{} ({path})", file.display()),
            ),
        }
    }
}

/// Returns whether there is a socket at a path on which nobody listens, or nothing.
fn is_free(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "it exists and is not a socket"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(_) => Err(ErrorKind::AddrInUse.into()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Listens on a path where only the owner may connect, from the first moment on.
fn bind_for_owner(path: &Path) -> io::Result<UnixListener> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The file gets the mode of the socket (net/unix/af_unix.c, unix_bind_bsd), less the umask.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_without_a_listener_is_replaced() {
        let folder = std::env::temp_dir().join(format!("web-listen-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("socket");
        let first = Listener::unix(&path, 0o600).expect("nothing is there");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        let error = Listener::unix(&path, 0o600).expect_err("the first one listens");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);

        // As after SIGKILL: the file remains, and nobody listens.
        let Listener::Unix { socket, file } = first else { unreachable!("it is a Unix socket") };
        drop(socket);
        let second = Listener::unix(&path, 0o660).expect("the socket is stale");
        drop(file);
        assert!(path.exists(), "the file is another one by now");
        drop(second);
        assert!(!path.exists(), "it is removed at the end");

        // As after SIGKILL between the two names.
        let unfinished = folder.join(format!("socket.{}", std::process::id()));
        drop(UnixListener::bind(&unfinished).expect("nothing is there"));
        let third = Listener::unix(&path, 0o666).expect("the unfinished socket is stale");
        assert!(third.is_for_everyone());
        assert_eq!(third.url(false, "/m"), format!("unix:{} (/m)", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(0o660)).expect("it is ours");
        assert!(!third.is_for_everyone());
        drop(third);
        let _bound = bind_for_owner(&unfinished).expect("nothing is there");
        assert_eq!(fs::metadata(&unfinished).expect("it is there").mode() & 0o777, 0o600);
        fs::remove_file(&unfinished).expect("it is ours");

        fs::write(&path, "").expect("a file");
        let error = Listener::unix(&path, 0o600).expect_err("it is a file");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "nothing is left behind");
        fs::remove_dir_all(&folder).expect("a folder");
    }

    #[test]
    fn inherited_sockets_listen() {
        let listening = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listening.local_addr().expect("it is bound");
        let inherited = Listener::inherited(listening.into()).expect("it listens");
        assert_eq!(inherited.url(true, "/m"), format!("https://{address}/m"));
        let (one, _other) = UnixStream::pair().expect("a pair");
        Listener::inherited(one.into()).expect_err("it does not listen");
        let file = fs::File::open("/dev/null").expect("it is there");
        Listener::inherited(file.into()).expect_err("it is no socket");
    }
}
