//! Events that wait for the names of their containers and pods, in order: what comes later waits for what was before.
//!
//! Entry points: [`Waiting::push`] and [`Waiting::take`]. Nobody waits where no name is looked up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::enrich::identity::{named, top_level};
use crate::enrich::names::NameCache;
use crate::model::{BootTime, Event};

/// How long an event waits at most. A runtime answers within milliseconds.
const LONGEST: Duration = Duration::from_secs(2);

/// How many events wait at most: one more, and the first is published as it is.
const MOST: usize = 1024;

/// The events that are not published yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    events: VecDeque<Event>,
    /// Whether none waits any more.
    is_over: bool,
}

impl Waiting {
    /// Adds events, which [`Self::take`] returns.
    pub(super) fn push(&mut self, events: Vec<Event>) {
        self.events.extend(events);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the events before the first one that has to wait at `now`, with the names that are known.
    pub(super) fn take(&mut self, now: BootTime, names: &NameCache) -> Vec<Event> {
        if self.events.front().is_some_and(awaits_name) {
            names.end_waits();
        }
        let mut ready = Vec::new();
        while let Some(mut event) = self.events.pop_front() {
            name(&mut event, names);
            let may_wait =
                !self.is_over && now.since(event.observed_at) < LONGEST && self.events.len() < MOST;
            if may_wait && awaits_name(&event) {
                self.events.push_front(event);
                break;
            }
            ready.push(event);
        }
        ready
    }

    /// From now on, no event waits.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }
}

fn awaits_name(event: &Event) -> bool {
    let actor = event.actor.as_ref().and_then(|actor| actor.identity.as_ref());
    actor.into_iter().chain(&event.owner).any(|owner| owner.awaits_name())
}

/// Fills in the names that are known by now.
fn name(event: &mut Event, names: &NameCache) {
    let actor = event.actor.as_mut().and_then(|actor| actor.identity.as_mut());
    if let Some(identity) = actor.filter(|identity| identity.awaits_name()) {
        *identity = Arc::new(named(identity, names));
    }
    if let Some(owner) = event.owner.as_mut().filter(|owner| owner.awaits_name()) {
        // The container may turn out to be in a pod.
        *owner = Arc::new(top_level(&named(owner, names)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::cgroup::CgroupIdentity;
    use crate::enrich::identity::identity;
    use crate::enrich::names::{ContainerName, MissingNames, NameSourceId, PodName};
    use crate::model::{Actor, ActorSource, EventKind, EventSource, Subject};

    const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";

    /// The load of a program by a process in this cgroup, seen so many milliseconds after the boot.
    fn load(path: &str, milliseconds: u64, names: &NameCache) -> Event {
        let at = BootTime(milliseconds * 1_000_000);
        let holder = identity(CgroupIdentity::of(path), None, names);
        let owner = Arc::new(top_level(&holder));
        let actor = Actor {
            pid: Some(7),
            thread: Some(7),
            parent: None,
            executable: None,
            identity: Some(Arc::new(holder)),
            known_by: ActorSource::Process,
        };
        let event = Event::new(EventKind::ProgramLoad, EventSource::Kernel, (at, at), Subject::default());
        Event { actor: Some(actor), owner: Some(owner), ..event }
    }

    /// The names of the actors and owners of what needs not wait, so many milliseconds after the boot.
    fn take(waiting: &mut Waiting, milliseconds: u64, names: &NameCache) -> Vec<(String, String)> {
        let events = waiting.take(BootTime(milliseconds * 1_000_000), names);
        let of = |event: &Event| {
            let identity = event.actor.as_ref().and_then(|actor| actor.identity.as_ref());
            let owner = event.owner.as_ref().map(|owner| owner.name().to_owned());
            (identity.map(|identity| identity.name().to_owned()), owner)
        };
        events.iter().map(of).map(|(actor, owner)| actor.zip(owner).expect("it has both")).collect()
    }

    fn twice(name: &str) -> (String, String) {
        (name.to_owned(), name.to_owned())
    }

    fn in_pod() -> String {
        format!("/kubepods/pod{UID}/{CONTAINER}")
    }

    #[test]
    fn an_event_waits_for_its_names_and_later_ones_for_it() {
        let names = NameCache::awaiting_lookups();
        let mut waiting = Waiting::default();
        let mut load = |path: &str| waiting.push(vec![load(path, 1_000, &names)]);
        load("/system.slice/a.service");
        load(&in_pod());
        load("/system.slice/b.service");
        assert_eq!(take(&mut waiting, 1_001, &names), [twice("a.service")]);
        assert!(take(&mut waiting, 1_002, &names).is_empty() && !waiting.is_empty());
        let name = ContainerName { name: Some("web".to_owned()), pod: Some(UID.to_owned()) };
        names.set_container(CONTAINER, name, NameSourceId(0));
        assert!(take(&mut waiting, 1_003, &names).is_empty(), "the name of the pod is missing");
        let name = PodName { namespace: "shop".to_owned(), name: "cart".to_owned() };
        names.set_pod(UID, name, NameSourceId(0));
        assert_eq!(take(&mut waiting, 1_004, &names), [twice("shop/cart"), twice("b.service")]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_container_may_turn_out_to_be_in_a_pod() {
        let names = NameCache::awaiting_lookups();
        let mut waiting = Waiting::default();
        waiting.push(vec![load(&format!("/docker/{CONTAINER}"), 0, &names)]);
        let name = ContainerName { name: Some("web".to_owned()), pod: Some(UID.to_owned()) };
        names.set_container(CONTAINER, name, NameSourceId(0));
        names.set_pod(
            UID,
            PodName { namespace: "shop".to_owned(), name: "cart".to_owned() },
            NameSourceId(0),
        );
        assert_eq!(take(&mut waiting, 0, &names), [twice("shop/cart")]);
    }

    #[test]
    fn no_event_waits_for_long_nor_in_vain() {
        let names = NameCache::awaiting_lookups();
        let waiting = || {
            let mut waiting = Waiting::default();
            waiting.push(vec![load(&in_pod(), 1_000, &names)]);
            assert!(take(&mut waiting, 2_999, &names).is_empty());
            waiting
        };
        assert_eq!(take(&mut waiting(), 3_000, &names), [twice(UID)], "it has waited long enough");
        let mut ended = waiting();
        ended.end();
        ended.push(vec![load(&in_pod(), 2_999, &names)]);
        assert_eq!(take(&mut ended, 2_999, &names), [twice(UID), twice(UID)], "the program ends");
        let mut many = waiting();
        many.push((0..MOST).map(|_| load(&in_pod(), 1_000, &names)).collect());
        assert_eq!(take(&mut many, 1_000, &names).len(), 1, "there are too many");
        let mut in_vain = waiting();
        names.answered(&names.missing(), true);
        assert_eq!(take(&mut in_vain, 1_001, &names), [twice(UID)], "nobody knows names");
        assert_eq!(
            names.missing(),
            MissingNames { pods: vec![UID.to_owned()], containers: vec![CONTAINER.to_owned()] }
        );
        let unnamed = NameCache::default();
        let mut waiting = Waiting::default();
        waiting.push(vec![load(&in_pod(), 1_000, &unnamed)]);
        assert_eq!(take(&mut waiting, 1_000, &unnamed), [twice(UID)], "nobody looks names up");
    }
}
