//! The list of requests in a queue, and where each is.
//! Entry point: [`Entries`].

use std::collections::{BTreeMap, VecDeque};

use prost::bytes::Bytes;

use crate::export::otlp::encode::{Items, Request};
use crate::export::otlp::settings::Compression;

/// Readings that an earlier run left have numbers from here on.
const RECOVERED: u64 = 1 << 63;

/// A request on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u64,
    /// Where the record begins.
    pub(super) at: u64,
    /// Length of the body.
    pub(super) len: u32,
    pub(super) sequence: u64,
}

/// A request that an earlier run left.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) reading: u64,
    pub(super) items: Items,
    pub(super) compression: Compression,
    pub(super) location: Location,
}

/// What is not needed any more.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) records: Vec<Location>,
    /// Segments without other requests.
    pub(super) empty_segments: Vec<u64>,
}

/// Requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct Entries {
    list: VecDeque<Entry>,
    /// Size of all requests as kept.
    bytes: u64,
    next_id: u64,
    /// The reading of the last request that was settled.
    begun: Option<u64>,
    /// How many requests each segment has.
    segments: BTreeMap<u64, u64>,
    /// What the disk does not know yet.
    settled: Settled,
}

/// A request and where it is.
#[derive(Debug)]
pub(super) struct Entry {
    /// Identifies the request in its queue.
    pub(super) id: u64,
    pub(super) reading: u64,
    /// Its order in the reading.
    pub(super) order: usize,
    pub(super) items: Items,
    pub(super) compression: Compression,
    /// Size as kept.
    len: u64,
    /// The request in memory.
    body: Option<Bytes>,
    /// The request on disk.
    pub(super) location: Option<Location>,
}

impl Entry {
    /// Returns the request if it is in memory.
    pub(super) fn request(&self) -> Option<Request> {
        let bytes = self.body.clone()?;
        Some(Request { bytes, compression: self.compression, items: self.items })
    }
}

impl Entries {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the size of all requests as kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.list.iter()
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.list.front()
    }

    pub(super) fn push(&mut self, reading: u64, order: usize, request: Request) {
        let Request { bytes, compression, items } = request;
        let (id, len) = (self.next_id, bytes.len() as u64);
        self.next_id += 1;
        self.bytes += len;
        let body = Some(bytes);
        self.list.push_back(Entry { id, reading, order, items, compression, len, body, location: None });
    }

    /// Inserts requests that an earlier run left on disk after so many that are in flight. Returns their items.
    pub(super) fn insert_recovered(&mut self, after: usize, recovered: Vec<Recovered>) -> u64 {
        let mut points = 0;
        let later = self.list.split_off(after.min(self.list.len()));
        for Recovered { reading, items, compression, location } in recovered {
            let (id, len) = (self.next_id, location.len.into());
            self.next_id += 1;
            self.bytes += len;
            points += items.count;
            *self.segments.entry(location.segment).or_default() += 1;
            let (reading, location) = (reading | RECOVERED, Some(location));
            self.list.push_back(Entry {
                id,
                reading,
                order: 0,
                items,
                compression,
                len,
                body: None,
                location,
            });
        }
        self.list.extend(later);
        points
    }

    /// Removes the first request, which is settled.
    pub(super) fn settle_first(&mut self) -> Option<Entry> {
        let first = self.list.pop_front()?;
        self.begun = Some(first.reading);
        self.forget(&first);
        Some(first)
    }

    /// Removes the requests that are not on disk, and returns their items.
    pub(super) fn drop_unwritten(&mut self) -> Vec<Items> {
        let mut dropped = Vec::new();
        self.list.retain(|entry| {
            let keep = entry.location.is_some();
            if !keep {
                self.bytes -= entry.len;
                dropped.push(entry.items);
            }
            keep
        });
        dropped
    }

    /// Takes items off the first request.
    pub(super) fn reduce_first(&mut self, count: u64) {
        if let Some(first) = self.list.front_mut() {
            first.items.count = first.items.count.saturating_sub(count);
        }
    }

    /// Removes the oldest reading, without the request in flight, but not the newest one. One that was delivered in part is
    /// removed only if there is no other.
    pub(super) fn drop_oldest_reading(&mut self, in_flight: bool, newest: u64) -> Option<Vec<Entry>> {
        let first = usize::from(in_flight);
        let begun = if in_flight { self.list.front().map(|entry| entry.reading) } else { self.begun };
        let others =
            || self.list.iter().skip(first).map(|entry| entry.reading).filter(|&reading| reading != newest);
        let victim = others().find(|&reading| Some(reading) != begun).or_else(|| others().next())?;
        let start = first + self.list.iter().skip(first).take_while(|entry| entry.reading != victim).count();
        let len = self.list.iter().skip(start).take_while(|entry| entry.reading == victim).count();
        let dropped: Vec<_> = self.list.drain(start..start + len).collect();
        for entry in &dropped {
            self.forget(entry);
        }
        Some(dropped)
    }

    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.len;
        let Some(location) = entry.location else { return };
        self.settled.records.push(location);
        if let Some(count) = self.segments.get_mut(&location.segment) {
            *count -= 1;
            if *count == 0 {
                self.segments.remove(&location.segment);
                self.settled.empty_segments.push(location.segment);
            }
        }
    }

    /// Removes from memory what is on disk.
    pub(super) fn release_written(&mut self) {
        for entry in self.list.iter_mut().filter(|entry| entry.location.is_some()) {
            entry.body = None;
        }
    }

    /// Returns what was settled since the last call; `None` for nothing.
    pub(super) fn take_settled(&mut self) -> Option<Settled> {
        (!self.settled.records.is_empty()).then(|| std::mem::take(&mut self.settled))
    }

    /// Returns the oldest request that is not on disk. What follows it is not, either.
    pub(super) fn first_unwritten(&self) -> Option<&Entry> {
        let written = self.list.iter().rev().take_while(|entry| entry.location.is_none()).count();
        self.list.get(self.list.len() - written).filter(|entry| entry.location.is_none())
    }

    /// Notes that a request is on disk, unless it was settled meanwhile.
    pub(super) fn written(&mut self, id: u64, location: Location, keep_body: bool) {
        let Some(entry) = self.list.iter_mut().rev().find(|entry| entry.id == id) else {
            self.settled.records.push(location);
            if !self.segments.contains_key(&location.segment) {
                self.settled.empty_segments.push(location.segment);
            }
            return;
        };
        entry.location = Some(location);
        if !keep_body {
            entry.body = None;
        }
        *self.segments.entry(location.segment).or_default() += 1;
        self.settled.empty_segments.retain(|&segment| segment != location.segment);
    }
}
