//! A snapshot as JSON: the model itself, which can be read back. The rows of a table, and an event, as JSON.
//! Entry points: [`render`], [`line`](line()), [`table`](table()), [`lines`] and [`event`](event()).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metrics::columns::{Cell, Table};
use crate::metrics::select::Selected;
use crate::model::{BootTime, Event, Snapshot, WallClock};
use crate::text::is_invisible;

/// Version of every JSON document. It changes when a field changes its meaning or is removed, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// What a selection adds to the fields of its snapshot.
#[derive(Serialize)]
struct Dropped {
    /// Series dropped by a limit.
    #[serde(rename = "dropped_series", skip_serializing_if = "Option::is_none")]
    series: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    #[serde(flatten)]
    snapshot: Cow<'a, Snapshot>,
    #[serde(flatten)]
    dropped: Dropped,
}

/// Writes a snapshot, with the date beside each time since boot, with the number of dropped series as `dropped_series` where there
/// was a limit, and without holders if they are not selected. Programs keep the ids of their maps in any case: their number is a
/// label of the program. Invisible characters are escaped.
///
/// # Errors
///
/// None that a snapshot can cause: its maps have text for keys.
pub fn render(selected: &Selected) -> serde_json::Result<String> {
    let mut text = without_invisible(serde_json::to_string_pretty(&document(selected)?)?);
    text.push('\n');
    Ok(text)
}

/// Writes the same document on one line, for a recording.
///
/// # Errors
///
/// As [`render`].
pub fn line(selected: &Selected) -> serde_json::Result<String> {
    text(&document(selected)?)
}

fn document(selected: &Selected) -> serde_json::Result<Value> {
    let snapshot = selected.without_unselected_holders();
    let document =
        Document { schema_version: SCHEMA_VERSION, snapshot, dropped: Dropped { series: selected.dropped } };
    Ok(with_dates(serde_json::to_value(&document)?, selected.snapshot.clock))
}

/// The first fields of every document with rows of a table.
#[derive(Serialize)]
pub struct TableHead {
    schema_version: u32,
    kind: &'static str,
    taken_at: String,
    /// Time that rates are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    period_seconds: Option<f64>,
    /// Rows of the table.
    total: usize,
    /// Those that match the filter.
    matching: usize,
}

impl TableHead {
    /// Returns the head of a table of a snapshot, of which so many rows match.
    #[must_use]
    pub fn new(table: &Table<'_>, snapshot: &Snapshot, matching: usize) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            kind: table.kind().as_str(),
            taken_at: snapshot.clock.at(snapshot.taken_at).to_string(),
            period_seconds: table.period().map(|period| period.elapsed.as_secs_f64()),
            total: table.len(),
            matching,
        }
    }
}

#[derive(Serialize)]
struct TableDocument<'a> {
    #[serde(flatten)]
    head: TableHead,
    rows: Vec<Row<'a>>,
}

/// A row as an object: its key, each field that has a value, and `exporter_own` if it is about an object of the exporter itself.
pub struct Row<'a> {
    /// The table.
    pub table: &'a Table<'a>,
    /// The row.
    pub row: usize,
    /// Ids in a cell. Of one that has more, the first are written, and `<field>_total`.
    pub most_ids: usize,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { table, row, most_ids } = *self;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("key", &table.key(row).to_string())?;
        for (position, column) in table.columns().iter().enumerate() {
            match table.cell(row, position) {
                Cell::Unknown => {}
                Cell::Text(text) => fields.serialize_entry(column.field, &text)?,
                Cell::Int(number) => fields.serialize_entry(column.field, &number)?,
                Cell::Float(number) => fields.serialize_entry(column.field, &number)?,
                Cell::Time(time) => {
                    fields.serialize_entry(column.field, &table.clock().at(time).to_string())?;
                }
                Cell::Flag(flag) => fields.serialize_entry(column.field, &flag)?,
                Cell::Ids(ids) => {
                    fields.serialize_entry(column.field, &ids[..ids.len().min(most_ids)])?;
                    if ids.len() > most_ids {
                        fields.serialize_entry(&format!("{}_total", column.field), &ids.len())?;
                    }
                }
            }
        }
        if table.is_own(row) {
            fields.serialize_entry("exporter_own", &true)?;
        }
        fields.end()
    }
}

/// Writes the first rows, up to a limit, of those that were selected of a table of a snapshot. Invisible characters are escaped.
///
/// # Errors
///
/// None that a table can cause: its maps have text for keys.
pub fn table(
    table: &Table<'_>,
    snapshot: &Snapshot,
    selected: &[usize],
    limit: Option<usize>,
) -> serde_json::Result<String> {
    let rows = selected.iter().take(limit.unwrap_or(usize::MAX));
    let document = TableDocument {
        head: TableHead::new(table, snapshot, selected.len()),
        rows: rows.map(|&row| Row { table, row, most_ids: usize::MAX }).collect(),
    };
    text(&document)
}

/// Writes the same rows, each as an object on a line of its own.
///
/// # Errors
///
/// As [`table`](table()).
pub fn lines(table: &Table<'_>, selected: &[usize], limit: Option<usize>) -> serde_json::Result<String> {
    let rows = selected.iter().take(limit.unwrap_or(usize::MAX));
    rows.map(|&row| text(&Row { table, row, most_ids: usize::MAX })).collect()
}

/// Writes any document on one line. Invisible characters are escaped.
///
/// # Errors
///
/// If it has maps whose keys are no text.
pub fn text(document: &impl Serialize) -> serde_json::Result<String> {
    let mut text = without_invisible(serde_json::to_string(document)?);
    text.push('\n');
    Ok(text)
}

/// Returns a cell as a value; null if there is none.
#[must_use]
pub fn cell(cell: &Cell<'_>, clock: WallClock) -> Value {
    match cell {
        Cell::Unknown => Value::Null,
        Cell::Text(text) => (**text).into(),
        Cell::Int(number) => (*number).into(),
        Cell::Float(number) => (*number).into(),
        Cell::Time(time) => clock.at(*time).to_string().into(),
        Cell::Flag(flag) => (*flag).into(),
        Cell::Ids(ids) => (**ids).into(),
    }
}

#[derive(Serialize)]
struct EventDocument<'a> {
    schema_version: u32,
    #[serde(flatten)]
    event: &'a Event,
    severity: &'static str,
}

/// Writes an event on one line without its end, with the date beside each time since boot, and `severity`: that of its log record.
/// Invisible characters are escaped: names are of any origin, and the line may go to a terminal.
///
/// # Errors
///
/// None that an event can cause: it has no maps.
pub fn event(event: &Event, clock: WallClock) -> serde_json::Result<String> {
    let document = serde_json::to_value(EventDocument {
        schema_version: SCHEMA_VERSION,
        event,
        severity: event.kind.severity(),
    })?;
    serde_json::to_string(&with_dates(document, clock)).map(without_invisible)
}

/// Escapes invisible characters of a JSON text.
fn without_invisible(text: String) -> String {
    match escaped(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    }
}

/// Escapes invisible characters of a JSON text, or of a part of one, which has them in strings only: between them it may have ends of
/// lines, which stay. It means the same.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    let is_escaped = |character| character != '\n' && is_invisible(character);
    if !text.contains(is_escaped) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped.into()
}

/// Adds the date to each time since boot: `loaded_at` before `loaded_at_boot_ns`. Reading back ignores dates.
fn with_dates(value: Value, clock: WallClock) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(|value| with_dates(value, clock)).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().flat_map(|(name, value)| {
                let time = name.strip_suffix("_boot_ns").zip(value.as_u64());
                let date =
                    time.map(|(name, time)| (name.to_owned(), clock.at(BootTime(time)).to_string().into()));
                date.into_iter().chain([(name, with_dates(value, clock))])
            });
            fields.collect()
        }
        other => other,
    }
}

/// What is read of a document before its snapshot.
#[derive(Deserialize)]
struct Head {
    /// Missing in documents of versions that did not have it.
    schema_version: Option<u32>,
    dropped_series: Option<u64>,
}

/// Reads a snapshot back. All of it is selected; series that were dropped before still count as dropped.
///
/// # Errors
///
/// Where and why the text is not a snapshot, or that its schema is newer than this program's.
pub fn parse(text: &str) -> serde_json::Result<Selected> {
    // Twice, since one structure with a flattened snapshot loses the line and column of an error.
    let Head { schema_version, dropped_series } = serde_json::from_str(text)?;
    if let Some(version) = schema_version.filter(|&version| version > SCHEMA_VERSION) {
        return Err(serde::de::Error::custom(format!(
            "the snapshot has schema version {version}, and this program knows {SCHEMA_VERSION}"
        )));
    }
    let snapshot: Snapshot = serde_json::from_str(text)?;
    Ok(Selected { dropped: dropped_series, ..Selected::all(Arc::new(snapshot)) })
}
