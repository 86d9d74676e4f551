//! A producer of logs with one destination and its delivery, as the program has them. Entry point: [`Pipeline::start`].

use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::export::otlp::encode::Signal;
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::queue::{Disk, Queue};
use bpf_metrics_exporter::export::otlp::settings::Destination;
use bpf_metrics_exporter::export::otlp::{DeliverySettings, LogLane, RequestLimit, deliver, produce_logs};
use bpf_metrics_exporter::model::{BootTime, WallClock};
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::transport;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What a pipeline is made of.
pub struct Settings {
    /// The attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// The clock by which records have dates.
    pub clock: WallClock,
    /// Limit of the queue in bytes.
    pub max_bytes: u64,
    /// Where the queue is kept as well.
    pub disk: Option<Disk>,
}

impl Default for Settings {
    /// A host that was booted at the beginning of March 2026.
    fn default() -> Self {
        Self {
            resource: vec![("service.name".to_owned(), "bpf-metrics-exporter".to_owned())],
            clock: WallClock { booted_at: "2026-03-01T00:00:00Z".parse().expect("it is a date") },
            max_bytes: 1 << 20,
            disk: None,
        }
    }
}

/// A running pipeline.
pub struct Pipeline {
    /// Where events are published.
    pub events: Events,
    /// What waits for the receiver.
    pub queue: Arc<Queue>,
    /// What became of it.
    pub ledger: Arc<Ledger>,
    /// The size at which requests are split.
    pub limit: Arc<RequestLimit>,
    /// Stops the producer once nothing is published any more.
    pub stop: watch::Sender<bool>,
    /// What a producer of metrics holds until its last reading is done.
    publisher: mpsc::Sender<()>,
    producer: JoinHandle<()>,
    delivery: JoinHandle<()>,
}

impl Pipeline {
    /// Starts it within a runtime.
    ///
    /// # Panics
    ///
    /// If there can be no thread.
    #[must_use]
    pub fn start(destination: &Destination, settings: Settings) -> Self {
        let Settings { resource, clock, max_bytes, disk } = settings;
        let compression = destination.compression;
        let ledger = Ledger::new("the receiver", BootTime::default()).of_signals(vec![Signal::Logs]);
        let ledger = Arc::new(ledger);
        let queue = Queue::new("the receiver", max_bytes, compression.first(), Arc::clone(&ledger));
        let queue = queue.of_signal(Signal::Logs);
        let queue = Arc::new(match disk {
            Some(disk) => queue.on(disk),
            None => queue,
        });
        let limit = Arc::new(RequestLimit::new(4 << 20));
        let settings = DeliverySettings {
            receiver: "the receiver".to_owned(),
            compression,
            interval: Duration::from_secs(1),
            max_request: Arc::clone(&limit),
        };
        let events = Events::default();
        let worker = Worker::start("encoding").expect("a thread");
        let queues = vec![(Arc::clone(&queue), Arc::clone(&ledger))];
        let lane = LogLane::new(&resource, Arc::clone(&limit), queues, worker, move || clock);
        let (stop, stopped) = watch::channel(false);
        let (publisher, publishers) = mpsc::channel(1);
        let producer = tokio::spawn(produce_logs(events.subscribe(Some(0)), lane, stopped, publishers));
        let transport = transport::connect(destination);
        let delivery = tokio::spawn({
            let (queue, ledger) = (Arc::clone(&queue), Arc::clone(&ledger));
            async move {
                queue.load().await;
                deliver(&queue, &ledger, transport, settings).await;
            }
        });
        Self { events, queue, ledger, limit, stop, publisher, producer, delivery }
    }

    /// Stops it as the program does, and waits for its end.
    ///
    /// # Panics
    ///
    /// If it has not ended in time.
    pub async fn finish(self) -> Arc<Ledger> {
        self.stop.send_replace(true);
        drop(self.publisher);
        let ended = async { (self.producer.await, self.delivery.await) };
        let (producer, delivery) = tokio::time::timeout(DEADLINE, ended).await.expect("they end in time");
        producer.and(delivery).expect("they do not panic");
        self.ledger
    }
}
