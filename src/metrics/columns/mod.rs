//! Tables for people: the same columns, words and units for the terminal, the page and the API.
//! Entry points: [`TableKind`], [`Table::new`], and [`SnapshotPair`] for readings that follow each other. Most columns are a label or a metric of [`super::table`], and have its meaning.
//!
//! A cell is made when it is asked for: a table of 20,000 rows costs what is shown of it.

mod filter;
mod objects;
mod owners;
mod pair;
mod related;
mod sort;
mod typed;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use self::filter::Filter;
pub use self::pair::SnapshotPair;
use self::related::Related;
pub use self::sort::{FilterError, SortError, UnknownField};
use self::typed::{Rows, TableIndex, TableSource};
pub(super) use self::typed::{of_label, of_value};
use super::Unit;
use super::rate::Period;
use crate::model::{BootTime, Kind, Object, OwnerKind, Snapshot, WallClock};

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// Loaded programs.
    Programs,
    /// Maps.
    Maps,
    /// Links.
    Links,
    /// Owners and their totals.
    Owners,
    /// Attachments.
    Hooks,
    /// Objects that nothing holds.
    Orphans,
    /// BTF objects.
    Btfs,
}

impl TableKind {
    /// Every table, in the order in which they are shown.
    pub const ALL: [Self; 7] =
        [Self::Programs, Self::Maps, Self::Links, Self::Owners, Self::Hooks, Self::Orphans, Self::Btfs];

    /// Returns the word used on the command line and in URLs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Programs => "programs",
            Self::Maps => "maps",
            Self::Links => "links",
            Self::Owners => "owners",
            Self::Hooks => "hooks",
            Self::Orphans => "orphans",
            Self::Btfs => "btfs",
        }
    }

    fn position(self) -> usize {
        self as usize
    }

    /// Returns whether its rates are of run times, per time with run statistics. No table has rates of both kinds.
    const fn has_run_times(self) -> bool {
        matches!(self, Self::Programs | Self::Owners)
    }

    /// Returns whether it has rates per time, and whether it has some per time with run statistics.
    #[cfg(test)]
    fn rates(self) -> (bool, bool) {
        match self {
            Self::Programs => typed::rates(&objects::PROGRAMS),
            Self::Maps => typed::rates(&objects::MAPS),
            Self::Links => typed::rates(&objects::LINKS),
            Self::Owners => typed::rates(&owners::OWNERS),
            Self::Hooks => typed::rates(&owners::HOOKS),
            Self::Orphans => typed::rates(&owners::ORPHANS),
            Self::Btfs => typed::rates(&objects::BTFS),
        }
    }

    /// Returns the table with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Returns the heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Programs => "Programs",
            Self::Maps => "Maps",
            Self::Links => "Links",
            Self::Owners => "Owners",
            Self::Hooks => "Hooks",
            Self::Orphans => "Orphans",
            Self::Btfs => "BTF objects",
        }
    }

    /// Returns the columns.
    #[must_use]
    pub fn columns(self) -> Vec<Column> {
        match self {
            Self::Programs => typed::columns(&objects::PROGRAMS),
            Self::Maps => typed::columns(&objects::MAPS),
            Self::Links => typed::columns(&objects::LINKS),
            Self::Owners => typed::columns(&owners::OWNERS),
            Self::Hooks => typed::columns(&owners::HOOKS),
            Self::Orphans => typed::columns(&owners::ORPHANS),
            Self::Btfs => typed::columns(&objects::BTFS),
        }
    }

    /// Returns the column by which rows are sorted, the most expensive first: the first of these that has a value.
    const fn costs(self) -> &'static [&'static str] {
        match self {
            Self::Programs | Self::Owners => &["cpu_ratio", "run_time_seconds", "mem_bytes"],
            Self::Maps | Self::Orphans => &["mem_bytes"],
            Self::Links => &["missed"],
            Self::Hooks => &[],
            Self::Btfs => &["size_bytes"],
        }
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in JSON, CSV and URLs, with the unit: `mem_bytes`.
    pub field: &'static str,
    /// The heading: `Memory`.
    pub title: &'static str,
    /// What its values count.
    pub unit: Unit,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Importance, from 0: where there is no room, the columns with the highest are left out first.
    pub rank: u8,
    /// What its values are the names of.
    pub refers: Refers,
    /// Whether its values are numbers or times: aligned to the right, and at first sorted in descending order.
    pub is_numeric: bool,
    /// Whether its values are times, which are compared by their age.
    pub is_time: bool,
}

/// What the values of a column are the names of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refers {
    /// Nothing that has a row.
    Nothing,
    /// Objects of this kind, by their ids.
    Object(Kind),
    /// Owners, by their names: their kind is in the column `owner_kind`.
    Owner,
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// There is no value, or it is not known.
    Unknown,
    /// A text, which may be of any origin.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// A moment.
    Time(BootTime),
    /// Yes or no.
    Flag(bool),
    /// Ids of objects, ascending.
    Ids(Cow<'a, [u32]>),
}

impl Cell<'_> {
    /// Returns the cell with what it borrows.
    #[must_use]
    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Unknown => Cell::Unknown,
            Self::Text(text) => Cell::Text(text.into_owned().into()),
            Self::Int(number) => Cell::Int(number),
            Self::Float(number) => Cell::Float(number),
            Self::Time(time) => Cell::Time(time),
            Self::Flag(flag) => Cell::Flag(flag),
            Self::Ids(ids) => Cell::Ids(ids.into_owned().into()),
        }
    }

    /// Returns whether there is a value.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// Returns the value as a number, for bars and graphs.
    #[must_use]
    pub const fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "for a graph it is precise enough")]
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Compares two values of a column; what is not known comes last in either direction.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let order = match (self, other) {
            (Self::Unknown, Self::Unknown) => return Ordering::Equal,
            (Self::Unknown, _) => return Ordering::Greater,
            (_, Self::Unknown) => return Ordering::Less,
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Int(one), Self::Int(other)) => one.cmp(other),
            (Self::Time(one), Self::Time(other)) => one.cmp(other),
            (Self::Flag(one), Self::Flag(other)) => one.cmp(other),
            (Self::Ids(one), Self::Ids(other)) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
            // A column has values of one type, but a whole number may be beside a fraction.
            _ => self.number().unwrap_or(f64::MIN).total_cmp(&other.number().unwrap_or(f64::MIN)),
        };
        if descending { order.reverse() } else { order }
    }
}

/// Identity of a row over readings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// An object.
    Object(Object),
    /// An owner, by kind and name.
    Owner(OwnerKind, String),
    /// An attachment, by a number that lasts as long as the process.
    Hook(u64),
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(Object { kind, id }) => write!(f, "{}/{id}", kind.as_str()),
            Self::Owner(kind, name) => write!(f, "owner/{}/{name}", kind.as_str()),
            Self::Hook(number) => write!(f, "hook/{number:016x}"),
        }
    }
}

/// A text is not the key of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is KIND/ID, such as program/17, or owner/KIND/NAME, such as owner/unit/cilium.service")]
pub struct NoRowKey;

impl FromStr for RowKey {
    type Err = NoRowKey;

    fn from_str(text: &str) -> Result<Self, NoRowKey> {
        let (first, rest) = text.split_once('/').ok_or(NoRowKey)?;
        if first == "owner" {
            let (kind, name) = rest.split_once('/').ok_or(NoRowKey)?;
            let kind = OwnerKind::ALL.into_iter().find(|each| each.as_str() == kind).ok_or(NoRowKey)?;
            return Ok(Self::Owner(kind, name.to_owned()));
        }
        if first == "hook" {
            return u64::from_str_radix(rest, 16).map(Self::Hook).map_err(|_| NoRowKey);
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == first).ok_or(NoRowKey)?;
        let id = rest.parse().map_err(|_| NoRowKey)?;
        Ok(Self::Object(Object { kind, id }))
    }
}

/// Returns the name and the type of an object, for tables that have neither; `None` for what has none.
#[must_use]
pub fn name_and_type(snapshot: &Snapshot, object: Object) -> (Option<&str>, Option<String>) {
    Related::new(snapshot, Arc::default()).name_and_type(object)
}

/// An order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub column: usize,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// A table of one snapshot, with rates since an earlier one.
pub struct Table<'a> {
    kind: TableKind,
    columns: Vec<Column>,
    rows: Box<dyn Rows + 'a>,
    period: Option<Period>,
    taken_at: BootTime,
    clock: WallClock,
}

impl<'a> Table<'a> {
    /// Returns a table of a snapshot; `None` if that could not be read. Rates are known if there is an earlier snapshot.
    #[must_use]
    pub fn new(kind: TableKind, later: &'a Snapshot, earlier: Option<&'a Snapshot>) -> Option<Self> {
        Self::indexed(kind, later, earlier, Arc::default())
    }

    /// Returns a table whose index is that of the same two snapshots.
    fn indexed(
        kind: TableKind,
        later: &'a Snapshot,
        earlier: Option<&'a Snapshot>,
        index: Arc<TableIndex>,
    ) -> Option<Self> {
        let source = TableSource::new(kind, later, earlier, index);
        let period = source.period;
        let rows = match kind {
            TableKind::Programs => typed::rows(&objects::PROGRAMS, source),
            TableKind::Maps => typed::rows(&objects::MAPS, source),
            TableKind::Links => typed::rows(&objects::LINKS, source),
            TableKind::Owners => typed::rows(&owners::OWNERS, source),
            TableKind::Hooks => typed::rows(&owners::HOOKS, source),
            TableKind::Orphans => typed::rows(&owners::ORPHANS, source),
            TableKind::Btfs => typed::rows(&objects::BTFS, source),
        };
        let Snapshot { taken_at, clock, .. } = *later;
        Some(Self { kind, columns: kind.columns(), rows: rows?, period, taken_at, clock })
    }

    /// Returns which table it is.
    #[must_use]
    pub const fn kind(&self) -> TableKind {
        self.kind
    }

    /// Returns the columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the position of a column.
    #[must_use]
    pub fn column(&self, field: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.field == field)
    }

    /// Returns the time that rates are of; `None` without an earlier snapshot.
    #[must_use]
    pub const fn period(&self) -> Option<Period> {
        self.period
    }

    /// Returns the wall clock, for the dates of times.
    #[must_use]
    pub const fn clock(&self) -> WallClock {
        self.clock
    }

    /// Returns when the reading was taken.
    #[must_use]
    pub const fn taken_at(&self) -> BootTime {
        self.taken_at
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// Returns a cell.
    ///
    /// # Panics
    ///
    /// If there is no such row or column.
    #[must_use]
    pub fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        self.rows.cell(row, column)
    }

    /// Returns the identity of a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn key(&self, row: usize) -> RowKey {
        self.rows.key(row)
    }

    /// Returns whether a row is about an object of the exporter itself.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn is_own(&self, row: usize) -> bool {
        self.rows.is_own(row)
    }

    /// Returns whether a column has a value in some row.
    #[must_use]
    pub fn has_values(&self, column: usize) -> bool {
        (0..self.len()).any(|row| self.cell(row, column).is_known())
    }

    /// Returns the order in which the most expensive come first; that of the kernel where nothing has a cost.
    #[must_use]
    pub fn default_sort(&self) -> Sort {
        let mut costs = self.kind.costs().iter().filter_map(|field| self.column(field));
        match costs.find(|&column| self.has_values(column)) {
            Some(column) => Sort { column, descending: true },
            None => Sort { column: 0, descending: false },
        }
    }

    /// Returns the rows that match a filter, in an order. Equal ones are in the order of the kernel.
    #[must_use]
    pub fn select(&self, filter: &Filter, sort: Sort) -> Vec<usize> {
        let matching = (0..self.len()).filter(|&row| filter.matches(self, row));
        let mut rows: Vec<_> = matching.map(|row| (self.cell(row, sort.column), row)).collect();
        rows.sort_by(|(one, _), (other, _)| one.compare(other, sort.descending));
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests;
