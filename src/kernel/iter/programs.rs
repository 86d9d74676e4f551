//! The table of programs, read by an iterator, or by a pass over those that it has visited: counters of each program, and facts of
//! new ones.
//!
//! Entry point: [`Programs::read`].

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::known::{Counters, KnownTable};
use super::records::{MAX_REPORTED_MAPS, ProgramCounters, ProgramFactsRecord, ProgramRecord, UNKNOWN_U32};
use crate::ascending::Ascending;
use crate::host::procfs::page_size;
use crate::kernel::backend::Refusal;
use crate::kernel::reading::{ReadContext, nonzero};
use crate::model::enums::program_type;
use crate::model::{BootTime, Kind, Program, ProgramFacts, Tag};
use crate::sys::Error;
use crate::sys::bpf as sys;
use crate::text::printable;

/// The table of programs, with a cache of facts.
#[derive(Debug)]
pub(crate) struct Programs {
    table: KnownTable,
    page_size: u64,
    /// In ascending order of ids.
    cache: Vec<Arc<ProgramFacts>>,
}

/// A program in the stream.
struct ParsedProgram<'a> {
    record: ProgramRecord,
    facts: Option<ParsedProgramFacts<'a>>,
}

struct ParsedProgramFacts<'a> {
    record: ProgramFactsRecord,
    full_name: &'a [u8],
    attach_to: &'a [u8],
    /// Numbers of four bytes; `None` if they could not be read.
    map_ids: Option<&'a [u8]>,
}

impl Counters for ProgramCounters {
    fn head(&self) -> (u32, u32) {
        (self.id, self.used_maps)
    }
}

impl Programs {
    pub(crate) fn new(table: KnownTable) -> Self {
        Self { table, page_size: page_size(), cache: Vec::new() }
    }

    /// Returns why each reading has one run for each program; `None` if it has not.
    pub(crate) fn pass_refusal(&self) -> Option<&Refusal> {
        self.table.refusal()
    }

    /// Reads the table; `None`, and an issue, on failure.
    pub(crate) fn read(&mut self, cx: &mut ReadContext<'_>) -> Option<Vec<Program>> {
        let is_known = self.table.begin(cx.taken_at, cx.issues)?;
        let known = if is_known { self.read_known(cx)? } else { Err(None) };
        let mut rows = match known {
            Ok(rows) => rows,
            Err(missing) => self.read_all(missing, cx)?,
        };
        for row in &mut rows {
            query_map_ids(cx, row);
        }
        let facts = || rows.iter().map(|program| &program.facts);
        let unchanged = self.cache.len() == rows.len()
            && self.cache.iter().zip(facts()).all(|(cached, facts)| Arc::ptr_eq(cached, facts));
        if !unchanged {
            self.cache.clear();
            self.cache.extend(facts().cloned());
        }
        Some(rows)
    }

    /// Returns all programs by a pass, and a visit of new ones; the lowest id without facts if the iterator has to visit all of them.
    fn read_known(&mut self, cx: &mut ReadContext<'_>) -> Option<Result<Vec<Program>, Option<u32>>> {
        let mut parser = ProgramParser::new(&self.cache, self.page_size);
        let complete = self.table.read_known(cx.issues, |counters| parser.add_known(counters));
        if !complete || parser.missing.is_some() {
            return Some(Err(parser.missing));
        }
        self.table.read_new(cx.issues, |bytes| parser.take(bytes))?;
        let ProgramParser { rows, missing, .. } = parser;
        self.table.reached(highest(&rows));
        Some(missing.map_or(Ok(rows), |missing| Err(Some(missing))))
    }

    /// Returns all programs by the iterator, with facts of those from the lowest id without.
    fn read_all(&mut self, missing: Option<u32>, cx: &mut ReadContext<'_>) -> Option<Vec<Program>> {
        // Ids ascend, so new programs follow the cached ones, until ids wrap around and are reused. Then facts are missing, and the
        // table is read again with these.
        let after_cached = self.cache.last().map_or(0, |last| last.id.saturating_add(1));
        let mut facts_from = missing.unwrap_or(after_cached);
        loop {
            let mut parser = ProgramParser::new(&self.cache, self.page_size);
            self.table.read_all(facts_from, cx.issues, |bytes| parser.take(bytes))?;
            match parser.missing {
                None => {
                    self.table.learned(cx.taken_at, highest(&parser.rows));
                    return Some(parser.rows);
                }
                // It decreases each time: facts are reported from this id on.
                Some(missing) => facts_from = missing,
            }
        }
    }
}

/// Returns the highest id.
fn highest(rows: &[Program]) -> u32 {
    rows.last().map_or(0, |last| last.facts.id)
}

/// Parses the stream of one run over the table.
pub(super) struct ProgramParser<'a> {
    cache: Ascending<Arc<ProgramFacts>, &'a [Arc<ProgramFacts>]>,
    page_size: u64,
    rows: Vec<Program>,
    /// The lowest id of a program whose facts are neither cached nor reported.
    missing: Option<u32>,
}

impl<'a> ProgramParser<'a> {
    pub(super) fn new(cache: &'a [Arc<ProgramFacts>], page_size: u64) -> Self {
        let rows = Vec::with_capacity(cache.len() + cache.len() / 16 + 16);
        Self { cache: Ascending::new(cache, |facts| facts.id), page_size, rows, missing: None }
    }

    /// Takes the complete records at the start of `bytes`, and returns their length.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((parsed, after)) = ParsedProgram::first(rest) {
            rest = after;
            let record = &parsed.record;
            let cached = self.cache.seek(record.id).filter(|facts| is_same(facts, record));
            let facts = match (cached, &parsed.facts) {
                (Some(facts), _) => Arc::clone(facts),
                (None, Some(facts)) => Arc::new(facts.to_model(record, self.page_size)),
                (None, None) => {
                    self.add_missing(record.id);
                    continue;
                }
            };
            self.add(facts, record.runs, record.run_time, record.misses);
        }
        bytes.len() - rest.len()
    }

    /// Adds a program that a pass reports. Its id says that it is the cached one.
    pub(super) fn add_known(&mut self, counters: &ProgramCounters) {
        let cached = self.cache.seek(counters.id).filter(|facts| has_same_maps(facts, counters.used_maps));
        match cached.map(Arc::clone) {
            Some(facts) => self.add(facts, counters.runs, counters.run_time, counters.misses),
            None => self.add_missing(counters.id),
        }
    }

    fn add_missing(&mut self, id: u32) {
        self.missing = Some(self.missing.map_or(id, |smallest| smallest.min(id)));
    }

    fn add(&mut self, facts: Arc<ProgramFacts>, runs: u64, run_time: u64, misses: u64) {
        self.rows.push(Program {
            facts,
            run_time: Some(Duration::from_nanos(run_time)),
            runs: Some(runs),
            recursion_misses: Some(misses),
            capabilities: None,
            metadata: None,
            owner: None,
        });
    }
}

/// Queries the ids of the maps that a program uses if the iterator could not report them. An issue on failure.
fn query_map_ids(cx: &mut ReadContext<'_>, row: &mut Program) {
    if row.facts.map_ids.is_some() {
        return;
    }
    let ids = sys::fd_by_id(Kind::Program, row.facts.id)
        .and_then(|fd| sys::program_map_ids(fd.as_fd(), MAX_REPORTED_MAPS));
    match ids {
        Ok(mut ids) => {
            ids.sort_unstable();
            Arc::make_mut(&mut row.facts).map_ids = Some(ids);
        }
        // The program is gone.
        Err(Error { errno: Errno::ENOENT, .. }) => {}
        Err(error) => cx.issues.record(Kind::Program, error),
    }
}

/// Returns whether facts and a record are of the same program, and the program still uses the same number of maps.
fn is_same(facts: &ProgramFacts, record: &ProgramRecord) -> bool {
    facts.loaded_at == BootTime(record.load_time)
        && facts.tag.0 == record.tag
        && has_same_maps(facts, record.used_maps)
}

/// Returns whether a program still uses the same number of maps.
fn has_same_maps(facts: &ProgramFacts, used_maps: u32) -> bool {
    match &facts.map_ids {
        Some(ids) => ids.len() == used_maps as usize,
        // The ids of too many maps are queried, until that succeeds; otherwise one more was bound during the reading.
        None => used_maps > MAX_REPORTED_MAPS,
    }
}

impl<'a> ParsedProgram<'a> {
    /// Parses the first program in the stream, and returns the rest; `None` if it is incomplete.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (record, rest) = ProgramRecord::read_from_prefix(bytes).ok()?;
        if record.has_facts == 0 {
            return Some((Self { record, facts: None }, rest));
        }
        let (facts, rest) = ProgramFactsRecord::read_from_prefix(rest).ok()?;
        let (full_name, rest) = rest.split_at_checked(facts.full_name_len as usize)?;
        let (attach_to, rest) = rest.split_at_checked(facts.attach_to_len as usize)?;
        let (map_ids, rest) = rest.split_at_checked((facts.map_count as usize).checked_mul(4)?)?;
        let (complete, rest) = u32::read_from_prefix(rest).ok()?;
        // The kernel stores a larger number of maps before the larger array. No map has the id 0.
        let are_ids = complete != 0 && map_ids.chunks_exact(4).all(|id| id != [0; 4]);
        let map_ids = are_ids.then_some(map_ids);
        let facts = ParsedProgramFacts { record: facts, full_name, attach_to, map_ids };
        Some((Self { record, facts: Some(facts) }, rest))
    }
}

impl ParsedProgramFacts<'_> {
    fn to_model(&self, record: &ProgramRecord, page_size: u64) -> ProgramFacts {
        let facts = &self.record;
        let name = if self.full_name.is_empty() { &facts.name[..] } else { self.full_name };
        let map_ids = |ids| {
            let mut ids: Vec<u32> = <[[u8; 4]]>::ref_from_bytes(ids)
                .expect("a multiple of four bytes")
                .iter()
                .map(|id| u32::from_ne_bytes(*id))
                .collect();
            ids.sort_unstable();
            ids
        };
        ProgramFacts {
            id: record.id,
            name: printable(name),
            program_type: program_type::from_number(facts.program_type),
            tag: Tag(record.tag),
            gpl_compatible: facts.gpl_compatible != 0,
            loaded_at: BootTime(record.load_time),
            uid: facts.uid,
            btf_id: nonzero(facts.btf_id),
            size_jitted: facts.size_jitted,
            size_translated: facts.size_translated,
            mem: Some(u64::from(facts.pages) * page_size),
            verified_instructions: (facts.verified_instructions != UNKNOWN_U32)
                .then_some(facts.verified_instructions),
            attach_to: (!self.attach_to.is_empty()).then(|| printable(self.attach_to)),
            map_ids: self.map_ids.map(map_ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    const PAGE: u64 = 4096;

    /// A record without facts.
    fn counters(id: u32, load_time: u64, used_maps: u32) -> ProgramRecord {
        ProgramRecord {
            id,
            used_maps,
            load_time,
            tag: [1, 2, 3, 4, 5, 6, 7, 8],
            runs: 10,
            run_time: 1000,
            misses: 3,
            has_facts: 0,
            padding: 0,
        }
    }

    /// Encodes a program with its facts, of which the maps may be unknown.
    fn with_facts(
        record: ProgramRecord,
        full_name: &str,
        attach_to: &str,
        map_ids: Option<&[u32]>,
    ) -> Vec<u8> {
        let len = |text: &str| text.len().try_into().expect("a short text");
        let mut name = [0; 16];
        name[..5].copy_from_slice(b"short");
        let facts = ProgramFactsRecord {
            program_type: 6,
            size_translated: 16,
            size_jitted: 50,
            pages: 2,
            gpl_compatible: 1,
            uid: 1000,
            btf_id: 0,
            verified_instructions: UNKNOWN_U32,
            name,
            full_name_len: len(full_name),
            attach_to_len: len(attach_to),
            map_count: map_ids.map_or(0, |ids| ids.len().try_into().expect("a few")),
            padding: 0,
        };
        let record = ProgramRecord { has_facts: 1, ..record };
        let ids = map_ids.unwrap_or_default();
        let complete = u32::from(map_ids.is_some());
        let names = [full_name.as_bytes(), attach_to.as_bytes()].concat();
        [record.as_bytes(), facts.as_bytes(), &names, ids.as_bytes(), complete.as_bytes()].concat()
    }

    fn read(cache: &[Arc<ProgramFacts>], stream: &[Vec<u8>]) -> (Vec<Program>, Option<u32>) {
        let stream = stream.concat();
        let mut parser = ProgramParser::new(cache, PAGE);
        assert_eq!(parser.take(&stream), stream.len());
        (parser.rows, parser.missing)
    }

    fn facts(stream: &[Vec<u8>]) -> Vec<Arc<ProgramFacts>> {
        let (rows, missing) = read(&[], stream);
        assert_eq!(missing, None);
        rows.into_iter().map(|program| program.facts).collect()
    }

    fn without_facts(record: ProgramRecord) -> Vec<u8> {
        record.as_bytes().to_vec()
    }

    #[test]
    fn records_become_programs() {
        let stream = [
            with_facts(counters(7, 99, 2), "a_name_of_more_than_15", "do_exit", Some(&[9, 4])),
            with_facts(counters(8, 100, 0), "", "", Some(&[])),
        ];
        let (programs, _) = read(&[], &stream);
        let [first, second] = &programs[..] else { panic!("{programs:?}") };
        assert_eq!(&*first.facts.name, "a_name_of_more_than_15");
        assert_eq!(first.facts.program_type.name.as_deref(), Some("xdp"));
        assert_eq!(first.facts.attach_to.as_deref(), Some("do_exit"));
        assert_eq!(first.facts.map_ids, Some(vec![4, 9]), "in ascending order");
        assert_eq!(first.facts.tag.to_string(), "0102030405060708");
        assert_eq!((first.facts.mem, first.facts.uid, first.facts.btf_id), (Some(2 * PAGE), 1000, None));
        assert_eq!((first.facts.size_translated, first.facts.size_jitted), (16, 50));
        assert!(first.facts.gpl_compatible && first.facts.verified_instructions.is_none());
        assert_eq!(first.run_time, Some(Duration::from_micros(1)));
        assert_eq!((first.runs, first.recursion_misses), (Some(10), Some(3)));
        assert_eq!((&*second.facts.name, &second.facts.attach_to), ("short", &None));
        assert_eq!(second.facts.map_ids, Some(Vec::new()));
    }

    #[test]
    fn unchanged_facts_are_shared_even_if_they_are_reported_again() {
        let reported = with_facts(counters(7, 99, 1), "", "", Some(&[4]));
        let cached = facts(std::slice::from_ref(&reported));
        for again in [without_facts(counters(7, 99, 1)), reported] {
            let (rows, missing) = read(&cached, &[again]);
            assert!(missing.is_none() && Arc::ptr_eq(&cached[0], &rows[0].facts));
        }
    }

    #[test]
    fn facts_of_a_changed_program_are_requested_in_a_second_pass() {
        let cached = facts(&[
            with_facts(counters(3, 30, 0), "", "", Some(&[])),
            with_facts(counters(5, 50, 1), "", "", Some(&[4])),
            with_facts(counters(9, 90, 0), "", "", Some(&[])),
        ]);
        let other_tag = ProgramRecord { tag: [0; 8], ..counters(5, 50, 1) };
        // The id was reused, twice; a map was bound to the program; ids wrapped around and a new one is between the others.
        let others = [counters(5, 51, 1), other_tag, counters(5, 50, 2), counters(4, 40, 0)];
        for other in others {
            let stream =
                [without_facts(counters(3, 30, 0)), without_facts(other), without_facts(counters(9, 90, 0))];
            let (rows, missing) = read(&cached, &stream);
            assert_eq!(missing, Some(other.id));
            assert_eq!(rows.len(), 2, "a program without facts has no row");

            let ids: Vec<u32> = (1..=other.used_maps).collect();
            let stream = [
                without_facts(counters(3, 30, 0)),
                with_facts(other, "", "", Some(&ids)),
                with_facts(counters(9, 90, 0), "", "", Some(&[])),
            ];
            let (rows, missing) = read(&cached, &stream);
            assert_eq!((rows.len(), missing), (3, None));
            assert_eq!(rows[1].facts.map_ids, Some(ids));
            assert_eq!(rows[1].facts.loaded_at, BootTime(other.load_time));
            assert!(Arc::ptr_eq(&cached[2], &rows[2].facts), "{other:?}");
        }
    }

    #[test]
    fn a_pass_reports_cached_programs_unless_their_maps_have_changed() {
        let cached = facts(&[
            with_facts(counters(3, 30, 0), "", "", Some(&[])),
            with_facts(counters(5, 50, 1), "", "", Some(&[4])),
            with_facts(counters(9, 90, 2), "", "", Some(&[4, 6])),
        ]);
        let known = |id, used_maps| ProgramCounters { id, used_maps, runs: 7, run_time: 80, misses: 1 };
        let read = |stream: &[ProgramCounters]| {
            let mut parser = ProgramParser::new(&cached, PAGE);
            for counters in stream {
                parser.add_known(counters);
            }
            (parser.rows, parser.missing)
        };
        let (rows, missing) = read(&[known(3, 0), known(9, 2)]);
        assert_eq!(missing, None);
        assert!(Arc::ptr_eq(&rows[0].facts, &cached[0]) && Arc::ptr_eq(&rows[1].facts, &cached[2]));
        assert_eq!((rows[1].runs, rows[1].recursion_misses), (Some(7), Some(1)));
        assert_eq!(rows[1].run_time, Some(Duration::from_nanos(80)));
        assert_eq!(read(&[known(3, 0), known(5, 2), known(9, 2)]).1, Some(5), "a map was bound to it");
        assert_eq!(read(&[known(4, 0), known(6, 0)]).1, Some(4), "they are not cached");
    }

    #[test]
    fn facts_are_requested_from_the_lowest_missing_id() {
        let stream = [4, 6, 8].map(|id| without_facts(counters(id, id.into(), 0)));
        assert_eq!(read(&[], &stream).1, Some(4));
    }

    #[test]
    fn unknown_maps_are_requested_again_unless_they_are_too_many() {
        let cached = facts(&[with_facts(counters(7, 99, 2), "", "", None)]);
        assert_eq!(cached[0].map_ids, None);
        assert_eq!(read(&cached, &[without_facts(counters(7, 99, 2))]).1, Some(7));
        let many = counters(7, 99, MAX_REPORTED_MAPS + 1);
        let cached = facts(&[with_facts(many, "", "", None)]);
        assert_eq!(read(&cached, &[without_facts(many)]).1, None, "they are queried");
    }

    #[test]
    fn an_id_of_zero_is_none_of_a_map() {
        let facts = facts(&[with_facts(counters(7, 99, 2), "", "", Some(&[4, 0]))]);
        assert_eq!(facts[0].map_ids, None);
    }

    #[test]
    fn the_ids_of_many_maps_are_reported() {
        let ids: Vec<u32> = (1..=MAX_REPORTED_MAPS).collect();
        let facts = facts(&[with_facts(counters(7, 99, MAX_REPORTED_MAPS), "", "", Some(&ids))]);
        assert_eq!(facts[0].map_ids.as_ref(), Some(&ids));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(stream in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut parser = ProgramParser::new(&[], PAGE);
            prop_assert!(parser.take(&stream) <= stream.len());
        }

        #[test]
        fn a_malformed_stream_does_not_panic(
            programs in prop::collection::vec((1_u32..9, 0_u64..3, 0_usize..4, "[a-z]{0,20}", any::<bool>()), 1..8),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut: prop::sample::Index,
        ) {
            let cached = facts(&[with_facts(counters(3, 1, 0), "", "", Some(&[]))]);
            let program = |(id, load_time, maps, name, has_facts): (u32, u64, usize, String, bool)| {
                let record = counters(id, load_time, u32::try_from(maps).expect("a few"));
                if has_facts { with_facts(record, &name, "", Some(&[1, 2, 3][..maps])) } else { without_facts(record) }
            };
            let mut bytes = programs.into_iter().map(program).collect::<Vec<_>>().concat();
            for (offset, byte) in damage {
                let offset = offset.index(bytes.len());
                bytes[offset] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let mut parser = ProgramParser::new(&cached, PAGE);
            prop_assert!(parser.take(&bytes) <= bytes.len());
        }

        #[test]
        fn complete_programs_of_a_truncated_stream_are_parsed(cut in 0_usize..400) {
            let stream = [
                with_facts(counters(1, 1, 1), "one", "to", Some(&[1])),
                with_facts(counters(2, 2, 1), "", "", None),
                with_facts(counters(3, 3, 0), "", "to", Some(&[])),
            ];
            let ends = stream.iter().scan(0, |end, program| {
                *end += program.len();
                Some(*end)
            });
            let ends: Vec<usize> = ends.collect();
            let bytes = stream.concat();
            let cut = cut.min(bytes.len());
            let complete = ends.iter().copied().filter(|&end| end <= cut);
            let mut parser = ProgramParser::new(&[], PAGE);
            prop_assert_eq!(parser.take(&bytes[..cut]), complete.clone().max().unwrap_or(0));
            prop_assert_eq!(parser.rows.len(), complete.count());
        }
    }
}
