//! A node with as many objects as the busiest have: its points fill requests that no receiver takes in one piece.

use crate::exporter::Exporter;
use crate::http::free_address;
use crate::objects::Herd;
use crate::processes::{SOON, Scratch, eventually};
use crate::received;
use crate::receivers::{Collector, Verbosity};

const PROGRAMS: usize = 7_000;
const MAPS: usize = 9_000;

/// How many points an object of each kind has, and how many objects there are at least.
const KINDS: [(&str, usize, usize); 4] =
    [("program", 9, PROGRAMS), ("map", 4, MAPS), ("link", 1, 0), ("btf", 2, 0)];

/// So long that the clock brings exactly one cycle.
const ONCE: &str = "1h";

pub(crate) fn test() {
    let scratch = Scratch::new();
    let folder = scratch.folder("collector");
    let mut collector = Collector::start(&folder, free_address(), Verbosity::Normal, None);
    let _herd = Herd::new(PROGRAMS, MAPS).expect("the kernel allows as many objects and open files");
    let mut exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, ONCE, &[]);

    let delivery = exporter.settles_with(&[&collector]);
    assert_eq!(collector.accepted(), delivery.accepted);
    assert_eq!((delivery.rejected, delivery.dropped), (0, 0));

    let text = collector.received();
    let requests = received::requests(&text).count() as u64;
    assert!(requests > 1, "all in one request: the node is not big enough to show anything");
    assert_eq!(delivery.successes, requests);
    assert_eq!(points(&text).count() as u64, delivery.accepted);
    assert_complete(&text);

    // The limit is real: in one piece the same node is refused.
    let whole = ["--otlp-max-request-bytes", "268435456"];
    let whole = Exporter::start(&scratch.folder("whole"), collector.receives, ONCE, &whole);
    eventually("a request that is not split is refused", SOON, || match whole.delivery() {
        delivery if delivery.refused > 0 => Ok(()),
        delivery => Err(format!("{delivery:?}")),
    });
    drop(whole);
    assert_eq!(collector.accepted(), delivery.accepted);

    assert!(exporter.process.stop().success());
    assert_eq!(exporter.warnings(), Vec::<String>::new());
    let counted = collector.accepted();
    assert!(collector.process.stop().success());
    assert_eq!(collector.announced(), counted);
}

/// Checks that each object has all its points: the same cycle brought the numbers of objects.
fn assert_complete(text: &str) {
    let mut expected = 0;
    for (kind, points_each, least) in KINDS {
        let line = format!("bpf_objects{{kind={kind}}} ");
        let mut counts = points(text).filter_map(|point| point.strip_prefix(&line)?.parse::<usize>().ok());
        let objects = counts.next().unwrap_or_else(|| panic!("no number of objects of kind {kind}"));
        assert!(objects >= least, "{objects} objects of kind {kind}");
        let prefix = format!("bpf_{kind}_");
        let found = points(text).filter(|point| point.starts_with(&prefix)).count();
        assert_eq!(found, objects * points_each, "points of {objects} objects of kind {kind}");
        expected += found;
    }
    let others = ["bpf_exporter_", "bpf_objects{", "bpf_run_stats_"];
    let of_no_object = |point: &&str| others.iter().any(|prefix| point.starts_with(prefix));
    expected += points(text).filter(of_no_object).count();
    assert_eq!(points(text).count(), expected, "points of objects, of the host, and of the exporter itself");
}

/// The lines that are points.
fn points(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("bpf_"))
}
