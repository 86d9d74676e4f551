//! Directory trees of any form: deep, wide, with unusual names.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bpf_metrics_exporter::model::Kind;
use bpf_metrics_exporter::text::printable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::scene::{Scene, descriptors, enricher, map, pinned, read};
use test_support::objects::Pin;

/// Makes nested directories, deeper than any path may be long, and calls `each` with each, by a path that is valid during the call.
fn descend(top: &Path, name: &str, levels: usize, mut each: impl FnMut(&Path, usize)) {
    let mut directory = File::open(top).expect("it is there");
    for level in 0..levels {
        let here = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        fs::create_dir(here.join(name)).expect("it can be made");
        let below = File::open(here.join(name)).expect("it is there");
        each(&PathBuf::from(format!("/proc/self/fd/{}", below.as_raw_fd())), level);
        directory = below;
    }
}

pub(crate) fn deep() {
    const LEVELS: usize = 300;
    let name = "a_directory_of_a_long_name_0123456789";
    let scene = Scene::new("deep");
    let map = map("deep");
    let mut pins = Vec::new();
    descend(&scene.path, name, LEVELS, |here, level| {
        if level % 100 == 99 {
            pins.push(map.pin(&here.join("map")).expect("it can be pinned"));
        }
    });
    let at = |levels| format!("{}{}/map", scene.path.display(), format!("/{name}").repeat(levels));
    assert!(at(LEVELS).len() > 10_000, "longer than any path");
    let mut enricher = enricher();
    for _ in 0..2 {
        let mut expected =
            [100, 200, 300].map(|levels| (printable(at(levels).as_bytes()), Kind::Map, map.id()));
        expected.sort();
        assert_eq!(read(&mut enricher, &scene.path), expected);
    }
}

/// A limit of open files, restored when dropped.
struct Limited((u64, u64));

impl Limited {
    fn to(descriptors: u64) -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        setrlimit(Resource::RLIMIT_NOFILE, descriptors, limit.1).expect("a limit can be lowered");
        Self(limit)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.0.0, self.0.1).expect("a limit can be restored");
    }
}

pub(crate) fn few_descriptors() {
    const LEVELS: usize = 200;
    let scene = Scene::new("few");
    let map = map("few");
    let mut pins: Vec<Pin> = Vec::new();
    descend(&scene.path, "d", LEVELS, |here, _| {
        for sibling in ["a", "z"] {
            fs::create_dir(here.join(sibling)).expect("it can be made");
            pins.push(map.pin(&here.join(sibling).join("map")).expect("it can be pinned"));
        }
    });
    let mut enricher = enricher();
    let _limited = Limited::to(descriptors() as u64 + 30);
    assert_eq!(read(&mut enricher, &scene.path).len(), 2 * LEVELS);
}

pub(crate) fn names() {
    let scene = Scene::new("names");
    let map = map("names");
    let directory = scene.make("a b");
    let odd = directory.join(OsStr::from_bytes(b"\xff\xfe\x01"));
    fs::create_dir(&odd).expect("it can be made");
    let _pins = [map.pin(&odd.join("map")), map.pin(&directory.join("m\u{e4}p \"'\\"))]
        .map(|pin| pin.expect("it can be pinned"));
    for (target, link) in
        [("..", "a b/up"), ("a b", "other"), ("a b/m\u{e4}p \"'\\", "pin"), ("/", "root"), ("gone", "dead")]
    {
        symlink(target, scene.at(link)).expect("a bpffs has symbolic links");
    }
    let expected =
        [pinned(scene.at("a b/\\xff\\xfe\\x01/map"), &map), pinned(scene.at("a b/m\u{e4}p \"'\\"), &map)];
    assert_eq!(read(&mut enricher(), &scene.path), expected);
}
