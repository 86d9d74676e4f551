//! Has a look taken at what hangs where, in a thread of its own and less often than a reading.
//! Begin at [`HookWatch::latest`].

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;

use super::age;
use super::attach_points::AttachPoints;
use crate::host::issues::Issues;
use crate::kernel::attachments::{Look, Memory, Subject, look};
use crate::model::{AttachmentScan, Collector, Part, ProcessFiles, Snapshot};
use crate::sys::{Error, failed};

/// Takes looks, and compares each with the one before.
#[derive(Debug)]
pub(super) struct HookWatch {
    interval: Duration,
    every_netns: bool,
    begun: Option<Instant>,
    running: Option<JoinHandle<Taken>>,
    memory: Memory,
    attach_points: AttachPoints,
    last: Option<Finished>,
}

/// What the thread gives back.
#[derive(Debug)]
struct Taken {
    subject: Subject,
    look: Look,
    memory: Memory,
}

/// A look, and how it went.
#[derive(Debug)]
struct Finished {
    look: Arc<AttachmentScan>,
    duration: Duration,
    success: bool,
}

impl HookWatch {
    /// Takes looks so often, and at every network namespace or ours only.
    pub(super) fn new(interval: Duration, every_netns: bool) -> Self {
        Self {
            interval,
            every_netns,
            begun: None,
            running: None,
            memory: Memory::default(),
            attach_points: AttachPoints::default(),
            last: None,
        }
    }

    /// The last look that was finished. Begins another one when that is too old, and waits for none.
    ///
    /// Objects that are in use by a process or a pin are known only from a snapshot that says so.
    pub(super) fn latest(
        &mut self,
        snapshot: &Snapshot,
        files: &[ProcessFiles],
        issues: &mut Issues,
    ) -> Option<Arc<AttachmentScan>> {
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            self.finish(running, issues);
        }
        let is_due = self.begun.is_none_or(|begun| begun.elapsed() >= self.interval);
        if is_due && self.running.is_none() {
            self.begin(snapshot, files, issues);
        }
        self.last.as_ref().map(|last| Arc::clone(&last.look))
    }

    /// Takes a look now, and waits for it.
    pub(super) fn now(
        &mut self,
        snapshot: &Snapshot,
        files: &[ProcessFiles],
        issues: &mut Issues,
    ) -> Option<Arc<AttachmentScan>> {
        if let Some(running) = self.running.take() {
            self.finish(running, issues);
        }
        self.begin(snapshot, files, issues);
        if let Some(running) = self.running.take() {
            self.finish(running, issues);
        }
        self.last.as_ref().map(|last| Arc::clone(&last.look))
    }

    /// How the last look went that was finished, for a reading that began at `now`.
    pub(super) fn collector(&self, now: Timestamp) -> Option<Collector> {
        let Finished { look, duration, success } = self.last.as_ref()?;
        let age = age(now, look.taken_at);
        Some(Collector { part: Part::Hook, reader: None, duration: *duration, age, success: *success })
    }

    fn begin(&mut self, snapshot: &Snapshot, files: &[ProcessFiles], issues: &mut Issues) {
        self.begun = Some(Instant::now());
        let subject = Subject::of(snapshot, files, self.every_netns);
        let mut memory = std::mem::take(&mut self.memory);
        let take = move || {
            let look = look(&subject, &mut memory);
            Taken { subject, look, memory }
        };
        // Nobody waits for it when the process ends.
        match thread::Builder::new().name("hooks".to_owned()).spawn(take) {
            Ok(running) => self.running = Some(running),
            Err(error) => issues.record(Part::Hook, failed("clone")(error)),
        }
    }

    /// Takes what a thread has found, or notes that it found nothing.
    fn finish(&mut self, running: JoinHandle<Taken>, issues: &mut Issues) {
        let Ok(Taken { subject, look, memory }) = running.join() else {
            // It panicked, which the log tells; the next look is a new one.
            issues.record(Part::Hook, Error::new("look", Errno::ENOTRECOVERABLE));
            if let Some(last) = &mut self.last {
                last.success = false;
            }
            return;
        };
        self.memory = memory;
        issues.merge(&look.issues);
        let success = !look.issues.any(Part::Hook);
        let is_loaded = |id| subject.is_loaded(id);
        let attach_points = self.attach_points.compare(look.taken_at, &look.hooks, success, is_loaded);
        let Look { taken_at, duration, hooks, contents, untold, complete, .. } = look;
        let look = Arc::new(AttachmentScan {
            taken_at,
            hooks,
            contents,
            attach_points,
            unqueryable: untold,
            complete,
        });
        self.last = Some(Finished { look, duration, success });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            programs: Some(Vec::new()),
            maps: Some(Vec::new()),
            links: Some(Vec::new()),
            ..Snapshot::begun(Timestamp::now(), Timestamp::now())
        }
    }

    /// Asks again until there is a look, or a deadline has passed.
    fn until_there_is_one(watch: &mut HookWatch, issues: &mut Issues) -> Arc<AttachmentScan> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(look) = watch.latest(&snapshot(), &[], issues) {
                return look;
            }
            assert!(Instant::now() < deadline, "a look comes to an end");
            thread::yield_now();
        }
    }

    #[test]
    fn a_look_is_handed_over_when_it_is_finished_and_again_until_it_is_due() {
        let (mut watch, mut issues) = (HookWatch::new(Duration::from_hours(1), false), Issues::default());
        assert_eq!(watch.latest(&snapshot(), &[], &mut issues), None, "nobody waits for the first");
        assert!(watch.collector(Timestamp::now()).is_none());
        let first = until_there_is_one(&mut watch, &mut issues);
        assert!(first.complete && first.hooks.is_empty(), "there is nothing that could hang anywhere");
        let again = watch.latest(&snapshot(), &[], &mut issues).expect("it is kept");
        assert!(Arc::ptr_eq(&first, &again) && watch.running.is_none());

        let later = first.taken_at + Duration::from_secs(5);
        let collector = watch.collector(later).expect("there was a look");
        assert_eq!(
            (collector.part, collector.age, collector.success),
            (Part::Hook, Duration::from_secs(5), true)
        );
        let new = watch.now(&snapshot(), &[], &mut issues).expect("it is waited for");
        assert!(new.taken_at > first.taken_at);
        assert!(issues.all().is_empty());
    }

    #[test]
    fn a_thread_that_panics_is_an_issue_and_the_next_look_is_taken() {
        let (mut watch, mut issues) = (HookWatch::new(Duration::ZERO, false), Issues::default());
        let before = watch.now(&snapshot(), &[], &mut issues).expect("it is waited for");
        // Resumed and not begun, so that nothing is printed.
        watch.running = Some(thread::spawn(|| std::panic::resume_unwind(Box::new("by intent"))));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !issues.any(Part::Hook) {
            watch.latest(&snapshot(), &[], &mut issues);
            assert!(Instant::now() < deadline, "the panic is noticed");
        }
        assert_eq!((&*issues.all()[0].call, issues.all()[0].total), ("look", 1));
        let after = watch.now(&snapshot(), &[], &mut issues).expect("it is waited for");
        assert!(after.taken_at > before.taken_at);
        assert!(watch.collector(Timestamp::now()).expect("there was a look").success);
    }
}
