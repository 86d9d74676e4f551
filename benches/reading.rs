//! Cost of a reading per object, with few objects and with many: by iterators, the first reading and those with a cache, and by the id
//! walk with the same content. And the cost of a map with a million entries.

use std::time::Duration;
use test_support::measure;

use bpf_metrics_exporter::kernel::{Reader, ReaderChoice, ReaderOptions};
use bpf_metrics_exporter::model::{Kind, ReaderKind, Snapshot};
use test_support::measure::{each, least, ratio, report};
use test_support::objects::{Herd, Map};

fn main() {
    if !measure::may_make_objects() {
        return;
    }
    report(format_args!("cost of a reading, half programs and half maps, all metrics on"));
    report(format_args!(
        "{:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "objects", "walk, ns", "first, ns", "iter, ns", "walk/iter", "first/iter", "iter/100"
    ));
    let mut of_100 = None;
    for count in [100, 1_000, 20_000] {
        let herd = Herd::without_program_fds(count / 2, count / 2).expect("objects can be made");
        let runs = if count > 5_000 { 15 } else { 100 };
        let mut iter = reader(ReaderKind::Iter);
        let first = {
            // A reader is expensive to make: only its first reading is timed.
            let readers = if count > 5_000 { 5 } else { 10 };
            least(readers, || reader(ReaderKind::Iter), |mut reader| (reader.read(), reader))
        };
        let objects = total(&iter.read());
        let later = least(runs, || (), |()| iter.read());
        drop(iter);
        let walk = steady(ReaderKind::Walk, runs);
        drop(herd);
        let of_100 = *of_100.get_or_insert(each(later, objects));
        report(format_args!(
            "{objects:>8} {:>10.0} {:>10.0} {:>10.0} {:>10.1} {:>10.1} {:>10.2}",
            each(walk, objects),
            each(first, objects),
            each(later, objects),
            ratio(walk, later),
            ratio(first, later),
            each(later, objects) / of_100,
        ));
    }
    entries();
}

/// Cost of a million entries: none, since they are not walked.
fn entries() {
    const MILLION: u32 = 1_000_000;
    let _herd = Herd::new(500, 500).expect("objects can be made");
    let mut reader = reader(ReaderKind::Iter);
    reader.read();
    let without = least(300, || (), |()| reader.read());
    let hash = Map::hash_of(MILLION, 0).expect("a map can be made");
    let found = reader.read().maps.into_iter().flatten().find(|map| map.facts.id == hash.id());
    assert_eq!(found.expect("it is found").entries, Some(MILLION.into()));
    let with = least(300, || (), |()| reader.read());
    report(format_args!(
        "a reading of 1,000 objects and a hash, with a million entries / without: {:.3}",
        ratio(with, without)
    ));
}

fn steady(kind: ReaderKind, runs: u32) -> Duration {
    let mut reader = reader(kind);
    reader.read();
    least(runs, || (), |()| reader.read())
}

fn reader(kind: ReaderKind) -> Reader {
    Reader::new(ReaderOptions { reader: ReaderChoice::Only(kind), ..ReaderOptions::default() })
}

/// How many objects were read.
fn total(snapshot: &Snapshot) -> usize {
    Kind::ALL.map(|kind| snapshot.ids(kind).len()).iter().sum()
}
