//! The exporter of a node, without the kernel: the source, queue, encoding and delivery of the program, with the options that its
//! command line gives. Entry points: [`Crew::start`] for the threads that all share, [`Sender::start`].

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bpf_metrics_exporter::cli::{self, Command, Invocation};
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::queue::Queue;
use bpf_metrics_exporter::export::otlp::settings::Temporality;
use bpf_metrics_exporter::export::otlp::transport::Transport;
use bpf_metrics_exporter::export::otlp::{
    DeliverySettings, Lane, Pace, RequestLimit, deliver, produce, resource,
};
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{Build, Delivery, Destination, Exporter, OwnProcess};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::worker::Worker;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::node::Node;

/// Threads that encode: one that waits for the delivery of a request must not stop the other nodes.
const ENCODING: usize = 16;

/// How long the end of a sender may take: as the program's own limit, and some for a busy machine.
const END: Duration = Duration::from_secs(10);

/// Threads, by what they do.
pub const ENCODING_THREADS: &str = "encoding";
/// See [`ENCODING_THREADS`].
pub const DELIVERY_THREADS: &str = "delivery";

/// The threads of all senders. In the program each of them has its own.
pub struct Crew {
    runtime: Runtime,
    encoding: Vec<Worker>,
    reading: Worker,
    resolving: Worker,
}

impl Crew {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If the system refuses one.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(DELIVERY_THREADS)
            .enable_all()
            .build()?;
        let encoding = (0..ENCODING).map(|_| Worker::start(ENCODING_THREADS)).collect::<Result<_, _>>()?;
        Ok(Self {
            runtime,
            encoding,
            reading: Worker::start("reading")?,
            resolving: Worker::start("resolving")?,
        })
    }
}

/// How the exporters of a fleet are started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where they push.
    pub receiver: SocketAddr,
    /// Time between two readings.
    pub interval: Duration,
    /// More flags of the program.
    pub flags: Vec<String>,
    /// The version that they say they have.
    pub version: &'static str,
}

/// A running exporter.
pub struct Sender {
    node: Arc<Mutex<Node>>,
    ledger: Arc<Ledger>,
    readings: Arc<AtomicU64>,
    instance: String,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sender {
    /// Starts the exporter of a node after `delay`.
    ///
    /// # Errors
    ///
    /// If a flag is wrong.
    pub fn start(
        crew: &Crew,
        node: Arc<Mutex<Node>>,
        options: &Options,
        delay: Duration,
    ) -> anyhow::Result<Self> {
        let parsed = parse(options)?;
        let push = parsed.push.context("the flags push nothing")?;
        let [destination] = &push.destinations[..] else { bail!("the flags push to several receivers") };
        let (number, since, identity) = {
            let node = node.lock().expect("no reading panics");
            (node.number(), node.exporter_started_at(), node.identity())
        };
        let receiver = destination.endpoint.to_string();
        let ledger = Arc::new(Ledger::new(&receiver, since));
        let queue = Queue::new(&receiver, push.backlog, destination.compression.first(), Arc::clone(&ledger));
        let queue = Arc::new(queue);
        let max_request = Arc::new(RequestLimit::new(push.max_request));
        let mut attributes = parsed.resource.attributes;
        attributes.push(("service.version".to_owned(), options.version.to_owned()));
        attributes.push(("k8s.cluster.name".to_owned(), format!("cluster-{}", number % 4)));
        let user = resource::UserAttributes { attributes, ..Default::default() };
        let attributes = resource::attributes(&identity, &user, &[destination.endpoint.url()]);

        let instance = attributes.iter().find(|(key, _)| key == "service.instance.id");
        let instance = instance.map(|(_, value)| value.clone()).context("a node has an identity")?;

        let readings = Arc::new(AtomicU64::new(0));
        let exporter = exporter(&node, &ledger, &attributes, &receiver, options.version);
        let read = {
            let (node, readings) = (Arc::clone(&node), Arc::clone(&readings));
            move || {
                readings.fetch_add(1, Ordering::Relaxed);
                node.lock().expect("no reading panics").read()
            }
        };
        let selection = parsed.collection.selection;
        let own = exporter.clone();
        let select = move |snapshot| selection.apply(Selected::all(snapshot), Some(&own()));
        let source = Source::new(crew.reading.clone(), read, select, exporter);
        let encoding = crew.encoding[number as usize % crew.encoding.len()].clone();
        let lane = Lane::new(
            &attributes,
            Temporality::Cumulative,
            Arc::clone(&max_request),
            vec![Arc::clone(&queue)],
            encoding,
        );
        let lane = lane.with_unchanged_interval(push.unchanged_interval, push.interval);
        let pace = Pace { interval: push.interval, timeout: push.interval_timeout };
        let transport = Transport::new(destination, crew.resolving.clone())?;
        let settings = DeliverySettings {
            receiver,
            compression: destination.compression,
            interval: push.interval,
            max_request,
        };
        let (stop, stopped) = watch::channel(false);
        let delivered = Arc::clone(&ledger);
        let tasks = vec![
            crew.runtime.spawn(async move {
                tokio::time::sleep(delay).await;
                produce(source, lane, pace, stopped).await.expect("there are descriptors enough for a timer");
            }),
            crew.runtime.spawn(async move { deliver(&queue, &delivered, transport, settings).await }),
        ];
        Ok(Self { node, ledger, readings, instance, stop, tasks })
    }

    /// Returns what it delivered.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns how many readings it has taken.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::Relaxed)
    }

    /// Returns the counters of its delivery, as its own metrics have them.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        Ledger::delivery(std::slice::from_ref(&self.ledger))
    }

    /// Returns the counter of its readings, which outlives it.
    #[must_use]
    pub fn counted_readings(&self) -> &Arc<AtomicU64> {
        &self.readings
    }

    /// Returns its instance, as stores have it.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns its node.
    #[must_use]
    pub fn node(&self) -> &Arc<Mutex<Node>> {
        &self.node
    }

    /// Has it end after a last reading.
    pub fn begin_end(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end, which [`Sender::begin_end`] began, or ends it.
    pub fn end(self, crew: &Crew) {
        self.begin_end();
        crew.runtime.block_on(async {
            for mut task in self.tasks {
                if tokio::time::timeout(END, &mut task).await.is_err() {
                    task.abort();
                }
            }
        });
    }
}

/// Parses the command line of an exporter.
fn parse(options: &Options) -> anyhow::Result<cli::Export> {
    let interval = format!("{}ms", options.interval.as_millis());
    let receiver = format!("http://{}", options.receiver);
    let fixed = [
        "bpf-metrics-exporter",
        "--otlp-grpc",
        &receiver,
        "--interval",
        &interval,
        "--web.listen-address",
        "none",
        "--no-event-logs",
    ];
    let arguments = fixed.into_iter().chain(options.flags.iter().map(String::as_str)).map(OsString::from);
    match cli::parse(arguments.collect(), []) {
        Ok(Invocation::Run { command: Command::Export(export), .. }) => Ok(*export),
        Ok(_) => bail!("{:?} do not export", options.flags),
        Err(errors) => bail!("{:?}: {}", options.flags, errors.lines.join("; ")),
    }
}

/// Returns what gives the state of an exporter at any time.
fn exporter(
    node: &Arc<Mutex<Node>>,
    ledger: &Arc<Ledger>,
    attributes: &[(String, String)],
    receiver: &str,
    version: &'static str,
) -> impl Fn() -> Exporter + Clone + Send + Sync + use<> {
    let started_at = node.lock().expect("no reading panics").exporter_started_at();
    let now = {
        let node = Arc::clone(node);
        move || node.lock().expect("no reading panics").now()
    };
    let (ledger, resource): (_, Arc<[_]>) = (Arc::clone(ledger), attributes.into());
    let destination = Destination { destination: None, endpoint: receiver.into(), configured: true };
    move || Exporter {
        build: Build { started_at, version, revision: None, rustc: None },
        process: Some(OwnProcess {
            cpu: now().since(started_at) / 1_000,
            resident_memory: 14 << 20,
            virtual_memory: 160 << 20,
            threads: 10,
            open_fds: 24,
            max_fds: 524_288,
            started_at,
        }),
        resource: Arc::clone(&resource),
        lost_log_lines: 0,
        destinations: vec![destination.clone()],
        delivery: Some(Ledger::delivery(std::slice::from_ref(&ledger))),
    }
}
