//! Series that need a join, or that several alerts use: names of nodes, owners of what costs most, totals of namespaces, and which
//! programs the nodes of a fleet have in common.

use crate::names::{
    BUILD_INFO, MAP_BACKLOG, MAP_FILL, MAP_MAX_ENTRIES, OWNER_INFO, OWNER_LINKS, OWNER_MAPS, OWNER_MEM,
    OWNER_PROGRAMS, OWNER_RUN_TIME, PROGRAM_RECURSION_MISSES,
};
use crate::promql::{self, NODE, OBJECT, OWNER, PROGRAM_OF_JOB, Scope, WORKLOAD};

use super::{Group, Recording, Rule};

/// The node of each exporter.
pub const NODE_NAME: &str = "instance:bpf_node:info";
/// Each name of the node of each exporter.
pub const NODE_ALIAS: &str = "instance:bpf_node_alias:info";
/// Nodes that other exporters know, each with its cluster.
pub const KNOWN_NODE: &str = "node:bpf_known_node:info";
/// Those of them that have an exporter.
pub const COVERED_NODE: &str = "node:bpf_covered_node:info";
/// CPUs used by programs.
pub const PROGRAM_CPU: &str = "program:bpf_cpu_usage:rate5m";
/// Fill of maps.
pub const MAP_FILL_OF_OWNER: &str = "map:bpf_map_fill:ratio";
/// Memory of namespaces.
pub const NAMESPACE_MEM: &str = "namespace:bpf_mem_bytes:sum";
/// CPUs used by namespaces.
pub const NAMESPACE_CPU: &str = "namespace:bpf_cpu_usage:rate5m";
/// Objects of namespaces.
pub const NAMESPACE_OBJECTS: &str = "namespace:bpf_objects:sum";
/// Share of ring buffers that has not been consumed for ten minutes.
pub const RING_FLOOR: &str = "map:bpf_ring_backlog:ratio_min10m";
/// Missed runs of programs.
pub const PROGRAM_MISSES: &str = "program:bpf_recursion_misses:rate5m";
/// Programs by name.
pub const PROGRAMS: &str = "instance_name:bpf_programs:count";
/// Nodes of a job that can be compared.
pub const NODES: &str = "job:bpf_comparable_nodes:count";
/// Nodes of a job without a program that others have, by name.
pub const WITHOUT: &str = "name:bpf_nodes_without_program:count";
/// Nodes of a job with a program that nearly all of them have, by name.
pub const WITH_COMMON: &str = "name:bpf_nodes_with_common_program:count";
/// Nodes of a job without such a program, while this number is steady.
pub const WITHOUT_COMMON: &str = "name:bpf_nodes_without_common_program:count";

/// Fingerprints of the programs of each workload of a node, and of the host.
pub const FINGERPRINTS: &str = "instance_workload:bpf_fingerprint:info";
/// Nodes of a job with the fingerprint that nearly all of them have, by workload.
pub const COMMON_FINGERPRINT: &str = "workload:bpf_common_fingerprint:count";
/// Nodes and workloads with another fingerprint.
pub const OTHER_FINGERPRINT: &str = "instance_workload:bpf_other_fingerprint:info";
/// Nodes of a job with another fingerprint, by workload.
pub const NODES_WITH_OTHER: &str = "workload:bpf_nodes_with_other_fingerprint:count";

/// Types of ring buffers: `BPF_MAP_TYPE_RINGBUF` and `BPF_MAP_TYPE_USER_RINGBUF`.
const RING_TYPES: &str = r#"type=~"27|31""#;

/// Returns all recording rules.
#[must_use]
pub fn groups() -> Vec<Group> {
    // Nodes first: other rules of their group use them.
    let nodes = [nodes(), namespaces()].concat();
    let group =
        |name, rules: Vec<Recording>| Group { name, rules: rules.into_iter().map(Rule::Recording).collect() };
    vec![group("bpf-nodes", nodes), group("bpf-objects", objects()), group("bpf-fleet", fleet())]
}

fn nodes() -> Vec<Recording> {
    vec![
        Recording {
            record: NODE_NAME,
            about: "Name of the node of each exporter: that of Kubernetes, else of the host, else the instance. Over OTLP, \
                    `instance` is a UUID. The cluster is kept where the resource has `k8s.cluster.name`.",
            expression: Scope::ALL.nodes(),
        },
        Recording {
            record: NODE_ALIAS,
            about: "A series for each name that a node has, to find nodes that have no exporter; with its cluster, where that is known.",
            expression: format!("{}\nor on ({NODE}, node)\n{}", alias("host_name"), alias("k8s_node_name")),
        },
        Recording {
            record: KNOWN_NODE,
            about: "Nodes that kube-state-metrics and node_exporter know, with their cluster, where a label `k8s_cluster_name` or \
                    `cluster` says it.",
            expression: format!(
                "{}\nor on (source, cluster, node)\n{}",
                known("kube-state-metrics", "kube_node_info", "node"),
                known("node_exporter", "node_uname_info", "nodename"),
            ),
        },
        Recording {
            record: COVERED_NODE,
            about: "Those of them that have an exporter, which may be down. Where one side does not say the cluster, the name decides.",
            expression: covered(),
        },
    ]
}

/// Returns the nodes of exporters by one of their names.
fn alias(label: &str) -> String {
    let targets = Scope::ALL.select("target_info", &format!(r#"{label}!="""#));
    let named = format!(
        r#"label_replace({targets} and on ({NODE}) {}, "node", "$1", "{label}", "(.+)")"#,
        Scope::ALL.of(BUILD_INFO)
    );
    format!("group by ({NODE}, cluster, node) ({})", with_cluster(&named))
}

/// Returns the nodes that another exporter knows.
fn known(source: &str, metric: &str, label: &str) -> String {
    let named =
        format!(r#"label_replace({}, "node", "$1", "{label}", "(.+)")"#, Scope::ALL.select(metric, ""));
    let of_source = format!(r#"label_replace({}, "source", "{source}", "", "")"#, with_cluster(&named));
    format!("group by (source, cluster, node) ({of_source})")
}

/// Returns series with their cluster in one label, wherever it was.
fn with_cluster(series: &str) -> String {
    format!(r#"label_replace({series}, "cluster", "$1", "k8s_cluster_name", "(.+)")"#)
}

fn covered() -> String {
    // The names of an exporter that is down are those that it had.
    let names = |matchers: &str| {
        let names = Scope::ALL.select(NODE_ALIAS, matchers);
        let down = Scope::ALL.select("up", "");
        format!("({names} or on ({NODE}, node) (last_over_time({names}[1d]) and on ({NODE}) {down} == 0))")
    };
    format!(
        "({KNOWN_NODE} and on (cluster, node) {})\n\
         or on (source, cluster, node)\n\
         ({KNOWN_NODE} and on (node) {})\n\
         or on (source, cluster, node)\n\
         ({} and on (node) {})",
        names(""),
        names(r#"cluster="""#),
        Scope::ALL.select(KNOWN_NODE, r#"cluster="""#),
        names(""),
    )
}

fn namespaces() -> Vec<Recording> {
    let pods = Scope::ALL.one_of_each(OWNER, OWNER_INFO, r#"owner_kind="pod",k8s_namespace_name!="""#);
    // Summed per node first: the join with the names of nodes then has few series.
    let total = |value: &str| {
        format!(
            "sum by (job, k8s_cluster_name, k8s_namespace_name) (\n  \
               sum by ({NODE}, k8s_namespace_name) (\n    \
                 {value}\n    \
                 * on ({OWNER}) group_left (k8s_namespace_name) {pods}\n  \
               )\n  \
               * on ({NODE}) group_left (k8s_cluster_name) {NODE_NAME}\n\
             )"
        )
    };
    let of_pods = |metric| Scope::ALL.with(metric, r#"owner_kind="pod""#);
    let gauge = |metric| total(&format!("max by ({OWNER}) ({})", of_pods(metric)));
    let cpu = Scope::ALL.per_covered_second(OWNER_RUN_TIME, r#"owner_kind="pod""#, OWNER, "5m");
    let kinds = [(OWNER_PROGRAMS, "program"), (OWNER_MAPS, "map"), (OWNER_LINKS, "link")];
    let objects = kinds
        .map(|(metric, kind)| format!(r#"label_replace({}, "kind", "{kind}", "", "")"#, gauge(metric)))
        .join("\nor on (job, k8s_cluster_name, k8s_namespace_name, kind)\n");
    vec![
        Recording {
            record: NAMESPACE_MEM,
            about: "Memory of the programs and maps of all pods of a namespace.",
            expression: gauge(OWNER_MEM),
        },
        Recording {
            record: NAMESPACE_CPU,
            about: "CPUs used by the programs of all pods of a namespace.",
            expression: total(&cpu),
        },
        Recording {
            record: NAMESPACE_OBJECTS,
            about: "Objects of all pods of a namespace, by kind.",
            expression: objects,
        },
    ]
}

fn objects() -> Vec<Recording> {
    vec![
        Recording {
            record: PROGRAM_CPU,
            about: "CPUs used by each program, with its owner. Programs that use less than a ten-thousandth of a CPU are left out: \
                    on most nodes these are almost all, and each would be one more series. Costs a rate of each program.",
            expression: format!(
                "({} > 0.0001)\n* on ({OBJECT}) group_left (owner_kind, owner)\n{}",
                Scope::ALL.cpu_share("5m"),
                Scope::ALL.program_info(""),
            ),
        },
        Recording {
            record: MAP_FILL_OF_OWNER,
            about: "Fill of each map that refuses entries when it is full, with its owner; of maps that are more than half full, since \
                    the others are many, and their fill needs no attention.",
            expression: format!(
                "(max by ({OBJECT}) ({}) > 0.5)\n* on ({OBJECT}) group_left (type_name, owner_kind, owner)\n{}",
                Scope::ALL.of(MAP_FILL),
                Scope::ALL.map_info(""),
            ),
        },
        Recording {
            record: RING_FLOOR,
            about: "Share of each ring buffer that was waiting for its consumer all the time in ten minutes. A consumer that \
                    drains it in bursts brings this to 0. The maximum number of entries of a ring buffer is its size in bytes. \
                    A node has few ring buffers, so the range costs little.",
            expression: format!(
                "min by ({OBJECT}) (min_over_time({}[10m]))\n/ on ({OBJECT})\nmax by ({OBJECT}) ({})",
                Scope::ALL.of(MAP_BACKLOG),
                Scope::ALL.with(MAP_MAX_ENTRIES, RING_TYPES),
            ),
        },
        Recording {
            record: PROGRAM_MISSES,
            about: "Missed runs of each program that misses more than one per second.",
            expression: format!(
                "sum by ({OBJECT}) (rate({}[5m])) > 1",
                Scope::ALL.of(PROGRAM_RECURSION_MISSES)
            ),
        },
    ]
}

fn fleet() -> Vec<Recording> {
    let with = format!("count by ({PROGRAM_OF_JOB}) ({PROGRAMS})");
    vec![
        Recording {
            record: PROGRAMS,
            about: "Programs of each node by name and type: ids are new after each load, and tags differ while a new version is \
                    rolled out. Nodes that drop series are left out, since their programs are not all known. Reads the information \
                    of each program once; what follows has a series per name.",
            expression: Scope::ALL.programs_by_name(),
        },
        Recording {
            record: NODES,
            about: "Nodes of each job that do not drop series.",
            expression: Scope::ALL.number_of_comparable_nodes(),
        },
        Recording {
            record: WITHOUT,
            about: "Nodes of a job without a program of this name and type, for each that a node of the job has.",
            expression: format!("{NODES}\n- on (job) group_right ()\n{with}"),
        },
        Recording {
            record: WITH_COMMON,
            about: "Nodes of a job with a program, for programs that nearly all of them have: all but a tenth, or but one if there are \
                    fewer than ten. With fewer than five, there is no telling which of them differs.",
            expression: promql::common_programs(&with, NODES),
        },
        Recording {
            record: WITHOUT_COMMON,
            about: "Nodes of a job without such a program. While a version with other programs is rolled out, the number of nodes \
                    without one changes by more than one in an hour; such a program is left out, and so is one that is new to the \
                    job. Nodes that are added or removed change nothing.",
            expression: format!(
                "{WITHOUT}\n\
                 and on ({PROGRAM_OF_JOB}) {WITH_COMMON}\n\
                 and on ({PROGRAM_OF_JOB}) (abs({WITHOUT} - on ({PROGRAM_OF_JOB}) {WITHOUT} offset 1h) <= 1)"
            ),
        },
        Recording {
            record: FINGERPRINTS,
            about: "Fingerprint of the programs of each owner of a node, and of the host, which has no workload. Pods of one controller \
                    are one workload. Objects without a known owner are the kernel's, and are left out.",
            expression: Scope::ALL.fingerprints(),
        },
        Recording {
            record: COMMON_FINGERPRINT,
            about: "Nodes of a job with the fingerprint that nearly all nodes with the workload have: all but a tenth, or but one if there \
                    are fewer than ten. With fewer than five, there is no telling which of them differs.",
            expression: promql::common_fingerprints(FINGERPRINTS),
        },
        Recording {
            record: OTHER_FINGERPRINT,
            about: "Nodes and workloads with another fingerprint, where there is such a common one.",
            expression: promql::other_fingerprints(FINGERPRINTS, COMMON_FINGERPRINT),
        },
        Recording {
            record: NODES_WITH_OTHER,
            about: "Number of these nodes: it changes by more than one in an hour while another version is rolled out.",
            expression: format!("count by ({WORKLOAD}) ({OTHER_FINGERPRINT})"),
        },
    ]
}
