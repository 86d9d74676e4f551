//! Producer of requests: a sample at each interval, encoded into the queue.
//! Entry point: [`produce`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use super::encode::Encoder;
use super::queue::MemoryQueue;
use crate::metrics::Sample;
use crate::source::{FRESHNESS, Source};
use crate::worker::Worker;

/// Encodes a sample at once and then at each interval, on `worker`. On `stop` encodes a last one and closes the queue.
pub async fn produce(
    source: Source,
    worker: Worker,
    mut encoder: Encoder,
    queue: Arc<MemoryQueue>,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        let stopping = tokio::select! {
            _ = ticks.tick() => false,
            // An error means that the sender is gone: stop as well.
            _ = stop.wait_for(|stop| *stop) => true,
        };
        // No snapshot is pushed twice: two values of a series with one time would contradict each other. The last
        // snapshot covers everything up to the end.
        let now = Instant::now();
        let oldest = if stopping { Some(now) } else { last.max(now.checked_sub(FRESHNESS)) };
        let reading = source.begun_since(oldest).await;
        last = Some(Instant::now());
        let exporter = source.exporter();
        let target = Arc::clone(&queue);
        let wait = DeliveryWait { until: now + interval / 2, stop: stop.clone(), waited: Duration::ZERO };
        let runtime = Handle::current();
        encoder = worker
            .run(move || {
                let sample = reading.selected.sample(Some(&exporter));
                fill(&runtime, &target, &mut encoder, sample, wait);
                encoder
            })
            .await;
        if stopping {
            queue.close();
            return;
        }
    }
}

/// Pushes a sample, each request when the one before it is delivered: its buffer then serves for the next one, so a node with
/// 138,000 points needs the memory of three requests, not of sixteen.
fn fill(
    runtime: &Handle,
    queue: &MemoryQueue,
    encoder: &mut Encoder,
    sample: Sample<'_>,
    mut wait: DeliveryWait,
) {
    let start = Instant::now();
    let (mut points, mut bytes, mut requests) = (0, 0, 0);
    queue.begin_sample();
    encoder.encode_each(sample, |request| {
        points += request.items.count;
        bytes += request.size();
        requests += 1;
        queue.push(Arc::new(request));
        runtime.block_on(wait.drained(queue));
    });
    let waited = wait.waited;
    let busy = start.elapsed().saturating_sub(waited);
    debug!(
        "pushed {points} points, {bytes} bytes in {requests} requests: encoded in {busy:?}, \
         waited {waited:?} for delivery"
    );
}

/// How long the producer waits for the delivery within one sample.
struct DeliveryWait {
    until: Instant,
    stop: watch::Receiver<bool>,
    /// Time waited so far.
    waited: Duration,
}

impl DeliveryWait {
    /// Waits until the queue is drained, time is up, or the exporter stops.
    async fn drained(&mut self, queue: &MemoryQueue) {
        let start = Instant::now();
        tokio::select! {
            () = queue.drained() => {}
            () = tokio::time::sleep_until(self.until.into()) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
        self.waited += start.elapsed();
    }
}
