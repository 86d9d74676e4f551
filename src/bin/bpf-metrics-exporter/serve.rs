//! Exports until a signal arrives: one source of snapshots, the Prometheus endpoint, the push, and the lookup of names.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{Collection, Export, ListenAddress, Log, Resource};
use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::export::console;
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::resource;
use bpf_metrics_exporter::export::otlp::settings::{Destination, Endpoint, Secret, TlsFiles};
use bpf_metrics_exporter::host::{identity, own_process};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::lookup;
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::model::{self, BootTime, Build, Exporter};
use bpf_metrics_exporter::sandbox::{Files, Needs, Sandbox};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::endpoint::{NotOpened, WebEndpoint};
use crate::messages::{self, Warned};
use crate::signals::Signals;
use crate::supervisor::Supervisor;
use crate::{finish, log, push};

/// Limit of the last export.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the tasks have to end once they are cancelled.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) type Tasks = JoinSet<anyhow::Result<()>>;

/// Exports until a signal arrives.
pub(super) fn serve(export: Export, log: Log, warnings: &[String]) -> ExitCode {
    let endpoint = match WebEndpoint::open(&export.web) {
        Ok(endpoint) => endpoint,
        Err(NotOpened { lines, code }) => {
            for line in lines {
                log::complain(&line);
            }
            return code;
        }
    };
    let confined = match confine(&export, &endpoint) {
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
    finish(run(export, endpoint, confined))
}

/// A process that has given up what it can, and the thread of readings, which keeps more than all others.
struct Confined {
    sandbox: Arc<Sandbox>,
    reading: Worker,
}

/// Restricts this thread, and with it every thread that is started later. Called before any other is.
fn confine(export: &Export, endpoint: &WebEndpoint) -> anyhow::Result<Confined> {
    let options = export.sandbox;
    let needs = Needs { hooks: export.collection.enrich.hooks.is_some(), nothing: options.least };
    let sandbox = Arc::new(Sandbox::enter(options, needs).map_err(anyhow::Error::msg)?);
    let reading = start_worker("reading")?;
    sandbox.restrict_others(&files(export, endpoint));
    Ok(Confined { sandbox, reading })
}

/// Returns what the outputs open once the exporter runs.
fn files(export: &Export, endpoint: &WebEndpoint) -> Files {
    let mut files = Files { read: endpoint.files(), remove: endpoint.directories(), ..Files::default() };
    for destination in export.push.iter().flat_map(|push| &push.destinations) {
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

#[expect(clippy::too_many_lines, reason = "it is the wiring, in the order of the start")]
fn run(export: Export, endpoint: WebEndpoint, confined: Confined) -> anyhow::Result<()> {
    let Export { push, console, web, resource, sandbox: options, collection } = export;
    let Confined { sandbox, reading } = confined;
    let receivers = push.as_ref().map_or(&[][..], |push| &push.destinations);
    let Collection { kernel, enrich, lookup, selection } = collection;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    // Before the first reading, during which SIGHUP would end the program, and the kernel would ignore SIGTERM if it is pid 1.
    let mut signals = runtime.block_on(async { Signals::new() }).context("failed to handle signals")?;
    // Before the first reading as well: a SIGHUP during it is not lost.
    let reloads = endpoint.has_files().then(|| signals.reloads());
    let (rendering, encoding) = (start_worker("rendering")?, start_worker("encoding")?);
    endpoint.start_threads()?;
    let names_of_node: Vec<_> =
        resource.node_name.iter().chain(&resource.default_node_name).cloned().collect();
    let names = NameCache::awaiting_lookups();
    let mut warned = Warned::of(options.least);
    let first = reading.run({
        let (names, sandbox) = (names.clone(), Arc::clone(&sandbox));
        let addresses = addresses(&web.listen, receivers);
        move || {
            // The identity of the host may be readable to root only.
            let resource = attributes(resource, addresses);
            let reader = Reader::restricted(kernel, || sandbox.restrict_readings());
            let mut reader = Enricher::new(reader, enrich, names);
            let first = reader.read();
            (reader, first, resource)
        }
    });
    let first = runtime.block_on(async {
        tokio::select! {
            first = first => Some(first),
            name = signals.stop() => {
                info!("{name}: stopping during the first reading");
                None
            }
        }
    });
    let Some((mut reader, first, resource)) = first else {
        // The reading is still running.
        runtime.shutdown_background();
        return Ok(());
    };
    if first.is_all_refused() {
        anyhow::bail!(messages::not_permitted());
    }
    messages::log_start(&reader, kernel.run_stats, &first);
    info!("sandbox: {sandbox}");
    warned.warn_of(&first);
    let started_at = first.reader_started_at;
    drop(first);

    let receivers = push.as_ref().map_or(&[][..], |push| &push.destinations);
    let ledgers =
        receivers.iter().map(|receiver| Arc::new(Ledger::new(&receiver.endpoint.to_string(), started_at)));
    let ledgers: Arc<[Arc<Ledger>]> = ledgers.collect();
    let resource: Arc<[_]> = resource.into();
    let process = Arc::new(Mutex::new(own_process::read()));
    let destination = |receiver: &Destination| {
        let endpoint: Arc<str> = receiver.endpoint.to_string().into();
        let destination = (receivers.len() > 1).then(|| Arc::clone(&endpoint));
        model::Destination { destination, endpoint, configured: receiver.configured }
    };
    let destinations: Vec<_> = receivers.iter().map(destination).collect();
    let exporter = {
        let (about, ledgers, process) = (build(started_at), Arc::clone(&ledgers), Arc::clone(&process));
        let resource = Arc::clone(&resource);
        move || Exporter {
            build: about.clone(),
            process: *process.lock().expect("no reading panics"),
            resource: Arc::clone(&resource),
            destinations: destinations.clone(),
            lost_log_lines: log::lost_lines(),
            delivery: Some(Ledger::delivery(&ledgers)).filter(|_| !ledgers.is_empty()),
        }
    };
    if selection != Selection::default() {
        info!("exporting {selection}; totals cover all objects");
    }
    let own = exporter.clone();
    let read = move || {
        let began = Instant::now();
        let snapshot = reader.read();
        *process.lock().expect("no reading panics") = own_process::read();
        debug!("{}", messages::reading(&snapshot, began.elapsed()));
        warned.warn_of(&snapshot);
        snapshot
    };
    let mut limit = messages::LimitWarning::default();
    let select = move |snapshot| {
        let selected = selection.apply(Selected::all(snapshot), Some(&own()));
        limit.warn_of(&selected);
        selected
    };
    let source = Source::new(reading.clone(), read, select, exporter);

    let result = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Tasks::new();
        endpoint.serve(&mut tasks, &web, &names_of_node, (source.clone(), rendering), &stopped, reloads);
        let names = lookup::run(names, lookup, start_worker("lookup")?, stopped.clone());
        tasks.spawn(async {
            names.await;
            Ok(())
        });
        if let Some(push) = push {
            push::start(&mut tasks, push, &resource, &ledgers, &source, encoding, &stopped)?;
        } else {
            info!("nothing is pushed over OTLP");
        }
        if let Some(supervisor) = Supervisor::from_environment() {
            let supervise = supervisor.run(source.clone(), stopped.clone());
            tasks.spawn(async {
                supervise.await;
                Ok(())
            });
        }
        if let Some(interval) = console {
            start_console(&mut tasks, interval, source.clone(), &stopped)?;
        }
        until_stopped(tasks, stop, signals).await
    });
    // A reading that is still running has no use any more.
    runtime.shutdown_background();
    result
}

/// Starts a thread on which readings are taken, scrapes rendered or pushes encoded. None is made later, when a limit on processes may
/// refuse it.
fn start_worker(name: &str) -> anyhow::Result<Worker> {
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

/// Starts the task that prints readings.
fn start_console(
    tasks: &mut Tasks,
    interval: Duration,
    source: Source,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let print = console::print(source, start_worker("printing")?, interval, stopped.clone());
    tasks.spawn(async {
        print.await;
        Ok(())
    });
    Ok(())
}

/// Waits for a signal, then for the tasks to finish: at most [`SHUTDOWN_TIMEOUT`], and not after a second signal.
async fn until_stopped(
    mut tasks: Tasks,
    stop: watch::Sender<bool>,
    mut signals: Signals,
) -> anyhow::Result<()> {
    tokio::select! {
        name = signals.stop() => info!("{name}: stopping after a last export"),
        // A task ends before it is stopped only when it fails.
        Some(ended) = tasks.join_next() => ended.context("a task ended unexpectedly")??,
    }
    stop.send_replace(true);
    let finished = async {
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

/// Cancels the tasks, and waits for them for a short time: one may be busy without end.
async fn abort(mut tasks: Tasks) {
    if tokio::time::timeout(ABORT_TIMEOUT, tasks.shutdown()).await.is_err() {
        warn!("a task did not end within {ABORT_TIMEOUT:?}; the program ends without it");
    }
}
