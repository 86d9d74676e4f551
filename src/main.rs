//! The program: settings, tasks, and the wait for a signal. Wiring only; the parts are in the library.

#[path = "main/settings.rs"]
mod settings;
#[path = "main/words.rs"]
mod words;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{
    self, Asked, Command, Export, LogFormat, LogLevel, Mistakes, Otlp, SnapshotFormat,
};
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{self, Enricher};
use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::queue::MemoryQueue;
use bpf_metrics_exporter::export::otlp::transport::Transport;
use bpf_metrics_exporter::export::otlp::transport::grpc::GrpcClient;
use bpf_metrics_exporter::export::otlp::{deliver, produce, resource};
use bpf_metrics_exporter::export::{json, prometheus, table};
use bpf_metrics_exporter::kernel::{self, Choice, Reader, requirements};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::metrics::select::Selection;
use bpf_metrics_exporter::model::{Build, Exporter, Part, Snapshot};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::sys::malloc;
use bpf_metrics_exporter::{lookup, web};
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How long the last export may take.
const FAREWELL: Duration = Duration::from_secs(5);

const USAGE: u8 = 2;

fn main() -> ExitCode {
    malloc::return_large_pieces();
    let asked = match cli::parse(std::env::args_os().collect(), |name| std::env::var_os(name)) {
        Ok(asked) => asked,
        Err(Mistakes { mut lines, rest }) => {
            // What can only be found by trying is reported along with what is wrong anyway.
            match rest.map(|rest| *rest) {
                Some(Command::Export(export)) => drop(listeners(&export, &mut lines)),
                Some(Command::Snapshot { from: Some(file), .. }) => lines.extend(read_snapshot(&file).err()),
                _ => {}
            }
            return wrong(&lines);
        }
    };
    match asked {
        Asked::Say(text) => finish(print(&text)),
        Asked::Do {
            command: Command::Snapshot { kernel, enrich, selection, format, from },
            warnings,
            ..
        } => {
            for warning in warnings {
                complain(&warning);
            }
            snapshot(kernel, enrich, &settings::selection(selection), format, from.as_deref())
        }
        Asked::Do { command: Command::Export(export), log, warnings } => {
            let mut lines = Vec::new();
            let listeners = listeners(&export, &mut lines);
            if !lines.is_empty() {
                return wrong(&lines);
            }
            start_log(log);
            for warning in warnings {
                warn!("{warning}");
            }
            finish(run(*export, listeners))
        }
    }
}

/// Reports mistakes in the settings.
fn wrong(lines: &[String]) -> ExitCode {
    for line in lines {
        complain(line);
    }
    ExitCode::from(USAGE)
}

/// The end of the program, well or ill.
fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the place of last words, log or not")]
fn complain(line: &str) {
    eprintln!("bpf-metrics-exporter: {line}");
}

/// Writes to standard output. A reader who has seen enough, as `head` does, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("failed to write to standard output")
        }
        _ => Ok(()),
    }
}

fn start_log(log: cli::Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // The libraries below us speak only of what is wrong.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => registry.with(layer.with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
}

/// `snapshot`: one reading, from the kernel or a file, to standard output.
fn snapshot(
    kernel: cli::Kernel,
    enrich: cli::Enrich,
    selection: &Selection,
    format: SnapshotFormat,
    from: Option<&OsStr>,
) -> ExitCode {
    let snapshot = if let Some(file) = from {
        match read_snapshot(file) {
            Ok(snapshot) => snapshot,
            Err(line) => return wrong(&[line]),
        }
    } else {
        // One look has no time to count in; what somebody else has counted is shown.
        let reader = Reader::new(settings::reader(kernel, cli::RunStats::Off));
        let options = enrich::Options { wait_for_hooks: true, ..settings::enricher(enrich) };
        Enricher::new(reader, options, NameCache::default()).read()
    };
    if snapshot.is_all_refused() && from.is_none() {
        return finish(Err(anyhow::anyhow!(requirements::refusal())));
    }
    for issue in snapshot.issues.iter().filter(|issue| issue.count > 0) {
        complain(&words::issue(issue));
    }
    let snapshot = selection.apply(snapshot, None);
    if let Some(left_out) = snapshot.left_out.filter(|&left_out| left_out > 0) {
        complain(&words::left_out(left_out));
    }
    let sample = Sample { snapshot: &snapshot, exporter: None };
    let text = match format {
        SnapshotFormat::Table => Ok(table::render(sample)),
        SnapshotFormat::Json => json::render(&snapshot).context("failed to write the snapshot as JSON"),
        SnapshotFormat::Prometheus => Ok(prometheus::render(sample, prometheus::Format::Text, 0)),
    };
    finish(text.and_then(|text| print(&text)))
}

fn read_snapshot(file: &OsStr) -> Result<Snapshot, String> {
    let read = || -> anyhow::Result<Snapshot> {
        let mut text = String::new();
        if file == "-" {
            io::stdin().lock().read_to_string(&mut text)?;
        } else {
            text = std::fs::read_to_string(file)?;
        }
        Ok(json::parse(&text)?)
    };
    read().map_err(|error| format!("--from: failed to read a snapshot from {}: {error:#}", file.display()))
}

/// Listens on every address, and notes where that fails.
fn listeners(export: &Export, problems: &mut Vec<String>) -> Vec<TcpListener> {
    let mut listeners = Vec::new();
    for address in &export.listen {
        match web::bind(address.host.as_deref(), address.port) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let host = address.host.as_deref().unwrap_or("");
                let advice = "give --web.listen-address another HOST:PORT, or none";
                problems.push(format!("failed to listen on {host}:{}: {error}; {advice}", address.port));
            }
        }
    }
    listeners
}

/// Exports until told to stop.
fn run(export: Export, listeners: Vec<TcpListener>) -> anyhow::Result<()> {
    let reader = Reader::new(settings::reader(export.kernel, export.run_stats));
    let names = NameCache::default();
    let mut reader = Enricher::new(reader, settings::enricher(export.enrich), names.clone());
    malloc::return_what_is_free();
    let first = reader.read();
    if first.is_all_refused() {
        anyhow::bail!(requirements::refusal());
    }
    let release = kernel::release().unwrap_or_else(|| "of unknown release".to_owned());
    info!("kernel {release}: reading {}", kernel::in_words(reader.choices()));
    for Choice { kind, reader, reason } in reader.choices() {
        match (reason, reader) {
            (Some(reason), Some(_)) => info!("{}s are read by id, since {reason}", kind.as_str()),
            (Some(reason), None) => warn!("{}s cannot be read by an iterator: {reason}", kind.as_str()),
            (None, _) => {}
        }
    }
    if let Some(refusal) = reader.files_refusal() {
        info!("no iterator tells the files of processes: {refusal}");
    }
    if let Some(line) = words::run_stats(export.run_stats, first.run_stats) {
        info!("{line}");
    }
    let mut warned = Warned::default();
    warned.warn_of(&first);
    drop(first);

    let started_at = Timestamp::now();
    let ledger = export.otlp.as_ref().map(|_| Arc::new(Ledger::new(started_at)));
    let exporter = {
        let build = Build {
            started_at,
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("BUILD_REVISION"),
            rustc: option_env!("BUILD_RUSTC"),
        };
        let ledger = ledger.clone();
        move || Exporter {
            build: build.clone(),
            delivery: ledger.as_ref().map(|ledger| ledger.delivery()),
            program_maps: export.program_maps,
            holders: export.holders,
        }
    };
    let selection = settings::selection(export.selection);
    if selection != Selection::default() {
        info!("exporting {selection}; totals are of everything");
    }
    let own = exporter.clone();
    let read = move || {
        let snapshot = selection.apply(reader.read(), Some(&own()));
        warned.warn_of(&snapshot);
        snapshot
    };
    let source = Source::new(read, exporter);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if listeners.is_empty() {
            info!("serving nowhere: --web.listen-address is none");
        } else {
            let urls: Vec<String> = listeners.iter().map(web::url).collect();
            info!("serving Prometheus metrics on {}", urls.join(", "));
        }
        for listener in listeners {
            let serve = web::serve(listener, source.clone(), stopped.clone());
            tasks.spawn(async { serve.await.context("failed to serve") });
        }
        look_up(&mut tasks, export.lookup, names, &stopped);
        if let Some((otlp, ledger)) = export.otlp.zip(ledger) {
            push(&mut tasks, otlp, ledger, source, &stopped)?;
        } else {
            info!("pushing nowhere: --otlp-grpc is none");
        }
        until_stopped(tasks, stop).await
    });
    // A reading that is being taken is of no use any more.
    runtime.shutdown_background();
    result
}

/// What was warned of: each thing is worth one line.
#[derive(Default)]
struct Warned {
    issues: HashSet<(Part, String, String)>,
    limit: bool,
}

impl Warned {
    fn warn_of(&mut self, snapshot: &Snapshot) {
        for issue in &snapshot.issues {
            if self.issues.insert((issue.part, issue.call.to_string(), issue.error.to_string())) {
                warn!("{}; from now on only counted, in bpf_exporter_issues", words::issue(issue));
            }
        }
        if let Some(left_out) = snapshot.left_out.filter(|&left_out| left_out > 0)
            && !std::mem::replace(&mut self.limit, true)
        {
            let what = words::left_out(left_out);
            warn!("{what}; from now on only counted, in bpf_exporter_left_out_series");
        }
    }
}

/// Starts those who look up names.
fn look_up(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    lookup: cli::Lookup,
    names: NameCache,
    stopped: &watch::Receiver<bool>,
) {
    let stopped = stopped.clone();
    tasks.spawn(async move {
        lookup::run(names, settings::lookup(lookup), stopped).await;
        Ok(())
    });
}

/// Starts what pushes to a receiver.
fn push(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    otlp: Otlp,
    ledger: Arc<Ledger>,
    source: Source,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let receiver = otlp.endpoint.to_string();
    let receiver = receiver.trim_end_matches('/').to_owned();
    let client = GrpcClient::new(otlp.endpoint, &otlp.headers, otlp.timeout)?;
    let user = resource::UserAttributes { service_name: otlp.service_name, attributes: otlp.resource };
    let encoder = Encoder::new(&resource::attributes(Path::new("/"), &user), otlp.max_request);
    let queue = Arc::new(MemoryQueue::new(otlp.backlog, Arc::clone(&ledger)));
    info!("pushing to {receiver} over OTLP/gRPC every {:?}", otlp.interval);

    let (stopped, filled) = (stopped.clone(), Arc::clone(&queue));
    tasks.spawn(async move {
        produce(source, encoder, filled, otlp.interval, stopped).await;
        Ok(())
    });
    tasks.spawn(async move {
        deliver(&queue, &ledger, Transport::Grpc(client), &receiver).await;
        Ok(())
    });
    Ok(())
}

/// Waits for a signal, and then for the tasks to finish: not longer than [`FAREWELL`], nor beyond a second signal.
async fn until_stopped(
    mut tasks: JoinSet<anyhow::Result<()>>,
    stop: watch::Sender<bool>,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("failed to listen for signals")?;
    tokio::select! {
        name = signals.next() => info!("{name}: stopping after a last export"),
        // No task ends before it is told to, unless it fails.
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
        finished = tokio::time::timeout(FAREWELL, finished) => finished,
        name = signals.next() => {
            tasks.shutdown().await;
            anyhow::bail!("{name} again: stopped at once")
        }
    };
    let Ok(finished) = finished else {
        warn!("stopping although not everything was finished within {FAREWELL:?}");
        tasks.shutdown().await;
        return Ok(());
    };
    finished
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
