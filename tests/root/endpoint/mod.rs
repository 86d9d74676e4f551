//! The running exporter's endpoint: its sockets, its configuration file with curl as the client, and attacks on it.

mod attacks;
mod health;
mod served;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::suite::Test;

const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) const TESTS: &[Test] = &[
    Test::new("curl_reads_over_tls_with_a_password_in_every_format", served::by_curl)
        .requires(&[curl_missing]),
    Test::new("a_signal_and_a_change_reload_the_configuration", served::reloaded).requires(&[curl_missing]),
    Test::new("a_unix_socket_has_its_mode_and_is_removed_at_the_end", served::on_a_unix_socket)
        .requires(&[curl_missing]),
    Test::new("sockets_of_systemd_are_served", served::on_sockets_of_systemd).requires(&[curl_missing]),
    Test::new("whoever_may_read_is_logged", served::openness_is_logged).requires(&[curl_missing]),
    Test::new("healthy_queries_the_address_of_the_exporters_flags", health::by_address),
    Test::new("healthy_needs_neither_a_trusted_certificate_nor_a_password", health::with_tls_and_passwords),
    Test::new("healthy_depends_on_the_exporter_and_not_on_its_file", health::with_another_file),
    Test::new("healthy_ends_without_an_answer", health::without_an_answer),
    Test::new("attacks_cost_no_reading_no_push_and_little_memory", attacks::test).requires(&[curl_missing]),
];

/// Returns why curl cannot be the client; `None` where it can.
fn curl_missing() -> Option<String> {
    let version = Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    (!version.is_ok_and(|status| status.success())).then(|| "needs curl".to_owned())
}

/// A running exporter, killed when dropped.
pub(crate) struct Exporter {
    child: Child,
    log: Receiver<String>,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.child.kill().expect("it is a child of this process");
        self.child.wait().expect("it is a child of this process");
    }
}

impl Exporter {
    /// Starts a command that becomes the exporter.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, log }
    }

    /// Starts the exporter with these arguments, which pushes nowhere.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        Self::start(command.args(["--otlp-grpc", "none"]).args(arguments))
    }

    /// Waits for a line of the log that contains a text.
    pub(crate) fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut log = Vec::new();
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            log.push(line);
        }
        panic!("it does not say {text:?}: {log:#?}");
    }

    /// Waits until it serves, and returns its port.
    pub(crate) fn port(&self) -> u16 {
        let line = self.says("serving Prometheus metrics on ");
        let address =
            line.split("://").nth(1).and_then(|url| url.split('/').next()?.parse::<SocketAddr>().ok());
        address.unwrap_or_else(|| panic!("no address in {line:?}")).port()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        kill(pid, signal).expect("it runs");
    }

    /// Ends it as systemd does.
    fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of this process") {
                return status;
            }
            assert!(Instant::now() < deadline, "it stops");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns a line of `/proc/PID/status`, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|text| text.strip_prefix(line)).expect("the kernel has the line");
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().expect("a number")
    }
}

/// Runs curl, and returns what it prints.
fn curl(arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "30"])
        .args(arguments)
        .output()
        .expect("curl is there");
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Replaces a file at once.
fn replace(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).expect("the folder is ours");
    fs::rename(&unfinished, path).expect("the folder is ours");
}
