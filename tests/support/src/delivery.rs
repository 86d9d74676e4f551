//! A queue of points and its delivery to a receiver, without a reading. Entry point: [`Delivery::start`].

use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Request;
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::queue::Queue;
use bpf_metrics_exporter::export::otlp::settings::Destination;
use bpf_metrics_exporter::export::otlp::{DeliverySettings, RequestLimit, deliver};
use bpf_metrics_exporter::model::BootTime;
use tokio::task::JoinHandle;

use crate::transport;

/// How long a test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A queue and its delivery.
pub struct Delivery {
    /// The queue.
    pub queue: Arc<Queue>,
    /// Where requests are divided.
    pub limit: Arc<RequestLimit>,
    /// What became of the points.
    pub ledger: Arc<Ledger>,
    /// The delivery itself.
    pub task: JoinHandle<()>,
}

impl Delivery {
    /// Starts it within a runtime.
    ///
    /// # Panics
    ///
    /// If the settings of the destination are invalid.
    #[must_use]
    pub fn start(destination: &Destination, interval: Duration, max_request: usize) -> Self {
        let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
        let form = destination.compression.first();
        let queue = Arc::new(Queue::new("the receiver", 1 << 20, form, Arc::clone(&ledger)));
        let limit = Arc::new(RequestLimit::new(max_request));
        let settings = DeliverySettings {
            receiver: "the receiver".to_owned(),
            compression: destination.compression,
            interval,
            max_request: Arc::clone(&limit),
        };
        let transport = transport::connect(destination);
        let task = tokio::spawn({
            let (queue, ledger) = (Arc::clone(&queue), Arc::clone(&ledger));
            async move { deliver(&queue, &ledger, transport, settings).await }
        });
        Self { queue, limit, ledger, task }
    }

    /// Pushes a reading.
    pub fn push<const COUNT: usize>(&self, requests: [Request; COUNT]) {
        self.queue.begin_reading();
        for request in requests {
            self.queue.push(|_| request);
        }
    }

    /// Waits until nothing is left in the queue.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub async fn settled(&self) {
        until(|| self.ledger.backlog.get() == 0).await;
    }

    /// Waits until nothing is left in the queue, and ends the delivery.
    ///
    /// # Panics
    ///
    /// If that takes too long, or the delivery panics.
    pub async fn finish(self) -> Arc<Ledger> {
        self.settled().await;
        self.queue.close();
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .expect("the delivery ends in time")
            .expect("the delivery does not panic");
        self.ledger
    }
}

/// Waits until a condition is reached.
///
/// # Panics
///
/// If that takes too long.
pub async fn until(mut reached: impl FnMut() -> bool) {
    let reached = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.expect("the condition is reached in time");
}
