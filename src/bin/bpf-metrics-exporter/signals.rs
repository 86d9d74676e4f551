//! Signals that end the program, and SIGHUP, which makes it read files again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::supervisor::Manager;

/// The signals that the program handles.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    reload: watch::Sender<()>,
    manager: Manager,
}

impl Signals {
    /// Handles signals from now on. `manager` gets an answer where no part reloads anything.
    pub(super) fn new(manager: Manager) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            reload: watch::Sender::new(()),
            manager,
        })
    }

    /// Returns a receiver that changes with each SIGHUP, for a part that has files to read again. Signals are delivered while
    /// [`Signals::stop`] is awaited.
    pub(super) fn reloads(&self) -> watch::Receiver<()> {
        self.reload.subscribe()
    }

    /// Waits for a signal to stop, and returns its name. Passes on SIGHUP meanwhile.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hang_up.recv() => self.hang_up().await,
            }
        }
    }

    async fn hang_up(&self) {
        // Fails without a receiver. The part that has one notifies the service manager.
        if self.reload.send(()).is_ok() {
            info!("SIGHUP: reloading the configuration");
        } else {
            info!("SIGHUP ignored: there is no configuration to reload; restart to change flags");
            self.manager.reload(async {}).await;
        }
    }
}

/// The signals that end a command. SIGHUP, of a terminal that is gone, ends it at once.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn signal(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
