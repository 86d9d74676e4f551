//! Arbitrary counters of what happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use bpf_metrics_exporter::model::{
    Activity, Histogram, Lifetimes, ObjectActivity, OwnerKind, ProgramActivity,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{kind, moment, text};

/// A type of programs, or that of those that were gone before they could be queried.
fn program_type() -> impl Strategy<Value = Option<Arc<str>>> {
    // An empty label is none to Prometheus.
    option::of(text().prop_filter("a type has a name", |text| !text.is_empty()).prop_map(Arc::from))
}

/// Any lifetimes, of moments and of years, and any other numbers.
fn histogram() -> impl Strategy<Value = Histogram> {
    let seconds = prop_oneof![
        3 => (-20.0..30_f64).prop_map(f64::exp2),
        1 => (-10..24_i32).prop_map(|exponent| f64::from(exponent).exp2()),
        1 => Just(0.0),
    ];
    let extreme = vec(any::<f64>(), 0..3);
    (vec(seconds, 1..40), option::weighted(0.1, extreme)).prop_map(|(seconds, extreme)| {
        let mut histogram = Histogram::default();
        for value in seconds.into_iter().chain(extreme.into_iter().flatten()) {
            histogram.record(value);
        }
        histogram
    })
}

/// Any counters, each series once.
pub(super) fn activity() -> impl Strategy<Value = Activity> {
    let owner = option::of(("[a-z]{1,8}", select(&[OwnerKind::Pod, OwnerKind::Unit][..])));
    let programs = btree_map((program_type(), owner), (any::<u32>(), any::<u32>(), moment()), 0..5);
    let lifetimes = btree_map(program_type(), (histogram(), moment()), 0..3);
    let objects = btree_map(kind(), (any::<u32>(), any::<u32>()), 0..4);
    (moment(), programs, lifetimes, objects, option::of(any::<u32>()), any::<u32>()).prop_map(
        |(since, programs, lifetimes, objects, lost, dropped)| Activity {
            since,
            programs: programs
                .into_iter()
                .map(|((program_type, owner), (loads, unloads, since))| ProgramActivity {
                    program_type,
                    owner: owner.map(|(name, kind)| (kind, name.into())),
                    loads: loads.into(),
                    unloads: unloads.into(),
                    since,
                })
                .collect(),
            lifetimes: BTreeMap::into_iter(lifetimes)
                .map(|(program_type, (seconds, since))| Lifetimes { program_type, seconds, since })
                .collect(),
            objects: objects
                .into_iter()
                .map(|(kind, (created, destroyed))| ObjectActivity {
                    kind,
                    created: created.into(),
                    destroyed: destroyed.into(),
                })
                .collect(),
            lost: lost.map(u64::from),
            dropped: dropped.into(),
        },
    )
}
