//! The account of programs: which are loaded, and how many were loaded and unloaded, by type and owner.
//!
//! Entry points: [`Ledger::loaded`], [`Ledger::unloaded`] and [`Ledger::reconcile`]. The sums are right whether or not the kernel could
//! write each record: it gives out ids one after another (`bpf_prog_alloc_id`, `kernel/bpf/syscall.c`), so an id that was skipped is a
//! program that came and went unseen, and a list of the programs shows what is there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use crate::kernel::events::ProgramRecord;
use crate::model::{
    Activity, BootTime, Histogram, Lifetimes, Owner, OwnerKind, Program, ProgramActivity, ProgramFacts, Tag,
};

/// The most combinations of type and owner that are counted apart. Names of processes are up to who starts them.
const MAX_KEYS: usize = 1000;

/// The most unloads that are not counted since the name of the owner is being looked up.
const MAX_UNNAMED: usize = 1 << 12;

/// The most skipped ids that are remembered one by one. More are counted at once.
const MAX_SKIPPED: usize = 1 << 16;

/// The most ranges of skipped ids that are remembered of those that were counted at once.
const MAX_RANGES: usize = 64;

/// The most unloaded programs that are remembered of the time between two readings.
const MAX_ENDED: usize = 1 << 20;

/// After so many readings, what no record explains is taken to be lost: the kernel removes a program from its list, or gives it an id,
/// a moment before or after it writes the record.
const READINGS: u64 = 2;

/// What loads and unloads are counted by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) program_type: Option<Arc<str>>,
    pub(super) owner: Option<(OwnerKind, Arc<str>)>,
}

/// What is known of a program.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KnownProgram {
    /// What a reading found.
    pub(super) read: Option<Arc<ProgramFacts>>,
    /// What was found when it was loaded, until a reading finds it.
    pub(super) seen: Option<Box<SeenAtLoad>>,
    /// Its owner by the last reading, else the one that loaded it.
    pub(super) owner: Option<Arc<Owner>>,
}

/// What the record of a load, and a prompt look at the program, say of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SeenAtLoad {
    pub(super) name: Option<String>,
    pub(super) program_type: Option<String>,
    pub(super) tag: Tag,
    /// When it was loaded. `None` if no record says.
    pub(super) at: Option<BootTime>,
}

impl KnownProgram {
    pub(super) fn name(&self) -> Option<&str> {
        match &self.read {
            Some(read) => Some(&read.name),
            None => self.seen.as_ref()?.name.as_deref(),
        }
    }

    pub(super) fn program_type(&self) -> Option<&str> {
        match &self.read {
            Some(read) => read.program_type.name.as_deref(),
            None => self.seen.as_ref()?.program_type.as_deref(),
        }
    }

    pub(super) fn tag(&self) -> Option<Tag> {
        self.read.as_ref().map(|read| read.tag).or_else(|| Some(self.seen.as_ref()?.tag))
    }

    pub(super) fn loaded_at(&self) -> Option<BootTime> {
        self.read.as_ref().map(|read| read.loaded_at).or_else(|| self.seen.as_ref()?.at)
    }

    /// Returns whether the name of its owner is being looked up.
    fn awaits_name(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.awaits_name())
    }
}

/// A program that is loaded.
#[derive(Debug, Default)]
struct Loaded {
    facts: KnownProgram,
    /// What its load was counted by; `None` until it is counted, at a reading or when it is unloaded.
    counted: Option<Key>,
    /// Whether it was loaded before the first reading: its load is not counted.
    is_old: bool,
    /// Whether the load has been published, or is not to be.
    is_published: bool,
    /// Whether it was taken for lost, and its unload counted.
    is_gone: bool,
    /// The reading that listed it first, without a record.
    found: Option<u64>,
    /// The first reading that did not list it.
    missing: Option<u64>,
}

/// A load or unload that no record reported.
#[derive(Debug, PartialEq)]
pub(super) struct UnreportedChange {
    pub(super) id: u32,
    pub(super) is_load: bool,
    pub(super) facts: KnownProgram,
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The moment of the first reading; `None` before it.
    since: Option<BootTime>,
    reading: u64,
    /// The ids of the last reading, ascending.
    listed: Vec<u32>,
    /// Whether nothing is left to find out, so that a reading with the same ids changes nothing.
    is_settled: bool,
    loaded: HashMap<u32, Loaded>,
    /// The highest id of the first reading.
    oldest: u32,
    /// The highest id so far, also of programs that are gone.
    highest: u32,
    /// Ids below it that nothing explains yet, and the reading after which they were skipped.
    skipped: BTreeMap<u32, u64>,
    /// Skipped ids whose load and unload were both counted without a record.
    lost: BTreeSet<u32>,
    /// Ranges of such ids, of which there were more than [`MAX_SKIPPED`].
    lost_ranges: VecDeque<Range<u32>>,
    /// Programs that were unloaded since the last reading, and between the two before. A list may have been read before that.
    ended: [HashSet<u32>; 2],
    /// Programs that were unloaded while the names of their owners are looked up. Neither load nor unload is counted.
    unnamed: Vec<KnownProgram>,
    counts: BTreeMap<Key, Counts>,
    /// In seconds, by type; and when the first was counted, as of [`Counts`].
    lifetimes: BTreeMap<Option<Arc<str>>, (BootTime, Histogram)>,
    /// The last reading whose counters were reported: what is counted for the first time was zero then.
    reported: Option<BootTime>,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    loads: u64,
    unloads: u64,
    /// [`Ledger::reported`] when the first was counted.
    since: BootTime,
}

impl Ledger {
    /// Returns an account of the programs whose ids are higher than the newest one.
    pub(super) fn above(newest: u32) -> Self {
        Self { highest: newest, ..Self::default() }
    }

    /// Accounts for a load. Returns whether it is news.
    pub(super) fn loaded(&mut self, record: &ProgramRecord, facts: KnownProgram) -> bool {
        if self.since.is_none() {
            return false;
        }
        if self.has_ended(record.id) {
            // Its unload came first, and was counted with the load.
            return true;
        }
        self.seen(record.id);
        let was_lost = self.take_lost(record.id);
        let entry = self.loaded.entry(record.id).or_default();
        let is_news = !mem::replace(&mut entry.is_published, true);
        if was_lost {
            (entry.counted, entry.is_gone) = (Some(Key::default()), true);
        }
        // What a reading said is more than the record.
        if entry.facts.read.is_none() {
            entry.facts = facts;
        }
        (entry.missing, self.is_settled) = (None, false);
        is_news
    }

    /// Accounts for an unload. Returns what is known of the program if it is news.
    pub(super) fn unloaded(&mut self, record: &ProgramRecord) -> Option<KnownProgram> {
        self.since?;
        if self.has_ended(record.id) {
            return None;
        }
        self.is_settled = false;
        self.seen(record.id);
        self.end(record.id);
        if self.take_lost(record.id) {
            return Some(
                self.loaded.remove(&record.id).map_or_else(KnownProgram::default, |loaded| loaded.facts),
            );
        }
        let Some(loaded) = self.loaded.remove(&record.id) else {
            if record.id > self.oldest {
                // Its load was lost. Others were on their way out at the first reading.
                self.count(&Key::default(), 1, 1);
            }
            return Some(KnownProgram::default());
        };
        let Loaded { facts, counted, is_old, is_gone, .. } = loaded;
        if is_gone {
            return Some(facts);
        }
        self.count_unload(&facts, counted, is_old);
        self.record_lifetime(&facts, record.at);
        Some(facts)
    }

    /// Counts an unload, and its load unless that was before the first reading or was counted.
    fn count_unload(&mut self, facts: &KnownProgram, counted: Option<Key>, is_old: bool) {
        if counted.is_none() && !is_old && facts.awaits_name() && self.unnamed.len() < MAX_UNNAMED {
            self.unnamed.push(facts.clone());
            return;
        }
        let loads = u64::from(counted.is_none() && !is_old);
        self.count(&counted.unwrap_or_else(|| key(facts)), loads, 1);
    }

    /// Fills in the names of owners that were looked up, and counts what waited for them. `named` returns an owner by the names that
    /// are known by now.
    pub(super) fn name_owners(&mut self, named: impl Fn(&Owner) -> Owner) {
        if self.is_settled {
            return;
        }
        let name = |facts: &mut KnownProgram| {
            if let Some(owner) = facts.owner.as_mut().filter(|owner| owner.awaits_name()) {
                *owner = Arc::new(named(owner));
            }
        };
        self.loaded.values_mut().for_each(|loaded| name(&mut loaded.facts));
        self.unnamed.iter_mut().for_each(name);
        for facts in self.unnamed.extract_if(.., |facts| !facts.awaits_name()).collect::<Vec<_>>() {
            self.count(&key(&facts), 1, 1);
        }
    }

    /// Compares with the programs of a reading that began at `began`; every record written until its end is accounted for. Returns
    /// what happened without a record. Unless the list `is_whole`, a program that is not in it may be loaded all the same.
    pub(super) fn reconcile(
        &mut self,
        began: BootTime,
        programs: &[Program],
        is_whole: bool,
    ) -> Vec<UnreportedChange> {
        self.reading += 1;
        let is_first = self.since.is_none();
        self.since.get_or_insert(began);
        let ids = programs.iter().map(|program| program.facts.id);
        if self.is_settled && ids.clone().eq(self.listed.iter().copied()) {
            return Vec::new();
        }
        let mut found = Vec::new();
        if is_first {
            self.highest = ids.clone().max().unwrap_or(0).max(self.highest);
            self.oldest = self.highest;
        }
        self.listed = ids.collect();
        for program in programs {
            self.list(program, is_first, &mut found);
        }
        let mut gone = Vec::new();
        for (&id, loaded) in self.loaded.iter_mut().filter(|_| is_whole) {
            let is_later = loaded.facts.loaded_at().is_some_and(|at| at >= began);
            if is_later || self.listed.binary_search(&id).is_ok() {
                continue;
            }
            if *loaded.missing.get_or_insert(self.reading) + READINGS <= self.reading + 1 {
                gone.push(id);
            }
        }
        gone.sort_unstable();
        for id in gone {
            let Some(Loaded { facts, counted, is_old, is_gone, .. }) = self.loaded.remove(&id) else {
                continue;
            };
            if is_gone {
                continue;
            }
            self.end(id);
            self.count_unload(&facts, counted, is_old);
            self.record_lifetime(&facts, began);
            found.push(UnreportedChange { id, is_load: false, facts });
        }
        let [latest, before] = &mut self.ended;
        *before = mem::take(latest);
        self.count_loads();
        self.count_skipped();
        let is_open = |loaded: &Loaded| {
            let is_counted = loaded.is_old || loaded.counted.is_some();
            !is_counted || !loaded.is_published || loaded.missing.is_some() || loaded.facts.read.is_none()
        };
        self.is_settled =
            self.skipped.is_empty() && self.unnamed.is_empty() && !self.loaded.values().any(is_open);
        found
    }

    /// Accounts for a program of a reading.
    fn list(&mut self, program: &Program, is_first: bool, found: &mut Vec<UnreportedChange>) {
        let id = program.facts.id;
        if self.has_ended(id) {
            // It was unloaded after it was listed.
            return;
        }
        self.seen(id);
        if self.take_lost(id) && !self.loaded.contains_key(&id) {
            // It was only late: its load has been counted, and its unload will not have to be.
            self.loaded
                .insert(id, Loaded { counted: Some(Key::default()), is_gone: true, ..Loaded::default() });
        }
        let reading = self.reading;
        let entry = self.loaded.entry(id).or_insert_with(|| Loaded {
            is_old: is_first,
            is_published: is_first,
            found: (!is_first).then_some(reading),
            ..Loaded::default()
        });
        entry.missing = None;
        let owner = program.owner.clone().or_else(|| entry.facts.owner.take());
        entry.facts = KnownProgram { read: Some(Arc::clone(&program.facts)), seen: None, owner };
        let is_due = entry.found.is_some_and(|found| found + READINGS <= reading + 1);
        if is_due && !mem::replace(&mut entry.is_published, true) {
            found.push(UnreportedChange { id, is_load: true, facts: entry.facts.clone() });
        }
    }

    /// Counts the loads of programs whose type and owner are as well known as they will be.
    fn count_loads(&mut self) {
        let uncounted = self.loaded.values_mut().filter(|loaded| loaded.counted.is_none() && !loaded.is_old);
        let mut keys = Vec::new();
        for loaded in uncounted {
            if !loaded.facts.awaits_name() {
                let key = key(&loaded.facts);
                loaded.counted = Some(key.clone());
                keys.push(key);
            }
        }
        for key in keys {
            self.count(&key, 1, 0);
        }
    }

    /// Counts programs that came and went without a record.
    fn count_skipped(&mut self) {
        let reading = self.reading;
        let due: Vec<u32> = self
            .skipped
            .iter()
            .filter(|(_, since)| *since + READINGS <= reading)
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            self.skipped.remove(&id);
            self.lost.insert(id);
            self.count(&Key::default(), 1, 1);
        }
        while self.lost.len() > MAX_SKIPPED {
            self.lost.pop_first();
        }
    }

    /// Takes note of an id: those between it and the highest before were skipped.
    fn seen(&mut self, id: u32) {
        if id <= self.highest {
            self.skipped.remove(&id);
            return;
        }
        let between = self.highest + 1..id;
        self.highest = id;
        let excess = between.len().saturating_sub(MAX_SKIPPED.saturating_sub(self.skipped.len()));
        if excess > 0 {
            self.count(&Key::default(), excess as u64, excess as u64);
            let end = between.start + u32::try_from(excess).expect("it is a part of a range of u32");
            self.lost_ranges.push_back(between.start..end);
            if self.lost_ranges.len() > MAX_RANGES {
                self.lost_ranges.pop_front();
            }
        }
        let reading = self.reading;
        self.skipped.extend(between.skip(excess).map(|id| (id, reading)));
    }

    fn count(&mut self, key: &Key, loads: u64, unloads: u64) {
        let is_known = self.counts.contains_key(key);
        let key = if is_known || self.counts.len() < MAX_KEYS {
            key.clone()
        } else {
            Key { program_type: key.program_type.clone(), owner: None }
        };
        let since = self.zero_at();
        let counts = self.counts.entry(key).or_insert(Counts { loads: 0, unloads: 0, since });
        counts.loads += loads;
        counts.unloads += unloads;
    }

    /// Returns whether a program's load and unload were counted without a record, and forgets it where that is possible.
    fn take_lost(&mut self, id: u32) -> bool {
        self.lost.remove(&id) || self.lost_ranges.iter().any(|range| range.contains(&id))
    }

    /// Remembers that a program was unloaded.
    fn end(&mut self, id: u32) {
        if self.ended[0].len() < MAX_ENDED {
            self.ended[0].insert(id);
        }
    }

    fn has_ended(&self, id: u32) -> bool {
        self.ended.iter().any(|ended| ended.contains(&id))
    }

    /// Records how long a program was loaded.
    fn record_lifetime(&mut self, facts: &KnownProgram, at: BootTime) {
        let Some(loaded_at) = facts.loaded_at() else { return };
        let program_type = facts.program_type().map(Arc::from);
        let since = self.zero_at();
        let (_, seconds) =
            self.lifetimes.entry(program_type).or_insert_with(|| (since, Histogram::default()));
        seconds.record(at.since(loaded_at).as_secs_f64());
    }

    /// Returns when what is counted now for the first time was zero. A receiver of differences takes it as the start.
    fn zero_at(&self) -> BootTime {
        self.reported.or(self.since).unwrap_or_default()
    }

    /// Adds the counts to `activity`, of the reading that began at `began`.
    pub(super) fn fill(&mut self, began: BootTime, activity: &mut Activity) {
        activity.since = self.since.unwrap_or_default();
        self.reported = self.since.map(|_| began);
        activity.programs = self
            .counts
            .iter()
            .map(|(key, counts)| ProgramActivity {
                program_type: key.program_type.clone(),
                owner: key.owner.clone(),
                loads: counts.loads,
                unloads: counts.unloads,
                since: counts.since,
            })
            .collect();
        activity.lifetimes = self
            .lifetimes
            .iter()
            .map(|(program_type, (since, seconds))| Lifetimes {
                program_type: program_type.clone(),
                seconds: seconds.clone(),
                since: *since,
            })
            .collect();
    }
}

fn key(facts: &KnownProgram) -> Key {
    let owner = facts.owner.as_ref().filter(|owner| !owner.awaits_name());
    Key {
        program_type: facts.program_type().map(Arc::from),
        owner: owner.map(|owner| (owner.kind(), owner.name().into())),
    }
}

#[cfg(test)]
mod tests;
