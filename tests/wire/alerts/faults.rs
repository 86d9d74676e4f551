//! For each alert, its fault and what is just not one.

use std::collections::BTreeSet;

use dist::names::{
    COLLECT_SUCCESS, DROPPED_SERIES, HOOK_DETACHED_PROGRAMS, HOOK_PROGRAMS, HOST_FINGERPRINT_INFO, ISSUES,
    JIT_LIMIT, JIT_USED, LINK_INFO, LINK_MISSED, MAP_BACKLOG, MAP_FILL, MAP_INFO, MAP_MAX_ENTRIES, Metric,
    OBJECTS_ORPHANED, OTLP_DESTINATION_INFO, OTLP_DROPPED_LOG_RECORDS, OTLP_DROPPED_POINTS, OTLP_LOG_RECORDS,
    OTLP_POINTS, OWNER_FINGERPRINT_INFO, PROGRAM_INFO, PROGRAM_RECURSION_MISSES, PROGRAM_RUNS,
    PROGRAM_UNEXPECTED,
};
use serde_json::{Value, json};

use super::input::{AGENT, Input, Node, always, ramp, step};

/// Series, and what an alert makes of them.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) alert: &'static str,
    pub(super) what: &'static str,
    pub(super) input: Input,
    /// The minute in which it fires.
    pub(super) at: u32,
    /// What fires, or nothing if it never does.
    pub(super) expected: Vec<Expected>,
}

/// An alert that fires.
#[derive(Debug)]
pub(super) struct Expected {
    /// Its labels without the severity.
    pub(super) labels: Value,
    pub(super) description: String,
}

/// Two nodes whose objects have the same ids. The second one is healthy.
pub(super) const SICK: Node = Node::pushed(1);
pub(super) const HEALTHY: Node = Node::scraped(2);

/// Returns all cases.
pub(super) fn cases() -> Vec<Case> {
    [
        map_full(),
        map_filling_up(),
        ring_buffer_backlog(),
        program_misses_runs(),
        link_misses_runs(),
        program_set_differs(),
        common_program_lost(),
        fingerprint_differs(),
        program_unexpected(),
        hook_lost_program(),
        orphans_grow(),
        jit_memory_near_limit(),
        exporter_absent(),
        exporter_silent(),
        points_dropped(),
        log_records_dropped(),
        collector_failing(),
        series_dropped(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns series of both nodes with their exporters.
pub(super) fn two_nodes(minutes: u32) -> Input {
    let mut input = Input::new(minutes);
    for node in [SICK, HEALTHY] {
        input.add_exporter(node, |_| true);
    }
    input
}

fn of_sick(labels: &Value) -> Value {
    let mut all = json!({"job": "bpf", "instance": SICK.instance()});
    for (label, value) in labels.as_object().expect("it is written as one") {
        all[label] = value.clone();
    }
    all
}

/// Returns a case with one alert of the first node.
fn fires(
    alert: &'static str,
    what: &'static str,
    at: u32,
    input: Input,
    labels: &Value,
    description: &str,
) -> Case {
    let expected = Expected { labels: of_sick(labels), description: description.to_owned() };
    Case { alert, what, input, at, expected: vec![expected] }
}

fn silent(alert: &'static str, what: &'static str, input: Input) -> Case {
    Case { alert, what, at: input.minutes, input, expected: Vec::new() }
}

const MAP: &str = r#"id="7",name="conntrack",type="1""#;

fn map_labels() -> Value {
    json!({"id": "7", "name": "conntrack", "type": "1"})
}

/// Returns both nodes with a map, which has this fill on the first, and is half full on the second.
pub(super) fn with_fill(minutes: u32, fill: impl Fn(u32) -> Option<f64>) -> Input {
    with_fill_of(1000.0, minutes, fill)
}

/// Returns the same for a map of so many entries.
fn with_fill_of(max_entries: f64, minutes: u32, fill: impl Fn(u32) -> Option<f64>) -> Input {
    let mut input = two_nodes(minutes);
    for node in [SICK, HEALTHY] {
        let labels =
            format!(r#"{MAP},map_id="7",owner_kind="pod",owner="kube-system/agent",type_name="hash""#);
        input.add(node, MAP_INFO, &labels, always(1.0));
        input.add(node, MAP_MAX_ENTRIES, MAP, always(max_entries));
    }
    input.add(SICK, MAP_FILL, MAP, fill);
    input.add(HEALTHY, MAP_FILL, MAP, always(0.5));
    input
}

fn map_full() -> Vec<Case> {
    const ALERT: &str = "BpfMapFull";
    let full = "Map 7 (conntrack) on node-1 has had no room, or nearly none, for another entry for 15 minutes; \
                its owner is kube-system/agent.";
    let fills_up = || with_fill(400, ramp(60, 0.1, 0.01, 1.0));
    let without_names = || {
        let mut input = with_fill(400, ramp(60, 0.1, 0.01, 1.0));
        let is_info = |series: &Value| {
            let name = series["series"].as_str().expect("it is text");
            name.starts_with("target_info") || name.starts_with("bpf_map_info")
        };
        input.series.retain(|series| !is_info(series));
        input
    };
    // Full after 150 minutes.
    let nameless = "Map 7 (conntrack) on 6ba7b810-9dad-51d1-80b4-000000000001 has had no room, or nearly none, for another \
                    entry for 15 minutes.";
    // Entries come and go at the limit.
    let churn = |minute: u32| match minute {
        0..150 => Some(0.1 + 0.005 * f64::from(minute)),
        _ => Some(if minute.is_multiple_of(2) { 1.0 } else { 0.9999 }),
    };
    vec![
        fires(ALERT, "a map that fills up", 166, fills_up(), &map_labels(), full),
        fires(ALERT, "three hours later", 330, fills_up(), &map_labels(), full),
        fires(ALERT, "without names", 166, without_names(), &map_labels(), nameless),
        fires(ALERT, "a table whose entries come and go", 166, with_fill(400, churn), &map_labels(), full),
        fires(ALERT, "64 entries", 166, with_fill_of(64.0, 400, churn), &map_labels(), full),
        silent(ALERT, "a map with some room", with_fill(400, ramp(60, 0.1, 0.01, 0.99))),
        silent(ALERT, "a flag that is set late", with_fill_of(1.0, 400, step(60, 0.0, 1.0))),
        silent(ALERT, "63 slots", with_fill_of(63.0, 400, ramp(60, 0.1, 0.01, 1.0))),
        silent(ALERT, "a map filled at load", with_fill(400, |minute| (minute >= 60).then_some(1.0))),
        silent(
            ALERT,
            "a map filled within the minute after load",
            with_fill(400, |minute| match minute {
                0..60 => None,
                60 => Some(0.4),
                _ => Some(1.0),
            }),
        ),
        silent(
            ALERT,
            "a map that is full for ten minutes in an hour",
            with_fill(400, |minute| Some(if minute % 60 < 10 { 1.0 } else { 0.6 })),
        ),
    ]
}

fn map_filling_up() -> Vec<Case> {
    const ALERT: &str = "BpfMapFillingUp";
    let filling = "Map 7 (conntrack) on node-1 is 82.5% full and will refuse entries within the hour; \
                   its owner is kube-system/agent.";
    vec![
        // 30 % per hour: it is above 70 % after two hours, and 82.5 % full 25 minutes later.
        fires(ALERT, "steady growth", 145, with_fill(200, ramp(0, 0.1, 0.005, 1.0)), &map_labels(), filling),
        silent(ALERT, "a map that is full soon", with_fill(200, ramp(30, 0.7, 0.02, 1.0))),
        silent(ALERT, "a few slots", with_fill_of(20.0, 200, ramp(0, 0.1, 0.005, 1.0))),
        silent(ALERT, "growth that needs two hours", with_fill(200, ramp(0, 0.45, 0.002, 0.8))),
        silent(ALERT, "growth below 70 %", with_fill(200, ramp(0, 0.0, 0.01, 0.69))),
        silent(ALERT, "a map populated at load", with_fill(200, |minute| (minute >= 60).then_some(0.9))),
        silent(ALERT, "a map populated later at once", with_fill(200, step(60, 0.1, 0.95))),
        silent(
            ALERT,
            "a map that is cleaned up every 40 minutes",
            with_fill(400, |minute| Some(0.5 + 0.01 * f64::from(minute % 40))),
        ),
    ]
}

const RING: &str = r#"id="8",name="events",type="27""#;

pub(super) fn with_backlog(minutes: u32, backlog: impl Fn(u32) -> Option<f64>) -> Input {
    let mut input = two_nodes(minutes);
    for node in [SICK, HEALTHY] {
        input.add(node, MAP_MAX_ENTRIES, RING, always(4096.0));
        input.add(
            node,
            MAP_INFO,
            &format!(r#"{RING},owner_kind="unit",owner="tracer.service""#),
            always(1.0),
        );
    }
    input.add(SICK, MAP_BACKLOG, RING, backlog);
    input.add(HEALTHY, MAP_BACKLOG, RING, always(100.0));
    input
}

fn ring_buffer_backlog() -> Vec<Case> {
    const ALERT: &str = "BpfRingBufferBacklog";
    let labels = json!({"id": "8", "name": "events", "type": "27"});
    let waits = |share: &str| {
        format!(
            "{share} of ring buffer 8 (events) on node-1 have been waiting for their consumer for more than ten minutes; \
             its owner is tracer.service. When it is full, events are lost."
        )
    };
    vec![
        fires(
            ALERT,
            "a consumer that stopped",
            60,
            with_backlog(120, step(20, 0.0, 3072.0)),
            &labels,
            &waits("75%"),
        ),
        // 5.9 % in ten minutes. It stays where it is at the end, so that the smallest value of the window is clear.
        fires(
            ALERT,
            "a growing backlog",
            61,
            with_backlog(120, ramp(0, 0.0, 24.0, 1200.0)),
            &labels,
            &waits("29.3%"),
        ),
        silent(ALERT, "a backlog that stays", with_backlog(240, always(2000.0))),
        silent(ALERT, "a backlog that grows slowly", with_backlog(300, ramp(0, 0.0, 5.0, 1500.0))),
        silent(
            ALERT,
            "bursts",
            with_backlog(300, |minute| Some(if minute % 15 == 0 { 0.0 } else { 4000.0 })),
        ),
    ]
}

const PROGRAM: &str = r#"id="9",name="trace_exec",type="kprobe""#;

/// Returns both nodes with a program of so many runs and misses per minute; only the first one misses any.
pub(super) fn with_misses(runs: Option<f64>, misses: f64, covered: f64) -> Input {
    let mut input = two_nodes(90);
    for node in [SICK, HEALTHY] {
        input.add(
            node,
            PROGRAM_INFO,
            &format!(r#"{PROGRAM},prog_id="9",owner_kind="unit",owner="tracer.service""#),
            always(1.0),
        );
        if let Some(runs) = runs {
            input.add(node, PROGRAM_RUNS, PROGRAM, ramp(0, 5.0, runs, f64::MAX));
        }
        input.add_covered(node, covered);
    }
    input.add(SICK, PROGRAM_RECURSION_MISSES, PROGRAM, ramp(0, 3.0, misses, f64::MAX));
    input.add(HEALTHY, PROGRAM_RECURSION_MISSES, PROGRAM, always(3.0));
    input
}

fn program_misses_runs() -> Vec<Case> {
    const ALERT: &str = "BpfProgramMissesRuns";
    let labels = json!({"id": "9", "name": "trace_exec", "type": "kprobe"});
    let misses = |rate: &str| {
        format!(
            "The kernel skips {rate} runs per second of program 9 (trace_exec, kprobe) on node-1; \
             its owner is tracer.service: what it counts or enforces is incomplete."
        )
    };
    vec![
        fires(ALERT, "2 % missed", 60, with_misses(Some(6000.0), 120.0, 60.0), &labels, &misses("2")),
        // A tenth of 6,000 runs is counted, in a tenth of the time.
        fires(ALERT, "2 % missed, sampled", 60, with_misses(Some(600.0), 120.0, 6.0), &labels, &misses("2")),
        fires(ALERT, "statistics are off", 60, with_misses(None, 720.0, 0.0), &labels, &misses("12")),
        silent(ALERT, "0.9 % missed", with_misses(Some(60_000.0), 540.0, 60.0)),
        silent(ALERT, "0.9 % missed, sampled", with_misses(Some(6000.0), 540.0, 6.0)),
        silent(ALERT, "one in two, but less than one per second", with_misses(Some(100.0), 54.0, 60.0)),
        silent(ALERT, "9 per second, statistics are off", with_misses(None, 540.0, 0.0)),
    ]
}

fn with_link_misses(runs: Option<f64>, missed: f64, covered: f64) -> Input {
    let mut input = with_misses(runs, 0.0, covered);
    for node in [SICK, HEALTHY] {
        for (link, target) in [(20, "do_exit"), (21, "do_exit")] {
            let labels = format!(r#"id="{link}",prog_id="9",type="7""#);
            input.add(node, LINK_INFO, &format!(r#"{labels},target="{target}""#), always(1.0));
            let missed = if node.number == SICK.number { missed / 2.0 } else { 0.0 };
            input.add(node, LINK_MISSED, &labels, ramp(0, 0.0, missed, f64::MAX));
        }
    }
    input
}

fn link_misses_runs() -> Vec<Case> {
    const ALERT: &str = "BpfLinkMissesRuns";
    let labels = json!({"prog_id": "9"});
    let misses = |rate: &str| {
        format!("The probes of program 9 on node-1 miss {rate} runs per second, the first at do_exit.")
    };
    vec![
        fires(ALERT, "2 % missed", 60, with_link_misses(Some(600.0), 120.0, 6.0), &labels, &misses("2")),
        fires(ALERT, "statistics are off", 60, with_link_misses(None, 720.0, 0.0), &labels, &misses("12")),
        silent(ALERT, "0.9 % missed", with_link_misses(Some(6000.0), 540.0, 6.0)),
        silent(ALERT, "9 per second, statistics are off", with_link_misses(None, 540.0, 0.0)),
    ]
}

/// Returns nodes with the programs of an agent; `has` says which node has a program in a minute.
pub(super) fn with_agents(nodes: u32, minutes: u32, has: impl Fn(u32, &str, u32) -> bool) -> Input {
    with_programs(nodes, minutes, &AGENT, has)
}

/// Returns the same with these programs, by name and type.
fn with_programs(
    nodes: u32,
    minutes: u32,
    programs: &[(&str, &str)],
    has: impl Fn(u32, &str, u32) -> bool,
) -> Input {
    let mut input = Input::new(minutes);
    for number in 1..=nodes {
        let node = if number % 2 == 0 { Node::scraped(number) } else { Node::pushed(number) };
        input.add_exporter(node, |_| true);
        for (id, (name, kind)) in (1..).zip(programs) {
            // Ids and tags differ between nodes.
            let labels = format!(r#"id="{}",name="{name}",type="{kind}",tag="{number}""#, id + number);
            input.add(node, PROGRAM_INFO, &labels, |minute| has(number, name, minute).then_some(1.0));
        }
        // Neither the exporter's own programs nor those for devices say anything.
        let own = r#"id="900",name="bpf_metrics_exporter_map",type="tracing""#;
        input.add(node, PROGRAM_INFO, own, |_| (number > 1).then_some(1.0));
        let device = r#"id="901",name="sd_devices",type="cgroup_device""#;
        input.add(node, PROGRAM_INFO, device, |_| (number > 1).then_some(1.0));
        let nameless = r#"id="902",type="cgroup_skb""#;
        input.add(node, PROGRAM_INFO, nameless, |_| (number > 1).then_some(1.0));
    }
    input
}

fn program_set_differs() -> Vec<Case> {
    const ALERT: &str = "BpfProgramSetDiffers";
    let lacks =
        |number: u32| format!("node-1 lacks {number} of the programs that nearly all nodes of job bpf have.");
    let without_balance = |nodes: u32| {
        with_agents(nodes, 240, |node, name, minute| !(node == 1 && name == "balance" && minute >= 100))
    };
    let drops = || {
        let mut input = without_balance(10);
        input.add(SICK, DROPPED_SERIES, "", always(3.0));
        input
    };
    let two_of = |nodes: u32| {
        with_agents(nodes, 240, |node, name, minute| !(node <= 2 && name == "balance" && minute >= 100))
    };
    vec![
        fires(
            ALERT,
            "a program is not loaded on one of ten",
            160,
            without_balance(10),
            &json!({}),
            &lacks(1),
        ),
        fires(
            ALERT,
            "a program is not loaded on one of nine",
            160,
            without_balance(9),
            &json!({}),
            &lacks(1),
        ),
        fires(
            ALERT,
            "a program is not loaded on one of five",
            160,
            without_balance(5),
            &json!({}),
            &lacks(1),
        ),
        fires(
            ALERT,
            "an agent is not running on one node",
            160,
            with_agents(10, 240, |node, _, minute| !(node == 1 && minute >= 100)),
            &json!({}),
            &lacks(4),
        ),
        silent(ALERT, "a program is not loaded on one of four", without_balance(4)),
        silent(ALERT, "a node that drops series", drops()),
        silent(
            ALERT,
            "an agent is not running for 25 minutes",
            with_agents(10, 240, |node, _, minute| !(node == 1 && (100..125).contains(&minute))),
        ),
        silent(ALERT, "a fifth of ten nodes is without", two_of(10)),
        silent(ALERT, "two of nine nodes are without", two_of(9)),
        silent(
            ALERT,
            "a program is rolled out over three hours",
            with_agents(10, 400, |node, name, minute| name != "balance" || minute >= 100 + 20 * node),
        ),
    ]
}

/// The pods of an agent on ten nodes.
const PODS: [&str; 10] =
    ["x7k2p", "b4d9f", "c8h6j", "n5v2w", "z9q4r", "t6s8l", "m2k7g", "w4x9c", "d5f8b", "h6j2n"];

/// Returns nodes whose programs have these fingerprints: those of the agent, which is a pod of a `DaemonSet`, and those of the host.
pub(super) fn with_fingerprints(
    nodes: u32,
    minutes: u32,
    of_agent: impl Fn(u32, u32) -> Option<&'static str>,
    of_host: impl Fn(u32, u32) -> String,
) -> Input {
    let mut input = Input::new(minutes);
    for (number, pod) in (1..=nodes).zip(PODS) {
        let node = if number.is_multiple_of(2) { Node::scraped(number) } else { Node::pushed(number) };
        input.add_exporter(node, |_| true);
        let agents: BTreeSet<&str> = (0..=minutes).filter_map(|minute| of_agent(number, minute)).collect();
        for programs in agents {
            let labels = format!(r#"owner_kind="pod",owner="kube-system/agent-{pod}",programs="{programs}""#);
            let there = |minute| (of_agent(number, minute) == Some(programs)).then_some(1.0);
            input.add(node, OWNER_FINGERPRINT_INFO, &labels, there);
        }
        let hosts: BTreeSet<String> = (0..=minutes).map(|minute| of_host(number, minute)).collect();
        for programs in hosts {
            let there = |minute| (of_host(number, minute) == programs).then_some(1.0);
            input.add(node, HOST_FINGERPRINT_INFO, &format!(r#"programs="{programs}""#), there);
        }
        // What nobody is known to own, and a tool that each node runs in another way.
        for owner in [r#"owner_kind="kernel",owner="kernel""#, r#"owner_kind="process",owner="tool""#] {
            let labels = format!(r#"{owner},programs="own-{number}""#);
            input.add(node, OWNER_FINGERPRINT_INFO, &labels, always(1.0));
        }
    }
    input
}

fn fingerprint_differs() -> Vec<Case> {
    const ALERT: &str = "BpfFingerprintDiffers";
    let of_agent = json!({"owner_kind": "pod", "workload": "kube-system/agent"});
    let agent =
        "The programs of kube-system/agent on node-1 are not those that nearly all nodes of job bpf have.";
    let host = "The programs on node-1 are not those that nearly all nodes of job bpf have.";
    // Hosts with containers each have programs of their own.
    let own = |node: u32, _| format!("host-{node}");
    let same = |_, _| "same".to_owned();
    let one = |nodes: u32| {
        with_fingerprints(
            nodes,
            240,
            |node, minute| Some(if node == 1 && minute >= 100 { "other" } else { "agent" }),
            own,
        )
    };
    let host_of_one = |node: u32, minute: u32| {
        if node == 1 && minute >= 100 { "other".to_owned() } else { "same".to_owned() }
    };
    let upgraded = |pace: u32| {
        with_fingerprints(
            10,
            500,
            move |node, minute| Some(if minute < 100 + pace * node { "old" } else { "new" }),
            own,
        )
    };
    vec![
        fires(ALERT, "one of ten has another version", 200, one(10), &of_agent, agent),
        fires(ALERT, "one of five has another version", 200, one(5), &of_agent, agent),
        fires(
            ALERT,
            "one more program, of no agent",
            200,
            with_fingerprints(10, 240, |_, _| Some("agent"), host_of_one),
            &json!({}),
            host,
        ),
        fires(
            ALERT,
            "an agent that explains the host",
            200,
            with_fingerprints(
                10,
                240,
                |node, minute| Some(if node == 1 && minute >= 100 { "other" } else { "agent" }),
                host_of_one,
            ),
            &of_agent,
            agent,
        ),
        fires(
            ALERT,
            "a node that stays behind",
            350,
            with_fingerprints(
                10,
                400,
                |node, minute| Some(if node == 1 || minute < 100 + 8 * node { "old" } else { "new" }),
                own,
            ),
            &of_agent,
            agent,
        ),
        silent(ALERT, "one of four", one(4)),
        silent(
            ALERT,
            "an upgrade that takes a node 50 minutes",
            with_fingerprints(
                10,
                240,
                |node, minute| Some(if node == 1 && (100..150).contains(&minute) { "part" } else { "agent" }),
                own,
            ),
        ),
        silent(
            ALERT,
            "two of ten",
            with_fingerprints(10, 240, |node, _| Some(if node <= 2 { "other" } else { "agent" }), own),
        ),
        silent(ALERT, "an upgrade of a node in eight minutes", upgraded(8)),
        silent(ALERT, "an upgrade of a node in half an hour", upgraded(30)),
        silent(
            ALERT,
            "an agent is not running on one node",
            with_fingerprints(10, 240, |node, _| (node > 1).then_some("agent"), own),
        ),
        silent(ALERT, "all are the same", with_fingerprints(10, 240, |_, _| Some("agent"), same)),
    ]
}

fn program_unexpected() -> Vec<Case> {
    const ALERT: &str = "BpfProgramUnexpected";
    let with = |programs: &dyn Fn(u32) -> Option<f64>| {
        let mut input = two_nodes(60);
        input.add(SICK, PROGRAM_UNEXPECTED, "", programs);
        input.add(HEALTHY, PROGRAM_UNEXPECTED, "", always(0.0));
        input
    };
    let two = "node-1 has 2 programs that are not in its baseline. The log of its exporter, and its events of the kind \
               bpf.program.unexpected, name them.";
    vec![
        fires(ALERT, "two programs", 36, with(&step(30, 0.0, 2.0)), &json!({}), two),
        silent(
            ALERT,
            "a program for four minutes",
            with(&|minute| Some(f64::from(u8::from((30..34).contains(&minute))))),
        ),
        silent(ALERT, "nodes without a baseline", two_nodes(60)),
    ]
}

fn common_program_lost() -> Vec<Case> {
    const ALERT: &str = "BpfCommonProgramLost";
    let lost = |programs: u32| {
        vec![Expected {
            labels: json!({"job": "bpf"}),
            description: format!(
                "{programs} programs that nearly all nodes of job bpf had six hours ago are missing on more than a tenth of them, \
                 and no other one came instead. If an agent was removed, nothing is wrong."
            ),
        }]
    };
    let half = |nodes: u32| {
        with_agents(nodes, 800, move |node, name, minute| {
            !(node <= nodes / 2 && name == "balance" && minute >= 400)
        })
    };
    let uninstalled = with_agents(10, 800, |node, _, minute| minute < 400 + 10 * node);
    let renamed = [AGENT.as_slice(), &[("balance_v2", "xdp")]].concat();
    let replaced = with_programs(10, 800, &renamed, |node, name, minute| match name {
        "balance" => minute < 400 + 15 * node,
        "balance_v2" => minute >= 400 + 15 * node,
        _ => true,
    });
    let ended = {
        let mut input = Input::new(800);
        for number in 1..=10 {
            let node = Node::scraped(number);
            input.add_exporter(node, |minute| minute < 400);
            input.add(node, PROGRAM_INFO, r#"id="1",name="balance",type="xdp""#, |minute| {
                (minute < 400).then_some(1.0)
            });
        }
        input
    };
    vec![
        Case {
            alert: ALERT,
            what: "half of the nodes lose one",
            input: half(10),
            at: 500,
            expected: lost(1),
        },
        Case {
            alert: ALERT,
            what: "an agent is uninstalled",
            input: uninstalled,
            at: 600,
            expected: lost(4),
        },
        silent(ALERT, "a program is replaced over two hours and a half", replaced),
        silent(ALERT, "half of four nodes", half(4)),
        silent(
            ALERT,
            "half of the nodes for an hour",
            with_agents(10, 800, |node, _, minute| !(node <= 5 && (400..460).contains(&minute))),
        ),
        silent(ALERT, "all exporters end", ended),
    ]
}

const HOOK: &str = r#"hook="tcx_ingress",target="eth0",netns="4026531840""#;

/// Returns both nodes with a hook.
fn with_hook(
    hook: &str,
    programs: impl Fn(u32) -> Option<f64>,
    detached: impl Fn(u32) -> Option<f64>,
) -> Input {
    let mut input = two_nodes(300);
    input.add(SICK, HOOK_PROGRAMS, hook, programs);
    input.add(SICK, HOOK_DETACHED_PROGRAMS, hook, detached);
    input.add(HEALTHY, HOOK_PROGRAMS, hook, always(2.0));
    input.add(HEALTHY, HOOK_DETACHED_PROGRAMS, hook, always(0.0));
    input
}

fn hook_lost_program() -> Vec<Case> {
    const ALERT: &str = "BpfHookLostProgram";
    let labels = json!({"hook": "tcx_ingress", "target": "eth0", "netns": "4026531840"});
    let ends = "This alert ends an hour after the loss, whether or not the program is back.";
    let lost =
        format!("Hook tcx_ingress of eth0 on node-1 has 1 programs, fewer than in the last hours. {ends}");
    // An agent moves its program from tc to tcx, in one direction.
    let moved = |from: &str| {
        let of = |hook: &str| format!(r#"hook="{hook}",target="eth0",netns="4026531840""#);
        let mut input = with_hook(&of(from), step(150, 1.0, 0.0), step(150, 0.0, 1.0));
        input.add(SICK, HOOK_PROGRAMS, &of("tcx_ingress"), |minute| (minute >= 150).then_some(1.0));
        input.add(SICK, HOOK_DETACHED_PROGRAMS, &of("tcx_ingress"), |minute| (minute >= 150).then_some(0.0));
        input
    };
    let egress =
        format!("Hook tc_egress of eth0 on node-1 has 0 programs, fewer than in the last hours. {ends}");
    let kprobe = r#"hook="kprobe",target="do_exit""#;
    vec![
        fires(
            ALERT,
            "one of two",
            165,
            with_hook(HOOK, step(150, 2.0, 1.0), step(150, 0.0, 1.0)),
            &labels,
            &lost,
        ),
        fires(
            ALERT,
            "of one direction while the other one moves",
            165,
            moved("tc_egress"),
            &json!({"hook": "tc_egress", "target": "eth0", "netns": "4026531840"}),
            &egress,
        ),
        silent(ALERT, "moved from tc to tcx", moved("tc_ingress")),
        silent(ALERT, "replaced", with_hook(HOOK, always(2.0), step(150, 0.0, 1.0))),
        silent(
            ALERT,
            "a function that is traced no more",
            with_hook(kprobe, step(150, 2.0, 0.0), step(150, 0.0, 2.0)),
        ),
        silent(
            ALERT,
            "a tool of 50 minutes",
            with_hook(
                HOOK,
                |minute| Some(if (150..200).contains(&minute) { 2.0 } else { 1.0 }),
                step(200, 0.0, 1.0),
            ),
        ),
        silent(
            ALERT,
            "an agent that restarts in five minutes",
            with_hook(
                HOOK,
                |minute| Some(if (150..155).contains(&minute) { 0.0 } else { 2.0 }),
                step(150, 0.0, 2.0),
            ),
        ),
        silent(
            ALERT,
            "an interface that is removed",
            with_hook(HOOK, |minute| (minute < 150).then_some(2.0), |minute| (minute < 150).then_some(0.0)),
        ),
    ]
}

fn with_orphans(orphans: impl Fn(u32) -> Option<f64>) -> Input {
    let mut input = two_nodes(600);
    input.add(SICK, OBJECTS_ORPHANED, r#"kind="map""#, orphans);
    input.add(HEALTHY, OBJECTS_ORPHANED, r#"kind="map""#, always(9.0));
    input
}

fn orphans_grow() -> Vec<Case> {
    const ALERT: &str = "BpfObjectsOrphanedGrow";
    let leak = "node-1 has 5 more objects of kind map than six hours ago that nothing holds.";
    vec![
        fires(
            ALERT,
            "five in six hours",
            500,
            with_orphans(step(430, 1.0, 6.0)),
            &json!({"kind": "map"}),
            leak,
        ),
        silent(ALERT, "four in six hours", with_orphans(step(430, 1.0, 5.0))),
        silent(
            ALERT,
            "in transit",
            with_orphans(|minute| Some(if minute % 10 == 0 { 0.0 } else { f64::from(minute % 50) })),
        ),
    ]
}

fn with_machine_code(used: impl Fn(u32) -> Option<f64>) -> Input {
    let mut input = two_nodes(60);
    for node in [SICK, HEALTHY] {
        input.add(node, JIT_LIMIT, "", always(1000.0));
    }
    input.add(SICK, JIT_USED, "", used);
    input.add(HEALTHY, JIT_USED, "", always(300.0));
    input
}

fn jit_memory_near_limit() -> Vec<Case> {
    const ALERT: &str = "BpfJitMemoryNearLimit";
    let near = "node-1 uses 85% of the memory for machine code. Above the limit, seccomp filters of new containers fail to load.";
    vec![
        fires(
            ALERT,
            "more than four fifths",
            40,
            with_machine_code(step(20, 300.0, 850.0)),
            &json!({}),
            near,
        ),
        silent(ALERT, "four fifths", with_machine_code(always(800.0))),
        silent(
            ALERT,
            "many containers start",
            with_machine_code(|minute| Some(if (20..34).contains(&minute) { 990.0 } else { 300.0 })),
        ),
    ]
}

/// Adds nodes to what kube-state-metrics and `node_exporter` know.
pub(super) fn know_nodes(input: &mut Input, numbers: std::ops::RangeInclusive<u32>) {
    for number in numbers {
        let labels = format!(r#"job="kube-state-metrics",instance="k:8080",node="node-{number}""#);
        input.add_plain("kube_node_info", &labels, always(1.0));
        let labels = format!(r#"job="node",instance="10.0.0.{number}:9100",nodename="ip-10-0-0-{number}""#);
        input.add_plain("node_uname_info", &labels, always(1.0));
    }
}

fn exporter_absent() -> Vec<Case> {
    const ALERT: &str = "BpfExporterAbsent";
    let down = || {
        let mut input = Input::new(120);
        input.add_exporter(SICK, |_| true);
        input.add_exporter(HEALTHY, |minute| minute < 60);
        know_nodes(&mut input, 1..=2);
        input
    };
    let lacking = |known: u32| {
        let mut input = two_nodes(60);
        know_nodes(&mut input, 1..=known);
        input
    };
    let node = |source: &str, name: &str| Expected {
        labels: json!({"source": source, "node": name}),
        description: format!("Node {name} has no exporter, and at least half of the nodes have one."),
    };
    let of_healthy = Expected {
        labels: json!({"job": "bpf", "instance": HEALTHY.instance()}),
        description: "The exporter on node-2 cannot be scraped. This alert ends a day after the last scrape."
            .to_owned(),
    };
    // Nodes of two clusters have the same names. The exporters are in the first one.
    let clusters = || {
        let mut input = two_nodes(60);
        for (cluster, nodes) in [("east", 3), ("west", 2)] {
            for number in 1..=nodes {
                let labels =
                    format!(r#"job="k",instance="{cluster}",cluster="{cluster}",node="node-{number}""#);
                input.add_plain("kube_node_info", &labels, always(1.0));
            }
        }
        input
    };
    let of_east = Expected {
        labels: json!({"source": "kube-state-metrics", "cluster": "east", "node": "node-3"}),
        description: "Node node-3 of cluster east has no exporter, and at least half of the nodes have one."
            .to_owned(),
    };
    let mut other = two_nodes(60);
    other.add_plain("up", r#"job="other",instance="10.0.0.1:80""#, always(0.0));
    let mut restart = Input::new(120);
    restart.add_exporter(HEALTHY, |minute| !(60..70).contains(&minute));
    know_nodes(&mut restart, 2..=2);
    vec![
        Case { alert: ALERT, what: "a target is down", input: down(), at: 80, expected: vec![of_healthy] },
        Case {
            alert: ALERT,
            what: "a node has none",
            input: lacking(3),
            at: 30,
            expected: vec![node("kube-state-metrics", "node-3"), node("node_exporter", "ip-10-0-0-3")],
        },
        Case {
            alert: ALERT,
            what: "another cluster has none",
            input: clusters(),
            at: 30,
            expected: vec![of_east],
        },
        silent(ALERT, "most nodes have none", lacking(5)),
        silent(ALERT, "each node has one", lacking(2)),
        silent(ALERT, "a target that never was one", other),
        silent(ALERT, "a restart of ten minutes", restart),
    ]
}

fn exporter_silent() -> Vec<Case> {
    const ALERT: &str = "BpfExporterSilent";
    let gone = |node: Node, back: u32| {
        let mut input = Input::new(240);
        input.add_exporter(node, move |minute| !(100..back).contains(&minute));
        input
    };
    let says = "The exporter on node-1 has sent nothing for at least ten minutes. If the node was removed, nothing is wrong.";
    vec![
        fires(ALERT, "a pushing exporter ends", 115, gone(SICK, 240), &json!({}), says),
        silent(ALERT, "a restart of nine minutes", gone(SICK, 109)),
        silent(ALERT, "a target of a scrape", gone(HEALTHY, 240)),
    ]
}

/// Metrics of what is delivered and what is dropped.
#[derive(Clone, Copy)]
struct Delivery {
    delivered: Metric,
    dropped: Metric,
}

const POINTS: Delivery = Delivery { delivered: OTLP_POINTS, dropped: OTLP_DROPPED_POINTS };
const LOG_RECORDS: Delivery = Delivery { delivered: OTLP_LOG_RECORDS, dropped: OTLP_DROPPED_LOG_RECORDS };

/// Returns both nodes with their deliveries; the first one, or the second, drops something for a reason. `is_configured` is whether the
/// exporters were started with a receiver.
fn with_drops(
    delivery: Delivery,
    node: Node,
    reason: &str,
    dropped: impl Fn(u32) -> Option<f64>,
    is_configured: bool,
    accepted: f64,
) -> Input {
    let mut input = two_nodes(400);
    for other in [SICK, HEALTHY] {
        let labels = format!(r#"endpoint="http://localhost:4317",configured="{is_configured}""#);
        input.add(other, OTLP_DESTINATION_INFO, &labels, always(1.0));
        input.add(other, delivery.delivered, r#"outcome="accepted""#, always(accepted));
        for of in ["refused", "backlog_full", "shutdown", "missed"] {
            let is_it = other.number == node.number && of == reason;
            input.add(other, delivery.dropped, &format!(r#"reason="{of}""#), |minute| {
                if is_it { dropped(minute) } else { Some(0.0) }
            });
        }
    }
    input
}

/// The alert of a loss.
fn lost(node: Node, what: &str, reason: &str) -> Vec<Expected> {
    let description = format!(
        "The exporter on {} has dropped {what} in an hour, or since its last sample before that ({reason}).",
        node.name()
    );
    let labels = json!({"job": "bpf", "instance": node.instance(), "reason": reason});
    vec![Expected { labels, description }]
}

/// A count that grows all the time.
fn grows() -> impl Fn(u32) -> Option<f64> {
    ramp(20, 0.0, 100.0, f64::MAX)
}

/// What an exporter that only pushes has dropped: there are no samples of that time.
fn gap(until: u32) -> impl Fn(u32) -> Option<f64> {
    move |minute: u32| match minute {
        _ if minute < 100 => Some(0.0),
        _ if minute < until => None,
        _ => Some(12_000.0),
    }
}

const FULL: &str = "backlog_full";

fn points_dropped() -> Vec<Case> {
    const ALERT: &str = "BpfPointsDropped";
    let case = |what, at, input, expected| Case { alert: ALERT, what, input, at, expected };
    vec![
        case(
            "a scraped exporter whose configured receiver has never been there",
            200,
            with_drops(POINTS, HEALTHY, FULL, grows(), true, 0.0),
            lost(HEALTHY, "6k points", FULL),
        ),
        case(
            "a scraped exporter whose receiver at the default address is gone",
            200,
            with_drops(POINTS, HEALTHY, FULL, grows(), false, 5000.0),
            lost(HEALTHY, "6k points", FULL),
        ),
        case(
            "a pushing exporter after 40 minutes without a receiver",
            150,
            with_drops(POINTS, SICK, FULL, gap(140), true, 5000.0),
            lost(SICK, "12k points", FULL),
        ),
        case(
            "a pushing exporter after three hours without a receiver",
            300,
            with_drops(POINTS, SICK, FULL, gap(280), true, 5000.0),
            lost(SICK, "12k points", FULL),
        ),
        case(
            "the receiver refuses all the time",
            200,
            with_drops(POINTS, SICK, "refused", grows(), true, 5000.0),
            lost(SICK, "6k points", "refused"),
        ),
        silent(
            ALERT,
            "refused once",
            with_drops(POINTS, SICK, "refused", step(20, 0.0, 100_000.0), true, 5000.0),
        ),
        silent(ALERT, "dropped at the exit", with_drops(POINTS, SICK, "shutdown", grows(), true, 5000.0)),
        silent(ALERT, "without a receiver", with_drops(POINTS, HEALTHY, FULL, grows(), false, 0.0)),
        silent(
            ALERT,
            "a gap without a loss",
            with_drops(
                POINTS,
                SICK,
                FULL,
                |minute| (!(100..280).contains(&minute)).then_some(7.0),
                true,
                5000.0,
            ),
        ),
    ]
}

fn log_records_dropped() -> Vec<Case> {
    const ALERT: &str = "BpfLogRecordsDropped";
    let case = |what, at, input, expected| Case { alert: ALERT, what, input, at, expected };
    let drops = |node, reason, is_configured, accepted| {
        with_drops(LOG_RECORDS, node, reason, grows(), is_configured, accepted)
    };
    vec![
        case(
            "a configured receiver that has never been there",
            200,
            drops(HEALTHY, FULL, true, 0.0),
            lost(HEALTHY, "6k log records", FULL),
        ),
        case(
            "a receiver at the default address that is gone",
            200,
            drops(HEALTHY, FULL, false, 50.0),
            lost(HEALTHY, "6k log records", FULL),
        ),
        case(
            "a pushing exporter after three hours without a receiver",
            300,
            with_drops(LOG_RECORDS, SICK, FULL, gap(280), true, 50.0),
            lost(SICK, "12k log records", FULL),
        ),
        case(
            "a receiver that took logs before refuses them",
            200,
            drops(SICK, "refused", true, 50.0),
            lost(SICK, "6k log records", "refused"),
        ),
        case(
            "events come too fast all the time",
            200,
            drops(SICK, "missed", false, 50.0),
            lost(SICK, "6k log records", "missed"),
        ),
        silent(ALERT, "a receiver of metrics only", drops(SICK, "refused", true, 0.0)),
        silent(
            ALERT,
            "one storm",
            with_drops(LOG_RECORDS, SICK, "missed", step(20, 0.0, 5_000.0), true, 50.0),
        ),
        silent(ALERT, "dropped at the exit", drops(SICK, "shutdown", true, 50.0)),
        silent(ALERT, "without a receiver", drops(HEALTHY, FULL, false, 0.0)),
    ]
}

fn with_failure(fails: impl Fn(u32) -> bool) -> Input {
    let mut input = two_nodes(60);
    let success = format!("{COLLECT_SUCCESS}{{");
    input.series.retain(|series| !series["series"].as_str().expect("it is text").starts_with(&success));
    let labels = r#"collector="map",reader="iter""#;
    input.add(SICK, COLLECT_SUCCESS, labels, |minute| Some(f64::from(u8::from(!fails(minute)))));
    input.add(HEALTHY, COLLECT_SUCCESS, labels, always(1.0));
    let issue = r#"collector="map",call="BPF_MAP_GET_FD_BY_ID",error="EMFILE""#;
    input.add(SICK, ISSUES, issue, ramp(20, 0.0, 3.0, f64::MAX));
    input.add(SICK, ISSUES, r#"collector="map""#, always(0.0));
    input
}

fn collector_failing() -> Vec<Case> {
    const ALERT: &str = "BpfCollectorFailing";
    let fails = "The exporter on node-1 has failed to read all of collector map for 15 minutes: \
                 BPF_MAP_GET_FD_BY_ID returns EMFILE.";
    vec![
        fires(ALERT, "maps", 40, with_failure(|minute| minute >= 20), &json!({"collector": "map"}), fails),
        silent(ALERT, "14 minutes", with_failure(|minute| (20..34).contains(&minute))),
    ]
}

fn with_dropped_series(dropped: impl Fn(u32) -> Option<f64>) -> Input {
    let mut input = two_nodes(120);
    input.add(SICK, DROPPED_SERIES, "", dropped);
    input.add(HEALTHY, DROPPED_SERIES, "", always(0.0));
    input
}

fn series_dropped() -> Vec<Case> {
    const ALERT: &str = "BpfSeriesDropped";
    let drops =
        "The exporter on node-1 has been dropping series for an hour, now 40, to stay below --max-series.";
    vec![
        fires(ALERT, "dropped for an hour", 90, with_dropped_series(step(20, 0.0, 40.0)), &json!({}), drops),
        silent(
            ALERT,
            "dropped for 50 minutes",
            with_dropped_series(|minute| Some(if (20..70).contains(&minute) { 40.0 } else { 0.0 })),
        ),
    ]
}
