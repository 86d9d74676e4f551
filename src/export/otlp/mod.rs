//! OTLP: samples encoded as requests ([`encode`]), kept until delivered ([`outbox`]), carried by gRPC ([`grpc`]).
//! [`produce`] fills the outbox on a timer and [`deliver::deliver`] empties it; the one waits for the other no longer than
//! there is time for.

pub mod deliver;
pub mod encode;
pub mod grpc;
pub mod ledger;
pub mod outbox;
pub mod resource;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
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
    outbox: Arc<Outbox>,
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
        let (filled, pace) = (Arc::clone(&outbox), Pace { end: now + interval / 2, stop: stop.clone() });
        let filling = tokio::task::spawn_blocking(move || {
            let sample = Sample { snapshot: &snapshot, exporter: Some(&exporter) };
            fill(&filled, &mut encoder, sample, pace);
            encoder
        });
        encoder = filling.await.expect("encoding does not panic");
        if stopping {
            outbox.close();
            return;
        }
    }
}

/// Puts a sample into the outbox, each request when the one before it is on its way: then the next ones are written into the
/// memory of the first, and a node with 138,000 points needs three requests' memory and not sixteen.
fn fill(outbox: &Outbox, encoder: &mut Encoder, sample: Sample<'_>, mut pace: Pace) {
    let runtime = Handle::current();
    outbox.begin_sample();
    encoder.encode_each(sample, |request| {
        outbox.push(request);
        runtime.block_on(pace.keep(outbox));
    });
}

/// How long the one who encodes may wait for the one who sends.
struct Pace {
    end: Instant,
    stop: watch::Receiver<bool>,
}

impl Pace {
    /// Waits until the outbox wants another request, as long as there is time.
    async fn keep(&mut self, outbox: &Outbox) {
        tokio::select! {
            () = outbox.drained() => {}
            () = tokio::time::sleep_until(self.end.into()) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }
}
