//! Run statistics: has the kernel count the runs of programs, all the time or in samples, and keeps account of how long
//! they were counted. Knows of programs only what [`mask`] hides. Begin at [`Stats::now`].
//!
//! The kernel counts while somebody holds a descriptor of `BPF_ENABLE_STATS` or the sysctl is 1. Ours is a descriptor: the
//! sysctl is the administrator's, and would stay on after a SIGKILL. Of other processes' descriptors the kernel tells nothing.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::RunStatsMode;
use crate::host::issues::Issues;
use crate::model::{Kind, Program, RunStats};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result, errno_of};

/// Where the kernel tells, since 5.1, whether the administrator has runs counted.
const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// [`sys::enable_stats`], or what a test puts in its place.
type Enable = fn() -> Result<OwnedFd>;

/// Has runs counted as a mode says, from its making until it is dropped.
#[derive(Debug)]
pub(crate) struct Stats {
    mode: RunStatsMode,
    sysctl: PathBuf,
    own: Arc<Own>,
    sampler: Option<JoinHandle<()>>,
    coverage: Coverage,
}

impl Stats {
    /// Begins as `mode` says. What is refused is told by the first [`Stats::now`].
    pub(crate) fn new(mode: RunStatsMode) -> Self {
        Self::with(mode, PathBuf::from(SYSCTL), sys::enable_stats)
    }

    fn with(mode: RunStatsMode, sysctl: PathBuf, enable: Enable) -> Self {
        let own = Arc::new(Own {
            counting: Mutex::new(Counting {
                enable,
                open: None,
                done: Duration::ZERO,
                granted: false,
                unknown: false,
                stop: false,
                refusals: Vec::new(),
            }),
            stopped: Condvar::new(),
        });
        let coverage = Coverage {
            covered: Duration::ZERO,
            at: Instant::now(),
            own: Duration::ZERO,
            // An error comes again at the first reading, which counts it.
            sysctl: read_sysctl(&sysctl).ok().flatten() == Some(true),
        };
        let mut stats = Self { mode, sysctl, own, sampler: None, coverage };
        stats.begin();
        stats
    }

    /// Has runs counted if that is wanted and not done yet.
    fn begin(&mut self) {
        let mut counting = self.own.lock();
        if counting.unknown {
            return;
        }
        match self.mode {
            RunStatsMode::Off => {}
            RunStatsMode::On => counting.open(),
            RunStatsMode::Sample { lasting, every } => {
                if self.sampler.is_some() {
                    return;
                }
                counting.open();
                if counting.unknown {
                    return;
                }
                let own = Arc::clone(&self.own);
                let sampler = thread::Builder::new().name("run statistics".to_owned());
                match sampler.spawn(move || sample(&own, lasting, every)) {
                    Ok(sampler) => self.sampler = Some(sampler),
                    Err(error) => {
                        counting.close();
                        counting.refuse(Error::new("clone", errno_of(&error)));
                    }
                }
            }
        }
    }

    /// Whether runs are counted at this moment, by whom, and for how long they have been: to be asked once for each
    /// reading, before programs are read. Tries again what was refused before.
    pub(crate) fn now(&mut self, issues: &mut Issues) -> RunStats {
        if self.own.lock().refusals.is_empty() {
            self.begin();
        }
        let by_sysctl = read_sysctl(&self.sysctl).unwrap_or_else(|error| {
            issues.record(Kind::Program, Error::new("bpf_stats_enabled", errno_of(&error)));
            None
        });
        let mut counting = self.own.lock();
        for (error, times) in counting.refusals.drain(..) {
            issues.record_times(Kind::Program, error, times);
        }
        let at = Instant::now();
        let covered = self.coverage.advance(at, counting.so_far(at), by_sysctl == Some(true));
        RunStats { by_exporter: counting.granted, by_sysctl, covered }
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        self.own.lock().stop = true;
        self.own.stopped.notify_all();
        if let Some(sampler) = self.sampler.take() {
            // It does not panic; if it did, there would be nothing left to end.
            let _ended = sampler.join();
        }
    }
}

/// Hides the run times and runs of programs where nobody that is known has them counted: the kernel's numbers are then of
/// some time in the past, or zero.
///
/// Recursion misses stay, which the kernel counts always.
pub(crate) fn mask(stats: RunStats, programs: Option<&mut [Program]>) {
    if stats.is_on() {
        return;
    }
    for program in programs.into_iter().flatten() {
        program.run_time = None;
        program.runs = None;
    }
}

/// How long runs have been counted, from reading to reading.
///
/// The sysctl can only be looked at: it counts for the whole time between two readings if it was on at both, and for nothing of
/// it otherwise. Time that both have counted is counted once.
#[derive(Debug)]
struct Coverage {
    covered: Duration,
    /// The last reading,
    at: Instant,
    /// for how long we had had runs counted then,
    own: Duration,
    /// and whether the sysctl was on.
    sysctl: bool,
}

impl Coverage {
    fn advance(&mut self, at: Instant, own: Duration, sysctl: bool) -> Duration {
        let all_the_time = self.sysctl && sysctl;
        let elapsed =
            if all_the_time { at.saturating_duration_since(self.at) } else { own.saturating_sub(self.own) };
        *self = Self { covered: self.covered + elapsed, at, own, sysctl };
        self.covered
    }
}

/// Our own part, shared by the reader and the thread that samples.
#[derive(Debug)]
struct Own {
    counting: Mutex<Counting>,
    /// Wakes the thread that samples, to end.
    stopped: Condvar,
}

impl Own {
    fn lock(&self) -> MutexGuard<'_, Counting> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a time, or until there is nothing to wait for any more.
    fn wait<'a>(&'a self, counting: MutexGuard<'a, Counting>, time: Duration) -> MutexGuard<'a, Counting> {
        let waited = self.stopped.wait_timeout_while(counting, time, |counting| !counting.stop);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[derive(Debug)]
struct Counting {
    enable: Enable,
    /// The descriptor for which the kernel counts, and since when.
    open: Option<(OwnedFd, Instant)>,
    /// How long earlier descriptors were open.
    done: Duration,
    /// Whether the last attempt was granted.
    granted: bool,
    /// Whether the kernel does not know the command, which it will not learn while it runs.
    unknown: bool,
    /// Whether it is over.
    stop: bool,
    /// Errors since the last reading, each with its count.
    refusals: Vec<(Error, u64)>,
}

impl Counting {
    fn open(&mut self) {
        if self.open.is_some() {
            return;
        }
        match (self.enable)() {
            // From after this call until before the close: the microseconds in which the kernel switches are not covered.
            Ok(fd) => {
                self.open = Some((fd, Instant::now()));
                self.granted = true;
            }
            Err(error) => {
                self.unknown = error.errno == Errno::EINVAL;
                self.refuse(error);
            }
        }
    }

    fn close(&mut self) {
        self.done = self.so_far(Instant::now());
        self.open = None;
    }

    /// For how long it was open until now.
    fn so_far(&self, now: Instant) -> Duration {
        let open = self.open.as_ref().map(|(_, since)| now.saturating_duration_since(*since));
        self.done + open.unwrap_or_default()
    }

    fn refuse(&mut self, error: Error) {
        self.granted = false;
        match self.refusals.iter_mut().find(|(refused, _)| *refused == error) {
            Some((_, times)) => *times += 1,
            None => self.refusals.push((error, 1)),
        }
    }
}

/// Has runs counted for `lasting` in every `every` on average, until told to stop; the first sample runs already.
///
/// Each pause is between half and one and a half of what is left: samples at regular times would always or never meet what
/// happens at regular times, the exporter's own readings among them.
fn sample(own: &Own, lasting: Duration, every: Duration) {
    let pause = every.saturating_sub(lasting);
    let mut counting = own.lock();
    while !counting.stop {
        counting = own.wait(counting, lasting);
        counting.close();
        let pause = (pause / 2).saturating_add(rand::random_range(Duration::ZERO..=pause));
        counting = own.wait(counting, pause);
        if !counting.stop {
            counting.open();
        }
    }
}

/// Whether the sysctl is on; `None` where there is none.
fn read_sysctl(path: &Path) -> io::Result<Option<bool>> {
    match fs::read_to_string(path) {
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
    use crate::model::Part;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_covered_is_ours_or_the_whole_time_between_two_looks_at_the_sysctl() {
        let start = Instant::now();
        let mut coverage =
            Coverage { covered: Duration::ZERO, at: start, own: Duration::ZERO, sysctl: false };
        let mut at = start;
        for (own, sysctl, covered) in [
            (1, false, 1),
            // It came on in between: who knows when.
            (2, true, 2),
            (3, true, 12),
            (3, true, 22),
            // It went off in between.
            (4, false, 23),
            (4, false, 23),
            (9, false, 28),
        ] {
            at += 10 * SECOND;
            assert_eq!(coverage.advance(at, own * SECOND, sysctl), covered * SECOND);
        }
    }

    #[test]
    fn a_right_that_is_lost_between_samples_is_an_issue_at_each_attempt() {
        static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
        fn enable() -> Result<OwnedFd> {
            if ATTEMPTS.fetch_add(1, Ordering::Relaxed) > 0 {
                return Err(Error::new("BPF_ENABLE_STATS", Errno::EPERM));
            }
            Ok(File::open("/dev/null").expect("Linux has it").into())
        }
        let mode =
            RunStatsMode::Sample { lasting: Duration::from_millis(20), every: Duration::from_millis(40) };
        let mut stats = Stats::with(mode, PathBuf::from("/nowhere"), enable);
        let mut issues = Issues::default();
        let end = Instant::now() + 20 * SECOND;
        let told = loop {
            assert!(Instant::now() < end, "{issues:?}");
            let told = stats.now(&mut issues);
            if issues.all().iter().any(|issue| issue.total >= 3) {
                break told;
            }
            thread::yield_now();
        };
        assert!(!told.by_exporter && told.by_sysctl.is_none());
        assert!(told.covered >= Duration::from_millis(20), "{:?} were counted before", told.covered);
        drop(stats);
        let [issue] = issues.all() else { panic!("{issues:?}") };
        assert_eq!((issue.part, &*issue.call, &*issue.error), (Part::Program, "BPF_ENABLE_STATS", "EPERM"));
        assert!(issue.total < u64::from(ATTEMPTS.load(Ordering::Relaxed)), "each attempt once");
    }

    #[test]
    fn a_sysctl_says_on_or_off_or_is_not_there() {
        assert_eq!(read_sysctl(Path::new("/nowhere")).expect("that is no error"), None);
        assert_eq!(read_sysctl(Path::new("/dev/null")).expect("that is no error"), None);
        assert!(read_sysctl(Path::new("/")).is_err());
    }
}
