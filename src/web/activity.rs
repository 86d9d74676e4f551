//! What a connection is doing and since when, by which it is closed in time. Entry points: [`Activity::overdue`] and
//! [`Activity::yields`].

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::bounds;

/// State of one connection, shared by its socket, its requests and the table of connections.
pub(super) struct Activity {
    state: Mutex<State>,
    close: Notify,
}

struct State {
    phase: Phase,
    since: Instant,
    http2: bool,
    /// Requests that are not answered in full.
    requests: Vec<Request>,
    /// Since when the socket takes nothing.
    blocked: Option<Instant>,
    next: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No request yet.
    First,
    /// A later request has begun.
    Headers,
    /// A request is being answered.
    Busy,
    /// Between requests.
    Idle,
}

/// A request under way.
struct Request {
    number: u64,
    began: Instant,
    /// `None` until there is one.
    answer: Option<Transit>,
}

/// An answer under way.
struct Transit {
    began: Instant,
    /// When the connection last took a part of it.
    taken: Instant,
    /// How much it took, in bytes.
    bytes: u64,
    /// How long it may take in all. `None` for a stream, which has no end.
    allowed: Option<Duration>,
}

/// Why a connection is closed for another one: the first reason first, then the longest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// It has sent no request, and has had no time for one: closing it would cost a scrape, closing an idle one a new connection.
    Fresh,
    /// It follows events: its reader connects again and misses none.
    Following,
    /// It is between requests.
    Idle,
    /// It takes nothing.
    Stalled,
    /// It has sent no request for some time.
    Silent,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        let state = State {
            phase: Phase::First,
            since: now,
            http2: false,
            requests: Vec::new(),
            blocked: None,
            next: 0,
        };
        Arc::new(Self { state: Mutex::new(state), close: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    /// Bytes arrived.
    pub(super) fn received(&self) {
        let mut state = self.state();
        // HTTP/2 has frames between requests, such as pings.
        if state.phase == Phase::Idle && !state.http2 {
            state.enter(Phase::Headers);
        }
    }

    /// The connection speaks HTTP/2.
    pub(super) fn is_http2(&self) {
        self.state().http2 = true;
    }

    /// The socket took bytes, or none.
    pub(super) fn wrote(&self, taken: bool) {
        let mut state = self.state();
        state.blocked = if taken { None } else { state.blocked.or_else(|| Some(Instant::now())) };
    }

    /// A request begins; it ends when the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.requests.push(Request { number, began: Instant::now(), answer: None });
        state.enter(Phase::Busy);
        drop(state);
        Busy { activity: Arc::clone(self), number }
    }

    /// Closes the connection.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Waits until the connection is to be closed for another one.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    /// Returns the bound that the connection exceeds.
    pub(super) fn overdue(&self, now: Instant) -> Option<&'static str> {
        let state = self.state();
        let waited = now.saturating_duration_since(state.since);
        match state.phase {
            Phase::First if waited > bounds::FIRST_REQUEST => return Some("no request"),
            Phase::Headers if waited > bounds::HEADERS => return Some("unfinished headers"),
            Phase::Idle if waited > bounds::IDLE => return Some("idle"),
            _ => {}
        }
        if state.blocked.is_some_and(|since| now.saturating_duration_since(since) > bounds::STALL) {
            return Some("nothing taken of an answer");
        }
        let since = |moment: Instant| now.saturating_duration_since(moment);
        state.requests.iter().find_map(|request| match &request.answer {
            None => (since(request.began) > bounds::ANSWER).then_some("no answer"),
            Some(answer) if since(answer.taken) > bounds::STALL => Some("nothing taken of an answer"),
            Some(answer) => {
                let is_slow = answer.allowed.is_some_and(|allowed| since(answer.began) > allowed);
                is_slow.then_some("answer taken too slowly")
            }
        })
    }

    /// Returns why the connection may be closed for another one, and for how long it has been so; `None` if it is at work.
    pub(super) fn yields(&self, now: Instant) -> Option<(Claim, Duration)> {
        let state = self.state();
        let waited = now.saturating_duration_since(state.since);
        match state.phase {
            Phase::First | Phase::Headers => {
                Some((if waited < bounds::FRESH { Claim::Fresh } else { Claim::Silent }, waited))
            }
            Phase::Idle => Some((Claim::Idle, waited)),
            Phase::Busy => {
                let held = state.held(now);
                if held >= bounds::YIELD {
                    return Some((Claim::Stalled, held));
                }
                let is_stream = |request: &Request| request.answer.as_ref().is_some_and(Transit::is_stream);
                state.requests.iter().all(is_stream).then_some((Claim::Following, waited))
            }
        }
    }

    /// Returns for how long the connection has held an answer that it takes slowly or not at all; 0 if there is none.
    pub(super) fn held(&self, now: Instant) -> Duration {
        self.state().held(now)
    }
}

impl Transit {
    const fn is_stream(&self) -> bool {
        self.allowed.is_none()
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    fn held(&self, now: Instant) -> Duration {
        let since = |moment: Instant| now.saturating_duration_since(moment);
        let answers = self.requests.iter().filter_map(|request| request.answer.as_ref());
        let slow = answers.filter(|transit| !transit.is_stream()).filter(|transit| {
            let fast = bounds::FAST.saturating_mul(since(transit.began).as_secs());
            since(transit.taken) >= bounds::YIELD || transit.bytes < fast
        });
        let held = slow.map(|transit| since(transit.began)).chain(self.blocked.map(since)).max();
        held.unwrap_or_default()
    }
}

/// A request that is being answered.
pub(super) struct Busy {
    activity: Arc<Activity>,
    number: u64,
}

impl Busy {
    /// There is an answer of this many bytes, which is under way from now on.
    pub(super) fn answers(&self, bytes: u64) {
        self.begin(Some(bounds::STALL + Duration::from_secs(bytes / bounds::SLOWEST)));
    }

    /// There is an answer without an end, which is under way from now on. Parts of it come at least every [`bounds::HEARTBEAT`].
    pub(super) fn streams(&self) {
        self.begin(None);
    }

    fn begin(&self, allowed: Option<Duration>) {
        let now = Instant::now();
        self.update(|request| request.answer = Some(Transit { began: now, taken: now, bytes: 0, allowed }));
    }

    /// The connection took a part of the answer: this many bytes.
    pub(super) fn taken(&self, bytes: usize) {
        self.update(|request| {
            if let Some(answer) = &mut request.answer {
                answer.taken = Instant::now();
                answer.bytes += bytes as u64;
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut Request)) {
        let mut state = self.activity.state();
        if let Some(request) = state.requests.iter_mut().find(|request| request.number == self.number) {
            change(request);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.requests.retain(|request| request.number != self.number);
        if state.requests.is_empty() {
            state.enter(Phase::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    impl Activity {
        /// Changes the answer of the only request.
        fn answer(&self, change: impl FnOnce(&mut Transit)) {
            change(self.state().requests[0].answer.as_mut().expect("it is under way"));
        }
    }

    #[test]
    fn each_phase_has_its_bound() {
        let start = Instant::now();
        let activity = Activity::new(start);
        assert_eq!(activity.overdue(start + bounds::FIRST_REQUEST), None);
        assert_eq!(activity.overdue(start + bounds::FIRST_REQUEST + MOMENT), Some("no request"));

        let busy = activity.request();
        let later = Instant::now() + bounds::ANSWER;
        assert_eq!(
            activity.overdue(later.checked_sub(MOMENT).expect("it is later")),
            None,
            "a reading may take its time"
        );
        assert_eq!(activity.overdue(later + MOMENT), Some("no answer"));
        drop(busy);
        assert_eq!(activity.overdue(later), Some("idle"));
        activity.received();
        assert_eq!(activity.overdue(Instant::now() + bounds::HEADERS + MOMENT), Some("unfinished headers"));
    }

    #[test]
    fn an_answer_is_taken_in_time() {
        let activity = Activity::new(Instant::now());
        let busy = activity.request();
        busy.answers(10 * bounds::SLOWEST);
        let now = Instant::now();
        assert_eq!(activity.overdue((now + bounds::STALL).checked_sub(MOMENT).expect("it is later")), None);
        assert_eq!(activity.overdue(now + bounds::STALL + MOMENT), Some("nothing taken of an answer"));
        let long_ago = now.checked_sub(bounds::STALL + Duration::from_secs(11));
        activity.answer(|answer| answer.began = long_ago.expect("the machine runs for a minute"));
        busy.taken(1);
        assert_eq!(activity.overdue(now + MOMENT), Some("answer taken too slowly"));
        drop(busy);
        assert_eq!(activity.overdue(now + MOMENT), None);
        activity.wrote(false);
        activity.wrote(false);
        let blocked = Instant::now() + bounds::STALL + MOMENT;
        assert_eq!(activity.overdue(blocked), Some("nothing taken of an answer"));
        activity.wrote(true);
        assert_eq!(activity.overdue(blocked), None);
    }

    #[test]
    fn silent_connections_yield_first_and_busy_ones_late() {
        let now = Instant::now();
        let activity = Activity::new(now);
        assert!(matches!(activity.yields(now), Some((Claim::Fresh, _))));
        assert!(matches!(activity.yields(now + bounds::FRESH), Some((Claim::Silent, _))));
        let busy = activity.request();
        assert_eq!(activity.yields(now + bounds::IDLE), None);
        busy.answers(1 << 40);
        let later = Instant::now() + bounds::YIELD;
        assert!(matches!(activity.yields(later), Some((Claim::Stalled, _))));
        activity.answer(|answer| answer.bytes = 1 << 30);
        assert!(activity.yields(later).is_some(), "it took much, long ago");
        activity.answer(|answer| answer.taken = later);
        assert_eq!(activity.yields(later), None, "it takes it as fast as it can");
        drop(busy);
        assert!(matches!(activity.yields(now), Some((Claim::Idle, _))));
        assert!(Claim::Silent > Claim::Stalled && Claim::Stalled > Claim::Idle && Claim::Idle > Claim::Fresh);
    }

    #[test]
    fn a_stream_lasts_while_its_heartbeats_are_taken() {
        let activity = Activity::new(Instant::now());
        let busy = activity.request();
        busy.streams();
        let day = Duration::from_hours(24);
        let hours_later = Instant::now() + day;
        activity.answer(|answer| answer.taken = hours_later);
        assert_eq!(activity.overdue(hours_later + bounds::HEARTBEAT), None);
        assert_eq!(activity.held(hours_later + bounds::HEARTBEAT), Duration::ZERO, "it holds no scrape");
        let stalled = hours_later + bounds::STALL + MOMENT;
        assert_eq!(activity.overdue(stalled), Some("nothing taken of an answer"));
    }

    #[test]
    fn a_stream_makes_room_for_scrapes_but_not_for_who_asks_nothing() {
        let now = Instant::now();
        let activity = Activity::new(now);
        let stream = activity.request();
        stream.streams();
        assert!(matches!(activity.yields(now), Some((Claim::Following, _))));
        assert!(Claim::Following > Claim::Fresh && Claim::Following < Claim::Idle);
        // With HTTP/2 there may be a scrape beside it.
        let scrape = activity.request();
        assert_eq!(activity.yields(now), None);
        scrape.answers(1);
        assert_eq!(activity.yields(now), None);
        drop(scrape);
        activity.wrote(false);
        let later = Instant::now() + bounds::YIELD;
        assert!(matches!(activity.yields(later), Some((Claim::Stalled, _))));
    }
}
