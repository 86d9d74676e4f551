//! An upgrade of one node after the other: what happens to series.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dist::names::{BUILD_INFO, OBJECTS};

use super::{Scale, fleet};
use crate::expressions;
use crate::figures::Upgrade;
use crate::fleet::{Fleet, VERSION, now};
use crate::interrupt::Interrupt;
use crate::receivers::Store;
use crate::receivers::StoreKind::{Prometheus, Victoria};

/// The version after the upgrade.
const NEXT: &str = "1.1.0";

/// Intervals before the upgrade, during it and after it.
const BEFORE: u32 = 4;
const DURING: u32 = 6;
const AFTER: u32 = 3;

/// How long new series may take.
const SETTLED: Duration = Duration::from_mins(2);

/// Prometheus shows a series for so long after its last sample.
const LOOK_BACK: Duration = Duration::from_mins(5);

pub(super) fn run(scale: &Scale, interrupt: &Interrupt) -> anyhow::Result<Upgrade> {
    let (nodes, interval) = (scale.few_nodes, scale.short_interval);
    let mut fleet = fleet(scale, nodes, interval, &[Prometheus, Victoria], &[], interrupt)?;
    fleet.grow(nodes)?;
    fleet.settle(SETTLED)?;
    fleet.sleep(interval * BEFORE)?;
    let series_before = created(&fleet)?;
    let by_name_before = by_name(fleet.store(Prometheus)?)?;
    let alerts_before = expressions::alerts(fleet.store(Prometheus)?)?;
    let (from, pause) = (now(), interval * DURING / u32::try_from(nodes)?);
    for index in 0..nodes {
        let begun = now();
        fleet.upgrade(index, NEXT)?;
        fleet.sleep(pause.saturating_sub(Duration::from_secs_f64((now() - begun).max(0.0))))?;
    }
    let to = now();
    fleet.sleep(interval * AFTER)?;
    fleet.settle(SETTLED)?;
    let store = fleet.store(Prometheus)?;
    let alerts: BTreeSet<String> = expressions::alerts(store)?.into_keys().collect();
    let alerts = alerts.into_iter().filter(|alert| !alerts_before.contains_key(alert)).collect();
    let series_after = created(&fleet)?;
    let series = series_before
        .into_iter()
        .zip(series_after)
        .map(|((name, before), (_, after))| (name, [before, after]));
    let series = series.collect();
    let mut new_series: Vec<(String, f64)> = by_name(store)?
        .into_iter()
        .map(|(name, after)| {
            let before = by_name_before.get(&name).copied().unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "there are few nodes")]
            let each = (after - before) / nodes as f64;
            (name, each)
        })
        .filter(|&(_, each)| each > 0.01)
        .collect();
    new_series.sort_by(|one, other| other.1.total_cmp(&one.1));
    let gaps = [gap(store, [from - (interval * BEFORE).as_secs_f64(), from])?, gap(store, [from, to])?];
    // Series of the first version end for a query after its look-back.
    let step = interval / 2;
    fleet.sleep(LOOK_BACK.min(interval * 30))?;
    let store = fleet.store(Prometheus)?;
    let of_version = |version| format!(r#"count({BUILD_INFO}{{version="{version}"}})"#);
    let mut counts: BTreeMap<i64, [f64; 3]> = BTreeMap::new();
    for (place, expression) in
        [of_version(VERSION), of_version(NEXT), "count(target_info)".to_owned()].iter().enumerate()
    {
        for row in store.range(expression, [from - 10.0, now()], step)? {
            for (at, value) in row.values {
                #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a run")]
                let at = ((at - from) * 1000.0) as i64;
                counts.entry(at).or_default()[place] = value;
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a run")]
    let counts = counts.into_iter().map(|(at, counts)| (at as f64 / 1000.0, counts)).collect();
    Ok(Upgrade {
        nodes,
        interval: interval.as_secs_f64(),
        seconds: to - from,
        series,
        counts,
        gaps,
        new_series,
        alerts,
    })
}

/// Returns the number of series that each store has made.
fn created(fleet: &Fleet) -> anyhow::Result<Vec<(String, u64)>> {
    let stores = fleet.stores().iter();
    stores.map(|store| Ok((store.kind().name().to_owned(), store.counts()?.series_created))).collect()
}

/// Returns the number of series of each metric.
fn by_name(store: &Store) -> anyhow::Result<BTreeMap<String, f64>> {
    let rows = store.rows(r#"count by (__name__) ({__name__!=""})"#)?;
    let row = |row: &crate::receivers::Row| {
        Some((row.labels.get("__name__")?.as_str()?.to_owned(), row.values.first()?.1))
    };
    Ok(rows.iter().filter_map(row).collect())
}

/// Returns the longest time between two samples of the same series of a node.
fn gap(store: &Store, [from, to]: [f64; 2]) -> anyhow::Result<f64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a run is short")]
    let [since, window] = [now() - to, to - from].map(|seconds| (seconds * 1000.0) as u64);
    let rows = store.rows(&format!(r#"{OBJECTS}{{kind="program"}}[{window}ms] offset {since}ms"#))?;
    let gaps = rows.iter().flat_map(|row| row.values.windows(2).map(|pair| pair[1].0 - pair[0].0));
    Ok(gaps.fold(0.0, f64::max))
}
