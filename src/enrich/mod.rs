//! Adds to a reading who holds the objects, where they are pinned and attached, and whose they are.
//! Changes nothing that the kernel said, and waits for nobody. Begin at [`Enricher::read`].

mod attach_points;
mod attachments;
pub mod cgroup;
#[cfg(test)]
mod example;
mod holders;
pub mod names;
mod orphans;
mod owner;
mod process;
mod totals;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::attachments::HookWatch;
use self::holders::People;
use self::names::NameCache;
use self::orphans::{OrphanCounts, Orphans};
use self::owner::Wholes;
use self::process::{Processes, Search};
use self::totals::Totals;
use crate::host::cgroups::Cgroups;
use crate::host::issues::Issues;
use crate::kernel::pins::Pins;
use crate::kernel::{Choice, Reader};
use crate::model::{Collector, HeldBy, Holder, Holders, Owner, Part, ProcessFiles, Snapshot};

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
    /// For one part in how many of the time, at most, to search through the descriptors of all processes; `None` to do it in
    /// every reading. Readings in between tell what the last search found.
    pub holders_share: Option<u32>,
}

/// Takes readings, and adds to each whose the objects are.
#[derive(Debug)]
pub struct Enricher {
    reader: Reader,
    names: NameCache,
    issues: Issues,
    processes: Processes,
    pins: Pins,
    cgroups: Cgroups,
    hooks: Option<HookWatch>,
    wait_for_hooks: bool,
    people: People,
    wholes: Wholes,
    totals: Totals,
    orphans: Orphans,
}

impl Enricher {
    /// Adds to the readings of a reader.
    #[must_use]
    pub fn new(reader: Reader, options: Options, names: NameCache) -> Self {
        Self {
            reader,
            names,
            issues: Issues::default(),
            processes: Processes::below(Path::new("/"), options.holders_share),
            pins: Pins::new(options.bpffs),
            cgroups: Cgroups::default(),
            hooks: options.hooks.map(|interval| HookWatch::new(interval, options.every_netns)),
            wait_for_hooks: options.wait_for_hooks,
            people: People::default(),
            wholes: Wholes::default(),
            totals: Totals::default(),
            orphans: Orphans::default(),
        }
    }

    /// How each table is read, and why.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        self.reader.choices()
    }

    /// Why the files of processes are not told by an iterator, where that was tried.
    #[must_use]
    pub fn files_refusal(&self) -> Option<&str> {
        self.reader.files_refusal()
    }

    /// Takes a reading.
    pub fn read(&mut self) -> Snapshot {
        self.issues.start_reading();
        let mut snapshot = self.reader.read();
        let began = Instant::now();
        snapshot.pins = self.pins.read(&mut self.issues);
        snapshot.collectors.push(Collector {
            part: Part::Pin,
            reader: None,
            duration: began.elapsed(),
            age: Duration::ZERO,
            success: !self.issues.any(Part::Pin),
        });
        let began = Instant::now();
        let search = self.processes.read(&mut self.reader, &mut self.issues);
        snapshot.holders = search.files.as_deref().map(|files| self.holders(&snapshot, files));
        snapshot.collectors.push(Collector {
            part: Part::Holder,
            reader: Some(search.road),
            duration: began.elapsed(),
            age: age(snapshot.taken_at, search.taken_at),
            success: search.success,
        });
        self.look_at_hooks(&mut snapshot, search.files.as_deref().unwrap_or_default());
        if let Some(holders) = snapshot.holders.take() {
            owner::assign(&mut snapshot, &holders, search.taken_at, &mut self.wholes);
            snapshot.holders = Some(holders);
        }
        let sees_all_holders = search.success && !self.issues.any(Part::Pin);
        let orphans = sees_all_holders.then(|| self.orphans(&snapshot, &search)).flatten();
        self.totals.fill(&mut snapshot, orphans.as_ref());
        snapshot.issues.extend_from_slice(self.issues.all());
        self.names.end_reading();
        snapshot
    }

    /// Who holds what of a snapshot.
    fn holders(&mut self, snapshot: &Snapshot, files: &[ProcessFiles]) -> Holders {
        let Self { names, issues, processes, cgroups, people, .. } = self;
        people.begin(names);
        let mut owners = Vec::with_capacity(files.len());
        for files in files {
            let owner = people.process(files, names, || {
                let path = files.cgroup.and_then(|id| cgroups.path(id));
                (processes.describe(files), path.or_else(|| processes.cgroup(files)))
            });
            processes.keep(files);
            owners.push((owner, files));
        }
        let mut of_cgroups: HashMap<u64, Option<Arc<Owner>>> = HashMap::new();
        let creators = snapshot.maps.iter().flatten().filter_map(|map| {
            let id = map.memory_cgroup?;
            let owner = of_cgroups.entry(id).or_insert_with(|| people.cgroup(id, &cgroups.path(id)?, names));
            Some(Holder { id: map.facts.id, held_by: HeldBy::Creator, owner: owner.clone()? })
        });
        let creators = creators.collect();
        let holders = holders::collect(snapshot, &owners, creators, people);
        cgroups.record_errors(issues);
        people.end_reading();
        processes.end_reading();
        cgroups.end_reading();
        holders
    }

    fn look_at_hooks(&mut self, snapshot: &mut Snapshot, files: &[ProcessFiles]) {
        let Some(hooks) = &mut self.hooks else { return };
        let look = if self.wait_for_hooks { HookWatch::now } else { HookWatch::latest };
        snapshot.hooks = look(hooks, snapshot, files, &mut self.issues);
        snapshot.collectors.extend(hooks.collector(snapshot.taken_at));
    }

    /// Counts orphaned objects, given that every process and pin was seen; `None` where hooks or maps were not.
    fn orphans(&mut self, snapshot: &Snapshot, search: &Search) -> Option<OrphanCounts> {
        let scan = snapshot.hooks.as_deref();
        if scan.is_some_and(|scan| !scan.complete) || snapshot.pins.is_none() {
            return None;
        }
        // Who holds objects that were created after the last search is not known.
        if search.taken_at >= snapshot.taken_at {
            self.orphans.update(snapshot, snapshot.holders.as_ref()?, scan);
        }
        self.orphans.counts().cloned()
    }
}

/// How long before one moment another was; nothing for a later one.
fn age(now: Timestamp, then: Timestamp) -> Duration {
    now.duration_since(then).try_into().unwrap_or_default()
}
