//! Snapshots in a file, as `snapshot` writes them: a recording has one on each line. Entry points: [`Recording::open`] for all of them
//! and [`first_and_last`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::json;
use crate::metrics::select::Selected;
use crate::model::Snapshot;

/// The longest document that is read from a file or another exporter, in bytes. One of 16,000 objects has 20 MB.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 20;

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

/// The ends of a recording.
pub struct Ends {
    /// The first snapshot; `None` if there is only one.
    pub first: Option<Arc<Snapshot>>,
    /// The last snapshot.
    pub last: Selected,
    /// Whether a line after it was left out, since it was cut off while it was written.
    pub is_cut: bool,
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
    fn new(path: &Path, reader: R, limit: usize) -> Self {
        Self { path: path.to_owned(), reader, line: 0, limit }
    }

    fn read(path: &Path, reader: R, limit: usize) -> Result<(Self, Arc<Snapshot>), RecordingError> {
        let mut recording = Self::new(path, reader, limit);
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
        let selected = self.next_document()?;
        Ok(selected.map(|selected| selected.snapshot))
    }

    fn next_document(&mut self) -> Result<Option<Selected>, RecordingError> {
        let mut text = Vec::new();
        if !self.read_text(&mut text)? {
            return Ok(None);
        }
        let line = self.line;
        match parse_selected(&text) {
            // The document goes on: it is the only one.
            Err(error) if error.is_eof() && line == 1 => {
                while self.read_line(&mut text)? > 0 {}
                parse_selected(&text).map(Some).map_err(|error| self.not_a_snapshot(line, error))
            }
            parsed => parsed.map(Some).map_err(|error| self.not_a_snapshot(line, error)),
        }
    }

    /// Reads the next line that has something. Returns whether there is one.
    fn read_text(&mut self, text: &mut Vec<u8>) -> Result<bool, RecordingError> {
        loop {
            text.clear();
            if self.read_line(text)? == 0 {
                return Ok(false);
            }
            if !text.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn ends(mut self) -> Result<Ends, RecordingError> {
        let Some(first) = self.next_document()? else {
            return Err(RecordingError::Empty { path: self.path });
        };
        let (mut text, mut last, mut before) = (Vec::new(), (0, Vec::new()), (0, Vec::new()));
        while self.read_text(&mut text)? {
            // The oldest makes room for the next.
            mem::swap(&mut before, &mut last);
            mem::swap(&mut last.1, &mut text);
            last.0 = self.line;
        }
        if last.1.is_empty() {
            return Ok(Ends { first: None, last: first, is_cut: false });
        }
        let of_line = |(line, text): &(u64, Vec<u8>)| {
            parse_selected(text).map_err(|error| self.not_a_snapshot(*line, error))
        };
        let (last, is_cut) = match of_line(&last) {
            Err(RecordingError::Document { error, .. }) if error.is_eof() => {
                if before.1.is_empty() {
                    return Ok(Ends { first: None, last: first, is_cut: true });
                }
                (of_line(&before)?, true)
            }
            parsed => (parsed?, false),
        };
        Ok(Ends { first: Some(first.snapshot), last, is_cut })
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

/// Reads the first and the last snapshot of a file, or of standard input if it is `-`. At most two and the text of three are in memory at
/// a time. A last line that was cut off, as by the end of whoever wrote it, is left out.
///
/// # Errors
///
/// If there is no snapshot, or if the first or the last line is none.
pub fn first_and_last(path: &Path) -> Result<Ends, RecordingError> {
    if path.as_os_str() == "-" {
        return Recording::new(path, io::stdin().lock(), MAX_DOCUMENT_BYTES).ends();
    }
    let file = File::open(path).map_err(|error| RecordingError::Read { path: path.to_owned(), error })?;
    Recording::new(path, BufReader::new(file), MAX_DOCUMENT_BYTES).ends()
}

/// Parses a document.
///
/// # Errors
///
/// Where and why it is not a snapshot.
pub fn parse(document: &[u8]) -> serde_json::Result<Arc<Snapshot>> {
    parse_selected(document).map(|selected| selected.snapshot)
}

fn parse_selected(document: &[u8]) -> serde_json::Result<Selected> {
    match std::str::from_utf8(document) {
        Ok(text) => json::parse(text),
        // It ends within a character: where the JSON ends too early is what matters.
        Err(error) if error.error_len().is_none() => {
            json::parse(&String::from_utf8_lossy(&document[..error.valid_up_to()]))
        }
        // Only to find out which byte is not UTF-8: such a document is no JSON.
        Err(error) => {
            Err(serde::de::Error::custom(format_args!("byte {} is not UTF-8", error.valid_up_to())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootTime;

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

    fn ends(text: &[u8], limit: usize) -> Result<Ends, RecordingError> {
        Recording::new(Path::new("host.ndjson"), text, limit).ends()
    }

    /// A line for each moment, in nanoseconds since boot.
    fn recorded(moments: &[u64]) -> String {
        let mut snapshot = Snapshot::clone(&parse(GOLDEN.as_bytes()).expect("it is one"));
        let mut line = |&moment: &u64| {
            snapshot.taken_at = BootTime(moment);
            json::line(&Selected::all(Arc::new(snapshot.clone()))).expect("it is JSON")
        };
        moments.iter().map(&mut line).collect()
    }

    fn moments(ends: &Ends) -> (Option<u64>, u64, bool) {
        (ends.first.as_ref().map(|first| first.taken_at.0), ends.last.snapshot.taken_at.0, ends.is_cut)
    }

    #[test]
    fn the_ends_of_a_recording_are_its_first_and_last_whole_line() {
        let of = |text: &str| moments(&ends(text.as_bytes(), MAX_DOCUMENT_BYTES).expect("it has ends"));
        assert_eq!(of(&recorded(&[7])), (None, 7, false));
        assert_eq!(of(&recorded(&[7, 8, 9, 10])), (Some(7), 10, false));
        assert_eq!(of(&format!("{}\n\n", recorded(&[7, 8]))), (Some(7), 8, false));
        // Cut after any part of a document.
        let line = recorded(&[11]);
        for length in [1, 10, line.len() / 2, line.len() - 2] {
            let cut = &line[..length];
            assert_eq!(of(&(recorded(&[7]) + cut)), (None, 7, true), "{length}");
            assert_eq!(of(&(recorded(&[7, 8]) + cut)), (Some(7), 8, true), "{length}");
            assert_eq!(of(&(recorded(&[7, 8, 9]) + cut)), (Some(7), 9, true), "{length}");
        }
        let within_a_character = [recorded(&[7, 8]).as_bytes(), b"{\"node\": \"\xc3"].concat();
        let ends = ends(&within_a_character, MAX_DOCUMENT_BYTES).expect("it has ends");
        assert_eq!(moments(&ends), (Some(7), 8, true));
        // Indented, and without the end of its last line.
        let pretty = json::render(&ends.last).expect("it is JSON");
        assert_eq!(of(&pretty), (None, 8, false));
        assert_eq!(of(pretty.trim_end()), (None, 8, false));
    }

    #[test]
    fn a_recording_is_bounded_by_line_and_a_wrong_end_is_an_error() {
        let text = recorded(&[7, 8, 9]);
        let longest = text.lines().map(str::len).max().expect("there are lines") + 1;
        assert_eq!(moments(&ends(text.as_bytes(), longest).expect("each line fits")), (Some(7), 9, false));
        let error = |text: &str, limit| ends(text.as_bytes(), limit).err().expect("it is wrong").to_string();
        assert!(error(&text, longest - 2).contains("line 1: a snapshot of more than"));
        assert!(error(&GOLDEN.repeat(2), GOLDEN.len()).contains("a snapshot of more than"));
        assert_eq!(error("\n", 100), "host.ndjson has no snapshot");
        let wrong = error(&(recorded(&[7]) + "{\"programs\": 3}\n"), MAX_DOCUMENT_BYTES);
        assert!(wrong.starts_with("host.ndjson, line 2: not a snapshot as JSON: "), "{wrong}");
        // A single document that is cut is none.
        assert!(
            error(&recorded(&[7])[..100], MAX_DOCUMENT_BYTES).contains("line 1: not a snapshot as JSON: EOF")
        );
    }
}
