//! The push: for each destination of a signal a queue and a delivery, and for each receiver a ledger; for destinations that get the
//! same, one producer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::export::otlp::encode::Signal;
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::queue::{Disk, Queue};
use bpf_metrics_exporter::export::otlp::settings::{
    Compression, CompressionPolicy, Destination, Protocol, Push, Temporality,
};
use bpf_metrics_exporter::export::otlp::transport::Transport;
use bpf_metrics_exporter::export::otlp::{
    DeliverySettings, Lane, LogLane, Pace, RequestLimit, deliver, produce, produce_logs,
};
use bpf_metrics_exporter::host::clock::HostClock;
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::serve::{Tasks, start_worker};

/// How long a delivery waits for a disk that does not answer, before it begins without what an earlier run left.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// What part of the backlog logs may have in addition: a hundred thousand events by default.
const LOGS_SHARE: u64 = 8;

/// The backlog of logs for a receiver that nobody gave, and that may not exist.
const UNCONFIGURED_LOGS: u64 = 1 << 20;

/// A receiver: a place that takes metrics, logs or both.
pub(super) struct Receiver {
    /// Its name in the log and in metrics.
    pub(super) endpoint: String,
    /// Whether a flag or a variable gives it.
    pub(super) configured: bool,
    pub(super) signals: Vec<Signal>,
}

/// Every receiver: first that of each destination of metrics, then those of logs only.
pub(super) struct Receivers {
    pub(super) all: Vec<Receiver>,
    /// The receiver of each destination of logs.
    of_logs: Vec<usize>,
}

impl Receivers {
    pub(super) fn of(push: &Push) -> Self {
        let receiver = |destination: &Destination, signal| Receiver {
            endpoint: destination.endpoint.to_string(),
            configured: destination.configured,
            signals: vec![signal],
        };
        let all = push.destinations.iter().map(|destination| receiver(destination, Signal::Metrics));
        let mut receivers = Self { all: all.collect(), of_logs: Vec::new() };
        for logs in &push.logs {
            let url = logs.endpoint.url();
            let is_it = |metrics: &Destination| {
                let beside = metrics.endpoint.of_logs().is_some_and(|beside| beside.url() == url);
                beside || metrics.endpoint.url() == url
            };
            let index = push.destinations.iter().position(is_it).unwrap_or(receivers.all.len());
            match receivers.all.get_mut(index) {
                Some(receiver) => receiver.signals.push(Signal::Logs),
                None => receivers.all.push(receiver(logs, Signal::Logs)),
            }
            receivers.of_logs.push(index);
        }
        receivers
    }
}

/// What the tasks of the push are made of.
pub(super) struct Ground<'a> {
    pub(super) resource: &'a [(String, String)],
    /// Of each of [`Receivers::all`].
    pub(super) ledgers: &'a [Arc<Ledger>],
    pub(super) source: &'a Source,
    pub(super) events: &'a Events,
    /// Where requests for several destinations are encoded.
    pub(super) encoding: Worker,
    pub(super) stopped: &'a watch::Receiver<bool>,
}

/// The threads of a receiver, for all of its signals.
struct Threads {
    resolving: Worker,
    /// `None` without a directory.
    backlog: Option<Worker>,
}

/// Starts the tasks that push to every destination.
pub(super) fn start(tasks: &mut Tasks, push: Push, ground: &Ground<'_>) -> anyhow::Result<()> {
    let receivers = Receivers::of(&push);
    let Push { destinations, logs, interval, interval_timeout, .. } = push;
    let Push { unchanged_interval, max_request, backlog, backlog_dir, .. } = push;
    let &Ground { resource, ledgers, source, events, ref encoding, stopped } = ground;
    let threads = receivers.all.iter().map(|_| {
        let backlog = backlog_dir.as_ref().map(|_| start_worker("backlog")).transpose()?;
        anyhow::Ok(Threads { resolving: start_worker("resolving")?, backlog })
    });
    let threads: Vec<Threads> = threads.collect::<Result<_, _>>()?;
    let limit = || Arc::new(RequestLimit::new(max_request));
    let mut urls = Vec::new();
    let mut deliver_to = |destination: Destination, signal: Signal, at: usize, max_request| {
        let url = destination.endpoint.url();
        let key = match signal {
            Signal::Metrics => url,
            // Over gRPC both have the same URL; none has this character.
            Signal::Logs => format!("{url}#logs"),
        };
        let (threads, ledger) = (&threads[at], &ledgers[at]);
        let place = backlog_dir.as_deref().zip(threads.backlog.clone());
        let queue =
            queue(&destination, signal, backlog, place.map(|(path, worker)| (path, &*key, worker)), ledger);
        urls.push(key);
        let settings = Settings { interval, max_request };
        start_delivery(tasks, &destination, &queue, settings, threads.resolving.clone(), ledger)?;
        anyhow::Ok(queue)
    };
    let mut lanes = Vec::new();
    let (shared_limit, mut cumulative) = (limit(), Vec::new());
    for (at, destination) in destinations.into_iter().enumerate() {
        info!(
            "pushing to {} {} every {interval:?}",
            destination.endpoint,
            manner(&destination, Signal::Metrics)
        );
        match destination.temporality {
            Temporality::Cumulative => {
                cumulative.push(deliver_to(destination, Signal::Metrics, at, Arc::clone(&shared_limit))?);
            }
            Temporality::Delta => {
                let limit = limit();
                let queue = deliver_to(destination, Signal::Metrics, at, Arc::clone(&limit))?;
                let worker = start_worker("encoding")?;
                lanes.push(Lane::new(resource, Temporality::Delta, limit, vec![queue], worker));
            }
        }
    }
    let (logs_limit, mut logs_queues) = (limit(), Vec::new());
    for (destination, at) in logs.into_iter().zip(receivers.of_logs) {
        info!("pushing events to {} {}", destination.endpoint, manner(&destination, Signal::Logs));
        let queue = deliver_to(destination, Signal::Logs, at, Arc::clone(&logs_limit))?;
        logs_queues.push((queue, Arc::clone(&ledgers[at])));
    }
    for (path, bytes) in backlog_dir.iter().flat_map(|directory| Disk::of_others(directory, &urls)) {
        warn!(
            "{} has {bytes} bytes of a backlog that is not sent anywhere any more; give the flags of the last run again to deliver \
             them, or remove the directory",
            path.display()
        );
    }
    if !cumulative.is_empty() {
        let encoding = encoding.clone();
        lanes.push(Lane::new(resource, Temporality::Cumulative, shared_limit, cumulative, encoding));
    }
    let pace = Pace { interval, timeout: interval_timeout };
    // What the last reading finds is still sent as logs.
    let (publisher, publishers) = mpsc::channel(1);
    for lane in lanes {
        let lane = lane.with_unchanged_interval(unchanged_interval, interval);
        let (source, stopped, publisher) = (source.clone(), stopped.clone(), publisher.clone());
        tasks.spawn(async move {
            let _publisher = publisher;
            produce(source, lane, pace, stopped).await.context("the timer of readings failed")
        });
    }
    if !logs_queues.is_empty() {
        let mut clock = HostClock::default();
        let lane = LogLane::new(resource, logs_limit, logs_queues, encoding.clone(), move || clock.read());
        // What the first reading found, too.
        let (events, stopped) = (events.subscribe(Some(0)), stopped.clone());
        tasks.spawn(async move {
            produce_logs(events, lane, stopped, publishers).await;
            Ok(())
        });
    }
    Ok(())
}

/// Settings of a delivery that a destination does not have.
struct Settings {
    interval: Duration,
    max_request: Arc<RequestLimit>,
}

/// Starts the task that empties a queue.
fn start_delivery(
    tasks: &mut Tasks,
    destination: &Destination,
    queue: &Arc<Queue>,
    Settings { interval, max_request }: Settings,
    resolving: Worker,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<()> {
    let receiver = destination.endpoint.to_string();
    let transport = Transport::new(destination, resolving);
    let transport = transport.with_context(|| format!("failed to push to {receiver}"))?;
    let settings = DeliverySettings { receiver, compression: destination.compression, interval, max_request };
    let (queue, ledger) = (Arc::clone(queue), Arc::clone(ledger));
    tasks.spawn(async move {
        if tokio::time::timeout(DISK_TIMEOUT, queue.load()).await.is_err() {
            warn!(
                "the directory of --otlp-backlog-dir does not answer; what is there is delivered once it does"
            );
        }
        deliver(&queue, &ledger, transport, settings).await;
        Ok(())
    });
    Ok(())
}

/// Returns a queue for a destination, which is also kept below a directory, by this key and on this thread, if there is one.
fn queue(
    destination: &Destination,
    signal: Signal,
    backlog: u64,
    place: Option<(&Path, &str, Worker)>,
    ledger: &Arc<Ledger>,
) -> Arc<Queue> {
    let receiver = destination.endpoint.to_string();
    let is_lasting = destination.configured || place.is_some();
    let max_bytes = match signal {
        Signal::Metrics => backlog,
        Signal::Logs if is_lasting => backlog / LOGS_SHARE,
        // An event is not repeated as a value is: those of a boot wait for the receiver to start.
        Signal::Logs => (backlog / LOGS_SHARE).min(UNCONFIGURED_LOGS),
    };
    let mut queue = Queue::new(&receiver, max_bytes, destination.compression.first(), Arc::clone(ledger))
        .of_signal(signal);
    if let Some((directory, key, worker)) = place {
        queue = queue.on(Disk::new(directory, key, &receiver, max_bytes, worker));
    } else if !is_lasting && signal == Signal::Metrics {
        queue = queue.until_accepted();
    }
    Arc::new(queue)
}

/// How a destination gets a signal, for the log.
fn manner(destination: &Destination, signal: Signal) -> String {
    let protocol = match destination.protocol {
        Protocol::Grpc => "over OTLP/gRPC",
        Protocol::HttpProtobuf => "over OTLP/HTTP",
    };
    let compression = match destination.compression {
        CompressionPolicy::Fixed(Compression::None) => String::new(),
        CompressionPolicy::Fixed(compression) => format!(" with {}", compression.as_str()),
        CompressionPolicy::Negotiated => " with zstd or gzip".to_owned(),
    };
    let temporality = match (signal, destination.temporality) {
        (Signal::Logs, _) | (Signal::Metrics, Temporality::Cumulative) => "",
        (Signal::Metrics, Temporality::Delta) => ", counters as deltas,",
    };
    format!("{protocol}{compression}{temporality}")
}
