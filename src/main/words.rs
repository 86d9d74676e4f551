//! What the program says of what it found, in words.

use bpf_metrics_exporter::cli;
use bpf_metrics_exporter::model::{Issue, Part, RunStats};

/// An issue, for people.
pub(super) fn issue(issue: &Issue) -> String {
    let (part, call, error, count) = (issue.part.as_str(), &issue.call, &issue.error, issue.count);
    let times = if count == 1 { "once" } else { "several times" };
    if call == "BPF_ENABLE_STATS" {
        let why = match &**error {
            "EPERM" => "; it needs CAP_SYS_ADMIN",
            "EINVAL" => "; it needs Linux 5.8, the sysctl kernel.bpf_stats_enabled does it before",
            _ => "",
        };
        return format!("not counting runs of programs: {call} failed {times} with {error}{why}");
    }
    let what = match issue.part {
        Part::Program | Part::Map | Part::Link | Part::Btf => format!("read everything of the {part} table"),
        Part::Holder => "find out who holds what of every process".to_owned(),
        Part::Pin => "read every pin".to_owned(),
        Part::Cgroup => "find the path of every cgroup".to_owned(),
        Part::Hook => "look at every hook".to_owned(),
    };
    format!("could not {what}: {call} failed {times} with {error}")
}

/// What a limit does, for people.
pub(super) fn left_out(left_out: u64) -> String {
    format!(
        "{left_out} series of single objects are left out, since --max-series wants no more; the totals of the host and of owners \
         stay complete; --only and --except say which objects matter"
    )
}

/// Who has runs counted and what that costs, for people; `None` where it was refused, which is an issue.
pub(super) fn run_stats(wanted: cli::RunStats, stats: RunStats) -> Option<String> {
    const COST: &str = "about 25 ns for each run";
    if stats.by_sysctl == Some(true) {
        let line =
            format!("runs of programs are counted already, by the sysctl kernel.bpf_stats_enabled: {COST}");
        return Some(line);
    }
    match wanted {
        cli::RunStats::Off => Some("not counting runs of programs: --run-stats is off".to_owned()),
        _ if !stats.by_exporter => None,
        cli::RunStats::On => {
            Some(format!("counting runs of programs: {COST}, less with --run-stats sample, none with off"))
        }
        cli::RunStats::Sample { lasting, every } => {
            Some(format!("counting runs of programs for {lasting:?} in every {every:?}: {COST} meanwhile"))
        }
    }
}
