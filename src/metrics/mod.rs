//! What a metric is: a name, a kind, a unit, its labels and a function that reads it from a value of the model.
//! Knows no kernel, no format and no protocol. The metrics themselves stand in [`table`]; [`visit`] shows them all.

pub mod generate;
pub mod prometheus_name;
pub mod select;
pub mod table;

use std::fmt;

use jiff::Timestamp;

use crate::model::{Exporter, Object, Snapshot, Tag};

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
    /// Metrics of the exporter itself; `None` where a snapshot is only printed.
    pub exporter: Option<&'a Exporter>,
}

impl<'a> Sample<'a> {
    /// Returns a sample of everything in a snapshot, without metrics of the exporter.
    #[must_use]
    pub const fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, dropped: None, program_maps: true, holders: true, exporter: None }
    }
}

/// What a metric's values mean over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A state: it goes up and down.
    Gauge,
    /// A total since a birth: it only grows.
    Counter,
}

/// What a metric's values count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing to speak of: a marker or a number of its own.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of a whole, 1 being all of it.
    Ratio,
    /// Things, by the word that UCUM puts in braces.
    Each(&'static str),
}

impl Unit {
    /// As OTLP spells it, by UCUM.
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
    /// Those that tell one object from another.
    Key,
    /// Those, and all that describes it.
    Info,
}

/// The value of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
}

impl Value {
    /// A count as a whole number; beyond 2^63 it stays there.
    #[must_use]
    pub fn count(count: u64) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A size as a whole number.
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
    /// `true` or `false`.
    Flag(bool),
    /// A moment, in RFC 3339 and UTC.
    Time(Timestamp),
    /// A program's tag, in hexadecimal.
    Tag(Tag),
}

impl fmt::Display for LabelValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Time(time) => time.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

/// A label: its name, as OTLP spells it, and how it is read.
pub struct Label<T> {
    /// The name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Reads it; `None` when the value does not have it, and then the label is left out.
    pub read: for<'a> fn(&'a T) -> Option<LabelValue<'a>>,
}

/// A metric: one row of the table, and the source of every output's knowledge of it.
pub struct Metric<T> {
    /// The name, as OTLP spells it.
    pub name: &'static str,
    /// What its values mean over time.
    pub kind: Kind,
    /// What its values count.
    pub unit: Unit,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Where the kernel, or the exporter, keeps it.
    pub source: &'static str,
    /// The first kernel that has it; empty for what does not come from the kernel.
    pub since: &'static str,
    /// Which labels it carries.
    pub carries: Carries,
    /// Reads it; `None` when it is not known, and then there is no point.
    pub read: fn(&T) -> Option<Value>,
}

/// A kind of thing that has metrics.
pub struct Entity<T: 'static> {
    /// What it is, as a heading: `Programs`.
    pub title: &'static str,
    /// The labels that tell one from another, on each of its metrics.
    pub key: &'static [Label<T>],
    /// The labels that describe it, beside the key on metrics that carry [`Carries::Info`].
    pub info: &'static [Label<T>],
    /// Its metrics.
    pub metrics: &'static [Metric<T>],
    /// Which object a value tells of, for entities that can be told of some objects and not of others; `None` for what tells of
    /// many at once or of none, and is always told. The one place that [`select`] knows this from.
    pub object: Option<fn(&T) -> Object>,
    /// What tells one series from a later one with the same labels, or the same id.
    pub series: fn(&T) -> Series,
}

/// Which series a value belongs to: a second value with the same id but another birth is another series, and one with
/// another revision is, of those metrics whose labels differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// Unique among the values of an entity at one moment.
    pub id: u64,
    /// When the series began: the start of its counters. `None` for what was always there.
    pub birth: Option<Timestamp>,
    /// Another number whenever one of the describing labels may be another.
    pub revision: u64,
}

impl Series {
    /// A series whose labels never change.
    #[must_use]
    pub const fn fixed(id: u64, birth: Option<Timestamp>) -> Self {
        Self { id, birth, revision: 0 }
    }
}

impl<T> Entity<T> {
    /// The labels of a metric of this entity, in order.
    pub fn labels(&self, carries: Carries) -> impl Iterator<Item = &'static Label<T>> + use<T> {
        let info = match carries {
            Carries::Key => &[],
            Carries::Info => self.info,
        };
        self.key.iter().chain(info)
    }
}

/// Who wants to see every metric: an exporter, or a page of documentation.
pub trait Visitor {
    /// Sees one entity and its values; `None` when they could not be read, which is not the same as none.
    fn entity<T>(&mut self, entity: &'static Entity<T>, values: Option<&[T]>);
}

/// Shows every entity of the table, in its order, with its values.
pub fn visit(sample: Option<Sample<'_>>, visitor: &mut impl Visitor) {
    table::visit(sample, visitor);
}
