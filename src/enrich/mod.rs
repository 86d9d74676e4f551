//! Adds to a reading who holds the objects, where they are pinned and attached, and whose they are.
//! Changes nothing that the kernel said, and waits for nobody. Begin at [`Enricher::read`].

pub mod cgroup;
mod hooks;
pub mod names;
mod owner;
mod pins;
mod places;
mod process;

use std::path::PathBuf;
use std::time::Duration;

use self::hooks::HookWatch;
use self::names::Names;
use self::pins::Pins;
use self::process::Processes;
use crate::kernel::issues::Issues;
use crate::kernel::{Cgroups, Choice, Reader};
use crate::model::Snapshot;

/// What to find out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Directories in which a bpffs is mounted out of our view.
    pub bpffs: Vec<PathBuf>,
    /// How often to look at the hooks; `None` for never.
    pub hooks: Option<Duration>,
    /// Whether to look at them in every network namespace, not only in ours.
    pub every_netns: bool,
    /// Whether to wait for a look at the hooks, where no reading follows.
    pub wait_for_hooks: bool,
}

/// Takes readings, and adds to each whose the objects are.
#[derive(Debug)]
pub struct Enricher {
    reader: Reader,
    names: Names,
    issues: Issues,
    processes: Processes,
    pins: Pins,
    cgroups: Cgroups,
    hooks: Option<HookWatch>,
    wait_for_hooks: bool,
}

impl Enricher {
    /// Adds to the readings of a reader.
    #[must_use]
    pub fn new(reader: Reader, options: Options, names: Names) -> Self {
        Self {
            reader,
            names,
            issues: Issues::default(),
            processes: Processes::default(),
            pins: Pins::new(options.bpffs),
            cgroups: Cgroups::default(),
            hooks: options.hooks.map(|interval| HookWatch::new(interval, options.every_netns)),
            wait_for_hooks: options.wait_for_hooks,
        }
    }

    /// How each table is read, and why.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        self.reader.choices()
    }

    /// Takes a reading.
    pub fn read(&mut self) -> Snapshot {
        self.issues.begin();
        let mut snapshot = self.reader.read();
        let (_, files) = self.processes.read(&mut self.reader, &mut self.issues);
        snapshot.pins = self.pins.read(&mut self.issues);
        let pids: Vec<u32> = files.iter().flatten().map(|process| process.pid).collect();
        if let Some(hooks) = &mut self.hooks {
            let look = if self.wait_for_hooks { HookWatch::now } else { HookWatch::latest };
            snapshot.hooks = look(hooks, &snapshot, &pids, &mut self.issues);
            snapshot.collectors.extend(hooks.collector(snapshot.taken_at));
        }
        for process in files.iter().flatten() {
            let _known = self.processes.describe(process);
            let _path = process.cgroup.and_then(|id| self.cgroups.path(id));
            let _path = self.processes.cgroup(process.pid);
        }
        self.processes.end_reading();
        self.cgroups.end_reading();
        self.names.end_reading();
        snapshot.issues.extend_from_slice(self.issues.all());
        snapshot
    }
}
