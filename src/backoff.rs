//! Exponential back-off with jitter.
//!
//! Entry point: [`Backoff::delay`]. Holds no state: the caller counts its attempts and waits.

use std::time::Duration;

/// Bounds of the delay between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// Longest delay after the first failure.
    pub(crate) min: Duration,
    /// Longest delay after any failure.
    pub(crate) max: Duration,
}

impl Backoff {
    /// Returns the delay after failed attempt number `attempt`, counted from 0: `min`, doubled with each attempt up to `max`,
    /// of which a random half to all, so that a thousand nodes do not retry at the same moment.
    pub(crate) fn delay(self, attempt: u32) -> Duration {
        let longest = self.min.saturating_mul(2_u32.saturating_pow(attempt)).min(self.max);
        longest.mul_f64(rand::random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_with_jitter() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };
        for (attempt, longest) in [(0, 1), (1, 2), (4, 16), (5, 30), (40, 30), (u32::MAX, 30)] {
            let longest = Duration::from_secs(longest);
            let delays: Vec<_> = (0..100).map(|_| backoff.delay(attempt)).collect();
            for delay in &delays {
                assert!((longest / 2..=longest).contains(delay), "attempt {attempt}: {delay:?}");
            }
            assert!(delays.iter().any(|delay| *delay != delays[0]), "attempt {attempt} has no jitter");
        }
    }
}
