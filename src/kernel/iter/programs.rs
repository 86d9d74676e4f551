//! Programs, as the iterator tells them: what moves of each, and the facts of those that are new.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use zerocopy::FromBytes;

use super::Table;
use super::records::{ProgramFactsRecord, ProgramRecord, Request, UNKNOWN_U32};
use crate::kernel::tables::some_id;
use crate::kernel::walk::Pass;
use crate::kernel::{names, sys};
use crate::model::{Kind, Program, ProgramFacts, Tag};

/// The table of programs, and what is known of them.
#[derive(Debug)]
pub(in crate::kernel) struct Programs {
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
    pub(super) fn new(table: Table, ask: OwnedFd, request: Request) -> Self {
        Self { table, ask, request, page_size: page_size(), known: Vec::new() }
    }

    /// Reads the table; `None`, and an issue, when that fails.
    pub(in crate::kernel) fn read(&mut self, pass: &mut Pass<'_>) -> Option<Vec<Program>> {
        // Ids ascend, so new programs stand behind the known ones, until ids have wrapped around or an id is given out again.
        // Then the table is read once more, with the facts of what was missing.
        let mut facts_from = self.known.last().map_or(0, |last| last.id.saturating_add(1));
        loop {
            self.ask(pass, facts_from)?;
            let (rows, missing) = self.read_once(pass)?;
            match missing {
                None => {
                    self.known.clear();
                    self.known.extend(rows.iter().map(|program| Arc::clone(&program.facts)));
                    return Some(rows);
                }
                // Strictly less each time: what is not less has its facts.
                Some(missing) => facts_from = missing,
            }
        }
    }

    fn ask(&self, pass: &mut Pass<'_>, program_facts_from: u32) -> Option<()> {
        let request = Request { program_facts_from, ..self.request };
        let asked = sys::update_map(self.ask.as_fd(), 0, &request);
        asked.map_err(|errno| pass.issues.met(Kind::Program, "BPF_MAP_UPDATE_ELEM", errno)).ok()
    }

    /// Every program, and the smallest id of one whose facts are not known.
    fn read_once(&mut self, pass: &mut Pass<'_>) -> Option<(Vec<Program>, Option<u32>)> {
        let mut rows = Vec::with_capacity(self.known.len() + self.known.len() / 16 + 16);
        let mut missing: Option<u32> = None;
        let mut earlier = self.known.iter().peekable();
        let (boot, page_size) = (pass.boot, self.page_size);
        self.table.read(pass.issues, |bytes| {
            let mut rest = bytes;
            while let Some((told, behind)) = Told::first(rest) {
                rest = behind;
                let record = &told.record;
                while earlier.next_if(|facts| facts.id < record.id).is_some() {}
                let known =
                    earlier.next_if(|facts| facts.id == record.id).filter(|facts| same(facts, record));
                let facts = match (known, &told.facts) {
                    (Some(facts), _) => Arc::clone(facts),
                    (None, Some(facts)) => {
                        let loaded_at = boot.wall_second(record.load_time);
                        Arc::new(facts.with(record, loaded_at, page_size))
                    }
                    (None, None) => {
                        missing = Some(missing.map_or(record.id, |smallest| smallest.min(record.id)));
                        continue;
                    }
                };
                rows.push(Program {
                    facts,
                    run_time: Some(Duration::from_nanos(record.run_time)),
                    runs: Some(record.runs),
                    recursion_misses: Some(record.misses),
                });
            }
            bytes.len() - rest.len()
        })?;
        Some((rows, missing))
    }
}

/// Whether a record is of the program that the facts are about, and tells of no map that they do not know.
fn same(facts: &ProgramFacts, record: &ProgramRecord) -> bool {
    facts.loaded_at_boot_ns == record.load_time
        && facts.tag.0 == record.tag
        && facts.map_ids.as_ref().is_some_and(|ids| ids.len() == record.used_maps as usize)
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
            name: names::text(name),
            program_type: names::program_type(facts.program_type),
            tag: Tag(record.tag),
            gpl_compatible: facts.gpl_compatible != 0,
            loaded_at,
            loaded_at_boot_ns: record.load_time,
            uid: facts.uid,
            btf_id: some_id(facts.btf_id),
            size_jitted: facts.size_jitted,
            size_translated: facts.size_translated,
            mem: Some(u64::from(facts.pages) * page_size),
            verified_instructions: (facts.verified_instructions != UNKNOWN_U32)
                .then_some(facts.verified_instructions),
            attach_to: (!self.attach_to.is_empty()).then(|| names::text(self.attach_to)),
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
