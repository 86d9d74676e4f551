//! Holders where not every process is visible.

use std::process::{Command, Stdio};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::{
    Capability, Feature, HeldBy, Kind, OwnerKind, Part, ReaderKind, Reason, Snapshot,
};
use test_support::objects::{Link, Map, Mount, Program, uapi, wait_until};
use test_support::readers;
use test_support::running::Running;

use super::helper::{Limit, Readings, read_with};
use crate::owners::{SOON, copy};

/// Returns the processes that hold an object, by name.
fn holders(snapshot: &Snapshot, kind: Kind, id: u32) -> Vec<String> {
    let holders = snapshot.holders.iter().flat_map(|holders| holders.of(kind));
    let holders = holders.filter(|holder| (holder.id, holder.held_by) == (id, HeldBy::Process));
    holders.filter_map(|holder| Some(holder.owner.process.as_ref()?.name.clone())).collect()
}

pub(super) fn reason(snapshot: &Snapshot, feature: Feature) -> Option<Reason> {
    snapshot.feature(feature).expect("it is reported").reason
}

/// Returns which backend read the holders.
pub(super) fn backend(snapshot: &Snapshot) -> Option<ReaderKind> {
    snapshot.collectors.iter().find(|collector| collector.part == Part::Holder)?.reader
}

/// Asserts that nothing is concluded from holders that were not found, and that those found are reported.
pub(super) fn assert_nothing_concluded(snapshot: &Snapshot) {
    assert!(snapshot.totals.iter().all(|total| total.orphaned.is_none()), "{:?}", snapshot.totals);
    let programs = snapshot.programs.iter().flatten().filter_map(|program| program.owner.as_ref());
    let maps = snapshot.maps.iter().flatten().filter_map(|map| map.owner.as_ref());
    let links = snapshot.links.iter().flatten().filter_map(|link| link.owner.as_ref());
    let mut owners = programs.chain(maps).chain(links);
    assert!(owners.all(|owner| owner.kind() != OwnerKind::Kernel), "nobody knows that it is the kernel");
    let owners = &snapshot.owners;
    assert!(owners.iter().all(|total| total.owner.kind() != OwnerKind::Kernel), "{owners:?}");
}

/// Asserts that a backend either sees the process that holds a program, or says that it does not see all, by a limit or a failure,
/// and concludes nothing.
fn assert_honest(snapshot: &Snapshot, program: u32) {
    if snapshot.sees_all(Feature::Processes) {
        let holders = holders(snapshot, Kind::Program, program);
        assert!(holders.contains(&"sleep".to_owned()), "{holders:?}");
    } else {
        assert_nothing_concluded(snapshot);
    }
}

/// Has a process that is outside of the view hold a program, and reads.
fn with_hidden_holder(limit: Limit, expected: Reason) -> Readings {
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "seldom_seen").expect("it can be loaded");
    let holder = sleep_holding(copy(program.fd()));
    // A root process that is not more capable could be read all the same.
    let readings = read_with(limit);
    drop(holder);
    assert_eq!(reason(&readings.walk, Feature::Processes), Some(expected));
    assert_nothing_concluded(&readings.walk);
    for snapshot in [&readings.iterators, &readings.walk] {
        assert_honest(snapshot, program.id());
    }
    readings
}

/// Starts a process that holds an object, and waits until it is another program than this one.
fn sleep_holding(object: impl Into<Stdio>) -> Running {
    let sleep = Running(Command::new("sleep").arg("60").stdin(object).spawn().expect("it starts"));
    let name = format!("/proc/{}/comm", sleep.0.id());
    wait_until("it sleeps", SOON, || Ok(std::fs::read(&name)? == b"sleep\n")).expect("it does");
    sleep
}

pub(crate) fn pid_namespace() {
    let readings = with_hidden_holder(Limit::PidNamespace, Reason::PidNamespace);
    let snapshot = &readings.walk;
    assert_eq!(reason(snapshot, Feature::PerfEventHooks), Some(Reason::PidNamespace));
    // Failures are counted apart, and there was none.
    assert!(snapshot.issues.iter().all(|issue| issue.part != Part::Holder), "{:?}", snapshot.issues);
    let collector = snapshot.collectors.iter().find(|collector| collector.part == Part::Holder);
    assert!(collector.expect("it is reported").success, "everything that can be seen was read");
}

pub(crate) fn hidepid() {
    let readings = with_hidden_holder(Limit::Hidepid, Reason::Hidepid);
    if backend(&readings.iterators) == Some(ReaderKind::Iter) {
        assert_eq!(reason(&readings.iterators, Feature::Processes), None, "iterators need no /proc");
    }
}

pub(crate) fn untraceable() {
    let missing = Reason::Missing(Capability::SysPtrace);
    let readings = with_hidden_holder(Limit::Untraceable, missing);
    assert_eq!(reason(&readings.walk, Feature::PerfEventHooks), Some(missing));
    assert_eq!(reason(&readings.walk, Feature::ExecutableNames), Some(missing));
    if backend(&readings.iterators) == Some(ReaderKind::Iter) {
        assert_eq!(reason(&readings.iterators, Feature::Processes), None, "iterators need no such right");
    }
}

pub(crate) fn reopened_links() {
    let directory = tempfile::TempDir::new().expect("a temporary directory can be created");
    let _bpffs = Mount::visible(c"bpf", directory.path()).expect("it can be mounted");
    let (by_id, by_pin) = (Link::iter().expect("it can be made"), Link::iter().expect("it can be made"));
    let pin = by_pin.pin(&directory.path().join("link")).expect("it can be pinned");
    let opened = [by_id.open_by_id(), pin.open()].map(|fd| fd.expect("root may open it"));
    drop(pin);
    let _holders = opened.map(sleep_holding);
    for reader in [readers::best(), readers::by_ids()] {
        let snapshot = Enricher::new(reader, EnrichOptions::default(), NameCache::default()).read();
        for link in [&by_id, &by_pin] {
            let holders = holders(&snapshot, Kind::Link, link.id());
            assert!(holders.contains(&"sleep".to_owned()), "{holders:?}");
        }
    }
    // The same for a map, whose name has one spelling.
    let map = Map::ready(uapi::map_type::ARRAY, "spelt").expect("it can be made");
    let _holder = sleep_holding(copy(map.fd()));
    let snapshot = Enricher::new(readers::by_ids(), EnrichOptions::default(), NameCache::default()).read();
    assert!(holders(&snapshot, Kind::Map, map.id()).contains(&"sleep".to_owned()));
}
