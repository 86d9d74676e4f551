//! Readers with one backend and no other, and rows of their snapshots by id.

use std::fs;
use std::path::Path;

use bpf_metrics_exporter::kernel::{Choice, Reader, ReaderChoice, ReaderOptions, RunStatsMode, release};
use bpf_metrics_exporter::model::{Link, Map, Part, Program, ReaderKind, Snapshot};

/// A reader with this backend only.
#[must_use]
pub fn by(backend: ReaderKind) -> Reader {
    Reader::new(ReaderOptions { reader: ReaderChoice::Only(backend), ..ReaderOptions::default() })
}

/// A reader by iterators where this kernel has them, and else by the id walk.
#[must_use]
pub fn best() -> Reader {
    Reader::new(ReaderOptions::default())
}

/// A reader by the id walk.
#[must_use]
pub fn by_ids() -> Reader {
    by(ReaderKind::Walk)
}

/// A reader with this backend only, which has runs counted.
#[must_use]
pub fn counting_by(backend: ReaderKind) -> Reader {
    let reader = ReaderChoice::Only(backend);
    Reader::new(ReaderOptions { reader, run_stats: RunStatsMode::On, ..ReaderOptions::default() })
}

/// A reader by iterators over all tables.
///
/// # Panics
///
/// Where it has none: check [`iterators_missing`] first.
#[must_use]
pub fn by_iterators() -> Reader {
    let reader = by(ReaderKind::Iter);
    assert_iterates(&reader);
    reader
}

/// Asserts that a reader has iterators over programs, maps and links, and makes passes over those that these have visited.
///
/// # Panics
///
/// Where it has not.
pub fn assert_iterates(reader: &Reader) {
    for part in [Part::Program, Part::Map, Part::Link] {
        let choice = reader.choices().iter().find(|choice| choice.part == part);
        let iterates = |choice: &Choice| choice.reader == Some(ReaderKind::Iter) && choice.reason.is_none();
        assert!(choice.is_some_and(iterates), "{choice:?}");
    }
}

/// Returns why this kernel has no iterators for the exporter; `None` since 5.19, where it describes its types.
#[must_use]
pub fn iterators_missing() -> Option<String> {
    let exist = version() >= (5, 19) && Path::new("/sys/kernel/btf/vmlinux").exists();
    (!exist).then(|| "needs iterators: Linux 5.19 with BTF".to_owned())
}

/// Returns the first two numbers of the kernel's release.
#[must_use]
pub fn version() -> (u32, u32) {
    let release = release().expect("Linux has /proc");
    let mut numbers = release.split(|end: char| !end.is_ascii_digit()).map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten().expect("a release begins with two numbers");
    (next(), next())
}

/// Returns the program with this id.
#[must_use]
pub fn program(snapshot: &Snapshot, id: u32) -> &Program {
    let programs = snapshot.programs.as_deref().expect("programs can be read");
    programs.iter().find(|program| program.facts.id == id).expect("the program is reported")
}

/// Returns the map with this id.
#[must_use]
pub fn map(snapshot: &Snapshot, id: u32) -> &Map {
    let maps = snapshot.maps.as_deref().expect("maps can be read");
    maps.iter().find(|map| map.facts.id == id).expect("the map is reported")
}

/// Returns the link with this id.
#[must_use]
pub fn link(snapshot: &Snapshot, id: u32) -> &Link {
    let links = snapshot.links.as_deref().expect("links can be read");
    links.iter().find(|link| link.facts.id == id).expect("the link is reported")
}

/// Returns the number of descriptors of this process, without those of files with settings of the host, which each reader keeps open, and
/// whose number depends on the kernel.
///
/// # Panics
///
/// Without `/proc`.
#[must_use]
pub fn descriptors() -> usize {
    let is_setting = |file: &Path| file.starts_with("/proc/sys") || file.starts_with("/sys");
    let entries = fs::read_dir("/proc/self/fd").expect("Linux has /proc").flatten();
    entries.filter(|entry| !fs::read_link(entry.path()).is_ok_and(|file| is_setting(&file))).count()
}
