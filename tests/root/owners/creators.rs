//! Creators: the owner of an object by the cgroup that its map is charged to, a systemd unit or a pod.

use std::fs;

use bpf_metrics_exporter::enrich::names::{ContainerName, NameCache, NameSourceId, PodName};
use bpf_metrics_exporter::model::{IdentifiedBy, Kind, OwnerKind};

use super::found::{assert_owned, enricher, held_by, owner, read, total, wait_until_gone, word};
use super::loader::Loader;
use super::scene::{Bpffs, Group};

pub(crate) fn unit() {
    let name = format!("bpfm-test-{}.service", std::process::id());
    let unit = format!("unit {name}");
    // The objects of the unit are dropped before its cgroup.
    let service = Group::new("unit", &format!("system.slice/{name}"));
    let (elsewhere, bpffs) = (Group::nameless("elsewhere"), Bpffs::new());
    let directory = bpffs.make("manager");
    let pin = format!("pin pin {}", directory.display());
    let loader = Loader::pinning(&service, &directory);
    let made = loader.made;
    let mut enricher = enricher(NameCache::default(), false);
    let creator = format!("creator {unit}");
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, &unit);
    let own = format!("process {unit}");
    assert_eq!(held_by(&snapshot, Kind::Map, made.map), [creator.clone(), pin.clone(), own.clone()]);
    for (kind, id) in [(Kind::Program, made.program), (Kind::Link, made.link)] {
        assert_eq!(held_by(&snapshot, kind, id), [pin.clone(), own.clone()]);
    }

    // A process that only keeps the objects of others.
    let manager = loader.keeper();
    elsewhere.take_in(&manager);
    let keeper = loader.owner();
    assert_owned(&read(&mut enricher, made), made, &unit);
    loader.exit();
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, &unit);
    let other = format!("process {keeper}");
    assert_eq!(held_by(&snapshot, Kind::Map, made.map), [creator.clone(), pin.clone(), other]);
    let its = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    assert_eq!((its.kind(), its.unit.as_deref()), (OwnerKind::Unit, Some(&*name)));
    assert!(its.process.is_none(), "all of its processes are one owner");
    let counted = total(&snapshot, &its).expect("it has something");
    assert_eq!((counted.programs, counted.maps, counted.links), (Some(1), Some(1), Some(1)));
    assert!(!snapshot.owners.iter().any(|total| word(&total.owner) == keeper), "it owns nothing");

    drop(manager);
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, &unit);
    assert_eq!(held_by(&snapshot, Kind::Map, made.map), [creator, pin]);
    drop(bpffs);
    wait_until_gone(&mut enricher, made, &its);
}

pub(crate) fn pod() {
    let uid = format!("2fc932ce-fdcc-454b-97bd-{:012x}", std::process::id());
    let id = format!("{:064x}", std::process::id());
    let container = Group::new("pod", &format!("kubepods/besteffort/pod{uid}/{id}"));
    let bpffs = Bpffs::new();
    let loader = Loader::pinning(&container, &bpffs.make("agent"));
    let made = loader.made;
    let names = NameCache::default();
    let mut enricher = enricher(names.clone(), false);
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, &format!("pod {uid}"));
    let unnamed = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    assert!(total(&snapshot, &unnamed).is_some(), "it has something");
    let missing = names.missing();
    assert!(missing.pods.contains(&uid) && missing.containers.contains(&id), "{missing:?}");
    assert_eq!(owner(&read(&mut enricher, made), Kind::Map, made.map).as_deref(), Some(&*unnamed));

    let name = PodName { namespace: "shop".to_owned(), name: "cart-7c5d".to_owned() };
    let kubelet = NameSourceId(0);
    names.set_pod(&uid, name, kubelet);
    let in_pod = ContainerName { name: Some("web".to_owned()), pod: Some(uid.clone()) };
    names.set_container(&id, in_pod, kubelet);
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, "pod shop/cart-7c5d");
    let known = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    assert_ne!(known.key(), unnamed.key(), "its name is part of each of its series");
    assert!(total(&snapshot, &unnamed).is_none(), "it is reported once");
    assert_eq!(known.identified_by, Some(IdentifiedBy::Path));
    let pod = known.pod.as_ref().expect("it is one");
    assert_eq!((&*pod.key, pod.uid.as_deref()), (&*uid, Some(&*uid)));
    let counted = total(&snapshot, &known).expect("it has something");
    assert_eq!(counted.owner.name(), "shop/cart-7c5d");
    assert_eq!((counted.programs, counted.maps, counted.links), (Some(1), Some(1), Some(1)));
    let holders = &snapshot.holders.as_ref().expect("root may know").maps;
    let containers = holders.iter().filter(|holder| holder.id == made.map && holder.owner.pin.is_none());
    let containers: Vec<_> =
        containers.map(|holder| holder.owner.container.as_ref().and_then(|it| it.name.as_deref())).collect();
    assert_eq!(containers, [Some("web"); 2], "its process and its cgroup are in that container");

    loader.exit();
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, "pod shop/cart-7c5d");
    fs::metadata(container.directory()).expect("its cgroup still exists");
    drop(bpffs);
    wait_until_gone(&mut enricher, made, &known);
}

/// A process in a container creates cgroups that look like those of a pod, and holds objects there.
pub(crate) fn forged() {
    let (own, others) = (format!("{:064x}", std::process::id()), "9".repeat(64));
    let uid = format!("7fc932ce-fdcc-454b-97bd-{:012x}", std::process::id());
    let forged_pod = format!("kubepods/burstable/pod{uid}/{others}");
    let in_pod = ContainerName { name: Some("cart".to_owned()), pod: Some(uid.clone()) };
    let pod_name = PodName { namespace: "shop".to_owned(), name: "cart-7c5d".to_owned() };
    let unit = format!("bpfm-forger-{}.service", std::process::id());
    let user = "user@4000000000.service";
    for (at, outer, owner_before, owner_confirmed) in [
        // A container: it may be a node of kind, so the word of the node counts.
        (
            "nested",
            format!("docker/{own}"),
            format!("container {}", &own[..12]),
            "pod shop/cart-7c5d".to_owned(),
        ),
        // A unit and a user, whose word is never enough.
        (
            "unit",
            format!("system.slice/{unit}"),
            format!("container {unit}/{}", &others[..12]),
            format!("container {unit}/cart"),
        ),
        (
            "user",
            format!("user.slice/{user}"),
            format!("container {user}/{}", &others[..12]),
            format!("container {user}/cart"),
        ),
    ] {
        let forger = Group::new(at, &format!("{outer}/{forged_pod}"));
        let loader = Loader::begin(&forger);
        let made = loader.made;
        let names = NameCache::default();
        let mut enricher = enricher(names.clone(), false);
        let snapshot = read(&mut enricher, made);
        assert_owned(&snapshot, made, &owner_before);
        let holders = &snapshot.holders.as_ref().expect("root may know").maps;
        let mut of_map = holders.iter().filter(|holder| holder.id == made.map);
        assert!(of_map.all(|holder| holder.owner.pod.is_none()), "neither process nor creator is in the pod");

        // The node has such a pod.
        let runtime = NameSourceId(0);
        names.set_container(&others, in_pod.clone(), runtime);
        names.set_pod(&uid, pod_name.clone(), runtime);
        let snapshot = read(&mut enricher, made);
        assert_owned(&snapshot, made, &owner_confirmed);

        // It is not inside of anything.
        let real = Group::new("real", &forged_pod);
        let victim = Loader::begin(&real);
        assert_owned(&read(&mut enricher, victim.made), victim.made, "pod shop/cart-7c5d");
        let snapshot = read(&mut enricher, made);
        let owner_in_the_end = if at == "nested" { &owner_before } else { &owner_confirmed };
        assert_owned(&snapshot, made, owner_in_the_end);
        let its = owner(&snapshot, Kind::Map, made.map).expect("it is there");
        let established = if at == "nested" { IdentifiedBy::Path } else { IdentifiedBy::Delegated };
        assert_eq!(its.identified_by, Some(established));
        drop((loader, victim));
    }
}
