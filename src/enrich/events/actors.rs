//! Who did something: a process by its pid, resolved at once, since it may be gone a moment later.
//!
//! Entry point: [`Actors::resolve`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::enrich::cgroup::CgroupIdentity;
use crate::enrich::identity::identity;
use crate::enrich::names::NameCache;
use crate::host::procfs::{ProcessCgroup, ProcessFacts, describe};
use crate::model::{Actor, ActorSource, BootTime, Owner, Process};

/// How many processes are remembered.
const REMEMBERED: usize = 1024;

/// How long a process is remembered after it was seen: pids are reused.
const MEMORY: Duration = Duration::from_secs(10);

/// How long a process that was seen is not read again: who loads many programs costs no more than who loads one.
const FRESH: Duration = Duration::from_millis(100);

/// The start time of a process is rounded down to a tick of `/proc`, 10 ms, and never up.
const TICK: Duration = Duration::from_millis(10);

/// An actor of whom nothing is known.
pub(super) const UNKNOWN: Actor = Actor {
    pid: None,
    thread: None,
    parent: None,
    executable: None,
    identity: None,
    known_by: ActorSource::Unknown,
};

/// Finds actors, and remembers those of the last seconds.
#[derive(Debug)]
pub(super) struct Actors {
    proc: PathBuf,
    recent: HashMap<u32, Recent>,
}

#[derive(Debug)]
struct Recent {
    seen_at: BootTime,
    facts: ProcessFacts,
}

impl Actors {
    /// Reads `/proc` below `root`.
    pub(super) fn below(root: &Path) -> Self {
        Self { proc: root.join("proc"), recent: HashMap::new() }
    }

    /// Returns the process with this pid that did something at `at`; `None` if nothing is known of it, not even the pid.
    pub(super) fn resolve(
        &mut self,
        (pid, thread): (Option<u32>, Option<u32>),
        at: BootTime,
        names: &NameCache,
    ) -> Option<Actor> {
        let unknown = Actor { pid, thread, ..UNKNOWN };
        let pid = pid?;
        let is_fresh =
            |recent: &Recent| at.since(recent.seen_at) <= FRESH && recent.seen_at.since(at) <= FRESH;
        let mut known_by = ActorSource::Process;
        if !self.recent.get(&pid).is_some_and(is_fresh) {
            // A later process may have its pid by now.
            match describe(&self.proc, pid).filter(|facts| facts.started_at <= at + TICK) {
                Some(facts) => self.remember(pid, Recent { seen_at: at, facts: self.fuller(pid, facts) }),
                None => known_by = ActorSource::Memory,
            }
        }
        let recent = self.recent.get(&pid).filter(|recent| {
            let is_recent = at.since(recent.seen_at) <= MEMORY;
            is_recent && recent.facts.started_at <= at + TICK
        });
        let Some(Recent { facts, .. }) = recent else { return Some(unknown) };
        let (parent, executable) = (facts.parent, facts.executable.clone());
        let known = Actor { parent, executable, ..unknown };
        // Where it was decides who it is: its name alone would be that of a process outside of all containers.
        Some(match owner(pid, facts, names) {
            Some(identity) => Actor { identity: Some(Arc::new(identity)), known_by, ..known },
            None => known,
        })
    }

    /// Returns what is known of a process: one that is about to end has no executable any more, and perhaps no cgroup.
    fn fuller(&self, pid: u32, facts: ProcessFacts) -> ProcessFacts {
        let before = self.recent.get(&pid).map(|recent| &recent.facts);
        let same = before.filter(|before| before.started_at == facts.started_at);
        same.filter(|_| facts.executable.is_none()).cloned().unwrap_or(facts)
    }

    fn remember(&mut self, pid: u32, recent: Recent) {
        if self.recent.len() >= REMEMBERED && !self.recent.contains_key(&pid) {
            let now = recent.seen_at;
            self.recent.retain(|_, recent| now.since(recent.seen_at) <= MEMORY);
            if self.recent.len() >= REMEMBERED {
                self.recent.clear();
            }
        }
        self.recent.insert(pid, recent);
    }
}

/// Returns a process with its container, pod and unit; a thread of the kernel is the kernel. `None` if it left its cgroup.
fn owner(pid: u32, facts: &ProcessFacts, names: &NameCache) -> Option<Owner> {
    if facts.is_kernel {
        return Some(Owner::from(crate::model::Identity::default()));
    }
    let cgroup = match &facts.cgroup {
        ProcessCgroup::Path(path) => CgroupIdentity::of(path),
        ProcessCgroup::None => CgroupIdentity::default(),
        ProcessCgroup::Left => return None,
    };
    let file_name = facts.executable.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path));
    let process = Process {
        pid,
        started_at_boot_ns: facts.started_at.0,
        name: facts.name.clone(),
        executable_name: file_name.map(|name| name.strip_suffix(" (deleted)").unwrap_or(name).to_owned()),
    };
    Some(identity(cgroup, Some(process), names))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::model::OwnerKind;

    /// Writes a process that was started 25 s after the boot.
    fn start(root: &TempDir, pid: u32, name: &str, cgroup: &str) {
        let process = root.path().join(format!("proc/{pid}"));
        fs::create_dir_all(&process).expect("the directory is writable");
        let stat = format!("{pid} ({name}) S 1 7 7 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 2500 4096 0 1\n");
        fs::write(process.join("stat"), stat).expect("the directory is writable");
        fs::write(process.join("cgroup"), format!("0::{cgroup}\n")).expect("the directory is writable");
    }

    /// Makes it a process that is about to end, on a host with cgroup v1.
    fn end(root: &TempDir, pid: u32) {
        let process = root.path().join(format!("proc/{pid}"));
        let stat = fs::read_to_string(process.join("stat")).expect("it is there");
        fs::write(process.join("stat"), stat.replace(" S 1 ", " Z 1 ").replace(" 4194560 ", " 4194564 "))
            .expect("the directory is writable");
        fs::write(process.join("cgroup"), "4:memory:/\n0::/\n").expect("the directory is writable");
    }

    fn known(actor: Option<Actor>) -> (ActorSource, Option<(OwnerKind, String)>) {
        let actor = actor.expect("it has a pid");
        let owner = actor.identity.map(|owner| owner.top_level());
        (actor.known_by, owner.map(|owner| (owner.kind(), owner.name())))
    }

    #[test]
    fn who_has_ended_is_remembered_for_a_while_and_its_pid_belongs_to_nobody_else() {
        let root = TempDir::new().expect("a temporary directory can be created");
        let (mut actors, names) = (Actors::below(root.path()), NameCache::default());
        let mut at =
            |pid, second| known(actors.resolve((Some(pid), Some(pid)), BootTime::from_secs(second), &names));
        start(&root, 7, "loader", "/system.slice/agent.service");
        let unit = Some((OwnerKind::Unit, "agent.service".to_owned()));
        assert_eq!(at(7, 30), (ActorSource::Process, unit.clone()));
        assert_eq!(at(7, 20), (ActorSource::Unknown, None), "it was started later");
        let exe = root.path().join("proc/7/exe");
        symlink("/usr/bin/loader", &exe).expect("the directory is writable");
        assert_eq!(at(7, 31), (ActorSource::Process, unit.clone()));
        // On its way out it has neither its executable nor its cgroup.
        fs::remove_file(&exe).expect("it is there");
        end(&root, 7);
        assert_eq!(at(7, 32), (ActorSource::Process, unit.clone()));
        start(&root, 9, "short", "/system.slice/agent.service");
        end(&root, 9);
        assert_eq!(at(9, 32), (ActorSource::Unknown, None), "it was not seen before");
        fs::remove_dir_all(root.path().join("proc/7")).expect("it is there");
        assert_eq!(at(7, 35), (ActorSource::Memory, unit));
        assert_eq!(at(7, 50), (ActorSource::Unknown, None), "that is long ago");
        assert_eq!(at(8, 30), (ActorSource::Unknown, None));
        assert_eq!(actors.resolve((None, None), BootTime::from_secs(30), &names), None);
    }

    #[test]
    fn memory_is_bounded() {
        let root = TempDir::new().expect("a temporary directory can be created");
        let mut actors = Actors::below(root.path());
        start(&root, 1, "x", "/");
        let facts = describe(&root.path().join("proc"), 1).expect("it is there");
        for pid in 0..3 * u32::try_from(REMEMBERED).expect("it is small") {
            actors.remember(pid, Recent { seen_at: BootTime::from_secs(30), facts: facts.clone() });
        }
        assert!(actors.recent.len() <= REMEMBERED);
    }
}
