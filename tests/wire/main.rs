//! The wire tests: the program itself against receivers that nobody here wrote, on the objects of a real kernel.
//! They need root and what `tests/receivers/install` installs (below `target/receivers`, or `RECEIVERS`). A test that lacks
//! something is ignored and says why; with `REQUIRE_ALL_TESTS` it fails.

mod big_node;
mod contract;
mod endings;
mod exporter;
mod outages;
mod processes;
mod received;
mod receivers;
mod routes;
mod series;
mod shares;
mod stopping;

use std::process::ExitCode;
use test_support::{root, trials};

use receivers::Receiver;
use receivers::Receiver::{Collector, Prometheus, Promtool, VictoriaMetrics};

/// Every test, and the receivers it needs.
const TESTS: &[(trials::Test, &[Receiver])] = &[
    (("collector_sees_the_contract", contract::test), &[Collector]),
    (("collector_gets_every_point_of_a_big_node", big_node::test), &[Collector]),
    (
        ("prometheus_scrape_and_otlp_route_hold_the_same_series", routes::same_series),
        &[Collector, Prometheus, VictoriaMetrics],
    ),
    (("promtool_is_content", routes::promtool), &[Promtool]),
    (("the_documented_expressions_tell_shares_of_a_cpu", shares::test), &[Promtool]),
    (("a_series_that_ended_is_marked", endings::test), &[Collector, VictoriaMetrics]),
    (("exporter_recovers_when_the_collector_restarts", outages::restart), &[Collector]),
    (("exporter_started_before_the_collector_delivers_all", outages::early_start), &[Collector]),
    (("last_export_on_sigterm", stopping::last_export), &[Collector]),
    (("second_sigterm_ends_at_once", stopping::second_signal), &[]),
    (("sigterm_does_not_wait_long_for_a_receiver_that_hangs", stopping::hanging_receiver), &[]),
];

fn main() -> ExitCode {
    let tests: Vec<trials::Test> = TESTS.iter().map(|&(test, _)| test).collect();
    trials::run(&tests, missing)
}

/// What a test needs and is not there.
fn missing(name: &str) -> Option<String> {
    root::missing().or_else(|| {
        let needed = TESTS.iter().filter(|((test, _), _)| *test == name).flat_map(|(_, needed)| *needed);
        let missing: Vec<String> = needed
            .map(|receiver| receiver.path())
            .filter(|path| !path.is_file())
            .map(|path| path.display().to_string())
            .collect();
        (!missing.is_empty()).then(|| format!("needs {}, of tests/receivers/install", missing.join(", ")))
    })
}
