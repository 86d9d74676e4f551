//! Processes that have descriptors of a map: this program, started once more.

use std::env;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;

use super::running::Running;

/// Set where this program is to be one of the processes, to the number of its descriptors.
const HOLDS: &str = "HOLDS_DESCRIPTORS";

/// How many of its descriptors are of the map.
pub const OF_MAP: usize = 5;

/// Starts a process that has so many descriptors, and waits until it has them.
pub fn holder(map: BorrowedFd<'_>, descriptors: usize) -> Running {
    let stdin = map.try_clone_to_owned().expect("there is a descriptor left");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.env(HOLDS, descriptors.to_string()).stdin(stdin).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let stdout = child.stdout.take().expect("a pipe");
    let child = Running(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("it says something");
    assert_eq!(line, "ready\n");
    child
}

/// Does what a process started by [`holder`] does, for ever; in any other it returns.
pub fn hold_if_asked() {
    let Some(descriptors) = env::var_os(HOLDS) else { return };
    let descriptors: usize =
        descriptors.to_str().and_then(|number| number.parse().ok()).expect("a number of descriptors");
    let copy = |_| io::stdin().as_fd().try_clone_to_owned().expect("there is a descriptor left");
    let mut held: Vec<OwnedFd> = (1..OF_MAP).map(copy).collect();
    let others = descriptors - OF_MAP - 2;
    held.extend((0..others).map(|_| OwnedFd::from(File::open("/dev/null").expect("it is there"))));
    let mut stdout = io::stdout();
    stdout.write_all(b"ready\n").and_then(|()| stdout.flush()).expect("somebody reads");
    loop {
        thread::park();
    }
}
