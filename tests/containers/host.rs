//! The host of the containers: its programs, its processes and their cgroups, and the names of BPF objects.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use bpf_metrics_exporter::enrich::cgroup::CgroupIdentity;
use bpf_metrics_exporter::kernel::{Reader, ReaderChoice, ReaderOptions};
use bpf_metrics_exporter::model::ReaderKind;

use super::holder;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;
use test_support::objects::wait_until;

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Debian's paths, independent of the environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PROGRAMS: [&str; 6] = ["podman", "conmon", "runc", "containerd", "ctr", "busybox"];

/// Returns which program is not installed.
pub(crate) fn missing() -> Option<String> {
    let is_there = |program: &&str| PATH.split(':').any(|path| Path::new(path).join(program).exists());
    let missing = PROGRAMS.iter().find(|program| !is_there(program))?;
    Some(format!("needs {missing}: see tests/containers/install"))
}

/// A program with an environment of its own.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", "/nonexistent");
    command
}

/// Runs a program and returns its output.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("it is text").trim().to_owned()
}

/// Makes the root of an image with a busybox and nothing else.
pub(crate) fn root_of_image(directory: &Path) -> PathBuf {
    let root = directory.join("image");
    fs::create_dir_all(root.join("bin")).expect("there is room");
    for mounted in ["proc", "dev", "sys", "etc", "tmp", &holder::HOST[1..]] {
        fs::create_dir(root.join(mounted)).expect("there is room");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("it is installed");
    root
}

pub(crate) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the identities from a process's cgroup paths, in all hierarchies; none if it has exited.
pub(crate) fn places(pid: u32) -> Vec<CgroupIdentity> {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return Vec::new() };
    text.lines()
        .map(|line| CgroupIdentity::of(line.splitn(3, ':').nth(2).expect("a line has three parts")))
        .collect()
}

/// Waits until exactly one process is in this container by its cgroup, and returns it.
pub(crate) fn process_in(container: &str) -> u32 {
    let mut found = Vec::new();
    wait_until(&format!("a process is in {container}"), SOON, || {
        let is_in = |pid: &u32| {
            places(*pid).last().is_some_and(|place| place.container.as_deref() == Some(container))
        };
        found = processes().filter(is_in).collect();
        Ok(found.len() == 1)
    })
    .expect("it runs");
    found[0]
}

/// Waits for a map and a program of this name, and asserts that only this process holds them.
pub(crate) fn assert_holds(pid: u32, name: &str) {
    let reader = ReaderChoice::Only(ReaderKind::Walk);
    let mut reader = Reader::new(ReaderOptions { reader, ..ReaderOptions::default() });
    let mut ids = None;
    wait_until(&format!("objects are named {name}"), SOON, || {
        let snapshot = reader.read();
        let map = snapshot.maps.iter().flatten().find(|map| map.facts.name == name);
        let program = snapshot.programs.iter().flatten().find(|program| program.facts.name == name);
        ids = map.zip(program).map(|(map, program)| (map.facts.id, program.facts.id));
        Ok(ids.is_some())
    })
    .expect("the container makes them");
    let (map, program) = ids.expect("it was waited for");
    assert_eq!(holder::holders("map_id", map), [pid]);
    assert_eq!(holder::holders("prog_id", program), [pid]);
}

/// New cgroups at the root, which runtimes leave behind, removed when dropped.
pub(crate) struct Cgroups {
    name: &'static str,
    before: BTreeSet<PathBuf>,
}

impl Cgroups {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, before: Self::roots(name).collect() }
    }

    /// The cgroup of this name in every hierarchy that has it.
    fn roots(name: &str) -> impl Iterator<Item = PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let hierarchies = hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
        let roots: BTreeSet<_> = hierarchies
            .filter_map(|hierarchy| fs::canonicalize(hierarchy.join(name)).ok())
            .filter(|path| path.is_dir())
            .collect();
        roots.into_iter()
    }

    fn remove(path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)?.flatten() {
            if entry.file_type()?.is_dir() {
                Self::remove(&entry.path())?;
            }
        }
        fs::remove_dir(path)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let gone = wait_until(&format!("{} is gone", self.name), SOON, || {
            let mut new = Self::roots(self.name).filter(|path| !self.before.contains(path));
            // It is busy until its last process has exited.
            Ok(new.all(|path| Self::remove(&path).is_ok()))
        });
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

/// A temporary directory, whose removal is checked: a mount or a process that is left there prevents it.
pub(crate) struct Directory(Option<TempDir>);

impl Directory {
    pub(crate) fn new(prefix: &str) -> Self {
        Self(Some(TempDir::with_prefix(prefix).expect("the test directory is writable")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("it is taken by `drop` only").path()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let removed = self.0.take().map(TempDir::close);
        assert!(matches!(removed, Some(Ok(()))) || thread::panicking(), "{removed:?}");
    }
}

/// Unmounts everything below a directory, in the mount namespace of the calling thread.
pub(crate) fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("Linux has /proc");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut below: Vec<_> = points.filter(|point| point.starts_with(directory)).collect();
    below.reverse();
    for point in below {
        output(command("umount").arg("-l").arg(point));
    }
}

/// Runs this in network and mount namespaces of its own, with a `/run` of its own: every port is free there, and interfaces, rules of
/// the firewall and mounts are gone afterwards.
pub(crate) fn isolated(work: impl FnOnce() + Send + 'static) {
    in_namespaces(CloneFlags::CLONE_NEWNET, || {
        output(command("busybox").args(["ip", "link", "set", "lo", "up"]));
        work();
    });
}

/// Runs this in a mount namespace of its own, whose mounts are shared as on a host with systemd, with a `/run` and a `/var/log` of its
/// own.
pub(crate) fn with_shared_mounts(work: impl FnOnce() + Send + 'static) {
    in_namespaces(CloneFlags::empty(), || {
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).expect("root may");
        mount(Some("tmpfs"), "/var/log", Some("tmpfs"), MsFlags::empty(), none).expect("root may");
        work();
    });
}

/// Runs this in a mount namespace and these namespaces of its own, with a `/run` of its own.
fn in_namespaces(further: CloneFlags, work: impl FnOnce() + Send + 'static) {
    // The namespaces of a thread are those of the processes that it starts.
    let thread = thread::spawn(move || {
        unshare(further | CloneFlags::CLONE_NEWNS).expect("root may");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may");
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("root may");
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs this in the network namespace of a process.
pub(crate) fn in_network_of<T: Send>(pid: u32, work: impl FnOnce() -> T + Send) -> T {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).expect("it runs");
    let done = thread::scope(|scope| {
        let there = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
            work()
        });
        there.join()
    });
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Returns the network namespace of the calling thread.
pub(crate) fn network_namespace() -> PathBuf {
    fs::read_link("/proc/thread-self/ns/net").expect("Linux has /proc")
}
