//! Leaks: objects that stay loaded although their last holder is gone.
//!
//! Entry point: [`Leaks::update`].

use std::collections::HashSet;

use super::compare::{of_link, of_map, of_program};
use super::owners::LastOwners;
use crate::model::{BootTime, Event, EventKind, EventSource, Kind, Object, Orphan, Snapshot, Subject};

/// The orphans of the last reading that knows them.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    /// `None` before the first.
    known: Option<HashSet<Object>>,
}

impl Leaks {
    /// Fills in the last owners of a reading's orphans, and returns an event for each that was none in the reading before.
    pub(super) fn update(
        &mut self,
        snapshot: &mut Snapshot,
        owners: &LastOwners,
        now: BootTime,
    ) -> Vec<Event> {
        let Some(mut orphans) = snapshot.orphans.take() else { return Vec::new() };
        for orphan in &mut orphans {
            orphan.last_owner = owners.of(orphan.kind, orphan.id).cloned();
        }
        let object = |orphan: &Orphan| Object { kind: orphan.kind, id: orphan.id };
        let known = self.known.replace(orphans.iter().map(object).collect());
        let is_new = |orphan: &&Orphan| known.as_ref().is_some_and(|known| !known.contains(&object(orphan)));
        let event = |orphan: &Orphan| {
            let (source, at) = (EventSource::Comparison, (orphan.since, now));
            let event = Event::new(EventKind::ObjectOrphan, source, at, subject(snapshot, orphan));
            Event { owner: orphan.last_owner.clone(), ..event }
        };
        let events = orphans.iter().filter(is_new).map(event).collect();
        snapshot.orphans = Some(orphans);
        events
    }
}

/// Returns what the reading knows of an orphan.
fn subject(snapshot: &Snapshot, orphan: &Orphan) -> Subject {
    fn find<T>(table: Option<&Vec<T>>, id: u32, of: impl Fn(&T) -> u32) -> Option<&T> {
        let table = table?;
        table.binary_search_by_key(&id, of).ok().map(|index| &table[index])
    }
    let id = orphan.id;
    let known = match orphan.kind {
        Kind::Program => find(snapshot.programs.as_ref(), id, |program| program.facts.id)
            .map(|program| of_program(&program.facts)),
        Kind::Map => find(snapshot.maps.as_ref(), id, |map| map.facts.id).map(|map| of_map(&map.facts)),
        Kind::Link => {
            find(snapshot.links.as_ref(), id, |link| link.facts.id).map(|link| of_link(&link.facts))
        }
        Kind::Btf => None,
    };
    known.unwrap_or(Subject { kind: Some(orphan.kind), id: Some(id), ..Subject::default() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::enrich::example::{map, process, program, second, snapshot};
    use crate::model::Owner;

    fn orphan(kind: Kind, id: u32) -> Orphan {
        Orphan { kind, id, since: second(7), last_owner: None }
    }

    #[test]
    fn who_left_an_object_behind_is_reported_once() {
        let (mut leaks, mut owners) = (Leaks::default(), LastOwners::default());
        let agent = Arc::new(Owner::from(process(1)));
        let mut after = |orphans: Option<Vec<Orphan>>| {
            let mut owned = program(5, &[]);
            owned.owner = Some(Arc::clone(&agent));
            let mut reading = snapshot(vec![owned], vec![map(6)], Vec::new());
            reading.orphans = orphans;
            owners.update(&reading);
            let events = leaks.update(&mut reading, &owners, second(9));
            let reported = events.into_iter().map(|event| (event.at, event.subject.name, event.owner));
            (reported.collect::<Vec<_>>(), reading.orphans)
        };
        let (old, new) = (orphan(Kind::Map, 6), orphan(Kind::Program, 5));
        assert_eq!(after(None), (Vec::new(), None));
        assert_eq!(after(Some(vec![old.clone()])).0, [], "it was there before");
        let (reported, orphans) = after(Some(vec![new.clone(), old.clone()]));
        assert_eq!(
            reported,
            [(second(7), Some(program(5, &[]).facts.name.clone()), Some(Arc::clone(&agent)))]
        );
        let owned = Orphan { last_owner: Some(Arc::clone(&agent)), ..new.clone() };
        assert_eq!(orphans, Some(vec![owned, old.clone()]));
        assert_eq!(after(None).0, [], "it cannot be known");
        assert_eq!(after(Some(vec![new.clone(), old.clone()])).0, [], "it is known");
        assert_eq!(after(Some(vec![old.clone()])).0, []);
        assert_eq!(after(Some(vec![new, old])).0.len(), 1, "another holder is gone");
    }
}
