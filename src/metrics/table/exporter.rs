//! How the reading goes, and the exporter itself: one row for each metric.

use jiff::Timestamp;

use crate::metrics::Carries::{Info, Key};
use crate::metrics::Kind::{Counter, Gauge};
use crate::metrics::LabelValue::Text;
use crate::metrics::Unit::{Bytes, Each, Seconds};
use crate::metrics::Value::{Float, Int};
use crate::metrics::{Entity, Label, Metric, Series, Unit, Value};
use crate::model::{Backlog, Build, Collector, Issue, RunStats, Tally, hash};

/// Who has the runs of programs counted.
pub static RUN_STATS_BY: Entity<(&'static str, bool)> = Entity {
    title: "Run statistics",
    key: &[Label {
        name: "by",
        help: "`exporter` or `sysctl` (`kernel.bpf_stats_enabled`)",
        read: |(by, _)| Some(Text(by)),
    }],
    info: &[],
    metrics: &[Metric {
        name: "bpf_run_stats_enabled",
        kind: Gauge,
        unit: Unit::None,
        help: "1 when it has the runs of programs counted, all the time or in samples, else 0. Of other processes that do the \
               kernel tells nothing.",
        source: "`BPF_ENABLE_STATS`, `/proc/sys/kernel/bpf_stats_enabled`",
        since: "5.1",
        carries: Key,
        read: |(_, enabled)| Some(Int((*enabled).into())),
    }],
    object: None,
    series: |(by, _)| Series::fixed(hash(by), None),
};

/// How long the runs of programs have been counted.
pub static RUN_STATS: Entity<(Timestamp, RunStats)> = Entity {
    title: "Run statistics, covered",
    key: &[],
    info: &[],
    metrics: &[Metric {
        name: "bpf_run_stats_covered",
        kind: Counter,
        unit: Seconds,
        help: "How long the runs of programs have been counted since the exporter's start, by it or by the sysctl: what to \
               divide their run time by.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |(_, stats)| Some(Float(stats.covered.as_secs_f64())),
    }],
    object: None,
    series: |(since, _)| Series::fixed(0, Some(*since)),
};

/// How each part of a reading went.
pub static COLLECTOR: Entity<Collector> = Entity {
    title: "Readings",
    key: &[Label {
        name: "collector",
        help: "what was read: the table of `program`, `map`, `link` or `btf` objects, `holder` (files and names of processes), `pin` \
               (the mounted bpffs), `cgroup` (paths of cgroups) or `hook` (what hangs where)",
        read: |c| Some(Text(c.part.as_str())),
    }],
    info: &[Label {
        name: "reader",
        help: "how: `iter` (a BPF iterator, a few reads for all) or `walk` (one after the other, a few system calls for each); absent where there is only one way",
        read: |c| c.reader.map(|reader| Text(reader.as_str())),
    }],
    metrics: &[
        Metric {
            name: "bpf_exporter_collect_duration",
            kind: Gauge,
            unit: Seconds,
            help: "How long this part of the last reading took.",
            source: "the exporter",
            since: "",
            carries: Key,
            read: |c| Some(Float(c.duration.as_secs_f64())),
        },
        Metric {
            name: "bpf_exporter_collect_age",
            kind: Gauge,
            unit: Seconds,
            help: "How old what this part tells was at the last reading: 0 for what was read then, more for what is looked at less \
                   often.",
            source: "the exporter",
            since: "",
            carries: Key,
            read: |c| Some(Float(c.age.as_secs_f64())),
        },
        Metric {
            name: "bpf_exporter_collect_success",
            kind: Gauge,
            unit: Unit::None,
            help: "1 when this part of the last reading met no issue, else 0.",
            source: "the exporter",
            since: "",
            carries: Info,
            read: |c| Some(Int(c.success.into())),
        },
    ],
    object: None,
    series: |c| Series { id: hash(c.part), birth: None, revision: hash(c.reader) },
};

/// What could not be read.
pub static ISSUE: Entity<(Timestamp, Issue)> = Entity {
    title: "Issues",
    key: &[
        Label {
            name: "collector",
            help: "the part of the reading that met it",
            read: |(_, i)| Some(Text(i.part.as_str())),
        },
        Label { name: "call", help: "what failed, by the kernel's name", read: |(_, i)| Some(Text(&i.call)) },
        Label {
            name: "error",
            help: "how it failed, by the symbol of the errno",
            read: |(_, i)| Some(Text(&i.error)),
        },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_exporter_issues",
        kind: Counter,
        unit: Each("{issue}"),
        help: "What could not be read, since the exporter's start. Objects that vanish during a reading are no issue.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |(_, i)| Some(Value::count(i.total)),
    }],
    object: None,
    series: |(since, i)| Series::fixed(hash((i.part, &i.call, &i.error)), Some(*since)),
};

/// What was built.
pub static BUILD: Entity<Build> = Entity {
    title: "The exporter",
    key: &[],
    info: &[
        Label { name: "version", help: "the exporter's version", read: |b| Some(Text(b.version)) },
        Label {
            name: "revision",
            help: "the source revision it was built from; absent when it was not built from a checkout",
            read: |b| b.revision.map(Text),
        },
        Label { name: "rustc", help: "the compiler it was built with", read: |b| b.rustc.map(Text) },
    ],
    metrics: &[Metric {
        name: "bpf_exporter_build_info",
        kind: Gauge,
        unit: Unit::None,
        help: "What was built, from which source and by which compiler; always 1.",
        source: "the exporter",
        since: "",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: None,
    series: |b| Series::fixed(0, Some(b.started_at)),
};

/// Points, by what became of them.
pub static OTLP_POINTS: Entity<Tally> = Entity {
    title: "OTLP points",
    key: &[Label {
        name: "outcome",
        help: "`accepted` or, where the receiver took a request but not all of its points, `rejected`",
        read: |t| Some(Text(t.label)),
    }],
    info: &[],
    metrics: &[tally("bpf_exporter_otlp_points", "{point}", "Points that a receiver answered for.")],
    object: None,
    series: |t| Series::fixed(hash(t.label), Some(t.since)),
};

/// Points given up.
pub static OTLP_DROPPED: Entity<Tally> = Entity {
    title: "OTLP points given up",
    key: &[Label {
        name: "reason",
        help: "`refused` (the receiver's error is final), `backlog_full` or `shutdown`",
        read: |t| Some(Text(t.label)),
    }],
    info: &[],
    metrics: &[tally("bpf_exporter_otlp_dropped_points", "{point}", "Points that were given up.")],
    object: None,
    series: |t| Series::fixed(hash(t.label), Some(t.since)),
};

/// Requests, by how they ended.
pub static OTLP_REQUESTS: Entity<Tally> = Entity {
    title: "OTLP requests",
    key: &[Label {
        name: "outcome",
        help: "`success`, `retryable` (tried again) or `failed` (given up)",
        read: |t| Some(Text(t.label)),
    }],
    info: &[],
    metrics: &[tally("bpf_exporter_otlp_requests", "{request}", "Requests sent, each try counted.")],
    object: None,
    series: |t| Series::fixed(hash(t.label), Some(t.since)),
};

/// What waits to be sent.
pub static OTLP_BACKLOG: Entity<Backlog> = Entity {
    title: "OTLP backlog",
    key: &[],
    info: &[],
    metrics: &[Metric {
        name: "bpf_exporter_otlp_backlog_bytes",
        kind: Gauge,
        unit: Bytes,
        help: "Encoded requests that wait to be sent.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |b| Some(Value::count(b.bytes)),
    }],
    object: None,
    series: |b| Series::fixed(0, Some(b.since)),
};

/// A counter of the delivery over OTLP.
const fn tally(name: &'static str, unit: &'static str, help: &'static str) -> Metric<Tally> {
    Metric {
        name,
        kind: Counter,
        unit: Each(unit),
        help,
        source: "the exporter",
        since: "",
        carries: Key,
        read: |tally| Some(Value::count(tally.count)),
    }
}
