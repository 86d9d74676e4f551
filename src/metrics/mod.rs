//! Metrics: name, kind, unit, labels, and a function that reads each from a value of the model.
//! Entry point: [`visit`]. The metrics themselves are in [`table`]; independent of the kernel, formats and protocols.

pub mod columns;
pub mod facts;
pub mod generate;
pub mod overview;
pub mod prometheus_name;
pub mod rate;
pub mod select;
pub mod table;

use std::fmt;

use jiff::Timestamp;

use self::select::MetricFilter;
use crate::model::{BootTime, Exporter, Histogram, Object, Part, Snapshot, Tag, Target, WallClock};

/// Everything to export at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The objects to export, and the totals of all objects.
    pub snapshot: &'a Snapshot,
    /// Series dropped by a limit; `None` without one.
    pub dropped: Option<u64>,
    /// Whether to export which program uses which map.
    pub program_maps: bool,
    /// Whether to export the holders of each object.
    pub holders: bool,
    /// Which metrics to export.
    pub metrics: &'a MetricFilter,
    /// Metrics of the exporter itself; `None` where a snapshot is only printed.
    pub exporter: Option<&'a Exporter>,
}

impl<'a> Sample<'a> {
    /// Returns a sample of everything in a snapshot, without metrics of the exporter.
    #[must_use]
    pub const fn new(snapshot: &'a Snapshot) -> Self {
        let metrics = MetricFilter::none();
        Self { snapshot, dropped: None, program_maps: true, holders: true, metrics, exporter: None }
    }
}

/// What a metric's values mean over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A state: it goes up and down.
    Gauge,
    /// A total since a birth: it only grows.
    Counter,
    /// Values since a birth, by size.
    Histogram {
        /// The bounds of its buckets where a format has few of them: exponents of two, ascending. The values up to a power of two are
        /// counted exactly.
        bounds: &'static [i32],
    },
}

impl MetricKind {
    /// Returns whether its values are a total since a birth.
    #[must_use]
    pub const fn is_total(self) -> bool {
        matches!(self, Self::Counter | Self::Histogram { .. })
    }

    /// Returns the number of series that a scrape has for one value: of a histogram a bucket for each bound and one for all, the sum
    /// and the count.
    #[must_use]
    pub const fn series(self) -> u64 {
        match self {
            Self::Gauge | Self::Counter => 1,
            Self::Histogram { bounds } => bounds.len() as u64 + 3,
        }
    }
}

/// What a metric's values count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// None: a marker or a plain number.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A fraction, from 0 to 1.
    Ratio,
    /// Items, by the UCUM annotation in braces.
    Each(&'static str),
}

impl Unit {
    /// Returns the unit as OTLP spells it, by UCUM.
    #[must_use]
    pub const fn as_otlp(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Ratio => "1",
            Self::Each(braced) => braced,
        }
    }
}

/// Which labels a metric carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Those that identify an object.
    Key,
    /// Those, and all that describe it.
    Info,
}

/// The value of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// A moment: in whole seconds since 1970 and UTC.
    Time(BootTime),
    /// Values by size, of a metric that is a histogram.
    Histogram(&'a Histogram),
}

impl Value<'_> {
    /// Returns a count as a whole number, saturating at 2^63 - 1.
    #[must_use]
    pub fn count(count: u64) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Returns a size as a whole number, saturating at 2^63 - 1.
    #[must_use]
    pub fn size(size: usize) -> Self {
        Self::Int(i64::try_from(size).unwrap_or(i64::MAX))
    }
}

/// The value of a label, borrowed where it can be.
#[derive(Clone, Copy, Debug)]
pub enum LabelValue<'a> {
    /// A text.
    Text(&'a str),
    /// A number, in decimal.
    Number(u32),
    /// A number that can be negative or large, in decimal.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
    /// A moment: in whole seconds, RFC 3339 and UTC.
    Time(BootTime),
    /// A program's tag, in hexadecimal.
    Tag(Tag),
    /// A target, in readable form.
    Target(&'a Target),
    /// The name of a kfunc, after `kfunc:`.
    Kfunc(&'a str),
}

impl LabelValue<'_> {
    /// Returns the value as text, with times by this clock.
    #[must_use]
    pub fn by(self, clock: WallClock) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Time(time) => write!(f, "{}", clock.second(time)),
            Self::Tag(tag) => write!(f, "{tag}"),
            Self::Target(target) => write!(f, "{target}"),
            Self::Kfunc(name) => write!(f, "kfunc:{name}"),
        })
    }
}

/// A label: its name, as OTLP spells it, and how it is read.
pub struct Label<T> {
    /// The name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Reads it; `None` if the value does not have it: the label is omitted.
    pub read: for<'a> fn(&'a T) -> Option<LabelValue<'a>>,
}

/// A metric: one row of the table, from which every output derives.
pub struct Metric<T> {
    /// The name, as OTLP spells it.
    pub name: &'static str,
    /// What its values mean over time.
    pub kind: MetricKind,
    /// What its values count.
    pub unit: Unit,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Where the kernel or the exporter keeps it.
    pub source: &'static str,
    /// The first kernel version with it; empty if it does not come from the kernel.
    pub since: &'static str,
    /// Which labels it carries.
    pub carries: Carries,
    /// Reads it; `None` if it is unknown: there is no point.
    pub read: for<'a> fn(&'a T) -> Option<Value<'a>>,
}

/// A type of value with metrics.
pub struct Entity<T: 'static> {
    /// Heading for its values: `Programs`.
    pub title: &'static str,
    /// The part of a reading that its values come from, by which a scrape chooses (`collect[]`); `None` for how the reading went and
    /// the exporter itself, which are in every scrape.
    pub part: Option<Part>,
    /// Labels that identify a value, on each of its metrics.
    pub key: &'static [Label<T>],
    /// Labels that describe a value, in addition to the key on metrics with [`Carries::Info`].
    pub info: &'static [Label<T>],
    /// Its metrics.
    pub metrics: &'static [Metric<T>],
    /// Returns the object that a value is about; `None` for entities about many objects or none, which are always exported.
    /// [`select`] relies on it alone.
    pub object: Option<fn(&T) -> Object>,
    /// Identifies the series of a value among those with the same labels or id at other times.
    pub series: fn(&T) -> Series,
}

/// Start of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Birth {
    /// Reported by the kernel: in whole seconds, so that a restarted exporter gets the same start.
    Reported(BootTime),
    /// Observed by the exporter.
    Observed(BootTime),
}

impl Birth {
    /// Returns the date by this clock.
    #[must_use]
    pub fn by(self, clock: WallClock) -> Timestamp {
        match self {
            Self::Reported(time) => clock.second(time),
            Self::Observed(time) => clock.at(time),
        }
    }
}

/// Identity of a series: a value with the same id but another birth is another series, and so is one with another revision
/// for the metrics whose labels differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// Unique among the values of an entity at one moment.
    pub id: u64,
    /// Start of the series and its counters. `None` if unknown.
    pub birth: Option<Birth>,
    /// A number that changes whenever a describing label may change.
    pub revision: u64,
}

impl Series {
    /// Returns a series whose labels never change.
    #[must_use]
    pub const fn fixed(id: u64, birth: Option<Birth>) -> Self {
        Self { id, birth, revision: 0 }
    }
}

impl<T> Entity<T> {
    /// Returns the labels of a metric of this entity, in order.
    pub fn labels(&self, carries: Carries) -> impl Iterator<Item = &'static Label<T>> + use<T> {
        let info = match carries {
            Carries::Key => &[],
            Carries::Info => self.info,
        };
        self.key.iter().chain(info)
    }

    /// Returns these of its metrics, each with its row.
    pub fn rows(&self, rows: Rows) -> impl Iterator<Item = (usize, &'static Metric<T>)> + use<T> {
        self.metrics.iter().enumerate().filter(move |(row, _)| rows.0 >> row & 1 == 1)
    }
}

/// The metrics of an entity that are exported: a bit for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows(u64);

impl Rows {
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);

    /// Returns the rows for which this is true, at most 64.
    fn of(exported: impl Iterator<Item = bool>) -> Self {
        Self(exported.enumerate().fold(0, |rows, (row, exported)| rows | u64::from(exported) << row))
    }
}

/// Receives every entity: an exporter, or the page of documentation.
pub trait Visitor {
    /// Receives one entity, its metrics to export, and its values; `None` if they could not be read, which is not the same as
    /// none.
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>);
}

/// Visits every entity of the table, in order, with its values.
pub fn visit(sample: Option<Sample<'_>>, visitor: &mut impl Visitor) {
    table::visit(sample, visitor);
}
