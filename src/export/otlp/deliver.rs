//! Empties the outbox into a receiver: tries again what can be tried again, and says in the log only what changed.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::encode::Request;
use super::grpc::{Answer, Client, Failure, Retry};
use super::ledger::Ledger;
use super::outbox::Outbox;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends what is in the outbox until that is closed and empty. Once it is closed, the first failure ends it. What is left
/// then, or when this is cut short, is given up.
pub async fn deliver(outbox: &Outbox, ledger: &Ledger, mut client: Client, receiver: &str) {
    let _rest = Rest { outbox };
    let mut relation = Relation { receiver, lost: None, refusal: None, complaint: String::new() };
    let mut failures = 0;
    while let Some(request) = outbox.take().await {
        match client.export(request.bytes.clone()).await {
            Ok(answer) => {
                failures = 0;
                relation.taken(&request, &answer, ledger, outbox);
                outbox.settled(request);
            }
            Err(Failure { reason, retry: None }) => {
                failures = 0;
                relation.refused(&request, reason, ledger);
                outbox.settled(request);
            }
            Err(Failure { reason, retry: Some(retry) }) => {
                ledger.retryable.add(1);
                outbox.put_back(request);
                relation.lost(&reason, ledger);
                if outbox.is_closed() {
                    break;
                }
                pause(outbox, pause_length(failures, retry)).await;
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

/// Doubles with each failure; between half and all of it, so that a thousand nodes do not come back at once.
fn pause_length(failures: u32, retry: Retry) -> Duration {
    let backoff = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE);
    let jittered = backoff.mul_f64(rand::random_range(0.5..1.0));
    match retry {
        Retry::WithBackoff => jittered,
        Retry::After(delay) => delay + jittered / 10,
    }
}

/// How we stand with the receiver: what was said about it in the log already.
struct Relation<'a> {
    receiver: &'a str,
    /// Since when it cannot be reached, and how many points had been given up for want of room before.
    lost: Option<(Instant, u64)>,
    /// Why it refused the last request.
    refusal: Option<String>,
    /// What it said about the last request that it took.
    complaint: String,
}

impl Relation<'_> {
    fn taken(&mut self, request: &Request, answer: &Answer, ledger: &Ledger, outbox: &Outbox) {
        let rejected = answer.rejected.min(request.points);
        ledger.succeeded.add(1);
        ledger.accepted.add(request.points - rejected);
        ledger.rejected.add(rejected);
        if let Some((since, given_up_before)) = self.lost.take() {
            let (seconds, waiting) = (since.elapsed().as_secs(), outbox.points());
            let given_up = ledger.overflowed.get() - given_up_before;
            info!(
                "{} takes metrics again after {seconds} s; {waiting} points that waited follow, {given_up} were given up",
                self.receiver
            );
        }
        if self.refusal.take().is_some() {
            info!("{} takes metrics again", self.receiver);
        }
        if answer.message != self.complaint {
            if rejected > 0 {
                warn!(
                    "{} did not take {rejected} of {} points: {}",
                    self.receiver, request.points, answer.message
                );
            } else if !answer.message.is_empty() {
                warn!("{} took all points and says: {}", self.receiver, answer.message);
            }
            self.complaint.clone_from(&answer.message);
        }
    }

    fn refused(&mut self, request: &Request, reason: String, ledger: &Ledger) {
        ledger.failed.add(1);
        ledger.refused.add(request.points);
        if self.refusal.as_ref() == Some(&reason) {
            debug!("{} refused {} points again: {reason}", self.receiver, request.points);
        } else {
            warn!(
                "{} refused {} points for good: {reason}; further refusals are only counted",
                self.receiver, request.points
            );
            self.refusal = Some(reason);
        }
        // It answers: whatever it says, it is there.
        self.lost = None;
    }

    fn lost(&mut self, reason: &str, ledger: &Ledger) {
        if self.lost.is_none() {
            warn!("{} does not take metrics: {reason}; trying again until it does", self.receiver);
            self.lost = Some((Instant::now(), ledger.overflowed.get()));
        } else {
            debug!("{} still does not take metrics: {reason}", self.receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        for (failures, longest) in [(0, 1), (1, 2), (4, 16), (5, 30), (40, 30)] {
            let longest = Duration::from_secs(longest);
            for _ in 0..100 {
                let pause = pause_length(failures, Retry::WithBackoff);
                assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn a_receiver_that_names_a_delay_gets_at_least_that() {
        let delay = Duration::from_mins(1);
        assert!(pause_length(0, Retry::After(delay)) >= delay);
    }
}
