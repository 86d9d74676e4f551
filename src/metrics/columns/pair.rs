//! A reading with earlier ones that its rates are since, as readings follow each other. Entry point: [`SnapshotPair::followed_by`].
//!
//! There are two earlier readings. Most rates are since the last one. Rates of run times are since the one before the last sample of run
//! statistics: while these are off, nothing can be known of later times.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::typed::TableIndex;
use super::{Table, TableKind};
use crate::metrics::rate::Period;
use crate::model::Snapshot;

/// The shortest time that rates are of, once there is a reading that is as old: in less, numbers are noise.
const SHORTEST_PERIOD: Duration = Duration::from_millis(500);

/// Of readings closer to each other than this, rates are since the first only, so that few are kept.
const SPACING: Duration = Duration::from_millis(100);

/// The time with run statistics that is enough for a rate, however much there was before. Always-on statistics have as much in
/// [`SHORTEST_PERIOD`], although both times are not measured at the same moment.
const ENOUGH_COVERED: Duration = Duration::from_millis(250);

/// Where samples are shorter, the time of one is compared with that of the sample before: one divided by this is enough.
const ENOUGH_DIVISOR: u32 = 3;

/// A reading, and earlier ones of the same boot that rates are since. A clone shares them, and what tables have found out of them.
#[derive(Clone, Debug)]
pub struct SnapshotPair {
    now: Arc<Snapshot>,
    /// Earlier readings, the newest at the end. Rates are since the first, which is the last one that is at least
    /// [`SHORTEST_PERIOD`] old; later ones will take its place.
    recent: VecDeque<Arc<Snapshot>>,
    run_times: RunTimeStart,
    index: Arc<TableIndex>,
}

impl SnapshotPair {
    /// Returns the pair of a reading and one that may be earlier.
    #[must_use]
    pub fn new(now: Arc<Snapshot>, earlier: Option<Arc<Snapshot>>) -> Self {
        let earlier = earlier.filter(|earlier| Period::between(earlier, &now).is_some());
        let run_times = earlier.as_ref().map(RunTimeStart::at).unwrap_or_default();
        Self { now, recent: earlier.into_iter().collect(), run_times, index: Arc::default() }
    }

    /// Returns the pair of the next reading.
    #[must_use]
    pub fn followed_by(&self, next: Arc<Snapshot>) -> Self {
        if Period::between(&self.now, &next).is_none() {
            return Self::new(next, None);
        }
        let mut recent = self.recent.clone();
        // Two boots are told apart with a tolerance, within which an older reading may be of another one.
        recent.retain(|earlier| Period::between(earlier, &next).is_some());
        if recent.back().is_none_or(|last| self.now.taken_at.since(last.taken_at) >= SPACING) {
            recent.push_back(Arc::clone(&self.now));
        }
        let is_old = |earlier: &Arc<Snapshot>| next.taken_at.since(earlier.taken_at) >= SHORTEST_PERIOD;
        while recent.get(1).is_some_and(is_old) {
            recent.pop_front();
        }
        let run_times = self.run_times.followed_by((&recent[0], &self.now), &next);
        Self { now: next, recent, run_times, index: Arc::default() }
    }

    /// Returns the reading.
    #[must_use]
    pub const fn now(&self) -> &Arc<Snapshot> {
        &self.now
    }

    /// Returns the earlier reading that the rates of a table are since.
    #[must_use]
    pub fn earlier(&self, kind: TableKind) -> Option<&Arc<Snapshot>> {
        if kind.has_run_times() { self.run_times.since.as_ref() } else { self.recent.front() }
    }

    /// Returns a table; `None` if it could not be read. Which rows and objects belong together is found out once for all tables of the
    /// pair.
    #[must_use]
    pub fn table(&self, kind: TableKind) -> Option<Table<'_>> {
        Table::indexed(kind, &self.now, self.earlier(kind).map(|earlier| &**earlier), Arc::clone(&self.index))
    }
}

/// The earlier reading that rates of run times are since, and what decides about the next one.
#[derive(Clone, Debug, Default)]
struct RunTimeStart {
    since: Option<Arc<Snapshot>>,
    /// Whether the sample after `since` is over: run statistics were off between two readings.
    is_over: bool,
    /// The reading before time with run statistics of which there is not enough yet.
    begun: Option<Arc<Snapshot>>,
}

impl RunTimeStart {
    fn at(since: &Arc<Snapshot>) -> Self {
        Self { since: Some(Arc::clone(since)), is_over: false, begun: None }
    }

    /// Returns the start for the next reading, from the one that other rates are since and the last one.
    ///
    /// It moves on as soon as there is enough time with run statistics after a later reading, and to a sample that is over in any case.
    /// Between samples it stays, so that what is known stays.
    fn followed_by(&self, (earlier, last): (&Arc<Snapshot>, &Snapshot), next: &Snapshot) -> Self {
        let covered = |from: &Snapshot, to: &Snapshot| {
            Period::between(from, to).and_then(|period| period.covered).unwrap_or_default()
        };
        // There will be no other sample unless statistics are on.
        let since = self.since.as_ref().filter(|_| next.run_stats.is_on());
        let Some(since) = since.filter(|since| !covered(since, next).is_zero()) else {
            return Self::at(earlier);
        };
        if covered(last, next).is_zero() {
            let sample = self.begun.as_ref().filter(|_| self.is_over).unwrap_or(since);
            return Self { is_over: true, ..Self::at(sample) };
        }
        let is_enough = |from: &Snapshot| {
            covered(from, next) >= ENOUGH_COVERED.min(covered(since, from) / ENOUGH_DIVISOR)
        };
        let begun = self.begun.as_ref().unwrap_or(earlier);
        match [earlier, begun].into_iter().find(|from| is_enough(from)) {
            Some(from) => Self::at(from),
            None => Self { begun: Some(Arc::clone(begun)), ..self.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::columns::Cell;
    use crate::model::{BootTime, RunStats};

    const MILLISECOND: u64 = 1_000_000;

    /// A reading of one program and one map.
    static FIRST: LazyLock<Snapshot> = LazyLock::new(|| {
        let golden = include_str!("../../../tests/golden/node/snapshot.json");
        let mut snapshot: Snapshot = serde_json::from_str(golden).expect("it is a snapshot");
        snapshot.programs.as_mut().expect("it has programs").truncate(1);
        snapshot.maps.as_mut().expect("it has maps").truncate(1);
        snapshot
    });

    /// A reading after so many milliseconds, and as many of run statistics, in which the program ran half of the time. The map gets ten
    /// entries per second.
    fn reading(elapsed: u64, covered: u64) -> Arc<Snapshot> {
        let mut snapshot = FIRST.clone();
        snapshot.taken_at = BootTime(snapshot.taken_at.0 + elapsed * MILLISECOND);
        let covered = Duration::from_millis(covered);
        snapshot.run_stats = RunStats { by_exporter: true, by_sysctl: None, covered };
        for program in snapshot.programs.iter_mut().flatten() {
            program.run_time = Some(covered / 2);
        }
        for map in snapshot.maps.iter_mut().flatten() {
            map.entries = Some(elapsed / 100);
        }
        Arc::new(snapshot)
    }

    /// Returns the pair of each reading.
    fn pairs(readings: &[(u64, u64)]) -> Vec<SnapshotPair> {
        let mut pairs: Vec<SnapshotPair> = Vec::new();
        for &(elapsed, covered) in readings {
            let next = reading(elapsed, covered);
            let pair = pairs.last().map(|pair| pair.followed_by(Arc::clone(&next)));
            pairs.push(pair.unwrap_or_else(|| SnapshotPair::new(next, None)));
        }
        pairs
    }

    fn period(pair: &SnapshotPair, kind: TableKind) -> Option<u64> {
        let period = pair.table(kind).expect("it is there").period()?;
        Some(u64::try_from(period.elapsed.as_millis()).expect("it is short"))
    }

    fn first_cell(pair: &SnapshotPair, kind: TableKind, field: &str) -> Option<f64> {
        let table = pair.table(kind).expect("it is there");
        let number = table.cell(0, table.column(field).expect("it is there")).number();
        number.map(|number| (number * 1e6).round() / 1e6)
    }

    /// Returns the period of run times in milliseconds and the CPU ratio.
    fn run_times(pair: &SnapshotPair) -> (Option<u64>, Option<f64>) {
        (period(pair, TableKind::Programs), first_cell(pair, TableKind::Programs, "cpu_ratio"))
    }

    /// Returns the same of the last reading.
    fn last(readings: &[(u64, u64)]) -> (Option<u64>, Option<f64>) {
        run_times(pairs(readings).last().expect("there is one"))
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
    fn rates_are_of_a_short_time_again_after_a_long_one() {
        assert_eq!(
            last(&[(0, 0), (60_000, 60_000), (62_000, 62_000), (64_000, 64_000)]),
            (Some(2000), Some(0.5))
        );
        let paused = [(0, 0), (2000, 2000), (12_000, 12_000), (14_000, 14_000)];
        assert_eq!(last(&paused), (Some(2000), Some(0.5)));
        // Six samples, and then one in each fifth reading.
        let sampled = [(0, 0), (60_000, 6000), (62_000, 6000), (64_000, 7000)];
        assert_eq!(last(&sampled[..3]), (Some(62_000), Some(0.5)));
        assert_eq!(last(&sampled), (Some(2000), Some(0.5)));
        // A tenth of each second: after six seconds of it, 200 ms are not enough yet, and 400 ms are.
        let seconds: Vec<_> = [0].into_iter().chain((60_000..80_000).step_by(2000)).collect();
        let short: Vec<_> = seconds.iter().map(|&elapsed| (elapsed, elapsed / 10)).collect();
        let periods: Vec<_> = pairs(&short).iter().skip(2).map(|pair| run_times(pair).0).collect();
        assert_eq!(periods[..4], [Some(62_000), Some(4000), Some(2000), Some(2000)]);
        assert!(periods[4..].iter().all(|&period| period == Some(2000)), "{periods:?}");
    }

    #[test]
    fn a_sample_that_readings_divide_is_known_as_a_whole_or_by_the_larger_part() {
        let divided = |first: u64| {
            let whole = [(0, 0), (2000, 1000), (4000, 1000), (6000, 1000 + first), (8000, 2000)];
            let after = [(10_000, 2000), (12_000, 2000 + first), (14_000, 3000), (16_000, 3000)];
            pairs(&[&whole[..], &after].concat()).iter().map(|pair| run_times(pair).0).collect::<Vec<_>>()
        };
        let in_halves = [2000, 4000, 2000, 2000, 4000, 2000, 2000, 4000].map(Some);
        assert_eq!(divided(450)[1..], in_halves);
        assert_eq!(divided(10)[1..], [2000, 4000, 6000, 2000, 4000, 6000, 2000, 4000].map(Some));
        assert_eq!(divided(990)[1..], [2000, 4000, 2000, 4000, 6000, 2000, 4000, 6000].map(Some));
    }

    #[test]
    fn readings_that_are_close_have_rates_of_half_a_second() {
        let close: Vec<_> = (0..=6).map(|number| (number * 200, number * 200)).collect();
        let pairs = pairs(&close);
        for kind in [TableKind::Programs, TableKind::Maps] {
            let periods: Vec<_> = pairs.iter().map(|pair| period(pair, kind)).collect();
            assert_eq!(periods[1..], [200, 400, 600, 600, 600, 600].map(Some), "{kind:?}");
        }
        let closest: Vec<_> = (0..=2000).map(|elapsed| (elapsed, elapsed)).collect();
        let pairs = self::pairs(&closest);
        let most = pairs.iter().map(|pair| pair.recent.len()).max();
        assert!(most <= Some(7), "{most:?} readings are kept");
        assert_eq!(pairs.last().and_then(|pair| period(pair, TableKind::Maps)), Some(500));
    }

    #[test]
    fn only_run_times_go_on_between_samples() {
        let readings = [(0, 0), (2000, 1000), (4000, 1000), (6000, 1000)];
        let pairs = pairs(&readings);
        let last = pairs.last().expect("there are some");
        assert_eq!(run_times(last), (Some(6000), Some(0.5)));
        assert_eq!(period(last, TableKind::Owners), Some(6000));
        assert_eq!(period(last, TableKind::Maps), Some(2000));
        assert_eq!(period(last, TableKind::Links), Some(2000));
        // A map that is created between two samples.
        let mut without = Snapshot::clone(&reading(4000, 1000));
        without.maps = Some(Vec::new());
        let created = pairs[1].followed_by(Arc::new(without)).followed_by(reading(6000, 1000));
        assert_eq!(first_cell(&created, TableKind::Maps, "entries_per_second"), None);
        let grown = created.followed_by(reading(8000, 1000));
        assert_eq!(first_cell(&grown, TableKind::Maps, "entries_per_second"), Some(10.0));
        assert_eq!(run_times(&grown), (Some(8000), Some(0.5)));
    }

    #[test]
    fn a_run_time_stays_known_between_samples() {
        let sampled = [(0, 1000), (2000, 1000), (4000, 1020), (6000, 2000), (8000, 2000), (10_000, 2000)];
        let periods = pairs(&sampled).iter().map(run_times).collect::<Vec<_>>();
        let expected = [
            (None, None),
            (Some(2000), None),
            // The sample has begun, and the one before is not known.
            (Some(2000), Some(0.5)),
            (Some(2000), Some(0.5)),
            (Some(4000), Some(0.5)),
            (Some(6000), Some(0.5)),
        ];
        assert_eq!(periods, expected);
        let begun = [&sampled[..], &[(12_000, 2010), (14_000, 3000)]].concat();
        assert_eq!(last(&begun[..7]), (Some(8000), Some(0.5)), "of 10 ms there would be noise");
        assert_eq!(last(&begun), (Some(2000), Some(0.5)));
        let short = [&begun[..7], &[(14_000, 2010)]].concat();
        assert_eq!(last(&short), (Some(4000), Some(0.5)), "the sample is over, however short it was");

        let first = SnapshotPair::new(reading(0, 0), None);
        let mut off = Snapshot::clone(&reading(4000, 2000));
        off.run_stats.by_exporter = false;
        let turned_off = first.followed_by(reading(2000, 2000)).followed_by(Arc::new(off));
        assert_eq!(period(&turned_off, TableKind::Programs), Some(2000), "there will be no other sample");
    }

    /// Times of readings: one, and the intervals to the next ones.
    fn times(shortest: u64) -> impl Strategy<Value = Vec<u64>> {
        let interval = prop_oneof![shortest..shortest + 600, shortest..4000, 4000_u64..90_000];
        prop::collection::vec(interval, 2..40).prop_map(|intervals| {
            let mut at = 0;
            [0].into_iter()
                .chain(intervals.into_iter().map(|interval| {
                    at += interval;
                    at
                }))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn rates_are_since_the_last_reading_that_is_half_a_second_old(
            (times, shortest) in prop_oneof![Just(1_u64), Just(100)].prop_flat_map(|shortest| {
                (times(shortest), Just(shortest))
            }),
        ) {
            let always_on: Vec<_> = times.iter().map(|&at| (at, at)).collect();
            for (at, pair) in pairs(&always_on).iter().enumerate().skip(1) {
                let mut ages = times[..at].iter().rev().map(|earlier| times[at] - earlier);
                let old = ages.find(|&age| age >= 500);
                // Until there is one, rates are since the first reading.
                let expected = old.or(Some(times[at]));
                let found = period(pair, TableKind::Programs);
                prop_assert_eq!(found, period(pair, TableKind::Maps));
                if shortest >= 100 || old.is_none() {
                    prop_assert_eq!(found, expected);
                } else {
                    prop_assert!(found >= expected && found < expected.map(|age| age + 100), "{found:?} {expected:?}");
                }
                prop_assert_eq!(run_times(pair).1, Some(0.5));
            }
        }

        #[test]
        fn what_a_sample_showed_stays_known_until_the_next_sample_is_over(
            times in times(500),
            window in 20_u64..2000,
            pauses in prop::collection::vec(20_u64..30_000, 1..40),
            first_pause in 0_u64..20_000,
        ) {
            // The samples, which go on after the last pause.
            let mut samples = Vec::new();
            let (mut begins, mut following) = (first_pause, pauses.iter().cycle());
            while begins < times[times.len() - 1] {
                samples.push(begins);
                begins += window + following.next().expect("it is endless");
            }
            let covered = |at: u64| samples.iter().map(|begins| at.saturating_sub(*begins).min(window)).sum();
            let readings: Vec<(u64, u64)> = times.iter().map(|&at| (at, covered(at))).collect();
            let mut was_known = false;
            for (at, pair) in pairs(&readings).iter().enumerate().skip(1) {
                let (elapsed, ratio) = run_times(pair);
                let started_at = times[at] - elapsed.expect("there is an earlier one");
                prop_assert!(ratio.is_some() || !was_known, "it was forgotten: {readings:?}");
                was_known |= ratio.is_some();
                let is_covered = |at: usize| readings[at].1 > readings[at - 1].1;
                prop_assert!(was_known || !(1..=at).any(is_covered), "a sample is not shown: {readings:?}");
                prop_assert!(ratio.is_none_or(|ratio| (ratio - 0.5).abs() < 1e-6));
                prop_assert_eq!(period(pair, TableKind::Maps), Some(times[at] - times[at - 1]));
                if was_known && !is_covered(at) {
                    // Readings with time of the last sample, or of samples without a reading in a pause.
                    let end = (1..at).rev().find(|&at| is_covered(at)).expect("it is known");
                    let start = (1..end).rev().find(|&at| !is_covered(at)).unwrap_or(0);
                    prop_assert!(started_at >= times[start], "since {started_at} at {}: {readings:?}", times[at]);
                }
            }
        }

        #[test]
        fn no_time_with_run_statistics_is_left_out_for_long(
            intervals in prop::collection::vec((500_u64..10_000, 1_u64..=100), 2..60),
        ) {
            let mut readings = vec![(0, 0)];
            for (interval, percent) in intervals {
                let (elapsed, covered) = readings[readings.len() - 1];
                readings.push((elapsed + interval, covered + interval * percent / 100));
            }
            for (at, pair) in pairs(&readings).iter().enumerate().skip(1) {
                let start = readings[at].0 - run_times(pair).0.expect("there is an earlier one");
                let begun = pair.run_times.begun.as_ref().map(|begun| begun.taken_at.since(FIRST.taken_at));
                let begun = begun.map_or(readings[at].0, |begun| u64::try_from(begun.as_millis()).expect("short"));
                prop_assert!(start < begun);
                let covered_at = |time| readings.iter().find(|(elapsed, _)| *elapsed == time).expect("it is one").1;
                prop_assert!(readings[at].1 - covered_at(begun) < 250, "{readings:?}");
            }
        }
    }

    #[test]
    fn another_boot_has_no_rates_since_this_one() {
        let before = reading(0, 0);
        let mut after = Snapshot::clone(&reading(60_000, 60_000));
        after.reader_started_at = BootTime(before.reader_started_at.0 + MILLISECOND);
        let of_boot = |seconds| {
            let mut after = after.clone();
            after.clock.booted_at += Duration::from_secs(seconds);
            let pair = SnapshotPair::new(Arc::clone(&before), None).followed_by(Arc::new(after));
            TableKind::ALL.map(|kind| pair.earlier(kind).is_some())
        };
        assert_eq!(of_boot(9), [true; 7], "the clock was set");
        assert_eq!(of_boot(11), [false; 7], "it has been up for longer than the other one then");
        let same_reader = Snapshot { reader_started_at: before.reader_started_at, ..after.clone() };
        assert!(same_reader.is_of_boot_of(&before));
    }

    #[test]
    fn a_clock_that_is_set_step_by_step_leads_to_no_reading_of_another_boot() {
        let set = |elapsed: u64, seconds: u64, reader: u64| {
            let mut snapshot = Snapshot::clone(&reading(elapsed, 0));
            snapshot.reader_started_at = BootTime(snapshot.reader_started_at.0 + reader);
            snapshot.clock.booted_at += Duration::from_secs(seconds);
            Arc::new(snapshot)
        };
        let second = SnapshotPair::new(set(0, 0, 0), None).followed_by(set(200, 9, 1));
        let third = second.followed_by(set(400, 18, 2));
        assert_eq!(period(&third, TableKind::Maps), Some(200), "the first differs by 18 s");
    }

    #[test]
    fn tables_of_a_pair_pair_their_rows_once() {
        let pair = SnapshotPair::new(reading(0, 0), None).followed_by(reading(1000, 1000));
        let positions = |kind: TableKind| pair.index.earlier[kind.position()].get().map(Vec::as_ptr);
        let read = |kind: TableKind, field: &str| {
            let table = pair.table(kind).expect("it is there");
            table.cell(0, table.column(field).expect("it is there")).into_owned()
        };
        assert_eq!(read(TableKind::Programs, "cpu_ratio"), Cell::Float(0.5));
        let found = positions(TableKind::Programs);
        assert!(found.is_some() && positions(TableKind::Maps).is_none(), "only what was read is paired");
        read(TableKind::Programs, "runs_per_second");
        assert_eq!(positions(TableKind::Programs), found, "the second table has what the first one found");
    }
}
