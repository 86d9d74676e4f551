//! The times of readings. Entry point: [`Ticks`].
//!
//! The timer of tokio wakes its thread two or three times for one tick, since its wheel has slots. On a node with few objects that is
//! a tenth of the CPU time of a cycle (decision 34).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel, which ticks at once and then at each interval. Missed ticks are merged into one.
pub(super) struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    /// Starts a timer, within a runtime. An interval of 0 is one of a nanosecond.
    ///
    /// # Errors
    ///
    /// Fails if the process may open no further descriptor.
    pub(super) fn every(interval: Duration) -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // A timer that is set to 0 does not tick.
        let at_once = TimeSpec::new(0, 1);
        let interval = TimeSpec::from_duration(interval.max(Duration::from_nanos(1)));
        timer.set(Expiration::IntervalDelayed(at_once, interval), TimerSetTimeFlags::empty())?;
        #[expect(deprecated, reason = "an owned descriptor stays open, which is what the unsafe one demands")]
        AsyncFd::with_interest(timer.into(), Interest::READABLE).map(Self)
    }

    /// Waits for the next tick. Nothing is lost if the caller stops waiting.
    ///
    /// # Errors
    ///
    /// Fails if the runtime ends.
    pub(super) async fn tick(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|timer| nix::unistd::read(timer, &mut [0; 8]).map_err(io::Error::from)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn the_first_tick_is_at_once() {
        let mut ticks = Ticks::every(Duration::from_hours(1)).expect("a timer");
        let first = tokio::time::timeout(Duration::from_mins(1), ticks.tick()).await;
        first.expect("it does not take an interval").expect("it ticks");
    }

    #[tokio::test]
    async fn missed_ticks_are_merged() {
        const INTERVAL: Duration = Duration::from_millis(100);
        let before = Instant::now();
        let mut ticks = Ticks::every(INTERVAL).expect("a timer");
        let after = Instant::now();
        tokio::time::sleep(INTERVAL * 7 / 2).await;
        let missed = after.elapsed().div_duration_f64(INTERVAL).floor();
        ticks.tick().await.expect("it ticks");
        ticks.tick().await.expect("it ticks");
        let elapsed = before.elapsed().div_duration_f64(INTERVAL);
        assert!(elapsed >= missed + 1.0, "the next is the one after {missed} intervals, not after {elapsed}");
    }
}
