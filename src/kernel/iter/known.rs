//! A table whose objects are known to the programs after the iterator has visited them: a pass then reads what changes of all of them
//! in a few runs, where the iterator runs once for each object.
//!
//! Entry point: [`KnownTable::begin`]. `bpf/known.h` says why what a pass reads is true.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::FromBytes;

use super::Table;
use super::cpus::SharedCpus;
use super::records::{IterRequest, UNKNOWN_U32};
use crate::host::issues::Issues;
use crate::kernel::backend::Refusal;
use crate::model::{BootTime, Kind};
use crate::sys::Error;
use crate::sys::bpf as sys;

/// For how long objects are known before the iterator visits all of them again: it finds new ones with a lower id, after ids have
/// wrapped around, and those that were created on a CPU that has been offline since.
const KNOWN_FOR: Duration = Duration::from_mins(1);

/// For how many readings they are known at least.
const MIN_READINGS: u32 = 4;

/// What changes of an object, as a pass reports it.
pub(super) trait Counters: FromBytes {
    /// Returns its id, 0 if it is gone, and the second field. [`UNKNOWN_U32`] ends a pass; then the second field says whether it has
    /// reported every object.
    fn head(&self) -> (u32, u32);
}

/// A table with its iterator, and the program for passes over the objects that the iterator has visited.
#[derive(Debug)]
pub(crate) struct KnownTable {
    kind: Kind,
    iterator: Table,
    /// The program, or why there are no passes.
    pass: Result<Table, Refusal>,
    /// The map that holds the request, and the request itself.
    request_map: Arc<OwnedFd>,
    request: IterRequest,
    cpus: SharedCpus,
    /// The order of CPUs in this reading.
    order: u32,
    /// Whether there are objects in this reading that are newer than the known ones.
    has_new: bool,
    known: Option<Known>,
}

/// What is known of the objects that the programs know.
#[derive(Clone, Copy, Debug)]
struct Known {
    since: BootTime,
    /// The highest id of an object up to now.
    highest: u32,
    /// The order of CPUs when they were learned.
    order: u32,
    /// Readings since then.
    readings: u32,
}

impl KnownTable {
    pub(super) fn new(
        kind: Kind,
        iterator: Table,
        pass: Result<Table, Refusal>,
        request_map: Arc<OwnedFd>,
        request: IterRequest,
        cpus: SharedCpus,
    ) -> Self {
        Self { kind, iterator, pass, request_map, request, cpus, order: 0, has_new: false, known: None }
    }

    /// Returns why there are no passes; `None` if there are.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.pass.as_ref().err()
    }

    /// Begins a reading. Returns whether a pass can be made; otherwise the iterator has to visit all objects: also if this process may
    /// not list ids, since a visit that looks for new objects only would cost as much as the pass saves.
    ///
    /// `None`, and an issue, on failure.
    pub(super) fn begin(&mut self, now: BootTime, issues: &mut Issues) -> Option<bool> {
        let order = self.cpus.refresh();
        self.order = order.map_err(|error| issues.record(self.kind, error)).ok()?;
        let is_known = |known: &Known| {
            let is_recent = now.since(known.since) < KNOWN_FOR || known.readings < MIN_READINGS;
            known.order == self.order && is_recent
        };
        self.known = self.known.filter(is_known);
        if let Some(known) = &mut self.known {
            known.readings += 1;
        }
        let Some(known) = self.known.filter(|_| self.pass.is_ok()) else { return Some(false) };
        let newer = sys::next_id(self.kind, known.highest);
        self.has_new = newer != Ok(None);
        Some(newer.is_ok())
    }

    /// Has the iterator visit all objects, with the facts of programs from an id on. `take` is that of [`Table::read`].
    ///
    /// `None`, and an issue, on failure. On success, [`Self::learned`] is to be called.
    pub(super) fn read_all(
        &mut self,
        program_facts_from: u32,
        issues: &mut Issues,
        take: impl FnMut(&[u8]) -> usize,
    ) -> Option<()> {
        self.known = None;
        self.iterate(0, program_facts_from, take).map_err(|error| issues.record(self.kind, error)).ok()
    }

    /// Makes the objects known that the iterator has visited. `highest` is the highest id of them.
    pub(super) fn learned(&mut self, now: BootTime, highest: u32) {
        self.known = Some(Known { since: now, highest, order: self.order, readings: 0 });
    }

    /// Makes a pass over the known objects, and calls `each` with those that exist. Returns whether these are all of the objects that
    /// the iterator has visited and that still exist: otherwise it has to visit all. A failure is an issue as well.
    pub(super) fn read_known<C: Counters>(&mut self, issues: &mut Issues, each: impl FnMut(&C)) -> bool {
        let read = self.run_pass(each).map_err(|error| issues.record(self.kind, error));
        if read != Ok(true) {
            self.known = None;
        }
        read == Ok(true)
    }

    fn run_pass<C: Counters>(&mut self, mut each: impl FnMut(&C)) -> Result<bool, Error> {
        self.request.pass = self.request.pass.wrapping_add(1);
        self.write_request(0, 0)?;
        let Ok(pass) = &mut self.pass else { return Ok(false) };
        let mut records = PassRecords::default();
        loop {
            let before = records.count;
            pass.run(|bytes| records.take(bytes, &mut each))?;
            if records.end.is_some() || records.count == before {
                return Ok(records.end == Some(true));
            }
        }
    }

    /// Has the iterator visit objects that are newer than those that are known, if there are any, with the facts of programs.
    ///
    /// `None`, and an issue, on failure.
    pub(super) fn read_new(&mut self, issues: &mut Issues, take: impl FnMut(&[u8]) -> usize) -> Option<()> {
        let Some(known) = self.known.filter(|_| self.has_new) else { return Some(()) };
        let first = known.highest.saturating_add(1);
        let read = self.iterate(first, first, take);
        if read.is_err() {
            self.known = None;
        }
        read.map_err(|error| issues.record(self.kind, error)).ok()
    }

    /// Notes the highest id after a pass and a visit of new objects.
    pub(super) fn reached(&mut self, highest: u32) {
        if let Some(known) = &mut self.known {
            known.highest = known.highest.max(highest);
        }
    }

    fn iterate(
        &mut self,
        known_below: u32,
        program_facts_from: u32,
        take: impl FnMut(&[u8]) -> usize,
    ) -> Result<(), Error> {
        self.write_request(known_below, program_facts_from)?;
        self.iterator.run(take)
    }

    fn write_request(&mut self, known_below: u32, program_facts_from: u32) -> Result<(), Error> {
        let (possible_cpus, online_cpus) = self.cpus.counts();
        let request =
            IterRequest { program_facts_from, known_below, possible_cpus, online_cpus, ..self.request };
        sys::update_map(self.request_map.as_fd(), 0, &request)
    }
}

/// The records of a pass.
#[derive(Default)]
pub(super) struct PassRecords {
    count: u64,
    /// After the last record: whether every object was reported.
    end: Option<bool>,
}

impl PassRecords {
    /// Takes the complete records at the start of `bytes`, calls `each` with those of objects that exist, and returns their length.
    pub(super) fn take<C: Counters>(&mut self, bytes: &[u8], mut each: impl FnMut(&C)) -> usize {
        let mut rest = bytes;
        while let Ok((counters, after)) = C::read_from_prefix(rest) {
            rest = after;
            self.count += 1;
            match counters.head() {
                (0, _) => {}
                (UNKNOWN_U32, complete) => self.end = Some(complete != 0),
                _ => each(&counters),
            }
        }
        bytes.len() - rest.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::super::records::ProgramCounters;
    use super::*;

    fn counters(id: u32, used_maps: u32) -> ProgramCounters {
        ProgramCounters { id, used_maps, runs: 1, run_time: 2, misses: 3 }
    }

    /// Returns the ids of the programs in a stream that is cut into two, and the records.
    fn read(stream: &[ProgramCounters], cut: usize) -> (Vec<u32>, PassRecords) {
        let (bytes, mut ids, mut records) = (stream.as_bytes(), Vec::new(), PassRecords::default());
        let taken = records.take(&bytes[..cut], |counters: &ProgramCounters| ids.push(counters.id));
        let rest = &bytes[taken..];
        assert_eq!(records.take(rest, |counters: &ProgramCounters| ids.push(counters.id)), rest.len());
        (ids, records)
    }

    #[test]
    fn the_last_record_says_whether_the_pass_was_complete() {
        for (complete, end) in [(1, Some(true)), (0, Some(false))] {
            let stream = [counters(7, 0), counters(0, 4), counters(9, 1), counters(UNKNOWN_U32, complete)];
            let (ids, records) = read(&stream, 0);
            assert_eq!((ids, records.end), (vec![7, 9], end), "what is gone is left out");
        }
        assert_eq!(read(&[counters(7, 0)], 0).1.end, None);
    }

    proptest! {
        #[test]
        fn records_are_reassembled(
            ids in prop::collection::vec(0_u32..5, 0..20),
            cut: prop::sample::Index,
        ) {
            let stream: Vec<_> = ids.iter().map(|&id| counters(id, 0)).collect();
            let (found, records) = read(&stream, cut.index(stream.as_bytes().len() + 1));
            prop_assert_eq!(records.count, ids.len() as u64);
            prop_assert_eq!(found, ids.into_iter().filter(|&id| id != 0).collect::<Vec<_>>());
        }
    }
}
