//! A bpffs for a test, and the pins that are reported below it.

use std::fs;
use std::path::{Path, PathBuf};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::{Issue, Kind, Part, Pin as Found, Snapshot};

use super::{directory, readers};
use test_support::objects::{Map, Mount, uapi};

/// A directory with a mount on it, both removed when dropped.
pub(crate) struct Scene {
    mount: Option<Mount>,
    pub(crate) path: PathBuf,
}

impl Scene {
    /// A new bpffs.
    pub(crate) fn new(name: &str) -> Self {
        let path = directory(name);
        fs::create_dir(&path).expect("it can be made");
        let mount = Mount::visible(c"bpf", &path).expect("it can be mounted");
        Self { mount: Some(mount), path }
    }

    /// A path in it.
    pub(crate) fn at(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// Makes a directory in it.
    pub(crate) fn make(&self, below: &str) -> PathBuf {
        let path = self.at(below);
        fs::create_dir_all(&path).expect("it can be made");
        path
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.mount.take());
        let _removed = fs::remove_dir(&self.path);
    }
}

/// Collects all pins.
pub(crate) fn enricher() -> Enricher {
    enricher_of(&[])
}

/// Collects all pins, and those in these directories.
pub(crate) fn enricher_of(bpffs: &[PathBuf]) -> Enricher {
    let options = EnrichOptions { bpffs: bpffs.to_vec(), ..EnrichOptions::default() };
    Enricher::new(readers::by_ids(), options, NameCache::default())
}

/// A map.
pub(crate) fn map(name: &str) -> Map {
    Map::ready(uapi::map_type::ARRAY, name).expect("it can be made")
}

/// An expected pin: path, kind and id.
pub(crate) type Expected = (String, Kind, u32);

/// Returns the pins below a directory of our mount namespace, in the reported order, without those that the kernel itself puts into
/// each bpffs.
pub(crate) fn below(snapshot: &Snapshot, directory: &Path) -> Vec<Expected> {
    let row = |pin: &Found| (pin.path.to_string(), pin.kind, pin.id);
    pins(snapshot)
        .iter()
        .filter(|pin| pin.bpffs.is_none() && Path::new(&*pin.path).starts_with(directory))
        .filter(|pin| !is_preloaded(&pin.path))
        .map(row)
        .collect()
}

/// Returns all pins.
pub(crate) fn pins(snapshot: &Snapshot) -> &[Found] {
    let pins = snapshot.pins.as_deref().expect("it is known what is mounted");
    let order = |pin: &'_ Found| (pin.path.clone(), pin.bpffs.clone());
    assert!(pins.is_sorted_by(|one, other| order(one) < order(other)), "by path and bpffs, and each once");
    pins
}

pub(crate) fn is_preloaded(path: &str) -> bool {
    path.ends_with("/maps.debug") || path.ends_with("/progs.debug")
}

/// Returns the issues with pins.
pub(crate) fn issues(snapshot: &Snapshot) -> Vec<&Issue> {
    snapshot.issues.iter().filter(|issue| issue.part == Part::Pin && issue.count > 0).collect()
}

/// Returns the pins below a directory, and asserts that there was no issue.
pub(crate) fn read(enricher: &mut Enricher, directory: &Path) -> Vec<Expected> {
    let snapshot = enricher.read();
    assert_eq!(issues(&snapshot), [] as [&Issue; 0]);
    below(&snapshot, directory)
}

/// The expected pin of a map.
pub(crate) fn pinned(path: impl Into<PathBuf>, map: &Map) -> Expected {
    (path.into().display().to_string(), Kind::Map, map.id())
}

pub(crate) use test_support::readers::descriptors;
