//! Mounted file systems, from `/proc/PID/mountinfo`.
//!
//! Entry point: [`read`].

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::makedev;

use super::netns::{is_gone, processes};
use crate::sys::{Error, errno_of, failed};

/// One mounted file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The device number of its files.
    pub(crate) device: u64,
    /// The directory of the file system that is mounted.
    pub(crate) root: PathBuf,
    /// The mount point.
    pub(crate) point: PathBuf,
    /// The type of the file system: `cgroup2`.
    pub(crate) file_system: String,
    /// The options of the file system, common to all its mounts: `rw,memory`.
    pub(crate) options: String,
}

/// Returns the mounts that this process sees, with `root` in place of `/`.
///
/// # Errors
///
/// Returns the error of reading the file.
pub(crate) fn read(root: &Path) -> io::Result<Vec<Mount>> {
    read_below(&root.join("proc/self/mountinfo"), root)
}

/// Returns the mounts that the first process sees, with paths through `/proc/1/root`: the host's mounts, in a container that has
/// its own mounts but shares the pid namespace of the host.
///
/// # Errors
///
/// Returns the error of reading the file: `EACCES` if this process may not trace the first one.
pub(crate) fn read_of_first_process(root: &Path) -> io::Result<Vec<Mount>> {
    read_below(&root.join("proc/1/mountinfo"), &root.join("proc/1/root"))
}

/// Mounts of other mount namespaces.
#[derive(Debug, Default)]
pub(crate) struct OtherMounts {
    /// The mounts, with paths as in their namespace.
    pub(crate) mounts: Vec<OtherMount>,
    /// Why the mounts of some process are unknown.
    pub(crate) refused: Option<Error>,
}

/// A mount of another mount namespace, and a process there.
#[derive(Debug)]
pub(crate) struct OtherMount {
    pub(crate) mount: Mount,
    pub(crate) pid: u32,
    /// Its root directory, `/proc/PID/root`, through which the mount can be reached.
    pub(crate) root: PathBuf,
}

/// Returns the mounts of a type of file system in the mount namespaces of all visible processes, other than ours. Of each
/// namespace the process with the lowest pid is used, which usually lives longest.
///
/// A mount namespace without a process is not found, nor are mounts that are in no namespace (`fsmount`).
pub(crate) fn of_other_namespaces(root: &Path, file_system: &str) -> OtherMounts {
    const PROCESSES: &str = "/proc";
    const NAMESPACE: &str = "/proc/PID/ns/mnt";
    let mut others = OtherMounts::default();
    let mut seen = HashSet::new();
    let own = fs::read_link(root.join("proc/self/ns/mnt")).map_err(failed(NAMESPACE));
    let processes = processes(root).map_err(failed(PROCESSES));
    let mut processes = match (own, processes) {
        (Ok(own), Ok(processes)) => {
            seen.insert(own);
            processes
        }
        (Err(error), _) | (_, Err(error)) => {
            others.refused = Some(error);
            return others;
        }
    };
    processes.sort_unstable();
    for (pid, process) in processes {
        let mounts = fs::read_link(process.join("ns/mnt")).and_then(|namespace| {
            if seen.contains(&namespace) {
                return Ok(Vec::new());
            }
            let mounts = parse(&fs::read(process.join("mountinfo"))?);
            // Only now: if the process had ended, another one may be in the same namespace.
            seen.insert(namespace);
            Ok(mounts)
        });
        match mounts {
            Ok(mounts) => {
                let mounts = mounts.into_iter().filter(|mount| mount.file_system == file_system);
                let root = process.join("root");
                others.mounts.extend(mounts.map(|mount| OtherMount { mount, pid, root: root.clone() }));
            }
            // A process that is ending has no namespaces (`mounts_open_common`, `fs/proc_namespace.c`).
            Err(error) if is_gone(&error) || errno_of(&error) == Errno::EINVAL => {}
            Err(error) => others.refused = Some(failed(NAMESPACE)(error)),
        }
    }
    others
}

fn read_below(mountinfo: &Path, root: &Path) -> io::Result<Vec<Mount>> {
    let mounts = parse(&fs::read(mountinfo)?);
    let below = |mount: Mount| {
        let point = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
        Mount { point, ..mount }
    };
    Ok(mounts.into_iter().map(below).collect())
}

/// Parses lines `36 35 98:0 /root /point options optional... - type source options`, and skips malformed ones.
fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    let (major, minor) = str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = makedev(major.parse::<u32>().ok()?.into(), minor.parse::<u32>().ok()?.into());
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let mut after_separator = fields.skip_while(|&field| field != b"-");
    let file_system = String::from_utf8(after_separator.nth(1)?.to_vec()).ok()?;
    let options = String::from_utf8_lossy(after_separator.nth(1)?).into_owned();
    Some(Mount { device, root, point, file_system, options })
}

/// Decodes a path, in which the kernel writes blanks, line feeds and backslashes as `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\');
        let code = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Entry point of a fuzzer: parses any bytes as mounts.
pub(crate) fn fuzz(bytes: &[u8]) {
    assert!(parse(bytes).len() <= bytes.split(|&byte| byte == b'\n').count());
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn well_formed_lines_are_parsed() {
        let text = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            short\n\
            42 31 0:300 /a\\040b /mnt/c\\134d rw shared:1 master:2 - tmpfs none rw,size=4k\n";
        let mount = |minor: u64, root: &str, point: &str, file_system: &str, options: &str| Mount {
            device: makedev(0, minor),
            root: root.into(),
            point: point.into(),
            file_system: file_system.into(),
            options: options.into(),
        };
        let expected = [
            mount(38, "/", "/sys/fs/cgroup/unified", "cgroup2", "rw"),
            mount(300, "/a b", "/mnt/c\\d", "tmpfs", "rw,size=4k"),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn each_other_namespace_is_read_through_its_first_process() {
        const BPF: &str =
            "50 31 0:40 / /sys/fs/bpf rw - bpf bpf rw,mode=700\n51 31 0:41 / /tmp rw - tmpfs none rw\n";
        let root = TempDir::new().expect("a temporary directory can be created");
        let process = |pid: &str, namespace: &str, mountinfo: Option<&str>| {
            let process = root.path().join("proc").join(pid);
            fs::create_dir_all(process.join("ns")).expect("the directory is writable");
            symlink(namespace, process.join("ns/mnt")).expect("the directory is writable");
            if let Some(mountinfo) = mountinfo {
                fs::write(process.join("mountinfo"), mountinfo).expect("the directory is writable");
            }
        };
        process("self", "mnt:[1]", Some(BPF));
        process("1", "mnt:[1]", Some(BPF));
        process("30", "mnt:[2]", Some(BPF));
        process("7", "mnt:[2]", Some(BPF));
        // It ends while it is read.
        process("8", "mnt:[3]", None);
        process("9", "mnt:[3]", Some(BPF));
        let others = of_other_namespaces(root.path(), "bpf");
        assert_eq!(others.refused, None);
        let found: Vec<_> = others.mounts.iter().map(|other| (other.pid, other.root.clone())).collect();
        let through = |pid: u32| (pid, root.path().join(format!("proc/{pid}/root")));
        assert_eq!(found, [through(7), through(9)]);
        for OtherMount { mount, .. } in others.mounts {
            assert_eq!((mount.device, mount.point), (makedev(0, 40), "/sys/fs/bpf".into()));
        }
        let nothing = of_other_namespaces(Path::new("/nonexistent"), "bpf");
        assert!(nothing.mounts.is_empty() && nothing.refused.is_some(), "without /proc nothing is known");
    }

    #[test]
    fn proc_is_among_the_mounts_of_this_process() {
        let mounts = read(Path::new("/")).expect("/proc is mounted");
        assert!(mounts.iter().any(|mount| mount.file_system == "proc"));
    }

    proptest! {
        #[test]
        fn malformed_lines_do_not_panic(bytes: Vec<u8>, text in "([0-9a-z/\\\\: -]{0,40}\n){0,4}") {
            parse(&bytes);
            parse(text.as_bytes());
        }
    }
}
