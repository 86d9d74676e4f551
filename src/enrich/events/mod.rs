//! Events: what happens to BPF objects, by the kernel's records of programs and by comparing readings.
//!
//! Entry points: [`Watcher::start`] and [`Watcher::update`]. A thread waits for the kernel's records, and resolves who did it at once;
//! each reading then shows the rest. An event of a container whose name is not known yet is published once it is.

mod actors;
mod compare;
mod differences;
mod leaks;
mod ledger;
mod limit;
mod owners;
mod waiting;

use std::io::{self, PipeWriter, pipe};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use tracing::warn;

use self::actors::{Actors, UNKNOWN};
use self::compare::{Comparison, of_program};
pub use self::differences::Differences;
use self::leaks::Leaks;
use self::ledger::{KnownProgram, Ledger, SeenAtLoad, UnreportedChange};
use self::limit::EventLimit;
use self::owners::LastOwners;
use self::waiting::Waiting;
use super::identity::{named, top_level};
use super::names::NameCache;
use super::unexpected::Unexpected;
use crate::events::Events;
use crate::host::clock;
use crate::kernel::NewestIds;
use crate::kernel::events::{ProgramRecord, ProgramStream, look, wait};
use crate::model::{
    Activity, BootTime, Event, EventKind, EventSource, Kind, ObjectActivity, Program, ProgramActivity,
    Snapshot, Subject,
};
use crate::sys::{Error, failed};

/// After a record, the thread waits so long for others: a storm of them is read in batches.
const BATCH: Duration = Duration::from_millis(2);

/// How often the names are looked at that events wait for.
const LOOK: Duration = Duration::from_millis(10);

/// After so many looks at the rings, who else waits for the account has its turn, for [`BATCH`].
const PASSES: u32 = 8;

/// What a [`Watcher`] needs besides the kernel's records.
#[derive(Debug)]
pub(super) struct WatchContext {
    /// Objects with higher ids are created from now on.
    pub(super) newest: NewestIds,
    pub(super) names: NameCache,
    /// Events per second at most; 0 for no limit.
    pub(super) limit: u32,
    /// `None` without a baseline.
    pub(super) unexpected: Option<Unexpected>,
}

/// Follows what happens.
#[derive(Debug)]
pub(super) struct Watcher {
    state: Arc<Mutex<State>>,
    /// Ends the thread when it is dropped.
    stop: Option<PipeWriter>,
}

#[derive(Debug)]
struct State {
    /// `None` where the kernel's records cannot be read.
    stream: Option<ProgramStream>,
    ledger: Ledger,
    comparison: Comparison,
    leaks: Leaks,
    owners: LastOwners,
    actors: Actors,
    names: NameCache,
    limit: EventLimit,
    /// `None` without a baseline.
    unexpected: Option<Unexpected>,
    /// Of events about programs that are not in the baseline: others cannot use it up.
    unexpected_limit: EventLimit,
    /// Likewise of events about objects that are left behind.
    orphan_limit: EventLimit,
    waiting: Waiting,
    events: Events,
    lost: u64,
    dropped: u64,
}

impl Watcher {
    /// Publishes what happens from now on. The thread has the rights of the calling one.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started: everything comes from comparison then.
    pub(super) fn start(
        stream: Option<ProgramStream>,
        events: Events,
        WatchContext { newest, names, limit, unexpected }: WatchContext,
    ) -> (Self, Result<(), Error>) {
        let wakes = stream.as_ref().map(ProgramStream::wakes);
        let state = State {
            stream,
            ledger: Ledger::above(newest.program),
            comparison: Comparison::above(newest),
            leaks: Leaks::default(),
            owners: LastOwners::default(),
            actors: Actors::below(Path::new("/")),
            names,
            limit: EventLimit::new(limit),
            unexpected,
            unexpected_limit: EventLimit::new(limit),
            orphan_limit: EventLimit::new(limit),
            waiting: Waiting::default(),
            events,
            lost: 0,
            dropped: 0,
        };
        let mut watcher = Self { state: Arc::new(Mutex::new(state)), stop: None };
        let result = match wakes {
            None => Ok(()),
            Some(Err(error)) => Err(error),
            Some(Ok(wakes)) => watcher.spawn(wakes),
        };
        if result.is_err() {
            lock(&watcher.state).stream = None;
        }
        (watcher, result)
    }

    fn spawn(&mut self, wakes: std::os::fd::OwnedFd) -> Result<(), Error> {
        let (stopped, stop) = pipe().map_err(failed("pipe2"))?;
        let state = Arc::clone(&self.state);
        let run = move || {
            let ended = follow(wakes.as_fd(), stopped.as_fd(), || {
                let mut state = lock(&state);
                let has_more = state.read(true);
                let has_waiting = state.publish_named();
                if has_more { Some(Duration::ZERO) } else { has_waiting.then_some(LOOK) }
            });
            if let Err(error) = ended {
                warn!(
                    "the kernel's records of programs cannot be waited for: {error}; events come from readings"
                );
            }
        };
        let spawned = thread::Builder::new().name("events".to_owned()).spawn(run).map_err(failed("clone"));
        self.stop = Some(stop);
        spawned.map(drop)
    }

    /// Returns the events that are not published yet.
    pub(super) fn last_events(&self) -> LastEvents {
        LastEvents(Arc::clone(&self.state))
    }

    /// Publishes what a reading shows, fills in who left orphans behind, and returns the counters and the number of programs that are not
    /// in the baseline. An error if records of a CPU that came online cannot be read.
    pub(super) fn update(&self, snapshot: &mut Snapshot) -> (Activity, Option<u64>, Result<(), Error>) {
        let mut state = lock(&self.state);
        let cpus = state.stream.as_mut().map_or(Ok(()), ProgramStream::follow_cpus);
        state.read(false);
        let now = clock::now();
        let State { ledger, names, .. } = &mut *state;
        ledger.name_owners(|owner| top_level(&named(owner, names)));
        if let Some(programs) = &snapshot.programs {
            let is_whole = snapshot.has_every_program();
            let found = state.ledger.reconcile(snapshot.taken_at, programs, is_whole);
            state.publish_found(found, snapshot.taken_at, now);
        }
        let State { comparison, leaks, orphan_limit, owners, .. } = &mut *state;
        let mut events = comparison.update(snapshot, owners, now);
        owners.update(snapshot);
        events.append(&mut leaks.update(snapshot, owners, now, || orphan_limit.admits(now)));
        state.publish(events);
        let unexpected = state.publish_unexpected(snapshot, now);
        (state.activity(snapshot.taken_at), unexpected, cpus)
    }
}

/// The events that wait for names, for the end of the program.
#[derive(Clone, Debug)]
pub struct LastEvents(Arc<Mutex<State>>);

impl LastEvents {
    /// Publishes them with the names that are known, and from now on each event at once. Needs no rights.
    pub fn publish(&self) {
        lock(&self.0).publish_last();
    }

    /// As [`Self::publish`], without waiting: returns false if events are just being read, and none was published.
    #[must_use]
    pub fn try_publish(&self) -> bool {
        let mut state = match self.0.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        state.publish_last();
        true
    }
}

/// Reads whenever there may be records, and as soon after a reading as it says, until `stop` is closed. Between two readings others have
/// their turn: a mutex goes to whoever comes first, and would always go to this thread.
fn follow(
    wakes: BorrowedFd<'_>,
    stop: BorrowedFd<'_>,
    mut read: impl FnMut() -> Option<Duration>,
) -> io::Result<()> {
    let mut limit = None;
    while wait(wakes, stop, limit)? {
        limit = read();
        thread::sleep(BATCH);
    }
    Ok(())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Reads the kernel's records and publishes them; `woken`, if they woke the thread. Returns whether there are more.
    fn read(&mut self, woken: bool) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        if woken {
            stream.acknowledge();
        }
        for _ in 0..PASSES {
            let Some(stream) = &mut self.stream else { return false };
            let (records, lost) = stream.read();
            let is_last = !stream.has_held();
            self.lost += lost;
            let mut events = Vec::new();
            for record in records {
                if let Some(event) = self.event(&record) {
                    let unexpected = self.unexpected_load(&event);
                    events.push(event);
                    events.extend(unexpected);
                }
            }
            self.publish(events);
            if is_last {
                break;
            }
        }
        self.names.look_up_new();
        self.stream.as_ref().is_some_and(ProgramStream::has_held)
    }

    /// Accounts for a record. Returns its event unless that was published already.
    fn event(&mut self, record: &ProgramRecord) -> Option<Event> {
        // Whoever used it let go of it while this process looked at it, and cannot be known.
        let is_own_look = !record.is_load && record.pid == Some(std::process::id());
        let actor = if is_own_look {
            Some(UNKNOWN)
        } else {
            self.actors.resolve((record.pid, record.thread), record.at, &self.names)
        };
        let facts = if record.is_load {
            let identity = actor.as_ref().and_then(|actor| actor.identity.as_ref());
            let owner = identity.map(|identity| Arc::new(top_level(identity)));
            let facts = KnownProgram { read: None, seen: Some(Box::new(seen(record))), owner };
            self.ledger.loaded(record, facts.clone()).then_some(facts)
        } else {
            let owner = self.owners.of(Kind::Program, record.id).cloned();
            self.ledger.unloaded(record).map(|mut facts| {
                facts.owner = owner.or(facts.owner);
                if facts.read.is_none() && facts.seen.is_none() {
                    // When it was loaded is not known.
                    let name = record.name.clone();
                    facts.seen =
                        Some(Box::new(SeenAtLoad { name, program_type: None, tag: record.tag, at: None }));
                }
                facts
            })
        }?;
        let kind = if record.is_load { EventKind::ProgramLoad } else { EventKind::ProgramUnload };
        let source = EventSource::Kernel;
        let mut event = program_event(kind, record.id, facts, (record.at, clock::now()), source);
        event.actor = actor;
        Some(event)
    }

    /// Publishes loads and unloads that no record reported.
    fn publish_found(&mut self, found: Vec<UnreportedChange>, at: BootTime, now: BootTime) {
        let events = found.into_iter().map(|found| program_found(found, &self.owners, (at, now))).collect();
        self.publish(events);
    }

    /// Returns the event of a program that was just loaded and is not in the baseline.
    fn unexpected_load(&mut self, load: &Event) -> Option<Event> {
        let unexpected = self.unexpected.as_mut().filter(|_| load.kind == EventKind::ProgramLoad)?;
        let (id, tag) = (load.subject.id?, load.subject.tag?);
        let limit = &mut self.unexpected_limit;
        // One above the limit is left to the next reading.
        let admits = || limit.admits(load.observed_at);
        let is_reported = unexpected.loaded(id, tag, load.subject.object_type.as_deref(), admits);
        is_reported.then(|| Event { kind: EventKind::ProgramUnexpected, ..load.clone() })
    }

    /// Publishes which programs of a reading are not in the baseline, and returns their number. What is above the limit is left to the
    /// next reading.
    fn publish_unexpected(&mut self, snapshot: &Snapshot, now: BootTime) -> Option<u64> {
        let (unexpected, limit) = (self.unexpected.as_mut()?, &mut self.unexpected_limit);
        let (count, programs) = unexpected.read(snapshot, || limit.admits(now));
        self.dropped += unexpected.take_missed();
        let event = |program: &Program| {
            let (kind, at) = (EventKind::ProgramUnexpected, (snapshot.taken_at, now));
            let event = Event::new(kind, EventSource::Comparison, at, of_program(&program.facts));
            Event { owner: program.owner.clone(), ..event }
        };
        let events = programs.into_iter().map(event).collect();
        self.publish(events);
        count
    }

    fn publish(&mut self, mut events: Vec<Event>) {
        let before = events.len();
        let now = clock::now();
        events.retain(|event| event.kind.is_warning() || self.limit.admits(now));
        self.dropped += (before - events.len()) as u64;
        self.waiting.push(events);
        self.publish_named();
    }

    /// Publishes the events that wait for names, and from now on each event at once.
    fn publish_last(&mut self) {
        self.waiting.end();
        self.publish_named();
    }

    /// Publishes the events that need not wait for names any more. Returns whether others do.
    fn publish_named(&mut self) -> bool {
        let events = self.waiting.take(clock::now(), &self.names);
        events.iter().filter(|event| event.kind == EventKind::ProgramUnexpected).for_each(warn_of);
        self.events.publish(events);
        !self.waiting.is_empty()
    }

    fn activity(&mut self, began: BootTime) -> Activity {
        let lost = self.stream.as_ref().map(|_| self.lost);
        let mut activity = Activity { lost, dropped: self.dropped, ..Activity::default() };
        self.ledger.fill(began, &mut activity);
        let sum = |count: fn(&ProgramActivity) -> u64| activity.programs.iter().map(count).sum();
        let (created, destroyed) = (sum(|programs| programs.loads), sum(|programs| programs.unloads));
        activity.objects.push(ObjectActivity { kind: Kind::Program, created, destroyed });
        self.comparison.fill(&mut activity);
        activity
    }
}

/// Returns what the record of a load says, and the program itself if it is still there.
fn seen(record: &ProgramRecord) -> SeenAtLoad {
    let found = look(record.id, record.tag);
    let program_type = found.as_ref().and_then(|found| found.program_type.clone());
    let short = found.and_then(|found| found.name);
    // The symbol has the whole name, unless it is that of another function.
    let is_whole = |name: &&String| short.as_ref().is_none_or(|short| name.starts_with(short.as_str()));
    let name = record.name.as_ref().filter(is_whole).cloned().or(short);
    SeenAtLoad { name, program_type, tag: record.tag, at: Some(record.at) }
}

/// Logs that a program is not in the baseline.
fn warn_of(event: &Event) {
    let Event { subject, actor, owner, .. } = event;
    let unknown = || "?".to_owned();
    let tag = subject.tag.map_or_else(unknown, |tag| tag.to_string());
    let owner =
        owner.as_ref().map_or_else(unknown, |owner| format!("{} {}", owner.kind().as_str(), owner.name()));
    let process = actor.as_ref().and_then(|actor| actor.pid);
    let process = process.map_or_else(String::new, |pid| format!(", loaded by process {pid}"));
    warn!(
        "program {} is not in the baseline: name {:?}, type {}, tag {tag}, owner {owner}{process}",
        subject.id.map_or_else(unknown, |id| id.to_string()),
        subject.name.as_deref().unwrap_or_default(),
        subject.object_type.as_deref().unwrap_or("?"),
    );
}

/// Returns the event of a load or unload that a comparison of readings found.
fn program_found(found: UnreportedChange, owners: &LastOwners, at: (BootTime, BootTime)) -> Event {
    let UnreportedChange { id, is_load, mut facts } = found;
    facts.owner = owners.of(Kind::Program, id).cloned().or(facts.owner);
    let kind = if is_load { EventKind::ProgramLoad } else { EventKind::ProgramUnload };
    program_event(kind, id, facts, at, EventSource::Comparison)
}

fn program_event(
    kind: EventKind,
    id: u32,
    facts: KnownProgram,
    at: (BootTime, BootTime),
    source: EventSource,
) -> Event {
    let subject = Subject {
        kind: Some(Kind::Program),
        id: Some(id),
        name: facts.name().filter(|name| !name.is_empty()).map(str::to_owned),
        object_type: facts.program_type().map(str::to_owned),
        tag: facts.tag(),
        since: facts.loaded_at().filter(|_| kind == EventKind::ProgramUnload),
        ..Subject::default()
    };
    Event { owner: facts.owner, ..Event::new(kind, source, at, subject) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn the_account_is_free_between_readings_that_leave_more() {
        let (wakes, mut records) = pipe().expect("a pipe");
        let (stopped, stop) = pipe().expect("a pipe");
        records.write_all(b"records").expect("there is room");
        let (account, readings) = (Mutex::new(()), AtomicU32::new(0));
        let reading = || {
            let _held = account.lock().expect("no reading panics");
            thread::sleep(Duration::from_millis(1));
            readings.fetch_add(1, Ordering::Relaxed);
            Some(Duration::ZERO)
        };
        thread::scope(|scope| {
            let thread = scope.spawn(|| follow(wakes.as_fd(), stopped.as_fd(), reading));
            let count = || readings.load(Ordering::Relaxed);
            let until = |count_reached: u32| {
                while count() < count_reached {
                    thread::sleep(Duration::from_millis(1));
                }
            };
            until(1);
            let mut longest = 0;
            for _ in 0..20 {
                let before = count();
                drop(account.lock().expect("no reading panics"));
                longest = longest.max(count() - before);
                until(before + 2);
            }
            drop(stop);
            thread.join().expect("it does not panic").expect("it can wait");
            assert!(longest <= 10, "{longest} readings had their turn before");
        });
    }

    #[test]
    fn the_last_events_wait_for_nobody() {
        let events = Events::default();
        let context = WatchContext {
            newest: NewestIds::default(),
            names: NameCache::default(),
            limit: 0,
            unexpected: None,
        };
        let (watcher, started) = Watcher::start(None, events.clone(), context);
        started.expect("there is no thread");
        let last = watcher.last_events();
        let reading = lock(&watcher.state);
        assert!(!last.try_publish(), "a reading goes on");
        drop(reading);
        assert!(last.try_publish());
    }
}
