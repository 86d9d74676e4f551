//! Nodes with wrong clocks among others: what becomes of their points, and what says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Signal;
use dist::names::OBJECTS;
use jiff::SignedDuration;

use super::{Scale, fleet};
use crate::expressions;
use crate::figures::{Clock, Clocks};
use crate::fleet::now;
use crate::interrupt::Interrupt;
use crate::receivers::Store;
use crate::receivers::StoreKind::{Prometheus, Victoria};

/// Seconds by which clocks are ahead.
const ERRORS: [i64; 6] = [-3 * 3600, -3600, -60, 300, 3600, 24 * 3600];

/// Nodes with a right clock.
const RIGHT: usize = 6;

/// Intervals that the nodes run.
const INTERVALS: u32 = 6;

pub(super) fn run(scale: &Scale, interrupt: &Interrupt) -> anyhow::Result<Clocks> {
    let interval = scale.short_interval;
    let kinds = [Prometheus, Victoria];
    let mut fleet = fleet(scale, RIGHT + ERRORS.len(), interval, &kinds, &[], interrupt)?;
    for error in std::iter::repeat_n(0, RIGHT).chain(ERRORS) {
        fleet.add(interval / 2, Vec::new(), SignedDuration::from_secs(error))?;
    }
    fleet.sleep(interval * INTERVALS)?;
    let gateway_failed = fleet.gateway()?.counts()?.failed;
    let gateway_log = fleet.gateway()?.process().lines("rror").pop().map(|line| shortened(&line));
    let alerts = expressions::alerts(fleet.store(Prometheus)?)?;
    let instances: Vec<String> = fleet.senders().iter().map(|sender| sender.instance().to_owned()).collect();
    let mut nodes = Vec::new();
    for (sender, error) in fleet.senders()[RIGHT..].iter().zip(ERRORS) {
        let counts = sender.ledger().of(Signal::Metrics);
        let instance = sender.instance();
        let selector = format!(r#"{OBJECTS}{{kind="program",instance="{instance}"}}"#);
        let (mut stored, mut visible) = (BTreeMap::new(), BTreeMap::new());
        for store in fleet.stores() {
            let name = store.kind().name().to_owned();
            stored.insert(name.clone(), samples_around(store, &selector, error, interval * (INTERVALS + 2))?);
            visible.insert(name, !store.rows(&selector)?.is_empty());
        }
        let its_alerts =
            alerts.iter().filter(|(_, of)| of.contains(instance)).map(|(alert, _)| alert.clone());
        nodes.push(Clock {
            error,
            readings: sender.readings(),
            acknowledged: counts.accepted.get(),
            lost: counts.refused.get() + counts.rejected.get() + counts.overflowed.get(),
            stored,
            visible,
            alerts: its_alerts.collect(),
        });
    }
    let of_none = |of: &BTreeSet<String>| !instances.iter().any(|instance| of.contains(instance));
    let alerts = alerts.into_iter().filter(|(_, of)| of_none(of)).map(|(alert, _)| alert);
    Ok(Clocks {
        interval: interval.as_secs_f64(),
        seconds: (interval * INTERVALS).as_secs_f64(),
        nodes,
        gateway_failed,
        gateway_log,
        alerts: alerts.collect(),
    })
}

/// Returns the number of samples of a series around a moment that is `error` seconds from now.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a number of samples")]
#[expect(clippy::cast_precision_loss, reason = "an error is at most a day")]
fn samples_around(store: &Store, selector: &str, error: i64, time: Duration) -> anyhow::Result<u64> {
    let expression = format!("count_over_time({selector}[{}s])", 2 * time.as_secs());
    let at = now() + error as f64 + time.as_secs_f64();
    let rows = store.range(&expression, [at, at], Duration::from_secs(1))?;
    Ok(rows.first().and_then(|row| row.values.first()).map_or(0, |&(_, samples)| samples as u64))
}

/// Returns what a line of the Collector's log says, without what is in each of them.
fn shortened(line: &str) -> String {
    let said = line.split("\"error\": \"").nth(1).unwrap_or(line);
    said.chars().take(240).collect()
}
