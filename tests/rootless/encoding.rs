//! Every value of a snapshot is exported: over OTLP as the official message definitions decode it, in the Prometheus formats as
//! an independent parser reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use test_support::{points, snapshots};

use bpf_metrics_exporter::export::otlp::encode::{Encoder, Request};
use bpf_metrics_exporter::export::otlp::settings::Temporality;
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::export::table::{self, Style};
use bpf_metrics_exporter::export::{csv, json, series};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::metrics::columns::{Filter, Table, TableKind};
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{Activity, BootTime, Histogram, Lifetimes, Part, Snapshot, WallClock};
use openmetrics_parser::{
    HistogramBucket, HistogramValue, MetricFamily, MetricNumber, OpenMetricsValue, PrometheusValue,
    RenderableMetricValue,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use test_support::points::{Labels, Point};

fn sample(snapshot: &Snapshot) -> Sample<'_> {
    Sample::new(snapshot)
}

fn encoder(max_request: usize) -> Encoder {
    Encoder::new(&[("service.name".to_owned(), "test".to_owned())], max_request)
}

/// Returns the points of all requests, and the number of points in each metric message.
fn decode(requests: &[Request]) -> (Vec<Point>, Vec<usize>) {
    let (mut points, mut sizes) = (Vec::new(), Vec::new());
    for request in requests {
        let message =
            ExportMetricsServiceRequest::decode(request.bytes.clone()).expect("requests are OTLP messages");
        let resource = message.resource_metrics[0].resource.as_ref().expect("every request has a resource");
        assert_eq!(resource.attributes.len(), 1);
        let (of_request, of_metrics) = points::decode(&message);
        assert_eq!(of_request.len() as u64, request.items.count);
        points.extend(of_request);
        sizes.extend(of_metrics);
    }
    (points, sizes)
}

/// Returns the identity of a point's series.
fn series(point: &Point) -> (String, Vec<(String, String)>) {
    (point.metric.clone(), point.labels.clone().into_iter().collect())
}

/// A snapshot of this moment. Programs of one type have lived for so many seconds each.
fn lived(seconds: &[f64], taken_at: BootTime) -> Snapshot {
    let since = BootTime::from_secs(100);
    let mut histogram = Histogram::default();
    for &seconds in seconds {
        histogram.record(seconds);
    }
    let lifetimes = vec![Lifetimes { program_type: Some("xdp".into()), seconds: histogram, since }];
    let activity = Activity { since, lifetimes, ..Activity::default() };
    Snapshot { activity: Some(Arc::new(activity)), ..Snapshot::begun(taken_at, since, WallClock::default()) }
}

#[test]
fn histograms_are_sent_as_differences_in_requests_of_their_own() {
    let mut encoder = encoder(1 << 20).with_temporality(Temporality::Delta);
    let mut end = 100_000_000_000;
    let readings = [
        (&[1.5, 1e9][..], true, (2, 1.5 + 1e9, 2, 2)),
        (&[1.5, 1e9, 3.0], false, (1, 3.0, 3, 1)),
        // Nothing was accepted: what grew is sent again.
        (&[1.5, 1e9, 3.0, 0.0], true, (2, 3.0, 3, 1)),
        (&[1.5, 1e9, 3.0, 0.0], true, (0, 0.0, 3, 0)),
    ];
    for (second, (seconds, is_accepted, expected)) in (1000..).zip(readings) {
        let snapshot = lived(seconds, BootTime::from_secs(second));
        let requests = encoder.encode(sample(&snapshot));
        let [.., numbers, histograms] = &requests[..] else { panic!("{} requests", requests.len()) };
        let metrics = |request: &Request| {
            let message = ExportMetricsServiceRequest::decode(request.bytes.clone()).expect("it is OTLP");
            message.resource_metrics[0].scope_metrics[0].metrics.clone()
        };
        assert!(metrics(numbers).iter().all(|metric| metric.name != "bpf_program_lifetime"));
        let [metric] = &metrics(histograms)[..] else { panic!("one metric") };
        let Some(Data::ExponentialHistogram(histogram)) = &metric.data else { panic!("{metric:?}") };
        assert_eq!((&*metric.name, histogram.aggregation_temporality), ("bpf_program_lifetime", 1));
        let [point] = &histogram.data_points[..] else { panic!("one point") };
        let positive = point.positive.clone().unwrap_or_default();
        let used = positive.bucket_counts.iter().filter(|count| **count > 0).count();
        let found = (point.count, point.sum.expect("a sum"), point.scale, used);
        assert_eq!(found, expected);
        assert_eq!(point.start_time_unix_nano, end, "windows follow each other");
        if is_accepted {
            end = point.time_unix_nano;
            encoder.acknowledge((0..requests.len()).collect());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn otlp_decodes_to_the_same_points(snapshot in snapshots::snapshot(), max_request in 500_usize..20_000) {
        let requests = encoder(max_request).encode(sample(&snapshot));
        prop_assert_eq!(decode(&requests).0, points::expected(sample(&snapshot)));
        for request in &requests {
            prop_assert!(request.bytes.len() <= max_request || request.items.count == 1);
        }
    }

    #[test]
    fn only_series_that_ended_are_marked_and_only_once(
        first in snapshots::snapshot(),
        second in snapshots::snapshot(),
        kept in any::<u8>(),
    ) {
        // Some objects of the first snapshot remain in the second.
        let mut second = Snapshot { clock: first.clock, taken_at: first.taken_at, ..second };
        if kept & 1 != 0 { second.programs.clone_from(&first.programs); }
        if kept & 2 != 0 { second.maps = first.maps.as_ref().map(|maps| maps[maps.len() / 2..].to_vec()); }
        if kept & 4 != 0 { second.links = None; }

        let mut encoder = encoder(3_000);
        encoder.encode(sample(&first));
        let (decoded, sizes) = decode(&encoder.encode(sample(&second)));
        let (markers, live): (Vec<_>, Vec<_>) = decoded.into_iter().partition(|point| point.value.is_none());
        prop_assert_eq!(&live, &points::expected(sample(&second)));

        // Series of a table that was not read have not ended.
        let unread = points::unread(sample(&second));
        let read = |point: &Point| !unread.contains(&*point.metric);
        let now: BTreeSet<_> = live.iter().map(series).collect();
        let before = points::expected(sample(&first));
        let ended: BTreeSet<_> = before.iter().filter(|point| read(point)).map(series).filter(|series| !now.contains(series)).collect();
        let marked: BTreeSet<_> = markers.iter().map(series).collect();
        prop_assert_eq!(marked.len(), markers.len(), "each series once");
        prop_assert_eq!(marked, ended);
        // Each marker has a metric message of its own.
        let own = sizes.iter().filter(|&&size| size == 1).count();
        prop_assert!(own >= markers.len());

        let (again, _) = decode(&encoder.encode(sample(&second)));
        prop_assert!(again.iter().all(|point| point.value.is_some()), "each end is marked once");
    }

    #[test]
    fn no_point_is_older_than_its_start_whatever_the_clock_is_set_to(
        snapshot in snapshots::snapshot(),
        times in vec((snapshots::clock(), snapshots::moment()), 1..5),
    ) {
        let mut encoder = encoder(3_000);
        let mut before: BTreeMap<_, u64> = BTreeMap::new();
        for (clock, taken_at) in times {
            let snapshot = Snapshot { clock, taken_at, ..snapshot.clone() };
            let (points, _) = decode(&encoder.encode(sample(&snapshot)));
            for point in &points {
                prop_assert!(point.start <= point.time, "{:?}", point);
            }
            let (markers, live): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.value.is_none());
            let now: BTreeMap<_, _> = live.iter().map(|point| (series(point), point.start)).collect();
            for point in &live {
                // Another start of the same series would be a reset.
                let kept = before.get(&series(point)).is_none_or(|&start| start == point.start || start > point.time);
                prop_assert!(kept, "{:?} started {:?}", point, before.get(&series(point)));
            }
            let ended: BTreeSet<_> = before.into_keys().filter(|series| !now.contains_key(series)).collect();
            prop_assert_eq!(markers.into_iter().map(series).collect::<BTreeSet<_>>(), ended, "series with another date");
            before = now;
        }
    }

    #[test]
    fn a_clock_that_is_set_while_a_table_cannot_be_read_is_noticed_with_the_next_reading(
        before in snapshots::snapshot(),
        clock in snapshots::clock(),
    ) {
        let after = Snapshot { clock, ..before.clone() };
        let unread = Snapshot { programs: None, maps: None, links: None, btfs: None, ..after.clone() };
        let mut encoder = encoder(3_000);
        for snapshot in [&before, &unread] {
            encoder.encode(sample(snapshot));
        }
        let (points, _) = decode(&encoder.encode(sample(&after)));
        let (markers, live): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| point.value.is_none());
        let (live, expected): (BTreeSet<_>, BTreeSet<_>) =
            (live.iter().map(series).collect(), points::expected(sample(&after)).iter().map(series).collect());
        prop_assert_eq!(&live, &expected);
        // Series with a date have another one now. Other tables were read in between.
        let unread = points::unread(sample(&unread));
        let ended: BTreeSet<_> = points::expected(sample(&before)).iter()
            .filter(|point| unread.contains(&*point.metric))
            .map(series)
            .filter(|series| !live.contains(series))
            .collect();
        let marked: BTreeSet<_> = markers.iter().map(series).filter(|(metric, _)| unread.contains(&**metric)).collect();
        prop_assert_eq!(marked, ended);
    }

    #[test]
    fn prometheus_formats_parse_to_the_same_points(snapshot in snapshots::snapshot()) {
        let points = points::expected(sample(&snapshot));
        let (histograms, numbers): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.distribution.is_some());
        let mut expected: Vec<_> = numbers.into_iter().map(as_scraped).collect();
        expected.extend(histograms.into_iter().flat_map(|point| histogram_as_scraped(point, &snapshot)));
        expected.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));

        let text = prometheus::render(sample(&snapshot), Format::Text, 0);
        prop_assert_eq!(&scraped_text(&text), &expected);

        let text = prometheus::render(sample(&snapshot), Format::OpenMetrics, 0);
        prop_assert_eq!(&scraped_openmetrics(&text), &expected);
    }

    #[test]
    fn json_round_trips(snapshot in snapshots::snapshot()) {
        let text = json::render(&Selected::all(snapshot.clone().into())).expect("a snapshot is JSON");
        let read = json::parse(&text).expect("it is a snapshot");
        prop_assert_eq!(json::render(&read).expect("a snapshot is JSON"), text);
        prop_assert_eq!(points::expected(read.sample(None)), points::expected(sample(&snapshot)));
    }

    #[test]
    fn tables_for_people_have_a_line_for_each_row(snapshot in snapshots::snapshot(), width in 1..200_usize) {
        for kind in TableKind::ALL {
            let Some(table) = Table::new(kind, &snapshot, None) else { continue };
            let sort = table.default_sort();
            let rows = table.select(&Filter::default(), sort);
            prop_assert_eq!(rows.len(), table.len());
            for width in [Some(width), None] {
                let style = Style { width, colour: false, notes: false, wide: false };
                prop_assert_eq!(table::render(&table, &rows, sort, None, style).lines().count(), 1 + rows.len());
            }
            let csv = csv::render(&table, &rows, None).expect("a table is CSV");
            let json = json::lines(&table, &rows, None).expect("rows are JSON");
            prop_assert_eq!((csv.lines().count(), json.lines().count()), (1 + rows.len(), rows.len()));
        }
    }

    #[test]
    fn tables_have_a_line_for_each_value(snapshot in snapshots::snapshot()) {
        let text = series::render(sample(&snapshot));
        let rows = |count: usize| if count == 0 { 0 } else { count + 3 };
        let uses: usize =
            snapshot.programs.iter().flatten().filter_map(|program| Some(program.facts.map_ids.as_ref()?.len())).sum();
        let analysed = || snapshot.programs.iter().flatten();
        let capable: usize = analysed().flat_map(|program| &program.capabilities).map(|all| all.names().count()).sum();
        let variables: usize = analysed().flat_map(|program| &program.metadata).map(|all| all.len()).sum();
        let owners_words: usize = snapshot.owners.iter().flat_map(|total| &total.capable).map(BTreeMap::len).sum();
        let len = |count: Option<usize>| rows(count.unwrap_or(0));
        let holders = snapshot.holders.clone().unwrap_or_default();
        let look = snapshot.hooks.as_deref();
        let with_programs = snapshot.owners.iter().filter(|total| total.fingerprint.is_some()).count();
        let expected: usize = len(snapshot.programs.as_ref().map(Vec::len))
            + rows(capable) + rows(variables)
            + len(snapshot.maps.as_ref().map(Vec::len))
            + len(snapshot.links.as_ref().map(Vec::len))
            + len(snapshot.btfs.as_ref().map(Vec::len))
            + rows(holders.programs.len()) + rows(holders.maps.len()) + rows(holders.links.len())
            + len(snapshot.pins.as_ref().map(Vec::len))
            + len(look.map(|look| look.hooks.len())) + len(look.map(|look| look.attach_points.len()))
            + rows(snapshot.owners.len()) + rows(owners_words)
            + snapshot.fingerprint.as_ref().map_or(0, |_| rows(1) + rows(with_programs))
            + rows(usize::from(snapshot.unexpected.is_some()))
            + rows(uses) + rows(1 + usize::from(snapshot.run_stats.by_sysctl.is_some())) + rows(1)
            + rows(snapshot.totals.len()) + rows(1) + rows(snapshot.collectors.len())
            + rows(snapshot.features.len()) + rows(Part::ALL.len() + snapshot.issues.len());
        let activity = snapshot.activity.as_ref().map_or(0, |activity| {
            rows(activity.programs.len()) + rows(activity.lifetimes.len()) + rows(activity.objects.len()) + rows(1)
        });
        prop_assert_eq!(text.lines().count(), expected + activity);
    }
}

/// Name, labels and value of a point as a scraper stores it: without empty labels.
type Scraped = (String, Labels, f64);

fn as_scraped(point: &Point) -> Scraped {
    let unit = match &*point.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        "1" => "_ratio",
        _ => "",
    };
    let suffix = if point.metric.ends_with(unit) { "" } else { unit };
    let total = if point.counter { "_total" } else { "" };
    let mut labels: Labels =
        point.labels.iter().map(|(name, value)| (name.replace('.', "_"), value.clone())).collect();
    labels.retain(|_, value| !value.is_empty());
    (format!("{}{suffix}{total}", point.metric), labels, point.value.expect("scrapes have no markers"))
}

/// Returns the series of a histogram as a scraper stores them, from the histogram of the model: a bucket for each bound that the table
/// has, the sum and the count.
fn histogram_as_scraped(point: &Point, snapshot: &Snapshot) -> Vec<Scraped> {
    assert_eq!(point.metric, "bpf_program_lifetime", "the only histogram so far");
    let (name, labels, count) = as_scraped(point);
    let lifetimes = &snapshot.activity.as_ref().expect("it has lifetimes").lifetimes;
    let of =
        |lifetimes: &&Lifetimes| lifetimes.program_type.as_deref() == labels.get("type").map(String::as_str);
    let seconds = &lifetimes.iter().find(of).expect("it is of the snapshot").seconds;
    let exponents: Vec<i32> = (-10..=24).step_by(2).collect();
    let bucket = |bound: f64, count: u64| {
        let mut labels = labels.clone();
        labels.insert("le".to_owned(), bound.to_string());
        (format!("{name}_bucket"), labels, as_float(count))
    };
    let counts = seconds.up_to(exponents.leak());
    let mut series: Vec<Scraped> =
        counts.map(|(exponent, count)| bucket(f64::from(exponent).exp2(), count)).collect();
    series.push(bucket(f64::INFINITY, seconds.count()));
    series.push((format!("{name}_sum"), labels.clone(), seconds.sum()));
    series.push((format!("{name}_count"), labels.clone(), count));
    series
}

/// Returns the same of a histogram that a parser found.
fn of_histogram(name: &str, labels: &Labels, found: &HistogramValue) -> Vec<Scraped> {
    let bucket = |bucket: &HistogramBucket| {
        let mut labels = labels.clone();
        labels.insert("le".to_owned(), bucket.upper_bound.to_string());
        (format!("{name}_bucket"), labels, number_of(&bucket.count))
    };
    let mut series: Vec<Scraped> = found.buckets.iter().map(bucket).collect();
    series.push((format!("{name}_sum"), labels.clone(), number_of(found.sum.as_ref().expect("a sum"))));
    series.push((format!("{name}_count"), labels.clone(), as_float(found.count.expect("a count"))));
    series
}

/// Returns a text for each sample, with the description of its family; all lines of a histogram are one.
/// The parser insists on the same label names on every line of a
/// family, which neither format does.
fn each_sample(text: &str) -> impl Iterator<Item = String> {
    let mut head = String::new();
    let mut is_headed = false;
    let mut lines = String::new();
    text.lines().filter(|line| *line != "# EOF").filter_map(move |line| {
        if line.starts_with('#') {
            if std::mem::take(&mut is_headed) {
                head.clear();
            }
            head.extend([line, "\n"]);
            return None;
        }
        is_headed = true;
        if head.contains(" histogram\n") {
            // The parser wants no unit of a histogram; the specification forbids it of `info` and `stateset` only.
            head = head
                .lines()
                .filter(|line| !line.starts_with("# UNIT"))
                .fold(String::new(), |head, line| head + line + "\n");
            lines.extend([line, "\n"]);
            let is_last = line.split(['{', ' ']).next().is_some_and(|name| name.ends_with("_count"));
            return is_last.then(|| format!("{head}{}", std::mem::take(&mut lines)));
        }
        Some(format!("{head}{line}\n"))
    })
}

fn scraped_text(text: &str) -> Vec<Scraped> {
    let scraped = |text: String| {
        let exposition = openmetrics_parser::prometheus::parse_prometheus(&text)
            .expect("the text is in Prometheus format");
        exposition.families.into_iter().flat_map(|(name, family)| {
            samples(&family, &name, |value| match value {
                PrometheusValue::Gauge(number) => Found::Number(number_of(number)),
                PrometheusValue::Counter(counter) => Found::Number(number_of(&counter.value)),
                PrometheusValue::Histogram(histogram) => Found::Histogram(histogram.clone()),
                other => panic!("not exported: {other:?}"),
            })
        })
    };
    sorted(each_sample(text).flat_map(scraped).collect())
}

fn scraped_openmetrics(text: &str) -> Vec<Scraped> {
    assert!(text.ends_with("# EOF\n"));
    let scraped = |text: String| {
        let exposition = openmetrics_parser::openmetrics::parse_openmetrics(&format!("{text}# EOF\n"))
            .expect("the text is in OpenMetrics format");
        exposition.families.into_iter().flat_map(|(name, family)| {
            let total = if family.family_type == openmetrics_parser::OpenMetricsType::Counter {
                "_total"
            } else {
                ""
            };
            samples(&family, &format!("{name}{total}"), |value| match value {
                OpenMetricsValue::Gauge(number) => Found::Number(number_of(number)),
                OpenMetricsValue::Counter(counter) => Found::Number(number_of(&counter.value)),
                OpenMetricsValue::Histogram(histogram) => Found::Histogram(histogram.clone()),
                other => panic!("not exported: {other:?}"),
            })
        })
    };
    sorted(each_sample(text).flat_map(scraped).collect())
}

/// What a parser found in a sample.
enum Found {
    Number(f64),
    Histogram(HistogramValue),
}

fn samples<Type, Value>(
    family: &MetricFamily<Type, Value>,
    name: &str,
    read: impl Fn(&Value) -> Found,
) -> Vec<Scraped>
where
    Type: std::fmt::Display + Clone,
    Value: RenderableMetricValue + Clone,
{
    let scraped = |sample: &openmetrics_parser::Sample<Value>| {
        let labels = sample.get_labelset().expect("a label set");
        let labels: Labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        match read(&sample.value) {
            Found::Number(number) => vec![(name.to_owned(), labels, number)],
            Found::Histogram(histogram) => of_histogram(name, &labels, &histogram),
        }
    };
    family.iter_samples().flat_map(scraped).collect()
}

fn sorted(mut samples: Vec<Scraped>) -> Vec<Scraped> {
    samples.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    samples
}

#[expect(clippy::cast_precision_loss, reason = "compared with numbers converted the same way")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "compared with numbers converted the same way")]
fn number_of(number: &MetricNumber) -> f64 {
    match number {
        MetricNumber::Int(number) => *number as f64,
        MetricNumber::Float(number) => *number,
    }
}
