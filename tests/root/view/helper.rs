//! This program in a role with a limited view: it reads with both backends, and writes the snapshots.

use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, thread};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::Snapshot;
use caps::{CapSet, Capability};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use test_support::readers;

/// Environment variable with the role.
const ROLE: &str = "READS_WITH_A_VIEW";

/// A limited view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// A private pid namespace with its own `/proc`.
    PidNamespace,
    /// A `/proc` that hides processes, without the right to trace them.
    Hidepid,
    /// Without the right to trace processes.
    Untraceable,
}

impl Limit {
    const ALL: [(&str, Self); 3] =
        [("pid", Self::PidNamespace), ("hidepid", Self::Hidepid), ("untraceable", Self::Untraceable)];

    fn role(self) -> &'static str {
        Self::ALL.iter().find(|(_, limit)| *limit == self).expect("each has a name").0
    }
}

/// What each backend reads with a limited view.
pub(super) struct Readings {
    pub(super) iterators: Snapshot,
    pub(super) walk: Snapshot,
}

/// Reads in another process.
pub(super) fn read_with(limit: Limit) -> Readings {
    let this = env::current_exe().expect("this program has a path");
    let mut command = Command::new(this);
    command.env(ROLE, limit.role()).stdin(Stdio::null());
    // A namespace, and a bounding set, are those of a thread and of its children.
    let run = move || {
        if limit == Limit::PidNamespace {
            unshare(CloneFlags::CLONE_NEWPID).expect("root may");
        } else {
            caps::drop(None, CapSet::Bounding, Capability::CAP_SYS_PTRACE).expect("root may");
        }
        command.output().expect("it starts")
    };
    let output = thread::spawn(run).join().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [iterators, walk] = serde_json::from_slice(&output.stdout).expect("they are snapshots");
    Readings { iterators, walk }
}

/// Plays the role of this process, if it has one.
pub(crate) fn run() -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    let (_, limit) = Limit::ALL.into_iter().find(|(name, _)| *name == role).expect("it is a role");
    let none: Option<&str> = None;
    let options = match limit {
        Limit::PidNamespace => Some(none),
        Limit::Hidepid => Some(Some("hidepid=2")),
        Limit::Untraceable => None,
    };
    if let Some(options) = options {
        crate::unshare_mounts();
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), options).expect("root may");
    }
    let read = |reader| {
        let options = EnrichOptions {
            hooks: Some(Duration::from_hours(1)),
            wait_for_hooks: true,
            ..EnrichOptions::default()
        };
        Enricher::new(reader, options, NameCache::default()).read()
    };
    let snapshots = [readers::best(), readers::by_ids()].map(read);
    let bytes = serde_json::to_vec(&snapshots).expect("a snapshot can be written");
    io::stdout().write_all(&bytes).expect("the parent reads");
    Some(ExitCode::SUCCESS)
}
