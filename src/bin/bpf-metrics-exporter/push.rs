//! The push: for each destination a queue, a ledger and a delivery; for those that get the same points, one producer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::queue::{Disk, Queue};
use bpf_metrics_exporter::export::otlp::settings::{Compression, Destination, Protocol, Push, Temporality};
use bpf_metrics_exporter::export::otlp::transport::Transport;
use bpf_metrics_exporter::export::otlp::{DeliverySettings, Lane, Pace, RequestLimit, deliver, produce};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::serve::{Tasks, start_worker};

/// How long a delivery waits for a disk that does not answer, before it begins without what an earlier run left.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the tasks that push to every destination, each with its ledger.
pub(super) fn start(
    tasks: &mut Tasks,
    push: Push,
    resource: &[(String, String)],
    ledgers: &[Arc<Ledger>],
    source: &Source,
    encoding: Worker,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Push { destinations, interval, interval_timeout, max_request, backlog, backlog_dir } = push;
    let limit = || Arc::new(RequestLimit::new(max_request));
    let mut lanes = Vec::new();
    let (shared_limit, mut cumulative) = (limit(), Vec::new());
    let mut urls = Vec::new();
    for (destination, ledger) in destinations.into_iter().zip(ledgers) {
        let receiver = destination.endpoint.to_string();
        let transport = Transport::new(&destination, start_worker("resolving")?);
        let transport = transport.with_context(|| format!("failed to push to {receiver}"))?;
        urls.push(destination.endpoint.url());
        let queue = queue(&destination, backlog, backlog_dir.as_deref(), ledger)?;
        let max_request = match destination.temporality {
            Temporality::Cumulative => {
                cumulative.push(Arc::clone(&queue));
                Arc::clone(&shared_limit)
            }
            Temporality::Delta => {
                let (limit, queues, worker) = (limit(), vec![Arc::clone(&queue)], start_worker("encoding")?);
                lanes.push(Lane::new(resource, Temporality::Delta, Arc::clone(&limit), queues, worker));
                limit
            }
        };
        info!("pushing to {receiver} {} every {interval:?}", manner(&destination));
        let compression = destination.compression;
        let settings = DeliverySettings { receiver, compression, interval, max_request };
        let ledger = Arc::clone(ledger);
        tasks.spawn(async move {
            if tokio::time::timeout(DISK_TIMEOUT, queue.load()).await.is_err() {
                warn!("the directory of --otlp-backlog-dir does not answer; what is there is delivered once it does");
            }
            deliver(&queue, &ledger, transport, settings).await;
            Ok(())
        });
    }
    for (path, bytes) in backlog_dir.iter().flat_map(|directory| Disk::of_others(directory, &urls)) {
        warn!(
            "{} has {bytes} bytes of a backlog for a receiver that is not given any more; give its address again to deliver \
             them, or remove the directory",
            path.display()
        );
    }
    if !cumulative.is_empty() {
        lanes.push(Lane::new(resource, Temporality::Cumulative, shared_limit, cumulative, encoding));
    }
    let pace = Pace { interval, timeout: interval_timeout };
    for lane in lanes {
        let (source, stopped) = (source.clone(), stopped.clone());
        tasks.spawn(async move {
            produce(source, lane, pace, stopped).await;
            Ok(())
        });
    }
    Ok(())
}

fn queue(
    destination: &Destination,
    backlog: u64,
    directory: Option<&Path>,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<Arc<Queue>> {
    let receiver = destination.endpoint.to_string();
    let mut queue = Queue::new(&receiver, backlog, destination.compression, Arc::clone(ledger));
    if let Some(directory) = directory {
        let url = destination.endpoint.url();
        queue = queue.on(Disk::new(directory, &url, &receiver, backlog, start_worker("backlog")?));
    } else if !destination.configured {
        queue = queue.until_accepted();
    }
    Ok(Arc::new(queue))
}

/// How a destination gets points, for the log.
fn manner(destination: &Destination) -> String {
    let protocol = match destination.protocol {
        Protocol::Grpc => "over OTLP/gRPC",
        Protocol::HttpProtobuf => "over OTLP/HTTP",
    };
    let compression = match destination.compression {
        Compression::None => String::new(),
        compression => format!(" with {}", compression.as_str()),
    };
    let temporality = match destination.temporality {
        Temporality::Cumulative => "",
        Temporality::Delta => ", counters as deltas,",
    };
    format!("{protocol}{compression}{temporality}")
}
