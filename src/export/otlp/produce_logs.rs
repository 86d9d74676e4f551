//! Producer of logs: events as they are published, encoded in batches and pushed into the queues of several destinations.
//! Entry point: [`produce_logs`]. It waits for no destination, and wakes up only for events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::deliver::RequestLimit;
use super::encode::{Compressor, Forms, LogEncoder};
use super::ledger::Ledger;
use super::queue::Queue;
use crate::events::{Batch, Subscription};
use crate::model::{Event, WallClock};
use crate::worker::Worker;

/// How many events are encoded together.
const MAX_BATCH: usize = 512;

/// How long the first event of a batch waits for others.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// How long a warning that is repeated is only counted.
const REPEAT: Duration = Duration::from_hours(1);

/// What is encoded together: the same log records for several destinations.
pub struct LogLane {
    encoder: LogEncoder,
    compressor: Compressor,
    worker: Worker,
    queues: Vec<(Arc<Queue>, Arc<Ledger>)>,
    max_request: Arc<RequestLimit>,
    clock: Box<dyn FnMut() -> WallClock + Send>,
}

impl LogLane {
    /// Returns a lane to these queues, with dates by `clock`. Requests are encoded on `worker`. What is dropped before it is encoded is
    /// counted in the ledgers.
    #[must_use]
    pub fn new(
        resource: &[(String, String)],
        max_request: Arc<RequestLimit>,
        queues: Vec<(Arc<Queue>, Arc<Ledger>)>,
        worker: Worker,
        clock: impl FnMut() -> WallClock + Send + 'static,
    ) -> Self {
        Self {
            encoder: LogEncoder::new(resource),
            compressor: Compressor::default(),
            worker,
            queues,
            max_request,
            clock: Box::new(clock),
        }
    }

    /// Pushes events into all queues. A batch is to a queue what a reading is of metrics.
    fn push(&mut self, events: &[Arc<Event>]) {
        let start = Instant::now();
        let requests = self.encoder.encode(events, (self.clock)(), self.max_request.get());
        for (queue, _) in &self.queues {
            queue.begin_reading();
        }
        let count = requests.len();
        for request in requests {
            let mut forms = Forms::new(request, &mut self.compressor);
            for (queue, _) in &self.queues {
                queue.push(|compression| forms.get(compression));
            }
        }
        debug!("pushed {} log records in {count} requests: encoded in {:?}", events.len(), start.elapsed());
    }
}

/// Encodes events until `stop` and until every sender of `publishers`, each of which is held by a task that may publish events, is
/// dropped. Encodes what is left then, and closes the queues.
pub async fn produce_logs(
    mut events: Subscription,
    mut lane: LogLane,
    mut stop: watch::Receiver<bool>,
    mut publishers: mpsc::Receiver<()>,
) {
    let (mut waiting, mut told) = (Batch::default(), Repeated::default());
    let ended = async {
        // An error means that the sender is gone: stop as well.
        drop(stop.wait_for(|stop| *stop).await);
        while publishers.recv().await.is_some() {}
    };
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            () = collect(&mut events, &mut waiting) => {}
            () = &mut ended => break,
        }
        lane = send(lane, &mut told, std::mem::take(&mut waiting)).await;
    }
    loop {
        add(&mut waiting, events.take(MAX_BATCH));
        if waiting.events.is_empty() {
            break;
        }
        lane = send(lane, &mut told, std::mem::take(&mut waiting)).await;
    }
    lane.queues.iter().for_each(|(queue, _)| queue.close());
}

/// Encodes and pushes a batch, and counts what is missing from it.
async fn send(mut lane: LogLane, told: &mut Repeated, Batch { events, missed }: Batch) -> LogLane {
    if missed > 0 {
        lane.queues.iter().for_each(|(_, ledger)| ledger.logs.missed.add(missed));
        if told.is_due(Instant::now()) {
            warn!(
                "{missed} events came faster than they were encoded, and are not sent as logs; further ones are only counted in \
                 bpf_exporter_otlp_dropped_log_records{{reason=\"missed\"}}"
            );
        }
    }
    if events.is_empty() {
        return lane;
    }
    let worker = lane.worker.clone();
    let push = move || {
        lane.push(&events);
        lane
    };
    worker.run(push).await
}

/// Waits for a batch: for the first event, and for others until there are [`MAX_BATCH`] or it has waited for [`MAX_WAIT`]. What it has
/// so far is in `batch` if it is cancelled.
async fn collect(events: &mut Subscription, batch: &mut Batch) {
    if batch.events.is_empty() {
        let first = events.next(MAX_BATCH).await;
        add(batch, first);
    }
    let until = Instant::now() + MAX_WAIT;
    while batch.events.len() < MAX_BATCH {
        let Ok(more) = timeout_at(until, events.next(MAX_BATCH - batch.events.len())).await else { return };
        add(batch, more);
    }
}

fn add(batch: &mut Batch, more: Batch) {
    batch.events.extend(more.events);
    batch.missed += more.missed;
}

/// A warning that is repeated after [`REPEAT`] at the earliest.
#[derive(Default)]
struct Repeated {
    last: Option<Instant>,
}

impl Repeated {
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= REPEAT);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
