//! What an encoding costs in allocations once everything has been seen: some for each request, none for a point.

use std::sync::Arc;

use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{Map, MapFacts, ObjectType, Snapshot};
use jiff::Timestamp;

fn snapshot(maps: u32) -> Snapshot {
    let map = |id| Map {
        facts: Arc::new(MapFacts {
            id,
            name: format!("map_{id}"),
            map_type: ObjectType { number: 1, name: Some("hash".into()) },
            key_size: 4,
            value_size: 8,
            max_entries: 100,
            flags: 0,
            btf_id: None,
            first_seen: Timestamp::UNIX_EPOCH,
        }),
        frozen: Some(false),
        mem: Some(4096),
        entries: Some(7),
        backlog: None,
        memory_cgroup: None,
        owner: None,
    };
    Snapshot {
        programs: Some(Vec::new()),
        maps: Some((1..=maps).map(map).collect()),
        ..Snapshot::begun(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH)
    }
}

/// Allocations of the third encoding of a host that does not change, and its points.
fn steady(maps: u32) -> (u64, u64) {
    let snapshot = snapshot(maps);
    let sample = Sample { snapshot: &snapshot, exporter: None };
    let mut encoder = Encoder::new(&[], usize::MAX);
    drop(encoder.encode(sample));
    drop(encoder.encode(sample));
    let mut points = 0;
    let info = allocation_counter::measure(|| {
        points = encoder.encode(sample).iter().map(|request| request.points).sum();
    });
    (info.count_total, points)
}

#[test]
fn a_point_costs_no_allocation() {
    let (few, few_points) = steady(10);
    let (many, many_points) = steady(10_000);
    assert_eq!(many_points - few_points, 7 * 9_990);
    // Of a request that is too long nothing is kept, which takes one less.
    assert!(many <= few, "{few} for {few_points} points, {many} for {many_points}");
}

#[test]
fn a_request_that_is_delivered_gives_its_memory_to_the_next() {
    const MAX_REQUEST: usize = 64 << 10;
    let snapshot = snapshot(10_000);
    let sample = Sample { snapshot: &snapshot, exporter: None };
    let mut encoder = Encoder::new(&[], MAX_REQUEST);
    encoder.encode_each(sample, drop);
    let mut bytes = 0;
    let info =
        allocation_counter::measure(|| encoder.encode_each(sample, |request| bytes += request.bytes.len()));
    assert!(bytes > 50 * MAX_REQUEST, "{bytes} bytes in all");
    assert!(info.bytes_max < 2 * MAX_REQUEST as u64, "{} bytes at the most", info.bytes_max);
}
