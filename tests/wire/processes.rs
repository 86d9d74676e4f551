//! Processes that a test starts: what they say goes to a file, and none outlives the value that stands for it.
//! Knows none of the programs. Begin at [`Process::start`]; [`eventually`] is how a test waits.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should take no time, on a machine that has other things to do.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Between two questions: short against any deadline, long against the cost of asking.
const PAUSE: Duration = Duration::from_millis(20);

/// How much of a process's output is shown when a test fails.
const TAIL: usize = 30;

/// Asks until there is an answer.
///
/// # Panics
///
/// After `limit`, with what was seen instead of the answer the last time.
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

/// A folder that is gone when it is dropped.
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
        // What cannot be removed lies below `target`, and hurts nobody.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed and waited for when it is dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, with what it says in a file in `folder`.
    pub(crate) fn start(name: &'static str, command: &mut Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let open = || -> std::io::Result<[File; 2]> {
            let file = File::create(&log)?;
            Ok([file.try_clone()?, file])
        };
        let [output, errors] =
            open().unwrap_or_else(|error| panic!("failed to make {}: {error}", log.display()));
        // Settings of the machine's own telemetry are no part of a test.
        for (variable, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_"))
        {
            command.env_remove(variable);
        }
        let started = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = started.unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        Self { name, child, log }
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The lines with `words` in them, of what it said so far.
    pub(crate) fn lines(&self, words: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    /// Waits for a line with `words` in it.
    pub(crate) fn says(&mut self, words: &str) -> String {
        let name = self.name;
        eventually(&format!("{name} says {words:?}"), SOON, || {
            // Asked first: what is said before the end counts.
            let ended = self.end();
            match (self.lines(words).into_iter().next(), ended) {
                (Some(line), _) => Ok(line),
                (None, Some(status)) => panic!("{name} ended ({status}) before it said {words:?}"),
                (None, None) => Err("it does not".to_owned()),
            }
        })
    }

    /// Fails the test if it has ended.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.end() {
            panic!("{} ended: {status}", self.name);
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        // The shell's own `kill`: the standard library has none, and signals by system call are unsafe.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -TERM \"$1\"", "kill"]).arg(self.child.id().to_string());
        let status = kill.status().unwrap_or_else(|error| panic!("failed to run sh: {error}"));
        assert!(status.success(), "failed to send SIGTERM to {}: {status}", self.name);
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, limit, || self.end().ok_or_else(|| "it runs".to_owned()))
    }

    /// Ends it as an init system does.
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
