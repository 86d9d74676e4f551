//! Every flag: its name, the type of its value, its default and its help text. Entry point: [`command`].
//!
//! Prometheus' own flags keep their dotted names (`--web.listen-address`, `--log.level`), as exporter-toolkit has them. A switch that is
//! on by default is a `--no-flag`, and [`command`] adds the `--flag` that undoes it. Each flag has an environment variable, named in
//! [`variable`].

#![expect(
    clippy::doc_markdown,
    rustdoc::broken_intra_doc_links,
    reason = "the comments of flags are their help texts, in which markup would show"
)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, Args, Command, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::endpoint;
use super::otel;
use super::rules;
use super::values::{self, ListenAddress, Setting};
use crate::export::otlp::settings::{Compression, Endpoint};
use crate::kernel::{ReaderChoice, RunStatsMode};
use crate::metrics::columns::TableKind;
use crate::metrics::select::Rule;
use crate::model::ReaderKind;
use crate::sandbox::UserIds;

/// The name of the program.
pub(super) const PROGRAM: &str = "bpf-metrics-exporter";

/// The id of `--baseline` of `snapshot`. It has no variable, since that of the exporter's `--baseline` has its name.
const WRITE_BASELINE: &str = "write_baseline";

/// How the variables of flags begin.
pub(super) const PREFIX: &str = "BPF_METRICS_EXPORTER_";

const SHORT_EPILOGUE: &str = "\
Every flag can also be set by an environment variable, such as BPF_METRICS_EXPORTER_LOG_LEVEL; --help names it. --help also has \
details and examples.";

/// What follows the flags in `--help`.
fn long_epilogue() -> String {
    let names: Vec<_> = otel::honoured_variables().map(|variable| format!("    {}", variable.name)).collect();
    format!("{ENVIRONMENT}\n{}\n\n{LONG_EPILOGUE}", names.join("\n"))
}

const ENVIRONMENT: &str = "\
Environment:
  Every flag can be set by the variable that its help names. The command line wins over BPF_METRICS_EXPORTER_*, which wins over OTEL_*. An empty variable counts as unset. Every --no-FLAG has a --FLAG that undoes it.

  These variables of the OpenTelemetry specification are read as well. OTEL_EXPORTER_OTLP_METRICS_* wins over OTEL_EXPORTER_OTLP_*, and OTEL_EXPORTER_OTLP_LOGS_* for logs. docs/opentelemetry-variables.md says what each does, and which others there are.";

const LONG_EPILOGUE: &str = "\
Signals:
  SIGTERM and SIGINT: export once more, for at most 5 s, and exit. SIGHUP: read files again.

Exit codes:
  0  success
  1  failure while running, such as an address in use or missing privileges
  2  wrong flags, variables or files

Examples:
  Show what is loaded on this host:
    bpf-metrics-exporter snapshot

  Push to a collector every 30 s, without a Prometheus endpoint:
    bpf-metrics-exporter --otlp-grpc collector:4317 --interval 30s \\
        --web.listen-address none

  Serve Prometheus on every address, push nowhere:
    bpf-metrics-exporter --otlp-grpc none --web.listen-address :10048

  Export the maps of one namespace only, and at most 5000 series:
    bpf-metrics-exporter --max-series 5000 \\
        --only 'kind=map,owner_kind=pod,owner=kube-system/*'

  Count program runs for one second in ten, at a tenth of the cost:
    bpf-metrics-exporter --run-stats sample=1s/10s";

const SNAPSHOT_EPILOGUE: &str = "\
Examples:
  bpf-metrics-exporter snapshot
  bpf-metrics-exporter snapshot programs --sort mem_bytes --limit 10
  bpf-metrics-exporter snapshot maps --filter 'owner:cilium fill_ratio>0.8'
  bpf-metrics-exporter snapshot --only owner_kind=pod
  bpf-metrics-exporter snapshot --format json > host.json
  bpf-metrics-exporter snapshot --from host.json --format prometheus
  bpf-metrics-exporter snapshot --every 1s --count 60 --format json > recording.ndjson
  bpf-metrics-exporter snapshot --format prometheus --output /var/lib/node_exporter/bpf.prom
  bpf-metrics-exporter snapshot --baseline > baseline.txt";

const EVENTS_EPILOGUE: &str = "\
Signals:
  SIGTERM and SIGINT: print what has happened so far, and exit.

Exit codes:
  0  success, also if nothing happened
  1  failure while running, such as missing privileges
  2  wrong flags or variables

Examples:
  bpf-metrics-exporter events --kind 'bpf.program.*'
  bpf-metrics-exporter events --only 'owner_kind=pod,owner=kube-system/*'
  bpf-metrics-exporter events --format ndjson --for 1h > events.ndjson";

const TOP_EPILOGUE: &str = "\
Keys:
  ? lists them. q ends it. Run statistics are on only while it runs.

Exit codes:
  0  ended by q, Ctrl-C, SIGTERM or SIGINT
  1  failure while running, such as missing privileges
  2  wrong flags, variables or files, or no terminal

Examples:
  bpf-metrics-exporter top --every 2s
  bpf-metrics-exporter top --from recording.ndjson
  bpf-metrics-exporter top --url http://node-7:10048";

const HEALTHY_EPILOGUE: &str = "\
For the health check of a container: it needs no shell, and queries the address that the variables of the exporter give. It prints one \
line.

With --web.config.file the exporter of this host may demand a password or a client certificate. It then is healthy, and the line says that \
its readiness is unknown: whether BPF objects can be read. At a URL, which may be that of a proxy, such a demand is a failure.

Exit codes:
  0  healthy, and BPF objects can be read or the line says that it is unknown; with --live: the exporter serves
  1  anything else, also no answer in time
  2  wrong flags or variables

Examples:
  bpf-metrics-exporter healthy
  bpf-metrics-exporter healthy --live
  bpf-metrics-exporter healthy --web.listen-address unix:/run/bpf-metrics-exporter.sock
  bpf-metrics-exporter healthy --url https://node-7:10048 --timeout 1s";

const DOCTOR_EPILOGUE: &str = "\
It takes a reading with the restrictions of the exporter: give it the same flags, user and capabilities. Features that these flags turn \
off are listed as off.

Exit codes:
  0  everything that is enabled works
  1  something does not
  2  wrong flags or variables

Examples:
  bpf-metrics-exporter doctor --netns all
  bpf-metrics-exporter doctor --user nobody --format json
  systemd-run --pipe -p DynamicUser=yes -p AmbientCapabilities='CAP_BPF CAP_PERFMON' \\
      bpf-metrics-exporter doctor --least-privilege";

/// Exports metrics of the eBPF programs, maps, links and BTF objects of this host over OTLP and Prometheus.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    long_version = long_version(),
    after_help = SHORT_EPILOGUE,
    after_long_help = long_epilogue(),
    disable_help_subcommand = true,
    max_term_width = 120
)]
pub(super) struct Flags {
    #[command(subcommand)]
    pub(super) command: Option<Subcommands>,

    #[command(flatten)]
    pub(super) otlp: OtlpFlags,

    #[command(flatten)]
    pub(super) web: WebFlags,

    #[command(flatten)]
    pub(super) resource: ResourceFlags,

    #[command(flatten)]
    pub(super) privileges: PrivilegeFlags,

    #[command(flatten)]
    pub(super) events: EventStreamFlags,

    #[command(flatten)]
    pub(super) collection: CollectionFlags,
}

#[derive(Debug, Subcommand)]
pub(super) enum Subcommands {
    /// Print the current state of the host and exit
    #[command(after_long_help = SNAPSHOT_EPILOGUE)]
    Snapshot(Box<SnapshotFlags>),
    /// Print what happens to BPF objects, as it happens
    #[command(after_long_help = EVENTS_EPILOGUE)]
    Events(Box<EventsFlags>),
    /// Show programs, maps, links, owners and events on the terminal, with rates
    #[command(after_long_help = TOP_EPILOGUE)]
    Top(Box<TopFlags>),
    /// Check every feature on this host: what it needs, what is missing, and what helps
    #[command(after_long_help = DOCTOR_EPILOGUE)]
    Doctor(Box<DoctorFlags>),
    /// Check by its endpoint whether an exporter works
    #[command(after_long_help = HEALTHY_EPILOGUE)]
    Healthy(Box<HealthyFlags>),
    /// Print a completion script for a shell
    Completions {
        /// Shell that the script is for
        #[arg(id = "SHELL")]
        shell: Shell,
    },
    /// Print the manual page, as roff
    Man {
        /// Subcommand that the page is for; the exporter itself if missing
        #[arg(id = "COMMAND", value_parser = ["snapshot", "events", "top", "doctor", "healthy", "completions", "man"])]
        page: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct SnapshotFlags {
    /// programs, maps, links, owners, hooks, orphans or btfs; an overview if missing
    ///
    /// The most expensive rows come first.
    #[arg(id = "TABLE", value_parser = table())]
    pub(super) table: Option<TableKind>,

    /// Output format
    ///
    /// table is for people. Of a table, json is one document, ndjson a line for each row, csv a spreadsheet. Without a table, json and
    /// ndjson have every field of the selected objects, which --from reads back; prometheus and series have every metric.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_enum)]
    pub(super) format: SnapshotFormat,

    /// Time for rates, or none [default: 1s on a terminal]
    ///
    /// Two readings are taken, so far apart, and run statistics are on in between. The default holds for --format table; other formats
    /// and files have no rates without the flag.
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true, value_parser = values::or_none(values::positive))]
    pub(super) period: Option<Setting<Duration>>,

    /// Record: print a reading as a line of JSON at each interval
    ///
    /// Needs --format json or ndjson and no table. It ends after --count readings, with a signal, or when nobody reads the output. Run
    /// statistics are on meanwhile. `top --from FILE` replays a recording.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = values::positive, conflicts_with_all = ["period", "from", WRITE_BASELINE])]
    pub(super) every: Option<Duration>,

    /// Number of readings to record
    ///
    /// Without the flag it records until a signal arrives.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = values::one_or_more, requires = "every")]
    pub(super) count: Option<u64>,

    /// Sort the table by a field, such as mem_bytes or name:desc
    ///
    /// FIELD has the largest numbers first and texts from A to Z; FIELD:asc and FIELD:desc say which. Fields are those of
    /// --format json. What is not known comes last.
    #[arg(long, value_name = "FIELD", conflicts_with = WRITE_BASELINE)]
    pub(super) sort: Option<String>,

    /// Show at most this many rows of a table
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = values::one_or_more, conflicts_with = WRITE_BASELINE)]
    pub(super) limit: Option<u64>,

    /// Show only rows that have these words
    ///
    /// Each word must be part of a name, type, owner or other text, or be the id of the object or of one it refers to. FIELD:WORD looks
    /// in one field; FIELD>NUMBER and FIELD<NUMBER compare it, a time by its age: load_time>1h is what was loaded more than an hour ago.
    #[arg(long, value_name = "WORDS", conflicts_with = WRITE_BASELINE)]
    pub(super) filter: Option<String>,

    /// Leave out rows about objects of the exporter itself
    ///
    /// They are marked otherwise: by * in a table, and as exporter_own in JSON and CSV. Totals count them all the same.
    #[arg(long = "no-own", action = ArgAction::SetFalse)]
    pub(super) own: bool,

    /// Show every column, and texts in full
    ///
    /// On a terminal, columns that do not fit are left out otherwise. Elsewhere this is how tables are.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = values::true_or_false)]
    pub(super) wide: bool,

    /// Write to a file instead of standard output
    ///
    /// It is replaced when everything has been written, and is readable for all, as for node_exporter's textfile collector. A recording
    /// is written as it goes.
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// Print a baseline: the programs, a line each, for --baseline of the exporter
    ///
    /// Type, name, tag and owner of each distinct program, without ids and times, for version control. Only --only, --except and --min-age
    /// select programs. Excludes --format.
    #[arg(long = "baseline", id = WRITE_BASELINE, conflicts_with_all = ["format", "period"])]
    pub(super) write_baseline: bool,

    /// Show a snapshot saved as JSON instead of reading the host
    ///
    /// `-` reads standard input. Of a recording, the last reading is shown, with rates since the first. Flags about reading have no
    /// effect then.
    #[arg(long, value_name = "FILE", conflicts_with = "period")]
    pub(super) from: Option<PathBuf>,

    #[command(flatten)]
    pub(super) collection: CollectionFlags,
}

#[derive(Debug, Args)]
pub(super) struct EventsFlags {
    /// Output format
    ///
    /// JSON is one array, which is complete when the program ends. NDJSON is a line for each event.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub(super) format: EventsFormat,

    /// End after this time
    ///
    /// Without the flag it runs until a signal arrives, or nobody reads what it prints.
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true, value_parser = values::positive)]
    pub(super) duration: Option<Duration>,

    /// Print only events whose name matches a pattern
    ///
    /// * matches any text, ? any character: bpf.program.*. Repeatable: one pattern must match.
    #[arg(long, value_name = "PATTERN", value_parser = values::event_pattern)]
    pub(super) kind: Vec<String>,

    /// Print only events of objects that match a rule
    ///
    /// A rule is KEY=PATTERN[,KEY=PATTERN...], and all its terms must match. Keys: kind (of object), type, name, owner, owner_kind. Where
    /// an object has no known owner, that of the process that acted counts. Repeatable: one of the rules must match.
    #[arg(long, value_name = "RULE", value_parser = rules::parse)]
    pub(super) only: Vec<Rule>,

    /// Print no event of an object that matches a rule
    ///
    /// Wins over --only. Repeatable.
    #[arg(long, value_name = "RULE", value_parser = rules::parse)]
    pub(super) except: Vec<Rule>,

    #[command(flatten)]
    pub(super) reader: ReaderFlags,

    #[command(flatten)]
    pub(super) owners: OwnerFlags,

    #[command(flatten)]
    pub(super) log: LogFlags,
}

#[derive(Debug, Args)]
pub(super) struct TopFlags {
    /// Time between two readings
    ///
    /// From 1s to 24h. Of a recording, the time that each snapshot is shown.
    #[arg(long, value_name = "DURATION", default_value = "1s", allow_hyphen_values = true, value_parser = values::interval)]
    pub(super) every: Duration,

    /// Replay snapshots saved as JSON, one on each line, instead of reading the host
    ///
    /// A single snapshot may have several lines. Flags about reading have no effect then.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub(super) from: Option<PathBuf>,

    /// Read from another exporter instead of this host
    ///
    /// http://HOST[:PORT] (port 10048 if none is given), https://HOST[:PORT] with TLS, unix:/PATH. USER:PASSWORD@ may precede the host;
    /// in the variable they are not visible to other users. Flags about reading have no effect then.
    #[arg(long, value_name = "URL", value_parser = endpoint::exporter)]
    pub(super) url: Option<endpoint::ExporterUrl>,

    #[command(flatten)]
    pub(super) kernel: KernelFlags,

    #[command(flatten)]
    pub(super) owners: OwnerFlags,

    #[command(flatten)]
    pub(super) log: LogFlags,
}

#[derive(Debug, Args)]
pub(super) struct DoctorFlags {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub(super) format: DoctorFormat,

    #[command(flatten)]
    pub(super) privileges: PrivilegeFlags,

    #[command(flatten)]
    pub(super) collection: CollectionFlags,
}

#[derive(Debug, Args)]
pub(super) struct HealthyFlags {
    /// Query another exporter than the one that the flags of the endpoint describe
    ///
    /// http://HOST[:PORT] (port 10048 if none is given), https://HOST[:PORT] with TLS, unix:/PATH. USER:PASSWORD@ may precede the host;
    /// in the variable they are not visible to other users. The certificate must be one that the system trusts.
    #[arg(long, value_name = "URL", value_parser = endpoint::healthy)]
    pub(super) url: Option<endpoint::ExporterUrl>,

    /// Time for all answers
    ///
    /// Readiness may need a reading.
    #[arg(long, value_name = "DURATION", default_value = "3s", allow_hyphen_values = true, value_parser = values::positive)]
    pub(super) timeout: Duration,

    /// Query only whether the exporter serves, for a liveness probe
    ///
    /// An exporter that cannot read BPF objects is alive, but not ready. To restart it does not help.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = values::true_or_false)]
    pub(super) live: bool,

    #[command(flatten)]
    pub(super) address: AddressFlags,
}

/// The flags that the exporter and `snapshot` have in common.
#[derive(Debug, Args)]
pub(super) struct CollectionFlags {
    #[command(flatten)]
    pub(super) kernel: KernelFlags,

    #[command(flatten)]
    pub(super) owners: OwnerFlags,

    #[command(flatten)]
    pub(super) selection: SelectionFlags,

    #[command(flatten)]
    pub(super) log: LogFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "OTLP")]
pub(super) struct OtlpFlags {
    /// OTLP receiver to push to over gRPC, or none [default: localhost:4317]
    ///
    /// HOST[:PORT] or http://HOST[:PORT] without TLS (port 4317 if none is given), https://HOST[:PORT] with TLS (port 443), unix:/PATH.
    /// `none` disables the push. The default holds if there is no --otlp-http and no variable of OpenTelemetry either. Repeatable:
    /// each receiver has a queue of its own.
    #[arg(long, alias = "otel-grpc", value_name = "ENDPOINT", value_parser = values::or_none(endpoint::of_grpc_flag))]
    pub(super) otlp_grpc: Vec<Setting<Endpoint>>,

    /// OTLP receiver to push to over HTTP, or none
    ///
    /// http://HOST[:PORT] without TLS (port 4318 if none is given), https://HOST[:PORT] with TLS (port 443), unix:/PATH. The path is
    /// /v1/metrics unless the URL has another. Repeatable.
    #[arg(long, value_name = "URL", value_parser = values::or_none(endpoint::of_http_flag))]
    pub(super) otlp_http: Vec<Setting<Endpoint>>,

    /// Do not push events as logs
    ///
    /// By default what happens to BPF objects, such as the load of a program, is pushed as log records to the same receivers, or to
    /// those that OTEL_EXPORTER_OTLP_LOGS_* give.
    #[arg(long = "no-event-logs", action = ArgAction::SetFalse)]
    pub(super) event_logs: bool,

    /// Compression of requests
    ///
    /// Without the flag zstd, or gzip if the receiver does not accept that, and none for receivers on loopback and Unix sockets.
    #[arg(long, value_name = "COMPRESSION", value_parser = one_of(&COMPRESSIONS))]
    pub(super) otlp_compression: Option<Compression>,

    /// Time between two pushes, such as 10s or 1m30s
    ///
    /// From 1s to 24h, with a unit: ms, s, m or h.
    #[arg(long, value_name = "DURATION", default_value = "10s", allow_hyphen_values = true, value_parser = values::interval)]
    pub(super) interval: Duration,

    /// How often unchanged series are repeated
    ///
    /// Longer than --interval, up to 24h. By default every push has every point. With 60s, a push has what changed and a part of the
    /// rest, so that each series has a point in a minute; it has everything after a failure and on another connection. Prometheus
    /// shows a series for 5 minutes after its last point. Counters as deltas are always sent.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = values::interval)]
    pub(super) unchanged_interval: Option<Duration>,

    /// Maximum size of an OTLP request
    ///
    /// From 65536 to 268435456. Receivers refuse requests of more than 4 MiB by default.
    #[arg(long, value_name = "BYTES", default_value = "3670016", value_parser = values::request_bytes)]
    pub(super) otlp_max_request_bytes: usize,

    /// Unsent data kept for an unreachable receiver
    ///
    /// For each receiver, compressed. The oldest readings are dropped first; the newest one is always kept. The default is enough for 15
    /// minutes of a node with 16000 objects, and for 4 minutes if the receiver takes only gzip.
    #[arg(long, value_name = "BYTES", default_value = "33554432", value_parser = values::backlog_bytes)]
    pub(super) otlp_backlog_bytes: u64,

    /// Directory to keep unsent data in across restarts
    ///
    /// By default it is kept in memory only. The directory is made if it does not exist; no other process may use it.
    #[arg(long, value_name = "DIR")]
    pub(super) otlp_backlog_dir: Option<PathBuf>,
}

const COMPRESSIONS: [(&str, &str, Compression); 3] = [
    ("none", "no compression", Compression::None),
    ("gzip", "which every receiver takes", Compression::Gzip),
    ("zstd", "which the OpenTelemetry Collector takes, at less CPU time", Compression::Zstd),
];

/// Where the endpoint is: for the exporter, and for what queries it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prometheus endpoint")]
#[expect(clippy::struct_field_names, reason = "the fields are named after the flags")]
pub(super) struct AddressFlags {
    /// Address to serve /metrics on, or none
    ///
    /// `:PORT` listens on every address of the host, `unix:/PATH` on a Unix socket, `none` disables the endpoint. Repeatable.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:10048", value_parser = values::or_none(values::listen_address))]
    pub(super) web_listen_address: Vec<Setting<ListenAddress>>,

    /// Serve on the sockets that systemd passes
    ///
    /// Instead of --web.listen-address.
    #[arg(long = "web.systemd-socket", value_name = "BOOL", action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = values::true_or_false)]
    pub(super) web_systemd_socket: bool,

    /// File with TLS, users and headers
    ///
    /// In the format of Prometheus' exporters (exporter-toolkit). Changes take effect without a restart; SIGHUP reads it again as well.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub(super) web_config_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Prometheus endpoint")]
pub(super) struct WebFlags {
    #[command(flatten)]
    pub(super) address: AddressFlags,

    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics", value_parser = values::page)]
    pub(super) web_telemetry_path: String,

    /// Scrapes that are answered at a time; 0 for no limit
    ///
    /// Others get status 503 and may try again.
    #[arg(long = "web.max-requests", value_name = "NUMBER", default_value = "40", value_parser = values::requests)]
    pub(super) web_max_requests: usize,

    /// Host name that requests may use, or * for any
    ///
    /// IP addresses, localhost, the names of this host and those of --web.listen-address are always served. Others are refused, so
    /// that web pages cannot read the metrics under a name of their own (DNS rebinding). `*.DOMAIN` allows all names below a domain.
    /// Repeatable.
    #[arg(long = "web.allowed-hosts", value_name = "HOST", value_parser = values::allowed_host)]
    pub(super) web_allowed_hosts: Vec<String>,

    /// Permissions of a Unix socket, in octal
    ///
    /// Who may write to the socket may read the metrics.
    #[arg(long = "web.socket-mode", value_name = "MODE", default_value = "0660", value_parser = values::mode)]
    pub(super) web_socket_mode: u32,

    /// Export the start of each counter in OpenMetrics
    ///
    /// As series ending in _created, which Prometheus stores unless its feature created-timestamp-zero-ingestion is on. Protobuf has
    /// the start of each counter without further series, so that this feature needs no flag here.
    #[arg(long = "web.created-timestamps", value_name = "BOOL", action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = values::true_or_false)]
    pub(super) web_created_timestamps: bool,

    /// Serve the page for browsers and its API
    ///
    /// The page on / has tables of everything that is read, whatever is selected for the metrics, and the settings in force without their
    /// secrets; /api/v1 has the same as JSON. Without it, / has links only, and /api/v1 events only.
    #[arg(long = "web.page", value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1, action = ArgAction::Set, require_equals = true, value_parser = values::true_or_false)]
    pub(super) web_page: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "a switch for each layer")]
#[derive(Debug, Args)]
#[command(next_help_heading = "Privileges")]
pub(super) struct PrivilegeFlags {
    /// User to become at start
    ///
    /// NAME, UID or UID:GID. The capabilities that readings need are kept; supplementary groups are not. Needs root.
    #[arg(long, value_name = "USER", value_parser = UserIds::parse)]
    pub(super) user: Option<UserIds>,

    /// Give up what needs capabilities
    ///
    /// After the start there is none. Programs, maps, links and their holders are still read, by BPF iterators that are loaded at start (Linux 5.19). Memory of maps,
    /// BTF objects and attachments are missing; `doctor` says what else.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = values::true_or_false)]
    pub(super) least_privilege: bool,

    /// Keep every capability
    #[arg(long = "no-drop-capabilities", action = ArgAction::SetFalse)]
    pub(super) drop_capabilities: bool,

    /// Do not filter system calls
    ///
    /// Without this, each thread can use only the calls that it needs.
    #[arg(long = "no-seccomp", action = ArgAction::SetFalse)]
    pub(super) seccomp: bool,

    /// Do not restrict files and ports
    ///
    /// Without this, threads other than those of readings open only files that the flags name and those of the system, and connect only
    /// to the ports of receivers.
    #[arg(long = "no-landlock", action = ArgAction::SetFalse)]
    pub(super) landlock: bool,

    /// Allow tracing and core dumps
    ///
    /// And new privileges of executed programs, with --no-seccomp and --no-landlock as well: each of these layers forbids them.
    #[arg(long = "no-harden-process", action = ArgAction::SetFalse)]
    pub(super) harden_process: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Events")]
pub(super) struct EventStreamFlags {
    /// Find loads and unloads of programs by comparing readings only
    ///
    /// Without this the kernel reports each one when it happens, with the process that did it.
    #[arg(long = "no-event-stream", action = ArgAction::SetFalse)]
    pub(super) event_stream: bool,

    /// Highest number of events per second that are published
    ///
    /// Ten times as many at once. Further ones are counted in bpf_events_dropped, and loads and unloads in bpf_program_loads and bpf_program_unloads all the same. 0 sets no limit.
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = values::events)]
    pub(super) events_per_second: u32,

    /// File with the programs that are expected on this host
    ///
    /// As `snapshot --baseline` prints it. Others are counted in bpf_program_unexpected, and each is an event and a warning in the log.
    /// SIGHUP reads the file again.
    #[arg(long, value_name = "FILE")]
    pub(super) baseline: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Resource")]
pub(super) struct ResourceFlags {
    /// Name of the Kubernetes node
    ///
    /// Exported as k8s.node.name. Wins over OTEL_RESOURCE_ATTRIBUTES; without either, the variable NODE_NAME is read.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) node_name: Option<String>,

    /// Where the root directory of the host is mounted
    ///
    /// For host.name, host.id and the name of the system. By default that of process 1 if it is the host's. Must exist.
    #[arg(long, value_name = "PATH", value_parser = values::directory)]
    pub(super) host_root: Option<PathBuf>,
}

const READERS: [(&str, &str, ReaderChoice); 3] = [
    ("auto", "BPF iterators where they work, by id elsewhere", ReaderChoice::Auto),
    ("iter", "BPF iterators only; Linux 5.19 and later, with BTF", ReaderChoice::Only(ReaderKind::Iter)),
    ("walk", "by id only, with bpf(2); needs CAP_SYS_ADMIN", ReaderChoice::Only(ReaderKind::Walk)),
];

#[derive(Debug, Args)]
#[command(next_help_heading = "Kernel")]
pub(super) struct ReaderFlags {
    /// How to read the kernel
    #[arg(long, value_name = "READER", default_value = "auto", value_parser = one_of(&READERS))]
    pub(super) kernel_reader: ReaderChoice,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Kernel")]
pub(super) struct KernelFlags {
    #[command(flatten)]
    pub(super) reader: ReaderFlags,

    /// Count program runs: on, off, sample=WINDOW/PERIOD
    ///
    /// While on, the kernel counts the runs of all programs and their CPU time, at about 25 ns per run.
    /// sample=1s/10s counts for one second in every ten; `sample` alone means the same.
    /// `snapshot` counts by default while it takes two readings or records, and does not for a single one.
    #[arg(long, value_name = "MODE", default_value = "on", value_parser = values::run_stats)]
    pub(super) run_stats: Option<RunStatsMode>,

    /// Count the entries of maps up to this capacity key by key
    ///
    /// For kernels before 6.6, which keep no count, and for reading by id. Off by default, since it costs time for each entry.
    #[arg(long, value_name = "MAX_ENTRIES", value_parser = values::capacity)]
    pub(super) count_by_walking: Option<u32>,
}

const NAMESPACES: [(&str, &str, bool); 2] = [
    ("own", "the network namespace of the exporter", false),
    ("all", "every network namespace of the host", true),
];

#[derive(Debug, Args)]
#[command(next_help_heading = "Owners")]
pub(super) struct OwnerFlags {
    /// Additional bpffs directory to read pins from
    ///
    /// For a bpffs that is not among the mounts of the exporter. Must exist. Repeatable.
    #[arg(long, value_name = "PATH", value_parser = values::directory)]
    pub(super) bpffs: Vec<PathBuf>,

    /// Time between two scans for attached programs, or none
    ///
    /// From 1s to 24h. `none` disables the scan. `snapshot` scans at once, and again after a lookup of names.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::or_none(values::interval))]
    pub(super) hooks_interval: Setting<Duration>,

    /// Network namespaces to scan
    #[arg(long = "netns", value_name = "NAMESPACES", default_value = "own", action = ArgAction::Set, value_parser = one_of(&NAMESPACES))]
    pub(super) every_netns: bool,

    /// CRI socket to look up pod and container names, or none
    ///
    /// By default the well-known sockets of containerd and CRI-O that exist. Repeatable.
    #[arg(long, value_name = "PATH", value_parser = values::or_none(values::socket))]
    pub(super) cri_socket: Vec<Setting<PathBuf>>,

    /// Docker or Podman socket to look up container names, or none
    ///
    /// By default the well-known sockets that exist. Repeatable.
    #[arg(long, value_name = "PATH", value_parser = values::or_none(values::socket))]
    pub(super) docker_socket: Vec<Setting<PathBuf>>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectionFlags {
    /// Export only objects that match a rule
    ///
    /// A rule is KEY=PATTERN[,KEY=PATTERN...], and all its terms must match. Keys: kind, type, name, owner, owner_kind.
    /// In a pattern * matches any text, ? any character. Totals still cover all objects, and the page and its API show all of them.
    /// Repeatable: one of the rules must match.
    #[arg(long, value_name = "RULE", value_parser = rules::parse)]
    pub(super) only: Vec<Rule>,

    /// Export no object that matches a rule
    ///
    /// Wins over --only. Repeatable.
    #[arg(long, value_name = "RULE", value_parser = rules::parse)]
    pub(super) except: Vec<Rule>,

    /// Export only objects that are at least this old
    ///
    /// Younger ones count only in totals. Programs count from their load time. Maps, links and BTF objects count from when the
    /// exporter first saw them; those there at its start count as old enough.
    #[arg(long, value_name = "DURATION", default_value = "0s", allow_hyphen_values = true, value_parser = values::duration)]
    pub(super) min_age: Duration,

    /// Export only metrics whose name matches a pattern
    ///
    /// * matches any text, ? any character. The OTLP name or the Prometheus name may match. Repeatable: one pattern must match.
    #[arg(long, value_name = "PATTERN", value_parser = values::metric_pattern)]
    pub(super) include_metrics: Vec<String>,

    /// Export no metric whose name matches a pattern
    ///
    /// Wins over --include-metrics. Repeatable.
    #[arg(long, value_name = "PATTERN", value_parser = values::metric_pattern)]
    pub(super) exclude_metrics: Vec<String>,

    /// Maximum number of exported series
    ///
    /// Totals come first, then whole objects, owner by owner in turns. The rest is counted in bpf_exporter_dropped_series.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = values::series)]
    pub(super) max_series: Option<u64>,

    /// Export totals only, no series of single objects
    #[arg(long = "no-per-object", action = ArgAction::SetFalse)]
    pub(super) per_object: bool,

    /// Do not export which process holds which object
    ///
    /// Totals of owners are exported all the same.
    #[arg(long = "no-holders", action = ArgAction::SetFalse)]
    pub(super) holders: bool,

    /// Do not export which program uses which map
    #[arg(long = "no-program-maps", action = ArgAction::SetFalse)]
    pub(super) program_maps: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(super) struct LogFlags {
    /// Log level
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_enum)]
    pub(super) log_level: LogLevel,

    /// Log format
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text", value_enum)]
    pub(super) log_format: LogFormat,
}

/// Lowest level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the words are the values")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    /// Also each reading and each push.
    Debug,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A line of key=value pairs.
    Logfmt,
    /// A JSON object per line.
    Json,
}

/// Format of what `doctor` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the words are the values")]
pub enum DoctorFormat {
    Text,
    Json,
}

/// Format of events on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the words are the values")]
pub enum EventsFormat {
    Text,
    Json,
    Ndjson,
}

/// Format of a snapshot on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the words are the values")]
pub enum SnapshotFormat {
    Table,
    Json,
    Ndjson,
    Csv,
    Prometheus,
    Series,
}

/// What `--version` prints after the name; `-V` prints its first line.
fn long_version() -> String {
    let revision = option_env!("BUILD_REVISION").unwrap_or("unknown");
    let rustc = option_env!("BUILD_RUSTC").unwrap_or("unknown");
    let (version, target) = (env!("CARGO_PKG_VERSION"), env!("BUILD_TARGET"));
    format!("{version}\nrevision: {revision}\nrustc: {rustc}\ntarget: {target}")
}

/// Parses one of several words into the value beside it.
fn one_of<T: Clone + Send + Sync + 'static>(
    choices: &'static [(&'static str, &'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let words = choices.iter().map(|&(word, help, _)| PossibleValue::new(word).help(help));
    PossibleValuesParser::new(words).map(|given| {
        let choice = choices.iter().find(|(word, _, _)| *word == given);
        choice.expect("the words are those of the choices").2.clone()
    })
}

/// Parses the word of a table.
fn table() -> impl TypedValueParser<Value = TableKind> {
    PossibleValuesParser::new(TableKind::ALL.map(TableKind::as_str))
        .map(|word| TableKind::from_word(&word).expect("the words are those of the tables"))
}

/// The flags as clap has them, with the texts and switches that follow from what is declared above.
pub(super) fn command() -> Command {
    let command = Flags::command();
    let command = command.mut_subcommand("snapshot", |snapshot| {
        snapshot.mut_arg("run_stats", |arg| arg.default_value(None::<&str>))
    });
    complete(command).mut_subcommands(complete)
}

/// Adds to each `--no-flag` the `--flag` that undoes it, and to each help text the default, the possible values and the variable.
fn complete(command: Command) -> Command {
    let switches = command.get_arguments().filter_map(|arg| Some((arg.get_id().clone(), switch_of(arg)?)));
    let undoing: Vec<Arg> = switches
        .map(|(off, name)| {
            let on = Arg::new(undoing_id(&name)).long(name).action(ArgAction::SetTrue).hide(true);
            on.overrides_with(off)
        })
        .collect();
    let command = command.mut_args(|arg| match switch_of(&arg) {
        Some(name) => arg.overrides_with(undoing_id(&name)),
        None => arg,
    });
    command.args(undoing).mut_args(describe)
}

/// The word after `--no-`, for a switch that is on by default.
pub(super) fn switch_of(arg: &Arg) -> Option<String> {
    let is_switch = matches!(arg.get_action(), ArgAction::SetFalse);
    arg.get_long().filter(|_| is_switch)?.strip_prefix("no-").map(str::to_owned)
}

/// The id of the `--flag` that undoes a `--no-flag`.
pub(super) fn undoing_id(name: &str) -> String {
    format!("with-{name}")
}

/// Completes the help texts of a flag.
fn describe(arg: Arg) -> Arg {
    let Some(variable) = variable(&arg) else { return arg };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let mut short = help.clone();
    let mut long = arg.get_long_help().map_or(help, ToString::to_string);
    let takes_values = arg.get_action().takes_values();
    let values = if takes_values { arg.get_possible_values() } else { Vec::new() };
    if !values.is_empty() {
        let words: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
        let _infallible = write!(short, ": {}", words.join(", "));
        long.push_str("\n\nPossible values:");
        for value in &values {
            let _infallible = write!(long, "\n- {}", value.get_name());
            if let Some(help) = value.get_help() {
                let _infallible = write!(long, ": {help}");
            }
        }
    }
    let mut tail = format!("[env: {variable}");
    if switch_of(&arg).is_some() {
        tail.push_str("=false");
    }
    if let Some(separator) = separator(&arg) {
        let _infallible = write!(tail, ", separated by {separator:?}");
    }
    tail.push(']');
    if let Some(default) = arg.get_default_values().first().filter(|_| takes_values) {
        let default = format!(" [default: {}]", default.display());
        short.push_str(&default);
        tail.push_str(&default);
    }
    let _infallible = write!(long, "\n\n{tail}");
    arg.help(short).long_help(long).hide_default_value(takes_values).hide_possible_values(takes_values)
}

/// The variable of a flag: `BPF_METRICS_EXPORTER_LOG_LEVEL` for `--log.level`, and `…_HOLDERS` for `--no-holders`.
pub(super) fn variable(arg: &Arg) -> Option<String> {
    let visible = !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version" | WRITE_BASELINE);
    let name = switch_of(arg).or_else(|| arg.get_long().map(str::to_owned)).filter(|_| visible)?;
    Some(format!("{PREFIX}{}", name.replace(['-', '.'], "_").to_uppercase()))
}

/// What separates the values of a repeatable flag in its variable. Rules have commas in them.
pub(super) fn separator(arg: &Arg) -> Option<char> {
    let is_rule = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "RULE"));
    matches!(arg.get_action(), ArgAction::Append).then_some(if is_rule { ';' } else { ',' })
}
