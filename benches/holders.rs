//! Cost of reading the holders of 500 processes with 100 descriptors each: the iterator over files compared with `/proc`, and how each
//! grows with the processes.

use std::time::Duration;
use test_support::{holding, measure};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::kernel::{self, Reader, ReaderChoice};
use bpf_metrics_exporter::model::{Kind, Part, ReaderKind};
use test_support::holding::{OF_MAP, holder};
use test_support::measure::{ratio, report, runs};
use test_support::objects::{Map, uapi};
use test_support::running::Running;

const DESCRIPTORS: usize = 100;

/// Number of readings.
const RUNS: u32 = 20;

fn main() {
    holding::hold_if_asked();
    if !measure::may_make_objects() {
        return;
    }
    let map = Map::ready(uapi::map_type::ARRAY, "held").expect("it can be made");
    let mut processes: Vec<Running> = Vec::new();
    report(format_args!("holders, of processes with {DESCRIPTORS} descriptors, {OF_MAP} of them of a map"));
    report(format_args!("{:>10} {:>12} {:>12} {:>12}", "processes", "/proc, us", "iter, us", "/proc / iter"));
    for count in [50, 500] {
        let missing = count - processes.len();
        processes.extend((0..missing).map(|_| holder(map.fd(), DESCRIPTORS)));
        let [walk, iter] = [ReaderKind::Walk, ReaderKind::Iter].map(|backend| cost(backend, &map, count));
        report(format_args!(
            "{count:>10} {:>12.0} {:>12.0} {:>12.1}",
            measure::nanoseconds(walk) / 1e3,
            measure::nanoseconds(iter) / 1e3,
            ratio(walk, iter),
        ));
    }
}

/// Returns the shortest time to read the holders. Names of executables are cached after the first reading.
fn cost(backend: ReaderKind, map: &Map, count: usize) -> Duration {
    let options =
        kernel::ReaderOptions { reader: ReaderChoice::Only(backend), ..kernel::ReaderOptions::default() };
    let mut enricher = Enricher::new(Reader::new(options), EnrichOptions::default(), NameCache::default());
    let taken = (0..runs(RUNS)).map(|_| {
        let snapshot = enricher.read();
        let holders = snapshot.holders.as_ref().expect("root may read them").of(Kind::Map);
        let found = holders.iter().filter(|holder| holder.id == map.id()).count();
        assert_eq!(found, count, "each process is found");
        let collector = snapshot.collectors.iter().find(|collector| collector.part == Part::Holder);
        collector.expect("its duration is reported").duration
    });
    taken.min().expect("there are several")
}
