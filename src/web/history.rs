//! Values of the last ten minutes, for sparklines. Entry points: [`History::record`] and [`History::of`].
//!
//! A series is a ring of [`POINTS`] values of four bytes, one for each sample; NaN where there was none. Only the rows with the
//! highest values have one, so that the memory has a bound on any host: [`MAX_BYTES`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::metrics::columns::{RowKey, Table, TableKind};

/// Samples that are kept: ten minutes of them.
pub(super) const POINTS: usize = 120;

/// The most that all series may take, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// A column with history, and how many of its rows have one.
pub(super) struct KeptColumn {
    pub(super) kind: TableKind,
    pub(super) field: &'static str,
    pub(super) rows: usize,
}

/// Every column with history.
pub(super) const KEPT: [KeptColumn; 4] = [
    KeptColumn { kind: TableKind::Programs, field: "cpu_ratio", rows: 2500 },
    KeptColumn { kind: TableKind::Maps, field: "fill_ratio", rows: 2500 },
    KeptColumn { kind: TableKind::Owners, field: "cpu_ratio", rows: 500 },
    KeptColumn { kind: TableKind::Owners, field: "mem_bytes", rows: 500 },
];

/// What a series takes: its values with the header of their allocation, and its share of a hash table, which is at most
/// eight sevenths of twice its entries.
const SERIES_BYTES: usize = POINTS * size_of::<f32>() + 16 + (size_of::<(u64, Ring)>() + 1) * 16 / 7;

const _: () = {
    let (mut rows, mut at) = (0, 0);
    while at < KEPT.len() {
        rows += KEPT[at].rows;
        at += 1;
    }
    assert!(rows * SERIES_BYTES <= MAX_BYTES, "the bound holds whatever the number of objects is");
};

type Ring = Box<[f32; POINTS]>;

/// The series of every column.
pub(super) struct History {
    /// By the hash of the row's key: two rows that share one share a line in a graph, and nothing else.
    hasher: RandomState,
    columns: [HashMap<u64, Ring>; KEPT.len()],
    /// Samples so far.
    samples: usize,
}

impl History {
    pub(super) fn new() -> Self {
        let columns = KEPT.map(|KeptColumn { rows, .. }| HashMap::with_capacity(rows.min(64)));
        Self { hasher: RandomState::new(), columns, samples: 0 }
    }

    /// Returns the number of samples so far.
    pub(super) const fn samples(&self) -> usize {
        self.samples
    }

    /// Returns the number of series.
    pub(super) fn series(&self) -> usize {
        self.columns.iter().map(HashMap::len).sum()
    }

    /// Returns what all series take at most, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.series() * SERIES_BYTES
    }

    /// Notes samples that were not taken: their points are gaps.
    pub(super) fn miss(&mut self, samples: usize) {
        for missed in 0..samples.min(POINTS) {
            let slot = (self.samples + missed) % POINTS;
            for ring in self.columns.iter_mut().flat_map(HashMap::values_mut) {
                ring[slot] = f32::NAN;
            }
        }
        self.samples += samples;
    }

    /// Adds a sample of each column. `table` returns a table; `None` if it could not be read.
    pub(super) fn record<'a>(&mut self, table: impl Fn(TableKind) -> Option<Table<'a>>) {
        let slot = self.samples % POINTS;
        let mut tables: Vec<(TableKind, Option<Table<'a>>)> = Vec::new();
        for (series, KeptColumn { kind, field, rows }) in self.columns.iter_mut().zip(KEPT) {
            let at = tables.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
                tables.push((kind, table(kind)));
                tables.len() - 1
            });
            let values =
                tables[at].1.as_ref().map_or_else(Vec::new, |table| values(table, field, &self.hasher));
            record(series, slot, values, rows);
        }
        self.samples += 1;
    }

    /// Returns the last values of a row in a column, at most [`POINTS`], oldest first: the last one is of the last sample.
    /// `None` if the row has no history there.
    pub(super) fn of(&self, kind: TableKind, field: &str, key: &RowKey) -> Option<Vec<Option<f64>>> {
        let column = KEPT.iter().position(|kept| kept.kind == kind && kept.field == field)?;
        let ring = self.columns[column].get(&self.hasher.hash_one(key))?;
        let end = self.samples % POINTS;
        let values = ring[end..].iter().chain(&ring[..end]);
        Some(values.skip_while(|value| value.is_nan()).map(|&value| rounded(value)).collect())
    }
}

/// Returns the hashed key and the value of each row that has one.
fn values(table: &Table<'_>, field: &str, hasher: &RandomState) -> Vec<(u64, f32)> {
    let Some(column) = table.column(field) else { return Vec::new() };
    let value = |row| {
        #[expect(clippy::cast_possible_truncation, reason = "a graph has fewer than seven digits")]
        let value = table.cell(row, column).number()? as f32;
        Some((hasher.hash_one(table.key(row)), value))
    };
    (0..table.len()).filter_map(value).filter(|(_, value)| value.is_finite()).collect()
}

/// Adds a sample of a column, whose largest values have series.
fn record(series: &mut HashMap<u64, Ring>, slot: usize, mut values: Vec<(u64, f32)>, rows: usize) {
    for ring in series.values_mut() {
        ring[slot] = f32::NAN;
    }
    for (key, value) in &values {
        if let Some(ring) = series.get_mut(key) {
            ring[slot] = *value;
        }
    }
    series.retain(|_, ring| ring.iter().any(|value| !value.is_nan()));
    if values.len() > rows {
        // Of equal ones, those that have a series keep it.
        let is_new = |key: &u64| !series.contains_key(key);
        values.select_nth_unstable_by(rows, |(one_key, one), (other_key, other)| {
            other.total_cmp(one).then_with(|| is_new(one_key).cmp(&is_new(other_key)))
        });
        values.truncate(rows);
    }
    values.retain(|(key, _)| !series.contains_key(key));
    // Those that are no longer among the largest make room.
    let mut excess = (series.len() + values.len()).saturating_sub(rows);
    if excess > 0 {
        let mut now: Vec<f32> = series.values().map(|ring| ring[slot]).collect();
        // An unknown value is less than any other.
        let size = |value: f32| if value.is_nan() { f32::NEG_INFINITY } else { value };
        now.sort_by(|one, other| size(*one).total_cmp(&size(*other)));
        let least = size(now[excess - 1]);
        series.retain(|_, ring| {
            let stays = excess == 0 || size(ring[slot]) > least;
            excess -= usize::from(!stays);
            stays
        });
    }
    for (key, value) in values {
        let mut ring = Box::new([f32::NAN; POINTS]);
        ring[slot] = value;
        series.insert(key, ring);
    }
}

/// Returns a value with three digits, which a sparkline does not show either; `None` for NaN.
fn rounded(value: f32) -> Option<f64> {
    let value = f64::from(value);
    if value == 0.0 || !value.is_finite() {
        return (!value.is_nan()).then_some(value);
    }
    let digits = 2.0 - value.abs().log10().floor();
    let scale = 10_f64.powf(digits.abs());
    Some(if digits >= 0.0 { (value * scale).round() / scale } else { (value / scale).round() * scale })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Kind, Map, MapFacts, Object, Snapshot};

    fn snapshot() -> Snapshot {
        serde_json::from_str(include_str!("../../tests/golden/node/snapshot.json")).expect("it is a snapshot")
    }

    /// A snapshot with maps of these fills, in percent, by their ids.
    fn maps(fills: impl Iterator<Item = (u32, u32)>) -> Snapshot {
        let snapshot = snapshot();
        let example = snapshot.maps.as_ref().expect("it has maps").iter().find(|map| map.fill().is_some());
        let example = example.expect("one has a fill").clone();
        let map = |(id, percent): (u32, u32)| {
            let facts = MapFacts { id, max_entries: 100, ..MapFacts::clone(&example.facts) };
            Map { facts: Arc::new(facts), entries: Some(percent.into()), ..example.clone() }
        };
        Snapshot { maps: Some(fills.map(map).collect()), owners: Vec::new(), programs: None, ..snapshot }
    }

    fn key(id: u32) -> RowKey {
        RowKey::Object(Object { kind: Kind::Map, id })
    }

    fn record(history: &mut History, snapshot: &Snapshot) {
        history.record(|kind| Table::new(kind, snapshot, None));
    }

    fn fill(history: &History, id: u32) -> Option<Vec<Option<f64>>> {
        history.of(TableKind::Maps, "fill_ratio", &key(id))
    }

    #[test]
    fn a_series_has_the_last_values_oldest_first_with_gaps() {
        let mut history = History::new();
        record(&mut history, &maps([(2, 5)].into_iter()));
        record(&mut history, &maps([(1, 10), (2, 5)].into_iter()));
        record(&mut history, &maps([(2, 5)].into_iter()));
        record(&mut history, &maps([(1, 30), (2, 5)].into_iter()));
        assert_eq!(fill(&history, 1), Some(vec![Some(0.1), None, Some(0.3)]));
        assert_eq!(fill(&history, 3), None);
        assert_eq!(history.of(TableKind::Maps, "mem_bytes", &key(1)), None, "that has no history");
        for percent in 0..100 {
            record(&mut history, &maps([(2, percent)].into_iter()));
        }
        assert_eq!(fill(&history, 2).map(|points| points.len()), Some(104));
        for percent in 0..100 {
            record(&mut history, &maps([(2, percent)].into_iter()));
        }
        let points = fill(&history, 2).expect("it is there");
        assert_eq!((points.len(), points[POINTS - 1], points[19]), (POINTS, Some(0.99), Some(0.99)));
        assert_eq!(fill(&history, 1), None, "it was not there for ten minutes");
    }

    #[test]
    fn missed_samples_are_gaps() {
        let mut history = History::new();
        record(&mut history, &maps([(1, 10)].into_iter()));
        history.miss(2);
        record(&mut history, &maps([(1, 20)].into_iter()));
        assert_eq!(fill(&history, 1), Some(vec![Some(0.1), None, None, Some(0.2)]));
        assert_eq!(history.samples(), 4);
        for _ in 0..POINTS {
            record(&mut history, &maps([(1, 30)].into_iter()));
        }
        history.miss(POINTS - 1);
        record(&mut history, &maps([(1, 40), (2, 1)].into_iter()));
        assert_eq!(fill(&history, 1), Some(vec![Some(0.4)]), "nothing is left of what was there before");
        history.miss(POINTS * 3);
        record(&mut history, &maps([(2, 2)].into_iter()));
        assert_eq!((fill(&history, 1), fill(&history, 2)), (None, Some(vec![Some(0.02)])));
    }

    #[test]
    fn the_largest_have_series_and_the_number_is_bounded() {
        let mut history = History::new();
        let limit = u32::try_from(KEPT[1].rows).expect("it is small");
        // More and more maps, with other ones at the top each time.
        for round in 0..6 {
            record(
                &mut history,
                &maps((1..=20_000).map(|id| (id, if id % 8 == round { 90 } else { id % 50 }))),
            );
            assert_eq!(history.series(), KEPT[1].rows);
            assert!(history.bytes() <= MAX_BYTES, "{}", history.bytes());
            let top: Vec<_> = (1..=20_000).filter(|id| id % 8 == round).collect();
            assert_eq!(top.len(), limit as usize);
            for id in top {
                let points = fill(&history, id).expect("the largest have a history");
                assert_eq!(points.last(), Some(&Some(0.9)));
            }
        }
    }

    #[test]
    fn values_have_three_digits() {
        for (value, expected) in
            [(0.0, 0.0), (0.123_456, 0.123), (1234.6, 1230.0), (-0.000_123_99, -0.000_124), (3e30, 3e30)]
        {
            let rounded = rounded(value).expect("a number");
            assert!((rounded - expected).abs() <= expected.abs() * 1e-9, "{value}: {rounded}");
        }
        assert_eq!(rounded(f32::NAN), None);
    }
}
