//! Changes between two snapshots: which value was which, and how much time was in between.
//! Entry points: [`Period::between`], [`positions`] and [`pair`].

use std::collections::HashMap;
use std::time::Duration;

use super::{Birth, Entity, Value};
use crate::model::Snapshot;

/// The time between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// All of it.
    pub elapsed: Duration,
    /// How much of it run statistics were on: the divisor of run times and runs. `None` if they were not, and if the snapshots are of
    /// two processes.
    pub covered: Option<Duration>,
}

impl Period {
    /// Returns the time between two snapshots; `None` if the second one is not later, or of another boot.
    #[must_use]
    pub fn between(earlier: &Snapshot, later: &Snapshot) -> Option<Self> {
        let elapsed = later.taken_at.since(earlier.taken_at);
        if elapsed.is_zero() || !later.is_of_boot_of(earlier) {
            return None;
        }
        let is_same_reader = earlier.reader_started_at == later.reader_started_at;
        let covered = later.run_stats.covered.checked_sub(earlier.run_stats.covered);
        let covered = covered.filter(|covered| is_same_reader && !covered.is_zero());
        Some(Self { elapsed, covered })
    }
}

/// Returns how much a value has grown, or shrunk; `None` if either is no number.
#[must_use]
pub fn change(earlier: Value<'_>, later: Value<'_>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "the difference of two totals is far below 2^53")]
    match (earlier, later) {
        (Value::Int(earlier), Value::Int(later)) => Some(later.wrapping_sub(earlier) as f64),
        (Value::Float(earlier), Value::Float(later)) => Some(later - earlier),
        _ => None,
    }
}

/// Returns for each later value the earlier one of the same series; `None` for a new one.
#[must_use]
pub fn pair<'a, T>(entity: &Entity<T>, earlier: &'a [T], later: &[T]) -> Vec<Option<&'a T>> {
    let positions = positions(entity, earlier, later).into_iter();
    positions.map(|position| position.map(|position| &earlier[position])).collect()
}

/// Returns for each later value the position of the earlier one of the same series; `None` for a new one. Where little has changed,
/// most are at the same distance as the one before, so that nothing is searched.
#[must_use]
pub fn positions<T>(entity: &Entity<T>, earlier: &[T], later: &[T]) -> Vec<Option<usize>> {
    let identity = |value: &T| -> (u64, Option<Birth>) {
        let series = (entity.series)(value);
        (series.id, series.birth)
    };
    let mut index: Option<HashMap<_, usize>> = None;
    let mut next = 0;
    let pair_of = |value: &T| {
        let sought = identity(value);
        if earlier.get(next).is_none_or(|value| identity(value) != sought) {
            let all =
                || earlier.iter().enumerate().map(|(position, value)| (identity(value), position)).collect();
            next = *index.get_or_insert_with(all).get(&sought)?;
        }
        next += 1;
        Some(next - 1)
    };
    later.iter().map(pair_of).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::table::BTF;
    use crate::model::{BootTime, Btf, RunStats, WallClock};

    fn snapshot(taken_at: u64, started_at: u64, covered: u64) -> Snapshot {
        let covered = Duration::from_secs(covered);
        let (taken_at, started_at) = (BootTime::from_secs(taken_at), BootTime::from_secs(started_at));
        let begun = Snapshot::begun(taken_at, started_at, WallClock::default());
        Snapshot { run_stats: RunStats { covered, ..RunStats::default() }, ..begun }
    }

    #[test]
    fn a_period_is_positive_and_covered_only_by_one_reader() {
        let seconds = Duration::from_secs;
        let between = |earlier, later| Period::between(&earlier, &later);
        let full = Some(Period { elapsed: seconds(10), covered: Some(seconds(4)) });
        assert_eq!(between(snapshot(20, 1, 6), snapshot(30, 1, 10)), full);
        let uncovered = Some(Period { elapsed: seconds(10), covered: None });
        assert_eq!(between(snapshot(20, 1, 6), snapshot(30, 1, 6)), uncovered, "statistics were off");
        assert_eq!(between(snapshot(20, 1, 6), snapshot(30, 2, 10)), uncovered, "another reader");
        assert_eq!(between(snapshot(20, 1, 6), snapshot(30, 1, 5)), uncovered, "it went back");
        assert_eq!(between(snapshot(20, 1, 6), snapshot(20, 1, 6)), None);
        assert_eq!(between(snapshot(30, 1, 6), snapshot(20, 1, 6)), None);
    }

    fn btf((id, first_seen): (u32, u64)) -> Arc<Btf> {
        Arc::new(Btf { id, name: None, kernel: None, size: 0, first_seen: BootTime(first_seen) })
    }

    proptest! {
        #[test]
        fn values_are_paired_by_id_and_birth(
            earlier in prop::collection::btree_map(0_u32..40, 0_u64..2, 0..40),
            later in prop::collection::btree_map(0_u32..40, 0_u64..2, 0..40),
        ) {
            let rows = |map: std::collections::BTreeMap<_, _>| map.into_iter().map(btf).collect::<Vec<_>>();
            let (earlier, later) = (rows(earlier), rows(later));
            let pairs = pair(&BTF, &earlier, &later);
            prop_assert_eq!(pairs.len(), later.len());
            for (before, now) in pairs.into_iter().zip(&later) {
                prop_assert_eq!(before, earlier.iter().find(|value| value == &now));
            }
        }
    }
}
