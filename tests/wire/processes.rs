//! Processes that a test starts: their output goes to a file, and they are killed when dropped. Entry points: [`Process::start`], and
//! [`eventually`] to wait.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Deadline for anything that takes no time on an idle machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Between two checks: short compared with any deadline, long compared with the cost of a check.
const PAUSE: Duration = Duration::from_millis(20);

/// Number of characters of a process's output that a failed test shows.
const TAIL: usize = 30;

/// Checks until there is a result.
///
/// # Panics
///
/// After `limit`, with the last error.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) if Instant::now() >= deadline => panic!("not within {limit:?}: {what}; {seen}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// A folder that is removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder below Cargo's own for tests.
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("wire-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("failed to make {}: {error}", path.display()));
        Self(path)
    }

    /// A new folder in it.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("failed to make {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover below `target` does no harm.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed and waited for when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, with its output in a file in `folder`.
    pub(crate) fn start(name: &'static str, command: &mut Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let open = || -> std::io::Result<[File; 2]> {
            let file = File::create(&log)?;
            Ok([file.try_clone()?, file])
        };
        let [output, errors] =
            open().unwrap_or_else(|error| panic!("failed to make {}: {error}", log.display()));
        // Settings of the machine's own telemetry must not affect a test.
        for (variable, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_"))
        {
            command.env_remove(variable);
        }
        let started = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = started.unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        Self { name, child, log }
    }

    /// Returns its output so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns the lines of its output that contain `words`.
    pub(crate) fn lines(&self, words: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    /// Waits for a line that contains `words`.
    pub(crate) fn says(&mut self, words: &str) -> String {
        let name = self.name;
        eventually(&format!("{name} says {words:?}"), SOON, || {
            // Checked first: output before its exit counts.
            let ended = self.end();
            match (self.lines(words).into_iter().next(), ended) {
                (Some(line), _) => Ok(line),
                (None, Some(status)) => panic!("{name} ended ({status}) before it said {words:?}"),
                (None, None) => Err("it does not".to_owned()),
            }
        })
    }

    /// Asserts that it has not exited.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.end() {
            panic!("{} ended: {status}", self.name);
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`: the standard library has none, and signals by system call are unsafe.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$1\" \"$2\"", "kill", name]).arg(self.child.id().to_string());
        let status = kill.status().unwrap_or_else(|error| panic!("failed to run sh: {error}"));
        assert!(status.success(), "failed to send SIG{name} to {}: {status}", self.name);
    }

    /// Waits for its exit.
    pub(crate) fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, limit, || self.end().ok_or_else(|| "it runs".to_owned()))
    }

    /// Terminates it as an init system does.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended(SOON)
    }

    fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("failed to wait for {}: {error}", self.name))
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "the test that failed is of no other help")]
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            eprintln!("--- the end of what {} said ---\n{tail}\n---", self.name);
        }
        // Both fail only when it has been waited for.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}
