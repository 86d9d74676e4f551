//! Division of an encoded request that a receiver refuses as too large.
//! Entry point: [`halves`]. Works on the wire format: nothing is decoded but lengths.

use super::compress::plain;
use super::request::{Items, Request, Signal};
use crate::export::otlp::settings::Compression;

/// At each level of a message, the fields that hold the level below. The last level holds the items.
///
/// `ExportMetricsServiceRequest.resource_metrics`, `ResourceMetrics.scope_metrics`, `ScopeMetrics.metrics`, `Metric.gauge`,
/// `Metric.sum` and `Metric.exponential_histogram`, `data_points` of each.
const METRICS: &[&[u64]] = &[&[1], &[2], &[2], &[5, 7, 10], &[1]];

/// `ExportLogsServiceRequest.resource_logs`, `ResourceLogs.scope_logs`, `ScopeLogs.log_records`.
const LOGS: &[&[u64]] = &[&[1], &[2], &[2]];

/// Returns two plain requests that have the items of this one between them, in order, each with its resource, scope and
/// metric; `None` if it has a single item or cannot be parsed.
#[must_use]
pub fn halves(request: &Request) -> Option<[Request; 2]> {
    let signal = request.items.signal;
    let levels = match signal {
        Signal::Metrics => METRICS,
        Signal::Logs => LOGS,
    };
    let request = plain(request).ok()?;
    let halves = split(&request.bytes, levels)?;
    let [first, second] = halves.each_ref().map(|half| count(half, levels));
    let items = [first?, second?].map(|count| Items { signal, count });
    let mut items = items.into_iter();
    let mut next = || items.next().expect("there are as many");
    Some(halves.map(|bytes| Request { bytes: bytes.into(), compression: Compression::None, items: next() }))
}

/// Divides a message. What is not on the way to the items is in both halves.
fn split(message: &[u8], levels: &[&[u64]]) -> Option<[Vec<u8>; 2]> {
    let (inner, below) = levels.split_first()?;
    let fields: Vec<Field<'_>> = Fields(message).collect::<Option<_>>()?;
    let children: Vec<&Field<'_>> = fields.iter().filter(|field| field.is_one_of(inner)).collect();
    if let [child] = *children {
        let halves = split(child.message?, below)?;
        return Some(halves.map(|half| {
            let mut out = Vec::with_capacity(message.len() - child.bytes.len() + half.len() + 8);
            for field in &fields {
                if std::ptr::eq(field, child) {
                    varint(&mut out, field.tag);
                    varint(&mut out, half.len() as u64);
                    out.extend_from_slice(&half);
                } else {
                    out.extend_from_slice(field.bytes);
                }
            }
            out
        }));
    }
    let boundary = middle(&children)?;
    let half = |is_first: bool| {
        let (mut out, mut index) = (Vec::with_capacity(message.len()), 0);
        for field in &fields {
            let is_child = field.is_one_of(inner);
            if !is_child || (index < boundary) == is_first {
                out.extend_from_slice(field.bytes);
            }
            index += usize::from(is_child);
        }
        out
    };
    Some([half(true), half(false)])
}

/// Returns how many of these make up the first half by size, at least one and not all.
fn middle(children: &[&Field<'_>]) -> Option<usize> {
    if children.len() < 2 {
        return None;
    }
    let total: usize = children.iter().map(|child| child.bytes.len()).sum();
    let mut before = 0;
    let first = children.iter().take_while(|child| {
        before += child.bytes.len();
        before <= total / 2
    });
    Some(first.count().clamp(1, children.len() - 1))
}

/// Returns the number of items in a message.
fn count(message: &[u8], levels: &[&[u64]]) -> Option<u64> {
    let Some((inner, below)) = levels.split_first() else { return Some(1) };
    let mut sum = 0;
    for field in Fields(message) {
        let field = field?;
        if field.is_one_of(inner) {
            sum += count(field.message?, below)?;
        }
    }
    Some(sum)
}

/// A field of a message.
struct Field<'a> {
    tag: u64,
    /// The whole field, with its tag.
    bytes: &'a [u8],
    /// What is in it, if it has a length.
    message: Option<&'a [u8]>,
}

impl Field<'_> {
    fn is_one_of(&self, numbers: &[u64]) -> bool {
        self.message.is_some() && numbers.contains(&(self.tag >> 3))
    }
}

/// The fields of a message; ends with `None` where it cannot be parsed.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(self.0);
        self.0 = field.as_ref().map_or(&[], |field| &self.0[field.bytes.len()..]);
        Some(field)
    }
}

fn field(start: &[u8]) -> Option<Field<'_>> {
    let mut rest = start;
    let tag = prost::encoding::decode_varint(&mut rest).ok()?;
    let mut message = None;
    match tag & 7 {
        0 => {
            prost::encoding::decode_varint(&mut rest).ok()?;
        }
        1 => rest = rest.get(8..)?,
        2 => {
            let len = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
            let (inner, after) = rest.split_at_checked(len)?;
            message = Some(inner);
            rest = after;
        }
        5 => rest = rest.get(4..)?,
        _ => return None,
    }
    Some(Field { tag, bytes: &start[..start.len() - rest.len()], message })
}

fn varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{
        ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric::Data,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// Kinds of metrics.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Shape {
        Gauge,
        Sum,
        Histogram,
    }

    /// Metrics as (name, kind, times of points).
    type Metrics = Vec<(u8, Shape, Vec<u64>)>;

    fn message(metrics: &Metrics) -> ExportMetricsServiceRequest {
        let metric = |(name, shape, times): &(u8, Shape, Vec<u64>)| {
            let point = |&time| NumberDataPoint { time_unix_nano: time, ..Default::default() };
            let data_points = times.iter().map(point).collect();
            let histogram =
                |&time| ExponentialHistogramDataPoint { time_unix_nano: time, ..Default::default() };
            let data = match shape {
                Shape::Gauge => Data::Gauge(Gauge { data_points }),
                Shape::Sum => Data::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: true }),
                Shape::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: times.iter().map(histogram).collect(),
                    aggregation_temporality: 2,
                }),
            };
            Metric { name: name.to_string(), data: Some(data), ..Default::default() }
        };
        let scope = ScopeMetrics {
            metrics: metrics.iter().map(metric).collect(),
            schema_url: "scope".to_owned(),
            ..Default::default()
        };
        let resource = ResourceMetrics {
            resource: Some(Resource { dropped_attributes_count: 7, ..Default::default() }),
            scope_metrics: vec![scope],
            ..Default::default()
        };
        ExportMetricsServiceRequest { resource_metrics: vec![resource] }
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![Just(Shape::Gauge), Just(Shape::Sum), Just(Shape::Histogram)]
    }

    /// The points of a request, each with what stands above it.
    fn points(request: &ExportMetricsServiceRequest) -> Vec<(u32, String, String, Shape, u64)> {
        let mut points = Vec::new();
        for resource in &request.resource_metrics {
            let dropped = resource.resource.as_ref().map_or(0, |resource| resource.dropped_attributes_count);
            for scope in &resource.scope_metrics {
                for metric in &scope.metrics {
                    let number = |points: &[NumberDataPoint]| -> Vec<u64> {
                        points.iter().map(|point| point.time_unix_nano).collect()
                    };
                    let (shape, times) = match &metric.data {
                        Some(Data::Sum(Sum {
                            data_points,
                            aggregation_temporality: 2,
                            is_monotonic: true,
                        })) => (Shape::Sum, number(data_points)),
                        Some(Data::Gauge(Gauge { data_points })) => (Shape::Gauge, number(data_points)),
                        Some(Data::ExponentialHistogram(ExponentialHistogram {
                            data_points,
                            aggregation_temporality: 2,
                        })) => {
                            let times = data_points.iter().map(|point| point.time_unix_nano);
                            (Shape::Histogram, times.collect())
                        }
                        other => panic!("{other:?}"),
                    };
                    for time in times {
                        let (url, name) = (scope.schema_url.clone(), metric.name.clone());
                        points.push((dropped, url, name, shape, time));
                    }
                }
            }
        }
        points
    }

    fn request(message: &ExportMetricsServiceRequest) -> Request {
        let count = points(message).len() as u64;
        let items = Items { signal: Signal::Metrics, count };
        Request { bytes: message.encode_to_vec().into(), compression: Compression::None, items }
    }

    /// Divides until nothing can be divided.
    fn pieces(request: Request) -> Vec<Request> {
        match halves(&request) {
            Some(halves) => halves.into_iter().flat_map(pieces).collect(),
            None => vec![request],
        }
    }

    proptest! {
        #[test]
        fn both_halves_have_the_points_between_them(
            metrics in prop::collection::vec((any::<u8>(), shape(), prop::collection::vec(1_u64.., 1..20)), 1..8)
        ) {
            let message = message(&metrics);
            let whole = request(&message);
            let all = points(&message);
            let Some(halves) = halves(&whole) else {
                prop_assert_eq!(all.len(), 1, "only a single point cannot be divided");
                return Ok(());
            };
            let mut between = Vec::new();
            for half in &halves {
                let decoded = ExportMetricsServiceRequest::decode(&*half.bytes).expect("it is a request");
                let own = points(&decoded);
                prop_assert_eq!(own.len() as u64, half.items.count);
                prop_assert!(!own.is_empty() && half.bytes.len() < whole.bytes.len());
                between.extend(own);
            }
            prop_assert_eq!(between, all.clone());
            let pieces = pieces(whole);
            prop_assert_eq!(pieces.len(), all.len(), "in the end each point is alone");
        }

        #[test]
        fn any_bytes_are_divided_or_not(bytes: Vec<u8>) {
            let items = Items { signal: Signal::Metrics, count: 1 };
            let _halves = halves(&Request { bytes: bytes.into(), compression: Compression::None, items });
        }
    }
}
