//! The options of `snapshot`, and which of its flags go together. Entry point: [`resolve`].

use std::path::PathBuf;
use std::time::Duration;

use super::flags::{SnapshotFlags, SnapshotFormat};
use super::values::Setting;
use super::{Collection, ConfigErrors, collect, read_once};
use crate::kernel::RunStatsMode;
use crate::metrics::columns::{Filter, Sort, TableKind};
use crate::metrics::select::Selection;

/// Options of `snapshot`.
#[derive(Debug)]
pub struct SnapshotCommand {
    /// Options of what is read. Its run statistics are those of a single reading.
    pub collection: Collection,
    /// When run statistics are on; `None` for the time between two readings.
    pub run_stats: Option<RunStatsMode>,
    /// The time between two readings that are compared.
    pub period: RatePeriod,
    /// What to record instead.
    pub recording: Option<RecordingSettings>,
    /// The format of the output.
    pub format: SnapshotFormat,
    /// Which rows of which tables are shown.
    pub view: TableView,
    /// Whether to print a baseline instead.
    pub baseline: bool,
    /// A file to show, `-` for standard input; `None` reads the host.
    pub from: Option<PathBuf>,
    /// The file to write; `None` for standard output.
    pub output: Option<PathBuf>,
}

/// The time between two readings that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatePeriod {
    /// A second where tables are shown on a terminal; elsewhere there is one reading only.
    Default,
    /// One reading only.
    None,
    /// So long.
    Of(Duration),
}

/// Readings at an interval, a line for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingSettings {
    /// The interval.
    pub every: Duration,
    /// How many readings; `None` until a signal arrives.
    pub count: Option<u64>,
}

/// Which rows of which tables are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct TableView {
    /// The table; `None` for the overview, or for the whole snapshot.
    pub kind: Option<TableKind>,
    /// The order; `None` for the most expensive first.
    pub sort: Option<Sort>,
    /// Which rows match.
    pub filter: Filter,
    /// How many of these are shown of each table; `None` for all, and for a few in the overview.
    pub limit: Option<usize>,
    /// Whether every column is shown.
    pub wide: bool,
}

/// Makes options of flags.
pub(super) fn resolve(
    flags: SnapshotFlags,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> SnapshotCommand {
    refuse_combinations(&flags, errors);
    let view = TableView {
        kind: flags.table,
        sort: sort(&flags, errors),
        filter: filter(&flags, errors),
        limit: flags.limit.map(|limit| limit.try_into().unwrap_or(usize::MAX)),
        wide: flags.wide,
    };
    let SnapshotFlags {
        format,
        period,
        every,
        count,
        write_baseline: baseline,
        from,
        output,
        collection,
        ..
    } = flags;
    let run_stats = collection.kernel.run_stats;
    let mut collection = collect(collection, errors, warnings);
    read_once(&mut collection);
    if baseline {
        warnings.extend(without_effect_on_baseline(&collection.selection));
        (collection.selection.per_object, collection.selection.max_series) = (true, None);
    } else if !has_series(format) {
        warnings.extend(without_effect_on_objects(&collection.selection, format));
    }
    let period = match period {
        None => RatePeriod::Default,
        Some(Setting::None) => RatePeriod::None,
        Some(Setting::Value(period)) => RatePeriod::Of(period),
    };
    let recording = every.map(|every| RecordingSettings { every, count });
    SnapshotCommand { collection, run_stats, period, recording, format, view, baseline, from, output }
}

/// Returns whether a format has the series that a scrape has.
const fn has_series(format: SnapshotFormat) -> bool {
    matches!(format, SnapshotFormat::Prometheus | SnapshotFormat::Series)
}

/// Adds a line for each flag that has no meaning beside the others.
fn refuse_combinations(flags: &SnapshotFlags, errors: &mut ConfigErrors) {
    let tables = || TableKind::ALL.map(TableKind::as_str).join(", ");
    let format = word(flags.format);
    let mut refuse = |line: String| errors.lines.push(line);
    if flags.write_baseline {
        if let Some(kind) = flags.table {
            refuse(format!("--baseline is of all programs; leave out {}", kind.as_str()));
        }
        if !flags.own {
            refuse("--no-own selects rows of tables; leave it out with --baseline".to_owned());
        }
        return;
    }
    if flags.every.is_some() {
        if let Some(kind) = flags.table {
            refuse(format!("--every records whole snapshots; leave out {}", kind.as_str()));
        } else if !matches!(flags.format, SnapshotFormat::Json | SnapshotFormat::Ndjson) {
            refuse(format!("--every records as JSON; give --format json instead of {format}"));
        }
    }
    match (flags.table, flags.format) {
        (Some(kind), SnapshotFormat::Prometheus | SnapshotFormat::Series) => {
            refuse(format!(
                "--format {format} has every metric; leave out {}, and select objects with --only",
                kind.as_str()
            ));
        }
        (None, SnapshotFormat::Csv) => refuse(format!("--format csv needs a table: {}", tables())),
        (None, format) => {
            if flags.sort.is_some() {
                refuse(format!("--sort needs a table: {}", tables()));
            }
            let of_rows = [
                (flags.limit.is_some(), "--limit"),
                (flags.filter.is_some(), "--filter"),
                (!flags.own, "--no-own"),
            ];
            if format != SnapshotFormat::Table {
                for (_, flag) in of_rows.into_iter().filter(|&(given, _)| given) {
                    refuse(format!(
                        "{flag} selects rows; with --format {} it needs a table: {}",
                        word(format),
                        tables()
                    ));
                }
            }
        }
        (Some(_), _) => {}
    }
}

/// Returns the word of a format.
fn word(format: SnapshotFormat) -> String {
    let value = clap::ValueEnum::to_possible_value(&format);
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn sort(flags: &SnapshotFlags, errors: &mut ConfigErrors) -> Option<Sort> {
    let sort = Sort::parse(flags.sort.as_deref()?, flags.table?);
    errors.keep("--sort", sort.map_err(|error| error.to_string()))
}

fn filter(flags: &SnapshotFlags, errors: &mut ConfigErrors) -> Filter {
    let text = flags.filter.as_deref().unwrap_or_default();
    let filter = match flags.table {
        Some(kind) => {
            errors.keep("--filter", Filter::of_table(text, kind).map_err(|error| error.to_string()))
        }
        // A field may be one of some tables only.
        None => Some(Filter::parse(text)),
    };
    let filter = filter.unwrap_or_default();
    if flags.own { filter } else { filter.without_own() }
}

/// Warnings of flags that select series, where whole objects are shown.
fn without_effect_on_objects(selection: &Selection, format: SnapshotFormat) -> impl Iterator<Item = String> {
    let flags = [
        (!selection.program_maps, "--no-program-maps has"),
        (selection.metrics.excluded() > 0, "--include-metrics and --exclude-metrics have"),
    ];
    let given = flags.into_iter().filter(|&(given, _)| given);
    given.map(move |(_, flag)| format!("{flag} no effect with --format {}", word(format)))
}

/// Warnings of flags that select what is not in a baseline.
fn without_effect_on_baseline(selection: &Selection) -> impl Iterator<Item = String> {
    let flags = [
        (!selection.per_object, "--no-per-object has"),
        (selection.max_series.is_some(), "--max-series has"),
        (!selection.holders, "--no-holders has"),
        (!selection.program_maps, "--no-program-maps has"),
        (selection.metrics.excluded() > 0, "--include-metrics and --exclude-metrics have"),
    ];
    let given = flags.into_iter().filter(|&(given, _)| given);
    given.map(|(_, flag)| format!("{flag} no effect with --baseline"))
}
