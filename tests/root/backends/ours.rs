//! The objects that the iterators themselves are: reported like any other, and freed with the reader.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bpf_metrics_exporter::model::Snapshot;

use super::readers::{self, descriptors};
use test_support::objects::{Kind, wait_until_gone};
use test_support::running::Running;

const SOON: Duration = Duration::from_secs(20);

/// Names of programs, as BTF has them, and of maps, where there are iterators over all tables.
const NAMES: [&[&str]; 2] = [
    &[
        "bpf_metrics_exporter_program",
        "bpf_metrics_exporter_program_pass",
        "bpf_metrics_exporter_map",
        "bpf_metrics_exporter_map_pass",
        "bpf_metrics_exporter_link",
        "bpf_metrics_exporter_files",
        "bpf_metrics_exporter_bpffs",
    ],
    &[
        "bpfmetrics_cpus",
        "bpfmetrics_req",
        "bpfmetrics_prog",
        "bpfmetrics_kpro",
        "bpfmetrics_cpro",
        "bpfmetrics_maps",
        "bpfmetrics_kmap",
        "bpfmetrics_cmap",
        "bpfmetrics_link",
        "bpfmetrics_kind",
        "bpfmetrics_walk",
        "bpfmetrics_file",
    ],
];

/// Ids and names of the programs and maps, and ids of the links of one exporter, with the names of their programs.
type Ours = [BTreeSet<(u32, String)>; 3];

/// Returns the links that a process holds, the programs that they attach and the maps that those use, with these names. Other exporters
/// may run at the same time.
fn ours(snapshot: &Snapshot, pid: u32) -> Ours {
    let held = links_of(pid);
    let links = snapshot.links.iter().flatten().filter(|link| held.contains(&link.facts.id));
    let (mut programs, mut maps, mut named_links) = <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    for link in links {
        let program = link.facts.prog_id.map(|id| readers::program(snapshot, id)).expect("it has a program");
        let name = program.facts.name.clone();
        if !NAMES[0].contains(&&*name) {
            continue;
        }
        named_links.insert((link.facts.id, name.clone()));
        programs.insert((program.facts.id, name));
        for &id in program.facts.map_ids.as_deref().expect("root may know them") {
            maps.insert((id, readers::map(snapshot, id).facts.name.clone()));
        }
    }
    [programs, maps, named_links]
}

/// Returns the ids of the links that a process holds.
fn links_of(pid: u32) -> BTreeSet<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs").flatten();
    // Others of its descriptors come and go.
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok()))
        .collect()
}

fn names(of: &BTreeSet<(u32, String)>) -> BTreeSet<&str> {
    of.iter().map(|(_, name)| &**name).collect()
}

fn assert_freed(ours: &Ours) {
    for (kind, objects) in [Kind::Program, Kind::Map, Kind::Link].into_iter().zip(ours) {
        let ids: Vec<_> = objects.iter().map(|&(id, _)| id).collect();
        wait_until_gone(kind, &ids, SOON).expect("nothing holds them");
    }
}

fn assert_all(ours: &Ours) {
    assert_eq!(names(&ours[0]), NAMES[0].iter().copied().collect());
    assert_eq!(names(&ours[1]), NAMES[1].iter().copied().collect());
    assert_eq!(names(&ours[2]), NAMES[0].iter().copied().collect(), "each is linked");
}

pub(crate) fn freed_with_the_reader() {
    let mut ids = readers::by_ids();
    let open = descriptors();
    let mut reader = readers::by_iterators();
    let kept = descriptors();
    // A link of each program; the maps with the requests, the CPUs and the position in the list of processes; the symbols of the kernel.
    assert_eq!(kept - open, 11);
    let this = std::process::id();
    for _ in 0..3 {
        assert_all(&ours(&reader.read(), this));
        assert_eq!(descriptors(), kept, "no descriptor outlives a reading");
    }
    let found = ours(&ids.read(), this);
    assert_all(&found);
    drop(reader);
    assert_eq!(descriptors(), open);
    assert_freed(&found);
}

pub(crate) fn freed_when_killed() {
    let mut ids = readers::by_ids();
    let mut exporter = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    exporter.args(["--otlp-grpc", "none", "--web.listen-address", "127.0.0.1:0"]).stderr(Stdio::piped());
    let mut exporter = Running(exporter.spawn().expect("it starts"));
    let log = BufReader::new(exporter.0.stderr.take().expect("a pipe"));
    let mut lines = log.lines().map(|line| line.expect("the log is text"));
    lines.find(|line| line.contains("http://")).expect("it logs its address");
    let found = ours(&ids.read(), exporter.0.id());
    assert_all(&found);
    // By SIGKILL.
    drop(exporter);
    assert_freed(&found);
}
