//! Attachments, merged from links and from what the kernel reports at each attach point, each of them once.
//! Entry point: [`Attachments`]. Makes no system call.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::model::enums::{link_type, program_type};
use crate::model::{Hook, LinkFacts, NetNs, Target};
use crate::sys::bpf::AttachedPrograms;

/// A hook of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttachPoint {
    /// See [`Hook::hook`].
    pub(crate) hook: Cow<'static, str>,
    /// See [`Hook::target`].
    pub(crate) target: Option<Target>,
    /// See [`Hook::netns`].
    pub(crate) netns: Option<NetNs>,
}

impl AttachPoint {
    /// Returns the sort key: the labels, then what distinguishes points with equal labels.
    fn order(&self) -> (Cow<'static, str>, Option<u64>, Option<String>, Option<Target>) {
        let text = self.target.as_ref().map(Target::to_string);
        (self.hook.clone(), self.inode(), text, self.target.as_ref().map(Target::without_names))
    }

    fn inode(&self) -> Option<u64> {
        self.netns.as_ref().map(|netns| netns.inode)
    }
}

/// The interface that a link was found at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// The link's id.
    pub(crate) link: u32,
    pub(crate) target: Target,
    pub(crate) netns: NetNs,
}

/// A program at a hook of a target, in a network namespace.
type Spot = (Cow<'static, str>, Target, Option<u64>, u32);

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
    /// Positions in `by_links` of those whose program was not found yet.
    by_spot: HashMap<Spot, VecDeque<usize>>,
    /// Positions in `reported` of programs at interfaces, by the spots of links whose network namespace is not known.
    unpaired: BTreeMap<Spot, Vec<usize>>,
    located: Vec<Located>,
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
            if let Some(target) = target.as_ref().map(Target::without_names) {
                if let Some(program) = attachment.program {
                    let spot = (hook.clone(), target.clone(), attachment.point.inode(), program);
                    attachments.by_spot.entry(spot).or_default().push_back(index);
                }
                attachments.link_targets.insert(target);
            }
            attachments.by_links.push(Some(attachment));
        }
        attachments
    }

    /// Adds what the kernel reports at an attach point, in execution order. Where it does not report links, a program's link is the
    /// first that attaches it there. If the network namespaces of links to interfaces are not known either, a program has a link
    /// where only one of them attaches it to an interface of this index, and it was found at only one.
    pub(crate) fn add(&mut self, point: &AttachPoint, attached: &AttachedPrograms) {
        for (order, &program) in (0..).zip(&attached.programs) {
            let reported = attached.links.get(usize::try_from(order).unwrap_or(usize::MAX)).copied();
            let link = match reported {
                Some(0) => None,
                Some(id) => {
                    self.claim_id(id, point);
                    Some(id)
                }
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
        let target = target.without_names();
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

    /// Takes the link that attaches a program, which is about to be pushed, at a point.
    fn claim(&mut self, point: &AttachPoint, program: u32) -> Option<u32> {
        let target = point.target.as_ref()?;
        let mut spot = (point.hook.clone(), target.without_names(), point.inode(), program);
        while let Some(index) = self.by_spot.get_mut(&spot).and_then(VecDeque::pop_front) {
            if let Some(attachment) = self.by_links[index].take() {
                return attachment.link;
            }
        }
        spot.2 = None;
        if target.device().is_some() && self.by_spot.contains_key(&spot) {
            self.unpaired.entry(spot).or_default().push(self.reported.len());
        }
        None
    }

    /// Takes a link that was found at a point.
    fn claim_id(&mut self, id: u32, point: &AttachPoint) {
        let Some(attachment) = self.by_id.get(&id).and_then(|&index| self.by_links[index].take()) else {
            return;
        };
        if attachment.point.netns.is_none() {
            self.locate(id, point);
        }
    }

    fn locate(&mut self, link: u32, point: &AttachPoint) {
        if let AttachPoint { target: Some(target), netns: Some(netns), .. } = point.clone() {
            self.located.push(Located { link, target, netns });
        }
    }

    /// Pairs links to interfaces in unknown network namespaces with the programs that were found.
    fn pair(&mut self) {
        for (spot, found) in std::mem::take(&mut self.unpaired) {
            let links = self.by_spot.get(&spot).into_iter().flatten().copied();
            let links: Vec<usize> = links.filter(|&index| self.by_links[index].is_some()).collect();
            // Some links attach the program elsewhere, where it was not found, and it is not known which.
            if links.len() > found.len() {
                continue;
            }
            let ids: Vec<u32> = links.iter().filter_map(|&index| self.by_links[index].take()?.link).collect();
            if let ([link], [index]) = (&ids[..], &found[..]) {
                self.reported[*index].link = Some(*link);
                let point = self.reported[*index].point.clone();
                self.locate(*link, &point);
            }
        }
    }

    /// Returns all attachments by hook, namespace and target, and then in execution order: where that is not known, by the ids of
    /// links, and then those without a link by the ids of programs. Also returns the interfaces of links that did not report them.
    pub(crate) fn into_hooks(mut self) -> (Vec<Hook>, Vec<Located>) {
        self.pair();
        let queried = &self.queried;
        let is_stale = |attachment: &Attachment| {
            let AttachPoint { hook, target, .. } = &attachment.point;
            let targets = queried.get(&**hook).zip(target.as_ref());
            targets.is_some_and(|(targets, target)| targets.contains(&target.without_names()))
        };
        let by_links = self.by_links.into_iter().flatten().filter(|attachment| !is_stale(attachment));
        let mut attachments: Vec<Attachment> = by_links.chain(self.reported).collect();
        attachments.sort_by_cached_key(|attachment| {
            let Attachment { point, order, link, program, map, .. } = attachment;
            (point.order(), *order, link.unwrap_or(u32::MAX), *program, *map)
        });
        let (mut position, mut before) = (0, None);
        let mut without_link = HashSet::new();
        let hook = |attachment: Attachment| {
            let point = Some(attachment.point.order());
            if before == point {
                position += 1;
            } else {
                (position, before) = (0, point);
                without_link.clear();
            }
            let Attachment { point: AttachPoint { hook, target, netns }, priority, .. } = attachment;
            let (prog_id, link_id, map_id) = (attachment.program, attachment.link, attachment.map);
            // A program can be attached several times without a link, for instance by filters of several priorities: nothing else
            // tells these apart.
            if link_id.is_none() && !without_link.insert((prog_id, map_id)) {
                return None;
            }
            let mut hook =
                Hook { hook, target, netns, position: Some(position), priority, prog_id, link_id, map_id };
            // Structures of operations run in no order.
            if !hook.is_placed() || map_id.is_some() {
                hook.position = None;
            }
            Some(hook)
        };
        (attachments.into_iter().filter_map(hook).collect(), self.located)
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
    // An iterator runs when it is read, and hooks nothing.
    if kind == link_type::ITER || (target.is_none() && REPORT_TARGET.contains(&kind)) {
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
        point: AttachPoint { hook, target, netns: facts.netns.clone() },
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
    use crate::model::{BootTime, Cgroup, Device, Symbol};

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
            netns: None,
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
        Target::Kprobe { symbol: Some(Symbol { name: symbol.into(), offset: 0 }), at_return }
    }

    fn uprobe(path: &str) -> Target {
        Target::Uprobe { path: path.into(), offset: 16, at_return: false }
    }

    fn netfilter(priority: i32) -> Target {
        Target::Netfilter { family: 2, hook: 1, priority: Some(priority) }
    }

    fn point(hook: &'static str, target: Target, netns: Option<u64>) -> AttachPoint {
        AttachPoint { hook: hook.into(), target: Some(target), netns: netns.map(numbered) }
    }

    fn numbered(inode: u64) -> NetNs {
        NetNs { inode, name: None }
    }

    /// Each hook as one text: `hook target netns position program link map`.
    fn lines(attachments: Attachments) -> Vec<String> {
        fn or(id: Option<impl ToString>) -> String {
            id.map_or("-".to_owned(), |id| id.to_string())
        }
        let line = |hook: Hook| {
            format!(
                "{} {} {} #{} {} {} {}",
                hook.hook,
                hook.target.map_or("-".to_owned(), |target| target.to_string()),
                or(hook.netns.map(|netns| netns.inode)),
                or(hook.position),
                or(hook.prog_id),
                or(hook.link_id),
                or(hook.map_id)
            )
        };
        attachments.into_hooks().0.into_iter().map(line).collect()
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
            link(15, link_type::ITER, None, 16, Some(Target::RawTracepoint { name: "bpf_map".into() })),
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
                "netfilter ipv4 input - #- 14 5 -",
                "netfilter ipv4 input - #- 13 4 -",
                "perf_event - - #0 15 8 -",
                "struct_ops map 17 - #- - 10 17",
                "tracepoint - - #0 16 14 -",
                "tracepoint sched:sched_switch - #0 16 9 -",
                "uprobe /bin/x:0x10 - #0 15 7 -",
                "uprobe relative/x:0x10 - #0 15 13 -",
            ]
        );
        let (priorities, _) = Attachments::from_links(&links, type_of).into_hooks();
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
        attachments.add(&point("tcx_ingress", device("eth0", 2), Some(7)), &attached(&[21, 12], &[0, 5]));
        attachments.add_one(point("xdp", device("theirs", 2), Some(7)), 2, 13);
        attachments.add_one(point("xdp", device("theirs", 3), Some(7)), 2, 13);
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
                "struct_ops tcp_congestion_ops - #- - 7 17",
                "struct_ops tcp_congestion_ops - #- - - 18",
                "tcx_ingress eth0 - #- 12 4 -",
                "tcx_ingress eth0 7 #0 21 - -",
                "tcx_ingress eth0 7 #1 12 5 -",
                "xdp theirs 7 #0 13 6 -",
                "xdp theirs 7 #0 13 - -",
            ]
        );
    }

    fn in_netns(link: &Arc<LinkFacts>, inode: u64) -> Arc<LinkFacts> {
        Arc::new(LinkFacts { netns: Some(numbered(inode)), ..(**link).clone() })
    }

    /// Adds program 10 by XDP at interface 2 of these namespaces.
    fn found_in(links: &[Arc<LinkFacts>], namespaces: &[u64]) -> (Vec<String>, Vec<u32>) {
        let mut attachments = Attachments::from_links(links, |_| None);
        for &inode in namespaces {
            attachments.add_one(point("xdp", device("eth0", 2), Some(inode)), 0, 10);
        }
        let located = |mut attachments: Attachments| {
            attachments.pair();
            attachments.located.iter().map(|located| located.link).collect()
        };
        let mut again = Attachments::from_links(links, |_| None);
        for &inode in namespaces {
            again.add_one(point("xdp", device("eth0", 2), Some(inode)), 0, 10);
        }
        (lines(attachments), located(again))
    }

    #[test]
    fn interfaces_of_the_same_index_are_told_apart_by_their_namespace() {
        let links = [1, 2].map(|id| link(id, link_type::XDP, None, 10, Some(device("eth0", 2))));
        let reported = [in_netns(&links[0], 8), in_netns(&links[1], 7)];
        let both = ["xdp eth0 7 #0 10 2 -".to_owned(), "xdp eth0 8 #0 10 1 -".to_owned()];
        assert_eq!(found_in(&reported, &[7, 8]).0, both);
        assert_eq!(found_in(&reported, &[7]).0, both, "the other namespace is not scanned");
        assert_eq!(found_in(&reported, &[]).0, both);
    }

    #[test]
    fn a_link_in_an_unknown_namespace_is_located_if_there_is_one_possibility() {
        let unnamed = || Some(Target::Device(Device { ifindex: 2, name: None }));
        let links = [1, 2].map(|id| link(id, link_type::XDP, None, 10, unnamed()));
        let text = |expected: &[&str]| expected.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        for (links, namespaces, expected, located) in [
            (&links[..1], &[7][..], text(&["xdp eth0 7 #0 10 1 -"]), vec![1]),
            (&links[..1], &[], text(&["xdp 2 - #- 10 1 -"]), vec![]),
            (&links[..1], &[7, 8], text(&["xdp eth0 7 #0 10 - -", "xdp eth0 8 #0 10 - -"]), vec![]),
            (&links, &[7, 8], text(&["xdp eth0 7 #0 10 - -", "xdp eth0 8 #0 10 - -"]), vec![]),
            (&links, &[7], text(&["xdp 2 - #- 10 1 -", "xdp 2 - #- 10 2 -", "xdp eth0 7 #0 10 - -"]), vec![]),
        ] {
            assert_eq!(found_in(links, namespaces), (expected, located), "{namespaces:?}");
        }
    }

    #[test]
    fn a_program_attached_twice_without_a_link_is_reported_once() {
        let mut attachments = Attachments::default();
        let tc = || point("tc_ingress", device("eth0", 2), Some(7));
        for (order, program) in [(0, 20), (1, 20), (2, 21)] {
            attachments.add_one(tc(), order, program);
        }
        assert_eq!(lines(attachments), ["tc_ingress eth0 7 #0 20 - -", "tc_ingress eth0 7 #2 21 - -"]);
    }
}
