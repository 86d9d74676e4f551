//! Points as plain values: those of an OTLP request, decoded by the official message definitions, and those that the table of metrics
//! yields.

use std::collections::{BTreeMap, BTreeSet};

use bpf_metrics_exporter::export::otlp::encode::Request;
use bpf_metrics_exporter::metrics::{Entity, MetricKind, Rows, Sample, Value, Visitor, visit};
use bpf_metrics_exporter::model::{Histogram, WallClock};
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, Metric};
use prost::Message as _;

/// The labels of a point, by name.
pub type Labels = BTreeMap<String, String>;

/// One point, with the properties of its metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Name of the metric, as OTLP spells it.
    pub metric: String,
    /// Unit of the metric, as OTLP spells it.
    pub unit: String,
    /// Whether the metric is a monotonic, cumulative sum; else it is a gauge or a histogram.
    pub counter: bool,
    /// Labels of this point.
    pub labels: Labels,
    /// Start of the series in nanoseconds since 1970; 0 if absent.
    pub start: u64,
    /// Time of the value in nanoseconds since 1970.
    pub time: u64,
    /// Of a histogram the number of its values. `None` marks the end of the series.
    pub value: Option<f64>,
    /// The rest of a histogram.
    pub distribution: Option<Distribution>,
}

/// A point of a histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The sum of its values.
    pub sum: f64,
    /// The number of values that count as zero.
    pub zeros: u64,
    /// Scale of the buckets.
    pub scale: i32,
    /// The number of values in each bucket that has some, by its index.
    pub buckets: BTreeMap<i32, u64>,
}

impl Distribution {
    /// Returns what OTLP should have of a histogram: its buckets at the highest scale up to 3 at which they are within 160 indexes.
    #[must_use]
    pub fn of(histogram: &Histogram) -> Self {
        let model = serde_json::to_value(histogram).expect("it is JSON");
        let counts: BTreeMap<i32, u64> =
            serde_json::from_value(model["buckets"].clone()).expect("it has buckets");
        let at = |scale: i32| {
            let mut buckets: BTreeMap<i32, u64> = BTreeMap::new();
            for (index, count) in &counts {
                *buckets.entry(index.div_euclid(1 << (3 - scale))).or_default() += count;
            }
            buckets
        };
        let fits = |buckets: &BTreeMap<i32, u64>| {
            buckets
                .first_key_value()
                .zip(buckets.last_key_value())
                .is_none_or(|(first, last)| last.0 - first.0 < 160)
        };
        let (scale, buckets) = (-20..=3)
            .rev()
            .map(|scale| (scale, at(scale)))
            .find(|(_, buckets)| fits(buckets))
            .expect("all numbers are within a few buckets at a low scale");
        Self { sum: histogram.sum(), zeros: histogram.zeros(), scale, buckets }
    }

    fn decode(point: &ExponentialHistogramDataPoint) -> Self {
        assert_eq!((point.negative.as_ref(), point.min, point.max), (None, None, None));
        assert!(point.zero_threshold > 0.0 && point.zero_threshold < 1e-30, "{}", point.zero_threshold);
        let positive = point.positive.clone().unwrap_or_default();
        assert!(positive.bucket_counts.len() <= 160, "{} buckets", positive.bucket_counts.len());
        let counts = (positive.offset..).zip(positive.bucket_counts).filter(|(_, count)| *count > 0);
        Self {
            sum: point.sum.expect("it has a sum"),
            zeros: point.zero_count,
            scale: point.scale,
            buckets: counts.collect(),
        }
    }
}

/// Returns the points of a request, in its order, and the number of points in each of its metric messages.
#[must_use]
pub fn decode(request: &ExportMetricsServiceRequest) -> (Vec<Point>, Vec<usize>) {
    let (mut points, mut sizes) = (Vec::new(), Vec::new());
    assert_eq!(request.resource_metrics.len(), 1, "one resource");
    assert_eq!(request.resource_metrics[0].scope_metrics.len(), 1, "one scope");
    for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
        let (counter, data_points) = match metric.data.as_ref().expect("a metric has data") {
            Data::Gauge(gauge) => (false, &gauge.data_points),
            Data::Sum(sum) => {
                assert!(sum.is_monotonic, "{} only grows", metric.name);
                assert_eq!(sum.aggregation_temporality, 2, "{} is cumulative", metric.name);
                (true, &sum.data_points)
            }
            Data::ExponentialHistogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, 2, "{} is cumulative", metric.name);
                assert!(!metric.description.is_empty(), "{} has a description", metric.name);
                sizes.push(histogram.data_points.len());
                points.extend(histogram.data_points.iter().map(|point| decode_histogram(metric, point)));
                continue;
            }
            other => panic!("{} is neither a gauge nor a sum: {other:?}", metric.name),
        };
        assert!(!metric.description.is_empty(), "{} has a description", metric.name);
        sizes.push(data_points.len());
        for point in data_points {
            let value = match point.value {
                Some(Number::AsInt(value)) => Some(as_float(value)),
                Some(Number::AsDouble(value)) => Some(value),
                None => None,
            };
            assert_eq!(point.flags, u32::from(value.is_none()), "only a point without a value is flagged");
            points.push(Point {
                metric: metric.name.clone(),
                unit: metric.unit.clone(),
                counter,
                labels: labels(&point.attributes),
                start: point.start_time_unix_nano,
                time: point.time_unix_nano,
                value,
                distribution: None,
            });
        }
    }
    (points, sizes)
}

fn decode_histogram(metric: &Metric, point: &ExponentialHistogramDataPoint) -> Point {
    let is_marker = point.flags == 1;
    if is_marker {
        let empty = ExponentialHistogramDataPoint {
            attributes: point.attributes.clone(),
            start_time_unix_nano: point.start_time_unix_nano,
            time_unix_nano: point.time_unix_nano,
            flags: 1,
            ..Default::default()
        };
        assert_eq!(*point, empty, "a marker has no values");
    }
    Point {
        metric: metric.name.clone(),
        unit: metric.unit.clone(),
        counter: false,
        labels: labels(&point.attributes),
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
        value: (!is_marker).then(|| as_float(point.count.cast_signed())),
        distribution: (!is_marker).then(|| Distribution::decode(point)),
    }
}

/// Returns the points of several encoded requests.
#[must_use]
pub fn decode_all(requests: &[Request]) -> Vec<Point> {
    let points = |request: &Request| {
        let message =
            ExportMetricsServiceRequest::decode(request.bytes.clone()).expect("requests are OTLP messages");
        decode(&message).0
    };
    requests.iter().flat_map(points).collect()
}

/// Converts attributes to labels. All of ours are strings.
#[must_use]
pub fn labels(attributes: &[KeyValue]) -> Labels {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        other => panic!("{} is not a string: {other:?}", attribute.key),
    };
    let labels: Labels =
        attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect();
    assert_eq!(labels.len(), attributes.len(), "each attribute occurs once");
    labels
}

/// Returns the points that the table of metrics yields for a sample, in its order.
#[must_use]
pub fn expected(sample: Sample<'_>) -> Vec<Point> {
    struct Collect {
        clock: WallClock,
        time: u64,
        points: Vec<Point>,
    }
    impl Visitor for Collect {
        fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
            for (_, metric) in entity.rows(rows) {
                for value in values.unwrap_or_default() {
                    let Some(number) = (metric.read)(value) else { continue };
                    let is_histogram = matches!(metric.kind, MetricKind::Histogram { .. });
                    assert_eq!(
                        matches!(number, Value::Histogram(_)),
                        is_histogram,
                        "value of {}",
                        metric.name
                    );
                    let labels = entity
                        .labels(metric.carries)
                        .filter_map(|label| {
                            Some((label.name.to_owned(), (label.read)(value)?.by(self.clock).to_string()))
                        })
                        .collect();
                    let birth = (entity.series)(value).birth;
                    self.points.push(Point {
                        metric: metric.name.to_owned(),
                        unit: metric.unit.as_otlp().to_owned(),
                        counter: metric.kind == MetricKind::Counter,
                        labels,
                        start: birth.map_or(0, |birth| nanoseconds(birth.by(self.clock)).min(self.time)),
                        time: self.time,
                        value: Some(match number {
                            Value::Int(number) => as_float(number),
                            Value::Float(number) => number,
                            Value::Time(time) => as_float(self.clock.second(time).as_second()),
                            Value::Histogram(histogram) => as_float(histogram.count().cast_signed()),
                        }),
                        distribution: match number {
                            Value::Int(_) | Value::Float(_) | Value::Time(_) => None,
                            Value::Histogram(histogram) => Some(Distribution::of(histogram)),
                        },
                    });
                }
            }
        }
    }
    let clock = sample.snapshot.clock;
    let time = nanoseconds(clock.at(sample.snapshot.taken_at));
    let mut collect = Collect { clock, time, points: Vec::new() };
    visit(Some(sample), &mut collect);
    collect.points
}

fn nanoseconds(date: Timestamp) -> u64 {
    date.as_nanosecond().try_into().expect("after 1970")
}

/// Returns the metrics of the tables that could not be read.
#[must_use]
pub fn unread(sample: Sample<'_>) -> BTreeSet<&'static str> {
    struct Collect(BTreeSet<&'static str>);
    impl Visitor for Collect {
        fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
            if values.is_none() {
                self.0.extend(entity.rows(rows).map(|(_, metric)| metric.name));
            }
        }
    }
    let mut collect = Collect(BTreeSet::new());
    visit(Some(sample), &mut collect);
    collect.0
}

#[expect(clippy::cast_precision_loss, reason = "compared with numbers that were converted the same way")]
fn as_float(number: i64) -> f64 {
    number as f64
}
