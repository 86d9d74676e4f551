//! Retry schedule for failed name sources and unknown ids.
//!
//! Entry points: [`SourceRetry`] and [`RetrySchedule`]. Independent of the clock: each method gets the current time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::enrich::names::MissingNames;

const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(5) };

/// Delay of a source that failed.
#[derive(Debug, Default)]
pub(super) struct SourceRetry {
    failures: u32,
    /// Time of the next attempt; `None` for a source that works or does not exist.
    at: Option<Instant>,
}

impl SourceRetry {
    /// Returns true if the source may be queried now. One that works is queried when a name is due. One that failed is queried
    /// when its delay is over, for all missing names, whenever these were last queried.
    pub(super) fn allows(&self, is_missing: bool, is_due: bool, now: Instant) -> bool {
        self.at.map_or(is_due, |at| is_missing && at <= now)
    }

    /// Ends the delay: the source answered, or does not exist.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Starts the next delay, longer than the last one.
    pub(super) fn failed(&mut self, now: Instant) {
        self.at = Some(now + BACKOFF.delay(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// Returns the time of the next attempt, for a source that failed.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }
}

/// Ids that were queried without result, and when to query them again. Pods and containers have no ids in common.
#[derive(Debug, Default)]
pub(super) struct RetrySchedule(HashMap<String, ScheduledId>);

#[derive(Debug)]
struct ScheduledId {
    attempts: u32,
    next: Instant,
}

impl RetrySchedule {
    /// Drops the ids that are no longer missing.
    pub(super) fn retain(&mut self, missing: &MissingNames) {
        self.0.retain(|id, _| has_id(missing, id));
    }

    /// Returns true if one of the ids is due.
    pub(super) fn any_due<'a>(&self, mut ids: impl Iterator<Item = &'a String>, now: Instant) -> bool {
        ids.any(|id| self.is_due(id, now))
    }

    /// Returns those of the ids that are due.
    pub(super) fn due(&self, missing: &MissingNames, now: Instant) -> MissingNames {
        let due = |ids: &[String]| ids.iter().filter(|id| self.is_due(id, now)).cloned().collect();
        MissingNames { pods: due(&missing.pods), containers: due(&missing.containers) }
    }

    /// Returns true for an id that is new, or whose delay is over.
    fn is_due(&self, id: &str, now: Instant) -> bool {
        self.0.get(id).is_none_or(|scheduled| scheduled.next <= now)
    }

    /// Schedules the ids that were `queried` and are still `missing`. One that was not due keeps its time.
    pub(super) fn queried(&mut self, queried: &MissingNames, missing: &MissingNames, now: Instant) {
        self.retain(missing);
        let unknown = queried.pods.iter().chain(&queried.containers).filter(|id| has_id(missing, id));
        for id in unknown {
            let scheduled = self.0.entry(id.clone()).or_insert(ScheduledId { attempts: 0, next: now });
            if scheduled.next <= now {
                scheduled.next = now + BACKOFF.delay(scheduled.attempts);
                scheduled.attempts = scheduled.attempts.saturating_add(1);
            }
        }
    }

    /// Returns the earliest time at which an id is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|scheduled| scheduled.next).min()
    }
}

fn has_id(missing: &MissingNames, id: &str) -> bool {
    missing.has_container(id) || missing.has_pod(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn containers(ids: &[&str]) -> MissingNames {
        MissingNames { pods: Vec::new(), containers: ids.iter().map(|&id| id.to_owned()).collect() }
    }

    fn any_due(schedule: &RetrySchedule, missing: &MissingNames, now: Instant) -> bool {
        schedule.any_due(missing.pods.iter().chain(&missing.containers), now)
    }

    #[test]
    fn failed_source_is_retried_after_backoff_with_all_pending_ids() {
        let (mut retry, start) = (SourceRetry::default(), Instant::now());
        assert!(retry.allows(true, true, start) && !retry.allows(true, false, start));
        retry.failed(start);
        assert!(!retry.allows(true, true, start + BACKOFF.min / 4));
        assert!(
            retry.allows(true, false, start + BACKOFF.min),
            "no id is due, but it was not queried last time"
        );
        assert!(!retry.allows(false, false, start + BACKOFF.min), "no name is missing");
        retry.failed(start);
        assert!(!retry.allows(true, true, start + BACKOFF.min / 2), "the second delay is longer");
        retry.reset();
        assert!(retry.allows(true, true, start) && retry.at().is_none());
    }

    #[test]
    fn a_source_that_failed_and_vanished_is_queried_when_a_name_is_due() {
        let (mut retry, start) = (SourceRetry::default(), Instant::now());
        retry.failed(start);
        retry.reset();
        assert_eq!(retry.at(), None, "a time in the past would make a busy loop");
        assert!(retry.allows(true, true, start) && !retry.allows(true, false, start));
    }

    #[test]
    fn unknown_ids_are_queried_with_backoff() {
        let (mut schedule, start) = (RetrySchedule::default(), Instant::now());
        let missing = containers(&["a"]);
        let (mut queries, mut now) = (0, start);
        while now < start + Duration::from_hours(1) {
            if any_due(&schedule, &missing, now) {
                queries += 1;
                schedule.queried(&missing, &missing, now);
            }
            now += Duration::from_millis(250);
        }
        // At most eleven delays up to the longest one; then one query in 150 to 300 seconds.
        assert!((18..=36).contains(&queries), "{queries}");
    }

    #[test]
    fn new_ids_are_due_at_once_and_move_no_other() {
        let (mut schedule, start) = (RetrySchedule::default(), Instant::now());
        schedule.queried(&containers(&["a"]), &containers(&["a"]), start);
        let next = schedule.next().expect("a is missing");
        let both = containers(&["a", "b"]);
        assert!(!any_due(&schedule, &containers(&["a"]), start) && any_due(&schedule, &both, start));
        schedule.queried(&containers(&["a"]), &both, start);
        assert!(any_due(&schedule, &both, start), "b came too late for this round");
        schedule.queried(&both, &both, start);
        assert!(!any_due(&schedule, &both, start));
        assert_eq!(schedule.0["a"].next, next, "a was not due and keeps its time");
        schedule.retain(&containers(&["b"]));
        assert_eq!(schedule.0.len(), 1, "a was found");
        schedule.retain(&MissingNames::default());
        assert_eq!(schedule.next(), None);
    }
}
