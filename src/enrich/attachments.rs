//! Scans of attachments, in a thread of their own and less often than readings.
//! Entry point: [`ScanScheduler::latest`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::attach_points::AttachPoints;
use super::scan_thread::ScanThread;
use crate::host::issues::Issues;
use crate::kernel::attachments::{Located, ScanCache, Scanned, Subject, scan};
use crate::model::{
    AttachmentScan, BootTime, Collector, FeatureState, Link, LinkFacts, Part, ProcessFiles, Snapshot,
};

/// Runs scans, and compares each with the one before.
#[derive(Debug)]
pub(super) struct ScanScheduler {
    interval: Duration,
    every_netns: bool,
    thread: ScanThread<ScanResult>,
    cache: ScanCache,
    attach_points: AttachPoints,
    last: Option<LastScan>,
}

/// What the thread returns.
#[derive(Debug)]
struct ScanResult {
    subject: Subject,
    scanned: Scanned,
    cache: ScanCache,
}

/// The last finished scan, and how it went.
#[derive(Debug)]
struct LastScan {
    scan: Arc<AttachmentScan>,
    /// Links to interfaces whose network namespace only the scan found, by id: what the reading before it reported, and the same with
    /// interface and namespace.
    located: HashMap<u32, (Arc<LinkFacts>, Arc<LinkFacts>)>,
    duration: Duration,
    success: bool,
    features: Vec<FeatureState>,
}

impl ScanScheduler {
    /// Scans at this interval, every network namespace or only our own.
    pub(super) fn new(interval: Duration, every_netns: bool) -> Self {
        Self {
            interval,
            every_netns,
            thread: ScanThread::new("hooks"),
            cache: ScanCache::default(),
            attach_points: AttachPoints::default(),
            last: None,
        }
    }

    /// Returns the last finished scan, and starts another one when it is due, without waiting for it.
    ///
    /// `snapshot` and `files` have the objects that a pin or a process holds.
    pub(super) fn latest(
        &mut self,
        snapshot: &Snapshot,
        files: &[ProcessFiles],
        issues: &mut Issues,
    ) -> Option<Arc<AttachmentScan>> {
        if let Some(result) = self.thread.result_within(Duration::ZERO) {
            self.finish(result, issues);
        }
        if self.thread.is_due(self.interval) {
            self.begin(snapshot, files, issues);
        }
        self.last.as_ref().map(|last| Arc::clone(&last.scan))
    }

    /// Scans now, and waits for the result.
    pub(super) fn now(
        &mut self,
        snapshot: &Snapshot,
        files: &[ProcessFiles],
        issues: &mut Issues,
    ) -> Option<Arc<AttachmentScan>> {
        if let Some(result) = self.thread.result() {
            self.finish(result, issues);
        }
        self.begin(snapshot, files, issues);
        if let Some(result) = self.thread.result() {
            self.finish(result, issues);
        }
        self.last.as_ref().map(|last| Arc::clone(&last.scan))
    }

    /// Returns how the last finished scan went, for a reading that began at `now`.
    pub(super) fn collector(&self, now: BootTime) -> Option<Collector> {
        let LastScan { scan, duration, success, .. } = self.last.as_ref()?;
        let age = now.since(scan.taken_at);
        Some(Collector { part: Part::Hook, reader: None, duration: *duration, age, success: *success })
    }

    /// Returns the state of the sources of the last finished scan.
    pub(super) fn features(&self) -> &[FeatureState] {
        self.last.as_ref().map_or(&[], |last| &last.features)
    }

    fn begin(&mut self, snapshot: &Snapshot, files: &[ProcessFiles], issues: &mut Issues) {
        let subject = Subject::of(snapshot, files, self.every_netns);
        let watched = self.attach_points.watched();
        let mut cache = std::mem::take(&mut self.cache);
        let take = move || {
            let scanned = scan(&subject, &watched, &mut cache);
            ScanResult { subject, scanned, cache }
        };
        if let Err(error) = self.thread.start(take) {
            issues.record(Part::Hook, error);
        }
    }

    /// Takes over the result of a thread.
    fn finish(&mut self, result: ScanResult, issues: &mut Issues) {
        let ScanResult { subject, scanned, cache } = result;
        self.cache = cache;
        let features = scanned.features();
        let Scanned { mut scan, survey, located, duration, issues: found } = scanned;
        issues.merge(&found);
        let success = !found.any(Part::Hook);
        let is_loaded = |id| subject.is_loaded(id);
        let saw_all = !found.concerns(Part::Hook);
        scan.attach_points =
            self.attach_points.compare(scan.taken_at, &scan.hooks, &survey, saw_all, is_loaded);
        let scan = Arc::new(scan);
        let locate = |Located { link, target, netns }| {
            let before = Arc::clone(subject.link(link)?);
            let (target, netns) = (Some(target), Some(netns));
            let after = Arc::new(LinkFacts { target, netns, ..(*before).clone() });
            Some((link, (before, after)))
        };
        let located = located.into_iter().filter_map(locate).collect();
        self.last = Some(LastScan { scan, located, duration, success, features });
    }

    /// Completes the links to interfaces with what the last scan found, as long as they have not changed since.
    pub(super) fn locate(&self, links: &mut [Link]) {
        let Some(LastScan { located, .. }) = self.last.as_ref().filter(|last| !last.located.is_empty())
        else {
            return;
        };
        for link in links {
            if let Some((_, after)) =
                located.get(&link.facts.id).filter(|(before, _)| Arc::ptr_eq(before, &link.facts))
            {
                link.facts = Arc::clone(after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::host::clock;
    use crate::model::WallClock;

    fn snapshot() -> Snapshot {
        Snapshot {
            programs: Some(Vec::new()),
            maps: Some(Vec::new()),
            links: Some(Vec::new()),
            ..Snapshot::begun(clock::now(), clock::now(), WallClock::default())
        }
    }

    /// Polls until there is a scan, up to a deadline.
    fn first_scan(watch: &mut ScanScheduler, issues: &mut Issues) -> Arc<AttachmentScan> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(scan) = watch.latest(&snapshot(), &[], issues) {
                return scan;
            }
            assert!(Instant::now() < deadline, "a scan ends");
            thread::yield_now();
        }
    }

    #[test]
    fn the_last_scan_is_returned_until_the_next_is_finished() {
        let (mut watch, mut issues) = (ScanScheduler::new(Duration::from_hours(1), false), Issues::default());
        assert_eq!(watch.latest(&snapshot(), &[], &mut issues), None, "the first is not waited for");
        assert!(watch.collector(clock::now()).is_none());
        let first = first_scan(&mut watch, &mut issues);
        assert!(first.complete && first.hooks.is_empty(), "nothing can be attached");
        let again = watch.latest(&snapshot(), &[], &mut issues).expect("it is kept");
        assert!(Arc::ptr_eq(&first, &again) && watch.thread.result().is_none());

        let later = first.taken_at + Duration::from_secs(5);
        let collector = watch.collector(later).expect("there was a scan");
        assert_eq!(
            (collector.part, collector.age, collector.success),
            (Part::Hook, Duration::from_secs(5), true)
        );
        let new = watch.now(&snapshot(), &[], &mut issues).expect("it is waited for");
        assert!(new.taken_at > first.taken_at);
        assert!(issues.all().is_empty());
    }
}
