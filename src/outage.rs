//! Log of one peer's outages: one warning when an outage begins, one line when it ends.
//!
//! Entry point: [`OutageLog`]. Independent of what fails and of when to retry.

use std::fmt::Display;

use tokio::time::Instant;
use tracing::{debug, info, warn};

/// Reports an operation that fails for a while and is retried until it succeeds.
#[derive(Debug)]
pub(crate) struct OutageLog {
    /// The operation and its peer, as the subject of each line: `export to http://collector:4317`.
    operation: String,
    /// Start of the current outage.
    since: Option<Instant>,
}

impl OutageLog {
    pub(crate) fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), since: None }
    }

    /// Logs a failed attempt: a warning for the first of an outage, a debug line for the others. Returns true for the first.
    pub(crate) fn failed(&mut self, error: impl Display) -> bool {
        let operation = &self.operation;
        if let Some(since) = self.since {
            debug!("{operation} still failing after {} s: {error}", since.elapsed().as_secs());
            return false;
        }
        warn!("{operation} failed: {error}; retrying");
        self.since = Some(Instant::now());
        true
    }

    /// Ends the outage without a log line: the peer answers, but not with success.
    pub(crate) fn end(&mut self) {
        self.since = None;
    }

    /// Ends the outage, if there is one, and logs how long it lasted, followed by `details`.
    pub(crate) fn recovered(&mut self, details: impl FnOnce() -> String) {
        if let Some(since) = self.since.take() {
            info!("{} recovered after {} s{}", self.operation, since.elapsed().as_secs(), details());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing::Level;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_outage_has_one_warning_and_one_recovery() {
        let lines = Lines::default();
        let written = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || written.clone())
            .with_max_level(Level::DEBUG)
            .with_target(false)
            .with_ansi(false)
            .without_time()
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);

        let mut outage = OutageLog::new("export to http://collector");
        outage.recovered(String::new);
        assert!(outage.failed("connection refused"));
        tokio::time::advance(Duration::from_secs(12)).await;
        assert!(!outage.failed("no answer"));
        outage.recovered(|| "; 5 points waiting".to_owned());
        outage.recovered(String::new);
        assert!(outage.failed("connection refused"), "another outage");
        outage.end();
        outage.recovered(String::new);
        assert!(outage.failed("no answer"), "the peer answered in between");
        outage.recovered(String::new);

        let text = String::from_utf8(lines.0.lock().expect("no writer panics").clone()).expect("UTF-8");
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        assert_eq!(
            lines,
            [
                "WARN export to http://collector failed: connection refused; retrying",
                "DEBUG export to http://collector still failing after 12 s: no answer",
                "INFO export to http://collector recovered after 12 s; 5 points waiting",
                "WARN export to http://collector failed: connection refused; retrying",
                "WARN export to http://collector failed: no answer; retrying",
                "INFO export to http://collector recovered after 0 s",
            ]
        );
    }
}
