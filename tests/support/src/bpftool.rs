//! bpftool, an outside opinion.

use std::process::Command;

use serde_json::Value;

/// Why bpftool cannot be asked.
pub fn missing() -> Option<String> {
    let runs = Command::new("bpftool").arg("version").output().is_ok_and(|output| output.status.success());
    (!runs).then(|| "bpftool is not installed".to_owned())
}

/// What bpftool answers.
pub fn asked(arguments: &[&str]) -> Value {
    let output = Command::new("bpftool").arg("-j").args(arguments).output().expect("bpftool runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("bpftool writes JSON")
}

/// The id of an object that it lists.
pub fn id(object: &Value) -> u32 {
    object["id"].as_u64().and_then(|id| id.try_into().ok()).expect("an object has an id")
}
