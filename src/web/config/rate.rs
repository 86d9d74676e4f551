//! The rate limit: a bucket of tokens, one for each request, filled one per interval.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A rate limit.
pub(super) struct Rate {
    interval: Duration,
    burst: u32,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Rate {
    /// Returns a limit of one request per interval, more than zero, after this many at once.
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, bucket: Mutex::new(Bucket { tokens: burst.into(), filled: Instant::now() }) }
    }

    /// Returns whether it allows as much as another one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.interval, self.burst) == (other.interval, other.burst)
    }

    /// Takes a token, if there is one.
    pub(super) fn admits(&self) -> bool {
        let mut bucket = self.bucket.lock().expect("nothing panics with it");
        let now = Instant::now();
        let filled = now.duration_since(bucket.filled).div_duration_f64(self.interval);
        bucket.tokens = (bucket.tokens + filled).min(self.burst.into());
        bucket.filled = now;
        let admits = bucket.tokens >= 1.0;
        if admits {
            bucket.tokens -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_filled_over_time() {
        let rate = Rate::new(Duration::from_hours(1), 2);
        assert_eq!([(); 3].map(|()| rate.admits()), [true, true, false]);
        rate.bucket.lock().expect("no panic").filled -= Duration::from_secs(3601);
        assert_eq!([(); 2].map(|()| rate.admits()), [true, false]);
        assert!(!Rate::new(Duration::from_nanos(1), 0).admits());
    }
}
