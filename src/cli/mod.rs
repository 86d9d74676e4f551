//! Every flag and environment variable, once: parsed into plain settings, with every mistake reported at once.
//! Names no other part of the program and touches neither files nor the network. Begin at [`parse`].

mod enrich;
mod selection;
mod values;

use std::ffi::OsString;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use http::Uri;

use self::enrich::EnrichFlags;
pub use self::enrich::{Enrich, Lookup, Sockets};
use self::selection::SelectionFlags;
pub use self::selection::{Rule, RuleKey, Selection};
pub use self::values::{KernelReader, LogFormat, LogLevel, RunStats, SnapshotFormat};

/// The largest request by default: receivers refuse more than 4 MiB unless told otherwise.
const DEFAULT_MAX_REQUEST: &str = "3670016";
const DEFAULT_BACKLOG: &str = "16777216";

#[derive(Debug, Parser)]
#[command(
    name = "bpf-metrics-exporter",
    version,
    about = "Exports what every eBPF program, map, link and BTF object of this host is, over OTLP and Prometheus.",
    after_help = "Honoured as the OpenTelemetry specification says, where no flag is given:\n  \
        OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,\n  \
        OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_METRICS_HEADERS,\n  \
        OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,\n  \
        OTEL_METRIC_EXPORT_INTERVAL, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES"
)]
struct Flags {
    #[command(subcommand)]
    command: Option<Subcommands>,

    /// OTLP receiver to push to over gRPC: HOST:PORT or http://… in plaintext, https://… with TLS; none pushes nowhere
    /// [default: localhost:4317]
    #[arg(long, alias = "otel-grpc", value_name = "RECEIVER")]
    otlp_grpc: Option<String>,

    /// Time between two pushes: 10s, 1m 30s [default: 10s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    interval: Option<String>,

    /// Size at which a push is split into several requests
    #[arg(long, value_name = "BYTES", default_value = DEFAULT_MAX_REQUEST)]
    otlp_max_request_bytes: String,

    /// How much is kept for a receiver that does not answer, the oldest given up first
    #[arg(long, value_name = "BYTES", default_value = DEFAULT_BACKLOG)]
    otlp_backlog_bytes: String,

    /// Address to serve Prometheus metrics on; may be given several times; none serves nowhere
    #[arg(long = "web.listen-address", value_name = "HOST:PORT", default_value = "127.0.0.1:10048")]
    web_listen_address: Vec<String>,

    /// Whether to have the kernel count runs of programs and their time, at about 25 ns per run: on, off, or
    /// sample=LASTING/EVERY for a part of the time (sample alone is sample=1s/10s)
    #[arg(long, value_name = "MODE", default_value = "on")]
    run_stats: String,

    /// Whether to export which program uses which map: on, off
    #[arg(long, value_name = "SWITCH", default_value = "on")]
    program_maps: String,

    #[command(flatten)]
    kernel: KernelFlags,

    #[command(flatten)]
    enrich: EnrichFlags,

    #[command(flatten)]
    selection: SelectionFlags,

    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Args)]
struct KernelFlags {
    /// How to read the kernel: iter (BPF iterators, Linux 5.8 and later), walk (by ids), auto (iter where it works)
    #[arg(long, value_name = "READER", default_value = "auto", global = true)]
    kernel_reader: String,

    /// Counts the entries of maps up to this capacity key by key, where the kernel (before 6.6) keeps no count
    #[arg(long, value_name = "MAX_ENTRIES", global = true)]
    count_by_walking: Option<String>,
}

#[derive(Debug, Args)]
struct LogFlags {
    /// Least severity of messages on standard error: error, warn, info, debug
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", global = true)]
    log_level: String,

    /// Form of messages on standard error: text, json
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text", global = true)]
    log_format: String,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Prints one reading to standard output
    Snapshot {
        /// table, json (can be read back) or prometheus
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: String,

        /// Shows a reading that was written down as JSON instead of taking one; - reads standard input
        #[arg(long, value_name = "FILE")]
        from: Option<OsString>,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Export until told to stop.
    Export(Box<Export>),
    /// Print one reading.
    Snapshot {
        /// How to take it.
        kernel: Kernel,
        /// What to find out of owners.
        enrich: Enrich,
        /// Which objects to show.
        selection: Selection,
        /// In which form.
        format: SnapshotFormat,
        /// From which file; `None` takes a reading.
        from: Option<OsString>,
    },
}

/// How to export.
#[derive(Debug)]
pub struct Export {
    /// Where to push to, if anywhere.
    pub otlp: Option<Otlp>,
    /// Where to serve.
    pub listen: Vec<ListenAddress>,
    /// How to read the kernel.
    pub kernel: Kernel,
    /// Whether to have the runs of programs counted.
    pub run_stats: RunStats,
    /// Whether to export which program uses which map.
    pub program_maps: bool,
    /// Whether to export who holds which object.
    pub holders: bool,
    /// Which objects to export.
    pub selection: Selection,
    /// What to find out of the owners of objects.
    pub enrich: Enrich,
    /// Whom to ask for names.
    pub lookup: Lookup,
}

/// How to read the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel {
    /// By which road.
    pub reader: KernelReader,
    /// Up to which capacity the keys of a map may be walked to count them.
    pub count_by_walking: Option<u32>,
}

/// How to push.
#[derive(Debug)]
pub struct Otlp {
    /// The receiver.
    pub endpoint: Uri,
    /// Sent along with every request.
    pub headers: Vec<(String, String)>,
    /// How long a request may take.
    pub timeout: Duration,
    /// The time between two pushes.
    pub interval: Duration,
    /// Where requests are split, in bytes.
    pub max_request: usize,
    /// How many bytes wait for the receiver at most.
    pub backlog: u64,
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// What to say of this host beside what is found, by key.
    pub resource: Vec<(String, String)>,
}

/// A host and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address; `None` for every address of the host.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

/// How to log.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// The least severity.
    pub level: LogLevel,
    /// The form.
    pub format: LogFormat,
}

/// What was asked for.
#[derive(Debug)]
pub enum Asked {
    /// To do something.
    Do {
        /// What.
        command: Command,
        /// How to log meanwhile.
        log: Log,
        /// What is odd about the settings and no mistake, a line each.
        warnings: Vec<String>,
    },
    /// To say something: help or the version.
    Say(String),
}

/// Settings with mistakes in them.
#[derive(Debug)]
pub struct Mistakes {
    /// A line each.
    pub lines: Vec<String>,
    /// What can be made of the rest, so that it can be checked further; `None` when that is nothing.
    pub rest: Option<Box<Command>>,
}

/// Makes settings of arguments (the first is the program's name) and environment variables.
///
/// # Errors
///
/// Every mistake in either.
pub fn parse(
    arguments: Vec<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Asked, Mistakes> {
    let mut problems = Problems::default();
    let flags = match parse_flags(arguments, &mut problems) {
        Ok(Some(flags)) => flags,
        Ok(None) => return Err(Mistakes { lines: problems.0, rest: None }),
        Err(text) => return Ok(Asked::Say(text)),
    };
    let log = Log {
        level: problems.keep("--log.level", flags.log.log_level.parse()).unwrap_or_default(),
        format: problems.keep("--log.format", flags.log.log_format.parse()).unwrap_or_default(),
    };
    let kernel = Kernel {
        reader: problems.keep("--kernel-reader", flags.kernel.kernel_reader.parse()).unwrap_or_default(),
        count_by_walking: flags
            .kernel
            .count_by_walking
            .as_ref()
            .and_then(|given| problems.keep("--count-by-walking", values::capacity(given))),
    };
    let mut warnings = Vec::new();
    let command = match &flags.command {
        Some(Subcommands::Snapshot { format, from }) => {
            let format = problems.keep("--format", format.parse()).unwrap_or_default();
            let enrich = flags.enrich.enrich(&mut problems);
            let selection = flags.selection.selection(&mut problems, &mut warnings);
            Command::Snapshot { kernel, enrich, selection, format, from: from.clone() }
        }
        None => {
            let environment = Environment { variable: &variable };
            Command::Export(Box::new(export(&flags, kernel, &environment, &mut problems, &mut warnings)))
        }
    };
    if problems.0.is_empty() {
        Ok(Asked::Do { command, log, warnings })
    } else {
        Err(Mistakes { lines: problems.0, rest: Some(Box::new(command)) })
    }
}

/// The mistakes found so far, a line each.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn keep<T>(&mut self, setting: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.0.push(format!("{setting}: {problem}"))).ok()
    }
}

/// The environment. A variable that is empty is not set, as the OpenTelemetry specification says.
struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Environment<'_> {
    /// The first of several variables that is set, and its name.
    fn first<'n>(&self, names: &[&'n str], problems: &mut Problems) -> Option<(&'n str, String)> {
        let (name, value) = names.iter().find_map(|&name| {
            let value = (self.variable)(name).filter(|value| !value.is_empty())?;
            Some((name, value))
        })?;
        let value = value.into_string().map_err(|value| format!("{} is not UTF-8", value.display()));
        Some((name, problems.keep(name, value)?))
    }
}

fn export(
    flags: &Flags,
    kernel: Kernel,
    environment: &Environment<'_>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) -> Export {
    let listen = if flags.web_listen_address.iter().any(|address| address == "none") {
        if flags.web_listen_address.len() > 1 {
            problems.0.push("--web.listen-address: none and an address exclude each other".to_owned());
        }
        Vec::new()
    } else {
        let parse = |address: &String| problems.keep("--web.listen-address", values::listen_address(address));
        flags.web_listen_address.iter().filter_map(parse).collect()
    };
    let run_stats = problems.keep("--run-stats", flags.run_stats.parse()).unwrap_or_default();
    let program_maps = problems.keep("--program-maps", values::switch(&flags.program_maps)).unwrap_or(true);
    let otlp = otlp(flags, environment, problems, warnings);
    if otlp.is_none() && listen.is_empty() && problems.0.is_empty() {
        let nothing =
            "--otlp-grpc none and --web.listen-address none leave nothing to do; give one of them a value";
        problems.0.push(nothing.to_owned());
    }
    let holders = flags.enrich.holders(problems);
    let selection = flags.selection.selection(problems, warnings);
    let enrich = flags.enrich.enrich(problems);
    let lookup = flags.enrich.lookup(problems);
    Export { otlp, listen, kernel, run_stats, program_maps, holders, selection, enrich, lookup }
}

fn otlp(
    flags: &Flags,
    environment: &Environment<'_>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) -> Option<Otlp> {
    let endpoint = match &flags.otlp_grpc {
        Some(given) => Some(("--otlp-grpc", given.clone())),
        None => environment
            .first(&["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"], problems),
    };
    let endpoint = match endpoint {
        Some((name, given)) => problems.keep(name, values::receiver(&given)).flatten(),
        None => Some(Uri::from_static("http://localhost:4317")),
    };
    let interval = if let Some(given) = &flags.interval {
        problems.keep("--interval", values::interval(given))
    } else {
        environment
            .first(&["OTEL_METRIC_EXPORT_INTERVAL"], problems)
            .and_then(|(name, given)| problems.keep(name, values::interval_milliseconds(&given)))
    };
    let headers = environment
        .first(&["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"], problems)
        .and_then(|(name, given)| problems.keep(name, values::headers(&given)));
    let timeout = environment
        .first(&["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"], problems)
        .and_then(|(name, given)| problems.keep(name, values::milliseconds(&given)));
    let resource = environment
        .first(&["OTEL_RESOURCE_ATTRIBUTES"], problems)
        .and_then(|(name, given)| problems.keep(name, values::resource_attributes(&given)));
    let service_name = environment.first(&["OTEL_SERVICE_NAME"], problems).map(|(_, name)| name);
    let max_request = problems
        .keep("--otlp-max-request-bytes", values::bytes(&flags.otlp_max_request_bytes, 64 << 10, 256 << 20))
        .and_then(|bytes| usize::try_from(bytes).ok());
    let backlog = problems.keep("--otlp-backlog-bytes", values::bytes(&flags.otlp_backlog_bytes, 0, 1 << 40));
    if endpoint.is_some() {
        warnings.extend(unsupported(environment, problems));
    }
    // A value that is missing here was a mistake, which is in `problems`, or not given.
    Some(Otlp {
        endpoint: endpoint?,
        headers: headers.unwrap_or_default(),
        timeout: timeout.unwrap_or(Duration::from_secs(10)),
        interval: interval.unwrap_or(Duration::from_secs(10)),
        max_request: max_request?,
        backlog: backlog?,
        service_name,
        resource: resource.unwrap_or_default(),
    })
}

/// What the environment asks for that cannot be had: better said than silently left out.
fn unsupported(environment: &Environment<'_>, problems: &mut Problems) -> Vec<String> {
    let mut warnings = Vec::new();
    for (what, is) in
        [("PROTOCOL", "grpc"), ("COMPRESSION", "none"), ("CERTIFICATE", ""), ("CLIENT_CERTIFICATE", "")]
    {
        let names = [format!("OTEL_EXPORTER_OTLP_METRICS_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        if let Some((name, value)) = environment.first(&names.each_ref().map(String::as_str), problems)
            && value != is
        {
            let instead = if is.is_empty() { "it is ignored".to_owned() } else { format!("{is} is used") };
            warnings.push(format!("{name}={value} is not supported: {instead}"));
        }
    }
    warnings
}

/// Parses the flags, passing over unknown ones so that the mistakes behind them are found too.
/// `Ok(None)` when no flags can be made of them; `Err` is a text that was asked for.
fn parse_flags(mut arguments: Vec<OsString>, problems: &mut Problems) -> Result<Option<Flags>, String> {
    loop {
        let error = match Flags::command().try_get_matches_from_mut(&arguments) {
            Ok(matches) => match Flags::from_arg_matches(&matches) {
                Ok(flags) => return Ok(Some(flags)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Err(error.to_string());
        }
        problems.0.push(one_line(&error));
        let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => unknown.as_str(),
            _ => return Ok(None),
        };
        let flag_of = |argument: &OsString| {
            let text = argument.to_string_lossy().into_owned();
            text.split_once('=').map_or(text.clone(), |(flag, _)| flag.to_owned())
        };
        let Some(place) = arguments.iter().skip(1).position(|argument| flag_of(argument) == unknown) else {
            return Ok(None);
        };
        let removed = arguments.remove(place + 1);
        // `--unknown value`: the value belongs to it, unless it is the subcommand.
        let value_follows = !removed.to_string_lossy().contains('=')
            && removed.to_string_lossy().starts_with('-')
            && arguments
                .get(place + 1)
                .is_some_and(|next| !next.to_string_lossy().starts_with('-') && next != "snapshot");
        if value_follows {
            arguments.remove(place + 1);
        }
    }
}

/// The first line of what clap says, with its advice.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().map_or("wrong arguments", |line| line.strip_prefix("error: ").unwrap_or(line));
    match lines.find_map(|line| line.strip_prefix("tip: ")) {
        Some(tip) => format!("{first}; {tip}"),
        None => format!("{first}; --help shows what there is"),
    }
}

#[cfg(test)]
mod tests;
