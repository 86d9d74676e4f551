//! Events: loads and unloads, those that were not seen or published, and programs that are not in the baseline.

use super::SCOPE;
use crate::dashboards::GRAPH;
use crate::grafana::{Panel, Row, Unit};
use crate::names::{EVENTS_DROPPED, EVENTS_LOST, Metric, PROGRAM_LOADS, PROGRAM_UNEXPECTED, PROGRAM_UNLOADS};
use crate::promql::{NODE, OWNER};

pub(super) fn row() -> Row {
    let by_owner = |counter: Metric| {
        let rates =
            format!("max by ({OWNER}, type) (rate({}[{GRAPH}]))", SCOPE.with(counter, r#"owner=~"$owner""#));
        format!("topk(10, sum by ({OWNER}) ({rates}))")
    };
    let per_second = |counter| format!("max by ({NODE}) (rate({}[{GRAPH}]))", SCOPE.of(counter));
    Row {
        title: "Events",
        panels: vec![
            Panel::graph(
                "Loads by owner",
                "Programs loaded per second by each of the ten owners that load most, those that live for a moment included.",
                Unit::PerSecond,
                "{{owner}} ({{owner_kind}})",
                by_owner(PROGRAM_LOADS),
            )
            .stacked()
            .size(7, 7),
            Panel::graph(
                "Unloads by owner",
                "Programs unloaded per second of each of the ten owners of which most are.",
                Unit::PerSecond,
                "{{owner}} ({{owner_kind}})",
                by_owner(PROGRAM_UNLOADS),
            )
            .stacked()
            .size(7, 7),
            Panel::graph(
                "Events lost and dropped",
                "Records per second that the kernel had no room for, and events above the limit per second: loads and unloads count them \
                 all the same.",
                Unit::PerSecond,
                "lost",
                per_second(EVENTS_LOST),
            )
            .and("dropped", per_second(EVENTS_DROPPED))
            .size(7, 7),
            Panel::stat(
                "Unexpected programs",
                "Programs that are not in the baseline; no data without one (--baseline).",
                Unit::Count,
                format!("max({})", SCOPE.of(PROGRAM_UNEXPECTED)),
            )
            .from(1.0, "orange", "the log of the exporter and its events name them"),
        ],
    }
}
