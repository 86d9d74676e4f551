//! What this process may do: make BPF objects, and read everything of other processes.

use std::{fs, io};

/// Returns why they cannot; `None` where they can.
#[must_use]
pub fn missing() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a process has a user");
    let effective = uid.split_whitespace().nth(1);
    (effective != Some("0")).then(|| "needs root, to make BPF objects".to_owned())
}

/// Returns whether there is a process whose namespaces not even root may read, as in some virtual machines.
#[must_use]
pub fn some_process_refuses() -> bool {
    let processes = fs::read_dir("/proc").expect("Linux has /proc");
    let mut links = processes.flatten().map(|process| fs::read_link(process.path().join("ns/net")));
    links.any(|link| link.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied))
}
