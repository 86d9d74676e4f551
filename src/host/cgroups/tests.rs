use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{major, minor};
use tempfile::TempDir;

use super::*;

/// A temporary directory in place of `/`.
struct CgroupTree(TempDir);

impl CgroupTree {
    fn new() -> Self {
        let root = TempDir::new().expect("a temporary directory can be created");
        for process in ["self", "1"] {
            fs::create_dir_all(root.path().join("proc").join(process)).expect("the directory is writable");
        }
        Self(root)
    }

    /// Writes the mounts of this process; `DEVICE` is replaced by the device of the tree.
    fn mounts(&self, mountinfo: &str) {
        self.mounts_of("self", mountinfo);
    }

    fn mounts_of(&self, process: &str, mountinfo: &str) {
        let device = fs::metadata(self.0.path()).expect("the directory exists").dev();
        let device = format!("{}:{}", major(device), minor(device));
        let mountinfo = mountinfo.replace("DEVICE", &device);
        fs::write(self.0.path().join("proc").join(process).join("mountinfo"), mountinfo)
            .expect("the directory is writable");
    }

    /// Writes the number of the hierarchy that accounts memory.
    fn memory_hierarchy(&self, number: u32) {
        let text = format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t{number}\t1\t1\n");
        fs::write(self.0.path().join("proc/cgroups"), text).expect("the directory is writable");
    }

    /// Creates a directory, and returns its inode number.
    fn make(&self, directory: &str) -> u64 {
        let path = self.0.path().join(directory);
        fs::create_dir_all(&path).expect("the directory is writable");
        fs::metadata(path).expect("the directory exists").ino()
    }
}

const V1: &str =
    "1 1 DEVICE / /cpu rw - cgroup none rw,cpu\n2 1 DEVICE / /memory rw - cgroup none rw,memory,name=x\n";
const V2: &str = "3 1 DEVICE / /unified rw - cgroup2 none rw\n";

#[test]
fn paths_are_those_of_the_hierarchy_that_accounts_memory() {
    let tree = CgroupTree::new();
    let ids = ["cpu/a", "memory/b", "unified/c"].map(|directory| tree.make(directory));
    let hybrid = format!("{V1}{V2}");
    let cpu_only = format!("{}{V2}", V1.lines().next().expect("it has two lines").to_owned() + "\n");
    for (name, mounts, memory, expected) in [
        ("version 1", V1, 4, [None, Some("/b"), None]),
        ("both", &hybrid, 4, [None, Some("/b"), None]),
        ("version 2", V2, 0, [None, None, Some("/c")]),
        ("version 1 without memory", &cpu_only, 0, [None, None, Some("/c")]),
        ("version 1, memory not mounted", &cpu_only, 4, [None, None, None]),
        ("version 1 below another mount", &V1.replace("DEVICE", "0:0"), 4, [None, None, None]),
        ("nothing", "", 4, [None, None, None]),
    ] {
        tree.mounts(mounts);
        tree.memory_hierarchy(memory);
        let mut cgroups = Cgroups::below(tree.0.path());
        let found = ids.map(|id| cgroups.path(id));
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{name}");
        let mut unified = Cgroups::unified_below(tree.0.path());
        let expected = [None, None, mounts.contains("cgroup2").then_some("/c")];
        let found = ids.map(|id| unified.path(id));
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{name}");
        assert!(cgroups.errors().is_empty() && unified.errors().is_empty(), "{name}");
    }
}

#[test]
fn a_removed_cgroup_keeps_its_path_while_another_has_the_same() {
    let tree = CgroupTree::new();
    tree.mounts(V2);
    let old = tree.make("unified/a/b");
    let mut cgroups = Cgroups::below(tree.0.path());
    let path = cgroups.path(old).expect("the directory exists");
    // Moved out of the hierarchy, the directory still occupies its inode number.
    fs::rename(tree.0.path().join("unified/a/b"), tree.0.path().join("elsewhere"))
        .expect("the directory is writable");
    let new = tree.make("unified/a/b");
    cgroups.end_reading();
    assert_eq!(cgroups.path(new).as_deref(), Some("/a/b"));
    assert!(Arc::ptr_eq(&path, &cgroups.path(old).expect("the path is cached")));
}

#[test]
fn missing_ids_are_looked_up_ever_less_often() {
    let tree = CgroupTree::new();
    tree.mounts(V2);
    tree.make("unified");
    let mut cgroups = Cgroups::below(tree.0.path());
    let lookups: Vec<u64> = (0..200_u64)
        .filter(|_| {
            assert_eq!(cgroups.path(u64::MAX), None);
            let view_opened = cgroups.view_opened;
            cgroups.end_reading();
            view_opened
        })
        .collect();
    assert_eq!(lookups, [0, 1, 3, 7, 15, 31, 63, 127, 191]);

    // A new id has all cgroups listed, which ends the pauses of the others.
    let (late, new) = (u64::MAX - 1, tree.make("unified/new"));
    assert_eq!(cgroups.path(late), None);
    cgroups.end_reading();
    assert_eq!(cgroups.path(late), None);
    cgroups.end_reading();
    assert_eq!((cgroups.path(late), cgroups.view_opened), (None, false));
    assert_eq!(cgroups.path(new).as_deref(), Some("/new"));
    assert!(cgroups.view.as_ref().is_some_and(CgroupView::is_listed));
}

#[test]
fn unused_paths_are_dropped_from_the_cache() {
    let tree = CgroupTree::new();
    tree.mounts(V2);
    let ids = [tree.make("unified/a"), tree.make("unified/b"), u64::MAX];
    let mut cgroups = Cgroups::below(tree.0.path());
    let _found = ids.map(|id| cgroups.path(id));
    for _ in 0..=KEPT_FOR {
        assert_eq!(cgroups.path(ids[1]).as_deref(), Some("/b"));
        cgroups.end_reading();
    }
    assert_eq!(cgroups.cache.keys().collect::<Vec<_>>(), [&ids[1]]);
}

#[test]
fn mounts_of_the_first_process_are_used_only_for_a_complete_hierarchy() {
    let tree = CgroupTree::new();
    tree.mounts("");
    tree.mounts_of("1", V2);
    let id = tree.make("proc/1/root/unified/a");
    assert_eq!(Cgroups::below(tree.0.path()).path(id), None, "the mount's root is not that of a hierarchy");
}

#[test]
fn an_unreadable_hierarchy_is_an_issue() {
    let tree = CgroupTree::new();
    let mut cgroups = Cgroups::below(tree.0.path());
    assert_eq!(cgroups.path(1), None);
    let mut issues = Issues::default();
    cgroups.record_errors(&mut issues);
    let recorded: Vec<_> = issues.all().iter().map(|issue| (&*issue.call, &*issue.error)).collect();
    assert_eq!(recorded, [("mountinfo", "ENOENT")]);
    cgroups.end_reading();
    tree.mounts(V2);
    let id = tree.make("unified/a");
    assert_eq!(cgroups.path(1), None);
    assert_eq!(cgroups.path(id).as_deref(), Some("/a"));
    assert!(cgroups.errors().is_empty());
}

#[test]
fn the_mount_that_shows_most_of_the_hierarchy_is_listed() {
    let tree = CgroupTree::new();
    let ids = ["complete/c", "namespace/b", "beside/a", "part/d"].map(|directory| tree.make(directory));
    // As seen from inside a cgroup namespace.
    let mounts = [
        "4 1 DEVICE /../.. /complete rw - cgroup2 none rw\n",
        "3 1 DEVICE / /namespace rw - cgroup2 none rw\n",
        "1 1 DEVICE /../x /beside rw - cgroup2 none rw\n",
        "2 1 DEVICE /y /part rw - cgroup2 none rw\n",
    ];
    let found = [Some("/c"), Some("/b"), Some("/x/a"), Some("/y/d")];
    for best in 0..mounts.len() {
        let mut left = mounts[best..].to_vec();
        left.reverse();
        tree.mounts(&left.concat());
        let mut cgroups = Cgroups::below(tree.0.path());
        for number in best..mounts.len() {
            let expected = found[number].filter(|_| number == best);
            assert_eq!(cgroups.path(ids[number]).as_deref(), expected, "{number} of {left:?}");
        }
    }
}
