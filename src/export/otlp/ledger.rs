//! Counters of a delivery: what became of each item and request. Exported as metrics themselves.
//! Entry point: [`Ledger`].

use std::sync::atomic::{AtomicU64, Ordering};

use super::encode::Signal;
use crate::model::{Backlog, BootTime, Delivery, Tally};

/// Counters of the delivery to one destination.
#[derive(Debug)]
pub struct Ledger {
    since: BootTime,
    /// Counters of metrics; the items are data points.
    pub metrics: SignalCounts,
    /// Counters of logs; the items are log records.
    pub logs: SignalCounts,
    /// Size of the queue in bytes.
    pub backlog: Count,
}

/// Counters of one signal.
#[derive(Debug, Default)]
pub struct SignalCounts {
    /// Items accepted by the receiver.
    pub accepted: Count,
    /// Items rejected by the receiver from a request that it accepted.
    pub rejected: Count,
    /// Items dropped after a permanent error of the receiver.
    pub refused: Count,
    /// Items dropped because the queue was full.
    pub overflowed: Count,
    /// Items dropped at shutdown.
    pub shut_down: Count,
    /// Requests accepted by the receiver.
    pub succeeded: Count,
    /// Failed attempts that are retried.
    pub retryable: Count,
    /// Requests dropped after a permanent error.
    pub failed: Count,
}

/// A number shared by several tasks.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Replaces the number.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ledger {
    /// Returns counters that start at `since`.
    #[must_use]
    pub fn new(since: BootTime) -> Self {
        Self {
            since,
            metrics: SignalCounts::default(),
            logs: SignalCounts::default(),
            backlog: Count::default(),
        }
    }

    /// Returns the counters of a signal.
    #[must_use]
    pub fn of(&self, signal: Signal) -> &SignalCounts {
        match signal {
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        }
    }

    /// Returns how many items were dropped because the queue was full.
    pub(crate) fn overflowed(&self) -> u64 {
        self.metrics.overflowed.get() + self.logs.overflowed.get()
    }

    /// Returns the current counts of metrics and the size of the queue.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        let (since, counts) = (self.since, &self.metrics);
        let tally = |label, count: &Count| Tally { label, count: count.get(), since };
        Delivery {
            points: vec![tally("accepted", &counts.accepted), tally("rejected", &counts.rejected)],
            dropped: vec![
                tally("refused", &counts.refused),
                tally("backlog_full", &counts.overflowed),
                tally("shutdown", &counts.shut_down),
            ],
            requests: vec![
                tally("success", &counts.succeeded),
                tally("retryable", &counts.retryable),
                tally("failed", &counts.failed),
            ],
            backlog: Backlog { bytes: self.backlog.get(), since },
        }
    }
}
