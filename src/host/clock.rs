//! Conversion of time since boot, which BPF objects carry, to wall-clock time.
//!
//! Entry point: [`BootOffset::wall_second`].

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// The difference between wall-clock time and time since boot.
///
/// Both clocks run from one source, so the difference changes only when the wall clock is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BootOffset {
    nanoseconds: i128,
}

impl BootOffset {
    /// Measures the offset several times, and keeps the measurement that was interrupted the least.
    pub(crate) fn measure() -> Self {
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
        let (_, nanoseconds) = best.expect("the loop runs at least once");
        Self { nanoseconds }
    }

    /// Converts nanoseconds since boot to wall-clock time, rounded down to seconds.
    pub(crate) fn wall_second(self, since_boot: u64) -> Timestamp {
        let seconds = (self.nanoseconds + i128::from(since_boot)).div_euclid(1_000_000_000);
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or(Timestamp::MAX)
    }
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

    #[test]
    fn time_since_boot_is_converted_to_whole_seconds() {
        let offset = BootOffset { nanoseconds: 1_700_000_000_900_000_000 };
        assert_eq!(offset.wall_second(0).as_second(), 1_700_000_000);
        assert_eq!(offset.wall_second(99_999_999).as_second(), 1_700_000_000);
        assert_eq!(offset.wall_second(100_000_000).as_second(), 1_700_000_001);
        assert_eq!(offset.wall_second(u64::MAX).as_second(), 20_146_744_074);
    }

    #[test]
    fn measurements_agree() {
        let first = BootOffset::measure();
        let second = BootOffset::measure();
        assert!((first.nanoseconds - second.nanoseconds).abs() < 1_000_000_000);
    }
}
