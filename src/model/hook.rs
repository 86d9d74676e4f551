//! Attachments: where the kernel runs programs, with and without links.
//! Entry point: [`AttachmentScan`].

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attachment::Target;
use super::kind::{Kind, Object};
use super::time::BootTime;

/// A program attached to a hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hook {
    /// The hook, as the kernel's tools spell it: `tcx_ingress`, `tc_egress`, `xdp`, `cgroup_inet4_connect`, `kprobe`.
    pub hook: Cow<'static, str>,
    /// What it is attached to. `None` where there is no target.
    pub target: Option<Target>,
    /// Network namespace of the target: its name in `/run/netns` and its number, `blue (4026532208)`, or only the number.
    /// `None` where the target is in none.
    pub netns: Option<Arc<str>>,
    /// Position in the order of execution at the same hook and target, from 0.
    pub position: u32,
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
    /// Every hook and target with a program now or at an earlier scan.
    pub attach_points: Vec<AttachPointStatus>,
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
    pub netns: Option<Arc<str>>,
    /// Number of attached programs.
    pub programs: u64,
    /// Number of programs that were attached at one scan and not at the next, replaced ones included.
    pub detached: u64,
    /// The first scan that found a program.
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
}
