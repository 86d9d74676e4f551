//! Processes that hold descriptors of a map: this program, started again.

use std::env;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;

use super::running::Running;

/// In the environment of such a process: the number of its descriptors.
const HOLDS: &str = "HOLDS_DESCRIPTORS";

/// Number of descriptors of the map in each.
pub const OF_MAP: usize = 5;

/// Starts a process with this many descriptors, and waits until they are open.
#[must_use]
pub fn holder(map: BorrowedFd<'_>, descriptors: usize) -> Running {
    let stdin = map.try_clone_to_owned().expect("there is a descriptor left");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.env(HOLDS, descriptors.to_string()).stdin(stdin).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let stdout = child.stdout.take().expect("a pipe");
    let child = Running(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("it writes a line");
    assert_eq!(line, "ready\n");
    child
}

/// Never returns in a process that [`holder`] started, and at once in any other.
pub fn hold_if_asked() {
    let Some(descriptors) = env::var_os(HOLDS) else { return };
    let descriptors: usize =
        descriptors.to_str().and_then(|number| number.parse().ok()).expect("a number of descriptors");
    let copy = |_| io::stdin().as_fd().try_clone_to_owned().expect("there is a descriptor left");
    let mut held: Vec<OwnedFd> = (1..OF_MAP).map(copy).collect();
    let others = descriptors - OF_MAP - 2;
    held.extend((0..others).map(|_| OwnedFd::from(File::open("/dev/null").expect("it is there"))));
    let mut stdout = io::stdout();
    stdout.write_all(b"ready\n").and_then(|()| stdout.flush()).expect("the parent reads");
    loop {
        thread::park();
    }
}
