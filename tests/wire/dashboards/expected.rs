//! What each query of each dashboard must say of the objects of the scene.

use std::fmt;

use test_support::objects::{Map, Program};

use super::Route;
use super::scene::Scene;

/// What a result must have.
pub(super) enum Expected {
    /// A row with these labels, and a value for which this is true.
    Row(Vec<(&'static str, String)>, fn(f64) -> bool),
    /// One value, that of this other expression.
    Same(&'static str),
    /// No row with these labels.
    NoRow(Vec<(&'static str, String)>),
    /// It depends on the host, for this reason.
    Anything(&'static str),
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(labels, _) => write!(f, "a row with {labels:?} and the value"),
            Self::Same(other) => write!(f, "the value of {other}"),
            Self::NoRow(labels) => write!(f, "no row with {labels:?}"),
            Self::Anything(reason) => f.write_str(reason),
        }
    }
}

use Expected::{Anything, NoRow, Same};

const POSITIVE: fn(f64) -> bool = |value| value > 0.0;
const ZERO: fn(f64) -> bool = |value| value.abs() < 1e-9;
const ONE: fn(f64) -> bool = |value| (value - 1.0).abs() < 1e-9;
const TEN: fn(f64) -> bool = |value| (value - 10.0).abs() < 1e-9;
const ANY: fn(f64) -> bool = |_| true;

/// Returns a row with these labels.
fn row<const N: usize>(labels: [(&'static str, &str); N], value: fn(f64) -> bool) -> Expected {
    Expected::Row(labels.map(|(label, value)| (label, value.to_owned())).into(), value)
}

/// Returns a row of an object.
fn object(id: u32, value: fn(f64) -> bool) -> Expected {
    row([("id", &id.to_string())], value)
}

/// Returns the expectation of a query of a panel; `None` if nothing is known of it.
pub(super) fn expected(
    scene: &Scene,
    route: &Route,
    dashboard: &str,
    place: &str,
    letter: &str,
) -> Option<Expected> {
    match dashboard {
        _ if place == "job" => Some(row([("job", &route.job)], POSITIVE)),
        // The other exporter does not report one of the programs that it counts.
        "ebpf-subsystem-metrics" if !route.lacks && counted(place).is_some() => counted(place),
        "ebpf-subsystem-metrics" => node(scene, place, letter),
        "ebpf-fleet" => fleet(scene, route, place, letter),
        "ebpf-object" => of_object(scene, place, letter),
        _ => None,
    }
}

/// Returns what the totals of a node are, by its objects.
fn counted(place: &str) -> Option<Expected> {
    Some(Same(match place {
        "Programs" => r#"count(count by (id) (bpf_program_info{job="$job",instance="$instance"}))"#,
        "Maps" => r#"count(count by (id) (bpf_map_info{job="$job",instance="$instance"}))"#,
        "Links" => r#"count(count by (id) (bpf_link_info{job="$job",instance="$instance"}))"#,
        "Memory" => {
            r#"sum(max by (id) (bpf_program_mem_bytes_total{job="$job",instance="$instance"}))
               + sum(max by (id) (bpf_map_mem_bytes{job="$job",instance="$instance"}))"#
        }
        _ => return None,
    }))
}

#[expect(clippy::match_same_arms, reason = "one arm for each panel, in the order of the dashboard")]
fn node(scene: &Scene, place: &str, letter: &str) -> Option<Expected> {
    let [user, missing, first] = [&scene.user, scene.recursion.program(), scene.first()].map(Program::id);
    let [full, ring] = [scene.full.map(), scene.ring.map()].map(Map::id);
    let growing = scene.growing.borrow().map().id();
    Some(match (place, letter) {
        ("Programs" | "Maps" | "Links" | "CPU" | "Memory" | "Maps almost full", _) => row([], POSITIVE),
        ("Orphaned" | "Orphans", _) => Anything("a host that hides something has no orphans"),
        ("Sources incomplete", _) => row([], ANY),
        ("CPU by program" | "Runs by program", _) => row([], POSITIVE),
        ("Programs by CPU", "B" | "C" | "D") => object(user, POSITIVE),
        ("Programs by CPU", "A" | "F") => object(user, POSITIVE),
        ("Missed runs", "A") | ("Programs by CPU", "E") => object(missing, POSITIVE),
        ("Missed runs", "B") => Anything("only probes of the kernel miss runs by link"),
        ("Fill", _) | ("Maps by fill", "B") => object(full, ONE),
        ("Growth", _) | ("Maps by fill", "D") => object(growing, POSITIVE),
        ("Ring buffer backlog", _) | ("Maps by fill", "F") => object(ring, POSITIVE),
        ("Memory by map", _) => row([], POSITIVE),
        ("Maps by fill", "A") => {
            row([("id", &full.to_string()), ("name", "dash_full"), ("type_name", "hash")], POSITIVE)
        }
        ("Maps by fill", _) => object(full, POSITIVE),
        ("CPU by owner" | "Memory by owner" | "Owners", _) => row([], POSITIVE),
        ("Hooks in order of execution", "A") => row(
            [("prog_id", &first.to_string()), ("name", "dash_first"), ("hook", "cgroup_inet_ingress")],
            ONE,
        ),
        ("Hooks in order of execution", _) => {
            let second = scene.links[1].program()?.id();
            row([("prog_id", &second.to_string())], ONE)
        }
        ("Links and their targets", _) => {
            row([("link_id", &scene.links[0].id().to_string()), ("name", "dash_first")], ONE)
        }
        ("Objects", _) => row([("kind", "map")], POSITIVE),
        ("Loads and detachments", "A") => row([], POSITIVE),
        ("Loads and detachments", _) => row([("hook", "cgroup_inet_ingress")], POSITIVE),
        ("Loaded in the time range", _) => {
            row([("id", &user.to_string()), ("name", "dash_user")], |value| value > 1.7e12)
        }
        ("Gone in the time range", _) => row([("name", "dash_gone")], POSITIVE),
        ("Maps new in the time range", _) => object(full, ONE),
        ("Hooks without a program", _) => row([("hook", "cgroup_inet_ingress")], ZERO),
        ("Loads by owner" | "Unloads by owner", _) => row([], POSITIVE),
        ("Events lost and dropped", _) => row([], ANY),
        ("Unexpected programs", _) => row([], POSITIVE),
        ("CPU of the exporter" | "Memory of the exporter", _) => row([], POSITIVE),
        ("Reading", _) | ("Collectors", "B") => row([("collector", "map")], POSITIVE),
        ("Collectors", "A") => row([("collector", "map")], ONE),
        ("Collectors", _) => row([("collector", "map")], ZERO),
        ("OTLP", "A") => row([("outcome", "accepted")], POSITIVE),
        ("OTLP", _) => NoRow(Vec::new()),
        ("What could not be seen", _) => Anything("root sees everything on most hosts"),
        ("What could not be read", _) => {
            Anything("nothing fails, unless something of others ends in between")
        }
        ("JIT memory", _) => {
            Anything("a kernel may not tell who allocated; the network namespace may be another")
        }
        ("JIT compiler" | "JIT hardening" | "Unprivileged BPF", _) => {
            Anything("the settings are those of the host, and not visible in another network namespace")
        }
        ("Run statistics" | "Build", _) => row([], ONE),
        ("Dropped series", _) => row([], ZERO),
        ("OTLP backlog", _) => row([], ANY),
        ("instance", _) => row([("node", "node-one")], ONE),
        ("owner", _) => row([], POSITIVE),
        ("type", _) => row([("type", "socket_filter")], POSITIVE),
        ("type_name", _) => row([("type_name", "ringbuf")], POSITIVE),
        _ => return None,
    })
}

#[expect(clippy::match_same_arms, reason = "one arm for each panel, in the order of the dashboard")]
fn fleet(scene: &Scene, route: &Route, place: &str, letter: &str) -> Option<Expected> {
    let full = scene.full.map().id();
    let lonely = || vec![("name", "dash_lonely".to_owned())];
    let node = if route.lacks { "node-other" } else { "node-one" };
    let of_node =
        |value| row([("instance", &route.instance), ("node", node), ("k8s_cluster_name", "east")], value);
    // All nodes but one have the program that one lacks.
    let differs = route.job == "fleet";
    Some(match (place, letter) {
        ("Nodes that differ", _) => row([], if differs { ONE } else { ZERO }),
        ("Dropped points", _) => row([], ANY),
        ("Orphaned", _) | ("Node by node", "F") => Anything("a host that hides something has no orphans"),
        ("Node by node", "H") if !differs => of_node(ZERO),
        ("Node by node", "J") | ("Other programs of an owner", _) => {
            NoRow(vec![("instance", route.instance.clone())])
        }
        ("Node by node", "I") => Anything("root sees everything on most hosts"),
        ("Node by node", _) => of_node(POSITIVE),
        ("Nodes", _) => Same(r#"count(count by (instance) (bpf_exporter_build_info{job="$job"}))"#),
        ("Programs" | "Maps" | "CPU" | "Memory", _) => row([], POSITIVE),
        ("Clusters", _) => row([("k8s_cluster_name", "east")], POSITIVE),
        ("CPU by node" | "Memory by node", _) => row([("k8s_cluster_name", "east")], POSITIVE),
        ("Programs that some nodes lack", "A") if differs => row([("name", "dash_lonely")], TEN),
        ("Programs that some nodes lack", "B") if differs => row([("name", "dash_lonely")], ONE),
        ("Missing on the selected node", _) if differs => row([("name", "dash_lonely")], TEN),
        ("Only on the selected node", _) if !differs && !route.lacks => row([("name", "dash_lonely")], ONE),
        (
            "Programs that some nodes lack" | "Missing on the selected node" | "Only on the selected node",
            _,
        ) => NoRow(lonely()),
        ("Owners" | "CPU by owner", _) => row([], POSITIVE),
        ("Fullest maps", _) => row([("id", &full.to_string()), ("k8s_cluster_name", "east")], ONE),
        ("Largest maps", _) => row([("k8s_cluster_name", "east")], POSITIVE),
        ("instance", _) => row([("node", "node-one")], ONE),
        _ => return None,
    })
}

fn of_object(scene: &Scene, place: &str, letter: &str) -> Option<Expected> {
    let [user, first] = [&scene.user, scene.first()].map(|program| program.id().to_string());
    let full = scene.full.map().id().to_string();
    Some(match (place, letter) {
        ("Facts", _) => row([("id", &user), ("name", "dash_user"), ("type", "socket_filter")], ONE),
        ("Memory" | "Age" | "Machine code" | "Verified instructions" | "Entries" | "Maximum", _) => {
            row([], POSITIVE)
        }
        ("Fill", _) => row([], ONE),
        ("Growth per hour", _) => row([], POSITIVE),
        ("CPU" | "Time per run", _) | ("Runs", "A") => row([("name", "dash_user")], POSITIVE),
        ("Runs", "B") => row([("id", &scene.recursion.program().id().to_string())], POSITIVE),
        ("Runs", _) => Anything("only probes of the kernel miss runs by link"),
        ("Entries over time", _) => row([("id", &full)], POSITIVE),
        ("Backlog over time", _) => row([("id", &scene.ring.map().id().to_string())], POSITIVE),
        ("Memory over time", _) => row([("id", &user)], POSITIVE),
        ("Maps of the program", _) => row([("map_id", &full), ("name", "dash_full")], ONE),
        ("Programs with the map", _) => row([("prog_id", &user), ("name", "dash_user")], ONE),
        ("Links", _) => row([("prog_id", &first), ("link_id", &scene.links[0].id().to_string())], ONE),
        ("Hooks", "A") => row([("prog_id", &first)], ONE),
        ("Hooks", _) => row([("prog_id", &first)], ZERO),
        ("Holders", _) => row([("held_by", "process")], ONE),
        ("Pins", _) => row([("path", scene.pin.path().to_str()?)], ONE),
        ("instance", _) => row([("node", "node-one")], ONE),
        _ => return None,
    })
}
