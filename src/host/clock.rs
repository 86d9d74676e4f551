//! Time since the host's boot, the wall clock that converts it to dates, and the time since boot in `/proc`.
//!
//! Entry points: `now`, [`HostClock::read`], and `ProcTime`.
//!
//! A time namespace (since 5.6) shifts what this process reads as time since boot: `CLOCK_BOOTTIME` and the start times of processes
//! in `/proc` (`timens_add_boottime`, `include/linux/time_namespace.h`). BPF objects and iterators report the host's time.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use tracing::warn;

use crate::model::{BootTime, WallClock};
use crate::sys::{Error, Result, failed};

const NANOSECONDS: i128 = 1_000_000_000;

/// How far this process's time since boot is ahead of the host's, in nanoseconds. It never changes. `None` if it could not be read.
static AHEAD: LazyLock<Option<i128>> = LazyLock::new(|| {
    let offset = namespace_offset(Path::new("/proc/self"));
    offset
        .inspect_err(|error| {
            warn!(
                "the time namespace could not be read: {error}; in one with an offset of its own, load times are wrong; \
                 no orphans are counted, and no object is said to be the kernel's"
            );
        })
        .ok()
});

/// How far the wall clock must be set for dates to follow it.
const STEP: Duration = Duration::from_secs(2);

/// Returns the time since boot.
pub(crate) fn now() -> BootTime {
    boot_time(since_boot())
}

/// Returns for how long the host was suspended since its boot, in nanoseconds, plus a constant in a time namespace with offsets.
pub(crate) fn suspended() -> i128 {
    let running = nanoseconds(ClockId::CLOCK_MONOTONIC);
    nanoseconds(ClockId::CLOCK_BOOTTIME) - running
}

/// Returns the CPU time of this thread.
pub(crate) fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has the clock since 2.6.12").into()
}

/// Returns whether [`now`] is known to be the host's time, and can be compared with times that the kernel reports of objects.
pub(crate) fn is_of_host() -> bool {
    AHEAD.is_some()
}

/// Returns how far this process's time since boot is ahead of the host's; 0 if that is not known, see [`is_of_host`].
fn ahead() -> i128 {
    AHEAD.unwrap_or(0)
}

/// The wall clock of the host, as readings report it.
///
/// Its offset from the time since boot is constant until the clock is set: NTP slews both clocks alike, by the length of the tick
/// (`ntp_tick_length`, `kernel/time/ntp.c`; frequency, phase and adjtime(3)), and a suspend advances both
/// (`__timekeeping_inject_sleeptime`, `kernel/time/timekeeping.c`). Setting the clock (`clock_settime`, `ADJ_SETOFFSET`) and leap
/// seconds move the wall clock alone. So the first measurement is kept, with dates that do not jitter, until the clock was set by
/// more than `STEP`, at once or in several steps.
#[derive(Debug, Default)]
pub struct HostClock {
    kept: Option<WallClock>,
}

impl HostClock {
    /// Returns the wall clock, for a reading or for events.
    pub fn read(&mut self) -> WallClock {
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
        let before = since_boot();
        let wall = nanoseconds(ClockId::CLOCK_REALTIME);
        let after = since_boot();
        let spread = after - before;
        if best.is_none_or(|(least, _)| spread < least) {
            best = Some((spread, wall - i128::midpoint(before, after)));
        }
    }
    let (_, booted_at) = best.expect("the loop runs at least once");
    WallClock {
        booted_at: Timestamp::from_nanosecond(booted_at)
            .expect("both clocks are 64-bit numbers of nanoseconds: at most 292 years each"),
    }
}

/// Times since boot in `/proc`: in ticks, and of this process's time namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcTime {
    /// Duration of a tick in nanoseconds (`USER_HZ`): 10 ms nearly everywhere.
    pub(crate) tick: u64,
    /// How far they are ahead of the host's time, in nanoseconds.
    pub(crate) ahead: i128,
}

impl ProcTime {
    /// Returns what this process sees.
    pub(crate) fn of_this_process() -> Self {
        let per_second =
            sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
        let per_second =
            per_second.filter(|&ticks| ticks > 0).expect("Linux reports the number of ticks per second");
        Self { tick: 1_000_000_000 / per_second, ahead: ahead() }
    }

    /// Returns the moment that `/proc` shows as a number of ticks.
    pub(crate) fn moment(self, ticks: u64) -> BootTime {
        boot_time(i128::from(ticks) * i128::from(self.tick) - self.ahead)
    }

    /// Rounds a moment as `/proc` does.
    pub(crate) fn rounded(self, time: BootTime) -> BootTime {
        let shown = i128::from(time.0) + self.ahead;
        boot_time(shown - shown.rem_euclid(self.tick.into()) - self.ahead)
    }
}

/// Reads how far the time since boot of a process, given by its directory in `/proc`, is ahead of the host's, in nanoseconds.
fn namespace_offset(process: &Path) -> Result<i128> {
    const OFFSETS: &str = "/proc/self/timens_offsets";
    let namespace = |name| match fs::read_link(process.join(name)) {
        Ok(link) => Ok(Some(link)),
        // Before 5.6, or without `CONFIG_TIME_NS`.
        Err(error) if error.kind() == ErrorKind::NotFound && process.join("ns").is_dir() => Ok(None),
        Err(error) => Err(failed("/proc/self/ns/time")(error)),
    };
    let Some(own) = namespace("ns/time")? else { return Ok(0) };
    if own.as_os_str() == INITIAL_NAMESPACE {
        return Ok(0);
    }
    // The file has the offsets of the namespace of the process's children (`proc_timens_show_offsets`, `kernel/time/namespace.c`),
    // which is another one after unshare(2), and before 6.1 also after the execve(2) that follows it.
    if namespace("ns/time_for_children")? != Some(own) {
        return Err(Error::new(OFFSETS, Errno::ENODATA));
    }
    let text = fs::read_to_string(process.join("timens_offsets")).map_err(failed(OFFSETS))?;
    boot_offset(&text).ok_or(Error::new(OFFSETS, Errno::EBADMSG))
}

/// The initial time namespace (`PROC_TIME_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: &str = "time:[4026531834]";

/// Parses the line `boottime SECONDS NANOSECONDS` of `timens_offsets`; 5.6 has the clock's number instead of its name.
fn boot_offset(text: &str) -> Option<i128> {
    let line = text.lines().map(str::split_ascii_whitespace).find_map(|mut fields| {
        fields.next().filter(|&clock| clock == "boottime" || clock == "7").map(|_| fields)
    });
    let mut fields = line?.map(str::parse::<i64>);
    let (seconds, nanoseconds) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(i128::from(seconds) * NANOSECONDS + i128::from(nanoseconds))
}

fn boot_time(nanoseconds: i128) -> BootTime {
    BootTime(u64::try_from(nanoseconds.max(0)).unwrap_or(u64::MAX))
}

/// Returns the time since the host's boot.
fn since_boot() -> i128 {
    nanoseconds(ClockId::CLOCK_BOOTTIME) - ahead()
}

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock).expect("Linux has both clocks since 2.6.39");
    i128::from(time.tv_sec()) * NANOSECONDS + i128::from(time.tv_nsec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use tempfile::TempDir;

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

    /// A directory of a process in these time namespaces.
    fn process(namespaces: &[(&str, &str)], offsets: &str) -> TempDir {
        let process = TempDir::new().expect("a temporary directory can be created");
        fs::create_dir(process.path().join("ns")).expect("it is writable");
        for (name, target) in namespaces {
            symlink(target, process.path().join("ns").join(name)).expect("it is writable");
        }
        fs::write(process.path().join("timens_offsets"), offsets).expect("it is writable");
        process
    }

    #[test]
    fn the_offset_is_that_of_the_own_time_namespace() {
        const OTHER: &str = "time:[4026532179]";
        const OFFSETS: &str = "monotonic        5000         0\nboottime    -1000000   1000000\n";
        let offset = |namespaces: &[_], offsets| {
            namespace_offset(process(namespaces, offsets).path()).map_err(|error| error.errno)
        };
        let both = [("time", OTHER), ("time_for_children", OTHER)];
        assert_eq!(offset(&both, OFFSETS), Ok(-999_999_999_000_000));
        assert_eq!(offset(&both, "1 0 0\n7 5 0\n"), Ok(5_000_000_000), "5.6");
        assert_eq!(offset(&both, "monotonic 0 0\n"), Err(Errno::EBADMSG));
        let after_unshare = [("time", INITIAL_NAMESPACE), ("time_for_children", OTHER)];
        assert_eq!(offset(&after_unshare, OFFSETS), Ok(0));
        let unknown = [("time", OTHER), ("time_for_children", INITIAL_NAMESPACE)];
        assert_eq!(offset(&unknown, OFFSETS), Err(Errno::ENODATA));
        assert_eq!(offset(&[], OFFSETS), Ok(0), "the kernel has no time namespaces");
    }

    proptest! {
        #[test]
        fn start_times_in_proc_equal_those_of_iterators(
            started in 0..u64::MAX / 4,
            ahead in -1_000_000_000_000_000_000..1_000_000_000_000_000_000_i128,
            tick in prop_oneof![Just(10_000_000_u64), Just(1_000_000), Just(3_333_333)],
        ) {
            let time = ProcTime { tick, ahead };
            let shown = i128::from(started) + ahead;
            prop_assume!(shown >= 0);
            let ticks = u64::try_from(shown).expect("not negative") / tick;
            prop_assert_eq!(time.moment(ticks), time.rounded(BootTime(started)));
            prop_assert!(BootTime(started).since(time.moment(ticks)) < Duration::from_nanos(tick));
        }

        #[test]
        fn arbitrary_offsets_do_not_panic(text in "\\PC{0,40}\n?(boottime|7)? *-?[0-9]{0,20} *[0-9]{0,20}\n?") {
            boot_offset(&text);
        }
    }

    #[test]
    fn measurements_agree() {
        let (first, second) = (measure(), measure());
        assert!(first.booted_at.duration_since(second.booted_at).unsigned_abs() < Duration::from_secs(1));
    }
}
