//! Empties the outbox into a receiver: tries again what can be tried again, and says in the log only what changed.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::encode::Request;
use super::grpc::{Answer, Client, Failure, Retry};
use super::ledger::Ledger;
use super::outbox::Outbox;
use crate::backoff::Backoff;
use crate::outage::OutageLog;

const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Sends what is in the outbox until that is closed and empty. Once it is closed, the first failure ends it. What is left
/// then, or when this is cut short, is given up.
pub async fn deliver(outbox: &Outbox, ledger: &Ledger, mut client: Client, receiver: &str) {
    let _rest = Rest { outbox };
    let mut outcomes = Outcomes::new(receiver, ledger);
    let mut failures = 0;
    while let Some(request) = outbox.take().await {
        match client.export(request.bytes.clone()).await {
            Ok(answer) => {
                failures = 0;
                outcomes.succeeded(&request, &answer, outbox);
                outbox.settled(request);
            }
            Err(Failure { reason, retry: None }) => {
                failures = 0;
                outcomes.refused(&request, reason);
                outbox.settled(request);
            }
            Err(Failure { reason, retry: Some(retry) }) => {
                outbox.put_back(request);
                outcomes.failed(&reason);
                if outbox.is_closed() {
                    break;
                }
                pause(outbox, retry_delay(failures, retry)).await;
                failures += 1;
            }
        }
    }
}

/// What is left in the outbox when the delivery ends, however it ends.
struct Rest<'a> {
    outbox: &'a Outbox,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let points = self.outbox.give_up();
        if points > 0 {
            warn!("stopping with {points} points not delivered");
        }
    }
}

/// Waits, but no longer once the outbox is closed.
async fn pause(outbox: &Outbox, length: Duration) {
    let closed = async {
        while !outbox.is_closed() {
            outbox.changed().await;
        }
    };
    // Either is a reason to go on.
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = closed => {}
    }
}

/// Returns how long to wait before the next attempt.
fn retry_delay(failures: u32, retry: Retry) -> Duration {
    let backoff = BACKOFF.delay(failures);
    match retry {
        Retry::WithBackoff => backoff,
        Retry::After(delay) => delay + backoff / 10,
    }
}

/// Logs changes of the receiver's behaviour once, and counts what became of each request.
struct Outcomes<'a> {
    receiver: &'a str,
    ledger: &'a Ledger,
    outage: OutageLog,
    /// [`Ledger::overflowed`] at the start of the outage.
    overflowed_before: u64,
    /// The permanent error of the last request.
    last_refusal: Option<String>,
    /// The message of the last answer.
    last_message: String,
}

impl<'a> Outcomes<'a> {
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

    fn succeeded(&mut self, request: &Request, answer: &Answer, outbox: &Outbox) {
        let (receiver, ledger, points) = (self.receiver, self.ledger, request.points);
        let rejected = answer.rejected.min(points);
        ledger.succeeded.add(1);
        ledger.accepted.add(points - rejected);
        ledger.rejected.add(rejected);
        self.outage.recovered(|| {
            let (waiting, dropped) = (outbox.points(), ledger.overflowed.get() - self.overflowed_before);
            format!("; {waiting} points waiting, {dropped} dropped")
        });
        if self.last_refusal.take().is_some() {
            info!("export to {receiver} succeeds again");
        }
        if answer.message != self.last_message {
            if rejected > 0 {
                warn!("{receiver} rejected {rejected} of {points} points: {}", answer.message);
            } else if !answer.message.is_empty() {
                warn!("{receiver} accepted all points with a warning: {}", answer.message);
            }
            self.last_message.clone_from(&answer.message);
        }
    }

    fn refused(&mut self, request: &Request, reason: String) {
        let (receiver, points) = (self.receiver, request.points);
        self.ledger.failed.add(1);
        self.ledger.refused.add(points);
        if self.last_refusal.as_ref() == Some(&reason) {
            debug!("{receiver} refused another {points} points: {reason}");
        } else {
            warn!(
                "{receiver} refused {points} points, which are dropped: {reason}; \
                 further refusals are only counted in bpf_exporter_otlp_dropped_points"
            );
            self.last_refusal = Some(reason);
        }
    }

    fn failed(&mut self, reason: &str) {
        self.ledger.retryable.add(1);
        if self.outage.failed(reason) {
            self.overflowed_before = self.ledger.overflowed.get();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_given_by_the_receiver_is_the_minimum() {
        let delay = Duration::from_mins(1);
        assert!(retry_delay(0, Retry::After(delay)) >= delay);
    }
}
