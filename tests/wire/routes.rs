//! The routes into a Prometheus: a scrape, and OTLP through a Collector, to another database or to Prometheus itself. All deliver the same
//! series.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::exporter::{Delivery, Exporter};
use crate::processes::{SOON, Scratch, eventually};
use crate::receivers::{Collector, Prometheus, Receiver, Verbosity, VictoriaMetrics};
use crate::series::{Labels, Row, Series, Values};
use test_support::http::free_address;
use test_support::objects::uapi::program_type;
use test_support::objects::{Herd, Link, Program, ProgramSpec};

/// The query for both. Prometheus' own series have other names.
const OURS: &str = r#"{__name__=~"bpf_.*|process_.*"}"#;

/// The series of the resource.
const TARGET: &str = "target_info";

/// Metrics that change from one reading to the next: the exporter's own, and the kernel's counters.
const MOVING: [&str; 6] = [
    "bpf_exporter_",
    "bpf_program_run",
    // The exporter's own iterators are among the programs.
    "bpf_objects_run_time",
    "bpf_owner_run_time",
    "bpf_run_stats_covered",
    "process_",
];

/// The only histogram. Over OTLP it arrives as a native one at Prometheus, and with ranges instead of bounds at `VictoriaMetrics`.
const HISTOGRAM: &str = "bpf_program_lifetime_seconds";

/// The metrics of the contract, as Prometheus spells them.
const CONTRACT: [&str; 11] = [
    "bpf_program_info",
    "bpf_map_info",
    "bpf_link_info",
    "bpf_program_load_time_seconds",
    "bpf_program_size_jitted_bytes_total",
    "bpf_program_size_translated_bytes_total",
    "bpf_program_mem_bytes_total",
    "bpf_program_verified_instructions_total",
    "bpf_map_key_size_bytes_total",
    "bpf_map_value_size_bytes_total",
    "bpf_map_max_entries_total",
];

/// Objects of each kind.
struct Objects {
    _herd: Herd,
    named: Program,
    _nameless: Program,
    _link: Link,
}

impl Objects {
    fn load() -> Self {
        let nameless = ProgramSpec::new(program_type::SOCKET_FILTER, 0);
        Self {
            _herd: Herd::new(120, 20).expect("the kernel takes a small herd"),
            named: Program::with_full_name("a_name_of_more_than_15_characters").expect("the kernel has BTF"),
            _nameless: Program::load(&nameless).expect("the kernel has socket filters"),
            _link: Link::iter().expect("the kernel has iterators"),
        }
    }
}

/// An exporter, a Prometheus that scrapes it, and a Collector that it pushes to.
struct Routes {
    exporter: Exporter,
    scrapes: Prometheus,
    #[expect(dead_code, reason = "held for its end")]
    collector: Collector,
}

impl Routes {
    /// Starts them. The Collector forwards to a URL.
    fn start(scratch: &Scratch, next: &str) -> Self {
        let folder = scratch.folder("collector");
        let collector = Collector::start(&folder, free_address(), Verbosity::Normal, Some(next));
        let exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, "1s", &[]);
        let scrapes = Prometheus::start(&scratch.folder("prometheus"), &[exporter.serves]);
        Self { exporter, scrapes, collector }
    }

    /// Waits until a scrape has the series that a query of the pushed ones returns, and returns them. Objects of others come and go, and
    /// arrive on each route at another time.
    fn agree(&self, pushed: impl Fn(&str) -> Result<Values, String>) -> Values {
        eventually("all routes lead to the same series", SOON, || {
            let mut text = without_empty(self.exporter.scrape());
            // Over OTLP that is the resource, and Prometheus has it as a series that the query leaves out.
            text.retain(|series, _| series.name != TARGET);
            let scraped = without_origin(self.scrapes.query(OURS)?);
            let pushed = without_origin(pushed(OURS)?);
            let [sums, pushed] = [&scraped, &pushed].map(|values| without_buckets(values.clone()));
            compare("scraped as OpenMetrics", &sums, "pushed over OTLP", &pushed)?;
            compare("scraped as OpenMetrics", &scraped, "scraped as text", &text)?;
            Ok(scraped)
        })
    }

    /// Asserts that nothing went wrong on the way.
    fn assert_well(&mut self) {
        assert_eq!(self.scrapes.last_error().as_deref(), Ok(""));
        assert_eq!(self.scrapes.process.log(), "", "Prometheus logs something");
        self.exporter.process.assert_running();
        assert_eq!(self.exporter.warnings(), Vec::<String>::new());
    }
}

pub(crate) fn same_series() {
    let scratch = Scratch::new();
    let victoria = VictoriaMetrics::start(&scratch.folder("victoria"));
    let _objects = Objects::load();
    let mut routes = Routes::start(&scratch, &victoria.endpoint());
    let values = routes.agree(|selector| victoria.query(selector));
    assert_contract(&values);
    assert_metadata(&values, &routes.scrapes);
    routes.assert_well();
}

/// Prometheus' own OTLP receiver, with its default settings.
pub(crate) fn own_receiver() {
    let scratch = Scratch::new();
    let receives = Prometheus::start_receiving(&scratch.folder("receiver"), &serde_json::json!({}));
    let objects = Objects::load();
    let mut routes = Routes::start(&scratch, &receives.endpoint());
    let values = routes.agree(|selector| receives.query(selector));
    assert_contract(&values);

    // Its labels are the attributes of the resource, but those that identify it: they are the labels `job` and `instance` of each series.
    let of_scrape = routes.exporter.scrape().into_keys().find(|series| series.name == TARGET);
    let mut expected = of_scrape.expect("each scrape has it").labels;
    let mut origin = Labels::new();
    for (label, attribute) in [("job", "service_name"), ("instance", "service_instance_id")] {
        origin.insert(label.to_owned(), expected.remove(attribute).expect("the resource has it"));
    }
    expected.extend(origin.clone());
    let expected = Values::from([(Series { name: TARGET.to_owned(), labels: expected }, 1.0)]);
    assert_eq!(receives.query(TARGET), Ok(expected));
    let pushed = receives.query(OURS).expect("it answered before");
    for series in pushed.keys() {
        assert!(origin.iter().all(|(label, value)| series.labels.get(label) == Some(value)), "{series}");
    }

    let id = objects.named.id().to_string();
    let of_program = |values: Values| -> Vec<Series> {
        let has =
            |series: &Series| series.name.starts_with("bpf_program_") && series.labels.get("id") == Some(&id);
        values.into_keys().filter(has).collect()
    };
    assert_ne!(of_program(values), [], "of a program that is loaded");
    drop(objects);
    // A series that is not marked stale would stay for five minutes.
    eventually("the receiver has no series of a program that is gone", SOON, || {
        match of_program(receives.query(OURS)?) {
            none if none.is_empty() => Ok(()),
            some => Err(format!("it has {some:?}")),
        }
    });
    routes.agree(|selector| receives.query(selector));
    assert_eq!(receives.process.log(), "", "the receiving Prometheus logs something");
    routes.assert_well();
}

fn assert_contract(values: &Values) {
    let names = names(values);
    for name in CONTRACT {
        assert!(names.contains(name), "there is no {name} among {names:?}");
    }
}

/// Asserts that a Prometheus has type, description and unit of each metric that it scraped. It keeps none of what it receives.
fn assert_metadata(values: &Values, prometheus: &Prometheus) {
    for name in names(values) {
        let (family, kind) = if name.starts_with(HISTOGRAM) {
            (HISTOGRAM, "histogram")
        } else {
            name.strip_suffix("_total").map_or((name, "gauge"), |family| (family, "counter"))
        };
        let metadata = prometheus.metadata(family);
        assert_eq!(metadata["type"], kind, "{family}: {metadata}");
        assert_ne!(metadata["help"], "", "{family}: {metadata}");
        // Only OpenMetrics has units: this is what was scraped.
        let unit = ["bytes", "seconds", "ratio"].into_iter().find(|unit| family.ends_with(unit));
        assert_eq!(metadata["unit"], unit.unwrap_or(""), "{family}: {metadata}");
    }
}

fn names(values: &Values) -> BTreeSet<&str> {
    values.keys().map(|series| series.name.as_str()).collect()
}

/// Removes the buckets of histograms; their sums and counts stay.
fn without_buckets(mut values: Values) -> Values {
    values.retain(|series, _| series.name != format!("{HISTOGRAM}_bucket"));
    values
}

/// Removes the labels of the origin: Prometheus' own, and those of the Collector's resource.
fn without_origin(values: Values) -> Values {
    let resource = ["service_", "host_", "os_", "otel_scope_", "scope_"];
    without(values, |label, _| {
        matches!(label, "job" | "instance") || resource.iter().any(|prefix| label.starts_with(prefix))
    })
}

/// Removes empty labels, which an exposition may have, and which Prometheus drops.
fn without_empty(values: Values) -> Values {
    without(values, |_, value| value.is_empty())
}

fn without(values: Values, unwanted: impl Fn(&str, &str) -> bool) -> Values {
    let strip = |(Series { name, mut labels }, value)| {
        labels.retain(|label, value| !unwanted(label, value));
        (Series { name, labels }, value)
    };
    values.into_iter().map(strip).collect()
}

/// Returns the differences of two sets of series. Values of changing metrics are not compared.
fn compare(one: &str, ones: &Values, other: &str, others: &Values) -> Result<(), String> {
    let steady = |values: &Values| -> BTreeSet<String> {
        let text = |(series, value): (&Series, &f64)| {
            if MOVING.iter().any(|moving| series.name.starts_with(moving)) {
                series.to_string()
            } else {
                format!("{series} {value}")
            }
        };
        values.iter().map(text).collect()
    };
    let (ones, others) = (steady(ones), steady(others));
    if ones == others && !ones.is_empty() {
        return Ok(());
    }
    let sample = |mut difference: Vec<&String>| {
        let count = difference.len();
        difference.truncate(5);
        format!("{count} series: {difference:#?}")
    };
    let only_one = sample(ones.difference(&others).collect());
    let only_other = sample(others.difference(&ones).collect());
    Err(format!("only {one}, {only_one}\nonly {other}, {only_other}"))
}

/// A Prometheus that refuses histograms gets everything else.
pub(crate) fn without_histograms() {
    let scratch = Scratch::new();
    let receives = Prometheus::start_receiving_numbers(&scratch.folder("receiver"));
    let push = ["--otlp-http", &receives.endpoint(), "--no-event-logs"];
    let any_port = ([127, 0, 0, 1], 0).into();
    let exporter = Exporter::start_at(any_port, &[], &scratch.folder("exporter"), "none", "1s", &push);
    let dropped = || exporter.delivery().dropped;
    eventually("the receiver refuses lifetimes", SOON, || {
        drop(Program::ready(program_type::XDP, "wire_lived").expect("the kernel has XDP"));
        if dropped() > 0 { Ok(()) } else { Err("nothing is refused".to_owned()) }
    });
    let program = Program::ready(program_type::XDP, "wire_lives").expect("the kernel has XDP");
    let before = dropped();
    let info = format!("bpf_program_info{{id=\"{}\"}}", program.id());
    eventually("the receiver has a later program", SOON, || match receives.query(&info)?.len() {
        1 => Ok(()),
        other => Err(format!("{other} series")),
    });
    eventually("lifetimes are refused again", SOON, || {
        if dropped() > before { Ok(()) } else { Err("nothing is refused".to_owned()) }
    });
    let Delivery { accepted, dropped, .. } = exporter.delivery();
    assert!(dropped * 10 < accepted, "more than lifetimes is refused: {dropped} beside {accepted}");
    assert_eq!(receives.query(&format!("{HISTOGRAM}_count")), Ok(Values::new()));
    assert!(exporter.warnings().iter().all(|line| line.contains("native histograms are disabled")));
}

/// Programs that lived for a known time, as each route has them: classic buckets of a scrape, native ones of another, and what becomes of
/// an exponential histogram in Prometheus and in another database.
pub(crate) fn quantiles() {
    const LIVED: Duration = Duration::from_millis(1200);
    /// The program's type, as the kernel spells it; others on the machine seldom load one.
    const TYPE: (u32, &str) = (program_type::FLOW_DISSECTOR, "flow_dissector");
    type Query<'a> = &'a dyn Fn() -> Result<Vec<Row>, String>;
    let scratch = Scratch::new();
    let victoria = VictoriaMetrics::start(&scratch.folder("victoria"));
    let receives = Prometheus::start_receiving(&scratch.folder("receiver"), &serde_json::json!({}));
    let routes = Routes::start(&scratch, &victoria.endpoint());
    let pushes = Collector::start(
        &scratch.folder("second"),
        free_address(),
        Verbosity::Normal,
        Some(&receives.endpoint()),
    );
    let second = Exporter::start(&scratch.folder("other"), pushes.receives, "1s", &[]);
    let native = Prometheus::start_native(&scratch.folder("native"), &[second.serves]);
    eventually("both exporters have read", SOON, || {
        let counts = [&routes.exporter, &second].map(Exporter::scrape);
        let is_counting =
            |values: &Values| values.keys().any(|series| series.name == "bpf_objects_created_total");
        if counts.iter().all(is_counting) { Ok(()) } else { Err("not yet".to_owned()) }
    });

    let before = Instant::now();
    let program = Program::ready(TYPE.0, "wire_lived").expect("the kernel has flow dissectors");
    let loaded = Instant::now();
    std::thread::sleep(LIVED);
    let least = loaded.elapsed();
    drop(program);
    let most = before.elapsed();

    let of_type = format!("{{type=\"{}\"}}", TYPE.1);
    let classic = format!("histogram_quantile(0.5, {HISTOGRAM}_bucket{of_type})");
    let exponential = format!("histogram_quantile(0.5, {HISTOGRAM}{of_type})");
    let seconds = |rows: Result<Vec<Row>, String>| match &rows?[..] {
        [row] if row.value.is_finite() => Ok(row.value),
        other => Err(format!("{other:?}")),
    };
    let routes: [(&str, f64, Query<'_>); 5] = [
        ("scraped as OpenMetrics", 4.0, &|| routes.scrapes.rows(&classic)),
        ("scraped as protobuf, its classic buckets", 4.0, &|| native.rows(&classic)),
        ("scraped as protobuf", 1.1, &|| native.rows(&exponential)),
        ("pushed to Prometheus", 1.1, &|| receives.rows(&exponential)),
        ("pushed to VictoriaMetrics", 1.1, &|| victoria.rows(&classic)),
    ];
    for (route, factor, query) in routes {
        eventually(&format!("{route}: the quantile"), SOON, || {
            let found = seconds(query())?;
            // The record of the unload may come a moment later.
            let within = least.as_secs_f64() / factor..(most.as_secs_f64() + 0.1) * factor;
            if within.contains(&found) { Ok(()) } else { Err(format!("{found} is not within {within:?}")) }
        });
    }
    assert_eq!(native.last_error().as_deref(), Ok(""));
    assert_eq!(native.process.log(), "", "Prometheus logs something");
    assert_eq!(receives.process.log(), "", "the receiving Prometheus logs something");
}

pub(crate) fn promtool() {
    let scratch = Scratch::new();
    let _herd = Herd::new(120, 20).expect("the kernel takes a small herd");
    let _link = Link::iter().expect("the kernel has iterators");
    let folder = scratch.folder("exporter");
    let exporter = Exporter::start(&folder, free_address(), "1h", &[]);
    let exposition = eventually("there are lifetimes", SOON, || {
        // Its type is only known of one that a reading found: it lives for one, and its end is in the next.
        let program = Program::ready(program_type::XDP, "wire_lived").expect("the kernel has XDP");
        exporter.exposition();
        drop(program);
        let exposition = exporter.exposition();
        if exposition.contains("type=\"xdp\",le=") {
            Ok(exposition)
        } else {
            Err("there are none".to_owned())
        }
    });
    assert!(exposition.contains("bpf_exporter_otlp_requests_total"), "not all metrics are there");
    assert!(exposition.contains(&format!("{HISTOGRAM}_bucket")), "there is no histogram");
    let file = folder.join("exposition");
    std::fs::write(&file, exposition).expect("the folder is new");
    check_metrics(&file);
}

/// What `node_exporter`'s textfile collector reads.
pub(crate) fn textfile() {
    let scratch = Scratch::new();
    let _herd = Herd::new(120, 20).expect("the kernel takes a small herd");
    let file = scratch.folder("textfile").join("bpf.prom");
    let mut snapshot = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    let written = snapshot
        .args(["snapshot", "--for=1s", "--format=prometheus", "--output"])
        .arg(&file)
        .env_clear()
        .output();
    let written = written.expect("it starts");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let exposition = std::fs::read_to_string(&file).expect("it was just written");
    for metric in ["bpf_program_runs_total", "bpf_map_mem_bytes", "bpf_owner_mem_bytes"] {
        assert!(exposition.contains(&format!("\n{metric}{{")), "{metric} is missing");
    }
    // The collector refuses times.
    assert!(exposition.lines().filter(|line| !line.starts_with('#')).all(|line| !has_timestamp(line)));
    check_metrics(&file);
}

/// Returns whether a sample has a time after its value.
fn has_timestamp(sample: &str) -> bool {
    let after = sample.rsplit_once('}').map_or(sample, |(_, after)| after);
    after.split_whitespace().count() > if sample.contains('}') { 1 } else { 2 }
}

/// Has promtool check an exposition.
fn check_metrics(file: &Path) {
    let file = File::open(file).expect("it was just written");
    let mut promtool = Command::new(Receiver::Promtool.path());
    let found = promtool.args(["check", "metrics"]).stdin(Stdio::from(file)).output();
    let found = found.unwrap_or_else(|error| panic!("failed to run promtool: {error}"));
    let says = [found.stdout, found.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(found.status.success() && says.concat().is_empty(), "{}: {says:?}", found.status);
}
