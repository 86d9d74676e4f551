//! Readings for the screen, one after another, from wherever they come. Entry points: [`deliver`] and [`Recording::open`].
//!
//! Readings are taken on a thread of their own: the screen never waits for one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::export::json;
use crate::model::{Event, Snapshot};

/// The longest document that is read from a file or another exporter, in bytes. One of 16,000 objects has 20 MB.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 20;

/// News for the screen.
#[derive(Clone, Debug)]
pub enum Update {
    /// A reading has begun.
    Began,
    /// A reading is finished.
    Read(Arc<Snapshot>),
    /// What happened, in order, and how many events before these are missing.
    Happened(Vec<Arc<Event>>, u64),
    /// A reading failed for this reason. The next one is tried in its time.
    Failed(String),
    /// There is no further reading.
    Ended,
}

/// A reading that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoReading {
    /// It failed, and the next one may not.
    Failed(String),
    /// It was the last one.
    Ended,
}

/// The time between readings, and whether they pause. A clone shares both.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    every: Duration,
    is_paused: Mutex<bool>,
    changed: Condvar,
}

impl Pace {
    /// Returns a pace of one reading in each interval.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self(Arc::new(Shared { every, is_paused: Mutex::new(false), changed: Condvar::new() }))
    }

    /// Pauses readings, or goes on. One that has begun is finished.
    pub fn pause(&self, is_paused: bool) {
        *self.lock() = is_paused;
        self.0.changed.notify_all();
    }

    /// Waits until the next reading is due, and for the end of a pause.
    fn wait(&self, last: Instant) {
        let due = last + self.0.every;
        let mut is_paused = self.lock();
        loop {
            let now = Instant::now();
            is_paused = if *is_paused {
                self.0.changed.wait(is_paused).unwrap_or_else(PoisonError::into_inner)
            } else if now < due {
                let waited = self.0.changed.wait_timeout(is_paused, due - now);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                return;
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.is_paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes readings at a pace and sends them, until there is no further one or nobody receives them (`send` returns false).
pub fn deliver(
    pace: &Pace,
    mut read: impl FnMut() -> Result<(Arc<Snapshot>, Vec<Arc<Event>>), NoReading>,
    send: impl Fn(Update) -> bool,
) {
    loop {
        let began = Instant::now();
        if !send(Update::Began) {
            return;
        }
        let is_received = match read() {
            Ok((snapshot, events)) => {
                let happened = events.is_empty() || send(Update::Happened(events, 0));
                happened && send(Update::Read(snapshot))
            }
            Err(NoReading::Failed(reason)) => send(Update::Failed(reason)),
            Err(NoReading::Ended) => {
                send(Update::Ended);
                return;
            }
        };
        if !is_received {
            return;
        }
        pace.wait(began);
    }
}

/// A file of snapshots as JSON: one on each line, or a single one on any number of lines. At most one is in memory at a time.
pub struct Recording<R = BufReader<File>> {
    path: PathBuf,
    reader: R,
    line: u64,
    limit: usize,
}

/// A recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("failed to read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A document is not a snapshot.
    #[error("{}, line {line}: not a snapshot as JSON: {error}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// The line on which the document begins.
        line: u64,
        /// Why.
        error: serde_json::Error,
    },
    /// A document is too long.
    #[error("{}, line {line}: a snapshot of more than {limit} bytes is not read", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The line on which the document begins.
        line: u64,
        /// The limit.
        limit: usize,
    },
    /// There is no document.
    #[error("{} has no snapshot", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Recording {
    /// Opens a file, and returns it with its first snapshot.
    ///
    /// # Errors
    ///
    /// If there is no first snapshot.
    pub fn open(path: &Path) -> Result<(Self, Arc<Snapshot>), RecordingError> {
        let file = File::open(path).map_err(|error| RecordingError::Read { path: path.to_owned(), error })?;
        Recording::read(path, BufReader::new(file), MAX_DOCUMENT_BYTES)
    }
}

impl<R: BufRead> Recording<R> {
    fn read(path: &Path, reader: R, limit: usize) -> Result<(Self, Arc<Snapshot>), RecordingError> {
        let mut recording = Self { path: path.to_owned(), reader, line: 0, limit };
        match recording.advance()? {
            Some(first) => Ok((recording, first)),
            None => Err(RecordingError::Empty { path: recording.path }),
        }
    }

    /// Returns the next snapshot; `None` after the last one.
    ///
    /// # Errors
    ///
    /// If what follows is not a snapshot.
    pub fn advance(&mut self) -> Result<Option<Arc<Snapshot>>, RecordingError> {
        let mut text = Vec::new();
        loop {
            text.clear();
            if self.read_line(&mut text)? == 0 {
                return Ok(None);
            }
            if !text.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.line;
        match parse(&text) {
            Ok(snapshot) => Ok(Some(snapshot)),
            // The document goes on: it is the only one.
            Err(error) if error.is_eof() && line == 1 => {
                while self.read_line(&mut text)? > 0 {}
                parse(&text).map(Some).map_err(|error| self.not_a_snapshot(line, error))
            }
            Err(error) => Err(self.not_a_snapshot(line, error)),
        }
    }

    /// Adds a line to a document. Returns its length.
    fn read_line(&mut self, document: &mut Vec<u8>) -> Result<usize, RecordingError> {
        let rest = (self.limit + 1 - document.len()) as u64;
        let read = self.reader.by_ref().take(rest).read_until(b'\n', document);
        let read = read.map_err(|error| RecordingError::Read { path: self.path.clone(), error })?;
        self.line += 1;
        if document.len() > self.limit {
            let (path, line, limit) = (self.path.clone(), self.line, self.limit);
            return Err(RecordingError::TooLong { path, line, limit });
        }
        Ok(read)
    }

    fn not_a_snapshot(&self, line: u64, error: serde_json::Error) -> RecordingError {
        RecordingError::Document { path: self.path.clone(), line, error }
    }
}

/// Parses a document.
///
/// # Errors
///
/// Where and why it is not a snapshot.
pub fn parse(document: &[u8]) -> serde_json::Result<Arc<Snapshot>> {
    // Only to find out which byte is not UTF-8: such a document is no JSON.
    let text = std::str::from_utf8(document).map_err(|error| {
        serde::de::Error::custom(format_args!("byte {} is not UTF-8", error.valid_up_to()))
    })?;
    json::parse(text).map(|selected| selected.snapshot)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::metrics::select::Selected;

    const GOLDEN: &str = include_str!("../../tests/golden/node/snapshot.json");

    fn lines(documents: usize) -> String {
        let line = serde_json::from_str::<serde_json::Value>(GOLDEN).expect("it is JSON").to_string();
        format!("{line}\n\n").repeat(documents)
    }

    fn recording(text: &str, limit: usize) -> Result<usize, RecordingError> {
        let (mut recording, _) = Recording::read(Path::new("host.ndjson"), text.as_bytes(), limit)?;
        let mut documents = 1;
        while recording.advance()?.is_some() {
            documents += 1;
        }
        Ok(documents)
    }

    #[test]
    fn a_recording_has_a_snapshot_on_each_line_or_a_single_one() {
        assert_eq!(recording(&lines(3), MAX_DOCUMENT_BYTES).expect("it is one"), 3);
        assert_eq!(recording(GOLDEN, MAX_DOCUMENT_BYTES).expect("it is one"), 1);
        let parsed = parse(GOLDEN.as_bytes()).expect("it is one");
        let printed = json::render(&Selected::all(parsed)).expect("it is JSON");
        assert_eq!(recording(&printed, MAX_DOCUMENT_BYTES).expect("it is one"), 1);
    }

    #[test]
    fn what_is_wrong_with_a_recording_is_said_with_its_line() {
        let error = |text: &str, limit| recording(text, limit).expect_err("it is wrong").to_string();
        assert_eq!(error("\n \n", 100), "host.ndjson has no snapshot");
        let text = format!("{}{{\"programs\": 3}}\n", lines(1));
        let wrong = error(&text, MAX_DOCUMENT_BYTES);
        assert!(wrong.starts_with("host.ndjson, line 3: not a snapshot as JSON: "), "{wrong}");
        assert!(error("{\n\"taken_at\": ", 100).contains("line 1: not a snapshot as JSON: EOF"));
        let long = error(&lines(2), 1000);
        assert_eq!(long, "host.ndjson, line 1: a snapshot of more than 1000 bytes is not read");
        assert!(error("\u{fffd}", 100).contains("line 1"));
        let missing = Recording::open(Path::new("/nowhere/host.ndjson")).err().expect("there is none");
        assert_eq!(
            missing.to_string(),
            "failed to read /nowhere/host.ndjson: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn readings_come_at_their_pace_and_stop_with_who_receives_them() {
        let (sender, updates) = channel();
        let pace = Pace::new(Duration::from_millis(20));
        let began = Instant::now();
        let mut left = 3;
        let golden = parse(GOLDEN.as_bytes()).expect("it is a snapshot");
        let read = || {
            left -= 1;
            match left {
                2 => Ok((Arc::clone(&golden), Vec::new())),
                1 => Err(NoReading::Failed("no luck".to_owned())),
                _ => Err(NoReading::Ended),
            }
        };
        deliver(&pace, read, |update| sender.send(update).is_ok());
        assert!(began.elapsed() >= Duration::from_millis(40));
        let words = updates.try_iter().map(|update| match update {
            Update::Began => "began",
            Update::Read(_) => "read",
            Update::Happened(..) => "happened",
            Update::Failed(_) => "failed",
            Update::Ended => "ended",
        });
        assert_eq!(words.collect::<Vec<_>>(), ["began", "read", "began", "failed", "began", "ended"]);
        drop(updates);
        // It would read for ever.
        let forever = || Err(NoReading::Failed("again".to_owned()));
        deliver(&pace, forever, |update| sender.send(update).is_ok());
    }

    #[test]
    fn a_pause_holds_readings_until_it_ends() {
        let (sender, updates) = channel();
        let pace = Pace::new(Duration::from_millis(1));
        pace.pause(true);
        let theirs = pace.clone();
        let thread = std::thread::spawn(move || {
            let failing = || Err(NoReading::Failed(String::new()));
            deliver(&theirs, failing, |update| sender.send(update).is_ok());
        });
        let next = |time| updates.recv_timeout(Duration::from_millis(time));
        // The first reading is not held: there is nothing to look at before it.
        assert!(matches!(next(5000), Ok(Update::Began)) && matches!(next(5000), Ok(Update::Failed(_))));
        assert!(next(100).is_err());
        pace.pause(false);
        assert!(matches!(next(5000), Ok(Update::Began)));
        drop(updates);
        thread.join().expect("it ends");
    }
}
