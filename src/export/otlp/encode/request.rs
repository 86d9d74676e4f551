//! Requests as protobuf messages, written field by field, split at a maximum size.
//! Entry point: [`RequestWriter`]. Source: `opentelemetry/proto/metrics/v1/metrics.proto`.

use std::fmt;

use jiff::Timestamp;
use prost::bytes::Bytes;

use super::buffers::BufferPool;
use super::histogram;
use super::point::{Attributes, NO_RECORDED_VALUE, Point};
use crate::export::otlp::settings::{Compression, Temporality};
use crate::export::wire;
use crate::metrics::{Metric, MetricKind, Value};
use crate::model::WallClock;

/// `AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;
/// `AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// An encoded export request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The message: `ExportMetricsServiceRequest` for metrics, `ExportLogsServiceRequest` for logs.
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
        write!(f, "{} {}", self.count, self.signal.items())
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

impl Signal {
    /// Returns the word for its items, for the log.
    pub(crate) const fn items(self) -> &'static str {
        match self {
            Self::Metrics => "points",
            Self::Logs => "log records",
        }
    }

    /// Returns the metric that counts what is dropped of it.
    pub(crate) const fn dropped_metric(self) -> &'static str {
        match self {
            Self::Metrics => "bpf_exporter_otlp_dropped_points",
            Self::Logs => "bpf_exporter_otlp_dropped_log_records",
        }
    }
}

/// Bytes at the start of every request, up to its first metric or log record: resource and scope, whose fields have the same
/// numbers in both.
#[derive(Clone, Debug)]
pub(super) struct RequestHead {
    bytes: Vec<u8>,
    /// `ResourceMetrics` or `ResourceLogs`.
    of_resource: wire::OpenMessage,
    /// `ScopeMetrics` or `ScopeLogs`.
    of_scope: wire::OpenMessage,
}

impl RequestHead {
    pub(super) fn new(resource: &[(String, String)]) -> Self {
        let mut bytes = Vec::new();
        let of_resource = wire::open(&mut bytes, 1);
        let mut attributes = Vec::new();
        for (key, value) in resource {
            write_attribute(&mut attributes, 1, key, value);
        }
        wire::bytes(&mut bytes, 1, &attributes);
        let of_scope = wire::open(&mut bytes, 2);
        let mut scope = Vec::new();
        wire::bytes(&mut scope, 1, env!("CARGO_PKG_NAME").as_bytes());
        wire::bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        wire::bytes(&mut bytes, 1, &scope);
        Self { bytes, of_resource, of_scope }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Ends a request that begins with it.
    pub(super) fn close(&self, request: &mut [u8]) {
        wire::close(request, self.of_scope);
        wire::close(request, self.of_resource);
    }
}

/// Writes the requests of one sample.
pub(super) struct RequestWriter<'a> {
    max_request: usize,
    clock: WallClock,
    temporality: Temporality,
    head: &'a RequestHead,
    buffers: &'a mut BufferPool,
    begin: &'a mut dyn FnMut(),
    emit: &'a mut dyn FnMut(Request),
    /// The request being written; empty before its first metric.
    buffer: Vec<u8>,
    points: u64,
    /// Whether the points are those of histograms.
    has_histograms: bool,
    /// How many requests are complete.
    complete: usize,
    /// The point of a histogram that is being written.
    histogram: Vec<u8>,
}

/// A metric being written.
#[derive(Clone, Copy)]
pub(super) struct OpenMetric {
    metric: wire::OpenMessage,
    data: wire::OpenMessage,
}

impl<'a> RequestWriter<'a> {
    /// Returns a writer that calls `begin` before it takes a buffer, and passes each complete request to `emit`.
    pub(super) fn new(
        max_request: usize,
        clock: WallClock,
        temporality: Temporality,
        head: &'a RequestHead,
        buffers: &'a mut BufferPool,
        begin: &'a mut dyn FnMut(),
        emit: &'a mut dyn FnMut(Request),
    ) -> Self {
        let (buffer, points, has_histograms, complete, histogram) = (Vec::new(), 0, false, 0, Vec::new());
        Self {
            max_request,
            clock,
            temporality,
            head,
            buffers,
            begin,
            emit,
            buffer,
            points,
            has_histograms,
            complete,
            histogram,
        }
    }

    /// Appends a point to the open metric, or opens the metric. Starts another request if this one would become too long. Returns the
    /// order of the request with the point.
    pub(super) fn point<T>(
        &mut self,
        metric: &Metric<T>,
        open: &mut Option<OpenMetric>,
        attributes: Attributes<'_>,
        point: Point<'_>,
    ) -> usize {
        /// A tag of one byte and eight bytes of number.
        const FIXED: usize = 9;
        /// The flags: a tag and a small number.
        const FLAGS: usize = 2;
        if let MetricKind::Histogram { .. } = metric.kind {
            return self.histogram(metric, open, attributes, point);
        }
        let rest = if point.value.is_some() { FIXED } else { FLAGS };
        let start = if point.start.is_some() { FIXED } else { 0 };
        let len = attributes.len() + start + FIXED + rest;
        self.make_room(metric, open, len);
        let out = &mut self.buffer;
        wire::header(out, 1, len);
        attributes.append_to(out);
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
            // A metric that is none has no such value.
            Some(Value::Histogram(_)) | None => wire::number(out, 8, NO_RECORDED_VALUE),
        }
        self.points += 1;
        self.complete
    }

    /// Appends a point of a histogram, as [`RequestWriter::point`] does.
    fn histogram<T>(
        &mut self,
        metric: &Metric<T>,
        open: &mut Option<OpenMetric>,
        attributes: Attributes<'_>,
        point: Point<'_>,
    ) -> usize {
        let mut encoded = std::mem::take(&mut self.histogram);
        encoded.clear();
        histogram::write_point(&mut encoded, attributes, point);
        self.make_room(metric, open, encoded.len());
        wire::bytes(&mut self.buffer, 1, &encoded);
        self.histogram = encoded;
        self.points += 1;
        self.complete
    }

    /// Opens the metric unless it is open, in another request if this one would become too long by a point of `len` bytes.
    ///
    /// Histograms have requests of their own: a receiver that takes none may refuse a request as a whole, as Prometheus before 3.8 does.
    fn make_room<T>(&mut self, metric: &Metric<T>, open: &mut Option<OpenMetric>, len: usize) {
        let framed = 1 + wire::varint_len(len as u64) + len;
        let opening = if open.is_none() { opening_len(metric) } else { 0 };
        let has_histograms = matches!(metric.kind, MetricKind::Histogram { .. });
        let is_full = self.buffer.len() + opening + framed > self.max_request;
        if self.points > 0 && (is_full || has_histograms != self.has_histograms) {
            self.close(open.take());
            self.finish_request();
        }
        self.has_histograms = has_histograms;
        if open.is_none() {
            *open = Some(self.open(metric));
        }
    }

    fn open<T>(&mut self, metric: &Metric<T>) -> OpenMetric {
        if self.buffer.is_empty() {
            (self.begin)();
            self.buffer = self.buffers.take();
            self.buffer.extend_from_slice(&self.head.bytes);
        }
        let out = &mut self.buffer;
        let message = wire::open(out, 2);
        wire::bytes(out, 1, metric.name.as_bytes());
        wire::bytes(out, 2, metric.help.as_bytes());
        wire::bytes(out, 3, metric.unit.as_otlp().as_bytes());
        let temporality = match self.temporality {
            Temporality::Cumulative => CUMULATIVE,
            Temporality::Delta => DELTA,
        };
        let data = match metric.kind {
            MetricKind::Gauge => wire::open(out, 5),
            MetricKind::Counter => {
                let sum = wire::open(out, 7);
                wire::number(out, 2, temporality);
                wire::number(out, 3, u64::from(true));
                sum
            }
            MetricKind::Histogram { .. } => {
                let histogram = wire::open(out, 10);
                wire::number(out, 2, temporality);
                histogram
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
        self.head.close(&mut buffer);
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

/// Appends a `KeyValue` with a number as a field. The number is less than 2^63.
pub(super) fn write_number(out: &mut Vec<u8>, field: u32, key: &str, value: u64) {
    let any_value = 1 + wire::varint_len(value);
    wire::header(out, field, 1 + wire::varint_len(key.len() as u64) + key.len() + 2 + any_value);
    wire::bytes(out, 1, key.as_bytes());
    wire::header(out, 2, any_value);
    wire::number(out, 3, value);
}

/// Returns a time in nanoseconds since 1970; 0 for earlier times, which no kernel reports.
pub(super) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
