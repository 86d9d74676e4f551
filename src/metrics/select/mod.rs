//! Selection of the objects to export: by rules, and by a maximum number of series.
//! Entry point: [`Selection::apply`]. What belongs to an object is defined by [`Entity::object`] and
//! [`Snapshot::filtered`], not here.

mod events;
mod filter;
mod rules;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::events::{EventFilter, is_any_event_like};
pub use self::filter::{MetricFilter, is_any_like, metric_names};
use self::rules::Traits;
pub use self::rules::{Key, Rule};
use super::table::{BTF, LINK, MAP, PROGRAM};
use super::{Entity, Metric, Rows, Sample, Visitor, visit};
use crate::model::{Exporter, Kind, Object, Owner, Snapshot};

/// Which objects and which optional series to export. Series about many objects are always exported and always count all
/// objects: totals of the host and of owners, attachments per hook, how the reading went, the exporter itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Exports only objects that match one of these rules, unless empty.
    pub only: Vec<Rule>,
    /// Exports no object that matches one of these rules; wins over `only`.
    pub except: Vec<Rule>,
    /// Exports only objects that are at least this old: programs by their load time, others since they were first seen.
    pub min_age: Duration,
    /// Whether to export single objects at all.
    pub per_object: bool,
    /// Maximum number of series in all, as a scrape has them: a histogram is one for each of its lines.
    pub max_series: Option<u64>,
    /// Whether to export which program uses which map.
    pub program_maps: bool,
    /// Whether to export the holders of each object.
    pub holders: bool,
    /// Which metrics to export, of objects and of everything else.
    pub metrics: Arc<MetricFilter>,
}

impl Default for Selection {
    /// Everything.
    fn default() -> Self {
        Self {
            only: Vec::new(),
            except: Vec::new(),
            min_age: Duration::ZERO,
            per_object: true,
            max_series: None,
            program_maps: true,
            holders: true,
            metrics: Arc::default(),
        }
    }
}

/// A reading and the part of it to export.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The selected objects, and totals of all objects. The reading itself where everything is selected.
    pub snapshot: Arc<Snapshot>,
    /// Series dropped by [`Selection::max_series`]; `None` without that limit.
    pub dropped: Option<u64>,
    /// See [`Selection::program_maps`].
    pub program_maps: bool,
    /// See [`Selection::holders`].
    pub holders: bool,
    /// See [`Selection::metrics`].
    pub metrics: Arc<MetricFilter>,
}

impl Selected {
    /// Selects everything in a reading.
    #[must_use]
    pub fn all(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, dropped: None, program_maps: true, holders: true, metrics: Arc::default() }
    }

    /// Returns the reading, without holders if they are not selected.
    #[must_use]
    pub fn without_unselected_holders(&self) -> Cow<'_, Snapshot> {
        if self.holders {
            Cow::Borrowed(&*self.snapshot)
        } else {
            Cow::Owned(Snapshot { holders: None, ..Snapshot::clone(&self.snapshot) })
        }
    }

    /// Returns what is to be exported, with the metrics of the exporter itself where given.
    #[must_use]
    pub fn sample<'a>(&'a self, exporter: Option<&'a Exporter>) -> Sample<'a> {
        let Self { ref snapshot, dropped, program_maps, holders, ref metrics } = *self;
        Sample { snapshot, dropped, program_maps, holders, metrics, exporter }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_object {
            f.write_str("all objects")?;
            list(f, " with ", &self.only)?;
            list(f, ", except ", &self.except)?;
            if !self.min_age.is_zero() {
                write!(f, ", at least {:?} old", self.min_age)?;
            }
        } else {
            f.write_str("no single objects")?;
        }
        if !self.holders {
            f.write_str("; without holders")?;
        }
        if !self.program_maps {
            f.write_str("; without maps of programs")?;
        }
        match self.metrics.excluded() {
            0 => {}
            1 => f.write_str("; without 1 metric")?,
            excluded => write!(f, "; without {excluded} metrics")?,
        }
        match self.max_series {
            Some(max) => write!(f, "; at most {max} series"),
            None => Ok(()),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, head: &str, rules: &[Rule]) -> fmt::Result {
    for (index, rule) in rules.iter().enumerate() {
        write!(f, "{}{rule}", if index == 0 { head } else { " or " })?;
    }
    Ok(())
}

impl Selection {
    /// Selects from a finished reading, which may be the result of an earlier selection. A table that could not be read stays
    /// `None`, which is not the same as empty. The reading is copied only if objects are dropped from it.
    ///
    /// Rows about an object are kept and dropped with it: its holders, pins and attachments, and for a program the ids of the
    /// maps it uses, whether or not these maps are selected.
    #[must_use]
    pub fn apply(&self, mut selected: Selected, exporter: Option<&Exporter>) -> Selected {
        selected.program_maps &= self.program_maps;
        selected.holders &= self.holders;
        selected.metrics = selected.metrics.and(&self.metrics);
        if !self.per_object {
            selected.snapshot = Arc::new(selected.snapshot.filtered(|_| false));
        } else if !(self.only.is_empty() && self.except.is_empty() && self.min_age.is_zero()) {
            let wanted: Vec<(Object, bool)> = objects(&selected.snapshot)
                .into_iter()
                .map(|(object, traits)| (object, self.matches(&selected.snapshot, traits)))
                .collect();
            let filtered = selected.snapshot.filtered(|object| match find(&wanted, object) {
                Some(&wanted) => wanted,
                None => self.matches(&selected.snapshot, Traits::unknown(object.kind)),
            });
            selected.snapshot = Arc::new(filtered);
        }
        if let Some(max) = self.max_series {
            limit(&mut selected, exporter, max);
        }
        selected
    }

    fn matches(&self, snapshot: &Snapshot, traits: Traits<'_>) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| rule.matches(traits));
        (self.only.is_empty() || any(&self.only))
            && !any(&self.except)
            && is_old(snapshot, traits, self.min_age)
    }
}

/// Returns whether an object is at least this old. Programs have a load time; others are as old as the time since they were first
/// seen, and of any age if that was in the first reading. One that is not in the reading was created after it began.
fn is_old(snapshot: &Snapshot, traits: Traits<'_>, min_age: Duration) -> bool {
    let is_of_any_age = |since| traits.kind != Kind::Program && since <= snapshot.first_read_at;
    let is_old = |since| is_of_any_age(since) || snapshot.taken_at.since(since) >= min_age;
    min_age.is_zero() || traits.since.is_some_and(is_old)
}

/// Returns every object of a reading with what rules match against, ascending.
fn objects(snapshot: &Snapshot) -> Vec<(Object, Traits<'_>)> {
    fn table<'a, T, R>(entity: &Entity<T>, values: Option<&'a Vec<T>>, traits: R) -> Vec<(Object, Traits<'a>)>
    where
        R: Fn(&'a T) -> Traits<'a>,
    {
        let object = entity.object.expect("a row of the kernel's tables is an object");
        values.into_iter().flatten().map(|value| (object(value), traits(value))).collect()
    }
    let mut objects = table(&PROGRAM, snapshot.programs.as_ref(), Traits::from);
    objects.extend(table(&MAP, snapshot.maps.as_ref(), Traits::from));
    objects.extend(table(&LINK, snapshot.links.as_ref(), Traits::from));
    objects.extend(table(&BTF, snapshot.btfs.as_ref(), |btf| Traits::from(&**btf)));
    // A no-op for the kernel's order; a reading from a file may have another.
    objects.sort_by_key(|&(object, _)| object);
    objects
}

/// Looks up an object in a list in ascending order.
fn find<T>(sorted: &[(Object, T)], object: Object) -> Option<&T> {
    let index = sorted.binary_search_by_key(&object, |&(object, _)| object).ok()?;
    Some(&sorted[index].1)
}

/// Drops objects, each with all its rows, until at most `max` series are left; all objects if the other series alone exceed it.
///
/// Owners take turns, so that none displaces another, and each contributes its objects in ascending order of kind and id, so
/// newer ones come last. The order depends only on the reading, and an object that comes or goes shifts the later objects of
/// its owner by one turn, and no others.
fn limit(selected: &mut Selected, exporter: Option<&Exporter>, max: u64) {
    // Set before counting, since it is a series itself. Series dropped by an earlier limit are still missing.
    let before = *selected.dropped.get_or_insert(0);
    let mut count = SeriesCount::default();
    visit(Some(selected.sample(exporter)), &mut count);
    let SeriesCount { rest, series } = count;
    let series = sum_by_object(series);
    let all = series.iter().fold(rest, |sum, (_, series)| sum + series);
    if all <= max {
        return;
    }
    let mut kept = Vec::new();
    let mut sum = rest;
    for (object, series) in in_turns(&selected.snapshot, &series) {
        if sum + series > max {
            break;
        }
        sum += series;
        kept.push((object, ()));
    }
    kept.sort_unstable();
    selected.snapshot = Arc::new(selected.snapshot.filtered(|object| find(&kept, object).is_some()));
    selected.dropped = Some(before.saturating_add(all - sum));
}

/// Counts series: per object, in the order of the table, and all others.
#[derive(Default)]
struct SeriesCount {
    rest: u64,
    series: Vec<(Object, u64)>,
}

impl Visitor for SeriesCount {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        for value in values.unwrap_or_default() {
            let exists = |(_, metric): &(_, &Metric<T>)| (metric.read)(value).is_some();
            let series = entity.rows(rows).filter(exists).map(|(_, metric)| metric.kind.series()).sum();
            match entity.object {
                Some(object) => self.series.push((object(value), series)),
                None => self.rest += series,
            }
        }
    }
}

/// Returns each object once, ascending, with the sum of its series.
fn sum_by_object(mut series: Vec<(Object, u64)>) -> Vec<(Object, u64)> {
    series.sort_by_key(|&(object, _)| object);
    series.dedup_by(|(object, series), (first, sum)| {
        let same = object == first;
        if same {
            *sum += *series;
        }
        same
    });
    series
}

/// The objects of an owner, ascending, with their numbers of series.
struct OwnedSeries<'a> {
    owner: Option<&'a Owner>,
    objects: Vec<(Object, u64)>,
}

/// Orders objects by turns of their owners. Objects without a known owner take turns as if they had one more owner, the last.
fn in_turns(snapshot: &Snapshot, series: &[(Object, u64)]) -> Vec<(Object, u64)> {
    let all = objects(snapshot);
    let mut by_owner: HashMap<Option<u64>, OwnedSeries<'_>> = HashMap::new();
    for &(object, series) in series {
        let owner = find(&all, object).and_then(|traits| traits.owner);
        let group = by_owner
            .entry(owner.map(Owner::key))
            .or_insert_with(|| OwnedSeries { owner, objects: Vec::new() });
        group.objects.push((object, series));
    }
    let mut owners: Vec<OwnedSeries<'_>> = by_owner.into_values().collect();
    owners.sort_by_cached_key(|OwnedSeries { owner, .. }| {
        (owner.is_none(), owner.map(|owner| (owner.kind(), owner.name(), owner.key())))
    });
    let mut order = Vec::with_capacity(series.len());
    for turn in 0.. {
        owners.retain(|owner| owner.objects.len() > turn);
        if owners.is_empty() {
            break;
        }
        order.extend(owners.iter().map(|owner| owner.objects[turn]));
    }
    order
}
