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
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    /// Of those waiting and the one being sent.
    bytes: u64,
    /// Points of the one being sent.
    sending: u64,
    closed: bool,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(max_bytes: u64, ledger: Arc<Ledger>) -> Self {
        Self { max_bytes, ledger, state: Mutex::default(), changed: Notify::new() }
    }

    /// Adds the requests of a sample, and gives up the oldest ones that there is no room for.
    pub fn push(&self, requests: Vec<Request>) {
        let mut state = self.state();
        let newest = requests.len();
        state.bytes += requests.iter().map(size).sum::<u64>();
        state.waiting.extend(requests);
        while state.bytes > self.max_bytes && state.waiting.len() > newest {
            let Some(oldest) = state.waiting.pop_front() else { break };
            state.bytes -= size(&oldest);
            self.ledger.overflowed.add(oldest.points);
        }
        self.ledger.backlog.set(state.bytes);
        drop(state);
        self.changed.notify_one();
    }

    /// Says that nothing will be added any more.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
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
                if let Some(request) = state.waiting.pop_front() {
                    state.sending = request.points;
                    return Some(request);
                }
                if state.closed {
                    return None;
                }
            }
            self.changed().await;
        }
    }

    /// Says that the request that was taken is settled, well or ill.
    pub fn settled(&self, request: &Request) {
        let mut state = self.state();
        state.bytes -= size(request);
        state.sending = 0;
        self.ledger.backlog.set(state.bytes);
    }

    /// Puts the request that was taken back to where it was.
    pub fn put_back(&self, request: Request) {
        let mut state = self.state();
        state.sending = 0;
        state.waiting.push_front(request);
    }

    /// Gives up what is left, the one being sent included, and says how many points that was.
    pub fn give_up(&self) -> u64 {
        let mut state = self.state();
        let waiting: u64 = state.waiting.drain(..).map(|request| request.points).sum();
        let points = waiting + std::mem::take(&mut state.sending);
        state.bytes = 0;
        self.ledger.backlog.set(0);
        self.ledger.shut_down.add(points);
        points
    }

    /// How many points wait to be sent.
    pub fn points(&self) -> u64 {
        self.state().waiting.iter().map(|request| request.points).sum()
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
    use jiff::Timestamp;

    use super::*;

    fn request(bytes: usize, points: u64) -> Request {
        Request { bytes: vec![0; bytes].into(), points }
    }

    fn outbox(max_bytes: u64) -> (Outbox, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::new(Timestamp::UNIX_EPOCH));
        (Outbox::new(max_bytes, Arc::clone(&ledger)), ledger)
    }

    #[tokio::test]
    async fn the_oldest_go_first_and_every_point_is_counted() {
        let (outbox, ledger) = outbox(250);
        outbox.push(vec![request(100, 1), request(100, 2)]);
        outbox.push(vec![request(100, 4)]);
        assert_eq!(ledger.overflowed.get(), 1);
        assert_eq!(ledger.backlog.get(), 200);
        let taken = outbox.take().await.expect("two are left");
        assert_eq!(taken.points, 2);
        outbox.settled(&taken);
        assert_eq!(ledger.backlog.get(), 100);
        outbox.close();
        assert_eq!(outbox.give_up(), 4);
        assert_eq!(ledger.shut_down.get(), 4);
        assert!(outbox.take().await.is_none());
    }

    #[tokio::test]
    async fn the_newest_sample_is_kept_whole() {
        let (outbox, ledger) = outbox(10);
        outbox.push(vec![request(100, 1)]);
        outbox.push(vec![request(100, 2), request(100, 3)]);
        assert_eq!(ledger.overflowed.get(), 1);
        assert_eq!(outbox.points(), 5);
    }

    #[tokio::test]
    async fn what_is_being_sent_comes_back_to_the_front() {
        let (outbox, ledger) = outbox(250);
        outbox.push(vec![request(100, 1)]);
        let taken = outbox.take().await.expect("one is there");
        outbox.push(vec![request(100, 2)]);
        outbox.put_back(taken);
        assert_eq!(ledger.backlog.get(), 200);
        assert_eq!(outbox.take().await.expect("it is back").points, 1);
    }
}
