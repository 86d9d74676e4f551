//! Which events are shown, by the rules that select objects and by patterns of the names of events.
//! Entry point: [`EventFilter::matches`].

use super::rules::{Key, Rule, is_like};
use crate::model::{Event, EventKind, Kind, Owner, OwnerKind};

/// Which events are shown. By default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Patterns of names of events, of which one must match, unless empty: `bpf.program.*`.
    pub kinds: Vec<String>,
    /// Shows only events of objects that match one of these rules, unless empty.
    pub only: Vec<Rule>,
    /// Shows no event of an object that matches one of these rules; wins over `only`.
    pub except: Vec<Rule>,
}

impl EventFilter {
    /// Returns whether an event is shown.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| is_about(rule, event));
        let kinds = &self.kinds;
        (kinds.is_empty() || kinds.iter().any(|pattern| is_like(pattern, event.kind.as_str())))
            && (self.only.is_empty() || any(&self.only))
            && !any(&self.except)
    }
}

/// Returns whether a pattern matches the name of an event at all.
#[must_use]
pub fn is_any_event_like(pattern: &str) -> bool {
    EventKind::ALL.into_iter().any(|kind| is_like(pattern, kind.as_str()))
}

/// Returns whether a rule matches the object of an event. A property that is unknown matches no pattern.
fn is_about(rule: &Rule, event: &Event) -> bool {
    let subject = &event.subject;
    // Where an object is too short-lived for an owner of its own, its maker is what is known.
    let actor = || event.actor.as_ref().and_then(|actor| actor.identity.as_deref());
    let owner = event.owner.as_deref().or_else(actor);
    rule.terms.iter().all(|(key, pattern)| {
        let property = match key {
            Key::Kind => subject.kind.map(Kind::as_str),
            Key::Type => subject.object_type.as_deref(),
            Key::Name => subject.name.as_deref(),
            Key::Owner => owner.map(Owner::name),
            Key::OwnerKind => owner.map(|owner| OwnerKind::as_str(owner.kind())),
        };
        property.is_some_and(|text| is_like(pattern, text))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Actor, ActorSource, BootTime, EventSource, Identity, Subject};

    /// A program `trace_open` that `bpftrace` loaded, without an owner.
    fn loaded() -> Event {
        Event {
            number: 1,
            kind: EventKind::ProgramLoad,
            at: BootTime(1),
            after: None,
            observed_at: BootTime(2),
            source: EventSource::Kernel,
            subject: Subject {
                kind: Some(Kind::Program),
                id: Some(7),
                name: Some("trace_open".to_owned()),
                object_type: Some("kprobe".to_owned()),
                ..Subject::default()
            },
            actor: Some(Actor {
                pid: Some(812),
                thread: Some(812),
                parent: None,
                executable: None,
                identity: Some(Arc::new(Owner::from(Identity::processes("bpftrace".to_owned())))),
                known_by: ActorSource::Process,
            }),
            owner: None,
        }
    }

    fn rule(terms: &[(Key, &str)]) -> Rule {
        Rule { terms: terms.iter().map(|&(key, pattern)| (key, pattern.to_owned())).collect() }
    }

    #[test]
    fn each_property_is_matched_and_unknown_ones_match_nothing() {
        let event = loaded();
        let bare = Event { subject: Subject::default(), actor: None, ..event.clone() };
        for (terms, matches, matches_bare) in [
            (&[][..], true, true),
            (&[(Key::Kind, "program")], true, false),
            (&[(Key::Kind, "map")], false, false),
            (&[(Key::Type, "k*")], true, false),
            (&[(Key::Name, "trace_?pen")], true, false),
            (&[(Key::Name, "*")], true, false),
            (&[(Key::Owner, "bpftrace")], true, false),
            (&[(Key::OwnerKind, "process")], true, false),
            (&[(Key::Name, "trace_*"), (Key::Owner, "cilium*")], false, false),
        ] {
            let filter = EventFilter { only: vec![rule(terms)], ..EventFilter::default() };
            assert_eq!((filter.matches(&event), filter.matches(&bare)), (matches, matches_bare), "{terms:?}");
            let filter = EventFilter { except: vec![rule(terms)], ..EventFilter::default() };
            assert_eq!(
                (filter.matches(&event), filter.matches(&bare)),
                (!matches, !matches_bare),
                "{terms:?}"
            );
        }
    }

    #[test]
    fn the_owner_of_the_object_comes_before_the_actor() {
        let owner = Identity { unit: Some("cilium.service".to_owned()), ..Identity::default() };
        let event = Event { owner: Some(Arc::new(Owner::from(owner))), ..loaded() };
        let of = |owner| EventFilter { only: vec![rule(&[(Key::Owner, owner)])], ..EventFilter::default() };
        assert!(of("cilium.*").matches(&event) && !of("bpftrace").matches(&event));
    }

    #[test]
    fn one_of_the_patterns_matches_the_name_of_the_event() {
        let of = |kinds: &[&str]| EventFilter {
            kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(),
            ..EventFilter::default()
        };
        for (kinds, expected) in [
            (&[][..], true),
            (&["bpf.program.load"], true),
            (&["bpf.program.*"], true),
            (&["bpf.map.*", "*.load"], true),
            (&["bpf.map.*"], false),
            (&["bpf.program"], false),
        ] {
            assert_eq!(of(kinds).matches(&loaded()), expected, "{kinds:?}");
        }
        assert!(is_any_event_like("bpf.pin.*") && is_any_event_like("bpf.object.orphan"));
        assert!(!is_any_event_like("bpf.prog.*") && !is_any_event_like(""));
    }
}
