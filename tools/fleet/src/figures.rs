//! What a run measures, as it is in the file of results. Entry points: [`Results`], [`Window`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::receivers::StoreKind;

/// CPU time, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Of the threads that encode and compress, of all nodes.
    pub encoding: f64,
    /// Of the threads that send, of all nodes.
    pub delivery: f64,
    /// Of the gateway.
    pub gateway: f64,
    /// Of Prometheus.
    pub prometheus: Option<f64>,
    /// Of `VictoriaMetrics`.
    pub victoria: Option<f64>,
}

impl Cpu {
    /// Returns the time that passed since another moment.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let difference =
            |now: Option<f64>, before: Option<f64>| now.zip(before).map(|(now, before)| now - before);
        Self {
            encoding: self.encoding - before.encoding,
            delivery: self.delivery - before.delivery,
            gateway: self.gateway - before.gateway,
            prometheus: difference(self.prometheus, before.prometheus),
            victoria: difference(self.victoria, before.victoria),
        }
    }
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Of the process with all nodes.
    pub nodes: u64,
    /// Of the gateway.
    pub gateway: u64,
    /// Of Prometheus.
    pub prometheus: Option<u64>,
    /// Of `VictoriaMetrics`.
    pub victoria: Option<u64>,
}

/// A store in a time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StoreFigures {
    /// Which one.
    pub kind: StoreKind,
    /// Active series at the end.
    pub series: u64,
    /// New series.
    pub series_created: u64,
    /// Samples that it took.
    pub samples: u64,
    /// Samples that it did not take.
    pub refused: u64,
}

/// What a fleet did in a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Number of nodes.
    pub nodes: usize,
    /// Programs, maps and links of a node, on average.
    pub objects: f64,
    /// Seconds between two readings of a node.
    pub interval: f64,
    /// Length of the time.
    pub seconds: f64,
    /// Readings of all nodes.
    pub readings: u64,
    /// Points that the gateway acknowledged to nodes.
    pub points: u64,
    /// Points that nodes dropped.
    pub dropped: u64,
    /// New connections.
    pub connections: u64,
    /// Requests.
    pub requests: u64,
    /// Bytes of nodes.
    pub to_gateway: u64,
    /// Bytes to nodes.
    pub to_nodes: u64,
    /// CPU time.
    pub cpu: Cpu,
    /// Memory at the end.
    pub memory: Memory,
    /// Points that the gateway took.
    pub accepted: u64,
    /// Points that it refused.
    pub refused: u64,
    /// Points that stores took from it.
    pub sent: u64,
    /// Points that it dropped.
    pub failed: u64,
    /// The stores.
    pub stores: Vec<StoreFigures>,
}

impl Window {
    /// Returns a sum of all nodes for each reading of one of them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a run has less than 2^52 readings")]
    pub fn each(&self, sum: f64) -> f64 {
        sum / self.readings.max(1) as f64
    }

    /// Returns the figures of a store.
    #[must_use]
    pub fn store(&self, kind: StoreKind) -> Option<&StoreFigures> {
        self.stores.iter().find(|store| store.kind == kind)
    }
}

/// The growth of a fleet, and what queries of it cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Growth {
    /// At each size.
    pub windows: Vec<Window>,
    /// What the expressions of dashboards and rules yield.
    pub expressions: Vec<Expressions>,
}

/// Expressions of one origin, evaluated once each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expressions {
    /// A dashboard, `alerts` or `recording rules`.
    pub origin: String,
    /// How many there are.
    pub expressions: usize,
    /// Those that yield nothing.
    pub empty: Vec<String>,
    /// Those that cannot be evaluated, with the error.
    pub failed: Vec<String>,
    /// Seconds of the slowest, and its name.
    pub slowest: (f64, String),
    /// Seconds of all.
    pub seconds: f64,
}

/// An option of the exporter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Variant {
    /// Its flags; none for the default.
    pub flags: Vec<String>,
    /// What it costs.
    pub window: Window,
}

/// A second of an outage.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// New connections.
    pub connections: u64,
    /// Requests that reached the gateway.
    pub requests: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Bytes that wait at all nodes, at its end.
    pub backlog: u64,
}

/// What became of the readings of some nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fate {
    /// Which nodes.
    pub nodes: String,
    /// Readings that were taken.
    pub readings: u64,
    /// Readings in each store.
    pub stored: BTreeMap<String, u64>,
    /// Points that were dropped, and counted.
    pub dropped: u64,
}

/// A time without a gateway, of which [`Outage::seconds`] has what happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Absence {
    /// What happened.
    pub what: String,
    /// The second in which it began, and in which it ended.
    pub between: [usize; 2],
}

impl Outage {
    /// Returns the seconds from the end of an absence to the begin of the next one, or to the end.
    #[must_use]
    pub fn after(&self, absence: &Absence) -> &[Second] {
        let [_, to] = absence.between;
        let begins = self.absences.iter().map(|other| other.between[0]);
        let next = begins.filter(|&begin| begin >= to).min().unwrap_or(self.seconds.len());
        &self.seconds[to..next]
    }

    /// Returns how many seconds after an absence no more waited than before the first one; `None` if that did not happen.
    #[must_use]
    pub fn recovered_after(&self, absence: &Absence) -> Option<usize> {
        let begin = self.absences.iter().map(|other| other.between[0]).min()?;
        let before = self.seconds[..begin].iter().map(|second| second.backlog).max()?;
        let recovered = self.after(absence).iter().position(|second| second.backlog <= before);
        recovered.map(|seconds| seconds + 1)
    }
}

/// Two times without a gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outage {
    /// Number of nodes.
    pub nodes: usize,
    /// Seconds between two readings of a node.
    pub interval: f64,
    /// Each second of the run.
    pub seconds: Vec<Second>,
    /// The times.
    pub absences: Vec<Absence>,
    /// What became of readings.
    pub fates: Vec<Fate>,
}

/// An upgrade of one node after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upgrade {
    /// Number of nodes.
    pub nodes: usize,
    /// Seconds between two readings of a node.
    pub interval: f64,
    /// Seconds from the first node to the last.
    pub seconds: f64,
    /// Series that each store had made before and after it.
    pub series: BTreeMap<String, [u64; 2]>,
    /// At times since its begin, in seconds: series of the first version, of the second, and of `target_info`.
    pub counts: Vec<(f64, [f64; 3])>,
    /// The longest time between two points of a node: before, and during the upgrade.
    pub gaps: [f64; 2],
    /// Names of metrics with new series, and their number for each node.
    pub new_series: Vec<(String, f64)>,
    /// Alerts whose expression yields something during the upgrade and not before.
    pub alerts: Vec<String>,
}

/// A node with a wrong clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Clock {
    /// By how many seconds it is ahead.
    pub error: i64,
    /// Readings that were taken.
    pub readings: u64,
    /// Points that the gateway acknowledged, and that it and the node count as lost.
    pub acknowledged: u64,
    /// See [`Clock::acknowledged`].
    pub lost: u64,
    /// Readings in each store, with any date.
    pub stored: BTreeMap<String, u64>,
    /// Whether an expression of now has the node, by store.
    pub visible: BTreeMap<String, bool>,
    /// Alerts whose expression yields the node.
    pub alerts: Vec<String>,
}

/// Nodes with wrong clocks, each among others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Clocks {
    /// Seconds between two readings of a node.
    pub interval: f64,
    /// Seconds that the nodes ran.
    pub seconds: f64,
    /// Each node.
    pub nodes: Vec<Clock>,
    /// Points that the gateway dropped since a store refused them.
    pub gateway_failed: u64,
    /// What the gateway logs of it.
    pub gateway_log: Option<String>,
    /// Alerts whose expression yields nothing of a node but something.
    pub alerts: Vec<String>,
}

/// Where and when a run took place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// Day of the run.
    pub date: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Number of CPUs.
    pub cpus: usize,
    /// Version of each program.
    pub versions: BTreeMap<String, String>,
    /// Whether the compiler optimized.
    pub optimized: bool,
    /// Share of the CPUs that other processes used, during each part.
    pub others: BTreeMap<String, f64>,
}

/// All results. A part that was not run is `None`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Where and when.
    pub conditions: Conditions,
    /// The growth of a fleet.
    pub growth: Option<Growth>,
    /// Options.
    pub options: Option<Vec<Variant>>,
    /// Outages.
    pub outage: Option<Outage>,
    /// An upgrade.
    pub upgrade: Option<Upgrade>,
    /// Wrong clocks.
    pub clocks: Option<Clocks>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_absence_is_followed_by_its_own_recovery() {
        let waiting = [0, 1, 9, 9, 9, 5, 1, 0, 8, 8, 7, 7];
        let second = |&backlog: &u64| Second { backlog, ..Second::default() };
        let absence = |between| Absence { what: String::new(), between };
        let outage = Outage {
            nodes: 1,
            interval: 1.0,
            seconds: waiting.iter().map(second).collect(),
            absences: vec![absence([2, 5]), absence([8, 10])],
            fates: Vec::new(),
        };
        let [first, last] = &outage.absences[..] else { panic!("there are two") };
        assert_eq!(outage.after(first).len(), 3);
        assert_eq!((outage.recovered_after(first), outage.recovered_after(last)), (Some(2), None));
    }
}
