//! Programs, as the iterator tells them: what moves of each, and the facts of those that are new.

use std::iter::Peekable;
use std::os::fd::{AsFd, OwnedFd};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use zerocopy::FromBytes;

use super::Table;
use super::records::{MAX_USED_MAPS, ProgramFactsRecord, ProgramRecord, Request, UNKNOWN_U32};
use crate::host::clock::BootOffset;
use crate::host::text::printable;
use crate::kernel::reading::{ReadContext, nonzero};
use crate::model::enums::program_type;
use crate::model::{Kind, Program, ProgramFacts, Tag};
use crate::sys::bpf as sys;

/// The table of programs, and what is known of them.
#[derive(Debug)]
pub(crate) struct Programs {
    table: Table,
    /// The map by which the programs are asked, and what stands in it.
    ask: OwnedFd,
    request: Request,
    page_size: u64,
    /// In ascending order of ids.
    known: Vec<Arc<ProgramFacts>>,
}

/// A program in the stream.
struct Told<'a> {
    record: ProgramRecord,
    facts: Option<ToldFacts<'a>>,
}

struct ToldFacts<'a> {
    record: ProgramFactsRecord,
    full_name: &'a [u8],
    attach_to: &'a [u8],
    /// Each a number of four bytes.
    map_ids: &'a [u8],
}

impl Programs {
    pub(crate) fn new(table: Table, ask: OwnedFd, request: Request) -> Self {
        Self { table, ask, request, page_size: page_size(), known: Vec::new() }
    }

    /// Reads the table; `None`, and an issue, when that fails.
    pub(crate) fn read(&mut self, cx: &mut ReadContext<'_>) -> Option<Vec<Program>> {
        // Ids ascend, so new programs stand behind the known ones, until ids have wrapped around or an id is given out again.
        // Then the table is read once more, with the facts of what was missing.
        let mut facts_from = self.known.last().map_or(0, |last| last.id.saturating_add(1));
        loop {
            self.ask(cx, facts_from)?;
            let (rows, missing) = self.read_once(cx)?;
            match missing {
                None => {
                    let facts = || rows.iter().map(|program| &program.facts);
                    let same = self.known.len() == rows.len()
                        && self.known.iter().zip(facts()).all(|(known, facts)| Arc::ptr_eq(known, facts));
                    if !same {
                        self.known.clear();
                        self.known.extend(facts().cloned());
                    }
                    return Some(rows);
                }
                // Strictly less each time: what is not less has its facts.
                Some(missing) => facts_from = missing,
            }
        }
    }

    fn ask(&self, cx: &mut ReadContext<'_>, program_facts_from: u32) -> Option<()> {
        let request = Request { program_facts_from, ..self.request };
        let asked = sys::update_map(self.ask.as_fd(), 0, &request);
        asked.map_err(|error| cx.issues.record(Kind::Program, error)).ok()
    }

    /// Every program, and the smallest id of one whose facts are not known.
    fn read_once(&mut self, cx: &mut ReadContext<'_>) -> Option<(Vec<Program>, Option<u32>)> {
        let mut found = Found::new(&self.known, cx.boot, self.page_size);
        self.table.read(cx.issues, |bytes| found.take(bytes))?;
        Some((found.rows, found.missing))
    }
}

/// What one run over the table found so far.
struct Found<'a> {
    /// Those of the known that are still to come.
    earlier: Peekable<slice::Iter<'a, Arc<ProgramFacts>>>,
    boot: BootOffset,
    page_size: u64,
    rows: Vec<Program>,
    /// The smallest id of a program whose facts are not known and were not told.
    missing: Option<u32>,
}

impl<'a> Found<'a> {
    fn new(known: &'a [Arc<ProgramFacts>], boot: BootOffset, page_size: u64) -> Self {
        let rows = Vec::with_capacity(known.len() + known.len() / 16 + 16);
        Self { earlier: known.iter().peekable(), boot, page_size, rows, missing: None }
    }

    /// Takes the programs at the beginning of these bytes, and says how many bytes those were.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((told, behind)) = Told::first(rest) {
            rest = behind;
            let record = &told.record;
            while self.earlier.next_if(|facts| facts.id < record.id).is_some() {}
            let known = self.earlier.next_if(|facts| facts.id == record.id);
            let facts = match (known.filter(|facts| same(facts, record)), &told.facts) {
                (Some(facts), _) => Arc::clone(facts),
                (None, Some(facts)) => {
                    let loaded_at = self.boot.wall_second(record.load_time);
                    Arc::new(facts.with(record, loaded_at, self.page_size))
                }
                (None, None) => {
                    self.missing = Some(self.missing.map_or(record.id, |smallest| smallest.min(record.id)));
                    continue;
                }
            };
            self.rows.push(Program {
                facts,
                run_time: Some(Duration::from_nanos(record.run_time)),
                runs: Some(record.runs),
                recursion_misses: Some(record.misses),
                owner: None,
            });
        }
        bytes.len() - rest.len()
    }
}

/// Whether a record is of the program that the facts are about, and tells of no map that they do not know.
fn same(facts: &ProgramFacts, record: &ProgramRecord) -> bool {
    let same_maps = match &facts.map_ids {
        Some(ids) => ids.len() == record.used_maps as usize,
        // Of too many maps there is no telling; otherwise one more was bound just then.
        None => record.used_maps > MAX_USED_MAPS,
    };
    facts.loaded_at_boot_ns == record.load_time && facts.tag.0 == record.tag && same_maps
}

impl<'a> Told<'a> {
    /// The first program in the stream, and what is behind it; `None` when it is not all there.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (record, rest) = ProgramRecord::read_from_prefix(bytes).ok()?;
        if record.has_facts == 0 {
            return Some((Self { record, facts: None }, rest));
        }
        let (facts, rest) = ProgramFactsRecord::read_from_prefix(rest).ok()?;
        let (full_name, rest) = rest.split_at_checked(facts.full_name_len as usize)?;
        let (attach_to, rest) = rest.split_at_checked(facts.attach_to_len as usize)?;
        let map_count = if facts.map_count == UNKNOWN_U32 { 0 } else { facts.map_count as usize };
        let (map_ids, rest) = rest.split_at_checked(map_count.checked_mul(4)?)?;
        Some((Self { record, facts: Some(ToldFacts { record: facts, full_name, attach_to, map_ids }) }, rest))
    }
}

impl ToldFacts<'_> {
    fn with(&self, record: &ProgramRecord, loaded_at: jiff::Timestamp, page_size: u64) -> ProgramFacts {
        let facts = &self.record;
        let name = if self.full_name.is_empty() { &facts.name[..] } else { self.full_name };
        let map_ids = || {
            let mut ids: Vec<u32> = <[[u8; 4]]>::ref_from_bytes(self.map_ids)
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
            loaded_at,
            loaded_at_boot_ns: record.load_time,
            uid: facts.uid,
            btf_id: nonzero(facts.btf_id),
            size_jitted: facts.size_jitted,
            size_translated: facts.size_translated,
            mem: Some(u64::from(facts.pages) * page_size),
            verified_instructions: (facts.verified_instructions != UNKNOWN_U32)
                .then_some(facts.verified_instructions),
            attach_to: (!self.attach_to.is_empty()).then(|| printable(self.attach_to)),
            map_ids: (facts.map_count != UNKNOWN_U32).then(map_ids),
        }
    }
}

/// The size of a page of memory, in bytes.
fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let size = size.ok().flatten().expect("every kernel tells the size of a page");
    u64::try_from(size).expect("a size is not negative")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    const PAGE: u64 = 4096;

    /// What moves of a program.
    fn moving(id: u32, load_time: u64, used_maps: u32) -> ProgramRecord {
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

    /// A program with its facts, of which the maps may be unknown.
    fn whole(record: ProgramRecord, full_name: &str, attach_to: &str, map_ids: Option<&[u32]>) -> Vec<u8> {
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
            map_count: map_ids.map_or(UNKNOWN_U32, |ids| ids.len().try_into().expect("a few")),
            padding: 0,
        };
        let record = ProgramRecord { has_facts: 1, ..record };
        let ids = map_ids.unwrap_or_default();
        [record.as_bytes(), facts.as_bytes(), full_name.as_bytes(), attach_to.as_bytes(), ids.as_bytes()]
            .concat()
    }

    fn read(known: &[Arc<ProgramFacts>], stream: &[Vec<u8>]) -> (Vec<Program>, Option<u32>) {
        let stream = stream.concat();
        let mut found = Found::new(known, BootOffset::measure(), PAGE);
        assert_eq!(found.take(&stream), stream.len());
        (found.rows, found.missing)
    }

    fn facts(stream: &[Vec<u8>]) -> Vec<Arc<ProgramFacts>> {
        let (rows, missing) = read(&[], stream);
        assert_eq!(missing, None);
        rows.into_iter().map(|program| program.facts).collect()
    }

    fn only_moving(record: ProgramRecord) -> Vec<u8> {
        record.as_bytes().to_vec()
    }

    #[test]
    fn a_program_is_what_was_told_of_it() {
        let stream = [
            whole(moving(7, 99, 2), "a_name_of_more_than_15", "do_exit", Some(&[9, 4])),
            whole(moving(8, 100, 0), "", "", Some(&[])),
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
    fn facts_are_shared_whether_they_are_told_again_or_not() {
        let told = whole(moving(7, 99, 1), "", "", Some(&[4]));
        let known = facts(std::slice::from_ref(&told));
        for again in [only_moving(moving(7, 99, 1)), told] {
            let (rows, missing) = read(&known, &[again]);
            assert!(missing.is_none() && Arc::ptr_eq(&known[0], &rows[0].facts));
        }
    }

    #[test]
    fn what_is_not_the_same_program_is_asked_for_in_a_second_pass() {
        let known = facts(&[
            whole(moving(3, 30, 0), "", "", Some(&[])),
            whole(moving(5, 50, 1), "", "", Some(&[4])),
            whole(moving(9, 90, 0), "", "", Some(&[])),
        ]);
        let other_tag = ProgramRecord { tag: [0; 8], ..moving(5, 50, 1) };
        // The id was given out again; a map was bound to the program; ids began anew and one was given out between the others.
        let others = [moving(5, 51, 1), other_tag, moving(5, 50, 2), moving(4, 40, 0)];
        for other in others {
            let stream = [only_moving(moving(3, 30, 0)), only_moving(other), only_moving(moving(9, 90, 0))];
            let (rows, missing) = read(&known, &stream);
            assert_eq!(missing, Some(other.id));
            assert_eq!(rows.len(), 2, "a program without facts is no row");

            let ids: Vec<u32> = (0..other.used_maps).collect();
            let stream = [
                only_moving(moving(3, 30, 0)),
                whole(other, "", "", Some(&ids)),
                whole(moving(9, 90, 0), "", "", Some(&[])),
            ];
            let (rows, missing) = read(&known, &stream);
            assert_eq!((rows.len(), missing), (3, None));
            assert_eq!(rows[1].facts.map_ids, Some(ids));
            assert_eq!(rows[1].facts.loaded_at_boot_ns, other.load_time);
            assert!(Arc::ptr_eq(&known[2], &rows[2].facts), "{other:?}");
        }
    }

    #[test]
    fn the_smallest_of_those_that_are_missing_is_asked_for() {
        let stream = [4, 6, 8].map(|id| only_moving(moving(id, id.into(), 0)));
        assert_eq!(read(&[], &stream).1, Some(4));
    }

    #[test]
    fn maps_that_could_not_be_read_are_unknown_and_asked_for_again() {
        let known = facts(&[whole(moving(7, 99, 2), "", "", None)]);
        assert_eq!(known[0].map_ids, None);
        assert_eq!(read(&known, &[only_moving(moving(7, 99, 2))]).1, Some(7));
        let known = facts(&[whole(moving(7, 99, 65), "", "", None)]);
        let (rows, missing) = read(&known, &[only_moving(moving(7, 99, 65))]);
        assert!(
            missing.is_none() && Arc::ptr_eq(&known[0], &rows[0].facts),
            "of so many maps there is no telling"
        );
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(stream in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut found = Found::new(&[], BootOffset::measure(), PAGE);
            prop_assert!(found.take(&stream) <= stream.len());
        }

        #[test]
        fn a_damaged_stream_is_read_without_harm(
            programs in prop::collection::vec((1_u32..9, 0_u64..3, 0_usize..4, "[a-z]{0,20}", any::<bool>()), 1..8),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut: prop::sample::Index,
        ) {
            let known = facts(&[whole(moving(3, 1, 0), "", "", Some(&[]))]);
            let program = |(id, load_time, maps, name, with_facts): (u32, u64, usize, String, bool)| {
                let record = moving(id, load_time, u32::try_from(maps).expect("a few"));
                if with_facts { whole(record, &name, "", Some(&[1, 2, 3][..maps])) } else { only_moving(record) }
            };
            let mut bytes = programs.into_iter().map(program).collect::<Vec<_>>().concat();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let mut found = Found::new(&known, BootOffset::measure(), PAGE);
            prop_assert!(found.take(&bytes) <= bytes.len());
        }

        #[test]
        fn a_stream_that_is_cut_anywhere_has_all_that_is_whole(cut in 0_usize..400) {
            let stream = [
                whole(moving(1, 1, 1), "one", "to", Some(&[1])),
                whole(moving(2, 2, 1), "", "", None),
                whole(moving(3, 3, 0), "", "to", Some(&[])),
            ];
            let ends = stream.iter().scan(0, |end, program| {
                *end += program.len();
                Some(*end)
            });
            let ends: Vec<usize> = ends.collect();
            let bytes = stream.concat();
            let cut = cut.min(bytes.len());
            let whole = ends.iter().copied().filter(|&end| end <= cut);
            let mut found = Found::new(&[], BootOffset::measure(), PAGE);
            prop_assert_eq!(found.take(&bytes[..cut]), whole.clone().max().unwrap_or(0));
            prop_assert_eq!(found.rows.len(), whole.count());
        }
    }
}
