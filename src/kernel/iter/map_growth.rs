//! The memory of maps, calculated from that of others of their shape and their number of entries.
//!
//! Entry point: [`Growth`]. The kernel reports a map's memory in the fdinfo of a descriptor only, which takes 10 µs. For each type that
//! grows, that figure is a constant plus the entries times their size. Maps of one shape share both, so a few measurements give them
//! for all, and each later change is a multiplication. A few maps are still measured in each reading, in turn: if one differs from what
//! was calculated, all maps of its shape are measured again. A map can change between the count of its entries and the measurement, so
//! no single measurement is believed.
//!
//! Maps of the types that do not grow have the same memory if they have the same shape. Once [`PROVEN`] of them agree, that of new ones is
//! known.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use crate::kernel::map_memory::{can_grow, has_fixed_memory};
use crate::model::MapFacts;

/// How many maps are measured in each reading although their memory can be calculated: in the order of their ids.
const CHECKED_IN_TURN: usize = 2;

/// How many more are measured: maps of the shapes whose last check is longest ago.
const CHECKED_BY_SHAPE: usize = 2;

/// How many maps are examined in each reading to find these shapes.
const EXAMINED: usize = 64;

/// Measurements that are kept for a shape until they agree.
const MEASUREMENTS: usize = 8;

/// Misses by whole entries in succession after which a line is replaced: it was learned while its maps changed.
const MISSES: u8 = 3;

/// Measurements on a line after which it is proven: what contradicts it then is an issue. Of maps that do not grow, as many give a line.
const PROVEN: u8 = 8;

/// Contradicted lines after which the maps of a shape are always measured.
const ATTEMPTS: u8 = 8;

/// What the memory of a map depends on, but for its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

impl From<&MapFacts> for Shape {
    fn from(map: &MapFacts) -> Self {
        let MapFacts { key_size, value_size, max_entries, flags, .. } = *map;
        Self { map_type: map.map_type.number, key_size, value_size, max_entries, flags }
    }
}

/// The memory of a map and its number of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measurement {
    entries: u64,
    bytes: u64,
}

/// Memory as a function of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// Without entries, in bytes.
    base: u64,
    /// Of each entry, in bytes. 0 before 6.4, where the kernel reports the memory of a full map.
    slope: u64,
}

impl Line {
    /// Returns the line through two measurements, if there is one whose bytes per entry are whole.
    fn through(a: Measurement, b: Measurement) -> Option<Self> {
        let (low, high) = if a.entries < b.entries { (a, b) } else { (b, a) };
        let entries = high.entries.checked_sub(low.entries).filter(|&entries| entries > 0)?;
        let bytes = high.bytes.checked_sub(low.bytes).filter(|bytes| bytes % entries == 0)?;
        let slope = bytes / entries;
        Some(Self { base: low.bytes.checked_sub(slope.checked_mul(low.entries)?)?, slope })
    }

    fn at(self, entries: u64) -> Option<u64> {
        self.slope.checked_mul(entries)?.checked_add(self.base)
    }

    fn meets(self, measured: Measurement) -> bool {
        self.at(measured.entries) == Some(measured.bytes)
    }

    /// Returns whether bytes differ from the line by whole entries, as when a map changes between the count of its entries and the
    /// measurement. The kernel sums counters of each CPU, so that a map can seem to have less than none for a moment.
    fn reaches(self, bytes: u64, max_entries: u32) -> bool {
        let beside = bytes.abs_diff(self.base);
        self.slope != 0 && beside.is_multiple_of(self.slope) && beside / self.slope <= max_entries.into()
    }
}

/// What is known of the maps of one shape.
#[derive(Debug, Default)]
struct Known {
    /// Until there is a line.
    measured: Vec<Measurement>,
    line: Option<Line>,
    /// Measurements that the line met.
    met: u8,
    /// Measurements in succession that the line missed by whole entries.
    misses: u8,
    /// Lines that were contradicted.
    attempts: u8,
    /// The number of the reading with the last check.
    checked: u64,
}

impl Known {
    /// Counts how many maps that do not grow have had the same memory, and takes it for all once they are enough.
    fn learn_fixed(&mut self, new: Measurement) {
        if self.attempts == ATTEMPTS {
            return;
        }
        if self.measured.first() != Some(&new) {
            self.attempts += u8::from(!self.measured.is_empty());
            (self.measured, self.met) = (vec![new], 0);
        }
        self.met += 1;
        if self.met == PROVEN {
            self.line = Some(Line { base: new.bytes, slope: 0 });
        }
    }

    /// Keeps a measurement, and finds the line once enough of them agree.
    fn learn(&mut self, new: Measurement) {
        if self.attempts == ATTEMPTS {
            return;
        }
        self.line = self.measured.iter().find_map(|&other| {
            let line = Line::through(new, other)?;
            self.certain(line, new).then_some(line)
        });
        if self.line.is_some() {
            self.measured = Vec::new();
        } else if self.measured.iter().filter(|&&measured| measured == new).count() < 2 {
            // Maps at rest would fill it with one number of entries.
            if self.measured.len() == MEASUREMENTS {
                self.measured.remove(0);
            }
            self.measured.push(new);
        }
    }

    /// Returns whether any single measurement could be wrong, and the others would still give this line: whichever number of entries is
    /// left out, two measurements remain on it.
    fn certain(&self, line: Line, new: Measurement) -> bool {
        let mut entries: Vec<u64> =
            self.measured.iter().filter(|&&measured| line.meets(measured)).map(|on| on.entries).collect();
        entries.push(new.entries);
        entries.sort_unstable();
        let of_the_same = entries.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or(0);
        entries.len() - of_the_same >= 2
    }

    /// Compares a measurement with the line, and forgets the line if it is wrong. Returns whether it contradicts a proven one.
    fn check(&mut self, line: Line, measured: Measurement, max_entries: u32) -> bool {
        if line.meets(measured) {
            self.met = self.met.saturating_add(1);
            self.misses = 0;
            return false;
        }
        self.misses += 1;
        let contradicts = !line.reaches(measured.bytes, max_entries);
        let was_proven = self.met >= PROVEN;
        if contradicts || self.misses == MISSES {
            *self = Self { attempts: self.attempts + u8::from(contradicts), ..Self::default() };
        }
        contradicts && was_proven
    }
}

/// What the readings so far say about the memory of maps.
#[derive(Debug, Default)]
pub(super) struct Growth {
    shapes: HashMap<Shape, Known, FixedState>,
    /// Number of the reading.
    reading: u64,
    /// The last map that was measured in its turn, and the last one that was examined.
    last_checked: u32,
    last_examined: u32,
    /// Whether a line ended since the last [`Growth::take_line_ended`].
    line_ended: bool,
}

impl Growth {
    /// Returns the memory in bytes of a map with this number of entries; `None` until enough measurements agree.
    pub(super) fn memory(&self, map: &MapFacts, entries: i64) -> Option<u64> {
        let entries = counted(map, entries)?;
        self.shapes.get(&Shape::from(map))?.line?.at(entries)
    }

    /// Takes the measured memory in bytes of a map with this number of entries. Returns whether it contradicts a proven line.
    pub(super) fn measured(&mut self, map: &MapFacts, entries: i64, bytes: u64) -> bool {
        let Some(entries) = counted(map, entries) else { return false };
        let measured = Measurement { entries, bytes };
        let known = self.shapes.entry(Shape::from(map)).or_default();
        let before = known.line;
        let contradicts = before.is_some_and(|line| known.check(line, measured, map.max_entries));
        if known.line.is_none() {
            if has_fixed_memory(map) { known.learn_fixed(measured) } else { known.learn(measured) }
        }
        self.line_ended |= before.is_some() && known.line != before;
        contradicts
    }

    /// Returns whether a line ended since the last call: what was calculated by it may be wrong.
    pub(super) fn take_line_ended(&mut self) -> bool {
        std::mem::take(&mut self.line_ended)
    }

    /// Returns which of these maps, in ascending order of their ids, are measured in this reading although their memory can be
    /// calculated: those whose turn it is, and those of shapes that were not checked for longest, first of lines that are not proven.
    pub(super) fn choose_checked(&mut self, changed: &[&MapFacts]) -> Vec<u32> {
        self.reading += 1;
        let turn = following(changed, self.last_checked).take(CHECKED_IN_TURN);
        let mut chosen: Vec<u32> = turn.map(|map| map.id).collect();
        self.last_checked = chosen.last().copied().unwrap_or(self.last_checked);

        let mut examined: Vec<_> = following(changed, self.last_examined)
            .take(EXAMINED)
            .map(|map| {
                let (id, shape) = (map.id, Shape::from(map));
                let known = self.shapes.get(&shape);
                (
                    known.is_some_and(|known| known.met >= PROVEN),
                    known.map_or(0, |known| known.checked),
                    id,
                    shape,
                )
            })
            .collect();
        self.last_examined = examined.last().map_or(self.last_examined, |&(_, _, id, _)| id);
        examined.sort_unstable_by_key(|&(is_proven, checked, id, _)| (is_proven, checked, id));
        let mut left = CHECKED_BY_SHAPE;
        for (_, _, id, shape) in examined {
            let Some(known) = self.shapes.get_mut(&shape).filter(|known| known.checked != self.reading)
            else {
                continue;
            };
            if left == 0 {
                break;
            }
            left -= 1;
            known.checked = self.reading;
            chosen.push(id);
        }
        chosen
    }

    /// Forgets the shapes that no map has any more, once there are more shapes than maps.
    pub(super) fn forget_unused<'a>(&mut self, maps: impl ExactSizeIterator<Item = &'a MapFacts>) {
        if self.shapes.len() > maps.len() {
            let used: HashSet<Shape> = maps.map(Shape::from).collect();
            self.shapes.retain(|shape, _| used.contains(shape));
        }
    }
}

/// Returns the number of entries that the memory of a map depends on: 0 if it depends on none. `None` if it cannot be calculated.
fn counted(map: &MapFacts, entries: i64) -> Option<u64> {
    if has_fixed_memory(map) {
        return Some(0);
    }
    u64::try_from(entries).ok().filter(|_| can_grow(map))
}

/// Returns maps in ascending order of their ids, from the first one behind `last` on, all of them once.
fn following<'a>(maps: &'a [&'a MapFacts], last: u32) -> impl Iterator<Item = &'a MapFacts> {
    let (before, after) = maps.split_at(maps.partition_point(|map| map.id <= last));
    after.iter().chain(before).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::BootTime;
    use crate::model::enums::map_type;
    use crate::sys::bpf::uapi::NO_PREALLOC;

    fn map(id: u32, max_entries: u32) -> MapFacts {
        MapFacts {
            id,
            name: "a_map".into(),
            map_type: map_type::from_number(map_type::HASH),
            key_size: 4,
            value_size: 8,
            max_entries,
            flags: NO_PREALLOC,
            btf_id: None,
            first_seen: BootTime::default(),
        }
    }

    /// What the kernel reports for the maps of these tests.
    fn bytes(entries: i64) -> u64 {
        1000 + 72 * u64::try_from(entries).expect("a number of entries")
    }

    /// Takes true measurements, none of which may contradict.
    fn measure(growth: &mut Growth, map: &MapFacts, entries: &[i64]) {
        for &entries in entries {
            assert!(!growth.measured(map, entries, bytes(entries)), "{entries} entries");
        }
    }

    #[test]
    fn three_numbers_of_entries_or_two_seen_twice_give_the_memory_of_all() {
        let map = map(1, 100);
        for entries in
            [&[0, 1, 2][..], &[7, 3, 90], &[0, 1, 0, 1], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], &[5, 5, 9, 5, 9]]
        {
            let mut growth = Growth::default();
            let (last, first) = entries.split_last().expect("not empty");
            measure(&mut growth, &map, first);
            assert_eq!(growth.memory(&map, 50), None, "too few of {entries:?}");
            measure(&mut growth, &map, &[*last]);
            assert_eq!(growth.memory(&map, 50), Some(bytes(50)), "{entries:?}");
            assert_eq!(growth.memory(&map, -1), None, "unknown entries");
        }
    }

    #[test]
    fn maps_of_one_shape_share_what_was_learned_and_others_do_not() {
        let mut growth = Growth::default();
        for (id, entries) in [(1, 0), (2, 3), (3, 4)] {
            measure(&mut growth, &map(id, 100), &[entries]);
        }
        assert_eq!(growth.memory(&map(4, 100), 9), Some(bytes(9)));
        assert_eq!(growth.memory(&map(4, 101), 9), None);
    }

    #[test]
    fn one_map_that_changed_while_it_was_measured_gives_no_line() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        // Two entries came between their count and the measurement.
        assert!(!growth.measured(&map, 1, bytes(3)));
        measure(&mut growth, &map, &[0, 2]);
        assert_eq!(growth.memory(&map, 9), None);
        measure(&mut growth, &map, &[5]);
        assert_eq!(growth.memory(&map, 9), Some(bytes(9)));
    }

    #[test]
    fn a_map_that_changes_while_it_is_checked_is_no_contradiction() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        measure(&mut growth, &map, &[0, 1, 2]);
        for _ in 0..2 {
            assert!(!growth.measured(&map, 10, bytes(12)));
        }
        measure(&mut growth, &map, &[10]);
        for _ in 0..2 {
            assert!(!growth.measured(&map, 10, bytes(12)));
        }
        assert_eq!(growth.memory(&map, 9), Some(bytes(9)), "the misses were not in succession");
    }

    #[test]
    fn a_base_from_maps_in_motion_is_replaced_without_an_issue() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        // A map that grows steadily: always two more by the time of the measurement.
        for entries in [10, 20, 30] {
            assert!(!growth.measured(&map, entries, bytes(entries + 2)));
        }
        assert_eq!(growth.memory(&map, 9), Some(bytes(11)));
        measure(&mut growth, &map, &[40, 50, 60, 70, 80]);
        assert_eq!(growth.memory(&map, 9), Some(bytes(9)));
    }

    /// Eleven numbers of entries: three give a line, the others prove it.
    const PROOF: [i64; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    #[test]
    fn what_contradicts_a_proven_line_is_reported() {
        for (entries, found) in [(9, bytes(9) + 1), (9, bytes(0) - 1), (100, bytes(101))] {
            let mut growth = Growth::default();
            let map = map(1, 100);
            measure(&mut growth, &map, &PROOF);
            assert!(growth.measured(&map, entries, found), "{entries} entries, {found} bytes");
            assert_eq!(growth.memory(&map, 9), None, "it is measured again");
        }
    }

    #[test]
    fn what_contradicts_a_line_that_is_not_proven_only_ends_it() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        measure(&mut growth, &map, &PROOF[..10]);
        assert!(growth.memory(&map, 9).is_some());
        assert!(!growth.measured(&map, 9, bytes(9) + 1));
        assert_eq!(growth.memory(&map, 9), None);
    }

    #[test]
    fn memory_that_is_no_line_is_always_measured_in_the_end() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        for _ in 0..ATTEMPTS {
            measure(&mut growth, &map, &[0, 1, 2, 3]);
            assert!(growth.memory(&map, 9).is_some());
            growth.measured(&map, 9, bytes(9) + 1);
        }
        measure(&mut growth, &map, &[0, 1, 2, 3]);
        assert_eq!(growth.memory(&map, 9), None);
    }

    #[test]
    fn memory_that_does_not_depend_on_the_entries_is_a_line() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        for entries in PROOF {
            assert!(!growth.measured(&map, entries, 6400));
        }
        assert_eq!(growth.memory(&map, 70), Some(6400));
        assert!(growth.measured(&map, 70, 6401));
    }

    #[test]
    fn maps_that_do_not_grow_have_the_memory_of_others_of_their_shape() {
        let array =
            |id| MapFacts { map_type: map_type::from_number(map_type::ARRAY), flags: 0, ..map(id, 100) };
        let mut growth = Growth::default();
        for id in 1..=u32::from(PROVEN) {
            assert_eq!(growth.memory(&array(100), -1), None, "{id} are not enough");
            assert!(!growth.measured(&array(id), -1, 4096));
        }
        assert_eq!(growth.memory(&array(100), -1), Some(4096));
        let other = MapFacts { value_size: 16, ..array(101) };
        assert_eq!(growth.memory(&other, -1), None, "another shape");
        assert!(growth.measured(&array(102), -1, 8192), "the kernel contradicts");
        assert!(growth.take_line_ended());
        assert_eq!(growth.memory(&array(100), -1), None);
    }

    #[test]
    fn memory_that_is_not_the_same_for_a_shape_is_measured_of_each_map() {
        let array = MapFacts { map_type: map_type::from_number(map_type::ARRAY), flags: 0, ..map(1, 100) };
        let mut growth = Growth::default();
        for round in 0..100 {
            assert!(!growth.measured(&array, -1, 4096 * (1 + round / 3)));
            assert_eq!(growth.memory(&array, -1), None);
        }
        for _ in 0..2 * PROVEN {
            assert!(!growth.measured(&array, -1, 4096));
        }
        assert_eq!(growth.memory(&array, -1), None, "it was contradicted too often");
    }

    #[test]
    fn the_memory_of_other_types_is_never_calculated() {
        let bloom =
            MapFacts { map_type: map_type::from_number(map_type::BLOOM_FILTER), flags: 0, ..map(1, 100) };
        let mut growth = Growth::default();
        for _ in 0..2 * PROVEN {
            growth.measured(&bloom, 5, 4096);
        }
        assert_eq!(growth.memory(&bloom, 5), None);
    }

    #[test]
    fn maps_are_checked_in_turn() {
        let mut growth = Growth::default();
        let maps: Vec<_> = (1..=5).map(|id| map(id, 100)).collect();
        let changed: Vec<_> = maps.iter().collect();
        let mut chosen = |changed: &[&MapFacts]| growth.choose_checked(changed);
        assert_eq!(chosen(&changed), [1, 2]);
        assert_eq!(chosen(&changed), [3, 4]);
        assert_eq!(chosen(&changed), [5, 1]);
        assert_eq!(chosen(&changed[1..2]), [2]);
        assert_eq!(chosen(&[]), [0; 0]);
        assert_eq!(chosen(&changed), [3, 4]);
    }

    #[test]
    fn a_shape_of_few_maps_is_checked_soon_although_many_others_change() {
        let mut growth = Growth::default();
        let rare = map(500, 7);
        let maps: Vec<_> = (1..=1000).map(|id| if id == 500 { rare.clone() } else { map(id, 100) }).collect();
        let changed: Vec<_> = maps.iter().collect();
        for map in [&rare, &maps[0]] {
            measure(&mut growth, map, &PROOF);
        }
        let checks = (0..32).filter(|_| growth.choose_checked(&changed).contains(&500)).count();
        assert!(checks >= 2, "{checks} checks");
    }

    #[test]
    fn a_line_that_is_not_proven_is_checked_first() {
        let mut growth = Growth::default();
        let maps: Vec<_> = (1..=60).map(|id| map(id, 100 + id)).collect();
        for map in &maps[..59] {
            measure(&mut growth, map, &PROOF);
        }
        measure(&mut growth, &maps[59], &PROOF[..4]);
        let changed: Vec<_> = maps.iter().collect();
        for _ in 0..5 {
            assert!(growth.choose_checked(&changed).contains(&60));
        }
    }

    #[test]
    fn the_end_of_a_line_is_told_once() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        measure(&mut growth, &map, &PROOF);
        assert!(!growth.take_line_ended());
        growth.measured(&map, 9, bytes(9) + 1);
        assert!(growth.take_line_ended());
        assert!(!growth.take_line_ended());
    }

    #[test]
    fn maps_in_motion_never_end_what_can_be_calculated() {
        let mut growth = Growth::default();
        let map = map(1, 100);
        for _ in 0..3 * ATTEMPTS {
            measure(&mut growth, &map, &PROOF);
            assert_eq!(growth.memory(&map, 9), Some(bytes(9)));
            for _ in 0..MISSES {
                assert!(!growth.measured(&map, 10, bytes(12)));
            }
        }
        // For a moment the sum over all CPUs is below zero.
        measure(&mut growth, &map, &PROOF);
        assert!(!growth.measured(&map, 0, bytes(0) - 72));
    }

    #[test]
    fn shapes_without_a_map_are_forgotten() {
        let mut growth = Growth::default();
        let maps = [map(1, 100), map(2, 101), map(3, 102)];
        for map in &maps {
            measure(&mut growth, map, &[0, 1, 2]);
        }
        growth.forget_unused(maps.iter());
        assert_eq!(growth.shapes.len(), 3);
        growth.forget_unused(maps[..1].iter());
        assert_eq!(growth.shapes.len(), 1);
        assert_eq!(growth.memory(&maps[0], 9), Some(bytes(9)));
    }

    proptest! {
        /// Whatever is measured, in whatever order: what is calculated from true measurements is true.
        #[test]
        fn true_measurements_give_true_memory(entries in prop::collection::vec(0_i64..100, 0..40), asked in 0_i64..100) {
            let mut growth = Growth::default();
            measure(&mut growth, &map(1, 100), &entries);
            let memory = growth.memory(&map(1, 100), asked);
            prop_assert!(memory.is_none_or(|memory| memory == bytes(asked)));
        }

        #[test]
        fn arbitrary_measurements_do_not_panic(measured in prop::collection::vec(any::<(i64, u64)>(), 0..40), asked: i64) {
            let mut growth = Growth::default();
            for (entries, bytes) in measured {
                growth.measured(&map(1, 100), entries, bytes);
                growth.memory(&map(1, 100), asked);
            }
        }
    }
}
