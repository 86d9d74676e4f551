//! A bpffs in which everybody may create directories, and somebody does: a scan has limits, and says what it left out.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::{Part, Snapshot};

use super::helper::println;
use super::scene::{Scene, below, descriptors, enricher, issues, map, pinned, read};
use super::{again, readers};
use test_support::objects::Map;
use test_support::running::Running;

/// What a scan may add to the resident memory, in KiB: a tenth of what one of 3,500 nested directories took when each had its
/// path.
const MAX_MEMORY: u64 = 64 << 10;

/// More than a scan reads.
const FLAT: usize = 100_000;

/// A scan of so many takes longer than a reading waits.
const SLOW: usize = 10_000;

const NESTED: usize = 3_500;

/// A bpffs like `Scene`, where everybody may create directories.
fn writable_by_all(name: &str) -> Scene {
    let scene = Scene::new(name);
    fs::set_permissions(&scene.path, Permissions::from_mode(0o1777)).expect("it is ours");
    scene
}

/// Fills a bpffs as another user would, in another process, whose memory is not measured.
fn flood(scene: &Scene, role: &str) {
    let output = again(role, &scene.path).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The role of a process that creates directories side by side.
pub(crate) fn create_flat(at: &Path) {
    create(at, FLAT);
}

/// As [`create_flat`], no more than a scan reads.
pub(crate) fn create_slow(at: &Path) {
    create(at, SLOW);
}

fn create(at: &Path, count: usize) {
    become_nobody();
    for number in 0..count {
        fs::create_dir(at.join(format!("d{number}"))).expect("everybody may");
    }
}

/// The role of a process that creates one directory in the other.
pub(crate) fn create_nested(at: &Path) {
    become_nobody();
    let name = "n".repeat(255);
    let mut directory = File::open(at).expect("it is there");
    for _ in 0..NESTED {
        let here = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        fs::create_dir(here.join(&name)).expect("everybody may");
        directory = File::open(here.join(&name)).expect("it is there");
    }
}

fn become_nobody() {
    let nobody = nix::unistd::Uid::from_raw(65_534);
    nix::unistd::setuid(nobody).expect("root may");
}

/// A value of `/proc/self/status`, in KiB.
fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let value = status.lines().find_map(|line| line.strip_prefix(key)).expect("the key is there");
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A process of its own that reads before and after a flood: other tests share the memory of this one.
struct MeasuredReader {
    process: Running,
    output: BufReader<ChildStdout>,
}

impl MeasuredReader {
    fn start(scene: &Scene) -> Self {
        let mut process = Running(again("measured-reader", &scene.path).spawn().expect("it starts"));
        let output = BufReader::new(process.0.stdout.take().expect("a pipe"));
        let mut reader = Self { process, output };
        assert_eq!(reader.line(), "ready");
        reader
    }

    /// Lets it read, and returns the most resident memory that this added, in KiB.
    fn added_memory(&mut self) -> u64 {
        writeln!(self.process.0.stdin.as_mut().expect("a pipe")).expect("it reads");
        self.line().parse().expect("a number")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes");
        line.trim_end().to_owned()
    }
}

/// The role of a process that reads, and reads again once it is told to.
pub(crate) fn measure(_: &Path) {
    let mut enricher = enricher();
    let _before = enricher.read();
    fs::write("/proc/self/clear_refs", "5").expect("Linux resets the peak");
    let before = status("VmRSS");
    println("ready");
    let _line = std::io::stdin().read_line(&mut String::new()).expect("it is a pipe");
    let _after = enricher.read();
    println(&status("VmHWM").saturating_sub(before).to_string());
}

/// The entries that were left out, by error.
fn left_out(snapshot: &Snapshot) -> Vec<(String, u64)> {
    let scan = issues(snapshot).into_iter().filter(|issue| issue.call == "bpffs_scan");
    scan.map(|issue| (issue.error.to_string(), issue.count)).collect()
}

fn succeeded(snapshot: &Snapshot) -> bool {
    let mut collectors = snapshot.collectors.iter();
    collectors.find(|collector| collector.part == Part::Pin).expect("it was scanned").success
}

/// Another bpffs, and a directory of the flooded one that was there before, keep their pins.
pub(crate) fn flat() {
    let (flooded, other) = (writable_by_all("flat"), Scene::new("flat-other"));
    let maps = [map("flooded"), map("inside"), map("other")];
    flooded.make("agent/deep");
    other.make("agent");
    let at = [flooded.at("map"), flooded.at("agent/deep/map"), other.at("agent/map")];
    let _pins: Vec<_> =
        maps.iter().zip(&at).map(|(map, at)| map.pin(at).expect("it can be pinned")).collect();
    let expect = |number: usize| pinned(&at[number], &maps[number]);
    let mut enricher = enricher();
    assert_eq!(read(&mut enricher, &flooded.path), [expect(1), expect(0)]);

    let mut measured = MeasuredReader::start(&flooded);
    flood(&flooded, "flat");
    let added = measured.added_memory();
    assert!(added < MAX_MEMORY, "{added} KiB");
    let before = descriptors();
    for _ in 0..2 {
        let snapshot = &enricher.read();
        assert_eq!(below(snapshot, &flooded.path), [expect(1), expect(0)], "they were there before");
        assert_eq!(below(snapshot, &other.path), [expect(2)]);
        assert!(!succeeded(snapshot));
        // Which of the limits ends it depends on the machine.
        let left_out: u64 = left_out(snapshot).iter().map(|(_, count)| count).sum();
        assert!(left_out > 0, "{:?}", issues(snapshot));
        let of_objects = snapshot.totals.iter().map(|total| total.orphaned);
        assert!(of_objects.flatten().next().is_none(), "pins are not complete");
    }
    assert_eq!(descriptors(), before);
    // One that never saw it without the flood finds the other bpffs, and what is at the top once it knows which bpffs is slow.
    let mut enricher = super::scene::enricher();
    let found = (0..5).any(|_| {
        let snapshot = enricher.read();
        assert_eq!(below(&snapshot, &other.path), [expect(2)]);
        below(&snapshot, &flooded.path).contains(&expect(0))
    });
    assert!(found);
}

/// Deep directories cost no more memory than others, and the path of a pin in the deepest is cut.
pub(crate) fn nested() {
    let scene = writable_by_all("nested");
    let maps = [map("top"), map("deepest")];
    let _top = maps[0].pin(&scene.at("top")).expect("it can be pinned");
    let mut measured = MeasuredReader::start(&scene);
    flood(&scene, "nested");
    let mut deepest = File::open(&scene.path).expect("it is there");
    let name = "n".repeat(255);
    for _ in 0..NESTED {
        let here = PathBuf::from(format!("/proc/self/fd/{}", deepest.as_raw_fd()));
        deepest = File::open(here.join(&name)).expect("it is there");
    }
    let here = PathBuf::from(format!("/proc/self/fd/{}", deepest.as_raw_fd()));
    let _deepest = maps[1].pin(&here.join("deepest")).expect("it can be pinned");

    let added = measured.added_memory();
    assert!(added < MAX_MEMORY, "{added} KiB");
    let snapshot = enricher().read();
    let found = below(&snapshot, &scene.path);
    assert!(found.contains(&pinned(scene.at("top"), &maps[0])), "{found:?}");
    assert_eq!(left_out(&snapshot), []);
    let (path, ..) = found.iter().find(|(_, _, id)| *id == maps[1].id()).expect("it is within the limits");
    assert!(path.len() <= 1024, "{}", path.len());
    let start = scene.at(&name).display().to_string();
    assert!(path.starts_with(&start) && path.ends_with("nnn/deepest"), "{path}");
    let pin = snapshot.pins.iter().flatten().find(|pin| pin.id == maps[1].id()).expect("it was found");
    assert_eq!(*pin.directory, *start);
}

/// A reading does not wait for the scan of a flooded bpffs, and has the pins of the last one; a new pin shows up at the next.
pub(crate) fn in_background() {
    const INTERVAL: Duration = Duration::from_millis(1);
    const SOON: Duration = Duration::from_mins(2);
    let scene = writable_by_all("background");
    let first = map("first");
    let _first = first.pin(&scene.at("first")).expect("it can be pinned");
    flood(&scene, "slow");
    let options = EnrichOptions { pins: INTERVAL, ..EnrichOptions::default() };
    let mut enricher = Enricher::new(readers::by_ids(), options, NameCache::default());
    let snapshot = enricher.read();
    assert!(snapshot.pins.is_none(), "the first scan takes longer than a reading waits");
    let mut until = |what: &str, map: &Map, is_there: bool| {
        let deadline = Instant::now() + SOON;
        loop {
            let snapshot = enricher.read();
            if let Some(pins) = &snapshot.pins
                && pins.iter().any(|pin| pin.id == map.id()) == is_there
            {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "{what}");
        }
    };
    until("the first pin is found", &first, true);
    let second = map("second");
    let pin = second.pin(&scene.at("second")).expect("it can be pinned");
    let snapshot = until("a new pin is found", &second, true);
    let collector = snapshot.collectors.iter().find(|collector| collector.part == Part::Pin);
    assert!(collector.is_some_and(|collector| collector.success && left_out(&snapshot).is_empty()));
    drop(pin);
    until("a pin that is gone vanishes", &second, false);
}
