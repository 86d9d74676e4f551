//! In which cgroup a holder is: by the iterator, which tells a cgroup by its id, and by `/proc`.

use std::time::Duration;

use bpf_metrics_exporter::model::{HeldBy, Kind, Snapshot};

use super::holders::{array, roads, sleeping};
use super::memory_cgroup::{Group, enter};
use super::objects::wait_until;

const SOON: Duration = Duration::from_secs(20);

/// The units of the processes that hold a map.
fn units(snapshot: &Snapshot, map: u32) -> Vec<Option<String>> {
    let holders = snapshot.holders.as_ref().expect("root may know");
    let holders = holders.of(Kind::Map).iter();
    let holders = holders.filter(|holder| (holder.id, holder.held_by) == (map, HeldBy::Process));
    holders.map(|holder| holder.owner.unit.clone()).collect()
}

pub(crate) fn moved() {
    let mut roads = roads();
    let map = array();
    let groups = ["first.service", "second.service"].map(Group::new);
    let holder = sleeping(map.fd());
    // Back in the first one it is what it was.
    for group in [&groups[0], &groups[1], &groups[0]] {
        enter(&group.directory, holder.0.id());
        let unit = group.path.trim_start_matches('/');
        let mut said = Vec::new();
        let agreed = wait_until("the unit is known", SOON, || {
            said = roads.iter_mut().map(|road| units(&road.read(), map.id())).collect();
            Ok(said.iter().all(|units| *units == [Some(unit.to_owned())]))
        });
        agreed.unwrap_or_else(|error| panic!("{error}: {unit}, but {said:?}"));
    }
}
