//! The parts of `struct bpf_link_info` that differ by type of link, read as a [`Target`].
//! Entry point: [`target`].

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{RawTarget, kprobe};
use crate::model::enums::{link_type, perf_type};
use crate::model::{Cgroup, Device, FunctionObject, Target, Within};
use crate::sys::Result;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{
    CgroupLink, DeviceLink, EventLink, IterLink, KprobeLink, KprobeMultiLink, LinkInfo, MULTI_RETURN,
    NetfilterLink, NetnsLink, PerfEventLink, Reported, SockmapLink, StructOpsLink, TaskIterLink, TracingLink,
    UprobeLink, UprobeMultiLink, XdpLink, reported,
};
use crate::text::printable;

/// The hook to which a link attaches, of `enum bpf_attach_type`; `None` for types of link that do not report it.
pub(crate) fn attach_type(info: &Reported<LinkInfo>) -> Option<u32> {
    match info.value.link_type {
        // The extension of a program has no hook, and 0 is `cgroup_inet_ingress`.
        link_type::TRACING => {
            reported!(&info.of_type(), TracingLink, attach_type).filter(|&attach_type| attach_type != 0)
        }
        link_type::CGROUP => reported!(&info.of_type(), CgroupLink, attach_type),
        link_type::NETNS => reported!(&info.of_type(), NetnsLink, attach_type),
        link_type::TCX | link_type::NETKIT => reported!(&info.of_type(), DeviceLink, attach_type),
        link_type::SOCKMAP => reported!(&info.of_type(), SockmapLink, attach_type),
        _ => None,
    }
}

/// The number of missed runs of the link's program. Since 6.7; `None` for the types that do not count them.
pub(crate) fn missed(info: &Reported<LinkInfo>) -> Option<u64> {
    // Both counters were added together. That of `kprobe_multi` lies where 6.6 has a longer member of the union and leaves zero: the
    // end of the other one decides whether the kernel knows them.
    let of_probe = reported!(&info.of_type(), KprobeLink, missed)?;
    match info.value.link_type {
        link_type::KPROBE_MULTI => Some(info.of_type::<KprobeMultiLink>().value.missed),
        link_type::PERF_EVENT => match info.of_type::<PerfEventLink>().value.perf_type {
            perf_type::KPROBE | perf_type::KRETPROBE => Some(of_probe),
            _ => None,
        },
        _ => None,
    }
}

/// Reads what a link is attached to, without names that are looked up; `None` for an unknown type and for what this kernel does
/// not report.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`, which is called again for names.
pub(crate) fn target(fd: BorrowedFd<'_>, info: &Reported<LinkInfo>) -> Result<Option<RawTarget>> {
    let target = match info.value.link_type {
        link_type::RAW_TRACEPOINT => name(fd)?.map(|name| Target::RawTracepoint { name }),
        link_type::TRACING => {
            let tracing = info.of_type::<TracingLink>().value;
            let object = FunctionObject::BtfOrProgram(tracing.target_obj_id);
            Some(Target::Function { object, type_id: tracing.target_btf_id, name: None })
        }
        link_type::CGROUP => Some(Target::Cgroup(cgroup(info.of_type::<CgroupLink>().value.cgroup_id))),
        link_type::ITER => name(fd)?.map(|name| {
            let within = within(&name, info);
            Target::Iterator { name, within }
        }),
        link_type::NETNS => Some(Target::NetNs { inode: info.of_type::<NetnsLink>().value.netns_ino.into() }),
        link_type::XDP => Some(device(info.of_type::<XdpLink>().value.ifindex)),
        link_type::TCX | link_type::NETKIT => Some(device(info.of_type::<DeviceLink>().value.ifindex)),
        link_type::PERF_EVENT => return perf_event(fd, info),
        link_type::KPROBE_MULTI => {
            let multi = info.of_type::<KprobeMultiLink>().value;
            let at_return = multi.flags & MULTI_RETURN != 0;
            let address = sys::single_probe_location(fd)?.unwrap_or(0);
            let target = Target::KprobeMulti { count: multi.count, single: None, at_return };
            return Ok(Some(RawTarget { address, ..target.into() }));
        }
        link_type::UPROBE_MULTI => {
            let multi = info.of_type::<UprobeMultiLink>().value;
            let at_return = multi.flags & MULTI_RETURN != 0;
            let single = sys::single_probe_location(fd)?;
            name(fd)?.map(|path| Target::UprobeMulti { path, count: multi.count, single, at_return })
        }
        link_type::STRUCT_OPS => Some(Target::Map { id: info.of_type::<StructOpsLink>().value.map_id }),
        link_type::SOCKMAP => Some(Target::Map { id: info.of_type::<SockmapLink>().value.map_id }),
        link_type::NETFILTER => {
            let NetfilterLink { pf, hooknum, priority, .. } = info.of_type().value;
            Some(Target::Netfilter { family: pf, hook: hooknum, priority: Some(priority) })
        }
        _ => None,
    };
    Ok(target.map(RawTarget::from))
}

fn name(fd: BorrowedFd<'_>) -> Result<Option<Arc<str>>> {
    Ok(sys::link_name(fd)?.map(|name| printable(&name).into()))
}

fn device(ifindex: u32) -> Target {
    Target::Device(Device { ifindex, name: None })
}

fn cgroup(id: u64) -> Cgroup {
    Cgroup { id, path: None }
}

/// The part that an iterator is limited to: its name decides which member of the union is filled.
fn within(name: &str, info: &Reported<LinkInfo>) -> Option<Within> {
    match name {
        "bpf_map_elem" | "bpf_sk_storage_map" | "sockmap" => {
            Some(Within::Map { id: info.of_type::<IterLink>().value.map_id })
        }
        "cgroup" => Some(Within::Cgroup(cgroup(info.of_type::<IterLink>().value.cgroup_id))),
        "task" | "task_file" | "task_vma" => {
            let TaskIterLink { tid, pid, .. } = info.of_type().value;
            Some(if tid == 0 { Within::Process { pid } } else { Within::Thread { tid } })
        }
        _ => None,
    }
}

fn perf_event(fd: BorrowedFd<'_>, info: &Reported<LinkInfo>) -> Result<Option<RawTarget>> {
    let kind = info.of_type::<PerfEventLink>().value.perf_type;
    let target = match kind {
        perf_type::KPROBE | perf_type::KRETPROBE => {
            let probe = info.of_type::<KprobeLink>().value;
            let at_return = kind == perf_type::KRETPROBE;
            return Ok(Some(kprobe(name(fd)?.as_deref(), probe.offset.into(), probe.addr, at_return)));
        }
        perf_type::UPROBE | perf_type::URETPROBE => {
            let offset = info.of_type::<UprobeLink>().value.offset.into();
            let at_return = kind == perf_type::URETPROBE;
            name(fd)?.map(|path| Target::Uprobe { path, offset, at_return })
        }
        perf_type::TRACEPOINT => name(fd)?.map(|name| Target::Tracepoint { group: None, name }),
        perf_type::EVENT => {
            let EventLink { event_type, config, .. } = info.of_type().value;
            Some(Target::PerfEvent { event_type, config, unit: None })
        }
        _ => None,
    };
    Ok(target.map(RawTarget::from))
}

/// Returns the information on a link without its counters.
pub(crate) fn without_counters(info: &Reported<LinkInfo>) -> LinkInfo {
    let mut fixed = info.value;
    if info.value.link_type == link_type::KPROBE_MULTI {
        fixed.of_type[KPROBE_MULTI_MISSED] = 0;
    } else if missed(info).is_some() {
        fixed.of_type[KPROBE_MISSED] = 0;
    }
    fixed
}

/// The words of the union that are counters.
const KPROBE_MULTI_MISSED: usize = std::mem::offset_of!(KprobeMultiLink, missed) / 8;
const KPROBE_MISSED: usize = std::mem::offset_of!(KprobeLink, missed) / 8;
