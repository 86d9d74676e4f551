//! Landlock: the files that a thread may open, and the ports that it may connect to. Entry point: [`restrict`].
//!
//! A thread under Landlock may also not look into other processes (`hook_ptrace_access_check`, `security/landlock/task.c`): their
//! descriptors, namespaces and root directories. Readings need those, so only the other threads are restricted, unless all such
//! features are given up.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};

/// The newest version whose rights are restricted; older kernels restrict those that they know.
const VERSION: ABI = ABI::V5;

/// Directories that the C library, the resolver and TLS read at any time, and settings of the system.
const SYSTEM: &[&str] = &[
    "/proc",
    "/sys",
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
    "/usr/share/zoneinfo",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
    "/var/lib/sss",
    "/nix/store",
    "/dev/null",
    "/dev/urandom",
];

/// Directories of services that may start later, as [`SYSTEM`]. As long as one does not exist, what exists above it is readable.
const STARTED_LATER: &[&str] = &["/run/systemd/resolve", "/run/nscd"];

/// The resolver's settings, often a link into a directory of [`STARTED_LATER`], or of another such service.
const RESOLVER: &str = "/etc/resolv.conf";

/// The longest chain of links that is followed, as in the kernel (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Directories whose entries name pods and containers. Nothing in them is opened.
const LISTED: &[&str] = &["/var/log/pods", "/var/log/containers"];

/// Variables that name certificates of authorities, as OpenSSL has them.
const CERTIFICATES: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The port of DNS over TCP, for answers that do not fit UDP.
const DNS: u16 = 53;

/// What is opened beside the files of the system.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Files that are read, also again after they changed. Their directories are readable as a whole: a file may be replaced by
    /// renaming another over it, and Kubernetes replaces a link beside it.
    pub read: Vec<PathBuf>,
    /// Directories that are written.
    pub write: Vec<PathBuf>,
    /// Directories in which a socket file is removed.
    pub remove: Vec<PathBuf>,
    /// TCP ports of receivers.
    pub ports: Vec<u16>,
}

/// Restricts the calling thread, and those that it starts. Returns what is restricted, for the log.
///
/// # Errors
///
/// Why the kernel restricts nothing.
pub(super) fn restrict(files: &Files) -> Result<String, String> {
    match apply(files) {
        Ok(RestrictionStatus { ruleset: RulesetStatus::NotEnforced, landlock, .. }) => Err(match landlock {
            LandlockStatus::NotEnabled => "it is not enabled (boot parameter lsm=)".to_owned(),
            LandlockStatus::NotImplemented => {
                "the kernel does not have it (5.13, CONFIG_SECURITY_LANDLOCK)".to_owned()
            }
            LandlockStatus::Available { .. } => "the kernel restricts nothing".to_owned(),
        }),
        Ok(RestrictionStatus { landlock, .. }) => Ok(match landlock {
            LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V4 => "files and ports",
            _ => "files",
        }
        .to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn apply(files: &Files) -> Result<RestrictionStatus, RulesetError> {
    let (read, list) = (AccessFs::ReadFile | AccessFs::ReadDir, BitFlags::from(AccessFs::ReadDir));
    let ports: BTreeSet<u16> = files.ports.iter().copied().chain([DNS]).collect();
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .create()?
        .add_rules(path_beneath_rules(readable(files), read))?
        .add_rules(path_beneath_rules(LISTED.iter().map(|path| existing(Path::new(path))), list))?
        .add_rules(path_beneath_rules(&files.write, AccessFs::from_all(VERSION)))?
        .add_rules(path_beneath_rules(&files.remove, AccessFs::RemoveFile))?;
    for port in ports {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

/// Returns what is readable: of a given file its directory, and where its link leads. Of what does not exist yet, the nearest directory above
/// that does, but not `/`, which would be everything.
fn readable(files: &Files) -> BTreeSet<PathBuf> {
    let of_variables = CERTIFICATES.iter().filter_map(env::var_os).map(PathBuf::from);
    let named = files.read.iter().cloned().chain(of_variables).chain([PathBuf::from(RESOLVER)]);
    let directory = |path: PathBuf| if path.is_dir() { path } else { directory_of(&path) };
    let directories = named.flat_map(|file| [target(&file), file]).map(directory);
    let maybe_later = directories.chain(STARTED_LATER.iter().map(PathBuf::from));
    let above = maybe_later.map(|path| existing(&path).to_owned()).filter(|path| path != Path::new("/"));
    SYSTEM.iter().map(PathBuf::from).chain(above).collect()
}

/// Returns where a link leads, even if nothing is there yet; the path itself if it is none.
fn target(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(link) = path.read_link() else { break };
        // An absolute link replaces the directory. `..` is left to the kernel.
        path = directory_of(&path).join(link);
    }
    path
}

/// Returns the directory of a file, which may not exist.
fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns a path or, as long as it does not exist, the nearest directory above that does.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_file_and_of_its_target_are_readable() {
        let root = tempfile::TempDir::new().expect("a temporary directory can be created");
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir(path("target")).expect("the directory is writable");
        std::fs::create_dir(path("links")).expect("the directory is writable");
        std::fs::write(path("target/key.pem"), "").expect("the directory is writable");
        std::os::unix::fs::symlink(path("target/key.pem"), path("links/key.pem"))
            .expect("the directory is writable");
        let files = Files { read: vec![path("links/key.pem")], ..Files::default() };
        let readable = readable(&files);
        let target = path("target").canonicalize().expect("it exists");
        for expected in [path("links"), target, PathBuf::from("/etc")] {
            assert!(readable.contains(&expected), "{expected:?} is not in {readable:?}");
        }
        assert!(!readable.contains(root.path()));
        assert_eq!(directory_of(Path::new("key.pem")), Path::new("."));
        assert_eq!(existing(&path("links/no/such")), path("links"));
    }

    #[test]
    fn what_does_not_exist_yet_is_readable_by_the_directory_above() {
        let root = tempfile::TempDir::new().expect("a temporary directory can be created");
        let path = |name: &str| root.path().join(name);
        for directory in ["run", "links", "mounts"] {
            std::fs::create_dir(path(directory)).expect("the directory is writable");
        }
        std::os::unix::fs::symlink("../run/resolve/stub.conf", path("links/resolv.conf"))
            .expect("the directory is writable");
        let read =
            vec![path("links/resolv.conf"), path("mounts/later/tls.crt"), PathBuf::from("/no/such/file")];
        let readable = readable(&Files { read, ..Files::default() });
        for expected in [path("links"), path("links/../run"), path("mounts")] {
            assert!(readable.contains(&expected), "{expected:?} is not in {readable:?}");
        }
        assert!(!readable.contains(Path::new("/")), "not everything");
        assert!(readable.iter().any(|path| path.starts_with("/run")), "the resolver may start later");
    }
}
