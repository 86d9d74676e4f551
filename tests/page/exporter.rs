//! The program under test, which serves the page. Entry point: [`Exporter::start`].

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use test_support::http;
use test_support::running::Running;

const DEADLINE: Duration = Duration::from_mins(1);

/// A running exporter, killed when dropped.
pub(crate) struct Exporter {
    _process: Running,
    address: SocketAddr,
}

impl Exporter {
    /// Starts it on a port of its own.
    pub(crate) fn start() -> Self {
        Self::at(http::free_address())
    }

    /// Starts it at an address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        command.args(["--otlp-grpc", "none", "--web.listen-address", &address.to_string()]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let process = Running(child);
        let (lines, log) = channel();
        // Its log is read to the end, so that it never waits for a reader.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _nobody_listens_any_more = lines.send(line);
            }
        });
        let mut seen = Vec::new();
        while let Ok(line) = log.recv_timeout(DEADLINE) {
            if line.contains("serving Prometheus metrics on ") {
                return Self { _process: process, address };
            }
            seen.push(line);
        }
        panic!("it does not serve: {seen:#?}");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a part of the page, such as `?tab=maps`.
    pub(crate) fn url(&self, part: &str) -> String {
        format!("http://{}/{part}", self.address)
    }
}
