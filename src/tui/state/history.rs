//! What was measured of programs, maps and owners at the last readings, for graphs. Entry point: [`History`].
//!
//! Bounded: [`MAX_HISTORIES`] objects, a third of them of each table, with [`POINTS`] points of at most three values of four bytes each, which is 5.9 MB, and as much
//! again for whatever has its details open. Objects that cost nothing have no history while there is no room.

use std::collections::{HashMap, VecDeque};

use super::table_of;
use crate::metrics::columns::{RowKey, SnapshotPair, TableKind};

/// How many readings are kept.
pub const POINTS: usize = 120;

/// How many objects have a history.
pub const MAX_HISTORIES: usize = 4096;

/// How many objects of a table have one, so that many maps leave room for programs.
pub const HISTORIES_OF_TABLE: usize = MAX_HISTORIES / MEASURES.len();

/// A column that has a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// The field of the column.
    pub field: &'static str,
    /// What the graph shows.
    pub title: &'static str,
}

/// The tables whose rows have graphs, and which.
pub const MEASURES: [(TableKind, &[Measure]); 3] = [
    (
        TableKind::Programs,
        &[
            Measure { field: "cpu_ratio", title: "CPU" },
            Measure { field: "runs_per_second", title: "Runs per second" },
            Measure { field: "mean_run_time_seconds", title: "Time per run" },
        ],
    ),
    (
        TableKind::Maps,
        &[
            Measure { field: "entries", title: "Entries" },
            Measure { field: "entries_per_second", title: "Growth per second" },
            Measure { field: "mem_bytes", title: "Memory" },
        ],
    ),
    (
        TableKind::Owners,
        &[Measure { field: "cpu_ratio", title: "CPU" }, Measure { field: "mem_bytes", title: "Memory" }],
    ),
];

/// The values of one object, in the order of its measures, the last reading at the end.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// `NaN` where a value was not known.
    values: VecDeque<[f32; 3]>,
    /// The number of the last reading that had the object.
    seen: u64,
}

impl Points {
    /// Returns the values of a measure by its position, `None` where one was not known.
    #[must_use]
    pub fn of(&self, measure: usize) -> impl DoubleEndedIterator<Item = Option<f64>> + '_ {
        self.values.iter().map(move |values| Some(f64::from(values[measure])).filter(|value| !value.is_nan()))
    }

    fn push(&mut self, values: [f32; 3], reading: u64) {
        // What disappeared for a while, such as a map that was not counted, has a gap.
        while self.seen + 1 < reading && !self.values.is_empty() && self.values.len() < POINTS {
            self.values.push_back([f32::NAN; 3]);
            self.seen += 1;
        }
        if self.values.len() == POINTS {
            self.values.pop_front();
        }
        self.values.push_back(values);
        self.seen = reading;
    }
}

/// The last values of what has graphs.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: HashMap<RowKey, Points>,
    reading: u64,
}

impl History {
    /// Adds the values of a reading. Objects in `wanted` have a history in any case.
    pub(super) fn read(&mut self, readings: &SnapshotPair, wanted: &[&RowKey]) {
        self.reading += 1;
        for (kind, measures) in MEASURES {
            self.read_table(readings, kind, measures, wanted);
        }
        // What is gone makes room.
        let reading = self.reading;
        self.points.retain(|key, points| points.seen == reading || wanted.contains(&key));
    }

    fn read_table(
        &mut self,
        readings: &SnapshotPair,
        kind: TableKind,
        measures: &[Measure],
        wanted: &[&RowKey],
    ) {
        let Some(table) = readings.table(kind) else { return };
        let columns: Vec<_> = measures.iter().filter_map(|measure| table.column(measure.field)).collect();
        let mut count = self.points.keys().filter(|key| table_of(key) == kind).count();
        for row in 0..table.len() {
            let mut values = [f32::NAN; 3];
            for (value, &column) in values.iter_mut().zip(&columns) {
                #[expect(clippy::cast_possible_truncation, reason = "for a graph it is precise enough")]
                if let Some(number) = table.cell(row, column).number() {
                    *value = number as f32;
                }
            }
            let key = table.key(row);
            if let Some(points) = self.points.get_mut(&key) {
                points.push(values, self.reading);
                continue;
            }
            let has_cost = values.iter().any(|&value| value > 0.0);
            if (has_cost && count < HISTORIES_OF_TABLE) || wanted.contains(&&key) {
                count += 1;
                self.points.entry(key).or_default().push(values, self.reading);
            }
        }
    }

    /// Begins the history of an object, unless it has one or has no graphs.
    pub(super) fn keep(&mut self, key: &RowKey, readings: &SnapshotPair) {
        let kind = table_of(key);
        if self.points.contains_key(key) {
            return;
        }
        if let Some((kind, measures)) = MEASURES.into_iter().find(|(each, _)| *each == kind) {
            let others: HashMap<_, _> = std::mem::take(&mut self.points);
            self.read_table(readings, kind, measures, &[key]);
            let own = self.points.remove(key);
            self.points = others;
            self.points.extend(own.map(|points| (key.clone(), points)));
        }
    }

    /// Returns the measures of an object and their values; `None` for what has no graphs or was never seen.
    #[must_use]
    pub fn of(&self, key: &RowKey) -> Option<(TableKind, &'static [Measure], &Points)> {
        let (kind, measures) = MEASURES.into_iter().find(|(kind, _)| *kind == table_of(key))?;
        Some((kind, measures, self.points.get(key)?))
    }

    /// Returns how many objects have a history.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Returns whether nothing has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}
