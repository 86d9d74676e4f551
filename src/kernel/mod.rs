//! From the kernel's tables of BPF objects to a [`Snapshot`]. Knows no metric and no protocol, and never fails:
//! what was refused is in the snapshot as an issue. Begin at [`Reader::read`].

mod btf;
mod clock;
mod issues;
mod link;
mod link_info;
mod mounts;
mod names;
pub mod privileges;
mod resolver;
mod symbols;
mod sys;
mod tables;
mod uapi;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::clock::BootOffset;
use self::issues::Issues;
use self::link_info::LinkMemory;
use self::tables::{Btfs, Links, Maps, Programs};
use self::walk::{Pass, Table, walk};
use crate::model::{Btf, Collector, LinkFacts, MapFacts, ProgramFacts, ReaderKind, RunStats, Snapshot};

/// How to read the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// By which road.
    pub reader: ReaderChoice,
    /// Whether to have the runs of programs counted.
    pub run_stats: RunStatsMode,
    /// Up to which capacity the keys of a map are walked where the kernel keeps no count of them; `None` walks none.
    pub count_by_walking: Option<u32>,
}

/// By which road to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReaderChoice {
    /// By iterators where they can be had, by ids elsewhere.
    #[default]
    Auto,
    /// By one road only.
    Only(ReaderKind),
}

/// Whether to have the runs of programs counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunStatsMode {
    /// No; somebody else may.
    #[default]
    Off,
    /// All the time.
    On,
    /// For a part of the time.
    Sample {
        /// How long at a time.
        lasting: Duration,
        /// How often.
        every: Duration,
    },
}

/// Reads the kernel, and remembers what never changes from one reading to the next.
#[derive(Debug)]
pub struct Reader {
    started_at: Timestamp,
    issues: Issues,
    programs: Vec<Arc<ProgramFacts>>,
    maps: Vec<Arc<MapFacts>>,
    links: Vec<Arc<LinkFacts>>,
    btfs: Vec<Arc<Btf>>,
    link_memory: LinkMemory,
}

impl Reader {
    /// A reader that has met nothing yet.
    #[must_use]
    pub fn new(_options: Options) -> Self {
        Self {
            started_at: Timestamp::now(),
            issues: Issues::default(),
            programs: Vec::new(),
            maps: Vec::new(),
            links: Vec::new(),
            btfs: Vec::new(),
            link_memory: LinkMemory::default(),
        }
    }

    /// Takes a reading.
    pub fn read(&mut self) -> Snapshot {
        self.issues.begin();
        let taken_at = Timestamp::now();
        let boot = BootOffset::measure();
        let mut pass = Pass {
            taken_at,
            boot,
            issues: &mut self.issues,
            functions: HashMap::new(),
            links: &mut self.link_memory,
        };
        let mut collectors = Vec::with_capacity(4);
        let programs = collect::<Programs>(&mut pass, &mut collectors, &mut self.programs);
        let maps = collect::<Maps>(&mut pass, &mut collectors, &mut self.maps);
        let links = collect::<Links>(&mut pass, &mut collectors, &mut self.links);
        let btfs = collect::<Btfs>(&mut pass, &mut collectors, &mut self.btfs);
        self.link_memory.end_reading(&self.links);
        Snapshot {
            taken_at,
            reader_started_at: self.started_at,
            programs,
            maps,
            links,
            btfs,
            run_stats: RunStats::default(),
            collectors,
            issues: self.issues.all().to_vec(),
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

/// Reads one table and notes how it went. A table that this kernel does not have leaves no note.
fn collect<T: Table>(
    pass: &mut Pass<'_>,
    collectors: &mut Vec<Collector>,
    known: &mut Vec<Arc<T::Facts>>,
) -> Option<Vec<T::Row>> {
    let started = Instant::now();
    let rows = walk::<T>(pass, known);
    let success = !pass.issues.any(T::KIND);
    if rows.is_some() || !success {
        collectors.push(Collector {
            kind: T::KIND,
            reader: ReaderKind::Walk,
            duration: started.elapsed(),
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
