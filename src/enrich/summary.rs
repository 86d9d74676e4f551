//! Totals and fingerprints of readings that are not taken from a kernel, such as those of a simulated node.
//! Entry point: [`Summary::fill`].

use super::fingerprint::Fingerprints;
use super::totals::Totals;
use crate::model::Snapshot;

/// Adds up one reading after another of the same host.
#[derive(Debug, Default)]
pub struct Summary {
    totals: Totals,
    fingerprints: Fingerprints,
}

impl Summary {
    /// Fills the totals of kinds and owners and the fingerprints of a reading whose objects have their owners. How many objects are
    /// orphaned stays unknown.
    pub fn fill(&mut self, snapshot: &mut Snapshot) {
        self.totals.fill(snapshot, None);
        self.fingerprints.fill(snapshot);
    }
}
