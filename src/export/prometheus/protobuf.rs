//! Prometheus' protobuf exposition: messages `io.prometheus.client.MetricFamily`, each after its length. Entry point: [`write`](write()).
//!
//! Counters carry the time of their birth, which text 0.0.4 cannot say and `OpenMetrics` only as further series. A histogram is a native
//! one, and has the buckets of the text for a Prometheus that takes no native ones.
//! Source: `io/prometheus/client/metrics.proto` in `github.com/prometheus/client_model`.

use std::io;

use jiff::Timestamp;

use super::labels::{Named, named, put, target_labels};
use crate::export::wire;
use crate::metrics::{
    Carries, Entity, Metric, MetricKind, Rows, Sample, Value, Visitor, prometheus_name, visit,
};
use crate::model::{Histogram, WallClock};

/// The media type of the response.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Numbers of fields, and of the types of metrics.
mod field {
    pub(super) const FAMILY_NAME: u32 = 1;
    pub(super) const FAMILY_HELP: u32 = 2;
    pub(super) const FAMILY_TYPE: u32 = 3;
    pub(super) const FAMILY_METRIC: u32 = 4;
    pub(super) const FAMILY_UNIT: u32 = 5;
    pub(super) const METRIC_LABEL: u32 = 1;
    pub(super) const METRIC_GAUGE: u32 = 2;
    pub(super) const METRIC_COUNTER: u32 = 3;
    pub(super) const METRIC_HISTOGRAM: u32 = 7;
    pub(super) const LABEL_NAME: u32 = 1;
    pub(super) const LABEL_VALUE: u32 = 2;
    /// Of a gauge and of a counter.
    pub(super) const VALUE: u32 = 1;
    pub(super) const COUNTER_CREATED: u32 = 3;
    pub(super) const HISTOGRAM_COUNT: u32 = 1;
    pub(super) const HISTOGRAM_SUM: u32 = 2;
    pub(super) const HISTOGRAM_BUCKET: u32 = 3;
    pub(super) const HISTOGRAM_SCHEMA: u32 = 5;
    pub(super) const HISTOGRAM_ZERO_THRESHOLD: u32 = 6;
    pub(super) const HISTOGRAM_ZERO_COUNT: u32 = 7;
    pub(super) const HISTOGRAM_SPAN: u32 = 12;
    pub(super) const HISTOGRAM_DELTA: u32 = 13;
    pub(super) const HISTOGRAM_CREATED: u32 = 15;
    pub(super) const BUCKET_COUNT: u32 = 1;
    pub(super) const BUCKET_BOUND: u32 = 2;
    pub(super) const SPAN_OFFSET: u32 = 1;
    pub(super) const SPAN_LENGTH: u32 = 2;
    pub(super) const TIME_SECONDS: u32 = 1;
    pub(super) const TIME_NANOS: u32 = 2;
    /// Types of metrics.
    pub(super) const COUNTER: u64 = 0;
    pub(super) const GAUGE: u64 = 1;
    pub(super) const HISTOGRAM: u64 = 4;
}

/// The most buckets of a native histogram: as many as the examples of Prometheus' own library have.
const MAX_BUCKETS: usize = 160;

/// Up to so many empty buckets are written as such, since another span would take as much room.
const MAX_GAP: i32 = 2;

/// Writes a sample, one family after another.
///
/// # Errors
///
/// The first error of `out`.
pub fn write(sample: Sample<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let mut exposition = Exposition {
        clock: sample.snapshot.clock,
        keys: Blocks::default(),
        family: Vec::new(),
        metric: Vec::new(),
        text: String::new(),
        out,
        result: Ok(()),
    };
    visit(Some(sample), &mut exposition);
    if let Some(exporter) = sample.exporter {
        exposition.target(&exporter.resource);
    }
    exposition.result
}

struct Exposition<'a> {
    clock: WallClock,
    keys: Blocks,
    /// The family that is being written; empty if it has no metric yet.
    family: Vec<u8>,
    /// The metric that is being written.
    metric: Vec<u8>,
    /// The value of a label.
    text: String,
    out: &'a mut dyn io::Write,
    result: io::Result<()>,
}

/// The key labels of every value of an entity, encoded once for all of its metrics.
#[derive(Default)]
struct Blocks {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Blocks {
    fn fill<T>(&mut self, labels: &[Named<T>], values: &[T], clock: WallClock, text: &mut String) {
        self.bytes.clear();
        self.ends.clear();
        for value in values {
            for label in labels {
                push_label(&mut self.bytes, label, value, clock, text);
            }
            self.ends.push(self.bytes.len());
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| &self.bytes[start..end])
    }
}

impl Exposition<'_> {
    /// Writes the attributes of the resource, as labels of a metric of their own.
    fn target(&mut self, resource: &[(String, String)]) {
        let labels = target_labels(resource);
        if labels.is_empty() {
            return;
        }
        head(&mut self.family, "target_info", "Attributes of the resource.", MetricKind::Gauge, "");
        self.metric.clear();
        for (name, value) in &labels {
            push_pair(&mut self.metric, name, value);
        }
        push_value(&mut self.metric, false, 1.0, None);
        wire::bytes(&mut self.family, field::FAMILY_METRIC, &self.metric);
        self.end();
    }

    /// Ends a family and passes it on.
    fn end(&mut self) {
        if self.result.is_ok() && !self.family.is_empty() {
            let mut length = Vec::with_capacity(10);
            wire::varint(&mut length, self.family.len() as u64);
            self.result = self.out.write_all(&length).and_then(|()| self.out.write_all(&self.family));
        }
        self.family.clear();
    }
}

impl Visitor for Exposition<'_> {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let Some(values) = values else { return };
        let info = named(entity.info);
        self.keys.fill(&named(entity.key), values, self.clock, &mut self.text);
        for (_, metric) in entity.rows(rows) {
            for (value, key) in values.iter().zip(self.keys.iter()) {
                let Some(point) = (metric.read)(value) else { continue };
                if self.family.is_empty() {
                    begin(&mut self.family, metric);
                }
                self.metric.clear();
                self.metric.extend_from_slice(key);
                if metric.carries == Carries::Info {
                    for label in &info {
                        push_label(&mut self.metric, label, value, self.clock, &mut self.text);
                    }
                }
                let created = (entity.series)(value).birth.map(|birth| birth.by(self.clock));
                match (point, metric.kind) {
                    (Value::Histogram(histogram), MetricKind::Histogram { bounds }) => {
                        push_histogram(&mut self.metric, histogram, bounds, created);
                    }
                    (point, kind) => {
                        push_value(&mut self.metric, kind.is_total(), number(point, self.clock), created);
                    }
                }
                wire::bytes(&mut self.family, field::FAMILY_METRIC, &self.metric);
            }
            self.end();
        }
    }
}

fn begin<T>(family: &mut Vec<u8>, metric: &Metric<T>) {
    let name = prometheus_name::sample(metric.name, metric.unit, metric.kind);
    head(family, &name, metric.help, metric.kind, prometheus_name::unit_word(metric.unit));
}

/// Writes what a family has once. A counter keeps its `_total` here, unlike in `OpenMetrics`.
fn head(family: &mut Vec<u8>, name: &str, help: &str, kind: MetricKind, unit: &str) {
    wire::bytes(family, field::FAMILY_NAME, name.as_bytes());
    wire::bytes(family, field::FAMILY_HELP, help.as_bytes());
    let kind = match kind {
        MetricKind::Counter => field::COUNTER,
        MetricKind::Gauge => field::GAUGE,
        MetricKind::Histogram { .. } => field::HISTOGRAM,
    };
    wire::number(family, field::FAMILY_TYPE, kind);
    if !unit.is_empty() {
        wire::bytes(family, field::FAMILY_UNIT, unit.as_bytes());
    }
}

fn push_value(metric: &mut Vec<u8>, is_counter: bool, number: f64, created: Option<Timestamp>) {
    let mut value = Vec::with_capacity(32);
    wire::fixed64(&mut value, field::VALUE, number.to_bits());
    if is_counter {
        push_created(&mut value, field::COUNTER_CREATED, created);
    }
    wire::bytes(metric, if is_counter { field::METRIC_COUNTER } else { field::METRIC_GAUGE }, &value);
}

fn push_created(value: &mut Vec<u8>, of: u32, created: Option<Timestamp>) {
    let Some(time) = created else { return };
    let mut moment = Vec::with_capacity(16);
    wire::number(&mut moment, field::TIME_SECONDS, time.as_second().cast_unsigned());
    let nanoseconds = time.subsec_nanosecond();
    wire::number(&mut moment, field::TIME_NANOS, i64::from(nanoseconds).cast_unsigned());
    wire::bytes(value, of, &moment);
}

/// Writes a histogram in both forms.
fn push_histogram(
    metric: &mut Vec<u8>,
    histogram: &Histogram,
    bounds: &'static [i32],
    created: Option<Timestamp>,
) {
    let mut value = Vec::new();
    wire::number(&mut value, field::HISTOGRAM_COUNT, histogram.count());
    wire::fixed64(&mut value, field::HISTOGRAM_SUM, histogram.sum().to_bits());
    let mut message = Vec::new();
    // The count is the bucket without a bound.
    for (exponent, count) in histogram.up_to(bounds) {
        message.clear();
        wire::number(&mut message, field::BUCKET_COUNT, count);
        wire::fixed64(&mut message, field::BUCKET_BOUND, f64::from(exponent).exp2().to_bits());
        wire::bytes(&mut value, field::HISTOGRAM_BUCKET, &message);
    }
    let native = NativeBuckets::of(histogram);
    wire::signed(&mut value, field::HISTOGRAM_SCHEMA, native.schema.into());
    // A threshold above zero is what shows that there is a native histogram, if nothing else does.
    wire::fixed64(&mut value, field::HISTOGRAM_ZERO_THRESHOLD, Histogram::ZERO_THRESHOLD.to_bits());
    wire::number(&mut value, field::HISTOGRAM_ZERO_COUNT, histogram.zeros());
    for (offset, length) in native.spans {
        message.clear();
        wire::signed(&mut message, field::SPAN_OFFSET, offset.into());
        wire::number(&mut message, field::SPAN_LENGTH, length.into());
        wire::bytes(&mut value, field::HISTOGRAM_SPAN, &message);
    }
    for delta in native.deltas {
        wire::signed(&mut value, field::HISTOGRAM_DELTA, delta);
    }
    push_created(&mut value, field::HISTOGRAM_CREATED, created);
    wire::bytes(metric, field::METRIC_HISTOGRAM, &value);
}

/// The buckets of a native histogram.
#[derive(Debug, PartialEq)]
struct NativeBuckets {
    schema: i32,
    /// Runs of buckets: how many are left out before each, from bucket 0 on for the first one, and how many it has.
    spans: Vec<(i32, u32)>,
    /// The number of values in each bucket of a run, less that of the bucket before.
    deltas: Vec<i64>,
}

impl NativeBuckets {
    fn of(histogram: &Histogram) -> Self {
        let buckets = histogram.numbering(MAX_BUCKETS);
        let mut native = Self { schema: buckets.scale, spans: Vec::new(), deltas: Vec::new() };
        let (mut next, mut last) = (0, 0_i64);
        for (index, count) in buckets.counts {
            // Prometheus numbers a bucket by its upper bound.
            let (index, count) = (index + 1, count.cast_signed());
            match native.spans.last_mut() {
                Some((_, length)) if index - next <= MAX_GAP => {
                    for _ in next..index {
                        native.deltas.push(last.wrapping_neg());
                        last = 0;
                        *length += 1;
                    }
                    *length += 1;
                }
                _ => native.spans.push((index - next, 1)),
            }
            native.deltas.push(count.wrapping_sub(last));
            (next, last) = (index + 1, count);
        }
        native
    }
}

/// Writes a label, unless it is missing or empty, which is the same to Prometheus.
fn push_label<T>(out: &mut Vec<u8>, named: &Named<T>, value: &T, clock: WallClock, text: &mut String) {
    let Some(value) = (named.label.read)(value) else { return };
    text.clear();
    put(text, format_args!("{}", value.by(clock)));
    if !text.is_empty() {
        push_pair(out, &named.name, text);
    }
}

fn push_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    let length = |text: &str| 1 + wire::varint_len(text.len() as u64) + text.len();
    wire::header(out, field::METRIC_LABEL, length(name) + length(value));
    wire::bytes(out, field::LABEL_NAME, name.as_bytes());
    wire::bytes(out, field::LABEL_VALUE, value.as_bytes());
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are floats in every format")]
fn number(value: Value<'_>, clock: WallClock) -> f64 {
    match value {
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        Value::Time(time) => clock.second(time).as_second() as f64,
        Value::Histogram(histogram) => histogram.count() as f64,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The number of values in each bucket, by the index that Prometheus gives it, without empty ones.
    fn counts(native: &NativeBuckets) -> BTreeMap<i32, i64> {
        let mut deltas = native.deltas.iter();
        let (mut index, mut count) = (0, 0);
        let mut counts = BTreeMap::new();
        for &(offset, length) in &native.spans {
            index += offset;
            for _ in 0..length {
                count += deltas.next().expect("a number for each bucket");
                counts.insert(index, count);
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None, "a bucket for each number");
        counts.retain(|_, count| *count != 0);
        counts
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn native_buckets_have_the_values(values in vec((-30.0..30_f64).prop_map(f64::exp2), 0..400)) {
            let mut histogram = Histogram::default();
            let mut expected: BTreeMap<i32, i64> = BTreeMap::new();
            for &value in &values {
                histogram.record(value);
            }
            let native = NativeBuckets::of(&histogram);
            prop_assert!(native.schema <= 3 && native.schema > 0);
            for &value in &values {
                let steps = f64::from(native.schema).exp2();
                #[expect(clippy::cast_possible_truncation, reason = "the values are between 2^-30 and 2^30")]
                let index = (value.log2() * steps).ceil() as i32;
                *expected.entry(index).or_default() += 1;
            }
            prop_assert!(expected.len() <= MAX_BUCKETS);
            prop_assert_eq!(counts(&native), expected);
            prop_assert!(native.spans.iter().skip(1).all(|&(offset, _)| offset > MAX_GAP));
        }
    }

    #[test]
    fn small_gaps_are_zeros() {
        let mut histogram = Histogram::default();
        for value in [1.0, 1.0, 1.2, 2.0, 3.0] {
            histogram.record(value);
        }
        let expected =
            NativeBuckets { schema: 3, spans: vec![(0, 4), (4, 1), (4, 1)], deltas: vec![2, -2, 0, 1, 0, 0] };
        assert_eq!(NativeBuckets::of(&histogram), expected);
    }
}
