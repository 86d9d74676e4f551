//! Series whose value does not change are sent once in an interval, and a receiver still ends with what it would have without that.

use std::collections::BTreeMap;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{BootTime, Snapshot};
use proptest::collection::vec;
use proptest::prelude::*;
use test_support::points::{Distribution, Labels, Point, decode_all};
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

    fn values(&self) -> Vec<(&(String, Labels), &Last)> {
        self.0.iter().map(|(series, (last, _))| (series, last)).collect()
    }
}

/// A reading: which objects there are, how long after the last one it is, and whether it is lost.
#[derive(Clone, Debug)]
struct Step {
    second: bool,
    without_links: bool,
    pause: u64,
    lost: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let pause = 1..=PAUSE.as_secs();
    (any::<bool>(), prop::bool::weighted(0.1), pause, prop::bool::weighted(0.2))
        .prop_map(|(second, without_links, pause, lost)| Step { second, without_links, pause, lost })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_receiver_ends_with_the_same(
        first in snapshots::snapshot(),
        second in snapshots::snapshot(),
        steps in vec(step(), 1..20),
    ) {
        let (mut whole, mut sparing) = (encoder(None), encoder(Some(INTERVAL)));
        let (mut expected, mut received) = (Received::default(), Received::default());
        let mut now = 1_000_000;
        let mut was_unread = false;
        for step in steps {
            now += step.pause;
            let objects = if step.second { &second } else { &first };
            let mut snapshot =
                Snapshot { clock: objects.clock, taken_at: BootTime::from_secs(now), ..objects.clone() };
            if step.without_links {
                snapshot.links = None;
            }
            let all = decode_all(&whole.encode(Sample::new(&snapshot)));
            let some = decode_all(&sparing.encode(Sample::new(&snapshot)));
            prop_assert!(some.len() <= all.len());
            was_unread |= step.without_links;
            if step.lost {
                sparing.send_all();
                continue;
            }
            let time = all.iter().map(|point| point.time).max();
            expected.take(all);
            received.take(some);
            prop_assert_eq!(received.values(), expected.values());
            let oldest = time.map(|time| time - u64::try_from((INTERVAL + PAUSE).as_nanos()).expect("it is short"));
            for (series, (_, time)) in received.0.iter().filter(|_| !was_unread) {
                let is_current = expected.0.get(series).is_some_and(|(_, current)| Some(*current) < oldest);
                prop_assert!(is_current || Some(*time) >= oldest, "{:?} is too old", series);
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
