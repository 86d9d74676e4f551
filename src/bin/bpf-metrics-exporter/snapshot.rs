//! `snapshot`: one reading, of the host or from a file, to standard output.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bpf_metrics_exporter::baseline;
use bpf_metrics_exporter::cli::{self, Collection, Log, SnapshotFormat};
use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::export::{json, prometheus, table};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::kernel::requirements::Standing;
use bpf_metrics_exporter::lookup;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::Snapshot;
use tracing::warn;

use crate::{USAGE, finish, log, messages, print};

/// Limit of the lookup of names.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);

/// Why there is no baseline.
const NOT_COMPLETE: &str =
    "not every program could be read, and a baseline without it would report it as unexpected";

/// Prints one snapshot.
pub(super) fn snapshot(options: cli::SnapshotCommand, log: Log, warnings: &[String]) -> ExitCode {
    let cli::SnapshotCommand { collection, format, baseline: as_baseline, from } = options;
    if let Err(error) = log::start(log) {
        return finish(Err(error).context("failed to start the thread of the log"));
    }
    for warning in warnings {
        warn!("{warning}");
    }
    let selection = collection.selection.clone();
    let selected = if let Some(file) = from {
        match read_file(&file) {
            Ok(selected) => selected,
            Err(error) => {
                log::complain(&format!("--from: {error:#}"));
                return ExitCode::from(USAGE);
            }
        }
    } else {
        let at_start = Standing::read();
        let snapshot = read_host(collection);
        if snapshot.is_all_refused() {
            return finish(Err(anyhow::anyhow!(messages::not_permitted(at_start))));
        }
        Selected::all(Arc::new(snapshot))
    };
    for issue in selected.snapshot.issues.iter().filter(|issue| issue.count > 0) {
        warn!("{}", messages::issue(issue));
    }
    let selected = selection.apply(selected, None);
    if let Some(dropped) = selected.dropped.filter(|&dropped| dropped > 0) {
        warn!("{}", messages::dropped_series(dropped));
    }
    if as_baseline {
        let text = baseline::render(&selected.snapshot);
        return finish(text.context(NOT_COMPLETE).and_then(|text| print(&text)));
    }
    let sample = selected.sample(None);
    let text = match format {
        SnapshotFormat::Table => Ok(table::render(sample)),
        SnapshotFormat::Json => json::render(&selected).context("failed to write the snapshot as JSON"),
        SnapshotFormat::Prometheus => Ok(prometheus::render(sample, prometheus::Format::Text, 0)),
    };
    finish(text.and_then(|text| print(&text)))
}

/// Reads the host, and once more for the names that the first reading found missing.
fn read_host(collection: Collection) -> Snapshot {
    messages::warn_of_missing_sockets(&collection.lookup);
    let names = NameCache::default();
    let mut enricher = Enricher::new(Reader::new(collection.kernel), collection.enrich, names.clone());
    let snapshot = enricher.read();
    if names.missing().is_empty() {
        return snapshot;
    }
    match lookup::once(&names, &collection.lookup, LOOKUP_TIMEOUT) {
        Ok(errors) => {
            for error in errors {
                warn!("{error}");
            }
            enricher.read()
        }
        Err(error) => {
            warn!("looking up pod and container names failed: {error}");
            snapshot
        }
    }
}

fn read_file(file: &Path) -> anyhow::Result<Selected> {
    let read = || -> anyhow::Result<Selected> {
        let mut text = String::new();
        if file.as_os_str() == "-" {
            io::stdin().lock().read_to_string(&mut text)?;
        } else {
            text = std::fs::read_to_string(file)?;
        }
        Ok(json::parse(&text)?)
    };
    read().with_context(|| format!("failed to read a snapshot from {}", file.display()))
}
