//! Producer of requests: a reading at each interval, encoded once and pushed into the queues of several destinations.
//! Entry point: [`produce`].

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, warn};

use super::deliver::RequestLimit;
use super::encode::{Compressor, Encoder, Forms, Request};
use super::queue::Queue;
use super::settings::Temporality;
use super::ticks::Ticks;
use crate::metrics::Sample;
use crate::source::{FRESHNESS, Source};
use crate::worker::Worker;

/// The longest time that a reading waits for a destination: those that are slower must not delay the others, nor the end of the
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

    /// Leaves out points whose value is that of the last one, so that no series is without a point for longer than `unchanged`, with a
    /// reading at each `interval`. After anything that may have cost one of the receivers a point, the next reading leaves none out.
    #[must_use]
    pub fn with_unchanged_interval(self, unchanged: Option<Duration>, interval: Duration) -> Self {
        // A point is due with the first reading of its turn, up to an interval after the turn began.
        let turn = unchanged.map(|unchanged| unchanged.saturating_sub(interval));
        Self { encoder: self.encoder.with_unchanged_interval(turn), ..self }
    }

    /// Returns false if the last difference is not settled: the next one covers the time until then.
    fn is_ready(&self) -> bool {
        self.temporality == Temporality::Cumulative || self.queues.iter().all(|queue| queue.is_empty())
    }

    /// Waits until the last difference is settled, its queue is behind, or so long.
    fn wait_until_ready(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.queues.iter().for_each(|queue| queue.wait_until_drained(until));
    }

    /// Pushes a sample, each request into all queues. Before it begins one, waits for the queues that have to keep those before as they
    /// are, within `wait` each: a buffer of them then serves for the next, so a node with 138,000 points needs the memory of three requests,
    /// not of sixteen. Nothing waits for the last one, which costs a node with a single request two switches of threads.
    fn fill(&mut self, sample: Sample<'_>, wait: Duration) {
        let Self { encoder, compressor, queues, max_request, temporality, .. } = self;
        let start = Instant::now();
        let (mut points, mut bytes, mut requests) = (0, 0, 0);
        let mut waits = Waits::new(queues, wait);
        encoder.set_max_request(max_request.get());
        if *temporality == Temporality::Delta {
            encoder.acknowledge(queues.first().map(|queue| queue.accepted()).unwrap_or_default());
        }
        for queue in queues.iter() {
            if queue.take_may_lack() {
                encoder.send_all();
            }
            queue.begin_reading();
        }
        let push = |request: Request| {
            points += request.items.count;
            bytes += request.size();
            requests += 1;
            let mut forms = Forms::new(request, compressor);
            for queue in queues.iter() {
                queue.push(|compression| forms.get(compression));
            }
        };
        encoder.encode_each(sample, || waits.wait(), push);
        let waited = waits.waited;
        let busy = start.elapsed().saturating_sub(waited);
        debug!(
            "pushed {points} points, {bytes} bytes in {requests} requests: encoded in {busy:?}, \
             waited {waited:?} for delivery"
        );
    }
}

/// How long a reading waits for its destinations: for each of them as if it were the only one, so that a slow one costs the others
/// nothing.
struct Waits<'a> {
    /// What is left for each queue.
    left: Vec<(&'a Arc<Queue>, Duration)>,
    waited: Duration,
}

impl<'a> Waits<'a> {
    fn new(queues: &'a [Arc<Queue>], each: Duration) -> Self {
        Self { left: queues.iter().map(|queue| (queue, each)).collect(), waited: Duration::ZERO }
    }

    /// Waits until the queues that keep requests as they are have none, or count as behind.
    fn wait(&mut self) {
        let start = Instant::now();
        for (queue, left) in self.left.iter_mut().filter(|(queue, _)| queue.keeps_plain()) {
            let from = Instant::now();
            queue.wait_until_drained(from + *left);
            *left = left.saturating_sub(from.elapsed());
        }
        self.waited += start.elapsed();
    }
}

/// Encodes a reading at once and then at each interval. On `stop` encodes a last one and closes the queues.
///
/// # Errors
///
/// Fails if there can be no timer: the process may open no further descriptor, or the runtime ends. The queues stay open.
pub async fn produce(
    source: Source,
    mut lane: Lane,
    pace: Pace,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    // A late reading does not move those after it.
    let mut ticks = Ticks::every(pace.interval)?;
    let mut last = None;
    let mut is_late = false;
    loop {
        let stopping = tokio::select! {
            ticked = ticks.tick() => ticked.map(|()| false)?,
            // An error means that the sender is gone: stop as well.
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if stopping && !lane.is_ready() {
            // What came since the last difference is lost if the last reading cannot be made.
            let worker = lane.worker.clone();
            lane = worker
                .run(move || {
                    lane.wait_until_ready(MAX_WAIT);
                    lane
                })
                .await;
        }
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
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::otlp::encode::{Items, Signal};
    use crate::export::otlp::ledger::Ledger;
    use crate::export::otlp::settings::Compression;
    use crate::model::BootTime;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_destination_costs_the_others_no_time() {
        let queues = ["slow", "healthy"].map(|name| {
            let ledger = Arc::new(Ledger::new(name, BootTime::default()));
            Arc::new(Queue::new(name, 1 << 20, Compression::None, ledger))
        });
        let [slow, healthy] = &queues;
        let items = Items { signal: Signal::Metrics, count: 1 };
        let request = Request { bytes: vec![0; 100].into(), compression: Compression::None, items };
        let mut waits = Waits::new(&queues, Duration::from_millis(500));
        for number in 0..3 {
            for queue in &queues {
                queue.push(|_| request.clone());
            }
            let delivery = Arc::clone(healthy);
            let deliver = tokio::spawn(async move {
                drop(delivery.front(None).await);
                tokio::time::sleep(Duration::from_millis(5)).await;
                delivery.done(true);
            });
            tokio::task::block_in_place(|| waits.wait());
            deliver.await.expect("it does not panic");
            assert!(!slow.keeps_plain(), "it is behind after {number}");
            assert!(healthy.keeps_plain(), "it was in time for {number}");
        }
    }
}
