//! Where links and perf events attach, as plain values: what [`super::sys`] turns into attributes.
//! Independent of what a kernel supports: the makers of links know that.

use super::sys;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// Where a link attaches: the arguments of `BPF_LINK_CREATE` that come after the object.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'a> {
    /// An fd (cgroup, network namespace, perf event, map), the index of an interface, or 0.
    pub(super) target: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) options: Options<'a>,
}

impl Place<'_> {
    /// The attach point of the program itself, or one whose target is not filled in yet.
    pub(super) fn of(attach_type: u32) -> Self {
        Self { attach_type, ..Self::default() }
    }

    /// At whatever `fd` is: it has to stay open until the link is made.
    pub(super) fn at(fd: BorrowedFd<'_>, attach_type: u32) -> Self {
        Self { target: sys::number(fd), ..Self::of(attach_type) }
    }
}

/// What some kinds of link want to know beyond that.
#[derive(Clone, Copy, Default)]
pub(super) enum Options<'a> {
    #[default]
    None,
    Netfilter {
        family: u32,
        hook: u32,
        priority: i32,
    },
    KernelFunctions(&'a [&'a CStr]),
    UserFunctions {
        path: &'a CStr,
        offsets: &'a [u64],
    },
    /// What an iterator keeps to: `union bpf_iter_link_info`.
    Iterator(&'a [u32]),
}

/// Which event `perf_event_open(2)` opens.
pub(super) enum Event<'a> {
    /// One of `enum perf_sw_ids`, sampled once in `period`.
    Software { id: u64, period: u64 },
    /// A tracepoint, by the number in its `id` file.
    Tracepoint(u64),
    /// A uprobe (a file and an offset in it) or kprobe (a function and 0), by the number of its PMU.
    Probe { pmu: u32, place: &'a CStr, offset: u64, on_return: bool },
}
