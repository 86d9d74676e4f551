//! What became of each hook and target from one look to the next: how many programs hang there, how many were lost.
//! Asks nobody. Begin at [`Places::compare`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Hook, HookPlace, Kind};

/// How long a place is told of after its last program went.
const REMEMBERED: Duration = Duration::from_hours(1);

/// A hook, the namespace and the target.
type Key = (Cow<'static, str>, Option<Arc<str>>, Option<Arc<str>>);

/// The places of the last look, and those that were emptied before.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: BTreeMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    objects: BTreeSet<(Kind, u32)>,
    /// How many hang there: one that hangs there twice counts twice.
    count: u64,
    lost: u64,
    since: Timestamp,
    /// When it was last seen with something.
    occupied_at: Timestamp,
}

impl Places {
    /// Compares a look with the one before. Where something could not be asked (`whole` is not so), what does not show and is
    /// still loaded is not lost.
    pub(super) fn compare(
        &mut self,
        taken_at: Timestamp,
        hooks: &[Hook],
        whole: bool,
        is_loaded: impl Fn(u32) -> bool,
    ) -> Vec<HookPlace> {
        let mut found: BTreeMap<Key, (BTreeSet<(Kind, u32)>, u64)> = BTreeMap::new();
        for hook in hooks {
            let key = (hook.hook.clone(), hook.netns.clone(), hook.target.clone());
            let place = found.entry(key).or_default();
            place.0.extend(hook.prog_id.map(|id| (Kind::Program, id)));
            place.0.extend(hook.map_id.map(|id| (Kind::Map, id)));
            place.1 += 1;
        }
        for (key, known) in &mut self.known {
            let (objects, count) = found.remove(key).unwrap_or_default();
            let missing = known.objects.difference(&objects);
            let stays = |&&(kind, id): &&(Kind, u32)| !whole && (kind != Kind::Program || is_loaded(id));
            let kept: BTreeSet<_> = missing.clone().filter(stays).copied().collect();
            known.lost += missing.count() as u64 - kept.len() as u64;
            known.count = count + kept.len() as u64;
            known.objects = &objects | &kept;
            if known.count > 0 {
                known.occupied_at = taken_at;
            }
        }
        self.known.extend(found.into_iter().map(|(key, (objects, count))| {
            (key, Known { objects, count, lost: 0, since: taken_at, occupied_at: taken_at })
        }));
        self.known.retain(|_, known| {
            let empty_for = Duration::try_from(taken_at.duration_since(known.occupied_at));
            empty_for.is_ok_and(|empty_for| empty_for < REMEMBERED) || known.count > 0
        });
        let place = |((hook, netns, target), known): (&Key, &Known)| HookPlace {
            hook: hook.clone(),
            target: target.clone(),
            netns: netns.clone(),
            programs: known.count,
            lost: known.lost,
            since: known.since,
        };
        self.known.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("it is a time")
    }

    fn hook(target: &str, prog_id: u32) -> Hook {
        Hook {
            hook: "xdp".into(),
            target: Some(target.into()),
            netns: None,
            position: 0,
            prog_id: (prog_id < 1000).then_some(prog_id),
            link_id: None,
            map_id: (prog_id >= 1000).then_some(prog_id),
        }
    }

    /// Each place as its target, how many hang there, how many were lost, and since when it is known.
    fn compare(places: &mut Places, second: i64, hooks: &[(&str, u32)]) -> Vec<(String, u64, u64, i64)> {
        let hooks: Vec<Hook> = hooks.iter().map(|&(target, id)| hook(target, id)).collect();
        told(&places.compare(at(second), &hooks, true, |_| true))
    }

    fn told(places: &[HookPlace]) -> Vec<(String, u64, u64, i64)> {
        let told = |place: &HookPlace| {
            let target = place.target.as_deref().expect("there is one").to_owned();
            (target, place.programs, place.lost, place.since.as_second() - 1_000_000)
        };
        places.iter().map(told).collect()
    }

    fn row(target: &str, programs: u64, lost: u64, since: i64) -> (String, u64, u64, i64) {
        (target.to_owned(), programs, lost, since)
    }

    #[test]
    fn what_was_there_and_is_not_any_more_is_lost() {
        let mut places = Places::default();
        let first = compare(&mut places, 0, &[("a", 1), ("a", 2), ("b", 1)]);
        assert_eq!(first, [row("a", 2, 0, 0), row("b", 1, 0, 0)]);
        let replaced = compare(&mut places, 60, &[("a", 1), ("a", 3), ("b", 1), ("c", 1001)]);
        assert_eq!(replaced, [row("a", 2, 1, 0), row("b", 1, 0, 0), row("c", 1, 0, 60)]);
        let fewer = compare(&mut places, 120, &[("a", 3), ("b", 1), ("b", 1)]);
        assert_eq!(fewer, [row("a", 1, 2, 0), row("b", 2, 0, 0), row("c", 0, 1, 60)]);
    }

    #[test]
    fn an_empty_place_is_told_of_for_an_hour() {
        let mut places = Places::default();
        compare(&mut places, 0, &[("a", 1)]);
        assert_eq!(compare(&mut places, 60, &[]), [row("a", 0, 1, 0)]);
        assert_eq!(compare(&mut places, 3599, &[]), [row("a", 0, 1, 0)]);
        assert_eq!(compare(&mut places, 3600, &[]), []);
        assert_eq!(compare(&mut places, 3660, &[("a", 1)]), [row("a", 1, 0, 3660)], "it is a new one");

        compare(&mut places, 4000, &[]);
        assert_eq!(compare(&mut places, 4060, &[("a", 2)]), [row("a", 1, 1, 3660)], "it is the same");
        assert_eq!(compare(&mut places, 7659, &[]), [row("a", 0, 2, 3660)], "an hour from its last program");
    }

    #[test]
    fn what_could_not_be_asked_is_not_lost() {
        let mut places = Places::default();
        compare(&mut places, 0, &[("a", 1), ("a", 2)]);
        let refused = places.compare(at(60), &[hook("a", 3)], false, |id| id != 2);
        assert_eq!(told(&refused), [row("a", 2, 1, 0)], "the one that is not loaded any more is lost");
        assert_eq!(compare(&mut places, 120, &[("a", 3)]), [row("a", 1, 2, 0)]);
    }
}
