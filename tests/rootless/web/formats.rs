//! Every format and compression of an answer, as independent readers read it.

use std::io::Read as _;
use std::sync::atomic::Ordering;

use bpf_metrics_exporter::export::prometheus::{self, Cursor, Format, protobuf};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::web;
use flate2::read::GzDecoder;
use prost::Message;
use test_support::golden::{large, snapshot};

use super::{get, request, serve, serve_with, settings};

/// As in `io/prometheus/client/metrics.proto`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    created: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

impl Histogram {
    /// The lines of its classic buckets in text 0.0.4.
    fn lines(&self, name: &str, labels: &[String]) -> Vec<String> {
        let count = self.count.expect("a count");
        let with = |more: Option<String>| {
            let labels: Vec<String> = labels.iter().cloned().chain(more).collect();
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
        };
        let bucket =
            |bound: &str, count| format!("{name}_bucket{} {count}", with(Some(format!("le=\"{bound}\""))));
        let finite = self.bucket.iter().map(|found| {
            let bound = found.upper_bound.expect("a bound");
            let text =
                if bound < 1e6 { format!("{bound:?}") } else { format!("{bound:e}").replace('e', "e+0") };
            bucket(&text, found.cumulative_count.expect("a count"))
        });
        let sum = self.sum.expect("a sum");
        let rest = [
            bucket("+Inf", count),
            format!("{name}_sum{} {sum}", with(None)),
            format!("{name}_count{} {count}", with(None)),
        ];
        finite.chain(rest).collect()
    }

    /// The number of values in native buckets.
    fn native_count(&self) -> i64 {
        let (mut count, mut sum) = (0, self.zero_count.expect("a count").cast_signed());
        for delta in &self.positive_delta {
            count += delta;
            sum += count;
        }
        sum
    }
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// A gauge or a counter.
#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    created: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn families(mut bytes: &[u8]) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut bytes).expect("a family after its length"));
    }
    families
}

/// The lines of text 0.0.4 that families stand for.
fn as_text(families: &[MetricFamily]) -> Vec<String> {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    let line = |family: &MetricFamily, metric: &Metric| {
        let label = |pair: &LabelPair| {
            format!(
                "{}=\"{}\"",
                pair.name.as_deref().unwrap_or_default(),
                escaped(pair.value.as_deref().unwrap_or_default())
            )
        };
        let labels: Vec<String> = metric.label.iter().map(label).collect();
        if family.kind == Some(4) {
            let histogram = metric.histogram.as_ref().expect("a histogram");
            return histogram.lines(family.name.as_deref().expect("a name"), &labels);
        }
        let number = if family.kind == Some(0) { metric.counter } else { metric.gauge };
        let value = number.and_then(|number| number.value).expect("a value of the family's type");
        let name = family.name.as_deref().expect("a name");
        if labels.is_empty() {
            vec![format!("{name} {value}")]
        } else {
            vec![format!("{name}{{{}}} {value}", labels.join(","))]
        }
    };
    families
        .iter()
        .flat_map(|family| family.metric.iter().flat_map(move |metric| line(family, metric)))
        .collect()
}

const PROTOBUF: &str = "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                        text/plain;version=0.0.4;q=0.3\r\n";

#[test]
fn protobuf_has_the_series_of_the_text() {
    let server = serve(snapshot());
    let (status, head, body) = request(server.address, "GET", "/metrics", PROTOBUF);
    assert_eq!(status, 200);
    let media_type = "content-type: application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily; encoding=delimited";
    assert!(head.contains(media_type), "{head}");
    let families = families(&body);
    let text = get(server.address, "/metrics", "").2;
    let expected: Vec<String> =
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert!(expected.len() > 100);
    assert_eq!(as_text(&families), expected);

    let runs =
        families.iter().find(|family| family.name.as_deref() == Some("bpf_program_run_time_seconds_total"));
    let runs = runs.expect("a counter keeps its suffix");
    assert_eq!((runs.kind, runs.unit.as_deref()), (Some(0), Some("seconds")));
    assert!(runs.help.as_ref().is_some_and(|help| help.ends_with('.')));
    let loaded =
        families.iter().find(|family| family.name.as_deref() == Some("bpf_program_load_time_seconds"));
    let loaded = &loaded.expect("a gauge").metric;
    for (run, loaded) in runs.metric.iter().zip(loaded) {
        let created = run.counter.and_then(|counter| counter.created).expect("a counter has its start");
        let load_time = loaded.gauge.and_then(|gauge| gauge.value).expect("a value");
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
        let seconds = created.seconds as f64;
        assert!((seconds - load_time).abs() < 0.5, "a program's counters start when it is loaded");
    }
}

#[test]
fn protobuf_has_native_histograms() {
    let mut written = Vec::new();
    let snapshot = snapshot();
    protobuf::write(Sample::new(&snapshot), &mut written).expect("a vector takes everything");
    let families = families(&written);
    let named = |family: &&MetricFamily| family.name.as_deref() == Some("bpf_program_lifetime_seconds");
    let family = families.iter().find(named).expect("the snapshot has lifetimes");
    assert_eq!((family.kind, family.unit.as_deref()), (Some(4), Some("seconds")));
    let activity = snapshot.activity.as_ref().expect("the snapshot has activity");
    assert!(activity.lifetimes.len() > 1);
    for (lifetimes, metric) in activity.lifetimes.iter().zip(&family.metric) {
        let histogram = metric.histogram.as_ref().expect("a histogram");
        assert_eq!(histogram.schema, Some(3));
        assert_eq!(histogram.zero_threshold, Some((-128_f64).exp2()));
        assert_eq!(histogram.native_count(), lifetimes.seconds.count().cast_signed());
        let length: u32 = histogram.positive_span.iter().filter_map(|span| span.length).sum();
        assert_eq!(length as usize, histogram.positive_delta.len());
        let created = histogram.created.expect("its start");
        assert_eq!(created.seconds, snapshot.clock.at(lifetimes.since).as_second());
    }
}

#[test]
fn openmetrics_has_created_times_where_they_are_wanted() {
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    // There is a metric `bpf_objects_created_total`.
    let is_created =
        |line: &str| line.split(['{', ' ']).next().is_some_and(|name| name.ends_with("_created"));
    let has_created = |text: &str| text.lines().any(is_created);
    assert!(!has_created(&get(serve(snapshot()).address, "/metrics", accept).2));
    let with = web::Settings { created: true, ..settings() };
    let server = serve_with(with, snapshot, Selected::all);
    assert!(!has_created(&get(server.address, "/metrics", "").2), "text 0.0.4 has no such thing");
    let text = get(server.address, "/metrics", accept).2;
    let total = |line: &&str| {
        ["_total{", "_total ", "_seconds_count{", "_seconds_count "].iter().any(|end| line.contains(end))
    };
    // The parser wants the same labels on every line of a family, which those with descriptions do not have.
    let family = "bpf_program_runs";
    let of_family = |line: &&str| {
        line.starts_with(family) || (line.starts_with('#') && line.contains(&format!(" {family} ")))
    };
    let lines: Vec<&str> = text.lines().filter(of_family).chain(["# EOF\n"]).collect();
    let lines = lines.join("\n");
    let parsed = openmetrics_parser::openmetrics::parse_openmetrics(&lines);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}\n{lines}"));
    let created = parsed.families[family].iter_samples().filter(|sample| match &sample.value {
        openmetrics_parser::OpenMetricsValue::Counter(counter) => counter.created.is_some(),
        _ => false,
    });
    assert!(created.count() > 1, "{lines}");
    let lines: Vec<&str> = text.lines().collect();
    let mut checked = 0;
    for pair in lines.windows(2).filter(|pair| total(&pair[0]) && is_created(pair[1])) {
        let labels = |line: &str| {
            line.split_once('{').map(|(_, rest)| rest.rsplit_once(' ').map(|(labels, _)| labels.to_owned()))
        };
        assert_eq!(labels(pair[0]), labels(pair[1]), "the same labels");
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
    assert_eq!(checked, lines.iter().filter(|line| is_created(line)).count(), "each follows its counter");
}

#[test]
fn every_compression_has_the_same_text() {
    let server = serve(snapshot());
    let plain = get(server.address, "/metrics", "").2;
    let body = |accept: &str| {
        let (status, head, body) =
            request(server.address, "GET", "/metrics", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(status, 200, "{accept}");
        assert!(head.contains("vary: accept, accept-encoding"), "{head}");
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length), "{length}: {head}");
        (head, body)
    };
    let (head, gzip) = body("gzip");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&*gzip).read_to_string(&mut text).expect("it is gzip");
    assert_eq!(text, plain);
    let (head, zstd) = body("zstd, gzip;q=0.5");
    assert!(head.contains("content-encoding: zstd"), "{head}");
    assert_eq!(zstd::decode_all(&*zstd).expect("it is zstd"), plain.as_bytes());
    let (head, identity) = body("gzip;q=0, *;q=0.1, zstd;q=0");
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(identity, plain.as_bytes());
    assert_eq!(request(server.address, "GET", "/metrics", "Accept-Encoding: identity;q=0\r\n").0, 406);
    assert_eq!(server.readings.load(Ordering::Relaxed), 1);
}

#[test]
fn pieces_are_the_whole() {
    let snapshot = snapshot();
    let sample = Sample::new(&snapshot);
    for format in [Format::Text, Format::OpenMetrics, Format::OpenMetricsCreated] {
        let mut written = Vec::new();
        prometheus::write(sample, format, &mut written).expect("a vector takes everything");
        assert_eq!(String::from_utf8(written).expect("text"), prometheus::render(sample, format, 0));
    }
    let mut written = Vec::new();
    protobuf::write(sample, &mut written).expect("a vector takes everything");
    assert!(families(&written).len() > 30);
    let full: &mut [u8] = &mut [0; 10];
    prometheus::write(sample, Format::Text, &mut &mut *full).expect_err("there is no room");
    protobuf::write(sample, &mut &mut *full).expect_err("there is no room");
}

/// Those whose labels are in memory once, too.
#[test]
fn lines_are_the_whole_in_pieces_of_any_size() {
    for snapshot in [snapshot(), large(40, 60)] {
        for format in [Format::Text, Format::OpenMetrics, Format::OpenMetricsCreated] {
            let sample = Sample::new(&snapshot);
            let whole = prometheus::render(sample, format, 0);
            let lines = std::sync::Arc::new(prometheus::lines(sample, format));
            assert_eq!(lines.text_len(), whole.len() as u64);
            for size in [1, 100, 16 << 10, whole.len() + 1] {
                let mut cursor = Cursor::new(std::sync::Arc::clone(&lines));
                let pieces =
                    std::iter::repeat_with(|| cursor.read(size)).take_while(|piece| !piece.is_empty());
                let text = pieces.collect::<Vec<_>>().concat();
                assert!(text == whole.as_bytes(), "{format:?} in pieces of {size}");
            }
        }
    }
}

#[test]
fn scrapers_at_the_same_time_get_equal_bytes() {
    let server = serve(snapshot());
    let codings = ["identity", "gzip", "zstd"];
    let scrape = |number: usize| {
        let (address, coding) = (server.address, codings[number % codings.len()]);
        std::thread::spawn(move || {
            request(address, "GET", "/metrics", &format!("Accept-Encoding: {coding}\r\n")).2
        })
    };
    let scrapes: Vec<_> = (0..30).map(scrape).collect();
    let answers: Vec<Vec<u8>> =
        scrapes.into_iter().map(|scrape| scrape.join().expect("it does not panic")).collect();
    for (number, answer) in answers.iter().enumerate() {
        assert!(*answer == answers[number % codings.len()], "{number}");
    }
    let mut text = Vec::new();
    GzDecoder::new(&*answers[1]).read_to_end(&mut text).expect("it is gzip");
    assert!(text == answers[0] && zstd::decode_all(&*answers[2]).expect("it is zstd") == text);
    assert_eq!(server.readings.load(Ordering::Relaxed), 1);
}

#[test]
fn compression_that_was_not_accepted_is_not_used() {
    let server = serve(snapshot());
    for (accepted, used) in [
        ("", None),
        ("Accept-Encoding:\r\n", None),
        ("Accept-Encoding: gzip\r\n", Some("gzip")),
        ("Accept-Encoding: gzip, deflate\r\n", Some("gzip")),
        ("Accept-Encoding: deflate, br\r\n", None),
        ("Accept-Encoding: gzip, zstd;q=0\r\n", Some("gzip")),
        ("Accept-Encoding: zstd\r\n", Some("zstd")),
        ("Accept-Encoding: gzip;q=0.9, zstd\r\n", Some("zstd")),
    ] {
        let (status, head, _) = request(server.address, "GET", "/metrics", accepted);
        let coding = head.lines().find_map(|line| line.strip_prefix("content-encoding: "));
        assert_eq!((status, coding), (200, used), "{accepted}");
    }
}

/// A reader that takes nothing, of each of many readings: as many as are kept without compression, and more.
#[test]
fn slow_readers_without_compression_get_the_whole_text() {
    let example = large(3_000, 4_000);
    let mut number = 0;
    let read = move || {
        number += 1;
        let mut reading = example.clone();
        reading.taken_at.0 += number * 1_000_000_000;
        reading
    };
    let server = serve_with(settings(), read, Selected::all);
    let readers: Vec<_> = (0..7)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(server.address).expect("it listens");
            std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").expect("it reads");
            // The head is there once it is rendered.
            stream.read_exact(&mut [0; 12]).expect("it answers");
            // Until the next one is of another reading.
            std::thread::sleep(bpf_metrics_exporter::source::FRESHNESS);
            stream
        })
        .collect();
    let texts = readers.into_iter().map(|mut stream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.split_once("\r\n\r\n").expect("headers end").1.to_owned()
    });
    let texts: Vec<String> = texts.collect();
    assert_eq!(server.readings.load(Ordering::Relaxed), texts.len(), "each of another reading");
    let lines = texts[0].lines().count();
    assert!(lines > 30_000, "{lines}: too few to fill the buffers of the kernel");
    for text in texts {
        assert_eq!(text.lines().count(), lines);
        assert!(
            text.lines().all(|line| line.starts_with('#') || line.contains(' ')) && text.ends_with("} 1\n")
        );
    }
}
