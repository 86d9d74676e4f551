//! One bpffs mounted several times, in part, or hidden: each pin is reported once, by the best path.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::again;
use super::directory;
use super::scene::{Scene, enricher, enricher_of, issues, map, pinned, pins, read};
use test_support::objects::{Map, Mount};
use test_support::running::Running;

/// A bind mount, gone when dropped.
struct Bind {
    at: PathBuf,
    /// Whether the directory was made for it.
    made: bool,
}

impl Bind {
    fn at(from: &Path, at: PathBuf) -> Self {
        let made = fs::create_dir(&at).is_ok();
        mount(Some(from), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("root may");
        Self { at, made }
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        umount2(&self.at, MntFlags::MNT_DETACH).expect("it is ours");
        if self.made {
            fs::remove_dir(&self.at).expect("it is ours");
        }
    }
}

/// Returns all paths that are reported for a map.
fn paths_of(map: &Map, bpffs: &[PathBuf]) -> Vec<String> {
    let snapshot = enricher_of(bpffs).read();
    assert!(issues(&snapshot).is_empty(), "{:?}", issues(&snapshot));
    pins(&snapshot).iter().filter(|pin| pin.id == map.id()).map(|pin| pin.path.to_string()).collect()
}

pub(crate) fn twice() {
    let scene = Scene::new("twice-long-name");
    let map = map("twice");
    scene.make("agent");
    let _pin = map.pin(&scene.at("agent/map")).expect("it can be pinned");
    let text = |path: PathBuf| vec![path.display().to_string()];
    let part = Bind::at(&scene.at("agent"), directory("a"));
    assert_eq!(paths_of(&map, &[]), text(scene.at("agent/map")), "a partial mount shows less");
    let longer = Bind::at(&scene.path, directory("twice-longer-name"));
    assert_eq!(paths_of(&map, &[]), text(scene.at("agent/map")), "the shorter path is preferred");
    let shorter = Bind::at(&scene.path, directory("b"));
    assert_eq!(paths_of(&map, &[]), text(shorter.at.join("agent/map")));
    let given = [PathBuf::from("/proc/self/root").join(part.at.strip_prefix("/").expect("it is absolute"))];
    assert_eq!(
        paths_of(&map, &given),
        text(shorter.at.join("agent/map")),
        "a mount is preferred to a configured directory"
    );
    // A pin that no other mount shows is reported by the partial one.
    drop((shorter, longer));
    umount2(&scene.path, MntFlags::MNT_DETACH).expect("it is ours");
    assert_eq!(paths_of(&map, &[]), text(part.at.join("map")));
    assert_eq!(paths_of(&map, &given), text(part.at.join("map")));
}

pub(crate) fn into_itself() {
    let scene = Scene::new("itself");
    let maps = [map("itself"), map("below")];
    let sub = scene.make("sub");
    scene.make("sub/deeper");
    let _pins = [maps[0].pin(&scene.at("map")), maps[1].pin(&scene.at("sub/deeper/map"))]
        .map(|pin| pin.expect("it can be pinned"));
    let _bind = Bind::at(&scene.path, sub);
    let expected = [
        pinned(scene.at("map"), &maps[0]),
        // Hidden by the mount, and visible through it.
        pinned(scene.at("sub/sub/deeper/map"), &maps[1]),
    ];
    let mut enricher = enricher();
    for _ in 0..2 {
        assert_eq!(read(&mut enricher, &scene.path), expected);
    }
}

pub(crate) fn hidden() {
    let scene = Scene::new("hidden");
    let map = map("hidden");
    let covered = scene.make("covered");
    scene.make("covered/deeper");
    let _pin = map.pin(&scene.at("covered/deeper/map")).expect("it can be pinned");
    let other = Bind::at(&scene.path, directory("hidden-other"));
    let cover = Mount::visible(c"tmpfs", &covered).expect("it can be mounted");
    assert_eq!(paths_of(&map, &[]), [other.at.join("covered/deeper/map").display().to_string()]);
    drop(cover);
    assert_eq!(paths_of(&map, &[]), [scene.at("covered/deeper/map").display().to_string()]);
    // A bpffs that another mount covers completely is not visible.
    drop(other);
    let cover = Mount::visible(c"tmpfs", &scene.path).expect("it can be mounted");
    assert_eq!(paths_of(&map, &[]), [] as [&str; 0]);
    drop(cover);
}

pub(crate) fn nested() {
    let scene = Scene::new("nested");
    let maps = [map("outer"), map("inner")];
    let inner = scene.make("inner");
    let _mount = Mount::visible(c"bpf", &inner).expect("it can be mounted");
    let _pins = [maps[0].pin(&scene.at("map")), maps[1].pin(&inner.join("map"))]
        .map(|pin| pin.expect("it can be pinned"));
    let expected = [pinned(inner.join("map"), &maps[1]), pinned(scene.at("map"), &maps[0])];
    assert_eq!(read(&mut enricher(), &scene.path), expected);
}

pub(crate) fn other_namespace() {
    let at = directory("elsewhere");
    fs::create_dir(&at).expect("it can be made");
    let mut other = Running(again("mounts", &at).spawn().expect("it starts"));
    let mut line = String::new();
    BufReader::new(other.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("it writes the id");
    let id: u32 = line.trim().parse().expect("a number");
    let given = PathBuf::from(format!("/proc/{}/root{}", other.0.id(), at.display()));
    let found = |enricher: &mut bpf_metrics_exporter::enrich::Enricher| {
        let snapshot = enricher.read();
        let found: Vec<_> = pins(&snapshot)
            .iter()
            .filter(|pin| pin.id == id)
            .map(|pin| (pin.path.to_string(), pin.directory.to_string()))
            .collect();
        let issues: Vec<_> =
            issues(&snapshot).iter().map(|issue| (issue.call.to_string(), issue.error.to_string())).collect();
        (found, issues)
    };
    let expected = (given.join("agent/map").display().to_string(), given.join("agent").display().to_string());
    assert_eq!(found(&mut enricher()), (vec![expected.clone()], vec![]), "it is found through its process");
    let mut enricher = enricher_of(std::slice::from_ref(&given));
    assert_eq!(found(&mut enricher), (vec![expected], vec![]));
    drop(other);
    let (found, issues) = found(&mut enricher);
    assert_eq!((found, issues), (vec![], vec![("open".to_owned(), "ENOENT".to_owned())]));
    fs::remove_dir(&at).expect("it is ours");
}
