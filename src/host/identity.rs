//! What identifies this host, also from inside a container. Entry point: [`host_identity`].

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::namespaces::{NamespaceKind, is_initial};
use crate::model::HostIdentity;
use crate::text::printable;

/// Identifies this host. `host_root` is the host's root directory, which is found by itself where the first process is the host's.
#[must_use]
pub fn host_identity(host_root: Option<&Path>) -> HostIdentity {
    identity(Path::new("/"), host_root)
}

/// Returns what distinguishes this exporter from others on the host and stays over restarts: its systemd unit, and the namespace of
/// its pod.
#[must_use]
pub fn deployment() -> Vec<String> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let namespace = read(Path::new("/"), "var/run/secrets/kubernetes.io/serviceaccount/namespace");
    unit(&cgroup).into_iter().chain(namespace).collect()
}

/// Returns the innermost systemd service in the text of `/proc/PID/cgroup` that keeps its name when it is started again: systemd-run
/// makes a new name each time.
fn unit(cgroup: &str) -> Option<String> {
    let mut names = cgroup.lines().flat_map(|line| line.rsplit('/'));
    names.find(|name| name.ends_with(".service") && !name.starts_with("run-")).map(str::to_owned)
}

/// Where the host's files are.
#[derive(Debug, PartialEq, Eq)]
enum HostFiles {
    /// This process is on the host: its own root directory.
    Own,
    /// Below a directory of a container.
    Below(PathBuf),
    /// Not to be seen from this container.
    Unknown,
}

impl HostFiles {
    /// Finds them from a process with this root directory.
    fn find(root: &Path) -> Self {
        let proc = root.join("proc");
        if !is_initial(&proc.join("self"), NamespaceKind::Pid).unwrap_or(true) {
            return Self::Unknown;
        }
        // Process 1 is the host's. A service with a mount namespace of its own has the same root directory, a container another one.
        let first = proc.join("1/root");
        match is_same_directory(&first, root) {
            Ok(true) => Self::Own,
            Ok(false) => Self::Below(first),
            // `EACCES` without CAP_SYS_PTRACE, in a service of the host and in a container alike.
            Err(_) if shares_namespaces(&proc) => Self::Own,
            Err(_) => Self::Unknown,
        }
    }
}

/// Returns whether this process is in every initial namespace that a container rarely is in. Mount namespaces have no fixed inode, and
/// the UTS namespace says nothing: it is the host's in pods with `hostNetwork`, and may be another one in a service of the host.
fn shares_namespaces(proc: &Path) -> bool {
    let kinds = [NamespaceKind::Ipc, NamespaceKind::Cgroup];
    kinds.into_iter().all(|kind| is_initial(&proc.join("self"), kind).unwrap_or(false))
}

fn is_same_directory(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn identity(root: &Path, host_root: Option<&Path>) -> HostIdentity {
    let files = host_root.map_or_else(|| HostFiles::find(root), |path| HostFiles::Below(path.to_owned()));
    let shares_name = is_initial(&root.join("proc/self"), NamespaceKind::Uts).unwrap_or(false);
    let own_name = || read(root, "proc/sys/kernel/hostname");
    let (name, machine_id, release) = match &files {
        HostFiles::Own => (own_name(), machine_id(root), read(root, "etc/os-release")),
        HostFiles::Below(host) => {
            let name = if shares_name { own_name() } else { configured_name(host) };
            (name, machine_id(host), read(host, "etc/os-release"))
        }
        HostFiles::Unknown => (own_name().filter(|_| shares_name), mounted_machine_id(root), None),
    };
    let release = release.unwrap_or_default();
    HostIdentity {
        name,
        machine_id,
        fallback_id: product_uuid(root).or_else(|| read(root, "proc/sys/kernel/random/boot_id")),
        os_description: os_release(&release, "PRETTY_NAME="),
        os_version: os_release(&release, "VERSION_ID="),
        kernel_release: read(root, "proc/sys/kernel/osrelease"),
    }
}

/// Returns the text of a file below a root directory, trimmed. `None` if it is empty or cannot be read.
fn read(root: &Path, path: &str) -> Option<String> {
    let text = fs::read(below(root, Path::new(path))?).ok()?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Follows symbolic links of a path within a root directory, which the kernel would follow from our own.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    const MOST_LINKS: usize = 8;
    let mut path = root.join(path);
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { return Some(path) };
        path = match target.strip_prefix("/") {
            Ok(absolute) => root.join(absolute),
            Err(_) => path.parent()?.join(target),
        };
    }
    None
}

/// Returns the name in `/etc/hostname`, hostname(5). Images have `localhost` there, and get their name over the network.
fn configured_name(host: &Path) -> Option<String> {
    let text = read(host, "etc/hostname")?;
    let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    (!name.starts_with("localhost")).then(|| printable(name.as_bytes()))
}

/// Returns the file of the machine id. That of D-Bus counts only on a system without the other: where that is not initialized, an
/// image has both.
fn machine_id_file(root: &Path) -> &'static str {
    let exists = root.join("etc/machine-id").symlink_metadata().is_ok();
    if exists { "etc/machine-id" } else { "var/lib/dbus/machine-id" }
}

fn machine_id(root: &Path) -> Option<String> {
    let id = read(root, machine_id_file(root))?;
    Some(id.to_ascii_lowercase()).filter(|id| is_machine_id(id))
}

/// Returns the machine id of a container if its file is mounted there: one of the image would be that of every container of it.
fn mounted_machine_id(root: &Path) -> Option<String> {
    let file = below(root, Path::new(machine_id_file(root)))?;
    let device = |path: &Path| fs::metadata(path).map(|file| file.dev()).ok();
    machine_id(root).filter(|_| device(&file) != device(root))
}

/// Returns whether a text is a machine id, machine-id(5), in lower case. Images of hosts have `uninitialized`, or zeros.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte != b'0')
}

/// Returns the UUID of the machine in its firmware. It is readable by root only.
fn product_uuid(root: &Path) -> Option<String> {
    /// What firmware has in place of one.
    const PLACEHOLDERS: [&str; 3] = [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    ];
    let uuid = read(root, "sys/class/dmi/id/product_uuid")?.to_ascii_lowercase();
    (uuid.len() == 36 && !PLACEHOLDERS.contains(&&*uuid)).then_some(uuid)
}

/// Returns a value of os-release(5), unquoted. `key` ends with the sign.
fn os_release(release: &str, key: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix(key))?;
    let value = value.trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| printable(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    /// A root directory with these files.
    fn root(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().expect("a temporary directory can be created");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it is writable");
            fs::write(path, text).expect("it is writable");
        }
        root
    }

    #[test]
    fn a_machine_id_is_32_hexadecimal_digits_and_not_zero() {
        let of = |files: &[_]| machine_id(root(files).path());
        assert_eq!(of(&[("etc/machine-id", "0123456789ABCDEF0123456789abcdef\n")]).as_deref(), Some(ID));
        let (zeros, other, long) = ("0".repeat(32), "g".repeat(32), format!("{ID}0"));
        for wrong in ["", "uninitialized\n", "0123", &zeros, &other, &long] {
            assert_eq!(of(&[("etc/machine-id", wrong)]), None, "{wrong}");
            let of_image = [("etc/machine-id", wrong), ("var/lib/dbus/machine-id", ID)];
            assert_eq!(of(&of_image), None, "{wrong}");
        }
        assert_eq!(of(&[("var/lib/dbus/machine-id", ID)]).as_deref(), Some(ID), "there is no other");
    }

    #[test]
    fn a_host_root_has_the_name_and_the_system_of_the_host() {
        let host = root(&[
            ("etc/machine-id", ID),
            ("etc/hostname", "# comment\nnode-7\n"),
            ("usr/lib/os-release", "ID=debian\nPRETTY_NAME=\"Debian 12\"\nVERSION_ID='12'\n"),
        ]);
        // An absolute link is one within the host's root.
        symlink("/usr/lib/os-release", host.path().join("etc/os-release")).expect("it is writable");
        let container = root(&[
            ("etc/machine-id", &ID.replace('0', "f")),
            ("proc/sys/kernel/hostname", "pod-x7k2p\n"),
            ("proc/sys/kernel/osrelease", "6.1.0\n"),
            ("proc/sys/kernel/random/boot_id", "boot\n"),
        ]);
        let expected = HostIdentity {
            name: Some("node-7".into()),
            machine_id: Some(ID.into()),
            fallback_id: Some("boot".into()),
            os_description: Some("Debian 12".into()),
            os_version: Some("12".into()),
            kernel_release: Some("6.1.0".into()),
        };
        assert_eq!(identity(container.path(), Some(host.path())), expected);
    }

    #[test]
    fn a_container_that_does_not_see_the_host_reports_nothing_of_its_image() {
        let container = root(&[
            ("etc/machine-id", ID),
            ("etc/os-release", "PRETTY_NAME=Alpine\n"),
            ("proc/sys/kernel/hostname", "4f1c2d\n"),
            ("proc/self/ns/pid", "another namespace has another inode"),
        ]);
        assert_eq!(HostFiles::find(container.path()), HostFiles::Unknown);
        assert_eq!(identity(container.path(), None), HostIdentity::default());
    }

    #[test]
    fn without_the_right_to_look_at_process_1_the_namespaces_tell_a_service_from_a_container() {
        let unreadable = || {
            let host = root(&[("etc/machine-id", ID), ("proc/1/comm", "systemd")]);
            // To follow it fails, also for root.
            symlink("root", host.path().join("proc/1/root")).expect("it is writable");
            host
        };
        let container = unreadable();
        assert_eq!(HostFiles::find(container.path()), HostFiles::Unknown);
        assert_eq!(identity(container.path(), None).machine_id, None);

        let like_this_process = unreadable();
        fs::create_dir(like_this_process.path().join("proc/self")).expect("it is writable");
        symlink("/proc/self/ns", like_this_process.path().join("proc/self/ns")).expect("it is writable");
        let is_initial = |name: &str, inode: u64| {
            let link = fs::read_link(format!("/proc/self/ns/{name}")).expect("Linux has it");
            link.to_string_lossy() == format!("{name}:[{inode}]")
        };
        let initial =
            [("pid", 0xEFFF_FFFC), ("uts", 0xEFFF_FFFE), ("ipc", 0xEFFF_FFFF), ("cgroup", 0xEFFF_FFFB)];
        let is_host = initial.into_iter().all(|(name, inode)| is_initial(name, inode));
        let expected = if is_host { HostFiles::Own } else { HostFiles::Unknown };
        assert_eq!(HostFiles::find(like_this_process.path()), expected);
    }

    #[test]
    fn the_machine_id_of_a_container_is_that_of_a_mounted_file() {
        // The file with the id is the one that has to be mounted, not one that is missing.
        let image = root(&[("var/lib/dbus/machine-id", ID)]);
        assert_eq!(mounted_machine_id(image.path()), None);
        let mounted = TempDir::new_in("/dev/shm").expect("it is writable");
        fs::write(mounted.path().join("id"), ID).expect("it is writable");
        for path in ["etc/machine-id", "var/lib/dbus/machine-id"] {
            let container = root(&[(path, "")]);
            let device = |path: &Path| fs::metadata(path).expect("it is there").dev();
            let is_mounted = device(mounted.path()) != device(container.path());
            let file = container.path().join(path);
            fs::remove_file(&file).expect("it is there");
            // Out of the container, as a mount would be.
            let target = mounted.path().join("id");
            let target = target.strip_prefix("/").expect("it is absolute");
            symlink(Path::new(&"../".repeat(20)).join(target), &file).expect("it is writable");
            assert_eq!(mounted_machine_id(container.path()).is_some(), is_mounted, "{path}");
        }
    }

    #[test]
    fn a_host_that_gets_its_name_over_the_network_has_none_in_its_files() {
        for name in ["localhost", "localhost.localdomain"] {
            assert_eq!(configured_name(root(&[("etc/hostname", name)]).path()), None, "{name}");
        }
    }

    #[test]
    fn a_uuid_of_the_firmware_is_no_placeholder() {
        let of = |uuid: &str| product_uuid(root(&[("sys/class/dmi/id/product_uuid", uuid)]).path());
        let uuid = "4C4C4544-0042-3510-8052-B4C04F564433";
        assert_eq!(of(uuid), Some(uuid.to_lowercase()));
        for wrong in ["03000200-0400-0500-0006-000700080009", "Not Settable", ""] {
            assert_eq!(of(wrong), None);
        }
    }

    #[test]
    fn the_unit_is_the_service_in_the_path_of_the_cgroup() {
        assert_eq!(
            unit("0::/system.slice/bpf-metrics-exporter.service\n").as_deref(),
            Some("bpf-metrics-exporter.service")
        );
        assert_eq!(unit("0::/user.slice/session-3.scope\n"), None);
        assert_eq!(unit("0::/system.slice/run-u12.service\n"), None, "the next start has another name");
        let nested = "0::/user.slice/user-0.slice/user@0.service/app.slice/run-p7-i8.service\n";
        assert_eq!(unit(nested).as_deref(), Some("user@0.service"));
    }

    proptest! {
        #[test]
        fn arbitrary_files_do_not_panic(text in "\\PC{0,60}") {
            let _values = (os_release(&text, "PRETTY_NAME="), unit(&text), is_machine_id(&text));
        }
    }
}
