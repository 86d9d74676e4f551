//! A process that a test or a benchmark started: it does not outlive the value that stands for it.

use std::process::Child;

/// A running process, ended when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours to wait for");
    }
}
