//! The golden snapshot in every output format.

use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::export::{json, table};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::metrics::select::Selected;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use test_support::golden as files;

use files::{SNAPSHOT, snapshot};

#[test]
fn json_is_the_model() {
    files::assert_golden(
        SNAPSHOT,
        &json::render(&Selected::all(snapshot().into())).expect("a snapshot is JSON"),
    );
}

#[test]
fn prometheus_text() {
    let snapshot = snapshot();
    let sample = Sample::new(&snapshot);
    files::assert_golden("tests/golden/node/prometheus.txt", &prometheus::render(sample, Format::Text, 0));
    files::assert_golden(
        "tests/golden/node/openmetrics.txt",
        &prometheus::render(sample, Format::OpenMetrics, 0),
    );
}

#[test]
fn terminal_tables() {
    let snapshot = snapshot();
    files::assert_golden("tests/golden/node/table.txt", &table::render(Sample::new(&snapshot)));
}

#[test]
fn otlp_as_its_json_form() {
    let resource = [("service.name".to_owned(), "golden".to_owned())];
    let snapshot = snapshot();
    let requests = Encoder::new(&resource, usize::MAX).encode(Sample::new(&snapshot));
    let [request] = &requests[..] else { panic!("{} requests", requests.len()) };
    let request = ExportMetricsServiceRequest::decode(request.bytes.clone()).expect("it is an OTLP request");
    let mut text = serde_json::to_string_pretty(&request).expect("it has a JSON form");
    // The version is part of the scope and changes with every release.
    text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    text.push('\n');
    files::assert_golden("tests/golden/node/otlp.json", &text);
}
