//! *eBPF Fleet*: all nodes side by side, and which of them differ.

use super::{GRAPH, NOW, label, map_id};
use crate::grafana::{Column, Dashboard, Link, Panel, Query, Row, Unit, Variable};
use crate::names::{
    BUILD_INFO, FEATURE_AVAILABLE, MAP_FILL, MAP_MEM, Metric, OBJECTS, OBJECTS_MEM, OBJECTS_ORPHANED,
    OBJECTS_RUN_TIME, OTLP_DROPPED_POINTS, OWNER_INFO, OWNER_LINKS, OWNER_MAPS, OWNER_MEM, OWNER_PROGRAMS,
    OWNER_RUN_TIME, PROGRAM_INFO, PROGRAM_UNEXPECTED,
};
use crate::promql::{self, NODE, OBJECT, OWNER, PROGRAM_OF_JOB as PROGRAM, Scope};

const SCOPE: Scope = Scope::FLEET;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "ebpf-fleet",
        title: "eBPF Fleet",
        description: "The eBPF of all nodes: what each costs, which nodes differ from the others, and who owns most.",
        refresh: "5m",
        variables: vec![Variable::Node { nodes: SCOPE.nodes() }],
        rows: vec![overview(), nodes(), differences(), owners(), maps()],
    }
}

/// Returns the CPUs that the programs of each node use.
fn cpu_by_node(window: &str) -> String {
    SCOPE.per_covered_second(OBJECTS_RUN_TIME, "", NODE, window)
}

fn overview() -> Row {
    let exporters = format!("count(group by ({NODE}) ({}))", SCOPE.of(BUILD_INFO));
    Row {
        title: "Overview",
        panels: vec![
            Panel::stat("Nodes", "Exporters that report now.", Unit::Count, exporters),
            Panel::stat(
                "Programs",
                "Programs on all nodes.",
                Unit::Count,
                format!("sum({})", of_nodes(OBJECTS, r#"kind="program""#)),
            ),
            Panel::stat(
                "Maps",
                "Maps on all nodes.",
                Unit::Count,
                format!("sum({})", of_nodes(OBJECTS, r#"kind="map""#)),
            ),
            Panel::stat(
                "CPU",
                "CPUs used by the programs of all nodes; 100 % is one CPU.",
                Unit::Cpus,
                format!("sum({})", cpu_by_node(NOW)),
            ),
            Panel::stat(
                "Memory",
                "Memory charged for the programs and maps of all nodes.",
                Unit::Bytes,
                format!("sum({})", of_nodes(OBJECTS_MEM, "")),
            ),
            Panel::stat(
                "Orphaned",
                "Objects without a holder on all nodes that can tell.",
                Unit::Count,
                format!("sum({})", of_nodes(OBJECTS_ORPHANED, "")),
            )
            .from(1.0, "orange", "their memory stays until the node reboots"),
            Panel::stat(
                "Nodes that differ",
                "Nodes that lack a program which nearly all nodes of their job have: all but a tenth or one, of at least five.",
                Unit::Count,
                format!("count(({}) > 0) or vector(0)", missing()),
            )
            .from(1.0, "orange", "an agent is missing or has not loaded everything there"),
            Panel::stat(
                "Dropped points",
                "OTLP points dropped per second on all nodes.",
                Unit::PerSecond,
                format!(
                    "sum(max by (job, instance, destination, reason) (rate({}[{NOW}]))) or vector(0)",
                    SCOPE.of(OTLP_DROPPED_POINTS)
                ),
            )
            .from(0.001, "orange", "points are lost, unless these nodes are only scraped"),
        ],
    }
}

/// Returns the programs that nearly all nodes have, and how many do.
fn common() -> String {
    promql::common_programs(&nodes_with_program(), &number_of_nodes())
}

/// Returns the number of nodes that have a program of each name and type.
fn nodes_with_program() -> String {
    format!("count by ({PROGRAM}) ({})", SCOPE.programs_by_name())
}

/// Returns the number of nodes of each job.
fn number_of_nodes() -> String {
    SCOPE.number_of_comparable_nodes()
}

/// Returns how many of the programs that nearly all nodes have are missing on each.
fn missing() -> String {
    let all = format!("count by (job) ({})", common());
    let here =
        format!("count by ({NODE}) (({}) and on ({PROGRAM}) ({}))", SCOPE.programs_by_name(), common());
    let none = format!("0 * ({})", SCOPE.comparable_nodes());
    // The minuend has one series for each job, so the nodes are on the other side. A job without such programs misses none.
    format!("-(({here} or on ({NODE}) {none}) - on (job) group_left {all}) or on ({NODE}) {none}")
}

/// Returns the nodes and owners with other programs than nearly all nodes have of the same owner.
fn other_owners() -> String {
    let fingerprints = format!("({})", SCOPE.fingerprints());
    promql::other_fingerprints(&fingerprints, &format!("({})", promql::common_fingerprints(&fingerprints)))
}

/// Returns the nodes' values with the labels of their names.
fn named(values: &str) -> String {
    format!("({values}) * on ({NODE}) group_left (node, k8s_cluster_name) {}", SCOPE.nodes())
}

const NODES: [Column; 3] = [
    label("node", "Node"),
    label("k8s_cluster_name", "Cluster"),
    Column {
        label: "instance",
        title: "Instance",
        link: Some(Link { title: "Open the node", uid: "ebpf-subsystem-metrics", variable: "instance" }),
    },
];

const CLUSTERS: [Column; 2] = [label("job", "Job"), label("k8s_cluster_name", "Cluster")];

/// Returns a metric of each node and kind, once: a route that adds labels may have the series of two versions of the exporter.
fn of_nodes(metric: Metric, matchers: &str) -> String {
    format!("max by (job, instance, kind) ({})", SCOPE.with(metric, matchers))
}

fn nodes() -> Row {
    let by_node = |metric, matchers: &str| format!("sum by ({NODE}) ({})", of_nodes(metric, matchers));
    let full = format!("count by ({NODE}) (max by ({OBJECT}) ({}) > 0.9)", SCOPE.of(MAP_FILL));
    let unseen =
        format!("count by ({NODE}) (max by (job, instance, feature) ({}) == 0)", SCOPE.of(FEATURE_AVAILABLE));
    let others = format!("count by ({NODE}) ({})", other_owners());
    let unexpected = format!("max by ({NODE}) ({})", SCOPE.of(PROGRAM_UNEXPECTED));
    let columns = [
        ("Programs", Unit::Count, by_node(OBJECTS, r#"kind="program""#)),
        ("Maps", Unit::Count, by_node(OBJECTS, r#"kind="map""#)),
        ("Links", Unit::Count, by_node(OBJECTS, r#"kind="link""#)),
        ("CPU", Unit::Cpus, cpu_by_node(NOW)),
        ("Memory", Unit::Bytes, by_node(OBJECTS_MEM, "")),
        ("Orphaned", Unit::Count, by_node(OBJECTS_ORPHANED, "")),
        ("Maps almost full", Unit::Count, full),
        ("Programs missing", Unit::Count, missing()),
        ("Sources incomplete", Unit::Count, unseen),
        ("Owners that differ", Unit::Count, others),
        ("Unexpected programs", Unit::Count, unexpected),
    ];
    let queries = columns.map(|(title, unit, values)| Query::new(title, unit, named(&values)));
    let clusters = |values: String| format!("sum by (job, k8s_cluster_name) ({})", named(&values));
    Row {
        title: "Nodes",
        panels: vec![
            Panel::table(
                "Node by node",
                "One row for each node.",
                &NODES,
                queries.into(),
                &[("Programs missing", true), ("CPU", true)],
            )
            .size(24, 12),
            Panel::table(
                "Clusters",
                "One row for each job and cluster, by k8s.cluster.name of the resource.",
                &CLUSTERS,
                vec![
                    Query::new(
                        "Nodes",
                        Unit::Count,
                        clusters(format!("group by ({NODE}) ({})", SCOPE.of(BUILD_INFO))),
                    ),
                    Query::new("Programs", Unit::Count, clusters(by_node(OBJECTS, r#"kind="program""#))),
                    Query::new("CPU", Unit::Cpus, clusters(cpu_by_node(NOW))),
                    Query::new("Memory", Unit::Bytes, clusters(by_node(OBJECTS_MEM, ""))),
                ],
                &[("CPU", true)],
            )
            .size(8, 9),
            Panel::graph(
                "CPU by node",
                "CPUs that the programs of each of the ten most loaded nodes use.",
                Unit::Cpus,
                "{{node}}",
                named(&format!("topk(10, {})", cpu_by_node(GRAPH))),
            )
            .size(8, 9),
            Panel::graph(
                "Memory by node",
                "Memory charged for the programs and maps of each of the ten largest nodes.",
                Unit::Bytes,
                "{{node}}",
                named(&format!("topk(10, {})", by_node(OBJECTS_MEM, ""))),
            )
            .size(8, 9),
        ],
    }
}

const PROGRAMS: [Column; 3] = [label("name", "Program"), label("type", "Type"), label("job", "Job")];

fn differences() -> Row {
    let selected = Scope::SELECTED.of(PROGRAM_INFO);
    let lacking = format!("{} - on (job) group_left {}", nodes_with_program(), number_of_nodes());
    Row {
        title: "Which nodes differ",
        panels: vec![
            Panel::table(
                "Programs that some nodes lack",
                "Programs, by name and type, that nearly all nodes have, but not all.",
                &PROGRAMS,
                vec![
                    Query::new(
                        "Nodes with it",
                        Unit::Count,
                        format!("({}) and on ({PROGRAM}) ({lacking} < 0)", common()),
                    ),
                    Query::new(
                        "Nodes without it",
                        Unit::Count,
                        format!("-({lacking} < 0) and on ({PROGRAM}) ({})", common()),
                    ),
                ],
                &[("Nodes without it", true)],
            )
            .size(8, 10),
            Panel::table(
                "Missing on the selected node",
                "Programs that nearly all nodes have, and the node selected above has not.",
                &PROGRAMS,
                vec![Query::new(
                    "Nodes with it",
                    Unit::Count,
                    // What a node that drops series has is not known.
                    format!(
                        "({}) and on (job) ({}) unless on ({PROGRAM}) {selected}",
                        common(),
                        Scope::SELECTED.comparable_nodes()
                    ),
                )],
                &[("Nodes with it", true)],
            )
            .size(8, 10),
            Panel::table(
                "Only on the selected node",
                "Programs of the node selected above that no other node has.",
                &PROGRAMS,
                vec![Query::new(
                    "Nodes with it",
                    Unit::Count,
                    format!("({} == 1) and on ({PROGRAM}) {selected}", nodes_with_program()),
                )],
                &[("Program", false)],
            )
            .size(8, 10),
            Panel::list(
                "Other programs of an owner",
                "Nodes whose programs of an owner, or of all owners where none is named, are not those that nearly all nodes have, by their \
                 fingerprints.",
                &[NODES[0], NODES[1], NODES[2], WORKLOADS[0], WORKLOADS[1], WORKLOADS[2]],
                named(&other_owners()),
                &[("Owner", false)],
            )
            .size(24, 8),
        ],
    }
}

const WORKLOADS: [Column; 3] = [label("owner_kind", "Kind"), label("workload", "Owner"), label("job", "Job")];

fn owners() -> Row {
    let sum = |values: &str| format!("sum by (job, owner_kind, workload) ({})", promql::workloads(values));
    let by_owner = |metric| format!("max by ({OWNER}) ({})", SCOPE.of(metric));
    let cpu = |window| SCOPE.per_covered_second(OWNER_RUN_TIME, "", OWNER, window);
    let nodes = format!("group by ({OWNER}) ({})", SCOPE.of(OWNER_INFO));
    Row {
        title: "Owners over all nodes",
        panels: vec![
            Panel::table(
                "Owners",
                "What each workload, unit or process costs on all nodes; pods of one controller are one workload.",
                &WORKLOADS,
                vec![
                    Query::new("CPU", Unit::Cpus, sum(&cpu(NOW))),
                    Query::new("Memory", Unit::Bytes, sum(&by_owner(OWNER_MEM))),
                    Query::new("Programs", Unit::Count, sum(&by_owner(OWNER_PROGRAMS))),
                    Query::new("Maps", Unit::Count, sum(&by_owner(OWNER_MAPS))),
                    Query::new("Links", Unit::Count, sum(&by_owner(OWNER_LINKS))),
                    Query::new("Owners", Unit::Count, sum(&nodes)),
                ],
                &[("CPU", true), ("Memory", true)],
            )
            .size(14, 10),
            Panel::graph(
                "CPU by owner",
                "CPUs that the programs of each of the ten workloads that use most take on all nodes.",
                Unit::Cpus,
                "{{workload}} ({{owner_kind}})",
                format!("topk(10, {})", sum(&cpu(GRAPH))),
            )
            .stacked()
            .size(10, 10),
        ],
    }
}

const MAPS: [Column; 6] = [
    label("node", "Node"),
    label("k8s_cluster_name", "Cluster"),
    label("name", "Map"),
    label("type", "Type number"),
    map_id("id", "Id"),
    label("instance", "Instance"),
];

fn maps() -> Row {
    let top = |metric| format!("topk(20, max by ({OBJECT}) ({}))", SCOPE.of(metric));
    Row {
        title: "Maps over all nodes",
        panels: vec![
            Panel::table(
                "Fullest maps",
                "The 20 fullest maps of the fleet, of those that refuse entries when they are full.",
                &MAPS,
                vec![Query::new("Fill", Unit::Ratio, named(&top(MAP_FILL)))],
                &[("Fill", true)],
            )
            .bar("Fill")
            .from(0.9, "orange", "the map soon refuses entries, unless it was sized for exactly what it has")
            .size(12, 10),
            Panel::table(
                "Largest maps",
                "The 20 maps of the fleet that most memory is charged for.",
                &MAPS,
                vec![Query::new("Memory", Unit::Bytes, named(&top(MAP_MEM)))],
                &[("Memory", true)],
            )
            .size(12, 10),
        ],
    }
}
