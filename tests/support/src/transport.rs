//! Transports to receivers in tests.

use std::net::SocketAddr;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::{Items, Request, Signal};
use bpf_metrics_exporter::export::otlp::settings::{
    Compression, Destination, Endpoint, Protocol, Secret, Temporality, TlsFiles,
};
use bpf_metrics_exporter::export::otlp::transport::Transport;
use bpf_metrics_exporter::worker::Worker;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};
use prost::Message as _;

/// Returns a destination in plaintext, with default settings.
#[must_use]
pub fn destination(protocol: Protocol, address: SocketAddr) -> Destination {
    let path = match protocol {
        Protocol::Grpc => String::new(),
        Protocol::HttpProtobuf => "/v1/metrics".to_owned(),
    };
    let (host, port) = (address.ip().to_string(), address.port());
    Destination {
        protocol,
        endpoint: Endpoint::Tcp { tls: false, host, port, path },
        configured: true,
        headers: Secret(Vec::new()),
        timeout: Duration::from_secs(30),
        compression: Compression::None.into(),
        tls: TlsFiles::default(),
        proxy: None,
        temporality: Temporality::Cumulative,
    }
}

/// Returns a transport.
///
/// # Panics
///
/// If the settings are invalid.
#[must_use]
pub fn connect(destination: &Destination) -> Transport {
    Transport::new(destination, resolver()).expect("the settings are valid")
}

/// Returns a thread to look up names.
///
/// # Panics
///
/// If there can be no other thread.
#[must_use]
pub fn resolver() -> Worker {
    Worker::start("resolving").expect("a thread")
}

/// Returns a request that is identified by its resource's schema, with a nominal number of points.
#[must_use]
pub fn request(name: &str, points: u64) -> Request {
    let mut message = ExportMetricsServiceRequest::default();
    message.resource_metrics.push(ResourceMetrics { schema_url: name.to_owned(), ..Default::default() });
    Request {
        bytes: message.encode_to_vec().into(),
        compression: Compression::None,
        items: Items { signal: Signal::Metrics, count: points },
    }
}

/// Returns a request with `count` points. The time of each point is its number.
#[must_use]
pub fn points(from: u64, count: u64) -> Request {
    let point = |time| NumberDataPoint { time_unix_nano: time, ..Default::default() };
    let data_points = (from..from + count).map(point).collect();
    let metric = Metric { data: Some(metric::Data::Gauge(Gauge { data_points })), ..Default::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..Default::default() }];
    let message = ExportMetricsServiceRequest { resource_metrics };
    let items = Items { signal: Signal::Metrics, count };
    Request { bytes: message.encode_to_vec().into(), compression: Compression::None, items }
}

/// Returns the times of a request's points.
///
/// # Panics
///
/// If a metric is no gauge.
#[must_use]
pub fn times(message: &ExportMetricsServiceRequest) -> Vec<u64> {
    let metrics = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let gauges = metrics.flat_map(|scope| &scope.metrics).map(|metric| match &metric.data {
        Some(metric::Data::Gauge(gauge)) => gauge,
        other => panic!("{other:?}"),
    });
    gauges.flat_map(|gauge| &gauge.data_points).map(|point| point.time_unix_nano).collect()
}
