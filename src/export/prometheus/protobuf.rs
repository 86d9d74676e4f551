//! Prometheus' protobuf exposition: messages `io.prometheus.client.MetricFamily`, each after its length. Entry point: [`write`](write()).
//!
//! Counters carry the time of their birth, which text 0.0.4 cannot say and `OpenMetrics` only as further series.
//! Source: `io/prometheus/client/metrics.proto` in `github.com/prometheus/client_model`.

use std::io;

use jiff::Timestamp;

use super::{Named, named, target_labels};
use crate::export::wire;
use crate::metrics::{
    Carries, Entity, Metric, MetricKind, Rows, Sample, Value, Visitor, prometheus_name, visit,
};
use crate::model::WallClock;

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
    pub(super) const LABEL_NAME: u32 = 1;
    pub(super) const LABEL_VALUE: u32 = 2;
    /// Of a gauge and of a counter.
    pub(super) const VALUE: u32 = 1;
    pub(super) const COUNTER_CREATED: u32 = 3;
    pub(super) const TIME_SECONDS: u32 = 1;
    pub(super) const TIME_NANOS: u32 = 2;
    /// Types of metrics.
    pub(super) const COUNTER: u64 = 0;
    pub(super) const GAUGE: u64 = 1;
}

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
        push_value(&mut self.metric, MetricKind::Gauge, 1.0, None);
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
                push_value(&mut self.metric, metric.kind, number(point, self.clock), created);
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
    };
    wire::number(family, field::FAMILY_TYPE, kind);
    if !unit.is_empty() {
        wire::bytes(family, field::FAMILY_UNIT, unit.as_bytes());
    }
}

fn push_value(metric: &mut Vec<u8>, kind: MetricKind, number: f64, created: Option<Timestamp>) {
    let mut value = Vec::with_capacity(32);
    wire::fixed64(&mut value, field::VALUE, number.to_bits());
    let of = match kind {
        MetricKind::Gauge => field::METRIC_GAUGE,
        MetricKind::Counter => {
            if let Some(time) = created {
                let mut moment = Vec::with_capacity(16);
                wire::number(&mut moment, field::TIME_SECONDS, time.as_second().cast_unsigned());
                let nanoseconds = time.subsec_nanosecond();
                wire::number(&mut moment, field::TIME_NANOS, i64::from(nanoseconds).cast_unsigned());
                wire::bytes(&mut value, field::COUNTER_CREATED, &moment);
            }
            field::METRIC_COUNTER
        }
    };
    wire::bytes(metric, of, &value);
}

/// Writes a label, unless it is missing or empty, which is the same to Prometheus.
fn push_label<T>(out: &mut Vec<u8>, named: &Named<T>, value: &T, clock: WallClock, text: &mut String) {
    let Some(value) = (named.label.read)(value) else { return };
    text.clear();
    super::put(text, format_args!("{}", value.by(clock)));
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
fn number(value: Value, clock: WallClock) -> f64 {
    match value {
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        Value::Time(time) => clock.second(time).as_second() as f64,
    }
}
