//! Metrics of hooks: attachments, and programs per hook and target.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use super::{device_name, ifindex, inode};
use crate::metrics::Birth::Observed;
use crate::metrics::Carries::{Info, Key};
use crate::metrics::LabelValue::{Integer, Number, Text};
use crate::metrics::MetricKind::{Counter, Gauge};
use crate::metrics::Unit::Each;
use crate::metrics::Value::Int;
use crate::metrics::{Entity, Label, LabelValue, Metric, Series, Unit, Value};
use crate::model::{AttachPointStatus, Hook, Part, Target, hash};

/// Attachments.
pub static HOOK: Entity<Hook> = Entity {
    title: "Hooks",
    part: Some(Part::Hook),
    key: &[
        Label {
            name: "hook",
            help: "the hook as the kernel's tools spell it: `tcx_ingress`, `tc_egress`, `xdp`, `cgroup_inet4_connect`",
            read: |h| Some(Text(&h.hook)),
        },
        Label {
            name: "prog_id",
            help: "the program; absent for a `struct_ops` map",
            read: |h| h.prog_id.map(Number),
        },
        Label {
            name: "link_id",
            help: "the link that keeps it attached; absent for an attachment without one, and where it is not known which it is",
            read: |h| h.link_id.map(Number),
        },
        Label {
            name: "target",
            help: "what it is attached to, as in `bpf_link_info`; absent where there is no target",
            read: |h| h.target.as_ref().map(LabelValue::Target),
        },
        Label { name: "netns", help: "as in `bpf_link_info`", read: |h| inode(h.netns.as_ref()) },
    ],
    info: &[
        Label {
            name: "map_id",
            help: "the attached `struct_ops` map; absent for programs",
            read: |h| h.map_id.map(Number),
        },
        Label {
            name: "device",
            help: "as in `bpf_link_info`; also that of a queueing discipline or class",
            read: |h| device_name(h.target.as_ref()?),
        },
        Label { name: "ifindex", help: "as `device`", read: |h| ifindex(h.target.as_ref()?) },
        Label {
            name: "netns_name",
            help: "as in `bpf_link_info`",
            read: |h| h.netns.as_ref()?.name.as_deref().map(Text),
        },
        Label {
            name: "cgroup",
            help: "as in `bpf_link_info`",
            read: |h| h.target.as_ref()?.cgroup_path().map(Text),
        },
        Label {
            name: "symbol",
            help: "as in `bpf_link_info`",
            read: |h| h.target.as_ref()?.symbol().map(Text),
        },
        Label {
            name: "priority",
            help: "as in `bpf_link_info`; the target of a netfilter hook is without it",
            read: |h| h.priority.map(|priority| Integer(priority.into())),
        },
    ],
    metrics: &[
        Metric {
            name: "bpf_hook_info",
            kind: Gauge,
            unit: Unit::None,
            help: "An attached program, with or without a link, at the last scan of hooks; always 1.",
            source: "links, `BPF_PROG_QUERY`, `BPF_TASK_FD_QUERY`, `RTM_GETLINK`, `RTM_GETTFILTER`",
            since: "4.15",
            carries: Info,
            read: |_| Some(Int(1)),
        },
        Metric {
            name: "bpf_hook_position",
            kind: Gauge,
            unit: Unit::None,
            help: "Position of the program in the order of execution at this hook, target and network namespace, from 0; absent where \
                   the network namespace is not known.",
            source: "as `bpf_hook_info`",
            since: "4.15",
            carries: Key,
            read: |h| h.position.map(|position| Int(position.into())),
        },
    ],
    object: Some(Hook::object),
    series: |h| {
        let netns = h.netns.as_ref().map(|netns| netns.inode);
        let place = (&h.hook, TargetText(h.target.as_ref()), netns, h.prog_id, h.link_id, h.map_id);
        Series { id: hash(place), birth: None, revision: hash((&h.target, &h.netns, h.priority)) }
    },
};

/// Hashes a target by its text, so that series with the same labels are the same series: a cgroup that is removed and made again has
/// the same path and another id.
struct TargetText<'a>(Option<&'a Target>);

impl Hash for TargetText<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.is_some().hash(state);
        if let Some(target) = self.0 {
            write!(HashedText(state), "{target}").expect("hashing never fails");
        }
    }
}

/// Hashes text as it is written.
struct HashedText<'h, H>(&'h mut H);

impl<H: Hasher> fmt::Write for HashedText<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Programs per hook and target.
pub static ATTACH_POINT: Entity<AttachPointStatus> = Entity {
    title: "Hooks and their targets",
    part: Some(Part::Hook),
    key: &[
        Label { name: "hook", help: "as in `bpf_hook_info`", read: |p| Some(Text(&p.hook)) },
        Label {
            name: "target",
            help: "as in `bpf_hook_info`",
            read: |p| p.target.as_ref().map(LabelValue::Target),
        },
        Label { name: "netns", help: "as in `bpf_hook_info`", read: |p| inode(p.netns.as_ref()) },
    ],
    info: &[],
    metrics: &[
        Metric {
            name: "bpf_hook_programs",
            kind: Gauge,
            unit: Each("{program}"),
            help: "Programs attached to this hook and target; 0 for an hour after the last one was detached, while the target is there.",
            source: "as `bpf_hook_info`",
            since: "4.15",
            carries: Key,
            read: |p| Some(Value::count(p.programs)),
        },
        Metric {
            name: "bpf_hook_detached_programs",
            kind: Counter,
            unit: Each("{program}"),
            help: "Programs detached from this hook and target between two scans, including replaced ones, while the target was there; \
                   absent where scans cannot see whether it is.",
            source: "as `bpf_hook_info`",
            since: "4.15",
            carries: Key,
            read: |p| p.detached.map(Value::count),
        },
    ],
    object: None,
    series: |p| {
        let netns = p.netns.as_ref().map(|netns| netns.inode);
        Series::fixed(hash((&p.hook, TargetText(p.target.as_ref()), netns)), Some(Observed(p.since)))
    },
};
