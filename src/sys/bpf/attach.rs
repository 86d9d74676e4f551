//! Queries of attached programs: those of a hook, and that of a perf event.
//!
//! Entry points: [`prog_query`] and [`task_fd_query`]. Independent of the types of hooks.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Command, bpf};
use crate::sys::bpf::uapi::LINK_NAME_LEN;
use crate::sys::{Error, Result};

/// `union bpf_attr` for `BPF_PROG_QUERY`, with the fields that 6.6 added.
#[repr(C, align(8))]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// `union bpf_attr` for `BPF_TASK_FD_QUERY`.
#[repr(C, align(8))]
struct TaskFdAttr {
    pid: u32,
    fd: u32,
    flags: u32,
    buffer_len: u32,
    buffer: u64,
    program_id: u32,
    fd_type: u32,
    probe_offset: u64,
    probe_address: u64,
}

/// The target of a query for attached programs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueryTarget<'a> {
    /// A cgroup, a network namespace or a map.
    Fd(BorrowedFd<'a>),
    /// An interface of the calling thread's network namespace. The kernel reports links only for these.
    Interface(u32),
}

/// Programs attached to a target, in execution order.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttachedPrograms {
    /// The ids of the programs.
    pub(crate) programs: Vec<u32>,
    /// The ids of their links, 0 for an attachment without one. Empty if the kernel does not report links.
    pub(crate) links: Vec<u32>,
}

/// Queries the programs attached to a target into `attached`, whose memory is reused.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN`; `ENOENT` for an interface without programs; `EINVAL` and `E2BIG` for an attach type that this
/// kernel does not support; `ENOSPC` if programs were added during each of several attempts.
pub(crate) fn prog_query(
    target: QueryTarget<'_>,
    attach_type: u32,
    attached: &mut AttachedPrograms,
) -> Result<()> {
    /// Nearly every target has fewer programs, so that one call is enough.
    const INITIAL_CAPACITY: usize = 32;
    const ATTEMPTS: usize = 8;
    let reports_links = matches!(target, QueryTarget::Interface(_));
    let mut capacity = INITIAL_CAPACITY;
    for _ in 0..ATTEMPTS {
        attached.programs.resize(capacity, 0);
        attached.links.resize(if reports_links { capacity } else { 0 }, 0);
        attached.links.fill(0);
        let mut attr = QueryAttr {
            target: match target {
                QueryTarget::Fd(fd) => fd.as_raw_fd().cast_unsigned(),
                QueryTarget::Interface(index) => index,
            },
            attach_type,
            query_flags: 0,
            attach_flags: 0,
            program_ids: attached.programs.as_mut_ptr() as u64,
            count: u32::try_from(capacity).unwrap_or(u32::MAX),
            padding: 0,
            program_attach_flags: 0,
            link_ids: if reports_links { attached.links.as_mut_ptr() as u64 } else { 0 },
            link_attach_flags: 0,
            revision: 0,
        };
        // SAFETY: the addresses that are not null are those of vectors that outlive the call and hold `count` ids each, which is
        // the most that the kernel writes.
        let result = unsafe { bpf(Command::ProgQuery, &mut attr) };
        let count = attr.count as usize;
        match result {
            Ok(_) if count <= capacity => {
                attached.programs.truncate(count);
                attached.links.truncate(count);
                return Ok(());
            }
            Ok(_) | Err(Error { errno: Errno::ENOSPC, .. }) => {
                capacity = count.max(capacity + 1).next_power_of_two();
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Command::ProgQuery.as_str(), Errno::ENOSPC))
}

/// The program attached to a perf event or raw tracepoint, and the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventProgram {
    /// The id of the program.
    pub(crate) program_id: u32,
    /// A number of `enum bpf_task_fd_type`.
    pub(crate) fd_type: u32,
    /// The tracepoint, symbol or file, up to the first zero byte; empty for a probe that was set by address.
    pub(crate) name: Vec<u8>,
    /// The offset from the symbol, or in the file.
    pub(crate) offset: u64,
    /// The address of a probe in the kernel; 0 without `CAP_SYSLOG` (`kptr_restrict`).
    pub(crate) address: u64,
}

/// Queries the program attached to the perf event or raw tracepoint behind a descriptor of a process.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOENT` if the process has ended or the event has no program; `EBADF` if the descriptor was
/// closed; `EOPNOTSUPP` for an event that is neither a tracepoint nor a probe.
pub(crate) fn task_fd_query(pid: u32, fd: u32) -> Result<EventProgram> {
    let mut name = vec![0_u8; LINK_NAME_LEN as usize];
    let mut attr = TaskFdAttr {
        pid,
        fd,
        flags: 0,
        buffer_len: LINK_NAME_LEN,
        buffer: name.as_mut_ptr() as u64,
        program_id: 0,
        fd_type: 0,
        probe_offset: 0,
        probe_address: 0,
    };
    // SAFETY: the one address is that of `name`, which outlives the call and is `buffer_len` bytes long.
    match unsafe { bpf(Command::TaskFdQuery, &mut attr) } {
        // ENOSPC: a longer name was truncated.
        Ok(_) | Err(Error { errno: Errno::ENOSPC, .. }) => {}
        Err(error) => return Err(error),
    }
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.truncate(len);
    Ok(EventProgram {
        program_id: attr.program_id,
        fd_type: attr.fd_type,
        name,
        offset: attr.probe_offset,
        address: attr.probe_address,
    })
}
