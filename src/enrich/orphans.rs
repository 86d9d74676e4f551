//! Orphaned objects: held by no process, pin, link or hook, nor by another object that is held itself.
//! Entry point: [`Orphans::update`].

use std::collections::HashSet;

use super::unheld::UnheldSince;
use crate::ascending::Ascending;
use crate::model::{AttachmentScan, BootTime, Content, Holders, Kind, Object, Orphan, Snapshot};

/// Remembers since when which object has been without a holder.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    unheld: UnheldSince,
    /// The end of the first search.
    began: Option<BootTime>,
    /// `None` before the first scan of hooks and pins that began after a search.
    orphaned: Option<Orphaned>,
}

/// The orphaned objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Orphaned {
    /// With the moment since when, in ascending order.
    objects: Vec<(Object, BootTime)>,
    /// Whether it is unknown which maps a program uses: then any map may be used, and may hold others.
    unknown_uses: bool,
}

impl Orphaned {
    /// Returns the number of a kind; `None` if it cannot be known.
    pub(super) fn of(&self, kind: Kind) -> Option<usize> {
        let of_kind = self.objects.iter().filter(|(object, _)| object.kind == kind);
        (kind != Kind::Map || !self.unknown_uses).then(|| of_kind.count())
    }

    /// Returns each of them.
    pub(super) fn list(&self) -> Vec<Orphan> {
        let orphan = |&(Object { kind, id }, since)| Orphan { kind, id, since, last_owner: None };
        self.objects.iter().map(orphan).collect()
    }
}

impl Orphans {
    /// Counts the orphaned objects of a reading, with the holders that a search found until `searched_until`.
    ///
    /// Hooks and pins are scanned less often than everything else is read, so an object counts only if both scans began after a
    /// search that found it without another holder: it may be about to be attached or pinned.
    ///
    /// Without a scan it only remembers which objects have no other holder, for the first scan to decide.
    pub(super) fn update(
        &mut self,
        snapshot: &Snapshot,
        holders: &Holders,
        scan: Option<&AttachmentScan>,
        searched_until: BootTime,
        pins_taken_at: BootTime,
    ) {
        self.unheld.update(&unreachable_objects(snapshot, holders, scan), searched_until);
        let began = *self.began.get_or_insert(searched_until);
        let scanned_at = scan.map(|scan| scan.taken_at.min(pins_taken_at));
        // A scan that began before the first search proves nothing of any object.
        self.orphaned = scanned_at.filter(|&scanned_at| scanned_at >= began).map(|scanned_at| {
            let unknown_uses = !snapshot.knows_map_uses();
            let mut objects: Vec<_> = self.unheld.before(scanned_at).collect();
            objects.sort_unstable();
            Orphaned { objects, unknown_uses }
        });
    }

    /// Returns the orphans of the last update; `None` before one with a scan of hooks that began after a search.
    pub(super) const fn orphaned(&self) -> Option<&Orphaned> {
        self.orphaned.as_ref()
    }
}

/// Returns the objects of a snapshot that no holder reaches.
fn unreachable_objects(
    snapshot: &Snapshot,
    holders: &Holders,
    scan: Option<&AttachmentScan>,
) -> HashSet<Object> {
    let mut graph = HolderGraph::new(snapshot, scan);
    for kind in Kind::ALL {
        graph.hold(
            holders.of(kind).iter().filter(|holder| holder.held_by.keeps()).map(|holder| (kind, holder.id)),
        );
    }
    graph.hold(snapshot.pins.iter().flatten().map(|pin| (pin.kind, pin.id)));
    // A link holds its program even if nothing holds the link.
    let linked = snapshot.links.iter().flatten().filter_map(|link| link.facts.prog_id);
    graph.hold(linked.map(|id| (Kind::Program, id)));
    let hooks = || scan.into_iter().flat_map(|scan| &scan.hooks);
    graph.hold(hooks().filter_map(|hook| Some((Kind::Program, hook.prog_id?))));
    graph.hold(hooks().filter_map(|hook| Some((Kind::Map, hook.map_id?))));
    // Programs of these types may be attached where the scan could not query.
    let programs = snapshot.programs.iter().flatten().map(|program| &program.facts);
    graph.hold(
        programs
            .filter(|facts| scan.is_some_and(|scan| scan.unqueryable.contains(&facts.program_type.number)))
            .map(|facts| (Kind::Program, facts.id)),
    );
    if !snapshot.knows_map_uses() {
        graph.hold(snapshot.ids(Kind::Map).into_iter().map(|id| (Kind::Map, id)));
    }
    // The kernel holds its own type information.
    let own = snapshot.btfs.iter().flatten().filter(|btf| btf.kernel == Some(true));
    graph.hold(own.map(|btf| (Kind::Btf, btf.id)));
    graph.propagate();
    graph.unheld()
}

/// Which object holds which. Objects are addressed by their index in the table of their kind.
struct HolderGraph<'a> {
    snapshot: &'a Snapshot,
    contents: Vec<Content>,
    ids: [Ascending<u32>; Kind::ALL.len()],
    held: [Vec<bool>; Kind::ALL.len()],
    /// Held objects whose own references have not been followed yet.
    pending: Vec<(Kind, usize)>,
}

impl<'a> HolderGraph<'a> {
    fn new(snapshot: &'a Snapshot, scan: Option<&AttachmentScan>) -> Self {
        let ids = Kind::ALL.map(|kind| snapshot.ids(kind));
        let held = ids.each_ref().map(|ids| vec![false; ids.len()]);
        let mut contents = scan.map(|scan| scan.contents.clone()).unwrap_or_default();
        contents.sort_unstable();
        let ids = ids.map(|ids| Ascending::new(ids, |&id| id));
        Self { snapshot, contents, ids, held, pending: Vec::new() }
    }

    fn hold(&mut self, objects: impl IntoIterator<Item = (Kind, u32)>) {
        for (kind, id) in objects {
            let ids = &self.ids[kind as usize];
            // An object that was created after its table was read is not in it.
            if ids.seek(id).is_some() {
                let index = ids.position(id);
                if !std::mem::replace(&mut self.held[kind as usize][index], true) {
                    self.pending.push((kind, index));
                }
            }
        }
    }

    /// Holds everything that held objects refer to.
    fn propagate(&mut self) {
        while let Some((kind, index)) = self.pending.pop() {
            match kind {
                Kind::Program => {
                    let Some(program) = self.snapshot.programs.as_ref().map(|programs| &programs[index])
                    else {
                        continue;
                    };
                    self.hold(program.facts.map_ids.iter().flatten().map(|&id| (Kind::Map, id)));
                    self.hold(program.facts.btf_id.map(|id| (Kind::Btf, id)));
                }
                Kind::Map => {
                    let Some(map) = self.snapshot.maps.as_ref().map(|maps| &maps[index]) else { continue };
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

    fn unheld(&self) -> HashSet<Object> {
        let of_kind = |kind: Kind| {
            let objects = self.ids[kind as usize].rows().iter().zip(&self.held[kind as usize]);
            objects.filter(|&(_, &held)| !held).map(move |(&id, _)| Object { kind, id })
        };
        Kind::ALL.into_iter().flat_map(of_kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{btf, holder, link, map, pin, process, program, second, snapshot};
    use super::*;
    use crate::model::{HeldBy, Hook};

    fn scan(taken_at: u64) -> AttachmentScan {
        AttachmentScan {
            taken_at: second(taken_at),
            hooks: Vec::new(),
            contents: Vec::new(),
            attach_points: Vec::new(),
            namespaces: Vec::new(),
            unqueryable: Vec::new(),
            complete: true,
        }
    }

    fn hook(prog_id: u32) -> Hook {
        Hook {
            hook: "tc_ingress".into(),
            target: None,
            netns: None,
            position: Some(0),
            priority: None,
            prog_id: Some(prog_id),
            link_id: None,
            map_id: None,
        }
    }

    fn ids(objects: &HashSet<Object>, kind: Kind) -> Vec<u32> {
        let mut ids: Vec<_> =
            objects.iter().filter(|object| object.kind == kind).map(|object| object.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn objects_reached_from_processes_pins_links_and_hooks_are_held() {
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
        let mut scan = scan(2_000);
        scan.hooks = vec![hook(4)];
        // A held prog_array holds a program; an orphan of the same kind does not.
        scan.contents = vec![
            Content { map_id: 11, kind: Kind::Program, id: 5 },
            Content { map_id: 16, kind: Kind::Program, id: 6 },
        ];
        let orphans = unreachable_objects(&snapshot, &holders, Some(&scan));
        assert_eq!(
            ids(&orphans, Kind::Program),
            [6],
            "a program and a map that only hold each other are orphaned"
        );
        assert_eq!(ids(&orphans, Kind::Map), [10, 16, 17], "paying for a map does not hold it");
        assert_eq!(ids(&orphans, Kind::Link), [20]);
        assert_eq!(ids(&orphans, Kind::Btf), [31]);
    }

    #[test]
    fn objects_count_once_they_had_no_holder_before_the_scan() {
        let mut orphans = Orphans::default();
        let mut count = |snapshot: &Snapshot, holders: &Holders, scan: &AttachmentScan| {
            orphans.update(snapshot, holders, Some(scan), snapshot.taken_at, second(1_013));
            orphans.orphaned().and_then(|counts| counts.of(Kind::Program))
        };
        let holders = Holders::default();
        let mut snapshot = snapshot(vec![program(1, &[])], Vec::new(), Vec::new());
        snapshot.taken_at = second(1_000);
        assert_eq!(count(&snapshot, &holders, &scan(990)), None, "the scan began before the first search");
        snapshot.taken_at = second(1_010);
        assert_eq!(count(&snapshot, &holders, &scan(1_005)), Some(1));
        let held = Holders { programs: vec![holder(1, HeldBy::Process, process(1))], ..Holders::default() };
        assert_eq!(count(&snapshot, &held, &scan(1_005)), Some(0));
        snapshot.taken_at = second(1_020);
        assert_eq!(count(&snapshot, &holders, &scan(1_015)), Some(0), "it had a holder in between");
        assert_eq!(count(&snapshot, &holders, &scan(1_021)), Some(0), "it may have been pinned since");
    }

    #[test]
    fn the_first_scan_counts_objects_without_a_holder_in_the_reading_before() {
        let mut orphans = Orphans::default();
        let mut snapshot = snapshot(vec![program(1, &[])], Vec::new(), Vec::new());
        orphans.update(&snapshot, &Holders::default(), None, second(1_000), second(1_000));
        assert!(orphans.orphaned().is_none(), "hooks were not scanned yet");
        snapshot.taken_at = second(1_010);
        orphans.update(&snapshot, &Holders::default(), Some(&scan(1_001)), second(1_010), second(1_002));
        assert_eq!(orphans.orphaned().and_then(|counts| counts.of(Kind::Program)), Some(1));
    }

    #[test]
    fn no_map_is_orphaned_while_the_maps_of_a_program_are_unknown() {
        let mut snapshot =
            snapshot(vec![program(1, &[10]), program(2, &[])], vec![map(10), map(11)], Vec::new());
        let counts = |snapshot: &Snapshot| {
            let mut orphans = Orphans::default();
            let holders =
                Holders { programs: vec![holder(1, HeldBy::Process, process(1))], ..Holders::default() };
            // A map of programs may be the one that is used.
            let contents = vec![Content { map_id: 11, kind: Kind::Program, id: 2 }];
            let scan = AttachmentScan { contents, ..scan(1_001) };
            orphans.update(snapshot, &holders, Some(&scan), second(1_000), second(1_001));
            let counts = orphans.orphaned().expect("hooks were scanned");
            [counts.of(Kind::Program), counts.of(Kind::Map)]
        };
        assert_eq!(counts(&snapshot), [Some(1), Some(1)]);
        let facts = &mut snapshot.programs.as_mut().expect("they are there")[0].facts;
        std::sync::Arc::make_mut(facts).map_ids = None;
        assert_eq!(counts(&snapshot), [Some(0), None]);
    }
}
