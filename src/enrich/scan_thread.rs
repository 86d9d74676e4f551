//! A thread that scans while readings go on. Entry point: [`ScanThread::start`].

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sys::{Error, failed};

/// Runs one scan at a time, each in a thread that returns a result.
#[derive(Debug)]
pub(super) struct ScanThread<T> {
    name: &'static str,
    begun: Option<Instant>,
    running: Option<RunningScan<T>>,
}

#[derive(Debug)]
struct RunningScan<T> {
    result: Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> ScanThread<T> {
    /// Returns one whose threads have this name.
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, begun: None, running: None }
    }

    /// Returns whether no scan is running, and the last one began at least `interval` ago.
    pub(super) fn is_due(&self, interval: Duration) -> bool {
        self.running.is_none() && self.begun.is_none_or(|begun| begun.elapsed() >= interval)
    }

    /// Starts a scan. The thread has the rights of the calling one, and the process does not wait for it when it ends.
    ///
    /// # Errors
    ///
    /// The error of clone(2).
    pub(super) fn start(&mut self, scan: impl FnOnce() -> T + Send + 'static) -> Result<(), Error> {
        self.begun = Some(Instant::now());
        let (sender, result) = channel();
        let run = move || {
            // The receiver is dropped with the scheduler, and the result with it.
            let _unneeded = sender.send(scan());
        };
        let thread = thread::Builder::new().name(self.name.to_owned()).spawn(run).map_err(failed("clone"))?;
        self.running = Some(RunningScan { result, thread });
        Ok(())
    }

    /// Returns the result of the running scan, if there is one, once it is finished.
    ///
    /// # Panics
    ///
    /// If the scan did.
    pub(super) fn result(&mut self) -> Option<T> {
        let RunningScan { result, thread } = self.running.take()?;
        match result.recv() {
            Ok(result) => Some(result),
            Err(_) => ended(thread),
        }
    }

    /// As [`Self::result`]; `None` if it is not finished in time.
    pub(super) fn result_within(&mut self, limit: Duration) -> Option<T> {
        let received = self.running.as_ref()?.result.recv_timeout(limit);
        if let Err(RecvTimeoutError::Timeout) = received {
            return None;
        }
        let RunningScan { thread, .. } = self.running.take()?;
        received.ok().or_else(|| ended(thread))
    }
}

/// Ends as a thread did that returned no result.
fn ended<T>(thread: JoinHandle<()>) -> Option<T> {
    thread.join().map_or_else(|panic| std::panic::resume_unwind(panic), |()| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_runs_until_its_result_is_taken() {
        const LONG: Duration = Duration::from_secs(20);
        let mut thread = ScanThread::new("test");
        assert!(thread.is_due(LONG) && thread.result().is_none());
        let (go, wait) = channel::<()>();
        thread
            .start(move || (wait.recv().is_ok(), thread::current().name() == Some("test")))
            .expect("a thread");
        assert_eq!(thread.result_within(Duration::ZERO), None);
        assert!(!thread.is_due(Duration::ZERO), "it is running");
        go.send(()).expect("it waits");
        assert_eq!(thread.result_within(LONG), Some((true, true)));
        assert!(thread.is_due(Duration::ZERO) && !thread.is_due(LONG));
        thread.start(|| (false, false)).expect("a thread");
        assert_eq!(thread.result(), Some((false, false)));
    }

    #[test]
    fn a_panic_is_that_of_the_caller() {
        let result = std::panic::catch_unwind(|| {
            let mut thread = ScanThread::<()>::new("test");
            thread.start(|| panic!("a scan failed")).expect("a thread");
            thread.result()
        });
        assert!(result.is_err());
    }
}
