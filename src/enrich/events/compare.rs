//! What appeared and disappeared between two readings: maps, links, pins, and attachments without a link.
//!
//! Entry point: [`Comparison::update`]. Ids are given out one after another, so the number of objects that were created in between is
//! known, too.

use std::cmp::Ordering;
use std::sync::Arc;

use super::owners::LastOwners;
use crate::kernel::NewestIds;
use crate::model::{
    Activity, AttachmentScan, BootTime, Event, EventKind, EventSource, Hook, Kind, LinkFacts, MapFacts,
    Object, ObjectActivity, Owner, Part, Pin, ProgramFacts, Snapshot, Subject,
};

/// The last reading, as far as it is compared with the next one.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    maps: Table<MapFacts>,
    links: Table<LinkFacts>,
    btfs: Ids,
    /// With the moment of their scan.
    pins: Option<(BootTime, Vec<Pin>)>,
    hooks: Option<Arc<AttachmentScan>>,
    taken_at: Option<BootTime>,
}

/// The objects of one kind.
#[derive(Debug)]
struct Table<F> {
    /// `None` before the first reading of them.
    rows: Option<Vec<Row<F>>>,
    ids: Ids,
}

impl<F> Default for Table<F> {
    fn default() -> Self {
        Self { rows: None, ids: Ids::default() }
    }
}

#[derive(Debug)]
struct Row<F> {
    id: u32,
    facts: Arc<F>,
}

/// The parts of a row in a reading.
type RowOf<'a, F> = (u32, &'a Arc<F>, &'a Option<Arc<Owner>>);

/// How many objects of a kind were created and destroyed, by their ids.
#[derive(Clone, Copy, Debug, Default)]
struct Ids {
    /// Number of objects at the first reading; `None` before it.
    first: Option<u64>,
    highest: u32,
    created: u64,
    /// Of these and of the first ones. An object that is not listed for a moment does not lower it again.
    destroyed: u64,
}

impl Ids {
    /// Takes note of the highest id and the number of objects.
    fn read(&mut self, highest: u32, present: usize) {
        let present = present as u64;
        if self.first.is_none() {
            self.highest = highest.max(self.highest);
        }
        let first = *self.first.get_or_insert(present);
        self.created += u64::from(highest.saturating_sub(self.highest));
        self.highest = self.highest.max(highest);
        self.destroyed = self.destroyed.max((first + self.created).saturating_sub(present));
    }

    fn activity(&self, kind: Kind) -> Option<ObjectActivity> {
        self.first.map(|_| ObjectActivity { kind, created: self.created, destroyed: self.destroyed })
    }
}

impl Comparison {
    /// Returns a comparison that counts the maps whose ids are higher than the newest one.
    pub(super) fn above(newest: NewestIds) -> Self {
        let ids = Ids { highest: newest.map, ..Ids::default() };
        Self { maps: Table { ids, ..Table::default() }, ..Self::default() }
    }

    /// Returns what happened since the last reading; nothing for the first one. What a reading could not read is compared with the next
    /// one that can.
    pub(super) fn update(&mut self, snapshot: &Snapshot, owners: &LastOwners, now: BootTime) -> Vec<Event> {
        let after = self.taken_at.replace(snapshot.taken_at);
        let mut found = FoundEvents { at: snapshot.taken_at, after, now, owners, events: Vec::new() };
        if let Some(maps) = &snapshot.maps {
            let kinds = (EventKind::MapCreate, EventKind::MapDestroy);
            self.maps.update(
                maps,
                &mut found,
                Kind::Map,
                kinds,
                |map| (map.facts.id, &map.facts, &map.owner),
                of_map,
            );
        }
        if let Some(links) = &snapshot.links {
            let kinds = (EventKind::LinkAttach, EventKind::LinkDetach);
            self.links.update(
                links,
                &mut found,
                Kind::Link,
                kinds,
                |link| (link.facts.id, &link.facts, &link.owner),
                of_link,
            );
        }
        if let Some(btfs) = &snapshot.btfs {
            self.btfs.read(btfs.last().map_or(0, |btf| btf.id), btfs.len());
        }
        self.pins(snapshot, &mut found);
        self.hooks(snapshot, &mut found);
        found.events
    }

    fn pins(&mut self, snapshot: &Snapshot, found: &mut FoundEvents<'_>) {
        // A search that was cut short says nothing of what it did not see.
        let (Some(now), Some(scan)) = (&snapshot.pins, snapshot.succeeded(Part::Pin)) else { return };
        let taken_at = snapshot.taken_at - scan.age;
        if let Some((earlier, _)) = self.pins.as_mut().filter(|(_, before)| before == now) {
            *earlier = taken_at;
            return;
        }
        if let Some((earlier, mut before)) = self.pins.replace((taken_at, now.clone())) {
            (found.after, found.at) = (Some(earlier), taken_at);
            let mut now = now.clone();
            before.sort_unstable();
            now.sort_unstable();
            for (change, pin) in difference(&before, &now, Ord::cmp) {
                let kind = change.of(EventKind::PinCreate, EventKind::PinRemove);
                let owner = found.owner(snapshot, Object { kind: pin.kind, id: pin.id });
                found.add(kind, of_pin(pin), owner);
            }
        }
    }

    fn hooks(&mut self, snapshot: &Snapshot, found: &mut FoundEvents<'_>) {
        // A scan that saw less is not compared, nor is the next one compared with it.
        let is_whole =
            |scan: &&Arc<AttachmentScan>| scan.complete && snapshot.succeeded(Part::Hook).is_some();
        let Some(now) = snapshot.hooks.as_ref().filter(is_whole) else { return };
        let Some(before) = self.hooks.replace(Arc::clone(now)) else { return };
        if Arc::ptr_eq(&before, now) {
            return;
        }
        // Those of links are events of links. A position changes with the other programs.
        let without_links = |scan: &AttachmentScan| -> Vec<Hook> {
            let of_programs = scan.hooks.iter().filter(|hook| hook.link_id.is_none());
            let mut hooks: Vec<_> = of_programs.map(|hook| Hook { position: None, ..hook.clone() }).collect();
            hooks.sort_unstable();
            hooks
        };
        (found.after, found.at) = (Some(before.taken_at), now.taken_at);
        let (earlier, later) = (without_links(&before), without_links(now));
        for (change, hook) in difference(&earlier, &later, Ord::cmp) {
            let kind = change.of(EventKind::HookAttach, EventKind::HookDetach);
            let owner = found.owner(snapshot, hook.object());
            found.add(kind, of_hook(hook), owner);
        }
    }

    /// Adds the numbers of objects that were created and destroyed to `activity`.
    pub(super) fn fill(&self, activity: &mut Activity) {
        let counted = [(Kind::Map, &self.maps.ids), (Kind::Link, &self.links.ids), (Kind::Btf, &self.btfs)];
        activity.objects.extend(counted.into_iter().filter_map(|(kind, ids)| ids.activity(kind)));
    }
}

impl<F> Table<F> {
    /// Compares with `now`. Mostly nothing has changed: then it costs a look at each id.
    fn update<T>(
        &mut self,
        now: &[T],
        found: &mut FoundEvents<'_>,
        kind: Kind,
        (appeared, disappeared): (EventKind, EventKind),
        row: for<'a> fn(&'a T) -> RowOf<'a, F>,
        subject: fn(&F) -> Subject,
    ) {
        let id = |object: &T| row(object).0;
        self.ids.read(now.last().map_or(0, id), now.len());
        if let Some(rows) = &self.rows
            && rows.iter().map(|row| row.id).eq(now.iter().map(id))
        {
            return;
        }
        let rows = now.iter().map(row).map(|(id, facts, _)| Row { id, facts: Arc::clone(facts) });
        let before = self.rows.replace(rows.collect());
        let (Some(before), Some(rows)) = (before, &self.rows) else { return };
        for (change, Row { id: of, facts }) in difference(&before, rows, |one, other| one.id.cmp(&other.id)) {
            let index = now.binary_search_by_key(of, id).ok();
            let owner = index.and_then(|index| row(&now[index]).2.as_ref());
            let owner = owner.or_else(|| found.owners.of(kind, *of)).cloned();
            found.add(change.of(appeared, disappeared), subject(facts), owner);
        }
    }
}

/// Events found by comparison.
struct FoundEvents<'a> {
    at: BootTime,
    after: Option<BootTime>,
    now: BootTime,
    /// Those of the reading before.
    owners: &'a LastOwners,
    events: Vec<Event>,
}

impl FoundEvents<'_> {
    /// Returns the owner of an object, which this reading or the one before knows.
    fn owner(&self, snapshot: &Snapshot, object: Object) -> Option<Arc<Owner>> {
        snapshot.owner(object).or_else(|| self.owners.of(object.kind, object.id)).cloned()
    }

    fn add(&mut self, kind: EventKind, subject: Subject, owner: Option<Arc<Owner>>) {
        let event = Event::new(kind, EventSource::Comparison, (self.at, self.now), subject);
        self.events.push(Event { after: self.after, owner, ..event });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Appeared,
    Disappeared,
}

impl Change {
    fn of(self, appeared: EventKind, disappeared: EventKind) -> EventKind {
        match self {
            Self::Appeared => appeared,
            Self::Disappeared => disappeared,
        }
    }
}

/// Returns what is in only one of two ascending lists: first what disappeared.
fn difference<'a, T>(
    before: &'a [T],
    now: &'a [T],
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<(Change, &'a T)> {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    loop {
        let order = match (before.peek(), now.peek()) {
            (Some(one), Some(other)) => compare(one, other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        if order.is_le() {
            gone.extend(before.next().filter(|_| order.is_lt()).map(|row| (Change::Disappeared, row)));
        }
        if order.is_ge() {
            new.extend(now.next().filter(|_| order.is_gt()).map(|row| (Change::Appeared, row)));
        }
    }
    gone.append(&mut new);
    gone
}

pub(super) fn of_program(facts: &ProgramFacts) -> Subject {
    Subject {
        kind: Some(Kind::Program),
        id: Some(facts.id),
        name: Some(facts.name.clone()).filter(|name| !name.is_empty()),
        object_type: facts.program_type.name.as_deref().map(str::to_owned),
        tag: Some(facts.tag),
        since: Some(facts.loaded_at),
        ..Subject::default()
    }
}

pub(super) fn of_map(facts: &MapFacts) -> Subject {
    Subject {
        kind: Some(Kind::Map),
        id: Some(facts.id),
        name: Some(facts.name.clone()).filter(|name| !name.is_empty()),
        object_type: facts.map_type.name.as_deref().map(str::to_owned),
        ..Subject::default()
    }
}

pub(super) fn of_link(facts: &LinkFacts) -> Subject {
    Subject {
        kind: Some(Kind::Link),
        id: Some(facts.id),
        object_type: facts.link_type.name.as_deref().map(str::to_owned),
        prog_id: facts.prog_id,
        target: facts.target.clone(),
        ..Subject::default()
    }
}

fn of_pin(pin: &Pin) -> Subject {
    Subject {
        kind: Some(pin.kind),
        id: Some(pin.id),
        path: Some(Arc::clone(&pin.path)),
        ..Subject::default()
    }
}

fn of_hook(hook: &Hook) -> Subject {
    let object = hook.object();
    Subject {
        kind: (object.id != 0).then_some(object.kind),
        id: (object.id != 0).then_some(object.id),
        prog_id: hook.prog_id,
        hook: Some(hook.hook.to_string()),
        target: hook.target.clone(),
        ..Subject::default()
    }
}
