//! Many programs at once, by several processes on all CPUs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::kernel::events::RING_BYTES;
use bpf_metrics_exporter::kernel::{Reader, ReaderChoice, ReaderOptions};
use bpf_metrics_exporter::model::{ActorSource, Event, EventKind, EventSource, Kind, ReaderKind, Snapshot};
use test_support::objects::{Map, Program, uapi, wait_until};

use super::loader;

const SOON: Duration = Duration::from_secs(30);

/// Processes, and programs of each: 10,000 in all.
const LOADERS: u32 = 5;
const PROGRAMS: u32 = 2_000;

fn enricher(ring: Option<NonZeroUsize>, events: &Events) -> Enricher {
    let reader = Reader::new(ReaderOptions { events: ring, ..ReaderOptions::default() });
    Enricher::new(reader, EnrichOptions::default(), NameCache::default()).publishing(events.clone())
}

/// Returns the first reading, and a program that is the newest one in it: what is counted has a higher id.
fn first_reading(enricher: &mut Enricher) -> (Snapshot, Program) {
    let newest = loader::one();
    (enricher.read(), newest)
}

/// Returns all loads and unloads that were counted.
fn sums(snapshot: &Snapshot) -> (u64, u64) {
    let activity = snapshot.activity.as_ref().expect("events are followed");
    let sum = |(loads, unloads), count: &bpf_metrics_exporter::model::ProgramActivity| {
        (loads + count.loads, unloads + count.unloads)
    };
    activity.programs.iter().fold((0, 0), sum)
}

/// Runs the loaders to their end. Returns their pids.
fn run(name: &str) -> BTreeSet<u32> {
    let cpus = thread::available_parallelism().expect("Linux says").get();
    let loaders: Vec<_> =
        (0..LOADERS).map(|number| loader::start(name, number as usize % cpus, PROGRAMS)).collect();
    let pids = loaders.iter().map(std::process::Child::id).collect();
    for mut loader in loaders {
        assert!(loader.wait().expect("it is a child of this process").success());
    }
    pids
}

/// Asserts that the counters agree with the ids that the kernel gave out and the programs that are there. Other processes load programs
/// meanwhile: at some moment nothing is in flight.
fn assert_true(enricher: &mut Enricher, first: &Snapshot) {
    let ids = |snapshot: &Snapshot| -> Vec<u64> {
        snapshot.programs.iter().flatten().map(|program| program.facts.id.into()).collect()
    };
    let (before, oldest) = (ids(first).len() as u64, ids(first).last().copied().unwrap_or_default());
    let mut last = String::new();
    wait_until("the sums are the truth", SOON, || {
        // The newest program shows how many were before it. What has no record is counted by the third reading.
        let newest = loader::one();
        let snapshot = (0..3).map(|_| enricher.read()).last().expect("there are three");
        let now = ids(&snapshot);
        let (loads, unloads) = sums(&snapshot);
        let given_out = u64::from(newest.id()) - oldest;
        last = format!(
            "{loads} loads, {unloads} unloads; {given_out} ids, {before} programs before, {} now",
            now.len()
        );
        let is_true = now.last() == Some(&newest.id().into())
            && loads == given_out
            && before + loads - unloads == now.len() as u64;
        Ok(is_true)
    })
    .unwrap_or_else(|error| panic!("{error}: {last}"));
}

pub(crate) fn counted() {
    let events = Events::default();
    let mut enricher = enricher(Some(RING_BYTES), &events);
    let (first, _newest) = first_reading(&mut enricher);
    let (done, mut subscription) = (Arc::new(AtomicBool::new(false)), events.subscribe(None));
    let is_done = Arc::clone(&done);
    let collect = thread::spawn(move || {
        let (mut all, mut missed): (Vec<Arc<Event>>, u64) = (Vec::new(), 0);
        loop {
            let was_done = is_done.load(Ordering::Acquire);
            let batch = subscription.take(usize::MAX);
            missed += batch.missed;
            let is_empty = batch.events.is_empty();
            all.extend(batch.events);
            if was_done && is_empty {
                return (all, missed);
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let name = format!("storm-{}", std::process::id());
    // Readings that list programs while others come and go.
    let pids = thread::scope(|scope| {
        let loaders = scope.spawn(|| run(&name));
        while !loaders.is_finished() {
            enricher.read();
        }
        loaders.join().expect("it does not panic")
    });
    assert_true(&mut enricher, &first);
    done.store(true, Ordering::Release);
    let (all, missed) = collect.join().expect("it does not panic");
    let snapshot = enricher.read();
    let activity = snapshot.activity.as_ref().expect("events are followed");
    let lost = activity.lost.expect("this kernel has the records");

    let executable = std::env::current_exe().expect("Linux says");
    let executable = executable.to_str().expect("cargo's directories have names in UTF-8");
    let of_loaders = |event: &&Arc<Event>| {
        let pid = event.actor.as_ref().and_then(|actor| actor.pid);
        event.kind == EventKind::ProgramLoad && pid.is_some_and(|pid| pids.contains(&pid))
    };
    let loads: Vec<_> = all.iter().filter(of_loaders).collect();
    let expected = u64::from(LOADERS * PROGRAMS);
    if lost + missed == 0 {
        assert_eq!(loads.len() as u64, expected, "each load has its actor");
    }
    assert!(loads.len() as u64 >= expected / 10, "the ring is large: {} loads, {lost} lost", loads.len());
    assert!(
        loads.len() as u64 + lost + missed >= expected,
        "{} loads, {lost} lost, {missed} missed",
        loads.len()
    );
    let mut by_source: BTreeMap<&str, u64> = BTreeMap::new();
    for load in &loads {
        let actor = load.actor.as_ref().expect("it has a pid");
        *by_source.entry(actor.known_by.as_str()).or_default() += 1;
        assert_eq!(load.source, EventSource::Kernel);
        match &actor.identity {
            // A process can be seen before it has set its name.
            Some(identity) => {
                let process = identity.process.as_ref().expect("it is one");
                assert!(pids.contains(&process.pid), "{process:?}");
                assert_eq!(actor.executable.as_deref(), Some(executable), "{actor:?}");
                assert_eq!(actor.parent, Some(std::process::id()), "{actor:?}");
            }
            None => assert_eq!(actor.known_by, ActorSource::Unknown),
        }
    }
    let unknown = by_source.get("unknown").copied().unwrap_or_default();
    assert!(unknown * 10 <= loads.len() as u64, "most are looked up in time: {by_source:?}");

    // This process holds programs while it looks at them, and may be the last that does.
    let own =
        |event: &&Arc<Event>| event.actor.as_ref().is_some_and(|actor| actor.pid == Some(std::process::id()));
    assert!(all.iter().filter(own).all(|event| event.kind == EventKind::ProgramLoad), "{all:?}");

    let mut loaded_at = HashMap::new();
    for event in all.iter().filter(|event| event.source == EventSource::Kernel) {
        let id = event.subject.id.expect("a program has an id");
        if event.kind == EventKind::ProgramLoad {
            assert_eq!(loaded_at.insert(id, event.at), None, "{id} is loaded once");
        } else if let Some(before) = loaded_at.get(&id) {
            assert!(*before < event.at, "{id} is unloaded later");
        } else {
            assert!(lost + missed > 0 || event.subject.since.is_some(), "{event:?} without a load");
        }
    }
}

/// With a ring of one page, and a reading only now and then.
pub(crate) fn lost() {
    let events = Events::default();
    let mut enricher = enricher(NonZeroUsize::new(1), &events);
    let (first, _newest) = first_reading(&mut enricher);
    run(&format!("lossy-{}", std::process::id()));
    assert_true(&mut enricher, &first);
    let snapshot = enricher.read();
    let lost = snapshot.activity.as_ref().and_then(|activity| activity.lost);
    assert!(lost.is_some_and(|lost| lost > 0), "the ring was too small: {lost:?}");
}

/// As without the right to read the kernel's records.
pub(crate) fn compared() {
    let events = Events::default();
    let mut enricher = enricher(None, &events);
    let (first, _newest) = first_reading(&mut enricher);
    run(&format!("unseen-{}", std::process::id()));
    assert_true(&mut enricher, &first);
    assert_eq!(enricher.read().activity.as_ref().map(|activity| activity.lost), Some(None));
}

/// Programs and maps that were gone before the exporter started count for nothing, also where no iterator is the newest of all.
pub(crate) fn before() {
    let mut gone = loader::one();
    for _ in 0..50 {
        gone = loader::one();
    }
    let newest_program = gone.id();
    drop(gone);
    let newest_map = Map::ready(uapi::map_type::ARRAY, "gone").expect("root may").id();
    let options = ReaderOptions {
        reader: ReaderChoice::Only(ReaderKind::Walk),
        events: None,
        ..ReaderOptions::default()
    };
    let mut enricher = Enricher::new(Reader::new(options), EnrichOptions::default(), NameCache::default())
        .publishing(Events::default());
    enricher.read();
    let (program, map) = (loader::one(), Map::ready(uapi::map_type::ARRAY, "new").expect("root may"));
    let snapshot = (0..3).map(|_| enricher.read()).last().expect("there are three");
    let since = u64::from(program.id() - newest_program);
    let (loads, _) = sums(&snapshot);
    assert!((1..=since).contains(&loads), "{loads} loads, {since} ids");
    let objects = &snapshot.activity.as_ref().expect("events are followed").objects;
    let maps = objects.iter().find(|objects| objects.kind == Kind::Map).expect("they are counted");
    let since = u64::from(map.id() - newest_map);
    assert!((1..=since).contains(&maps.created), "{maps:?}, {since} ids");
}
