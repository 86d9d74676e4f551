//! Reads the kernel's tables of BPF objects into a [`Snapshot`].
//!
//! Entry point: [`Reader::read`]. A reading does not fail: errors are in the snapshot, as issues. Independent of metrics and
//! protocols.

pub(crate) mod attachments;
mod backend;
mod btf;
mod capabilities;
mod count;
#[cfg(test)]
mod enums;
pub mod events;
mod fdinfo;
pub(crate) mod fuzzing;
mod instructions;
pub(crate) mod iter;
mod map_memory;
mod newest;
mod options;
pub(crate) mod pins;
mod reading;
pub mod requirements;
mod run_stats;
mod targets;
mod walk;

use std::path::Path;
use std::time::{Duration, Instant};

use self::backend::{Backend, Refusal};
pub use self::backend::{Choice, describe_choices};
use self::capabilities::Analyses;
use self::events::ProgramStream;
use self::iter::Iterators;
pub(crate) use self::newest::NewestIds;
pub use self::options::{ReaderChoice, ReaderOptions, RunStatsMode};
use self::reading::ReadContext;
use self::run_stats::RunStatsControl;
use self::targets::resolver::Resolver;
use self::walk::{BtfTable, Known, LinkTable, MapTable, ObjectTable, ProgramTable};
use crate::host::clock::{self, HostClock};
use crate::host::issues::Issues;
use crate::host::namespaces::Rights;
use crate::host::posture::HostSettingsReader;
use crate::host::procfs;
use crate::model::{
    BootTime, Capability, Collector, Feature, FeatureState, HostSettings, Kind, Link, Part, ProcessFiles,
    ReaderKind, Reason, RunStats, Snapshot,
};
use crate::sys;

/// Reads the kernel, and caches immutable facts across readings.
#[derive(Debug)]
pub struct Reader {
    options: ReaderOptions,
    started_at: BootTime,
    clock: HostClock,
    /// `None` before the first reading.
    first_read_at: Option<BootTime>,
    issues: Issues,
    run_stats: RunStatsControl,
    choices: Vec<Choice>,
    /// Why some iterators could not be loaded, if they were tried.
    iterators: Option<FeatureState>,
    /// The rights of the last reading, and whether it had the addresses of the kernel's symbols.
    symbols: Option<(Rights, bool)>,
    programs: Backend<iter::Programs, Known<ProgramTable>>,
    maps: Backend<iter::Maps, Known<MapTable>>,
    links: Backend<iter::Links, Known<LinkTable>>,
    btfs: Known<BtfTable>,
    files: Backend<iter::Files, ()>,
    bpffs: Option<iter::BpffsList>,
    /// Objects that the exporter itself holds all the time: links of iterators, and the maps with their requests and the CPUs.
    own_objects: Vec<(Kind, u32)>,
    names: Resolver,
    analyses: Analyses,
    posture: HostSettingsReader,
    /// The kernel's records of programs, until they are taken.
    stream: Option<sys::Result<ProgramStream>>,
    newest: NewestIds,
}

impl Reader {
    /// Loads the iterators, and enables run statistics according to [`ReaderOptions::run_stats`].
    ///
    /// Statistics are sampled in a thread, which keeps the current capabilities of the calling thread and ends with the reader.
    #[must_use]
    pub fn new(options: ReaderOptions) -> Self {
        Self::restricted(options, || ())
    }

    /// As [`Self::new`]. Calls `restrict` once everything that needs more rights than readings is done, and no thread was started: the
    /// iterators are loaded, the kernel's records of programs are open, run statistics are on unless they are sampled, and the
    /// addresses of the kernel's symbols are readable.
    #[must_use]
    pub fn restricted(options: ReaderOptions, restrict: impl FnOnce()) -> Self {
        let iterators = (options.reader != ReaderChoice::Only(ReaderKind::Walk)).then(Iterators::load);
        let state = iterators.as_ref().map(|iterators| FeatureState {
            feature: Feature::Iterators,
            reason: refusal_of(iterators).map(|refusal| refusal.cause(Rights::of_this_thread())),
        });
        let (programs, maps, links, files, bpffs, own_objects) = match iterators {
            Some(Iterators { programs, maps, links, files, bpffs, own_objects }) => {
                (Some(programs), Some(maps), Some(links), Some(files), Some(bpffs), own_objects)
            }
            None => (None, None, None, None, None, Vec::new()),
        };
        let mut choices = Vec::with_capacity(6);
        let wanted = options.reader;
        let refusal = iter::Programs::pass_refusal;
        let programs = Backend::choose_with_pass(Part::Program, wanted, programs, refusal, &mut choices);
        let refusal = iter::Maps::pass_refusal;
        let maps = Backend::choose_with_pass(Part::Map, wanted, maps, refusal, &mut choices);
        let links = Backend::choose(Part::Link, options.reader, links, &mut choices);
        // The kernel has no iterator over them.
        choices.push(Choice { part: Part::Btf, reader: Some(ReaderKind::Walk), reason: None });
        let files = Backend::choose(Part::Holder, options.reader, files, &mut choices);
        // Without the kernel's list of bpffs, pins are read from the mounts in /proc, whatever backend is wanted for objects.
        let bpffs = bpffs.and_then(|bpffs| {
            let unlisted = |Refusal { reason, .. }| {
                choices.push(Choice {
                    part: Part::Pin,
                    reader: Some(ReaderKind::Walk),
                    reason: Some(reason),
                });
            };
            bpffs.map_err(unlisted).ok()
        });
        let mut names = Resolver::default();
        names.keep_symbols();
        let always_on =
            (options.run_stats == RunStatsMode::On).then(|| RunStatsControl::new(RunStatsMode::On));
        let stream = options.events.map(ProgramStream::open);
        // The iterators are the newest programs, and have the newest maps.
        let is_walk = [programs.reader(), maps.reader()].contains(&ReaderKind::Walk);
        let newest = if is_walk { NewestIds::read() } else { NewestIds::default() };
        restrict();
        Self {
            options,
            started_at: clock::now(),
            clock: HostClock::default(),
            first_read_at: None,
            issues: Issues::default(),
            run_stats: always_on.unwrap_or_else(|| RunStatsControl::new(options.run_stats)),
            choices,
            iterators: state,
            symbols: None,
            programs,
            maps,
            links,
            btfs: Known::default(),
            files,
            bpffs,
            own_objects,
            names,
            analyses: Analyses::default(),
            posture: HostSettingsReader::default(),
            stream,
            newest,
        }
    }

    /// Returns how each table and the holders are read, and why.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Returns the kernel's records of programs, or why they cannot be read; `None` without [`ReaderOptions::events`], and the next time.
    pub(crate) fn take_stream(&mut self) -> Option<sys::Result<ProgramStream>> {
        self.stream.take()
    }

    /// Returns ids that objects had before the first reading, but for those that are still there.
    pub(crate) const fn newest(&self) -> NewestIds {
        self.newest
    }

    /// Reads which processes have descriptors of BPF objects, in ascending order of pids: by an iterator, or from `/proc`. Of
    /// our own descriptors only those of the objects that are held all the time. An issue if not every process was read; `None` if
    /// none could be.
    ///
    /// The iterator reports the processes of the host with their pids in the initial namespace; `/proc` those of the namespace in
    /// which it was mounted, and limits the feature if that may not be every process of the host.
    pub(crate) fn holders(&mut self, issues: &mut Issues) -> (ReaderKind, Option<Vec<ProcessFiles>>) {
        let files = match &mut self.files {
            Backend::Iter(files) => files.read(&self.own_objects, issues),
            Backend::Walk(()) => procfs::files(Path::new("/proc"), &self.own_objects, issues),
            Backend::Unavailable(refusal) => {
                issues.record(Part::Holder, refusal.error);
                None
            }
        };
        (self.files.reader(), files)
    }

    /// Returns the device numbers (`st_dev`) of every bpffs of the host, ascending, whatever mount namespace each is mounted in: what
    /// exists although we may not reach it. `None` if unknown: without iterators, or with an issue, or if it changes too fast.
    ///
    /// Source: `super_block.s_dev` in the list of all superblocks, `fs/super.c`.
    pub(crate) fn bpffs_devices(&mut self, issues: &mut Issues) -> Option<Vec<u64>> {
        self.bpffs.as_mut()?.read(issues)
    }

    /// Takes a reading. Holders, owners and totals are empty.
    pub fn read(&mut self) -> Snapshot {
        self.issues.start_reading();
        self.issues.set_rights(Rights::of_this_thread());
        let taken_at = clock::now();
        let first_read_at = *self.first_read_at.get_or_insert(taken_at);
        let clock = self.clock.read();
        let run_stats = self.run_stats.now(&mut self.issues);
        let count_up_to = self.options.count_by_walking;
        let mut cx = ReadContext::new(taken_at, count_up_to, &mut self.issues, &mut self.names);
        let mut collectors = Vec::with_capacity(5);
        let mut programs = collect(Kind::Program, self.programs.reader(), &mut cx, &mut collectors, |cx| {
            let mut programs = table(&mut self.programs, cx, iter::Programs::read)?;
            self.analyses.add_capabilities(&mut programs, cx);
            Some(programs)
        });
        run_stats::mask(run_stats, programs.as_deref_mut());
        let maps = collect(Kind::Map, self.maps.reader(), &mut cx, &mut collectors, |cx| {
            let maps = table(&mut self.maps, cx, iter::Maps::read)?;
            if let Some(programs) = &mut programs {
                self.analyses.add_metadata(programs, &maps, cx);
            }
            Some(maps)
        });
        let links = collect(Kind::Link, self.links.reader(), &mut cx, &mut collectors, |cx| {
            table(&mut self.links, cx, iter::Links::read)
        });
        let btfs = collect(Kind::Btf, ReaderKind::Walk, &mut cx, &mut collectors, |cx| self.btfs.walk(cx));
        self.names.end_reading();
        let posture = self.posture(&mut collectors);
        let features = self.features(run_stats);
        let own_programs = self.own_programs(links.as_deref().unwrap_or_default());
        Snapshot {
            features,
            programs,
            own_programs,
            maps,
            links,
            btfs,
            posture,
            run_stats,
            collectors,
            issues: self.issues.all().to_vec(),
            first_read_at,
            ..Snapshot::begun(taken_at, self.started_at, clock)
        }
    }
}

impl Reader {
    /// Returns the ids of our own programs: those that our links attach, ascending.
    fn own_programs(&self, links: &[Link]) -> Vec<u32> {
        let is_own = |link: &&Link| self.own_objects.contains(&(Kind::Link, link.facts.id));
        let mut ids: Vec<u32> = links.iter().filter(is_own).filter_map(|link| link.facts.prog_id).collect();
        ids.sort_unstable();
        ids
    }

    /// Reads the settings of the host.
    fn posture(&mut self, collectors: &mut Vec<Collector>) -> HostSettings {
        let started = Instant::now();
        let (posture, age) = self.posture.read(&mut self.issues);
        collectors.push(Collector {
            part: Part::Host,
            reader: None,
            duration: started.elapsed(),
            age,
            success: !self.issues.any(Part::Host),
        });
        posture
    }

    /// Returns the state of the sources that this reading used.
    fn features(&mut self, run_stats: RunStats) -> Vec<FeatureState> {
        let rights = self.issues.rights();
        // Values in the cache hide that the next would be refused.
        if let Some(reason) = rights.missing(Capability::SysAdmin) {
            self.issues.limit(Feature::MapMemory, reason);
        }
        if !self.shows_symbols() {
            let reason = rights.missing(Capability::Syslog).unwrap_or(Reason::KptrRestrict);
            self.issues.limit(Feature::KernelSymbols, reason);
        }
        let by_id = [self.programs.reader(), self.maps.reader(), self.links.reader()];
        let mut features: Vec<_> = self.iterators.into_iter().collect();
        if by_id.contains(&ReaderKind::Walk) {
            features.push(self.issues.state(Feature::ObjectsById));
        }
        let of_every_reading = [
            Feature::MapMemory,
            Feature::BtfObjects,
            Feature::KernelSymbols,
            Feature::HostSettings,
            Feature::ProgramCapabilities,
        ];
        features.extend(of_every_reading.map(|feature| self.issues.state(feature)));
        let state = self.issues.state(Feature::RunStatistics);
        if run_stats.is_on() {
            features.push(FeatureState { reason: None, ..state });
        } else if state.reason.is_some() {
            features.push(state);
        }
        features
    }

    /// Returns whether the kernel shows addresses in `/proc/kallsyms`: that depends on the rights of the process.
    fn shows_symbols(&mut self) -> bool {
        let rights = self.issues.rights();
        if let Some((_, shows)) = self.symbols.filter(|(read_with, _)| *read_with == rights) {
            return shows;
        }
        let shows = self.names.shows_symbols();
        self.symbols = Some((rights, shows));
        shows
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(ReaderOptions::default())
    }
}

/// Returns why one of the iterators could not be loaded.
fn refusal_of(iterators: &Iterators) -> Option<&Refusal> {
    let Iterators { programs, maps, links, files, bpffs, own_objects: _ } = iterators;
    let refusals = [
        programs.as_ref().err(),
        maps.as_ref().err(),
        links.as_ref().err(),
        files.as_ref().err(),
        bpffs.as_ref().err(),
    ];
    refusals.into_iter().flatten().next()
}

/// Reads a table with its backend.
fn table<I, T: ObjectTable>(
    backend: &mut Backend<I, Known<T>>,
    cx: &mut ReadContext<'_>,
    iterate: impl FnOnce(&mut I, &mut ReadContext<'_>) -> Option<Vec<T::Row>>,
) -> Option<Vec<T::Row>> {
    match backend {
        Backend::Iter(table) => iterate(table, cx),
        Backend::Walk(known) => known.walk(cx),
        Backend::Unavailable(refusal) => cx.unavailable(T::KIND, refusal),
    }
}

/// Reads a table, and adds its duration and success to `collectors`, unless this kernel does not have the table.
fn collect<Row>(
    kind: Kind,
    reader: ReaderKind,
    cx: &mut ReadContext<'_>,
    collectors: &mut Vec<Collector>,
    read: impl FnOnce(&mut ReadContext<'_>) -> Option<Vec<Row>>,
) -> Option<Vec<Row>> {
    let started = Instant::now();
    let rows = read(cx);
    let success = !cx.issues.any(kind);
    if rows.is_some() || cx.issues.concerns(kind) {
        let (part, reader) = (kind.into(), Some(reader));
        collectors.push(Collector {
            part,
            reader,
            duration: started.elapsed(),
            age: Duration::ZERO,
            success,
        });
    }
    rows
}

/// Returns the kernel's release as `uname -r` prints it; `None` if `/proc` is not mounted.
#[must_use]
pub fn release() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}
