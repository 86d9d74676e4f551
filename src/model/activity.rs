//! Counters of what happened to BPF objects since the exporter's start. Entry point: [`Activity`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::kind::Kind;
use super::owner::OwnerKind;
use super::time::BootTime;

/// Counters of events, equal to the truth whether or not each event was seen: what was missed is found by comparing readings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// Start of the counters: the first reading.
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
    /// Loads and unloads of programs, by type and owner.
    pub programs: Vec<ProgramActivity>,
    /// How long the programs that were unloaded had been loaded, in seconds.
    pub lifetimes: Vec<Lifetimes>,
    /// Objects created and destroyed, by kind.
    pub objects: Vec<ObjectActivity>,
    /// Records that the kernel could not write, since the exporter did not read fast enough. `None` where events come from
    /// comparison only.
    pub lost: Option<u64>,
    /// Events above the limit per second: counted, but not published.
    pub dropped: u64,
}

/// Loads and unloads of the programs of one type and owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramActivity {
    /// Type of the programs, as the kernel's tools spell it. `None` if they were gone before they could be queried.
    pub program_type: Option<Arc<str>>,
    /// Kind and name of the owner: that of the process that loaded them. `None` if it was gone.
    pub owner: Option<(OwnerKind, Arc<str>)>,
    /// Programs that were loaded.
    pub loads: u64,
    /// Of these and of those found at start, the programs that were unloaded.
    pub unloads: u64,
    /// The last reading without them, or the first one: they were zero then.
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
}

/// How long the programs of one type were loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifetimes {
    /// See [`ProgramActivity::program_type`].
    pub program_type: Option<Arc<str>>,
    /// In seconds.
    pub seconds: Histogram,
    /// See [`ProgramActivity::since`].
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
}

/// Objects of one kind that were created and destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectActivity {
    /// The kind.
    pub kind: Kind,
    /// By the ids that the kernel gave out: short-lived objects included.
    pub created: u64,
    /// Destroyed ones.
    pub destroyed: u64,
}
