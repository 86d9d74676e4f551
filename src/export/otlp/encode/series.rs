//! Series already sent: encoded attributes of each, and which of its metrics had a point, to mark the end of a series.
//! Entry point: [`match_series`].

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use super::point::Attributes;
use super::request::{nanoseconds, write_attribute};
use super::unchanged::{LastSent, Repetition};
use crate::metrics::{Carries, Entity, Label, LabelValue, Series, Value};
use crate::model::{WallClock, hash};

/// The time of a sample.
#[derive(Clone, Copy)]
pub(super) struct SampleTime {
    /// Since 1970.
    pub(super) nanoseconds: u64,
    pub(super) clock: WallClock,
}

/// What was sent of an entity.
#[derive(Debug, Default)]
pub(super) struct SentEntity {
    /// In the order of the values.
    pub(super) series: Vec<SentSeries>,
    /// The clock of the last sample with its values. A later one can be without them, if its table could not be read.
    clock: WallClock,
}

/// What was sent of one value of an entity.
#[derive(Debug)]
pub(super) struct SentSeries {
    series: Series,
    /// Start of its points, in nanoseconds since 1970. It stays when the clock is set, since a receiver takes another start for a
    /// reset of the counter, unless points would be older than their start.
    start: Option<u64>,
    /// Encoded key attributes, followed by the other attributes of the `_info` metric: those up to the last one that is the id of
    /// the object.
    own: Box<[u8]>,
    /// The others, which series of similar objects have in common: nearly all of holders, half of maps.
    common: Arc<[u8]>,
    /// The length of the key attributes.
    key_len: u32,
    /// Metrics that had a point in the last sample, one bit for each row of the entity.
    pub(super) metrics: u64,
    /// Only if points can be left out.
    last: Option<Box<LastSent>>,
}

impl SentSeries {
    fn new<T>(
        entity: &Entity<T>,
        value: &T,
        series: Series,
        clock: WallClock,
        common: &mut CommonAttributes,
    ) -> Self {
        let own_id = entity.object.map(|object| object(value).id);
        common.attributes.clear();
        // Of a value that is about no single object, all are its own.
        let mut own_len = 0;
        common.write(entity.key, value, clock, own_id, &mut own_len);
        let key_len = u32::try_from(common.attributes.len()).expect("attributes are shorter than 4 GiB");
        common.write(entity.info, value, clock, own_id, &mut own_len);
        if own_id.is_none() {
            own_len = common.attributes.len();
        }
        let (own, common) = common.divided(own_len);
        let start = series.birth.map(|birth| nanoseconds(birth.by(clock)));
        Self { series, start, own, common, key_len, metrics: 0, last: None }
    }

    /// Begins a sample in which points can be left out. `metrics` is the number of metrics of the entity.
    pub(super) fn begin(&mut self, metrics: usize, repetition: Repetition) {
        let last = self.last.get_or_insert_with(|| Box::new(LastSent::new(metrics)));
        last.begin(self.series.id, repetition);
    }

    /// Leaves none of its points out of the next sample.
    pub(super) fn forget_points(&mut self) {
        self.last = None;
    }

    /// Takes note that a row has a value. Returns whether its point is left out: the receiver has it.
    pub(super) fn leaves_out(&mut self, row: usize, value: Value<'_>, clock: WallClock) -> bool {
        let bit = 1 << row;
        let had_point = self.metrics & bit != 0;
        self.metrics |= bit;
        self.last.as_mut().is_some_and(|last| last.leaves_out(row, value, clock)) && had_point
    }

    /// Returns the start of a point with this time, which is never later: an object can be loaded during the reading.
    pub(super) fn start(&mut self, time: u64) -> Option<u64> {
        self.start = self.start.map(|start| start.min(time));
        self.start
    }

    /// Returns the encoded attributes of a metric's points, in two parts.
    pub(super) fn attributes(&self, carries: Carries) -> Attributes<'_> {
        let (own, common) = (&*self.own, &*self.common);
        let key_len = self.key_len as usize;
        match carries {
            Carries::Key if key_len <= own.len() => Attributes([&own[..key_len], &[]]),
            Carries::Key => Attributes([own, &common[..key_len - own.len()]]),
            Carries::Info => Attributes([own, common]),
        }
    }
}

/// Brings the series of `sent` into the order of `values`, with one for each, and returns those that ended. If the clock was set, series
/// with a date among their attributes end and begin with another one.
///
/// Objects are in ascending order with new ones last, so mostly nothing but the end differs from the last sample.
pub(super) fn match_series<T>(
    entity: &Entity<T>,
    values: &[T],
    sent: &mut SentEntity,
    time: SampleTime,
    common: &mut CommonAttributes,
) -> Vec<SentSeries> {
    let is_set = std::mem::replace(&mut sent.clock, time.clock) != time.clock;
    let sent = &mut sent.series;
    let same = values
        .iter()
        .zip(sent.iter())
        .take_while(|(value, sent)| (entity.series)(value) == sent.series)
        .count();
    if same == values.len() && same == sent.len() && !is_set {
        return Vec::new();
    }
    let same = if is_set { 0 } else { same };
    let mut earlier: HashMap<Series, SentSeries> =
        sent.drain(same..).map(|sent| (sent.series, sent)).collect();
    for value in &values[same..] {
        let series = (entity.series)(value);
        if !is_set && let Some(earlier) = earlier.remove(&series) {
            sent.push(earlier);
            continue;
        }
        let mut new = SentSeries::new(entity, value, series, time.clock, common);
        let start = earlier.get(&series).and_then(|earlier| earlier.start);
        new.start = start.filter(|&start| start <= time.nanoseconds).or(new.start);
        sent.push(new);
    }
    let mut ended: Vec<SentSeries> = earlier.into_values().collect();
    ended.sort_by_key(|sent| sent.series.id);
    // If a new object has the id and attributes of an old one, its points continue the same series: a marker with the same
    // time and attributes would end it. The new start time shows that another object began.
    for (value, new) in values.iter().zip(sent.iter()).skip(same) {
        let Ok(index) = ended.binary_search_by_key(&new.series.id, |old| old.series.id) else { continue };
        let old = &mut ended[index];
        for (row, metric) in entity.metrics.iter().enumerate() {
            let continues = (metric.read)(value).is_some();
            if continues && old.attributes(metric.carries) == new.attributes(metric.carries) {
                old.metrics &= !(1 << row);
            }
        }
    }
    ended
}

/// The attributes that were encoded last, to share those that are equal: objects of a kind and of an owner come one after the other.
#[derive(Debug)]
pub(super) struct CommonAttributes {
    /// Each at the place that its hash gives it.
    recent: Vec<Arc<[u8]>>,
    /// Those of the value that is being encoded.
    attributes: Vec<u8>,
    /// The text of one of them.
    text: String,
}

impl Default for CommonAttributes {
    fn default() -> Self {
        Self { recent: vec![Arc::default(); Self::RECENT], attributes: Vec::new(), text: String::new() }
    }
}

impl CommonAttributes {
    /// How many there are: as many as the owners and shapes of maps of a large node.
    const RECENT: usize = 1024;

    /// Appends the attributes of a value, each as a field of a data point. `own_len` becomes the end of the last one that is this id.
    fn write<T>(
        &mut self,
        labels: &[Label<T>],
        value: &T,
        clock: WallClock,
        own_id: Option<u32>,
        own_len: &mut usize,
    ) {
        /// `NumberDataPoint.attributes`.
        const POINT_ATTRIBUTES: u32 = 7;
        for label in labels {
            let Some(value) = (label.read)(value) else { continue };
            self.text.clear();
            write!(self.text, "{}", value.by(clock)).expect("writing to a String does not fail");
            write_attribute(&mut self.attributes, POINT_ATTRIBUTES, label.name, &self.text);
            if matches!(value, LabelValue::Number(id) if Some(id) == own_id) {
                *own_len = self.attributes.len();
            }
        }
    }

    /// Returns the attributes of the value, split after `own_len` bytes.
    fn divided(&mut self, own_len: usize) -> (Box<[u8]>, Arc<[u8]>) {
        let (own, rest) = self.attributes.split_at(own_len);
        let place = usize::try_from(hash(rest) % Self::RECENT as u64).expect("it is below a thousand or so");
        let recent = &mut self.recent[place];
        if **recent != *rest {
            *recent = rest.into();
        }
        (own.into(), Arc::clone(recent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table;
    use crate::model::{HeldBy, Holder, Identity, Owner};

    #[test]
    fn holders_share_the_attributes_of_their_owner() {
        let owner = |name: &str| Arc::new(Owner::from(Identity::processes(name.to_owned())));
        let owners = [owner("one"), owner("other")];
        let holders: Vec<Holder> = (1..=100)
            .map(|id| Holder { id, held_by: HeldBy::Process, owner: Arc::clone(&owners[id as usize % 2]) })
            .collect();
        let time = SampleTime { nanoseconds: 1, clock: WallClock::default() };
        let (mut sent, mut common) = (SentEntity::default(), CommonAttributes::default());
        match_series(&table::PROGRAM_HOLDER, &holders, &mut sent, time, &mut common);
        for (id, (pair, holder)) in sent.series.windows(3).zip(&holders).enumerate() {
            assert!(
                Arc::ptr_eq(&pair[0].common, &pair[2].common)
                    && !Arc::ptr_eq(&pair[0].common, &pair[1].common)
            );
            assert!(pair[0].own.len() < 20 && pair[0].common.len() > 20, "{id}");
            let whole: Vec<u8> = pair[0].attributes(Carries::Info).0.concat();
            let text = String::from_utf8_lossy(&whole);
            assert!(text.contains(holder.owner.name()) && text.contains(&holder.id.to_string()), "{text}");
        }
    }

    #[test]
    fn attributes_are_equal_wherever_they_are_divided() {
        assert_eq!(Attributes([b"ab", b"c"]), Attributes([b"", b"abc"]));
        assert_ne!(Attributes([b"ab", b"c"]), Attributes([b"ab", b""]));
        assert_eq!(Attributes([b"ab", b"c"]).len(), 3);
    }
}
