//! Metrics of programs, maps, links and BTF objects.

use std::sync::Arc;

use super::{device_name, ifindex, inode, word, word_or_number};
use crate::metrics::Birth::{Observed, Reported};
use crate::metrics::Carries::{Info, Key};
use crate::metrics::LabelValue::{Flag, Integer, Number, Text, Time};
use crate::metrics::MetricKind::{Counter, Gauge};
use crate::metrics::Unit::{Bytes, Each, Ratio, Seconds};
use crate::metrics::Value::{Float, Int};
use crate::metrics::{Entity, Label, LabelValue, Metric, Series, Unit, Value};
use crate::model::{Btf, Kind, Link, Map, Object, Owner, Part, Program, hash};

/// Programs.
pub static PROGRAM: Entity<Program> = Entity {
    title: "Programs",
    part: Some(Part::Program),
    key: &[
        Label { name: "id", help: "the program's id", read: |p| Some(Number(p.facts.id)) },
        Label {
            name: "name",
            help: "its full name if its BTF has it, else the 15 characters that the kernel keeps",
            read: |p| Some(Text(&p.facts.name)),
        },
        Label {
            name: "type",
            help: "its type as the kernel's tools spell it (`xdp`, `sched_cls`); the number if it is newer than the exporter",
            read: |p| Some(word_or_number(&p.facts.program_type)),
        },
    ],
    info: &[
        Label {
            name: "prog_id",
            help: "the same as `id`, under the name that other metrics have for it",
            read: |p| Some(Number(p.facts.id)),
        },
        Label {
            name: "tag",
            help: "hash of its instructions, 16 hexadecimal digits",
            read: |p| Some(LabelValue::Tag(p.facts.tag)),
        },
        Label {
            name: "gpl_compatible",
            help: "whether its license is compatible with the GPL: `true` or `false`",
            read: |p| Some(Flag(p.facts.gpl_compatible)),
        },
        Label {
            name: "load_time",
            help: "when it was loaded, RFC 3339, UTC",
            read: |p| Some(Time(p.facts.loaded_at)),
        },
        Label { name: "uid", help: "user id of its loader", read: |p| Some(Number(p.facts.uid)) },
        Label {
            name: "btf_id",
            help: "id of its BTF object; absent if it has none",
            read: |p| p.facts.btf_id.map(Number),
        },
        Label {
            name: "attach_to",
            help: "the function of the kernel or of another program that it was compiled for; absent for types without one",
            read: |p| p.facts.attach_to.as_deref().map(Text),
        },
        owner(|p| owner_name(p.owner.as_ref())),
        owner_kind(|p| owner_kind_word(p.owner.as_ref())),
    ],
    metrics: &[
        Metric {
            name: "bpf_program_info",
            kind: Gauge,
            unit: Unit::None,
            help: "Information about a loaded BPF program; always 1.",
            source: "`bpf_prog_info`",
            since: "4.15",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_program_load_time",
            kind: Gauge,
            unit: Seconds,
            help: "Time at which the program was loaded, in seconds since 1970-01-01 UTC.",
            source: "`bpf_prog_info.load_time`",
            since: "4.15",
            carries: Key,
            read: |p| Some(Value::Time(p.facts.loaded_at)),
        },
        Metric {
            name: "bpf_program_size_jitted_bytes",
            kind: Counter,
            unit: Bytes,
            help: "Size of the machine code of the program and all its functions; 0 if it is interpreted.",
            source: "`bpf_prog_info.jited_prog_len`",
            since: "4.13",
            carries: Key,
            read: |p| Some(Int(p.facts.size_jitted.into())),
        },
        Metric {
            name: "bpf_program_size_translated_bytes",
            kind: Counter,
            unit: Bytes,
            help: "Size of the program's instructions after verification.",
            source: "`bpf_prog_info.xlated_prog_len`",
            since: "4.13",
            carries: Key,
            read: |p| Some(Int(p.facts.size_translated.into())),
        },
        Metric {
            name: "bpf_program_mem_bytes",
            kind: Counter,
            unit: Bytes,
            help: "Memory charged for the program, excluding its maps.",
            source: "`memlock` in `/proc/self/fdinfo`",
            since: "4.13",
            carries: Key,
            read: |p| p.facts.mem.map(Value::count),
        },
        Metric {
            name: "bpf_program_verified_instructions",
            kind: Counter,
            unit: Each("{instruction}"),
            help: "Instructions that the verifier processed when the program was loaded.",
            source: "`bpf_prog_info.verified_insns`",
            since: "5.16",
            carries: Key,
            read: |p| p.facts.verified_instructions.map(|count| Int(count.into())),
        },
        Metric {
            name: "bpf_program_maps",
            kind: Gauge,
            unit: Each("{map}"),
            help: "Maps that the program uses, those bound to it later included.",
            source: "`bpf_prog_info.nr_map_ids`",
            since: "4.15",
            carries: Key,
            read: |p| p.facts.map_ids.as_ref().map(|ids| Value::size(ids.len())),
        },
        Metric {
            name: "bpf_program_run_time",
            kind: Counter,
            unit: Seconds,
            help: "Time spent running the program while run statistics were on, including interrupts and sleep; divide its rate by \
                   that of bpf_run_stats_covered to get CPUs used; absent while statistics are off.",
            source: "`bpf_prog_info.run_time_ns`",
            since: "5.1",
            carries: Key,
            read: |p| p.run_time.map(|time| Float(time.as_secs_f64())),
        },
        Metric {
            name: "bpf_program_runs",
            kind: Counter,
            unit: Each("{run}"),
            help: "Runs of the program while run statistics were on; divide its rate by that of bpf_run_stats_covered to get runs \
                   per second; absent while statistics are off.",
            source: "`bpf_prog_info.run_cnt`",
            since: "5.1",
            carries: Key,
            read: |p| p.runs.map(Value::count),
        },
        Metric {
            name: "bpf_program_recursion_misses",
            kind: Counter,
            unit: Each("{miss}"),
            help: "Runs skipped because the program, or for probes another one, was already running on that CPU; counted even \
                   while run statistics are off.",
            source: "`bpf_prog_info.recursion_misses`",
            since: "5.12",
            carries: Key,
            read: |p| p.recursion_misses.map(Value::count),
        },
    ],
    object: Some(|p| Object { kind: Kind::Program, id: p.facts.id }),
    series: |p| Series {
        id: p.facts.id.into(),
        birth: Some(Reported(p.facts.loaded_at)),
        revision: hash((p.facts.map_ids.as_ref().map(Vec::len), revision(p.owner.as_ref()))),
    },
};

/// Uses of maps by programs.
pub static PROGRAM_MAP: Entity<ProgramMap> = Entity {
    title: "Maps of programs",
    part: Some(Part::Program),
    key: &[
        Label { name: "prog_id", help: "the program", read: |u| Some(Number(u.prog_id)) },
        Label { name: "map_id", help: "a map that it uses", read: |u| Some(Number(u.map_id)) },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_program_map_info",
        kind: Gauge,
        unit: Unit::None,
        help: "Use of a map by a program; always 1.",
        source: "`bpf_prog_info.map_ids`",
        since: "4.15",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    // It belongs to the program, whether or not the map is exported.
    object: Some(|u| Object { kind: Kind::Program, id: u.prog_id }),
    series: |u| Series::fixed(u64::from(u.prog_id) << 32 | u64::from(u.map_id), None),
};

/// A use of a map by a program.
#[derive(Clone, Copy, Debug)]
pub struct ProgramMap {
    pub(super) prog_id: u32,
    pub(super) map_id: u32,
}

/// Maps.
pub static MAP: Entity<Map> = Entity {
    title: "Maps",
    part: Some(Part::Map),
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
        Label {
            name: "map_id",
            help: "the same as `id`, under the name that other metrics have for it",
            read: |m| Some(Number(m.facts.id)),
        },
        Label { name: "key_size", help: "size of a key in bytes", read: |m| Some(Number(m.facts.key_size)) },
        Label {
            name: "value_size",
            help: "size of a value in bytes",
            read: |m| Some(Number(m.facts.value_size)),
        },
        Label {
            name: "max_entries",
            help: "its maximum number of entries",
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
            help: "id of the BTF object that describes its key and value; absent if it has none",
            read: |m| m.facts.btf_id.map(Number),
        },
        Label {
            name: "frozen",
            help: "whether user space can no longer write to it: `true` or `false`; absent if it could not be read",
            read: |m| m.frozen.map(Flag),
        },
        owner(|m| owner_name(m.owner.as_ref())),
        owner_kind(|m| owner_kind_word(m.owner.as_ref())),
    ],
    metrics: &[
        Metric {
            name: "bpf_map_info",
            kind: Gauge,
            unit: Unit::None,
            help: "Information about a BPF map; always 1.",
            source: "`bpf_map_info`",
            since: "4.15",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_map_key_size",
            kind: Counter,
            unit: Bytes,
            help: "Size of the map's keys.",
            source: "`bpf_map_info.key_size`",
            since: "4.13",
            carries: Key,
            read: |m| Some(Int(m.facts.key_size.into())),
        },
        Metric {
            name: "bpf_map_value_size",
            kind: Counter,
            unit: Bytes,
            help: "Size of the map's values.",
            source: "`bpf_map_info.value_size`",
            since: "4.13",
            carries: Key,
            read: |m| Some(Int(m.facts.value_size.into())),
        },
        Metric {
            name: "bpf_map_max_entries",
            kind: Counter,
            unit: Each("{entry}"),
            help: "Maximum number of entries in the map.",
            source: "`bpf_map_info.max_entries`",
            since: "4.13",
            carries: Key,
            read: |m| Some(Int(m.facts.max_entries.into())),
        },
        Metric {
            name: "bpf_map_mem_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "Memory charged for the map; before Linux 6.4 a constant estimate.",
            source: "`memlock` in `/proc/self/fdinfo`, of maps that grow also calculated from it and their entries",
            since: "4.10",
            carries: Key,
            read: |m| m.mem.map(Value::count),
        },
        Metric {
            name: "bpf_map_entries",
            kind: Gauge,
            unit: Each("{entry}"),
            help: "Number of entries in the map; absent for types without a count in the kernel, and for preallocated hashes before \
                   Linux 6.6; always the maximum for arrays.",
            source: "`bpf_map.elem_count`, or the counter of its type",
            since: "5.19",
            carries: Key,
            read: |m| m.entries.map(Value::count),
        },
        Metric {
            name: "bpf_map_fill",
            kind: Gauge,
            unit: Ratio,
            help: "Fraction of the map's entries in use; only for types that refuse another entry when they are full.",
            source: "`bpf_map.elem_count`, or the counter of its type; `bpf_map.max_entries`",
            since: "5.19",
            carries: Key,
            read: |m| m.fill().map(Float),
        },
        Metric {
            name: "bpf_map_backlog_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "Bytes in the ring buffer that are not consumed yet, including headers.",
            source: "`bpf_ringbuf.producer_pos`, `bpf_ringbuf.consumer_pos`",
            since: "5.19",
            carries: Key,
            read: |m| m.backlog.map(Value::count),
        },
    ],
    object: Some(|m| Object { kind: Kind::Map, id: m.facts.id }),
    series: |m| Series {
        id: m.facts.id.into(),
        birth: Some(Observed(m.facts.first_seen)),
        revision: hash((m.frozen, revision(m.owner.as_ref()))),
    },
};

/// Links.
pub static LINK: Entity<Link> = Entity {
    title: "Links",
    part: Some(Part::Link),
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
            name: "link_id",
            help: "the same as `id`, under the name that other metrics have for it",
            read: |l| Some(Number(l.facts.id)),
        },
        Label {
            name: "type_name",
            help: "its type as the kernel's tools spell it (`tcx`); absent for a type newer than the exporter",
            read: |l| word(&l.facts.link_type),
        },
        Label {
            name: "attach_type",
            help: "the hook as the kernel's tools spell it (`cgroup_inet_ingress`), or its number; absent for types without one",
            read: |l| l.facts.attach_type.as_ref().map(word_or_number),
        },
        Label {
            name: "target",
            help: "what it is attached to (`eth0`, `/system.slice/x.service`, `sched:sched_switch`, `tcp_connect`, \
                   `/usr/bin/x:0x1234`), the number where no name is known; absent where there is no target",
            read: |l| l.facts.target.as_ref().map(LabelValue::Target),
        },
        Label {
            name: "device",
            help: "the name of the network interface; absent for other targets, and where its network namespace is not known",
            read: |l| device_name(l.facts.target.as_ref()?),
        },
        Label {
            name: "ifindex",
            help: "the index of the network interface",
            read: |l| ifindex(l.facts.target.as_ref()?),
        },
        Label {
            name: "netns",
            help: "the network namespace of the target, by its inode number; absent where there is none, and where it is not known",
            read: |l| inode(l.facts.netns.as_ref()),
        },
        Label {
            name: "netns_name",
            help: "its name in `/run/netns`; absent without one",
            read: |l| l.facts.netns.as_ref()?.name.as_deref().map(Text),
        },
        Label {
            name: "cgroup",
            help: "the path of the cgroup; absent for other targets and where no path is known",
            read: |l| l.facts.target.as_ref()?.cgroup_path().map(Text),
        },
        Label {
            name: "symbol",
            help: "the function, or the symbol of a probe in the kernel, without an offset",
            read: |l| l.facts.target.as_ref()?.symbol().map(Text),
        },
        Label {
            name: "priority",
            help: "the priority at a hook of netfilter: the smallest runs first",
            read: |l| l.facts.target.as_ref()?.priority().map(|priority| Integer(priority.into())),
        },
        owner(|l| owner_name(l.owner.as_ref())),
        owner_kind(|l| owner_kind_word(l.owner.as_ref())),
    ],
    metrics: &[
        Metric {
            name: "bpf_link_info",
            kind: Gauge,
            unit: Unit::None,
            help: "Information about a BPF link; always 1.",
            source: "`bpf_link_info`",
            since: "5.8",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_link_missed",
            kind: Counter,
            unit: Each("{miss}"),
            help: "Missed runs of the link's program; only for link types that count them.",
            source: "`nmissed` of the probe, `missed` in `bpf_link_info`",
            since: "5.19",
            carries: Key,
            read: |l| l.missed.map(Value::count),
        },
    ],
    object: Some(|l| Object { kind: Kind::Link, id: l.facts.id }),
    series: |l| Series {
        id: l.facts.id.into(),
        birth: Some(Observed(l.facts.first_seen)),
        revision: hash((&l.facts.target, &l.facts.netns, revision(l.owner.as_ref()))),
    },
};

/// BTF objects.
pub static BTF: Entity<Arc<Btf>> = Entity {
    title: "BTF objects",
    part: Some(Part::Btf),
    key: &[
        Label { name: "id", help: "the BTF object's id", read: |b| Some(Number(b.id)) },
        Label {
            name: "name",
            help: "`vmlinux` or the module's name; absent for BTF from a loader",
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
            help: "Information about a BTF object; always 1.",
            source: "`bpf_btf_info`",
            since: "5.4",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_btf_size_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "Size of the BTF object.",
            source: "`bpf_btf_info.btf_size`",
            since: "5.4",
            carries: Key,
            read: |b| Some(Int(b.size.into())),
        },
    ],
    object: Some(|b| Object { kind: Kind::Btf, id: b.id }),
    series: |b| Series::fixed(b.id.into(), Some(Observed(b.first_seen))),
};

/// The label for the owner of an object.
const fn owner<T>(read: for<'a> fn(&'a T) -> Option<LabelValue<'a>>) -> Label<T> {
    Label {
        name: "owner",
        help: "its owner, the key of `bpf_owner_mem_bytes` and similar metrics; absent if not determined",
        read,
    }
}

/// The label for the kind of owner of an object.
const fn owner_kind<T>(read: for<'a> fn(&'a T) -> Option<LabelValue<'a>>) -> Label<T> {
    Label {
        name: "owner_kind",
        help: "kind of owner: `pod`, `container`, `unit`, `process`, `pin` or `kernel`",
        read,
    }
}

pub(super) fn owner_name(owner: Option<&Arc<Owner>>) -> Option<LabelValue<'_>> {
    owner.map(|owner| Text(owner.name()))
}

pub(super) fn owner_kind_word(owner: Option<&Arc<Owner>>) -> Option<LabelValue<'_>> {
    owner.map(|owner| Text(owner.kind().as_str()))
}

/// Returns a number that changes with the owner and anything about it.
fn revision(owner: Option<&Arc<Owner>>) -> Option<u64> {
    owner.map(|owner| owner.revision())
}
