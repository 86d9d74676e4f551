//! Creators: the owner of an object by the cgroup that its map is charged to, a systemd unit or a pod.

use std::fs;

use bpf_metrics_exporter::enrich::names::{ContainerName, NameCache, PodName};
use bpf_metrics_exporter::model::{Kind, OwnerKind};

use super::found::{assert_owned, enricher, held_by, owner, read, this_process, total, wait_until_gone};
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
    assert_owned(&read(&mut enricher, made), made, &unit);
    loader.exit();
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, &unit);
    let other = format!("process {}", this_process());
    assert_eq!(held_by(&snapshot, Kind::Map, made.map), [creator.clone(), pin.clone(), other]);
    let its = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    assert_eq!((its.kind(), its.unit.as_deref()), (OwnerKind::Unit, Some(&*name)));
    assert!(its.process.is_none(), "all of its processes are one owner");
    let counted = total(&snapshot, &its).expect("it has something");
    assert_eq!((counted.programs, counted.maps, counted.links), (Some(1), Some(1), Some(1)));
    let manager_has = |total: &bpf_metrics_exporter::model::OwnerTotal| {
        total.owner.process.as_ref().is_some_and(|process| process.pid == manager.0.id())
    };
    assert!(!snapshot.owners.iter().any(manager_has), "it owns nothing");

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
    let since = total(&snapshot, &unnamed).expect("it has something").since;
    let missing = names.missing();
    assert!(missing.pods.contains(&uid) && missing.containers.contains(&id), "{missing:?}");
    assert_eq!(owner(&read(&mut enricher, made), Kind::Map, made.map).as_deref(), Some(&*unnamed));

    let name = PodName { namespace: "shop".to_owned(), name: "cart-7c5d".to_owned() };
    names.set_pod(&uid, name);
    names.set_container(&id, ContainerName { name: Some("web".to_owned()), pod: Some(uid.clone()) });
    let snapshot = read(&mut enricher, made);
    assert_owned(&snapshot, made, "pod shop/cart-7c5d");
    let known = owner(&snapshot, Kind::Map, made.map).expect("it is there");
    assert_eq!(known.key(), unnamed.key(), "it is the same owner");
    assert_ne!(known.revision(), unnamed.revision(), "with another description");
    let pod = known.pod.as_ref().expect("it is one");
    assert_eq!((&*pod.key, pod.uid.as_deref()), (&*uid, Some(&*uid)));
    let counted = total(&snapshot, &known).expect("it has something");
    assert_eq!((counted.owner.name(), counted.since), ("shop/cart-7c5d", since));
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
