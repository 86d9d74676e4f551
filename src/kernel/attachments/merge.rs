//! Attachments, merged from links and from what the kernel reports at each attach point, each of them once.
//! Entry point: [`Attachments`]. Makes no system call.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::model::enums::{link_type, program_type};
use crate::model::{Cgroup, Device, Hook, LinkFacts, Target};
use crate::sys::bpf::AttachedPrograms;

/// A hook of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttachPoint {
    /// See [`Hook::hook`].
    pub(crate) hook: Cow<'static, str>,
    /// See [`Hook::target`].
    pub(crate) target: Option<Target>,
    /// See [`Hook::netns`].
    pub(crate) netns: Option<Arc<str>>,
}

impl AttachPoint {
    /// The labels of this point, by which attachments are sorted and counted: points with the same labels are one, also where a
    /// cgroup was removed and another one made under its path.
    fn labels(&self) -> (Cow<'static, str>, Option<Arc<str>>, Option<String>) {
        (self.hook.clone(), self.netns.clone(), self.target.as_ref().map(Target::to_string))
    }
}

/// A program or a map at an attach point.
#[derive(Clone, Debug)]
struct Attachment {
    point: AttachPoint,
    /// The smallest runs first.
    order: i64,
    priority: Option<i32>,
    program: Option<u32>,
    link: Option<u32>,
    map: Option<u32>,
}

/// The attachments found so far.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    /// Those of links, ascending by their ids; `None` once the link was found at an attach point that was queried.
    by_links: Vec<Option<Attachment>>,
    /// Positions in `by_links` by the link's id.
    by_id: HashMap<u32, usize>,
    /// Positions in `by_links` by hook, target and program.
    by_point: HashMap<(Cow<'static, str>, Target, u32), VecDeque<usize>>,
    /// The targets of links.
    link_targets: HashSet<Target>,
    /// Those at attach points that were queried.
    reported: Vec<Attachment>,
    programs: HashSet<u32>,
    /// The cgroups, network namespaces and maps that were queried, by hook, and are the target of a link. A link that was not
    /// found there has been detached since it was read.
    queried: HashMap<String, HashSet<Target>>,
}

impl Attachments {
    /// Starts with what links attach, ascending by their ids. `type_of` returns the type of a program.
    pub(crate) fn from_links<'a>(
        links: impl IntoIterator<Item = &'a Arc<LinkFacts>>,
        type_of: impl Fn(u32) -> Option<u32>,
    ) -> Self {
        let mut attachments = Self::default();
        for facts in links {
            let program_type = facts.prog_id.and_then(&type_of);
            let Some(attachment) = of_link(facts, program_type) else { continue };
            let index = attachments.by_links.len();
            attachments.by_id.insert(facts.id, index);
            let AttachPoint { hook, target, .. } = &attachment.point;
            if let Some(target) = target.as_ref().map(without_names) {
                if let Some(program) = attachment.program {
                    let key = (hook.clone(), target.clone(), program);
                    attachments.by_point.entry(key).or_default().push_back(index);
                }
                attachments.link_targets.insert(target);
            }
            attachments.by_links.push(Some(attachment));
        }
        attachments
    }

    /// Adds what the kernel reports at an attach point, in execution order. Where it does not report links, a program's link is the
    /// first that attaches it there. A link reports an interface by its index only: a program that is attached by links to
    /// interfaces of the same index in several network namespaces may get the link of another of them.
    pub(crate) fn add(&mut self, point: &AttachPoint, attached: &AttachedPrograms) {
        for (order, &program) in (0..).zip(&attached.programs) {
            let reported = attached.links.get(usize::try_from(order).unwrap_or(usize::MAX)).copied();
            let link = match reported {
                Some(0) => None,
                Some(id) => self.claim_id(id).or(Some(id)),
                None => self.claim(point, program),
            };
            self.push(point.clone(), order, Some(program), link, None);
        }
    }

    /// Adds a program whose order at the attach point is known; its link is found as in [`Self::add`].
    pub(crate) fn add_one(&mut self, point: AttachPoint, order: i64, program: u32) {
        let link = self.claim(&point, program);
        self.push(point, order, Some(program), link, None);
    }

    /// Adds a program of a perf event that no link attaches, once: an event can have several descriptors.
    pub(crate) fn add_event(&mut self, point: AttachPoint, program: u32) {
        let same = |other: &Attachment| other.program == Some(program) && other.point == point;
        if !self.reported.iter().any(same) && !self.by_links.iter().flatten().any(same) {
            self.push(point, 0, Some(program), None, None);
        }
    }

    /// Adds a registered map of struct operations, with the link that registered it, if any.
    pub(crate) fn add_map(&mut self, point: AttachPoint, map: u32) {
        let of_map = |attachment: &Option<Attachment>| {
            attachment.as_ref().is_some_and(|attachment| attachment.map == Some(map))
        };
        let index = self.by_links.iter().position(of_map);
        let link = index.and_then(|index| self.by_links[index].take()).and_then(|attachment| attachment.link);
        self.push(point, 0, None, link, Some(map));
    }

    /// Records that a cgroup, a network namespace or a map was queried: links to it that were not found are gone.
    pub(crate) fn was_queried(&mut self, hook: &str, target: &Target) {
        let target = without_names(target);
        if self.link_targets.contains(&target) {
            self.queried.entry(hook.to_owned()).or_default().insert(target);
        }
    }

    /// Returns whether a link attaches a map.
    pub(crate) fn has_map(&self, map: u32) -> bool {
        self.by_links.iter().flatten().any(|attachment| attachment.map == Some(map))
    }

    /// Returns whether a program was found at an attach point that was queried.
    pub(crate) fn has_program(&self, program: u32) -> bool {
        self.programs.contains(&program)
    }

    fn push(
        &mut self,
        point: AttachPoint,
        order: i64,
        program: Option<u32>,
        link: Option<u32>,
        map: Option<u32>,
    ) {
        self.programs.extend(program);
        self.reported.push(Attachment { point, order, priority: None, program, link, map });
    }

    fn claim(&mut self, point: &AttachPoint, program: u32) -> Option<u32> {
        let key = (point.hook.clone(), without_names(point.target.as_ref()?), program);
        let candidates = self.by_point.get_mut(&key)?;
        while let Some(index) = candidates.pop_front() {
            if let Some(attachment) = self.by_links[index].take() {
                return attachment.link;
            }
        }
        None
    }

    fn claim_id(&mut self, id: u32) -> Option<u32> {
        self.by_links[*self.by_id.get(&id)?].take().and_then(|attachment| attachment.link)
    }

    /// Returns all attachments by hook, namespace and target, and then in execution order: where that is not known, by the ids of
    /// links, and then those without a link by the ids of programs.
    pub(crate) fn into_hooks(self) -> Vec<Hook> {
        let queried = &self.queried;
        let is_stale = |attachment: &Attachment| {
            let AttachPoint { hook, target, .. } = &attachment.point;
            let targets = queried.get(&**hook).zip(target.as_ref());
            targets.is_some_and(|(targets, target)| targets.contains(&without_names(target)))
        };
        let by_links = self.by_links.into_iter().flatten().filter(|attachment| !is_stale(attachment));
        let mut attachments: Vec<Attachment> = by_links.chain(self.reported).collect();
        attachments.sort_by_cached_key(|attachment| {
            let Attachment { point, order, link, program, map, .. } = attachment;
            (point.labels(), *order, link.unwrap_or(u32::MAX), *program, *map)
        });
        let (mut position, mut before) = (0, None);
        let hook = |attachment: Attachment| {
            let labels = Some(attachment.point.labels());
            position = if before == labels { position + 1 } else { 0 };
            before = labels;
            let Attachment { point: AttachPoint { hook, target, netns }, priority, .. } = attachment;
            let (prog_id, link_id, map_id) = (attachment.program, attachment.link, attachment.map);
            Hook { hook, target, netns, position, priority, prog_id, link_id, map_id }
        };
        attachments.into_iter().map(hook).collect()
    }
}

/// A target as both sources identify it. A link may have got the name of another network namespace's interface, and a cgroup's
/// path may be unknown to one of them.
fn without_names(target: &Target) -> Target {
    match target {
        Target::Device(Device { ifindex, .. }) => Target::Device(Device { ifindex: *ifindex, name: None }),
        Target::Cgroup(Cgroup { id, .. }) => Target::Cgroup(Cgroup { id: *id, path: None }),
        target => target.clone(),
    }
}

/// The types of link whose target the kernel reports unless it is gone.
const REPORT_TARGET: [u32; 8] = [
    link_type::CGROUP,
    link_type::NETNS,
    link_type::XDP,
    link_type::NETFILTER,
    link_type::TCX,
    link_type::NETKIT,
    link_type::STRUCT_OPS,
    link_type::SOCKMAP,
];

/// Returns what a link attaches; `None` for a link that attaches nothing any more.
fn of_link(facts: &LinkFacts, program_type: Option<u32>) -> Option<Attachment> {
    let kind = facts.link_type.number;
    let mut target = facts.target.clone();
    if target.is_none() && REPORT_TARGET.contains(&kind) {
        return None;
    }
    let hook = match kind {
        link_type::PERF_EVENT => Cow::Borrowed(event_hook(target.as_ref(), program_type)),
        _ => facts.attach_type.as_ref().unwrap_or(&facts.link_type).word_or_number(),
    };
    // Programs of every priority share the hook.
    let priority = match &mut target {
        Some(Target::Netfilter { priority, .. }) => priority.take(),
        _ => None,
    };
    let map = match target {
        Some(Target::Map { id }) if kind == link_type::STRUCT_OPS => Some(id),
        _ => None,
    };
    if facts.prog_id.is_none() && map.is_none() {
        return None;
    }
    Some(Attachment {
        point: AttachPoint { hook, target, netns: None },
        order: priority.unwrap_or(0).into(),
        priority,
        program: facts.prog_id,
        link: Some(facts.id),
        map,
    })
}

/// The kind of event that a program is attached to.
pub(crate) fn event_hook(target: Option<&Target>, program_type: Option<u32>) -> &'static str {
    match target {
        Some(Target::RawTracepoint { .. }) => "raw_tracepoint",
        Some(Target::Tracepoint { .. }) => "tracepoint",
        Some(Target::Kprobe { at_return: false, .. }) => "kprobe",
        Some(Target::Kprobe { at_return: true, .. }) => "kretprobe",
        Some(Target::Uprobe { at_return: false, .. }) => "uprobe",
        Some(Target::Uprobe { at_return: true, .. }) => "uretprobe",
        // Before 6.6 links do not report their event. Programs of this type attach to tracepoints only.
        _ if program_type == Some(program_type::TRACEPOINT) => "tracepoint",
        _ => "perf_event",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::enums::attach_type;
    use crate::model::{BootTime, CodeAddress};

    fn link(
        id: u32,
        kind: u32,
        attach_type: Option<u32>,
        prog_id: u32,
        target: Option<Target>,
    ) -> Arc<LinkFacts> {
        Arc::new(LinkFacts {
            id,
            link_type: link_type::from_number(kind),
            prog_id: (prog_id != 0).then_some(prog_id),
            attach_type: attach_type.map(attach_type::from_number),
            target,
            first_seen: BootTime::default(),
        })
    }

    fn cgroup(path: Option<&str>) -> Target {
        Target::Cgroup(Cgroup { id: 7, path: path.map(Arc::from) })
    }

    fn device(name: &str, ifindex: u32) -> Target {
        Target::Device(Device { ifindex, name: Some(name.into()) })
    }

    fn kprobe(symbol: &str, at_return: bool) -> Target {
        Target::Kprobe { address: CodeAddress::Symbol { name: symbol.into(), offset: 0 }, at_return }
    }

    fn uprobe(path: &str) -> Target {
        Target::Uprobe { path: path.into(), offset: 16, at_return: false }
    }

    fn netfilter(priority: i32) -> Target {
        Target::Netfilter { family: 2, hook: 1, priority: Some(priority) }
    }

    fn point(hook: &'static str, target: Target, netns: Option<&str>) -> AttachPoint {
        AttachPoint { hook: hook.into(), target: Some(target), netns: netns.map(Arc::from) }
    }

    /// Each hook as one text: `hook target netns position program link map`.
    fn lines(attachments: Attachments) -> Vec<String> {
        let or = |id: Option<u32>| id.map_or("-".to_owned(), |id| id.to_string());
        let line = |hook: Hook| {
            format!(
                "{} {} {} #{} {} {} {}",
                hook.hook,
                hook.target.map_or("-".to_owned(), |target| target.to_string()),
                hook.netns.as_deref().unwrap_or("-"),
                hook.position,
                or(hook.prog_id),
                or(hook.link_id),
                or(hook.map_id)
            )
        };
        attachments.into_hooks().into_iter().map(line).collect()
    }

    #[test]
    fn links_have_their_hook_and_are_ordered_by_priority_or_id() {
        let tracepoint = Target::Tracepoint { group: Some("sched".into()), name: "sched_switch".into() };
        let links = [
            link(1, link_type::CGROUP, Some(0), 10, Some(cgroup(Some("/a")))),
            link(2, link_type::CGROUP, Some(0), 11, Some(cgroup(Some("/a")))),
            link(3, link_type::CGROUP, Some(0), 12, None),
            link(4, link_type::NETFILTER, None, 13, Some(netfilter(5))),
            link(5, link_type::NETFILTER, None, 14, Some(netfilter(-5))),
            link(6, link_type::PERF_EVENT, None, 15, Some(kprobe("tcp_connect", true))),
            link(7, link_type::PERF_EVENT, None, 15, Some(uprobe("/bin/x"))),
            link(8, link_type::PERF_EVENT, None, 15, None),
            link(9, link_type::PERF_EVENT, None, 16, Some(tracepoint)),
            link(10, link_type::STRUCT_OPS, None, 0, Some(Target::Map { id: 17 })),
            link(11, 99, None, 17, None),
            link(12, link_type::XDP, None, 18, None),
            link(13, link_type::PERF_EVENT, None, 15, Some(uprobe("relative/x"))),
            link(14, link_type::PERF_EVENT, None, 16, None),
        ];
        let type_of = |program| match program {
            15 => Some(program_type::KPROBE),
            16 => Some(program_type::TRACEPOINT),
            _ => None,
        };
        assert_eq!(
            lines(Attachments::from_links(&links, type_of)),
            [
                "99 - - #0 17 11 -",
                "cgroup_inet_ingress /a - #0 10 1 -",
                "cgroup_inet_ingress /a - #1 11 2 -",
                "kretprobe tcp_connect%return - #0 15 6 -",
                "netfilter ipv4 input - #0 14 5 -",
                "netfilter ipv4 input - #1 13 4 -",
                "perf_event - - #0 15 8 -",
                "struct_ops map 17 - #0 - 10 17",
                "tracepoint - - #0 16 14 -",
                "tracepoint sched:sched_switch - #0 16 9 -",
                "uprobe /bin/x:0x10 - #0 15 7 -",
                "uprobe relative/x:0x10 - #0 15 13 -",
            ]
        );
        let priorities = Attachments::from_links(&links, type_of).into_hooks();
        let priorities: Vec<_> = priorities.iter().filter_map(|hook| hook.priority).collect();
        assert_eq!(priorities, [-5, 5]);
    }

    #[test]
    fn reported_attachments_are_merged_with_their_links() {
        let links = [
            link(1, link_type::CGROUP, Some(0), 10, Some(cgroup(Some("/a")))),
            link(2, link_type::CGROUP, Some(0), 10, Some(cgroup(None))),
            link(3, link_type::CGROUP, Some(0), 11, Some(cgroup(Some("/a")))),
            link(4, link_type::TCX, Some(46), 12, Some(device("eth0", 2))),
            link(5, link_type::TCX, Some(46), 12, Some(device("eth0", 2))),
            link(6, link_type::XDP, None, 13, Some(device("ours", 2))),
            link(7, link_type::STRUCT_OPS, None, 0, Some(Target::Map { id: 17 })),
        ];
        let mut attachments = Attachments::from_links(&links, |_| None);
        let attached = |programs: &[u32], links: &[u32]| AttachedPrograms {
            programs: programs.to_vec(),
            links: links.to_vec(),
        };
        let of_cgroup = point("cgroup_inet_ingress", cgroup(Some("/a")), None);
        attachments.add(&of_cgroup, &attached(&[20, 10, 10, 10], &[]));
        attachments.was_queried(&of_cgroup.hook, &cgroup(Some("/a")));
        attachments.add(&point("tcx_ingress", device("eth0", 2), Some("7")), &attached(&[21, 12], &[0, 5]));
        attachments.add_one(point("xdp", device("theirs", 2), Some("7")), 2, 13);
        attachments.add_one(point("xdp", device("theirs", 3), Some("7")), 2, 13);
        let operations = || Target::StructOps { name: "tcp_congestion_ops".into() };
        attachments.add_map(point("struct_ops", operations(), None), 17);
        attachments.add_map(point("struct_ops", operations(), None), 18);
        for _ in 0..2 {
            attachments.add_event(point("kprobe", kprobe("f", false), None), 30);
        }
        assert!(attachments.has_program(20) && !attachments.has_program(11));
        assert_eq!(
            lines(attachments),
            [
                "cgroup_inet_ingress /a - #0 20 - -",
                "cgroup_inet_ingress /a - #1 10 1 -",
                "cgroup_inet_ingress /a - #2 10 2 -",
                "cgroup_inet_ingress /a - #3 10 - -",
                "kprobe f - #0 30 - -",
                "struct_ops tcp_congestion_ops - #0 - 7 17",
                "struct_ops tcp_congestion_ops - #1 - - 18",
                "tcx_ingress eth0 (2) - #0 12 4 -",
                "tcx_ingress eth0 (2) 7 #0 21 - -",
                "tcx_ingress eth0 (2) 7 #1 12 5 -",
                "xdp theirs (2) 7 #0 13 6 -",
                "xdp theirs (3) 7 #0 13 - -",
            ]
        );
    }
}
