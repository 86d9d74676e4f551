//! Events between readings that were taken elsewhere: of a recording, or by another exporter. Entry point: [`Differences::update`].

use std::sync::Arc;

use super::compare::Comparison;
use super::ledger::Ledger;
use super::owners::LastOwners;
use super::program_found;
use crate::model::{Event, ReadingOrigin, Snapshot};

/// Compares each reading with the one before.
#[derive(Debug, Default)]
pub struct Differences {
    ledger: Ledger,
    comparison: Comparison,
    owners: LastOwners,
    last: Option<ReadingOrigin>,
}

impl Differences {
    /// Returns what happened since the last reading; nothing for the first one, and for the first one after another boot, where
    /// everything with the same id is something else. The load and the unload of a program are reported by the
    /// reading after the one that shows them, as those of this host are, where the kernel's own record may still come.
    pub fn update(&mut self, snapshot: &Snapshot) -> Vec<Arc<Event>> {
        let (at, origin) = (snapshot.taken_at, snapshot.origin());
        if self.last.is_some_and(|last| !origin.is_of_boot_of(last)) {
            *self = Self::default();
        }
        self.last = Some(origin);
        let mut events = Vec::new();
        if let Some(programs) = &snapshot.programs {
            let found = self.ledger.reconcile(at, programs, snapshot.has_every_program());
            events.extend(found.into_iter().map(|found| program_found(found, &self.owners, (at, at))));
        }
        events.append(&mut self.comparison.update(snapshot, &self.owners, at));
        self.owners.update(snapshot);
        events.into_iter().map(Arc::new).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{BootTime, EventKind, EventSource, ProgramFacts};

    #[test]
    fn loads_and_destroyed_maps_are_found() {
        let text = include_str!("../../../tests/golden/node/snapshot.json");
        let all: Snapshot = serde_json::from_str(text).expect("it is a snapshot");
        let (mut first, mut second) = (all.clone(), all);
        let loaded = first.programs.as_mut().and_then(Vec::pop).expect("it has programs");
        let facts = ProgramFacts {
            loaded_at: BootTime(first.taken_at.0 + 5_000_000_000),
            ..ProgramFacts::clone(&loaded.facts)
        };
        second.programs.as_mut().expect("it has programs")[3].facts = Arc::new(facts);
        let destroyed = second.maps.as_mut().and_then(Vec::pop).expect("it has maps");
        second.taken_at = BootTime(first.taken_at.0 + 10_000_000_000);
        let mut differences = Differences::default();
        assert_eq!(differences.update(&first), []);
        let mut events = differences.update(&second);
        second.taken_at = BootTime(second.taken_at.0 + 10_000_000_000);
        events.append(&mut differences.update(&second));
        let found: Vec<_> = events.iter().map(|event| (event.kind, event.subject.id)).collect();
        let expected =
            [(EventKind::MapDestroy, destroyed.facts.id), (EventKind::ProgramLoad, loaded.facts.id)];
        assert_eq!(found, expected.map(|(kind, id)| (kind, Some(id))));
        assert!(events.iter().all(|event| event.source == EventSource::Comparison));
        assert_eq!(events[1].at, second.taken_at);
    }

    #[test]
    fn another_boot_is_not_compared_with_this_one() {
        let text = include_str!("../../../tests/golden/node/snapshot.json");
        let before: Snapshot = serde_json::from_str(text).expect("it is a snapshot");
        // It has been up for longer, so that only the date of the boot shows it.
        let mut after = before.clone();
        after.maps.as_mut().and_then(Vec::pop).expect("it has maps");
        after.taken_at = BootTime(before.taken_at.0 + 60_000_000_000);
        let mut same_boot = Differences::default();
        assert_eq!((same_boot.update(&before).len(), same_boot.update(&after).len()), (0, 1));
        after.reader_started_at = BootTime(before.reader_started_at.0 + 1);
        after.clock.booted_at += Duration::from_hours(1);
        let mut differences = Differences::default();
        assert_eq!((differences.update(&before), differences.update(&after)), (Vec::new(), Vec::new()));
    }
}
