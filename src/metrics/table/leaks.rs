//! Metrics of objects that nothing holds.

use super::objects::{owner_kind_word, owner_name};
use crate::metrics::Birth::Observed;
use crate::metrics::Carries::Key;
use crate::metrics::LabelValue::{Number, Text};
use crate::metrics::MetricKind::Gauge;
use crate::metrics::Unit::Seconds;
use crate::metrics::{Entity, Label, Metric, Series, Value};
use crate::model::{Object, Orphan, Part, hash};

/// Orphaned objects.
pub static ORPHAN: Entity<Orphan> = Entity {
    title: "Orphans",
    part: Some(Part::Hook),
    key: &[
        Label {
            name: "kind",
            help: "kind of the object: `program`, `map`, `link` or `btf`",
            read: |o| Some(Text(o.kind.as_str())),
        },
        Label { name: "id", help: "its id", read: |o| Some(Number(o.id)) },
        Label {
            name: "owner",
            help: "its last owner; absent if it had none since the exporter's start",
            read: |o| owner_name(o.last_owner.as_ref()),
        },
        Label {
            name: "owner_kind",
            help: "kind of owner: `pod`, `container`, `unit`, `process`, `pin` or `kernel`",
            read: |o| owner_kind_word(o.last_owner.as_ref()),
        },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_object_orphan_time",
        kind: Gauge,
        unit: Seconds,
        help: "Time at which the exporter first saw no holder of the object, which is still loaded, in seconds since 1970-01-01 UTC; \
               absent as `bpf_objects_orphaned` is.",
        source: "as `bpf_objects_orphaned`",
        since: "5.8",
        carries: Key,
        read: |o| Some(Value::Time(o.since)),
    }],
    object: Some(|o| Object { kind: o.kind, id: o.id }),
    series: |o| {
        let owner = o.last_owner.as_ref().map(|owner| (owner.kind(), owner.name()));
        Series::fixed(hash((o.kind, o.id, owner)), Some(Observed(o.since)))
    },
};
