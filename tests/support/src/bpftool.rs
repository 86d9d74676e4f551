//! bpftool, as an independent reference.

use std::process::Command;

use serde_json::Value;

/// Returns why bpftool cannot be used; `None` where it can.
#[must_use]
pub fn missing() -> Option<String> {
    let runs = Command::new("bpftool").arg("version").output().is_ok_and(|output| output.status.success());
    (!runs).then(|| "bpftool is not installed".to_owned())
}

/// Runs `bpftool -j` with these arguments and parses its output.
#[must_use]
pub fn query(arguments: &[&str]) -> Value {
    let output = Command::new("bpftool").arg("-j").args(arguments).output().expect("bpftool runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("bpftool writes JSON")
}

/// Returns the id of an object in its output.
#[must_use]
pub fn id(object: &Value) -> u32 {
    object["id"].as_u64().and_then(|id| id.try_into().ok()).expect("an object has an id")
}
