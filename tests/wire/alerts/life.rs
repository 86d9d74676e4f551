//! Twelve hours of ordinary life on a fleet, in which no alert may fire. Entry point: [`series`].

use dist::names::{
    COLLECT_SUCCESS, DROPPED_SERIES, FEATURE_AVAILABLE, HOOK_DETACHED_PROGRAMS, HOOK_PROGRAMS,
    HOST_FINGERPRINT_INFO, ISSUES, JIT_LIMIT, JIT_USED, LINK_MISSED, MAP_BACKLOG, MAP_FILL, MAP_INFO,
    MAP_MAX_ENTRIES, OBJECTS_ORPHANED, OTLP_DESTINATION_INFO, OTLP_DROPPED_LOG_RECORDS, OTLP_DROPPED_POINTS,
    OTLP_LOG_RECORDS, OTLP_POINTS, OWNER_FINGERPRINT_INFO, OWNER_INFO, OWNER_MAPS, OWNER_MEM, OWNER_RUN_TIME,
    PROGRAM_INFO, PROGRAM_RECURSION_MISSES, PROGRAM_RUN_TIME, PROGRAM_RUNS, PROGRAM_UNEXPECTED,
};

use super::input::{AGENT, Input, Node, Route, always, ramp, step};

const MINUTES: u32 = 720;

/// Nodes at the end of the script: ten, one more, and one less.
pub(super) const NODES_AT_THE_END: u32 = 10;

/// The node that is added, and when.
const ADDED: (u32, u32) = (11, 350);
/// The node that is removed, and when. It is scraped.
const REMOVED: (u32, u32) = (4, 450);
/// The node whose exporter has `CAP_BPF` and `CAP_PERFMON` only.
const WITHOUT_RIGHTS: u32 = 7;
/// The node that is only scraped, and drops what its exporter would push to a receiver that nobody runs.
const ONLY_SCRAPED: u32 = 8;
/// The node that counts runs in a tenth of the time.
const SAMPLED: u32 = 6;
/// When exporters are restarted, which takes two minutes.
const RESTART: u32 = 250;
/// When the exporters are killed: what they had sent last is there for five minutes.
const KILL: u32 = 500;
/// When the agents' programs get another name, the first node first.
const UPGRADE: u32 = 300;
/// Minutes between two nodes of the upgrade.
const UPGRADE_PACE: u32 = 8;

/// Returns the script.
pub(super) fn series() -> Input {
    let mut input = Input::new(MINUTES);
    for number in 1..=11 {
        // Those that are added or removed are scraped: of a removed node that pushes, an information is expected.
        let is_scraped = number % 2 == 0 || number == ADDED.0;
        let node = if is_scraped { Node::scraped(number) } else { Node::pushed(number) };
        exporter(&mut input, node);
        agent(&mut input, node);
        owners(&mut input, node);
        fingerprints(&mut input, node);
        maps(&mut input, node);
        rings(&mut input, node);
        hooks(&mut input, node);
        delivery(&mut input, node);
    }
    input
}

/// Whether a node exists.
fn exists(node: Node, minute: u32) -> bool {
    let is_added = node.number != ADDED.0 || minute >= ADDED.1;
    let is_removed = node.number == REMOVED.0 && minute >= REMOVED.1;
    is_added && !is_removed
}

/// Whether the exporter of a node runs. It starts some minutes after the node.
fn runs(node: Node, minute: u32) -> bool {
    let starts = node.number == ADDED.0 && minute < ADDED.1 + 4;
    let restarts = (RESTART + node.number..RESTART + node.number + 2).contains(&minute);
    exists(node, minute) && !starts && !restarts
}

/// Restricts values to the time in which the exporter runs.
fn seen(node: Node, value: impl Fn(u32) -> Option<f64>) -> impl Fn(u32) -> Option<f64> {
    move |minute| value(minute).filter(|_| runs(node, minute))
}

fn exporter(input: &mut Input, node: Node) {
    let number = node.number;
    // The target of a node that is gone is gone.
    if node.route == Route::Scrape {
        let up = |minute| exists(node, minute).then(|| f64::from(u8::from(runs(node, minute))));
        input.add(node, "up", "", up);
    }
    input.add_names(node, |minute| runs(node, minute));
    // After the kill, one with another version begins.
    let build = |version: &str| format!(r#"version="{version}""#);
    let [old, new] = [build("0.1.0"), build("0.1.1")];
    input.add(node, dist::names::BUILD_INFO, &old, seen(node, |minute| (minute < KILL + 5).then_some(1.0)));
    input.add(node, dist::names::BUILD_INFO, &new, seen(node, |minute| (minute > KILL).then_some(1.0)));
    let listed = seen(node, |minute| Some(f64::from(40 + minute % 7)));
    input.add(node, dist::names::OBJECTS, r#"kind="program""#, listed);
    let covered = if number == SAMPLED { 6.0 } else { 60.0 };
    // A counter of the exporter starts anew with it.
    let counted = move |per_minute: f64| {
        seen(node, move |minute| {
            let since = [KILL, RESTART + number].into_iter().find(|start| minute >= *start).unwrap_or(0);
            Some(per_minute * f64::from(minute - since))
        })
    };
    if number != WITHOUT_RIGHTS {
        input.add(node, dist::names::RUN_STATS_COVERED, "", counted(covered));
    }
    for collector in ["program", "map", "link", "btf", "holder", "pin", "cgroup", "hook"] {
        let labels = format!(r#"collector="{collector}",reader="iter""#);
        // One reading in a while fails.
        let success = move |minute: u32| {
            Some(if collector == "holder" && (270..274).contains(&minute) { 0.0 } else { 1.0 })
        };
        input.add(node, COLLECT_SUCCESS, &labels, seen(node, success));
        input.add(node, ISSUES, &format!(r#"collector="{collector}""#), seen(node, always(0.0)));
    }
    let issue = r#"collector="holder",call="read",error="EIO""#;
    input.add(node, ISSUES, issue, seen(node, |minute| (minute >= 270).then_some(4.0)));
    if number == WITHOUT_RIGHTS {
        for feature in ["cgroup_hooks", "network_hooks", "run_statistics", "btf_objects"] {
            let labels = format!(r#"feature="{feature}",reason="CAP_SYS_ADMIN""#);
            input.add(node, FEATURE_AVAILABLE, &labels, seen(node, always(0.0)));
        }
    } else {
        // Objects are in transit now and then, and twice in twelve hours the kernel keeps a program array.
        let orphans = |minute: u32| {
            let kept = u8::from(minute >= 150) + u8::from(minute >= 350);
            Some(f64::from(kept) + if minute % 9 < 4 { f64::from(minute % 23) } else { 0.0 })
        };
        input.add(node, OBJECTS_ORPHANED, r#"kind="map""#, seen(node, orphans));
        input.add(node, OBJECTS_ORPHANED, r#"kind="program""#, seen(node, always(0.0)));
    }
    // Many containers start at once.
    input.add(node, JIT_LIMIT, "", seen(node, always(1000.0)));
    let used = |minute: u32| Some(if (540..550).contains(&minute) { 900.0 } else { 500.0 });
    input.add(node, JIT_USED, "", seen(node, used));
    // A burst of short-lived objects exceeds --max-series for a while.
    let dropped = |minute: u32| Some(if (400..420).contains(&minute) { 500.0 } else { 0.0 });
    input.add(node, DROPPED_SERIES, "", seen(node, dropped));
    let labels = format!(r#"job="kube-state-metrics",instance="k:8080",node="{}""#, node.name());
    input.add_plain("kube_node_info", &labels, |minute| exists(node, minute).then_some(1.0));
    let labels = format!(r#"job="node",instance="10.0.0.{number}:9100",nodename="ip-10-0-0-{number}""#);
    input.add_plain("node_uname_info", &labels, |minute| exists(node, minute).then_some(1.0));
}

/// Adds the programs of an agent that is restarted, and rolled out with another name of one of them, and the programs of others.
fn agent(input: &mut Input, node: Node) {
    let number = node.number;
    let restarted = 100 + 10 * number;
    let upgraded = UPGRADE + UPGRADE_PACE * number;
    for (id, (name, kind)) in (1..).zip(AGENT) {
        // Loaded at the start, at the restart two minutes later, and at the upgrade, each with new ids.
        let renamed = if name == "connect4" { "connect4_v2" } else { name };
        let loads = [
            (10 + id, name, 0..restarted),
            (200 + id, name, restarted + 2..upgraded),
            (400 + id, renamed, upgraded + 2..MINUTES + 1),
        ];
        for (id, name, loaded) in loads {
            let key = format!(r#"id="{id}",name="{name}",type="{kind}""#);
            let is_loaded = |minute: &u32| loaded.contains(minute);
            let mut info = |owner: &str, known: std::ops::Range<u32>| {
                let labels =
                    format!(r#"{key},prog_id="{id}",tag="{number}",owner_kind="pod",owner="{owner}""#);
                let there = |minute| (is_loaded(&minute) && known.contains(&minute)).then_some(1.0);
                input.add(node, PROGRAM_INFO, &labels, seen(node, there));
            };
            // The name of the pod is known ten minutes after the start. The killed exporter had the pod's id again for a while.
            info("0b4a6f0e-6b8e-4a8e-9d58-2a2e3f1c7f10", 0..10);
            info(&format!("kube-system/agent-{number}"), 10..KILL + 5);
            info(&format!("kube-system/agent-{number}-new"), KILL + 1..MINUTES + 1);
            let counted = |per_minute: f64| {
                let start = loaded.start;
                let loaded = loaded.clone();
                seen(node, move |minute| {
                    loaded.contains(&minute).then(|| per_minute * f64::from(minute - start))
                })
            };
            let part = if number == SAMPLED { 0.1 } else { 1.0 };
            if number != WITHOUT_RIGHTS {
                input.add(node, PROGRAM_RUNS, &key, counted(600_000.0 * part));
                input.add(node, PROGRAM_RUN_TIME, &key, counted(0.5 * part));
            }
            // Five per second of ten thousand runs.
            input.add(node, PROGRAM_RECURSION_MISSES, &key, counted(300.0));
            if kind == "kprobe" {
                let link = format!(r#"id="{}",prog_id="{id}",type="7""#, id + 50);
                input.add(node, LINK_MISSED, &link, counted(300.0));
            }
        }
    }
    // Programs of containers' devices, of which each has its own, and of a tool that runs for five minutes and misses runs.
    for pod in 0..6 {
        let there = move |minute: u32| (minute / 40 % 6 == (pod + number) % 6).then_some(1.0);
        let labels = format!(r#"id="{}",type="cgroup_device",tag="0011""#, 600 + pod);
        input.add(node, PROGRAM_INFO, &labels, seen(node, there));
    }
    let tool = r#"id="700",name="opensnoop",type="kprobe""#;
    let there = |minute: &u32| (330..335).contains(minute);
    input.add(node, PROGRAM_INFO, tool, seen(node, |minute| there(&minute).then_some(1.0)));
    let misses = |minute| there(&minute).then(|| 3000.0 * f64::from(minute - 330));
    input.add(node, PROGRAM_RECURSION_MISSES, tool, seen(node, misses));
    let own = r#"id="900",name="bpf_metrics_exporter_map",type="tracing""#;
    input.add(node, PROGRAM_INFO, own, seen(node, always(1.0)));
}

fn owners(input: &mut Input, node: Node) {
    let key = r#"owner_kind="pod",owner="kube-system/agent""#;
    let mut info = |uid: &str, from: u32, until: u32| {
        let labels = format!(r#"{key},k8s_namespace_name="kube-system",k8s_pod_uid="{uid}""#);
        let there = move |minute| (from..until).contains(&minute).then_some(1.0);
        input.add(node, OWNER_INFO, &labels, seen(node, there));
    };
    info("1", 10, KILL + 5);
    info("2", KILL + 1, MINUTES + 1);
    input.add(node, OWNER_MEM, key, seen(node, always(8192.0)));
    input.add(node, OWNER_MAPS, key, seen(node, always(7.0)));
    input.add(node, OWNER_RUN_TIME, key, seen(node, ramp(0, 0.0, 2.0, f64::MAX)));
}

/// Adds the fingerprints of an agent that is restarted and rolled out, of a tool that each node runs in another way, and of the host,
/// which has containers with programs of their own; and the programs that are not in the baseline.
fn fingerprints(input: &mut Input, node: Node) {
    let number = node.number;
    let (restarted, upgraded) = (100 + 10 * number, UPGRADE + UPGRADE_PACE * number);
    let version = move |minute: u32| {
        let is_away = [restarted, upgraded].iter().any(|from| (*from..from + 2).contains(&minute));
        (!is_away).then_some(if minute < upgraded { "1" } else { "2" })
    };
    for of in ["1", "2"] {
        let labels = format!(r#"owner_kind="unit",owner="agent.service",programs="{of}""#);
        let there = move |minute| (version(minute) == Some(of)).then_some(1.0);
        input.add(node, OWNER_FINGERPRINT_INFO, &labels, seen(node, there));
    }
    let tool = format!(r#"owner_kind="process",owner="opensnoop",programs="{number}""#);
    let there = |minute: u32| (330..335).contains(&minute).then_some(1.0);
    input.add(node, OWNER_FINGERPRINT_INFO, &tool, seen(node, there));
    for pods in 0..6 {
        let there = move |minute: u32| (minute / 40 % 6 == pods).then_some(1.0);
        let labels = format!(r#"programs="{}""#, 10 * number + pods);
        input.add(node, HOST_FINGERPRINT_INFO, &labels, seen(node, there));
    }
    // What is there while a container starts.
    let unexpected = |minute: u32| Some(if minute % 40 < 2 { 3.0 } else { 0.0 });
    input.add(node, PROGRAM_UNEXPECTED, "", seen(node, unexpected));
}

fn maps(input: &mut Input, node: Node) {
    let restarted = 100 + 10 * node.number;
    let since = move |minute: u32, from: u32| (minute >= from).then_some(());
    let mut map_of = |max_entries: f64, id: u32, name: &str, fill: &dyn Fn(u32) -> Option<f64>| {
        let key = format!(r#"id="{id}",name="{name}",type="1""#);
        for (owner, from, until) in
            [("kube-system/agent", 0, KILL + 5), ("kube-system/other", KILL + 1, MINUTES + 1)]
        {
            let labels = format!(r#"{key},map_id="{id}",type_name="hash",owner_kind="pod",owner="{owner}""#);
            let there = |minute| fill(minute).filter(|_| (from..until).contains(&minute)).map(|_| 1.0);
            input.add(node, MAP_INFO, &labels, seen(node, there));
        }
        input.add(node, MAP_FILL, &key, seen(node, fill));
        let there = |minute| fill(minute).map(|_| max_entries);
        input.add(node, MAP_MAX_ENTRIES, &key, seen(node, there));
    };
    // A flag that is set hours after the load, and slots that are taken one by one.
    map_of(1.0, 7, "enabled", &step(330, 0.0, 1.0));
    map_of(16.0, 8, "listeners", &|minute| Some((f64::from(minute / 5) / 16.0).min(1.0)));
    let mut map = |id: u32, name: &str, fill: &dyn Fn(u32) -> Option<f64>| map_of(1000.0, id, name, fill);
    // Made as large as what it holds; loaded again at each restart, once in the middle of a reading.
    map(1, "backends", &|minute| (minute < restarted).then_some(1.0));
    map(201, "backends", &|minute| {
        since(minute, restarted + 2).map(|()| if minute == restarted + 2 { 0.4 } else { 1.0 })
    });
    // Populated at load.
    map(2, "policy", &|minute| (minute < restarted).then_some(0.85));
    map(202, "policy", &|minute| since(minute, restarted + 2).map(|()| 0.9));
    // Filled and emptied every 40 minutes.
    map(3, "conntrack", &|minute| Some(0.4 + 0.01 * f64::from((minute + 3 * node.number) % 40)));
    // Synchronized at once.
    map(4, "identities", &step(400, 0.2, 0.93));
    // Growing by 2 % per hour.
    map(5, "ipcache", &|minute| Some(0.7 + 0.02 / 60.0 * f64::from(minute)));
    // Full now and then.
    map(6, "inflight", &|minute| Some(if minute % 90 < 8 { 1.0 } else { 0.1 }));
}

fn rings(input: &mut Input, node: Node) {
    for (id, every) in [(50, 5), (51, 15)] {
        let key = format!(r#"id="{id}",name="events",type="27""#);
        input.add(node, MAP_MAX_ENTRIES, &key, seen(node, always(4096.0)));
        let backlog = move |minute: u32| {
            let since = (minute + node.number) % every;
            Some(3900.0 * f64::from(since) / f64::from(every - 1))
        };
        input.add(node, MAP_BACKLOG, &key, seen(node, backlog));
    }
}

/// Adds hooks: of the node, of pods that come and go, and of tools.
fn hooks(input: &mut Input, node: Node) {
    let number = node.number;
    if number == WITHOUT_RIGHTS {
        return;
    }
    let mut hook = |hook: &str,
                    target: &str,
                    programs: &dyn Fn(u32) -> Option<f64>,
                    detached: &dyn Fn(u32) -> Option<f64>| {
        let labels = format!(r#"hook="{hook}",target="{target}",netns="4026531840""#);
        input.add(node, HOOK_PROGRAMS, &labels, seen(node, programs));
        let there = |minute| detached(minute).filter(|_| programs(minute).is_some());
        input.add(node, HOOK_DETACHED_PROGRAMS, &labels, seen(node, there));
    };
    let restarted = 100 + 10 * number;
    // The agent's programs are gone for two minutes at its restart, and replaced at its upgrade.
    let of_agent =
        move |minute: u32| Some(if (restarted..restarted + 2).contains(&minute) { 0.0 } else { 1.0 });
    let replaced = UPGRADE + UPGRADE_PACE * number;
    let detached =
        move |minute: u32| Some(f64::from(u8::from(minute >= restarted) + u8::from(minute >= replaced)));
    hook("cgroup_inet4_connect", "/", &of_agent, &detached);
    // A tool looks at the traffic for half an hour.
    let with_tool = |minute: u32| Some(if (200..230).contains(&minute) { 2.0 } else { 1.0 });
    hook("tcx_ingress", "eth0", &with_tool, &step(230, 0.0, 1.0));
    // An agent moves its programs from tc to tcx, and those of another direction back.
    for (from, to) in [("tc_ingress", "tcx_ingress"), ("tcx_egress", "tc_egress")] {
        hook(from, "eth1", &step(270, 1.0, 0.0), &step(270, 0.0, 1.0));
        hook(to, "eth1", &|minute| (minute >= 270).then_some(1.0), &always(0.0));
    }
    // Another one traces functions, which leaves their hooks empty for an hour.
    let traced = |minute: u32| match minute {
        0..330 | 395.. => None,
        330..335 => Some(1.0),
        335..395 => Some(0.0),
    };
    hook("kprobe", "do_sys_openat2", &traced, &step(335, 0.0, 1.0));
    for pod in 0..6 {
        let lives = move |minute: u32| minute / 40 % 6 == (pod + number) % 6;
        let programs = move |minute: u32| lives(minute).then_some(2.0);
        let no_loss = always(0.0);
        hook("cgroup_inet_ingress", &format!("/kubepods/pod{pod}"), &programs, &no_loss);
        hook("tcx_ingress", &format!("veth{pod}"), &programs, &no_loss);
        // A pod of the same name has fewer programs the next time.
        let fewer = move |minute: u32| lives(minute).then_some(if minute < 360 { 2.0 } else { 1.0 });
        hook("cgroup_device", &format!("/kubepods/pod{pod}"), &fewer, &no_loss);
    }
}

fn delivery(input: &mut Input, node: Node) {
    let drops = node.number == ONLY_SCRAPED;
    let configured = if drops { "false" } else { "true" };
    let labels = format!(r#"endpoint="http://localhost:4317",configured="{configured}""#);
    input.add(node, OTLP_DESTINATION_INFO, &labels, seen(node, always(1.0)));
    let accepted = if drops { always(0.0) } else { always(1_000_000.0) };
    input.add(node, OTLP_POINTS, r#"outcome="accepted""#, seen(node, accepted));
    // The receiver refuses a request once.
    input.add(node, OTLP_DROPPED_POINTS, r#"reason="refused""#, seen(node, step(620, 0.0, 2000.0)));
    let dropped = move |minute| Some(if drops { 500.0 * f64::from(minute) } else { 0.0 });
    input.add(node, OTLP_DROPPED_POINTS, r#"reason="backlog_full""#, seen(node, dropped));
    // Half of the receivers take metrics only.
    let metrics_only = node.number.is_multiple_of(2);
    let accepted = always(if drops || metrics_only { 0.0 } else { 5_000.0 });
    input.add(node, OTLP_LOG_RECORDS, r#"outcome="accepted""#, seen(node, accepted));
    let refused = move |minute| Some(if metrics_only { 20.0 * f64::from(minute) } else { 0.0 });
    input.add(node, OTLP_DROPPED_LOG_RECORDS, r#"reason="refused""#, seen(node, refused));
    input.add(node, OTLP_DROPPED_LOG_RECORDS, r#"reason="backlog_full""#, seen(node, dropped));
    // One storm of events.
    input.add(node, OTLP_DROPPED_LOG_RECORDS, r#"reason="missed""#, seen(node, step(400, 0.0, 3_000.0)));
}
