//! From the kernel's tables of BPF objects to a [`Snapshot`]. Knows no metric and no protocol, and never fails:
//! what was refused is in the snapshot as an issue. Begin at [`Reader::read`].

mod btf;
mod clock;
mod issues;
mod names;
pub mod privileges;
mod sys;
mod tables;
mod uapi;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use self::clock::BootOffset;
use self::issues::Issues;
use self::tables::{Btfs, Links, Maps, Programs};
use self::walk::{Pass, Table, walk};
use crate::model::{Btf, Collector, Link, Map, ProgramFacts, Snapshot};

/// Reads the kernel, and remembers what never changes from one reading to the next.
#[derive(Debug)]
pub struct Reader {
    started_at: Timestamp,
    issues: Issues,
    programs: Vec<Arc<ProgramFacts>>,
    maps: Vec<Arc<Map>>,
    links: Vec<Arc<Link>>,
    btfs: Vec<Arc<Btf>>,
}

impl Reader {
    /// A reader that has met nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started_at: Timestamp::now(),
            issues: Issues::default(),
            programs: Vec::new(),
            maps: Vec::new(),
            links: Vec::new(),
            btfs: Vec::new(),
        }
    }

    /// Takes a reading.
    pub fn read(&mut self) -> Snapshot {
        self.issues.begin();
        let taken_at = Timestamp::now();
        let boot = BootOffset::measure();
        let mut pass = Pass { taken_at, boot, issues: &mut self.issues, functions: HashMap::new() };
        let mut collectors = Vec::with_capacity(4);
        let programs = collect::<Programs>(&mut pass, &mut collectors, &mut self.programs);
        let maps = collect::<Maps>(&mut pass, &mut collectors, &mut self.maps);
        let links = collect::<Links>(&mut pass, &mut collectors, &mut self.links);
        let btfs = collect::<Btfs>(&mut pass, &mut collectors, &mut self.btfs);
        Snapshot {
            taken_at,
            reader_started_at: self.started_at,
            programs,
            maps,
            links,
            btfs,
            collectors,
            issues: self.issues.all().to_vec(),
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
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
        collectors.push(Collector { kind: T::KIND, duration: started.elapsed(), success });
    }
    rows
}

/// The kernel's release, as `uname -r` prints it; `None` where `/proc` is not mounted.
#[must_use]
pub fn release() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}
