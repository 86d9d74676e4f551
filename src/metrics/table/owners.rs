//! Metrics of holders, pins and owners, and totals of the host.

use std::sync::Arc;

use crate::metrics::Birth::Observed;
use crate::metrics::Carries::{Info, Key};
use crate::metrics::LabelValue::{Number, Text};
use crate::metrics::MetricKind::{Counter, Gauge};
use crate::metrics::Unit::{Bytes, Each, Seconds};
use crate::metrics::Value::{Float, Int};
use crate::metrics::{Entity, Label, Metric, Series, Unit, Value};
use crate::model::{Holder, Kind, KindTotal, Object, Owner, OwnerTotal, Part, Pin, hash};

/// Labels of an owner: what identifies it on its host, given how to get from a value to its owner.
macro_rules! key_labels {
    ($($before:expr,)* ; |$value:ident| $owner:expr) => {
        &[
            $($before,)*
            Label {
                name: "owner",
                help: "name of the owner: a pod's namespace and name, a container's name, a unit, the name of processes outside of units, \
                       a directory of pins, or `kernel`; the id of a pod or container whose name is not known",
                read: |$value| (!$owner.awaits_name()).then(|| Text($owner.name())),
            },
            Label {
                name: "owner_kind",
                help: "kind of owner: `pod`, `container`, `unit`, `process`, `pin` or `kernel`",
                read: |$value| Some(Text($owner.kind().as_str())),
            },
        ]
    };
}
pub(super) use key_labels;

/// What else is known of an owner, in the same way.
macro_rules! identity_labels {
    ($($before:expr,)* ; |$value:ident| $owner:expr) => {
        &[
            $($before,)*
            Label {
                name: "container.id",
                help: "id of the container",
                read: |$value| $owner.container.as_ref().map(|container| Text(&container.id)),
            },
            Label {
                name: "container.name",
                help: "name of the container outside of pods; absent until looked up",
                read: |$value| {
                    let container = $owner.container.as_ref().filter(|_| $owner.pod.is_none())?;
                    container.name.as_deref().map(Text)
                },
            },
            Label {
                name: "k8s.namespace.name",
                help: "namespace of the pod; absent until looked up",
                read: |$value| $owner.pod.as_ref()?.namespace.as_deref().map(Text),
            },
            Label {
                name: "k8s.pod.name",
                help: "name of the pod; absent until looked up",
                read: |$value| $owner.pod.as_ref()?.name.as_deref().map(Text),
            },
            Label {
                name: "k8s.pod.uid",
                help: "UID of the pod; absent for static pods",
                read: |$value| $owner.pod.as_ref()?.uid.as_deref().map(Text),
            },
            Label {
                name: "k8s.container.name",
                help: "name of the container in its pod; absent until looked up",
                read: |$value| {
                    let container = $owner.container.as_ref().filter(|_| $owner.pod.is_some())?;
                    container.name.as_deref().map(Text)
                },
            },
            Label {
                name: "systemd.unit",
                help: "systemd unit; of a container, the unit below which it is, if that may create cgroups of any name",
                read: |$value| $owner.unit.as_deref().map(Text),
            },
            Label {
                name: "identified_by",
                help: "how pod and container are known: `path`, the outermost container on the path of the cgroup, which only the host \
                       can create; `confirmed`, one inside of that, which the node's log directory or runtime confirms; `delegated`, one \
                       below a unit that may create cgroups of any name",
                read: |$value| $owner.identified_by.map(|by| Text(by.as_str())),
            },
        ]
    };
}

/// Returns an entity of holders of a kind of object.
macro_rules! holders {
    ($title:literal, $kind:expr, $object:literal, $name:literal) => {
        Entity {
            title: $title,
            part: Some(Part::Holder),
            key: key_labels![
                Label { name: "id", help: $object, read: |h| Some(Number(h.id)) },
                Label {
                    name: "held_by",
                    help: "`process` (it has a descriptor), `pin`, or `creator` (its memory cgroup is charged for the object)",
                    read: |h| Some(Text(h.held_by.as_str())),
                },
                Label {
                    name: "bpffs",
                    help: "of a directory of pins with a path in another mount namespace, as of `bpf_pin_info`",
                    read: |h| h.owner.bpffs.as_deref().map(Text),
                },
                ; |h| h.owner
            ],
            info: identity_labels![
                Label {
                    name: "process.pid",
                    help: "process id on the host; where holders are read in /proc, in its pid namespace",
                    read: |h| h.owner.process.as_ref().map(|process| Number(process.pid)),
                },
                Label {
                    name: "process.executable.name",
                    help: "file name of its executable; absent if that may not be read",
                    read: |h| h.owner.process.as_ref()?.executable_name.as_deref().map(Text),
                },
                ; |h| h.owner
            ],
            metrics: &[Metric {
                name: $name,
                kind: Gauge,
                unit: Unit::None,
                help: concat!("A holder of ", $object, ": a process, a directory of pins, or the creator's cgroup; always 1."),
                source: "`struct file` of processes, the mounted bpffs, the charged memory cgroup",
                since: "5.8",
                carries: Info,
                read: |_| Some(Int(1)),
            }],
            object: Some(|h| Object { kind: $kind, id: h.id }),
            series: holder_series,
        }
    };
}

/// Holders of programs.
pub static PROGRAM_HOLDER: Entity<Holder> =
    holders!("Holders of programs", Kind::Program, "the program", "bpf_program_holder_info");
/// Holders of maps.
pub static MAP_HOLDER: Entity<Holder> =
    holders!("Holders of maps", Kind::Map, "the map", "bpf_map_holder_info");
/// Holders of links.
pub static LINK_HOLDER: Entity<Holder> =
    holders!("Holders of links", Kind::Link, "the link", "bpf_link_holder_info");

fn holder_series(holder: &Holder) -> Series {
    let Holder { id, held_by, owner } = holder;
    Series { id: hash((id, held_by, owner.key())), birth: None, revision: owner.revision() }
}

/// Pins.
pub static PIN: Entity<Pin> = Entity {
    title: "Pins",
    part: Some(Part::Pin),
    key: &[
        Label {
            name: "kind",
            help: "kind of the pinned object: `program`, `map` or `link`",
            read: |p| Some(Text(p.kind.as_str())),
        },
        Label { name: "id", help: "its id", read: |p| Some(Number(p.id)) },
        Label {
            name: "path",
            help: "path of the pin, in the exporter's mount namespace; where that does not show it, in another one",
            read: |p| Some(Text(&p.path)),
        },
        Label {
            name: "bpffs",
            help: "device number of the bpffs, as in `/proc/PID/mountinfo` (`0:45`), if the path is one of another mount namespace; \
                   else absent",
            read: |p| p.bpffs.as_deref().map(Text),
        },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_pin_info",
        kind: Gauge,
        unit: Unit::None,
        help: "A pinned object; always 1.",
        source: "the mounted bpffs",
        since: "4.4",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: Some(|p| Object { kind: p.kind, id: p.id }),
    series: |p| {
        let id = match &p.bpffs {
            Some(bpffs) => hash((p.kind, p.id, &p.path, bpffs)),
            None => hash((p.kind, p.id, &p.path)),
        };
        Series::fixed(id, None)
    },
};

/// Owners and their totals.
pub static OWNER: Entity<OwnerTotal> = Entity {
    title: "Owners",
    part: Some(Part::Cgroup),
    key: key_labels![; |o| o.owner],
    info: identity_labels![; |o| o.owner],
    metrics: &[
        Metric {
            name: "bpf_owner_info",
            kind: Gauge,
            unit: Unit::None,
            help: "What is known of an owner of BPF objects; always 1. Of several with the same kind and name, what they have in common.",
            source: "cgroups of processes and maps, log directory and runtime of the node",
            since: "",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_owner_programs",
            kind: Gauge,
            unit: Each("{object}"),
            help: "Programs of this owner.",
            source: "as `bpf_program_holder_info`",
            since: "",
            carries: Key,
            read: |o| o.programs.map(Value::count),
        },
        Metric {
            name: "bpf_owner_maps",
            kind: Gauge,
            unit: Each("{object}"),
            help: "Maps of this owner.",
            source: "as `bpf_map_holder_info`",
            since: "",
            carries: Key,
            read: |o| o.maps.map(Value::count),
        },
        Metric {
            name: "bpf_owner_links",
            kind: Gauge,
            unit: Each("{object}"),
            help: "Links of this owner.",
            source: "as `bpf_link_holder_info`",
            since: "",
            carries: Key,
            read: |o| o.links.map(Value::count),
        },
        Metric {
            name: "bpf_owner_mem_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "Memory charged for the programs and maps of this owner.",
            source: "`memlock` in `/proc/self/fdinfo`",
            since: "4.13",
            carries: Key,
            read: |o| o.mem.map(Value::count),
        },
        Metric {
            name: "bpf_owner_run_time",
            kind: Counter,
            unit: Seconds,
            help: "Time spent running the programs of this owner since the exporter first saw it, including unloaded programs; absent \
                   while run statistics are off.",
            source: "`bpf_prog_info.run_time_ns`",
            since: "5.1",
            carries: Key,
            read: |o| o.run_time.map(|time| Float(time.as_secs_f64())),
        },
    ],
    object: None,
    series: |o| Series { id: o.owner.key(), birth: Some(Observed(o.since)), revision: o.owner.revision() },
};

/// An owner with programs.
pub struct OwnerFingerprint {
    /// The owner.
    pub(super) owner: Arc<Owner>,
    /// Fingerprint of its programs.
    pub(super) programs: Arc<str>,
}

/// Fingerprints of the programs of owners.
pub static OWNER_FINGERPRINT: Entity<OwnerFingerprint> = Entity {
    title: "Owners, fingerprints",
    part: Some(Part::Cgroup),
    key: key_labels![; |o| o.owner],
    info: &[Label { name: "programs", help: FINGERPRINT_HELP, read: |o| Some(Text(&o.programs)) }],
    metrics: &[Metric {
        name: "bpf_owner_fingerprint_info",
        kind: Gauge,
        unit: Unit::None,
        help: "Fingerprint of the programs of this owner, as `bpf_host_fingerprint_info`; always 1, absent without a program.",
        source: "`bpf_prog_info.tag`",
        since: "4.13",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: None,
    series: |o| Series { id: o.owner.key(), birth: None, revision: hash((o.owner.revision(), &o.programs)) },
};

const FINGERPRINT_HELP: &str = "a UUID (version 5) of the distinct tags of the programs in ascending order; equal for the same set, \
                                whatever ids and numbers of copies";

/// Fingerprint of all programs.
pub static HOST_FINGERPRINT: Entity<Arc<str>> = Entity {
    title: "The host, fingerprint",
    part: Some(Part::Host),
    key: &[],
    info: &[Label { name: "programs", help: FINGERPRINT_HELP, read: |fingerprint| Some(Text(fingerprint)) }],
    metrics: &[Metric {
        name: "bpf_host_fingerprint_info",
        kind: Gauge,
        unit: Unit::None,
        help: "Fingerprint of all loaded programs, those of the exporter included: hosts with another one have other programs; always 1, \
               absent unless every program was read.",
        source: "`bpf_prog_info.tag`",
        since: "4.13",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: None,
    series: |fingerprint| Series { id: 0, birth: None, revision: hash(fingerprint) },
};

/// Totals of the host by kind of object.
pub static HOST: Entity<KindTotal> = Entity {
    title: "The host",
    part: Some(Part::Host),
    key: &[Label {
        name: "kind",
        help: "`program`, `map`, `link` or `btf`",
        read: |t| Some(Text(t.kind.as_str())),
    }],
    info: &[],
    metrics: &[
        Metric {
            name: "bpf_objects",
            kind: Gauge,
            unit: Each("{object}"),
            help: "BPF objects of this kind; absent if they could not be read.",
            source: "the kernel's table of the kind",
            since: "",
            carries: Key,
            read: |t| Some(Value::size(t.objects)),
        },
        Metric {
            name: "bpf_objects_orphaned",
            kind: Gauge,
            unit: Each("{object}"),
            help: "BPF objects that no process, pin, link or hook holds, directly or through another object: leaked, or in transit \
                   between processes; absent unless every possible holder was seen.",
            source: "as `bpf_program_holder_info`, `bpf_pin_info`, `bpf_link_info` and `bpf_hook_info`",
            since: "5.8",
            carries: Key,
            read: |t| t.orphaned.map(Value::size),
        },
        Metric {
            name: "bpf_objects_mem_bytes",
            kind: Gauge,
            unit: Bytes,
            help: "Memory charged for all objects of this kind, programs or maps.",
            source: "`memlock` in `/proc/self/fdinfo`",
            since: "4.13",
            carries: Key,
            read: |t| t.mem.map(Value::count),
        },
        Metric {
            name: "bpf_objects_run_time",
            kind: Counter,
            unit: Seconds,
            help: "Time spent running all programs since the exporter's start, including unloaded ones; absent while run statistics \
                   are off.",
            source: "`bpf_prog_info.run_time_ns`",
            since: "5.1",
            carries: Key,
            read: |t| t.run_time.map(|time| Float(time.as_secs_f64())),
        },
    ],
    object: None,
    series: |t| Series::fixed(hash(t.kind), Some(Observed(t.since))),
};

/// Series dropped by a limit.
pub static DROPPED: Entity<u64> = Entity {
    title: "Dropped series",
    part: None,
    key: &[Label {
        name: "reason",
        help: "`max_series`: the limit of --max-series",
        read: |_| Some(Text("max_series")),
    }],
    info: &[],
    metrics: &[Metric {
        name: "bpf_exporter_dropped_series",
        kind: Gauge,
        unit: Each("{series}"),
        help: "Series of single objects dropped from the last reading to stay under --max-series; absent without that limit.",
        source: "the exporter",
        since: "",
        carries: Key,
        read: |count| Some(Value::count(*count)),
    }],
    object: None,
    series: |_| Series::fixed(0, None),
};
