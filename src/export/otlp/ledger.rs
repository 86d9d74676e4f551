//! What became of every point and request: counted here, exported like any other metric.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use crate::model::{Backlog, Delivery, Tally};

/// The counts of one delivery. They only grow, the backlog apart.
#[derive(Debug)]
pub struct Ledger {
    since: Timestamp,
    /// Points that a receiver took.
    pub accepted: Count,
    /// Points that a receiver took the request of, and not them.
    pub rejected: Count,
    /// Points given up because a receiver's error was final.
    pub refused: Count,
    /// Points given up because the backlog was full.
    pub overflowed: Count,
    /// Points given up at the end.
    pub shut_down: Count,
    /// Requests that a receiver took.
    pub succeeded: Count,
    /// Requests that will be tried again.
    pub retryable: Count,
    /// Requests that were given up.
    pub failed: Count,
    /// Bytes that wait to be sent.
    pub backlog: Count,
}

/// A count that several tasks share.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ledger {
    /// Counts that begin at `since`.
    #[must_use]
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            accepted: Count::default(),
            rejected: Count::default(),
            refused: Count::default(),
            overflowed: Count::default(),
            shut_down: Count::default(),
            succeeded: Count::default(),
            retryable: Count::default(),
            failed: Count::default(),
            backlog: Count::default(),
        }
    }

    /// The counts at this moment.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        let since = self.since;
        let tally = |label, count: &Count| Tally { label, count: count.get(), since };
        Delivery {
            points: vec![tally("accepted", &self.accepted), tally("rejected", &self.rejected)],
            dropped: vec![
                tally("refused", &self.refused),
                tally("backlog_full", &self.overflowed),
                tally("shutdown", &self.shut_down),
            ],
            requests: vec![
                tally("success", &self.succeeded),
                tally("retryable", &self.retryable),
                tally("failed", &self.failed),
            ],
            backlog: Backlog { bytes: self.backlog.get(), since },
        }
    }
}
