//! Leaks: objects that stay loaded although their last holder is gone.
//!
//! Entry point: [`Leaks::update`].

use std::collections::HashSet;

use super::compare::{of_link, of_map, of_program};
use super::owners::LastOwners;
use crate::model::{BootTime, Event, EventKind, EventSource, Kind, Object, Orphan, Snapshot, Subject};

/// The orphans that need no event any more.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    /// Those of the last reading that knows them, but for what is above the limit; `None` before the first.
    known: Option<HashSet<Object>>,
}

impl Leaks {
    /// Fills in the last owners of a reading's orphans, and returns an event for each that was none in the reading before, as far as
    /// `admits`: the others are left to the next reading.
    pub(super) fn update(
        &mut self,
        snapshot: &mut Snapshot,
        owners: &LastOwners,
        now: BootTime,
        mut admits: impl FnMut() -> bool,
    ) -> Vec<Event> {
        let Some(mut orphans) = snapshot.orphans.take() else { return Vec::new() };
        for orphan in &mut orphans {
            orphan.last_owner = owners.of(orphan.kind, orphan.id).cloned();
        }
        let object = |orphan: &Orphan| Object { kind: orphan.kind, id: orphan.id };
        let known = self.known.take();
        let is_known = |orphan: &Orphan| known.as_ref().is_none_or(|known| known.contains(&object(orphan)));
        let (old, new): (Vec<&Orphan>, Vec<_>) = orphans.iter().partition(|orphan| is_known(orphan));
        let new: Vec<_> = new.into_iter().take_while(|_| admits()).collect();
        self.known = Some(old.into_iter().chain(new.iter().copied()).map(object).collect());
        let event = |orphan: &Orphan| {
            let (source, at) = (EventSource::Comparison, (orphan.since, now));
            let event = Event::new(EventKind::ObjectOrphan, source, at, subject(snapshot, orphan));
            Event { owner: orphan.last_owner.clone(), ..event }
        };
        let events = new.into_iter().map(event).collect();
        snapshot.orphans = Some(orphans);
        events
    }
}

/// Returns what the reading knows of an orphan.
fn subject(snapshot: &Snapshot, orphan: &Orphan) -> Subject {
    let id = orphan.id;
    let known = match orphan.kind {
        Kind::Program => snapshot.program(id).map(|program| of_program(&program.facts)),
        Kind::Map => snapshot.map(id).map(|map| of_map(&map.facts)),
        Kind::Link => snapshot.link(id).map(|link| of_link(&link.facts)),
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
            let events = leaks.update(&mut reading, &owners, second(9), || true);
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

    #[test]
    fn what_is_above_the_limit_is_left_to_the_next_reading() {
        let (mut leaks, owners) = (Leaks::default(), LastOwners::default());
        let mut after = |ids: &[u32], mut admitted: usize| {
            let mut reading =
                snapshot(ids.iter().map(|&id| program(id, &[])).collect(), Vec::new(), Vec::new());
            reading.orphans = Some(ids.iter().map(|&id| orphan(Kind::Program, id)).collect());
            let admits = || admitted.checked_sub(1).map(|left| admitted = left).is_some();
            let events = leaks.update(&mut reading, &owners, second(9), admits);
            events.into_iter().map(|event| event.subject.id.expect("it has one")).collect::<Vec<_>>()
        };
        assert!(after(&[1], 0).is_empty(), "it was there before");
        assert_eq!(after(&[1, 2, 3, 4], 2), [2, 3]);
        assert_eq!(after(&[1, 2, 3, 4, 5], 5), [4, 5]);
        assert!(after(&[1, 2, 3, 4, 5], 5).is_empty());
    }
}
