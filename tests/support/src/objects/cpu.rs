//! Work on a single CPU: per-CPU counters of the kernel then count only there.
//! The calling thread never moves; each piece of work has a thread of its own. Entry point: [`on_cpu`].

use super::error::{failed_to, invalid};
use super::sys;
use std::fs;
use std::io;
use std::panic;
use std::thread;

/// The CPUs that this thread may run on, in order.
///
/// # Errors
/// The kernel's refusal; more CPUs than the C library can name.
pub fn cpus() -> io::Result<Vec<usize>> {
    sys::allowed_cpus().map_err(|error| failed_to("query the CPUs to run on".to_owned(), error))
}

/// Does `work` on a thread that runs on this CPU from its first instruction to the last.
///
/// # Errors
/// A CPU that this thread may not run on; the error of `work`.
pub fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let pinned = || {
        sys::pin_to_cpu(cpu).map_err(|error| failed_to(format!("run on CPU {cpu}"), error))?;
        work()
    };
    thread::scope(|scope| match scope.spawn(pinned).join() {
        Ok(done) => done,
        Err(panicked) => panic::resume_unwind(panicked),
    })
}

/// How many CPUs this machine could ever have: the last of `/sys/devices/system/cpu/possible` ("0-7"), and one.
///
/// # Errors
/// A machine without sysfs.
pub fn possible_cpus() -> io::Result<usize> {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = possible.trim().rsplit(['-', ',']).next();
    last.and_then(|last| last.parse::<usize>().ok())
        .map(|last| last + 1)
        .ok_or_else(|| invalid(format!("unknown list of CPUs: {possible}")))
}
