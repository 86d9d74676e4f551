//! Events shared by everything that shows them: a bounded history, and any number of subscriptions that see what is published.
//! Entry points: [`Events::publish`] and [`Events::subscribe`]. Whoever reads too slowly misses events, and learns how many; nobody
//! is waited for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::Event;

/// How many events are kept by default, for who comes later and for who reads slowly. Readers have no turn while events are published
/// at once: with the default limit that may be 1,000 events of each of three limits, and 1,024 that waited for a name.
pub const HISTORY: usize = 4096;

/// How many are kept at most, whatever the limit per second.
const MOST: usize = 1 << 16;

/// The events of this exporter. A clone shares them.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    history: Mutex<VecDeque<Arc<Event>>>,
    /// How many events are kept.
    kept: usize,
    /// The number of the last event; wakes subscriptions.
    last: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self::keeping(HISTORY)
    }
}

impl Events {
    /// Returns a place for events that keeps more than are published at once with this limit per second; 0 for no limit.
    #[must_use]
    pub fn limited_to(per_second: u32) -> Self {
        // Ten times as many of each of three limits, and those that waited.
        let at_once = usize::try_from(u64::from(per_second) * 30).map_or(MOST, |events| events + HISTORY / 4);
        Self::keeping(if per_second == 0 { MOST } else { at_once.clamp(HISTORY, MOST) })
    }

    /// Returns a place for events that keeps this many.
    #[must_use]
    pub fn keeping(kept: usize) -> Self {
        Self(Arc::new(Shared { history: Mutex::default(), kept, last: watch::Sender::new(0) }))
    }

    /// Gives events their numbers and publishes them.
    pub fn publish(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut history = self.history();
        let mut number = *self.0.last.borrow();
        for event in events {
            number += 1;
            if history.len() == self.0.kept {
                history.pop_front();
            }
            history.push_back(Arc::new(Event { number, ..event }));
        }
        // Under the lock: numbers do not go back when several publish at once.
        self.0.last.send_replace(number);
    }

    /// Returns a subscription to the events after this number; to those that are still to come for `None`.
    #[must_use]
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let last = self.0.last.subscribe();
        let published = *last.borrow();
        // A number of an earlier run of the exporter may be higher.
        let seen =
            after.filter(|&after| after <= published).unwrap_or(if after.is_some() { 0 } else { published });
        Subscription { events: self.clone(), last, seen }
    }

    fn history(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader of events.
#[derive(Debug)]
pub struct Subscription {
    events: Events,
    last: watch::Receiver<u64>,
    /// The number of the last event that it has returned or missed.
    seen: u64,
}

/// Events in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// How many events before these are no longer in the history.
    pub missed: u64,
}

impl Subscription {
    /// Waits for events, and returns those since the last call, at most `limit`. Loses nothing if it is cancelled.
    pub async fn next(&mut self, limit: usize) -> Batch {
        let seen = self.seen;
        // The sender lives as long as `events`.
        drop(self.last.wait_for(|&last| last > seen).await);
        self.take(limit)
    }

    /// Returns the events since the last call, at most `limit`, without waiting.
    pub fn take(&mut self, limit: usize) -> Batch {
        let history = self.events.history();
        let Some(first) = history.front().map(|event| event.number) else { return Batch::default() };
        let missed = first.saturating_sub(self.seen + 1);
        let skip = usize::try_from((self.seen + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let events: Vec<_> = history.iter().skip(skip).take(limit).cloned().collect();
        drop(history);
        self.seen = events.last().map_or(self.seen + missed, |event| event.number);
        Batch { events, missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootTime, EventKind, EventSource, Subject};

    fn event() -> Event {
        Event::new(
            EventKind::ProgramLoad,
            EventSource::Kernel,
            (BootTime(1), BootTime(2)),
            Subject::default(),
        )
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.events.iter().map(|event| event.number).collect()
    }

    #[tokio::test]
    async fn each_subscription_gets_everything_once_and_in_order() {
        let events = Events::default();
        events.publish(vec![event(); 2]);
        let (mut all, mut later) = (events.subscribe(Some(0)), events.subscribe(None));
        assert_eq!(numbers(&all.next(10).await), [1, 2]);
        assert!(later.take(10).events.is_empty());
        events.publish(vec![event(); 3]);
        assert_eq!(numbers(&later.next(2).await), [3, 4]);
        assert_eq!(numbers(&later.next(2).await), [5]);
        assert_eq!(numbers(&all.next(10).await), [3, 4, 5]);
        let mut of_an_earlier_run = events.subscribe(Some(1000));
        assert_eq!(numbers(&of_an_earlier_run.take(10)), [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn who_is_slow_learns_what_it_missed() {
        let events = Events::default();
        let mut slow = events.subscribe(None);
        events.publish(vec![event(); HISTORY + 10]);
        let batch = slow.next(usize::MAX).await;
        assert_eq!((batch.missed, batch.events.len()), (10, HISTORY));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), slow.next(1)).await.is_err());
    }
}
