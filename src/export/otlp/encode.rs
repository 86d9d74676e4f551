//! Samples as OTLP metrics requests, encoded without building them first.
//! Knows the messages of `opentelemetry/proto/metrics/v1/metrics.proto` and nothing of how requests travel.
//! Begin at [`Encoder::encode`].

use std::collections::HashMap;
use std::fmt::Write;

use jiff::Timestamp;
use prost::bytes::Bytes;

use super::wire;
use crate::metrics::{Carries, Entity, Kind, Label, Metric, Sample, Series, Value, Visitor, visit};

/// `DataPointFlags`: the series has ended.
const NO_RECORDED_VALUE: u64 = 1;
/// `AggregationTemporality`: since the start, not since the last point.
const CUMULATIVE: u64 = 2;

/// An encoded `ExportMetricsServiceRequest`.
#[derive(Clone, Debug)]
pub struct Request {
    /// The message.
    pub bytes: Bytes,
    /// How many points are in it.
    pub points: u64,
}

/// Encodes one sample after the other, and remembers of each series what does not change: its attributes, encoded, and
/// which metrics it had, to say so when it ends.
#[derive(Debug)]
pub struct Encoder {
    max_request: usize,
    /// What every request begins with, up to the first metric.
    head: Head,
    /// What was sent of each entity, in the order of the table.
    sent: Vec<Vec<Sent>>,
    memory: Memory,
}

#[derive(Clone, Debug)]
struct Head {
    bytes: Vec<u8>,
    resource_metrics: wire::Open,
    scope_metrics: wire::Open,
}

/// What was sent of one value of an entity.
#[derive(Debug)]
struct Sent {
    series: Series,
    /// The key attributes, and behind them the others of the `_info` metric.
    attributes: Box<[u8]>,
    key_len: usize,
    /// The metrics that had a point in the last request, a bit for each row of the entity.
    metrics: u64,
}

impl Sent {
    fn new<T>(entity: &Entity<T>, value: &T, series: Series) -> Self {
        let (mut attributes, mut text) = (Vec::new(), String::new());
        write_attributes(&mut attributes, &mut text, entity.key, value);
        let key_len = attributes.len();
        write_attributes(&mut attributes, &mut text, entity.info, value);
        Self { series, attributes: attributes.into_boxed_slice(), key_len, metrics: 0 }
    }

    fn attributes(&self, carries: Carries) -> &[u8] {
        match carries {
            Carries::Key => &self.attributes[..self.key_len],
            Carries::Info => &self.attributes,
        }
    }
}

impl Encoder {
    /// An encoder for one resource, whose requests are at most `max_request` bytes long (a single point may be longer).
    #[must_use]
    pub fn new(resource: &[(String, String)], max_request: usize) -> Self {
        let mut bytes = Vec::new();
        let resource_metrics = wire::open(&mut bytes, 1);
        let mut attributes = Vec::new();
        for (key, value) in resource {
            write_attribute(&mut attributes, 1, key, value);
        }
        wire::bytes(&mut bytes, 1, &attributes);
        let scope_metrics = wire::open(&mut bytes, 2);
        let mut scope = Vec::new();
        wire::bytes(&mut scope, 1, env!("CARGO_PKG_NAME").as_bytes());
        wire::bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        wire::bytes(&mut bytes, 1, &scope);
        let head = Head { bytes, resource_metrics, scope_metrics };
        Self {
            max_request: max_request.min(wire::MAX_LEN),
            head,
            sent: Vec::new(),
            memory: Memory::default(),
        }
    }

    /// Encodes a sample. A series that ended since the last one gets a marker.
    pub fn encode(&mut self, sample: Sample<'_>) -> Vec<Request> {
        let mut requests = Vec::new();
        self.encode_each(sample, |request| requests.push(request));
        requests
    }

    /// Encodes a sample, and hands over each request as soon as it is complete. The memory of those that are delivered by then
    /// serves for the next ones.
    pub fn encode_each(&mut self, sample: Sample<'_>, mut done: impl FnMut(Request)) {
        let mut cycle = Cycle {
            sent: &mut self.sent,
            entity: 0,
            time: nanoseconds(sample.snapshot.taken_at),
            requests: Requests {
                max_request: self.max_request,
                head: &self.head,
                memory: &mut self.memory,
                done: &mut done,
                buffer: Vec::new(),
                points: 0,
            },
        };
        visit(Some(sample), &mut cycle);
        if cycle.requests.points > 0 {
            cycle.requests.finish_request();
        }
    }
}

/// The memory of requests, to be used again once they are delivered: taking megabytes anew costs more than filling them.
#[derive(Debug, Default)]
struct Memory {
    /// Of requests that may not be delivered yet, [`KEPT`] bytes at most.
    kept: Vec<Bytes>,
    /// The length of the longest of the last requests.
    longest: usize,
}

/// How much memory of requests is kept.
const KEPT: usize = 4 << 20;

impl Memory {
    /// Memory for a request.
    fn take(&mut self) -> Vec<u8> {
        let free = self.kept.iter().position(Bytes::is_unique);
        let mut buffer = free.map(|place| Vec::from(self.kept.swap_remove(place))).unwrap_or_default();
        buffer.clear();
        buffer.reserve(self.longest);
        buffer
    }

    /// Says what became of it.
    fn filled(&mut self, bytes: &Bytes) {
        self.longest = self.longest.max(bytes.len());
        if self.kept.iter().map(Bytes::len).sum::<usize>() + bytes.len() <= KEPT {
            self.kept.push(bytes.clone());
        }
    }
}

/// One sample being encoded.
struct Cycle<'a> {
    sent: &'a mut Vec<Vec<Sent>>,
    entity: usize,
    time: u64,
    requests: Requests<'a>,
}

impl Visitor for Cycle<'_> {
    fn entity<T>(&mut self, entity: &'static Entity<T>, values: Option<&[T]>) {
        assert!(entity.metrics.len() <= u64::BITS as usize, "a bit for each metric of an entity");
        if self.sent.len() == self.entity {
            self.sent.push(Vec::new());
        }
        let sent = &mut self.sent[self.entity];
        self.entity += 1;
        // What could not be read has not ended.
        let Some(values) = values else { return };
        let ended = recognise(entity, values, sent);

        for (row, metric) in entity.metrics.iter().enumerate() {
            let bit = 1 << row;
            let mut open = None;
            let mut fell_silent = false;
            for (value, sent) in values.iter().zip(sent.iter_mut()) {
                if let Some(value) = (metric.read)(value) {
                    sent.metrics |= bit;
                    let point = Point { birth: sent.series.birth, time: self.time, value: Some(value) };
                    self.requests.point(metric, &mut open, sent.attributes(metric.carries), point);
                } else {
                    fell_silent |= sent.metrics & bit != 0;
                }
            }
            self.requests.close(open);
            if fell_silent {
                let silent =
                    values.iter().zip(sent.iter_mut()).filter(|(value, _)| (metric.read)(value).is_none());
                for (_, sent) in silent.filter(|(_, sent)| sent.metrics & bit != 0) {
                    sent.metrics &= !bit;
                    self.requests.marker(metric, sent, self.time);
                }
            }
            for ended in ended.iter().filter(|ended| ended.metrics & bit != 0) {
                self.requests.marker(metric, ended, self.time);
            }
        }
    }
}

/// Brings what was sent into the order of the values, and gives back what belongs to none of them any more.
///
/// Objects come in ascending order and the new ones last, so mostly only the end differs from the last time, or nothing.
fn recognise<T>(entity: &Entity<T>, values: &[T], sent: &mut Vec<Sent>) -> Vec<Sent> {
    let same = values
        .iter()
        .zip(sent.iter())
        .take_while(|(value, sent)| (entity.series)(value) == sent.series)
        .count();
    if same == values.len() && same == sent.len() {
        return Vec::new();
    }
    let mut earlier: HashMap<Series, Sent> = sent.drain(same..).map(|sent| (sent.series, sent)).collect();
    for value in &values[same..] {
        let series = (entity.series)(value);
        sent.push(earlier.remove(&series).unwrap_or_else(|| Sent::new(entity, value, series)));
    }
    let mut ended: Vec<Sent> = earlier.into_values().collect();
    ended.sort_by_key(|sent| sent.series.id);
    // Where a new object has the old one's id and looks the same, its points go on in the same series: a marker with the
    // same time and attributes would end it. The new start time says that another object began.
    for (value, new) in values.iter().zip(sent.iter()).skip(same) {
        let Ok(place) = ended.binary_search_by_key(&new.series.id, |old| old.series.id) else { continue };
        let old = &mut ended[place];
        for (row, metric) in entity.metrics.iter().enumerate() {
            let goes_on = (metric.read)(value).is_some();
            if goes_on && old.attributes(metric.carries) == new.attributes(metric.carries) {
                old.metrics &= !(1 << row);
            }
        }
    }
    ended
}

/// What of a point is not attributes.
#[derive(Clone, Copy)]
struct Point {
    birth: Option<Timestamp>,
    time: u64,
    /// `None` marks the end of the series.
    value: Option<Value>,
}

/// The requests of one sample.
struct Requests<'a> {
    max_request: usize,
    head: &'a Head,
    memory: &'a mut Memory,
    done: &'a mut dyn FnMut(Request),
    /// The request being written; empty before its first metric.
    buffer: Vec<u8>,
    points: u64,
}

/// A metric being written.
#[derive(Clone, Copy)]
struct OpenMetric {
    metric: wire::Open,
    data: wire::Open,
}

impl Requests<'_> {
    /// Appends a point to the open metric, or opens it; begins another request when this one would be too long.
    fn point<T>(
        &mut self,
        metric: &Metric<T>,
        open: &mut Option<OpenMetric>,
        attributes: &[u8],
        point: Point,
    ) {
        /// A tag of one byte and eight bytes of number.
        const FIXED: usize = 9;
        /// The flags: a tag and a small number.
        const FLAGS: usize = 2;
        let rest = if point.value.is_some() { FIXED } else { FLAGS };
        let birth = if point.birth.is_some() { FIXED } else { 0 };
        let len = attributes.len() + birth + FIXED + rest;
        let framed = 1 + wire::varint_len(len as u64) + len;
        let opening = if open.is_none() { opening_len(metric) } else { 0 };
        if self.points > 0 && self.buffer.len() + opening + framed > self.max_request {
            self.close(open.take());
            self.finish_request();
        }
        if open.is_none() {
            *open = Some(self.open(metric));
        }
        let out = &mut self.buffer;
        wire::header(out, 1, len);
        out.extend_from_slice(attributes);
        if let Some(birth) = point.birth {
            wire::fixed64(out, 2, nanoseconds(birth));
        }
        wire::fixed64(out, 3, point.time);
        match point.value {
            Some(Value::Int(value)) => wire::fixed64(out, 6, value.cast_unsigned()),
            Some(Value::Float(value)) => wire::fixed64(out, 4, value.to_bits()),
            None => wire::number(out, 8, NO_RECORDED_VALUE),
        }
        self.points += 1;
    }

    /// Says that a series has ended: a point without a value, in a metric of its own.
    fn marker<T>(&mut self, metric: &Metric<T>, sent: &Sent, time: u64) {
        let mut open = None;
        let point = Point { birth: sent.series.birth, time, value: None };
        self.point(metric, &mut open, sent.attributes(metric.carries), point);
        self.close(open);
    }

    fn open<T>(&mut self, metric: &Metric<T>) -> OpenMetric {
        if self.buffer.is_empty() {
            self.buffer = self.memory.take();
            self.buffer.extend_from_slice(&self.head.bytes);
        }
        let out = &mut self.buffer;
        let message = wire::open(out, 2);
        wire::bytes(out, 1, metric.name.as_bytes());
        wire::bytes(out, 2, metric.help.as_bytes());
        wire::bytes(out, 3, metric.unit.as_otlp().as_bytes());
        let data = match metric.kind {
            Kind::Gauge => wire::open(out, 5),
            Kind::Counter => {
                let sum = wire::open(out, 7);
                wire::number(out, 2, CUMULATIVE);
                wire::number(out, 3, u64::from(true));
                sum
            }
        };
        OpenMetric { metric: message, data }
    }

    fn close(&mut self, open: Option<OpenMetric>) {
        if let Some(OpenMetric { metric, data }) = open {
            wire::close(&mut self.buffer, data);
            wire::close(&mut self.buffer, metric);
        }
    }

    fn finish_request(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        wire::close(&mut buffer, self.head.scope_metrics);
        wire::close(&mut buffer, self.head.resource_metrics);
        let bytes = Bytes::from(buffer);
        self.memory.filled(&bytes);
        (self.done)(Request { bytes, points: std::mem::take(&mut self.points) });
    }
}

/// No less than what [`Requests::open`] appends.
fn opening_len<T>(metric: &Metric<T>) -> usize {
    // Two messages of open length and their tags, three texts with tag and length, two small numbers with tags.
    const FRAMES: usize = 2 * (1 + wire::OPEN_LEN) + 3 * (1 + 2) + 2 * 2;
    FRAMES + metric.name.len() + metric.help.len() + metric.unit.as_otlp().len()
}

/// Appends the attributes of a value, each as a field of a point.
fn write_attributes<T>(out: &mut Vec<u8>, text: &mut String, labels: &[Label<T>], value: &T) {
    const POINT_ATTRIBUTES: u32 = 7;
    for label in labels {
        let Some(value) = (label.read)(value) else { continue };
        text.clear();
        write!(text, "{value}").expect("a String takes everything");
        write_attribute(out, POINT_ATTRIBUTES, label.name, text);
    }
}

/// Appends a `KeyValue` with a string as a field.
fn write_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    let field_len = |len: usize| 1 + wire::varint_len(len as u64) + len;
    let any_value = field_len(value.len());
    wire::header(out, field, field_len(key.len()) + field_len(any_value));
    wire::bytes(out, 1, key.as_bytes());
    wire::header(out, 2, any_value);
    wire::bytes(out, 1, value.as_bytes());
}

/// A moment as OTLP has it. Before 1970 there is nothing to export.
fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
