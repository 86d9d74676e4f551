//! Which programs are attached somewhere, and which one a perf event has.
//! Knows no kind of hook; that is for `kernel/hooks/`. Begin at [`attached`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Call, bpf};
use crate::sys::bpf::uapi::LINK_NAME_LEN;
use crate::sys::{Error, Result};

/// `union bpf_attr` as `BPF_PROG_QUERY` uses it, up to what 6.6 added.
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

/// `union bpf_attr` as `BPF_TASK_FD_QUERY` uses it.
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

/// Where programs are attached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hooked<'a> {
    /// A cgroup, a network namespace or a map.
    At(BorrowedFd<'a>),
    /// An interface of the calling thread's network namespace, which can tell the links too.
    Interface(u32),
}

/// What is attached somewhere, in the order in which the kernel runs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attached {
    /// The ids of the programs.
    pub(crate) programs: Vec<u32>,
    /// The ids of their links, 0 for an attachment without one. Empty where the kernel does not tell.
    pub(crate) links: Vec<u32>,
}

/// Asks which programs are attached somewhere, into `attached`, whose memory serves again.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN`; `ENOENT` at an interface that has none, `EINVAL` and `E2BIG` for a type of attachment that
/// this kernel does not know; `ENOSPC` when more of them came again and again.
pub(crate) fn attached(at: Hooked<'_>, attach_type: u32, attached: &mut Attached) -> Result<()> {
    /// With so much room nearly every answer is had at the first time.
    const FIRST_ROOM: usize = 32;
    const ATTEMPTS: usize = 8;
    let tells_links = matches!(at, Hooked::Interface(_));
    let mut room = FIRST_ROOM;
    for _ in 0..ATTEMPTS {
        attached.programs.resize(room, 0);
        attached.links.resize(if tells_links { room } else { 0 }, 0);
        attached.links.fill(0);
        let mut attr = QueryAttr {
            target: match at {
                Hooked::At(fd) => fd.as_raw_fd().cast_unsigned(),
                Hooked::Interface(index) => index,
            },
            attach_type,
            query_flags: 0,
            attach_flags: 0,
            program_ids: attached.programs.as_mut_ptr() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            padding: 0,
            program_attach_flags: 0,
            link_ids: if tells_links { attached.links.as_mut_ptr() as u64 } else { 0 },
            link_attach_flags: 0,
            revision: 0,
        };
        // SAFETY: the addresses that are not null are those of vectors that outlive the call and hold `count` ids each, which is
        // the most that the kernel writes.
        let answer = unsafe { bpf(Call::ProgQuery, &mut attr) };
        let there_are = attr.count as usize;
        match answer {
            Ok(_) if there_are <= room => {
                attached.programs.truncate(there_are);
                attached.links.truncate(there_are);
                return Ok(());
            }
            Ok(_) | Err(Error { errno: Errno::ENOSPC, .. }) => {
                room = there_are.max(room + 1).next_power_of_two()
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Call::ProgQuery.as_str(), Errno::ENOSPC))
}

/// The program behind a descriptor of a process, and the event that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventProgram {
    /// Its id.
    pub(crate) program_id: u32,
    /// Of `enum bpf_task_fd_type`.
    pub(crate) fd_type: u32,
    /// The tracepoint, the symbol or the file, up to the first zero byte; empty for a probe that was set by address.
    pub(crate) name: Vec<u8>,
    /// How far behind the symbol, or where in the file.
    pub(crate) offset: u64,
    /// The address of a probe in the kernel; 0 for who may not know it.
    pub(crate) address: u64,
}

/// Asks which program a perf event or raw tracepoint has, by the descriptor of a process.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOENT` when the process is gone or the event has no program; `EBADF` when the descriptor is
/// gone; `EOPNOTSUPP` for an event that is no tracepoint and no probe.
pub(crate) fn event_program(pid: u32, fd: u32) -> Result<EventProgram> {
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
    // SAFETY: the one address is `name`, which outlives the call and is as long as the request says.
    match unsafe { bpf(Call::TaskFdQuery, &mut attr) } {
        // A longer name was cut.
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
