//! *eBPF Object*: one program or map with everything known of it. Links from the tables of the other dashboards set its variables.

use super::{GRAPH, label, map_id, per_hour, program_id, program_names};
use crate::grafana::{Column, Dashboard, Panel, Query, Row, Unit, Variable};
use crate::names::{
    HOOK_INFO, HOOK_POSITION, LINK_INFO, LINK_MISSED, MAP_BACKLOG, MAP_ENTRIES, MAP_FILL, MAP_HOLDER_INFO,
    MAP_INFO, MAP_MAX_ENTRIES, MAP_MEM, Metric, PIN_INFO, PROGRAM_HOLDER_INFO, PROGRAM_INFO,
    PROGRAM_LOAD_TIME, PROGRAM_MAP_INFO, PROGRAM_MEM, PROGRAM_RECURSION_MISSES, PROGRAM_SIZE_JITTED,
    PROGRAM_VERIFIED_INSTRUCTIONS,
};
use crate::promql::{ATTACHMENT, OBJECT, Scope};

const SCOPE: Scope = Scope::SELECTED;

/// Matchers of the program; of none if a map is shown, since no id is empty.
const PROGRAM: &str = r#"id="$program""#;

/// Matchers of the map.
const MAP: &str = r#"id="$map""#;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: super::OBJECT_UID,
        title: "eBPF Object",
        description: "One program or map: its facts, costs, maps, links, holders, pins and history. Open it from a table of another dashboard.",
        refresh: "30s",
        variables: vec![
            Variable::Node { nodes: Scope::FLEET.nodes() },
            Variable::Text { name: "program", label: "Program id", value: "" },
            Variable::Text { name: "map", label: "Map id", value: "" },
        ],
        rows: vec![facts(), history(), relations(), holders()],
    }
}

fn program(metric: Metric) -> String {
    SCOPE.with(metric, PROGRAM)
}

fn map(metric: Metric) -> String {
    SCOPE.with(metric, MAP)
}

/// Returns the value of a metric of the program or else of the map.
fn either(program_metric: Metric, map_metric: Metric) -> String {
    format!("max({}) or max({})", program(program_metric), map(map_metric))
}

const FACTS: [Column; 17] = [
    label("name", "Name"),
    label("type", "Type"),
    label("type_name", "Map type"),
    label("id", "Id"),
    label("tag", "Tag"),
    label("attach_to", "Compiled for"),
    label("load_time", "Loaded"),
    label("uid", "User id"),
    label("gpl_compatible", "GPL compatible"),
    label("btf_id", "BTF id"),
    label("key_size", "Key size"),
    label("value_size", "Value size"),
    label("max_entries", "Maximum entries"),
    label("flags", "Flags"),
    label("frozen", "Frozen"),
    label("owner_kind", "Owner kind"),
    label("owner", "Owner"),
];

fn facts() -> Row {
    let labels = FACTS.map(|column| column.label).join(", ");
    let info = format!("max by (job, instance, {labels}) ({} or {})", program(PROGRAM_INFO), map(MAP_INFO));
    let age = format!("time() - max({})", program(PROGRAM_LOAD_TIME));
    Row {
        title: "What it is",
        panels: vec![
            Panel::list("Facts", "What the kernel reports of the object, and its owner.", &FACTS, info, &[])
                .size(24, 4),
            Panel::stat(
                "Memory",
                "Memory charged for the object.",
                Unit::Bytes,
                either(PROGRAM_MEM, MAP_MEM),
            ),
            Panel::stat("Age", "Time since the program was loaded; maps have no date.", Unit::Seconds, age),
            Panel::stat(
                "Machine code",
                "Size of the program's machine code; 0 if it is interpreted.",
                Unit::Bytes,
                format!("max({})", program(PROGRAM_SIZE_JITTED)),
            ),
            Panel::stat(
                "Verified instructions",
                "Instructions that the verifier processed when the program was loaded.",
                Unit::Count,
                format!("max({})", program(PROGRAM_VERIFIED_INSTRUCTIONS)),
            ),
            Panel::stat("Entries", "Entries in the map.", Unit::Count, format!("max({})", map(MAP_ENTRIES))),
            Panel::stat(
                "Maximum",
                "Maximum number of entries in the map; bytes of a ring buffer.",
                Unit::Count,
                format!("max({})", map(MAP_MAX_ENTRIES)),
            ),
            Panel::stat(
                "Fill",
                "Part of the entries in use, of a map that refuses entries when it is full.",
                Unit::Ratio,
                format!("max({})", map(MAP_FILL)),
            )
            .from(
                0.9,
                "orange",
                "the map soon refuses entries, unless it was sized for exactly what it has",
            ),
            Panel::stat(
                "Growth per hour",
                "Entries that the map gains in an hour, by the slope of the last half hour.",
                Unit::Count,
                format!("max({})", per_hour(&map(MAP_ENTRIES))),
            ),
        ],
    }
}

fn history() -> Row {
    let of_program = |values: &str| format!("{values} and on ({OBJECT}) {}", program(PROGRAM_INFO));
    Row {
        title: "History",
        panels: vec![
            Panel::graph(
                "CPU",
                "CPUs that the program used, in the time in which run statistics were on.",
                Unit::Cpus,
                "{{name}}",
                of_program(&SCOPE.cpu_share(GRAPH)),
            ),
            Panel::graph(
                "Runs",
                "Runs of the program per second, and runs that the kernel skipped.",
                Unit::PerSecond,
                "{{name}}",
                of_program(&SCOPE.runs_per_second(GRAPH)),
            )
            .and(
                "missed",
                format!("max by ({OBJECT}) (rate({}[{GRAPH}]))", program(PROGRAM_RECURSION_MISSES)),
            )
            .and(
                "missed by link {{id}}",
                format!(
                    "max by (job, instance, id) (rate({}[{GRAPH}]))",
                    SCOPE.with(LINK_MISSED, r#"prog_id="$program""#)
                ),
            ),
            Panel::graph(
                "Time per run",
                "Average time from the start to the end of a run, interrupts and sleep included.",
                Unit::Seconds,
                "{{name}}",
                of_program(&SCOPE.seconds_per_run(GRAPH)),
            ),
            Panel::graph(
                "Entries over time",
                "Entries in the map.",
                Unit::Count,
                "entries",
                format!("max by ({OBJECT}) ({})", map(MAP_ENTRIES)),
            )
            .and("maximum", format!("max by ({OBJECT}) ({})", map(MAP_MAX_ENTRIES))),
            Panel::graph(
                "Backlog over time",
                "Bytes in the ring buffer that no consumer has read yet.",
                Unit::Bytes,
                "backlog",
                format!("max by ({OBJECT}) ({})", map(MAP_BACKLOG)),
            ),
            Panel::graph(
                "Memory over time",
                "Memory charged for the object.",
                Unit::Bytes,
                "{{name}}",
                format!("max by ({OBJECT}) ({} or {})", program(PROGRAM_MEM), map(MAP_MEM)),
            ),
        ],
    }
}

const MAPS: [Column; 4] =
    [label("name", "Map"), label("type_name", "Type"), map_id("map_id", "Map id"), label("owner", "Owner")];

const PROGRAMS: [Column; 4] = [
    label("name", "Program"),
    label("type", "Type"),
    program_id("prog_id", "Program id"),
    label("owner", "Owner"),
];

const LINKS: [Column; 6] = [
    label("link_id", "Link id"),
    label("type_name", "Type"),
    label("attach_type", "Attach type"),
    label("target", "Target"),
    label("netns", "Network namespace"),
    program_id("prog_id", "Program id"),
];

const HOOKS: [Column; 5] = [
    label("hook", "Hook"),
    label("target", "Target"),
    label("netns", "Network namespace"),
    label("link_id", "Link id"),
    program_id("prog_id", "Program id"),
];

fn relations() -> Row {
    Row { title: "What it belongs to", panels: [programs_and_maps(), places()].concat() }
}

fn programs_and_maps() -> Vec<Panel> {
    let used = SCOPE.with(PROGRAM_MAP_INFO, r#"prog_id="$program""#);
    let using = SCOPE.with(PROGRAM_MAP_INFO, r#"map_id="$map""#);
    let map_names = SCOPE.one_of_each("job, instance, map_id", MAP_INFO, "");
    let program_names = program_names(SCOPE);
    vec![
        Panel::list(
            "Maps of the program",
            "Maps that the program uses.",
            &MAPS,
            format!(
                    "max by (job, instance, map_id, name, type_name, owner) (\
                         {used} * on (job, instance, map_id) group_left (name, type_name, owner) {map_names})"
                ),
            &[("Map", false)],
        )
        .size(12, 8),
        Panel::list(
            "Programs with the map",
            "Programs that use the map.",
            &PROGRAMS,
            format!(
                    "max by (job, instance, prog_id, name, type, owner) (\
                         {using} * on (job, instance, prog_id) group_left (name, type, owner) {program_names})"
                ),
            &[("Program", false)],
        )
        .size(12, 8),
    ]
}

fn places() -> Vec<Panel> {
    // Of the program, or of each program that uses the map.
    let programs = format!(
        "(group by (job, instance, prog_id) ({} or {}))",
        SCOPE.with(PROGRAM_MAP_INFO, r#"map_id="$map""#),
        SCOPE.with(PROGRAM_INFO, r#"prog_id="$program""#)
    );
    let link = "job, instance, link_id, type_name, attach_type, target, netns, prog_id";
    vec![
            Panel::list(
                "Links",
                "Links of the program, or of the programs that use the map.",
                &LINKS,
                format!("max by ({link}) ({}) and on (job, instance, prog_id) {programs}", SCOPE.of(LINK_INFO)),
                &[("Type", false)],
            )
            .size(12, 8),
            Panel::table(
                "Hooks",
                "Where the program, or the programs that use the map, are attached, and at which position they run.",
                &HOOKS,
                vec![
                    Query::new(
                        "Info",
                        Unit::Count,
                        format!("max by ({ATTACHMENT}) ({}) and on (job, instance, prog_id) {programs}", SCOPE.of(HOOK_INFO)),
                    ),
                    Query::new(
                        "Position",
                        Unit::Count,
                        format!("max by ({ATTACHMENT}) ({}) and on (job, instance, prog_id) {programs}", SCOPE.of(HOOK_POSITION)),
                    ),
                ],
                &[("Hook", false), ("Position", false)],
            )
            .hide("Info")
            .size(12, 8),
    ]
}

const HOLDERS: [Column; 6] = [
    label("held_by", "Held by"),
    label("owner_kind", "Owner kind"),
    label("owner", "Owner"),
    label("process_pid", "Pid"),
    label("process_executable_name", "Executable"),
    label("k8s_container_name", "Container"),
];

const PINS: [Column; 2] = [label("path", "Path"), label("bpffs", "File system")];

fn holders() -> Row {
    let labels = HOLDERS.map(|column| column.label).join(", ");
    let held = format!(
        "max by (job, instance, {labels}) ({} or {})",
        program(PROGRAM_HOLDER_INFO),
        map(MAP_HOLDER_INFO)
    );
    let pins = format!(
        "max by (job, instance, path, bpffs) ({} or {})",
        SCOPE.with(PIN_INFO, r#"kind="program",id="$program""#),
        SCOPE.with(PIN_INFO, r#"kind="map",id="$map""#),
    );
    Row {
        title: "Who keeps it",
        panels: vec![
            Panel::list(
                "Holders",
                "Processes with a descriptor of the object, directories in which it is pinned, and the cgroup of its creator.",
                &HOLDERS,
                held,
                &[("Held by", false)],
            )
            .size(14, 8),
            Panel::list("Pins", "Paths at which the object is pinned; of a bpffs in another mount namespace with its device number.", &PINS, pins, &[("Path", false)])
                .size(10, 8),
        ],
    }
}
