//! `doctor` says what works, by trying it.

use std::process::{Command, Stdio};
use std::thread;

use caps::{CapSet, Capability};
use serde_json::Value;

/// Runs `doctor` as root, without one capability if that is given. Returns its exit code and its report.
fn doctor_without(dropped: Option<Capability>, arguments: &'static [&'static str]) -> (Option<i32>, Value) {
    // A bounding set is that of a thread and of its children.
    let run = move || {
        if let Some(dropped) = dropped {
            caps::drop(None, CapSet::Bounding, dropped).expect("root may");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        command.args(["doctor", "--format", "json"]).args(arguments);
        command.stdin(Stdio::null()).output().expect("it starts")
    };
    let output = thread::spawn(run).join().expect("it starts");
    let report = serde_json::from_slice(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), report.unwrap_or_else(|error| panic!("{error}: {log}")))
}

fn state<'a>(report: &'a Value, list: &str, name: &str) -> &'a Value {
    let list = report[list].as_array().expect("a list");
    list.iter().find(|one| one["name"] == name).expect("each is listed")
}

/// Asserts that the exit code and the verdict follow from what is listed.
fn assert_consistent(code: Option<i32>, report: &Value) {
    let lists = ["features", "sandbox"].map(|list| report[list].as_array().expect("a list"));
    let missing = lists.into_iter().flatten().any(|one| one["state"] == "missing");
    let issues = report["issues"].as_array().is_some_and(|issues| !issues.is_empty());
    assert_eq!(report["works"], !missing && !issues, "{report:#}");
    assert_eq!(code, Some(i32::from(missing || issues)), "{report:#}");
}

/// Asserts that root gets everything that this machine has, and then exit code 0.
fn assert_root_works() {
    let (code, report) = doctor_without(None, &[]);
    assert_consistent(code, &report);
    assert_eq!(report["issues"].as_array().map(Vec::len), Some(0), "{report:#}");
    let missing = |list: &str| {
        let list = report[list].as_array().expect("a list").clone();
        list.into_iter().filter(|one| one["state"] == "missing").collect::<Vec<_>>()
    };
    for feature in missing("features") {
        let reason = feature["reason"].as_str().expect("it is said");
        assert!(!reason.starts_with("CAP_") && reason != "refused", "root lacks no right: {feature:#}");
    }
    for layer in missing("sandbox") {
        assert_eq!(layer["name"], "landlock", "each kernel has the others: {layer:#}");
    }
    let lacks = missing("features").len() + missing("sandbox").len();
    assert_eq!(code, Some(i32::from(lacks > 0)), "{report:#}");
}

pub(crate) fn tries() {
    assert_root_works();
    let (code, report) = doctor_without(Some(Capability::CAP_NET_ADMIN), &[]);
    let hooks = state(&report, "features", "cgroup_hooks");
    assert_eq!((&hooks["state"], &hooks["reason"]), (&"missing".into(), &"CAP_NET_ADMIN".into()), "{hooks}");
    let remedies = hooks["remedies"].to_string();
    assert!(remedies.contains("AmbientCapabilities=CAP_NET_ADMIN"), "{remedies}");
    assert!(remedies.contains("--cap-add NET_ADMIN") && remedies.contains("add: [NET_ADMIN]"), "{remedies}");
    assert_eq!(state(&report, "features", "map_memory")["state"], "works");
    assert_eq!(code, Some(1));
    assert_consistent(code, &report);

    let (code, report) =
        doctor_without(Some(Capability::CAP_NET_ADMIN), &["--hooks-interval", "none", "--no-landlock"]);
    assert_eq!(state(&report, "features", "cgroup_hooks")["state"], "off");
    assert_eq!(state(&report, "sandbox", "landlock")["state"], "off");
    assert_eq!(state(&report, "sandbox", "seccomp")["state"], "works");
    assert_consistent(code, &report);

    let (code, report) =
        doctor_without(Some(Capability::CAP_SYS_ADMIN), &["--least-privilege", "--run-stats", "off"]);
    assert_eq!(state(&report, "features", "map_memory")["state"], "given_up");
    assert_eq!(state(&report, "features", "run_statistics")["state"], "off", "nobody wants them");
    assert_eq!(state(&report, "sandbox", "capabilities")["detail"], "no capabilities");
    assert_consistent(code, &report);

    let (code, report) = doctor_without(Some(Capability::CAP_SYS_ADMIN), &["--least-privilege"]);
    let statistics = state(&report, "features", "run_statistics");
    assert_eq!((&statistics["state"], code), (&"missing".into(), Some(1)), "they are wanted: {statistics}");
}
