//! Producer of requests: a reading at each interval, encoded once and pushed into the queues of several destinations.
//! Entry point: [`produce`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::deliver::RequestLimit;
use super::encode::{Compressor, Encoder, Forms};
use super::queue::Queue;
use super::settings::Temporality;
use crate::metrics::Sample;
use crate::source::{FRESHNESS, Source};
use crate::worker::Worker;

/// The longest time that a reading waits for destinations, in all: those that are slower must not delay the others, nor the end of the
/// program.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// What is encoded together: the same points for several destinations.
///
/// Cumulative points are the same for all. Differences are not, since each destination has acknowledged another reading, so each
/// with [`Temporality::Delta`] has a lane of its own.
pub struct Lane {
    encoder: Encoder,
    compressor: Compressor,
    /// Where it is encoded: not on a thread that something else can occupy.
    worker: Worker,
    queues: Vec<Arc<Queue>>,
    max_request: Arc<RequestLimit>,
    temporality: Temporality,
}

/// When to push.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two readings.
    pub interval: Duration,
    /// The longest time to wait for a reading; `None` for no limit.
    pub timeout: Option<Duration>,
}

impl Lane {
    /// Returns a lane to these queues; a single one for [`Temporality::Delta`]. Requests are encoded on `worker`.
    #[must_use]
    pub fn new(
        resource: &[(String, String)],
        temporality: Temporality,
        max_request: Arc<RequestLimit>,
        queues: Vec<Arc<Queue>>,
        worker: Worker,
    ) -> Self {
        Self {
            encoder: Encoder::new(resource, max_request.get()).with_temporality(temporality),
            compressor: Compressor::default(),
            worker,
            queues,
            max_request,
            temporality,
        }
    }

    /// Returns false if the last difference is not settled: the next one covers the time until then.
    fn is_ready(&self) -> bool {
        self.temporality == Temporality::Cumulative || self.queues.iter().all(|queue| queue.is_empty())
    }

    /// Pushes a sample, each request into all queues. Waits for those that have to keep it as it is, within `wait` in all: its buffer then serves for
    /// the next request, so a node with 138,000 points needs the memory of three requests, not of sixteen.
    fn fill(&mut self, sample: Sample<'_>, wait: Duration) {
        let Self { encoder, compressor, queues, max_request, temporality, .. } = self;
        let start = Instant::now();
        let (mut points, mut bytes, mut requests, mut waited) = (0, 0, 0, Duration::ZERO);
        encoder.set_max_request(max_request.get());
        if *temporality == Temporality::Delta {
            encoder.acknowledge(queues.first().map(|queue| queue.accepted()).unwrap_or_default());
        }
        for queue in queues.iter() {
            queue.begin_reading();
        }
        encoder.encode_each(sample, |request| {
            points += request.items.count;
            bytes += request.size();
            requests += 1;
            {
                let mut forms = Forms::new(request, compressor);
                for queue in queues.iter() {
                    queue.push(|compression| forms.get(compression));
                }
            }
            let from = Instant::now();
            let until = from + wait.saturating_sub(waited);
            queues
                .iter()
                .filter(|queue| queue.keeps_plain())
                .for_each(|queue| queue.wait_until_drained(until));
            waited += from.elapsed();
        });
        let busy = start.elapsed().saturating_sub(waited);
        debug!(
            "pushed {points} points, {bytes} bytes in {requests} requests: encoded in {busy:?}, \
             waited {waited:?} for delivery"
        );
    }
}

/// Encodes a reading at once and then at each interval. On `stop` encodes a last one and closes the queues.
pub async fn produce(source: Source, mut lane: Lane, pace: Pace, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(pace.interval);
    // A late reading does not move those after it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = None;
    let mut is_late = false;
    loop {
        let stopping = tokio::select! {
            _ = ticks.tick() => false,
            // An error means that the sender is gone: stop as well.
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if lane.is_ready() {
            // No snapshot is pushed twice: two values of a series with one time would contradict each other. The last
            // snapshot covers everything up to the end.
            let now = Instant::now();
            let oldest = if stopping { Some(now) } else { last.max(now.checked_sub(FRESHNESS)) };
            let timeout = pace.timeout.unwrap_or(Duration::MAX);
            if let Ok(reading) = tokio::time::timeout(timeout, source.begun_since(oldest)).await {
                last = Some(Instant::now());
                is_late = false;
                let exporter = source.exporter();
                let wait = MAX_WAIT.min(pace.interval / 10);
                let worker = lane.worker.clone();
                lane = worker
                    .run(move || {
                        lane.fill(reading.selected.sample(Some(&exporter)), wait);
                        lane
                    })
                    .await;
            } else if !std::mem::replace(&mut is_late, true) {
                warn!(
                    "a reading took longer than {timeout:?} (OTEL_METRIC_EXPORT_TIMEOUT) and is not pushed, like others \
                     until one is faster"
                );
            }
        }
        if stopping {
            lane.queues.iter().for_each(|queue| queue.close());
            return;
        }
    }
}
