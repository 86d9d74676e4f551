//! Counters of a delivery: what became of each item and request. Exported as metrics themselves.
//! Entry point: [`Ledger`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::encode::Signal;
use crate::model::{Backlog, BootTime, Delivery, Tally};

/// Counters of the delivery to one destination.
#[derive(Debug)]
pub struct Ledger {
    destination: Arc<str>,
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
    /// Items in requests on disk that cannot be read any more.
    pub unreadable: Count,
    /// Requests accepted by the receiver.
    pub succeeded: Count,
    /// Failed attempts that are retried.
    pub retryable: Count,
    /// Requests that were too large, and were sent again in parts.
    pub split: Count,
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
    /// Returns counters for a destination that start at `since`.
    #[must_use]
    pub fn new(destination: &str, since: BootTime) -> Self {
        Self {
            destination: destination.into(),
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

    /// Returns the current counts of metrics, and the size of the queue, of every destination.
    #[must_use]
    pub fn delivery(ledgers: &[Arc<Self>]) -> Delivery {
        let mut delivery = Delivery::default();
        for ledger in ledgers {
            let (since, counts) = (ledger.since, &ledger.metrics);
            let destination = (ledgers.len() > 1).then(|| Arc::clone(&ledger.destination));
            let tally = |(label, count): (_, &Count)| Tally {
                destination: destination.clone(),
                label,
                count: count.get(),
                since,
            };
            let points = [("accepted", &counts.accepted), ("rejected", &counts.rejected)];
            let dropped = [
                ("refused", &counts.refused),
                ("backlog_full", &counts.overflowed),
                ("shutdown", &counts.shut_down),
                ("unreadable", &counts.unreadable),
            ];
            let requests = [
                ("success", &counts.succeeded),
                ("retryable", &counts.retryable),
                ("split", &counts.split),
                ("failed", &counts.failed),
            ];
            delivery.points.extend(points.map(tally));
            delivery.dropped.extend(dropped.map(tally));
            delivery.requests.extend(requests.map(tally));
            let bytes = ledger.backlog.get();
            delivery.backlog.push(Backlog { destination, bytes, since });
        }
        delivery
    }
}
