//! What counters and histograms had when the receiver last acknowledged them, for points that are the difference.
//! Entry point: [`Deltas`].

use std::collections::HashMap;

use super::point::Point;
use super::request::nanoseconds;
use crate::metrics::{Birth, Series, Value};
use crate::model::{BootTime, Histogram, WallClock};

/// The counters of all objects.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    objects: HashMap<ObjectKey, ObjectCounters>,
    /// When the objects of each entity were last read.
    read_at: HashMap<usize, BootTime>,
    /// Number of the sample.
    sample: u64,
    /// The growth of the last histogram.
    growth: Histogram,
}

/// How many samples an object can be missing in without being forgotten: a reading may not find it in time.
const KEPT_SAMPLES: u64 = 2;

/// A sample.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) exporter_since: BootTime,
    pub(super) taken_at: BootTime,
    pub(super) clock: WallClock,
}

/// What has counters: labels that describe an object may change without another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ObjectKey {
    entity: usize,
    id: u64,
    birth: Option<Birth>,
}

#[derive(Debug, Default)]
struct ObjectCounters {
    /// The last sample with the object.
    sample: u64,
    /// True if it cannot have been in an earlier sample, of this run or another: nothing of it was sent.
    is_new: bool,
    /// Each with its row.
    counters: Vec<(usize, Counter)>,
}

#[derive(Debug)]
struct Counter {
    /// What the receiver has; `None` if nothing yet, although the counter began while the exporter ran.
    base: Option<Total>,
    /// The time of `base`, in nanoseconds since 1970.
    since: u64,
    /// The value and time of the last point, and the request with it.
    sent: Option<(Total, u64, usize)>,
}

/// A value of a counter or a histogram, kept beyond its sample.
#[derive(Debug)]
enum Total {
    Int(i64),
    Float(f64),
    /// A moment, which is no total and does not grow.
    Other,
    Histogram(Box<Histogram>),
}

impl From<Value<'_>> for Total {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Int(value) => Self::Int(value),
            Value::Float(value) => Self::Float(value),
            Value::Time(_) => Self::Other,
            Value::Histogram(histogram) => Self::Histogram(Box::new(histogram.clone())),
        }
    }
}

impl Deltas {
    /// Starts a sample. Of the last one, these requests were accepted, by their order.
    pub(super) fn begin(&mut self, accepted: &[usize]) {
        let oldest = self.sample.saturating_sub(KEPT_SAMPLES);
        self.objects.retain(|_, object| {
            for (_, counter) in &mut object.counters {
                if let Some((value, time, request)) = counter.sent.take()
                    && accepted.contains(&request)
                {
                    (counter.base, counter.since) = (Some(value), time);
                }
            }
            object.sample >= oldest
        });
        self.sample += 1;
    }

    /// Keeps the counters of the objects in the sample, whether it reports them or not.
    ///
    /// An object that was missing in so many samples that it was forgotten is not new: what it counted until then may have been
    /// sent.
    pub(super) fn read(&mut self, entity: usize, all: impl Iterator<Item = Series>, reading: Reading) {
        let last = self.read_at.insert(entity, reading.taken_at);
        for Series { id, birth, .. } in all {
            let object = self.objects.entry(ObjectKey { entity, id, birth }).or_insert_with(|| {
                let is_new = birth.is_some_and(|birth| began_after(birth, last, reading));
                ObjectCounters { is_new, ..ObjectCounters::default() }
            });
            object.sample = self.sample;
        }
    }

    /// Keeps all counters of an entity that could not be read.
    pub(super) fn unread(&mut self, entity: usize) {
        for (_, object) in self.objects.iter_mut().filter(|(key, _)| key.entity == entity) {
            object.sample = self.sample;
        }
    }

    /// Returns the point of a counter, its growth since the last point that the receiver accepted, and where to note the order of
    /// the request with it.
    ///
    /// `None` for the first value of a counter that is not new: what it counted until then may have been sent, by an earlier run
    /// or before it was missing for a while. A counter below its last value began again.
    pub(super) fn point<'a>(
        &'a mut self,
        series: CounterSeries,
        point: Point<'a>,
    ) -> Option<(Point<'a>, &'a mut usize)> {
        let value = point.value?;
        let CounterSeries { entity, row, series: Series { id, birth, .. }, clock } = series;
        let ObjectCounters { is_new, counters, .. } =
            self.objects.entry(ObjectKey { entity, id, birth }).or_default();
        let index = counters.iter().position(|(of, _)| *of == row).unwrap_or_else(|| {
            let began = birth.filter(|_| *is_new);
            let base = if began.is_some() { None } else { Some(value.into()) };
            let since = began.map_or(point.time, |birth| nanoseconds(birth.by(clock)));
            counters.push((row, Counter { base, since, sent: None }));
            counters.len() - 1
        });
        let counter = &mut counters[index].1;
        if counter.base.is_some() && counter.since == point.time {
            // Its first value.
            return None;
        }
        let growth = match (&counter.base, value) {
            (Some(Total::Int(base)), Value::Int(value)) if value >= *base => Value::Int(value - base),
            (Some(Total::Float(base)), Value::Float(value)) if value >= *base => Value::Float(value - base),
            (Some(Total::Histogram(base)), Value::Histogram(value)) => match value.since(base) {
                Some(growth) => {
                    self.growth = growth;
                    Value::Histogram(&self.growth)
                }
                None => Value::Histogram(value),
            },
            _ => value,
        };
        let start = Some(counter.since.min(point.time));
        let (_, _, request) = counter.sent.insert((value.into(), point.time, 0));
        Some((Point { start, time: point.time, value: Some(growth) }, request))
    }
}

/// A counter of a sample.
#[derive(Clone, Copy)]
pub(super) struct CounterSeries {
    /// Index of the entity.
    pub(super) entity: usize,
    pub(super) row: usize,
    pub(super) series: Series,
    pub(super) clock: WallClock,
}

/// Returns whether an object began after those of its entity were `last` read; without such a reading, after the exporter started.
///
/// Births that the kernel reports are in whole seconds. Within the second of the exporter's start an object counts as older: an
/// earlier run may have sent it. Within the second of the last reading it counts as newer: it would not be forgotten yet otherwise.
fn began_after(birth: Birth, last: Option<BootTime>, Reading { exporter_since, clock, .. }: Reading) -> bool {
    match (birth, last) {
        (Birth::Observed(time), last) => time >= last.unwrap_or(exporter_since),
        (Birth::Reported(time), Some(last)) => clock.second(time) >= clock.second(last),
        (Birth::Reported(time), None) => clock.second(time) > clock.second(exporter_since),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SINCE_SECONDS: u64 = 100;
    const SINCE: BootTime = BootTime::from_secs(SINCE_SECONDS);

    fn series(birth: Birth) -> CounterSeries {
        let series = Series::fixed(1, Some(birth));
        CounterSeries { entity: 0, row: 0, series, clock: WallClock::default() }
    }

    /// A sample, so many seconds after the exporter started.
    fn reading(after: u64) -> Reading {
        let taken_at = BootTime::from_secs(SINCE_SECONDS + after);
        Reading { exporter_since: SINCE, taken_at, clock: WallClock::default() }
    }

    fn point(time: u64, value: i64) -> Point<'static> {
        Point { start: None, time, value: Some(Value::Int(value)) }
    }

    /// Returns the point of a sample, which is in this request.
    fn next(
        deltas: &mut Deltas,
        birth: Birth,
        time: u64,
        value: i64,
        request: usize,
    ) -> Option<Point<'static>> {
        let after = time % 1_000_000_000_000;
        deltas.read(0, std::iter::once(series(birth).series), reading(after));
        let (point, order) = deltas.point(series(birth), point(time, value))?;
        *order = request;
        Some(self::point(point.time, int(point))).map(|growth| Point { start: point.start, ..growth })
    }

    fn int(point: Point<'_>) -> i64 {
        match point.value {
            Some(Value::Int(value)) => value,
            other => panic!("{other:?}"),
        }
    }

    /// A reading: how much the counter grew, and whether the receiver accepted the last one.
    type Growth = (i64, bool);

    proptest! {
        #[test]
        fn what_was_accepted_adds_up_to_the_truth(readings in prop::collection::vec(any::<(u16, bool)>(), 1..50), is_new: bool) {
            let readings: Vec<Growth> = readings.into_iter().map(|(grew, accepted)| (grew.into(), accepted)).collect();
            let birth = Birth::Observed(if is_new { SINCE } else { BootTime::default() });
            let mut deltas = Deltas::default();
            let (mut value, mut sum, mut last, mut end) = (0, 0, None, None);
            let first = if is_new { 0 } else { readings[0].0 };
            for (time, &(grew, accepted)) in (1_000_000_000_000..).zip(&readings) {
                let accepted: &[usize] = if accepted { &[3] } else { &[] };
                if let Some(point) = last.take().filter(|_| !accepted.is_empty()) {
                    sum += int(point);
                    prop_assert!(end.is_none_or(|end| Some(end) == point.start), "windows follow each other");
                    end = Some(point.time);
                }
                deltas.begin(accepted);
                value += grew;
                last = next(&mut deltas, birth, time, value, 3);
            }
            deltas.begin(&[3]);
            sum += last.map_or(0, int);
            prop_assert_eq!(sum, value - first);
        }
    }

    proptest! {
        #[test]
        fn accepted_histograms_add_up_to_the_truth(
            readings in prop::collection::vec((prop::collection::vec(0.0..1e9_f64, 0..5), any::<bool>()), 1..20),
            is_new: bool,
        ) {
            let birth = Birth::Observed(if is_new { SINCE } else { BootTime::default() });
            let mut deltas = Deltas::default();
            // What the receiver has, and how many of the values it can have.
            let (mut whole, mut received, mut first) = (Histogram::default(), [0, 0], None);
            let mut sent = [0, 0];
            let below = |histogram: &Histogram| {
                let below = histogram.up_to(&[20]).next().map_or(0, |(_, count)| count);
                [histogram.count(), below]
            };
            for (time, (values, accepted)) in (1_000_000_000_000..).zip(readings.iter().chain([&(Vec::new(), true)])) {
                let accepted: &[usize] = if *accepted { &[3] } else { &[] };
                if !accepted.is_empty() {
                    received = [received[0] + sent[0], received[1] + sent[1]];
                }
                deltas.begin(accepted);
                for value in values {
                    whole.record(*value);
                }
                let first = *first.get_or_insert(if is_new { [0, 0] } else { below(&whole) });
                deltas.read(0, std::iter::once(series(birth).series), reading(time % 1_000_000_000_000));
                let point = Point { start: None, time, value: Some(Value::Histogram(&whole)) };
                sent = [0, 0];
                if let Some((point, order)) = deltas.point(series(birth), point) {
                    *order = 3;
                    let Some(Value::Histogram(growth)) = point.value else { panic!("it is a histogram") };
                    sent = below(growth);
                    let all = [first[0] + received[0] + sent[0], first[1] + received[1] + sent[1]];
                    prop_assert_eq!(all, below(&whole));
                }
            }
        }
    }

    #[test]
    fn a_counter_that_began_again_counts_from_zero() {
        let mut deltas = Deltas::default();
        let mut next = |time, value| {
            deltas.begin(&[0]);
            self::next(&mut deltas, Birth::Observed(SINCE), time, value, 0).map(int)
        };
        assert_eq!([next(1, 7), next(2, 10), next(3, 2), next(4, 5)], [Some(7), Some(3), Some(2), Some(3)]);
    }

    #[test]
    fn only_an_object_that_ended_is_forgotten() {
        let birth = Birth::Observed(SINCE);
        let mut deltas = Deltas::default();
        deltas.begin(&[]);
        assert_eq!(next(&mut deltas, birth, 1, 7, 0).map(int), Some(7));
        deltas.begin(&[0]);
        deltas.unread(0);
        deltas.begin(&[]);
        deltas.read(0, std::iter::once(series(birth).series), reading(3));
        deltas.begin(&[]);
        assert_eq!(next(&mut deltas, birth, 4, 9, 0).map(int), Some(2), "it was not reported in between");
        for _ in 0..=KEPT_SAMPLES + 1 {
            deltas.begin(&[]);
        }
        assert!(deltas.objects.is_empty());
    }

    #[test]
    fn an_object_that_was_missing_for_a_while_is_not_counted_twice() {
        for birth in [Birth::Observed(SINCE), Birth::Reported(BootTime::from_secs(SINCE_SECONDS + 1))] {
            for missing in 0..20 {
                let mut deltas = Deltas::default();
                deltas.begin(&[]);
                assert_eq!(next(&mut deltas, birth, 1, 7, 0).map(int), Some(7));
                for sample in 0..missing {
                    deltas.begin(&[0]);
                    deltas.read(0, std::iter::empty(), reading(2 + sample));
                }
                deltas.begin(&[0]);
                let back = next(&mut deltas, birth, 2 + missing, 9, 0).map(int);
                assert!(back.is_none_or(|grew| grew == 2), "{back:?} after {missing} samples");
                assert_eq!(back.is_some(), missing <= KEPT_SAMPLES, "after {missing} samples");
                deltas.begin(&[0]);
                assert_eq!(next(&mut deltas, birth, 3 + missing, 12, 0).map(int), Some(3));
            }
        }
    }
}
