//! Samples as OTLP metrics requests and events as logs requests, encoded without building messages in memory first.
//! Entry points: [`Encoder::encode_each`], [`LogEncoder::encode`]. Independent of the transport.

mod buffers;
mod compress;
mod delta;
mod histogram;
mod logs;
mod point;
mod request;
mod series;
mod split;
mod unchanged;

use std::time::Duration;

use self::buffers::BufferPool;
pub use self::compress::{Compressor, Forms, plain, plain_size};
use self::delta::{CounterSeries, Deltas, Reading};
pub use self::logs::{AttributeValue, LogEncoder, attributes};
use self::point::Point;
pub use self::request::{Items, Request, Signal};
use self::request::{RequestHead, RequestWriter, nanoseconds};
use self::series::{CommonAttributes, SampleTime, SentEntity, SentSeries, match_series};
pub use self::split::halves;
use self::unchanged::Repetition;
use super::settings::Temporality;
use crate::export::wire;
use crate::metrics::{Entity, Metric, Rows, Sample, Visitor, visit};
use crate::model::Snapshot;

/// Encodes one sample after another. Remembers of each series its encoded attributes and which metrics had a point, to mark
/// the end of a series.
#[derive(Debug)]
pub struct Encoder {
    max_request: usize,
    head: RequestHead,
    /// What was sent of each entity, in the order of the table of metrics.
    sent: Vec<SentEntity>,
    common: CommonAttributes,
    buffers: BufferPool,
    /// Only for [`Temporality::Delta`].
    deltas: Option<Deltas>,
    /// Requests of the last sample that the receiver accepted.
    accepted: Vec<usize>,
    /// How often a series whose value does not change has its turn; `None` to send each in every sample.
    unchanged_interval: Option<Duration>,
    /// Whether the next sample has all points.
    sends_all: bool,
}

impl Encoder {
    /// Returns an encoder of cumulative counters for one resource, with requests of at most `max_request` bytes (a single point may be longer).
    #[must_use]
    pub fn new(resource: &[(String, String)], max_request: usize) -> Self {
        Self {
            max_request: max_request.min(wire::MAX_LEN),
            head: RequestHead::new(resource),
            sent: Vec::new(),
            common: CommonAttributes::default(),
            buffers: BufferPool::default(),
            deltas: None,
            accepted: Vec::new(),
            unchanged_interval: None,
            sends_all: false,
        }
    }

    /// Encodes counters and histograms with this temporality from now on.
    #[must_use]
    pub fn with_temporality(self, temporality: Temporality) -> Self {
        let deltas = match temporality {
            Temporality::Cumulative => None,
            Temporality::Delta => Some(Deltas::default()),
        };
        Self { deltas, ..self }
    }

    /// Leaves out a point whose value is that of the last one, unless it is the first sample in a turn of this length. Differences
    /// ([`Temporality::Delta`]) and histograms are never left out.
    #[must_use]
    pub fn with_unchanged_interval(self, interval: Option<Duration>) -> Self {
        Self { unchanged_interval: interval, ..self }
    }

    /// Leaves no point out of the next sample: a receiver may have lost earlier ones.
    pub fn send_all(&mut self) {
        self.sends_all = true;
    }

    /// Splits requests at this size from now on.
    pub fn set_max_request(&mut self, max_request: usize) {
        self.max_request = max_request.min(wire::MAX_LEN);
    }

    /// Takes note that the receiver accepted these requests of the last sample, by their order, before the next one is encoded with
    /// [`Temporality::Delta`].
    pub fn acknowledge(&mut self, accepted: Vec<usize>) {
        self.accepted = accepted;
    }

    /// Encodes a sample. A series that ended since the last sample gets a marker.
    pub fn encode(&mut self, sample: Sample<'_>) -> Vec<Request> {
        let mut requests = Vec::new();
        self.encode_each(sample, || (), |request| requests.push(request));
        requests
    }

    /// Encodes a sample. Calls `begin` before each request, and passes it to `emit` as soon as it is complete. Buffers of requests that
    /// are dropped when `begin` returns are reused.
    pub fn encode_each(
        &mut self,
        sample: Sample<'_>,
        mut begin: impl FnMut(),
        mut emit: impl FnMut(Request),
    ) {
        let Snapshot { clock, taken_at, .. } = *sample.snapshot;
        if let Some(deltas) = &mut self.deltas {
            deltas.begin(&std::mem::take(&mut self.accepted));
        }
        let all = std::mem::take(&mut self.sends_all);
        let repetition = self.unchanged_interval.map(|interval| Repetition { interval, taken_at, all });
        let temporality = if self.deltas.is_some() { Temporality::Delta } else { Temporality::Cumulative };
        let (head, buffers) = (&self.head, &mut self.buffers);
        let mut cycle = EncodingCycle {
            sent: &mut self.sent,
            common: &mut self.common,
            deltas: self.deltas.as_mut(),
            repetition,
            reading: Reading { exporter_since: sample.snapshot.reader_started_at, taken_at, clock },
            entity: 0,
            time: SampleTime { nanoseconds: nanoseconds(clock.at(taken_at)), clock },
            requests: RequestWriter::new(
                self.max_request,
                clock,
                temporality,
                head,
                buffers,
                &mut begin,
                &mut emit,
            ),
        };
        visit(Some(sample), &mut cycle);
        cycle.requests.finish();
    }
}

/// One sample being encoded.
struct EncodingCycle<'a> {
    sent: &'a mut Vec<SentEntity>,
    common: &'a mut CommonAttributes,
    deltas: Option<&'a mut Deltas>,
    /// Only if points can be left out.
    repetition: Option<Repetition>,
    reading: Reading,
    /// Index of the next entity.
    entity: usize,
    time: SampleTime,
    requests: RequestWriter<'a>,
}

impl Visitor for EncodingCycle<'_> {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        assert!(entity.metrics.len() <= u64::BITS as usize, "a bit for each metric of an entity");
        if self.sent.len() == self.entity {
            self.sent.push(SentEntity::default());
        }
        let index = self.entity;
        let sent = &mut self.sent[index];
        self.entity += 1;
        // The table could not be read: its series have not ended.
        let Some(values) = values else {
            if let Some(deltas) = &mut self.deltas {
                deltas.unread(index);
            }
            if self.repetition.is_some_and(|repetition| repetition.all) {
                // It is sent once the table is read.
                sent.series.iter_mut().for_each(SentSeries::forget_points);
            }
            return;
        };
        let mut ended = match_series(entity, values, sent, self.time, self.common);
        let sent = &mut sent.series;
        if let Some(repetition) = self.repetition {
            for sent in sent.iter_mut() {
                sent.begin(entity.metrics.len(), repetition);
            }
        }
        let time = self.time.nanoseconds;
        if let Some(deltas) = &mut self.deltas {
            deltas.read(index, values.iter().map(entity.series), self.reading);
        }

        for (row, metric) in entity.rows(rows) {
            let bit = 1 << row;
            let mut open = None;
            let mut lost_value = false;
            if metric.kind.is_total()
                && let Some(deltas) = &mut self.deltas
            {
                let clock = self.time.clock;
                for (value, sent) in values.iter().zip(sent.iter_mut()) {
                    let series = (entity.series)(value);
                    let counter = CounterSeries { entity: index, row, series, clock };
                    let point = Point { start: None, time, value: (metric.read)(value) };
                    if let Some((point, order)) = deltas.point(counter, point) {
                        *order =
                            self.requests.point(metric, &mut open, sent.attributes(metric.carries), point);
                    }
                }
                self.requests.close(open);
                // A difference has no end to mark: without another point nothing is added.
                continue;
            }
            for (value, sent) in values.iter().zip(sent.iter_mut()) {
                if let Some(value) = (metric.read)(value) {
                    if sent.leaves_out(row, value, self.time.clock) {
                        continue;
                    }
                    let point = Point { start: sent.start(time), time, value: Some(value) };
                    self.requests.point(metric, &mut open, sent.attributes(metric.carries), point);
                } else {
                    lost_value |= sent.metrics & bit != 0;
                }
            }
            self.requests.close(open);
            if lost_value {
                let unreported =
                    values.iter().zip(sent.iter_mut()).filter(|(value, _)| (metric.read)(value).is_none());
                for (_, sent) in unreported.filter(|(_, sent)| sent.metrics & bit != 0) {
                    sent.metrics &= !bit;
                    write_marker(&mut self.requests, metric, sent, time);
                }
            }
            for ended in ended.iter_mut().filter(|ended| ended.metrics & bit != 0) {
                write_marker(&mut self.requests, metric, ended, time);
            }
        }
    }
}

/// Marks the end of a series: a point without a value, in a metric message of its own.
fn write_marker<T>(requests: &mut RequestWriter<'_>, metric: &Metric<T>, ended: &mut SentSeries, time: u64) {
    let mut open = None;
    let point = Point { start: ended.start(time), time, value: None };
    requests.point(metric, &mut open, ended.attributes(metric.carries), point);
    requests.close(open);
}
