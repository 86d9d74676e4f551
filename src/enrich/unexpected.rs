//! Programs that are not in the baseline: how many are loaded, and which of them have not been reported yet.
//! Entry points: [`Unexpected::loaded`] and [`Unexpected::read`].
//!
//! A program that the exporter itself has loaded is expected, and so is any other with the same instructions: another exporter of this
//! version, such as `snapshot`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::baseline::{Expected, identity};
use crate::model::{Program, Snapshot, Tag};

/// The most reported programs that are remembered. Of more, those with the lowest ids are reported again if they are still there.
const MAX_REPORTED: usize = 1 << 16;

/// Compares programs with a baseline, and remembers which were reported.
#[derive(Debug)]
pub(super) struct Unexpected {
    expected: Expected,
    /// Types and tags of the exporter's own programs.
    own: BTreeSet<(String, [u8; 8])>,
    /// Reported programs by id: the tag, and the last reading that listed it or went on when it was loaded.
    reported: BTreeMap<u32, (Tag, u64)>,
    reading: u64,
    /// Programs that are to be reported, but were above the limit.
    unreported: BTreeSet<u32>,
    /// How many of these were gone before they could be.
    missed: u64,
}

impl Unexpected {
    /// Returns a comparison with a baseline, which may be replaced at any time.
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            expected,
            own: BTreeSet::new(),
            reported: BTreeMap::new(),
            reading: 0,
            unreported: BTreeSet::new(),
            missed: 0,
        }
    }

    /// Returns whether a program that was just loaded is to be reported. `admits`, whether a report may be made now: without one it is
    /// left to the next reading.
    pub(super) fn loaded(
        &mut self,
        id: u32,
        tag: Tag,
        program_type: Option<&str>,
        admits: impl FnOnce() -> bool,
    ) -> bool {
        let is_own = || {
            self.own.iter().any(|(own, of)| *of == tag.0 && program_type.is_none_or(|wanted| own == wanted))
        };
        let is_expected = self.expected.current().has(tag.0, program_type) || is_own();
        !is_expected && self.report(id, tag, admits)
    }

    /// Returns how many programs of a reading are not expected, and those that are to be reported, as far as `admits`; `None` unless
    /// every program was read.
    pub(super) fn read<'a>(
        &mut self,
        snapshot: &'a Snapshot,
        mut admits: impl FnMut() -> bool,
    ) -> (Option<u64>, Vec<&'a Program>) {
        let Some(programs) = &snapshot.programs else { return (None, Vec::new()) };
        self.reading += 1;
        let is_own = |program: &&Program| snapshot.own_programs.contains(&program.facts.id);
        self.own = programs.iter().filter(is_own).map(identity).collect();
        let expected = self.expected.current();
        let (mut count, mut new) = (0, Vec::new());
        for program in programs {
            let (id, tag) = (program.facts.id, program.facts.tag);
            let program_type = program.facts.program_type.word_or_number();
            let is_own = || self.own.contains(&(program_type.clone().into_owned(), tag.0));
            if expected.has(tag.0, Some(&program_type)) || is_own() {
                continue;
            }
            count += 1;
            if self.report(id, tag, &mut admits) {
                new.push(program);
            }
        }
        // The list may be older than the last record of a load.
        let reading = self.reading;
        self.reported.retain(|_, (_, last)| *last + 1 >= reading);
        let newest = programs.last().map_or(0, |program| program.facts.id);
        let is_listed = |id: &u32| programs.binary_search_by_key(id, |program| program.facts.id).is_ok();
        let waiting = self.unreported.len();
        self.unreported.retain(|id| *id > newest || is_listed(id));
        self.missed += (waiting - self.unreported.len()) as u64;
        (snapshot.has_every_program().then_some(count), new)
    }

    /// Returns how many programs since the last call were gone before the limit admitted their report.
    pub(super) fn take_missed(&mut self) -> u64 {
        mem::take(&mut self.missed)
    }

    /// Takes note of a program that is not expected. Returns whether it is to be reported.
    fn report(&mut self, id: u32, tag: Tag, admits: impl FnOnce() -> bool) -> bool {
        if let Some((reported, last)) = self.reported.get_mut(&id)
            && *reported == tag
        {
            *last = self.reading;
            return false;
        }
        if !admits() {
            if self.unreported.len() < MAX_REPORTED {
                self.unreported.insert(id);
            } else {
                self.missed += u64::from(!self.unreported.contains(&id));
            }
            return false;
        }
        self.unreported.remove(&id);
        self.reported.insert(id, (tag, self.reading));
        if self.reported.len() > MAX_REPORTED {
            self.reported.pop_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::baseline::{self, Baseline};
    use crate::enrich::example;
    use crate::model::{BootTime, Part, WallClock};

    /// Returns a reading of programs with these ids and tags, of which the exporter has loaded some.
    fn reading(programs: &[(u32, u8)], own: &[u32]) -> Snapshot {
        let program = |&(id, tag): &(u32, u8)| {
            let mut program = example::program(id, &[]);
            Arc::make_mut(&mut program.facts).tag = Tag([tag; 8]);
            program
        };
        Snapshot {
            programs: Some(programs.iter().map(program).collect()),
            own_programs: own.to_vec(),
            collectors: vec![example::collector(Part::Program, true)],
            ..Snapshot::begun(BootTime(2), BootTime(1), WallClock::default())
        }
    }

    fn expecting(programs: &[(u32, u8)]) -> Baseline {
        let text = baseline::render(&reading(programs, &[])).expect("every program was read");
        Baseline::parse(text.as_bytes()).expect("it is one")
    }

    /// Returns the count and the reported ids.
    fn read(unexpected: &mut Unexpected, snapshot: &Snapshot) -> (Option<u64>, Vec<u32>) {
        let (count, new) = unexpected.read(snapshot, || true);
        (count, new.iter().map(|program| program.facts.id).collect())
    }

    #[test]
    fn each_program_counts_and_is_reported_once() {
        let mut unexpected = Unexpected::new(Expected::new(expecting(&[(1, 10)])));
        let at_start = reading(&[(5, 10), (6, 20), (7, 20), (8, 10)], &[]);
        assert_eq!(read(&mut unexpected, &at_start), (Some(2), vec![6, 7]));
        assert_eq!(read(&mut unexpected, &at_start), (Some(2), vec![]));
        let word = at_start.programs.as_ref().expect("there are some")[0].facts.program_type.word_or_number();
        assert!(!unexpected.loaded(9, Tag([10; 8]), Some(&word), || true));
        assert!(unexpected.loaded(9, Tag([20; 8]), Some(&word), || true));
        assert!(unexpected.loaded(10, Tag([10; 8]), Some("another"), || true), "the type counts");
        assert!(!unexpected.loaded(11, Tag([10; 8]), None, || true), "the tag is one of the baseline");
        // A reading that began before the load, and one that has it.
        assert_eq!(read(&mut unexpected, &at_start), (Some(2), vec![]));
        assert_eq!(read(&mut unexpected, &reading(&[(9, 20)], &[])), (Some(1), vec![]));
        assert_eq!(read(&mut unexpected, &reading(&[(5, 10)], &[])), (Some(0), vec![]));
    }

    #[test]
    fn own_programs_are_expected_with_all_of_the_same_instructions() {
        let mut unexpected = Unexpected::new(Expected::default());
        let snapshot = reading(&[(1, 10), (2, 10), (3, 30)], &[1]);
        assert_eq!(read(&mut unexpected, &snapshot), (Some(1), vec![3]));
        assert!(!unexpected.loaded(4, Tag([10; 8]), None, || true));
        let text = baseline::render(&snapshot).expect("every program was read");
        assert!(!text.contains("0a0a0a0a0a0a0a0a") && text.contains("1e1e1e1e1e1e1e1e"), "{text}");
    }

    #[test]
    fn what_is_above_the_limit_is_reported_later() {
        let mut unexpected = Unexpected::new(Expected::default());
        assert!(!unexpected.loaded(1, Tag([10; 8]), None, || false));
        let snapshot = reading(&[(1, 10), (2, 10), (3, 10)], &[]);
        let mut left = 2;
        let mut admits = || {
            left -= 1;
            left >= 0
        };
        let (count, new) = unexpected.read(&snapshot, &mut admits);
        assert_eq!((count, new.len()), (Some(3), 2));
        assert_eq!(read(&mut unexpected, &snapshot), (Some(3), vec![3]));
    }

    #[test]
    fn another_baseline_is_used_from_the_next_reading_on() {
        let expected = Expected::default();
        let mut unexpected = Unexpected::new(expected.clone());
        let snapshot = reading(&[(1, 10), (2, 20)], &[]);
        assert_eq!(read(&mut unexpected, &snapshot), (Some(2), vec![1, 2]));
        expected.replace(expecting(&[(1, 10)]));
        assert_eq!(read(&mut unexpected, &snapshot), (Some(1), vec![]));
        expected.replace(expecting(&[(1, 20)]));
        assert_eq!(read(&mut unexpected, &snapshot), (Some(1), vec![]), "it was reported at the start");
    }

    #[test]
    fn nothing_is_counted_unless_every_program_was_read() {
        let mut unexpected = Unexpected::new(Expected::default());
        let mut snapshot = reading(&[(1, 10)], &[]);
        snapshot.collectors[0].success = false;
        assert_eq!(read(&mut unexpected, &snapshot), (None, vec![1]), "it is reported all the same");
        assert_eq!(baseline::render(&snapshot), None);
        snapshot.programs = None;
        assert_eq!(read(&mut unexpected, &snapshot), (None, vec![]));
    }

    #[test]
    fn a_program_above_the_limit_that_is_gone_before_its_report_is_missed() {
        let mut unexpected = Unexpected::new(Expected::new(expecting(&[])));
        let tag = Tag([9; 8]);
        for id in [5, 6, 90] {
            assert!(!unexpected.loaded(id, tag, None, || false));
        }
        // The list is older than the load of 90.
        assert!(unexpected.read(&reading(&[(6, 9), (7, 9)], &[]), || false).1.is_empty());
        assert_eq!(unexpected.take_missed(), 1, "5 is gone");
        assert_eq!(read(&mut unexpected, &reading(&[(6, 9), (91, 9)], &[])).1, [6, 91]);
        assert_eq!(unexpected.take_missed(), 2, "7 and 90 are gone");
        assert!(read(&mut unexpected, &reading(&[(6, 9)], &[])).1.is_empty());
        assert_eq!(unexpected.take_missed(), 0);
    }
}
