//! Processes of a run and what they cost: they end with it. Entry points: [`Process::start`], [`threads_cpu`].

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::interrupt::Interrupt;

/// How long a process may take to start and to end.
const SOON: Duration = Duration::from_mins(1);

/// Number of lines of a process's output that an error shows.
const TAIL: usize = 10;

/// A process that is killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, with its output in a file in `folder`.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn start(name: &'static str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        // Settings of the machine's own telemetry must not affect a run.
        for (variable, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_"))
        {
            command.env_remove(variable);
        }
        // Ctrl-C is for this program alone, which then ends the others.
        command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { name, child, log })
    }

    /// Waits until `is_ready` returns true.
    ///
    /// # Errors
    ///
    /// If the process ends before, or it takes too long.
    pub fn wait_until(
        &mut self,
        interrupt: &Interrupt,
        mut is_ready: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + SOON;
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended, {status}: {}", self.name, self.last_lines());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {SOON:?}: {}", self.name, self.last_lines());
            }
            interrupt.sleep(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Kills it, as a crash of its host.
    ///
    /// # Errors
    ///
    /// If it has ended before.
    pub fn kill(mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended, {status}: {}", self.name, self.last_lines());
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Returns the time that it has used on CPUs, in user and kernel mode.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(Path::new(&format!("/proc/{}", self.child.id())))
            .with_context(|| format!("{}: {}", self.name, self.last_lines()))
    }

    /// Returns its resident memory now, in bytes.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn memory(&self) -> anyhow::Result<u64> {
        kilobytes(Path::new(&format!("/proc/{}/status", self.child.id())), "VmRSS:")
    }

    /// Returns the lines of its output that have these words.
    #[must_use]
    pub fn lines(&self, words: &str) -> Vec<String> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    fn last_lines(&self) -> String {
        let lines = self.lines("");
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has been waited for.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Returns the CPU time of the threads of this process with this name, to the nanosecond: each of many threads works for less than a tick.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn threads_cpu(name: &str) -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        // A thread that ended meanwhile is none of those that last as long as the run.
        let Ok(comm) = fs::read_to_string(thread.join("comm")) else { continue };
        if comm.trim_end() == name {
            // Source: Documentation/scheduler/sched-stats.rst.
            let statistics = fs::read_to_string(thread.join("schedstat"))?;
            let time = statistics
                .split(' ')
                .next()
                .and_then(|time| time.parse().ok())
                .context("no time in schedstat")?;
            sum += Duration::from_nanos(time);
        }
    }
    Ok(sum)
}

/// Returns the resident memory of this process, in bytes.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn own_memory() -> anyhow::Result<u64> {
    kilobytes(Path::new("/proc/self/status"), "VmRSS:")
}

/// Returns the memory that is left on this machine, in bytes.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn available_memory() -> anyhow::Result<u64> {
    kilobytes(Path::new("/proc/meminfo"), "MemAvailable:")
}

fn kilobytes(path: &Path, key: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("{} has no {key}", path.display()))? << 10)
}

/// Returns the time in user and kernel mode of a process or thread, by its directory in `/proc`.
fn cpu_of(directory: &Path) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(directory.join("stat"))?;
    // The name, in parentheses, may have any character.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no CLK_TCK")?;
    Ok(Duration::from_secs(ticks) / u32::try_from(per_second)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_uses_time() {
        let before = threads_cpu("works").expect("/proc is there");
        let works = std::thread::Builder::new().name("works".to_owned()).spawn(|| {
            let start = Instant::now();
            let mut used = Duration::ZERO;
            while used < Duration::from_millis(50) && start.elapsed() < SOON {
                used = threads_cpu("works").expect("/proc is there");
            }
            used
        });
        let used = works.expect("a thread").join().expect("it does not panic");
        assert!(before.is_zero() && used >= Duration::from_millis(50), "{before:?}, {used:?}");
    }

    #[test]
    fn a_process_ends_when_it_is_dropped() {
        let folder = tempfile::tempdir().expect("there is a directory for temporary files");
        let mut command = Command::new("sleep");
        let process = Process::start("sleep", command.arg("600"), folder.path()).expect("it is installed");
        let directory = PathBuf::from(format!("/proc/{}", process.child.id()));
        assert!(process.cpu().is_ok() && process.memory().is_ok() && directory.exists());
        drop(process);
        assert!(!directory.exists());
        assert!(available_memory().expect("/proc is there") > own_memory().expect("/proc is there") / 100);
    }
}
