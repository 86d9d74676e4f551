//! Totals over many objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::owner::Owner;
use super::program_capability::ProgramCapability;
use super::time::BootTime;

/// Totals of an owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnerTotal {
    /// The owner.
    pub owner: Arc<Owner>,
    /// Start of its run time: when it was first seen.
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
    /// Number of programs. `None` if they could not be read.
    pub programs: Option<u64>,
    /// Number of maps. `None` if they could not be read.
    pub maps: Option<u64>,
    /// Number of links. `None` if they could not be read.
    pub links: Option<u64>,
    /// Memory charged for programs and maps, in bytes. `None` if none of it is known.
    pub mem: Option<u64>,
    /// Run time since then of all its programs, including unloaded ones. `None` while statistics are off.
    pub run_time: Option<Duration>,
    /// Fingerprint of its programs, as [`Snapshot::fingerprint`](super::Snapshot::fingerprint). `None` unless every program was read,
    /// and without a program.
    #[serde(default)]
    pub fingerprint: Option<Arc<str>>,
    /// Number of its programs by what they can do; what none can do is missing. `None` unless that is known of each, and without a
    /// program.
    #[serde(default)]
    pub capable: Option<BTreeMap<ProgramCapability, u64>>,
}

/// Totals of a kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindTotal {
    /// The kind.
    pub kind: Kind,
    /// Number of objects.
    pub objects: usize,
    /// Number of objects that no process, pin, link or hook holds, directly or through another object. `None` unless every
    /// possible holder was seen.
    pub orphaned: Option<usize>,
    /// Memory charged for them, in bytes. `None` for links and BTF objects, and if none of it is known.
    pub mem: Option<u64>,
    /// Start of the run time: the load of the first program that was seen, or when the reader was started.
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
    /// Run time since then of all programs, including unloaded ones. `None` for other kinds, and while statistics are off.
    pub run_time: Option<Duration>,
}
