//! Sums over a reading. Entry point: [`Summary::of`].

use crate::metrics::columns::{SnapshotPair, TableKind};
use crate::metrics::overview::totals;

/// Sums over everything that a reading found, whatever is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// CPU time of all programs per time; `None` without rates.
    pub cpu: Option<f64>,
    /// Runs of all programs per second; `None` without rates.
    pub runs: Option<f64>,
    /// Memory of all programs and maps; `None` if none of it is known.
    pub mem: Option<u64>,
}

impl Summary {
    /// Returns the sums of a reading.
    pub(super) fn of(readings: &SnapshotPair) -> Self {
        // With the time of programs that were unloaded in between.
        let earlier = readings.earlier(TableKind::Programs);
        let totals = totals(readings.now(), earlier.map(|earlier| &**earlier));
        let cpu = totals.into_iter().filter_map(|total| total.cpu_ratio).reduce(|sum, ratio| sum + ratio);
        let mut summary = Self { cpu, ..Self::default() };
        if let Some(table) = readings.table(TableKind::Programs)
            && let Some(column) = table.column("runs_per_second")
        {
            let numbers = (0..table.len()).filter_map(|row| table.cell(row, column).number());
            summary.runs = numbers.reduce(|sum, number| sum + number);
        }
        let of_maps = readings.now().maps.iter().flatten().filter_map(|map| map.mem);
        let of_programs = readings.now().programs.iter().flatten().filter_map(|program| program.facts.mem);
        summary.mem = of_programs.chain(of_maps).reduce(u64::saturating_add);
        summary
    }
}
