//! Pins that come, go, move and are replaced between readings and during one.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::{Kind, OwnerKind};
use nix::mount::{MntFlags, umount2};

use super::scene::{Scene, below, descriptors, enricher, issues, map, pinned, pins, read};
use super::{again, readers};
use test_support::objects::{Link, Program, uapi, wait_until};

const SOON: Duration = Duration::from_secs(20);

pub(crate) fn reused_path() {
    let scene = Scene::new("reused");
    let maps = [map("first"), map("second")];
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "third").expect("it can be loaded");
    let path = scene.at("pin");
    let mut enricher = enricher();
    for map in &maps {
        let pin = map.pin(&path).expect("it can be pinned");
        assert_eq!(read(&mut enricher, &scene.path), [pinned(&path, map)]);
        drop(pin);
    }
    let pin = program.pin(&path).expect("it can be pinned");
    assert_eq!(read(&mut enricher, &scene.path), [(path.display().to_string(), Kind::Program, program.id())]);
    drop(pin);
    assert_eq!(read(&mut enricher, &scene.path), []);
}

pub(crate) fn renamed() {
    let scene = Scene::new("renamed");
    let maps = [map("moved"), map("exchanged")];
    scene.make("a/b");
    let mut made = maps.iter().zip(["a/b/one", "a/b/two"]).map(|(map, at)| map.pin(&scene.at(at)));
    let _pins: [_; 2] =
        std::array::from_fn(|_| made.next().expect("there are two").expect("it can be pinned"));
    let mut enricher = enricher();
    let mut expect = |one: &str, two: &str| {
        let mut expected = [pinned(scene.at(one), &maps[0]), pinned(scene.at(two), &maps[1])];
        expected.sort();
        assert_eq!(read(&mut enricher, &scene.path), expected);
    };
    expect("a/b/one", "a/b/two");
    let rename = |from: &str, to: &str| fs::rename(scene.at(from), scene.at(to)).expect("a bpffs can rename");
    rename("a", "c");
    expect("c/b/one", "c/b/two");
    rename("c/b/one", "one");
    expect("one", "c/b/two");
    rename("c/b/two", "c/b/one");
    rename("one", "c/b/two");
    expect("c/b/two", "c/b/one");
    // Two names of one file are two pins.
    fs::hard_link(scene.at("c/b/two"), scene.at("again")).expect("a bpffs has links");
    let mut expected = [
        pinned(scene.at("again"), &maps[0]),
        pinned(scene.at("c/b/one"), &maps[1]),
        pinned(scene.at("c/b/two"), &maps[0]),
    ];
    expected.sort();
    assert_eq!(read(&mut enricher, &scene.path), expected);
}

pub(crate) fn churn() {
    const KEPT: usize = 300;
    let scene = Scene::new("churn");
    let kept = map("kept");
    let kept_at = scene.make("kept");
    let _pins: Vec<_> = (0..KEPT)
        .map(|number| kept.pin(&kept_at.join(number.to_string())).expect("it can be pinned"))
        .collect();
    let maps = [map("churn0"), map("churn1"), map("churn2")];
    let link = Link::iter().expect("it can be attached");
    let (stopped, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut enricher = enricher();
    let before = descriptors();
    thread::scope(|scope| {
        let churn = scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                let round = rounds.fetch_add(1, Ordering::Relaxed) + 1;
                let directory = scene.make(&format!("d{}/e/f", round % 5));
                let pins: Vec<_> = maps
                    .iter()
                    .enumerate()
                    .map(|(number, map)| {
                        map.pin(&directory.join(number.to_string())).expect("it can be pinned")
                    })
                    .collect();
                let linked = link.pin(&scene.at(&format!("link{}", round % 3))).expect("it can be pinned");
                // The same name, another object.
                let same = scene.at("same");
                for map in &maps {
                    drop(map.pin(&same).expect("it can be pinned"));
                }
                drop((pins, linked));
                for part in ["e/f", "e", ""] {
                    fs::remove_dir(scene.at(&format!("d{}", round % 5)).join(part)).expect("it is empty");
                }
            }
        });
        let (mut readings, mut came) = (0, 0);
        let end = Instant::now() + SOON;
        while readings < 40 || came < 20 || rounds.load(Ordering::Relaxed) < 200 {
            let late = Instant::now() > end;
            let snapshot = enricher.read();
            let found = below(&snapshot, &scene.path);
            let stay = found.iter().filter(|(_, kind, id)| (*kind, *id) == (Kind::Map, kept.id())).count();
            let right = found.iter().all(|(path, kind, id)| {
                let churned = maps.iter().map(|map| (Kind::Map, map.id())).collect::<Vec<_>>();
                if path.starts_with(&*kept_at.to_string_lossy()) {
                    (*kind, *id) == (Kind::Map, kept.id())
                } else if path.contains("/link") {
                    (*kind, *id) == (Kind::Link, link.id())
                } else if let Some((_, name)) = path.rsplit_once("/e/f/") {
                    name.parse().is_ok_and(|number: usize| churned[number] == (*kind, *id))
                } else {
                    path.ends_with("/same") && churned.contains(&(*kind, *id))
                }
            });
            let wrong =
                late || stay != KEPT || !right || !issues(&snapshot).is_empty() || churn.is_finished();
            if wrong {
                stopped.store(true, Ordering::Relaxed);
            }
            assert!(!late, "{readings} readings that saw {came} while there were {rounds:?} rounds");
            assert_eq!((stay, right, issues(&snapshot)), (KEPT, true, vec![]), "{found:?}");
            assert!(!churn.is_finished(), "it goes on");
            came += found.len() - stay;
            readings += 1;
        }
        stopped.store(true, Ordering::Relaxed);
        churn.join().expect("it went well");
    });
    assert_eq!(read(&mut enricher, &scene.path).len(), KEPT, "no ghosts");
    assert_eq!(descriptors(), before);
}

pub(crate) fn loader() {
    let scene = Scene::new("loader");
    let path = scene.at("left");
    let output = again("loader", &path).output().expect("it runs");
    assert!(output.status.success());
    let id = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    let mut enricher = enricher();
    assert_eq!(read(&mut enricher, &scene.path), [(path.display().to_string(), Kind::Map, id)]);
    fs::remove_file(&path).expect("it can be removed");
    // The reading keeps no reference to the map.
    let gone = || test_support::objects::Kind::Map.exists(id).map(|exists| !exists);
    wait_until("the map is gone", SOON, gone).expect("nothing holds it");
    assert_eq!(read(&mut enricher, &scene.path), []);
}

pub(crate) fn unmounted() {
    let scene = Scene::new("unmounted");
    let map = map("unmounted");
    let _pin = map.pin(&scene.at("map")).expect("it can be pinned");
    let mut enricher = enricher();
    assert_eq!(read(&mut enricher, &scene.path), [pinned(scene.at("map"), &map)]);
    umount2(&scene.path, MntFlags::MNT_DETACH).expect("it is ours");
    let snapshot = enricher.read();
    assert!(pins(&snapshot).iter().all(|pin| pin.id != map.id()), "nothing of it is left");
    assert!(issues(&snapshot).is_empty());
}

/// A scan of pins that began before an object was pinned does not show that it has none.
pub(crate) fn newer_than_the_scan() {
    let scene = Scene::new("newer");
    let options = EnrichOptions { pins: Duration::from_hours(1), ..EnrichOptions::default() };
    let mut seldom = Enricher::new(readers::best(), options, NameCache::default());
    wait_until("the first scan ends", SOON, || Ok(seldom.read().pins.is_some())).expect("it does");
    // Without a map, whose memory cgroup would be its owner. The descriptors of this process do not count.
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "newer").expect("it can be loaded");
    let _pin = program.pin(&scene.at("newer")).expect("it can be pinned");
    let owner = |enricher: &mut Enricher| {
        let snapshot = enricher.read();
        let mut programs = snapshot.programs.iter().flatten();
        let found = programs.find(|found| found.facts.id == program.id()).expect("it is loaded");
        found.owner.as_ref().map(|owner| owner.kind())
    };
    for _ in 0..3 {
        assert_eq!(owner(&mut seldom), None);
    }
    assert_eq!(owner(&mut enricher()), Some(OwnerKind::Pin));
}
