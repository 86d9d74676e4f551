//! EVERY METRIC, ONE ROW EACH: add metrics here and nowhere else.
//! A row does no I/O and keeps no state; OTLP, Prometheus, the terminal's tables and `docs/metrics.md` derive from it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::slice;
use std::sync::Arc;

use jiff::Timestamp;

use super::Carries::{Info, Key};
use super::Kind::{Counter, Gauge};
use super::LabelValue::{Flag, Number, Text, Time};
use super::Unit::{Bytes, Each, Ratio, Seconds};
use super::Value::{Float, Int};
use super::{Entity, Label, LabelValue, Metric, Sample, Series, Unit, Value, Visitor};
use crate::model::{
    Backlog, Btf, Build, Collector, Delivery, Issue, Link, Map, ObjectCount, ObjectType, Program, RunStats,
    Snapshot, Tally,
};

/// Programs.
pub static PROGRAM: Entity<Program> = Entity {
    title: "Programs",
    key: &[
        Label { name: "id", help: "the program's id", read: |p| Some(Number(p.facts.id)) },
        Label {
            name: "name",
            help: "its full name where BTF knows it, else the kernel's 15 characters",
            read: |p| Some(Text(&p.facts.name)),
        },
        Label {
            name: "type",
            help: "its type as the kernel's tools spell it (`xdp`, `sched_cls`); a type newer than the exporter is its number",
            read: |p| Some(word_or_number(&p.facts.program_type)),
        },
    ],
    info: &[
        Label {
            name: "tag",
            help: "hash of its instructions, 16 hexadecimal digits",
            read: |p| Some(LabelValue::Tag(p.facts.tag)),
        },
        Label {
            name: "gpl_compatible",
            help: "whether its licence is compatible with the GPL: `true` or `false`",
            read: |p| Some(Flag(p.facts.gpl_compatible)),
        },
        Label {
            name: "load_time",
            help: "when it was loaded, RFC 3339, UTC",
            read: |p| Some(Time(p.facts.loaded_at)),
        },
        Label { name: "uid", help: "the user who loaded it", read: |p| Some(Number(p.facts.uid)) },
        Label {
            name: "btf_id",
            help: "the BTF object that describes it; absent when there is none",
            read: |p| p.facts.btf_id.map(Number),
        },
        Label {
            name: "attach_to",
            help: "the function it was compiled against, of the kernel or of another program; absent for types that have none",
            read: |p| p.facts.attach_to.as_deref().map(Text),
        },
        Label {
            name: "maps",
            help: "how many maps it uses",
            read: |p| {
                p.facts.map_ids.as_ref().map(|ids| Number(u32::try_from(ids.len()).unwrap_or(u32::MAX)))
            },
        },
    ],
    metrics: &[
        Metric {
            name: "bpf_program_info",
            kind: Gauge,
            unit: Unit::None,
            help: "What a loaded BPF program is; always 1.",
            source: "`bpf_prog_info`",
            since: "4.15",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_program_load_time",
            kind: Gauge,
            unit: Seconds,
            help: "When the program was loaded, in seconds since 1970-01-01 UTC.",
            source: "`bpf_prog_info.load_time`",
            since: "4.15",
            carries: Key,
            read: |p| Some(Int(p.facts.loaded_at.as_second())),
        },
        Metric {
            name: "bpf_program_size_jitted_bytes",
            kind: Counter,
            unit: Bytes,
            help: "Machine code of the program and all its functions; 0 when it is interpreted.",
            source: "`bpf_prog_info.jited_prog_len`",
            since: "4.13",
            carries: Key,
            read: |p| Some(Int(p.facts.size_jitted.into())),
        },
        Metric {
            name: "bpf_program_size_translated_bytes",
            kind: Counter,
            unit: Bytes,
            help: "Instructions of the program as the verifier left them.",
            source: "`bpf_prog_info.xlated_prog_len`",
            since: "4.13",
            carries: Key,
            read: |p| Some(Int(p.facts.size_translated.into())),
        },
        Metric {
            name: "bpf_program_mem_bytes",
            kind: Counter,
            unit: Bytes,
            help: "Memory that the kernel charges for the program, its maps apart.",
            source: "`memlock` in `/proc/self/fdinfo`",
            since: "4.13",
            carries: Key,
            read: |p| p.facts.mem.map(Value::count),
        },
        Metric {
            name: "bpf_program_verified_instructions",
            kind: Counter,
            unit: Each("{instruction}"),
            help: "Instructions that the verifier walked through when the program was loaded.",
            source: "`bpf_prog_info.verified_insns`",
            since: "5.16",
            carries: Key,
            read: |p| p.facts.verified_instructions.map(|count| Int(count.into())),
        },
        Metric {
            name: "bpf_program_run_time",
            kind: Counter,
            unit: Seconds,
            help: "CPU time that the program spent running while run statistics were on, with what interrupted it or, \
                   where it may sleep, its sleep. The rate of it divided by that of bpf_run_stats_covered is its share \
                   of a CPU; absent while statistics are off.",
            source: "`bpf_prog_info.run_time_ns`",
            since: "5.1",
            carries: Key,
            read: |p| p.run_time.map(|time| Float(time.as_secs_f64())),
        },
        Metric {
            name: "bpf_program_runs",
            kind: Counter,
            unit: Each("{run}"),
            help: "How often the program ran while run statistics were on. The rate of it divided by that of \
                   bpf_run_stats_covered is its runs per second; absent while statistics are off.",
            source: "`bpf_prog_info.run_cnt`",
            since: "5.1",
            carries: Key,
            read: |p| p.runs.map(Value::count),
        },
        Metric {
            name: "bpf_program_recursion_misses",
            kind: Counter,
            unit: Each("{miss}"),
            help: "Runs that were skipped because the program, or for probes another one, was already running on that \
                   CPU; counted also while run statistics are off.",
            source: "`bpf_prog_info.recursion_misses`",
            since: "5.12",
            carries: Key,
            read: |p| p.recursion_misses.map(Value::count),
        },
    ],
    series: |p| Series {
        id: p.facts.id.into(),
        birth: Some(p.facts.loaded_at),
        revision: p.facts.map_ids.as_ref().map_or(0, |ids| ids.len() as u64),
    },
};

/// Which program uses which map.
pub static PROGRAM_MAP: Entity<ProgramMap> = Entity {
    title: "Maps of programs",
    key: &[
        Label { name: "prog_id", help: "the program", read: |u| Some(Number(u.prog_id)) },
        Label { name: "map_id", help: "a map that it uses", read: |u| Some(Number(u.map_id)) },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_program_map_info",
        kind: Gauge,
        unit: Unit::None,
        help: "Which program uses which map; always 1.",
        source: "`bpf_prog_info.map_ids`",
        since: "4.15",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    series: |u| Series::fixed(u64::from(u.prog_id) << 32 | u64::from(u.map_id), None),
};

/// A use of a map by a program.
#[derive(Clone, Copy, Debug)]
pub struct ProgramMap {
    prog_id: u32,
    map_id: u32,
}

/// Maps.
pub static MAP: Entity<Map> = Entity {
    title: "Maps",
    key: &[
        Label { name: "id", help: "the map's id", read: |m| Some(Number(m.facts.id)) },
        Label { name: "name", help: "its name, 15 characters at most", read: |m| Some(Text(&m.facts.name)) },
        Label {
            name: "type",
            help: "its type as a number of `enum bpf_map_type`",
            read: |m| Some(Number(m.facts.map_type.number)),
        },
    ],
    info: &[
        Label { name: "key_size", help: "size of a key in bytes", read: |m| Some(Number(m.facts.key_size)) },
        Label {
            name: "value_size",
            help: "size of a value in bytes",
            read: |m| Some(Number(m.facts.value_size)),
        },
        Label {
            name: "max_entries",
            help: "how many entries it can hold",
            read: |m| Some(Number(m.facts.max_entries)),
        },
        Label {
            name: "flags",
            help: "the flags it was created with, as a decimal number",
            read: |m| Some(Number(m.facts.flags)),
        },
        Label {
            name: "type_name",
            help: "its type as the kernel's tools spell it (`lru_hash`); absent for a type newer than the exporter",
            read: |m| word(&m.facts.map_type),
        },
        Label {
            name: "btf_id",
            help: "the BTF object that describes its key and value; absent when there is none",
            read: |m| m.facts.btf_id.map(Number),
        },
        Label {
            name: "frozen",
            help: "whether user space may not change it any more: `true` or `false`; absent when it could not be read",
            read: |m| m.frozen.map(Flag),
        },
    ],
    metrics: &[
        Metric {
            name: "bpf_map_info",
            kind: Gauge,
            unit: Unit::None,
            help: "What a BPF map is; always 1.",
            source: "`bpf_map_info`",
            since: "4.15",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_map_key_size",
            kind: Counter,
            unit: Bytes,
            help: "Size of a key of the map.",
            source: "`bpf_map_info.key_size`",
            since: "4.13",
            carries: Key,
            read: |m| Some(Int(m.facts.key_size.into())),
        },
        Metric {
            name: "bpf_map_value_size",
            kind: Counter,
            unit: Bytes,
            help: "Size of a value of the map.",
            source: "`bpf_map_info.value_size`",
            since: "4.13",
            carries: Key,
            read: |m| Some(Int(m.facts.value_size.into())),
        },
        Metric {
            name: "bpf_map_max_entries",
            kind: Counter,
            unit: Each("{entry}"),
            help: "How many entries the map can hold.",
            source: "`bpf_map_info.max_entries`",
            since: "4.13",
            carries: Key,
            read: |m| Some(Int(m.facts.max_entries.into())),
        },
        Metric {
            name: "bpf_map_mem_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "Memory that the kernel charges for the map. Before 6.4 an estimate of the kernel's that does not move.",
            source: "`memlock` in `/proc/self/fdinfo`",
            since: "4.10",
            carries: Key,
            read: |m| m.mem.map(Value::count),
        },
        Metric {
            name: "bpf_map_entries",
            kind: Gauge,
            unit: Each("{entry}"),
            help: "How many entries the map holds; absent for types whose count the kernel does not keep, and for preallocated \
                   hashes before 6.6. Arrays are as long as they are.",
            source: "`bpf_map.elem_count`, or the counter of its type",
            since: "5.19",
            carries: Key,
            read: |m| m.entries.map(Value::count),
        },
        Metric {
            name: "bpf_map_fill",
            kind: Gauge,
            unit: Ratio,
            help: "Entries as a part of those that fit, for types that refuse another entry when they are full.",
            source: "`bpf_map.elem_count`, or the counter of its type; `bpf_map.max_entries`",
            since: "5.19",
            carries: Key,
            read: |m| m.fill().map(Float),
        },
        Metric {
            name: "bpf_map_backlog_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "What was written to a ring buffer and is not consumed yet, headers included.",
            source: "`bpf_ringbuf.producer_pos`, `bpf_ringbuf.consumer_pos`",
            since: "5.19",
            carries: Key,
            read: |m| m.backlog.map(Value::count),
        },
    ],
    series: |m| Series {
        id: m.facts.id.into(),
        birth: Some(m.facts.first_seen),
        revision: m.frozen.map_or(2, u64::from),
    },
};

/// Links.
pub static LINK: Entity<Link> = Entity {
    title: "Links",
    key: &[
        Label { name: "id", help: "the link's id", read: |l| Some(Number(l.facts.id)) },
        Label {
            name: "prog_id",
            help: "the program it attaches; absent for links without one (`struct_ops`)",
            read: |l| l.facts.prog_id.map(Number),
        },
        Label {
            name: "type",
            help: "its type as a number of `enum bpf_link_type`",
            read: |l| Some(Number(l.facts.link_type.number)),
        },
    ],
    info: &[
        Label {
            name: "type_name",
            help: "its type as the kernel's tools spell it (`tcx`); absent for a type newer than the exporter",
            read: |l| word(&l.facts.link_type),
        },
        Label {
            name: "attach_type",
            help: "the hook as the kernel's tools spell it (`cgroup_inet_ingress`), or its number; absent for types without",
            read: |l| l.facts.attach_type.as_ref().map(word_or_number),
        },
        Label {
            name: "target",
            help: "what it is attached to (`eth0 (2)`, `/system.slice/x.service`, `sched:sched_switch`, `tcp_connect`, \
                   `/usr/bin/x:0x1234`), the number where no name is known; absent where there is no target",
            read: |l| l.facts.target.as_deref().map(Text),
        },
    ],
    metrics: &[
        Metric {
            name: "bpf_link_info",
            kind: Gauge,
            unit: Unit::None,
            help: "What a BPF link is; always 1.",
            source: "`bpf_link_info`",
            since: "5.8",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_link_missed",
            kind: Counter,
            unit: Each("{miss}"),
            help: "How often the link's program should have run and could not; only for types that count it.",
            source: "`nmissed` of the probe, `missed` in `bpf_link_info`",
            since: "5.19",
            carries: Key,
            read: |l| l.missed.map(Value::count),
        },
    ],
    series: |l| Series {
        id: l.facts.id.into(),
        birth: Some(l.facts.first_seen),
        revision: hash(&l.facts.target),
    },
};

/// BTF objects.
pub static BTF: Entity<Arc<Btf>> = Entity {
    title: "BTF objects",
    key: &[
        Label { name: "id", help: "the BTF object's id", read: |b| Some(Number(b.id)) },
        Label {
            name: "name",
            help: "`vmlinux` or the module's name; absent for a loader's own",
            read: |b| b.name.as_deref().map(Text),
        },
    ],
    info: &[Label {
        name: "kernel",
        help: "whether it describes the kernel or a module: `true` or `false`; absent before 5.11",
        read: |b| b.kernel.map(Flag),
    }],
    metrics: &[
        Metric {
            name: "bpf_btf_info",
            kind: Gauge,
            unit: Unit::None,
            help: "What a BTF object is; always 1.",
            source: "`bpf_btf_info`",
            since: "5.4",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_btf_size_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "Size of the type information.",
            source: "`bpf_btf_info.btf_size`",
            since: "5.4",
            carries: Key,
            read: |b| Some(Int(b.size.into())),
        },
    ],
    series: |b| Series::fixed(b.id.into(), Some(b.first_seen)),
};

/// The whole host, by kind of object.
pub static HOST: Entity<ObjectCount> = Entity {
    title: "The host",
    key: &[Label {
        name: "kind",
        help: "`program`, `map`, `link` or `btf`",
        read: |o| Some(Text(o.kind.as_str())),
    }],
    info: &[],
    metrics: &[Metric {
        name: "bpf_objects",
        kind: Gauge,
        unit: Each("{object}"),
        help: "How many BPF objects of a kind there are; absent for a kind that could not be read.",
        source: "the kernel's table of the kind",
        since: "",
        carries: Key,
        read: |o| Some(Value::size(o.count)),
    }],
    series: |o| Series::fixed(hash(o.kind), None),
};

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
    series: |(since, _)| Series::fixed(0, Some(*since)),
};

/// How each part of a reading went.
pub static COLLECTOR: Entity<Collector> = Entity {
    title: "Readings",
    key: &[Label {
        name: "collector",
        help: "what was read: `program`, `map`, `link` or `btf`",
        read: |c| Some(Text(c.kind.as_str())),
    }],
    info: &[Label {
        name: "reader",
        help: "how: `iter` (a BPF iterator, a few reads for all) or `walk` (by ids, a few system calls for each)",
        read: |c| Some(Text(c.reader.as_str())),
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
    series: |c| Series { id: hash(c.kind), birth: None, revision: hash(c.reader.as_str()) },
};

/// What could not be read.
pub static ISSUE: Entity<(Timestamp, Issue)> = Entity {
    title: "Issues",
    key: &[
        Label {
            name: "collector",
            help: "the part of the reading that met it",
            read: |(_, i)| Some(Text(i.kind.as_str())),
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
    series: |(since, i)| Series::fixed(hash((i.kind, &i.call, &i.error)), Some(*since)),
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
    series: |b| Series::fixed(0, Some(b.since)),
};

/// Shows every entity in the order of the table.
pub(super) fn visit(sample: Option<Sample<'_>>, visitor: &mut impl Visitor) {
    let snapshot = sample.map(|sample| sample.snapshot);
    visitor.entity(&PROGRAM, snapshot.and_then(|snapshot| snapshot.programs.as_deref()));
    let told = sample.is_none_or(|sample| sample.exporter.is_none_or(|exporter| exporter.program_maps));
    let uses = snapshot.filter(|_| told).and_then(program_maps);
    visitor.entity(&PROGRAM_MAP, uses.as_deref());
    visitor.entity(&MAP, snapshot.and_then(|snapshot| snapshot.maps.as_deref()));
    visitor.entity(&LINK, snapshot.and_then(|snapshot| snapshot.links.as_deref()));
    visitor.entity(&BTF, snapshot.and_then(|snapshot| snapshot.btfs.as_deref()));
    visitor.entity(&HOST, snapshot.map(Snapshot::counts).as_deref());
    let by = |snapshot: &Snapshot| -> Vec<_> {
        let stats = snapshot.run_stats;
        let by_exporter = ("exporter", stats.by_exporter);
        std::iter::once(by_exporter).chain(stats.by_sysctl.map(|on| ("sysctl", on))).collect()
    };
    visitor.entity(&RUN_STATS_BY, snapshot.map(by).as_deref());
    let covered = snapshot.map(|snapshot| (snapshot.reader_started_at, snapshot.run_stats));
    visitor.entity(&RUN_STATS, covered.as_ref().map(slice::from_ref));
    visitor.entity(&COLLECTOR, snapshot.map(|snapshot| &*snapshot.collectors));
    let issues = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.issues.iter().map(|issue| (snapshot.reader_started_at, issue.clone())).collect()
    };
    visitor.entity(&ISSUE, snapshot.map(issues).as_deref());

    let exporter = sample.and_then(|sample| sample.exporter);
    visitor.entity(&BUILD, exporter.map(|exporter| slice::from_ref(&exporter.build)));
    let delivery = exporter.and_then(|exporter| exporter.delivery.as_ref());
    visitor.entity(&OTLP_POINTS, delivery.map(|delivery| &*delivery.points));
    visitor.entity(&OTLP_DROPPED, delivery.map(|delivery| &*delivery.dropped));
    visitor.entity(&OTLP_REQUESTS, delivery.map(|delivery| &*delivery.requests));
    visitor.entity(&OTLP_BACKLOG, delivery.map(|Delivery { backlog, .. }| slice::from_ref(backlog)));
}

/// Every use of a map by a program.
fn program_maps(snapshot: &Snapshot) -> Option<Vec<ProgramMap>> {
    let programs = snapshot.programs.as_ref()?;
    let uses = programs.iter().flat_map(|program| {
        let map_ids = program.facts.map_ids.as_deref().unwrap_or_default();
        map_ids.iter().map(|&map_id| ProgramMap { prog_id: program.facts.id, map_id })
    });
    Some(uses.collect())
}

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

fn word(object_type: &ObjectType) -> Option<LabelValue<'_>> {
    object_type.name.as_deref().map(Text)
}

fn word_or_number(object_type: &ObjectType) -> LabelValue<'_> {
    word(object_type).unwrap_or(Number(object_type.number))
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
