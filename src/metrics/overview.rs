//! What a host has in short: totals of each kind, and the tables that answer what costs, whose it is and what fills up.
//! Entry points: [`totals`] and [`SECTIONS`].

use super::Value;
use super::columns::{Filter, Sort, Table, TableKind};
use super::rate::{Period, change, pair};
use super::table::HOST;

use crate::model::{Kind, KindTotal, Snapshot};

/// The totals of a kind of object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// The kind.
    pub kind: Kind,
    /// Number of objects.
    pub objects: usize,
    /// Those that nothing holds; `None` if that is not known.
    pub orphaned: Option<usize>,
    /// Memory charged for them, in bytes; `None` if it is not known.
    pub mem: Option<u64>,
    /// CPU time of runs per time that run statistics were on, between the snapshots: 1 is one CPU. `None` for kinds that do not run,
    /// and without rates.
    pub cpu_ratio: Option<f64>,
}

/// Returns the totals of each kind that could be read, with rates since an earlier snapshot. They are over all objects, whatever is
/// selected.
#[must_use]
pub fn totals(later: &Snapshot, earlier: Option<&Snapshot>) -> Vec<Total> {
    let covered =
        earlier.and_then(|earlier| Period::between(earlier, later)).and_then(|period| period.covered);
    let earlier = pair(&HOST, earlier.map_or(&[], |earlier| &*earlier.totals), &later.totals);
    let total = |(now, before): (&KindTotal, Option<&KindTotal>)| {
        let run_time = |total: &KindTotal| total.run_time.map(|time| Value::Float(time.as_secs_f64()));
        let spent =
            before.and_then(run_time).zip(run_time(now)).and_then(|(before, now)| change(before, now));
        Total {
            kind: now.kind,
            objects: now.objects,
            orphaned: now.orphaned,
            mem: now.mem,
            cpu_ratio: spent.zip(covered).map(|(spent, covered)| spent / covered.as_secs_f64()),
        }
    };
    later.totals.iter().zip(earlier).map(total).collect()
}

/// A part of the overview: the first rows of a table in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The table.
    pub kind: TableKind,
    /// The field with the largest values first, and only rows that have one above zero. `None` for every row, the most expensive first.
    pub by: Option<&'static str>,
}

/// The parts, in order.
pub const SECTIONS: [Section; 5] = [
    Section { kind: TableKind::Programs, by: None },
    Section { kind: TableKind::Maps, by: Some("fill_ratio") },
    Section { kind: TableKind::Maps, by: Some("mem_bytes") },
    Section { kind: TableKind::Owners, by: None },
    Section { kind: TableKind::Orphans, by: None },
];

impl Section {
    /// Returns the rows of a table that the part has, in order, and that order.
    #[must_use]
    pub fn select(self, table: &Table<'_>, filter: &Filter) -> (Vec<usize>, Sort) {
        let column = self.by.and_then(|field| table.column(field));
        let Some(column) = column else {
            let sort = table.default_sort();
            return (table.select(filter, sort), sort);
        };
        let sort = Sort { column, descending: true };
        let mut rows = table.select(filter, sort);
        rows.retain(|&row| table.cell(row, column).number().is_some_and(|number| number > 0.0));
        (rows, sort)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{BootTime, RunStats, WallClock};

    #[test]
    fn every_field_of_a_section_is_one_of_its_table() {
        for Section { kind, by } in SECTIONS {
            let columns = kind.columns();
            assert!(by.is_none_or(|by| columns.iter().any(|column| column.field == by)), "{kind:?} {by:?}");
        }
    }

    #[test]
    fn totals_have_the_cpu_time_of_the_period() {
        let snapshot = |taken_at: u64, run_time: u64| {
            let total = |kind, run_time| KindTotal {
                kind,
                objects: 3,
                orphaned: Some(1),
                mem: Some(4096),
                since: BootTime::from_secs(1),
                run_time,
            };
            let begun =
                Snapshot::begun(BootTime::from_secs(taken_at), BootTime::from_secs(1), WallClock::default());
            Snapshot {
                totals: vec![
                    total(Kind::Program, Some(Duration::from_millis(run_time))),
                    total(Kind::Map, None),
                ],
                run_stats: RunStats { covered: Duration::from_secs(taken_at), ..RunStats::default() },
                ..begun
            }
        };
        let (earlier, later) = (snapshot(10, 100), snapshot(12, 600));
        let [programs, maps] = totals(&later, Some(&earlier))[..] else { panic!("two kinds") };
        assert_eq!((programs.kind, programs.objects, programs.orphaned), (Kind::Program, 3, Some(1)));
        assert_eq!(programs.cpu_ratio, Some(0.25), "500 ms in 2 s");
        assert_eq!((maps.cpu_ratio, maps.mem), (None, Some(4096)));
        assert!(totals(&later, None).iter().all(|total| total.cpu_ratio.is_none()));
    }
}
