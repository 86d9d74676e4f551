//! Series already sent: encoded attributes of each, and which of its metrics had a point, to mark the end of a series.
//! Entry point: [`match_series`].

use std::collections::HashMap;
use std::fmt::Write;

use super::request::{nanoseconds, write_attribute};
use super::unchanged::{LastSent, Repetition};
use crate::metrics::{Carries, Entity, Label, Series, Value};
use crate::model::WallClock;

/// The time of a sample.
#[derive(Clone, Copy)]
pub(super) struct SampleTime {
    /// Since 1970.
    pub(super) nanoseconds: u64,
    pub(super) clock: WallClock,
    /// Whether the clock was set since the last sample.
    pub(super) is_set: bool,
}

/// What was sent of one value of an entity.
#[derive(Debug)]
pub(super) struct SentSeries {
    series: Series,
    /// Start of its points, in nanoseconds since 1970. It stays when the clock is set, since a receiver takes another start for a
    /// reset of the counter, unless points would be older than their start.
    start: Option<u64>,
    /// Encoded key attributes, followed by the other attributes of the `_info` metric.
    attributes: Box<[u8]>,
    key_len: usize,
    /// Metrics that had a point in the last sample, one bit for each row of the entity.
    pub(super) metrics: u64,
    /// Only if points can be left out.
    last: Option<Box<LastSent>>,
}

impl SentSeries {
    fn new<T>(entity: &Entity<T>, value: &T, series: Series, clock: WallClock) -> Self {
        let (mut attributes, mut text) = (Vec::new(), String::new());
        write_attributes(&mut attributes, &mut text, entity.key, value, clock);
        let key_len = attributes.len();
        write_attributes(&mut attributes, &mut text, entity.info, value, clock);
        let start = series.birth.map(|birth| nanoseconds(birth.by(clock)));
        Self { series, start, attributes: attributes.into_boxed_slice(), key_len, metrics: 0, last: None }
    }

    /// Begins a sample in which points can be left out. `metrics` is the number of metrics of the entity.
    pub(super) fn begin(&mut self, metrics: usize, repetition: Repetition) {
        let last = self.last.get_or_insert_with(|| Box::new(LastSent::new(metrics)));
        last.begin(self.series.id, repetition);
    }

    /// Leaves none of its points out of the next sample.
    pub(super) fn forget_points(&mut self) {
        self.last = None;
    }

    /// Takes note that a row has a value. Returns whether its point is left out: the receiver has it.
    pub(super) fn leaves_out(&mut self, row: usize, value: Value<'_>, clock: WallClock) -> bool {
        let bit = 1 << row;
        let had_point = self.metrics & bit != 0;
        self.metrics |= bit;
        self.last.as_mut().is_some_and(|last| last.leaves_out(row, value, clock)) && had_point
    }

    /// Returns the start of a point with this time, which is never later: an object can be loaded during the reading.
    pub(super) fn start(&mut self, time: u64) -> Option<u64> {
        self.start = self.start.map(|start| start.min(time));
        self.start
    }

    /// Returns the encoded attributes of a metric's points.
    pub(super) fn attributes(&self, carries: Carries) -> &[u8] {
        match carries {
            Carries::Key => &self.attributes[..self.key_len],
            Carries::Info => &self.attributes,
        }
    }
}

/// Brings `sent` into the order of `values`, with an entry for each, and returns the series that ended. If the clock was set, series
/// with a date among their attributes end and begin with another one.
///
/// Objects are in ascending order with new ones last, so mostly nothing but the end differs from the last sample.
pub(super) fn match_series<T>(
    entity: &Entity<T>,
    values: &[T],
    sent: &mut Vec<SentSeries>,
    time: SampleTime,
) -> Vec<SentSeries> {
    let same = values
        .iter()
        .zip(sent.iter())
        .take_while(|(value, sent)| (entity.series)(value) == sent.series)
        .count();
    if same == values.len() && same == sent.len() && !time.is_set {
        return Vec::new();
    }
    let same = if time.is_set { 0 } else { same };
    let mut earlier: HashMap<Series, SentSeries> =
        sent.drain(same..).map(|sent| (sent.series, sent)).collect();
    for value in &values[same..] {
        let series = (entity.series)(value);
        if !time.is_set
            && let Some(earlier) = earlier.remove(&series)
        {
            sent.push(earlier);
            continue;
        }
        let mut new = SentSeries::new(entity, value, series, time.clock);
        let start = earlier.get(&series).and_then(|earlier| earlier.start);
        new.start = start.filter(|&start| start <= time.nanoseconds).or(new.start);
        sent.push(new);
    }
    let mut ended: Vec<SentSeries> = earlier.into_values().collect();
    ended.sort_by_key(|sent| sent.series.id);
    // If a new object has the id and attributes of an old one, its points continue the same series: a marker with the same
    // time and attributes would end it. The new start time shows that another object began.
    for (value, new) in values.iter().zip(sent.iter()).skip(same) {
        let Ok(index) = ended.binary_search_by_key(&new.series.id, |old| old.series.id) else { continue };
        let old = &mut ended[index];
        for (row, metric) in entity.metrics.iter().enumerate() {
            let continues = (metric.read)(value).is_some();
            if continues && old.attributes(metric.carries) == new.attributes(metric.carries) {
                old.metrics &= !(1 << row);
            }
        }
    }
    ended
}

/// Appends the attributes of a value, each as a field of a data point.
fn write_attributes<T>(
    out: &mut Vec<u8>,
    text: &mut String,
    labels: &[Label<T>],
    value: &T,
    clock: WallClock,
) {
    /// `NumberDataPoint.attributes`.
    const POINT_ATTRIBUTES: u32 = 7;
    for label in labels {
        let Some(value) = (label.read)(value) else { continue };
        text.clear();
        write!(text, "{}", value.by(clock)).expect("writing to a String does not fail");
        write_attribute(out, POINT_ATTRIBUTES, label.name, text);
    }
}
