//! The dashboards, in `dist/grafana/`: one node, the fleet, and one object.

mod fleet;
mod node;
mod object;

use crate::File;
use crate::grafana::{Column, Dashboard, Link};
use crate::names::{BUILD_INFO, PROGRAM_INFO};
use crate::promql::Scope;

/// Identity of the dashboard of an object.
const OBJECT_UID: &str = "ebpf-object";

/// Window of rates in tables, which show the present.
const NOW: &str = "5m";

/// Window of rates in graphs: Grafana fits it to the interval of the data source.
const GRAPH: &str = "$__rate_interval";

/// Returns the files of the dashboards.
#[must_use]
pub fn files() -> Vec<File> {
    [node::dashboard(), fleet::dashboard(), object::dashboard()].iter().map(file).collect()
}

fn file(dashboard: &Dashboard) -> File {
    let json =
        serde_json::to_string_pretty(&dashboard.json(BUILD_INFO)).expect("keys of the value are strings");
    File { path: format!("dist/grafana/{}.json", dashboard.uid), text: json + "\n" }
}

/// Returns a column for a label.
const fn label(label: &'static str, title: &'static str) -> Column {
    Column { label, title, link: None }
}

/// Returns a column with ids of programs, each of which opens the program.
const fn program_id(label: &'static str, title: &'static str) -> Column {
    Column {
        label,
        title,
        link: Some(Link { title: "Open the program", uid: OBJECT_UID, variable: "program" }),
    }
}

/// Returns a column with ids of maps, each of which opens the map.
const fn map_id(label: &'static str, title: &'static str) -> Column {
    Column { label, title, link: Some(Link { title: "Open the map", uid: OBJECT_UID, variable: "map" }) }
}

/// Labels of a program, and of what is known of it.
const PROGRAM_COLUMNS: [Column; 5] = [
    label("name", "Program"),
    label("type", "Type"),
    program_id("id", "Id"),
    label("owner_kind", "Owner kind"),
    label("owner", "Owner"),
];

/// Labels of a map, and of what is known of it. Its type is the word.
const MAP_COLUMNS: [Column; 5] = [
    label("name", "Map"),
    label("type_name", "Type"),
    map_id("id", "Id"),
    label("owner_kind", "Owner kind"),
    label("owner", "Owner"),
];

/// Returns the objects of one expression that are in another.
fn among(expression: &str, on: &str, others: &str) -> String {
    format!("{expression} and on ({on}) ({others})")
}

/// Returns the growth of a gauge in an hour, by the slope of the last half hour.
fn per_hour(selector: &str) -> String {
    format!("deriv({selector}[30m]) * 3600")
}

/// Returns the name of each program as a label `name` beside `prog_id`, for joins of what only has its id.
fn program_names(scope: Scope) -> String {
    scope.one_of_each("job, instance, prog_id", PROGRAM_INFO, "")
}
