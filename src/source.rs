//! Readings shared by everything that needs one at a time: a scrape, an OTLP interval and a page get the same snapshot.
//! Entry point: [`Source::latest`]. How a reading is taken is up to the caller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};

use crate::metrics::select::Selected;
use crate::model::{Exporter, Snapshot};

/// Maximum age of a reading that counts as fresh.
pub const FRESHNESS: Duration = Duration::from_secs(1);

/// Takes readings on demand, one at a time, and shares them.
#[derive(Clone)]
pub struct Source {
    /// Locked while a reading is taken, so that others wait without occupying a thread each.
    readings: Arc<Mutex<Readings>>,
    failed: watch::Receiver<Option<ReadError>>,
    exporter: Arc<dyn Fn() -> Exporter + Send + Sync>,
}

/// A reading, and the part of it that is exported.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Every object that was read.
    pub snapshot: Arc<Snapshot>,
    /// What to export; shares [`Reading::snapshot`] where everything is exported.
    pub selected: Selected,
}

/// The reader panicked. Its state is unknown then, so it is not called again and the program has to end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("reading BPF objects panicked: {message}")]
pub struct ReadError {
    message: Arc<str>,
}

impl ReadError {
    fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self { message: text.unwrap_or("no message").into() }
    }
}

struct Readings {
    read: Box<dyn FnMut() -> Snapshot + Send>,
    select: Box<dyn FnMut(Arc<Snapshot>) -> Selected + Send>,
    last: Option<(Instant, Reading)>,
    failed: watch::Sender<Option<ReadError>>,
}

impl Source {
    /// Returns a source that takes a reading with `read` and selects what to export of it with `select`, once per reading.
    /// `exporter` returns the state of the exporter itself.
    pub fn new(
        read: impl FnMut() -> Snapshot + Send + 'static,
        select: impl FnMut(Arc<Snapshot>) -> Selected + Send + 'static,
        exporter: impl Fn() -> Exporter + Send + Sync + 'static,
    ) -> Self {
        let (sender, failed) = watch::channel(None);
        let readings =
            Readings { read: Box::new(read), select: Box::new(select), last: None, failed: sender };
        Self { readings: Arc::new(Mutex::new(readings)), failed, exporter: Arc::new(exporter) }
    }

    /// Returns the state of the exporter itself, now.
    #[must_use]
    pub fn exporter(&self) -> Exporter {
        (self.exporter)()
    }

    /// Returns a reading that is at most [`FRESHNESS`] old.
    ///
    /// # Errors
    ///
    /// If the reader panicked, now or before.
    pub async fn latest(&self) -> Result<Reading, ReadError> {
        self.begun_since(Instant::now().checked_sub(FRESHNESS)).await
    }

    /// Returns a reading that began at this moment or later; any at all for `None`, a moment before the machine started.
    ///
    /// A reading continues if its caller goes away: it holds the lock itself and serves the next caller.
    ///
    /// # Errors
    ///
    /// If the reader panicked, now or before.
    pub async fn begun_since(&self, moment: Option<Instant>) -> Result<Reading, ReadError> {
        let mut readings = Arc::clone(&self.readings).lock_owned().await;
        if let Some(error) = &*self.failed.borrow() {
            return Err(error.clone());
        }
        if let Some(reading) = readings.begun_since(moment) {
            return Ok(reading);
        }
        let reading = tokio::task::spawn_blocking(move || readings.take()).await;
        // Panics are caught inside, so the task was cancelled: the runtime is shutting down.
        reading.unwrap_or_else(|_| Err(ReadError { message: "the program is stopping".into() }))
    }

    /// Waits until the reader panics, which may be never.
    pub async fn failed(&self) -> ReadError {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // The sender lives as long as this source.
            _ => std::future::pending().await,
        }
    }
}

impl Readings {
    fn begun_since(&self, moment: Option<Instant>) -> Option<Reading> {
        let (begun, reading) = self.last.as_ref()?;
        (Some(*begun) >= moment).then(|| reading.clone())
    }

    fn take(&mut self) -> Result<Reading, ReadError> {
        // A snapshot is as old as its oldest part.
        let begun = Instant::now();
        let Self { read, select, .. } = self;
        let take = || {
            let snapshot = Arc::new(read());
            Reading { selected: select(Arc::clone(&snapshot)), snapshot }
        };
        // Neither closure is called again after a panic, so their state is never seen.
        match catch_unwind(AssertUnwindSafe(take)) {
            Ok(reading) => {
                self.last = Some((begun, reading.clone()));
                Ok(reading)
            }
            Err(payload) => {
                let error = ReadError::from_panic(&*payload);
                self.failed.send_replace(Some(error.clone()));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::model::Build;

    fn empty() -> Snapshot {
        Snapshot::begun(Timestamp::now(), Timestamp::now())
    }

    fn exporter() -> Exporter {
        let build = Build { started_at: Timestamp::UNIX_EPOCH, version: "", revision: None, rustc: None };
        Exporter { build, delivery: None }
    }

    /// A source whose readings are counted.
    fn counted(mut read: impl FnMut() -> Snapshot + Send + 'static) -> (Source, Arc<AtomicUsize>) {
        let readings = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&readings);
        let read = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            read()
        };
        (Source::new(read, Selected::all, exporter), readings)
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_reading() {
        let (source, readings) = counted(empty);
        let callers: Vec<_> = (0..50)
            .map(|_| {
                tokio::spawn({
                    let source = source.clone();
                    async move { source.latest().await }
                })
            })
            .collect();
        let mut shared = Vec::new();
        for caller in callers {
            shared.push(caller.await.expect("it was not cancelled").expect("the reader does not panic"));
        }
        for Reading { snapshot, selected } in &shared {
            assert!(Arc::ptr_eq(snapshot, &shared[0].snapshot), "one reading");
            assert!(Arc::ptr_eq(snapshot, &selected.snapshot), "without rules it is not copied");
        }
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_reading_is_reused_while_it_is_new_enough() {
        let (source, _) = counted(empty);
        let snapshot = async |moment| source.begun_since(moment).await.expect("the reader works").snapshot;
        let before = Instant::now();
        let first = snapshot(Some(before)).await;
        assert!(Arc::ptr_eq(&first, &snapshot(Some(before)).await));
        assert!(Arc::ptr_eq(&first, &snapshot(None).await));
        assert!(!Arc::ptr_eq(&first, &snapshot(Some(Instant::now())).await));
    }

    #[tokio::test]
    async fn a_reading_outlives_its_caller_and_serves_the_next() {
        let (release, wait) = std::sync::mpsc::channel();
        let (source, readings) = counted(move || {
            wait.recv().expect("the test sends once");
            empty()
        });
        let began = Arc::clone(&readings);
        let caller = tokio::spawn({
            let source = source.clone();
            async move { source.latest().await }
        });
        while began.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        caller.abort();
        assert!(caller.await.is_err(), "it was cancelled");
        release.send(()).expect("the reading waits for it");
        assert!(source.latest().await.is_ok());
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_every_caller_and_the_reader_is_not_called_again() {
        // Resumed, not begun, so that nothing is printed.
        let (source, readings) = counted(|| std::panic::resume_unwind(Box::new("out of luck")));
        let other = source.clone();
        let waiting = tokio::spawn(async move { other.failed().await });
        let expected = "reading BPF objects panicked: out of luck";
        for _ in 0..3 {
            assert_eq!(source.latest().await.expect_err("it panicked").to_string(), expected);
        }
        assert_eq!(waiting.await.expect("it was not cancelled").to_string(), expected);
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }
}
