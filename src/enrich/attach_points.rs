//! Programs per hook and target, and how many were detached since the scan before.
//! Entry point: [`AttachPoints::compare`]. Independent of how attachments are found.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{AttachPointStatus, BootTime, Hook, Kind, Object, Target};

/// How long an attach point is reported after its last program was detached.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The labels of an attach point. It stays the same if a cgroup is removed and another one made under its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PointLabels {
    hook: Cow<'static, str>,
    netns: Option<Arc<str>>,
    target: Option<String>,
}

/// The attach points of the last scan, and those that were emptied before it.
#[derive(Debug, Default)]
pub(super) struct AttachPoints {
    points: BTreeMap<PointLabels, PointHistory>,
}

#[derive(Debug)]
struct PointHistory {
    target: Option<Target>,
    objects: BTreeSet<Object>,
    /// How many are attached: one that is attached twice counts twice.
    count: u64,
    detached: u64,
    since: BootTime,
    /// The last scan that found it with a program.
    occupied_at: BootTime,
}

impl AttachPoints {
    /// Compares a scan with the one before. If the scan was not complete, an object that it did not find and that is still
    /// loaded does not count as detached.
    pub(super) fn compare(
        &mut self,
        taken_at: BootTime,
        hooks: &[Hook],
        complete: bool,
        is_loaded: impl Fn(u32) -> bool,
    ) -> Vec<AttachPointStatus> {
        let mut found: BTreeMap<PointLabels, (Option<&Target>, BTreeSet<Object>, u64)> = BTreeMap::new();
        for hook in hooks {
            let Hook { target, netns, prog_id, map_id, .. } = hook;
            let text = target.as_ref().map(Target::to_string);
            let point = PointLabels { hook: hook.hook.clone(), netns: netns.clone(), target: text };
            let (found_target, objects, count) = found.entry(point).or_default();
            *found_target = target.as_ref();
            objects.extend(prog_id.map(|id| Object { kind: Kind::Program, id }));
            objects.extend(map_id.map(|id| Object { kind: Kind::Map, id }));
            *count += 1;
        }
        for (point, history) in &mut self.points {
            let (target, objects, count) = found.remove(point).unwrap_or_default();
            history.target = target.cloned().or(history.target.take());
            let missing = history.objects.difference(&objects);
            let may_be_attached =
                |object: &&Object| !complete && (object.kind != Kind::Program || is_loaded(object.id));
            let kept: BTreeSet<_> = missing.clone().filter(may_be_attached).copied().collect();
            history.detached += missing.count() as u64 - kept.len() as u64;
            history.count = count + kept.len() as u64;
            history.objects = &objects | &kept;
            if history.count > 0 {
                history.occupied_at = taken_at;
            }
        }
        self.points.extend(found.into_iter().map(|(point, (target, objects, count))| {
            let (target, since, occupied_at) = (target.cloned(), taken_at, taken_at);
            (point, PointHistory { target, objects, count, detached: 0, since, occupied_at })
        }));
        self.points
            .retain(|_, history| taken_at.since(history.occupied_at) < REMEMBERED || history.count > 0);
        let status = |(point, history): (&PointLabels, &PointHistory)| AttachPointStatus {
            hook: point.hook.clone(),
            target: history.target.clone(),
            netns: point.netns.clone(),
            programs: history.count,
            detached: history.detached,
            since: history.since,
        };
        self.points.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(target: &str, prog_id: u32) -> Hook {
        Hook {
            hook: "xdp".into(),
            target: Some(Target::StructOps { name: target.into() }),
            netns: None,
            position: 0,
            priority: None,
            prog_id: (prog_id < 1000).then_some(prog_id),
            link_id: None,
            map_id: (prog_id >= 1000).then_some(prog_id),
        }
    }

    /// Each attach point as its target, its number of programs, how many were detached, and when it was first seen.
    fn compare(
        points: &mut AttachPoints,
        second: u64,
        hooks: &[(&str, u32)],
    ) -> Vec<(String, u64, u64, u64)> {
        let hooks: Vec<Hook> = hooks.iter().map(|&(target, id)| hook(target, id)).collect();
        rows(&points.compare(BootTime::from_secs(second), &hooks, true, |_| true))
    }

    fn rows(points: &[AttachPointStatus]) -> Vec<(String, u64, u64, u64)> {
        let row = |point: &AttachPointStatus| {
            let target = point.target.as_ref().expect("there is one").to_string();
            (target, point.programs, point.detached, point.since.since(BootTime::default()).as_secs())
        };
        points.iter().map(row).collect()
    }

    fn row(target: &str, programs: u64, detached: u64, since: u64) -> (String, u64, u64, u64) {
        (target.to_owned(), programs, detached, since)
    }

    #[test]
    fn programs_missing_from_the_next_scan_count_as_detached() {
        let mut points = AttachPoints::default();
        let first = compare(&mut points, 0, &[("a", 1), ("a", 2), ("b", 1)]);
        assert_eq!(first, [row("a", 2, 0, 0), row("b", 1, 0, 0)]);
        let replaced = compare(&mut points, 60, &[("a", 1), ("a", 3), ("b", 1), ("c", 1001)]);
        assert_eq!(replaced, [row("a", 2, 1, 0), row("b", 1, 0, 0), row("c", 1, 0, 60)]);
        let fewer = compare(&mut points, 120, &[("a", 3), ("b", 1), ("b", 1)]);
        assert_eq!(fewer, [row("a", 1, 2, 0), row("b", 2, 0, 0), row("c", 0, 1, 60)]);
    }

    #[test]
    fn an_emptied_attach_point_is_reported_for_an_hour() {
        let mut points = AttachPoints::default();
        compare(&mut points, 0, &[("a", 1)]);
        assert_eq!(compare(&mut points, 60, &[]), [row("a", 0, 1, 0)]);
        assert_eq!(compare(&mut points, 3599, &[]), [row("a", 0, 1, 0)]);
        assert_eq!(compare(&mut points, 3600, &[]), []);
        assert_eq!(compare(&mut points, 3660, &[("a", 1)]), [row("a", 1, 0, 3660)], "it is a new series");

        compare(&mut points, 4000, &[]);
        assert_eq!(compare(&mut points, 4060, &[("a", 2)]), [row("a", 1, 1, 3660)], "it is the same series");
        assert_eq!(compare(&mut points, 7659, &[]), [row("a", 0, 2, 3660)], "an hour from its last program");
    }

    #[test]
    fn programs_hidden_from_an_incomplete_scan_are_not_detached() {
        let mut points = AttachPoints::default();
        compare(&mut points, 0, &[("a", 1), ("a", 2)]);
        let refused = points.compare(BootTime::from_secs(60), &[hook("a", 3)], false, |id| id != 2);
        assert_eq!(rows(&refused), [row("a", 2, 1, 0)], "the one that was unloaded is detached");
        assert_eq!(compare(&mut points, 120, &[("a", 3)]), [row("a", 1, 2, 0)]);
    }
}
