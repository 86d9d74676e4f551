//! The figures in `docs/reliability.md`: a row for each fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The file is written by several tests.
static FILE: Mutex<()> = Mutex::new(());

/// What was measured of a fault.
pub(super) struct Figures {
    fault: String,
    readings: usize,
    lost: u64,
    repeated: usize,
    notes: Vec<String>,
}

impl Figures {
    /// Of the readings that arrived, each with its delay.
    pub(super) fn new(fault: &str, arrived: &[(u64, Duration)]) -> Self {
        let times: BTreeSet<_> = arrived.iter().map(|(time, _)| *time).collect();
        let (readings, repeated) = (times.len(), arrived.len() - times.len());
        Self { fault: fault.to_owned(), readings, lost: super::gaps(&times), repeated, notes: Vec::new() }
    }

    pub(super) fn of_kills(kills: u32, readings: usize, lost: usize, repeated: u32) -> Self {
        let fault = "SIGKILL at random moments with `--otlp-backlog-dir`, receiver up or down".to_owned();
        let notes = vec![format!("{kills} times; lost: of those on disk")];
        Self { fault, readings, lost: lost as u64, repeated: repeated as usize, notes }
    }

    pub(super) fn with_end(mut self, took: Duration) -> Self {
        self.notes.push(format!("ends {:.1} s after SIGTERM", took.as_secs_f64()));
        self
    }

    pub(super) fn with_current(mut self, took: Duration) -> Self {
        self.notes.push(format!(
            "the newest reading arrives {:.1} s after the receiver is back",
            took.as_secs_f64()
        ));
        self
    }

    /// Replaces the row of the fault, if `UPDATE` is set.
    pub(super) fn record(self) {
        if std::env::var_os("UPDATE").is_none() {
            return;
        }
        let _one_at_a_time = FILE.lock().unwrap_or_else(PoisonError::into_inner);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
        let text = fs::read_to_string(&file).expect("it is there");
        let Self { fault, readings, lost, repeated, notes } = self;
        let row = format!("| {fault} | {readings} | {lost} | {repeated} | {} |", notes.join("; "));
        let start = format!("| {fault} |");
        assert!(text.lines().any(|line| line.starts_with(&start)), "{fault} has a row");
        let lines = text.lines().map(|line| if line.starts_with(&start) { &row } else { line });
        fs::write(&file, lines.collect::<Vec<_>>().join("\n") + "\n").expect("there is room");
    }
}
