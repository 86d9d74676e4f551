//! One bpffs mounted several times, in part, or hidden: each pin is reported once, by the best path.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;

use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::metrics::Sample;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{major, minor};

use super::again;
use super::directory;
use super::scene::{Scene, enricher, enricher_of, issues, map, pinned, pins, read};
use test_support::objects::{Map, Mount};
use test_support::points::{self, Point};
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

/// Returns all paths in our mount namespace that are reported for a map.
fn paths_of(map: &Map, bpffs: &[PathBuf]) -> Vec<String> {
    let snapshot = enricher_of(bpffs).read();
    assert!(issues(&snapshot).is_empty(), "{:?}", issues(&snapshot));
    let ours = pins(&snapshot).iter().filter(|pin| pin.id == map.id() && pin.bpffs.is_none());
    ours.map(|pin| pin.path.to_string()).collect()
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

/// A process with a mount namespace of its own, or in that of another one.
struct Elsewhere {
    process: Running,
    output: BufReader<ChildStdout>,
}

impl Elsewhere {
    fn start(role: &str, argument: &Path) -> Self {
        let mut process = Running(again(role, argument).spawn().expect("it starts"));
        let output = BufReader::new(process.0.stdout.take().expect("a pipe"));
        Self { process, output }
    }

    /// Starts one that mounts a bpffs at a directory and pins a map there, and returns the map's id.
    fn mounting(at: &Path) -> (Self, u32) {
        let mut started = Self::start("mounts", at);
        let id = started.line().parse().expect("a number");
        (started, id)
    }

    /// Starts one in the mount namespace of another one.
    fn beside(other: &Self) -> Self {
        let mut started = Self::start("enters", &other.proc().join("ns/mnt"));
        assert_eq!(started.line(), "entered");
        started
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes a line");
        line.trim().to_owned()
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid()))
    }

    /// Returns a path that leads to a directory of its mount namespace.
    fn path_to(&self, directory: &Path) -> PathBuf {
        self.proc().join("root").join(directory.strip_prefix("/").expect("it is absolute"))
    }

    /// Returns the device number of the bpffs that it has there.
    fn bpffs(&self, directory: &Path) -> String {
        let device = fs::metadata(self.path_to(directory)).expect("it is mounted").dev();
        format!("{}:{}", major(device), minor(device))
    }
}

/// Path, directory and bpffs of a pin.
type Names = (String, String, Option<String>);

/// Returns the names of the pin that [`Elsewhere::mounting`] makes.
fn names_below(at: &Path, bpffs: Option<&str>) -> Names {
    let text = |path: PathBuf| path.display().to_string();
    (text(at.join("agent/map")), text(at.join("agent")), bpffs.map(str::to_owned))
}

/// Returns the names of a map's pins, and the issues.
fn names(enricher: &mut Enricher, id: u32) -> (Vec<Names>, Vec<(String, String)>) {
    let snapshot = enricher.read();
    let found = pins(&snapshot)
        .iter()
        .filter(|pin| pin.id == id)
        .map(|pin| (pin.path.to_string(), pin.directory.to_string(), pin.bpffs.as_deref().map(str::to_owned)))
        .collect();
    let issues =
        issues(&snapshot).iter().map(|issue| (issue.call.to_string(), issue.error.to_string())).collect();
    (found, issues)
}

/// Metric and labels of a series.
type SeriesName = (String, Vec<(String, String)>);

/// Returns the series of the pins of a map, as exported over OTLP: of the pins, as holders, and as owner. No two series of a reading
/// are the same, over OTLP and in a scrape.
fn series_of_pins(enricher: &mut Enricher, id: u32, directory: &Path) -> BTreeSet<SeriesName> {
    let snapshot = enricher.read();
    let text = prometheus::render(Sample::new(&snapshot), Format::Text, 0);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let scraped: Vec<&str> = lines.map(|line| line.rsplit_once(' ').expect("it has a value").0).collect();
    let unique: BTreeSet<_> = scraped.iter().collect();
    assert_eq!(unique.len(), scraped.len(), "no series twice in a scrape");

    let requests = Encoder::new(&[], usize::MAX).encode(Sample::new(&snapshot));
    let points = points::decode_all(&requests);
    let series = |point: &Point| (point.metric.clone(), point.labels.clone().into_iter().collect());
    let unique: BTreeSet<SeriesName> = points.iter().map(series).collect();
    assert_eq!(unique.len(), points.len(), "no series twice over OTLP");

    let (id, owner) = (id.to_string(), directory.display().to_string());
    let is_of_pins = |(metric, labels): &SeriesName| {
        let has = |name: &str, value: &str| labels.iter().any(|label| *label == (name.into(), value.into()));
        match &**metric {
            "bpf_pin_info" => has("id", &id),
            "bpf_map_holder_info" => has("id", &id) && has("held_by", "pin"),
            "bpf_owner_info" => has("owner_kind", "pin") && has("owner", &owner),
            _ => false,
        }
    };
    unique.into_iter().filter(is_of_pins).collect()
}

pub(crate) fn other_namespace() {
    let at = directory("elsewhere");
    fs::create_dir(&at).expect("it can be made");
    let (other, id) = Elsewhere::mounting(&at);
    let expected = names_below(&at, Some(&other.bpffs(&at)));
    assert_eq!(names(&mut enricher(), id), (vec![expected], vec![]), "it is found through its process");
    let given = other.path_to(&at);
    let mut enricher = enricher_of(std::slice::from_ref(&given));
    let expected = names_below(&given, None);
    assert_eq!(names(&mut enricher, id), (vec![expected], vec![]), "the user's path is preferred");
    drop(other);
    let (found, issues) = names(&mut enricher, id);
    assert_eq!((found, issues), (vec![], vec![("open".to_owned(), "ENOENT".to_owned())]));
    fs::remove_dir(&at).expect("it is ours");
}

pub(crate) fn other_process() {
    let at = directory("other-process");
    fs::create_dir(&at).expect("it can be made");
    let (mounting, id) = Elsewhere::mounting(&at);
    let bpffs = mounting.bpffs(&at);
    let mut beside = [Elsewhere::beside(&mounting), Elsewhere::beside(&mounting)];
    beside.sort_by_key(Elsewhere::pid);
    let [first, second] = beside;
    // It holds the map, and would be its owner.
    drop(mounting);
    let expected = vec![names_below(&at, Some(&bpffs))];
    let mut enricher = enricher();
    assert_eq!(names(&mut enricher, id), (expected.clone(), vec![]));
    let before = series_of_pins(&mut enricher, id, &at.join("agent"));
    let metrics: Vec<_> = before.iter().map(|(metric, _)| &**metric).collect();
    assert_eq!(metrics, ["bpf_map_holder_info", "bpf_owner_info", "bpf_pin_info"]);
    // It has the lowest pid, so the bpffs was read through it.
    drop(first);
    assert_eq!(names(&mut enricher, id), (expected, vec![]));
    assert_eq!(series_of_pins(&mut enricher, id, &at.join("agent")), before);
    drop(second);
    assert_eq!(names(&mut enricher, id), (vec![], vec![]));
    fs::remove_dir(&at).expect("it is ours");
}

pub(crate) fn equal_paths() {
    let at = directory("equal-paths");
    fs::create_dir(&at).expect("it can be made");
    let (mut one, id) = Elsewhere::mounting(&at);
    let other = Elsewhere::beside(&one);
    // It leaves the other one behind, and pins the same map at the same path of another bpffs.
    one.process.0.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("it reads");
    assert_eq!(one.line(), id.to_string());
    let mut devices = [one.bpffs(&at), other.bpffs(&at)];
    devices.sort();
    assert_ne!(devices[0], devices[1]);
    let mut enricher = enricher();
    assert_eq!(
        names(&mut enricher, id),
        (devices.iter().map(|bpffs| names_below(&at, Some(bpffs))).collect(), vec![])
    );
    let series = series_of_pins(&mut enricher, id, &at.join("agent"));
    for metric in ["bpf_pin_info", "bpf_map_holder_info"] {
        let labels = series.iter().filter(|(name, _)| name == metric).flat_map(|(_, labels)| labels);
        let of_each: Vec<_> =
            labels.filter(|(name, _)| name == "bpffs").map(|(_, bpffs)| bpffs.clone()).collect();
        assert_eq!(of_each, devices, "{metric}");
    }
    drop((one, other));
    fs::remove_dir(&at).expect("it is ours");
}
