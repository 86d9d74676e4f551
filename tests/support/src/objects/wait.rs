//! Waiting for the kernel, which frees some objects a moment after their last descriptor is closed.
//! There is no fixed delay: a condition is checked until it holds or its time is over.

use super::error::failed_to;
use super::kind::Kind;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// Between two checks: short compared with any deadline, long compared with the cost of a check.
const PAUSE: Duration = Duration::from_millis(2);

/// Checks until the condition holds.
///
/// # Errors
/// `TimedOut` naming `what` after `limit`; the first error of `condition`.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() >= deadline {
            return Err(failed_to(
                format!("see within {limit:?} that {what}"),
                io::ErrorKind::TimedOut.into(),
            ));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Waits until none of `ids` names an object of this kind any more.
///
/// # Errors
/// `TimedOut` naming the first that is left after `limit`; a refusal by the kernel.
pub fn wait_until_gone(kind: Kind, ids: &[u32], limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    for &id in ids {
        let left = deadline.saturating_duration_since(Instant::now());
        wait_until(&format!("{kind:?} {id} is gone"), left, || kind.exists(id).map(|exists| !exists))?;
    }
    Ok(())
}
