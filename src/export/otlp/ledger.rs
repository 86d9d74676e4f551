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
    /// What is sent there.
    signals: Vec<Signal>,
    /// Counters of metrics; the items are data points.
    pub metrics: SignalCounts,
    /// Counters of logs; the items are log records.
    pub logs: SignalCounts,
    /// Size of the queues in bytes.
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
    /// Events that were no longer there when they were to be encoded. Of logs only.
    pub missed: Count,
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

    /// Replaces one of several numbers that it is the sum of.
    pub(crate) fn replace(&self, before: u64, now: u64) {
        self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ledger {
    /// Returns counters for a destination of metrics that start at `since`.
    #[must_use]
    pub fn new(destination: &str, since: BootTime) -> Self {
        Self {
            destination: destination.into(),
            since,
            signals: vec![Signal::Metrics],
            metrics: SignalCounts::default(),
            logs: SignalCounts::default(),
            backlog: Count::default(),
        }
    }

    /// Sets what is sent there. Nothing else is reported.
    #[must_use]
    pub fn of_signals(self, signals: Vec<Signal>) -> Self {
        Self { signals, ..self }
    }

    /// Returns the counters of a signal.
    #[must_use]
    pub fn of(&self, signal: Signal) -> &SignalCounts {
        match signal {
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        }
    }

    /// Returns the current counts of every destination, and the size of its queues.
    #[must_use]
    pub fn delivery(ledgers: &[Arc<Self>]) -> Delivery {
        let mut delivery = Delivery::default();
        for ledger in ledgers {
            let since = ledger.since;
            let destination = (ledgers.len() > 1).then(|| Arc::clone(&ledger.destination));
            let tally = |label, count| Tally { destination: destination.clone(), label, count, since };
            for &signal in &ledger.signals {
                let counts = ledger.of(signal);
                let outcomes = [("accepted", &counts.accepted), ("rejected", &counts.rejected)];
                let mut reasons = vec![
                    ("refused", &counts.refused),
                    ("backlog_full", &counts.overflowed),
                    ("shutdown", &counts.shut_down),
                    ("unreadable", &counts.unreadable),
                ];
                let (items, dropped) = match signal {
                    Signal::Metrics => (&mut delivery.points, &mut delivery.dropped),
                    Signal::Logs => {
                        reasons.push(("missed", &counts.missed));
                        (&mut delivery.log_records, &mut delivery.dropped_log_records)
                    }
                };
                items.extend(outcomes.map(|(label, count)| tally(label, count.get())));
                dropped.extend(reasons.into_iter().map(|(label, count)| tally(label, count.get())));
            }
            let sum = |of: fn(&SignalCounts) -> &Count| {
                ledger.signals.iter().map(|&signal| of(ledger.of(signal)).get()).sum()
            };
            delivery.requests.extend([
                tally("success", sum(|counts| &counts.succeeded)),
                tally("retryable", sum(|counts| &counts.retryable)),
                tally("split", sum(|counts| &counts.split)),
                tally("failed", sum(|counts| &counts.failed)),
            ]);
            let bytes = ledger.backlog.get();
            delivery.backlog.push(Backlog { destination, bytes, since });
        }
        delivery
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_sent_to_a_destination_is_reported_of_it() {
        let ledger = |name, signals| {
            let ledger = Ledger::new(name, BootTime::default()).of_signals(signals);
            ledger.metrics.succeeded.add(1);
            ledger.logs.succeeded.add(10);
            ledger.logs.missed.add(7);
            Arc::new(ledger)
        };
        let of = |signals| {
            let delivery = Ledger::delivery(&[ledger("a", signals)]);
            let rows =
                [&delivery.points, &delivery.dropped, &delivery.log_records, &delivery.dropped_log_records];
            (rows.map(Vec::len), delivery.requests[0].count)
        };
        assert_eq!(of(vec![Signal::Metrics]), ([2, 4, 0, 0], 1));
        assert_eq!(of(vec![Signal::Logs]), ([0, 0, 2, 5], 10));
        assert_eq!(of(vec![Signal::Metrics, Signal::Logs]), ([2, 4, 2, 5], 11));
        let delivery =
            Ledger::delivery(&[ledger("a", vec![Signal::Metrics]), ledger("b", vec![Signal::Logs])]);
        let missed = delivery.dropped_log_records.iter().find(|tally| tally.label == "missed");
        let missed = missed.map(|tally| (tally.destination.as_deref(), tally.count));
        assert_eq!(missed, Some((Some("b"), 7)));
    }
}
