//! Plays a fleet: see the library.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use anyhow::Context as _;
use bpf_metrics_exporter::web::descriptors::raise_limit;
use clap::{Parser, Subcommand};
use fleet::conditions;
use fleet::figures::Results;
use fleet::interrupt::Interrupt;
use fleet::receivers::StoreKind;
use fleet::report;
use fleet::runs::{Part, Scale};

/// The command line.
#[derive(Parser)]
#[command(
    about = "Plays many nodes against a real OpenTelemetry Collector with Prometheus and VictoriaMetrics behind it"
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Measures, and puts the figures into the file of results; parts that are not run stay as they are there
    Run {
        /// What to run; everything if none is given
        parts: Vec<Part>,
        /// Nodes at the end of the growth
        #[arg(long, default_value = "1000")]
        nodes: usize,
        /// Nodes of the other parts
        #[arg(long, default_value = "100")]
        few_nodes: usize,
        /// Programs, maps and links of a node
        #[arg(long, default_value = "300")]
        objects: usize,
        /// Seconds between two readings of a node in the growth
        #[arg(long, default_value = "60")]
        interval: u64,
        /// The same in the other parts
        #[arg(long, default_value = "10")]
        short_interval: u64,
        /// Seconds for which all nodes of the growth are measured
        #[arg(long, default_value = "600")]
        seconds: u64,
        /// Stores of the growth
        #[arg(long, value_delimiter = ',', default_value = "prometheus,victoria")]
        stores: Vec<StoreKind>,
    },
    /// Writes the tables and the plots of the page from the file of results
    Write,
}

fn main() -> ExitCode {
    let interrupt = Interrupt::default();
    match listen(interrupt.clone()).and_then(|()| run(Arguments::parse().action, &interrupt)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command reports its errors")]
fn report_error(error: &anyhow::Error) {
    eprintln!("fleet: {error:#}");
}

#[expect(clippy::print_stderr, reason = "a command that takes an hour says what it does")]
fn say(words: &str) {
    eprintln!("fleet: {words}");
}

/// Ends the run at SIGINT and SIGTERM.
fn listen(interrupt: Interrupt) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
            if let [Ok(mut interrupted), Ok(mut terminated)] = kinds {
                tokio::select! { _ = interrupted.recv() => {}, _ = terminated.recv() => {} }
                interrupt.set();
            }
        });
    })?;
    Ok(())
}

fn run(action: Action, interrupt: &Interrupt) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join(report::RESULTS);
    let mut results = read(&file)?;
    match action {
        Action::Write => report::write(&root, &results),
        Action::Run { parts, nodes, few_nodes, objects, interval, short_interval, seconds, stores } => {
            let [interval, short_interval, time] =
                [interval, short_interval, seconds].map(Duration::from_secs);
            let scale = Scale { nodes, few_nodes, objects, interval, short_interval, time, stores };
            let all = [Part::Options, Part::Outage, Part::Upgrade, Part::Clocks, Part::Growth];
            let parts = if parts.is_empty() { all.to_vec() } else { parts };
            // A node has one and a timer, and two on its way to the gateway.
            let (limit, wanted) = (raise_limit(), 4 * nodes.max(few_nodes) as u64 + 500);
            anyhow::ensure!(
                limit >= wanted,
                "{limit} descriptors are too few, it takes {wanted}: see `ulimit -Hn`"
            );
            for part in parts {
                let start = Instant::now();
                say(&format!("{}...", part.name()));
                let load = conditions::Load::begin()?;
                // What was measured before a failure is kept.
                let outcome = part.run(&scale, interrupt, &mut results);
                let filled = match outcome {
                    Ok(()) => conditions::fill(&mut results.conditions, part.name(), &load),
                    Err(_) => Ok(()),
                };
                let text = serde_json::to_string_pretty(&results)? + "\n";
                fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
                outcome.and(filled)?;
                say(&format!("{} took {:.0?}", part.name(), start.elapsed()));
            }
            Ok(())
        }
    }
}

/// Returns the results of earlier runs; none if there is no file.
fn read(file: &PathBuf) -> anyhow::Result<Results> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{}", file.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Results::default()),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", file.display())),
    }
}
