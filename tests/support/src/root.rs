//! Whether BPF objects can be made here.

/// Returns why they cannot; `None` where they can.
#[must_use]
pub fn missing() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a process has a user");
    let effective = uid.split_whitespace().nth(1);
    (effective != Some("0")).then(|| "needs root, to make BPF objects".to_owned())
}
