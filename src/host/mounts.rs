//! Mounted file systems, from `/proc/PID/mountinfo`.
//!
//! Entry point: [`read`].

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::makedev;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
