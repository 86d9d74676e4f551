//! Fingerprints: one value for a set of programs, equal on every host with the same set.
//! Entry point: [`Fingerprints::fill`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::model::Snapshot;

/// The name space of fingerprints. Another one would make every host differ from those with an older exporter.
const NAMESPACE: Uuid = Uuid::from_u128(0x8e6c_1f0b_5f0e_4d86_9d0c_3b0d_6f1a_7c52);

/// Computes fingerprints when programs or their owners have changed.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    /// Owner and tag of each program at the last computation, in ascending order of ids.
    programs: Vec<(Option<u64>, [u8; 8])>,
    host: Option<Arc<str>>,
    /// By the key of the owner.
    owners: BTreeMap<u64, Arc<str>>,
}

impl Fingerprints {
    /// Fills the fingerprints of a snapshot whose owners are known; none unless every program was read.
    pub(super) fn fill(&mut self, snapshot: &mut Snapshot) {
        let Some(programs) = snapshot.programs.as_ref().filter(|_| snapshot.has_every_program()) else {
            return;
        };
        let now = || {
            programs.iter().map(|program| {
                let owner = program.owner.as_ref().map(|owner| owner.key());
                (owner, program.facts.tag.0)
            })
        };
        if self.host.is_none() || !now().eq(self.programs.iter().copied()) {
            self.programs = now().collect();
            self.compute();
        }
        snapshot.fingerprint.clone_from(&self.host);
        for total in &mut snapshot.owners {
            total.fingerprint = self.owners.get(&total.owner.key()).cloned();
        }
    }

    fn compute(&mut self) {
        let mut of_owners: BTreeMap<u64, BTreeSet<[u8; 8]>> = BTreeMap::new();
        for &(owner, tag) in &self.programs {
            if let Some(owner) = owner {
                of_owners.entry(owner).or_default().insert(tag);
            }
        }
        let all: BTreeSet<_> = self.programs.iter().map(|&(_, tag)| tag).collect();
        self.host = Some(fingerprint(&all));
        self.owners = of_owners.iter().map(|(&owner, tags)| (owner, fingerprint(tags))).collect();
    }
}

/// Returns the fingerprint of distinct tags: a UUID, version 5, of the tags in ascending order.
fn fingerprint(tags: &BTreeSet<[u8; 8]>) -> Arc<str> {
    let bytes: Vec<u8> = tags.iter().flatten().copied().collect();
    Uuid::new_v5(&NAMESPACE, &bytes).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::example;
    use crate::model::{BootTime, Part, Tag, WallClock};

    /// Returns the fingerprint of a host with programs that have these ids and tags.
    fn host(fingerprints: &mut Fingerprints, programs: &[(u32, u8)], success: bool) -> Option<Arc<str>> {
        let program = |&(id, tag): &(u32, u8)| {
            let mut program = example::program(id, &[]);
            Arc::make_mut(&mut program.facts).tag = Tag([tag; 8]);
            program
        };
        let mut snapshot = Snapshot {
            programs: Some(programs.iter().map(program).collect()),
            collectors: vec![example::collector(Part::Program, success)],
            ..Snapshot::begun(BootTime(2), BootTime(1), WallClock::default())
        };
        fingerprints.fill(&mut snapshot);
        snapshot.fingerprint
    }

    #[test]
    fn ids_order_and_copies_do_not_matter_and_each_tag_does() {
        let fingerprints = &mut Fingerprints::default();
        let first = host(fingerprints, &[(1, 10), (2, 20)], true);
        assert!(first.is_some());
        for same in [&[(7, 20), (9, 10)][..], &[(1, 10), (2, 20), (3, 20)]] {
            assert_eq!(host(fingerprints, same, true), first);
            assert_eq!(host(&mut Fingerprints::default(), same, true), first, "on another host");
        }
        for other in [&[(1, 10)][..], &[(1, 10), (2, 20), (3, 30)], &[(1, 10), (2, 21)], &[]] {
            assert_ne!(host(fingerprints, other, true), first);
        }
        assert_eq!(host(fingerprints, &[(1, 10), (2, 20)], false), None, "a program is missing");
    }

    #[test]
    fn the_value_is_the_same_in_every_release() {
        let tags = [[0; 8], [0xff; 8]].into_iter().collect();
        assert_eq!(&*fingerprint(&tags), "7ef930dc-63dd-5c1f-9b35-11ce39a62870");
    }
}
