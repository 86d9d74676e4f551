use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{major, minor};

use super::*;

/// A made-up `/` that is gone when the test is over.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cgroups-{name}-{}", std::process::id()));
        for process in ["self", "1"] {
            fs::create_dir_all(path.join("proc").join(process)).expect("it can be made");
        }
        Self(path)
    }

    /// What is mounted: `DEVICE` stands for that of the tree.
    fn mounts(&self, mountinfo: &str) {
        self.mounts_of("self", mountinfo);
    }

    fn mounts_of(&self, process: &str, mountinfo: &str) {
        let device = fs::metadata(&self.0).expect("it is there").dev();
        let device = format!("{}:{}", major(device), minor(device));
        let mountinfo = mountinfo.replace("DEVICE", &device);
        fs::write(self.0.join("proc").join(process).join("mountinfo"), mountinfo).expect("it can be written");
    }

    fn hierarchy_of_memory(&self, number: u32) {
        let text = format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t{number}\t1\t1\n");
        fs::write(self.0.join("proc/cgroups"), text).expect("it can be written");
    }

    /// Makes a directory, and gives back the number of its inode.
    fn make(&self, directory: &str) -> u64 {
        let path = self.0.join(directory);
        fs::create_dir_all(&path).expect("it can be made");
        fs::metadata(path).expect("it is there").ino()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it can be removed");
    }
}

const V1: &str =
    "1 1 DEVICE / /cpu rw - cgroup none rw,cpu\n2 1 DEVICE / /memory rw - cgroup none rw,memory,name=x\n";
const V2: &str = "3 1 DEVICE / /unified rw - cgroup2 none rw\n";

#[test]
fn the_hierarchy_is_that_which_accounts_memory() {
    let tree = Tree::new("hierarchies");
    let ids = ["cpu/a", "memory/b", "unified/c"].map(|directory| tree.make(directory));
    let hybrid = format!("{V1}{V2}");
    let cpu_only = format!("{}{V2}", V1.lines().next().expect("there are two").to_owned() + "\n");
    for (name, mounts, memory, expected) in [
        ("version 1", V1, 4, [None, Some("/b"), None]),
        ("both", &hybrid, 4, [None, Some("/b"), None]),
        ("version 2", V2, 0, [None, None, Some("/c")]),
        ("version 1 without memory", &cpu_only, 0, [None, None, Some("/c")]),
        ("version 1 where it is not mounted", &cpu_only, 4, [None, None, None]),
        ("version 1 below another mount", &V1.replace("DEVICE", "0:0"), 4, [None, None, None]),
        ("nothing", "", 4, [None, None, None]),
    ] {
        tree.mounts(mounts);
        tree.hierarchy_of_memory(memory);
        let mut cgroups = Cgroups::below(&tree.0);
        let found = ids.map(|id| cgroups.path(id));
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{name}");
        let mut unified = Cgroups::unified_below(&tree.0);
        let expected = [None, None, mounts.contains("cgroup2").then_some("/c")];
        let found = ids.map(|id| unified.path(id));
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{name}");
        assert_eq!((cgroups.errors(), unified.errors()), (&[][..], &[][..]), "{name}");
    }
}

#[test]
fn a_cgroup_that_is_gone_keeps_its_path_and_its_name_may_be_anothers() {
    let tree = Tree::new("gone");
    tree.mounts(V2);
    let old = tree.make("unified/a/b");
    let mut cgroups = Cgroups::below(&tree.0);
    let path = cgroups.path(old).expect("it is there");
    // Where it is moved to, nobody looks; its inode is not given to another as long as it is there.
    fs::rename(tree.0.join("unified/a/b"), tree.0.join("elsewhere")).expect("it can be moved");
    let new = tree.make("unified/a/b");
    cgroups.end_reading();
    assert_eq!(cgroups.path(new).as_deref(), Some("/a/b"));
    assert!(Arc::ptr_eq(&path, &cgroups.path(old).expect("it is remembered")));
}

#[test]
fn what_is_not_found_is_looked_for_ever_less_often() {
    let tree = Tree::new("pauses");
    tree.mounts(V2);
    tree.make("unified");
    let mut cgroups = Cgroups::below(&tree.0);
    let looked: Vec<u64> = (0..200_u64)
        .filter(|_| {
            assert_eq!(cgroups.path(u64::MAX), None);
            let looked = cgroups.looked;
            cgroups.end_reading();
            looked
        })
        .collect();
    assert_eq!(looked, [0, 1, 3, 7, 15, 31, 63, 127, 191]);

    // Whoever is new has all listed, and then nobody has to wait.
    let (late, new) = (u64::MAX - 1, tree.make("unified/new"));
    assert_eq!(cgroups.path(late), None);
    cgroups.end_reading();
    assert_eq!(cgroups.path(late), None);
    cgroups.end_reading();
    assert_eq!((cgroups.path(late), cgroups.looked), (None, false));
    assert_eq!(cgroups.path(new).as_deref(), Some("/new"));
    assert!(cgroups.view.as_ref().is_some_and(View::is_listed));
}

#[test]
fn what_nobody_asks_for_any_more_is_forgotten() {
    let tree = Tree::new("forgotten");
    tree.mounts(V2);
    let ids = [tree.make("unified/a"), tree.make("unified/b"), u64::MAX];
    let mut cgroups = Cgroups::below(&tree.0);
    let _found = ids.map(|id| cgroups.path(id));
    for _ in 0..=KEPT_FOR {
        assert_eq!(cgroups.path(ids[1]).as_deref(), Some("/b"));
        cgroups.end_reading();
    }
    assert_eq!(cgroups.known.keys().collect::<Vec<_>>(), [&ids[1]]);
}

#[test]
fn where_nothing_is_mounted_the_first_process_shows_nothing_but_a_whole_hierarchy() {
    let tree = Tree::new("first");
    tree.mounts("");
    tree.mounts_of("1", V2);
    let id = tree.make("proc/1/root/unified/a");
    assert_eq!(Cgroups::below(&tree.0).path(id), None, "its root is not that of a hierarchy");
}

#[test]
fn a_hierarchy_that_cannot_be_read_is_an_issue() {
    let tree = Tree::new("unread");
    let mut cgroups = Cgroups::below(&tree.0);
    assert_eq!(cgroups.path(1), None);
    let mut issues = Issues::default();
    cgroups.record_errors(&mut issues);
    let met: Vec<_> = issues.all().iter().map(|issue| (&*issue.call, &*issue.error)).collect();
    assert_eq!(met, [("mountinfo", "ENOENT")]);
    cgroups.end_reading();
    tree.mounts(V2);
    let id = tree.make("unified/a");
    assert_eq!(cgroups.path(1), None);
    assert_eq!(cgroups.path(id).as_deref(), Some("/a"));
    assert!(cgroups.errors().is_empty());
}

#[test]
fn of_several_mounts_the_one_that_shows_the_most_is_listed() {
    let tree = Tree::new("several");
    let ids = ["whole/c", "namespace/b", "beside/a", "part/d"].map(|directory| tree.make(directory));
    // As a process in a cgroup namespace sees them.
    let mounts = [
        "4 1 DEVICE /../.. /whole rw - cgroup2 none rw\n",
        "3 1 DEVICE / /namespace rw - cgroup2 none rw\n",
        "1 1 DEVICE /../x /beside rw - cgroup2 none rw\n",
        "2 1 DEVICE /y /part rw - cgroup2 none rw\n",
    ];
    let found = [Some("/c"), Some("/b"), Some("/x/a"), Some("/y/d")];
    for best in 0..mounts.len() {
        let mut left = mounts[best..].to_vec();
        left.reverse();
        tree.mounts(&left.concat());
        let mut cgroups = Cgroups::below(&tree.0);
        for number in best..mounts.len() {
            let expected = found[number].filter(|_| number == best);
            assert_eq!(cgroups.path(ids[number]).as_deref(), expected, "{number} of {left:?}");
        }
    }
}
