//! Which objects nobody holds: not a process, pin, link or hook, nor through another object that one of these holds.
//! Knows no more than a snapshot does, and what it saw in earlier ones. Begin at [`Unheld::count`].

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::ascending::Cursor;
use crate::model::{Content, Holders, HookLook, Kind, Snapshot};

/// Remembers since when which object is held by nobody.
#[derive(Debug, Default)]
pub(super) struct Unheld {
    /// The first reading in which it was so. An id that is used again before a look is made is taken for the same object, which is
    /// unheld just as well.
    since: HashMap<(Kind, u32), Timestamp>,
    /// How many objects of each kind nobody holds; `None` before they are counted.
    counts: Option<HashMap<Kind, usize>>,
}

impl Unheld {
    /// Counts the objects of each kind that nobody holds.
    ///
    /// The hooks are looked at less often than all else, so an object counts only when the look began after a reading that found
    /// it held by nobody else: one that is being attached is not lost.
    ///
    /// Without a look it only remembers what nobody else holds, so that the first look can tell.
    pub(super) fn count(&mut self, snapshot: &Snapshot, holders: &Holders, look: Option<&HookLook>) {
        let now = found(snapshot, holders, look);
        self.since.retain(|object, _| now.contains(object));
        let mut counts = HashMap::new();
        for object in now {
            let since = *self.since.entry(object).or_insert(snapshot.taken_at);
            if look.is_some_and(|look| since < look.taken_at) {
                *counts.entry(object.0).or_insert(0) += 1;
            }
        }
        self.counts = look.map(|_| counts);
    }

    /// How many objects of a kind nobody held when they were counted last. `None` before.
    pub(super) fn of(&self, kind: Kind) -> Option<usize> {
        let counts = self.counts.as_ref()?;
        Some(counts.get(&kind).copied().unwrap_or(0))
    }
}

/// The objects of a snapshot that nobody is known to hold.
fn found(snapshot: &Snapshot, holders: &Holders, look: Option<&HookLook>) -> HashSet<(Kind, u32)> {
    let mut graph = Graph::new(snapshot, look);
    for kind in Kind::ALL {
        graph.hold(
            holders.of(kind).iter().filter(|holder| holder.held_by.keeps()).map(|holder| (kind, holder.id)),
        );
    }
    graph.hold(snapshot.pins.iter().flatten().map(|pin| (pin.kind, pin.id)));
    // A link holds its program also when nobody holds the link.
    let linked = snapshot.links.iter().flatten().filter_map(|link| link.facts.prog_id);
    graph.hold(linked.map(|id| (Kind::Program, id)));
    let hooks = || look.into_iter().flat_map(|look| &look.hooks);
    graph.hold(hooks().filter_map(|hook| Some((Kind::Program, hook.prog_id?))));
    graph.hold(hooks().filter_map(|hook| Some((Kind::Map, hook.map_id?))));
    // Where these can hang nobody could be asked.
    let untold = snapshot.programs.iter().flatten().map(|program| &program.facts);
    graph.hold(
        untold
            .filter(|facts| look.is_some_and(|look| look.untold.contains(&facts.program_type.number)))
            .map(|facts| (Kind::Program, facts.id)),
    );
    // The kernel holds those of its own.
    let own = snapshot.btfs.iter().flatten().filter(|btf| btf.kernel == Some(true));
    graph.hold(own.map(|btf| (Kind::Btf, btf.id)));
    graph.spread();
    graph.rest()
}

/// What holds what. Every table is in ascending order, so that an object is found by its place in one.
struct Graph<'a> {
    snapshot: &'a Snapshot,
    contents: Vec<Content>,
    ids: [Vec<u32>; 4],
    at_ids: [Cursor; 4],
    held: [Vec<bool>; 4],
    /// Objects that are held, and whose own holdings have not been followed yet.
    waiting: Vec<(Kind, usize)>,
}

impl<'a> Graph<'a> {
    fn new(snapshot: &'a Snapshot, look: Option<&HookLook>) -> Self {
        let ids = Kind::ALL.map(|kind| snapshot.ids(kind));
        let held = ids.each_ref().map(|ids| vec![false; ids.len()]);
        let mut contents = look.map(|look| look.contents.clone()).unwrap_or_default();
        contents.sort_unstable();
        Self { snapshot, contents, ids, at_ids: Default::default(), held, waiting: Vec::new() }
    }

    fn hold(&mut self, objects: impl IntoIterator<Item = (Kind, u32)>) {
        for (kind, id) in objects {
            let ids = &self.ids[kind as usize];
            let place = self.at_ids[kind as usize].place(ids, |&other| other < id);
            // One that came after the table was read has no place.
            if ids.get(place) == Some(&id) && !std::mem::replace(&mut self.held[kind as usize][place], true) {
                self.waiting.push((kind, place));
            }
        }
    }

    /// Follows what is held to what that holds.
    fn spread(&mut self) {
        while let Some((kind, place)) = self.waiting.pop() {
            match kind {
                Kind::Program => {
                    let Some(program) = self.snapshot.programs.as_ref().map(|programs| &programs[place])
                    else {
                        continue;
                    };
                    self.hold(program.facts.map_ids.iter().flatten().map(|&id| (Kind::Map, id)));
                    self.hold(program.facts.btf_id.map(|id| (Kind::Btf, id)));
                }
                Kind::Map => {
                    let Some(map) = self.snapshot.maps.as_ref().map(|maps| &maps[place]) else { continue };
                    self.hold(map.facts.btf_id.map(|id| (Kind::Btf, id)));
                    let start = self.contents.partition_point(|content| content.map_id < map.facts.id);
                    let within =
                        self.contents[start..].iter().take_while(|content| content.map_id == map.facts.id);
                    let within: Vec<_> = within.map(|content| (content.kind, content.id)).collect();
                    self.hold(within);
                }
                Kind::Link | Kind::Btf => {}
            }
        }
    }

    fn rest(&self) -> HashSet<(Kind, u32)> {
        let of_kind = |kind: Kind| {
            let objects = self.ids[kind as usize].iter().zip(&self.held[kind as usize]);
            objects.filter(|&(_, &held)| !held).map(move |(&id, _)| (kind, id))
        };
        Kind::ALL.into_iter().flat_map(of_kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{btf, holder, link, map, pin, process, program, second, snapshot};
    use super::*;
    use crate::model::{HeldBy, Hook};

    fn look(taken_at: i64) -> HookLook {
        HookLook {
            taken_at: second(taken_at),
            hooks: Vec::new(),
            contents: Vec::new(),
            places: Vec::new(),
            untold: Vec::new(),
            complete: true,
        }
    }

    fn hook(prog_id: u32) -> Hook {
        Hook {
            hook: "tc_ingress".into(),
            target: None,
            netns: None,
            position: 0,
            prog_id: Some(prog_id),
            link_id: None,
            map_id: None,
        }
    }

    fn ids(unheld: &HashSet<(Kind, u32)>, kind: Kind) -> Vec<u32> {
        let mut ids: Vec<_> = unheld.iter().filter(|(of, _)| *of == kind).map(|&(_, id)| id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn what_a_process_a_pin_a_link_or_a_hook_reaches_is_held() {
        let programs = vec![
            program(1, &[11]),
            program(2, &[12]),
            program(3, &[13]),
            program(4, &[14]),
            program(5, &[15]),
            program(6, &[16]),
        ];
        let maps = (10..=17).map(map).collect();
        let mut snapshot = snapshot(programs, maps, vec![link(20, Some(3)), link(21, None)]);
        snapshot.btfs = Some(vec![btf(30, true), btf(31, false)]);
        let holders = Holders {
            programs: vec![holder(1, HeldBy::Process, process(1)), holder(2, HeldBy::Pin, pin("/a"))],
            maps: vec![holder(17, HeldBy::Creator, process(1))],
            links: vec![holder(21, HeldBy::Process, process(1))],
            btfs: Vec::new(),
        };
        let mut look = look(2_000);
        look.hooks = vec![hook(4)];
        // A held prog_array holds a program; an orphan of the same kind does not.
        look.contents = vec![
            Content { map_id: 11, kind: Kind::Program, id: 5 },
            Content { map_id: 16, kind: Kind::Program, id: 6 },
        ];
        let unheld = found(&snapshot, &holders, Some(&look));
        assert_eq!(
            ids(&unheld, Kind::Program),
            [6],
            "a program and a map that hold each other are held by nobody"
        );
        assert_eq!(ids(&unheld, Kind::Map), [10, 16, 17], "to have paid for a map does not keep it");
        assert_eq!(ids(&unheld, Kind::Link), [20]);
        assert_eq!(ids(&unheld, Kind::Btf), [31]);
    }

    #[test]
    fn only_what_was_unheld_before_the_look_counts() {
        let mut unheld = Unheld::default();
        let mut count = |snapshot: &Snapshot, holders: &Holders, look: &HookLook| {
            unheld.count(snapshot, holders, Some(look));
            unheld.of(Kind::Program)
        };
        let holders = Holders::default();
        let mut snapshot = snapshot(vec![program(1, &[])], Vec::new(), Vec::new());
        snapshot.taken_at = second(1_000);
        assert_eq!(count(&snapshot, &holders, &look(990)), Some(0), "it may have been attached since");
        snapshot.taken_at = second(1_010);
        assert_eq!(count(&snapshot, &holders, &look(1_005)), Some(1));
        let held = Holders { programs: vec![holder(1, HeldBy::Process, process(1))], ..Holders::default() };
        assert_eq!(count(&snapshot, &held, &look(1_005)), Some(0));
        snapshot.taken_at = second(1_020);
        assert_eq!(count(&snapshot, &holders, &look(1_015)), Some(0), "it was held meanwhile");
    }

    #[test]
    fn the_first_look_tells_of_what_was_unheld_in_the_reading_before() {
        let mut unheld = Unheld::default();
        let mut snapshot = snapshot(vec![program(1, &[])], Vec::new(), Vec::new());
        unheld.count(&snapshot, &Holders::default(), None);
        assert_eq!(unheld.of(Kind::Program), None, "nobody looked at the hooks yet");
        snapshot.taken_at = second(1_010);
        unheld.count(&snapshot, &Holders::default(), Some(&look(1_001)));
        assert_eq!(unheld.of(Kind::Program), Some(1));
    }
}
