//! `/proc/self/fdinfo` of BPF objects, the only source for their charged memory and for whether a map is frozen.
//!
//! Entry points: [`FdInfo::of`], and [`of_object`] without a descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use crate::model::Kind;
use crate::sys::bpf as sys;
use crate::sys::{Result, failed};

/// The directory with descriptions of this process's descriptors.
const ROOT: &str = "/proc/self/fdinfo";

/// The name of a failed read in issues.
const CALL: &str = "fdinfo";

/// Several times the size of the file for a program or a map (180 to 400 bytes).
const BUFFER_LEN: usize = 2048;

/// The fields of the file that no information structure has.
///
/// Source: `bpf_prog_show_fdinfo` and `bpf_map_show_fdinfo`, `kernel/bpf/syscall.c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FdInfo {
    /// Charged memory, in bytes. Since 6.4 the memory in use, before that the memory of a full map.
    pub(crate) memlock: Option<u64>,
    /// Whether user space can no longer change the map. Since 5.2; `None` for a program.
    pub(crate) frozen: Option<bool>,
}

impl FdInfo {
    /// Reads the fdinfo of an object's descriptor.
    ///
    /// # Errors
    ///
    /// `fdinfo` and `ENOENT` if `/proc` is not mounted, `EMFILE` if no descriptor is left.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        Self::below(Path::new(ROOT), fd).map_err(failed(CALL))
    }

    fn below(root: &Path, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::open(root.join(fd.as_raw_fd().to_string()))?;
        let mut buffer = [0; BUFFER_LEN];
        let text = read(file, &mut buffer)?;
        Ok(Self::parse(text))
    }

    /// Parses complete lines. The number in a truncated line would be another number.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut info = Self::default();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { continue };
            if let Some(value) = line.strip_prefix(b"memlock:") {
                info.memlock = parse_number(value);
            } else if let Some(value) = line.strip_prefix(b"frozen:") {
                info.frozen = parse_number(value).map(|frozen| frozen != 0);
            }
        }
        info
    }
}

/// Opens the object with an id, reads its fdinfo and closes it.
///
/// # Errors
///
/// That of [`sys::fd_by_id`], `ENOENT` if the object was removed; that of [`FdInfo::of`].
pub(crate) fn of_object(kind: Kind, id: u32) -> Result<FdInfo> {
    let fd = sys::fd_by_id(kind, id)?;
    FdInfo::of(fd.as_fd())
}

/// Reads the file with one call. The kernel returns the complete file to the first read that has room for it
/// (`seq_read_iter`, `fs/seq_file.c`).
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

/// Parses a number with leading and trailing blanks.
fn parse_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const MAP: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\nmap_type:\t2\nkey_size:\t4\nvalue_size:\t8\n\
        max_entries:\t1\nmap_flags:\t0x0\nmap_extra:\t0x0\nmemlock:\t18446744073709551615\nmap_id:\t984168\nfrozen:\t1\n\
        owner_prog_type:\t1\nowner_jited:\t1\n";
    const PROGRAM: &str =
        "pos:\t0\nprog_type:\t1\nprog_jited:\t1\nprog_tag:\ta04f5eef06a7f555\nmemlock:\t4096\nprog_id:\t3\n";

    #[test]
    fn lines_of_maps_and_programs_are_parsed() {
        let map = FdInfo { memlock: Some(u64::MAX), frozen: Some(true) };
        assert_eq!(FdInfo::parse(MAP.as_bytes()), map);
        let thawed = MAP.replace("frozen:\t1", "frozen:\t0");
        assert_eq!(FdInfo::parse(thawed.as_bytes()), FdInfo { frozen: Some(false), ..map });
        let program = FdInfo { memlock: Some(4096), frozen: None };
        assert_eq!(FdInfo::parse(PROGRAM.as_bytes()), program);
    }

    #[test]
    fn truncated_and_malformed_numbers_are_unknown() {
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
    fn a_file_is_read_below_a_directory_and_a_missing_file_is_an_error() {
        let root = TempDir::new().expect("a temporary directory can be created");
        let file = File::open(root.path()).expect("the directory exists");
        let fd = file.as_fd();
        let missing = FdInfo::below(root.path(), fd).expect_err("the file does not exist");
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        fs::write(root.path().join(fd.as_raw_fd().to_string()), MAP).expect("the directory is writable");
        let info = FdInfo::below(root.path(), fd).expect("the file exists");
        assert_eq!(info, FdInfo::parse(MAP.as_bytes()));
        let directory = FdInfo::of(fd).expect("an open file has an fdinfo");
        assert_eq!(directory, FdInfo::default(), "a directory is not a BPF object");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(text: Vec<u8>) {
            let _info = FdInfo::parse(&text);
        }

        #[test]
        fn a_truncated_file_gives_the_right_values_or_none(cut in 0..MAP.len()) {
            let (complete, part) = (FdInfo::parse(MAP.as_bytes()), FdInfo::parse(&MAP.as_bytes()[..cut]));
            prop_assert!(part.memlock.is_none() || part.memlock == complete.memlock);
            prop_assert!(part.frozen.is_none() || part.frozen == complete.frozen);
        }
    }
}
