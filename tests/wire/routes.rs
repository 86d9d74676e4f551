//! Two routes into a Prometheus: a scrape, and OTLP through a Collector. Both deliver the same series.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Command, Stdio};

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::receivers::{Collector, Prometheus, Receiver, Verbosity, VictoriaMetrics};
use crate::series::{Series, Values};
use test_support::http::free_address;
use test_support::objects::uapi::program_type;
use test_support::objects::{Herd, Link, Program, ProgramSpec};

/// The query for both. Prometheus' own series have other names.
const OURS: &str = r#"{__name__=~"bpf_.*|process_.*"}"#;

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

pub(crate) fn same_series() {
    let scratch = Scratch::new();
    let victoria = VictoriaMetrics::start(&scratch.folder("victoria"));
    let collector =
        Collector::start(&scratch.folder("collector"), free_address(), Verbosity::Normal, Some(&victoria));
    let _herd = Herd::new(120, 20).expect("the kernel takes a small herd");
    let _named = Program::with_full_name("a_name_of_more_than_15_characters").expect("the kernel has BTF");
    let nameless = ProgramSpec::new(program_type::SOCKET_FILTER, 0);
    let _nameless = Program::load(&nameless).expect("the kernel has socket filters");
    let _link = Link::iter().expect("the kernel has iterators");
    let mut exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, "1s", &[]);
    let prometheus = Prometheus::start(&scratch.folder("prometheus"), &[exporter.serves]);

    // Objects of others come and go, and arrive on each route at another time.
    let values = eventually("both roads lead to the same series", SOON, || {
        let mut text = without_empty(exporter.scrape());
        // Over OTLP that is the resource, and Prometheus has it as a series that the query leaves out.
        text.retain(|series, _| series.name != "target_info");
        let scraped = without_origin(prometheus.query(OURS)?);
        let pushed = without_origin(victoria.query(OURS)?);
        compare("scraped as OpenMetrics", &scraped, "pushed over OTLP", &pushed)?;
        compare("scraped as OpenMetrics", &scraped, "scraped as text", &text)?;
        Ok(scraped)
    });
    let names: BTreeSet<&str> = values.keys().map(|series| series.name.as_str()).collect();
    for name in CONTRACT {
        assert!(names.contains(name), "there is no {name} among {names:?}");
    }
    for name in names {
        let (family, kind) =
            name.strip_suffix("_total").map_or((name, "gauge"), |family| (family, "counter"));
        let metadata = prometheus.metadata(family);
        assert_eq!(metadata["type"], kind, "{family}: {metadata}");
        assert_ne!(metadata["help"], "", "{family}: {metadata}");
        // Only OpenMetrics has units: this is what was scraped.
        let unit = ["bytes", "seconds", "ratio"].into_iter().find(|unit| family.ends_with(unit));
        assert_eq!(metadata["unit"], unit.unwrap_or(""), "{family}: {metadata}");
    }
    assert_eq!(prometheus.last_error().as_deref(), Ok(""));
    assert_eq!(prometheus.process.log(), "", "Prometheus logs something");
    exporter.process.assert_running();
    assert_eq!(exporter.warnings(), Vec::<String>::new());
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
