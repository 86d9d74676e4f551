//! What only the comparison of two readings shows.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::kernel::{Reader, ReaderOptions};
use bpf_metrics_exporter::model::{Event, EventKind, EventSource, Kind};
use test_support::objects::{Cgroup, Link, Map, Mount, Program, uapi, wait_until};

use crate::pins::directory;

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn found() {
    let events = Events::default();
    let reader = Reader::new(ReaderOptions::default());
    let hooks = Some(Duration::from_millis(1));
    let options = EnrichOptions { hooks, wait_for_hooks: true, ..EnrichOptions::default() };
    let mut enricher = Enricher::new(reader, options, NameCache::default()).publishing(events.clone());
    let directory = directory("events");
    fs::create_dir(&directory).expect("it can be made");
    let mount = Mount::visible(c"bpf", &directory).expect("it can be mounted");
    let cgroup = Cgroup::new().expect("root may make one");
    // What is counted has higher ids than these.
    let _newest =
        (Map::ready(uapi::map_type::ARRAY, "newest").expect("root may"), Link::iter().expect("root may"));
    let first = enricher.read();
    let mut subscription = events.subscribe(None);
    let mut read = || -> Vec<Arc<Event>> {
        let snapshot = enricher.read();
        let objects = &snapshot.activity.as_ref().expect("events are followed").objects;
        for kind in [Kind::Map, Kind::Link] {
            let counted = objects.iter().find(|objects| objects.kind == kind).expect("it is counted");
            let (before, now) = (first.ids(kind), snapshot.ids(kind));
            let highest = now.last().max(before.last()).copied().unwrap_or_default();
            let least = u64::from(highest - before.last().copied().unwrap_or_default());
            assert!(counted.created >= least, "{counted:?}");
            assert_eq!(before.len() as u64 + counted.created - counted.destroyed, now.len() as u64);
        }
        subscription.take(usize::MAX).events
    };
    let has = |events: &[Arc<Event>], kind: EventKind, id: u32| {
        let of = |event: &&Arc<Event>| event.kind == kind && event.subject.id == Some(id);
        let found: Vec<_> = events.iter().filter(of).collect();
        assert!(found.len() <= 1, "{found:?}");
        found.first().is_some_and(|event| {
            assert_eq!(event.source, EventSource::Comparison);
            assert!(event.after.is_some_and(|after| after < event.at));
            assert!(event.owner.is_some(), "this process: {event:?}");
            true
        })
    };
    let map = Map::ready(uapi::map_type::ARRAY, "appeared").expect("root may");
    let link = Link::iter().expect("root may");
    let filter = Program::ready(uapi::program_type::CGROUP_SKB, "attached").expect("root may");
    filter.attach_to_cgroup(&cgroup).expect("root may");
    let pin = map.pin(&directory.join("pinned")).expect("root may");
    let [map_id, link_id, filter_id] = [map.id(), link.id(), filter.id()];
    let appeared = [
        (EventKind::MapCreate, map_id),
        (EventKind::LinkAttach, link_id),
        (EventKind::PinCreate, map_id),
        (EventKind::HookAttach, filter_id),
    ];
    let seen = read();
    for (kind, id) in appeared {
        assert!(has(&seen, kind, id), "{kind:?} {id}: {seen:#?}");
    }
    let seen = read();
    assert!(appeared.iter().all(|&(kind, id)| !has(&seen, kind, id)), "once");
    drop(pin);
    drop((map, link, cgroup));
    let mut disappeared = vec![
        (EventKind::MapDestroy, map_id),
        (EventKind::LinkDetach, link_id),
        (EventKind::PinRemove, map_id),
        (EventKind::HookDetach, filter_id),
    ];
    // The kernel detaches from a cgroup that was removed in its own time.
    wait_until("all are gone", SOON, || {
        let seen = read();
        disappeared.retain(|&(kind, id)| !has(&seen, kind, id));
        Ok(disappeared.is_empty())
    })
    .expect("each is told");
    drop(mount);
    fs::remove_dir(&directory).expect("it is empty");
}
