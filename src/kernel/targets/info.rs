//! What the kernel says of a link, as a [`Target`]: every type of link has its own part of `struct bpf_link_info`.
//! Knows no words: [`super::link`] has them. Begin at [`target`].

use std::os::fd::BorrowedFd;

use super::{FunctionOf, Target, Within};
use crate::model::enums::{link_type, perf_type};
use crate::sys::Result;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{
    CgroupLink, DeviceLink, EventLink, IterLink, KprobeLink, KprobeMultiLink, LinkInfo, MULTI_RETURN,
    NetfilterLink, NetnsLink, PerfEventLink, Reported, SockmapLink, StructOpsLink, TaskIterLink, TracingLink,
    UprobeLink, UprobeMultiLink, XdpLink, reported,
};

/// At which hook a link attaches, of `enum bpf_attach_type`; `None` for the types of link that do not say.
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

/// How often the link's program should have run and could not. Since 6.7; `None` for the types that do not count it.
pub(crate) fn missed(info: &Reported<LinkInfo>) -> Option<u64> {
    // Both counters came together. That of `kprobe_multi` lies where 6.6 has a longer member of the union and leaves zero: the
    // end of the other one tells that the kernel knows them.
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

/// What a link is attached to; `None` for a type that is not known and for what this kernel does not tell.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`, which is asked again for names.
pub(crate) fn target(fd: BorrowedFd<'_>, info: &Reported<LinkInfo>) -> Result<Option<Target>> {
    Ok(match info.value.link_type {
        link_type::RAW_TRACEPOINT => name(fd)?.map(|name| Target::RawTracepoint { name }),
        link_type::TRACING => {
            let tracing = info.of_type::<TracingLink>().value;
            let of = FunctionOf::Either(tracing.target_obj_id);
            Some(Target::Function { of, type_id: tracing.target_btf_id, name: None })
        }
        link_type::CGROUP => Some(Target::Cgroup { id: info.of_type::<CgroupLink>().value.cgroup_id }),
        link_type::ITER => name(fd)?.map(|name| {
            let within = within(&name, info);
            Target::Iterator { name, within }
        }),
        link_type::NETNS => {
            Some(Target::NetworkNamespace { inode: info.of_type::<NetnsLink>().value.netns_ino })
        }
        link_type::XDP => Some(device(info.of_type::<XdpLink>().value.ifindex)),
        link_type::TCX | link_type::NETKIT => Some(device(info.of_type::<DeviceLink>().value.ifindex)),
        link_type::PERF_EVENT => perf_event(fd, info)?,
        link_type::KPROBE_MULTI => {
            let multi = info.of_type::<KprobeMultiLink>().value;
            let return_probe = multi.flags & MULTI_RETURN != 0;
            Some(Target::KprobeMulti { count: multi.count, first: sys::link_place(fd)?, return_probe })
        }
        link_type::UPROBE_MULTI => {
            let multi = info.of_type::<UprobeMultiLink>().value;
            let return_probe = multi.flags & MULTI_RETURN != 0;
            let first = sys::link_place(fd)?;
            name(fd)?.map(|path| Target::UprobeMulti { path, count: multi.count, first, return_probe })
        }
        link_type::STRUCT_OPS => Some(Target::Map { id: info.of_type::<StructOpsLink>().value.map_id }),
        link_type::SOCKMAP => Some(Target::Map { id: info.of_type::<SockmapLink>().value.map_id }),
        link_type::NETFILTER => {
            let NetfilterLink { pf, hooknum, priority, .. } = info.of_type().value;
            Some(Target::Netfilter { family: pf, hook: hooknum, priority })
        }
        _ => None,
    })
}

fn name(fd: BorrowedFd<'_>) -> Result<Option<String>> {
    Ok(sys::link_name(fd)?.map(|name| crate::host::text::printable(&name)))
}

fn device(ifindex: u32) -> Target {
    Target::Device { ifindex, name: None }
}

/// To what an iterator keeps: which member of the union is filled follows from the target's name.
fn within(name: &str, info: &Reported<LinkInfo>) -> Option<Within> {
    match name {
        "bpf_map_elem" | "bpf_sk_storage_map" | "sockmap" => {
            Some(Within::Map(info.of_type::<IterLink>().value.map_id))
        }
        "cgroup" => Some(Within::Cgroup(info.of_type::<IterLink>().value.cgroup_id)),
        "task" | "task_file" | "task_vma" => {
            let task = info.of_type::<TaskIterLink>().value;
            Some(if task.tid == 0 { Within::Process(task.pid) } else { Within::Thread(task.tid) })
        }
        _ => None,
    }
}

fn perf_event(fd: BorrowedFd<'_>, info: &Reported<LinkInfo>) -> Result<Option<Target>> {
    let kind = info.of_type::<PerfEventLink>().value.perf_type;
    Ok(match kind {
        perf_type::KPROBE | perf_type::KRETPROBE => {
            let probe = info.of_type::<KprobeLink>().value;
            Some(Target::Kprobe {
                symbol: name(fd)?,
                offset: probe.offset.into(),
                address: probe.addr,
                return_probe: kind == perf_type::KRETPROBE,
            })
        }
        perf_type::UPROBE | perf_type::URETPROBE => {
            let offset = info.of_type::<UprobeLink>().value.offset.into();
            let return_probe = kind == perf_type::URETPROBE;
            name(fd)?.map(|path| Target::Uprobe { path, offset, return_probe })
        }
        perf_type::TRACEPOINT => name(fd)?.map(|name| Target::Tracepoint { name, group: None }),
        perf_type::EVENT => {
            let EventLink { event_type, config, .. } = info.of_type().value;
            Some(Target::PerfEvent { event_type, config })
        }
        _ => None,
    })
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
