//! Columns of one type of value, and their erasure: what the files of subjects define, and [`super::Table`] uses.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::related::{Related, RelatedIndex};
use super::{Cell, Column, Refers, RowKey, TableKind};
use crate::metrics::rate::{self, Period};
use crate::metrics::{Carries, Entity, Label, LabelValue, Metric, Unit, Value};
use crate::model::{Kind, Snapshot};

/// A table of one type of value.
pub(super) struct Definition<T: 'static> {
    /// The entity whose labels and metrics the columns are.
    pub(super) entity: &'static Entity<T>,
    /// Returns its values; `None` if they could not be read.
    pub(super) values: fn(&Snapshot) -> Option<&[T]>,
    pub(super) columns: &'static [ColumnOf<T>],
    pub(super) key: fn(&T) -> RowKey,
    /// Returns whether a value is about an object of the exporter itself.
    pub(super) is_own: fn(&T, &Related<'_>) -> bool,
}

/// A column, and where its values come from.
pub(super) struct ColumnOf<T: 'static> {
    field: &'static str,
    title: &'static str,
    rank: u8,
    refers: Refers,
    is_numeric: bool,
    is_time: bool,
    content: Content<T>,
}

enum Content<T: 'static> {
    /// A label of the entity.
    Label(&'static str),
    /// A metric of the entity.
    Metric(&'static str),
    /// The change of a metric per second, with its unit and meaning.
    Rate(&'static str, Unit, &'static str),
    /// The change of a metric per second of run statistics, in the same way.
    CoveredRate(&'static str, Unit, &'static str),
    Derived(Unit, &'static str, Derive<T>),
}

type Derive<T> = for<'a> fn(&Row<'a, T>) -> Cell<'a>;

/// Text of a label.
pub(super) const fn label<T>(name: &'static str, title: &'static str, rank: u8) -> ColumnOf<T> {
    let content = Content::Label(name);
    ColumnOf { field: name, title, rank, refers: Refers::Nothing, is_numeric: false, is_time: false, content }
}

/// The number in a label.
pub(super) const fn number<T>(name: &'static str, title: &'static str, rank: u8) -> ColumnOf<T> {
    ColumnOf { is_numeric: true, ..label(name, title, rank) }
}

/// The time in a label.
pub(super) const fn time<T>(name: &'static str, title: &'static str, rank: u8) -> ColumnOf<T> {
    ColumnOf { is_time: true, ..number(name, title, rank) }
}

/// The value of a metric.
pub(super) const fn metric<T>(
    field: &'static str,
    name: &'static str,
    title: &'static str,
    rank: u8,
) -> ColumnOf<T> {
    let content = Content::Metric(name);
    ColumnOf { field, title, rank, refers: Refers::Nothing, is_numeric: true, is_time: false, content }
}

/// The change of a metric per second, with its unit and meaning.
pub(super) const fn per_second<T>(
    (field, name): (&'static str, &'static str),
    title: &'static str,
    rank: u8,
    (unit, help): (Unit, &'static str),
) -> ColumnOf<T> {
    ColumnOf { content: Content::Rate(name, unit, help), ..metric(field, name, title, rank) }
}

/// The change of a metric per second of run statistics, with its unit and meaning.
pub(super) const fn while_covered<T>(
    (field, name): (&'static str, &'static str),
    title: &'static str,
    rank: u8,
    (unit, help): (Unit, &'static str),
) -> ColumnOf<T> {
    ColumnOf { content: Content::CoveredRate(name, unit, help), ..metric(field, name, title, rank) }
}

/// Something else, with its unit and meaning.
pub(super) const fn derived<T>(
    field: &'static str,
    title: &'static str,
    rank: u8,
    (unit, help): (Unit, &'static str),
    read: Derive<T>,
) -> ColumnOf<T> {
    let content = Content::Derived(unit, help, read);
    ColumnOf { field, title, rank, refers: Refers::Nothing, is_numeric: false, is_time: false, content }
}

/// A number that is something else.
pub(super) const fn derived_number<T>(
    field: &'static str,
    title: &'static str,
    rank: u8,
    unit_and_help: (Unit, &'static str),
    read: Derive<T>,
) -> ColumnOf<T> {
    ColumnOf { is_numeric: true, ..derived(field, title, rank, unit_and_help, read) }
}

/// A time that is something else.
pub(super) const fn derived_time<T>(
    field: &'static str,
    title: &'static str,
    rank: u8,
    unit_and_help: (Unit, &'static str),
    read: Derive<T>,
) -> ColumnOf<T> {
    ColumnOf { is_time: true, ..derived_number(field, title, rank, unit_and_help, read) }
}

/// Ids of objects of a kind.
pub(super) const fn derived_ids<T>(
    (field, kind): (&'static str, Kind),
    title: &'static str,
    rank: u8,
    help: &'static str,
    read: Derive<T>,
) -> ColumnOf<T> {
    ColumnOf { refers: Refers::Object(kind), ..derived(field, title, rank, (Unit::None, help), read) }
}

impl<T> ColumnOf<T> {
    /// Its values are ids of objects.
    pub(super) const fn of(self, kind: Kind) -> Self {
        self.refers(Refers::Object(kind))
    }

    pub(super) const fn refers(mut self, refers: Refers) -> Self {
        self.refers = refers;
        self
    }

    /// It has another name than the label.
    pub(super) const fn named(mut self, field: &'static str) -> Self {
        self.field = field;
        self
    }
}

/// What the tables of two snapshots find out once, at the first cell that needs it.
#[derive(Debug, Default)]
pub(super) struct TableIndex {
    related: Arc<RelatedIndex>,
    /// By table, for each row the position of the same one in the earlier snapshot.
    pub(super) earlier: [OnceLock<Vec<Option<usize>>>; TableKind::ALL.len()],
}

/// What a table is of.
#[derive(Clone)]
pub(super) struct TableSource<'a> {
    pub(super) kind: TableKind,
    later: &'a Snapshot,
    earlier: Option<&'a Snapshot>,
    pub(super) period: Option<Period>,
    /// Of these two snapshots.
    index: Arc<TableIndex>,
}

impl<'a> TableSource<'a> {
    pub(super) fn new(
        kind: TableKind,
        later: &'a Snapshot,
        earlier: Option<&'a Snapshot>,
        index: Arc<TableIndex>,
    ) -> Self {
        let period = earlier.and_then(|earlier| Period::between(earlier, later));
        Self { kind, later, earlier: earlier.filter(|_| period.is_some()), period, index }
    }
}

/// A value, the same one earlier, and what else is known.
pub(super) struct Row<'a, T> {
    pub(super) now: &'a T,
    earlier: Option<&'a T>,
    period: Option<Period>,
    pub(super) related: &'a Related<'a>,
}

impl<T> Row<'_, T> {
    /// Returns how much a number has changed per second; `None` if it is not known at both times.
    pub(super) fn rate(&self, read: impl Fn(&T) -> Option<Value<'_>>) -> Option<f64> {
        self.change(read, |period| Some(period.elapsed))
    }

    /// Returns how much a number has changed per second of run statistics.
    pub(super) fn covered_rate(&self, read: impl Fn(&T) -> Option<Value<'_>>) -> Option<f64> {
        self.change(read, |period| period.covered).map(|rate| rate.max(0.0))
    }

    fn change(
        &self,
        read: impl Fn(&T) -> Option<Value<'_>>,
        during: fn(Period) -> Option<Duration>,
    ) -> Option<f64> {
        let seconds = during(self.period?)?.as_secs_f64();
        let change = rate::change(read(self.earlier?)?, read(self.now)?)?;
        Some(change / seconds)
    }
}

/// The rows of a table, whatever their type.
pub(super) trait Rows {
    fn len(&self) -> usize;
    fn cell(&self, row: usize, column: usize) -> Cell<'_>;
    fn key(&self, row: usize) -> RowKey;
    fn is_own(&self, row: usize) -> bool;
}

struct Typed<'a, T: 'static> {
    definition: &'static Definition<T>,
    kind: TableKind,
    now: &'a [T],
    /// All values earlier; `None` without rates.
    earlier: Option<&'a [T]>,
    period: Option<Period>,
    index: Arc<TableIndex>,
    readers: Vec<Reader<T>>,
    related: Related<'a>,
}

/// How a column is read, with the names looked up.
enum Reader<T: 'static> {
    Label(&'static Label<T>),
    Metric(&'static Metric<T>),
    Rate(&'static Metric<T>),
    CoveredRate(&'static Metric<T>),
    Derived(Derive<T>),
}

/// Returns the columns of a table.
pub(super) fn columns<T>(definition: &Definition<T>) -> Vec<Column> {
    let column = |column: &ColumnOf<T>| {
        let (unit, help) = match column.content {
            Content::Label(name) => (Unit::None, find_label(definition.entity, name).help),
            Content::Metric(name) => {
                let metric = find_metric(definition.entity, name);
                (metric.unit, metric.help)
            }
            Content::Rate(_, unit, help)
            | Content::CoveredRate(_, unit, help)
            | Content::Derived(unit, help, _) => (unit, help),
        };
        let &ColumnOf { field, title, rank, refers, is_numeric, is_time, .. } = column;
        Column { field, title, unit, help, rank, refers, is_numeric, is_time }
    };
    definition.columns.iter().map(column).collect()
}

/// Returns whether a table has rates per time, and whether it has some per time with run statistics.
#[cfg(test)]
pub(super) fn rates<T>(definition: &Definition<T>) -> (bool, bool) {
    let contents = || definition.columns.iter().map(|column| &column.content);
    let has_rate = contents().any(|content| matches!(content, Content::Rate(..)));
    (has_rate, contents().any(|content| matches!(content, Content::CoveredRate(..))))
}

/// Returns the rows of a table; `None` if they could not be read.
pub(super) fn rows<'a, T>(
    definition: &'static Definition<T>,
    source: TableSource<'a>,
) -> Option<Box<dyn Rows + 'a>> {
    let TableSource { kind, later, earlier, period, index } = source;
    let now = (definition.values)(later)?;
    let earlier = earlier.and_then(definition.values);
    let reader = |column: &ColumnOf<T>| match column.content {
        Content::Label(name) => Reader::Label(find_label(definition.entity, name)),
        Content::Metric(name) => Reader::Metric(find_metric(definition.entity, name)),
        Content::Rate(name, ..) => Reader::Rate(find_metric(definition.entity, name)),
        Content::CoveredRate(name, ..) => Reader::CoveredRate(find_metric(definition.entity, name)),
        Content::Derived(_, _, read) => Reader::Derived(read),
    };
    let readers = definition.columns.iter().map(reader).collect();
    let related = Related::new(later, Arc::clone(&index.related));
    Some(Box::new(Typed { definition, kind, now, earlier, period, index, readers, related }))
}

fn find_label<T>(entity: &Entity<T>, name: &str) -> &'static Label<T> {
    let mut labels = entity.labels(Carries::Info);
    labels.find(|label| label.name == name).expect("a test looks up each column")
}

fn find_metric<T>(entity: &Entity<T>, name: &str) -> &'static Metric<T> {
    entity.metrics.iter().find(|metric| metric.name == name).expect("a test looks up each column")
}

impl<'a, T> Typed<'a, T> {
    /// Returns the same value earlier; `None` for a new one, and without rates.
    fn earlier(&self, row: usize) -> Option<&'a T> {
        let earlier = self.earlier?;
        let positions = &self.index.earlier[self.kind.position()];
        let positions = positions.get_or_init(|| rate::positions(self.definition.entity, earlier, self.now));
        positions[row].map(|position| &earlier[position])
    }
}

impl<T> Rows for Typed<'_, T> {
    fn len(&self) -> usize {
        self.now.len()
    }

    fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        let now = &self.now[row];
        let row = || Row { now, earlier: self.earlier(row), period: self.period, related: &self.related };
        match &self.readers[column] {
            Reader::Label(label) => (label.read)(now).map_or(Cell::Unknown, of_label),
            Reader::Metric(metric) => (metric.read)(now).map_or(Cell::Unknown, of_value),
            Reader::Rate(metric) => row().rate(metric.read).into(),
            Reader::CoveredRate(metric) => row().covered_rate(metric.read).into(),
            Reader::Derived(read) => read(&row()),
        }
    }

    fn key(&self, row: usize) -> RowKey {
        (self.definition.key)(&self.now[row])
    }

    fn is_own(&self, row: usize) -> bool {
        (self.definition.is_own)(&self.now[row], &self.related)
    }
}

/// Returns the value of a label as a cell.
pub(in crate::metrics) fn of_label(value: LabelValue<'_>) -> Cell<'_> {
    match value {
        LabelValue::Text(text) => Cell::Text(text.into()),
        LabelValue::Number(number) => Cell::Int(number.into()),
        LabelValue::Integer(number) => Cell::Int(number),
        LabelValue::Flag(flag) => Cell::Flag(flag),
        LabelValue::Time(time) => Cell::Time(time),
        LabelValue::Tag(tag) => Cell::Text(tag.to_string().into()),
        LabelValue::Target(target) => Cell::Text(target.to_string().into()),
        LabelValue::Kfunc(name) => Cell::Text(format!("kfunc:{name}").into()),
    }
}

/// Returns the value of a metric as a cell.
pub(in crate::metrics) fn of_value(value: Value<'_>) -> Cell<'_> {
    match value {
        Value::Int(number) => Cell::Int(number),
        Value::Float(number) => Cell::Float(number),
        Value::Time(time) => Cell::Time(time),
        Value::Histogram(histogram) => histogram.mean().into(),
    }
}

impl From<Option<f64>> for Cell<'_> {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Unknown, Self::Float)
    }
}
