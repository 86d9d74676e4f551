//! The queue of encoded requests between the producer and the delivery to one destination.
//! Entry point: [`Queue`].
//!
//! A request stays in its queue until it is settled: delivered, refused, dropped for lack of space, or dropped at shutdown. The
//! delivery peeks at the oldest request and acknowledges it, so a delivery that is cancelled loses nothing: the next
//! [`front`](Queue::front) returns the same request.
//!
//! - A healthy receiver gets requests as they were encoded. A queue that is *behind* (a receiver accepts nothing, or more slowly
//!   than requests are made) keeps what is pushed compressed, which takes a twentieth of the memory.
//! - Above its limit the queue drops whole readings, oldest first: never a part of one while there is another, and never the
//!   newest.
//! - A queue has requests of one signal. Of logs a batch of records is what a reading is of metrics. Logs have a queue of their own
//!   beside that of metrics, so that neither waits for the other.
//! - With a directory ([`Disk`]) the list is also kept there, by a thread that makes the files follow the list. The list in memory
//!   is what counts: whether the disk is full, slow or missing, requests are pushed and delivered all the same.

mod disk;
mod entries;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tokio::sync::Notify;
use tracing::{info, warn};

pub use self::disk::Disk;
use self::disk::Step;
pub(crate) use self::disk::fuzz_records;
use self::entries::{Entries, Entry};
use super::encode::{Items, Request, Signal};
use super::ledger::Ledger;
use super::settings::Compression;

/// How long the disk is left alone after a failure.
const DISK_RETRY: Duration = Duration::from_secs(10);

/// Requests for one destination, oldest first.
#[derive(Debug)]
pub struct Queue {
    destination: Arc<str>,
    signal: Signal,
    /// Limit of the requests, in bytes as kept.
    max_bytes: u64,
    ledger: Arc<Ledger>,
    disk: Option<Disk>,
    state: Mutex<QueueState>,
    /// Wakes the delivery.
    pushed: Notify,
    /// Wakes the producer.
    settled: Condvar,
}

#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of one another")]
#[derive(Debug, Default)]
struct QueueState {
    entries: Entries,
    /// How the destination gets requests.
    compression: Compression,
    /// Size of the entries as counted in the ledger.
    counted: u64,
    /// True if the first request is being sent.
    in_flight: bool,
    /// True if the receiver did not accept something in time and not everything was delivered since.
    behind: bool,
    /// Number of the newest reading.
    reading: u64,
    /// How many requests of the newest reading were pushed.
    pushed: usize,
    /// Requests of the newest reading that were accepted, by their order in it.
    accepted: Vec<usize>,
    /// True if a dropped reading was logged and not everything was delivered since.
    overflow_logged: bool,
    /// True if the receiver may lack a point of an earlier reading: the next one leaves none out.
    may_lack: bool,
    closed: bool,
    /// True if the thread of the disk has the files to bring up to date.
    syncing: bool,
    /// False as long as only the newest reading is kept.
    is_kept: bool,
    /// When the disk is tried again.
    disk_paused_until: Option<Instant>,
}

/// The oldest request of a queue.
#[derive(Debug)]
pub struct Front {
    /// Identifies the request among all of its queue.
    pub id: u64,
    /// The request, as kept; `None` if the caller has it already.
    pub request: Option<Request>,
}

/// What came of reading the first request from disk.
enum Read {
    Front(Front),
    /// There is another first request.
    Gone,
    /// The disk does not give it now.
    NotNow,
    /// Nor is there a later.
    Closed,
}

/// What became of the requests in a queue when its delivery ended, in items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Dropped for good.
    pub dropped: u64,
    /// Kept on disk, for the next start.
    pub kept: u64,
}

impl Queue {
    /// Returns an empty queue of metrics of at most `max_bytes` for a destination that gets requests in this form at first. Counts what it
    /// drops, and its size, in `ledger`.
    #[must_use]
    pub fn new(destination: &str, max_bytes: u64, compression: Compression, ledger: Arc<Ledger>) -> Self {
        Self {
            destination: destination.into(),
            signal: Signal::Metrics,
            max_bytes,
            ledger,
            disk: None,
            state: Mutex::new(QueueState { compression, is_kept: true, ..QueueState::default() }),
            pushed: Notify::new(),
            settled: Condvar::new(),
        }
    }

    /// Sets what it is for.
    #[must_use]
    pub fn of_signal(self, signal: Signal) -> Self {
        Self { signal, ..self }
    }

    /// Returns what it is for.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Keeps the queue on disk as well. What is there already is read by [`load`](Self::load).
    #[must_use]
    pub fn on(self, disk: Disk) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Keeps only the newest reading until the receiver accepts one: nobody may have set it up.
    #[must_use]
    pub fn until_accepted(self) -> Self {
        self.state().is_kept = false;
        self
    }

    /// Reads what an earlier run left on disk: it is delivered first.
    pub async fn load(self: &Arc<Self>) {
        self.sync_now().await;
    }

    /// Starts a reading: requests pushed from now on belong to it.
    pub fn begin_reading(&self) {
        let mut state = self.state();
        state.reading += 1;
        state.pushed = 0;
        state.accepted.clear();
    }

    /// Returns whether the receiver may lack a point of the readings so far, and forgets it.
    #[must_use]
    pub fn take_may_lack(&self) -> bool {
        std::mem::take(&mut self.state().may_lack)
    }

    /// Takes note that the receiver may lack a point: it rejected some, or it can be another one, on another connection.
    pub fn may_lack(&self) {
        self.state().may_lack = true;
    }

    /// Sets the form in which the destination gets requests that are pushed from now on.
    pub(super) fn set_compression(&self, compression: Compression) {
        self.state().compression = compression;
    }

    /// Adds a request of the newest reading, in the form that the queue chooses. Above the limit, drops the oldest readings.
    pub fn push(self: &Arc<Self>, form: impl FnOnce(Compression) -> Request) {
        let kept_form = self.kept_form();
        let request = form(kept_form);
        let mut state = self.state();
        let (reading, order) = (state.reading, state.pushed);
        state.pushed += 1;
        state.entries.push(reading, order, request);
        let dropped = self.make_room(&mut state);
        self.sync_soon(&mut state);
        drop(state);
        self.pushed.notify_one();
        self.log_overflow(dropped);
    }

    /// Waits until all requests are settled, the queue is behind or closed, or `until`, when it counts as behind.
    pub fn wait_until_drained(&self, until: Instant) {
        let mut state = self.state();
        loop {
            if state.entries.is_empty() || state.behind || state.closed {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.fall_behind();
                return;
            }
            let woken = self.settled.wait_timeout(state, left);
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns true if a plain request has to wait for the destination, so that its buffer is not free before.
    #[must_use]
    pub fn keeps_plain(&self) -> bool {
        self.kept_form() == Compression::None
    }

    /// Returns the form in which a request is kept that is pushed now.
    fn kept_form(&self) -> Compression {
        let state = self.state();
        match state.compression {
            Compression::None if self.disk.is_some() || state.behind => Compression::Zstd,
            compression => compression,
        }
    }

    /// Returns true if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state().entries.is_empty()
    }

    /// Returns which requests of the newest reading were accepted, by their order in it.
    #[must_use]
    pub fn accepted(&self) -> Vec<usize> {
        self.state().accepted.clone()
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

    /// Waits for the oldest request, marks it in flight and returns it, without the request itself if its id is `known`; `None`
    /// when the queue is closed and empty. Returns the same request until [`done`](Self::done) or [`retry`](Self::retry) is
    /// called. A request that is damaged on disk is counted and skipped; one that the disk does not give is tried again later,
    /// unless the queue is closed: `None` then, and it stays on disk.
    pub async fn front(self: &Arc<Self>, known: Option<u64>) -> Option<Front> {
        loop {
            let on_disk = {
                let mut state = self.state();
                match state.entries.first() {
                    None if state.closed => return None,
                    None => None,
                    Some(first) => {
                        let front = (first.id, first.request(), first.location);
                        state.in_flight = true;
                        match front {
                            (id, _, _) if known == Some(id) => return Some(Front { id, request: None }),
                            (id, Some(request), _) => return Some(Front { id, request: Some(request) }),
                            (id, None, location) => Some((id, location)),
                        }
                    }
                }
            };
            let Some((id, location)) = on_disk else {
                self.pushed.notified().await;
                continue;
            };
            let read = match (&self.disk, location) {
                (Some(disk), Some(location)) => disk.read(location).await,
                _ => Err(std::io::Error::other("it is neither in memory nor on disk")),
            };
            match self.was_read(id, read) {
                Read::Front(front) => return Some(front),
                Read::Gone => {}
                Read::Closed => return None,
                Read::NotNow => {
                    tokio::select! {
                        () = tokio::time::sleep(DISK_RETRY) => {}
                        () = self.closed() => {}
                    }
                }
            }
        }
    }

    /// Takes what the disk gave for the first request.
    fn was_read(self: &Arc<Self>, id: u64, read: std::io::Result<Bytes>) -> Read {
        let mut state = self.state();
        // It may have been dropped meanwhile.
        let Some(first) = state.entries.first().filter(|first| first.id == id) else { return Read::Gone };
        let (items, compression) = (first.items, first.compression);
        match read {
            Ok(bytes) => {
                self.log_read(None);
                Read::Front(Front { id, request: Some(Request { bytes, compression, items }) })
            }
            Err(error) if is_damage(&error) => {
                self.settle_first(&mut state);
                drop(state);
                self.unreadable(items, &error);
                Read::Gone
            }
            Err(error) => {
                state.in_flight = false;
                self.log_read(Some(&error));
                if state.closed { Read::Closed } else { Read::NotNow }
            }
        }
    }

    fn log_read(&self, error: Option<&std::io::Error>) {
        if let Some(disk) = &self.disk {
            disk.log_read(error);
        }
    }

    /// Counts a request that is damaged.
    pub(crate) fn unreadable(&self, items: Items, error: &std::io::Error) {
        self.may_lack();
        self.ledger.of(items.signal).unreadable.add(items.count);
        if let Some(disk) = &self.disk {
            disk.log_damage(format_args!("{items} for {} are lost: {error}", self.destination));
        }
    }

    /// Counts a part of the request in flight as settled.
    pub fn done_in_part(&self, items: Items) {
        let mut state = self.state();
        if state.in_flight {
            state.entries.reduce_first(items.count);
        }
    }

    /// Removes the request in flight: accepted, or refused for good. The caller drops its reference first, so that the producer,
    /// which this wakes, finds the buffer free.
    pub fn done(self: &Arc<Self>, accepted: bool) {
        let mut state = self.state();
        if !state.in_flight {
            return;
        }
        state.is_kept |= accepted;
        state.may_lack |= !accepted;
        let newest = state.reading;
        let settled = self.settle_first(&mut state).filter(|first| accepted && first.reading == newest);
        let order = settled.map(|first| first.order);
        state.accepted.extend(order);
        self.sync_soon(&mut state);
        drop(state);
        self.settled.notify_one();
    }

    /// Leaves the request in flight in its place, to be sent again later.
    pub fn retry(&self) {
        let mut state = self.state();
        state.in_flight = false;
        state.may_lack = true;
        state.fall_behind();
        drop(state);
        self.settled.notify_one();
    }

    /// Ends the delivery: drops all requests that are not on disk, including the one in flight.
    pub fn shut_down(&self) -> Rest {
        let mut state = self.state();
        let mut rest = Rest::default();
        for Items { signal, count } in state.entries.drop_unwritten() {
            self.ledger.of(signal).shut_down.add(count);
            rest.dropped += count;
        }
        rest.kept = state.entries.iter().map(|entry| entry.items.count).sum();
        state.in_flight = false;
        state.behind = true;
        self.count_backlog(&mut state);
        drop(state);
        self.settled.notify_one();
        rest
    }

    /// Writes to disk what is not there yet, before the delivery ends.
    pub async fn flush(self: &Arc<Self>) {
        self.sync_now().await;
    }

    /// Returns how many items wait, without those in flight.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let state = self.state();
        state.entries.iter().skip(usize::from(state.in_flight)).map(|entry| entry.items.count).sum()
    }

    fn settle_first(&self, state: &mut QueueState) -> Option<Entry> {
        let first = state.entries.settle_first();
        state.in_flight = false;
        if state.entries.is_empty() {
            state.behind = false;
            state.overflow_logged = false;
        }
        self.count_backlog(state);
        first
    }

    fn count_backlog(&self, state: &mut QueueState) {
        let bytes = state.entries.bytes();
        self.ledger.backlog.replace(std::mem::replace(&mut state.counted, bytes), bytes);
    }

    /// Drops the oldest readings while the queue is above its limit. Returns how many items, if they are the first since all was
    /// delivered.
    fn make_room(&self, state: &mut QueueState) -> Option<u64> {
        let (in_flight, newest) = (state.in_flight, state.reading);
        let mut dropped = 0;
        let max_bytes = if state.is_kept { self.max_bytes } else { 0 };
        while state.entries.bytes() > max_bytes {
            let Some(entries) = state.entries.drop_oldest_reading(in_flight, newest) else { break };
            state.may_lack = true;
            for entry in entries {
                self.ledger.of(entry.items.signal).overflowed.add(entry.items.count);
                dropped += entry.items.count;
            }
        }
        self.count_backlog(state);
        let is_logged = dropped == 0 || !state.is_kept || std::mem::replace(&mut state.overflow_logged, true);
        (!is_logged).then_some(dropped)
    }

    fn log_overflow(&self, dropped: Option<u64>) {
        let Some(count) = dropped else { return };
        let what = match self.signal {
            Signal::Metrics => "reading",
            Signal::Logs => "batch",
        };
        warn!(
            "the backlog for {} is full ({} bytes): the oldest {what}, {}, is dropped; further ones are \
             only counted in {}; raise --otlp-backlog-bytes for longer outages",
            self.destination,
            self.max_bytes,
            self.items(count),
            self.signal.dropped_metric()
        );
    }

    fn items(&self, count: u64) -> Items {
        Items { signal: self.signal, count }
    }

    /// Lets the thread of the disk bring the files up to date.
    fn sync_soon(self: &Arc<Self>, state: &mut QueueState) {
        let Some(disk) = &self.disk else { return };
        let is_paused = state.disk_paused_until.is_some_and(|until| Instant::now() < until);
        if !state.syncing && !is_paused {
            state.syncing = true;
            let queue = Arc::clone(self);
            disk.submit(move || queue.sync());
        }
    }

    async fn sync_now(self: &Arc<Self>) {
        if let Some(disk) = &self.disk {
            let queue = Arc::clone(self);
            disk.run(move || queue.sync()).await;
        }
    }

    /// Brings the files up to date with the list. Runs on the thread of the disk.
    fn sync(&self) {
        let Some(disk) = &self.disk else { return };
        let result = disk.with(|files| {
            loop {
                let mut state = self.state();
                let Some(step) = files.next_step(&mut state.entries) else {
                    state.syncing = false;
                    return Ok(());
                };
                drop(state);
                match step {
                    Step::Open => {
                        let left = files.open()?;
                        let mut state = self.state();
                        let after = usize::from(state.in_flight);
                        let points = state.entries.insert_recovered(after, left);
                        let dropped = self.make_room(&mut state);
                        drop(state);
                        self.pushed.notify_one();
                        self.log_overflow(dropped);
                        if points > 0 {
                            info!(
                                "{} that an earlier run left for {} are delivered first",
                                self.items(points),
                                self.destination
                            );
                        }
                    }
                    Step::Settle(settled) => files.settle(settled)?,
                    Step::Write { id, reading, request } => {
                        let location = files.append(reading, &request)?;
                        drop(request);
                        let mut state = self.state();
                        let keep_body = !state.behind;
                        state.entries.written(id, location, keep_body);
                    }
                }
            }
        });
        let mut state = self.state();
        state.disk_paused_until = result.is_err().then(|| Instant::now() + DISK_RETRY);
        state.syncing = false;
        drop(state);
        disk.log(result);
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a request on disk is lost. Any other error may pass: no descriptor is free, or the device does not answer.
fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof | NotFound)
}

impl QueueState {
    /// From now on requests are compressed, and those on disk leave the memory.
    fn fall_behind(&mut self) {
        self.behind = true;
        self.entries.release_written();
    }
}

#[cfg(test)]
mod tests;
