//! What each recording rule yields.

use dist::names::{
    MAP_BACKLOG, OWNER_INFO, OWNER_LINKS, OWNER_MAPS, OWNER_MEM, OWNER_PROGRAMS, OWNER_RUN_TIME,
    PROGRAM_INFO, PROGRAM_RUN_TIME,
};
use dist::rules::recording::{
    COMMON_FINGERPRINT, COVERED_NODE, FINGERPRINTS, KNOWN_NODE, MAP_FILL_OF_OWNER, NAMESPACE_CPU,
    NAMESPACE_MEM, NAMESPACE_OBJECTS, NODE_ALIAS, NODE_NAME, NODES, NODES_WITH_OTHER, OTHER_FINGERPRINT,
    PROGRAM_CPU, PROGRAM_MISSES, PROGRAMS, RING_FLOOR, WITH_COMMON, WITHOUT, WITHOUT_COMMON,
};

use super::faults::{
    HEALTHY, SICK, know_nodes, two_nodes, with_agents, with_backlog, with_fill, with_fingerprints,
    with_misses,
};
use super::input::{AGENT, Input, Node, always, ramp};

/// Series, and what a rule makes of them in the last minute.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) record: &'static str,
    pub(super) input: Input,
    /// Labels and values.
    pub(super) expected: Vec<(String, f64)>,
}

/// Returns a case for each rule.
pub(super) fn cases() -> Vec<Case> {
    let case = |record, input, expected| Case { record, input, expected };
    vec![
        case(NODE_NAME, known(), [SICK, HEALTHY].map(name).into()),
        case(NODE_ALIAS, known(), [SICK, HEALTHY].map(aliases).concat()),
        case(KNOWN_NODE, known(), (1..=3).flat_map(known_as).collect()),
        case(COVERED_NODE, known(), (1..=2).flat_map(known_as).collect()),
        case(NAMESPACE_MEM, pods(), vec![(of_namespace(""), 3000.0)]),
        case(NAMESPACE_CPU, pods(), vec![(of_namespace(""), 0.75)]),
        case(
            NAMESPACE_OBJECTS,
            pods(),
            [("program", 6.0), ("map", 9.0), ("link", 12.0)]
                .map(|(kind, number)| (of_namespace(&format!(r#",kind="{kind}""#)), number))
                .into(),
        ),
        case(
            PROGRAM_CPU,
            cpu(),
            vec![(
                of(SICK, r#"id="1",name="busy",type="kprobe",owner_kind="unit",owner="tracer.service""#),
                0.25,
            )],
        ),
        case(
            MAP_FILL_OF_OWNER,
            with_fill(20, always(0.75)),
            vec![(
                of(
                    SICK,
                    r#"id="7",name="conntrack",type="1",type_name="hash",owner_kind="pod",owner="kube-system/agent""#,
                ),
                0.75,
            )],
        ),
        case(
            RING_FLOOR,
            backlog(),
            [(SICK, 0.25), (HEALTHY, 0.5)].map(|(node, floor)| (of(node, RING), floor)).into(),
        ),
        case(
            PROGRAM_MISSES,
            with_misses(None, 120.0, 60.0),
            vec![(of(SICK, r#"id="9",name="trace_exec",type="kprobe""#), 2.0)],
        ),
        case(PROGRAMS, agents(), programs_of_nodes()),
        case(NODES, agents(), vec![(r#"job="bpf""#.to_owned(), 5.0)]),
        case(WITHOUT, agents(), of_programs(1.0, 0.0)),
        case(WITH_COMMON, agents(), of_programs(4.0, 5.0)),
        case(WITHOUT_COMMON, agents(), of_programs(1.0, 0.0)),
        case(FINGERPRINTS, fingerprints(), (1..=6).flat_map(fingerprints_of).collect()),
        case(
            COMMON_FINGERPRINT,
            fingerprints(),
            vec![(format!(r#"job="bpf",{AGENTS},programs="agent""#), 5.0)],
        ),
        case(OTHER_FINGERPRINT, fingerprints(), vec![(of(SICK, AGENTS), 1.0)]),
        case(NODES_WITH_OTHER, fingerprints(), vec![(format!(r#"job="bpf",{AGENTS}"#), 1.0)]),
    ]
}

fn of(node: Node, labels: &str) -> String {
    format!(r#"job="bpf",instance="{}",{labels}"#, node.instance())
}

/// Three nodes, of which two have an exporter.
fn known() -> Input {
    let mut input = two_nodes(20);
    know_nodes(&mut input, 1..=3);
    input
}

fn name(node: Node) -> (String, f64) {
    (of(node, &format!(r#"node="{}",k8s_cluster_name="east""#, node.name())), 1.0)
}

fn aliases(node: Node) -> Vec<(String, f64)> {
    let alias = |name: &str| (of(node, &format!(r#"cluster="east",node="{name}""#)), 1.0);
    vec![alias(&node.name()), alias(&format!("ip-10-0-0-{}", node.number))]
}

fn known_as(number: u32) -> [(String, f64); 2] {
    [
        (format!(r#"source="kube-state-metrics",node="node-{number}""#), 1.0),
        (format!(r#"source="node_exporter",node="ip-10-0-0-{number}""#), 1.0),
    ]
}

/// A namespace with two pods on one node, and one on the other, which counts run times for half of the time.
fn pods() -> Input {
    let mut input = two_nodes(20);
    for (node, pod, covered) in [(SICK, "a", 60.0), (SICK, "b", 60.0), (HEALTHY, "a", 30.0)] {
        let key = format!(r#"owner_kind="pod",owner="kube-system/{pod}""#);
        let info = format!(r#"{key},k8s_namespace_name="kube-system",k8s_pod_uid="1""#);
        input.add(node, OWNER_INFO, &info, always(1.0));
        input.add(node, OWNER_MEM, &key, always(1000.0));
        // A quarter of a CPU.
        input.add(node, OWNER_RUN_TIME, &key, ramp(0, 100.0, covered / 4.0, f64::MAX));
        for (metric, number) in [(OWNER_PROGRAMS, 2.0), (OWNER_MAPS, 3.0), (OWNER_LINKS, 4.0)] {
            input.add(node, metric, &key, always(number));
        }
        // A unit belongs to no namespace.
        input.add(node, OWNER_MEM, &format!(r#"owner_kind="unit",owner="{pod}""#), always(5.0));
    }
    input.add_covered(SICK, 60.0);
    input.add_covered(HEALTHY, 30.0);
    input
}

fn of_namespace(labels: &str) -> String {
    format!(r#"job="bpf",k8s_cluster_name="east",k8s_namespace_name="kube-system"{labels}"#)
}

/// A program that uses a quarter of a CPU, and one that uses next to nothing.
fn cpu() -> Input {
    let mut input = two_nodes(20);
    for (id, name, seconds) in [(1, "busy", 15.0), (2, "idle", 0.003)] {
        let key = format!(r#"id="{id}",name="{name}",type="kprobe""#);
        let info = format!(r#"{key},tag="1",owner_kind="unit",owner="tracer.service""#);
        input.add(SICK, PROGRAM_INFO, &info, always(1.0));
        input.add(SICK, PROGRAM_RUN_TIME, &key, ramp(0, 100.0, seconds, f64::MAX));
    }
    input.add_covered(SICK, 60.0);
    input
}

const RING: &str = r#"id="8",name="events",type="27""#;

/// A ring buffer that is never drained below a quarter, and one that is always half full.
fn backlog() -> Input {
    let mut input = with_backlog(20, |minute| Some(if minute.is_multiple_of(5) { 1024.0 } else { 3072.0 }));
    let of_healthy = format!(r#"{MAP_BACKLOG}{{job="bpf",instance="{}""#, HEALTHY.instance());
    input.series.retain(|series| !series["series"].as_str().expect("it is text").starts_with(&of_healthy));
    input.add(HEALTHY, MAP_BACKLOG, RING, always(2048.0));
    input
}

const AGENTS: &str = r#"owner_kind="pod",workload="kube-system/agent""#;

/// Six nodes, of which the first one has other programs of the agent, and each another set in all.
fn fingerprints() -> Input {
    let of_agent = |node, _| Some(if node == 1 { "other" } else { "agent" });
    with_fingerprints(6, 20, of_agent, |node, _| format!("host-{node}"))
}

fn fingerprints_of(number: u32) -> [(String, f64); 3] {
    let node = if number.is_multiple_of(2) { Node::scraped(number) } else { Node::pushed(number) };
    let agent = if number == 1 { "other" } else { "agent" };
    [
        (of(node, &format!(r#"{AGENTS},programs="{agent}""#)), 1.0),
        (of(node, &format!(r#"owner_kind="process",workload="tool",programs="own-{number}""#)), 1.0),
        (of(node, &format!(r#"programs="host-{number}""#)), 1.0),
    ]
}

/// Five nodes, of which the first one lacks a program.
fn agents() -> Input {
    with_agents(5, 70, |node, name, _| !(node == 1 && name == "balance"))
}

fn programs_of_nodes() -> Vec<(String, f64)> {
    let nodes =
        (1..=5).map(|number| if number % 2 == 0 { Node::scraped(number) } else { Node::pushed(number) });
    nodes
        .flat_map(|node| AGENT.map(|(name, kind)| (node, name, kind)))
        .filter(|(node, name, _)| !(node.number == 1 && *name == "balance"))
        .map(|(node, name, kind)| (of(node, &format!(r#"name="{name}",type="{kind}""#)), 1.0))
        .collect()
}

/// A value for the program that one node lacks, and one for each of the others.
fn of_programs(lacking: f64, others: f64) -> Vec<(String, f64)> {
    let value = |name: &str| if name == "balance" { lacking } else { others };
    AGENT.map(|(name, kind)| (format!(r#"job="bpf",name="{name}",type="{kind}""#), value(name))).into()
}
