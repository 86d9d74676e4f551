//! Requests between the one who makes them and the one who sends them: bounded, oldest given up first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::encode::Request;
use super::ledger::Ledger;

/// A queue of requests of at most so many bytes. The newest sample is always kept whole, however large it is.
#[derive(Debug)]
pub struct Outbox {
    max_bytes: u64,
    ledger: Arc<Ledger>,
    state: Mutex<State>,
    /// For the one who sends.
    changed: Notify,
    /// For the one who makes requests.
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// The request being sent, without its bytes.
    sending: Option<Sending>,
    /// Of those waiting and the one being sent.
    bytes: u64,
    /// Counts the samples.
    sample: u64,
    /// Whether the last try to send one was in vain.
    stuck: bool,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    /// The sample that it belongs to.
    sample: u64,
}

#[derive(Debug)]
struct Sending {
    points: u64,
    sample: u64,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(max_bytes: u64, ledger: Arc<Ledger>) -> Self {
        Self { max_bytes, ledger, state: Mutex::default(), changed: Notify::new(), moved: Notify::new() }
    }

    /// Says that what is pushed from now on belongs to another sample.
    pub fn begin_sample(&self) {
        self.state().sample += 1;
    }

    /// Adds a request of the newest sample, and gives up the oldest of earlier ones when there is no room.
    pub fn push(&self, request: Request) {
        let mut state = self.state();
        let sample = state.sample;
        state.bytes += size(&request);
        state.waiting.push_back(Waiting { request, sample });
        while state.bytes > self.max_bytes {
            let Some(oldest) = state.waiting.pop_front_if(|waiting| waiting.sample != sample) else { break };
            state.bytes -= size(&oldest.request);
            self.ledger.overflowed.add(oldest.request.points);
        }
        self.ledger.backlog.set(state.bytes);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until everything is settled. Does not wait for a receiver that takes nothing.
    pub async fn drained(&self) {
        loop {
            {
                let state = self.state();
                if (state.waiting.is_empty() && state.sending.is_none()) || state.stuck || state.closed {
                    return;
                }
            }
            self.moved.notified().await;
        }
    }

    /// Says that nothing will be added any more.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
        self.moved.notify_one();
    }

    /// Whether nothing will be added any more.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until something was added, or it was closed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes the oldest request; waits for one, and returns `None` when it is closed and empty.
    pub async fn take(&self) -> Option<Request> {
        loop {
            {
                let mut state = self.state();
                if let Some(Waiting { request, sample }) = state.waiting.pop_front() {
                    state.sending = Some(Sending { points: request.points, sample });
                    drop(state);
                    self.moved.notify_one();
                    return Some(request);
                }
                if state.closed {
                    return None;
                }
            }
            self.changed().await;
        }
    }

    /// Takes back the request that was taken, which is settled, well or ill.
    pub fn settled(&self, request: Request) {
        let mut state = self.state();
        state.bytes -= size(&request);
        // Its memory is free before anybody is told.
        drop(request);
        state.sending = None;
        state.stuck = false;
        self.ledger.backlog.set(state.bytes);
        drop(state);
        self.moved.notify_one();
    }

    /// Puts the request that was taken back to where it was.
    pub fn put_back(&self, request: Request) {
        let mut state = self.state();
        let sample = state.sending.take().map_or(state.sample, |sending| sending.sample);
        state.waiting.push_front(Waiting { request, sample });
        state.stuck = true;
        drop(state);
        self.moved.notify_one();
    }

    /// Gives up what is left, the one being sent included, and says how many points that was. Nothing is sent any more.
    pub fn give_up(&self) -> u64 {
        let mut state = self.state();
        let waiting: u64 = state.waiting.drain(..).map(|waiting| waiting.request.points).sum();
        let points = waiting + state.sending.take().map_or(0, |sending| sending.points);
        state.bytes = 0;
        state.stuck = true;
        self.ledger.backlog.set(0);
        self.ledger.shut_down.add(points);
        drop(state);
        self.moved.notify_one();
        points
    }

    /// How many points wait to be sent.
    pub fn points(&self) -> u64 {
        self.state().waiting.iter().map(|waiting| waiting.request.points).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(request: &Request) -> u64 {
    request.bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    fn request(bytes: usize, points: u64) -> Request {
        Request { bytes: vec![0; bytes].into(), points }
    }

    fn outbox(max_bytes: u64) -> (Outbox, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::new(Timestamp::UNIX_EPOCH));
        (Outbox::new(max_bytes, Arc::clone(&ledger)), ledger)
    }

    /// A sample.
    fn push<const COUNT: usize>(outbox: &Outbox, requests: [Request; COUNT]) {
        outbox.begin_sample();
        for request in requests {
            outbox.push(request);
        }
    }

    #[tokio::test]
    async fn the_oldest_go_first_and_every_point_is_counted() {
        let (outbox, ledger) = outbox(250);
        push(&outbox, [request(100, 1), request(100, 2)]);
        push(&outbox, [request(100, 4)]);
        assert_eq!(ledger.overflowed.get(), 1);
        assert_eq!(ledger.backlog.get(), 200);
        let taken = outbox.take().await.expect("two are left");
        assert_eq!(taken.points, 2);
        outbox.settled(taken);
        assert_eq!(ledger.backlog.get(), 100);
        outbox.close();
        assert_eq!(outbox.give_up(), 4);
        assert_eq!(ledger.shut_down.get(), 4);
        assert!(outbox.take().await.is_none());
    }

    #[tokio::test]
    async fn the_newest_sample_is_kept_whole() {
        let (outbox, ledger) = outbox(10);
        push(&outbox, [request(100, 1)]);
        push(&outbox, [request(100, 2), request(100, 3)]);
        assert_eq!(ledger.overflowed.get(), 1);
        assert_eq!(outbox.points(), 5);
    }

    #[tokio::test]
    async fn what_comes_back_belongs_to_its_sample_still() {
        let (outbox, ledger) = outbox(10);
        push(&outbox, [request(100, 1), request(100, 2)]);
        let taken = outbox.take().await.expect("one is there");
        outbox.put_back(taken);
        outbox.push(request(100, 4));
        assert_eq!((outbox.points(), ledger.overflowed.get()), (7, 0), "all are of the newest sample");
        let taken = outbox.take().await.expect("one is there");
        push(&outbox, [request(100, 8)]);
        outbox.put_back(taken);
        outbox.push(request(100, 16));
        assert_eq!((outbox.points(), ledger.overflowed.get()), (24, 7));
    }

    #[tokio::test]
    async fn it_is_drained_when_all_is_settled_or_nothing_can_be() {
        let (outbox, _) = outbox(250);
        let is_drained = async || tokio::time::timeout(Duration::ZERO, outbox.drained()).await.is_ok();
        assert!(is_drained().await, "nothing was pushed yet");
        push(&outbox, [request(100, 1)]);
        assert!(!is_drained().await, "it waits");
        let taken = outbox.take().await.expect("one is there");
        assert!(!is_drained().await, "it is being sent");
        outbox.settled(taken);
        assert!(is_drained().await);
        push(&outbox, [request(100, 1)]);
        let taken = outbox.take().await.expect("one is there");
        outbox.put_back(taken);
        assert!(is_drained().await, "the receiver takes nothing");
        let taken = outbox.take().await.expect("it is back");
        outbox.settled(taken);
        push(&outbox, [request(100, 1)]);
        assert!(!is_drained().await, "the receiver takes something again");
        outbox.close();
        assert!(is_drained().await);
    }

    #[tokio::test]
    async fn what_is_being_sent_comes_back_to_the_front() {
        let (outbox, ledger) = outbox(250);
        push(&outbox, [request(100, 1)]);
        let taken = outbox.take().await.expect("one is there");
        push(&outbox, [request(100, 2)]);
        outbox.put_back(taken);
        assert_eq!(ledger.backlog.get(), 200);
        assert_eq!(outbox.take().await.expect("it is back").points, 1);
    }
}
