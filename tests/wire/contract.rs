//! The contract, independent of the table of metrics: names, units, kinds and labels, and the values of the test's own objects.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::received::{self, Point};
use crate::receivers::{Collector, Verbosity};
use test_support::http::free_address;
use test_support::objects::uapi::{map_flag, map_type, program_type};
use test_support::objects::{Link, Map, MapSpec, Program, Shape};

/// A metric of the contract.
struct Promise {
    name: &'static str,
    unit: &'static str,
    counter: bool,
    labels: &'static [&'static str],
}

const PROGRAM: &[&str] = &["id", "name", "type"];
const MAP: &[&str] = PROGRAM;

const CONTRACT: [Promise; 11] = [
    gauge("bpf_program_info", "", &["id", "name", "type", "tag", "gpl_compatible", "load_time"]),
    gauge("bpf_map_info", "", &["id", "name", "type", "key_size", "value_size", "max_entries", "flags"]),
    gauge("bpf_link_info", "", &["id", "prog_id", "type"]),
    gauge("bpf_program_load_time", "s", PROGRAM),
    counter("bpf_program_size_jitted_bytes", "By", PROGRAM),
    counter("bpf_program_size_translated_bytes", "By", PROGRAM),
    counter("bpf_program_mem_bytes", "By", PROGRAM),
    counter("bpf_program_verified_instructions", "{instruction}", PROGRAM),
    counter("bpf_map_key_size", "By", MAP),
    counter("bpf_map_value_size", "By", MAP),
    counter("bpf_map_max_entries", "{entry}", MAP),
];

const fn gauge(name: &'static str, unit: &'static str, labels: &'static [&'static str]) -> Promise {
    Promise { name, unit, counter: false, labels }
}

const fn counter(name: &'static str, unit: &'static str, labels: &'static [&'static str]) -> Promise {
    Promise { name, unit, counter: true, labels }
}

const FULL_NAME: &str = "a_name_of_more_than_15_characters";
const SHAPE: Shape = Shape {
    kind: map_type::HASH,
    key_size: 4,
    value_size: 24,
    max_entries: 77,
    flags: map_flag::NO_PREALLOC,
    extra: 0,
};

pub(crate) fn test() {
    let scratch = Scratch::new();
    let folder = scratch.folder("collector");
    let collector = Collector::start(&folder, free_address(), Verbosity::Detailed, None);

    let before = Timestamp::now().as_second();
    let filter = Program::with_full_name(FULL_NAME).expect("the kernel has socket filters and BTF");
    let xdp = Program::ready(program_type::XDP, "wire_xdp").expect("the kernel has XDP");
    let after = Timestamp::now().as_second();
    let map = MapSpec { name: "wire_hash", shape: SHAPE, inner: None, types: None };
    let map = Map::create(&map).expect("the kernel has hash maps");
    let link = Link::iter().expect("the kernel has iterators");

    let exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, "1h", &[]);
    exporter.settles_with(&[&collector]);
    let requests = received::read(&collector.received());
    let service = requests[0].resource.get("service.name");
    assert_eq!(service.map(String::as_str), Some("bpf-metrics-exporter"));
    let points: Vec<Point> = requests.into_iter().flat_map(|request| request.points).collect();
    for promise in &CONTRACT {
        assert_kept(promise, &points);
    }

    for (program, name, kind) in [(&filter, FULL_NAME, "socket_filter"), (&xdp, "wire_xdp", "xdp")] {
        assert_program(&points, program, name, kind, before..=after);
    }
    let id = map.id().to_string();
    let info = the(&points, "bpf_map_info", &id);
    for (label, value) in [
        ("name", "wire_hash"),
        ("type", "1"),
        ("key_size", "4"),
        ("value_size", "24"),
        ("max_entries", "77"),
        ("flags", "1"),
    ] {
        assert!(info.has(label, value), "{label} of {info:?}");
    }
    for (metric, value) in [
        ("bpf_map_info", "1"),
        ("bpf_map_key_size", "4"),
        ("bpf_map_value_size", "24"),
        ("bpf_map_max_entries", "77"),
    ] {
        assert_eq!(the(&points, metric, &id).value.as_deref(), Some(value), "{metric}");
    }
    let info = the(&points, "bpf_link_info", &link.id().to_string());
    let program = link.program().expect("an iterator's link has a program").id();
    assert!(info.has("prog_id", &program.to_string()) && info.has("type", "4"), "{info:?}");
    assert_eq!(info.value.as_deref(), Some("1"));
}

/// Lifetimes arrive as exponential histograms.
pub(crate) fn lifetimes() {
    let scratch = Scratch::new();
    let folder = scratch.folder("collector");
    let collector = Collector::start(&folder, free_address(), Verbosity::Detailed, None);
    let _exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, "1s", &[]);
    let points = eventually("the Collector has lifetimes", SOON, || {
        drop(Program::ready(program_type::XDP, "wire_lived").expect("the kernel has XDP"));
        let requests = received::read(&collector.received()).into_iter();
        let points: Vec<Point> = requests.flat_map(|request| request.points).collect();
        let of_xdp = |point: &Point| point.is("bpf_program_lifetime", "type", "xdp");
        if points.iter().any(of_xdp) { Ok(points) } else { Err("it has none".to_owned()) }
    });
    for point in points.iter().filter(|point| point.metric.name == "bpf_program_lifetime") {
        let metric = &*point.metric;
        let kind = (&*metric.kind, &*metric.monotonic, &*metric.temporality);
        assert_eq!(kind, ("ExponentialHistogram", "", "Cumulative"));
        assert_eq!(metric.unit, "s");
        assert!(point.attributes.keys().all(|label| label == "type"), "{point:?}");
        assert!(point.start < point.time, "{point:?}");
        let count = point.value.as_ref().expect("no series ends");
        assert!(count.parse::<u64>().is_ok_and(|count| count > 0), "{point:?}");
    }
}

/// Asserts that a metric exists, and that all its points keep the contract.
fn assert_kept(promise: &Promise, points: &[Point]) {
    let Promise { name, unit, counter, labels } = *promise;
    let mut found = points.iter().filter(|point| point.metric.name == name).peekable();
    assert!(found.peek().is_some(), "there is no {name}");
    let promised: BTreeSet<&str> = labels.iter().copied().collect();
    for point in found {
        let metric = &*point.metric;
        let kind = if counter { ("Sum", "true", "Cumulative") } else { ("Gauge", "", "") };
        assert_eq!(metric.unit, unit, "unit of {name}");
        assert_eq!((&*metric.kind, &*metric.monotonic, &*metric.temporality), kind, "kind of {name}");
        let has: BTreeSet<&str> = point.attributes.keys().map(String::as_str).collect();
        if name.ends_with("_info") {
            assert!(has.is_superset(&promised), "labels of {point:?}");
        } else {
            assert_eq!(has, promised, "labels of {name}");
        }
        assert!(point.value.is_some(), "{point:?} has no value");
        assert!(point.start <= point.time, "{point:?} starts after its time");
    }
}

/// Asserts the points of a program that was loaded in one of these seconds.
fn assert_program(
    points: &[Point],
    program: &Program,
    name: &str,
    kind: &str,
    loaded: std::ops::RangeInclusive<i64>,
) {
    let id = program.id().to_string();
    let info = the(points, "bpf_program_info", &id);
    assert!(
        info.has("name", name) && info.has("type", kind) && info.has("gpl_compatible", "true"),
        "{info:?}"
    );
    let tag = &info.attributes["tag"];
    assert!(tag.len() == 16 && tag.bytes().all(|digit| digit.is_ascii_hexdigit()), "{tag}");
    let load_time = &info.attributes["load_time"];
    let load_time: Timestamp = load_time.parse().unwrap_or_else(|error| panic!("{load_time}: {error}"));
    assert!(info.attributes["load_time"].ends_with('Z'), "not UTC: {info:?}");
    assert!(loaded.contains(&load_time.as_second()), "{load_time} is not within {loaded:?}");

    let value = |metric| the(points, metric, &id).value.as_deref().expect("it was looked at before");
    assert_eq!(value("bpf_program_info"), "1");
    assert_eq!(value("bpf_program_load_time"), load_time.as_second().to_string());
    // Two instructions of eight bytes: the result, and the end.
    assert_eq!(value("bpf_program_size_translated_bytes"), "16");
    assert_eq!(value("bpf_program_verified_instructions"), "2");
    let bytes = |metric| value(metric).parse::<u64>().unwrap_or_else(|error| panic!("{metric}: {error}"));
    // 0 where the kernel interprets programs.
    assert!((0..4096).contains(&bytes("bpf_program_size_jitted_bytes")));
    assert!(bytes("bpf_program_mem_bytes") >= 4096, "less than a page");
    // Its holders have their own start times, and what it can do has none.
    let of_others = ["bpf_program_holder_info", "bpf_program_capability_info", "bpf_program_metadata_info"];
    let of_program = |point: &&Point| {
        let name = &*point.metric.name;
        name.starts_with("bpf_program_") && !of_others.contains(&name) && point.has("id", &id)
    };
    for point in points.iter().filter(of_program) {
        assert_eq!(point.start, load_time, "{point:?} does not start with the program");
        assert!(point.has("name", name) && point.has("type", kind), "{point:?}");
    }
}

/// Returns the only point of a metric for an id.
fn the<'a>(points: &'a [Point], metric: &str, id: &str) -> &'a Point {
    let found: Vec<&Point> = points.iter().filter(|point| point.is(metric, "id", id)).collect();
    assert_eq!(found.len(), 1, "points of {metric} for {id}: {found:?}");
    found[0]
}
