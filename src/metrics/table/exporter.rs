//! Metrics of the readings and of the exporter itself.

use crate::metrics::Birth::{Observed, Reported};
use crate::metrics::Carries::{Info, Key};
use crate::metrics::LabelValue::{Flag, Text};
use crate::metrics::MetricKind::{Counter, Gauge};
use crate::metrics::Unit::{Bytes, Each, Seconds};
use crate::metrics::Value::{Float, Int};
use crate::metrics::{Entity, Label, Metric, Series, Unit, Value};
use crate::model::{
    Backlog, BootTime, Build, Collector, Destination, FeatureState, Issue, OwnProcess, Part, RunStats, Tally,
    hash,
};

/// Whether run statistics are on, by who turns them on.
pub static RUN_STATS_BY: Entity<(&'static str, bool)> = Entity {
    title: "Run statistics",
    part: Some(Part::Host),
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
        help: "Whether run statistics are turned on by the exporter, or by the sysctl: 1 or 0; not reported for other processes.",
        source: "`BPF_ENABLE_STATS`, `/proc/sys/kernel/bpf_stats_enabled`",
        since: "5.1",
        carries: Key,
        read: |(_, enabled)| Some(Int((*enabled).into())),
    }],
    object: None,
    series: |(by, _)| Series::fixed(hash(by), None),
};

/// How long run statistics have been on.
pub static RUN_STATS: Entity<(BootTime, RunStats)> = Entity {
    title: "Run statistics, covered",
    part: Some(Part::Host),
    key: &[],
    info: &[],
    metrics: &[Metric {
        name: "bpf_run_stats_covered",
        kind: Counter,
        unit: Seconds,
        help: "Time during which run statistics were on since the exporter's start: the divisor of run times.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |(_, stats)| Some(Float(stats.covered.as_secs_f64())),
    }],
    object: None,
    series: |(since, _)| Series::fixed(0, Some(Observed(*since))),
};

/// How each part of a reading went.
pub static COLLECTOR: Entity<Collector> = Entity {
    title: "Readings",
    part: None,
    key: &[
        Label {
            name: "collector",
            help: "part of the reading: the table of `program`, `map`, `link` or `btf` objects, `holder` (files and names of processes), \
               `pin` (the mounted bpffs), `cgroup` (paths of cgroups), `hook` (attachments), `event` (loads and unloads of programs) or \
               `host` (settings of the kernel, memory of machine code)",
            read: |c| Some(Text(c.part.as_str())),
        },
        Label {
            name: "reader",
            help: "how it is read: `iter` (by a BPF iterator, a few reads in all), `walk` (by id, a few system calls per object; \
               processes in /proc), `fs` (in a file system: bpffs, cgroups, /proc), `perf` (by records of the kernel, and by comparison) or \
                   `query` (by queries of each place of attachments)",
            read: |c| reader(c).map(Text),
        },
    ],
    info: &[],
    metrics: &[
        Metric {
            name: "bpf_exporter_collect_duration",
            kind: Gauge,
            unit: Seconds,
            help: "Duration of this part of the last reading.",
            source: "the exporter",
            since: "",
            carries: Key,
            read: |c| Some(Float(c.duration.as_secs_f64())),
        },
        Metric {
            name: "bpf_exporter_collect_age",
            kind: Gauge,
            unit: Seconds,
            help: "Age of the results of this part at the last reading: 0 unless it is collected less often.",
            source: "the exporter",
            since: "",
            carries: Key,
            read: |c| Some(Float(c.age.as_secs_f64())),
        },
        Metric {
            name: "bpf_exporter_collect_success",
            kind: Gauge,
            unit: Unit::None,
            help: "Whether this part of the last reading read everything that the granted rights allow: 1 or 0.",
            source: "the exporter",
            since: "",
            carries: Key,
            read: |c| Some(Int(c.success.into())),
        },
    ],
    object: None,
    series: |c| Series::fixed(hash((c.part, c.reader)), None),
};

/// Returns how a part is read, also where there is only one way.
fn reader(collector: &Collector) -> Option<&'static str> {
    match (collector.reader, collector.part) {
        (Some(reader), _) => Some(reader.as_str()),
        (None, Part::Pin | Part::Cgroup | Part::Host) => Some("fs"),
        (None, Part::Event) => Some("perf"),
        (None, Part::Hook) => Some("query"),
        (None, Part::Program | Part::Map | Part::Link | Part::Btf | Part::Holder) => None,
    }
}

/// Whether each source sees everything.
pub static FEATURE: Entity<FeatureState> = Entity {
    title: "Features",
    part: None,
    key: &[Label {
        name: "feature",
        help: "the source; [Privileges](privileges.md) has what each sees and needs",
        read: |f| Some(Text(f.feature.as_str())),
    }],
    info: &[Label {
        name: "reason",
        help: "why it is not available: the name of a missing capability, or another word of [Privileges](privileges.md); absent if it is",
        read: |f| f.reason.map(|reason| Text(reason.as_str())),
    }],
    metrics: &[Metric {
        name: "bpf_exporter_feature_available",
        kind: Gauge,
        unit: Unit::None,
        help: "Whether this source sees everything: 1, or 0 where a right, the kernel or the view is missing; absent if it is not used.",
        source: "the exporter",
        since: "",
        carries: Info,
        read: |f| Some(Int(f.reason.is_none().into())),
    }],
    object: None,
    series: |f| Series { id: hash(f.feature), birth: None, revision: hash(f.reason) },
};

/// Failures to read something.
pub static ISSUE: Entity<(BootTime, Issue)> = Entity {
    title: "Issues",
    part: None,
    key: &[
        Label {
            name: "collector",
            help: "part of the reading in which it occurred",
            read: |(_, i)| Some(Text(i.part.as_str())),
        },
        Label {
            name: "call",
            help: "the failed call, by the kernel's name; absent on the series of each collector that is always 0",
            read: |(_, i)| Some(Text(&i.call)).filter(|_| !i.call.is_empty()),
        },
        Label {
            name: "error",
            help: "the error, by the symbol of the errno",
            read: |(_, i)| Some(Text(&i.error)).filter(|_| !i.error.is_empty()),
        },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_exporter_issues",
        kind: Counter,
        unit: Each("{issue}"),
        help: "Failures to read something since the exporter's start; objects that are removed during a reading do not count.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |(_, i)| Some(Value::count(i.total)),
    }],
    object: None,
    series: |(since, i)| Series::fixed(hash((i.part, &i.call, &i.error)), Some(Observed(*since))),
};

/// The exporter's build.
pub static BUILD: Entity<Build> = Entity {
    title: "The exporter",
    part: None,
    key: &[],
    info: &[
        Label { name: "version", help: "the exporter's version", read: |b| Some(Text(b.version)) },
        Label {
            name: "revision",
            help: "source revision; absent unless built from a checkout",
            read: |b| b.revision.map(Text),
        },
        Label { name: "rustc", help: "version of the compiler", read: |b| b.rustc.map(Text) },
    ],
    metrics: &[Metric {
        name: "bpf_exporter_build_info",
        kind: Gauge,
        unit: Unit::None,
        help: "Version, source revision and compiler of the exporter; always 1.",
        source: "the exporter",
        since: "",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: None,
    series: |b| Series::fixed(0, Some(Observed(b.started_at))),
};

/// Resources that the exporter's process uses, by the names that Prometheus client libraries give them.
pub static PROCESS: Entity<OwnProcess> = Entity {
    title: "The exporter's process",
    part: None,
    key: &[],
    info: &[],
    metrics: &[
        Metric {
            name: "process_cpu",
            kind: Counter,
            unit: Seconds,
            help: "CPU time that the exporter spent in user and kernel mode.",
            source: "`utime` and `stime` of `/proc/self/stat`",
            since: "",
            carries: Key,
            read: |p| Some(Float(p.cpu.as_secs_f64())),
        },
        process(
            "process_resident_memory_bytes",
            Bytes,
            "Resident memory of the exporter.",
            "`rss` of `/proc/self/stat`",
            |p| Some(Value::count(p.resident_memory)),
        ),
        process(
            "process_virtual_memory_bytes",
            Bytes,
            "Virtual memory of the exporter.",
            "`vsize` of `/proc/self/stat`",
            |p| Some(Value::count(p.virtual_memory)),
        ),
        process(
            "process_open_fds",
            Each("{descriptor}"),
            "Open descriptors of the exporter.",
            "`/proc/self/fd`",
            |p| Some(Value::count(p.open_fds)),
        ),
        process(
            "process_max_fds",
            Each("{descriptor}"),
            "Maximum number of open descriptors of the exporter.",
            "`getrlimit(RLIMIT_NOFILE)`",
            |p| Some(Value::count(p.max_fds)),
        ),
        process(
            "process_threads",
            Each("{thread}"),
            "Threads of the exporter.",
            "`num_threads` of `/proc/self/stat`",
            |p| Some(Value::count(p.threads)),
        ),
        process(
            "process_start_time",
            Seconds,
            "Time at which the exporter was started, in seconds since 1970-01-01 UTC.",
            "`starttime` of `/proc/self/stat`",
            |p| Some(Value::Time(p.started_at)),
        ),
    ],
    object: None,
    series: |p| Series::fixed(0, Some(Reported(p.started_at))),
};

/// Returns a gauge of the exporter's process.
const fn process(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    source: &'static str,
    read: for<'a> fn(&'a OwnProcess) -> Option<Value<'a>>,
) -> Metric<OwnProcess> {
    Metric { name, kind: Gauge, unit, help, source, since: "", carries: Key, read }
}

/// Lines of the log that were lost.
pub static LOG: Entity<(BootTime, u64)> = Entity {
    title: "The exporter's log",
    part: None,
    key: &[],
    info: &[],
    metrics: &[Metric {
        name: "bpf_exporter_log_dropped_lines",
        kind: Counter,
        unit: Each("{line}"),
        help: "Lines of the log that standard error did not take: it is closed, full or not read.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |(_, lost)| Some(Value::count(*lost)),
    }],
    object: None,
    series: |(since, _)| Series::fixed(0, Some(Observed(*since))),
};

/// Receivers of the push.
pub static OTLP_DESTINATION: Entity<Destination> = Entity {
    title: "OTLP destinations",
    part: None,
    key: &[Label {
        name: "destination",
        help: "the receiver as in `endpoint`; absent if there is only one",
        read: |d| d.destination.as_deref().map(Text),
    }],
    info: &[
        Label {
            name: "endpoint",
            help: "scheme, host, port and path of the receiver, or its Unix socket",
            read: |d| Some(Text(&d.endpoint)),
        },
        Label {
            name: "configured",
            help: "whether a flag or a variable gives the receiver, rather than the default: `true` or `false`",
            read: |d| Some(Flag(d.configured)),
        },
    ],
    metrics: &[Metric {
        name: "bpf_exporter_otlp_destination_info",
        kind: Gauge,
        unit: Unit::None,
        help: "A receiver that points or log records are pushed to; always 1. Absent with --otlp-grpc none.",
        source: "the exporter",
        since: "",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: None,
    series: |d| Series::fixed(hash(&d.endpoint), None),
};

/// The receiver of a counter.
const DESTINATION: Label<Tally> = Label {
    name: "destination",
    help: "the receiver; absent if there is only one",
    read: |t| t.destination.as_deref().map(Text),
};

/// Points by outcome at the receiver.
pub static OTLP_POINTS: Entity<Tally> = Entity {
    title: "OTLP points",
    part: None,
    key: &[
        DESTINATION,
        Label {
            name: "outcome",
            help: "`accepted`, or `rejected` if the receiver accepted a request without some of its points",
            read: |t| Some(Text(t.label)),
        },
    ],
    info: &[],
    metrics: &[tally("bpf_exporter_otlp_points", "{point}", "Points by the receiver's response.")],
    object: None,
    series: tally_series,
};

/// Dropped points by reason.
pub static OTLP_DROPPED: Entity<Tally> = Entity {
    title: "Dropped OTLP points",
    part: None,
    key: &[
        DESTINATION,
        Label {
            name: "reason",
            help: "`refused` (a permanent error of the receiver), `backlog_full`, `shutdown`, or `unreadable` (on a damaged disk)",
            read: |t| Some(Text(t.label)),
        },
    ],
    info: &[],
    metrics: &[tally("bpf_exporter_otlp_dropped_points", "{point}", "Points dropped before delivery.")],
    object: None,
    series: tally_series,
};

/// Log records by outcome at the receiver.
pub static OTLP_LOG_RECORDS: Entity<Tally> = Entity {
    title: "OTLP log records",
    part: None,
    key: &[
        DESTINATION,
        Label {
            name: "outcome",
            help: "`accepted`, or `rejected` if the receiver accepted a request without some of its log records",
            read: |t| Some(Text(t.label)),
        },
    ],
    info: &[],
    metrics: &[tally(
        "bpf_exporter_otlp_log_records",
        "{record}",
        "Log records of events by the receiver's response; absent if none are pushed.",
    )],
    object: None,
    series: tally_series,
};

/// Dropped log records by reason.
pub static OTLP_DROPPED_LOG_RECORDS: Entity<Tally> = Entity {
    title: "Dropped OTLP log records",
    part: None,
    key: &[
        DESTINATION,
        Label {
            name: "reason",
            help: "as of `bpf_exporter_otlp_dropped_points`, or `missed` (events that came faster than they were encoded)",
            read: |t| Some(Text(t.label)),
        },
    ],
    info: &[],
    metrics: &[tally(
        "bpf_exporter_otlp_dropped_log_records",
        "{record}",
        "Log records of events dropped before delivery; absent if none are pushed.",
    )],
    object: None,
    series: tally_series,
};

/// Requests by outcome.
pub static OTLP_REQUESTS: Entity<Tally> = Entity {
    title: "OTLP requests",
    part: None,
    key: &[
        DESTINATION,
        Label {
            name: "outcome",
            help: "`success`, `retryable` (sent again), `split` (too large, sent again in parts) or `failed` (dropped)",
            read: |t| Some(Text(t.label)),
        },
    ],
    info: &[],
    metrics: &[tally(
        "bpf_exporter_otlp_requests",
        "{request}",
        "Requests sent with points or log records, retries included.",
    )],
    object: None,
    series: tally_series,
};

/// Requests waiting to be sent.
pub static OTLP_BACKLOG: Entity<Backlog> = Entity {
    title: "OTLP backlog",
    part: None,
    key: &[Label {
        name: "destination",
        help: "the receiver; absent if there is only one",
        read: |b| b.destination.as_deref().map(Text),
    }],
    info: &[],
    metrics: &[Metric {
        name: "bpf_exporter_otlp_backlog_bytes",
        kind: Gauge,
        unit: Bytes,
        help: "Size of the encoded requests waiting to be sent, as kept in memory or on disk.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |b| Some(Value::count(b.bytes)),
    }],
    object: None,
    series: |b| Series::fixed(hash(&b.destination), Some(Observed(b.since))),
};

fn tally_series(tally: &Tally) -> Series {
    Series::fixed(hash((&tally.destination, tally.label)), Some(Observed(tally.since)))
}

/// Returns a counter of the delivery over OTLP.
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
