//! The end of a run by SIGINT or SIGTERM: waits end with an error, so that what was started is dropped. Entry point: [`Interrupt`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long a signal may go unnoticed.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether the run is to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Ends the run.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// If the run is to end.
    pub fn sleep(&self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            if self.0.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(PAUSE));
        }
    }
}
