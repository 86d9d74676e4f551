//! A reading with an earlier one that its rates are since, as readings follow each other. Entry point: [`SnapshotPair::followed_by`].

use std::sync::Arc;
use std::time::Duration;

use super::typed::TableIndex;
use super::{Table, TableKind};
use crate::metrics::rate::Period;
use crate::model::Snapshot;

/// The shortest time between two readings of which rates are shown: in less, run times are noise.
const SHORTEST_PERIOD: Duration = Duration::from_millis(500);

/// A new period has at least this part of the time with run statistics that the one before would have if it went on: the start of a
/// sample is noise as well.
const LEAST_PART: u32 = 3;

/// A reading, and an earlier one of the same boot that rates are since. A clone shares both, and what tables have found out of them.
#[derive(Clone, Debug)]
pub struct SnapshotPair {
    now: Arc<Snapshot>,
    earlier: Option<Arc<Snapshot>>,
    index: Arc<TableIndex>,
}

impl SnapshotPair {
    /// Returns the pair of a reading and one that may be earlier.
    #[must_use]
    pub fn new(now: Arc<Snapshot>, earlier: Option<Arc<Snapshot>>) -> Self {
        let earlier = earlier.filter(|earlier| Period::between(earlier, &now).is_some());
        Self { now, earlier, index: Arc::default() }
    }

    /// Returns the pair of the next reading. Its rates are since the last reading, or go on since the earlier one: after a very short
    /// time, and while run statistics are sampled and there was no sample since. So a run time is known until there is a later one.
    #[must_use]
    pub fn followed_by(&self, next: Arc<Snapshot>) -> Self {
        let since = |earlier: &Arc<Snapshot>| Period::between(earlier, &next);
        let covered = |period: Period| period.covered.unwrap_or_default();
        let goes_on = |long: Period, short: Period| {
            // As long as statistics are on, there will be another sample.
            let is_between_samples = next.run_stats.is_on() && covered(short) * LEAST_PART < covered(long);
            short.elapsed < SHORTEST_PERIOD || is_between_samples
        };
        let earlier = self.earlier.as_ref().filter(|earlier| {
            since(earlier).zip(since(&self.now)).is_some_and(|(long, short)| goes_on(long, short))
        });
        let earlier = Arc::clone(earlier.unwrap_or(&self.now));
        Self::new(next, Some(earlier))
    }

    /// Returns the reading.
    #[must_use]
    pub const fn now(&self) -> &Arc<Snapshot> {
        &self.now
    }

    /// Returns the earlier reading.
    #[must_use]
    pub const fn earlier(&self) -> Option<&Arc<Snapshot>> {
        self.earlier.as_ref()
    }

    /// Returns a table; `None` if it could not be read. Which rows and objects belong together is found out once for all tables of the
    /// pair.
    #[must_use]
    pub fn table(&self, kind: TableKind) -> Option<Table<'_>> {
        Table::indexed(kind, &self.now, self.earlier.as_deref(), Arc::clone(&self.index))
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;
    use crate::model::{BootTime, Program, ProgramFacts, RunStats};

    const MILLISECOND: u64 = 1_000_000;

    fn golden() -> Snapshot {
        serde_json::from_str(include_str!("../../../tests/golden/node/snapshot.json"))
            .expect("it is a snapshot")
    }

    /// A reading after so many milliseconds, and as many of run statistics, in which each program ran half of the time.
    fn reading(elapsed: u64, covered: u64) -> Arc<Snapshot> {
        let mut snapshot = golden();
        snapshot.taken_at = BootTime(snapshot.taken_at.0 + elapsed * MILLISECOND);
        let covered = Duration::from_millis(covered);
        snapshot.run_stats = RunStats { by_exporter: true, by_sysctl: None, covered };
        for program in snapshot.programs.iter_mut().flatten() {
            program.run_time = Some(covered / 2);
        }
        Arc::new(snapshot)
    }

    /// Returns the period in milliseconds and the CPU ratio of the last reading.
    fn last(readings: &[(u64, u64)]) -> (Option<u128>, Option<f64>) {
        let mut readings = readings.iter().map(|&(elapsed, covered)| reading(elapsed, covered));
        let first = SnapshotPair::new(readings.next().expect("there is one"), None);
        let pair = readings.fold(first, |pair, next| pair.followed_by(next));
        let table = pair.table(TableKind::Programs).expect("it is there");
        let column = table.column("cpu_ratio").expect("it is there");
        let ratio = table.cell(0, column).number().map(|ratio| (ratio * 1e6).round() / 1e6);
        (table.period().map(|period| period.elapsed.as_millis()), ratio)
    }

    #[test]
    fn rates_are_since_the_last_reading_unless_that_was_a_moment_ago() {
        assert_eq!(last(&[(0, 0)]), (None, None));
        assert_eq!(last(&[(0, 0), (2000, 2000)]), (Some(2000), Some(0.5)));
        assert_eq!(last(&[(0, 0), (2000, 2000), (4000, 4000)]), (Some(2000), Some(0.5)));
        assert_eq!(last(&[(0, 0), (2000, 2000), (2100, 2100)]), (Some(2100), Some(0.5)));
        assert_eq!(last(&[(0, 0), (2000, 2000), (2100, 2100), (4100, 4100)]), (Some(2000), Some(0.5)));
        assert_eq!(last(&[(0, 0), (2000, 0), (4000, 0)]), (Some(2000), None), "statistics are off");
    }

    #[test]
    fn a_run_time_stays_known_between_samples() {
        let sampled = [(0, 1000), (2000, 1000), (4000, 1020), (6000, 2000), (8000, 2000), (10_000, 2000)];
        let periods = (1..=sampled.len()).map(|end| last(&sampled[..end]));
        let expected = [
            (None, None),
            (Some(2000), None),
            // The sample has begun, and the one before is not known.
            (Some(2000), Some(0.5)),
            (Some(2000), Some(0.5)),
            (Some(4000), Some(0.5)),
            (Some(6000), Some(0.5)),
        ];
        assert_eq!(periods.collect::<Vec<_>>(), expected);
        let begun = [&sampled[..], &[(12_000, 2010), (14_000, 3000)]].concat();
        assert_eq!(last(&begun[..7]), (Some(8000), Some(0.5)), "of 10 ms there would be noise");
        assert_eq!(last(&begun), (Some(2000), Some(0.5)));

        let first = SnapshotPair::new(reading(0, 0), None);
        let mut off = Snapshot::clone(&reading(4000, 2000));
        off.run_stats.by_exporter = false;
        let turned_off = first.followed_by(reading(2000, 2000)).followed_by(Arc::new(off));
        let period = turned_off.table(TableKind::Maps).and_then(|table| table.period()).expect("it is later");
        assert_eq!(period.elapsed, Duration::from_secs(2), "there will be no other sample");
    }

    #[test]
    fn another_boot_has_no_rates_since_this_one() {
        let before = reading(0, 0);
        let mut after = Snapshot::clone(&reading(60_000, 60_000));
        after.reader_started_at = BootTime(before.reader_started_at.0 + MILLISECOND);
        let of_boot = |seconds| {
            let mut after = after.clone();
            after.clock.booted_at += Duration::from_secs(seconds);
            SnapshotPair::new(Arc::clone(&before), None).followed_by(Arc::new(after))
        };
        assert!(of_boot(9).earlier().is_some(), "the clock was set");
        assert!(of_boot(11).earlier().is_none(), "it has been up for longer than the other one then");
        let same_reader = Snapshot { reader_started_at: before.reader_started_at, ..after.clone() };
        assert!(same_reader.is_of_boot_of(&before));
    }

    #[test]
    fn tables_of_a_pair_pair_their_rows_once() {
        let with = |programs: u32, seconds: u64| {
            let mut snapshot = Snapshot::clone(&reading(seconds * 1000, seconds * 1000));
            let example = snapshot.programs.as_ref().expect("it has programs")[0].clone();
            let program = |id| {
                let facts = ProgramFacts { id, ..ProgramFacts::clone(&example.facts) };
                Program { facts: Arc::new(facts), ..example.clone() }
            };
            snapshot.programs = Some((1..=programs).map(program).collect());
            Arc::new(snapshot)
        };
        let least = |programs| {
            let pair = SnapshotPair::new(with(programs, 0), None).followed_by(with(programs, 1));
            let shown = || {
                let began = Instant::now();
                let table = pair.table(TableKind::Programs).expect("it is there");
                for field in ["cpu_ratio", "link_ids"] {
                    black_box(table.cell(0, table.column(field).expect("it is there")));
                }
                began.elapsed()
            };
            shown();
            (0..20).map(|_| shown()).min().expect("there are some")
        };
        let (few, many) = (least(10), least(20_000));
        assert!(many < few * 20, "2000 times the rows took {many:?} instead of {few:?}");
    }
}
