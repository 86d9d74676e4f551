//! Documents of the API. Entry points: [`objects`], [`object`], [`status`] and [`tables`].

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::parameters::{TableQuery, sort_word};
use super::related::{RelatedRows, link_of_fact, owner_kind_field, related, row_of, table_of};
use crate::export::json::{self, Row, SCHEMA_VERSION, TableHead};
use crate::metrics::Sample;
use crate::metrics::columns::{Refers, RowKey, Sort, Table, TableKind};
use crate::metrics::facts::{self, Section};
use crate::model::{EventKind, Exporter, Feature, Reason, SettingInForce, Snapshot, WallClock};
use crate::web::bounds;
use crate::web::history::{self, KEPT};
use crate::web::live::View;

/// Rows of a table, for a request.
pub(in crate::web) struct SelectedRows<'a> {
    pub(in crate::web) table: Table<'a>,
    pub(in crate::web) sort: Sort,
    /// How many rows match the filter.
    pub(in crate::web) matching: usize,
    /// Those that are wanted of them.
    pub(in crate::web) rows: Vec<usize>,
}

impl<'a> SelectedRows<'a> {
    /// Selects rows; `None` if the table could not be read.
    pub(in crate::web) fn new(view: &'a View, query: &TableQuery) -> Option<Self> {
        let table = view.table(query.kind)?;
        let (sort, matching) = view.select(&table, query);
        let rows = matching.iter().skip(query.offset).take(query.limit).map(|&row| row as usize).collect();
        Some(Self { table, sort, matching: matching.len(), rows })
    }
}

#[derive(Serialize)]
struct ObjectsDocument<'a> {
    #[serde(flatten)]
    head: TableHead,
    offset: usize,
    sort: String,
    counts: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_seconds: Option<u64>,
    rows: Vec<LiveRow<'a>>,
}

#[derive(Serialize)]
struct LiveRow<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    /// The last values of some fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    history: BTreeMap<&'static str, Vec<Option<f64>>>,
}

impl<'a> LiveRow<'a> {
    fn new(view: &View, table: &'a Table<'a>, row: usize, with_history: bool) -> Self {
        let history =
            if with_history { history_of(view, table.kind(), &table.key(row)) } else { BTreeMap::new() };
        Self { row: Row { table, row, most_ids: bounds::CELL_IDS }, history }
    }
}

fn history_of(view: &View, kind: TableKind, key: &RowKey) -> BTreeMap<&'static str, Vec<Option<f64>>> {
    let history = view.history();
    let fields = KEPT.iter().filter(|kept| kept.kind == kind).map(|kept| kept.field);
    fields.filter_map(|field| Some((field, history.of(kind, field, key)?))).collect()
}

/// Returns rows of a table; `None` if it could not be read.
///
/// # Errors
///
/// None that a table can cause.
pub(in crate::web) fn objects(view: &View, query: &TableQuery) -> serde_json::Result<Option<String>> {
    let Some(selection) = SelectedRows::new(view, query) else { return Ok(None) };
    let SelectedRows { table, sort, matching, rows } = &selection;
    let document = ObjectsDocument {
        head: TableHead::new(table, view.snapshot(), *matching),
        offset: query.offset,
        sort: sort_word(table.columns(), *sort),
        counts: view.counts().map(|(kind, rows)| (kind.as_str(), rows)).collect(),
        history_seconds: query.history.then_some(bounds::PAGE_SAMPLE.as_secs()),
        rows: rows.iter().map(|&row| LiveRow::new(view, table, row, query.history)).collect(),
    };
    json::text(&document).map(Some)
}

fn taken_at(snapshot: &Snapshot) -> String {
    snapshot.clock.at(snapshot.taken_at).to_string()
}

#[derive(Serialize)]
struct ObjectDocument<'a> {
    schema_version: u32,
    key: String,
    kind: &'static str,
    title: String,
    taken_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    period_seconds: Option<f64>,
    row: LiveRow<'a>,
    sections: Vec<SectionDocument>,
    related: Vec<RelatedDocument<'a>>,
    history_seconds: u64,
}

#[derive(Serialize)]
struct RelatedDocument<'a> {
    kind: &'static str,
    title: &'static str,
    matching: usize,
    rows: Vec<LiveRow<'a>>,
}

#[derive(Serialize)]
struct SectionDocument {
    title: &'static str,
    /// How many values there are; the first of them follow.
    total: usize,
    values: Vec<Vec<FactDocument>>,
}

#[derive(Serialize)]
struct FactDocument {
    name: &'static str,
    help: &'static str,
    unit: &'static str,
    value: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Everything that is known of a row.
pub(in crate::web) struct KnownRow<'a> {
    pub(in crate::web) table: Table<'a>,
    pub(in crate::web) row: usize,
    pub(in crate::web) sections: Vec<Section>,
    pub(in crate::web) related: Vec<RelatedRows<'a>>,
}

/// Why nothing is known of a row.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) enum NoRow {
    /// There is none, or no longer.
    Missing,
    /// Its table could not be read.
    Unread(TableKind),
}

impl<'a> KnownRow<'a> {
    /// Returns what is known.
    ///
    /// # Errors
    ///
    /// Why nothing is.
    pub(in crate::web) fn new(view: &'a View, key: &RowKey) -> Result<Self, NoRow> {
        let kind = table_of(key);
        let own = view.table(kind);
        let missing = if own.is_some() { NoRow::Missing } else { NoRow::Unread(kind) };
        // An orphan may be known as such only.
        let mut tables = own.into_iter().chain(view.table(TableKind::Orphans));
        let found = tables.find_map(|table| {
            let row = row_of(&table, key)?;
            Some((table, row))
        });
        let (table, row) = found.ok_or(missing)?;
        let related = related(view, &table, row);
        Ok(Self { table, row, sections: facts::facts(view.snapshot(), key), related })
    }
}

/// Returns how a row is called: `program 17`, `unit cilium.service`.
pub(in crate::web) fn title(key: &RowKey) -> String {
    match key {
        RowKey::Object(object) => format!("{} {}", object.kind.as_str(), object.id),
        RowKey::Owner(kind, name) => format!("{} {name}", kind.as_str()),
        RowKey::Hook(number) => format!("attachment {number:016x}"),
    }
}

/// Returns everything that is known of a row, or why nothing is.
///
/// # Errors
///
/// None that a row can cause.
pub(in crate::web) fn object(view: &View, key: &RowKey) -> serde_json::Result<Result<String, NoRow>> {
    let known = match KnownRow::new(view, key) {
        Ok(known) => known,
        Err(why) => return Ok(Err(why)),
    };
    let related = known.related.iter().map(|RelatedRows { table, rows }| RelatedDocument {
        kind: table.kind().as_str(),
        title: table.kind().title(),
        matching: rows.len(),
        rows: rows
            .iter()
            .take(bounds::RELATED_ROWS)
            .map(|&row| LiveRow::new(view, table, row, false))
            .collect(),
    });
    let document = ObjectDocument {
        schema_version: SCHEMA_VERSION,
        key: key.to_string(),
        kind: known.table.kind().as_str(),
        title: title(key),
        taken_at: taken_at(view.snapshot()),
        period_seconds: known.table.period().map(|period| period.elapsed.as_secs_f64()),
        row: LiveRow::new(view, &known.table, known.row, true),
        sections: sections(&known.sections, view.snapshot().clock),
        related: related.collect(),
        history_seconds: bounds::PAGE_SAMPLE.as_secs(),
    };
    json::text(&document).map(Ok)
}

fn sections(sections: &[Section], clock: WallClock) -> Vec<SectionDocument> {
    let values = |facts: &Vec<facts::Fact>| {
        let fact = |fact: &facts::Fact| FactDocument {
            name: fact.name,
            help: fact.help,
            unit: fact.unit.as_otlp(),
            value: json::cell(&fact.cell, clock),
            key: link_of_fact(facts, fact),
        };
        facts.iter().map(fact).collect()
    };
    let section = |section: &Section| SectionDocument {
        title: section.title,
        total: section.values.len(),
        values: section.values.iter().take(bounds::RELATED_ROWS).map(values).collect(),
    };
    sections.iter().map(section).collect()
}

/// The state of the exporter itself.
pub(in crate::web) struct Status<'a> {
    pub(in crate::web) view: &'a View,
    pub(in crate::web) exporter: &'a Exporter,
    pub(in crate::web) settings: &'a [SettingInForce],
}

#[derive(Serialize)]
struct StatusDocument<'a> {
    schema_version: u32,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'static str>,
    taken_at: String,
    ready: bool,
    sections: Vec<SectionDocument>,
    features: Vec<FeatureDocument>,
    settings: &'a [SettingInForce],
    page: PageDocument,
}

/// Whether a feature is available, and what it lacks.
#[derive(Serialize)]
pub(in crate::web) struct FeatureDocument {
    pub(in crate::web) name: &'static str,
    pub(in crate::web) state: &'static str,
    /// What it sees.
    pub(in crate::web) about: String,
    pub(in crate::web) needs: String,
    /// What follows if it is missing.
    pub(in crate::web) without: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::web) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::web) remedy: Option<String>,
}

#[derive(Serialize)]
struct PageDocument {
    poll_seconds: u64,
    watched_seconds: u64,
    history_seconds: u64,
    history_points: usize,
    history_series: usize,
    history_bytes: usize,
    history_max_bytes: usize,
}

/// Returns what the metrics say about the exporter itself.
pub(in crate::web) fn about(status: &Status<'_>) -> Vec<Section> {
    let sample = Sample { exporter: Some(status.exporter), ..Sample::new(status.view.snapshot()) };
    facts::of_exporter(sample)
}

/// Returns the state of each feature.
pub(in crate::web) fn features(snapshot: &Snapshot) -> Vec<FeatureDocument> {
    // The table of features is also one of documentation, with its marks.
    let plain = |text: &str| text.replace('`', "");
    let feature = |feature: Feature| {
        let (row, found) = (feature.row(), snapshot.feature(feature));
        let reason = found.and_then(|found| found.reason);
        FeatureDocument {
            name: row.name,
            state: match (found, reason) {
                (None, _) => "off",
                (Some(_), None) => "works",
                (Some(_), Some(_)) => "missing",
            },
            about: plain(row.sees),
            needs: plain(row.needs),
            without: plain(row.without),
            reason: reason.map(|reason| reason.to_string()),
            remedy: reason.map(Reason::remedy),
        }
    };
    Feature::ALL.into_iter().map(feature).collect()
}

/// Returns the state of the exporter itself.
///
/// # Errors
///
/// None that it can cause.
pub(in crate::web) fn status(status: &Status<'_>) -> serde_json::Result<String> {
    let Status { view, exporter, settings } = status;
    let history = view.history();
    let document = StatusDocument {
        schema_version: SCHEMA_VERSION,
        version: exporter.build.version,
        revision: exporter.build.revision,
        taken_at: taken_at(view.snapshot()),
        ready: !view.snapshot().is_all_refused(),
        sections: sections(&about(status), view.snapshot().clock),
        features: features(view.snapshot()),
        settings,
        page: PageDocument {
            poll_seconds: bounds::PAGE_POLL.as_secs(),
            watched_seconds: bounds::PAGE_WATCHED.as_secs(),
            history_seconds: bounds::PAGE_SAMPLE.as_secs(),
            history_points: history::POINTS,
            history_series: history.series(),
            history_bytes: history.bytes(),
            history_max_bytes: history::MAX_BYTES,
        },
    };
    json::text(&document)
}

#[derive(Serialize)]
struct TablesDocument {
    schema_version: u32,
    tables: Vec<TableDocument>,
    event_kinds: Vec<&'static str>,
}

#[derive(Serialize)]
struct TableDocument {
    kind: &'static str,
    title: &'static str,
    columns: Vec<ColumnDocument>,
}

#[derive(Serialize)]
struct ColumnDocument {
    field: &'static str,
    title: &'static str,
    help: &'static str,
    unit: &'static str,
    rank: u8,
    is_numeric: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refers: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_history: bool,
}

/// Returns every table with its columns.
///
/// # Errors
///
/// None: it is the same always.
pub(in crate::web) fn tables() -> serde_json::Result<String> {
    let table = |kind: TableKind| {
        let columns = kind.columns();
        let column = |column: &crate::metrics::columns::Column| ColumnDocument {
            field: column.field,
            title: column.title,
            help: column.help,
            unit: column.unit.as_otlp(),
            rank: column.rank,
            is_numeric: column.is_numeric,
            refers: match column.refers {
                Refers::Nothing => None,
                Refers::Object(kind) => Some(kind.as_str()),
                Refers::Owner => Some("owner"),
            },
            owner_kind: (column.refers == Refers::Owner)
                .then(|| owner_kind_field(&columns, column).map(|at| columns[at].field))
                .flatten(),
            has_history: KEPT.iter().any(|kept| kept.kind == kind && kept.field == column.field),
        };
        TableDocument {
            kind: kind.as_str(),
            title: kind.title(),
            columns: columns.iter().map(column).collect(),
        }
    };
    json::text(&TablesDocument {
        schema_version: SCHEMA_VERSION,
        tables: TableKind::ALL.into_iter().map(table).collect(),
        event_kinds: EventKind::ALL.into_iter().map(EventKind::as_str).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Unit;
    use crate::metrics::columns::Cell;

    #[test]
    fn values_of_a_section_are_bounded_and_counted() {
        let fact = |number| facts::Fact { name: "x", help: "", unit: Unit::None, cell: Cell::Int(number) };
        let section = Section { title: "All", values: (0..150).map(|number| vec![fact(number)]).collect() };
        let [document] = &*sections(&[section], WallClock::default()) else { panic!("there is one") };
        assert_eq!((document.total, document.values.len()), (150, bounds::RELATED_ROWS));
        assert_eq!(document.values[99][0].value, 99);
    }
}
