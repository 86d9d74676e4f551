//! A limit on events per second. Entry point: [`EventLimit::admits`].

use crate::model::BootTime;

/// Admits so many events per second on average, and ten times as many at once: an agent that starts loads some hundred programs.
#[derive(Debug)]
pub(super) struct EventLimit {
    per_second: u32,
    /// What is left, in parts of a billion.
    left: u64,
    at: BootTime,
}

const WHOLE: u64 = 1_000_000_000;

/// How many seconds are saved up.
const SAVED: u64 = 10;

impl EventLimit {
    /// Returns a limit; none for 0.
    pub(super) const fn new(per_second: u32) -> Self {
        Self { per_second, left: (per_second as u64 * SAVED).saturating_mul(WHOLE), at: BootTime(0) }
    }

    /// Returns whether an event at this moment is within the limit, and counts it.
    pub(super) fn admits(&mut self, now: BootTime) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let (most, passed) =
            ((u64::from(self.per_second) * SAVED).saturating_mul(WHOLE), now.0.saturating_sub(self.at.0));
        self.at = self.at.max(now);
        self.left = most.min(self.left.saturating_add(passed.saturating_mul(self.per_second.into())));
        match self.left.checked_sub(WHOLE) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_average_are_admitted() {
        let mut limit = EventLimit::new(10);
        let mut admitted = |milliseconds: u64| limit.admits(BootTime(milliseconds * 1_000_000));
        assert_eq!((0..500).filter(|_| admitted(5_000)).count(), 100);
        assert!(!admitted(5_099) && admitted(5_100) && !admitted(5_100));
        assert_eq!((0..1_000).filter(|milliseconds| admitted(6_000 + milliseconds)).count(), 18);
        assert_eq!(
            (0..500).filter(|_| admitted(100_000)).count(),
            100,
            "no more than ten seconds are saved up"
        );
        assert!(!admitted(5_000), "time does not go back");
        let mut none = EventLimit::new(0);
        assert!((0..1_000).all(|_| none.admits(BootTime(1))));
    }
}
