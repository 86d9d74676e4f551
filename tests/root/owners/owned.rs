//! Objects owned by processes and by pins, in cgroups that identify no owner.

use std::fs;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::model::{Kind, OwnerKind, Snapshot};

use super::found::{assert_owned, enricher, held_by, owner, pids, read, total, wait_until_gone};
use super::helper;
use super::loader::{Loader, NAMES};
use super::scene::{Bpffs, Group};
use test_support::objects::Network;
use test_support::running::Running;

/// Returns the number of maps in the table, in the host's total and in those of all owners.
fn maps(snapshot: &Snapshot) -> [u64; 3] {
    let table = snapshot.maps.as_ref().expect("root may read it").len() as u64;
    let host = snapshot.totals.iter().find(|total| total.kind == Kind::Map).expect("they were read");
    let owners = snapshot.owners.iter().map(|total| total.maps.expect("they were read")).sum();
    [table, host.objects as u64, owners]
}

pub(crate) fn shared() {
    let group = Group::nameless("shared");
    let loader = Loader::begin(&group);
    let keepers = [loader.keeper(), loader.keeper()];
    for keeper in &keepers {
        group.take_in(keeper);
    }
    let [first, second] = keepers.each_ref().map(|keeper| keeper.0.id());
    let mut enricher = enricher(NameCache::default(), false);
    let its = loader.process.0.id();
    let made = loader.made;
    let snapshot = read(&mut enricher, made);
    let mut all = vec![its, first, second];
    all.sort_unstable();
    assert_eq!(pids(&snapshot, Kind::Map, made.map), all);
    let owned_by = loader.owner();
    assert_owned(&snapshot, made, &owned_by);
    let of_all = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    assert!(of_all.process.is_none(), "processes of one name are one owner");

    loader.exit();
    let snapshot = read(&mut enricher, made);
    let mut both = vec![first, second];
    both.sort_unstable();
    for (kind, id) in made.all() {
        assert_eq!(pids(&snapshot, kind, id), both);
        assert_eq!(held_by(&snapshot, kind, id), vec![format!("process {owned_by}"); 2]);
    }
    assert_owned(&snapshot, made, &owned_by);
    let counted = total(&snapshot, &of_all).expect("it has something");
    assert_eq!((counted.programs, counted.maps, counted.links), (Some(1), Some(1), Some(1)));
    let [table, host, by_owners] = maps(&snapshot);
    assert_eq!((host, by_owners), (table, table), "each map counts once");

    let [one, other] = keepers;
    drop(one);
    let snapshot = read(&mut enricher, made);
    assert_eq!(pids(&snapshot, Kind::Map, made.map), [second]);
    assert_owned(&snapshot, made, &owned_by);
    drop(other);
    wait_until_gone(&mut enricher, made, &of_all);
}

pub(crate) fn left_pinned() {
    let (group, bpffs) = (Group::nameless("pinned"), Bpffs::new());
    let directory = bpffs.make("agent");
    let loader = Loader::pinning(&group, &directory);
    let mut enricher = enricher(NameCache::default(), false);
    assert_owned(&read(&mut enricher, loader.made), loader.made, &loader.owner());
    let made = loader.exit();
    let snapshot = read(&mut enricher, made);
    let owned_by = format!("pin {}", directory.display());
    assert_owned(&snapshot, made, &owned_by);
    for (kind, id) in made.all() {
        assert_eq!(held_by(&snapshot, kind, id), [format!("pin {owned_by}")]);
    }
    let of_pins = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    let counted = total(&snapshot, &of_pins).expect("it has something");
    assert_eq!((counted.programs, counted.maps, counted.links), (Some(1), Some(1), Some(1)));
    assert!(counted.mem.is_some_and(|bytes| bytes > 0));

    // The map's own pin is not needed: its program is pinned.
    fs::remove_file(directory.join(NAMES[1])).expect("it is there");
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, &owned_by);
    assert_eq!(held_by(&snapshot, Kind::Map, made.map), [""; 0]);
    drop(bpffs);
    wait_until_gone(&mut enricher, made, &of_pins);
}

/// Asserts that the only process with the objects of a loader owns them until it exits.
fn alone(loader: Loader, keeper: Running, group: &Group) {
    group.take_in(&keeper);
    let owned_by = loader.owner();
    let made = loader.exit();
    let mut enricher = enricher(NameCache::default(), true);
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, &owned_by);
    for (kind, id) in made.all() {
        assert_eq!(pids(&snapshot, kind, id), [keeper.0.id()]);
    }
    let its = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    assert_eq!(its.kind(), OwnerKind::Process);
    drop(keeper);
    wait_until_gone(&mut enricher, made, &its);
}

pub(crate) fn network_namespace() {
    let group = Group::nameless("network");
    let loader = Loader::begin(&group);
    let (keeper, network) = Network::new_with(|_| Ok(loader.keeper())).expect("root may");
    let namespace = fs::read_link(format!("/proc/{}/ns/net", keeper.0.id())).expect("root may");
    assert_eq!(namespace.to_str(), Some(&*format!("net:[{}]", network.inode())));
    alone(loader, keeper, &group);
}

pub(crate) fn pid_namespace() {
    let group = Group::nameless("pids");
    let loader = Loader::begin(&group);
    let keeper = helper::in_namespace(|| loader.keeper());
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).expect("root may");
    assert_ne!(namespace(&keeper.0.id().to_string()), namespace("self"));
    alone(loader, keeper, &group);
}
