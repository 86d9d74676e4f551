//! Queue in memory, bounded in bytes.
//! Entry point: [`MemoryQueue`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::export::otlp::encode::Request;
use crate::export::otlp::ledger::Ledger;

/// Requests of at most `max_bytes`, oldest first. The newest sample is always kept complete, whatever its size.
#[derive(Debug)]
pub struct MemoryQueue {
    max_bytes: u64,
    ledger: Arc<Ledger>,
    state: Mutex<QueueState>,
    /// Wakes the delivery.
    pushed: Notify,
    /// Wakes the producer.
    settled: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    requests: VecDeque<QueuedRequest>,
    /// Size of `requests`.
    bytes: u64,
    /// True if the first request is being sent.
    in_flight: bool,
    /// True if the last attempt failed and no request was settled since.
    backing_off: bool,
    /// Number of the newest sample.
    sample: u64,
    closed: bool,
}

#[derive(Debug)]
struct QueuedRequest {
    request: Arc<Request>,
    sample: u64,
}

impl MemoryQueue {
    /// Returns an empty queue that counts dropped requests and its size in `ledger`.
    #[must_use]
    pub fn new(max_bytes: u64, ledger: Arc<Ledger>) -> Self {
        Self { max_bytes, ledger, state: Mutex::default(), pushed: Notify::new(), settled: Notify::new() }
    }

    /// Starts a sample: requests pushed from now on belong to it.
    pub fn begin_sample(&self) {
        self.state().sample += 1;
    }

    /// Adds a request of the newest sample. Above `max_bytes`, drops the oldest requests of earlier samples that are not in
    /// flight.
    pub fn push(&self, request: Arc<Request>) {
        let mut state = self.state();
        let sample = state.sample;
        state.bytes += request.size();
        state.requests.push_back(QueuedRequest { request, sample });
        let droppable = usize::from(state.in_flight);
        while state.bytes > self.max_bytes && state.requests[droppable].sample != sample {
            let Some(QueuedRequest { request, .. }) = state.requests.remove(droppable) else { break };
            state.bytes -= request.size();
            self.ledger.of(request.items.signal).overflowed.add(request.items.count);
        }
        self.ledger.backlog.set(state.bytes);
        drop(state);
        self.pushed.notify_one();
    }

    /// Waits until all requests are settled, the delivery backs off, or the queue is closed.
    pub async fn drained(&self) {
        loop {
            {
                let state = self.state();
                if state.requests.is_empty() || state.backing_off || state.closed {
                    return;
                }
            }
            self.settled.notified().await;
        }
    }

    /// Closes the queue: nothing is pushed from now on.
    pub fn close(&self) {
        self.state().closed = true;
        self.pushed.notify_one();
        self.settled.notify_one();
    }

    /// Returns true once the queue is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until the queue is closed.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.pushed.notified().await;
        }
    }

    /// Waits for the oldest request, marks it in flight and returns it; `None` when the queue is closed and empty. Returns the
    /// same request until [`done`](Self::done) or [`retry`](Self::retry) is called.
    pub async fn front(&self) -> Option<Arc<Request>> {
        loop {
            {
                let mut state = self.state();
                if let Some(first) = state.requests.front() {
                    let request = Arc::clone(&first.request);
                    state.in_flight = true;
                    return Some(request);
                }
                if state.closed {
                    return None;
                }
            }
            self.pushed.notified().await;
        }
    }

    /// Removes the request in flight, delivered or refused. The caller drops its reference first, so that the producer, which
    /// this wakes, finds the buffer free.
    pub fn done(&self) {
        let mut state = self.state();
        if !state.in_flight {
            return;
        }
        if let Some(QueuedRequest { request, .. }) = state.requests.pop_front() {
            state.bytes -= request.size();
        }
        state.in_flight = false;
        state.backing_off = false;
        self.ledger.backlog.set(state.bytes);
        drop(state);
        self.settled.notify_one();
    }

    /// Leaves the request in flight in its place, to be sent again later.
    pub fn retry(&self) {
        let mut state = self.state();
        state.in_flight = false;
        state.backing_off = true;
        drop(state);
        self.settled.notify_one();
    }

    /// Drops all requests, including the one in flight, and returns how many items they have.
    pub fn shut_down(&self) -> u64 {
        let mut state = self.state();
        let mut dropped = 0;
        for QueuedRequest { request, .. } in state.requests.drain(..) {
            self.ledger.of(request.items.signal).shut_down.add(request.items.count);
            dropped += request.items.count;
        }
        state.bytes = 0;
        state.in_flight = false;
        state.backing_off = true;
        self.ledger.backlog.set(0);
        drop(state);
        self.settled.notify_one();
        dropped
    }

    /// Returns how many items wait, without those in flight.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let state = self.state();
        state
            .requests
            .iter()
            .skip(usize::from(state.in_flight))
            .map(|queued| queued.request.items.count)
            .sum()
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::export::otlp::encode::{Items, Signal};
    use crate::export::otlp::settings::Compression;
    use crate::model::BootTime;

    fn request(bytes: usize, count: u64) -> Request {
        Request {
            bytes: vec![0; bytes].into(),
            compression: Compression::None,
            items: Items { signal: Signal::Metrics, count },
        }
    }

    fn queue(max_bytes: u64) -> (MemoryQueue, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::new(BootTime::default()));
        (MemoryQueue::new(max_bytes, Arc::clone(&ledger)), ledger)
    }

    fn push_sample<const COUNT: usize>(queue: &MemoryQueue, requests: [Request; COUNT]) {
        queue.begin_sample();
        for request in requests {
            queue.push(Arc::new(request));
        }
    }

    async fn front_count(queue: &MemoryQueue) -> u64 {
        queue.front().await.expect("the queue is not empty").items.count
    }

    #[tokio::test]
    async fn oldest_requests_are_dropped_first_and_every_point_is_counted() {
        let (queue, ledger) = queue(250);
        push_sample(&queue, [request(100, 1), request(100, 2)]);
        push_sample(&queue, [request(100, 4)]);
        assert_eq!(ledger.metrics.overflowed.get(), 1);
        assert_eq!(ledger.backlog.get(), 200);
        assert_eq!(front_count(&queue).await, 2);
        queue.done();
        assert_eq!(ledger.backlog.get(), 100);
        queue.close();
        assert_eq!(queue.shut_down(), 4);
        assert_eq!(ledger.metrics.shut_down.get(), 4);
        assert!(queue.front().await.is_none());
    }

    #[tokio::test]
    async fn the_newest_sample_is_kept_complete() {
        let (queue, ledger) = queue(10);
        push_sample(&queue, [request(100, 1)]);
        push_sample(&queue, [request(100, 2), request(100, 3)]);
        assert_eq!(ledger.metrics.overflowed.get(), 1);
        assert_eq!(queue.waiting(), 5);
    }

    #[tokio::test]
    async fn a_request_to_retry_still_belongs_to_its_sample() {
        let (queue, ledger) = queue(10);
        push_sample(&queue, [request(100, 1), request(100, 2)]);
        assert_eq!(front_count(&queue).await, 1);
        queue.retry();
        queue.push(Arc::new(request(100, 4)));
        assert_eq!(
            (queue.waiting(), ledger.metrics.overflowed.get()),
            (7, 0),
            "all are of the newest sample"
        );
        assert_eq!(front_count(&queue).await, 1);
        push_sample(&queue, [request(100, 8)]);
        assert_eq!((queue.waiting(), ledger.metrics.overflowed.get()), (8, 6), "the first is in flight");
        queue.retry();
        queue.push(Arc::new(request(100, 16)));
        assert_eq!((queue.waiting(), ledger.metrics.overflowed.get()), (24, 7));
    }

    #[tokio::test]
    async fn a_queue_is_drained_when_all_is_settled_or_the_delivery_backs_off() {
        let (queue, _) = queue(250);
        let is_drained = async || tokio::time::timeout(Duration::ZERO, queue.drained()).await.is_ok();
        assert!(is_drained().await, "nothing was pushed yet");
        push_sample(&queue, [request(100, 1)]);
        assert!(!is_drained().await, "it waits");
        assert_eq!(front_count(&queue).await, 1);
        assert!(!is_drained().await, "it is in flight");
        queue.done();
        assert!(is_drained().await);
        push_sample(&queue, [request(100, 1)]);
        assert_eq!(front_count(&queue).await, 1);
        queue.retry();
        assert!(is_drained().await, "the receiver accepts nothing");
        assert_eq!(front_count(&queue).await, 1);
        queue.done();
        push_sample(&queue, [request(100, 1)]);
        assert!(!is_drained().await, "the receiver accepts requests again");
        queue.close();
        assert!(is_drained().await);
    }

    #[tokio::test]
    async fn a_request_to_retry_is_the_first_again() {
        let (queue, ledger) = queue(250);
        push_sample(&queue, [request(100, 1)]);
        assert_eq!(front_count(&queue).await, 1);
        push_sample(&queue, [request(100, 2)]);
        queue.retry();
        assert_eq!(ledger.backlog.get(), 200);
        assert_eq!(front_count(&queue).await, 1);
    }

    #[tokio::test]
    async fn a_cancelled_delivery_leaves_its_request_in_the_queue() {
        let (queue, ledger) = queue(100);
        push_sample(&queue, [request(100, 1)]);
        drop(queue.front().await);
        push_sample(&queue, [request(100, 2)]);
        assert_eq!(front_count(&queue).await, 1, "in flight, hence not dropped");
        queue.done();
        queue.done();
        assert_eq!(front_count(&queue).await, 2, "only what is in flight is removed");
        assert_eq!((ledger.metrics.overflowed.get(), ledger.backlog.get()), (0, 100));
    }

    #[tokio::test]
    async fn settled_requests_release_their_buffer() {
        let (queue, _) = queue(100);
        let sent = Arc::new(request(100, 1));
        queue.begin_sample();
        queue.push(Arc::clone(&sent));
        drop(queue.front().await);
        queue.done();
        assert_eq!(Arc::strong_count(&sent), 1);
    }
}
