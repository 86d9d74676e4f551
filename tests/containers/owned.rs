//! Owners of the objects of a container, while names are looked up in the background.

use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{HeldBy, Holder, IdentifiedBy, Kind, Owner, Snapshot};

use super::host::SOON;
use test_support::background_lookup::BackgroundLookup;
use test_support::objects::wait_until;

/// Collects a map and a program of this name.
pub(crate) struct Watched<'a> {
    name: &'a str,
    lookup: &'a BackgroundLookup,
    enricher: Enricher,
}

fn word(owner: &Owner) -> String {
    format!("{} {}", owner.kind().as_str(), owner.name())
}

impl<'a> Watched<'a> {
    pub(crate) fn new(name: &'a str, lookup: &'a BackgroundLookup) -> Self {
        let enricher = Enricher::new(Reader::default(), EnrichOptions::default(), lookup.names.clone());
        Self { name, lookup, enricher }
    }

    /// Returns ids and owners of the map and the program, if both are reported; no owner while its name is looked up.
    fn found(&self, snapshot: &Snapshot) -> Option<[(u32, Option<String>); 2]> {
        let map = snapshot.maps.iter().flatten().find(|map| map.facts.name == self.name)?;
        let program = snapshot.programs.iter().flatten().find(|row| row.facts.name == self.name)?;
        let row = |id, owner: Option<&Owner>| (id, owner.map(word));
        Some([row(map.facts.id, map.owner.as_deref()), row(program.facts.id, program.owner.as_deref())])
    }

    /// Reads until both have this owner, and asserts that this process of a container holds both, and that the container's cgroup is
    /// the creator of the map.
    pub(crate) fn assert_owned(&mut self, wanted: &str, container: &str, pid: u32) {
        let lookup = self.lookup;
        let (snapshot, [(map, _), (program, _)]) = lookup.until(&format!("{wanted} is reported"), || {
            let snapshot = self.enricher.read();
            let found = self.found(&snapshot)?;
            for owner in found.iter().filter_map(|(_, owner)| owner.as_deref()) {
                assert_eq!(owner, wanted, "it has no other name before");
            }
            found.iter().all(|(_, owner)| owner.is_some()).then_some((snapshot, found))
        });
        let holders = snapshot.holders.as_ref().expect("root may read them");
        let row = |holder: &Holder| {
            let process = holder.owner.process.as_ref().map(|process| process.pid);
            let container = holder.owner.container.as_ref().expect("it is in one");
            (holder.held_by, word(&holder.owner), process, container.id.clone())
        };
        let rows = |kind, id| -> Vec<_> {
            holders.of(kind).iter().filter(|holder| holder.id == id).map(row).collect()
        };
        let by_process = (HeldBy::Process, wanted.to_owned(), Some(pid), container.to_owned());
        let by_creator = (HeldBy::Creator, wanted.to_owned(), None, container.to_owned());
        assert_eq!(rows(Kind::Program, program), std::slice::from_ref(&by_process));
        assert_eq!(rows(Kind::Map, map), [by_process, by_creator]);
        let totals: Vec<_> = snapshot.owners.iter().filter(|total| word(&total.owner) == wanted).collect();
        let [total] = totals[..] else { panic!("it is reported once: {totals:?}") };
        assert_eq!((total.programs, total.maps, total.links), (Some(1), Some(1), Some(0)));
        assert!(total.mem.is_some_and(|bytes| bytes > 0));
        assert_eq!(total.owner.identified_by, Some(IdentifiedBy::Path));
    }

    /// Reads until neither is reported, nor an owner of this name.
    pub(crate) fn assert_gone(&mut self, owner: &str) {
        wait_until(&format!("nothing of {owner} is left"), SOON, || {
            let snapshot = self.enricher.read();
            let named = |name: &str| name == self.name;
            Ok(!snapshot.maps.iter().flatten().any(|map| named(&map.facts.name))
                && !snapshot.programs.iter().flatten().any(|program| named(&program.facts.name))
                && !snapshot.owners.iter().any(|total| word(&total.owner) == owner))
        })
        .expect("the container is removed");
    }
}
