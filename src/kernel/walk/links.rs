//! The table of links, as `bpf_link_info` describes them.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::ObjectTable;
use crate::kernel::reading::{ReadContext, nonzero};
use crate::kernel::targets::{info, resolve};
use crate::model::enums::{attach_type, link_type};
use crate::model::{Kind, Link, LinkFacts, NetNs, Target};
use crate::sys::Result;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{LinkInfo, Reported};

/// The table of links.
#[derive(Debug)]
pub(crate) struct LinkTable;

impl ObjectTable for LinkTable {
    const KIND: Kind = Kind::Link;
    type Info = Reported<LinkInfo>;
    type Facts = LinkFacts;
    /// What the target was derived from; `None` while a name is to be looked up again.
    type Extra = Option<LinkInfo>;
    type Row = Link;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::link_info(fd)
    }

    fn id(link: &LinkFacts) -> u32 {
        link.id
    }

    fn is_same(link: &LinkFacts, info: &Self::Info) -> bool {
        link.link_type.number == info.value.link_type && link.prog_id == nonzero(info.value.prog_id)
    }

    fn facts(
        cx: &mut ReadContext<'_>,
        fd: BorrowedFd<'_>,
        info: &Self::Info,
        extra: &mut Self::Extra,
    ) -> LinkFacts {
        let value = &info.value;
        let (target, netns) = link_target(cx, fd, info, extra).unwrap_or_default().unzip();
        LinkFacts {
            id: value.id,
            link_type: link_type::from_number(value.link_type),
            prog_id: nonzero(value.prog_id),
            attach_type: info::attach_type(info).map(attach_type::from_number),
            target,
            netns: netns.flatten(),
            first_seen: cx.taken_at,
        }
    }

    fn changed(
        cx: &mut ReadContext<'_>,
        fd: BorrowedFd<'_>,
        link: &LinkFacts,
        info: &Self::Info,
        extra: &mut Self::Extra,
    ) -> Option<LinkFacts> {
        if *extra == Some(info::without_counters(info)) {
            return None;
        }
        let (target, netns) = link_target(cx, fd, info, extra).ok()?.unzip();
        let netns = netns.flatten();
        let is_new = link.target != target || link.netns != netns;
        is_new.then(|| LinkFacts { target, netns, ..link.clone() })
    }

    fn row(facts: Arc<LinkFacts>, info: Option<&Self::Info>) -> Link {
        Link { facts, missed: info.and_then(info::missed), owner: None }
    }
}

/// Returns the target of a link, and its network namespace. For an interface the kernel reports the index only.
///
/// # Errors
///
/// A failed call, which is recorded as an issue; the next reading tries again.
fn link_target(
    cx: &mut ReadContext<'_>,
    fd: BorrowedFd<'_>,
    info: &Reported<LinkInfo>,
    extra: &mut Option<LinkInfo>,
) -> Result<Option<(Target, Option<NetNs>)>> {
    *extra = None;
    let target = info::target(fd, info).inspect_err(|&error| cx.issues.record(Kind::Link, error))?;
    let target = target.and_then(|target| resolve(target, cx.names));
    if !cx.names.take_incomplete() {
        *extra = Some(info::without_counters(info));
    }
    Ok(target)
}
