//! Signals that end the program, and SIGHUP, which makes it read files again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::supervisor;

/// The signals that the program handles.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    reload: watch::Sender<()>,
}

impl Signals {
    /// Handles signals from now on.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            reload: watch::Sender::new(()),
        })
    }

    /// Returns a receiver that changes with each SIGHUP, for a part that has files to read again. Signals are delivered while
    /// somebody waits in [`Signals::stop`].
    pub(super) fn reloads(&self) -> watch::Receiver<()> {
        self.reload.subscribe()
    }

    /// Waits for a signal to stop, and returns its name. Passes on SIGHUP meanwhile.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hang_up.recv() => self.hang_up(),
            }
        }
    }

    fn hang_up(&self) {
        // Fails if nobody has a receiver.
        if self.reload.send(()).is_ok() {
            info!("SIGHUP: reloading the configuration");
        } else {
            info!("SIGHUP ignored: there is no configuration to reload; restart to change flags");
        }
        supervisor::reloaded();
    }
}
