//! Holders, pins, attachments, owners, totals and fingerprints, added to a reading of the kernel.
//! Entry point: [`Enricher::read`]. Facts reported by the kernel stay unchanged, and no lookup of names is waited for.

mod attach_points;
mod attachments;
pub mod cgroup;
mod events;
#[cfg(test)]
mod example;
mod fingerprint;
mod holders;
mod identity;
pub mod names;
mod orphans;
mod owner;
mod pins;
mod process;
mod scan_thread;
mod summary;
mod totals;
mod unexpected;
mod unheld;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::attachments::ScanScheduler;
pub use self::events::{Differences, LastEvents};
use self::events::{WatchContext, Watcher};
use self::fingerprint::Fingerprints;
use self::holders::HolderCache;
use self::names::NameCache;
use self::orphans::{Orphaned, Orphans};
use self::owner::{OwnerInterner, WholeSearch};
use self::pins::PinScheduler;
use self::process::{HolderSearch, Processes};
pub use self::summary::Summary;
use self::totals::Totals;
use self::unexpected::Unexpected;
use self::unheld::UnheldSince;
use crate::baseline::Expected;
use crate::events::Events;
use crate::host::cgroups::Cgroups;
use crate::host::clock;
use crate::host::issues::Issues;
use crate::host::namespaces::Rights;
use crate::kernel::{Choice, Reader};
use crate::model::{
    BootTime, Collector, Feature, HeldBy, Holder, Holders, Owner, Part, ProcessFiles, Reason, Snapshot,
};
use crate::sys::Error;

/// Options of the enricher.
#[derive(Clone, Debug, Default)]
pub struct EnrichOptions {
    /// Mount points of bpffs that are not in our mount namespace.
    pub bpffs: Vec<PathBuf>,
    /// Shortest interval of scans of pins; 0 to wait for a scan in each reading.
    pub pins: Duration,
    /// Interval of scans of hooks; `None` for no scans.
    pub hooks: Option<Duration>,
    /// Whether to scan every network namespace instead of only our own.
    pub every_netns: bool,
    /// Whether to wait for a scan, for a single reading.
    pub wait_for_hooks: bool,
    /// The search through the descriptors of all processes takes at most one part in this many of the time; `None` to search
    /// in every reading. Readings in between use the last search.
    pub holders_share: Option<u32>,
    /// How many events are published per second at most; 0 for no limit.
    pub events_per_second: u32,
    /// The programs that are expected; `None` if any are.
    pub expected: Option<Expected>,
}

/// Takes readings, with holders, pins, attachments, owners, totals and fingerprints.
#[derive(Debug)]
pub struct Enricher {
    reader: Reader,
    names: NameCache,
    issues: Issues,
    processes: Processes,
    pins: PinScheduler,
    cgroups: Cgroups,
    hooks: Option<ScanScheduler>,
    wait_for_hooks: bool,
    holder_cache: HolderCache,
    owners: OwnerInterner,
    unowned: UnheldSince,
    totals: Totals,
    orphans: Orphans,
    fingerprints: Fingerprints,
    /// Publishes events; `None` if only the state of the host is wanted.
    watcher: Option<Watcher>,
    /// Why the kernel's records of programs are not read.
    no_stream: Option<Error>,
    events_per_second: u32,
    expected: Option<Expected>,
}

impl Enricher {
    /// Returns an enricher of the readings of a reader.
    #[must_use]
    pub fn new(reader: Reader, options: EnrichOptions, names: NameCache) -> Self {
        Self {
            reader,
            names,
            issues: Issues::default(),
            processes: Processes::below(Path::new("/"), options.holders_share),
            pins: PinScheduler::new(options.bpffs, options.pins),
            cgroups: Cgroups::default(),
            hooks: options.hooks.map(|interval| ScanScheduler::new(interval, options.every_netns)),
            wait_for_hooks: options.wait_for_hooks,
            holder_cache: HolderCache::default(),
            owners: OwnerInterner::default(),
            unowned: UnheldSince::default(),
            totals: Totals::default(),
            orphans: Orphans::default(),
            fingerprints: Fingerprints::default(),
            watcher: None,
            no_stream: None,
            events_per_second: options.events_per_second,
            expected: options.expected,
        }
    }

    /// Publishes what happens to objects from now on. The thread that waits for the kernel's records has the rights of the calling one.
    #[must_use]
    pub fn publishing(mut self, events: Events) -> Self {
        let (stream, mut no_stream) = match self.reader.take_stream() {
            Some(Ok(stream)) => (Some(stream), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let unexpected = self.expected.clone().map(Unexpected::new);
        let context = WatchContext {
            newest: self.reader.newest(),
            names: self.names.clone(),
            limit: self.events_per_second,
            unexpected,
        };
        let (watcher, started) = Watcher::start(stream, events, context);
        no_stream = no_stream.or(started.err());
        Self { watcher: Some(watcher), no_stream, ..self }
    }

    /// Returns the events that are not published yet, for the end of the program; `None` if none are published.
    #[must_use]
    pub fn last_events(&self) -> Option<LastEvents> {
        self.watcher.as_ref().map(Watcher::last_events)
    }

    /// Returns how each table and the holders are read, and why.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        self.reader.choices()
    }

    /// Takes a reading.
    pub fn read(&mut self) -> Snapshot {
        self.issues.start_reading();
        self.issues.set_rights(Rights::of_this_thread());
        let mut snapshot = self.reader.read();
        // Pins come second: those scanned after a search prove what has no holder.
        let began = Instant::now();
        let search = self.processes.read(&mut self.reader, &mut self.issues);
        let search_took = began.elapsed();
        let pin_scan = self.pins.latest(&mut self.reader, &mut self.issues);
        snapshot.pins = pin_scan.and_then(|scan| scan.pins.clone());
        let pins_taken_at = pin_scan.map(|scan| scan.taken_at);
        snapshot.features.extend(pin_scan.map(|scan| scan.issues.state(Feature::Pins)));
        snapshot.collectors.extend(self.pins.collector(snapshot.taken_at));
        let began = Instant::now();
        snapshot.features.extend(search.features);
        snapshot.holders = search.files.as_deref().map(|files| self.holders(&snapshot, files));
        snapshot.collectors.push(Collector {
            part: Part::Holder,
            reader: Some(search.backend),
            duration: search_took + began.elapsed(),
            age: snapshot.taken_at.since(search.taken_at),
            success: search.success,
        });
        snapshot.collectors.push(Collector {
            part: Part::Cgroup,
            reader: None,
            duration: self.cgroups.take_duration(),
            age: Duration::ZERO,
            success: !self.issues.any(Part::Cgroup),
        });
        snapshot.features.push(self.issues.state(Feature::CgroupPaths));
        let sees_holders = snapshot.sees_all(Feature::Processes)
            && snapshot.sees_all(Feature::Pins)
            && snapshot.has_tables()
            && clock::is_of_host();
        if !sees_holders {
            // Objects may have had a holder until now.
            (self.unowned, self.orphans) = Default::default();
        }
        let pins_taken_at = pins_taken_at.filter(|_| sees_holders);
        self.scan_hooks(&mut snapshot, search.files.as_deref().unwrap_or_default());
        if let Some(holders) = snapshot.holders.take() {
            let seen = pins_taken_at.map(|pins_taken_at| WholeSearch {
                searched_at: search.taken_at,
                searched_until: search.ended_at,
                pins_taken_at,
            });
            owner::assign(&mut snapshot, &holders, seen, &mut self.owners, &mut self.unowned);
            snapshot.holders = Some(holders);
        }
        let orphans = pins_taken_at.and_then(|pins_taken_at| self.orphans(&snapshot, &search, pins_taken_at));
        self.totals.fill(&mut snapshot, orphans.as_ref());
        snapshot.orphans = orphans.map(|orphaned| orphaned.list());
        self.fingerprints.fill(&mut snapshot);
        self.publish(&mut snapshot);
        snapshot.issues.extend_from_slice(self.issues.all());
        self.names.end_reading();
        snapshot
    }

    /// Publishes what happened since the last reading, and adds the counters of it to this one.
    fn publish(&mut self, snapshot: &mut Snapshot) {
        let Some(watcher) = &self.watcher else { return };
        let began = Instant::now();
        let (activity, unexpected, cpus) = watcher.update(snapshot);
        snapshot.unexpected = unexpected;
        if let Some(error) = self.no_stream.or(cpus.err()) {
            self.issues.record(Part::Event, error);
        }
        if activity.lost.is_some() || self.no_stream.is_some() {
            snapshot.features.push(self.issues.state(Feature::EventStream));
        }
        snapshot.activity = Some(Arc::new(activity));
        snapshot.collectors.push(Collector {
            part: Part::Event,
            reader: None,
            duration: began.elapsed(),
            age: Duration::ZERO,
            success: !self.issues.any(Part::Event),
        });
    }

    /// Returns the holders of a snapshot's objects.
    fn holders(&mut self, snapshot: &Snapshot, files: &[ProcessFiles]) -> Holders {
        let Self { names, issues, processes, cgroups, holder_cache, .. } = self;
        holder_cache.start_reading(names);
        let mut owners = Vec::with_capacity(files.len());
        for files in files {
            let owner = holder_cache.process(files, names, || {
                let path = files.cgroup.and_then(|id| cgroups.path(id));
                (processes.describe(files), path.or_else(|| processes.cgroup(files)))
            });
            processes.keep(files);
            owners.push((owner, files));
        }
        let mut of_cgroups: HashMap<u64, Option<Arc<Owner>>> = HashMap::new();
        let creators = snapshot.maps.iter().flatten().filter_map(|map| {
            let id = map.memory_cgroup?;
            let owner =
                of_cgroups.entry(id).or_insert_with(|| holder_cache.cgroup(id, &cgroups.path(id)?, names));
            Some(Holder { id: map.facts.id, held_by: HeldBy::Creator, owner: owner.clone()? })
        });
        let creators = creators.collect();
        let holders = holders::collect(snapshot, &owners, creators, holder_cache);
        cgroups.record_errors(issues);
        if cgroups.sees_all() == Some(false) {
            issues.limit(Feature::CgroupPaths, Reason::CgroupNamespace);
        }
        holder_cache.end_reading();
        processes.end_reading();
        cgroups.end_reading();
        holders
    }

    fn scan_hooks(&mut self, snapshot: &mut Snapshot, files: &[ProcessFiles]) {
        let Some(hooks) = &mut self.hooks else { return };
        let scan = if self.wait_for_hooks { ScanScheduler::now } else { ScanScheduler::latest };
        snapshot.hooks = scan(hooks, snapshot, files, &mut self.issues);
        snapshot.collectors.extend(hooks.collector(snapshot.taken_at));
        snapshot.features.extend_from_slice(hooks.features());
        hooks.locate(snapshot.links.as_deref_mut().unwrap_or_default());
    }

    /// Returns the orphaned objects, given that every process and pin was seen; `None` if some hooks or maps were not.
    fn orphans(
        &mut self,
        snapshot: &Snapshot,
        search: &HolderSearch,
        pins_taken_at: BootTime,
    ) -> Option<Orphaned> {
        let scan = snapshot.hooks.as_deref();
        if scan.is_some_and(|scan| !scan.complete) {
            return None;
        }
        let holders = snapshot.holders.as_ref()?;
        // The holders of objects that were created after the last search are unknown.
        if search.taken_at >= snapshot.taken_at {
            self.orphans.update(snapshot, holders, scan, search.ended_at, pins_taken_at);
        }
        self.orphans.orphaned().cloned()
    }
}
