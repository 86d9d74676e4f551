//! Readings shared by everything that needs one at a time: a scrape, an OTLP interval and a page get the same snapshot.
//! Entry point: [`Source::latest`]. How a reading is taken is up to the caller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::metrics::select::Selected;
use crate::model::{Exporter, Snapshot};
use crate::worker::Worker;

/// Maximum age of a reading that counts as fresh.
pub const FRESHNESS: Duration = Duration::from_secs(1);

/// Takes readings on demand, one at a time, and shares them.
#[derive(Clone)]
pub struct Source {
    /// Locked while a reading is taken, so that others wait without occupying a thread each.
    readings: Arc<Mutex<SourceState>>,
    /// The thread of readings.
    worker: Worker,
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

struct SourceState {
    read: Box<dyn FnMut() -> Snapshot + Send>,
    select: Box<dyn FnMut(Arc<Snapshot>) -> Selected + Send>,
    last: Option<(Instant, Reading)>,
}

impl Source {
    /// Returns a source that takes a reading on `worker` with `read` and selects what to export of it with `select`, once per reading.
    /// `exporter` returns the state of the exporter itself.
    pub fn new(
        worker: Worker,
        read: impl FnMut() -> Snapshot + Send + 'static,
        select: impl FnMut(Arc<Snapshot>) -> Selected + Send + 'static,
        exporter: impl Fn() -> Exporter + Send + Sync + 'static,
    ) -> Self {
        let readings = SourceState { read: Box::new(read), select: Box::new(select), last: None };
        Self { readings: Arc::new(Mutex::new(readings)), worker, exporter: Arc::new(exporter) }
    }

    /// Returns the state of the exporter itself, now.
    #[must_use]
    pub fn exporter(&self) -> Exporter {
        (self.exporter)()
    }

    /// Returns a reading that is at most [`FRESHNESS`] old.
    pub async fn latest(&self) -> Reading {
        self.begun_since(Instant::now().checked_sub(FRESHNESS)).await
    }

    /// Returns the last reading, however old it is; `None` before the first. Waits for one that is being taken.
    pub async fn last(&self) -> Option<Reading> {
        self.readings.lock().await.begun_since(None)
    }

    /// Returns a reading that began at this moment or later; any at all for `None`, a moment before the machine started.
    ///
    /// A reading continues if its caller goes away: it holds the lock itself and serves the next caller.
    pub async fn begun_since(&self, moment: Option<Instant>) -> Reading {
        let mut readings = Arc::clone(&self.readings).lock_owned().await;
        if let Some(reading) = readings.begun_since(moment) {
            return reading;
        }
        self.worker.run(move || readings.take()).await
    }
}

impl SourceState {
    fn begun_since(&self, moment: Option<Instant>) -> Option<Reading> {
        let (begun, reading) = self.last.as_ref()?;
        (Some(*begun) >= moment).then(|| reading.clone())
    }

    fn take(&mut self) -> Reading {
        // A snapshot is as old as its oldest part.
        let begun = Instant::now();
        let snapshot = Arc::new((self.read)());
        let reading = Reading { selected: (self.select)(Arc::clone(&snapshot)), snapshot };
        self.last = Some((begun, reading.clone()));
        reading
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::{BootTime, Build, WallClock};

    fn empty() -> Snapshot {
        Snapshot::begun(BootTime::default(), BootTime::default(), WallClock::default())
    }

    fn exporter() -> Exporter {
        let build = Build { started_at: BootTime::default(), version: "", revision: None, rustc: None };
        Exporter::of(build)
    }

    /// A source whose readings are counted.
    fn counted(mut read: impl FnMut() -> Snapshot + Send + 'static) -> (Source, Arc<AtomicUsize>) {
        let readings = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&readings);
        let read = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            read()
        };
        let worker = Worker::start("reading").expect("a thread");
        (Source::new(worker, read, Selected::all, exporter), readings)
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
            shared.push(caller.await.expect("it was not cancelled"));
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
        let snapshot = async |moment| source.begun_since(moment).await.snapshot;
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
        source.latest().await;
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_panic_of_the_reader_continues_in_the_caller() {
        // Resumed, not begun, so that nothing is printed.
        let (source, _) = counted(|| std::panic::resume_unwind(Box::new("out of luck")));
        let caller = tokio::spawn(async move { source.latest().await });
        let panic = caller.await.expect_err("the reader panics").into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"out of luck"));
    }
}
