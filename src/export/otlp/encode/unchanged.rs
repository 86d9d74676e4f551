//! Points that are left out since the receiver has them: their value is that of the last point, which is not old enough to be repeated.
//! Entry points: [`Repetition::turn`], [`LastSent::leaves_out`].

use std::time::Duration;

use crate::metrics::Value;
use crate::model::{BootTime, WallClock};

/// When the points of a sample are repeated although their values are unchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repetition {
    /// The length of a turn: a point is due with the first sample of the next one.
    pub(super) interval: Duration,
    pub(super) taken_at: BootTime,
    /// Whether all points are sent: the receiver may have lost earlier ones.
    pub(super) all: bool,
}

impl Repetition {
    /// Returns the number of the interval in which the sample is for an object. Objects begin theirs at different times, so that a
    /// part of them is repeated in each sample rather than all in one.
    fn turn(self, id: u64) -> u64 {
        /// Spreads ids that follow each other over all 64 bits: 2^64 divided by the golden ratio.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let phase = (u128::from(id.wrapping_mul(SPREAD)) * u128::from(interval)) >> 64;
        let phase = u64::try_from(phase).expect("it is below the interval");
        self.taken_at.0.saturating_add(phase) / interval
    }
}

/// What was last sent of an object.
#[derive(Debug)]
pub(super) struct LastSent {
    /// The interval of the last sample; `None` before the first.
    turn: Option<u64>,
    /// Whether all of its points are in this sample.
    is_due: bool,
    /// The values of the last points, one for each row of the entity.
    values: Box<[u64]>,
}

impl LastSent {
    /// Returns the state of an object of which nothing was sent. `metrics` is the number of metrics of its entity.
    pub(super) fn new(metrics: usize) -> Self {
        Self { turn: None, is_due: true, values: vec![0; metrics].into_boxed_slice() }
    }

    /// Begins a sample.
    pub(super) fn begin(&mut self, id: u64, repetition: Repetition) {
        let turn = Some(repetition.turn(id));
        self.is_due = repetition.all || self.turn != turn;
        self.turn = turn;
    }

    /// Takes the value of a row. Returns whether its point is left out, if the row had one in the last sample.
    pub(super) fn leaves_out(&mut self, row: usize, value: Value<'_>, clock: WallClock) -> bool {
        let bits = match value {
            Value::Int(value) => value.cast_unsigned(),
            Value::Float(value) => value.to_bits(),
            Value::Time(time) => clock.second(time).as_second().cast_unsigned(),
            // There are few, and comparing them is as much work as sending them.
            Value::Histogram(_) => return false,
        };
        std::mem::replace(&mut self.values[row], bits) == bits && !self.is_due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64, all: bool) -> Repetition {
        Repetition { interval: Duration::from_mins(1), taken_at: BootTime::from_secs(seconds), all }
    }

    fn leaves_out(last: &mut LastSent, seconds: u64, all: bool, value: i64) -> bool {
        last.begin(7, at(seconds, all));
        last.leaves_out(0, Value::Int(value), WallClock::default())
    }

    #[test]
    fn an_unchanged_value_is_repeated_once_in_the_interval() {
        let mut last = LastSent::new(1);
        assert!(!leaves_out(&mut last, 1000, false, 0), "it is the first");
        let sent = (1..=60).filter(|second| !leaves_out(&mut last, 1000 + second, false, 0));
        assert_eq!(sent.count(), 1);
    }

    #[test]
    fn a_changed_value_is_sent_at_once() {
        let mut last = LastSent::new(1);
        let mut now = 1000;
        let mut sends = |value, all| {
            now += 1;
            !leaves_out(&mut last, now, all, value)
        };
        // Until its turn comes, which does not while these are sent.
        while sends(0, false) {}
        assert!(sends(1, false));
        assert!(!sends(1, false));
        assert!(sends(1, true), "the receiver may have lost it");
        assert!(!sends(1, false));
    }

    #[test]
    fn objects_are_repeated_at_different_times() {
        let mut objects: Vec<_> = (0..600).map(|id| (id, LastSent::new(1))).collect();
        let mut in_one_sample = |second| {
            let due = objects.iter_mut().filter_map(|(id, last)| {
                last.begin(*id, at(second, false));
                last.is_due.then_some(())
            });
            due.count()
        };
        assert_eq!(in_one_sample(1000), 600);
        let counts: Vec<usize> = (1001..=1060).map(in_one_sample).collect();
        assert_eq!(counts.iter().sum::<usize>(), 600, "each once");
        assert!(counts.iter().all(|count| (5..=15).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn no_time_or_id_panics(id: u64, nanoseconds: u64, interval: u64) {
            let interval = Duration::from_nanos(interval);
            LastSent::new(1).begin(id, Repetition { interval, taken_at: BootTime(nanoseconds), all: false });
        }
    }
}
