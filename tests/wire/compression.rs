//! Real receivers that say nothing of the compressions they take: all get everything, with Zstandard where that is taken.

use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::{Compressor, Encoder, Forms};
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::settings::{
    Compression, CompressionPolicy, Destination, Endpoint, Protocol,
};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{Snapshot, WallClock};
use jiff::Timestamp;
use serde_json::json;
use test_support::delivery::Delivery;
use test_support::golden::snapshot;
use test_support::http::free_address;
use test_support::transport::destination;
use tokio::runtime::Runtime;

use crate::processes::Scratch;
use crate::receivers::{Collector, Prometheus, Verbosity, VictoriaMetrics};

pub(crate) fn test() {
    let scratch = Scratch::new();
    let (grpc, http) = (free_address(), free_address());
    let folder = scratch.folder("collector");
    let protocols = json!({"grpc": {"endpoint": grpc}, "http": {"endpoint": http}});
    let _collector = Collector::start_with(&folder, grpc, &protocols, Verbosity::Normal, None);
    let prometheus = Prometheus::start_receiving(&scratch.folder("prometheus"), &json!({}));
    let victoria = VictoriaMetrics::start(&scratch.folder("victoria"));
    let runtime = Runtime::new().expect("a runtime");
    let of_http = |url: &str| {
        let (address, path) = url.trim_start_matches("http://").split_once('/').expect("it has a path");
        let mut to = destination(Protocol::HttpProtobuf, address.parse().expect("an address"));
        if let Endpoint::Tcp { path: given, .. } = &mut to.endpoint {
            *given = format!("/{path}");
        }
        to
    };
    for (name, to, takes) in [
        ("Collector, gRPC", destination(Protocol::Grpc, grpc), Compression::Zstd),
        ("Collector, HTTP", destination(Protocol::HttpProtobuf, http), Compression::Zstd),
        ("VictoriaMetrics", of_http(&victoria.endpoint()), Compression::Zstd),
        ("Prometheus", of_http(&prometheus.endpoint()), Compression::Gzip),
    ] {
        let (ledger, last) = runtime.block_on(send(to));
        let counts = &ledger.metrics;
        assert_eq!(last, takes, "{name}");
        assert_eq!(counts.retryable.get(), u64::from(takes == Compression::Gzip), "{name} refuses zstd once");
        let missing = (counts.rejected.get(), counts.refused.get(), counts.failed.get());
        assert_eq!(missing, (0, 0, 0), "{name}");
        assert!(counts.accepted.get() > 0, "{name}");
    }
}

/// Sends three readings of the same objects. Returns the counts, and the compression of the last one.
async fn send(to: Destination) -> (Arc<Ledger>, Compression) {
    let compression = CompressionPolicy::Negotiated;
    let delivery = Delivery::start(&Destination { compression, ..to }, Duration::from_secs(1), 1 << 20);
    let mut encoder = Encoder::new(&[("service.name".to_owned(), "compression".to_owned())], 1 << 20);
    let (mut compressor, mut last) = (Compressor::default(), compression.first());
    for age in (0..3).rev() {
        delivery.queue.begin_reading();
        // A store takes no points of long ago.
        for request in encoder.encode(Sample::new(&recent(Duration::from_secs(age)))) {
            let mut forms = Forms::new(request, &mut compressor);
            delivery.queue.push(|form| {
                last = form;
                forms.get(form)
            });
        }
        delivery.settled().await;
    }
    (delivery.finish().await, last)
}

/// Returns the objects of the golden snapshot as if they had been read so long ago.
fn recent(age: Duration) -> Snapshot {
    let snapshot = snapshot();
    let booted_at = Timestamp::now() - age - Duration::from_nanos(snapshot.taken_at.0);
    Snapshot { clock: WallClock { booted_at }, ..snapshot }
}
