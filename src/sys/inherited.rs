//! Sockets that systemd passes (`sd_listen_fds(3)`). Entry point: [`sockets`].
#![expect(unsafe_code, reason = "a passed descriptor is only a number")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Returns the sockets that were passed to this process, and makes them close on exec; none if none were, or if they were already
/// returned. To be called before the process opens descriptors of its own.
///
/// # Errors
///
/// If the variables are malformed, or a descriptor is not open.
pub fn sockets() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // Also checks `LISTEN_PID`, and that each is open.
    let passed = sd_notify::listen_fds()?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // SAFETY: by systemd's protocol, descriptors from 3 on are this process' own to close; each is returned once, since `TAKEN` is
    // set by the first caller.
    Ok(passed.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect())
}
