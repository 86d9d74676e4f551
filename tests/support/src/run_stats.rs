//! Who has the kernel count runs of programs. Entry point: [`holders`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns the pids of the processes that hold `BPF_ENABLE_STATS`, but for this one.
#[must_use]
pub fn holders() -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != std::process::id() && holds(pid)).collect()
}

fn holds(pid: u32) -> bool {
    // Processes exit while this runs, and some refuse root.
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    // `bpf_enable_runtime_stats` in kernel/bpf/syscall.c names the file.
    targets.any(|target| target == Path::new("anon_inode:bpf-stats"))
}

/// Returns which other process has runs counted; `None` where there is none.
#[must_use]
pub fn counted_by_others() -> Option<String> {
    let holder = holders().pop_first()?;
    Some(format!("needs a host where no other process has runs counted, as process {holder} has"))
}
