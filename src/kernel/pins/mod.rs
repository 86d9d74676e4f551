//! Pins, in every bpffs that is mounted in our mount namespace or in that of another process, and in those that the user names.
//! Entry point: [`Pins::scan`]. Keeps no file open between scans, and opens each pin once. The limits are in [`budget`].

mod budget;
mod object;
mod tree;
mod views;
mod walk;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::budget::CpuTime;
use self::views::{View, views};
use self::walk::FileSystemWalk;
use crate::host::clock;
use crate::host::issues::Issues;
use crate::host::namespaces::Rights;
use crate::model::{BootTime, Kind, Pin};

/// Scans the mounted bpffs, and caches the object of each pin: a file of a bpffs never becomes another object's.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    given: Vec<PathBuf>,
    cache: PinCache,
}

/// A finished scan.
#[derive(Debug)]
pub(crate) struct PinScan {
    /// When it began.
    pub(crate) taken_at: BootTime,
    /// How long it took.
    pub(crate) duration: Duration,
    /// The pins by path and bpffs, each once. `None` if the mounts could not be read.
    pub(crate) pins: Option<Vec<Pin>>,
    /// The device numbers of the bpffs that exist and could not be reached.
    pub(crate) missing: Vec<u64>,
    /// What could not be read or was left out, and what cannot be seen.
    pub(crate) issues: Issues,
}

/// The identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
}

/// What a scan keeps for the next one.
#[derive(Debug, Default)]
struct PinCache {
    pins: HashMap<FileId, CachedPin>,
    /// The directories that have pins, in them or below.
    directories: HashSet<FileId>,
    /// CPU time by device number.
    times: HashMap<u64, Duration>,
    /// The number of the scan.
    scan: u64,
}

/// A file of a bpffs. Several names of it are several pins of the same object.
#[derive(Debug)]
struct CachedPin {
    kind: Kind,
    id: u32,
    /// One of its paths, and the top directory there: shared by all readings.
    path: Arc<str>,
    directory: Arc<str>,
    /// The last scan in which it was listed.
    listed: u64,
}

impl Pins {
    /// Returns a reader of every mounted bpffs and of these directories.
    pub(crate) fn new(given: Vec<PathBuf>) -> Self {
        Self { given, cache: PinCache::default() }
    }

    /// Finds every pin within the limits of a scan. Takes up to a second of CPU time where somebody fills a bpffs.
    ///
    /// The pins of a bpffs have the paths of the view that shows the most of it, as in its mount namespace. Its other views are walked only for what other
    /// mounts hide in the first.
    ///
    /// `existing` are the device numbers of all bpffs of the host, if they are known. A bpffs that our own mounts do not show is
    /// looked for in the mount namespaces of other processes. If they are not known, all of these are searched, and it counts as
    /// complete if all could be.
    pub(crate) fn scan(&mut self, existing: Option<&[u64]>) -> PinScan {
        let (taken_at, started) = (clock::now(), Instant::now());
        let mut issues = Issues::with_rights(Rights::of_this_thread());
        let mut missing = Vec::new();
        let pins = views(&self.given, existing, &mut issues).map(|views| {
            let (pins, visited) = self.walk(&views, &mut issues);
            let devices: BTreeSet<u64> = match existing {
                Some(existing) => existing.iter().copied().collect(),
                None => views.iter().map(|view| view.device).collect(),
            };
            missing.extend(devices.into_iter().filter(|device| !visited.contains(device)));
            pins
        });
        PinScan { taken_at, duration: started.elapsed(), pins, missing, issues }
    }

    /// Returns the pins, and the devices that were visited.
    fn walk(&mut self, views: &[View], issues: &mut Issues) -> (Vec<Pin>, HashSet<u64>) {
        self.cache.scan += 1;
        let mut visited = HashSet::new();
        let time = CpuTime::start();
        let (mut pins, mut directories, mut times) = (Vec::new(), HashSet::new(), HashMap::new());
        let mut file_systems: Vec<_> = views.chunk_by(|one, other| one.device == other.device).collect();
        // Those that take long come last: they have what the others left of the time.
        file_systems.sort_by_key(|views| self.cache.times.get(&views[0].device));
        for (index, views) in file_systems.iter().enumerate() {
            let (device, budget) = (views[0].device, time.budget(file_systems.len() - index));
            let mut walk = FileSystemWalk::new(device, &mut self.cache, budget, issues);
            if walk.run(views) {
                visited.insert(device);
            }
            times.insert(device, walk.time());
            pins.append(&mut walk.pins);
            directories.extend(walk.directories);
        }
        self.cache.end_scan(directories, times);
        pins.sort_unstable_by(|one, other| (&one.path, &one.bpffs).cmp(&(&other.path, &other.bpffs)));
        // The kernel may list an entry twice while others come and go.
        pins.dedup_by(|later, first| (&later.path, &later.bpffs) == (&first.path, &first.bpffs));
        (pins, visited)
    }
}

impl PinCache {
    /// Drops pins that this scan did not find.
    fn end_scan(&mut self, directories: HashSet<FileId>, times: HashMap<u64, Duration>) {
        (self.directories, self.times) = (directories, times);
        self.pins.retain(|_, pin| pin.listed == self.scan);
    }
}
