//! Run statistics: enables them, always or in samples, and measures for how long they were enabled.
//!
//! Entry point: [`RunStatsControl::now`].
//!
//! The kernel counts runs while any process holds a descriptor of `BPF_ENABLE_STATS` or the sysctl is 1. This module uses a
//! descriptor: the sysctl is the administrator's, and would stay on after a SIGKILL. The kernel does not report the descriptors
//! of other processes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::RunStatsMode;
use crate::host::issues::Issues;
use crate::host::kept_file::KeptFile;
use crate::model::{Capability, Feature, Kind, Program, Reason, RunStats};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result, errno_of};

/// The sysctl with which the administrator enables run statistics. Since 5.1.
const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// [`sys::enable_stats`], or its replacement in a test.
type Enable = fn() -> Result<OwnedFd>;

/// Keeps run statistics enabled according to a mode, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunStatsControl {
    mode: RunStatsMode,
    sysctl: KeptFile,
    shared: Arc<SharedSwitch>,
    sampler: Option<JoinHandle<()>>,
    coverage: Coverage,
}

impl RunStatsControl {
    /// Starts with a mode. The first [`Self::now`] records errors.
    pub(crate) fn new(mode: RunStatsMode) -> Self {
        Self::with(mode, KeptFile::new(SYSCTL), sys::enable_stats)
    }

    fn with(mode: RunStatsMode, mut sysctl: KeptFile, enable: Enable) -> Self {
        let shared = Arc::new(SharedSwitch {
            switch: Mutex::new(StatsSwitch {
                enable,
                open: None,
                enabled_before: Duration::ZERO,
                granted: false,
                unsupported: false,
                stop: false,
                errors: Vec::new(),
            }),
            stopped: Condvar::new(),
        });
        let coverage = Coverage {
            covered: Duration::ZERO,
            at: Instant::now(),
            own: Duration::ZERO,
            // The first reading meets the same error and records it.
            sysctl: read_sysctl(&mut sysctl).ok().flatten() == Some(true),
        };
        let mut control = Self { mode, sysctl, shared, sampler: None, coverage };
        control.start();
        control
    }

    /// Enables statistics or starts the sampler, unless that is done or not wanted.
    fn start(&mut self) {
        let mut switch = self.shared.lock();
        if switch.unsupported {
            return;
        }
        match self.mode {
            RunStatsMode::Off => {}
            RunStatsMode::On => switch.open(),
            RunStatsMode::Sample { window, period } => {
                if self.sampler.is_some() {
                    return;
                }
                switch.open();
                if switch.unsupported {
                    return;
                }
                let shared = Arc::clone(&self.shared);
                let sampler = thread::Builder::new().name("run statistics".to_owned());
                match sampler.spawn(move || sample(&shared, window, period)) {
                    Ok(sampler) => self.sampler = Some(sampler),
                    Err(error) => {
                        switch.close();
                        switch.fail(Error::new("clone", errno_of(&error)));
                    }
                }
            }
        }
    }

    /// Returns whether statistics are enabled, by whom, and for how long they have been. Called once for each reading, before
    /// programs are read. Retries what failed before.
    pub(crate) fn now(&mut self, issues: &mut Issues) -> RunStats {
        if self.shared.lock().errors.is_empty() {
            self.start();
        }
        let by_sysctl = read_sysctl(&mut self.sysctl).unwrap_or_else(|error| {
            issues.record(Kind::Program, Error::new("bpf_stats_enabled", errno_of(&error)));
            None
        });
        let mut switch = self.shared.lock();
        for (error, times) in switch.errors.drain(..) {
            // That the kernel does not know the command is no failure.
            if error.errno != Errno::EINVAL {
                issues.record_times(Kind::Program, error, times);
            }
        }
        // A sampler does not try in each reading.
        let wants = !matches!(self.mode, RunStatsMode::Off) && !switch.granted;
        let missing = issues.rights().missing(Capability::SysAdmin).filter(|_| wants);
        if let Some(reason) = if switch.unsupported { Some(Reason::Kernel) } else { missing } {
            issues.limit(Feature::RunStatistics, reason);
        }
        let at = Instant::now();
        let covered = self.coverage.advance(at, switch.enabled_for(at), by_sysctl == Some(true));
        RunStats { by_exporter: switch.granted, by_sysctl, covered }
    }
}

impl Drop for RunStatsControl {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.stopped.notify_all();
        if let Some(sampler) = self.sampler.take() {
            // It does not panic; if it did, there would be nothing left to end.
            let _ended = sampler.join();
        }
    }
}

/// Hides run times and runs of programs unless statistics are known to be enabled: the kernel's numbers are then outdated or
/// zero.
///
/// The kernel counts recursion misses always, so they are kept.
pub(crate) fn mask(stats: RunStats, programs: Option<&mut [Program]>) {
    if stats.is_on() {
        return;
    }
    for program in programs.into_iter().flatten() {
        program.run_time = None;
        program.runs = None;
    }
}

/// The time for which runs have been counted, from reading to reading.
///
/// The sysctl can only be polled: the time between two readings counts if it was on at both, and does not otherwise. Time with
/// both the sysctl and our own descriptor counts once.
#[derive(Debug)]
struct Coverage {
    covered: Duration,
    /// The time of the last reading.
    at: Instant,
    /// For how long the exporter had enabled statistics by then.
    own: Duration,
    /// Whether the sysctl was on then.
    sysctl: bool,
}

impl Coverage {
    fn advance(&mut self, at: Instant, own: Duration, sysctl: bool) -> Duration {
        let by_sysctl = self.sysctl && sysctl;
        let elapsed =
            if by_sysctl { at.saturating_duration_since(self.at) } else { own.saturating_sub(self.own) };
        *self = Self { covered: self.covered + elapsed, at, own, sysctl };
        self.covered
    }
}

/// The exporter's own switch, shared by the reader and the sampling thread.
#[derive(Debug)]
struct SharedSwitch {
    switch: Mutex<StatsSwitch>,
    /// Wakes the sampling thread to end.
    stopped: Condvar,
}

impl SharedSwitch {
    fn lock(&self) -> MutexGuard<'_, StatsSwitch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a time, or until it is stopped.
    fn wait<'a>(
        &'a self,
        switch: MutexGuard<'a, StatsSwitch>,
        time: Duration,
    ) -> MutexGuard<'a, StatsSwitch> {
        let waited = self.stopped.wait_timeout_while(switch, time, |switch| !switch.stop);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[derive(Debug)]
struct StatsSwitch {
    enable: Enable,
    /// The descriptor that enables statistics, and the time when it was opened.
    open: Option<(OwnedFd, Instant)>,
    /// How long earlier descriptors were open.
    enabled_before: Duration,
    /// Whether the last attempt succeeded.
    granted: bool,
    /// Whether the kernel does not support the command: then no attempt will ever succeed.
    unsupported: bool,
    /// Whether the sampling thread is to end.
    stop: bool,
    /// Errors since the last reading, each with its count.
    errors: Vec<(Error, u64)>,
}

impl StatsSwitch {
    fn open(&mut self) {
        if self.open.is_some() {
            return;
        }
        match (self.enable)() {
            // Measured from after this call to before the close, so the microseconds of switching are not covered.
            Ok(fd) => {
                self.open = Some((fd, Instant::now()));
                self.granted = true;
            }
            Err(error) => {
                self.unsupported = error.errno == Errno::EINVAL;
                self.fail(error);
            }
        }
    }

    fn close(&mut self) {
        self.enabled_before = self.enabled_for(Instant::now());
        self.open = None;
    }

    /// Returns for how long statistics have been enabled in all.
    fn enabled_for(&self, now: Instant) -> Duration {
        let open = self.open.as_ref().map(|(_, since)| now.saturating_duration_since(*since));
        self.enabled_before + open.unwrap_or_default()
    }

    fn fail(&mut self, error: Error) {
        self.granted = false;
        match self.errors.iter_mut().find(|(earlier, _)| *earlier == error) {
            Some((_, times)) => *times += 1,
            None => self.errors.push((error, 1)),
        }
    }
}

/// Enables statistics for one window in each period on average, until it is stopped. The first window has already started.
///
/// Pauses vary between 0.5 and 1.5 times the rest of the period: regular samples would always or never coincide with regular
/// events, such as the exporter's own readings.
fn sample(shared: &SharedSwitch, window: Duration, period: Duration) {
    let pause = period.saturating_sub(window);
    let mut switch = shared.lock();
    while !switch.stop {
        switch = shared.wait(switch, window);
        switch.close();
        let pause = (pause / 2).saturating_add(rand::random_range(Duration::ZERO..=pause));
        switch = shared.wait(switch, pause);
        if !switch.stop {
            switch.open();
        }
    }
}

/// Returns whether the sysctl is on; `None` if this kernel has none.
fn read_sysctl(file: &mut KeptFile) -> io::Result<Option<bool>> {
    match file.read() {
        Ok(text) => Ok(match text.trim() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::host::namespaces::Rights;
    use crate::model::Part;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn coverage_is_own_time_or_the_time_between_two_readings_with_the_sysctl_on() {
        let start = Instant::now();
        let mut coverage =
            Coverage { covered: Duration::ZERO, at: start, own: Duration::ZERO, sysctl: false };
        let mut at = start;
        for (own, sysctl, covered) in [
            (1, false, 1),
            // Turned on in between, at an unknown time.
            (2, true, 2),
            (3, true, 12),
            (3, true, 22),
            // Turned off in between.
            (4, false, 23),
            (4, false, 23),
            (9, false, 28),
        ] {
            at += 10 * SECOND;
            assert_eq!(coverage.advance(at, own * SECOND, sysctl), covered * SECOND);
        }
    }

    #[test]
    fn each_failed_attempt_to_start_a_sample_is_counted_as_an_issue() {
        static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
        fn enable() -> Result<OwnedFd> {
            if ATTEMPTS.fetch_add(1, Ordering::Relaxed) > 0 {
                return Err(Error::new("BPF_ENABLE_STATS", Errno::EPERM));
            }
            Ok(File::open("/dev/null").expect("/dev/null exists").into())
        }
        let mode =
            RunStatsMode::Sample { window: Duration::from_millis(20), period: Duration::from_millis(40) };
        let mut control = RunStatsControl::with(mode, KeptFile::new("/nowhere"), enable);
        let mut issues = Issues::default();
        let end = Instant::now() + 20 * SECOND;
        let stats = loop {
            assert!(Instant::now() < end, "{issues:?}");
            let stats = control.now(&mut issues);
            if issues.all().iter().any(|issue| issue.total >= 3) {
                break stats;
            }
            thread::yield_now();
        };
        assert!(!stats.by_exporter && stats.by_sysctl.is_none());
        assert!(stats.covered >= Duration::from_millis(20), "the first sample lasted {:?}", stats.covered);
        drop(control);
        let [issue] = issues.all() else { panic!("{issues:?}") };
        assert_eq!((issue.part, &*issue.call, &*issue.error), (Part::Program, "BPF_ENABLE_STATS", "EPERM"));
        assert!(issue.total < u64::from(ATTEMPTS.load(Ordering::Relaxed)), "no attempt is counted twice");
    }

    #[test]
    fn a_missing_right_limits_run_statistics_only_where_they_are_requested() {
        fn refused() -> Result<OwnedFd> {
            Err(Error::new("BPF_ENABLE_STATS", Errno::EPERM))
        }
        for (mode, reason) in
            [(RunStatsMode::Off, None), (RunStatsMode::On, Some(Reason::Missing(Capability::SysAdmin)))]
        {
            let mut issues = Issues::with_rights(Rights::only(&[]));
            RunStatsControl::with(mode, KeptFile::new("/nowhere"), refused).now(&mut issues);
            assert_eq!(issues.state(Feature::RunStatistics).reason, reason, "{mode:?}");
            assert!(issues.all().is_empty(), "{issues:?}");
        }
    }

    #[test]
    fn a_missing_or_empty_sysctl_is_unknown() {
        assert_eq!(
            read_sysctl(&mut KeptFile::new("/nowhere")).expect("a missing file is not an error"),
            None
        );
        assert_eq!(
            read_sysctl(&mut KeptFile::new("/dev/null")).expect("an empty file is not an error"),
            None
        );
        assert!(read_sysctl(&mut KeptFile::new("/")).is_err());
    }
}
