//! CPU affinity of a thread. Entry point: [`pin_to_cpu`].

use super::{checked, invalid};
use std::io;
use std::mem;

/// The CPUs that the calling thread may run on, in order.
pub(in super::super) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = empty();
    // SAFETY: the kernel writes a set of the given size.
    checked(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) }.into())?;
    // SAFETY: each number lies within the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Lets the calling thread, and no other, run on this one CPU, where it is when this returns.
pub(in super::super) fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(invalid(format!("there is no CPU {cpu}")));
    }
    let mut set = empty();
    // SAFETY: the number lies within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads a set of the given size.
    checked(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }.into())
        .map(drop)
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: the set is an array of bits, and no bit is a set without CPUs.
    unsafe { mem::zeroed() }
}
