//! Parsers for files in `/proc/PID`: `fdinfo` of a descriptor, `stat`, `cgroup`, and targets of links.
//!
//! Entry point: [`object_of_file`]. Truncated and malformed input gives `None`.

use crate::model::Kind;
use crate::text::printable;

/// The names of files of BPF objects, as targets of links in `/proc/PID/fd`, with the kind of the object.
///
/// Source: the calls of `anon_inode_getfd` and `anon_inode_getfile` in `kernel/bpf/syscall.c` and `btf.c`. A link is spelt with an
/// underscore by the command that creates it (`bpf_link_prime`), and with a hyphen by those that open it by id or pin
/// (`bpf_link_new_fd`). A raw tracepoint was a file of its own before 5.8, without an id of a link: it is no link.
const OBJECT_FILES: [(&[u8], Kind); 5] = [
    (b"anon_inode:bpf-prog", Kind::Program),
    (b"anon_inode:bpf-map", Kind::Map),
    (b"anon_inode:bpf_link", Kind::Link),
    (b"anon_inode:bpf-link", Kind::Link),
    (b"anon_inode:btf", Kind::Btf),
];

/// Returns the kind of a descriptor's BPF object.
pub(crate) fn object_kind(link: &[u8]) -> Option<Kind> {
    OBJECT_FILES.iter().find(|(name, _)| *name == link).map(|&(_, kind)| kind)
}

/// Returns the kind of a descriptor's BPF object, and the key of its id in `fdinfo`: that of a link has its program's id, too.
pub(crate) fn object_of_file(link: &[u8]) -> Option<(Kind, &'static [u8])> {
    let kind = object_kind(link)?;
    let key: &[u8] = match kind {
        Kind::Program => b"prog_id:",
        Kind::Map => b"map_id:",
        Kind::Link => b"link_id:",
        Kind::Btf => b"btf_id:",
    };
    Some((kind, key))
}

/// Returns the number in the first complete line that starts with `key`.
pub(crate) fn object_id(fdinfo: &[u8], key: &[u8]) -> Option<u32> {
    let mut lines = fdinfo.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let value = lines.find_map(|line| line.strip_prefix(key))?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// Returns a field of `/proc/PID/stat` by its number in proc(5), 3 or higher. Field 2 is a name in parentheses, which may itself
/// contain blanks and parentheses.
pub(crate) fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = stat[name_end + 1..].strip_suffix(b"\n")?;
    std::str::from_utf8(fields).ok()?.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// Returns field 22 of `/proc/PID/stat`, the start time in ticks since boot.
pub(crate) fn start_ticks(stat: &[u8]) -> Option<u64> {
    stat_field(stat, 22)
}

/// Returns the path in `/proc/PID/cgroup` of the hierarchy with the memory controller, else of the unified one.
///
/// The lines are `number:controllers:path`, and a path may contain colons. That of a removed cgroup ends with ` (deleted)`.
pub(crate) fn cgroup_path(contents: &[u8]) -> Option<&[u8]> {
    let mut unified = None;
    for line in contents.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(3, |&byte| byte == b':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let path = path.strip_suffix(DELETED).unwrap_or(path);
        if controllers.split(|&byte| byte == b',').any(|controller| controller == b"memory") {
            return Some(path);
        }
        if number == b"0" && controllers.is_empty() {
            unified = Some(path);
        }
    }
    unified
}

/// Returns whether `/proc/PID/cgroup` has hierarchies of cgroup v1.
pub(crate) fn has_v1(contents: &[u8]) -> bool {
    contents.split(|&byte| byte == b'\n').any(|line| !line.is_empty() && !line.starts_with(b"0::"))
}

/// The suffix that the kernel appends to the path of a removed file or directory.
const DELETED: &[u8] = b" (deleted)";

/// Returns the last component of a path as printable text.
pub(crate) fn file_name(path: &[u8]) -> String {
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    printable(path.rsplit(|&byte| byte == b'/').next().unwrap_or(path))
}

#[cfg(test)]
pub(crate) mod examples {
    //! Files of a process as kernels report them.

    pub(crate) const STAT: &str =
        "7 (a b) c) S 1 7 7 0 -1 4194560 123 0 0 0 1 2 0 0 20 0 1 0 2510 4096 0 18446744073709551615\n";
    pub(crate) const LINK: &str = "pos:\t0\nflags:\t02000000\nmnt_id:\t16\nino:\t1038\nlink_type:\ttracing\nlink_id:\t41\n\
        prog_tag:\ta04f5eef06a7f555\nprog_id:\t3\n";
    pub(crate) const HYBRID: &str = "12:pids:/a\n9:cpu,memory:/pod/x:y\n1:name=systemd:/s\n0::/unified\n";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::examples::{HYBRID, LINK, STAT};
    use super::*;

    #[test]
    fn a_link_has_its_own_id_and_not_that_of_its_program() {
        let id_of = |link: &[u8]| {
            object_of_file(link).and_then(|(kind, key)| Some((kind, object_id(LINK.as_bytes(), key)?)))
        };
        assert_eq!(id_of(b"anon_inode:bpf_link"), Some((Kind::Link, 41)));
        assert_eq!(id_of(b"anon_inode:bpf-link"), Some((Kind::Link, 41)), "it was opened by id or pin");
        assert_eq!(id_of(b"anon_inode:bpf-prog"), Some((Kind::Program, 3)));
        assert_eq!(id_of(b"anon_inode:bpf-map"), None);
        assert_eq!(id_of(b"anon_inode:[eventpoll]"), None);
        for wrong in ["", "map_id:\t4", "map_id:\t-4\n", "map_id:\t4294967296\n", "a_map_id:\t4\n"] {
            assert_eq!(object_id(wrong.as_bytes(), b"map_id:"), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_start_time_is_found_after_any_name() {
        assert_eq!(start_ticks(STAT.as_bytes()), Some(2510));
        for name in ["", ") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20", "\\n) R", "((", "\u{fffd}"]
        {
            let stat = STAT.replace("a b) c", name);
            assert_eq!(start_ticks(stat.as_bytes()), Some(2510), "{stat:?}");
        }
        for wrong in ["", "7", "7 (a) S 1\n", "7 (a", "7 a S 1 7 7 0 -1 0 1 0 0 0 1 2 0 0 20 0 1 0 2510 1\n"]
        {
            assert_eq!(start_ticks(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_cgroup_is_that_of_the_memory_controller() {
        for (contents, path) in [
            (HYBRID, Some("/pod/x:y")),
            ("0::/unified\n", Some("/unified")),
            ("1:name=systemd:/s\n0::/unified (deleted)\n", Some("/unified")),
            ("4:memory:/\n", Some("/")),
            ("1:name=systemd:/s\n", None),
            ("5:memory_of:/a\n", None),
            ("", None),
        ] {
            assert_eq!(cgroup_path(contents.as_bytes()), path.map(str::as_bytes), "{contents:?}");
        }
    }

    #[test]
    fn the_file_name_is_the_last_component_of_a_path() {
        for (path, name) in [
            (&b"/usr/bin/agent"[..], "agent"),
            (b"/opt/a b/agent (deleted)", "agent"),
            (b"/memfd:loader (deleted)", "memfd:loader"),
            (b"/opt/\xff", "\\xff"),
            (b"/", ""),
        ] {
            assert_eq!(file_name(path), name);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _fields = (object_id(&bytes, b"map_id:"), start_ticks(&bytes), cgroup_path(&bytes));
            let _names = (file_name(&bytes), object_kind(&bytes));
        }

        #[test]
        fn truncated_files_give_the_right_value_or_none(cut in 0..STAT.len(), part in 0..LINK.len()) {
            prop_assert_eq!(start_ticks(&STAT.as_bytes()[..cut]), None);
            let id = object_id(&LINK.as_bytes()[..part], b"link_id:");
            prop_assert!(id.is_none() || id == Some(41));
        }

        #[test]
        fn any_name_leaves_the_other_fields_intact(name in "\\PC{0,15}", start: u64) {
            let stat = STAT.replace("a b) c", &name).replace("2510", &start.to_string());
            prop_assert_eq!(start_ticks(stat.as_bytes()), Some(start));
        }
    }
}
