//! Series whose value does not change are sent once in an interval, and a receiver still ends with what it would have without that.

use std::collections::BTreeMap;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{BootTime, Snapshot};
use proptest::collection::vec;
use proptest::prelude::*;
use test_support::points::{Distribution, Labels, Point, decode_all, unread};
use test_support::snapshots;

const INTERVAL: Duration = Duration::from_mins(1);

/// The longest time between two readings.
const PAUSE: Duration = Duration::from_secs(40);

fn encoder(unchanged: Option<Duration>) -> Encoder {
    let resource = [("service.name".to_owned(), "test".to_owned())];
    Encoder::new(&resource, 3_000).with_unchanged_interval(unchanged)
}

/// What a receiver has of each series: start, value, and time of the last point.
#[derive(Default)]
struct Received(BTreeMap<(String, Labels), (Last, u64)>);

type Last = (u64, f64, Option<Distribution>);

impl Received {
    fn take(&mut self, points: Vec<Point>) {
        for point in points {
            let series = (point.metric, point.labels);
            match point.value {
                Some(value) => {
                    self.0.insert(series, ((point.start, value, point.distribution), point.time));
                }
                None => {
                    self.0.remove(&series);
                }
            }
        }
    }
}

/// What is read: the same host after this and that has happened to it, or another one.
#[derive(Clone, Copy, Debug)]
enum Reading {
    First,
    /// Every second program has run once more, and every second map has another entry.
    Moved,
    /// Runs and entries are not known.
    Unknown,
    /// The first half of the programs and maps is gone.
    Fewer,
    /// The links could not be read.
    WithoutLinks,
    /// The clock was set.
    ClockSet,
    Other,
}

/// A reading, how long after the last one it is, whether it is lost, and how many readings later that is known.
#[derive(Clone, Debug)]
struct Step {
    reading: Reading,
    pause: u64,
    lost: bool,
    known_after: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let reading = prop_oneof![
        8 => Just(Reading::First),
        4 => Just(Reading::Moved),
        2 => Just(Reading::Unknown),
        2 => Just(Reading::Fewer),
        1 => Just(Reading::WithoutLinks),
        1 => Just(Reading::ClockSet),
        1 => Just(Reading::Other),
    ];
    (reading, 1..=PAUSE.as_secs(), prop::bool::weighted(0.2), 0..3_usize)
        .prop_map(|(reading, pause, lost, known_after)| Step { reading, pause, lost, known_after })
}

fn read(first: &Snapshot, other: &Snapshot, reading: Reading, now: u64) -> Snapshot {
    let mut snapshot = if let Reading::Other = reading { other.clone() } else { first.clone() };
    snapshot.taken_at = BootTime::from_secs(now);
    let (programs, maps) = (snapshot.programs.as_mut(), snapshot.maps.as_mut());
    match reading {
        Reading::First | Reading::Other => {}
        Reading::Moved => {
            for program in programs.into_iter().flatten().step_by(2) {
                program.runs = program.runs.map(|runs| runs.wrapping_add(1));
            }
            for map in maps.into_iter().flatten().step_by(2) {
                map.entries = map.entries.map(|entries| entries.wrapping_add(1));
            }
        }
        Reading::Unknown => {
            programs.into_iter().flatten().for_each(|program| program.runs = None);
            maps.into_iter().flatten().for_each(|map| map.entries = None);
        }
        Reading::Fewer => {
            if let Some(programs) = programs {
                programs.drain(..programs.len() / 2);
            }
            if let Some(maps) = maps {
                maps.drain(..maps.len() / 2);
            }
        }
        Reading::WithoutLinks => snapshot.links = None,
        Reading::ClockSet => snapshot.clock = other.clock,
    }
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Once every loss is known, a receiver has what it would have from one that sends everything and loses nothing, but for the
    /// ends of series that were lost.
    #[test]
    fn a_receiver_ends_with_the_same(
        first in snapshots::snapshot(),
        other in snapshots::snapshot(),
        steps in vec(step(), 1..30),
    ) {
        let (mut whole, mut sparing) = (encoder(None), encoder(Some(INTERVAL)));
        let (mut expected, mut received) = (Received::default(), Received::default());
        // Readings until a loss is known, for each that is not.
        let mut unknown: Vec<usize> = Vec::new();
        let (mut now, mut any_lost) = (1_000_000, false);
        for step in steps {
            now += step.pause;
            let snapshot = read(&first, &other, step.reading, now);
            if unknown.contains(&0) {
                sparing.send_all();
            }
            unknown.retain(|left| *left > 0);
            for left in &mut unknown {
                *left -= 1;
            }
            expected.take(decode_all(&whole.encode(Sample::new(&snapshot))));
            let sent = decode_all(&sparing.encode(Sample::new(&snapshot)));
            if step.lost {
                any_lost = true;
                unknown.push(step.known_after);
                continue;
            }
            received.take(sent);
            if unknown.is_empty() {
                // What was lost of a table that cannot be read now comes with the next reading of it.
                let unread = unread(Sample::new(&snapshot));
                for (series, (last, _)) in expected.0.iter().filter(|((metric, _), _)| !unread.contains(&**metric)) {
                    let found = received.0.get(series).map(|(last, _)| last);
                    prop_assert_eq!(found, Some(last), "{:?}", series);
                }
                prop_assert!(any_lost || received.0.len() == expected.0.len());
            }
        }
    }

    /// Whatever the distances of readings: a point is never older than the turn and the distance to the reading before.
    #[test]
    fn no_series_is_without_a_point_for_longer(
        snapshot in snapshots::snapshot(),
        pauses in vec(1..=PAUSE.as_secs(), 1..20),
    ) {
        let mut encoder = encoder(Some(INTERVAL));
        let mut sent: BTreeMap<(String, Labels), u64> = BTreeMap::new();
        let (mut now, mut longest) = (1_000_000, 0);
        for pause in pauses {
            now += pause;
            longest = longest.max(pause);
            let snapshot = Snapshot { taken_at: BootTime::from_secs(now), ..snapshot.clone() };
            for point in decode_all(&encoder.encode(Sample::new(&snapshot))) {
                if point.value.is_some() {
                    sent.insert((point.metric, point.labels), now);
                }
            }
            for (series, last) in &sent {
                prop_assert!(now - last < INTERVAL.as_secs() + longest, "{:?} had its last point at {}", series, last);
            }
        }
    }

    #[test]
    fn what_never_changes_is_sent_once_in_an_interval(snapshot in snapshots::snapshot()) {
        let mut encoder = encoder(Some(INTERVAL));
        let mut points: BTreeMap<(String, Labels), usize> = BTreeMap::new();
        // A multiple of it: the first point of each series, and one in each of three intervals.
        for second in 0..=3 * INTERVAL.as_secs() {
            let snapshot = Snapshot { taken_at: BootTime::from_secs(1_000_000 + second), ..snapshot.clone() };
            let sent = decode_all(&encoder.encode(Sample::new(&snapshot)));
            for point in sent.into_iter().filter(|point| point.distribution.is_none()) {
                prop_assert!(point.value.is_some());
                *points.entry((point.metric, point.labels)).or_default() += 1;
            }
        }
        for (series, count) in points {
            // Some are about the reading itself, and change with its time.
            let is_constant = !series.0.contains("_age") && !series.0.contains("time");
            prop_assert!(!is_constant || count == 4, "{:?} was sent {} times", series, count);
        }
    }
}
