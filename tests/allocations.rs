//! Allocations of an encoding once all series are cached: some for each request, none for a point. A binary apart from the others, since it
//! replaces the global allocator.

use std::sync::Arc;

use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{BootTime, Map, MapFacts, ObjectType, Snapshot, WallClock};

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
            first_seen: BootTime::default(),
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
        ..Snapshot::begun(BootTime::default(), BootTime::default(), WallClock::default())
    }
}

/// Returns the allocations and the points of the third encoding of an unchanged host.
fn steady(maps: u32) -> (u64, u64) {
    let snapshot = snapshot(maps);
    let sample = Sample::new(&snapshot);
    let mut encoder = Encoder::new(&[], usize::MAX);
    drop(encoder.encode(sample));
    drop(encoder.encode(sample));
    let mut points = 0;
    let info = allocation_counter::measure(|| {
        points = encoder.encode(sample).iter().map(|request| request.items.count).sum();
    });
    (info.count_total, points)
}

#[test]
fn points_need_no_allocation() {
    let (few, few_points) = steady(10);
    let (many, many_points) = steady(10_000);
    assert_eq!(many_points - few_points, 7 * 9_990);
    // The buffer of a request above the limit is not kept, which saves an allocation.
    assert!(many <= few, "{few} for {few_points} points, {many} for {many_points}");
}

#[test]
fn buffers_of_delivered_requests_are_reused() {
    const MAX_REQUEST: usize = 64 << 10;
    let snapshot = snapshot(10_000);
    let sample = Sample::new(&snapshot);
    let mut encoder = Encoder::new(&[], MAX_REQUEST);
    encoder.encode_each(sample, || (), drop);
    let mut bytes = 0;
    let info = allocation_counter::measure(|| {
        encoder.encode_each(sample, || (), |request| bytes += request.bytes.len());
    });
    assert!(bytes > 50 * MAX_REQUEST, "{bytes} bytes in all");
    assert!(info.bytes_max < 2 * MAX_REQUEST as u64, "{} bytes at most", info.bytes_max);
}
