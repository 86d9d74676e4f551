//! The unit of `dist/systemd`: what systemd says of it, and the exporter started as the unit says, since the tests do not run below
//! systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use seccompiler::{SeccompAction, SeccompFilter};
use tempfile::TempDir;
use test_support::http;
use test_support::objects::{Herd, wait_until};
use test_support::running::Running;

use super::exporter::{OF_READINGS, SYSLOG, families_of, features_of, reads, threads_of};

const SOON: Duration = Duration::from_secs(30);

/// The highest exposure that is accepted, in tenths. Of it, 0.2 are for `perf_event_open(2)`, without which events have no actors.
const EXPOSURE: &str = "--threshold=21";

/// Any user that is not root, as `DynamicUser=` takes one.
const DYNAMIC_USER: &str = "61184";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/systemd")
}

/// Returns why `systemd-analyze` cannot be asked; `None` where it can.
pub(super) fn analyze_missing() -> Option<String> {
    let version = Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status();
    (!version.is_ok_and(|status| status.success())).then(|| "needs systemd-analyze".to_owned())
}

/// The settings of a unit: the values of each in the order of the file.
fn settings(file: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(directory().join(file)).expect("the unit is there");
    let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once('=')) {
        settings.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    settings
}

pub(crate) fn rated() {
    let copy = TempDir::with_prefix("unit-").expect("a temporary directory can be created");
    for file in ["bpf-metrics-exporter.service", "bpf-metrics-exporter.socket"] {
        let text = fs::read_to_string(directory().join(file)).expect("the unit is there");
        let text =
            text.replace("/usr/local/bin/bpf-metrics-exporter", env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        fs::write(copy.path().join(file), text).expect("there is room");
    }
    let unit = copy.path().join("bpf-metrics-exporter.service");
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(arguments).args(["--no-pager"]).arg(&unit).output().expect("it starts");
        (
            output.status.success(),
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()),
        )
    };
    let (verified, complaints) = analyze(&["verify", "--man=no"]);
    assert!(verified && complaints.concat().is_empty(), "{complaints:?}");
    let (safe, [table, _]) = analyze(&["security", "--offline=yes", EXPOSURE]);
    assert!(table.lines().any(|line| line.contains("exposure level")), "it is not rated: {table}");
    assert!(safe, "{table}");
}

/// The calls that `SystemCallFilter=` permits, by number.
fn permitted_calls(settings: &BTreeMap<String, Vec<String>>) -> BTreeSet<i64> {
    let mut names = BTreeSet::new();
    for line in &settings["SystemCallFilter"] {
        let (is_exclusion, list) = line.strip_prefix('~').map_or((false, &line[..]), |list| (true, list));
        for word in list.split(' ') {
            for call in calls_of(word) {
                if is_exclusion {
                    names.remove(&call)
                } else {
                    names.insert(call)
                };
            }
        }
    }
    names.iter().filter_map(|name| number(name)).collect()
}

/// The calls of a group or a name.
fn calls_of(word: &str) -> Vec<String> {
    if !word.starts_with('@') {
        return vec![word.to_owned()];
    }
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["syscall-filter", "--no-pager", word]).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("it is text");
    let members =
        text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.flat_map(calls_of).collect()
}

/// Returns the number of a call on this processor, which the crate knows by compiling a filter of it.
fn number(name: &str) -> Option<i64> {
    let filter = format!(
        r#"{{"one": {{"mismatch_action": "allow", "match_action": "trap", "filter": [{{"syscall": "{name}"}}]}}}}"#
    );
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let program = seccompiler::compile_from_json(filter.as_bytes(), architecture).ok()?.remove("one")?;
    // What is compared with the number of the call follows its load.
    let load = program.iter().position(|instruction| instruction.code == 0x20 && instruction.k == 0)?;
    let comparison = program[load..].iter().find(|instruction| instruction.code == 0x15)?;
    Some(i64::from(comparison.k))
}

/// What is known only where the kernel shows addresses.
const OF_SYMBOLS: [&str; 2] = ["bpf_program_capability_info", "bpf_owner_capable_programs"];

/// Receives what a service manager would.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).expect("the directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("it is ours");
        socket.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        Self { socket, path }
    }

    /// Waits for a message with a line that begins so, and returns the line and all that were passed over.
    fn wait(&self, start: &str) -> (String, Vec<String>) {
        let mut passed = Vec::new();
        let deadline = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < deadline, "no {start} but {passed:?}");
            let mut buffer = [0; 4096];
            let len = self
                .socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{start}: {error}, after {passed:?}"));
            let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if let Some(line) = message.lines().find(|line| line.starts_with(start)) {
                return (line.to_owned(), passed);
            }
            passed.push(message);
        }
    }
}

/// Starts the exporter as the unit says.
fn start(settings: &BTreeMap<String, Vec<String>>, manager: &Path, listener: TcpListener) -> Running {
    let one = |name: &str| settings[name].last().expect("it has a value").clone();
    let capabilities = one("AmbientCapabilities");
    assert_eq!(capabilities, one("CapabilityBoundingSet"));
    let set = |sign: &str| {
        let names = capabilities.split(' ').map(|name| name.trim_start_matches("CAP_").to_lowercase());
        std::iter::once("-all".to_owned())
            .chain(names.map(|name| format!("{sign}{name}")))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!((&one("DynamicUser")[..], &one("NoNewPrivileges")[..]), ("yes", "yes"));
    let mut command = Command::new("sh");
    // The socket of systemd is descriptor 3. It and the watchdog are for the process with this id.
    command.args(["-c", "LISTEN_PID=$$ WATCHDOG_PID=$$ exec \"$@\" 3<&0 </dev/null", "sh", "setpriv"]);
    command.args(["--reuid", DYNAMIC_USER, "--regid", DYNAMIC_USER, "--clear-groups", "--no-new-privs"]);
    command.args(["--bounding-set", &set("+"), "--inh-caps", &set("+"), "--ambient-caps", &set("+")]);
    command.arg(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.env_clear().env("PATH", std::env::var_os("PATH").expect("tests have one"));
    for variable in &settings["Environment"] {
        let (name, value) = variable.split_once('=').expect("a variable has a value");
        command.env(name, value);
    }
    command.envs([
        ("LISTEN_FDS", "1"),
        ("WATCHDOG_USEC", "2000000"),
        ("BPF_METRICS_EXPORTER_HOOKS_INTERVAL", "1s"),
    ]);
    command.env("NOTIFY_SOCKET", manager).stdin(std::os::fd::OwnedFd::from(listener));
    let calls = permitted_calls(settings);
    assert!(calls.len() > 200, "the groups of systemd are known: {calls:?}");
    // A filter is that of a thread and of its children.
    let spawn = move || {
        let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
        let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
        let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture);
        let program: seccompiler::BpfProgram = filter.and_then(TryInto::try_into).expect("it is a filter");
        seccompiler::apply_filter(&program).expect("a thread may restrict itself");
        Running(command.spawn().expect("it starts"))
    };
    thread::spawn(spawn).join().expect("it starts")
}

pub(crate) fn runs() {
    let _herd = Herd::new(3, 3).expect("root may make them");
    let directory = TempDir::with_prefix("manager-").expect("a temporary directory can be created");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let manager = Manager::new(directory.path());
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let settings = settings("bpf-metrics-exporter.service");
    let exporter = start(&settings, &manager.path, listener);
    let pid = exporter.0.id();
    manager.wait("READY=1");

    let unrestricted = super::exporter::Exporter::start(&["--hooks-interval", "1s"]);
    let mut differing = (BTreeSet::new(), BTreeSet::new());
    let same = wait_until("the unit has the families of root", SOON, || {
        differing = (unrestricted.families(), families_of(address));
        // They need CAP_SYSLOG, unless the kernel shows symbols to everybody.
        for families in [&mut differing.0, &mut differing.1] {
            families.retain(|family| !OF_SYMBOLS.contains(&&**family));
        }
        Ok(differing.0 == differing.1)
    });
    same.unwrap_or_else(|error| {
        let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
            one.difference(other).cloned().collect::<Vec<_>>()
        };
        let (root, unit) = (only(&differing.0, &differing.1), only(&differing.1, &differing.0));
        panic!("{error}: only as root {root:?}, only in the unit {unit:?}")
    });
    let scrape = http::get(address, "/metrics").expect("it serves");
    let (of_root, of_unit) = (features_of(&unrestricted.scrape()), features_of(&scrape));
    let lost: Vec<_> = of_root.difference(&of_unit).collect();
    // The unit says that these are lost, unless the kernel shows symbols to everybody.
    let of_symbols = ["kernel_symbols", "program_capabilities"]
        .map(|feature| format!("bpf_exporter_feature_available{{feature=\"{feature}\"}} 1"));
    assert!(lost.iter().all(|feature| of_symbols.contains(feature)), "{lost:?}");
    for (name, thread) in threads_of(pid) {
        let expected = if reads(&name) { OF_READINGS & !SYSLOG } else { 0 };
        assert_eq!((thread.effective, thread.permitted), (expected, expected), "{name}");
        assert_ne!(thread.filters, Some(1), "{name} has the filter of the unit, and its own");
        assert!(
            thread.no_new_privileges && thread.filtered && thread.uid.to_string() == DYNAMIC_USER,
            "{name}"
        );
    }

    // Nobody scrapes now: the watchdog itself asks for readings.
    let (status, _) = manager.wait("STATUS=");
    assert!(status.contains(" programs, ") && status.contains(" maps, "), "{status}");
    let began = Instant::now();
    for _ in 0..4 {
        manager.wait("WATCHDOG=1");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "each is fed twice in two seconds");

    signal(pid, "HUP");
    let (_, _) = manager.wait("RELOADING=1");
    manager.wait("READY=1");
    signal(pid, "TERM");
    manager.wait("STOPPING=1");
    let mut exporter = exporter;
    let ended = exporter.0.wait().expect("it is a child of this process");
    assert!(ended.success(), "{ended}");
    std::io::stdout().flush().expect("it is open");
}

/// Whether a process handles SIGHUP, the first signal.
fn handles_hang_up(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).expect("Linux has it");
    u64::from_str_radix(caught, 16).expect("it is hexadecimal") & 1 == 1
}

/// SIGHUP during the first reading and after SIGTERM makes nobody believe that the exporter is ready.
pub(crate) fn reloads() {
    let directory = TempDir::with_prefix("manager-").expect("a temporary directory can be created");
    let manager = Manager::new(directory.path());
    // A receiver that accepts nothing: the last export takes its time.
    let receiver = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.args(["--web.listen-address", "127.0.0.1:0", "--otlp-grpc"]);
    command.arg(receiver.local_addr().expect("it listens").to_string());
    command.env("NOTIFY_SOCKET", &manager.path).stdin(Stdio::null());
    let mut exporter = Running(command.spawn().expect("it starts"));
    let pid = exporter.0.id();
    wait_until("it handles SIGHUP", SOON, || Ok(handles_hang_up(pid))).expect("it starts");
    signal(pid, "HUP");
    let (_, passed) = manager.wait("READY=1");
    assert!(passed.is_empty(), "a reload before: {passed:?}");
    signal(pid, "HUP");
    let (_, _) = manager.wait("RELOADING=1");
    manager.wait("READY=1");
    signal(pid, "TERM");
    manager.wait("STOPPING=1");
    signal(pid, "HUP");
    let ended = exporter.0.wait().expect("it is a child of this process");
    assert!(ended.success(), "{ended}");
    manager.socket.set_nonblocking(true).expect("it is a socket");
    let mut buffer = [0; 4096];
    let after =
        manager.socket.recv(&mut buffer).map(|len| String::from_utf8_lossy(&buffer[..len]).into_owned());
    assert!(after.is_err(), "{after:?} after it was said to stop");
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("it starts").success());
}
