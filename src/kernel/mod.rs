//! From the kernel's tables of BPF objects to a [`Snapshot`]. Knows no metric and no protocol, and never fails:
//! what was refused is in the snapshot as an issue. Begin at [`Reader::read`].

pub(crate) mod attachments;
mod backend;
mod btf;
#[cfg(test)]
mod enums;
mod fdinfo;
mod iter;
mod map_memory;
mod options;
pub(crate) mod pins;
mod reading;
pub mod requirements;
mod run_stats;
mod targets;
mod walk;

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::backend::Backend;
pub use self::backend::{Choice, in_words};
use self::iter::Iterators;
pub use self::options::{Options, ReaderChoice, RunStatsMode};
use self::reading::ReadContext;
use self::run_stats::Stats;
use self::targets::resolver::Resolver;
use self::walk::{Btfs, CachedObject, Links, Maps, Programs, Table, walk};
use crate::host::clock::BootOffset;
use crate::host::issues::Issues;
use crate::host::procfs;
use crate::model::{Collector, Kind, Part, ProcessFiles, ReaderKind, Snapshot};

/// Reads the kernel, and remembers what never changes from one reading to the next.
#[derive(Debug)]
pub struct Reader {
    options: Options,
    started_at: Timestamp,
    issues: Issues,
    stats: Stats,
    choices: Vec<Choice>,
    programs: Backend<iter::Programs, Vec<CachedObject<Programs>>>,
    maps: Backend<iter::Maps, Vec<CachedObject<Maps>>>,
    links: Backend<iter::Links, Vec<CachedObject<Links>>>,
    btfs: Vec<CachedObject<Btfs>>,
    files: Backend<iter::Files, ()>,
    /// Objects that the exporter itself holds all the time: links of iterators, and the map with their requests.
    own_objects: Vec<(Kind, u32)>,
    names: Resolver,
}

impl Reader {
    /// A reader that has met nothing yet. Runs are counted from here on, where [`Options::run_stats`] asks for it.
    ///
    /// It samples in a thread, which keeps the capabilities that the calling thread has now. Dropping the reader ends it.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let iterators = (options.reader != ReaderChoice::Only(ReaderKind::Walk)).then(Iterators::load);
        let (programs, maps, links, files, own_objects) = match iterators {
            Some(Iterators { programs, maps, links, files, kept }) => {
                (Some(programs), Some(maps), Some(links), Some(files), kept)
            }
            None => (None, None, None, None, Vec::new()),
        };
        let mut choices = Vec::with_capacity(5);
        let programs = Backend::choose(Part::Program, options.reader, programs, &mut choices);
        let maps = Backend::choose(Part::Map, options.reader, maps, &mut choices);
        let links = Backend::choose(Part::Link, options.reader, links, &mut choices);
        // The kernel has no iterator over them.
        choices.push(Choice { part: Part::Btf, reader: Some(ReaderKind::Walk), reason: None });
        let files = Backend::choose(Part::Holder, options.reader, files, &mut choices);
        Self {
            options,
            started_at: Timestamp::now(),
            issues: Issues::default(),
            stats: Stats::new(options.run_stats),
            choices,
            programs,
            maps,
            links,
            btfs: Vec::new(),
            files,
            own_objects,
            names: Resolver::default(),
        }
    }

    /// Returns how each table and the holders are read, and why.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Reads which processes have descriptors of BPF objects, in ascending order of pids: by an iterator, or from `/proc`. Of
    /// our own descriptors only those of the objects that are held all the time. `None` and an issue if it could not be read.
    ///
    /// These are the processes in our own pid namespace. The iterator reports their pids in the initial namespace.
    pub(crate) fn holders(&mut self, issues: &mut Issues) -> (ReaderKind, Option<Vec<ProcessFiles>>) {
        let files = match &mut self.files {
            Backend::Iter(files) => files.read(&self.own_objects, issues),
            Backend::Walk(()) => procfs::files(Path::new("/proc"), &self.own_objects, issues),
            Backend::Closed(refusal) => {
                issues.record(Part::Holder, refusal.error);
                None
            }
        };
        (self.files.reader(), files)
    }

    /// Takes a reading. Holders, owners and totals are empty.
    pub fn read(&mut self) -> Snapshot {
        self.issues.start_reading();
        let taken_at = Timestamp::now();
        let boot = BootOffset::measure();
        let run_stats = self.stats.now(&mut self.issues);
        let count_up_to = self.options.count_by_walking;
        let mut cx = ReadContext::new(taken_at, boot, count_up_to, &mut self.issues, &mut self.names);
        let mut collectors = Vec::with_capacity(4);
        let mut programs =
            table(&mut self.programs, &mut cx, &mut collectors, iter::Programs::read, walk::<Programs>);
        run_stats::mask(run_stats, programs.as_deref_mut());
        let maps = table(&mut self.maps, &mut cx, &mut collectors, iter::Maps::read, walk::<Maps>);
        let links = table(&mut self.links, &mut cx, &mut collectors, iter::Links::read, walk::<Links>);
        let btfs = collect(Kind::Btf, ReaderKind::Walk, &mut cx, &mut collectors, |cx| {
            walk::<Btfs>(&mut self.btfs, cx)
        });
        self.names.end_reading();
        Snapshot {
            programs,
            maps,
            links,
            btfs,
            run_stats,
            collectors,
            issues: self.issues.all().to_vec(),
            ..Snapshot::begun(taken_at, self.started_at)
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

/// Reads a table by its road.
fn table<I, T: Table>(
    road: &mut Backend<I, Vec<CachedObject<T>>>,
    cx: &mut ReadContext<'_>,
    collectors: &mut Vec<Collector>,
    iterate: impl FnOnce(&mut I, &mut ReadContext<'_>) -> Option<Vec<T::Row>>,
    walk: impl FnOnce(&mut Vec<CachedObject<T>>, &mut ReadContext<'_>) -> Option<Vec<T::Row>>,
) -> Option<Vec<T::Row>> {
    collect(T::KIND, road.reader(), cx, collectors, |cx| match road {
        Backend::Iter(table) => iterate(table, cx),
        Backend::Walk(known) => walk(known, cx),
        Backend::Closed(refusal) => cx.unavailable(T::KIND, refusal),
    })
}

/// Reads one table and notes how it went. A table that this kernel does not have leaves no note.
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
    if rows.is_some() || !success {
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

/// The kernel's release, as `uname -r` prints it; `None` where `/proc` is not mounted.
#[must_use]
pub fn release() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}
