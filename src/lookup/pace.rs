//! When to ask again: one who failed, and for what nobody knew. Knows no clock: every question says what time it is.
//! Begin at [`Pace`] and [`Tries`].

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::enrich::names::Missing;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Doubles with each failure; between half and all of it, so that a thousand nodes do not come back at once.
fn pause(failures: u32) -> Duration {
    let backoff = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE);
    backoff.mul_f64(rand::random_range(0.5..1.0))
}

/// How it stands with one who is asked.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
    /// When to ask again, for one that failed.
    retry: Option<Instant>,
    /// Whether the last that was said of it is that it fails.
    is_said_to_fail: bool,
}

impl Pace {
    /// Whether to ask now. One that answers is asked when a name is due; one that failed, when its pause is over: for whatever is
    /// missing, however long ago that was last asked for.
    pub(super) fn lets_ask(&self, missing: bool, due: bool, now: Instant) -> bool {
        self.retry.map_or(due, |retry| missing && retry <= now)
    }

    /// It answered. Says whether that is news.
    pub(super) fn worked(&mut self) -> bool {
        self.gone();
        std::mem::take(&mut self.is_said_to_fail)
    }

    /// It failed. Says whether that is news.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.retry = Some(now + pause(self.failures));
        self.failures = self.failures.saturating_add(1);
        !std::mem::replace(&mut self.is_said_to_fail, true)
    }

    /// It is not there, and will be looked for whenever a name is due.
    pub(super) fn gone(&mut self) {
        self.failures = 0;
        self.retry = None;
    }

    /// When to ask again, for one that failed.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.retry
    }
}

/// What was asked for in vain. Pods and containers have no ids in common.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<String, Try>);

#[derive(Debug)]
struct Try {
    times: u32,
    next: Instant,
}

impl Tries {
    /// Forgets what is not missing any more.
    pub(super) fn only(&mut self, missing: &Missing) {
        self.0.retain(|id, _| contains(missing, id));
    }

    /// Whether something of this is to be asked for: for the first time, or again.
    pub(super) fn any_due(&self, missing: &Missing, now: Instant) -> bool {
        every(missing).any(|id| self.0.get(id).is_none_or(|tried| tried.next <= now))
    }

    /// Everyone was asked for this, and `missing` is still missing.
    pub(super) fn tried(&mut self, asked: &Missing, missing: &Missing, now: Instant) {
        self.only(missing);
        for id in every(asked).filter(|id| contains(missing, id)) {
            let tried = self.0.entry(id.clone()).or_insert(Try { times: 0, next: now });
            if tried.next <= now {
                tried.next = now + pause(tried.times);
                tried.times = tried.times.saturating_add(1);
            }
        }
    }

    /// When something is to be asked for again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|tried| tried.next).min()
    }
}

fn every(missing: &Missing) -> impl Iterator<Item = &String> {
    missing.pods.iter().chain(&missing.containers)
}

fn contains(missing: &Missing, id: &String) -> bool {
    missing.containers.binary_search(id).is_ok() || missing.pods.binary_search(id).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn containers(ids: &[&str]) -> Missing {
        Missing { pods: Vec::new(), containers: ids.iter().map(|&id| id.to_owned()).collect() }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        for (failures, longest) in [(0, 1), (1, 2), (4, 16), (9, 300), (u32::MAX, 300)] {
            let longest = Duration::from_secs(longest);
            for _ in 0..100 {
                let pause = pause(failures);
                assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn one_that_failed_is_not_asked_before_its_time_and_then_for_everything() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!(pace.lets_ask(true, true, start) && !pace.lets_ask(true, false, start));
        assert!(pace.failed(start), "the first failure is news");
        assert!(!pace.lets_ask(true, true, start + FIRST_PAUSE / 4));
        assert!(
            pace.lets_ask(true, false, start + FIRST_PAUSE),
            "nothing is due, but it was not asked last time"
        );
        assert!(!pace.lets_ask(false, false, start + FIRST_PAUSE), "nothing is missing");
        assert!(!pace.failed(start), "the second is none");
        assert!(!pace.lets_ask(true, true, start + FIRST_PAUSE / 2), "it waits longer");
        assert!(pace.worked() && !pace.worked(), "that it answers again is news once");
        assert!(pace.lets_ask(true, true, start) && pace.retry().is_none());
        assert!(pace.failed(start), "and news again");
    }

    #[test]
    fn one_that_failed_and_is_gone_is_looked_for_when_a_name_is_due() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!(pace.failed(start));
        pace.gone();
        assert_eq!(pace.retry(), None, "a time that is over would be waited for without end");
        assert!(pace.lets_ask(true, true, start) && !pace.lets_ask(true, false, start));
        assert!(pace.worked(), "that it is there again, and answers, is news");
    }

    #[test]
    fn what_nobody_knows_is_asked_for_ever_less_often() {
        let (mut tries, start) = (Tries::default(), Instant::now());
        let missing = containers(&["a"]);
        let (mut asked, mut now) = (0, start);
        while now < start + Duration::from_hours(1) {
            if tries.any_due(&missing, now) {
                asked += 1;
                tries.tried(&missing, &missing, now);
            }
            now += Duration::from_millis(250);
        }
        // Half a minute to double up to the limit, at most eleven times; then every 150 to 300 seconds.
        assert!((18..=36).contains(&asked), "{asked}");
    }

    #[test]
    fn what_is_new_is_due_at_once_and_puts_nothing_else_off_or_forward() {
        let (mut tries, start) = (Tries::default(), Instant::now());
        tries.tried(&containers(&["a"]), &containers(&["a"]), start);
        let next = tries.next().expect("a is missing");
        let both = containers(&["a", "b"]);
        assert!(!tries.any_due(&containers(&["a"]), start) && tries.any_due(&both, start));
        tries.tried(&containers(&["a"]), &both, start);
        assert!(tries.any_due(&both, start), "b was asked for too late for this round");
        tries.tried(&both, &both, start);
        assert!(!tries.any_due(&both, start));
        assert_eq!(tries.0["a"].next, next, "a was asked for by the way, and keeps its time");
        tries.only(&containers(&["b"]));
        assert_eq!(tries.0.len(), 1, "a was found");
        tries.only(&Missing::default());
        assert_eq!(tries.next(), None);
    }
}
