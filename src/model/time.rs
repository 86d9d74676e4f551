//! Time since boot, which does not change when the wall clock is set, and its conversion to dates.
//! Entry point: [`BootTime`].

use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const NANOSECONDS: u64 = 1_000_000_000;

/// A moment: nanoseconds since the host booted, including the time it was suspended.
///
/// That is `CLOCK_BOOTTIME` of the initial time namespace, in which the kernel reports load times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Returns the moment that many seconds after the boot; the last one of all if there is no such moment.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(NANOSECONDS))
    }

    /// Returns the time from `earlier` to this moment; 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).map_or(u64::MAX, |ns| self.0.saturating_add(ns)))
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    /// Not before the boot.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The wall clock: converts time since boot to dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClock {
    /// When the host booted, by this clock.
    pub booted_at: Timestamp,
}

impl WallClock {
    /// Returns the date of a moment; the last date of all if there is none.
    #[must_use]
    pub fn at(self, time: BootTime) -> Timestamp {
        self.booted_at.checked_add(Duration::from_nanos(time.0)).unwrap_or(Timestamp::MAX)
    }

    /// Returns the date of a moment in whole seconds, rounded down.
    ///
    /// The offset of the wall clock can only be measured to some hundred nanoseconds. In whole seconds, a restarted exporter
    /// reports the same date.
    #[must_use]
    pub fn second(self, time: BootTime) -> Timestamp {
        let date = self.at(time);
        let second = date.as_nanosecond().div_euclid(NANOSECONDS.into());
        i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rounded_down_to_seconds() {
        let clock = WallClock { booted_at: "2023-11-14T22:13:20.9Z".parse().expect("it is a date") };
        for (time, second) in [
            (0, 1_700_000_000),
            (99_999_999, 1_700_000_000),
            (100_000_000, 1_700_000_001),
            (u64::MAX, 20_146_744_074),
        ] {
            let date = clock.second(BootTime(time));
            assert_eq!((date.as_second(), date.subsec_nanosecond()), (second, 0));
        }
        let before_1970 = WallClock { booted_at: "1969-12-31T23:59:58.5Z".parse().expect("it is a date") };
        assert_eq!(before_1970.second(BootTime(1)).to_string(), "1969-12-31T23:59:58Z");
        assert_eq!(before_1970.at(BootTime::from_secs(2)).to_string(), "1970-01-01T00:00:00.5Z");
    }

    #[test]
    fn times_do_not_overflow() {
        let end = BootTime(u64::MAX);
        assert_eq!(WallClock { booted_at: Timestamp::MAX }.at(end), Timestamp::MAX);
        assert_eq!((BootTime::from_secs(u64::MAX), end + Duration::MAX), (end, end));
        assert_eq!(BootTime(3).since(end), Duration::ZERO);
        assert_eq!((BootTime(3) + Duration::from_nanos(4)).since(BootTime(2)), Duration::from_nanos(5));
    }
}
