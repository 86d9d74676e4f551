//! Events as they happen, as server-sent events. Entry points: [`Query::parse`] and [`EventStreams::open`].
//!
//! Source: "Server-sent events" in the HTML standard (`html.spec.whatwg.org/multipage/server-sent-events.html`).

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::config::Config;
use super::{ConfigFile, bounds, query};
use crate::events::{Batch, Events, HISTORY, Subscription};
use crate::export::json;
use crate::metrics::select::{EventFilter, Key, Rule, is_any_event_like};
use crate::model::{Event, EventKind, WallClock};

/// Size at which a piece of a stream is sent, in bytes; the last event of it may go beyond.
const PIECE: usize = 16 << 10;

/// Events taken at a time.
const BATCH: usize = 64;

/// A comment, which readers ignore.
const HEARTBEAT: &str = ":\n\n";

/// Converts the times of events to dates.
pub(super) type Clock = Arc<dyn Fn() -> WallClock + Send + Sync>;

/// What a reader wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// How many events from before the request.
    history: usize,
    filter: EventFilter,
}

impl Query {
    /// Parses the query of a request.
    ///
    /// # Errors
    ///
    /// What is wrong: an unknown parameter, one that is given twice, or a value that matches nothing.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let (mut history, mut kinds, mut terms) = (None, Vec::new(), Vec::new());
        for (name, value) in query::pairs(query) {
            let key = match &*name {
                "history" => {
                    let number = value.parse().ok().filter(|number| *number <= HISTORY);
                    let number = number.ok_or_else(|| {
                        format!("history={:?} is not a number from 0 to {HISTORY}", query::shortened(&value))
                    })?;
                    if history.replace(number).is_some() {
                        return Err("history is given twice".to_owned());
                    }
                    continue;
                }
                "kind" if is_any_event_like(&value) => {
                    kinds.push(value);
                    continue;
                }
                "kind" => {
                    let names = EventKind::ALL.map(EventKind::as_str).join(", ");
                    let value = query::shortened(&value);
                    return Err(format!("kind={value:?} matches no event: there are {names}"));
                }
                "owner" => Key::Owner,
                "type" => Key::Type,
                "name" => Key::Name,
                other => {
                    let other = query::shortened(other);
                    return Err(format!("{other:?} is no parameter: use history, kind, owner, type or name"));
                }
            };
            if value.is_empty() {
                return Err(format!("{name} is empty: give a pattern, such as {name}=cilium*"));
            }
            if terms.iter().any(|(given, _)| *given == key) {
                return Err(format!("{name} is given twice: use * and ? in one pattern"));
            }
            terms.push((key, value));
        }
        let only = if terms.is_empty() { Vec::new() } else { vec![Rule { terms }] };
        let filter = EventFilter { kinds, only, except: Vec::new() };
        Ok(Self { history: history.unwrap_or(HISTORY), filter })
    }
}

/// Returns the number of the last event that a reader got from an earlier stream; `None` for a new reader.
///
/// # Errors
///
/// If it is none of ours.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, String> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| "Last-Event-ID is not the number of an event".to_owned())
}

/// The streams of all readers, at most [`bounds::EVENT_STREAMS`].
pub(super) struct EventStreams {
    events: Events,
    clock: Clock,
    free: Arc<Semaphore>,
}

/// What ends a stream from this side.
pub(super) struct End {
    /// The exporter stops.
    pub(super) stop: watch::Receiver<bool>,
    /// The configuration is another one than that by which the reader was admitted.
    pub(super) admitted: Option<(ConfigFile, Arc<Config>)>,
}

impl End {
    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn is_outdated(&self) -> bool {
        match &self.admitted {
            Some((file, admitted)) => !Arc::ptr_eq(&file.current().await, admitted),
            None => false,
        }
    }
}

impl EventStreams {
    pub(super) fn new(events: Events, clock: Clock) -> Self {
        Self { events, clock, free: Arc::new(Semaphore::new(bounds::EVENT_STREAMS)) }
    }

    /// Returns a stream of events: those after the last one that the reader got, or else the last ones that it wants of the history.
    /// `None` if there are too many streams.
    pub(super) fn open(&self, query: Query, last: Option<u64>, end: End) -> Option<EventStream> {
        let held = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let Query { history, filter } = query;
        let mut subscription = self.events.subscribe(last.or(Some(0)));
        let mut waiting = VecDeque::new();
        if last.is_none() {
            // What is older than the history was not missed.
            waiting.extend(subscription.take(HISTORY).events);
            waiting.retain(|event| filter.matches(event));
            waiting.drain(..waiting.len().saturating_sub(history));
        }
        let mut heartbeat = interval_at(Instant::now() + bounds::HEARTBEAT, bounds::HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let clock = Arc::clone(&self.clock);
        let begin = Some(format!("retry: {}\n\n", bounds::RECONNECT.as_millis()));
        let reader = Reader { begin, subscription, waiting, filter, clock, end, heartbeat, _held: held };
        Some(EventStream { next: Some(Box::pin(reader.next())) })
    }
}

/// One reader's stream.
pub(super) struct EventStream {
    /// `None` after the end.
    next: Option<Pin<Box<dyn Future<Output = Next> + Send>>>,
}

/// The next piece, and the reader that it came from; `None` at the end.
type Next = io::Result<Option<(Reader, Bytes)>>;

impl EventStream {
    /// Polls for the next piece; `None` at the end.
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let next = ready!(next.as_mut().poll(context));
        self.next = None;
        Poll::Ready(match next {
            Ok(Some((reader, piece))) => {
                self.next = Some(Box::pin(reader.next()));
                Some(Ok(piece))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

struct Reader {
    /// The first lines of a stream, until they are sent.
    begin: Option<String>,
    subscription: Subscription,
    /// Events that are to be sent.
    waiting: VecDeque<Arc<Event>>,
    filter: EventFilter,
    clock: Clock,
    end: End,
    heartbeat: Interval,
    _held: OwnedSemaphorePermit,
}

impl Reader {
    /// Waits for something to send.
    async fn next(mut self) -> Next {
        let mut text = self.begin.take().unwrap_or_default();
        loop {
            if self.end.is_stopped() {
                return Ok(None);
            }
            self.write_waiting(&mut text)?;
            if !text.is_empty() {
                return Ok(Some((self, text.into())));
            }
            tokio::select! {
                biased;
                () = super::stopped(&mut self.end.stop) => return Ok(None),
                _ = self.heartbeat.tick() => {
                    if self.end.is_outdated().await {
                        return Ok(None);
                    }
                    text.push_str(HEARTBEAT);
                }
                Batch { events, missed } = self.subscription.next(BATCH) => {
                    if missed > 0 {
                        write_missed(&mut text, missed);
                    }
                    self.waiting.extend(events.into_iter().filter(|event| self.filter.matches(event)));
                }
            }
        }
    }

    /// Adds events that wait, up to the size of a piece.
    fn write_waiting(&mut self, text: &mut String) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let clock = (self.clock)();
        while text.len() < PIECE
            && let Some(event) = self.waiting.pop_front()
        {
            let (number, kind, document) = (event.number, event.kind.as_str(), json::event(&event, clock)?);
            let _infallible = write!(text, "id: {number}\nevent: {kind}\ndata: {document}\n\n");
        }
        Ok(())
    }
}

/// Adds that events are missing here. It has no id: that of the last event remains.
fn write_missed(text: &mut String, count: u64) {
    let _infallible = write!(text, "event: missed\ndata: {{\"count\":{count}}}\n\n");
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::model::{BootTime, EventSource, Subject};

    fn streams(events: &Events) -> EventStreams {
        EventStreams::new(events.clone(), Arc::new(WallClock::default))
    }

    fn open(streams: &EventStreams, query: &str, stop: &watch::Sender<bool>) -> EventStream {
        let query = Query::parse(query).expect("it is right");
        let end = End { stop: stop.subscribe(), admitted: None };
        streams.open(query, None, end).expect("there is room")
    }

    async fn piece(stream: &mut EventStream) -> Option<String> {
        let piece = poll_fn(|context| stream.poll_piece(context)).await?;
        Some(String::from_utf8(piece.expect("events are JSON").into()).expect("text"))
    }

    fn event(name: String) -> Event {
        Event::new(
            EventKind::ProgramLoad,
            EventSource::Kernel,
            (BootTime(1), BootTime(2)),
            Subject { name: Some(name), ..Subject::default() },
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_has_a_comment_at_each_interval() {
        let (events, stop) = (Events::default(), watch::Sender::new(false));
        let mut stream = open(&streams(&events), "name=x", &stop);
        let began = Instant::now();
        assert_eq!(piece(&mut stream).await.as_deref(), Some("retry: 2000\n\n"));
        assert_eq!(began.elapsed(), std::time::Duration::ZERO);
        for beat in 1..=3 {
            // What the reader does not want makes no difference.
            events.publish(vec![event("y".to_owned())]);
            assert_eq!(piece(&mut stream).await.as_deref(), Some(HEARTBEAT));
            assert_eq!(began.elapsed(), bounds::HEARTBEAT * beat);
        }
        stop.send_replace(true);
        assert_eq!(piece(&mut stream).await, None);
        assert_eq!(piece(&mut stream).await, None, "it stays at its end");
        assert_eq!(began.elapsed(), bounds::HEARTBEAT * 3);
    }

    #[tokio::test]
    async fn pieces_are_bounded_and_a_stop_ends_a_stream_with_events_left() {
        let (events, stop) = (Events::default(), watch::Sender::new(false));
        events.publish(vec![event("x".repeat(1000)); HISTORY]);
        let mut stream = open(&streams(&events), "", &stop);
        let first = piece(&mut stream).await.expect("it has begun");
        assert!(first.starts_with("retry: 2000\n\nid: 1\nevent: bpf.program.load\ndata: {"), "{first}");
        assert!(first.len() >= PIECE && first.len() < PIECE + 2000, "{}", first.len());
        stop.send_replace(true);
        assert_eq!(piece(&mut stream).await, None);
    }

    #[tokio::test]
    async fn a_slow_reader_learns_how_many_events_it_missed() {
        let (events, stop) = (Events::default(), watch::Sender::new(false));
        let mut stream = open(&streams(&events), "", &stop);
        piece(&mut stream).await.expect("it has begun");
        events.publish(vec![event("x".to_owned()); HISTORY + 3]);
        let text = piece(&mut stream).await.expect("it goes on");
        assert!(text.starts_with("event: missed\ndata: {\"count\":3}\n\nid: 4\n"), "{text}");
    }

    #[tokio::test]
    async fn a_place_is_free_when_a_stream_is_dropped() {
        let (events, stop) = (Events::default(), watch::Sender::new(false));
        let streams = streams(&events);
        let mut held: Vec<_> = (0..bounds::EVENT_STREAMS).map(|_| open(&streams, "", &stop)).collect();
        let again = || {
            let query = Query::parse("").expect("it is right");
            streams.open(query, None, End { stop: stop.subscribe(), admitted: None }).is_some()
        };
        assert!(!again());
        drop(held.pop());
        assert!(again());
    }
}
