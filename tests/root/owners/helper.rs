//! Other processes that hold objects of a test: this program in a role. Each writes a line when it is ready, and exits with its
//! standard input or when it is killed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, IoSliceMut, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::{env, thread};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::{Kind, Part, Snapshot};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{Gid, Uid, dup2_stdin, setgroups, setresgid, setresuid};

use super::{SOON, fingerprints, holders, loader, named, readers, sums};
use test_support::objects::{Map, uapi, wait_until};
use test_support::running::Running;

/// Environment variable with the role.
const ROLE: &str = "HOLDS_OBJECTS_AS";

/// Environment variable with the name of the process, if it is not that of this program.
pub(crate) const NAME: &str = "HOLDS_OBJECTS_UNDER_NAME";

/// Starts a process in this role and waits until it is ready.
pub(crate) fn ready(role: &str, stdin: impl Into<Stdio>) -> Running {
    wait_for(itself(role).stdin(stdin))
}

/// Runs this program in this role and returns the snapshots that it writes.
pub(crate) fn snapshots(role: &str) -> Vec<Snapshot> {
    output(itself(role).stdin(Stdio::null()))
}

/// The same as the first process of a pid namespace, with this standard input.
pub(crate) fn snapshots_in_namespace(role: &str, stdin: impl Into<Stdio>) -> Vec<Snapshot> {
    let mut command = itself(role);
    command.stdin(stdin);
    in_namespace(move || output(&mut command))
}

/// Runs `start` so that its processes are in new pid and mount namespaces, the first of them as pid 1. It runs in a thread of its own,
/// whose pid namespace stays.
pub(crate) fn in_namespace<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    let start = || {
        unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS).expect("root may");
        start()
    };
    thread::scope(|scope| scope.spawn(start).join().expect("it starts"))
}

fn output(command: &mut Command) -> Vec<Snapshot> {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("they are snapshots")
}

/// This program in a role.
pub(crate) fn itself(role: &str) -> Command {
    let mut command = Command::new(this());
    command.env(ROLE, role);
    command
}

fn this() -> PathBuf {
    env::current_exe().expect("this program has a path")
}

/// Starts a process and waits until it reports that it is ready.
pub(crate) fn wait_for(command: &mut Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    let child = Running(child);
    BufReader::new(stdout).read_line(&mut line).expect("it writes a line");
    assert_eq!(line, "ready\n");
    child
}

/// Reports that this process is ready.
pub(crate) fn report_ready() {
    let mut stdout = io::stdout();
    stdout.write_all(b"ready\n").and_then(|()| stdout.flush()).expect("the parent reads");
}

/// Plays the role of this process, if it has one.
pub(crate) fn run() -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    if let Some(name) = env::var_os(NAME) {
        let name = CString::new(name.into_vec()).expect("a variable has no zeros");
        prctl::set_name(&name).expect("every process may");
    }
    match &*role {
        "receiver" => receive(),
        "threads" => share_with_threads(),
        "apart" => set_apart(),
        "many" => have_many(),
        "several" => have_several(),
        "crowd" => be_a_crowd(),
        "watcher" => watch(),
        "reader" => read_in_namespace(),
        "nobody" => read_as_nobody(),
        "timed" => write_snapshots(&mut both()),
        "loader" => loader::load(),
        "churn" => sums::churn(),
        "programs" => fingerprints::hold(),
        "scripts" => named::start_scripts(),
        other => panic!("there is no role {other}"),
    }
    Some(ExitCode::SUCCESS)
}

/// One for each backend: iterators where the kernel has them, and the id walk.
fn both() -> [Enricher; 2] {
    [readers::best(), readers::by_ids()]
        .map(|reader| Enricher::new(reader, EnrichOptions::default(), NameCache::default()))
}

pub(crate) fn forever() -> ! {
    loop {
        thread::park();
    }
}

/// Receives descriptors from the socket that is its standard input, and closes that.
fn receive() {
    let socket = io::stdin().as_fd().try_clone_to_owned().expect("there is a descriptor left");
    let socket = UnixStream::from(socket);
    let mut byte = [0];
    let mut room = nix::cmsg_space!([i32; 3]);
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)
            .expect("a message comes");
    let got = message
        .cmsgs()
        .expect("it is complete")
        .any(|part| matches!(part, ControlMessageOwned::ScmRights(descriptors) if !descriptors.is_empty()));
    assert!(got, "a descriptor comes with it");
    drop(socket);
    dup2_stdin(File::open("/dev/null").expect("it is there")).expect("it is open");
    report_ready();
    forever();
}

/// Starts threads that share its descriptors.
fn share_with_threads() {
    for _ in 0..3 {
        thread::spawn(|| forever());
    }
    report_ready();
    forever();
}

/// Opens more descriptors than one pass over a process reads, of objects and of files: 200 maps besides its standard input, each many
/// times, and the last one far after them.
fn have_many() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most.max(20_000), most.max(20_000)).expect("root can raise a limit");
    let maps: Vec<_> = (0..200).map(|_| holders::array()).collect();
    let copies = maps.iter().flat_map(|map| (0..30).map(|_| holders::copy(map.fd())));
    let copies: Vec<_> = copies.collect();
    let others: Vec<_> = (0..13_000).map(|_| File::open("/dev/null").expect("it is there")).collect();
    let last = holders::array();
    report_ready();
    let _held = (maps, copies, others, last);
    forever();
}

/// Opens as many descriptors as a step of the walk reads.
fn have_several() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most.max(5_000), most.max(5_000)).expect("root can raise a limit");
    let _held: Vec<_> = (0..4_500).map(|_| File::open("/dev/null").expect("it is there")).collect();
    report_ready();
    forever();
}

/// Environment variables with the ids of the map and of the process that a watcher looks for.
const WATCHED: [&str; 2] = ["WATCHED_MAP", "WATCHED_PROCESS"];

/// Starts a process that reads with iterators again and again, and writes a line for each reading: `found` if this process holds this
/// map, and nothing is an issue.
pub(crate) fn watcher(map: u32, process: u32) -> Running {
    let mut command = itself("watcher");
    for (name, id) in WATCHED.into_iter().zip([map, process]) {
        command.env(name, id.to_string());
    }
    Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts"))
}

fn watch() {
    let [map, process] = WATCHED.map(|name| env::var(name).expect("it is set").parse().expect("an id"));
    let [mut enricher, _] = both();
    loop {
        let snapshot = enricher.read();
        let found = holders::pids(&holders::holders(&snapshot, Kind::Map, map)).contains(&process);
        let issues: Vec<_> = snapshot.issues.iter().filter(|issue| issue.part == Part::Holder).collect();
        let line = if found && issues.is_empty() { "found".to_owned() } else { format!("lost, {issues:?}") };
        writeln!(io::stdout(), "{line}").expect("the test reads it");
    }
}

/// The name of the maps of a crowd.
pub(crate) const CROWD: &str = "of_a_crowd";
/// Threads of a crowd.
pub(crate) const CROWD_SIZE: usize = 1_500;

/// Starts many threads, each with descriptors of its own and a map that only it has. More than one iteration reads.
fn be_a_crowd() {
    const STACK: usize = 64 << 10;
    let (is_ready, wait) = channel();
    for _ in 0..CROWD_SIZE {
        let is_ready = is_ready.clone();
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            unshare(CloneFlags::CLONE_FILES).expect("it needs no privilege");
            let _map = Map::ready(uapi::map_type::ARRAY, CROWD).expect("it can be made");
            is_ready.send(()).expect("the main thread waits");
            forever();
        });
        thread.expect("there is room for a thread");
        wait.recv().expect("the thread sends");
    }
    report_ready();
    forever();
}

/// Closes its standard input, but for a thread with descriptors of its own.
fn set_apart() {
    let (is_apart, wait) = channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_FILES).expect("it needs no privilege");
        is_apart.send(()).expect("the main thread waits");
        forever();
    });
    wait.recv().expect("the thread sends");
    let null = File::open("/dev/null").expect("it is there");
    dup2_stdin(null).expect("it is open");
    report_ready();
    forever();
}

/// Reads with both backends in a pid namespace, in which another process holds this one's standard input.
fn read_in_namespace() {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may");
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).expect("root may");
    let other = Running(Command::new("sleep").arg("60").spawn().expect("it starts"));
    let name = format!("/proc/{}/comm", other.0.id());
    wait_until("it sleeps", SOON, || Ok(fs::read(&name)? == b"sleep\n")).expect("it does");
    write_snapshots(&mut both());
}

fn write_snapshots(enrichers: &mut [Enricher]) {
    let snapshots: Vec<_> = enrichers.iter_mut().map(Enricher::read).collect();
    let bytes = serde_json::to_vec(&snapshots).expect("a snapshot can be written");
    io::stdout().write_all(&bytes).expect("the parent reads");
}

/// Reads with both backends after it has become nobody.
fn read_as_nobody() {
    const NOBODY: u32 = 65534;
    let mut enrichers = both();
    setgroups(&[]).expect("root may");
    setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY)).expect("root may");
    setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY)).expect("root may");
    write_snapshots(&mut enrichers);
}
