//! `/proc/self/fdinfo` of a BPF object: the only place where the kernel says how much memory is charged for it, and whether a
//! map is frozen. Knows no table and no reader. Begin at [`FdInfo::of`], or at [`of_object`] without a descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use crate::model::Kind;
use crate::sys::bpf as sys;
use crate::sys::{Result, failed};

/// Where the kernel describes this process's descriptors.
const ROOT: &str = "/proc/self/fdinfo";

/// What a failure to read the file is called among the issues.
const CALL: &str = "fdinfo";

/// Several times what the kernel writes of a program or a map (180 to 400 bytes).
const LONGEST: usize = 2048;

/// What the file says that no information structure does.
///
/// Source: `bpf_prog_show_fdinfo` and `bpf_map_show_fdinfo`, `kernel/bpf/syscall.c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FdInfo {
    /// Memory charged for it, in bytes. What is meant moved in 6.4 from the limit to what is in use.
    pub(crate) memlock: Option<u64>,
    /// Whether user space may not change the map any more. Since 5.2; `None` for a program.
    pub(crate) frozen: Option<bool>,
}

impl FdInfo {
    /// What the kernel says of the object behind a descriptor.
    ///
    /// # Errors
    ///
    /// The call by its name and `ENOENT` where `/proc` is not mounted, `EMFILE` without a descriptor left.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        Self::below(Path::new(ROOT), fd).map_err(failed(CALL))
    }

    fn below(root: &Path, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::open(root.join(fd.as_raw_fd().to_string()))?;
        let mut buffer = [0; LONGEST];
        let text = read(file, &mut buffer)?;
        Ok(Self::parse(text))
    }

    /// Understands complete lines, and leaves out the others.
    fn parse(text: &[u8]) -> Self {
        let mut found = Self::default();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            // A number whose end is not there would be another number.
            let Some(line) = line.strip_suffix(b"\n") else { continue };
            if let Some(value) = line.strip_prefix(b"memlock:") {
                found.memlock = number(value);
            } else if let Some(value) = line.strip_prefix(b"frozen:") {
                found.frozen = number(value).map(|frozen| frozen != 0);
            }
        }
        found
    }
}

/// What the kernel says of an object, by its id: opens it, reads, and closes it.
///
/// # Errors
///
/// The call that failed by its name, and why: `ENOENT` of the call that opens it when it is gone.
pub(crate) fn of_object(kind: Kind, id: u32) -> Result<FdInfo> {
    let fd = sys::fd_by_id(kind, id)?;
    FdInfo::of(fd.as_fd())
}

/// Reads as much as there is and has room. The kernel gives the whole file to the first read that has room for it
/// (`seq_read_iter`, `fs/seq_file.c`): a shorter read is the last one.
fn read(mut file: impl Read, buffer: &mut [u8]) -> io::Result<&[u8]> {
    let len = loop {
        match file.read(buffer) {
            Ok(len) => break len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    Ok(&buffer[..len])
}

/// A number behind tabs and blanks.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const MAP: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\nmap_type:\t2\nkey_size:\t4\nvalue_size:\t8\n\
        max_entries:\t1\nmap_flags:\t0x0\nmap_extra:\t0x0\nmemlock:\t18446744073709551615\nmap_id:\t984168\nfrozen:\t1\n\
        owner_prog_type:\t1\nowner_jited:\t1\n";
    const PROGRAM: &str =
        "pos:\t0\nprog_type:\t1\nprog_jited:\t1\nprog_tag:\ta04f5eef06a7f555\nmemlock:\t4096\nprog_id:\t3\n";

    #[test]
    fn the_lines_of_maps_and_programs_are_understood() {
        let map = FdInfo { memlock: Some(u64::MAX), frozen: Some(true) };
        assert_eq!(FdInfo::parse(MAP.as_bytes()), map);
        let thawed = MAP.replace("frozen:\t1", "frozen:\t0");
        assert_eq!(FdInfo::parse(thawed.as_bytes()), FdInfo { frozen: Some(false), ..map });
        let program = FdInfo { memlock: Some(4096), frozen: None };
        assert_eq!(FdInfo::parse(PROGRAM.as_bytes()), program);
    }

    #[test]
    fn what_is_cut_or_no_number_is_not_known() {
        for text in [
            "",
            "memlock:\t40",
            "memlock:\n",
            "memlock:\t-1\n",
            "memlock:\t18446744073709551616\n",
            " memlock:\t1\n",
        ] {
            assert_eq!(FdInfo::parse(text.as_bytes()), FdInfo::default(), "{text:?}");
        }
    }

    #[test]
    fn a_file_is_read_below_a_root_and_a_missing_one_is_an_error() {
        let root = std::env::temp_dir().join(format!("bpf-metrics-exporter-fdinfo-{}", std::process::id()));
        fs::create_dir(&root).expect("a new directory");
        let file = File::open(&root).expect("it is there");
        let fd = file.as_fd();
        let missing = FdInfo::below(&root, fd).expect_err("there is no such file");
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        fs::write(root.join(fd.as_raw_fd().to_string()), MAP).expect("it is ours");
        let found = FdInfo::below(&root, fd).expect("it is there");
        fs::remove_dir_all(&root).expect("it is ours");
        assert_eq!(found, FdInfo::parse(MAP.as_bytes()));
        let this = FdInfo::of(fd).expect("an open file has an fdinfo");
        assert_eq!(this, FdInfo::default(), "a directory is no BPF object");
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(text: Vec<u8>) {
            let _found = FdInfo::parse(&text);
        }

        #[test]
        fn a_cut_file_says_the_truth_or_nothing(cut in 0..MAP.len()) {
            let (whole, part) = (FdInfo::parse(MAP.as_bytes()), FdInfo::parse(&MAP.as_bytes()[..cut]));
            prop_assert!(part.memlock.is_none() || part.memlock == whole.memlock);
            prop_assert!(part.frozen.is_none() || part.frozen == whole.frozen);
        }
    }
}
