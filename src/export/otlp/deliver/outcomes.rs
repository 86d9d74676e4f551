//! Counts of what became of requests, and the log of how a receiver behaves.
//! Entry point: [`OutcomeLog`].
//!
//! The text of a receiver can differ each time; repeats are recognised by the kind of what happened, and logged again after
//! [`REPEAT`] at the earliest, with a count.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::NOT_TAKEN;
use crate::export::otlp::encode::{Items, Request, Signal};
use crate::export::otlp::ledger::Ledger;
use crate::export::otlp::queue::Queue;
use crate::export::otlp::transport::{Answer, Failure, FailureKind};
use crate::outage::OutageLog;

/// How long a repeat of the same kind is only counted.
const REPEAT: Duration = Duration::from_hours(1);

/// Counts the outcome of each request, and logs changes of the receiver's behaviour once.
pub(super) struct OutcomeLog<'a> {
    receiver: &'a str,
    signal: Signal,
    ledger: &'a Ledger,
    outage: OutageLog,
    /// Dropped items when the outage began.
    overflowed_before: u64,
    /// When something of this kind was logged, and how often it happened since.
    logged: HashMap<Kind, (Instant, u64)>,
}

/// What is logged once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Items were rejected from a request that was accepted.
    Rejected,
    /// A request was accepted with a message.
    Warning,
    Refused(FailureKind),
    /// The receiver takes no logs.
    NotTaken,
    /// A request was divided.
    Split,
}

impl<'a> OutcomeLog<'a> {
    pub(super) fn new(receiver: &'a str, signal: Signal, ledger: &'a Ledger) -> Self {
        let operation = match signal {
            Signal::Metrics => "export",
            Signal::Logs => "export of events",
        };
        Self {
            receiver,
            signal,
            ledger,
            outage: OutageLog::new(format!("{operation} to {receiver}")),
            overflowed_before: 0,
            logged: HashMap::new(),
        }
    }

    /// Logs every attempt at debug level.
    pub(super) fn trace(&self, request: &Request, result: &Result<Answer, Failure>, duration: Duration) {
        let (receiver, items, bytes) = (self.receiver, request.items, request.size());
        match result {
            Ok(Answer { rejected: 0, message }) if message.is_empty() => {
                debug!("{receiver} accepted {items}, {bytes} bytes in {duration:?}");
            }
            Ok(Answer { rejected, message }) => {
                debug!("{receiver} rejected {rejected} of {items}, {bytes} bytes in {duration:?}: {message}");
            }
            Err(failure) => {
                debug!("{receiver} did not accept {items}, {bytes} bytes in {duration:?}: {failure}");
            }
        }
    }

    pub(super) fn accepted(&mut self, items: Items, answer: &Answer, queue: &Queue) {
        let (receiver, signal, ledger) = (self.receiver, self.signal, self.ledger);
        let rejected = answer.rejected.min(items.count);
        let counts = ledger.of(items.signal);
        counts.succeeded.add(1);
        counts.accepted.add(items.count - rejected);
        counts.rejected.add(rejected);
        self.outage.recovered(|| {
            let waiting = Items { signal, count: queue.waiting() };
            let dropped = ledger.of(signal).overflowed.get() - self.overflowed_before;
            format!("; {waiting} waiting, {dropped} dropped")
        });
        let message = &answer.message;
        if rejected > 0 {
            self.warn(Kind::Rejected, || format!("{receiver} rejected {rejected} of {items}: {message}"));
        } else if !message.is_empty() {
            self.warn(Kind::Warning, || format!("{receiver} accepted all {items} with a warning: {message}"));
        }
    }

    pub(super) fn refused(&mut self, items: Items, kind: FailureKind, reason: &str) {
        // The receiver answers, so the outage is over.
        self.outage.end();
        let counts = self.ledger.of(items.signal);
        counts.failed.add(1);
        counts.refused.add(items.count);
        let (receiver, metric) = (self.receiver, items.signal.dropped_metric());
        self.warn(Kind::Refused(kind), || {
            format!("{receiver} refused {items}, which are dropped: {reason}; see {metric}")
        });
    }

    /// As [`Self::refused`] by a receiver that takes no logs, or as [`Self::failed`] if that may pass.
    pub(super) fn not_taken(&mut self, items: Items, reason: &str, may_pass: bool) {
        self.outage.end();
        let counts = self.ledger.of(items.signal);
        if may_pass {
            counts.retryable.add(1);
        } else {
            counts.failed.add(1);
            counts.refused.add(items.count);
        }
        let (receiver, metric) = (self.receiver, items.signal.dropped_metric());
        self.warn(Kind::NotTaken, || {
            format!(
                "{receiver} takes no logs: {reason}; if that does not change within {} minutes, events are dropped and counted \
                 in {metric}, and it is tried again as often; OTEL_EXPORTER_OTLP_LOGS_ENDPOINT sends them elsewhere, \
                 --no-event-logs nowhere",
                NOT_TAKEN.as_secs() / 60
            )
        });
    }

    /// Counts a request that was refused, and is sent with another compression at once.
    pub(super) fn repeated(&self, items: Items) {
        self.ledger.of(items.signal).retryable.add(1);
    }

    /// Logs that the receiver accepts gzip, but not Zstandard.
    pub(super) fn takes_no_zstd(&self, reason: &str) {
        let (receiver, items) = (self.receiver, self.signal.items());
        info!(
            "{receiver} accepts {items} with gzip but not with zstd, which is tried again once an hour unless \
             --otlp-compression is set: {reason}"
        );
    }

    /// Counts what is not sent to a receiver that takes no logs.
    pub(super) fn skipped(&self, items: Items) {
        self.ledger.of(items.signal).refused.add(items.count);
    }

    pub(super) fn split(&mut self, items: Items, bytes: u64, reason: &str) {
        // The receiver answers, so the outage is over.
        self.outage.end();
        self.ledger.of(items.signal).split.add(1);
        let receiver = self.receiver;
        self.warn(Kind::Split, || {
            format!(
                "{receiver} refused {items} in {bytes} bytes as too large: {reason}; they are sent in parts, and later \
                 requests are smaller; lower --otlp-max-request-bytes, or raise the receiver's limit"
            )
        });
    }

    /// Counts a failure after which the request is sent again.
    pub(super) fn failed(&mut self, items: Items, reason: impl std::fmt::Display) {
        self.ledger.of(items.signal).retryable.add(1);
        if self.outage.failed(reason) {
            self.overflowed_before = self.ledger.of(self.signal).overflowed.get();
        }
    }

    fn warn(&mut self, kind: Kind, line: impl FnOnce() -> String) {
        let now = Instant::now();
        match self.logged.get_mut(&kind) {
            None => {
                warn!("{}; repeats are logged once an hour", line());
                self.logged.insert(kind, (now, 0));
            }
            Some((last, repeats)) if now.duration_since(*last) < REPEAT => {
                *repeats += 1;
                debug!("{}", line());
            }
            Some((last, repeats)) => {
                warn!("{}; {repeats} times more since the last such line", line());
                (*last, *repeats) = (now, 0);
            }
        }
    }

    /// Logs the end of the delivery.
    pub(super) fn ended(receiver: &str, signal: Signal, dropped: u64, kept: u64) {
        let items = |count| Items { signal, count };
        if dropped > 0 {
            warn!("stopping with {} for {receiver} not delivered", items(dropped));
        }
        if kept > 0 {
            info!("stopping with {} for {receiver} kept on disk for the next start", items(kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::model::BootTime;

    #[tokio::test(start_paused = true)]
    async fn repeats_are_recognised_by_kind_whatever_the_text() {
        let ledger = Ledger::new("the receiver", BootTime::default());
        let mut log = OutcomeLog::new("the receiver", Signal::Metrics, &ledger);
        let items = Items { signal: Signal::Metrics, count: 1 };
        for number in 0..5 {
            log.refused(items, FailureKind::Grpc(Code::InvalidArgument), &format!("series {number}"));
        }
        log.refused(items, FailureKind::Http(400), "another kind");
        let counted =
            |log: &OutcomeLog<'_>, kind| log.logged.get(&Kind::Refused(kind)).map(|(_, repeats)| *repeats);
        assert_eq!(counted(&log, FailureKind::Grpc(Code::InvalidArgument)), Some(4), "one was logged");
        assert_eq!(counted(&log, FailureKind::Http(400)), Some(0));
        tokio::time::advance(REPEAT).await;
        log.refused(items, FailureKind::Grpc(Code::InvalidArgument), "series 5");
        assert_eq!(counted(&log, FailureKind::Grpc(Code::InvalidArgument)), Some(0), "it is logged again");
        assert_eq!((log.logged.len(), ledger.metrics.refused.get()), (2, 7));
    }
}
