//! Readings on standard output, as text in Prometheus' format: `OTEL_METRICS_EXPORTER=console`. Entry point: [`print`].

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::prometheus::{self, Format};
use crate::source::{FRESHNESS, Source};
use crate::worker::Worker;

/// Prints a reading at each interval until `stop`, on `printer`. A standard output that takes nothing delays the next reading that is
/// printed, and nothing else; one that fails ends the printing with a warning.
pub async fn print(source: Source, printer: Worker, interval: Duration, mut stop: watch::Receiver<bool>) {
    let print_readings = async {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = None;
        loop {
            ticks.tick().await;
            // No reading is printed twice.
            let oldest = last.max(Instant::now().checked_sub(FRESHNESS));
            let selected = source.begun_since(oldest).await.selected;
            last = Some(Instant::now());
            let exporter = source.exporter();
            let print = move || {
                let mut text = prometheus::render(selected.sample(Some(&exporter)), Format::Text, 0);
                text.push('\n');
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            };
            if let Err(error) = printer.run(print).await {
                warn!("failed to print a reading: {error}; no more readings are printed");
                return std::future::pending().await;
            }
        }
    };
    // An error means that the sender is gone: stop as well.
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    tokio::select! {
        () = print_readings => {}
        () = stopped => {}
    }
}
