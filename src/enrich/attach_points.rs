//! Programs per hook and target, and how many were detached since the scan before.
//! Entry point: [`AttachPoints::compare`]. Independent of how attachments are found.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kernel::attachments::{Place, Survey};
use crate::model::{AttachPointStatus, BootTime, Hook, Kind, NetNs, Object, Target};

/// How long an attach point is reported after its last program was detached.
const REMEMBERED: Duration = Duration::from_hours(1);

/// A hook of a target: what the target belongs to, and its numbers. Its labels may change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PointKey {
    hook: Cow<'static, str>,
    place: Place,
    target: Option<Target>,
}

/// The attach points of the last scan, and those that were emptied before it.
#[derive(Debug, Default)]
pub(super) struct AttachPoints {
    points: BTreeMap<PointKey, PointHistory>,
}

#[derive(Debug)]
struct PointHistory {
    target: Option<Target>,
    netns: Option<NetNs>,
    objects: BTreeSet<Object>,
    /// How many are attached: one that two links attach counts twice.
    count: u64,
    detached: u64,
    /// Whether the last scan saw its place.
    is_seen: bool,
    since: BootTime,
    /// The last scan that found it with a program.
    occupied_at: BootTime,
}

/// What a scan found at an attach point.
#[derive(Debug, Default)]
struct FoundAtPoint<'a> {
    hook: Option<&'a Hook>,
    objects: BTreeSet<Object>,
    count: u64,
}

impl AttachPoints {
    /// Returns the places of all attach points, with their targets, for the next scan to look for.
    pub(super) fn watched(&self) -> Vec<(Place, Option<Target>)> {
        self.points.iter().map(|(point, history)| (point.place.clone(), history.target.clone())).collect()
    }

    /// Compares a scan with the one before. A program counts as detached only if the scan saw the place it was attached to: what
    /// ends together with its place was not lost. An attach point without programs ends with its place, or after an hour.
    ///
    /// If the scan was not complete, an object that is still loaded and that it did not find at a place that it saw is taken to be
    /// attached.
    pub(super) fn compare(
        &mut self,
        taken_at: BootTime,
        hooks: &[Hook],
        survey: &Survey,
        complete: bool,
        is_loaded: impl Fn(u32) -> bool,
    ) -> Vec<AttachPointStatus> {
        let mut found: BTreeMap<PointKey, FoundAtPoint<'_>> = BTreeMap::new();
        for hook in hooks {
            let Some(place) = survey.place(hook) else { continue };
            let target = hook.target.as_ref().map(Target::without_names);
            let found = found.entry(PointKey { hook: hook.hook.clone(), place, target }).or_default();
            found.hook = Some(hook);
            found.objects.extend(hook.prog_id.map(|id| Object { kind: Kind::Program, id }));
            found.objects.extend(hook.map_id.map(|id| Object { kind: Kind::Map, id }));
            found.count += 1;
        }
        for (point, history) in &mut self.points {
            let FoundAtPoint { hook, objects, count } = found.remove(point).unwrap_or_default();
            if let Some(Hook { target, netns, .. }) = hook {
                (history.target, history.netns) = (target.clone(), netns.clone());
            }
            history.is_seen = survey.has(&point.place);
            let missing = history.objects.difference(&objects);
            let may_be_hidden = history.is_seen && !complete;
            let may_be_attached =
                |object: &&Object| may_be_hidden && (object.kind != Kind::Program || is_loaded(object.id));
            let kept: BTreeSet<_> = missing.clone().filter(may_be_attached).copied().collect();
            if history.is_seen {
                history.detached += missing.count() as u64 - kept.len() as u64;
            }
            history.count = count + kept.len() as u64;
            history.objects = &objects | &kept;
            if history.count > 0 {
                history.occupied_at = taken_at;
            }
        }
        let new = found.into_iter().filter_map(|(point, FoundAtPoint { hook, objects, count })| {
            let Hook { target, netns, .. } = hook?.clone();
            let (is_seen, since, occupied_at) = (survey.has(&point.place), taken_at, taken_at);
            let history =
                PointHistory { target, netns, objects, count, detached: 0, is_seen, since, occupied_at };
            Some((point, history))
        });
        self.points.extend(new);
        self.points.retain(|_, history| {
            let is_remembered = taken_at.since(history.occupied_at) < REMEMBERED;
            history.count > 0 || (history.is_seen && is_remembered)
        });
        self.statuses()
    }

    /// Returns each point, by its labels. Of several with the same labels, as when a cgroup is made under the path of one that is
    /// being removed, the latest.
    fn statuses(&self) -> Vec<AttachPointStatus> {
        let mut statuses: BTreeMap<_, AttachPointStatus> = BTreeMap::new();
        for (point, history) in &self.points {
            let inode = history.netns.as_ref().map(|netns| netns.inode);
            let labels = (&point.hook, inode, history.target.as_ref().map(Target::to_string));
            let status = AttachPointStatus {
                hook: point.hook.clone(),
                target: history.target.clone(),
                netns: history.netns.clone(),
                programs: history.count,
                detached: history.is_seen.then_some(history.detached),
                since: history.since,
            };
            if statuses.get(&labels).is_none_or(|other| other.since <= status.since) {
                statuses.insert(labels, status);
            }
        }
        statuses.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cgroup, Device};

    fn hook(target: &str, prog_id: u32) -> Hook {
        at_target(Target::StructOps { name: target.into() }, prog_id)
    }

    fn at_target(target: Target, prog_id: u32) -> Hook {
        Hook {
            hook: "xdp".into(),
            target: Some(target),
            netns: None,
            position: Some(0),
            priority: None,
            prog_id: (prog_id < 1000).then_some(prog_id),
            link_id: None,
            map_id: (prog_id >= 1000).then_some(prog_id),
        }
    }

    /// Each attach point as its target, its number of programs, how many were detached, and when it was first seen.
    type Row = (String, u64, Option<u64>, u64);

    fn compare(points: &mut AttachPoints, second: u64, hooks: &[(&str, u32)]) -> Vec<Row> {
        let hooks: Vec<Hook> = hooks.iter().map(|&(target, id)| hook(target, id)).collect();
        compare_in(points, second, &hooks, &Survey::default())
    }

    fn compare_in(points: &mut AttachPoints, second: u64, hooks: &[Hook], survey: &Survey) -> Vec<Row> {
        rows(&points.compare(BootTime::from_secs(second), hooks, survey, true, |_| true))
    }

    fn rows(points: &[AttachPointStatus]) -> Vec<Row> {
        let row = |point: &AttachPointStatus| {
            let target = point.target.as_ref().expect("there is one").to_string();
            (target, point.programs, point.detached, point.since.since(BootTime::default()).as_secs())
        };
        points.iter().map(row).collect()
    }

    fn row(target: &str, programs: u64, detached: u64, since: u64) -> Row {
        (target.to_owned(), programs, Some(detached), since)
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
        let (mut points, survey) = (AttachPoints::default(), Survey::default());
        compare(&mut points, 0, &[("a", 1), ("a", 2)]);
        let refused = points.compare(BootTime::from_secs(60), &[hook("a", 3)], &survey, false, |id| id != 2);
        assert_eq!(rows(&refused), [row("a", 2, 1, 0)], "the one that was unloaded is detached");
        assert_eq!(compare(&mut points, 120, &[("a", 3)]), [row("a", 1, 2, 0)]);
    }

    fn device(name: &str, ifindex: u32, prog_id: u32) -> Hook {
        let device = Target::Device(Device { ifindex, name: Some(name.into()) });
        Hook { netns: Some(NetNs { inode: 7, name: None }), ..at_target(device, prog_id) }
    }

    /// A survey that saw these interfaces in a namespace with this cookie.
    fn devices(cookie: u64, devices: &[u32]) -> Survey {
        let mut survey = Survey::default();
        survey.add_namespace(7, Some(cookie));
        survey.add_devices(7, devices.iter().copied());
        survey
    }

    #[test]
    fn an_attach_point_ends_with_its_target() {
        let mut points = AttachPoints::default();
        let both = [device("a", 2, 1), device("a", 2, 2), device("b", 3, 3)];
        compare_in(&mut points, 0, &both, &devices(1, &[2, 3]));
        let one_left = compare_in(&mut points, 60, &[device("a", 2, 1)], &devices(1, &[2, 3]));
        assert_eq!(one_left, [row("a", 1, 1, 0), row("b", 0, 1, 0)], "both interfaces are there");
        assert_eq!(compare_in(&mut points, 120, &[], &devices(1, &[2])), [row("a", 0, 2, 0)]);
        assert_eq!(compare_in(&mut points, 180, &[], &devices(1, &[])), []);

        compare_in(&mut points, 200, &[device("a", 2, 1)], &devices(1, &[2]));
        let incomplete = points.compare(BootTime::from_secs(220), &[], &devices(1, &[]), false, |_| true);
        assert_eq!(rows(&incomplete), [], "what could not be queried is elsewhere");

        compare_in(&mut points, 240, &[device("a", 2, 1)], &devices(1, &[2]));
        let renamed = compare_in(&mut points, 300, &[device("c", 2, 1)], &devices(1, &[2]));
        assert_eq!(renamed, [row("c", 1, 0, 240)], "nothing was detached");
        let another = compare_in(&mut points, 360, &[device("c", 4, 5)], &devices(1, &[4]));
        assert_eq!(another, [row("c", 1, 0, 360)], "an interface of the same name is another one");
        let reused = compare_in(&mut points, 420, &[device("c", 4, 6)], &devices(2, &[4]));
        assert_eq!(reused, [row("c", 1, 0, 420)], "so is one in a namespace with the same inode number");
    }

    #[test]
    fn nothing_counts_as_detached_where_targets_cannot_be_seen() {
        let mut points = AttachPoints::default();
        let unseen = Survey::default();
        let of = |programs, since| [("a".to_owned(), programs, None, since)];
        let hooks = [device("a", 2, 1), device("a", 2, 2)];
        assert_eq!(compare_in(&mut points, 0, &hooks, &unseen), of(2, 0));
        assert_eq!(compare_in(&mut points, 60, &hooks[..1], &unseen), of(1, 0));
        assert_eq!(compare_in(&mut points, 120, &[], &unseen), []);

        let unknown = Hook { netns: None, ..device("a", 2, 1) };
        assert_eq!(
            compare_in(&mut points, 180, &[unknown], &unseen),
            [],
            "it is not known which interface it is"
        );
    }

    #[test]
    fn a_new_cgroup_under_the_path_of_a_removed_one_is_another_target() {
        let cgroup = |id, prog_id| at_target(Target::Cgroup(Cgroup { id, path: Some("/a".into()) }), prog_id);
        let survey = |id| {
            let mut survey = Survey::default();
            survey.cgroups.insert(id);
            survey
        };
        let mut points = AttachPoints::default();
        compare_in(&mut points, 0, &[cgroup(4, 1)], &survey(4));
        let both = compare_in(&mut points, 60, &[cgroup(4, 1), cgroup(5, 2)], &survey(5));
        assert_eq!(both, [row("/a", 1, 0, 60)], "the link to the old one is still being released");
        assert_eq!(compare_in(&mut points, 120, &[cgroup(5, 2)], &survey(5)), [row("/a", 1, 0, 60)]);
        assert_eq!(compare_in(&mut points, 180, &[], &survey(6)), []);
    }
}
