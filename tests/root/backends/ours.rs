//! What the reader puts into the kernel itself: it is listed like anything else, and gone with the reader.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bpf_metrics_exporter::model::Snapshot;

use super::readers;
use test_support::objects::{Kind, wait_until_gone};
use test_support::running::Running;

const SOON: Duration = Duration::from_secs(20);

/// Names of programs, as BTF has them, and of maps, where there are iterators over all tables.
const NAMES: [&[&str]; 2] = [
    &[
        "bpf_metrics_exporter_program",
        "bpf_metrics_exporter_map",
        "bpf_metrics_exporter_link",
        "bpf_metrics_exporter_task",
    ],
    &[
        "bpfmetrics_cpus",
        "bpfmetrics_ask",
        "bpfmetrics_prog",
        "bpfmetrics_maps",
        "bpfmetrics_link",
        "bpfmetrics_file",
        "bpfmetrics_kind",
        "bpfmetrics_walk",
    ],
];

/// Ids and names of programs, maps and links that an exporter loads. There may be others that run.
type Ours = [BTreeSet<(u32, String)>; 3];

fn ours(snapshot: &Snapshot) -> Ours {
    let programs = snapshot.programs.iter().flatten();
    let programs: BTreeSet<_> = programs
        .map(|program| (program.facts.id, program.facts.name.clone()))
        .filter(|(_, name)| NAMES[0].contains(&&**name))
        .collect();
    let maps = snapshot.maps.iter().flatten().map(|map| (map.facts.id, map.facts.name.clone()));
    let links = snapshot.links.iter().flatten().filter_map(|link| {
        let (_, name) = programs.iter().find(|(id, _)| Some(*id) == link.facts.prog_id)?;
        Some((link.facts.id, name.clone()))
    });
    let (maps, links) = (maps.filter(|(_, name)| NAMES[1].contains(&&**name)).collect(), links.collect());
    [programs, maps, links]
}

/// What is there and was not before, of each kind.
fn new(before: &Ours, now: &Ours) -> Ours {
    std::array::from_fn(|kind| &now[kind] - &before[kind])
}

fn names(of: &BTreeSet<(u32, String)>) -> BTreeSet<&str> {
    of.iter().map(|(_, name)| &**name).collect()
}

fn assert_gone(ours: &Ours) {
    for (kind, objects) in [Kind::Program, Kind::Map, Kind::Link].into_iter().zip(ours) {
        let ids: Vec<_> = objects.iter().map(|&(id, _)| id).collect();
        wait_until_gone(kind, &ids, SOON).expect("nobody holds them");
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux has /proc").count()
}

/// Another exporter may come or go meanwhile: what it loads is not ours, and as many as ours.
fn assert_all(ours: &Ours) {
    assert_eq!(names(&ours[0]), NAMES[0].iter().copied().collect());
    assert_eq!(names(&ours[1]), NAMES[1].iter().copied().collect());
    assert_eq!(names(&ours[2]), NAMES[0].iter().copied().collect(), "each is linked");
}

pub(crate) fn freed_with_the_reader() {
    let mut ids = readers::by_ids();
    let before = ours(&ids.read());
    let open = descriptors();
    let mut reader = readers::by_iterators();
    let kept = descriptors();
    // A link of each iterator, and the maps that tell the ones over programs and threads what to do.
    assert_eq!(kept - open, 6);
    for _ in 0..3 {
        let found = new(&before, &ours(&reader.read()));
        assert_all(&found);
        assert_eq!(descriptors(), kept, "no descriptor outlives a reading");
    }
    let found = new(&before, &ours(&ids.read()));
    assert_all(&found);
    drop(reader);
    assert_eq!(descriptors(), open);
    assert_gone(&found);
}

pub(crate) fn freed_when_killed() {
    let mut ids = readers::by_ids();
    let before = ours(&ids.read());
    let mut exporter = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    exporter.args(["--otlp-grpc", "none", "--web.listen-address", "127.0.0.1:0"]).stderr(Stdio::piped());
    let mut exporter = Running(exporter.spawn().expect("it starts"));
    let log = BufReader::new(exporter.0.stderr.take().expect("a pipe"));
    let mut lines = log.lines().map(|line| line.expect("the log is text"));
    lines.find(|line| line.contains("http://")).expect("it says where it serves");
    let found = new(&before, &ours(&ids.read()));
    assert_all(&found);
    // SIGKILL.
    drop(exporter);
    assert_gone(&found);
}
