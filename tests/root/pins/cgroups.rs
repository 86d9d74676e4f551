//! Paths of the cgroups that maps are charged to: while they exist, after their removal, without `open_by_handle_at`, and in a cgroup
//! namespace.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpf_metrics_exporter::host::cgroups::Cgroups;
use caps::Capability;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::getppid;

use super::found::Without;
use super::scene::Scene;
use super::{again, readers};
use test_support::objects::{Mount, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// Returns where the root of the memory hierarchy is mounted, and whether it is of version 1.
fn hierarchy() -> (PathBuf, bool) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    let lines =
        || mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|line| line[3] == "/");
    let is_v1 = |line: &Vec<&str>| {
        line.contains(&"cgroup")
            && line.last().is_some_and(|options| options.split(',').any(|option| option == "memory"))
    };
    let found = lines().find(is_v1).map(|line| (line[4].into(), true));
    found
        .or_else(|| lines().find(|line| line.contains(&"cgroup2")).map(|line| (line[4].into(), false)))
        .expect("a hierarchy accounts memory")
}

/// A cgroup in that hierarchy, removed when dropped.
struct Group {
    directory: PathBuf,
    path: String,
    id: u64,
}

impl Group {
    fn new(name: &str) -> Self {
        let path = format!("/root-pins-{}-{name}", std::process::id());
        let directory = hierarchy().0.join(path.trim_start_matches('/'));
        fs::create_dir(&directory).expect("root may");
        let id = fs::metadata(&directory).expect("it is there").ino();
        Self { directory, path, id }
    }

    /// Removes it, as soon as it is empty.
    fn remove(&self) {
        let removed = || match fs::remove_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(false),
            removed => removed.map(|()| true),
        };
        wait_until("the cgroup is empty", SOON, removed).expect("it can be removed");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.directory.exists() {
            self.remove();
        }
    }
}

/// Moves this process into a cgroup.
pub(crate) fn enter(directory: &Path) {
    fs::write(directory.join("cgroup.procs"), std::process::id().to_string()).expect("root may");
}

/// Starts a process in a cgroup that loads and pins a map and exits. Returns the map's id.
fn load_in(group: &Group, pin: &Path) -> u32 {
    let mut loader = again("cgroup-loader", &group.directory.join("x")).spawn().expect("it starts");
    let mut stdin = loader.stdin.take().expect("a pipe");
    writeln!(stdin, "{}", pin.display()).expect("it reads");
    let output = loader.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

pub(crate) fn of_maps() {
    let mut reader = readers::by_iterators();
    let scene = Scene::new("of-maps");
    let group = Group::new("of-maps");
    let map = load_in(&group, &scene.at("left"));
    let mut cgroups = Cgroups::default();
    let mut payer = || readers::map(&reader.read(), map).memory_cgroup;
    // In version 2 a cgroup accounts memory only where its parent enables that.
    if !group.directory.join("memory.stat").exists() {
        // An ancestor is charged; the root is not accounted.
        let path = payer().map(|id| cgroups.path(id).expect("it is there"));
        return assert!(path.is_none_or(|path| group.path.starts_with(&*path)));
    }
    let mut pays = || payer().expect("a cgroup is charged");
    let path = cgroups.path(pays()).expect("it is there");
    assert_eq!((&*path, pays()), (&*group.path, group.id), "its loader has exited");
    group.remove();
    for _ in 0..3 {
        cgroups.end_reading();
        assert_eq!(cgroups.path(group.id).as_deref(), Some(&*group.path));
        assert!(Cgroups::default().path(group.id).is_none(), "only the cache knows it");
        // The parent is charged for the rest, at once or later.
        let path = cgroups.path(pays()).expect("it is there, or was seen");
        assert!(group.path.starts_with(&*path), "{path}");
    }
}

pub(crate) fn made_again() {
    let group = Group::new("again");
    let mut cgroups = Cgroups::default();
    let path = cgroups.path(group.id).expect("it is there");
    assert_eq!(*path, *group.path);
    cgroups.end_reading();
    group.remove();
    let again = Group::new("again");
    assert_ne!(again.id, group.id, "ids are not reused");
    for _ in 0..2 {
        assert_eq!(cgroups.path(again.id).as_deref(), Some(&*group.path));
        assert_eq!(cgroups.path(group.id).as_deref(), Some(&*group.path), "its objects may live on");
        cgroups.end_reading();
    }
    assert_eq!(cgroups.path(1).as_deref(), Some("/"));
}

pub(crate) fn listed() {
    let group = Group::new("listed");
    let inner = group.directory.join("inner");
    fs::create_dir(&inner).expect("root may");
    let id = fs::metadata(&inner).expect("it is there").ino();
    {
        let _without = Without::new(&[Capability::CAP_DAC_READ_SEARCH]);
        let mut cgroups = Cgroups::default();
        assert_eq!(cgroups.path(u64::MAX), None);
        assert_eq!(cgroups.path(group.id).as_deref(), Some(&*group.path));
        assert_eq!(cgroups.path(id).as_deref(), Some(&*format!("{}/inner", group.path)));
        assert_eq!(cgroups.path(1).as_deref(), Some("/"));
    }
    fs::remove_dir(inner).expect("it is empty");
}

pub(crate) fn namespace() {
    let group = Group::new("namespace");
    fs::create_dir(group.directory.join("inner")).expect("root may");
    let status = again("cgroup-namespace", &group.directory).status().expect("it runs");
    fs::remove_dir(group.directory.join("inner")).expect("it is empty");
    assert!(status.success(), "the reason is in its output");
}

/// In another process: asserts the paths inside a cgroup namespace.
pub(crate) fn in_namespace(directory: &Path) {
    let (root, is_v1) = hierarchy();
    let path = Path::new("/")
        .join(directory.strip_prefix(&root).expect("it is in the hierarchy"))
        .display()
        .to_string();
    let id = |directory: &Path| fs::metadata(directory).expect("it is there").ino();
    let (outer, inner, own) = (id(&root), id(&directory.join("inner")), id(directory));
    let inner_path = format!("{path}/inner");
    let found = || {
        let mut cgroups = Cgroups::default();
        [outer, own, inner].map(|id| cgroups.path(id).as_deref().map(str::to_owned))
    };
    let all = [Some("/".to_owned()), Some(path.clone()), Some(inner_path)];

    enter(directory);
    crate::unshare_mounts();
    unshare(CloneFlags::CLONE_NEWCGROUP).expect("root may");
    assert_eq!(found(), all, "the host's mounts show all");

    // Only the hierarchy of the namespace is mounted here, and the first process has the host's. A process that this one may
    // certainly read replaces it.
    let first = format!("/proc/{}", getppid());
    mount(Some(&*first), "/proc/1", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("root may");
    let (file_system, options) = if is_v1 { ("cgroup", Some("memory")) } else { ("cgroup2", None) };
    let lines = fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    let points = lines.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    for line in points
        .filter(|line| line.contains(&file_system) && (!is_v1 || line[line.len() - 1].contains("memory")))
    {
        umount2(line[4], MntFlags::MNT_DETACH).expect("root may");
    }
    assert_eq!(found(), all, "the first process shows all");
    mount(Some("cgroup"), &root, Some(file_system), MsFlags::empty(), options).expect("root may");
    assert_eq!(found(), all, "the first process shows more");

    // The first process is hidden.
    umount2("/proc/1", MntFlags::MNT_DETACH).expect("it is ours");
    let _cover = Mount::visible(c"tmpfs", Path::new("/proc/1")).expect("root may");
    assert_eq!(
        found(),
        [None, Some("/".to_owned()), Some("/inner".to_owned())],
        "paths are those of the namespace"
    );
    umount2(&root, MntFlags::MNT_DETACH).expect("root may");
    assert_eq!(found(), [None, None, None]);
}
