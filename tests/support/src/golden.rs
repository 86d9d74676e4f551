//! Golden files, which `UPDATE=1 cargo test` rewrites, and the snapshot among them that many tests start from.

use std::path::Path;
use std::sync::Arc;

use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::model::Snapshot;

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
