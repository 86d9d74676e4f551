//! Metrics of what happened since the exporter's start.

use crate::metrics::Birth::Observed;
use crate::metrics::Carries::Key;
use crate::metrics::LabelValue::Text;
use crate::metrics::MetricKind::{Counter, Histogram};
use crate::metrics::Unit::{Each, Seconds};
use crate::metrics::{Entity, Label, Metric, Series, Value};
use crate::model::{Activity, BootTime, Lifetimes, ObjectActivity, Part, ProgramActivity, hash};

/// Loads and unloads of programs.
pub static PROGRAM_ACTIVITY: Entity<ProgramActivity> = Entity {
    title: "Loads of programs",
    part: Some(Part::Event),
    key: &[
        Label {
            name: "type",
            help: "type of the programs, as `bpf_program_info` has it; absent if they were gone before they could be queried",
            read: |p| p.program_type.as_deref().map(Text),
        },
        Label {
            name: "owner",
            help: "name of their owner, else of the owner of the process that loaded them; absent if neither is known, and beyond a \
                   thousand combinations of type and owner",
            read: |p| p.owner.as_ref().map(|(_, name)| Text(name)),
        },
        Label {
            name: "owner_kind",
            help: "kind of that owner",
            read: |p| p.owner.as_ref().map(|(kind, _)| Text(kind.as_str())),
        },
    ],
    info: &[],
    metrics: &[
        Metric {
            name: "bpf_program_loads",
            kind: Counter,
            unit: Each("{event}"),
            help: "Programs that were loaded since the exporter's start, those that lived for a moment included.",
            source: "`PERF_RECORD_BPF_EVENT`, and ids without a record",
            since: "4.13",
            carries: Key,
            read: |p| Some(Value::count(p.loads)),
        },
        Metric {
            name: "bpf_program_unloads",
            kind: Counter,
            unit: Each("{event}"),
            help: "Programs that were unloaded since the exporter's start, those loaded before included.",
            source: "`PERF_RECORD_BPF_EVENT`, and ids without a record",
            since: "4.13",
            carries: Key,
            read: |p| Some(Value::count(p.unloads)),
        },
    ],
    object: None,
    series: |p| Series::fixed(hash((&p.program_type, &p.owner)), Some(Observed(p.since))),
};

/// How long programs were loaded.
pub static LIFETIME: Entity<Lifetimes> = Entity {
    title: "Lifetimes of programs",
    part: Some(Part::Event),
    key: &[Label {
        name: "type",
        help: "type of the programs, as of `bpf_program_unloads`",
        read: |l| l.program_type.as_deref().map(Text),
    }],
    info: &[],
    metrics: &[Metric {
        name: "bpf_program_lifetime",
        // From a millisecond to half a year: a quarter of a second is 2^-2, four minutes are 2^8, five hours 2^14, twelve days 2^20.
        kind: Histogram { bounds: &[-10, -8, -6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24] },
        unit: Seconds,
        help: "How long the programs that were unloaded since the exporter's start had been loaded.",
        source: "as `bpf_program_unloads`, and `bpf_prog_info.load_time`",
        since: "4.15",
        carries: Key,
        read: |l| Some(Value::Histogram(&l.seconds)),
    }],
    object: None,
    series: |l| Series::fixed(hash(&l.program_type), Some(Observed(l.since))),
};

/// Objects created and destroyed, by kind.
pub static OBJECT_ACTIVITY: Entity<(BootTime, ObjectActivity)> = Entity {
    title: "Creation of objects",
    part: Some(Part::Event),
    key: &[Label {
        name: "kind",
        help: "`program`, `map`, `link` or `btf`",
        read: |(_, objects)| Some(Text(objects.kind.as_str())),
    }],
    info: &[],
    metrics: &[
        Metric {
            name: "bpf_objects_created",
            kind: Counter,
            unit: Each("{object}"),
            help: "Objects of this kind that were created since the exporter's start, by the ids that the kernel gave out; those \
                   after the newest that still exists are counted once another one is created.",
            source: "ids of the kernel's table of the kind",
            since: "",
            carries: Key,
            read: |(_, objects)| Some(Value::count(objects.created)),
        },
        Metric {
            name: "bpf_objects_destroyed",
            kind: Counter,
            unit: Each("{object}"),
            help: "Objects of this kind that were destroyed since the exporter's start.",
            source: "as `bpf_objects_created`, and the number of objects",
            since: "",
            carries: Key,
            read: |(_, objects)| Some(Value::count(objects.destroyed)),
        },
    ],
    object: None,
    series: |(since, objects)| Series::fixed(hash(objects.kind), Some(Observed(*since))),
};

/// Events that were not seen or not published.
pub static EVENT: Entity<Activity> = Entity {
    title: "Events",
    part: Some(Part::Event),
    key: &[],
    info: &[],
    metrics: &[
        Metric {
            name: "bpf_events_lost",
            kind: Counter,
            unit: Each("{event}"),
            help: "Records of loads, unloads and symbols of programs that the kernel had no room for: their actors are unknown, the \
                   counters of loads and unloads have them. Absent where everything comes from comparing readings.",
            source: "`PERF_RECORD_LOST`",
            since: "5.1",
            carries: Key,
            read: |a| a.lost.map(Value::count),
        },
        Metric {
            name: "bpf_events_dropped",
            kind: Counter,
            unit: Each("{event}"),
            help: "Events above the limit per second (`--events-per-second`), which were not published. Counters of loads and unloads, \
                   and of created and destroyed objects, have them; changes of pins and attachments are in none.",
            source: "the exporter",
            since: "",
            carries: Key,
            read: |a| Some(Value::count(a.dropped)),
        },
    ],
    object: None,
    series: |a| Series::fixed(0, Some(Observed(a.since))),
};
