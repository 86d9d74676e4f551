//! A real pseudo-terminal with a program on it, and what it shows. Entry point: [`Pty::start`].

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, ttyname};
use test_support::running::Running;
use vt100::{MouseProtocolMode, Parser};

/// How long a busy machine may take for anything.
const SOON: Duration = Duration::from_secs(30);

/// A program on a terminal of its own.
pub(super) struct Pty {
    running: Running,
    master: File,
    /// Kept open, so that the terminal and its modes outlive the program.
    _slave: OwnedFd,
    path: PathBuf,
    screen: Arc<Mutex<Parser>>,
    modes: String,
}

impl Pty {
    /// Starts a program on a terminal of this many columns and rows, of which it is the controlling terminal.
    pub(super) fn start(program: &str, arguments: &[&str], (columns, rows): (u16, u16)) -> Self {
        Self::start_with(program, arguments, (columns, rows), &[])
    }

    /// The same, with variables.
    pub(super) fn start_with(
        program: &str,
        arguments: &[&str],
        (columns, rows): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("there are pseudo-terminals");
        let path = ttyname(&pty.slave).expect("it has a name");
        let modes = stty(&path, &["-g"]);
        let end = || Stdio::from(pty.slave.try_clone().expect("it can be copied"));
        // The child has the process id of its parent, since it is not the leader of its group.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program).args(arguments).env_clear().env("TERM", "xterm-256color");
        command.envs(variables.iter().copied()).stdin(end()).stdout(end()).stderr(end());
        let running = Running(command.spawn().expect("setsid is part of every Debian"));
        let screen = Arc::new(Mutex::new(Parser::new(nonzero(rows), nonzero(columns), 0)));
        let master = File::from(pty.master);
        let (mut reader, parser) = (master.try_clone().expect("it can be copied"), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                parser.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..read]);
            }
        });
        Self { running, master, _slave: pty.slave, path, screen, modes }
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.0.id()
    }

    pub(super) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes input");
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().expect("a process id")), signal).expect("it runs");
    }

    pub(super) fn resize(&self, (columns, rows): (u16, u16)) {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .screen_mut()
            .set_size(nonzero(rows), nonzero(columns));
        stty(&self.path, &["cols", &columns.to_string(), "rows", &rows.to_string()]);
    }

    /// Returns what the terminal shows, without spaces at the ends of lines.
    pub(super) fn text(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Waits until the screen satisfies a condition, and returns it.
    pub(super) fn wait(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let text = self.text();
            if condition(&text) {
                return text;
            }
            assert!(began.elapsed() < SOON, "no {what} within {SOON:?}:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the screen has a text.
    pub(super) fn wait_for(&self, expected: &str) -> String {
        self.wait(&format!("{expected:?}"), |text| text.contains(expected))
    }

    /// Waits for the end of the program.
    pub(super) fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.running.0.try_wait().expect("it is a child") {
                // What it has written last may still be on its way.
                thread::sleep(Duration::from_millis(100));
                return status;
            }
            assert!(began.elapsed() < SOON, "it still runs:\n{}", self.text());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asserts that the program has the terminal: its modes and the other screen.
    pub(super) fn assert_taken(&self) {
        assert_ne!(stty(&self.path, &["-g"]), self.modes, "it reads keys as they come");
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(screen.screen().alternate_screen() && screen.screen().hide_cursor());
        assert_ne!(screen.screen().mouse_protocol_mode(), MouseProtocolMode::None);
    }

    /// Asserts that the terminal is as it was.
    pub(super) fn assert_restored(&self) {
        assert_eq!(stty(&self.path, &["-g"]), self.modes);
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!screen.screen().alternate_screen(), "{}", screen.screen().contents());
        assert!(!screen.screen().hide_cursor());
        assert_eq!(screen.screen().mouse_protocol_mode(), MouseProtocolMode::None);
    }
}

fn nonzero(size: u16) -> NonZero<u16> {
    NonZero::new(size).expect("a terminal has rows and columns")
}

/// Runs `stty` on a terminal and returns what it prints.
fn stty(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("stty").arg("--file").arg(path).args(arguments).output().expect("stty runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}
