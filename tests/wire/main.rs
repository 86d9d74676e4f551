//! The program against real receivers, on the objects of a real kernel. The tests need root and the programs that
//! `tests/receivers/install` installs below `target/receivers`, or `RECEIVERS`. They are a binary apart from the other root tests, which
//! also run in guests without these programs.

mod alerts;
mod big_node;
mod clock;
mod compression;
mod contract;
mod dashboards;
mod documents;
mod endings;
mod events;
mod exporter;
mod identity;
mod ordinary_life;
mod outages;
mod processes;
mod queries;
mod received;
mod received_logs;
mod receivers;
mod routes;
mod secure;
mod series;
mod shares;
mod stopping;
mod ten_nodes;
mod unchanged;

use std::process::ExitCode;
use test_support::{root, trials};

use receivers::Receiver;
use receivers::Receiver::{Collector, Prometheus, PrometheusOtlp, Promtool, VictoriaMetrics};

/// A test, by its name, and the receivers it needs.
type Test = (&'static str, fn(), &'static [Receiver]);

const TESTS: &[Test] = &[
    ("the_collector_gets_the_contract", contract::test, &[Collector]),
    ("the_collector_gets_lifetimes_as_exponential_histograms", contract::lifetimes, &[Collector]),
    ("the_collector_gets_every_compression_over_tls_and_mutual_tls", secure::test, &[Collector]),
    (
        "every_receiver_gets_everything_with_the_best_compression_that_it_takes",
        compression::test,
        &[Collector, PrometheusOtlp, VictoriaMetrics],
    ),
    ("the_program_pushes_to_the_collector_over_mutual_tls", secure::test_program, &[Collector]),
    ("the_collector_gets_every_point_of_a_big_node", big_node::test, &[Collector]),
    ("the_collector_gets_events_with_the_resource_of_the_metrics", events::test, &[Collector]),
    ("the_collector_gets_what_the_program_sees", events::test_program, &[Collector]),
    (
        "scraping_and_otlp_deliver_the_same_series",
        routes::same_series,
        &[Collector, Prometheus, VictoriaMetrics],
    ),
    (
        "prometheus_receives_otlp_directly_with_the_series_of_a_scrape",
        routes::own_receiver,
        &[Collector, Prometheus, PrometheusOtlp],
    ),
    (
        "lifetimes_have_the_same_quantiles_by_every_route",
        routes::quantiles,
        &[Collector, Prometheus, PrometheusOtlp, VictoriaMetrics],
    ),
    (
        "a_prometheus_without_native_histograms_gets_everything_else",
        routes::without_histograms,
        &[PrometheusOtlp],
    ),
    ("promtool_accepts_the_exposition", routes::promtool, &[Promtool]),
    ("promtool_accepts_the_file_of_a_snapshot", routes::textfile, &[Promtool]),
    ("every_documented_expression_evaluates_with_two_targets", queries::test, &[Prometheus]),
    (
        "every_expression_of_a_dashboard_says_what_is_there_by_every_route",
        dashboards::test,
        &[Collector, PrometheusOtlp],
    ),
    ("the_documented_expressions_yield_cpu_shares", shares::test, &[Promtool]),
    ("the_questions_of_the_readme_have_answers", shares::test_questions, &[Promtool]),
    (
        "what_does_not_change_has_no_gap_in_any_query_of_a_dashboard",
        unchanged::test,
        &[PrometheusOtlp, VictoriaMetrics],
    ),
    ("promtool_accepts_the_rules", alerts::check, &[Promtool]),
    ("each_recording_rule_yields_what_it_says", alerts::recorded, &[Promtool]),
    ("each_alert_fires_on_its_fault_and_not_below", alerts::faults, &[Promtool]),
    ("no_alert_fires_in_ordinary_life", alerts::ordinary_life, &[Promtool]),
    ("the_alert_finds_one_of_ten_nodes_with_another_fingerprint", ten_nodes::test, &[Prometheus]),
    ("no_alert_fires_in_an_hour_of_real_life", ordinary_life::test, &[Prometheus]),
    ("ended_series_are_marked_stale", endings::test, &[Collector, VictoriaMetrics]),
    ("the_exporter_recovers_when_the_collector_restarts", outages::restart, &[Collector]),
    ("an_exporter_started_before_the_collector_delivers_all", outages::early_start, &[Collector]),
    ("hosts_of_one_image_have_instance_ids_of_their_own", identity::test, &[]),
    ("no_point_is_older_than_its_start_after_the_clock_is_set_back", clock::set_back, &[]),
    ("load_times_are_right_once_the_clock_is", clock::set_right, &[]),
    ("sigterm_triggers_a_last_export", stopping::last_export, &[Collector]),
    ("sighup_is_ignored", stopping::sighup, &[]),
    ("a_second_sigterm_ends_at_once", stopping::second_signal, &[]),
    ("sigterm_does_not_wait_long_for_an_unresponsive_receiver", stopping::unresponsive_receiver, &[]),
];

fn main() -> ExitCode {
    let trial = |&(name, test, needed): &Test| {
        trials::trial(name.to_owned(), root::missing().or_else(|| missing(needed)), test)
    };
    trials::run(TESTS.iter().map(trial).collect())
}

/// Returns which of these receivers are not installed.
fn missing(needed: &[Receiver]) -> Option<String> {
    let missing: Vec<String> = needed
        .iter()
        .map(|receiver| receiver.path())
        .filter(|path| !path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    (!missing.is_empty()).then(|| format!("needs {}, of tests/receivers/install", missing.join(", ")))
}
