//! What a reading costs for each object, with few objects and with many: the first reading, which learns everything, and those
//! after it, which find what they know.

mod common;
#[path = "../tests/support/objects/mod.rs"]
mod objects;

use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::Snapshot;
use common::{each, least, report};
use objects::Herd;

fn main() {
    if !common::may_make_objects() {
        return;
    }
    report(format_args!("cost of a reading, half programs and half maps"));
    report(format_args!(
        "{:>8} {:>16} {:>16} {:>14} {:>14}",
        "objects", "first, ns each", "later, ns each", "first/later", "later/100"
    ));
    let mut of_100 = None;
    for count in [100, 1_000, 10_000] {
        let herd = Herd::new(count / 2, count / 2).expect("objects can be made");
        let runs = if count > 5_000 { 15 } else { 100 };
        let first = least(runs, Reader::default, |mut reader| (reader.read(), reader));
        let mut reader = Reader::default();
        let objects = total(&reader.read());
        let later = least(runs, || (), |()| reader.read());
        drop(herd);
        let (first, later) = (each(first, objects), each(later, objects));
        let of_100 = *of_100.get_or_insert(later);
        report(format_args!(
            "{objects:>8} {first:>16.0} {later:>16.0} {:>14.2} {:>14.2}",
            first / later,
            later / of_100
        ));
    }
}

/// How many objects were read.
fn total(snapshot: &Snapshot) -> usize {
    snapshot.counts().iter().map(|count| count.count).sum()
}
