//! `snapshot`: the state of the host, or of a file, to standard output or a file. Entry point: [`snapshot`].

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bpf_metrics_exporter::baseline;
use bpf_metrics_exporter::cli::{Collection, Log, RatePeriod, SnapshotCommand, SnapshotFormat, TableView};
use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::export::recording::{Ends, first_and_last};
use bpf_metrics_exporter::export::table::Style;
use bpf_metrics_exporter::export::{csv, json, prometheus, series, table};
use bpf_metrics_exporter::kernel::requirements::Standing;
use bpf_metrics_exporter::kernel::{Reader, RunStatsMode};
use bpf_metrics_exporter::lookup;
use bpf_metrics_exporter::metrics::columns::{Table, TableKind};
use bpf_metrics_exporter::metrics::overview::SECTIONS;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::Snapshot;
use bpf_metrics_exporter::text::visible;
use tracing::{info, warn};

use crate::{USAGE, finish, log, messages, output, recording};

/// Limit of the lookup of names.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);

/// The time for rates where tables are shown on a terminal.
const DEFAULT_PERIOD: Duration = Duration::from_secs(1);

/// Rows of each table in the overview where no terminal limits them.
const OVERVIEW_ROWS: usize = 10;

/// The width of a terminal that does not report one.
const DEFAULT_WIDTH: usize = 80;

/// Why there is no baseline.
const NOT_COMPLETE: &str =
    "not every program could be read, and a baseline without it would report it as unexpected";

/// Prints a snapshot, or records several.
pub(super) fn snapshot(mut options: SnapshotCommand, log: Log, warnings: &[String]) -> ExitCode {
    if let Err(error) = log::start(log) {
        return finish(Err(error).context("failed to start the thread of the log"));
    }
    for warning in warnings {
        warn!("{warning}");
    }
    if let Some(recording) = options.recording {
        // A recording is for rates.
        options.collection.kernel.run_stats = options.run_stats.unwrap_or(RunStatsMode::On);
        return finish(recording::record(recording, options.collection, options.output));
    }
    let readings = match &options.from {
        Some(file) => match read_file(file) {
            Ok(readings) => readings,
            Err(error) => {
                log::complain(&format!("--from: {error:#}"));
                return ExitCode::from(USAGE);
            }
        },
        None => match read_host(&options) {
            Ok(readings) => readings,
            Err(error) => return finish(Err(error)),
        },
    };
    finish(show(&options, readings))
}

/// A reading, and an earlier one for rates.
struct RatedReading {
    earlier: Option<Arc<Snapshot>>,
    later: Selected,
}

fn show(options: &SnapshotCommand, RatedReading { earlier, later }: RatedReading) -> anyhow::Result<()> {
    for issue in later.snapshot.issues.iter().filter(|issue| issue.count > 0) {
        warn!("{}", messages::issue(issue));
    }
    let selected = options.collection.selection.apply(later, None);
    if let Some(dropped) = selected.dropped.filter(|&dropped| dropped > 0) {
        warn!("{}", messages::dropped_series(dropped));
    }
    let text = if options.baseline {
        baseline::render(&selected.snapshot).context(NOT_COMPLETE)
    } else {
        render(options, &selected, earlier.as_deref())
    };
    output::write(options.output.as_deref(), &text?)
}

fn render(
    options: &SnapshotCommand,
    selected: &Selected,
    earlier: Option<&Snapshot>,
) -> anyhow::Result<String> {
    let sample = selected.sample(None);
    match (options.format, options.view.kind) {
        (SnapshotFormat::Prometheus, _) => {
            let text = prometheus::render(sample, prometheus::Format::Text, 0);
            Ok(if TerminalSize::of(options).is_some() { for_terminal(&text) } else { text })
        }
        (SnapshotFormat::Series, _) => Ok(series::render(sample)),
        (SnapshotFormat::Json, None) => {
            json::render(selected).context("failed to write the snapshot as JSON")
        }
        (SnapshotFormat::Ndjson, None) => {
            json::line(selected).context("failed to write the snapshot as JSON")
        }
        (_, kind) => render_table(options, kind, &selected.without_unselected_holders(), earlier),
    }
}

/// Escapes the invisible characters of each line, which has names of any origin if the snapshot is from a file.
fn for_terminal(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

fn render_table(
    options: &SnapshotCommand,
    kind: Option<TableKind>,
    later: &Snapshot,
    earlier: Option<&Snapshot>,
) -> anyhow::Result<String> {
    let TableView { sort, ref filter, limit, wide, .. } = options.view;
    let terminal = TerminalSize::of(options);
    let style = Style {
        width: terminal.as_ref().map(|terminal| terminal.width).filter(|_| !wide),
        colour: terminal.is_some() && output::colour(),
        notes: terminal.is_some(),
        wide,
    };
    let Some(kind) = kind else {
        let rows = limit.unwrap_or_else(|| terminal.map_or(OVERVIEW_ROWS, TerminalSize::rows_of_overview));
        return Ok(table::overview(later, earlier, filter, rows, style));
    };
    let table = Table::new(kind, later, earlier)
        .ok_or_else(|| anyhow!("{} are not known; `bpf-metrics-exporter doctor` says why", kind.as_str()))?;
    let sort = sort.unwrap_or_else(|| table.default_sort());
    let rows = table.select(filter, sort);
    match options.format {
        SnapshotFormat::Json => {
            json::table(&table, later, &rows, limit).context("failed to write the table as JSON")
        }
        SnapshotFormat::Ndjson => {
            json::lines(&table, &rows, limit).context("failed to write the table as JSON")
        }
        SnapshotFormat::Csv => csv::render(&table, &rows, limit).context("failed to write the table as CSV"),
        SnapshotFormat::Table | SnapshotFormat::Prometheus | SnapshotFormat::Series => {
            Ok(table::render(&table, &rows, sort, limit, style))
        }
    }
}

/// The terminal that standard output is.
#[derive(Clone, Copy)]
struct TerminalSize {
    width: usize,
    height: Option<usize>,
}

impl TerminalSize {
    /// Returns the terminal that a command writes to, if it does.
    fn of(options: &SnapshotCommand) -> Option<Self> {
        if options.output.is_some() || !io::stdout().is_terminal() {
            return None;
        }
        let size = terminal_size::terminal_size_of(io::stdout());
        let (width, height) = size
            .map_or((DEFAULT_WIDTH, None), |(width, height)| (width.0.into(), Some(usize::from(height.0))));
        Some(Self { width, height })
    }

    /// Returns the rows of each table for which there is room, at least three.
    fn rows_of_overview(self) -> usize {
        /// The date, the totals and the last line, with empty lines between them.
        const AROUND: usize = 10;
        /// An empty line, a title and a heading.
        const HEAD: usize = 3;
        let Some(height) = self.height else { return OVERVIEW_ROWS };
        (height.saturating_sub(AROUND) / SECTIONS.len()).saturating_sub(HEAD).clamp(3, OVERVIEW_ROWS)
    }
}

/// Returns the time between two readings; `None` for one reading.
fn period(options: &SnapshotCommand) -> Option<Duration> {
    match options.period {
        RatePeriod::None => None,
        RatePeriod::Of(period) => Some(period),
        RatePeriod::Default => {
            let is_for_people = options.format == SnapshotFormat::Table && !options.baseline;
            (is_for_people && TerminalSize::of(options).is_some()).then_some(DEFAULT_PERIOD)
        }
    }
}

/// Reads the host: once, or at both ends of a period.
fn read_host(options: &SnapshotCommand) -> anyhow::Result<RatedReading> {
    let at_start = Standing::read();
    let Collection { mut kernel, ref enrich, ref lookup, .. } = options.collection;
    let period = period(options);
    kernel.run_stats = options.run_stats.unwrap_or(match period {
        Some(_) => RunStatsMode::On,
        None => RunStatsMode::Off,
    });
    messages::warn_of_missing_sockets(lookup);
    let names = NameCache::default();
    let mut enricher = Enricher::new(Reader::new(kernel), enrich.clone(), names.clone());
    let first = read_named(&mut enricher, &names, lookup);
    if first.is_all_refused() {
        return Err(anyhow!(messages::not_permitted(at_start)));
    }
    let Some(period) = period else {
        return Ok(RatedReading { earlier: None, later: Selected::all(first.into()) });
    };
    let meanwhile =
        messages::run_stats_meanwhile(kernel.run_stats, first.run_stats, &format!("for {period:?}"));
    if let Some(message) = meanwhile {
        info!("{message}");
    }
    thread::sleep(period);
    let later = enricher.read();
    if let Some(message) = messages::no_sample(kernel.run_stats, &first, &later) {
        warn!("{message}");
    }
    Ok(RatedReading { earlier: Some(first.into()), later: Selected::all(later.into()) })
}

/// Takes a reading, and another one for the names that it found missing.
pub(super) fn read_named(enricher: &mut Enricher, names: &NameCache, lookup: &lookup::Settings) -> Snapshot {
    let snapshot = enricher.read();
    if names.missing().is_empty() {
        return snapshot;
    }
    match lookup::once(names, lookup, LOOKUP_TIMEOUT) {
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

/// Reads a snapshot from a file, or the first and the last one of a recording.
fn read_file(file: &Path) -> anyhow::Result<RatedReading> {
    let Ends { first, last, is_cut } = first_and_last(file)?;
    if is_cut {
        warn!("the last line of {} is cut off; left out", file.display());
    }
    Ok(RatedReading { earlier: first, later: last })
}
