//! The golden snapshot in every output format.

use std::time::Duration;

use ::csv as csv_reader;
use bpf_metrics_exporter::baseline;
use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::export::table::{self, Style};
use bpf_metrics_exporter::export::{csv, json, series};
use bpf_metrics_exporter::metrics::columns::{Filter, Table, TableKind};
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::metrics::{Entity, MetricKind, Rows, Sample, Visitor, prometheus_name, visit};
use bpf_metrics_exporter::model::{BootTime, Exporter, Snapshot};
use bpf_metrics_exporter::text::visible;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use serde_json::Value;
use test_support::golden as files;
use unicode_width::UnicodeWidthStr as _;

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
fn every_series_as_tables() {
    let snapshot = snapshot();
    files::assert_golden("tests/golden/node/series.txt", &series::render(Sample::new(&snapshot)));
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

/// Two readings of the golden host: in the second one, run statistics have been on for two seconds, and something has happened.
fn two_readings() -> (Snapshot, Snapshot) {
    let earlier = snapshot();
    let mut later = earlier.clone();
    later.taken_at = BootTime(later.taken_at.0 + 2_000_000_000);
    later.run_stats.covered += Duration::from_secs(2);
    for (program, more) in later.programs.iter_mut().flatten().zip(1..) {
        program.run_time = program.run_time.map(|time| time + Duration::from_millis(3 * more));
        program.runs = program.runs.map(|runs| runs + 1000 * more);
    }
    for map in later.maps.iter_mut().flatten() {
        map.entries = map.entries.map(|entries| entries + 50);
    }
    for total in &mut later.owners {
        total.run_time = total.run_time.map(|time| time + Duration::from_millis(4));
    }
    for total in &mut later.totals {
        total.run_time = total.run_time.map(|time| time + Duration::from_millis(9));
    }
    later.own_programs = vec![2];
    (earlier, later)
}

#[test]
fn tables_for_people_at_every_width() {
    let (earlier, later) = two_readings();
    for width in [Some(80), Some(120), Some(200), None] {
        let style = Style { width, colour: false, notes: true, wide: width.is_none() };
        let mut text = table::overview(&later, Some(&earlier), &Filter::default(), 5, style);
        for kind in TableKind::ALL {
            let table = Table::new(kind, &later, Some(&earlier)).expect("it was read");
            let sort = table.default_sort();
            let rows = table.select(&Filter::default(), sort);
            for part in ["\n# ", kind.as_str(), "\n\n", &table::render(&table, &rows, sort, None, style)] {
                text += part;
            }
        }
        let is_wide = |line: &&str| width.is_some_and(|width| line.width() > width);
        assert_eq!(text.lines().find(is_wide), None, "{width:?}");
        let name = width.map_or_else(|| "wide".to_owned(), |width| width.to_string());
        files::assert_golden(&format!("tests/golden/node/tables-{name}.txt"), &text);
    }
}

#[test]
fn tables_as_json_and_csv() {
    let (earlier, later) = two_readings();
    for kind in TableKind::ALL {
        let table = Table::new(kind, &later, Some(&earlier)).expect("it was read");
        let rows = table.select(&Filter::default(), table.default_sort());
        let json = json::table(&table, &later, &rows, None).expect("a table is JSON");
        let document: Value = serde_json::from_str(&json).expect("it is JSON");
        let lines = json::lines(&table, &rows, None).expect("rows are JSON");
        let of_lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        assert_eq!(document["rows"], Value::Array(of_lines), "{kind:?}");
        assert_eq!(document["total"], table.len(), "{kind:?}");

        let text = csv::render(&table, &rows, None).expect("a table is CSV");
        let mut reader = csv_reader::Reader::from_reader(text.as_bytes());
        let header = reader.headers().expect("it has a header").clone();
        let fields = table.columns().iter().map(|column| column.field);
        let expected: Vec<_> = std::iter::once("key").chain(fields).chain(["exporter_own"]).collect();
        assert_eq!(header.iter().collect::<Vec<_>>(), expected);
        for (record, row) in reader.records().zip(document["rows"].as_array().expect("rows")) {
            let record = record.expect("it is CSV");
            for (field, text) in header.iter().zip(&record) {
                let same = match &row[field] {
                    Value::Null if field == "exporter_own" => text == "false",
                    Value::Null => text.is_empty(),
                    // Cells of the golden host do not begin like a formula.
                    Value::String(value) => text == visible(value),
                    Value::Array(ids) => {
                        text == ids.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")
                    }
                    Value::Bool(value) => text.parse() == Ok(*value),
                    value => text.parse().ok() == value.as_f64(),
                };
                assert!(same, "{kind:?} {field}: {text:?} is not {}", row[field]);
            }
        }
    }
}

#[test]
fn a_recording_is_read_back() {
    let (earlier, later) = two_readings();
    let line = |snapshot: &Snapshot| {
        json::line(&Selected::all(snapshot.clone().into())).expect("a snapshot is JSON")
    };
    let recording = line(&earlier) + &line(&later);
    assert_eq!(recording.lines().count(), 2, "a line for each");
    let of = |snapshot: &Snapshot| serde_json::to_value(snapshot).expect("it is JSON");
    for (text, snapshot) in recording.lines().zip([&earlier, &later]) {
        assert_eq!(of(&json::parse(text).expect("it is a snapshot").snapshot), of(snapshot));
    }
    let newer = line(&later).replacen("\"schema_version\":1", "\"schema_version\":2", 1);
    let error = json::parse(&newer).expect_err("it is of another schema").to_string();
    assert!(error.contains("schema version 2, and this program knows 1"), "{error}");
}
