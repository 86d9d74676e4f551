//! Delivery of one queue to one receiver: retries what is retryable, divides what is too large, and counts every outcome.
//! Entry point: [`deliver`].

mod negotiation;
mod outcomes;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::negotiation::Negotiation;
use self::outcomes::OutcomeLog;
use super::encode::{Compressor, Items, Request, Signal, halves, plain, plain_size};
use super::ledger::Ledger;
use super::queue::{Front, Queue};
use super::settings::{Compression, CompressionPolicy};
use super::transport::{Answer, Failure, FailureKind, Remedy, Retry, Transport};
use crate::backoff::Backoff;

/// The first delay after a failure.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// The longest delay of the sender's own. A receiver gets no more attempts than it would get readings, so it is no longer than the
/// interval, either: after an outage, the newest reading is not late by more.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The longest delay that a receiver can demand: a mistake of it must not end the export for good.
const MAX_DEMANDED_DELAY: Duration = Duration::from_mins(10);

/// The smallest size of requests that a receiver can demand, before compression: it concerns all destinations.
const MIN_REQUEST: u64 = 64 << 10;

/// How many requests below [`MIN_REQUEST`] are divided although the receiver accepts none: one that refuses everything as too large
/// would otherwise get each point by itself, again and again.
const MAX_SMALL_REFUSALS: u32 = 64;

/// How long a receiver that has accepted no logs has to answer that it takes none until that is believed, and how long it is sent none
/// then. A proxy answers so, too, while the receiver behind it is replaced.
const NOT_TAKEN: Duration = Duration::from_mins(10);

/// The size at which requests are split, lowered when a receiver refuses one as too large. Shared by the producer and the
/// deliveries that it serves.
#[derive(Debug)]
pub struct RequestLimit(AtomicU64);

impl RequestLimit {
    /// Returns a limit of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(AtomicU64::new(bytes as u64))
    }

    /// Returns the limit in bytes.
    #[must_use]
    pub fn get(&self) -> usize {
        usize::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    fn lower(&self, bytes: u64) {
        self.0.fetch_min(bytes.max(MIN_REQUEST), Ordering::Relaxed);
    }
}

/// Settings of a delivery.
#[derive(Debug)]
pub struct DeliverySettings {
    /// The receiver, for the log.
    pub receiver: String,
    /// How it gets requests.
    pub compression: CompressionPolicy,
    /// Time between two readings.
    pub interval: Duration,
    /// Lowered when the receiver refuses a request as too large.
    pub max_request: Arc<RequestLimit>,
}

/// Sends the requests of the queue until it is closed and empty. Once it is closed, ends at the first failure. Drops what is
/// left then, or when the delivery is cancelled, unless it is on disk.
pub async fn deliver(
    queue: &Arc<Queue>,
    ledger: &Ledger,
    mut transport: Transport,
    settings: DeliverySettings,
) {
    let _guard = ShutDownGuard { queue, receiver: &settings.receiver };
    let mut delivery = Delivery::new(queue, ledger, &settings);
    let mut failures = 0;
    while let Some(front) = queue.front(delivery.parts.of).await {
        let Some(request) = delivery.next_part(front) else { continue };
        if delivery.skips() {
            delivery.skip(request);
            continue;
        }
        let (start, connections) = (Instant::now(), transport.connections());
        let result = transport.export(&request).await;
        if transport.connections() != connections {
            queue.may_lack();
            delivery.negotiation.reconnected();
        }
        delivery.outcomes.trace(&request, &result, start.elapsed());
        let Some(delay) = delivery.settle(request, result, failures) else {
            failures = 0;
            continue;
        };
        if queue.is_closed() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = queue.closed() => {}
        }
        failures += 1;
    }
    queue.flush().await;
}

/// Drops the rest of the queue when the delivery ends or is cancelled.
struct ShutDownGuard<'a> {
    queue: &'a Queue,
    receiver: &'a str,
}

impl Drop for ShutDownGuard<'_> {
    fn drop(&mut self) {
        let rest = self.queue.shut_down();
        OutcomeLog::ended(self.receiver, self.queue.signal(), rest.dropped, rest.kept);
    }
}

/// State of a delivery.
struct Delivery<'a> {
    queue: &'a Arc<Queue>,
    outcomes: OutcomeLog<'a>,
    settings: &'a DeliverySettings,
    backoff: Backoff,
    parts: Parts,
    negotiation: Negotiation,
    compressor: Compressor,
    /// Plain size of the smallest request that the receiver refused as too large, halved.
    limit: Option<u64>,
    /// Requests below [`MIN_REQUEST`] refused as too large since the last one that was accepted.
    small_refusals: u32,
    /// Whether the receiver has accepted a request: then it takes this signal.
    has_accepted: bool,
    /// Since when it has given no other answer than that it takes no logs.
    not_taken_since: Option<tokio::time::Instant>,
    /// Until then it is sent none.
    skips_until: Option<tokio::time::Instant>,
}

/// What is left to send of the request at the front of the queue: itself, or its parts.
#[derive(Default)]
struct Parts {
    /// Id of the request in the queue.
    of: Option<u64>,
    left: VecDeque<Request>,
    /// True if a part was accepted.
    accepted: bool,
}

impl<'a> Delivery<'a> {
    fn new(queue: &'a Arc<Queue>, ledger: &'a Ledger, settings: &'a DeliverySettings) -> Self {
        let max = settings.interval.clamp(MIN_BACKOFF, MAX_BACKOFF);
        Self {
            queue,
            outcomes: OutcomeLog::new(&settings.receiver, queue.signal(), ledger),
            settings,
            backoff: Backoff { min: MIN_BACKOFF, max },
            parts: Parts::default(),
            negotiation: Negotiation::new(settings.compression),
            compressor: Compressor::default(),
            limit: None,
            small_refusals: 0,
            has_accepted: false,
            not_taken_since: None,
            skips_until: None,
        }
    }

    /// Returns what to send next; `None` if the request at the front cannot be read and is settled.
    fn next_part(&mut self, front: Front) -> Option<Request> {
        let compression = self.agreed_compression();
        if let Some(request) = front.request {
            let items = request.items;
            match self.prepare(request, compression) {
                Ok(left) => self.parts = Parts { of: Some(front.id), left, accepted: false },
                Err(error) => {
                    self.queue.unreadable(items, &error);
                    self.done();
                    return None;
                }
            }
        }
        let Some(next) = self.parts.left.front_mut() else {
            self.done();
            return None;
        };
        if !self.negotiation.allows(next.compression) {
            match plain(next) {
                Ok(plain) => *next = self.compressor.compressed(&plain, compression),
                Err(error) => {
                    let items = next.items;
                    self.queue.unreadable(items, &error);
                    self.part_done(items);
                    return None;
                }
            }
        }
        Some(next.clone())
    }

    /// Returns the compression that the receiver gets, which the queue uses from now on.
    fn agreed_compression(&mut self) -> Compression {
        let compression = self.negotiation.compression();
        self.queue.set_compression(compression);
        compression
    }

    /// Brings a request into the sizes that the receiver takes.
    fn prepare(&mut self, request: Request, compression: Compression) -> io::Result<VecDeque<Request>> {
        let is_too_large =
            self.limit.is_some_and(|limit| plain_size(&request).is_some_and(|size| size > limit));
        if !is_too_large {
            return Ok(VecDeque::from([request]));
        }
        let mut fitting = VecDeque::new();
        let mut rest = vec![plain(&request)?];
        while let Some(request) = rest.pop() {
            let is_too_large = self.limit.is_some_and(|limit| request.size() > limit);
            match halves(&request).filter(|_| is_too_large) {
                Some([first, second]) => rest.extend([second, first]),
                None => fitting.push_back(self.compressor.compressed(&request, compression)),
            }
        }
        Ok(fitting)
    }

    /// Counts and logs the outcome of an attempt. Returns how long to wait before the next one if the request is to be sent again.
    fn settle(
        &mut self,
        request: Request,
        result: Result<Answer, Failure>,
        failures: u32,
    ) -> Option<Duration> {
        let (items, form) = (request.items, request.compression);
        let is_repeated = match &result {
            Ok(_) => {
                self.negotiation.accepted(form);
                false
            }
            Err(failure) => self.negotiation.failed(form, failure),
        };
        self.agreed_compression();
        if let Some(reason) = self.negotiation.take_conclusion() {
            self.outcomes.takes_no_zstd(&reason);
        }
        if is_repeated {
            self.outcomes.repeated(items);
            return None;
        }
        let not_taken_since = self.not_taken_since.take();
        match result {
            Ok(answer) => {
                self.outcomes.accepted(items, &answer, self.queue);
                if answer.rejected > 0 {
                    self.queue.may_lack();
                }
                self.parts.accepted = true;
                self.has_accepted = true;
                self.small_refusals = 0;
            }
            Err(Failure { remedy: Remedy::Retry(retry), reason, .. }) => {
                let delay = retry_delay(self.backoff, failures, retry);
                self.outcomes.failed(items, Reason { reason: &reason, retry });
                self.queue.retry();
                return Some(delay);
            }
            Err(Failure { remedy: Remedy::Split, kind, reason }) => {
                if self.split(&request, &reason) {
                    return None;
                }
                self.refused(items, kind, &reason);
            }
            Err(Failure { remedy: Remedy::Drop, kind, reason })
                if items.signal == Signal::Logs && kind.is_not_served() =>
            {
                let now = tokio::time::Instant::now();
                let since = *self.not_taken_since.insert(not_taken_since.unwrap_or(now));
                let may_pass = self.has_accepted || since.elapsed() < NOT_TAKEN;
                if self.has_accepted {
                    self.outcomes.failed(items, &reason);
                } else {
                    self.outcomes.not_taken(items, &reason, may_pass);
                }
                if may_pass {
                    self.queue.retry();
                    return Some(self.backoff.delay(failures));
                }
                self.skips_until = Some(now + NOT_TAKEN);
            }
            Err(Failure { remedy: Remedy::Drop, kind, reason }) => self.refused(items, kind, &reason),
        }
        // The producer reuses the buffer as soon as the request is done.
        drop(request);
        self.part_done(items);
        None
    }

    fn refused(&mut self, items: Items, kind: FailureKind, reason: &str) {
        self.outcomes.refused(items, kind, reason);
        self.queue.may_lack();
    }

    /// Returns whether the receiver is known to take no logs.
    fn skips(&mut self) -> bool {
        self.skips_until.take_if(|until| *until <= tokio::time::Instant::now());
        self.skips_until.is_some()
    }

    /// Drops a request that the receiver would not take.
    fn skip(&mut self, request: Request) {
        let items = request.items;
        self.outcomes.skipped(items);
        drop(request);
        self.part_done(items);
    }

    /// Divides the request that was sent last; returns false if it cannot be divided.
    fn split(&mut self, request: &Request, reason: &str) -> bool {
        let size = plain_size(request).unwrap_or_else(|| request.size());
        if size < MIN_REQUEST {
            self.small_refusals = self.small_refusals.saturating_add(1);
        }
        if self.small_refusals > MAX_SMALL_REFUSALS {
            return false;
        }
        let Some(halves) = halves(request) else { return false };
        self.outcomes.split(request.items, size, reason);
        let limit = self.limit.unwrap_or(u64::MAX).min(size / 2).max(MIN_REQUEST);
        self.limit = Some(limit);
        self.settings.max_request.lower(limit);
        self.parts.left.pop_front();
        let compression = self.negotiation.compression();
        for half in halves.into_iter().rev() {
            self.parts.left.push_front(self.compressor.compressed(&half, compression));
        }
        true
    }

    fn part_done(&mut self, items: Items) {
        self.parts.left.pop_front();
        if self.parts.left.is_empty() {
            self.done();
        } else {
            self.queue.done_in_part(items);
        }
    }

    fn done(&mut self) {
        let accepted = std::mem::take(&mut self.parts).accepted;
        self.queue.done(accepted);
    }
}

/// Returns how long to wait before the next attempt.
fn retry_delay(backoff: Backoff, failures: u32, retry: Retry) -> Duration {
    let backoff = backoff.delay(failures);
    match retry {
        Retry::WithBackoff => backoff,
        Retry::After(delay) => delay.min(MAX_DEMANDED_DELAY) + backoff / 10,
    }
}

/// Why an attempt failed, and the delay that the receiver demands.
struct Reason<'a> {
    reason: &'a str,
    retry: Retry,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        match self.retry {
            Retry::After(delay) if delay > MAX_DEMANDED_DELAY => write!(
                f,
                "; the receiver demands a delay of {} s, of which {} s are used",
                delay.as_secs(),
                MAX_DEMANDED_DELAY.as_secs()
            ),
            Retry::After(delay) => write!(f, "; the receiver demands a delay of {} s", delay.as_secs_f64()),
            Retry::WithBackoff => Ok(()),
        }
    }
}
