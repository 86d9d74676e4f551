//! Time since boot, and the wall clock that converts it to dates.
//!
//! Entry points: [`now`] and [`HostClock::read`].

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::model::{BootTime, WallClock};

/// How far the wall clock must be set for dates to follow it.
const STEP: Duration = Duration::from_secs(2);

/// Returns the time since boot.
pub(crate) fn now() -> BootTime {
    BootTime(nanoseconds(ClockId::CLOCK_BOOTTIME).try_into().expect("the clock starts at 0"))
}

/// The wall clock of the host, as readings report it.
///
/// Its offset from the time since boot is constant until the clock is set: NTP slews both clocks alike, by the length of the tick
/// (`ntp_tick_length`, `kernel/time/ntp.c`; frequency, phase and adjtime(3)), and a suspend advances both
/// (`__timekeeping_inject_sleeptime`, `kernel/time/timekeeping.c`). Setting the clock (`clock_settime`, `ADJ_SETOFFSET`) and leap
/// seconds move the wall clock alone. So the first measurement is kept, with dates that do not jitter, until the clock was set by
/// more than [`STEP`], at once or in several steps.
#[derive(Debug, Default)]
pub(crate) struct HostClock {
    kept: Option<WallClock>,
}

impl HostClock {
    /// Returns the wall clock for a reading.
    pub(crate) fn read(&mut self) -> WallClock {
        self.follow(measure())
    }

    fn follow(&mut self, measured: WallClock) -> WallClock {
        let is_near =
            |kept: &WallClock| measured.booted_at.duration_since(kept.booted_at).unsigned_abs() <= STEP;
        let clock = self.kept.filter(is_near).unwrap_or(measured);
        self.kept = Some(clock);
        clock
    }
}

/// Measures the offset of the wall clock several times, and keeps the measurement that was interrupted the least.
fn measure() -> WallClock {
    let mut best: Option<(i128, i128)> = None;
    for _ in 0..5 {
        let before = nanoseconds(ClockId::CLOCK_BOOTTIME);
        let wall = nanoseconds(ClockId::CLOCK_REALTIME);
        let after = nanoseconds(ClockId::CLOCK_BOOTTIME);
        let spread = after - before;
        if best.is_none_or(|(least, _)| spread < least) {
            best = Some((spread, wall - i128::midpoint(before, after)));
        }
    }
    let (_, booted_at) = best.expect("the loop runs at least once");
    WallClock { booted_at: Timestamp::from_nanosecond(booted_at).expect("a date of this calendar") }
}

/// Returns the duration of a clock tick, the unit of times in `/proc` (`USER_HZ`), in nanoseconds: 10 ms nearly everywhere.
pub(crate) fn tick() -> u64 {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    1_000_000_000
        / per_second.filter(|&ticks| ticks > 0).expect("Linux reports the number of ticks per second")
}

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock).expect("Linux has both clocks since 2.6.39");
    i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(milliseconds: i64) -> WallClock {
        WallClock { booted_at: Timestamp::from_millisecond(milliseconds).expect("it is a date") }
    }

    #[test]
    fn dates_follow_the_clock_once_it_was_set_by_more_than_noise() {
        let mut host = HostClock::default();
        let mut follow = |milliseconds| host.follow(clock(milliseconds)).booted_at.as_millisecond();
        assert_eq!(follow(1_000_000), 1_000_000);
        assert_eq!((follow(1_000_001), follow(999_999)), (1_000_000, 1_000_000), "it jitters");
        assert_eq!(follow(998_500), 1_000_000);
        assert_eq!(follow(997_000), 997_000, "small steps add up");
        assert_eq!(follow(998_000), 997_000);
        assert_eq!(follow(4_600_000), 4_600_000);
        assert_eq!(follow(-100), -100);
    }

    #[test]
    fn measurements_agree() {
        let (first, second) = (measure(), measure());
        assert!(first.booted_at.duration_since(second.booted_at).unsigned_abs() < Duration::from_secs(1));
    }
}
