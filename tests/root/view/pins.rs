//! Pins in a bpffs of another mount namespace.

use std::fs;
use std::io::{BufRead as _, BufReader};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::model::{Feature, ReaderKind, Reason, Snapshot};
use test_support::objects::wait_until;
use test_support::readers;
use test_support::running::Running;

use super::helper::{Limit, read_with};
use super::processes::{assert_nothing_concluded, backend, reason};
use crate::owners::SOON;
use crate::pins::{again, directory};

fn has_pin(snapshot: &Snapshot, id: u32) -> bool {
    snapshot.pins.iter().flatten().any(|pin| pin.id == id)
}

pub(crate) fn unreachable() {
    let at = directory("unreachable");
    fs::create_dir(&at).expect("it can be made");
    // Mounts a bpffs that only it sees, and pins a map there.
    let mut other = Running(again("mounts", &at).spawn().expect("it starts"));
    let mut line = String::new();
    BufReader::new(other.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("it writes the id");
    let id: u32 = line.trim().parse().expect("a number");

    let mut outside = Enricher::new(readers::best(), EnrichOptions::default(), NameCache::default());
    if backend(&outside.read()) == Some(ReaderKind::Iter) {
        // Other tests may have one that is out of reach.
        wait_until("every bpffs is visited", SOON, || {
            let snapshot = outside.read();
            assert!(has_pin(&snapshot, id), "it is reached through its process");
            Ok(snapshot.sees_all(Feature::Pins))
        })
        .expect("each is");
    }

    let readings = read_with(Limit::PidNamespace);
    assert_eq!(reason(&readings.walk, Feature::Pins), Some(Reason::PidNamespace));
    if backend(&readings.iterators) == Some(ReaderKind::Iter) {
        assert_eq!(reason(&readings.iterators, Feature::Pins), Some(Reason::MountNamespace));
    }
    for snapshot in [&readings.iterators, &readings.walk] {
        assert!(!has_pin(snapshot, id));
        assert_nothing_concluded(snapshot);
    }
    drop(other);
    fs::remove_dir(&at).expect("it is ours");
}
