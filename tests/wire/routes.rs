//! The routes into a Prometheus: a scrape, and OTLP through a Collector, to another database or to Prometheus itself. All deliver the same
//! series.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Command, Stdio};

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::receivers::{Collector, Prometheus, Receiver, Verbosity, VictoriaMetrics};
use crate::series::{Labels, Series, Values};
use test_support::http::free_address;
use test_support::objects::uapi::program_type;
use test_support::objects::{Herd, Link, Program, ProgramSpec};

/// The query for both. Prometheus' own series have other names.
const OURS: &str = r#"{__name__=~"bpf_.*|process_.*"}"#;

/// The series of the resource.
const TARGET: &str = "target_info";

/// Metrics that change from one reading to the next: the exporter's own, and the kernel's counters.
const MOVING: [&str; 4] = ["bpf_exporter_", "bpf_program_run", "bpf_run_stats_covered", "process_"];

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
            compare("scraped as OpenMetrics", &scraped, "pushed over OTLP", &pushed)?;
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
        let (family, kind) =
            name.strip_suffix("_total").map_or((name, "gauge"), |family| (family, "counter"));
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

pub(crate) fn promtool() {
    let scratch = Scratch::new();
    let _herd = Herd::new(120, 20).expect("the kernel takes a small herd");
    let _link = Link::iter().expect("the kernel has iterators");
    let folder = scratch.folder("exporter");
    let exporter = Exporter::start(&folder, free_address(), "1h", &[]);
    let exposition = exporter.exposition();
    assert!(exposition.contains("bpf_exporter_otlp_requests_total"), "not all metrics are there");
    let file = folder.join("exposition");
    std::fs::write(&file, exposition).expect("the folder is new");
    let file = File::open(&file).expect("it was just written");
    let mut promtool = Command::new(Receiver::Promtool.path());
    let found = promtool.args(["check", "metrics"]).stdin(Stdio::from(file)).output();
    let found = found.unwrap_or_else(|error| panic!("failed to run promtool: {error}"));
    let says = [found.stdout, found.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(found.status.success() && says.concat().is_empty(), "{}: {says:?}", found.status);
}
