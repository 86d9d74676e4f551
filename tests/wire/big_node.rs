//! A node with as many objects as the busiest ones: its points fill more than one request.

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::received;
use crate::receivers::{Collector, Verbosity};
use test_support::http::free_address;
use test_support::objects::Herd;

const PROGRAMS: usize = 7_000;
const MAPS: usize = 9_000;

/// The metrics of each object of a kind, after `bpf_KIND_`, and the least number of objects.
const KINDS: [(&str, &[&str], usize); 4] = [
    (
        "program",
        &[
            "info",
            "load_time",
            "size_jitted_bytes",
            "size_translated_bytes",
            "mem_bytes",
            "verified_instructions",
            "run_time",
            "runs",
            "recursion_misses",
        ],
        PROGRAMS,
    ),
    ("map", &["info", "key_size", "value_size", "max_entries", "mem_bytes"], MAPS),
    ("link", &["info"], 0),
    ("btf", &["info", "size_bytes"], 0),
];

/// So long that there is exactly one cycle.
const ONCE: &str = "1h";

pub(crate) fn test() {
    let scratch = Scratch::new();
    let folder = scratch.folder("collector");
    let mut collector = Collector::start(&folder, free_address(), Verbosity::Normal, None);
    let _herd = Herd::new(PROGRAMS, MAPS).expect("the kernel allows as many objects and open files");
    // Only requests with points are compared: others may load programs meanwhile.
    let without_logs = ["--no-event-logs"];
    let mut exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, ONCE, &without_logs);

    let delivery = exporter.settles_with(&[&collector]);
    assert_eq!(collector.accepted(), delivery.accepted);
    assert_eq!((delivery.rejected, delivery.dropped), (0, 0));

    let text = collector.received();
    let requests = received::requests(&text).count() as u64;
    assert!(requests > 1, "all in one request: the node is not big enough to show anything");
    assert_eq!(delivery.successes, requests);
    assert_eq!(points(&text).count() as u64, delivery.accepted);
    assert_complete(&text);

    // The limit is real: a request beyond it is refused, and arrives in parts.
    let whole = ["--otlp-max-request-bytes", "268435456", "--no-event-logs"];
    let whole = Exporter::start(&scratch.folder("whole"), collector.receives, ONCE, &whole);
    let divided =
        eventually("what is refused as too large arrives in parts", SOON, || match whole.delivery() {
            divided if divided.accepted > 0 && divided.backlog == 0 => Ok(divided),
            divided => Err(format!("{divided:?}")),
        });
    assert!(divided.successes > 1 && (divided.rejected, divided.dropped) == (0, 0), "{divided:?}");
    assert_eq!(collector.accepted(), delivery.accepted + divided.accepted);
    let warnings = whole.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("as too large"), "{warnings:#?}");
    drop(whole);

    assert!(exporter.process.stop().success());
    assert_eq!(exporter.warnings(), Vec::<String>::new());
    let counted = collector.accepted();
    assert!(collector.process.stop().success());
    assert_eq!(collector.announced(), counted);
}

/// Asserts that each object has all its points, by the numbers of objects of the same cycle.
fn assert_complete(text: &str) {
    let of = |metric: &str| {
        let prefix = format!("{metric}{{");
        points(text).filter(|point| point.starts_with(&prefix)).count()
    };
    for (kind, metrics, least) in KINDS {
        let line = format!("bpf_objects{{kind={kind}}} ");
        let mut counts = points(text).filter_map(|point| point.strip_prefix(&line)?.parse::<usize>().ok());
        let objects = counts.next().unwrap_or_else(|| panic!("no number of objects of kind {kind}"));
        assert!(objects >= least, "{objects} objects of kind {kind}");
        for metric in metrics {
            let found = of(&format!("bpf_{kind}_{metric}"));
            assert_eq!(found, objects, "points of bpf_{kind}_{metric}");
        }
    }
    // Arrays and hashes, of which only the hashes have a fill ratio.
    assert!(of("bpf_map_entries") >= MAPS && of("bpf_map_fill") >= MAPS / 2);
    // Held by this process, once each.
    assert!(of("bpf_program_holder_info") >= PROGRAMS && of("bpf_map_holder_info") >= MAPS);
}

/// The lines that are points.
fn points(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| ["bpf_", "process_"].iter().any(|prefix| line.starts_with(prefix)))
}
