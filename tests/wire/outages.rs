//! A receiver that is unavailable for a while: the exporter keeps its points, logs that once, and delivers them.

use std::net::SocketAddr;
use std::path::Path;

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::received;
use crate::receivers::{Collector, Verbosity};
use test_support::http::free_address;
use test_support::objects::Herd;

const LOST: &str = "; retrying";
const FOUND: &str = "recovered after";

/// Enough for an outage even while other tests make thousands of objects.
const ROOM: [&str; 2] = ["--otlp-backlog-bytes", "1073741824"];

pub(crate) fn restart() {
    let scratch = Scratch::new();
    let address = free_address();
    let _herd = Herd::new(20, 20).expect("the kernel takes a small herd");
    let mut first = start(&scratch.folder("first"), address);
    let mut exporter = Exporter::start(&scratch.folder("exporter"), address, "1s", &ROOM);
    // While nothing is in flight: a request that is cut off may arrive twice.
    exporter.settles_with(&[&first]);
    assert!(first.process.stop().success());
    wait_for_backlog(&mut exporter);
    let second = start(&scratch.folder("second"), address);
    assert_recovers(&mut exporter, &[&first, &second]);
}

pub(crate) fn early_start() {
    let scratch = Scratch::new();
    let address = free_address();
    let _herd = Herd::new(20, 20).expect("the kernel takes a small herd");
    let mut exporter = Exporter::start(&scratch.folder("exporter"), address, "1s", &ROOM);
    wait_for_backlog(&mut exporter);
    let collector = start(&scratch.folder("collector"), address);
    assert_recovers(&mut exporter, &[&collector]);
}

fn start(folder: &Path, address: SocketAddr) -> Collector {
    Collector::start(folder, address, Verbosity::Normal, None)
}

/// Waits until the exporter has noticed, and its backlog grows from cycle to cycle. Its endpoint works during that.
fn wait_for_backlog(exporter: &mut Exporter) {
    exporter.process.says(LOST);
    let mut seen = vec![exporter.delivery().backlog];
    eventually("the backlog grows, time and again", SOON, || {
        let backlog = exporter.delivery().backlog;
        let last = seen[seen.len() - 1];
        assert!(backlog >= last, "{} bytes that were not delivered are gone", last - backlog);
        if backlog > last {
            seen.push(backlog);
        }
        if seen.len() > 3 { Ok(()) } else { Err(format!("it was {seen:?} bytes")) }
    });
}

/// Waits until all is delivered that was kept, and checks that every point arrived once and that the outage was spoken of
/// once.
fn assert_recovers(exporter: &mut Exporter, collectors: &[&Collector]) {
    exporter.process.says(FOUND);
    let last = collectors.last().expect("one is there in the end");
    // The first cycle that was kept found nothing left to deliver, and so does the first after all is delivered.
    eventually("a cycle begins with nothing left to deliver", SOON, || {
        match quiet_cycles(&last.received()).len() {
            0 | 1 => Err("none did since the outage".to_owned()),
            _ => Ok(()),
        }
    });
    let delivery = exporter.delivery();
    assert_eq!((delivery.rejected, delivery.dropped), (0, 0));
    let received: String = collectors.iter().map(|collector| collector.received()).collect();
    for (accepted, arrived) in quiet_cycles(&received) {
        assert_eq!(accepted, arrived, "points accepted, as a cycle says, and points that arrived before it");
    }
    assert!(exporter.process.stop().success());
    let warnings = exporter.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains(LOST), "{warnings:?}");
    assert_eq!(exporter.process.lines(FOUND).len(), 1, "it came back once");
}

/// The cycles that were encoded when nothing was left to deliver: how many points were accepted until then, as they say
/// themselves, and how many arrived before them.
fn quiet_cycles(text: &str) -> Vec<(u64, u64)> {
    let value = |request: &str, series: &str| -> Option<u64> {
        request.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    };
    let (mut quiet, mut arrived, mut before) = (Vec::new(), 0, 0);
    for request in received::requests(text) {
        arrived += received::announced(request);
        // The last metric of a cycle, which may be several requests long while other tests make many objects.
        let Some(backlog) = value(request, "bpf_exporter_otlp_backlog_bytes{}") else { continue };
        let accepted = value(request, "bpf_exporter_otlp_points{outcome=accepted}");
        quiet.extend(accepted.filter(|_| backlog == 0).map(|accepted| (accepted, before)));
        before = arrived;
    }
    quiet
}
