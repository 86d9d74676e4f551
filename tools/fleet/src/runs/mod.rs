//! The parts of a run. Entry point: [`Part::run`].

mod clocks;
mod growth;
mod options;
mod outage;
mod upgrade;

use std::collections::BTreeMap;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Signal;

pub use self::growth::straight_line;
pub(crate) use self::growth::{EVALUATION, quantities};
use crate::figures::{Fate, Results};
use crate::fleet::{Fleet, Setup};
use crate::interrupt::Interrupt;
use crate::node::Likeness;
use crate::receivers::StoreKind;

/// How large and how long a run is.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Nodes at the end of the growth.
    pub nodes: usize,
    /// Nodes of the other parts.
    pub few_nodes: usize,
    /// Objects of a node.
    pub objects: usize,
    /// Seconds between two readings of a node in the growth.
    pub interval: Duration,
    /// The same in the other parts.
    pub short_interval: Duration,
    /// How long all nodes of the growth are measured.
    pub time: Duration,
    /// Stores of the growth.
    pub stores: Vec<StoreKind>,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The same fleet with more and more nodes, and the expressions of dashboards and rules.
    Growth,
    /// Options of the exporter.
    Options,
    /// Times without a gateway.
    Outage,
    /// An upgrade of one node after the other.
    Upgrade,
    /// Nodes with wrong clocks.
    Clocks,
}

impl Part {
    /// Runs it, and puts what it measured into the results.
    ///
    /// # Errors
    ///
    /// If a process ends, or the run is interrupted.
    pub fn run(self, scale: &Scale, interrupt: &Interrupt, results: &mut Results) -> anyhow::Result<()> {
        match self {
            Self::Growth => growth::run(scale, interrupt, &mut results.growth)?,
            Self::Options => results.options = Some(options::run(scale, interrupt)?),
            Self::Outage => results.outage = Some(outage::run(scale, interrupt)?),
            Self::Upgrade => results.upgrade = Some(upgrade::run(scale, interrupt)?),
            Self::Clocks => results.clocks = Some(clocks::run(scale, interrupt)?),
        }
        Ok(())
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Growth => "growth",
            Self::Options => "options",
            Self::Outage => "outage",
            Self::Upgrade => "upgrade",
            Self::Clocks => "clocks",
        }
    }
}

/// Returns a fleet without nodes, for so many.
fn fleet(
    scale: &Scale,
    nodes: usize,
    interval: Duration,
    stores: &[StoreKind],
    flags: &[&str],
    interrupt: &Interrupt,
) -> anyhow::Result<Fleet> {
    let setup = Setup {
        likeness: Likeness { objects: scale.objects, churn: 2.0, seed: 1 },
        interval,
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        stores: stores.to_vec(),
        nodes,
    };
    Fleet::start(setup, interrupt)
}

/// Returns what became of the readings of nodes in a run of at most `time`, by the place of each node in one of the groups, after all of
/// them have ended.
fn fates(
    fleet: &mut Fleet,
    groups: &[&str],
    group_of: impl Fn(usize) -> usize,
    time: Duration,
) -> anyhow::Result<Vec<Fate>> {
    let empty =
        |&nodes: &&str| Fate { nodes: nodes.to_owned(), readings: 0, stored: BTreeMap::new(), dropped: 0 };
    let mut fates: Vec<Fate> = groups.iter().map(empty).collect();
    for (index, sender) in fleet.senders().iter().enumerate() {
        let counts = sender.ledger().of(Signal::Metrics);
        fates[group_of(index)].dropped += counts.overflowed.get() + counts.refused.get();
    }
    let readings = fleet.end_senders()?;
    fleet.drain(Duration::from_mins(2))?;
    let mut groups_of_instances = BTreeMap::new();
    for (index, (instance, readings)) in readings.into_iter().enumerate() {
        fates[group_of(index)].readings += readings;
        groups_of_instances.insert(instance, group_of(index));
    }
    for store in fleet.stores() {
        for (instance, stored) in fleet.stored_readings(store, time)? {
            if let Some(&group) = groups_of_instances.get(&instance) {
                *fates[group].stored.entry(store.kind().name().to_owned()).or_default() += stored;
            }
        }
    }
    Ok(fates)
}
