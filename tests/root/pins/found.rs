//! Every pin is reported once, with its kind, id and path, and those that may not be read are issues.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use bpf_metrics_exporter::model::{Capability as ModelCapability, Feature, Kind, Reason};
use caps::{CapSet, Capability};

use super::scene::{
    Expected, Scene, below, descriptors, enricher, is_preloaded, issues, map, pinned, pins, read,
};
use test_support::objects::{Herd, Link, Pin, Program, uapi};

pub(crate) fn thousands() {
    const PROGRAMS: usize = 1_300;
    const MAPS: usize = 1_400;
    const AGAIN: usize = 300;
    let scene = Scene::new("thousands");
    let herd = Herd::new(PROGRAMS, MAPS).expect("they can be made");
    let mut made: Vec<(Pin, Kind, u32)> = Vec::new();
    for (number, program) in herd.programs().iter().enumerate() {
        let directory = scene.make(&format!("programs/{}", number % 30));
        made.push((
            program.pin(&directory.join(format!("p{number}"))).expect("it can be pinned"),
            Kind::Program,
            program.id(),
        ));
    }
    let maps = scene.make("maps");
    for (number, map) in herd.maps().iter().enumerate() {
        made.push((
            map.pin(&maps.join(format!("m{number}"))).expect("it can be pinned"),
            Kind::Map,
            map.id(),
        ));
    }
    for (number, map) in herd.maps()[..AGAIN].iter().enumerate() {
        made.push((
            map.pin(&scene.at(&format!("again{number}"))).expect("it can be pinned"),
            Kind::Map,
            map.id(),
        ));
    }
    let mut expected: Vec<Expected> =
        made.iter().map(|(pin, kind, id)| (pin.path().display().to_string(), *kind, *id)).collect();
    expected.sort();
    assert_eq!(expected.len(), PROGRAMS + MAPS + AGAIN);

    let mut enricher = enricher();
    let before = descriptors();
    for reading in 0..3 {
        assert!(read(&mut enricher, &scene.path) == expected, "in reading {reading}");
        assert_eq!(descriptors(), before, "nothing stays open");
    }
    let (first, second) = (enricher.read(), enricher.read());
    for (first, second) in pins(&first).iter().zip(pins(&second)) {
        assert!(std::sync::Arc::ptr_eq(&first.path, &second.path), "cached paths are shared");
    }
}

pub(crate) fn kinds_and_directories() {
    let scene = Scene::new("kinds");
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "pinned").expect("it can be loaded");
    let map = map("pinned");
    let iterator = Link::iter().expect("it can be attached");
    let cgroup = Link::cgroup().expect("it can be attached");
    scene.make("agent/deep");
    let _pins = [
        program.pin(&scene.at("agent/deep/program")),
        map.pin(&scene.at("map")),
        map.pin(&scene.at("agent/map")),
        iterator.pin(&scene.at("agent/iterator")),
        cgroup.pin(&scene.at("cgroup")),
    ]
    .map(|pin| pin.expect("it can be pinned"));
    let snapshot = enricher().read();
    let found: Vec<_> = pins(&snapshot)
        .iter()
        .filter(|pin| pin.path.starts_with(&*scene.path.to_string_lossy()))
        .filter(|pin| !is_preloaded(&pin.path))
        .map(|pin| (&*pin.path, pin.kind, pin.id, &*pin.directory))
        .collect();
    let at = |below: &str| scene.at(below).display().to_string();
    assert_eq!(
        found,
        [
            (&*at("agent/deep/program"), Kind::Program, program.id(), &*at("agent")),
            (&*at("agent/iterator"), Kind::Link, iterator.id(), &*at("agent")),
            (&*at("agent/map"), Kind::Map, map.id(), &*at("agent")),
            (&*at("cgroup"), Kind::Link, cgroup.id(), &*at("cgroup")),
            (&*at("map"), Kind::Map, map.id(), &*at("map")),
        ]
    );
    // Kernels with `CONFIG_BPF_PRELOAD` add their own pins; these can be dead from the start, without a link in any table (seen
    // on 6.18).
    for preloaded in ["maps.debug", "progs.debug"].map(|name| scene.at(name)) {
        let pin = pins(&snapshot).iter().find(|pin| *pin.path == *preloaded.to_string_lossy());
        let lives = fs::File::open(&preloaded).is_ok();
        assert_eq!(pin.map(|pin| pin.kind), lives.then_some(Kind::Link), "{}", preloaded.display());
    }
    assert!(issues(&snapshot).is_empty(), "{:?}", issues(&snapshot));
}

/// Drops a capability of this thread, and raises it again when dropped.
pub(crate) struct Without(&'static [Capability]);

impl Without {
    pub(crate) fn new(capabilities: &'static [Capability]) -> Self {
        for &capability in capabilities {
            caps::drop(None, CapSet::Effective, capability).expect("it can be dropped");
        }
        Self(capabilities)
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        for &capability in self.0 {
            caps::raise(None, CapSet::Effective, capability).expect("it is still permitted");
        }
    }
}

pub(crate) fn rights() {
    let scene = Scene::new("rights");
    let (map, link) = (map("pinned"), Link::iter().expect("it can be attached"));
    scene.make("open");
    let closed = scene.make("closed");
    let pins = [
        map.pin(&scene.at("closed/map")),
        map.pin(&scene.at("open/read_only")),
        link.pin(&scene.at("open/link")),
        link.pin(&scene.at("open/read_only_link")),
        map.pin(&scene.at("open/nothing")),
    ]
    .map(|pin| pin.expect("it can be pinned"));
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    };
    mode(&closed, 0);
    mode(pins[1].path(), 0o400);
    mode(pins[3].path(), 0o400);
    mode(pins[4].path(), 0);
    let found: [Expected; 2] =
        [(scene.at("open/link").display().to_string(), Kind::Link, link.id()), pinned(pins[1].path(), &map)];
    let mut enricher = enricher();
    for _ in 0..2 {
        let _without = Without::new(&[Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH]);
        let snapshot = enricher.read();
        assert_eq!(below(&snapshot, &scene.path), found);
        assert!(issues(&snapshot).is_empty(), "a missing right is no failure: {:?}", issues(&snapshot));
        let missing = Some(Reason::Missing(ModelCapability::DacOverride));
        assert_eq!(snapshot.feature(Feature::Pins).expect("it is reported").reason, missing);
        assert!(
            snapshot.totals.iter().all(|total| total.orphaned.is_none()),
            "who knows who pins the others"
        );
    }
    assert_eq!(read(&mut enricher, &scene.path).len(), 5, "who may read all finds all");
}
