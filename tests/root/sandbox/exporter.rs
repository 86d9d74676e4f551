//! The running exporter, and what the kernel says of its threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use test_support::http;
use test_support::running::Running;

/// The capabilities that readings need once the iterators are loaded: `SYSLOG`, `SYS_ADMIN`, `SYS_PTRACE`, `NET_ADMIN` and
/// `DAC_READ_SEARCH`.
pub(super) const OF_READINGS: u64 = SYSLOG | 1 << 21 | 1 << 19 | 1 << 12 | 1 << 2;

/// That which the unit does not grant.
pub(super) const SYSLOG: u64 = 1 << 34;

/// An exporter that serves metrics.
pub(super) struct Exporter {
    running: Running,
    address: SocketAddr,
    /// Its log until it serves.
    pub(super) log: Vec<String>,
}

/// What `/proc/PID/task/TID/status` says of a thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) uid: u32,
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) bounding: u64,
    pub(super) no_new_privileges: bool,
    pub(super) filtered: bool,
    /// How many filters it has. Since 5.9.
    pub(super) filters: Option<u32>,
}

impl Exporter {
    /// Starts the program with these arguments, and waits until it serves.
    pub(super) fn start(arguments: &[&str]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        let quiet = ["--otlp-grpc", "none", "--web.listen-address", "127.0.0.1:0"];
        Self::spawn(program, &[&quiet, arguments].concat())
    }

    /// Starts a command, which is or becomes the program, with these arguments, and waits until it serves.
    pub(super) fn spawn(mut command: Command, arguments: &[&str]) -> Self {
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().expect("it starts"));
        let stderr = BufReader::new(running.0.stderr.take().expect("a pipe"));
        let mut log = Vec::new();
        for line in stderr.lines() {
            let line = line.expect("the log is text");
            let url = line.split_once("http://").map(|(_, url)| url.trim_end_matches("/metrics").to_owned());
            log.push(line);
            if let Some(url) = url {
                return Self { running, address: url.parse().expect("an address"), log };
            }
        }
        panic!("it does not serve: {log:#?}");
    }

    /// Returns the id of its process.
    pub(super) fn id(&self) -> u32 {
        self.running.0.id()
    }

    /// Returns a scrape.
    pub(super) fn scrape(&self) -> String {
        http::get(self.address, "/metrics").expect("it serves")
    }

    /// Returns the names of all metric families.
    pub(super) fn families(&self) -> BTreeSet<String> {
        families_of(self.address)
    }

    /// Returns the line of the log that describes the sandbox.
    pub(super) fn sandbox(&self) -> &str {
        let line = self.log.iter().find_map(|line| line.split_once("sandbox: "));
        line.expect("it is logged").1
    }

    /// As [`threads_of`].
    pub(super) fn threads(&self) -> Vec<(String, Thread)> {
        threads_of(self.running.0.id())
    }
}

/// Families that begin with the first program that is loaded or unloaded while the exporter runs.
const OF_CHANGES: [&str; 3] =
    ["bpf_program_loads_total", "bpf_program_unloads_total", "bpf_program_lifetime_seconds"];

/// Returns the names of all metric families in a scrape, without those of changes.
pub(super) fn families_of(address: SocketAddr) -> BTreeSet<String> {
    let scrape = http::get(address, "/metrics").expect("it serves");
    let families = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    families.filter(|family| !OF_CHANGES.contains(family)).map(str::to_owned).collect()
}

/// Returns the series of features in a scrape.
pub(super) fn features_of(scrape: &str) -> BTreeSet<String> {
    let available = scrape.lines().filter(|line| line.starts_with("bpf_exporter_feature_available{"));
    available.map(str::to_owned).collect()
}

/// Returns the directories of the threads of a process.
fn tasks_of(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks.flatten().map(|task| task.path().to_string_lossy().into_owned()).collect()
}

/// Returns the threads of a process with their names.
pub(super) fn threads_of(pid: u32) -> Vec<(String, Thread)> {
    let describe = |task: String| {
        // A scan may end meanwhile.
        let name = fs::read_to_string(format!("{task}/comm")).ok()?.trim().to_owned();
        let status = fs::read_to_string(format!("{task}/status")).ok()?;
        let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
        let set = |field: &str| u64::from_str_radix(fields[field], 16).expect("it is hexadecimal");
        let uid = fields["Uid"].split('\t').next().expect("there are four");
        let thread = Thread {
            uid: uid.parse().expect("a number"),
            effective: set("CapEff"),
            permitted: set("CapPrm"),
            bounding: set("CapBnd"),
            no_new_privileges: fields["NoNewPrivs"] == "1",
            filtered: fields["Seccomp"] == "2",
            filters: fields.get("Seccomp_filters").and_then(|filters| filters.parse().ok()),
        };
        Some((name, thread))
    };
    tasks_of(pid).into_iter().filter_map(describe).collect()
}

/// Returns whether a thread takes readings or scans, or follows the kernel's records.
pub(super) fn reads(name: &str) -> bool {
    ["reading", "events", "pins", "hooks", "netns", "run statistics"].contains(&name)
}
