//! A backlog on disk: files that follow the list of a queue, so that it survives a restart and SIGKILL.
//! Entry point: [`Disk`].
//!
//! Each destination has a directory of its own below the given one, named by a hash of its endpoint, for the user of the exporter
//! only and locked while one uses it:
//!
//! - `*.segment`: [records](record), appended one after another. The first bytes of a record that is settled are overwritten. A file
//!   that is long enough is followed by the next, and removed when all of its requests are settled. After a restart another one
//!   begins, so a torn tail stays a tail.
//! - `lock`.
//!
//! Nothing waits for the disk itself (`fsync`): what was written survives the end of the process in any way, and mostly that of
//! the machine, where the last half minute may be lost. What a receiver accepted just before SIGKILL, before its record is marked, is
//! delivered again: at most the request in flight and those of the last few milliseconds.

mod record;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::OFlag;
use nix::unistd::Uid;
use prost::bytes::Bytes;
use tracing::{debug, warn};
use uuid::Uuid;

pub(crate) use self::record::fuzz as fuzz_records;
use self::record::{HEADER, Header, SETTLED};
use super::entries::{Entries, Location, Recovered, Settled};
use crate::export::otlp::encode::Request;
use crate::export::wire;
use crate::outage::OutageLog;
use crate::worker::Worker;

/// Namespace of the names of directories.
const DESTINATIONS: Uuid = Uuid::from_u128(0x3d1c_52fe_9a0b_4c67_8e21_5b7f_60a4_d913);

/// A segment is an eighth of the backlog, within these bounds: that much more than the limit can be on disk.
const SEGMENT_BYTES: [u64; 2] = [64 << 10, 8 << 20];

/// The longest file that is read: a segment may end with one request of the largest size.
const MAX_SEGMENT: u64 = SEGMENT_BYTES[1] + (HEADER + wire::MAX_LEN) as u64;

/// Where a queue is kept.
#[derive(Debug)]
pub struct Disk {
    worker: Worker,
    /// Used on the thread of the worker only.
    files: Arc<Mutex<Files>>,
    log: Mutex<OutageLog>,
    read_log: Mutex<OutageLog>,
    damage_is_logged: AtomicBool,
}

/// What brings the files up to date.
#[derive(Debug)]
pub(super) enum Step {
    /// Open the directory.
    Open,
    /// Note what is settled.
    Settle(Settled),
    /// Write a request.
    Write {
        /// Its id in the queue.
        id: u64,
        /// Its reading.
        reading: u64,
        request: Request,
    },
}

/// The files.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    segment_bytes: u64,
    open: Option<OpenFiles>,
    /// How many places were damaged when the directory was opened.
    damaged: u64,
}

#[derive(Debug)]
struct OpenFiles {
    /// Locked as long as it is open.
    _lock: File,
    next_sequence: u64,
    /// Number of the next segment.
    next_segment: u64,
    /// What is added to the number of a reading, which starts again with the program.
    first_reading: u64,
    active: Option<ActiveSegment>,
    /// Records to mark as settled.
    settled: Vec<Location>,
    /// Segments to remove once they are not active.
    empty: BTreeSet<u64>,
}

#[derive(Debug)]
struct ActiveSegment {
    number: u64,
    file: File,
    len: u64,
}

impl Disk {
    /// Returns the place for a destination's backlog of at most `max_bytes` below `directory`, by the URL of the destination and by
    /// its name in the log. Nothing is opened yet: a queue does that on the thread of `worker`, and again later if it fails.
    #[must_use]
    pub fn new(directory: &Path, url: &str, destination: &str, max_bytes: u64, worker: Worker) -> Self {
        let own = directory.join(name(url));
        let read_log = OutageLog::new(format!("reading the backlog for {destination}"));
        let log = OutageLog::new(format!("keeping the backlog for {destination} in {}", directory.display()));
        let [min, max] = SEGMENT_BYTES;
        let files =
            Files { directory: own, segment_bytes: (max_bytes / 8).clamp(min, max), open: None, damaged: 0 };
        let files = Arc::new(Mutex::new(files));
        Self {
            worker,
            files,
            log: Mutex::new(log),
            read_log: Mutex::new(read_log),
            damage_is_logged: AtomicBool::new(false),
        }
    }

    /// Returns the directories below `directory` that have the backlog of a destination that is none of these, and the size of
    /// their files in bytes. Directories that cannot be read have none.
    #[must_use]
    pub fn of_others(directory: &Path, urls: &[String]) -> Vec<(PathBuf, u64)> {
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        let own: Vec<String> = urls.iter().map(|url| name(url)).collect();
        let others = entries(directory).filter(|entry| {
            let name = entry.file_name();
            name.to_str()
                .is_some_and(|name| Uuid::parse_str(name).is_ok() && !own.iter().any(|own| own == name))
        });
        let with_size = others.map(|entry| {
            let files = entries(&entry.path()).filter_map(|file| file.metadata().ok());
            (entry.path(), files.filter(fs::Metadata::is_file).map(|file| file.len()).sum())
        });
        with_size.filter(|&(_, size)| size > 0).collect()
    }

    /// Runs a function on the thread of the disk, later.
    pub(super) fn submit(&self, function: impl FnOnce() + Send + 'static) {
        self.worker.submit(function);
    }

    /// Runs a function on the thread of the disk.
    pub(super) async fn run<T: Send + 'static>(&self, function: impl FnOnce() -> T + Send + 'static) -> T {
        self.worker.run(function).await
    }

    /// Uses the files, on the thread of the disk.
    pub(super) fn with<T>(&self, function: impl FnOnce(&mut Files) -> T) -> T {
        function(&mut lock(&self.files))
    }

    /// Reads a request.
    pub(super) async fn read(&self, location: Location) -> io::Result<Bytes> {
        let files = Arc::clone(&self.files);
        self.worker.run(move || lock(&files).read(location)).await
    }

    /// Logs how the files were brought up to date, if that has changed.
    pub(super) fn log(&self, result: io::Result<()>) {
        let mut log = lock(&self.log);
        match result {
            Ok(()) => log.recovered(String::new),
            Err(error) => {
                log.failed(format_args!("{error}; it is kept in memory meanwhile"));
            }
        }
        let damaged = self.with(|files| std::mem::take(&mut files.damaged));
        if damaged > 0 {
            self.log_damage(format_args!("{damaged} places in its files have no record"));
        }
    }

    /// Logs whether a request could be read, if that has changed.
    pub(super) fn log_read(&self, error: Option<&io::Error>) {
        let mut log = lock(&self.read_log);
        match error {
            None => log.recovered(String::new),
            Some(error) => {
                log.failed(format_args!("{error}; it stays on disk and is tried again"));
            }
        }
    }

    /// Logs damage, the first as a warning.
    pub(super) fn log_damage(&self, what: fmt::Arguments<'_>) {
        if self.damage_is_logged.swap(true, Ordering::Relaxed) {
            debug!("--otlp-backlog-dir: {what}");
        } else {
            warn!("--otlp-backlog-dir: {what}; what can be read is delivered");
        }
    }
}

impl Files {
    /// Returns what brings the files up to date with the list; `None` if they are.
    pub(super) fn next_step(&self, entries: &mut Entries) -> Option<Step> {
        if self.open.is_none() {
            return Some(Step::Open);
        }
        // First what makes room.
        if let Some(settled) = entries.take_settled() {
            return Some(Step::Settle(settled));
        }
        let entry = entries.first_unwritten()?;
        Some(Step::Write { id: entry.id, reading: entry.reading, request: entry.request()? })
    }

    /// Opens the directory, and returns what an earlier run left.
    pub(super) fn open(&mut self) -> io::Result<Vec<Recovered>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let own = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(&self.directory)?;
        if own.metadata()?.uid() != Uid::effective().as_raw() {
            return Err(io::Error::other("its directory belongs to another user"));
        }
        own.set_permissions(fs::Permissions::from_mode(0o700))?;
        let lock = self.file("lock")?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::other("another exporter uses it; give each a directory of its own")
            }
            TryLockError::Error(error) => error,
        })?;
        let mut open = OpenFiles {
            _lock: lock,
            settled: Vec::new(),
            next_sequence: 0,
            next_segment: 1,
            first_reading: 0,
            active: None,
            empty: BTreeSet::new(),
        };
        let mut left = Vec::new();
        for number in self.segments()? {
            open.next_segment = open.next_segment.max(number + 1);
            let before = left.len();
            let Some(records) = self.scan(number)? else { continue };
            for (at, header) in records {
                open.next_sequence = open.next_sequence.max(header.sequence.saturating_add(1));
                open.first_reading = open.first_reading.max(header.reading);
                if !header.is_settled {
                    let Header { len, sequence, reading, items, compression, .. } = header;
                    let location = Location { segment: number, at, len, sequence };
                    left.push(Recovered { reading, items, compression, location });
                }
            }
            if left.len() == before {
                open.empty.insert(number);
            }
        }
        left.sort_by_key(|recovered| recovered.location.sequence);
        self.open = Some(open);
        // What is settled next removes them too.
        if let Err(error) = self.remove_empty() {
            debug!("--otlp-backlog-dir: failed to remove a file that is not needed any more: {error}");
        }
        Ok(left)
    }

    /// Opens a file, for the exporter's user only.
    fn file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        regular(&mut options, &self.directory.join(name))
    }

    /// Returns the numbers of the segments, in order.
    fn segments(&self) -> io::Result<BTreeSet<u64>> {
        let mut numbers = BTreeSet::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".segment"));
            numbers.extend(
                number.and_then(|number| number.parse::<u64>().ok()).filter(|&number| number < u64::MAX),
            );
        }
        Ok(numbers)
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:020}.segment"))
    }

    /// Finds the records of a segment; `None` if something else has its name.
    fn scan(&mut self, number: u64) -> io::Result<Option<Vec<(u64, Header)>>> {
        let path = self.segment(number);
        if !fs::symlink_metadata(&path)?.is_file() {
            self.damaged += 1;
            return Ok(None);
        }
        let file = regular(OpenOptions::new().read(true), &path)?;
        let len = file.metadata()?.len();
        if len > MAX_SEGMENT {
            self.damaged += 1;
            return Ok(Some(Vec::new()));
        }
        let scan = record::scan(len, |bytes, at| file.read_exact_at(bytes, at))?;
        self.damaged += scan.damaged;
        Ok(Some(scan.records))
    }

    /// Appends a request.
    pub(super) fn append(&mut self, reading: u64, request: &Request) -> io::Result<Location> {
        let Some(open) = &mut self.open else { return Err(closed()) };
        let header = Header {
            checksum: crc32fast::hash(&request.bytes),
            len: u32::try_from(request.bytes.len()).map_err(io::Error::other)?,
            sequence: open.next_sequence,
            reading: open.first_reading.saturating_add(reading),
            items: request.items,
            compression: request.compression,
            is_settled: false,
        };
        if open.active.as_ref().is_some_and(|active| active.len >= self.segment_bytes) {
            open.active = None;
            self.remove_empty()?;
        }
        let mut active = self.take_active()?;
        let record = [&header.to_bytes()[..], &request.bytes].concat();
        if let Err(error) = active.file.write_all_at(&record, active.len) {
            // What was written of it is cut off. If not, it is a damaged place, and another segment begins.
            if active.file.set_len(active.len).is_ok() {
                self.put_back(active);
            }
            return Err(error);
        }
        let location =
            Location { segment: active.number, at: active.len, len: header.len, sequence: header.sequence };
        active.len += record.len() as u64;
        self.put_back(active);
        if let Some(open) = &mut self.open {
            open.next_sequence += 1;
            open.empty.remove(&location.segment);
        }
        Ok(location)
    }

    fn take_active(&mut self) -> io::Result<ActiveSegment> {
        let Some(open) = &mut self.open else { return Err(closed()) };
        if let Some(active) = open.active.take() {
            return Ok(active);
        }
        let number = open.next_segment;
        open.next_segment += 1;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        Ok(ActiveSegment { number, file: options.open(self.segment(number))?, len: 0 })
    }

    fn put_back(&mut self, active: ActiveSegment) {
        if let Some(open) = &mut self.open {
            open.active = Some(active);
        }
    }

    /// Removes segments without requests, and marks what is settled in the others.
    pub(super) fn settle(&mut self, settled: Settled) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(closed()) };
        open.settled.extend(settled.records);
        open.empty.extend(settled.empty_segments);
        self.remove_empty()?;
        while let Some(location) = self.open.as_ref().and_then(|open| open.settled.last().copied()) {
            self.mark(location)?;
            if let Some(open) = &mut self.open {
                open.settled.pop();
            }
        }
        Ok(())
    }

    /// Marks a record as settled. It may be in a segment that was removed.
    fn mark(&self, location: Location) -> io::Result<()> {
        let active = self.open.as_ref().and_then(|open| open.active.as_ref());
        if let Some(active) = active.filter(|active| active.number == location.segment) {
            return active.file.write_all_at(&SETTLED, location.at);
        }
        match regular(OpenOptions::new().write(true), &self.segment(location.segment)) {
            Ok(file) => file.write_all_at(&SETTLED, location.at),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn remove_empty(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(closed()) };
        let active = open.active.as_ref().map(|active| active.number);
        let empty: Vec<u64> = open.empty.iter().copied().filter(|&number| Some(number) != active).collect();
        for number in empty {
            match fs::remove_file(self.segment(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if let Some(open) = &mut self.open {
                open.empty.remove(&number);
            }
        }
        Ok(())
    }

    fn read(&self, location: Location) -> io::Result<Bytes> {
        let file = regular(OpenOptions::new().read(true), &self.segment(location.segment))?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, location.at)?;
        let mut body = vec![0; location.len as usize];
        file.read_exact_at(&mut body, location.at + HEADER as u64)?;
        match Header::parse(&header) {
            Some(header) if header.sequence == location.sequence && header.matches(&body) => Ok(body.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the record on disk is damaged")),
        }
    }
}

/// Returns the name of the directory of a destination.
fn name(url: &str) -> String {
    Uuid::new_v5(&DESTINATIONS, url.as_bytes()).to_string()
}

/// Opens a regular file: another kind could lead elsewhere, or wait for ever.
fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other(format!("{} is not a regular file", path.display())))
    }
}

fn closed() -> io::Error {
    io::Error::other("the directory is not open")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
