//! OTLP: samples encoded as requests ([`encode`]), kept until delivered ([`outbox`]), carried by gRPC ([`grpc`]).
//! [`produce`] fills the outbox on a timer and [`deliver::deliver`] empties it; neither waits for the other.

pub mod deliver;
pub mod encode;
pub mod grpc;
pub mod ledger;
pub mod outbox;
pub mod resource;
mod wire;

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::encode::Encoder;
use self::outbox::Outbox;
use crate::metrics::Sample;
use crate::source::{FRESHNESS, Source};

/// Encodes a sample at once and then in every interval; once more when told to stop, and then closes the outbox.
pub async fn produce(
    source: Source,
    mut encoder: Encoder,
    outbox: &Outbox,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        let stopping = tokio::select! {
            _ = ticks.tick() => false,
            // An error means that nobody is left who could say it.
            _ = stop.wait_for(|stop| *stop) => true,
        };
        // No reading is pushed twice: two values of a series with one time would contradict each other. And the last one
        // tells of everything up to the end.
        let now = Instant::now();
        let oldest = if stopping { Some(now) } else { last.max(now.checked_sub(FRESHNESS)) };
        let snapshot = source.begun_since(oldest).await;
        last = Some(Instant::now());
        let exporter = source.exporter();
        let sample = Sample { snapshot: &snapshot, exporter: Some(&exporter) };
        outbox.push(encoder.encode(sample));
        if stopping {
            outbox.close();
            return;
        }
    }
}
