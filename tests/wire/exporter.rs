//! The program under test, as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::processes::{Process, SOON, eventually};
use crate::receivers::Collector;
use crate::series::{self, Values};
use test_support::http::get;

/// The exporter, pushing to one receiver and serving on a port of its own choice.
pub(crate) struct Exporter {
    pub(crate) process: Process,
    /// Its listen address.
    pub(crate) serves: SocketAddr,
}

impl Exporter {
    /// Starts it with its log in `folder`.
    pub(crate) fn start(folder: &Path, receiver: SocketAddr, interval: &str, more: &[&str]) -> Self {
        Self::start_in(&[], folder, receiver, interval, more)
    }

    /// The same with these environment variables.
    pub(crate) fn start_in(
        environment: &[(&str, &Path)],
        folder: &Path,
        receiver: SocketAddr,
        interval: &str,
        more: &[&str],
    ) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(any_port, environment, folder, &receiver.to_string(), interval, more)
    }

    /// The same, serving at this address, and pushing to a receiver or to `none`.
    pub(crate) fn start_at(
        serves: SocketAddr,
        environment: &[(&str, &Path)],
        folder: &Path,
        receiver: &str,
        interval: &str,
        more: &[&str],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        command.envs(environment.iter().copied());
        command.args(["--otlp-grpc", receiver, "--interval", interval]);
        command.args(["--web.listen-address", &serves.to_string()]).args(more);
        let mut process = Process::start("bpf-metrics-exporter", &mut command, folder);
        let line = process.says("serving Prometheus metrics on");
        let address = line.split("http://").nth(1).and_then(|url| url.split('/').next()?.parse().ok());
        let serves = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { process, serves }
    }

    /// Scrapes it in text format.
    pub(crate) fn exposition(&self) -> String {
        get(self.serves, "/metrics").unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// Scrapes its series.
    pub(crate) fn scrape(&self) -> Values {
        series::of_exposition(&self.exposition())
    }

    /// Returns its own delivery counters.
    pub(crate) fn delivery(&self) -> Delivery {
        let values = self.scrape();
        let of = |name: &str, label: &str| {
            let mut these = values.clone();
            these.retain(|series, _| series.labels.values().any(|value| value == label));
            series::count(&these, name)
        };
        Delivery {
            accepted: of("bpf_exporter_otlp_points_total", "accepted"),
            rejected: of("bpf_exporter_otlp_points_total", "rejected"),
            dropped: series::count(&values, "bpf_exporter_otlp_dropped_points_total"),
            successes: of("bpf_exporter_otlp_requests_total", "success"),
            backlog: series::count(&values, "bpf_exporter_otlp_backlog_bytes"),
        }
    }

    /// Waits until all is delivered, and as many points are accepted as the Collectors have.
    pub(crate) fn settles_with(&self, collectors: &[&Collector]) -> Delivery {
        eventually("the Collectors have what the exporter counts as accepted", SOON, || {
            let delivery = self.delivery();
            if delivery.accepted == 0 || delivery.backlog > 0 {
                return Err(format!("not delivered: {delivery:?}"));
            }
            match collectors.iter().map(|collector| collector.announced()).sum::<u64>() {
                sum if sum == delivery.accepted => Ok(delivery),
                sum => Err(format!("they have {sum}: {delivery:?}")),
            }
        })
    }

    /// Returns its warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.process.lines(" WARN ")
    }
}

/// Delivery counters: points, requests and bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// For any reason.
    pub(crate) dropped: u64,
    pub(crate) successes: u64,
    pub(crate) backlog: u64,
}
