//! Waiting for the kernel, which ends some things a moment after the last fd to them is closed.
//! Nothing here waits a fixed time: a condition is asked again until it holds or its time is over.

use super::error::failed_to;
use super::kind::Kind;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long between two questions: short against any deadline, long against the cost of asking.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks `met` until it says yes.
///
/// # Errors
/// `TimedOut` naming `what` after `limit`; the first error of `met`.
pub fn wait_until(what: &str, limit: Duration, mut met: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    while !met()? {
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
