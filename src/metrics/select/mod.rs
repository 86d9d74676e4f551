//! Which single objects are told of: those that rules mean, and no more of them than a number of series allows.
//! Knows neither flags nor formats, and of each series only what the table of metrics says. Begin at [`Selection::apply`].

mod rules;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use self::rules::Traits;
pub use self::rules::{Key, Rule};
use super::table::{BTF, HOOK, LINK, LINK_HOLDER, MAP, MAP_HOLDER, PIN, PROGRAM, PROGRAM_HOLDER};
use super::{Entity, Object, Sample, Visitor, visit};
use crate::model::{Exporter, Kind, Owner, Snapshot};

/// Which single objects to tell of. What is told of many at once always stays, and is of all objects: the totals of the host
/// and of owners, how many programs hang where, how the reading went, and the exporter itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only those that one of these rules means, unless there is none.
    pub only: Vec<Rule>,
    /// None of those that one of these rules means.
    pub except: Vec<Rule>,
    /// Whether to tell of single objects at all.
    pub per_object: bool,
    /// How many series there may be in all.
    pub max_series: Option<u64>,
}

impl Default for Selection {
    /// Everything.
    fn default() -> Self {
        Self { only: Vec::new(), except: Vec::new(), per_object: true, max_series: None }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_object {
            f.write_str("all objects")?;
            list(f, " with ", &self.only)?;
            list(f, ", except ", &self.except)?;
        } else {
            f.write_str("no single objects")?;
        }
        match self.max_series {
            Some(max) => write!(f, "; at most {max} series"),
            None => Ok(()),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, head: &str, rules: &[Rule]) -> fmt::Result {
    for (place, rule) in rules.iter().enumerate() {
        write!(f, "{}{rule}", if place == 0 { head } else { " or " })?;
    }
    Ok(())
}

impl Selection {
    /// Leaves out of a finished reading what is not wanted of it. What could not be read stays unread, which is not the same as
    /// left out.
    ///
    /// A row about an object goes and stays with it: its holders, pins and hooks, and for a program which maps it uses,
    /// whether or not these are told.
    #[must_use]
    pub fn apply(&self, mut snapshot: Snapshot, exporter: Option<&Exporter>) -> Snapshot {
        if !self.per_object {
            keep(&mut snapshot, |_| false);
        } else if !(self.only.is_empty() && self.except.is_empty()) {
            let wanted: Vec<(Object, bool)> =
                known(&snapshot).into_iter().map(|(object, traits)| (object, self.wants(traits))).collect();
            keep(&mut snapshot, |object| match find(&wanted, object) {
                Some(&wanted) => wanted,
                None => self.wants(Traits::unknown(object.kind)),
            });
        }
        if let Some(max) = self.max_series {
            limit(&mut snapshot, exporter, max);
        }
        snapshot
    }

    fn wants(&self, traits: Traits<'_>) -> bool {
        let meant = |rules: &[Rule]| rules.iter().any(|rule| rule.matches(traits));
        (self.only.is_empty() || meant(&self.only)) && !meant(&self.except)
    }
}

/// Every object that a reading has, ascending.
fn known(snapshot: &Snapshot) -> Vec<(Object, Traits<'_>)> {
    fn table<'a, T, R>(entity: &Entity<T>, values: Option<&'a Vec<T>>, traits: R) -> Vec<(Object, Traits<'a>)>
    where
        R: Fn(&'a T) -> Traits<'a>,
    {
        let object = entity.object.expect("a row of the kernel's tables is an object");
        values.into_iter().flatten().map(|value| (object(value), traits(value))).collect()
    }
    let mut known = table(&PROGRAM, snapshot.programs.as_ref(), Traits::from);
    known.extend(table(&MAP, snapshot.maps.as_ref(), Traits::from));
    known.extend(table(&LINK, snapshot.links.as_ref(), Traits::from));
    known.extend(table(&BTF, snapshot.btfs.as_ref(), |btf| Traits::from(&**btf)));
    // Mostly it is in this order; a reading from a file may not be.
    known.sort_by_key(|&(object, _)| object);
    known
}

/// What is said of an object in a list in ascending order.
fn find<T>(sorted: &[(Object, T)], object: Object) -> Option<&T> {
    let place = sorted.binary_search_by_key(&object, |&(object, _)| object).ok()?;
    Some(&sorted[place].1)
}

/// Leaves out all that is told of other objects than these.
fn keep(snapshot: &mut Snapshot, told: impl Fn(Object) -> bool) {
    fn retain<T>(entity: &Entity<T>, values: Option<&mut Vec<T>>, told: impl Fn(Object) -> bool) {
        if let (Some(object), Some(values)) = (entity.object, values) {
            values.retain(|value| told(object(value)));
        }
    }
    retain(&PROGRAM, snapshot.programs.as_mut(), &told);
    retain(&MAP, snapshot.maps.as_mut(), &told);
    retain(&LINK, snapshot.links.as_mut(), &told);
    retain(&BTF, snapshot.btfs.as_mut(), &told);
    retain(&PIN, snapshot.pins.as_mut(), &told);
    if let Some(holders) = &mut snapshot.holders {
        retain(&PROGRAM_HOLDER, Some(&mut holders.programs), &told);
        retain(&MAP_HOLDER, Some(&mut holders.maps), &told);
        retain(&LINK_HOLDER, Some(&mut holders.links), &told);
        // They have no metric, but stand in a snapshot that is written down.
        holders.btfs.retain(|holder| told(Object { kind: Kind::Btf, id: holder.id }));
    }
    if let Some(look) = &mut snapshot.hooks {
        // Whoever took the look keeps it for the next readings, so this one gets a copy.
        let look = Arc::make_mut(look);
        retain(&HOOK, Some(&mut look.hooks), &told);
        look.contents.retain(|content| told(Object { kind: Kind::Map, id: content.map_id }));
    }
}

/// Leaves out objects, each with all that is told of it, until no more series than `max` are left; all objects, if the rest
/// alone is more than that.
///
/// Owners take turns, so that none displaces another, and each brings its objects in ascending order of kind and id: what is
/// loaded later comes later. The order depends on nothing but the reading, and an object that comes or goes moves by one turn those
/// of its owner that come after it, and nobody else's.
fn limit(snapshot: &mut Snapshot, exporter: Option<&Exporter>, max: u64) {
    // It has a series of its own, which counts; and what an earlier limit left out is missing still.
    let before = *snapshot.left_out.get_or_insert(0);
    let mut count = Count::default();
    visit(Some(Sample { snapshot, exporter }), &mut count);
    let Count { rest, series } = count;
    let series = add_up(series);
    let all = series.iter().fold(rest, |sum, (_, series)| sum + series);
    if all <= max {
        return;
    }
    let mut told = Vec::new();
    let mut sum = rest;
    for (object, series) in turns(snapshot, &series) {
        if sum + series > max {
            break;
        }
        sum += series;
        told.push((object, ()));
    }
    told.sort_unstable();
    keep(snapshot, |object| find(&told, object).is_some());
    snapshot.left_out = Some(before.saturating_add(all - sum));
}

/// Counts series: of objects by the object, in the order of the table, and those of all the rest.
#[derive(Default)]
struct Count {
    rest: u64,
    series: Vec<(Object, u64)>,
}

impl Visitor for Count {
    fn entity<T>(&mut self, entity: &'static Entity<T>, values: Option<&[T]>) {
        for value in values.unwrap_or_default() {
            let series = entity.metrics.iter().map(|metric| u64::from((metric.read)(value).is_some())).sum();
            match entity.object {
                Some(object) => self.series.push((object(value), series)),
                None => self.rest += series,
            }
        }
    }
}

/// Each object once, ascending, with all its series.
fn add_up(mut series: Vec<(Object, u64)>) -> Vec<(Object, u64)> {
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

/// The objects of an owner, ascending, with their series.
struct Belongings<'a> {
    owner: Option<&'a Owner>,
    objects: Vec<(Object, u64)>,
}

/// Brings objects into the order in which they are told, as long as there is room. Those of nobody that is known take turns as if
/// they had one owner more, the last.
fn turns(snapshot: &Snapshot, series: &[(Object, u64)]) -> Vec<(Object, u64)> {
    let known = known(snapshot);
    let mut by_owner: HashMap<Option<u64>, Belongings<'_>> = HashMap::new();
    for &(object, series) in series {
        let owner = find(&known, object).and_then(|traits| traits.owner);
        let belongings = by_owner
            .entry(owner.map(Owner::key))
            .or_insert_with(|| Belongings { owner, objects: Vec::new() });
        belongings.objects.push((object, series));
    }
    let mut owners: Vec<Belongings<'_>> = by_owner.into_values().collect();
    owners.sort_by_cached_key(|Belongings { owner, .. }| {
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
