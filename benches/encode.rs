//! What encoding costs for each point: ours, once every object has been seen, against building the official message types and
//! letting prost encode them, in one run and on the same snapshot. Both are decoded and compared first.

use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::{Encoder, Request};
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::metrics::{Entity, Metric, MetricKind, Rows, Sample, Value, Visitor, visit};
use bpf_metrics_exporter::model::{
    BootTime, Map, MapFacts, ObjectType, Program, ProgramFacts, Snapshot, Tag, WallClock,
};
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric as MetricMessage, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use prost::Message as _;
use test_support::measure::{each, least, ratio, report, runs};

/// OTLP's `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

fn main() {
    report(format_args!("cost of encoding a point"));
    report(format_args!(
        "{:>8} {:>8} {:>10} {:>12} {:>14} {:>12} {:>14}",
        "objects", "points", "ours, ns", "prost, ns", "prost/ours", "text, ns", "allocations"
    ));
    for count in [100, 1_000, 10_000] {
        let snapshot = snapshot(count);
        let sample = Sample::new(&snapshot);
        let mut encoder = Encoder::new(&[], 3_670_016);
        let requests = encoder.encode(sample);
        let points = usize::try_from(requests.iter().map(|request| request.items.count).sum::<u64>())
            .expect("not that many");
        assert_eq!(points_of(&requests), points_of_message(&with_prost(sample)), "the same points");

        let runs = runs(if count > 5_000 { 20 } else { 200 });
        let ours = least(runs, || (), |()| encoder.encode(sample));
        let prost = least(runs, || (), |()| with_prost(sample).encode_to_vec());
        let text = least(runs, || (), |()| prometheus::render(sample, Format::Text, 0));
        let allocations = allocation_counter::measure(|| drop(encoder.encode(sample))).count_total;
        report(format_args!(
            "{count:>8} {points:>8} {:>10.1} {:>12.1} {:>14.1} {:>12.1} {allocations:>14}",
            each(ours, points),
            each(prost, points),
            ratio(prost, ours),
            each(text, points),
        ));
    }
}

/// A host with as many objects, half programs and half maps.
fn snapshot(count: u32) -> Snapshot {
    let now = BootTime::from_secs(1_000);
    let program = |id| Program {
        facts: Arc::new(ProgramFacts {
            id,
            name: format!("cil_program_{id}"),
            program_type: ObjectType { number: 3, name: Some("sched_cls".into()) },
            tag: Tag(u64::from(id).to_be_bytes()),
            gpl_compatible: true,
            loaded_at: now,
            uid: 0,
            btf_id: Some(id),
            size_jitted: 4000,
            size_translated: 6000,
            mem: Some(8192),
            verified_instructions: Some(1234),
            attach_to: None,
            map_ids: Some(vec![id]),
        }),
        run_time: Some(Duration::from_nanos(u64::from(id) * 1_000)),
        runs: Some(u64::from(id) * 10),
        recursion_misses: Some(0),
        capabilities: None,
        metadata: None,
        owner: None,
    };
    let map = |id| Map {
        facts: Arc::new(MapFacts {
            id,
            name: format!("cilium_map_{id}"),
            map_type: ObjectType { number: 1, name: Some("hash".into()) },
            key_size: 14,
            value_size: 56,
            max_entries: 524_288,
            flags: 0,
            btf_id: Some(id),
            first_seen: now,
        }),
        frozen: Some(false),
        mem: Some(50_000_000),
        entries: Some(id.into()),
        backlog: None,
        memory_cgroup: Some(1),
        owner: None,
    };
    Snapshot {
        programs: Some((1..=count / 2).map(program).collect()),
        maps: Some((1..=count / 2).map(map).collect()),
        links: Some(Vec::new()),
        btfs: Some(Vec::new()),
        ..Snapshot::begun(
            now,
            now,
            WallClock { booted_at: Timestamp::from_second(1_700_000_000).expect("it is a date") },
        )
    }
}

struct Build {
    clock: WallClock,
    time: u64,
    metrics: Vec<MetricMessage>,
}

impl Visitor for Build {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        for (_, metric) in entity.rows(rows) {
            let values = values.unwrap_or_default().iter();
            let points: Vec<_> = values.filter_map(|value| point(entity, metric, value, self)).collect();
            if !points.is_empty() {
                self.metrics.push(message(metric, points));
            }
        }
    }
}

/// The sample as the official message types, as an exporter without an encoder of its own would build it each time.
fn with_prost(sample: Sample<'_>) -> ExportMetricsServiceRequest {
    let clock = sample.snapshot.clock;
    let time = nanoseconds(clock.at(sample.snapshot.taken_at));
    let mut build = Build { clock, time, metrics: Vec::new() };
    visit(Some(sample), &mut build);
    let scope = ScopeMetrics { metrics: build.metrics, ..Default::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

fn point<T>(
    entity: &'static Entity<T>,
    metric: &Metric<T>,
    value: &T,
    build: &Build,
) -> Option<NumberDataPoint> {
    let number = match (metric.read)(value)? {
        Value::Int(number) => number_data_point::Value::AsInt(number),
        Value::Float(number) => number_data_point::Value::AsDouble(number),
        Value::Time(time) => number_data_point::Value::AsInt(build.clock.second(time).as_second()),
        Value::Histogram(_) => unreachable!("the snapshot has no histograms"),
    };
    let attribute = |name: &str, text: String| KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }),
        ..Default::default()
    };
    let labels = entity.labels(metric.carries);
    let attributes = labels
        .filter_map(|label| Some(attribute(label.name, (label.read)(value)?.by(build.clock).to_string())));
    Some(NumberDataPoint {
        attributes: attributes.collect(),
        start_time_unix_nano: (entity.series)(value)
            .birth
            .map_or(0, |birth| nanoseconds(birth.by(build.clock))),
        time_unix_nano: build.time,
        value: Some(number),
        ..Default::default()
    })
}

fn message<T>(metric: &Metric<T>, data_points: Vec<NumberDataPoint>) -> MetricMessage {
    let data = match metric.kind {
        MetricKind::Gauge => metric::Data::Gauge(Gauge { data_points }),
        MetricKind::Counter => {
            metric::Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
        }
        MetricKind::Histogram { .. } => unreachable!("the snapshot has no histograms"),
    };
    MetricMessage {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.unit.as_otlp().to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

fn nanoseconds(time: Timestamp) -> u64 {
    time.as_nanosecond().try_into().expect("after 1970")
}

/// Every point of our requests, in order.
fn points_of(requests: &[Request]) -> Vec<NumberDataPoint> {
    let decode =
        |request: &Request| ExportMetricsServiceRequest::decode(request.bytes.clone()).expect("it is OTLP");
    requests.iter().flat_map(|request| points_of_message(&decode(request))).collect()
}

fn points_of_message(message: &ExportMetricsServiceRequest) -> Vec<NumberDataPoint> {
    let scopes = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let data = scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref());
    data.flat_map(|data| match data {
        metric::Data::Gauge(gauge) => gauge.data_points.clone(),
        metric::Data::Sum(sum) => sum.data_points.clone(),
        other => panic!("neither a gauge nor a sum: {other:?}"),
    })
    .collect()
}
