//! Scans of pins, in a thread of their own: how long one takes depends on whoever may create directories in a bpffs.
//! Entry point: [`PinScheduler::latest`].

use std::path::PathBuf;
use std::time::Duration;

use super::scan_thread::ScanThread;
use crate::host::issues::Issues;
use crate::kernel::Reader;
use crate::kernel::pins::{PinScan, Pins};
use crate::model::{BootTime, Collector, Feature, Part, Reason};

/// How long a reading waits for a scan that it started. Most take less than a millisecond, so that most readings have the pins of
/// this moment.
const PATIENCE: Duration = Duration::from_millis(20);

/// Scans take at most one part in this many of the time.
const SHARE: u32 = 50;

/// Runs scans, and keeps the last one.
#[derive(Debug)]
pub(super) struct PinScheduler {
    given: Vec<PathBuf>,
    /// `None` to wait for a scan in each reading.
    interval: Option<Duration>,
    thread: ScanThread<(Pins, PinScan)>,
    /// `None` while the thread has them.
    pins: Option<Pins>,
    last: Option<PinScan>,
    /// Whether no thread could be started for the scan after it.
    failed: bool,
}

impl PinScheduler {
    /// Scans every mounted bpffs and these directories, at this interval or a longer one if scans take long. With an interval of 0
    /// each reading waits for a scan.
    pub(super) fn new(given: Vec<PathBuf>, interval: Duration) -> Self {
        let interval = Some(interval).filter(|interval| !interval.is_zero());
        Self { given, interval, thread: ScanThread::new("pins"), pins: None, last: None, failed: false }
    }

    /// Returns the last finished scan, and starts another one when it is due. `None` if the first one takes longer than a reading
    /// waits.
    pub(super) fn latest(&mut self, reader: &mut Reader, issues: &mut Issues) -> Option<&PinScan> {
        if let Some(interval) = self.interval {
            if let Some(result) = self.thread.result_within(Duration::ZERO) {
                self.finish(result, reader, issues);
            }
            let pause = self.last.as_ref().map_or(interval, |last| interval.max(last.duration * SHARE));
            if self.thread.is_due(pause) {
                self.begin(reader, issues);
                if let Some(result) = self.thread.result_within(PATIENCE) {
                    self.finish(result, reader, issues);
                }
            }
        } else {
            self.begin(reader, issues);
            if let Some(result) = self.thread.result() {
                self.finish(result, reader, issues);
            }
        }
        self.last.as_ref()
    }

    /// Returns how the last finished scan went, for a reading that began at `now`. No success if the next could not begin.
    pub(super) fn collector(&self, now: BootTime) -> Option<Collector> {
        let PinScan { taken_at, duration, issues, .. } = self.last.as_ref()?;
        let (age, success) = (now.since(*taken_at), !self.failed && !issues.any(Part::Pin));
        Some(Collector { part: Part::Pin, reader: None, duration: *duration, age, success })
    }

    fn begin(&mut self, reader: &mut Reader, issues: &mut Issues) {
        let mut pins = self.pins.take().unwrap_or_else(|| Pins::new(self.given.clone()));
        let existing = reader.bpffs_devices(issues);
        let scan = move || {
            let scan = pins.scan(existing.as_deref());
            (pins, scan)
        };
        let started = self.thread.start(scan);
        self.failed = started.is_err();
        if let Err(error) = started {
            issues.record(Part::Pin, error);
        }
    }

    fn finish(&mut self, (pins, mut scan): (Pins, PinScan), reader: &mut Reader, issues: &mut Issues) {
        if !scan.missing.is_empty() {
            // One that was unmounted since hides nothing.
            let existing = reader.bpffs_devices(issues);
            let exists = |device| existing.as_ref().is_none_or(|existing| existing.contains(device));
            if scan.missing.iter().any(exists) {
                scan.issues.limit(Feature::Pins, Reason::MountNamespace);
            }
        }
        issues.merge(&scan.issues);
        (self.pins, self.last) = (Some(pins), Some(scan));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock;
    use crate::kernel::{ReaderChoice, ReaderOptions};
    use crate::model::ReaderKind;

    #[test]
    fn a_scan_is_kept_until_the_next_is_due() {
        let mut reader = Reader::new(ReaderOptions {
            reader: ReaderChoice::Only(ReaderKind::Walk),
            ..ReaderOptions::default()
        });
        let mut issues = Issues::default();
        let mut seldom = PinScheduler::new(Vec::new(), Duration::from_hours(1));
        assert!(seldom.collector(clock::now()).is_none());
        let first = loop {
            if let Some(scan) = seldom.latest(&mut reader, &mut issues) {
                break scan.taken_at;
            }
        };
        assert_eq!(seldom.latest(&mut reader, &mut issues).map(|scan| scan.taken_at), Some(first));
        let collector = seldom.collector(BootTime(first.0 + 5_000_000_000)).expect("there was a scan");
        assert_eq!((collector.part, collector.age), (Part::Pin, Duration::from_secs(5)));

        let mut always = PinScheduler::new(Vec::new(), Duration::ZERO);
        let mut taken_at = || always.latest(&mut reader, &mut issues).expect("it waits").taken_at;
        assert!(taken_at() < taken_at());
    }
}
