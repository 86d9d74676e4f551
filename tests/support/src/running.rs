//! A process that a test or a benchmark started, and that does not outlive it.

use std::process::Child;

/// A running process, killed when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("it is a child of this process");
        self.0.wait().expect("it is a child of this process");
    }
}
