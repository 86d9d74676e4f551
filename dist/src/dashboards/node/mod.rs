//! *eBPF Subsystem Metrics*: what is loaded on a node, whose it is and what it costs.

mod attached;
mod events;
mod exporter;

use super::{GRAPH, MAP_COLUMNS, NOW, PROGRAM_COLUMNS, among, label, per_hour};
use crate::grafana::{Column, Dashboard, Panel, Query, Row, Unit, Variable};
use crate::names::{
    FEATURE_AVAILABLE, LINK_MISSED, MAP_BACKLOG, MAP_ENTRIES, MAP_FILL, MAP_INFO, MAP_MAX_ENTRIES, MAP_MEM,
    OBJECTS, OBJECTS_MEM, OBJECTS_ORPHANED, OBJECTS_RUN_TIME, OWNER_INFO, OWNER_LINKS, OWNER_MAPS, OWNER_MEM,
    OWNER_PROGRAMS, OWNER_RUN_TIME, PROGRAM_INFO, PROGRAM_MEM, PROGRAM_RECURSION_MISSES,
};
use crate::promql::{NODE, OBJECT, OWNER, Scope};

const SCOPE: Scope = Scope::SELECTED;

/// Matchers of the variables about programs, for `bpf_program_info`.
const PROGRAMS: &str = r#"type=~"$type",name=~"$name",owner=~"$owner""#;

/// Matchers of the variables about maps, for `bpf_map_info`.
const MAPS: &str = r#"type_name=~"$type_name",name=~"$name",owner=~"$owner""#;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "ebpf-subsystem-metrics",
        title: "eBPF Subsystem Metrics",
        description: "The eBPF programs, maps, links and hooks of a node: whose they are, what they cost, what is about to fill up.",
        refresh: "30s",
        variables: vec![
            Variable::Node { nodes: Scope::FLEET.nodes() },
            Variable::Label { name: "owner", label: "Owner", selector: SCOPE.of(OWNER_INFO) },
            Variable::Label { name: "type", label: "Program type", selector: SCOPE.of(PROGRAM_INFO) },
            Variable::Label { name: "type_name", label: "Map type", selector: SCOPE.of(MAP_INFO) },
            Variable::Text { name: "name", label: "Name (regex)", value: ".*" },
        ],
        rows: vec![
            overview(),
            programs(),
            maps(),
            owners(),
            attached::hooks(),
            attached::changes(),
            events::row(),
            exporter::host(),
            exporter::row(),
        ],
    }
}

fn overview() -> Row {
    let objects = |kind: &str| format!("max({})", SCOPE.with(OBJECTS, &format!(r#"kind="{kind}""#)));
    let cpu = format!("sum({})", SCOPE.per_covered_second(OBJECTS_RUN_TIME, "", NODE, NOW));
    let full = format!("count(max by ({OBJECT}) ({}) > 0.9) or vector(0)", SCOPE.of(MAP_FILL));
    let missing =
        format!("count(max by (job, instance, feature) ({}) == 0) or vector(0)", SCOPE.of(FEATURE_AVAILABLE));
    Row {
        title: "Overview",
        panels: vec![
            Panel::stat("Programs", "Programs that are loaded.", Unit::Count, objects("program")),
            Panel::stat("Maps", "Maps that exist.", Unit::Count, objects("map")),
            Panel::stat("Links", "Links that exist.", Unit::Count, objects("link")),
            Panel::stat("CPU", "CPUs used by all programs; 100 % is one CPU.", Unit::Cpus, cpu),
            Panel::stat(
                "Memory",
                "Memory charged for all programs and maps.",
                Unit::Bytes,
                format!("sum(max by (kind) ({}))", SCOPE.of(OBJECTS_MEM)),
            ),
            Panel::stat("Maps almost full", "Maps of which more than 90 % is used, of those that refuse entries when they are full.", Unit::Count, full)
                .from(1.0, "orange", "such a map soon refuses entries, unless it was sized for exactly what it has"),
            Panel::stat(
                "Orphaned",
                "Objects that no process, pin, link or hook holds; no data unless everything could be seen.",
                Unit::Count,
                format!("sum(max by (kind) ({}))", SCOPE.of(OBJECTS_ORPHANED)),
            )
            .from(1.0, "orange", "an object without a holder cannot be used any more, yet its memory stays until reboot"),
            Panel::stat("Sources incomplete", "Sources of facts that do not see everything, for want of a right, a kernel feature or a view of the host.", Unit::Count, missing)
                .from(1.0, "orange", "what such a source does not see is absent here; the table at the end has the reasons"),
        ],
    }
}

/// Returns the programs that the variables select, each with its owner.
fn selected_programs() -> String {
    SCOPE.program_info(PROGRAMS)
}

/// Returns the maps that the variables select, each with its owner and the word for its type.
fn selected_maps() -> String {
    SCOPE.map_info(MAPS)
}

/// Returns values of programs, only those that the variables select.
fn of_selected_programs(values: &str) -> String {
    among(values, OBJECT, &SCOPE.with(PROGRAM_INFO, PROGRAMS))
}

/// Returns values of maps, only those that the variables select.
fn of_selected_maps(values: &str) -> String {
    among(values, OBJECT, &SCOPE.with(MAP_INFO, MAPS))
}

fn programs() -> Row {
    let graph = |expression: String| format!("topk(10, {})", of_selected_programs(&expression));
    let missed = format!("max by ({OBJECT}) (rate({}[{GRAPH}])) > 0", SCOPE.of(PROGRAM_RECURSION_MISSES));
    let missed_links =
        format!("max by (job, instance, id, prog_id) (rate({}[{GRAPH}])) > 0", SCOPE.of(LINK_MISSED));
    // Where run statistics are off nothing has a CPU share; programs are listed all the same.
    let any = format!("0 * max by ({OBJECT}) ({})", SCOPE.of(PROGRAM_INFO));
    let cpu = SCOPE.cpu_share(NOW);
    let top = format!("topk(100, {})", of_selected_programs(&format!("({cpu} or on ({OBJECT}) {any})")));
    let column = |expression: &str| among(expression, OBJECT, &top);
    let max = |metric| format!("max by ({OBJECT}) ({})", SCOPE.of(metric));
    let recent_misses = format!("max by ({OBJECT}) (rate({}[{NOW}]))", SCOPE.of(PROGRAM_RECURSION_MISSES));
    let queries = vec![
        Query::new(
            "Info",
            Unit::Count,
            format!("max by ({OBJECT}, owner_kind, owner) ({})", column(&selected_programs())),
        ),
        Query::new("CPU", Unit::Cpus, column(&cpu)),
        Query::new("Runs", Unit::PerSecond, column(&SCOPE.runs_per_second(NOW))),
        Query::new("Time per run", Unit::Seconds, column(&SCOPE.seconds_per_run(NOW))),
        Query::new("Missed runs", Unit::PerSecond, column(&recent_misses)),
        Query::new("Memory", Unit::Bytes, column(&max(PROGRAM_MEM))),
    ];
    Row {
        title: "Programs",
        panels: vec![
            Panel::graph(
                "CPU by program",
                "CPUs used by each of the ten programs that use most: run time per second in which run statistics were on.",
                Unit::Cpus,
                "{{name}} ({{type}} {{id}})",
                graph(SCOPE.cpu_share(GRAPH)),
            ),
            Panel::graph(
                "Runs by program",
                "Runs per second of each of the ten programs that run most often.",
                Unit::PerSecond,
                "{{name}} ({{type}} {{id}})",
                graph(SCOPE.runs_per_second(GRAPH)),
            ),
            Panel::graph(
                "Missed runs",
                "Runs that the kernel skipped because the program, or another probe, was already running on that CPU; counted also while run statistics are off.",
                Unit::PerSecond,
                "{{name}} ({{type}} {{id}})",
                format!("topk(10, {})", of_selected_programs(&missed)),
            )
            .and("link {{id}} of program {{prog_id}}", format!("topk(10, {missed_links})"))
            .from(1.0, "orange", "a tracing or security tool that misses a run a second reports events incompletely"),
            Panel::table(
                "Programs by CPU",
                "The 100 programs that use most CPU, with their owners; without CPU and runs while run statistics are off.",
                &PROGRAM_COLUMNS,
                queries,
                &[("CPU", true)],
            )
            .hide("Info"),
        ],
    }
}

fn maps() -> Row {
    let graph = |expression: &str| format!("topk(10, {})", of_selected_maps(expression));
    let by_map = |metric| format!("max by ({OBJECT}) ({})", SCOPE.of(metric));
    let fill = by_map(MAP_FILL);
    let growth = format!("max by ({OBJECT}) ({})", per_hour(&SCOPE.of(MAP_ENTRIES)));
    // A ring buffer has no fill; its backlog is compared with its size. Other maps come last, in any order.
    let backlog = format!("{} / on ({OBJECT}) {}", by_map(MAP_BACKLOG), by_map(MAP_MAX_ENTRIES));
    let any = format!("0 * {}", by_map(MAP_INFO));
    let rank = format!("({fill} or on ({OBJECT}) {backlog} or on ({OBJECT}) {any})");
    let top = format!("topk(100, {})", of_selected_maps(&rank));
    let column = |expression: &str| among(expression, OBJECT, &top);
    let queries = vec![
        Query::new(
            "Info",
            Unit::Count,
            format!("max by ({OBJECT}, type_name, owner_kind, owner) ({})", column(&selected_maps())),
        ),
        Query::new("Fill", Unit::Ratio, column(&fill)),
        Query::new("Entries", Unit::Count, column(&by_map(MAP_ENTRIES))),
        Query::new("Growth per hour", Unit::Count, column(&growth)),
        Query::new("Maximum", Unit::Count, column(&by_map(MAP_MAX_ENTRIES))),
        Query::new("Backlog", Unit::Bytes, column(&by_map(MAP_BACKLOG))),
        Query::new("Memory", Unit::Bytes, column(&by_map(MAP_MEM))),
    ];
    Row {
        title: "Maps",
        panels: vec![
            Panel::graph(
                "Fill",
                "Part of the entries in use of the ten fullest maps, of those that refuse entries when they are full.",
                Unit::Ratio,
                "{{name}} ({{id}})",
                graph(&fill),
            )
            .size(6, 8)
            .from(0.9, "orange", "a map that is full refuses the next entry, and its program takes another path or loses the event"),
            Panel::graph(
                "Growth",
                "Entries that each of the ten fastest growing maps gains in an hour, by the slope of the last half hour.",
                Unit::Count,
                "{{name}} ({{id}})",
                format!("topk(10, {})", of_selected_maps(&format!("({growth} > 0)"))),
            )
            .size(6, 8),
            Panel::graph(
                "Ring buffer backlog",
                "Bytes in ring buffers that no consumer has read yet; a buffer that is full drops events.",
                Unit::Bytes,
                "{{name}} ({{id}})",
                graph(&by_map(MAP_BACKLOG)),
            )
            .size(6, 8),
            Panel::graph(
                "Memory by map",
                "Memory charged for each of the ten largest maps.",
                Unit::Bytes,
                "{{name}} ({{id}})",
                graph(&by_map(MAP_MEM)),
            )
            .size(6, 8),
            Panel::table(
                "Maps by fill",
                "The 100 fullest maps, ring buffers by their backlog, with their owners; maps that never refuse entries have no fill.",
                &MAP_COLUMNS,
                queries,
                &[("Fill", true)],
            )
            .hide("Info")
            .bar("Fill")
            .from(0.9, "orange", "the map soon refuses entries, unless it was sized for exactly what it has"),
        ],
    }
}

const COLUMNS: [Column; 2] = [label("owner_kind", "Kind"), label("owner", "Owner")];

fn owners() -> Row {
    let matchers = r#"owner=~"$owner""#;
    let by_owner = |metric| format!("max by ({OWNER}) ({})", SCOPE.with(metric, matchers));
    let cpu = |window| SCOPE.per_covered_second(OWNER_RUN_TIME, matchers, OWNER, window);
    let queries = vec![
        Query::new("CPU", Unit::Cpus, cpu(NOW)),
        Query::new("Memory", Unit::Bytes, by_owner(OWNER_MEM)),
        Query::new("Programs", Unit::Count, by_owner(OWNER_PROGRAMS)),
        Query::new("Maps", Unit::Count, by_owner(OWNER_MAPS)),
        Query::new("Links", Unit::Count, by_owner(OWNER_LINKS)),
    ];
    Row {
        title: "Owners",
        panels: vec![
            Panel::graph(
                "CPU by owner",
                "CPUs used by the programs of each of the ten owners that use most, unloaded programs included.",
                Unit::Cpus,
                "{{owner}} ({{owner_kind}})",
                format!("topk(10, {})", cpu(GRAPH)),
            )
            .stacked()
            .size(12, 8),
            Panel::graph(
                "Memory by owner",
                "Memory charged for the programs and maps of each of the ten owners that hold most.",
                Unit::Bytes,
                "{{owner}} ({{owner_kind}})",
                format!("topk(10, {})", by_owner(OWNER_MEM)),
            )
            .stacked()
            .size(12, 8),
            Panel::table(
                "Owners",
                "What each pod, container, unit, process or pin directory costs, and how many objects it owns.",
                &COLUMNS,
                queries,
                &[("CPU", true), ("Memory", true)],
            ),
        ],
    }
}
