//! The last events. Entry point: [`EventLog`].

use std::collections::VecDeque;
use std::sync::Arc;

use crate::export::event_text;
use crate::model::Event;

/// How many events are kept. Each is a few hundred bytes.
pub const EVENTS_KEPT: usize = 1000;

/// The last events, and how many are missing.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    /// With numbers of their own, since not every source numbers them.
    events: VecDeque<(u64, Arc<Event>)>,
    last: u64,
    missed: u64,
}

impl EventLog {
    pub(super) fn add(&mut self, events: Vec<Arc<Event>>, missed: u64) {
        self.missed += missed;
        for event in events {
            self.last += 1;
            if self.events.len() == EVENTS_KEPT {
                self.events.pop_front();
            }
            self.events.push_back((self.last, event));
        }
    }

    /// Returns the numbers of events whose line has every word, in any case, the last event first. A number stays that of its event
    /// when others come.
    pub(super) fn select(&self, filter: &str) -> Vec<u64> {
        let words: Vec<_> = filter.split_whitespace().map(str::to_lowercase).collect();
        let matches = |event: &Event| {
            words.is_empty() || {
                let line = event_text::line(event).to_lowercase();
                words.iter().all(|word| line.contains(word))
            }
        };
        let matching = self.events.iter().rev().filter(|(_, event)| matches(event));
        matching.map(|(number, _)| *number).collect()
    }

    /// Returns the event of a number; `None` if it made room for later ones.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Event> {
        let position = self.events.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.events.get(position).map(|(_, event)| &**event)
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns how many events came too fast.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }
}
