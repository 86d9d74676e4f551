//! The golden snapshot in every output format.

use bpf_metrics_exporter::baseline;
use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::export::{json, table};
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::metrics::{Entity, MetricKind, Rows, Sample, Visitor, prometheus_name, visit};
use bpf_metrics_exporter::model::Exporter;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use serde_json::Value;
use test_support::golden as files;

use files::{SNAPSHOT, snapshot};

/// Returns what an exporter exports with a limit that is not reached, and its own state.
fn exported() -> (Selected, Exporter) {
    let snapshot = snapshot();
    let exporter = files::exporter(snapshot.reader_started_at);
    let selection = Selection { max_series: Some(1_000_000), ..Selection::default() };
    (selection.apply(Selected::all(snapshot.into()), Some(&exporter)), exporter)
}

#[test]
fn json_is_the_model() {
    files::assert_golden(
        SNAPSHOT,
        &json::render(&Selected::all(snapshot().into())).expect("a snapshot is JSON"),
    );
}

/// A snapshot of a version that did not distinguish the file systems of pins.
#[test]
fn json_without_file_systems_of_pins_is_read() {
    fn remove(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("bpffs");
                fields.values_mut().for_each(remove);
            }
            Value::Array(values) => values.iter_mut().for_each(remove),
            _ => {}
        }
    }
    let text = json::render(&Selected::all(snapshot().into())).expect("a snapshot is JSON");
    let mut older: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(older["pins"][2]["bpffs"], "0:45");
    remove(&mut older);
    let read = json::parse(&older.to_string()).expect("it is a snapshot");
    let mut expected = snapshot().pins.expect("it has pins");
    for pin in &mut expected {
        pin.bpffs = None;
    }
    assert_eq!(read.snapshot.pins, Some(expected));
}

#[test]
fn prometheus_text() {
    let (selected, exporter) = exported();
    let sample = selected.sample(Some(&exporter));
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
fn baseline() {
    let text = baseline::render(&snapshot()).expect("every program was read");
    files::assert_golden("tests/golden/node/baseline.txt", &text);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, text.lines().collect::<Vec<_>>(), "sort(1) leaves it as it is");
}

#[test]
fn otlp_as_its_json_form() {
    let (selected, exporter) = exported();
    let requests = Encoder::new(&exporter.resource, usize::MAX).encode(selected.sample(Some(&exporter)));
    let [numbers, histograms] = &requests[..] else { panic!("{} requests", requests.len()) };
    let mut text = String::new();
    for request in [numbers, histograms] {
        let request =
            ExportMetricsServiceRequest::decode(request.bytes.clone()).expect("it is an OTLP request");
        text += &serde_json::to_string_pretty(&request).expect("it has a JSON form");
        text.push('\n');
    }
    // The version is part of the scope and changes with every release.
    text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    files::assert_golden("tests/golden/node/otlp.json", &text);
}

#[test]
fn every_metric_is_in_the_golden_files() {
    /// The names of each metric: over OTLP, and on the lines of a scrape.
    struct Names(Vec<(&'static str, String)>);
    impl Visitor for Names {
        fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, _values: Option<&[T]>) {
            for metric in entity.metrics {
                let sample = prometheus_name::sample(metric.name, metric.unit, metric.kind);
                let suffixes: &[&str] = match metric.kind {
                    MetricKind::Gauge | MetricKind::Counter => &[""],
                    MetricKind::Histogram { .. } => &["_bucket", "_sum", "_count"],
                };
                self.0.extend(suffixes.iter().map(|suffix| (metric.name, format!("{sample}{suffix}"))));
            }
        }
    }
    // Other tests are writing the files then.
    if std::env::var_os("UPDATE").is_some() {
        return;
    }
    let mut names = Names(Vec::new());
    visit(None, &mut names);
    let read = |file: &str| {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node/");
        std::fs::read_to_string(format!("{directory}{file}")).expect("the file is there")
    };
    let (otlp, text, open_metrics) = (read("otlp.json"), read("prometheus.txt"), read("openmetrics.txt"));
    for (name, sample) in names.0 {
        assert!(otlp.contains(&format!("\"name\": \"{name}\"")), "{name} is not in otlp.json");
        for (file, text) in [("prometheus.txt", &text), ("openmetrics.txt", &open_metrics)] {
            let is_sample =
                |line: &str| line.strip_prefix(&*sample).is_some_and(|rest| rest.starts_with([' ', '{']));
            assert!(text.lines().any(is_sample), "{sample} is not in {file}");
        }
    }
    assert!(text.lines().any(|line| line.starts_with("target_info{")));
}
