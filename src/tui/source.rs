//! Readings for the screen, one after another, from wherever they come. Entry point: [`deliver`].
//!
//! Readings are taken on a thread of their own: the screen never waits for one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::{Event, Snapshot};

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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::export::recording::parse;

    const GOLDEN: &str = include_str!("../../tests/golden/node/snapshot.json");

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
