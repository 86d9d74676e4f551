//! Delivery of one queue to one receiver: retries what is retryable, counts every outcome, and logs changes once.
//! Entry point: [`deliver`].

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::encode::Request;
use super::ledger::Ledger;
use super::queue::MemoryQueue;
use super::transport::{Answer, Failure, FailureKind, Remedy, Retry, Transport};
use crate::backoff::Backoff;
use crate::outage::OutageLog;

const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };

/// The longest delay that a receiver can demand: a mistake of it must not end the export for good.
const MAX_DEMANDED_DELAY: Duration = Duration::from_mins(10);

/// Sends the requests of the queue until it is closed and empty. Once it is closed, ends at the first failure. Drops what is
/// left then, or when the delivery is cancelled.
pub async fn deliver(queue: &MemoryQueue, ledger: &Ledger, mut transport: Transport, receiver: &str) {
    let _guard = ShutDownGuard { queue };
    let mut outcomes = OutcomeLog::new(receiver, ledger);
    let mut failures = 0;
    while let Some(request) = queue.front().await {
        let start = Instant::now();
        let result = transport.export(&request).await;
        outcomes.trace(&request, &result, start.elapsed());
        let Some(retry) = settle(queue, &mut outcomes, request, result) else {
            failures = 0;
            continue;
        };
        if queue.is_closed() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(retry_delay(failures, retry)) => {}
            () = queue.closed() => {}
        }
        failures += 1;
    }
}

/// Counts and logs the outcome of an attempt, then acknowledges the request. Returns when to retry it, if at all.
fn settle(
    queue: &MemoryQueue,
    outcomes: &mut OutcomeLog<'_>,
    request: Arc<Request>,
    result: Result<Answer, Failure>,
) -> Option<Retry> {
    match result {
        Ok(answer) => outcomes.succeeded(&request, &answer, queue),
        Err(Failure { kind, reason, remedy: Remedy::Split | Remedy::Drop }) => {
            outcomes.refused(&request, kind, &reason);
        }
        Err(Failure { reason, remedy: Remedy::Retry(retry), .. }) => {
            outcomes.failed(&request, &reason);
            queue.retry();
            return Some(retry);
        }
    }
    // The producer reuses the buffer as soon as the request is done.
    drop(request);
    queue.done();
    None
}

/// Drops the rest of the queue when the delivery ends or is cancelled.
struct ShutDownGuard<'a> {
    queue: &'a MemoryQueue,
}

impl Drop for ShutDownGuard<'_> {
    fn drop(&mut self) {
        let points = self.queue.shut_down();
        if points > 0 {
            warn!("stopping with {points} points not delivered");
        }
    }
}

/// Returns how long to wait before the next attempt.
fn retry_delay(failures: u32, retry: Retry) -> Duration {
    let backoff = BACKOFF.delay(failures);
    match retry {
        Retry::WithBackoff => backoff,
        Retry::After(delay) => delay.min(MAX_DEMANDED_DELAY) + backoff / 10,
    }
}

/// Counts the outcome of each request, and logs changes of the receiver's behaviour once.
struct OutcomeLog<'a> {
    receiver: &'a str,
    ledger: &'a Ledger,
    outage: OutageLog,
    /// Dropped items when the outage began.
    overflowed_before: u64,
    /// The permanent error of the last request.
    last_refusal: Option<FailureKind>,
    /// The message of the last answer.
    last_message: String,
}

impl<'a> OutcomeLog<'a> {
    fn new(receiver: &'a str, ledger: &'a Ledger) -> Self {
        Self {
            receiver,
            ledger,
            outage: OutageLog::new(format!("export to {receiver}")),
            overflowed_before: 0,
            last_refusal: None,
            last_message: String::new(),
        }
    }

    /// Logs every attempt at debug level.
    fn trace(&self, request: &Request, result: &Result<Answer, Failure>, duration: Duration) {
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

    fn succeeded(&mut self, request: &Request, answer: &Answer, queue: &MemoryQueue) {
        let (receiver, ledger, items) = (self.receiver, self.ledger, request.items);
        let rejected = answer.rejected.min(items.count);
        let counts = ledger.of(items.signal);
        counts.succeeded.add(1);
        counts.accepted.add(items.count - rejected);
        counts.rejected.add(rejected);
        self.outage.recovered(|| {
            let (waiting, dropped) = (queue.waiting(), ledger.overflowed() - self.overflowed_before);
            format!("; {waiting} points waiting, {dropped} dropped")
        });
        if self.last_refusal.take().is_some() {
            info!("export to {receiver} succeeds again");
        }
        if answer.message != self.last_message {
            if rejected > 0 {
                warn!("{receiver} rejected {rejected} of {items}: {}", answer.message);
            } else if !answer.message.is_empty() {
                warn!("{receiver} accepted all {items} with a warning: {}", answer.message);
            }
            self.last_message.clone_from(&answer.message);
        }
    }

    fn refused(&mut self, request: &Request, kind: FailureKind, reason: &str) {
        // The receiver answers, so the outage is over.
        self.outage.end();
        let (receiver, items) = (self.receiver, request.items);
        let counts = self.ledger.of(items.signal);
        counts.failed.add(1);
        counts.refused.add(items.count);
        if self.last_refusal == Some(kind) {
            debug!("{receiver} refused another {items}: {reason}");
        } else {
            warn!(
                "{receiver} refused {items}, which are dropped: {reason}; \
                 further refusals are only counted in bpf_exporter_otlp_dropped_points"
            );
            self.last_refusal = Some(kind);
        }
    }

    fn failed(&mut self, request: &Request, reason: &str) {
        self.ledger.of(request.items.signal).retryable.add(1);
        if self.outage.failed(reason) {
            self.overflowed_before = self.ledger.overflowed();
        }
    }
}
