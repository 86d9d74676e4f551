//! What is mounted where, from `/proc/PID/mountinfo`. Knows no file system but by its name.
//! Begin at [`read`].

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
    /// Which directory of the file system is seen there.
    pub(crate) root: PathBuf,
    /// Where it is seen.
    pub(crate) point: PathBuf,
    /// Its type: `cgroup2`.
    pub(crate) file_system: String,
    /// What holds for all mounts of this file system: `rw,memory`.
    pub(crate) options: String,
}

/// What this process sees, below `root` in the place of `/`.
///
/// # Errors
///
/// Those of reading a file.
pub(crate) fn read(root: &Path) -> io::Result<Vec<Mount>> {
    read_below(&root.join("proc/self/mountinfo"), root)
}

/// What the first process sees, as far as this one may look at it through `/proc`. From a container that has its own mounts but
/// the processes of the host, that is what the host sees.
///
/// # Errors
///
/// Those of reading a file.
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

/// The lines that are well formed: `36 35 98:0 /root /point options optional... - type source options`.
fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    let (major, minor) = str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = makedev(major.parse::<u32>().ok()?.into(), minor.parse::<u32>().ok()?.into());
    let root = path(fields.next()?);
    let point = path(fields.next()?);
    let mut behind = fields.skip_while(|&field| field != b"-");
    let file_system = String::from_utf8(behind.nth(1)?.to_vec()).ok()?;
    let options = String::from_utf8_lossy(behind.nth(1)?).into_owned();
    Some(Mount { device, root, point, file_system, options })
}

/// A path in which the kernel wrote blanks, line ends and backslashes as `\040`.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| first == b'\\');
        let code = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_field_has_its_place() {
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
    fn this_process_has_a_proc() {
        let mounts = read(Path::new("/")).expect("there is /proc");
        assert!(mounts.iter().any(|mount| mount.file_system == "proc"));
    }

    proptest! {
        #[test]
        fn damaged_lines_are_read_without_harm(bytes: Vec<u8>, text in "([0-9a-z/\\\\: -]{0,40}\n){0,4}") {
            parse(&bytes);
            parse(text.as_bytes());
        }
    }
}
