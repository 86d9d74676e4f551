//! What hangs where, put together from links and from what the kernel said of places, so that nothing is told twice.
//! Asks nobody. Begin at [`Hanging`].

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::model::enums::{link_type, program_type};
use crate::model::{Hook, LinkFacts};
use crate::sys::bpf::Attached;

/// A hook and what it is at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// See [`Hook::hook`].
    pub(crate) hook: Cow<'static, str>,
    /// See [`Hook::target`].
    pub(crate) target: Option<Arc<str>>,
    /// See [`Hook::netns`].
    pub(crate) netns: Option<Arc<str>>,
}

/// Something that hangs somewhere.
#[derive(Clone, Debug)]
struct Row {
    place: Place,
    /// The smaller comes first.
    order: i64,
    program: Option<u32>,
    link: Option<u32>,
    map: Option<u32>,
}

/// What hangs where, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Hanging {
    /// Those of links, as long as no place that was asked has claimed them.
    links: Vec<Option<Row>>,
    by_id: HashMap<u32, usize>,
    by_place: HashMap<(Cow<'static, str>, String, u32), VecDeque<usize>>,
    /// The targets of links.
    targets: HashSet<Arc<str>>,
    rows: Vec<Row>,
    found: HashSet<u32>,
    /// The targets of cgroups and maps that were asked, by the hook. The link of one that did not name its program is gone.
    asked: HashMap<String, HashSet<Arc<str>>>,
}

impl Hanging {
    /// What links keep attached, ascending by their ids. `type_of` tells the type of a program.
    pub(crate) fn from_links<'a>(
        links: impl IntoIterator<Item = &'a Arc<LinkFacts>>,
        type_of: impl Fn(u32) -> Option<u32>,
    ) -> Self {
        let mut hanging = Self::default();
        for facts in links {
            let Some(row) = of_link(facts, facts.prog_id.and_then(&type_of)) else { continue };
            let index = hanging.links.len();
            hanging.by_id.insert(facts.id, index);
            if let (Some(program), Some(target)) = (row.program, &row.place.target) {
                let key = (row.place.hook.clone(), comparable(&row.place.hook, target), program);
                hanging.by_place.entry(key).or_default().push_back(index);
            }
            hanging.targets.extend(row.place.target.clone());
            hanging.links.push(Some(row));
        }
        hanging
    }

    /// What the kernel said of a place, in the order in which it runs them. The link is found where the kernel does not tell it:
    /// the first that attaches this program there. An interface is known by its index only, so that a program that links attach
    /// to interfaces of the same index in several network namespaces may get the link of another of them.
    pub(crate) fn add(&mut self, place: &Place, attached: &Attached) {
        for (order, &program) in (0..).zip(&attached.programs) {
            let told = attached.links.get(usize::try_from(order).unwrap_or(usize::MAX)).copied();
            let link = match told {
                Some(0) => None,
                Some(id) => self.claim_id(id).or(Some(id)),
                None => self.claim(place, program),
            };
            self.put(place.clone(), order, Some(program), link, None);
        }
    }

    /// A program of which only its place among the others there is known; its link is found as in [`Self::add`].
    pub(crate) fn add_one(&mut self, place: Place, order: i64, program: u32) {
        let link = self.claim(&place, program);
        self.put(place, order, Some(program), link, None);
    }

    /// A program that no link keeps there. One that is there already is not told again: a perf event can have several descriptors.
    pub(crate) fn add_event(&mut self, place: Place, program: u32) {
        let there = |row: &Row| row.program == Some(program) && row.place == place;
        if !self.rows.iter().any(there) && !self.links.iter().flatten().any(there) {
            self.put(place, 0, Some(program), None, None);
        }
    }

    /// A map of struct operations that is registered, which a link may keep so.
    pub(crate) fn add_map(&mut self, place: Place, map: u32) {
        let of_map = |row: &Option<Row>| row.as_ref().is_some_and(|row| row.map == Some(map));
        let link = self.links.iter().position(of_map);
        let link = link.and_then(|index| self.links[index].take()).and_then(|row| row.link);
        self.put(place, 0, None, link, Some(map));
    }

    /// That a cgroup, a network namespace or a map was asked: a link that was there and did not show is not there any more.
    pub(crate) fn was_asked(&mut self, hook: &str, target: &Arc<str>) {
        if self.targets.contains(target) {
            self.asked.entry(hook.to_owned()).or_default().insert(Arc::clone(target));
        }
    }

    /// Whether a link keeps a map attached.
    pub(crate) fn has_map(&self, map: u32) -> bool {
        self.links.iter().flatten().any(|row| row.map == Some(map))
    }

    /// Whether a program hangs somewhere, as far as it is known now.
    pub(crate) fn has(&self, program: u32) -> bool {
        self.found.contains(&program)
    }

    fn put(&mut self, place: Place, order: i64, program: Option<u32>, link: Option<u32>, map: Option<u32>) {
        self.found.extend(program);
        self.rows.push(Row { place, order, program, link, map });
    }

    fn claim(&mut self, place: &Place, program: u32) -> Option<u32> {
        let key = (place.hook.clone(), comparable(&place.hook, place.target.as_deref()?), program);
        let waiting = self.by_place.get_mut(&key)?;
        while let Some(index) = waiting.pop_front() {
            if let Some(row) = self.links[index].take() {
                return row.link;
            }
        }
        None
    }

    fn claim_id(&mut self, id: u32) -> Option<u32> {
        self.links[*self.by_id.get(&id)?].take().and_then(|row| row.link)
    }

    /// All of it, by hook, namespace and target, and then in the order in which it runs: where that is not known, by the ids of
    /// links, and then those without one by the ids of programs.
    pub(crate) fn into_hooks(self) -> Vec<Hook> {
        let asked = &self.asked;
        let stale = |row: &Row| {
            let targets = asked.get(&*row.place.hook).zip(row.place.target.as_ref());
            targets.is_some_and(|(targets, target)| targets.contains(target))
        };
        let mut rows: Vec<Row> = self.links.into_iter().flatten().filter(|row| !stale(row)).collect();
        rows.extend(self.rows);
        let ids = |row: &Row| (row.link.unwrap_or(u32::MAX), row.program, row.map);
        rows.sort_by(|a, b| {
            let place =
                |row: &Row| (row.place.hook.clone(), row.place.netns.clone(), row.place.target.clone());
            place(a).cmp(&place(b)).then_with(|| (a.order, ids(a)).cmp(&(b.order, ids(b))))
        });
        let mut hooks: Vec<Hook> = Vec::with_capacity(rows.len());
        for Row { place: Place { hook, target, netns }, program, link, map, .. } in rows {
            let before =
                hooks.last().filter(|last| last.hook == hook && last.target == target && last.netns == netns);
            let position = before.map_or(0, |last| last.position + 1);
            let (prog_id, link_id, map_id) = (program, link, map);
            hooks.push(Hook { hook, target, netns, position, prog_id, link_id, map_id });
        }
        hooks
    }
}

/// A target as far as two sources agree on it: of an interface only the index, since a link may have been named after another
/// network namespace's interface.
fn comparable(hook: &str, target: &str) -> String {
    match hook {
        "xdp" => index(target).unwrap_or(target).to_owned(),
        _ => target.to_owned(),
    }
}

/// The index in the words for an interface: `eth0 (2)`, `2`.
fn index(target: &str) -> Option<&str> {
    match target.strip_suffix(')') {
        Some(named) => named.rsplit_once(" (").map(|(_, index)| index),
        None => Some(target),
    }
}

/// Where a link attaches its program or its map. `None` for one that does not any more: these types of link tell their target
/// unless it is gone.
fn of_link(facts: &LinkFacts, program_type: Option<u32>) -> Option<Row> {
    let kind = facts.link_type.number;
    let tells = [
        link_type::CGROUP,
        link_type::NETNS,
        link_type::XDP,
        link_type::NETFILTER,
        link_type::TCX,
        link_type::NETKIT,
        link_type::STRUCT_OPS,
        link_type::SOCKMAP,
    ];
    if facts.target.is_none() && tells.contains(&kind) {
        return None;
    }
    let words = facts.attach_type.as_ref().unwrap_or(&facts.link_type);
    let mut hook = words.word_or_number();
    let mut target = facts.target.as_deref();
    let (mut order, mut map) = (0, None);
    match kind {
        link_type::PERF_EVENT => hook = Cow::Borrowed(event(program_type, target)),
        link_type::NETFILTER => {
            if let Some((place, priority)) = target.and_then(|target| target.rsplit_once(" priority ")) {
                (target, order) = (Some(place), priority.parse().unwrap_or(0));
            }
        }
        link_type::STRUCT_OPS => {
            map = target.and_then(|target| target.strip_prefix("map ")?.parse().ok());
        }
        _ => {}
    }
    if facts.prog_id.is_none() && map.is_none() {
        return None;
    }
    let place = Place { hook, target: target.map(Arc::from), netns: None };
    Some(Row { place, order, program: facts.prog_id, link: Some(facts.id), map })
}

/// Which kind of event a program of this type hangs at.
fn event(kind: Option<u32>, target: Option<&str>) -> &'static str {
    match (kind, target) {
        (Some(program_type::TRACEPOINT), _) => "tracepoint",
        (Some(program_type::KPROBE), Some(target)) => {
            match (target.starts_with('/'), target.ends_with("%return")) {
                (false, false) => "kprobe",
                (false, true) => "kretprobe",
                (true, false) => "uprobe",
                (true, true) => "uretprobe",
            }
        }
        _ => "perf_event",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::enums::attach_type;

    fn link(id: u32, kind: u32, attach_type: Option<u32>, prog_id: u32, target: &str) -> Arc<LinkFacts> {
        Arc::new(LinkFacts {
            id,
            link_type: link_type::from_number(kind),
            prog_id: (prog_id != 0).then_some(prog_id),
            attach_type: attach_type.map(attach_type::from_number),
            target: (!target.is_empty()).then(|| target.to_owned()),
            first_seen: Timestamp::UNIX_EPOCH,
        })
    }

    fn place(hook: &'static str, target: &str, netns: Option<&str>) -> Place {
        Place { hook: hook.into(), target: Some(target.into()), netns: netns.map(Arc::from) }
    }

    /// Each hook as one text: `hook target netns position program link map`.
    fn words(hanging: Hanging) -> Vec<String> {
        let or = |id: Option<u32>| id.map_or("-".to_owned(), |id| id.to_string());
        let line = |hook: Hook| {
            format!(
                "{} {} {} #{} {} {} {}",
                hook.hook,
                hook.target.as_deref().unwrap_or("-"),
                hook.netns.as_deref().unwrap_or("-"),
                hook.position,
                or(hook.prog_id),
                or(hook.link_id),
                or(hook.map_id)
            )
        };
        hanging.into_hooks().into_iter().map(line).collect()
    }

    #[test]
    fn links_alone_have_their_hook_and_the_order_of_their_ids_or_priorities() {
        let links = [
            link(1, link_type::CGROUP, Some(0), 10, "/a"),
            link(2, link_type::CGROUP, Some(0), 11, "/a"),
            link(3, link_type::CGROUP, Some(0), 12, ""),
            link(4, link_type::NETFILTER, None, 13, "ipv4 input priority 5"),
            link(5, link_type::NETFILTER, None, 14, "ipv4 input priority -5"),
            link(6, link_type::PERF_EVENT, None, 15, "tcp_connect%return"),
            link(7, link_type::PERF_EVENT, None, 15, "/bin/x:0x10"),
            link(8, link_type::PERF_EVENT, None, 15, ""),
            link(9, link_type::PERF_EVENT, None, 16, "sched:sched_switch"),
            link(10, link_type::STRUCT_OPS, None, 0, "map 17"),
            link(11, 99, None, 17, ""),
            link(12, link_type::XDP, None, 18, ""),
        ];
        let type_of = |program| match program {
            15 => Some(program_type::KPROBE),
            16 => Some(program_type::TRACEPOINT),
            _ => None,
        };
        assert_eq!(
            words(Hanging::from_links(&links, type_of)),
            [
                "99 - - #0 17 11 -",
                "cgroup_inet_ingress /a - #0 10 1 -",
                "cgroup_inet_ingress /a - #1 11 2 -",
                "kretprobe tcp_connect%return - #0 15 6 -",
                "netfilter ipv4 input - #0 14 5 -",
                "netfilter ipv4 input - #1 13 4 -",
                "perf_event - - #0 15 8 -",
                "struct_ops map 17 - #0 - 10 17",
                "tracepoint sched:sched_switch - #0 16 9 -",
                "uprobe /bin/x:0x10 - #0 15 7 -",
            ]
        );
    }

    #[test]
    fn what_the_kernel_says_of_a_place_is_merged_with_its_links() {
        let links = [
            link(1, link_type::CGROUP, Some(0), 10, "/a"),
            link(2, link_type::CGROUP, Some(0), 10, "/a"),
            link(3, link_type::CGROUP, Some(0), 11, "/a"),
            link(4, link_type::TCX, Some(46), 12, "eth0 (2)"),
            link(5, link_type::TCX, Some(46), 12, "eth0 (2)"),
            link(6, link_type::XDP, None, 13, "ours (2)"),
            link(7, link_type::STRUCT_OPS, None, 0, "map 17"),
        ];
        let mut hanging = Hanging::from_links(&links, |_| None);
        let attached =
            |programs: &[u32], links: &[u32]| Attached { programs: programs.to_vec(), links: links.to_vec() };
        let cgroup = place("cgroup_inet_ingress", "/a", None);
        hanging.add(&cgroup, &attached(&[20, 10, 10, 10], &[]));
        hanging.was_asked(&cgroup.hook, &"/a".into());
        hanging.add(&place("tcx_ingress", "eth0 (2)", Some("7")), &attached(&[21, 12], &[0, 5]));
        hanging.add_one(place("xdp", "theirs (2)", Some("7")), 2, 13);
        hanging.add_one(place("xdp", "theirs (3)", Some("7")), 2, 13);
        hanging.add_map(place("struct_ops", "tcp_congestion_ops", None), 17);
        hanging.add_map(place("struct_ops", "tcp_congestion_ops", None), 18);
        for _ in 0..2 {
            hanging.add_event(place("kprobe", "f", None), 30);
        }
        assert!(hanging.has(20) && !hanging.has(11));
        assert_eq!(
            words(hanging),
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
