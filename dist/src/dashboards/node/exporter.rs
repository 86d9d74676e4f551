//! The exporter itself: its cost, and what it could not see, read or deliver.

use super::SCOPE;
use crate::dashboards::{GRAPH, label};
use crate::grafana::{Panel, Query, Row, Unit};
use crate::names::{
    BUILD_INFO, COLLECT_AGE, COLLECT_DURATION, COLLECT_SUCCESS, DROPPED_SERIES, FEATURE_AVAILABLE, ISSUES,
    JIT_ENABLED, JIT_HARDEN, JIT_LIMIT, JIT_USED, Metric, OTLP_BACKLOG, OTLP_DROPPED_POINTS, OTLP_POINTS,
    PROCESS_CPU, PROCESS_RESIDENT_MEMORY, RUN_STATS_ENABLED, UNPRIVILEGED_DISABLED,
};
use crate::promql::NODE;

pub(super) fn row() -> Row {
    Row { title: "The exporter", panels: [costs(), failures(), state()].concat() }
}

/// The host's settings for BPF.
pub(super) fn host() -> Row {
    let max = |metric| format!("max({})", SCOPE.of(metric));
    let by_node = |metric| format!("max by ({NODE}) ({})", SCOPE.of(metric));
    Row {
        title: "The host",
        panels: vec![
            Panel::graph(
                "JIT memory",
                "Memory that the JIT compiler allocated for machine code, and its limit; an upper bound of what the kernel counts, \
                 seccomp filters included.",
                Unit::Bytes,
                "used",
                by_node(JIT_USED),
            )
            .and("limit", by_node(JIT_LIMIT))
            .size(15, 6),
            Panel::stat(
                "JIT compiler",
                "The sysctl net.core.bpf_jit_enable: 1 if programs are compiled, 0 if they are interpreted.",
                Unit::State(&[(0, "off"), (1, "on"), (2, "debug")]),
                max(JIT_ENABLED),
            ),
            Panel::stat(
                "JIT hardening",
                "The sysctl net.core.bpf_jit_harden: 0 is off, 1 is for unprivileged programs, 2 is for all.",
                Unit::State(&[(0, "off"), (1, "unprivileged"), (2, "all")]),
                max(JIT_HARDEN),
            ),
            Panel::stat(
                "Unprivileged BPF",
                "The sysctl kernel.unprivileged_bpf_disabled: 0 permits bpf(2) to every user, 1 and 2 do not.",
                Unit::State(&[(0, "permitted"), (1, "disabled"), (2, "disabled")]),
                max(UNPRIVILEGED_DISABLED),
            ),
        ],
    }
}

fn costs() -> Vec<Panel> {
    // Every process of a host may have metrics of these names.
    let ours = format!("and on ({NODE}) {}", SCOPE.of(BUILD_INFO));
    vec![
            Panel::graph(
                "CPU of the exporter",
                "CPUs that the exporter itself uses, its iterators in the kernel included.",
                Unit::Cpus,
                "exporter",
                format!("max by ({NODE}) (rate({}[{GRAPH}])) {ours}", SCOPE.of(PROCESS_CPU)),
            )
            .size(6, 7),
            Panel::graph(
                "Memory of the exporter",
                "Resident memory of the exporter.",
                Unit::Bytes,
                "exporter",
                format!("max by ({NODE}) ({}) {ours}", SCOPE.of(PROCESS_RESIDENT_MEMORY)),
            )
            .size(6, 7),
            Panel::graph(
                "Reading",
                "Time that each part of the last reading took.",
                Unit::Seconds,
                "{{collector}}",
                format!("max by (job, instance, collector) ({})", SCOPE.of(COLLECT_DURATION)),
            )
            .stacked()
            .size(6, 7),
            Panel::graph(
                "OTLP",
                "Points that receivers accepted or rejected, and points dropped, per second; none where the exporter is only scraped.",
                Unit::PerSecond,
                "{{outcome}}",
                format!(
                    "sum by (job, instance, outcome) (max by (job, instance, destination, outcome) (rate({}[{GRAPH}])))",
                    SCOPE.of(OTLP_POINTS)
                ),
            )
            .and(
                "dropped: {{reason}}",
                format!(
                    "sum by (job, instance, reason) (max by (job, instance, destination, reason) (rate({}[{GRAPH}]))) > 0",
                    SCOPE.of(OTLP_DROPPED_POINTS)
                ),
            )
            .size(6, 7),
    ]
}

fn failures() -> Vec<Panel> {
    let issues = format!(
        "max by (job, instance, collector, call, error) (increase({}[$__range])) > 0",
        SCOPE.of(ISSUES)
    );
    vec![
            Panel::list(
                "What could not be seen",
                "Sources that do not see everything, and why; the page on privileges has the remedies.",
                &[label("feature", "Source"), label("reason", "Reason")],
                format!("max by (job, instance, feature, reason) ({} == 0)", SCOPE.of(FEATURE_AVAILABLE)),
                &[("Source", false)],
            )
            .size(8, 7),
            Panel::table(
                "What could not be read",
                "Failures to read something in the selected time, by the call that failed.",
                &[label("collector", "Collector"), label("call", "Call"), label("error", "Error")],
                vec![Query::new("Failures", Unit::Count, issues)],
                &[("Failures", true)],
            )
            .size(8, 7),
            Panel::table(
                "Collectors",
                "Each part of the reading: whether it read everything that its rights allow, how long it took, and how old its results are.",
                &[label("collector", "Collector"), label("reader", "Reader")],
                vec![
                    Query::new("Success", Unit::State(&[(0, "failed"), (1, "ok")]), collector(COLLECT_SUCCESS)),
                    Query::new("Duration", Unit::Seconds, collector(COLLECT_DURATION)),
                    Query::new("Age", Unit::Seconds, collector(COLLECT_AGE)),
                ],
                &[("Success", false)],
            )
            .size(8, 7),
    ]
}

fn state() -> Vec<Panel> {
    vec![
        Panel::stat(
            "Run statistics",
            "Whether the exporter or the sysctl has the kernel count runs and run times.",
            Unit::State(&[(0, "off"), (1, "on")]),
            format!("max({})", SCOPE.of(RUN_STATS_ENABLED)),
        ),
        Panel::stat(
            "Dropped series",
            "Series left out to stay under --max-series; no data without that limit.",
            Unit::Count,
            format!("max({})", SCOPE.of(DROPPED_SERIES)),
        )
        .from(1.0, "orange", "objects are missing in every panel above"),
        Panel::stat(
            "OTLP backlog",
            "Encoded requests that wait for receivers.",
            Unit::Bytes,
            format!("sum(max by (destination) ({}))", SCOPE.of(OTLP_BACKLOG)),
        ),
        Panel::list(
            "Build",
            "Version of the exporter, its source revision and its compiler.",
            &[label("version", "Version"), label("revision", "Revision"), label("rustc", "Compiler")],
            format!("max by (job, instance, version, revision, rustc) ({})", SCOPE.of(BUILD_INFO)),
            &[],
        )
        .size(15, 4),
    ]
}

fn collector(metric: Metric) -> String {
    format!("max by (job, instance, collector, reader) ({})", SCOPE.of(metric))
}
