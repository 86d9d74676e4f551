//! Requests as protobuf messages, written field by field, split at a maximum size.
//! Entry point: [`RequestWriter`]. Source: `opentelemetry/proto/metrics/v1/metrics.proto`.

use std::fmt;

use jiff::Timestamp;
use prost::bytes::Bytes;

use super::buffers::BufferPool;
use crate::export::otlp::settings::{Compression, Temporality};
use crate::export::wire;
use crate::metrics::{Metric, MetricKind, Value};
use crate::model::WallClock;

/// `DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`: the series has ended.
const NO_RECORDED_VALUE: u64 = 1;
/// `AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;
/// `AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// An encoded export request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The message: `ExportMetricsServiceRequest` for metrics.
    pub bytes: Bytes,
    /// How [`Request::bytes`] are compressed.
    pub compression: Compression,
    /// Content of the message.
    pub items: Items,
}

impl Request {
    /// Returns the size of the message in bytes, as compressed.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Number of items in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items {
    /// Kind of the items.
    pub signal: Signal,
    /// Number of data points or log records.
    pub count: u64,
}

impl fmt::Display for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.signal {
            Signal::Metrics => "points",
            Signal::Logs => "log records",
        };
        write!(f, "{} {unit}", self.count)
    }
}

/// A signal of OpenTelemetry. Each has its own service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Data points of metrics.
    Metrics,
    /// Log records.
    Logs,
}

/// Bytes at the start of every request, up to its first metric: resource and scope.
#[derive(Clone, Debug)]
pub(super) struct RequestHead {
    bytes: Vec<u8>,
    resource_metrics: wire::OpenMessage,
    scope_metrics: wire::OpenMessage,
}

impl RequestHead {
    pub(super) fn new(resource: &[(String, String)]) -> Self {
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
        Self { bytes, resource_metrics, scope_metrics }
    }
}

/// A data point without its attributes.
#[derive(Clone, Copy)]
pub(super) struct Point {
    /// Nanoseconds since 1970, at most `time`.
    pub(super) start: Option<u64>,
    pub(super) time: u64,
    /// `None` marks the end of the series.
    pub(super) value: Option<Value>,
}

/// Writes the requests of one sample.
pub(super) struct RequestWriter<'a> {
    max_request: usize,
    clock: WallClock,
    temporality: Temporality,
    head: &'a RequestHead,
    buffers: &'a mut BufferPool,
    emit: &'a mut dyn FnMut(Request),
    /// The request being written; empty before its first metric.
    buffer: Vec<u8>,
    points: u64,
    /// How many requests are complete.
    complete: usize,
}

/// A metric being written.
#[derive(Clone, Copy)]
pub(super) struct OpenMetric {
    metric: wire::OpenMessage,
    data: wire::OpenMessage,
}

impl<'a> RequestWriter<'a> {
    /// Returns a writer that passes each complete request to `emit`.
    pub(super) fn new(
        max_request: usize,
        clock: WallClock,
        temporality: Temporality,
        head: &'a RequestHead,
        buffers: &'a mut BufferPool,
        emit: &'a mut dyn FnMut(Request),
    ) -> Self {
        let (buffer, points, complete) = (Vec::new(), 0, 0);
        Self { max_request, clock, temporality, head, buffers, emit, buffer, points, complete }
    }

    /// Appends a point to the open metric, or opens the metric. Starts another request if this one would become too long. Returns the
    /// order of the request with the point.
    pub(super) fn point<T>(
        &mut self,
        metric: &Metric<T>,
        open: &mut Option<OpenMetric>,
        attributes: &[u8],
        point: Point,
    ) -> usize {
        /// A tag of one byte and eight bytes of number.
        const FIXED: usize = 9;
        /// The flags: a tag and a small number.
        const FLAGS: usize = 2;
        let rest = if point.value.is_some() { FIXED } else { FLAGS };
        let start = if point.start.is_some() { FIXED } else { 0 };
        let len = attributes.len() + start + FIXED + rest;
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
        if let Some(start) = point.start {
            wire::fixed64(out, 2, start);
        }
        wire::fixed64(out, 3, point.time);
        match point.value {
            Some(Value::Int(value)) => wire::fixed64(out, 6, value.cast_unsigned()),
            Some(Value::Float(value)) => wire::fixed64(out, 4, value.to_bits()),
            Some(Value::Time(time)) => {
                wire::fixed64(out, 6, self.clock.second(time).as_second().cast_unsigned());
            }
            None => wire::number(out, 8, NO_RECORDED_VALUE),
        }
        self.points += 1;
        self.complete
    }

    fn open<T>(&mut self, metric: &Metric<T>) -> OpenMetric {
        if self.buffer.is_empty() {
            self.buffer = self.buffers.take();
            self.buffer.extend_from_slice(&self.head.bytes);
        }
        let out = &mut self.buffer;
        let message = wire::open(out, 2);
        wire::bytes(out, 1, metric.name.as_bytes());
        wire::bytes(out, 2, metric.help.as_bytes());
        wire::bytes(out, 3, metric.unit.as_otlp().as_bytes());
        let data = match metric.kind {
            MetricKind::Gauge => wire::open(out, 5),
            MetricKind::Counter => {
                let sum = wire::open(out, 7);
                let temporality = match self.temporality {
                    Temporality::Cumulative => CUMULATIVE,
                    Temporality::Delta => DELTA,
                };
                wire::number(out, 2, temporality);
                wire::number(out, 3, u64::from(true));
                sum
            }
        };
        OpenMetric { metric: message, data }
    }

    /// Ends a metric.
    pub(super) fn close(&mut self, open: Option<OpenMetric>) {
        if let Some(OpenMetric { metric, data }) = open {
            wire::close(&mut self.buffer, data);
            wire::close(&mut self.buffer, metric);
        }
    }

    /// Emits the last request, if it has points.
    pub(super) fn finish(mut self) {
        if self.points > 0 {
            self.finish_request();
        }
    }

    fn finish_request(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        wire::close(&mut buffer, self.head.scope_metrics);
        wire::close(&mut buffer, self.head.resource_metrics);
        let bytes = Bytes::from(buffer);
        self.buffers.keep(&bytes);
        let items = Items { signal: Signal::Metrics, count: std::mem::take(&mut self.points) };
        self.complete += 1;
        (self.emit)(Request { bytes, compression: Compression::None, items });
    }
}

/// Returns an upper bound of what [`RequestWriter::open`] appends.
fn opening_len<T>(metric: &Metric<T>) -> usize {
    // Two messages of open length and their tags, three texts with tag and length, two small numbers with tags.
    const FRAMES: usize = 2 * (1 + wire::OPEN_LEN) + 3 * (1 + 2) + 2 * 2;
    FRAMES + metric.name.len() + metric.help.len() + metric.unit.as_otlp().len()
}

/// Appends a `KeyValue` with a string value as a field.
pub(super) fn write_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    let field_len = |len: usize| 1 + wire::varint_len(len as u64) + len;
    let any_value = field_len(value.len());
    wire::header(out, field, field_len(key.len()) + field_len(any_value));
    wire::bytes(out, 1, key.as_bytes());
    wire::header(out, 2, any_value);
    wire::bytes(out, 1, value.as_bytes());
}

/// Returns a time in nanoseconds since 1970; 0 for earlier times, which no kernel reports.
pub(super) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
