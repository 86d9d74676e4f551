//! One reading for everyone who asks at once: a scrape, an OTLP tick and a page get the same snapshot.
//! Knows how to share a reading, and not how one is taken.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::{Exporter, Snapshot};

/// How old a reading may be to serve as a fresh one.
pub const FRESHNESS: Duration = Duration::from_secs(1);

/// Where snapshots come from.
#[derive(Clone)]
pub struct Source {
    readings: Arc<Mutex<Readings>>,
    /// Held while a reading is taken, so that those who come meanwhile wait without a thread each.
    taking: Arc<tokio::sync::Mutex<()>>,
    exporter: Arc<dyn Fn() -> Exporter + Send + Sync>,
}

struct Readings {
    read: Box<dyn FnMut() -> Snapshot + Send>,
    last: Option<(Instant, Arc<Snapshot>)>,
}

impl Source {
    /// A source that takes readings by calling `read`, one at a time, and learns of the exporter from `exporter`.
    pub fn new(
        read: impl FnMut() -> Snapshot + Send + 'static,
        exporter: impl Fn() -> Exporter + Send + Sync + 'static,
    ) -> Self {
        let readings = Readings { read: Box::new(read), last: None };
        Self {
            readings: Arc::new(Mutex::new(readings)),
            taking: Arc::default(),
            exporter: Arc::new(exporter),
        }
    }

    /// What the exporter knows of itself at this moment.
    #[must_use]
    pub fn exporter(&self) -> Exporter {
        (self.exporter)()
    }

    /// A snapshot that is at most [`FRESHNESS`] old.
    pub async fn latest(&self) -> Arc<Snapshot> {
        self.begun_since(Instant::now().checked_sub(FRESHNESS)).await
    }

    /// A snapshot whose reading began at this moment or later; any at all for `None`, a moment before the machine started.
    ///
    /// A caller who goes away does not stop the reading: it serves the next one.
    ///
    /// # Panics
    ///
    /// When taking a reading does.
    pub async fn begun_since(&self, moment: Option<Instant>) -> Arc<Snapshot> {
        let _taking = self.taking.lock().await;
        let readings = Arc::clone(&self.readings);
        let read = move || readings.lock().unwrap_or_else(PoisonError::into_inner).begun_since(moment);
        tokio::task::spawn_blocking(read).await.expect("a reading does not panic")
    }
}

impl Readings {
    fn begun_since(&mut self, moment: Option<Instant>) -> Arc<Snapshot> {
        if let Some((begun, snapshot)) = &self.last
            && Some(*begun) >= moment
        {
            return Arc::clone(snapshot);
        }
        // A snapshot is as old as its oldest part.
        let begun = Instant::now();
        let snapshot = Arc::new((self.read)());
        self.last = Some((begun, Arc::clone(&snapshot)));
        snapshot
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
        Exporter { build, delivery: None, program_maps: true, holders: true }
    }

    #[tokio::test]
    async fn all_who_ask_together_share_one_reading() {
        let readings = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&readings);
        let source = Source::new(
            move || {
                counted.fetch_add(1, Ordering::Relaxed);
                empty()
            },
            exporter,
        );
        let asked: Vec<_> = (0..50)
            .map(|_| {
                tokio::spawn({
                    let source = source.clone();
                    async move { source.latest().await }
                })
            })
            .collect();
        let mut snapshots = Vec::new();
        for asked in asked {
            snapshots.push(asked.await.expect("it was not cancelled"));
        }
        assert!(snapshots.iter().all(|snapshot| Arc::ptr_eq(snapshot, &snapshots[0])));
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_reading_serves_those_for_whom_it_is_new_enough() {
        let mut readings = Readings { read: Box::new(empty), last: None };
        let before = Instant::now();
        let first = readings.begun_since(Some(before));
        assert!(Arc::ptr_eq(&first, &readings.begun_since(Some(before))));
        assert!(Arc::ptr_eq(&first, &readings.begun_since(None)));
        assert!(!Arc::ptr_eq(&first, &readings.begun_since(Some(Instant::now()))));
    }
}
