//! Golden files, which `UPDATE=1 cargo test` rewrites, and the snapshot among them that many tests start from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::model::{
    Backlog, BootTime, Build, Delivery, Destination, Exporter, OwnProcess, Snapshot, Tally,
};

/// The directory of the main package.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A snapshot with objects of every kind.
pub const SNAPSHOT: &str = "tests/golden/node/snapshot.json";

/// Parses [`SNAPSHOT`].
#[must_use]
pub fn snapshot() -> Snapshot {
    let path = Path::new(ROOT).join(SNAPSHOT);
    let text = std::fs::read_to_string(path).expect("the file is there");
    Arc::unwrap_or_clone(json::parse(&text).expect("it is a snapshot").snapshot)
}

/// Returns a snapshot with this many programs, each with an owner and maps, and this many maps.
///
/// # Panics
///
/// If [`SNAPSHOT`] has no program or no map.
#[must_use]
pub fn large(programs: u32, maps: u32) -> Snapshot {
    let snapshot = snapshot();
    let example = snapshot.programs.as_ref().expect("it has programs")[0].clone();
    let program = |id| {
        let mut program = example.clone();
        let facts = Arc::make_mut(&mut program.facts);
        (facts.id, facts.name) = (id, format!("program_{id}"));
        facts.map_ids = Some(vec![id, id + 1]);
        program.run_time = Some(Duration::from_micros(id.into()));
        program
    };
    let map_example = snapshot.maps.as_ref().expect("it has maps")[0].clone();
    let map = |id| {
        let mut map = map_example.clone();
        let facts = Arc::make_mut(&mut map.facts);
        (facts.id, facts.name) = (id, format!("map_{id}"));
        map
    };
    let (programs, maps) = ((1..=programs).map(program).collect(), (1..=maps).map(map).collect());
    Snapshot { programs: Some(programs), maps: Some(maps), ..snapshot }
}

/// Returns a snapshot with this many programs, which all use the one map that there is: that with the id 1.
///
/// # Panics
///
/// As [`large`].
#[must_use]
pub fn with_shared_map(programs: u32) -> Snapshot {
    let mut snapshot = large(programs, 1);
    for program in snapshot.programs.iter_mut().flatten() {
        Arc::make_mut(&mut program.facts).map_ids = Some(vec![1]);
    }
    snapshot
}

/// Returns the state of an exporter that has served and pushed a snapshot, started at `since`.
#[must_use]
pub fn exporter(since: BootTime) -> Exporter {
    let tally = |label, count| Tally { destination: None, label, count, since };
    let resource = [
        ("service.name", "golden"),
        ("service.version", "1.2.3"),
        ("host.name", "node-7"),
        ("os.description", "a \"quoted\" system"),
    ];
    Exporter {
        build: Build { started_at: since, version: "1.2.3", revision: Some("abcdef"), rustc: Some("1.95.0") },
        process: Some(OwnProcess {
            cpu: Duration::from_millis(4250),
            resident_memory: 11 << 20,
            virtual_memory: 1 << 30,
            threads: 5,
            open_fds: 23,
            max_fds: 1024,
            started_at: since,
        }),
        resource: resource.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        lost_log_lines: 0,
        destinations: vec![Destination {
            destination: None,
            endpoint: "http://collector:4317".into(),
            configured: true,
        }],
        delivery: Some(Delivery {
            points: vec![tally("accepted", 140), tally("rejected", 2)],
            dropped: vec![
                tally("refused", 0),
                tally("backlog_full", 7),
                tally("shutdown", 0),
                tally("unreadable", 0),
            ],
            log_records: vec![tally("accepted", 21), tally("rejected", 0)],
            dropped_log_records: vec![
                tally("refused", 0),
                tally("backlog_full", 0),
                tally("shutdown", 0),
                tally("unreadable", 0),
                tally("missed", 4),
            ],
            requests: vec![tally("success", 3), tally("retryable", 1), tally("split", 0), tally("failed", 0)],
            backlog: vec![Backlog { destination: None, bytes: 4096, since }],
        }),
    }
}

/// Compares a text with a file below the package's root, or replaces the file when `UPDATE` is set.
pub fn assert_golden(path: &str, text: &str) {
    let file = Path::new(ROOT).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("failed to write {path}: {error}"));
        return;
    }
    let golden =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("failed to read {path}: {error}"));
    if let Some((line, (is, was))) =
        text.lines().zip(golden.lines()).enumerate().find(|(_, (is, was))| is != was)
    {
        panic!("{path}:{} has changed; UPDATE=1 accepts the change\n was: {was}\n  is: {is}", line + 1);
    }
    assert!(text == golden, "{path} is longer or shorter than it should be; UPDATE=1 accepts the change");
}
