//! Notifications to the service manager: that the exporter is ready, reloads and stops, its status, and that readings go on
//! (`sd_notify(3)`, `Type=notify` of systemd). Entry points: [`Manager`] and [`Supervisor::run`].
//!
//! The watchdog is fed by readings: before it is due, a recent one is requested from [`Source`], which takes it only if no scrape and no push
//! did. If that does not return, the watchdog is not fed, and the service manager ends the exporter.

use std::env;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bpf_metrics_exporter::model::Snapshot;
use bpf_metrics_exporter::source::{Reading, Source};
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

/// How often the status changes at most.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// The last notification of the service manager about the phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing: the exporter starts.
    #[default]
    Starting,
    Ready,
    Stopping,
}

/// The service manager, shared by the parts that notify it. Without one nothing happens.
///
/// `READY=1` means that the start has ended, and `STOPPING=1` that only the end follows: neither is said of a reload before or after.
#[derive(Clone, Debug, Default)]
pub(super) struct Manager {
    phase: Arc<Mutex<Phase>>,
}

impl Manager {
    /// Reloads, and notifies when that begins and has ended, if the exporter is ready meanwhile.
    pub(super) async fn reload(&self, reload: impl Future<Output = ()>) {
        let is_notified = match NotifyState::monotonic_usec_now() {
            Ok(now) => self.while_ready(|| notify(&[NotifyState::Reloading, now])),
            Err(error) => {
                warn!("the service manager cannot be notified of the reload: {error}");
                false
            }
        };
        reload.await;
        if is_notified {
            self.while_ready(|| notify(&[NotifyState::Ready]));
        }
    }

    /// Notifies that the start has ended.
    fn ready(&self) {
        let mut phase = self.phase();
        *phase = Phase::Ready;
        notify(&[NotifyState::Ready]);
    }

    /// Notifies that the exporter ends.
    pub(super) fn stopping(&self) {
        let mut phase = self.phase();
        *phase = Phase::Stopping;
        notify(&[NotifyState::Stopping]);
    }

    /// Sends a notification, unless the exporter starts or ends. No other is sent meanwhile. Returns whether it was sent.
    fn while_ready(&self, send: impl FnOnce()) -> bool {
        let phase = self.phase();
        let is_ready = *phase == Phase::Ready;
        if is_ready {
            send();
        }
        is_ready
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notifies the service manager of this process, if there is one.
#[derive(Debug)]
pub(super) struct Supervisor {
    manager: Manager,
    /// The time within which the watchdog is to be fed; `None` without one.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Reads what the service manager wants from the environment; `None` without a service manager.
    pub(super) fn from_environment(manager: Manager) -> Option<Self> {
        env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())?;
        let mut microseconds = 0;
        let has_watchdog = sd_notify::watchdog_enabled(false, &mut microseconds) && microseconds > 0;
        Some(Self { manager, watchdog: has_watchdog.then(|| Duration::from_micros(microseconds)) })
    }

    /// Reports that the exporter is ready, and from then on its status and that readings go on, until `stopped` is true.
    pub(super) async fn run(self, source: Source, mut stopped: watch::Receiver<bool>) {
        self.manager.ready();
        if let Some(watchdog) = self.watchdog {
            info!("the watchdog of the service manager is fed by readings, one in {:?}", watchdog / 2);
        }
        let supervise = async {
            let every = self.watchdog.map_or(STATUS_INTERVAL, |watchdog| (watchdog / 2).min(STATUS_INTERVAL));
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut status_at: Option<Instant> = None;
            loop {
                ticks.tick().await;
                let moment = self.watchdog.and_then(|watchdog| Instant::now().checked_sub(watchdog / 2));
                // Without a watchdog no reading is taken for the status.
                let Some(reading) = self.reading(&source, moment).await else { continue };
                if self.watchdog.is_some() {
                    notify(&[NotifyState::Watchdog]);
                }
                if status_at.is_none_or(|at| at.elapsed() >= STATUS_INTERVAL) {
                    notify(&[NotifyState::Status(&status(&reading.snapshot))]);
                    status_at = Some(Instant::now());
                }
            }
        };
        tokio::select! {
            // A dropped sender means stop as well.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = supervise => {}
        }
        self.manager.stopping();
    }

    /// Returns a reading that began at this moment or later; without a watchdog the last one.
    async fn reading(&self, source: &Source, moment: Option<Instant>) -> Option<Reading> {
        if self.watchdog.is_some() { Some(source.begun_since(moment).await) } else { source.last().await }
    }
}

/// What a reading found, in a line.
fn status(snapshot: &Snapshot) -> String {
    let count = |count: Option<usize>, what| match count {
        Some(count) => format!("{count} {what}"),
        None => format!("? {what}"),
    };
    let missing = snapshot.features.iter().filter(|feature| feature.reason.is_some()).count();
    let mut line = [
        count(snapshot.programs.as_ref().map(Vec::len), "programs"),
        count(snapshot.maps.as_ref().map(Vec::len), "maps"),
        count(snapshot.links.as_ref().map(Vec::len), "links"),
        count(snapshot.btfs.as_ref().map(Vec::len), "BTF objects"),
    ]
    .join(", ");
    if missing > 0 {
        let _infallible = write!(line, "; {missing} features not available");
    }
    line
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        debug!("the service manager cannot be notified of {states:?}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use bpf_metrics_exporter::model::{BootTime, Feature, FeatureState, Reason, WallClock};

    use super::*;

    #[tokio::test]
    async fn a_reload_is_told_between_ready_and_stopping_only() {
        let manager = Manager::default();
        let tells = || manager.while_ready(|| {});
        assert!(!tells(), "it starts");
        manager.ready();
        manager.reload(async { assert!(tells(), "nothing is locked while it reloads") }).await;
        manager.reload(async { manager.stopping() }).await;
        assert!(!tells(), "it ends");
    }

    #[test]
    fn the_status_is_a_line_of_counts() {
        let mut snapshot = Snapshot {
            programs: Some(Vec::new()),
            ..Snapshot::begun(BootTime::default(), BootTime::default(), WallClock::default())
        };
        assert_eq!(status(&snapshot), "0 programs, ? maps, ? links, ? BTF objects");
        snapshot.features.push(FeatureState { feature: Feature::Pins, reason: Some(Reason::Kernel) });
        assert!(status(&snapshot).ends_with("; 1 features not available"));
    }
}
