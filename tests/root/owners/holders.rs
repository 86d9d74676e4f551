//! Holders: the iterator over files and `/proc` report the same, as long as they hold.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, IoSlice, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::{
    Capability, Feature, HeldBy, Kind, OwnerKind, Part, Process, Reason, Snapshot,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tempfile::TempDir;

use super::{SOON, helper, readers};
use test_support::objects::{self, Link, Map, Program, Types, uapi, wait_until};
use test_support::running::Running;

const KINDS: [Kind; 4] = [Kind::Program, Kind::Map, Kind::Link, Kind::Btf];

/// One for each backend for the descriptors of processes. Before 5.17 there is no iterator, since the kernel does not relocate it.
pub(crate) fn enrichers() -> Vec<Enricher> {
    let enricher = |reader| Enricher::new(reader, EnrichOptions::default(), NameCache::default());
    let (iterators, walk) = (readers::best(), readers::by_ids());
    let choice = iterators.choices().iter().find(|choice| choice.part == Part::Holder);
    let refusal = choice.expect("each part has one").reason.clone();
    assert!(refusal.is_none() || readers::version() < (5, 17), "there has to be an iterator: {refusal:?}");
    let iterators = refusal.is_none().then_some(iterators);
    iterators.into_iter().chain([walk]).map(enricher).collect()
}

/// Returns the processes that hold an object, by pid.
pub(crate) fn holders(snapshot: &Snapshot, kind: Kind, id: u32) -> Vec<Process> {
    let all = snapshot.holders.as_ref().expect("root may read them");
    let holders = all.of(kind).iter().filter(|holder| (holder.id, holder.held_by) == (id, HeldBy::Process));
    let mut holders: Vec<_> =
        holders.map(|holder| holder.owner.process.clone().expect("it is one")).collect();
    holders.sort_by_key(|process| process.pid);
    holders
}

pub(super) fn pids(holders: &[Process]) -> Vec<u32> {
    holders.iter().map(|process| process.pid).collect()
}

/// Waits until all backends report that exactly these processes hold an object, and the same of each; returns them. A new process has
/// the name and all descriptors of its parent for a moment.
pub(crate) fn wait_for(
    enrichers: &mut [Enricher],
    kind: Kind,
    id: u32,
    mut wanted: Vec<u32>,
) -> Vec<Process> {
    wanted.sort_unstable();
    let mut found: Vec<Vec<Process>> = Vec::new();
    let agreed = wait_until("the holders are known", SOON, || {
        found = enrichers.iter_mut().map(|enricher| holders(&enricher.read(), kind, id)).collect();
        Ok(pids(&found[0]) == wanted && found.iter().all(|holders| *holders == found[0]))
    });
    agreed.unwrap_or_else(|error| panic!("{error}: {wanted:?}, but {found:?}"));
    found.swap_remove(0)
}

/// Duplicates a descriptor for another process.
pub(crate) fn copy(fd: BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().expect("there is a descriptor left")
}

/// Starts a process that holds its standard input.
pub(crate) fn sleeping(stdin: BorrowedFd<'_>) -> Running {
    let stdin = Stdio::from(copy(stdin));
    Running(Command::new("sleep").arg("60").stdin(stdin).spawn().expect("it starts"))
}

pub(crate) fn array() -> Map {
    Map::ready(uapi::map_type::ARRAY, "held").expect("it can be made")
}

pub(crate) fn shared() {
    let mut enrichers = enrichers();
    let map = array();
    let (one, other) = (sleeping(map.fd()), sleeping(map.fd()));
    let both = wait_for(&mut enrichers, Kind::Map, map.id(), vec![one.0.id(), other.0.id()]);
    for process in &both {
        let executable = fs::read_link(format!("/proc/{}/exe", process.pid)).expect("root may");
        let executable = executable.file_name().and_then(|name| name.to_str()).expect("it has a name");
        assert_eq!((&*process.name, process.executable_name.as_deref()), ("sleep", Some(executable)));
        assert_eq!(process.started_at_boot_ns % 10_000_000, 0, "to the tick of the clock");
    }
    assert!(both[0].started_at_boot_ns > 0);
    let left = other.0.id();
    drop(one);
    wait_for(&mut enrichers, Kind::Map, map.id(), vec![left]);
    drop(other);
    wait_for(&mut enrichers, Kind::Map, map.id(), vec![]);
}

pub(crate) fn every_kind() {
    let mut enrichers = enrichers();
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "held").expect("it can be loaded");
    let map = array();
    let link = Link::cgroup().expect("it can be made");
    let mut types = Types::default();
    types.integer("int", 4);
    let btf = objects::Btf::load(&types).expect("it can be loaded");
    let held = [
        (Kind::Program, program.fd(), program.id()),
        (Kind::Map, map.fd(), map.id()),
        (Kind::Link, link.fd(), link.id()),
        (Kind::Btf, btf.fd(), btf.id()),
    ];
    for (kind, fd, id) in held {
        let holder = sleeping(fd);
        wait_for(&mut enrichers, kind, id, vec![holder.0.id()]);
        drop(holder);
        wait_for(&mut enrichers, kind, id, vec![]);
    }
    // One process with two of them, one of them twice.
    let mut holder = Command::new("sleep");
    holder.arg("60").stdin(copy(map.fd())).stdout(copy(map.fd())).stderr(copy(link.fd()));
    let holder = Running(holder.spawn().expect("it starts"));
    wait_for(&mut enrichers, Kind::Map, map.id(), vec![holder.0.id()]);
    wait_for(&mut enrichers, Kind::Link, link.id(), vec![holder.0.id()]);
}

pub(crate) fn sent() {
    let mut enrichers = enrichers();
    let map = array();
    let id = map.id();
    let (ours, its) = UnixStream::pair().expect("it can be made");
    let rights = [map.fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)
        .expect("there is room");
    // Only the message holds it.
    drop(map);
    wait_for(&mut enrichers, Kind::Map, id, vec![]);
    assert!(objects::Kind::Map.exists(id).expect("root may query it"), "it is in flight");
    let receiver = helper::ready("receiver", OwnedFd::from(its));
    wait_for(&mut enrichers, Kind::Map, id, vec![receiver.0.id()]);
    drop(receiver);
    wait_for(&mut enrichers, Kind::Map, id, vec![]);
    objects::wait_until_gone(objects::Kind::Map, &[id], SOON).expect("nothing holds it");
}

pub(crate) fn threads() {
    let mut enrichers = enrichers();
    let map = array();
    // Threads that share the descriptors of their process, and one that alone has a descriptor that its process closed.
    for role in ["threads", "apart"] {
        let holder = helper::ready(role, copy(map.fd()));
        let threads = fs::read_dir(format!("/proc/{}/task", holder.0.id())).expect("it runs").count();
        assert!(threads > 1, "it has threads");
        wait_for(&mut enrichers, Kind::Map, map.id(), vec![holder.0.id()]);
    }
    wait_for(&mut enrichers, Kind::Map, map.id(), vec![]);
}

pub(crate) fn many_descriptors() {
    let map = array();
    let holder = helper::ready("many", copy(map.fd()));
    // The iterator detects its own operations while it runs, after all of these.
    let mut enrichers = enrichers();
    if let [iterators, _] = &mut enrichers[..] {
        own_only_what_is_kept(iterators);
    }
    wait_for(&mut enrichers, Kind::Map, map.id(), vec![holder.0.id()]);
    for enricher in &mut enrichers {
        let snapshot = enricher.read();
        let maps = &snapshot.holders.as_ref().expect("root may read them").maps;
        let held = |id| pids(&holders(&snapshot, Kind::Map, id)).contains(&holder.0.id());
        let ids: BTreeSet<u32> = maps.iter().map(|holder| holder.id).filter(|&id| held(id)).collect();
        assert_eq!(ids.len(), 202, "its standard input, 200 maps and the last one");
    }
}

pub(crate) fn pid_namespace() {
    let mut enrichers = enrichers();
    let map = array();
    let inside = helper::in_namespace(|| sleeping(map.fd()));
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).expect("root may");
    assert_ne!(namespace(&inside.0.id().to_string()), namespace("self"));
    wait_for(&mut enrichers, Kind::Map, map.id(), vec![inside.0.id()]);
    drop(inside);
    wait_for(&mut enrichers, Kind::Map, map.id(), vec![]);
}

pub(crate) fn within_pid_namespace() {
    let map = array();
    let outside = sleeping(map.fd());
    let seen = wait_for(&mut enrichers(), Kind::Map, map.id(), vec![outside.0.id()]);
    let snapshots = helper::snapshots_in_namespace("reader", copy(map.fd()));
    let [iterators, walk] = &snapshots[..] else { panic!("there are two backends") };
    let by_proc = holders(walk, Kind::Map, map.id());
    let [inside] = &by_proc[..] else { panic!("only the sleep in the namespace, not {by_proc:?}") };
    assert!(inside.pid < 10, "it is one of the first in its namespace: {inside:?}");
    if readers::version() < (5, 17) {
        return;
    }
    // Each with its pid in the initial namespace, and nothing of it from this `/proc`.
    let mut by_iterator = holders(iterators, Kind::Map, map.id());
    let this = std::process::id();
    assert!(by_iterator.iter().any(|process| process.pid == this), "{by_iterator:?}");
    // Children of this process that have not executed another program yet.
    by_iterator.retain(|process| process.name == "sleep");
    assert_eq!(by_iterator.len(), 2, "{by_iterator:?}");
    assert!(by_iterator.contains(&seen[0]), "{by_iterator:?}");
    let other = by_iterator.iter().find(|process| **process != seen[0]).expect("there are two");
    assert!(other.pid > inside.pid, "{other:?}");
    assert_eq!(*other, Process { pid: other.pid, ..inside.clone() });
}

/// Returns a directory for copies of `sleep`, which may be executed.
fn copies() -> TempDir {
    TempDir::new().expect("a temporary directory can be created")
}

/// Copies `sleep` and runs it as `name`, with this standard input. Returns once it runs.
fn sleep_as(directory: &TempDir, name: &str, stdin: BorrowedFd<'_>) -> (PathBuf, Running) {
    let path = directory.path().join(name);
    if !path.exists() {
        fs::copy("/bin/sleep", &path).expect("there is room");
    }
    let mut command = Command::new(&path);
    // One of busybox has several names.
    command.arg0("sleep").arg("60").stdin(Stdio::from(copy(stdin)));
    let running = Running(command.spawn().expect("it starts"));
    (path, running)
}

pub(crate) fn executables() {
    let mut enrichers = enrichers();
    let (map, directory) = (array(), copies());
    let executable = |process: &Process| process.executable_name.clone().expect("it has one");
    let mut found = |running: &Running| {
        let found = wait_for(&mut enrichers, Kind::Map, map.id(), vec![running.0.id()]);
        executable(&found[0])
    };
    // The longest name that a file can have.
    let longest = "x".repeat(255);
    let (_, running) = sleep_as(&directory, &longest, map.fd());
    assert_eq!(found(&running), longest);
    drop(running);

    let (path, running) = sleep_as(&directory, "deleted \u{fc}", map.fd());
    fs::remove_file(path).expect("the directory is writable");
    assert_eq!(found(&running), "deleted \u{fc}");
    drop(running);

    let none: Option<&str> = None;
    let (beneath, mounted) = (directory.path().join("beneath"), directory.path().join("mounted"));
    for path in [&beneath, &mounted] {
        fs::copy("/bin/sleep", path).expect("there is room");
    }
    // In a mount namespace of this binary.
    mount(Some(&beneath), &mounted, none, MsFlags::MS_BIND, none).expect("root may");
    let (_, running) = sleep_as(&directory, "mounted", map.fd());
    assert_eq!(found(&running), "mounted");
    drop(running);
    umount2(&mounted, MntFlags::MNT_DETACH).expect("it is mounted");
}

pub(crate) fn crowd() {
    let mut enrichers = enrichers();
    let holder = helper::ready("crowd", Stdio::null());
    for enricher in &mut enrichers {
        let snapshot = enricher.read();
        let named = snapshot.maps.iter().flatten().filter(|map| &*map.facts.name == helper::CROWD);
        let ids: BTreeSet<u32> = named.map(|map| map.facts.id).collect();
        let holders = &snapshot.holders.as_ref().expect("root may read them").maps;
        let of_crowd = holders.iter().filter(|held| {
            let process = held.owner.process.as_ref();
            ids.contains(&held.id) && process.is_some_and(|process| process.pid == holder.0.id())
        });
        assert_eq!(of_crowd.count(), helper::CROWD_SIZE, "each thread has a map of its own");
    }
}

/// Sends a signal to a process.
fn signal(pid: u32, name: &str) {
    let kill = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(kill.expect("there is a shell").success(), "it runs");
}

pub(crate) fn interrupted() {
    const ROUNDS: usize = 4;
    const ENDING: usize = 40;
    let map = array();
    for _ in 0..ROUNDS {
        // They take several iterations to read.
        let mut ending: Vec<_> = (0..ENDING).map(|_| helper::ready("several", copy(map.fd()))).collect();
        let last = sleeping(map.fd());
        wait_until("it sleeps", SOON, || Ok(fs::read(format!("/proc/{}/comm", last.0.id()))? == b"sleep\n"))
            .expect("it does");
        let mut watcher = helper::watcher(map.id(), last.0.id());
        let pid = watcher.0.id();
        let mut lines = BufReader::new(watcher.0.stdout.take().expect("a pipe")).lines();
        let mut assert_found = || {
            let line = lines.next().expect("it reads again").expect("it writes text");
            assert_eq!(line, "found");
        };
        assert_found();
        let continues = AtomicBool::new(false);
        thread::scope(|scope| {
            // Also if an assertion fails: the thread ends with the test.
            let end = End(&continues);
            let readings = scope.spawn(|| {
                while !continues.load(Ordering::Relaxed) {
                    assert_found();
                }
                // The reading that was stopped, and one after it.
                assert_found();
                assert_found();
            });
            // Stopped between two calls of read(2), in most rounds in the middle of a walk.
            signal(pid, "STOP");
            let stat = format!("/proc/{pid}/stat");
            wait_until("it is stopped", SOON, || Ok(fs::read_to_string(&stat)?.contains(") T ")))
                .expect("it is");
            ending.drain(..).for_each(drop);
            drop(end);
            signal(pid, "CONT");
            readings.join().expect("the last process is found");
        });
    }
}

/// Returns the ids of the objects that this process is reported to hold, by kind.
fn own(snapshot: &Snapshot) -> [BTreeSet<u32>; 4] {
    let holders = snapshot.holders.as_ref().expect("root may read them");
    let pid = std::process::id();
    KINDS.map(|kind| {
        let own = holders.of(kind).iter();
        let own =
            own.filter(|holder| holder.owner.process.as_ref().is_some_and(|process| process.pid == pid));
        own.map(|holder| holder.id).collect()
    })
}

fn own_only_what_is_kept(iterators: &mut Enricher) {
    let snapshot = iterators.read();
    let [programs, maps, links, btfs] = own(&snapshot);
    // Before 5.19 there are those over descriptors and over file systems.
    let (parameters, iterators): (&[&str], _) = match readers::version() {
        version if version < (5, 19) => (&["bpfmetrics_walk"], 2),
        // A table of programs and one of maps have a pass as well.
        _ => (&["bpfmetrics_cpus", "bpfmetrics_req", "bpfmetrics_walk"], 7),
    };
    assert_eq!((programs.len(), maps.len(), links.len(), btfs.len()), (0, parameters.len(), iterators, 0));
    for map in snapshot.maps.iter().flatten().filter(|map| maps.contains(&map.facts.id)) {
        assert!(parameters.contains(&&*map.facts.name), "{}", map.facts.name);
    }
    for link in snapshot.links.iter().flatten().filter(|link| links.contains(&link.facts.id)) {
        assert_eq!(link.facts.link_type.name.as_deref(), Some("iter"));
    }
}

/// Sets a flag when dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn own_objects() {
    let mut enrichers = enrichers();
    // Neither descriptors that are open for a moment count, nor those kept for other purposes.
    let map = array();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut ids = readers::by_ids();
            while !ended.load(Ordering::Relaxed) {
                ids.read();
            }
        });
        // Also if an assertion fails: the thread ends with the test.
        let _end = End(&ended);
        for _ in 0..20 {
            let walk = enrichers.last_mut().expect("there is one").read();
            assert!(own(&walk).iter().all(BTreeSet::is_empty), "a walk keeps nothing");
            if let [iterators, _] = &mut enrichers[..] {
                own_only_what_is_kept(iterators);
            }
        }
    });
    assert!(holders(&enrichers[0].read(), Kind::Map, map.id()).is_empty());
}

pub(crate) fn executed() {
    let mut enrichers = enrichers();
    let map = array();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "echo ready; read line; exec /bin/sleep 60"])
        .stdin(Stdio::piped())
        .stderr(copy(map.fd()));
    let mut shell = helper::wait_for(&mut shell);
    let before = wait_for(&mut enrichers, Kind::Map, map.id(), vec![shell.0.id()]);
    assert_eq!(before[0].name, "sh");
    shell.0.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
    let mut after = Vec::new();
    wait_until("it is another program", SOON, || {
        after = enrichers.iter_mut().map(|enricher| holders(&enricher.read(), Kind::Map, map.id())).collect();
        Ok(after.iter().all(|holders| holders.iter().any(|process| process.name == "sleep")))
    })
    .expect("it executes it");
    let executable = fs::read_link(format!("/proc/{}/exe", shell.0.id())).expect("root may");
    let executable = executable.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    for holders in after {
        assert_eq!(
            holders,
            [Process { name: "sleep".to_owned(), executable_name: executable.clone(), ..before[0].clone() }]
        );
    }
}

pub(crate) fn given_up() {
    let map = array();
    let holder = sleeping(map.fd());
    let known = wait_for(&mut enrichers(), Kind::Map, map.id(), vec![holder.0.id()]);
    let snapshots = helper::snapshots("nobody");
    let [iterators, walk] = &snapshots[..] else { panic!("there are two backends") };
    let success = |snapshot: &Snapshot| {
        let holder = snapshot.collectors.iter().find(|collector| collector.part == Part::Holder);
        holder.expect("it is reported").success
    };
    // Before 5.19 a process without privileges may not read an iterator either.
    if readers::version() >= (5, 19) {
        let found = holders(iterators, Kind::Map, map.id());
        assert!(found.contains(&known[0]), "{found:?}");
        assert!(success(iterators));
    }
    assert!(holders(walk, Kind::Map, map.id()).is_empty());
    assert!(success(walk), "what the granted rights allow was read: {:?}", walk.issues);
    let reason = |snapshot: &Snapshot, feature| snapshot.feature(feature).and_then(|state| state.reason);
    assert_eq!(reason(walk, Feature::Processes), Some(Reason::Missing(Capability::SysPtrace)));
    assert!(walk.totals.iter().all(|total| total.orphaned.is_none()), "somebody may hold them");
    let found = walk.maps.iter().flatten().find(|found| found.facts.id == map.id());
    let owner = found.and_then(|found| found.owner.as_ref());
    assert!(owner.is_none_or(|owner| owner.kind() != OwnerKind::Kernel), "{owner:?}");
}
