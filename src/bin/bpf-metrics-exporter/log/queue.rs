//! Lines on their way to standard error. Entry points: [`QUEUE`], to which a line is written without waiting, and [`start_writer`].

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::limit::{LIMIT, WINDOW};
use super::stderr;

/// The time after which what was held back is looked at again.
const ROUND: Duration = Duration::from_secs(WINDOW.as_secs() / 12);

/// The most that waits, in bytes: some thousand lines.
const MAX_BYTES: usize = 1 << 20;

/// The lines of the program.
pub(super) static QUEUE: Queue = Queue::new();

/// Lines that wait, the oldest first.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when there is a line, and when one is written.
    changed: Condvar,
}

struct State {
    lines: VecDeque<Vec<u8>>,
    /// The size of all lines.
    bytes: usize,
    /// Whether a line is taken out and not written yet.
    is_writing: bool,
    /// Lines that found no room, or were not taken by standard error.
    lost: u64,
    /// How many of them the log has reported.
    reported: u64,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let state = State { lines: VecDeque::new(), bytes: 0, is_writing: false, lost: 0, reported: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The panic of another thread ends the program after it has complained.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or counts it as lost if there is no room.
    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes + line.len() > MAX_BYTES {
            state.lost += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_owned());
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for a line and takes it out; `None` after `patience` without one.
    fn take(&self, patience: Duration) -> Option<Vec<u8>> {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.lines.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let line = state.lines.pop_front()?;
        state.bytes -= line.len();
        state.is_writing = true;
        Some(line)
    }

    /// Settles the line that was taken out. Returns how many lines are lost that the log has not reported, once lines are taken again
    /// and there is room to tell.
    fn settle(&self, is_written: bool) -> Option<u64> {
        let mut state = self.lock();
        state.is_writing = false;
        let mut unreported = None;
        if !is_written {
            state.lost += 1;
        } else if state.lost > state.reported && state.bytes < MAX_BYTES / 2 {
            unreported = Some(state.lost - state.reported);
            state.reported = state.lost;
        }
        drop(state);
        self.changed.notify_all();
        unreported
    }

    /// The number of lines that are lost.
    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Waits until everything is written, or until the deadline.
    pub(super) fn flush(&self, deadline: Instant) {
        let patience = deadline.saturating_duration_since(Instant::now());
        let is_pending = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock(), patience, is_pending);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes lines with `write`, one after the other, until there is none for `patience`, or for [`ROUND`].
    fn write_lines(&self, patience: Duration, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
        let began = Instant::now();
        while began.elapsed() < ROUND
            && let Some(line) = self.take(patience)
        {
            if let Some(lost) = self.settle(write(&line).is_ok()) {
                tracing::warn!(target: super::limit::UNLIMITED, "{lost} lines of the log were lost: standard error did not take them");
            }
        }
    }
}

impl io::Write for &Queue {
    /// Adds a line; the subscriber writes each whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread that writes [`QUEUE`] to standard error. It never ends.
pub(super) fn start_writer() -> io::Result<()> {
    let run = || {
        loop {
            QUEUE.write_lines(ROUND, |line| stderr::write(line, None));
            LIMIT.report_old();
        }
    };
    thread::Builder::new().name("log".to_owned()).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Writes what is there with `write`.
    fn drain(queue: &Queue, write: impl FnMut(&[u8]) -> io::Result<()>) {
        queue.write_lines(Duration::ZERO, write);
    }

    #[test]
    fn lines_are_written_in_order_and_nothing_is_lost() {
        let queue = Queue::new();
        for line in ["one\n", "two\n", "three\n"] {
            (&queue).write_all(line.as_bytes()).expect("it takes everything");
        }
        let mut written = Vec::new();
        drain(&queue, |line| written.write_all(line));
        assert_eq!(String::from_utf8_lossy(&written), "one\ntwo\nthree\n");
        assert_eq!((queue.lost(), queue.lock().bytes), (0, 0));
    }

    #[test]
    fn a_full_queue_and_a_failing_standard_error_lose_lines_that_are_counted_and_told_once() {
        let queue = Queue::new();
        let line = [b'x'; 1000];
        let room = MAX_BYTES / line.len();
        for _ in 0..room + 5 {
            queue.push(&line);
        }
        assert_eq!(queue.lost(), 5, "they found no room");
        queue.take(Duration::ZERO).expect("there is one");
        assert_eq!(queue.settle(true), None, "there is no room to tell");
        drain(&queue, |_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(queue.lost(), 5 + room as u64 - 1);
        queue.push(b"first");
        queue.push(b"second");
        queue.take(Duration::ZERO).expect("there is one");
        assert_eq!(queue.settle(true), Some(4 + room as u64), "lines are taken again");
        queue.take(Duration::ZERO).expect("there is one");
        assert_eq!(queue.settle(true), None, "it is reported once");
    }

    #[test]
    fn a_flush_waits_for_the_line_that_is_being_written_and_no_longer_than_allowed() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.flush(start + Duration::from_mins(1));
        assert!(start.elapsed() < Duration::from_secs(30), "there is nothing to wait for");
        queue.push(b"line");
        let line = queue.take(Duration::ZERO);
        assert_eq!(line.as_deref(), Some(&b"line"[..]));
        let start = Instant::now();
        queue.flush(start + Duration::from_millis(50));
        assert!(start.elapsed() >= Duration::from_millis(50), "it is not written yet");
        thread::scope(|scope| {
            let flush = scope.spawn(|| queue.flush(Instant::now() + Duration::from_mins(1)));
            queue.settle(true);
            flush.join().expect("it ends");
        });
    }
}
