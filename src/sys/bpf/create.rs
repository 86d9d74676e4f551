//! What this program makes for itself: links of iterators and iterators, a BTF object, the descriptor that has runs counted.
//! Knows no program that the iterators run. Begin at [`link_iterator`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{Call, open};
use crate::sys::{Error, Result};

/// The beginning of `union bpf_attr` as `BPF_BTF_LOAD` uses it.
#[repr(C, align(8))]
struct BtfAttr {
    btf: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// The beginning of `union bpf_attr` as `BPF_LINK_CREATE` uses it.
#[repr(C)]
struct LinkAttr {
    program_fd: i32,
    target_fd: i32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` as `BPF_ITER_CREATE` uses it.
#[repr(C)]
struct IterAttr {
    link_fd: i32,
    flags: u32,
}

/// `union bpf_attr` as `BPF_ENABLE_STATS` uses it.
#[repr(C)]
struct StatsAttr {
    kind: u32,
}

/// Makes a BTF object of this type information.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF`; `EINVAL` for what the kernel does not understand.
pub(crate) fn load_btf(types: &[u8]) -> Result<OwnedFd> {
    let size = u32::try_from(types.len()).map_err(|_| Error::new(Call::BtfLoad.as_str(), Errno::E2BIG))?;
    let mut attr =
        BtfAttr { btf: types.as_ptr() as u64, log: 0, size, log_size: 0, log_level: 0, padding: 0 };
    // SAFETY: `BPF_BTF_LOAD` takes a `BtfAttr` and returns a new descriptor; `attr.btf` is `types`, which outlives the call and is as
    // long as `attr.size` says; there is no log.
    unsafe { open(Call::BtfLoad, &mut attr) }
}

/// Links an iterator program to its table.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF` and `CAP_PERFMON`; `EINVAL` when the program is no iterator.
pub(crate) fn link_iterator(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    /// `enum bpf_attach_type`.
    const BPF_TRACE_ITER: u32 = 28;
    let mut attr =
        LinkAttr { program_fd: program.as_raw_fd(), target_fd: 0, attach_type: BPF_TRACE_ITER, flags: 0 };
    // SAFETY: `BPF_LINK_CREATE` takes a `LinkAttr`, which holds no address, and returns a new descriptor.
    unsafe { open(Call::LinkCreate, &mut attr) }
}

/// A fresh iterator of a link, to be read from its beginning to its end.
///
/// # Errors
///
/// `EINVAL` when the link is not one of an iterator; before 5.19 `EPERM` without `CAP_BPF`, where unprivileged bpf(2) is
/// disabled.
pub(crate) fn create_iterator(link: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut attr = IterAttr { link_fd: link.as_raw_fd(), flags: 0 };
    // SAFETY: `BPF_ITER_CREATE` takes an `IterAttr`, which holds no address, and returns a new descriptor.
    unsafe { open(Call::IterCreate, &mut attr) }
}

/// Has the kernel count the runs of every program and their time, for as long as the descriptor is open.
///
/// The kernel counts its descriptors, so that this one takes nothing from whoever else has one, and takes it back from a
/// process that ends in whatever way.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` before 5.8.
pub(crate) fn enable_stats() -> Result<OwnedFd> {
    /// `BPF_STATS_RUN_TIME` of `enum bpf_stats_type`, the only one there is.
    const RUN_TIME: u32 = 0;
    let mut attr = StatsAttr { kind: RUN_TIME };
    // SAFETY: `BPF_ENABLE_STATS` takes a `StatsAttr`, which holds no address, and returns a new descriptor.
    unsafe { open(Call::EnableStats, &mut attr) }
}
