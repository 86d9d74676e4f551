//! Attachments: where the kernel runs programs, with and without links.
//! Entry point: [`AttachmentScan`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::attachment::{NetNs, Target};
use super::kind::{Kind, Object};
use super::time::BootTime;

/// A program attached to a hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hook {
    /// The hook, as the kernel's tools spell it: `tcx_ingress`, `tc_egress`, `xdp`, `cgroup_inet4_connect`, `kprobe`.
    pub hook: Cow<'static, str>,
    /// What it is attached to. `None` where there is no target.
    pub target: Option<Target>,
    /// Network namespace of the target. `None` where the target is in none, or it is not known in which.
    pub netns: Option<NetNs>,
    /// Position in the order of execution at the same hook, target and namespace, from 0. A program that is attached twice without a
    /// link has the first one. `None` where it is not known which programs share the target: see [`Self::is_placed`].
    pub position: Option<u32>,
    /// Priority at a hook of netfilter, by which programs are ordered there; `None` elsewhere.
    pub priority: Option<i32>,
    /// The program. `None` for a `struct_ops` map, which has several.
    pub prog_id: Option<u32>,
    /// The link that keeps it attached. `None` for the older attachments without one.
    pub link_id: Option<u32>,
    /// The attached map, for `struct_ops`.
    pub map_id: Option<u32>,
}

impl Hook {
    /// Returns whether it is known of every attachment with the same hook, target and namespace that it is at the same place: not of
    /// an interface or a hook of netfilter in an unknown network namespace, nor of a probe at an unknown address.
    #[must_use]
    pub const fn is_placed(&self) -> bool {
        match self.target {
            Some(
                Target::Device(_)
                | Target::Qdisc { .. }
                | Target::Class { .. }
                | Target::Action { .. }
                | Target::Netfilter { .. },
            ) => self.netns.is_some(),
            Some(Target::Kprobe { symbol: None, .. }) => false,
            _ => true,
        }
    }

    /// Returns the object that is attached: the program, else the map, else the link; the program of id 0, which no object has,
    /// where none is known.
    #[must_use]
    pub fn object(&self) -> Object {
        let object = |kind| move |id| Object { kind, id };
        let program = self.prog_id.map(object(Kind::Program));
        let map = || self.map_id.map(object(Kind::Map));
        let link = || self.link_id.map(object(Kind::Link));
        program.or_else(map).or_else(link).unwrap_or(Object { kind: Kind::Program, id: 0 })
    }
}

/// An object inside a map: a program in a `prog_array`, a map in a map of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    /// The map that holds it.
    pub map_id: u32,
    /// Kind of the object inside.
    pub kind: Kind,
    /// Id of the object inside.
    pub id: u32,
}

/// Result of a scan of all hooks. Scans are less frequent than readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentScan {
    /// When it began.
    #[serde(rename = "taken_at_boot_ns")]
    pub taken_at: BootTime,
    /// Attachments by hook, namespace, target and position.
    pub hooks: Vec<Hook>,
    /// Contents of the maps that may hold otherwise unreferenced objects.
    pub contents: Vec<Content>,
    /// Every hook and target with a program now or at an earlier scan, as long as the target is there.
    pub attach_points: Vec<AttachPointStatus>,
    /// The network namespaces whose hooks were all queried; empty where no loaded program can be attached in one.
    #[serde(default)]
    pub namespaces: Vec<NetNs>,
    /// Numbers of the program types that may be attached where the scan could not query.
    pub unqueryable: Vec<u32>,
    /// True if the scan covered all links and every map that may hold otherwise unreferenced objects.
    pub complete: bool,
}

/// Programs at one hook and target, and how many were detached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPointStatus {
    /// See [`Hook::hook`].
    pub hook: Cow<'static, str>,
    /// See [`Hook::target`].
    pub target: Option<Target>,
    /// See [`Hook::netns`].
    pub netns: Option<NetNs>,
    /// Number of attached programs.
    pub programs: u64,
    /// Number of programs that were attached at one scan and not at the next, replaced ones included, while the target was still
    /// there. `None` where it cannot be seen whether the target is there: files of user probes, and interfaces of network namespaces
    /// that are not scanned.
    pub detached: Option<u64>,
    /// The first scan that found a program.
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
}
