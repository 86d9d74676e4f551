//! Exports until a signal arrives: one source of snapshots, the Prometheus endpoint, the push, and the lookup of names.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{Collection, Export, ListenAddress, Log, Resource};
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher, LastEvents};
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::export::console;
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::resource;
use bpf_metrics_exporter::export::otlp::settings::{Destination, Endpoint, Secret, TlsFiles};
use bpf_metrics_exporter::host::{identity, own_process};
use bpf_metrics_exporter::kernel::requirements::Standing;
use bpf_metrics_exporter::kernel::{Reader, ReaderOptions};
use bpf_metrics_exporter::lookup;
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::model::{self, BootTime, Build, Exporter, OwnProcess, SettingInForce, Snapshot};
use bpf_metrics_exporter::sandbox::{Files, Needs, Sandbox};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::baseline::BaselineFile;
use crate::endpoint::{NotOpened, Reloads, WebEndpoint};
use crate::messages::{self, Warned};
use crate::push::{Ground, Receiver, Receivers};
use crate::signals::Signals;
use crate::supervisor::{Manager, Supervisor};
use crate::{USAGE, finish, log, push};

/// Limit of the last export.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit of the last events, of this time: they must leave some for the last export.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_secs(1);

/// After so long it is tried again to publish the last events.
const LAST_EVENTS_RETRY: Duration = Duration::from_millis(1);

/// How long the tasks have to end once they are cancelled.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) type Tasks = JoinSet<anyhow::Result<()>>;

/// Exports until a signal arrives. `settings`: what is in force, for the page.
pub(super) fn serve(
    mut export: Export,
    log: Log,
    warnings: &[String],
    settings: Vec<SettingInForce>,
) -> ExitCode {
    let endpoint = match WebEndpoint::open(&export.web, settings) {
        Ok(endpoint) => endpoint,
        Err(NotOpened { lines, code }) => {
            for line in lines {
                log::complain(&line);
            }
            return code;
        }
    };
    let baseline = match export.baseline.take().map(BaselineFile::open).transpose() {
        Ok(baseline) => baseline,
        Err(line) => {
            log::complain(&line);
            return ExitCode::from(USAGE);
        }
    };
    export.collection.enrich.expected = baseline.as_ref().map(BaselineFile::expected);
    let confined = match confine(&export, &endpoint, baseline.as_ref()) {
        Ok(confined) => confined,
        Err(error) => return finish(Err(error)),
    };
    if let Err(error) = log::start(log) {
        return finish(Err(error).context("failed to start the thread of the log"));
    }
    for warning in warnings {
        warn!("{warning}");
    }
    messages::warn_of_missing_sockets(&export.collection.lookup);
    finish(run(export, endpoint, baseline, confined))
}

/// A process that has given up what it can, and the thread of readings, which keeps more than all others.
struct Confined {
    sandbox: Arc<Sandbox>,
    /// What it could do before.
    at_start: Standing,
    reading: Worker,
}

/// Restricts this thread, and with it every thread that is started later. Called before any other is.
fn confine(
    export: &Export,
    endpoint: &WebEndpoint,
    baseline: Option<&BaselineFile>,
) -> anyhow::Result<Confined> {
    let options = export.sandbox;
    let needs = Needs { hooks: export.collection.enrich.hooks.is_some(), nothing: options.least };
    let at_start = Standing::read();
    let sandbox = Arc::new(Sandbox::enter(options, needs).map_err(anyhow::Error::msg)?);
    let reading = start_worker("reading")?;
    let mut files = files(export, endpoint);
    files.read.extend(baseline.map(|baseline| baseline.path().to_owned()));
    sandbox.restrict_others(&files);
    Ok(Confined { sandbox, at_start, reading })
}

/// Returns what the outputs open once the exporter runs.
fn files(export: &Export, endpoint: &WebEndpoint) -> Files {
    let mut files = Files { read: endpoint.files(), remove: endpoint.directories(), ..Files::default() };
    for destination in export.push.iter().flat_map(|push| push.destinations.iter().chain(&push.logs)) {
        if let Endpoint::Tcp { port, .. } = destination.endpoint {
            files.ports.push(port);
        }
        if let Some(Secret(proxy)) = &destination.proxy {
            let default = if proxy.scheme_str() == Some("https") { 443 } else { 80 };
            files.ports.push(proxy.port_u16().unwrap_or(default));
        }
        let TlsFiles { authorities, certificate, key } = destination.tls.clone();
        files.read.extend([authorities, certificate, key].into_iter().flatten());
    }
    if let Some(directory) = export.push.as_ref().and_then(|push| push.backlog_dir.as_ref()) {
        // Access is granted to what exists. Who writes there reports why it does not.
        let _reported_later = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        files.write.push(directory.clone());
    }
    files
}

/// Takes the first reading, then exports until a signal arrives.
fn run(
    export: Export,
    endpoint: WebEndpoint,
    baseline: Option<BaselineFile>,
    confined: Confined,
) -> anyhow::Result<()> {
    let Export { push, console, web, resource, sandbox: options, baseline: _, collection } = export;
    let Collection { kernel, enrich, lookup, selection } = collection;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let manager = Manager::default();
    // Before the first reading, during which SIGHUP would end the program, and the kernel would ignore SIGTERM if it is pid 1.
    let signals = runtime.block_on(async { Signals::new(manager.clone()) });
    let mut signals = signals.context("failed to handle signals")?;
    // Before the first reading as well: a SIGHUP during it is not lost.
    let has_files = endpoint.has_files() || baseline.is_some();
    let reloads = has_files.then(|| (signals.reloads(), manager.clone()));
    let (rendering, encoding) = (start_worker("rendering")?, start_worker("encoding")?);
    endpoint.start_threads()?;
    let baseline = baseline.map(BaselineFile::start).transpose()?;
    let reloads = reloads.map(|(signals, manager)| Reloads { signals, manager, baseline });
    let names_of_node: Vec<_> =
        resource.node_name.iter().chain(&resource.default_node_name).cloned().collect();
    let names = NameCache::awaiting_lookups();
    // Logs elsewhere do not make it another exporter.
    let addresses = addresses(&web.listen, push.as_ref().map_or(&[][..], |push| &push.destinations));
    let events = Events::limited_to(enrich.events_per_second);
    let collection = (kernel, enrich, names.clone(), events.clone());
    let first = first_reading(&confined, collection, (resource, addresses));
    let Some(first) = runtime.block_on(unless_stopped(first, &mut signals)) else {
        manager.stopping();
        // The reading is still running.
        runtime.shutdown_background();
        return Ok(());
    };
    if first.snapshot.is_all_refused() {
        anyhow::bail!(messages::not_permitted(confined.at_start));
    }
    messages::log_start(&first.reader, kernel.run_stats, &first.snapshot);
    info!("sandbox: {}", confined.sandbox);
    let mut warned = Warned::of(options.least);
    warned.warn_of(&first.snapshot);
    let First { reader, snapshot, resource } = first;
    let receivers = push.as_ref().map_or_else(Vec::new, |push| Receivers::of(push).all);
    let about = About::new(&receivers, resource, snapshot.reader_started_at);
    drop(snapshot);
    let last_events = reader.last_events();
    let source = source(confined.reading, reader, warned, selection, &about);

    let result = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Tasks::new();
        let served = (source.clone(), rendering, events.clone());
        endpoint.serve(&mut tasks, &web, &names_of_node, served, &stopped, reloads);
        spawn(&mut tasks, lookup::run(names, lookup, start_worker("lookup")?, stopped.clone()));
        if let Some(push) = push {
            let (resource, ledgers) = (&*about.resource, &*about.ledgers);
            let (source, events, stopped) = (&source, &events, &stopped);
            let ground = Ground { resource, ledgers, source, events, encoding, stopped };
            push::start(&mut tasks, push, &ground)?;
        } else {
            info!("nothing is pushed over OTLP");
        }
        if let Some(supervisor) = Supervisor::from_environment(manager) {
            spawn(&mut tasks, supervisor.run(source.clone(), stopped.clone()));
        }
        if let Some(interval) = console {
            let printing = start_worker("printing")?;
            spawn(&mut tasks, console::print(source.clone(), printing, interval, stopped.clone()));
        }
        until_stopped(tasks, stop, signals, last_events).await
    });
    // A reading that is still running has no use any more.
    runtime.shutdown_background();
    result
}

/// Starts a task that does not fail.
fn spawn(tasks: &mut Tasks, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async {
        task.await;
        Ok(())
    });
}

/// The first reading, and what else is read once, while the thread of readings has every right that it started with.
struct First {
    reader: Enricher,
    snapshot: Snapshot,
    /// The attributes of the resource.
    resource: Vec<(String, String)>,
}

/// Takes the first reading on the thread of readings, which is restricted once the iterators are loaded.
fn first_reading(
    confined: &Confined,
    (kernel, enrich, names, events): (ReaderOptions, EnrichOptions, NameCache, Events),
    (resource, addresses): (Resource, Vec<String>),
) -> impl Future<Output = First> {
    let sandbox = Arc::clone(&confined.sandbox);
    confined.reading.run(move || {
        // The identity of the host may be readable to root only.
        let resource = attributes(resource, addresses);
        let reader = Reader::restricted(kernel, || sandbox.restrict_readings());
        let mut reader = Enricher::new(reader, enrich, names).publishing(events);
        let snapshot = reader.read();
        First { reader, snapshot, resource }
    })
}

/// Waits for the first reading, or for a signal to stop: `None`.
async fn unless_stopped(first: impl Future<Output = First>, signals: &mut Signals) -> Option<First> {
    tokio::select! {
        first = first => Some(first),
        name = signals.stop() => {
            info!("{name}: stopping during the first reading");
            None
        }
    }
}

/// What outputs say of the exporter itself.
struct About {
    build: Build,
    resource: Arc<[(String, String)]>,
    /// What was delivered to each receiver.
    ledgers: Arc<[Arc<Ledger>]>,
    destinations: Vec<model::Destination>,
    process: Arc<Mutex<Option<OwnProcess>>>,
}

impl About {
    fn new(receivers: &[Receiver], resource: Vec<(String, String)>, started_at: BootTime) -> Self {
        let ledger = |receiver: &Receiver| {
            Ledger::new(&receiver.endpoint, started_at).of_signals(receiver.signals.clone())
        };
        let destination = |receiver: &Receiver| {
            let endpoint: Arc<str> = (*receiver.endpoint).into();
            let destination = (receivers.len() > 1).then(|| Arc::clone(&endpoint));
            model::Destination { destination, endpoint, configured: receiver.configured }
        };
        Self {
            build: build(started_at),
            resource: resource.into(),
            ledgers: receivers.iter().map(|receiver| Arc::new(ledger(receiver))).collect(),
            destinations: receivers.iter().map(destination).collect(),
            process: Arc::new(Mutex::new(own_process::read())),
        }
    }

    /// Returns what gives the state of the exporter at any time.
    fn exporter(&self) -> impl Fn() -> Exporter + Clone + Send + Sync + use<> {
        let Self { build, resource, ledgers, destinations, process } = self;
        let (build, destinations) = (build.clone(), destinations.clone());
        let (resource, ledgers, process) = (Arc::clone(resource), Arc::clone(ledgers), Arc::clone(process));
        move || Exporter {
            build: build.clone(),
            process: *process.lock().expect("no reading panics"),
            resource: Arc::clone(&resource),
            destinations: destinations.clone(),
            lost_log_lines: log::lost_lines(),
            delivery: Some(Ledger::delivery(&ledgers)).filter(|_| !ledgers.is_empty()),
        }
    }
}

/// Returns the source of the readings after the first.
fn source(
    reading: Worker,
    mut reader: Enricher,
    mut warned: Warned,
    selection: Selection,
    about: &About,
) -> Source {
    if selection != Selection::default() {
        info!("exporting {selection}; totals cover all objects");
    }
    let process = Arc::clone(&about.process);
    let read = move || {
        let began = Instant::now();
        let snapshot = reader.read();
        *process.lock().expect("no reading panics") = own_process::read();
        debug!("{}", messages::reading(&snapshot, began.elapsed()));
        warned.warn_of(&snapshot);
        snapshot
    };
    let exporter = about.exporter();
    let own = exporter.clone();
    let mut limit = messages::LimitWarning::default();
    let select = move |snapshot| {
        let selected = selection.apply(Selected::all(snapshot), Some(&own()));
        limit.warn_of(&selected);
        selected
    };
    Source::new(reading, read, select, exporter)
}

/// Starts a thread on which readings are taken, scrapes rendered or pushes encoded. None is made later, when a limit on processes may
/// refuse it.
pub(super) fn start_worker(name: &str) -> anyhow::Result<Worker> {
    Worker::start(name).context("failed to start a thread")
}

/// Returns what distinguishes this exporter from others on its host by its flags.
fn addresses(listen: &[ListenAddress], receivers: &[Destination]) -> Vec<String> {
    let listen = listen.iter().map(ToString::to_string);
    let receivers = receivers.iter().map(|receiver| receiver.endpoint.url());
    listen.chain(receivers).collect()
}

/// Returns the attributes of the resource.
fn attributes(resource: Resource, addresses: Vec<String>) -> Vec<(String, String)> {
    let Resource { service_name, attributes, node_name, default_node_name, host_root } = resource;
    let user = resource::UserAttributes { service_name, attributes, node_name, default_node_name };
    let deployment: Vec<_> = identity::deployment().into_iter().chain(addresses).collect();
    resource::attributes(&identity::host_identity(host_root.as_deref()), &user, &deployment)
}

fn build(started_at: BootTime) -> Build {
    Build {
        started_at,
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("BUILD_REVISION"),
        rustc: option_env!("BUILD_RUSTC"),
    }
}

/// Waits for a signal, then for the tasks to finish: at most [`SHUTDOWN_TIMEOUT`], and not after a second signal.
async fn until_stopped(
    mut tasks: Tasks,
    stop: watch::Sender<bool>,
    mut signals: Signals,
    last_events: Option<LastEvents>,
) -> anyhow::Result<()> {
    tokio::select! {
        name = signals.stop() => info!("{name}: stopping after a last export"),
        // A task ends before it is stopped only when it fails.
        Some(ended) = tasks.join_next() => ended.context("a task ended unexpectedly")??,
    }
    let finished = async {
        if let Some(last_events) = last_events {
            publish(&last_events).await;
        }
        stop.send_replace(true);
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task ended unexpectedly")??;
        }
        anyhow::Ok(())
    };
    let finished = tokio::select! {
        finished = tokio::time::timeout(SHUTDOWN_TIMEOUT, finished) => finished,
        name = signals.stop() => {
            abort(tasks).await;
            anyhow::bail!("{name} again: stopped at once")
        }
    };
    let Ok(finished) = finished else {
        // The endpoint ends sooner by itself.
        warn!(
            "stopping without the end of the last export or lookup, which takes more than {SHUTDOWN_TIMEOUT:?}"
        );
        abort(tasks).await;
        return Ok(());
    };
    finished
}

/// Publishes the events that wait for names. Blocks no thread of the runtime while a reading or the kernel's records are accounted for.
async fn publish(last_events: &LastEvents) {
    let published = async {
        while !last_events.try_publish() {
            tokio::time::sleep(LAST_EVENTS_RETRY).await;
        }
    };
    if tokio::time::timeout(LAST_EVENTS_TIMEOUT, published).await.is_err() {
        warn!("stopping without the last events: others are still being read after {LAST_EVENTS_TIMEOUT:?}");
    }
}

/// Cancels the tasks, and waits for them for a short time: one may be busy without end.
async fn abort(mut tasks: Tasks) {
    if tokio::time::timeout(ABORT_TIMEOUT, tasks.shutdown()).await.is_err() {
        warn!("a task did not end within {ABORT_TIMEOUT:?}; the program ends without it");
    }
}
