//! The cgroup of a holder: by the iterator, which reports its id, and by `/proc`.

use bpf_metrics_exporter::model::{HeldBy, Kind, Snapshot};

use super::SOON;
use super::holders::{array, enrichers, sleeping};
use super::scene::Group;
use test_support::objects::wait_until;

/// Returns the units of the processes that hold a map.
fn units(snapshot: &Snapshot, map: u32) -> Vec<Option<String>> {
    let holders = snapshot.holders.as_ref().expect("root may know");
    let holders = holders.of(Kind::Map).iter();
    let holders = holders.filter(|holder| (holder.id, holder.held_by) == (map, HeldBy::Process));
    holders.map(|holder| holder.owner.unit.clone()).collect()
}

pub(crate) fn moved() {
    let mut enrichers = enrichers();
    let map = array();
    let names = ["first.service", "second.service"];
    let groups = ["first", "second"].map(|name| Group::new(name, &format!("{name}.service")));
    let holder = sleeping(map.fd());
    // Back in the first one it has the first unit again.
    for at in [0, 1, 0] {
        groups[at].take_in(&holder);
        let unit = names[at];
        let mut found = Vec::new();
        let agreed = wait_until("the unit is known", SOON, || {
            found = enrichers.iter_mut().map(|enricher| units(&enricher.read(), map.id())).collect();
            Ok(found.iter().all(|units| *units == [Some(unit.to_owned())]))
        });
        agreed.unwrap_or_else(|error| panic!("{error}: {unit}, but {found:?}"));
    }
}
