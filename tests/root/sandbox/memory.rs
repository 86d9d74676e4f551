//! The exporter in a cgroup with little memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use test_support::objects::Herd;

use super::exporter::Exporter;

/// Where the controller of memory is: in a hierarchy of its own, or in the unified one.
const OWN_HIERARCHY: &str = "/sys/fs/cgroup/memory";
const UNIFIED: &str = "/sys/fs/cgroup";

/// The files of a controller: the limit, the highest use, and the counters.
struct Names {
    limit: &'static str,
    peak: &'static str,
    /// Has a line `oom_kill N`.
    events: &'static str,
}

const OF_OWN_HIERARCHY: Names =
    Names { limit: "memory.limit_in_bytes", peak: "memory.max_usage_in_bytes", events: "memory.oom_control" };
const OF_UNIFIED: Names = Names { limit: "memory.max", peak: "memory.peak", events: "memory.events" };

/// Returns the parent of a new cgroup, and the names of its files; `None` where memory cannot be limited.
fn controller() -> Option<(&'static Path, Names)> {
    let own = Path::new(OWN_HIERARCHY);
    if own.join(OF_OWN_HIERARCHY.limit).exists() {
        return Some((own, OF_OWN_HIERARCHY));
    }
    let enabled = fs::read_to_string(format!("{UNIFIED}/cgroup.subtree_control")).ok()?;
    enabled.split_whitespace().any(|name| name == "memory").then(|| (Path::new(UNIFIED), OF_UNIFIED))
}

/// Returns why memory cannot be limited; `None` where it can.
pub(crate) fn limits_missing() -> Option<String> {
    controller().is_none().then(|| "needs the memory controller of cgroups".to_owned())
}

/// A cgroup with a limit of memory, removed when dropped, once its processes have ended.
struct Limited {
    directory: PathBuf,
    names: Names,
}

impl Limited {
    fn to(bytes: u64) -> Self {
        let (parent, names) = controller().expect("it is required");
        let directory = parent.join(format!("bpf-metrics-exporter-test-{}", std::process::id()));
        fs::create_dir(&directory).expect("root may make it");
        let limited = Self { directory, names };
        fs::write(limited.directory.join(limited.names.limit), bytes.to_string()).expect("root may limit it");
        limited
    }

    /// Returns a command that enters it and becomes the exporter.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.directory.join("cgroup.procs"));
        command.arg(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        command
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_default()
    }

    fn kills(&self) -> String {
        let events = self.read(self.names.events);
        let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.unwrap_or_else(|| panic!("no count of kills in {events}")).to_owned()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // The process has ended, but the kernel may not be done with it. Then the cgroup stays, empty.
        let _removed = fs::remove_dir(&self.directory);
    }
}

/// Lines of `/proc/PID/status` on memory.
fn resident(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let wanted = ["VmHWM", "RssAnon", "RssFile"];
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.replace([' ', '\t'], "")).collect()
}

/// Shows figures, those of `docs/limits.md`.
#[expect(clippy::print_stdout, reason = "the figures are what the test is run for")]
fn show(what: &str) {
    println!("{what}");
}

/// Reads a host with these objects several times in this much memory.
fn reads(bytes: u64, programs: usize, maps: usize) {
    const SCRAPES: usize = 5;
    let herd = Herd::new(programs, maps).expect("root may make them");
    let limited = Limited::to(bytes);
    // Nobody listens at the receiver: readings are kept for it.
    let arguments = [
        "--otlp-grpc",
        "127.0.0.1:1",
        "--interval",
        "1s",
        "--hooks-interval",
        "1s",
        "--web.listen-address",
        "127.0.0.1:0",
    ];
    let exporter = Exporter::spawn(limited.command(), &arguments);
    for _ in 0..SCRAPES {
        // A scrape shares a reading that is less than a second old.
        thread::sleep(Duration::from_millis(1050));
        let scrape = exporter.scrape();
        let read = scrape.lines().filter(|line| line.starts_with("bpf_map_info{")).count();
        assert!(read >= herd.maps().len(), "{read} maps");
    }
    show(&format!(
        "{} objects in {} MB: peak {} bytes; process {:?}",
        programs + maps,
        bytes >> 20,
        limited.read(limited.names.peak).trim(),
        resident(exporter.id())
    ));
    assert_eq!(limited.kills(), "0");
}

pub(crate) fn small() {
    reads(32 << 20, 50, 50);
}

pub(crate) fn large() {
    reads(48 << 20, 7_000, 9_000);
}
