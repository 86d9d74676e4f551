//! The command line and the environment, parsed into the options of the program's parts. Entry point: [`parse`].
//!
//! A new flag is its field in `flags.rs`, the option of the part that it sets, and a line here that carries it over. Independent of
//! the network; of files only `--bpffs` and `--host-root` are looked up.

mod arguments;
mod endpoint;
mod environment;
mod flags;
mod otel;
mod proxy;
mod push;
mod rules;
mod settings;
mod snapshot;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use self::arguments::{Resolved, resolve};
use self::endpoint::ExporterUrl;
use self::environment::Environment;
use self::flags::{
    AddressFlags, CollectionFlags, EventStreamFlags, EventsFlags, Flags, HealthyFlags, LogFlags, OwnerFlags,
    PROGRAM, PrivilegeFlags, Subcommands, TopFlags, WebFlags,
};
pub use self::flags::{DoctorFormat, EventsFormat, LogFormat, LogLevel, SnapshotFormat};
pub use self::otel::markdown as opentelemetry_variables;
use self::push::Pushed;
pub use self::snapshot::{RatePeriod, RecordingSettings, SnapshotCommand, TableView};
pub use self::values::ListenAddress;
use self::values::Setting;
use crate::export::otlp::settings::{Destination, Push, Secret};
use crate::lookup::Sockets;
use crate::metrics::select::{EventFilter, MetricFilter, Selection};
use crate::model::SettingInForce;
use crate::sandbox::SandboxOptions;
use crate::{enrich, kernel, lookup};

/// At most a fiftieth of the time is spent on searching for descriptors, by the iterator or in `/proc`: 20 ms once a second, and on a
/// host with millions of them one search in some ten seconds.
const HOLDERS_SHARE: u32 = 50;

/// The shortest interval of scans of pins: that of readings by default.
const PINS_INTERVAL: Duration = Duration::from_secs(10);

/// How long `top` waits for another exporter, which may have to take a reading first.
const EXPORTER_TIMEOUT: Duration = Duration::from_secs(20);

/// The interval of readings of `events`, and of its scans of pins.
const EVENTS_INTERVAL: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Export until a signal arrives.
    Export(Box<Export>),
    /// Print one snapshot.
    Snapshot(Box<SnapshotCommand>),
    /// Print events until a signal arrives.
    Events(Box<EventsCommand>),
    /// Show everything on the terminal until it is ended.
    Top(Box<TopCommand>),
    /// Check every feature.
    Doctor(Box<DoctorCommand>),
    /// Check by its endpoint whether an exporter works.
    Healthy(HealthyCommand),
}

/// Options of the exporter.
#[derive(Debug)]
pub struct Export {
    /// The push; `None` for none.
    pub push: Option<Push>,
    /// The time between two readings that are printed to standard output; `None` to print none.
    pub console: Option<Duration>,
    /// The Prometheus endpoint.
    pub web: Web,
    /// What the resource is made of.
    pub resource: Resource,
    /// What the process gives up.
    pub sandbox: SandboxOptions,
    /// The file with the programs that are expected.
    pub baseline: Option<PathBuf>,
    /// Options of what is read.
    pub collection: Collection,
}

/// Options of the Prometheus endpoint.
#[derive(Debug)]
pub struct Web {
    /// Its addresses; none with `systemd_socket`.
    pub listen: Vec<ListenAddress>,
    /// Whether to serve on the sockets that systemd passes.
    pub systemd_socket: bool,
    /// The file with TLS, users and headers.
    pub config_file: Option<PathBuf>,
    /// The path of the metrics.
    pub telemetry_path: String,
    /// How many scrapes are answered at a time; 0 for no limit.
    pub max_requests: usize,
    /// Host names that are served in addition to those of the host.
    pub allowed_hosts: Vec<String>,
    /// Permissions of Unix sockets.
    pub socket_mode: u32,
    /// Whether `OpenMetrics` has the start of each counter.
    pub created_timestamps: bool,
    /// Whether the page and its API are served.
    pub page: bool,
}

impl Web {
    /// Returns whether the endpoint is served at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.systemd_socket || !self.listen.is_empty()
    }
}

/// Options of `events`.
#[derive(Debug)]
pub struct EventsCommand {
    /// Of the reader.
    pub kernel: kernel::ReaderOptions,
    /// Of owners and attachments.
    pub enrich: enrich::EnrichOptions,
    /// Of the lookup of names.
    pub lookup: lookup::Settings,
    /// The time between two readings that are compared.
    pub interval: Duration,
    /// Which events to print.
    pub filter: EventFilter,
    /// The format of the output.
    pub format: EventsFormat,
    /// When to end; `None` for no end.
    pub duration: Option<Duration>,
}

/// Options of `top`.
#[derive(Debug)]
pub struct TopCommand {
    /// Where readings come from.
    pub readings: TopReadings,
    /// The time between two readings.
    pub every: Duration,
}

/// Where the readings of `top` come from.
#[derive(Debug)]
pub enum TopReadings {
    /// This host.
    Host {
        /// Of the reader.
        kernel: kernel::ReaderOptions,
        /// Of owners and attachments.
        enrich: enrich::EnrichOptions,
        /// Of the lookup of names.
        lookup: lookup::Settings,
    },
    /// A file with snapshots.
    Recording(PathBuf),
    /// Another exporter.
    Exporter(Box<Destination>),
}

/// Options of `doctor`.
#[derive(Debug)]
pub struct DoctorCommand {
    /// What the process gives up, as the exporter would.
    pub sandbox: SandboxOptions,
    /// Options of what is read.
    pub collection: Collection,
    /// The format of the output.
    pub format: DoctorFormat,
}

/// Options of `healthy`.
#[derive(Debug)]
pub struct HealthyCommand {
    /// The exporter to query.
    pub target: HealthTarget,
    /// The limit of all answers together.
    pub timeout: Duration,
    /// Whether only liveness is queried, not readiness.
    pub live: bool,
}

/// The exporter that `healthy` queries.
#[derive(Debug)]
pub enum HealthTarget {
    /// The one at a URL, whose path is a prefix of all pages.
    Url(Box<Destination>),
    /// The one with these settings, on this host.
    Own {
        /// Its addresses.
        listen: Vec<ListenAddress>,
        /// Whether it is served on the sockets that systemd passes.
        systemd_socket: bool,
        /// Whether a file with TLS and users is given. The exporter reads it at other times, so that its contents decide nothing here.
        is_protected: bool,
    },
}

/// Options of the parts that the exporter and `snapshot` have in common.
#[derive(Debug)]
pub struct Collection {
    /// Of the reader.
    pub kernel: kernel::ReaderOptions,
    /// Of owners and attachments.
    pub enrich: enrich::EnrichOptions,
    /// Of the lookup of names.
    pub lookup: lookup::Settings,
    /// Which series to export.
    pub selection: Selection,
}

/// What the resource is made of.
#[derive(Debug)]
pub struct Resource {
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub attributes: Vec<(String, String)>,
    /// `--node-name`, the name of the Kubernetes node.
    pub node_name: Option<String>,
    /// `NODE_NAME`, the usual variable of a pod for it.
    pub default_node_name: Option<String>,
    /// The host's root directory; `None` to find it.
    pub host_root: Option<PathBuf>,
}

/// Options of the log.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// The lowest level.
    pub level: LogLevel,
    /// The format.
    pub format: LogFormat,
}

/// Result of the command line.
#[derive(Debug)]
pub enum Invocation {
    /// A command to run.
    Run {
        /// The command.
        command: Command,
        /// Options of its log.
        log: Log,
        /// Settings without effect, a line each.
        warnings: Vec<String>,
        /// Every setting in force, without secrets.
        settings: Vec<SettingInForce>,
    },
    /// A text to print: help, the version, a completion script or the manual page.
    Print(String),
}

/// Mistakes in flags and variables.
#[derive(Debug, Default)]
pub struct ConfigErrors {
    /// A line each.
    pub lines: Vec<String>,
}

impl ConfigErrors {
    fn keep<T>(&mut self, setting: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.lines.push(format!("{setting}: {problem}"))).ok()
    }
}

/// Parses arguments (the first is the program's name) and environment variables.
///
/// # Errors
///
/// Every wrong value in either; an unknown flag ends the search for more.
pub fn parse(
    arguments: Vec<OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, ConfigErrors> {
    let (mut errors, mut warnings) = (ConfigErrors::default(), Vec::new());
    let environment = Environment::new(variables);
    let (flags, settings) = match resolve(arguments, &environment, &mut errors, &mut warnings) {
        Resolved::Flags(flags, settings) => (*flags, settings),
        Resolved::Print(text) => return Ok(Invocation::Print(text)),
        Resolved::Nothing => return Err(errors),
    };
    let Flags { command, otlp, web, resource, privileges, events, collection } = flags;
    let (command, log) = match command {
        None => {
            let log = Log::from(&collection.log);
            let web = self::web(web, &mut errors);
            let Pushed { push, console } = push::resolve(otlp, &environment, &mut errors, &mut warnings);
            if push.is_none() && console.is_none() && !web.is_on() && errors.lines.is_empty() {
                errors.lines.push(
                    "nothing is pushed, printed or served, which leaves nothing to do; give --otlp-grpc, --otlp-http or \
                     --web.listen-address a value other than none"
                        .to_owned(),
                );
            }
            let telemetry = Telemetry::read(&environment, &mut errors, &mut warnings);
            environment.warn_of_unknown_otel(&mut warnings);
            let resource = Resource {
                service_name: telemetry.service_name,
                attributes: telemetry.resource,
                node_name: resource.node_name,
                default_node_name: telemetry.node_name,
                host_root: resource.host_root,
            };
            let sandbox = sandbox(&privileges);
            let mut collection = collect(collection, &mut errors, &mut warnings);
            give_up(sandbox, &mut collection);
            follow_events(&events, &mut collection);
            let baseline = events.baseline;
            let export = Export { push, console, web, resource, sandbox, baseline, collection };
            (Command::Export(Box::new(export)), log)
        }
        Some(Subcommands::Snapshot(snapshot)) => {
            let log = Log::from(&snapshot.collection.log);
            let snapshot = snapshot::resolve(*snapshot, &mut errors, &mut warnings);
            (Command::Snapshot(Box::new(snapshot)), log)
        }
        Some(Subcommands::Events(events)) => {
            let log = Log::from(&events.log);
            (Command::Events(Box::new(self::events(*events, &mut errors))), log)
        }
        Some(Subcommands::Top(top)) => {
            let log = Log::from(&top.log);
            let top = self::top(*top, &environment, &mut errors, &mut warnings);
            (Command::Top(Box::new(top)), log)
        }
        Some(Subcommands::Doctor(doctor)) => {
            let log = Log::from(&doctor.collection.log);
            let sandbox = sandbox(&doctor.privileges);
            let mut collection = collect(doctor.collection, &mut errors, &mut warnings);
            read_once(&mut collection);
            give_up(sandbox, &mut collection);
            let doctor = DoctorCommand { sandbox, collection, format: doctor.format };
            (Command::Doctor(Box::new(doctor)), log)
        }
        Some(Subcommands::Healthy(healthy)) => {
            // It has one line to print, and logs nothing.
            let log = Log { level: LogLevel::Error, format: LogFormat::Text };
            (Command::Healthy(self::healthy(*healthy, &mut errors)), log)
        }
        Some(Subcommands::Completions { shell }) => {
            return finish(errors, Invocation::Print(completions(shell)));
        }
        Some(Subcommands::Man { page }) => return finish(errors, Invocation::Print(manual(page.as_deref()))),
    };
    finish(errors, Invocation::Run { command, log, warnings, settings })
}

fn finish(errors: ConfigErrors, invocation: Invocation) -> Result<Invocation, ConfigErrors> {
    if errors.lines.is_empty() { Ok(invocation) } else { Err(errors) }
}

impl From<&LogFlags> for Log {
    fn from(flags: &LogFlags) -> Self {
        Self { level: flags.log_level, format: flags.log_format }
    }
}

fn events(flags: EventsFlags, errors: &mut ConfigErrors) -> EventsCommand {
    let EventsFlags { format, duration, kind, only, except, reader, owners, log: _ } = flags;
    let (enrich, lookup) = self::owners(owners, errors);
    EventsCommand {
        kernel: kernel::ReaderOptions {
            reader: reader.kernel_reader,
            run_stats: kernel::RunStatsMode::Off,
            count_by_walking: None,
            events: Some(kernel::events::RING_BYTES),
        },
        enrich: enrich::EnrichOptions { pins: EVENTS_INTERVAL, ..enrich },
        lookup,
        interval: EVENTS_INTERVAL,
        filter: EventFilter { kinds: kind, only, except },
        format,
        duration,
    }
}

fn top(
    flags: TopFlags,
    environment: &Environment,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> TopCommand {
    let TopFlags { every, from, url, kernel, owners, log: _ } = flags;
    let (enrich, lookup) = self::owners(owners, errors);
    let readings = match (from, url) {
        (Some(file), _) => TopReadings::Recording(file),
        (None, Some(ExporterUrl { endpoint, authorization })) => {
            TopReadings::Exporter(Box::new(Destination {
                proxy: proxy::of(&endpoint, environment, warnings).map(Secret),
                ..Destination::of_exporter(endpoint, authorization, EXPORTER_TIMEOUT)
            }))
        }
        (None, None) => TopReadings::Host {
            kernel: kernel::ReaderOptions {
                reader: kernel.reader.kernel_reader,
                run_stats: kernel.run_stats.unwrap_or_default(),
                count_by_walking: kernel.count_by_walking,
                events: Some(kernel::events::RING_BYTES),
            },
            enrich: enrich::EnrichOptions { pins: every, ..enrich },
            lookup,
        },
    };
    TopCommand { readings, every }
}

fn healthy(flags: HealthyFlags, errors: &mut ConfigErrors) -> HealthyCommand {
    let HealthyFlags { url, timeout, live, address } = flags;
    let (listen, systemd_socket, config_file) = self::address(address, errors);
    let target = match url {
        Some(ExporterUrl { endpoint, authorization }) => {
            HealthTarget::Url(Box::new(Destination::of_exporter(endpoint, authorization, timeout)))
        }
        None => HealthTarget::Own { listen, systemd_socket, is_protected: config_file.is_some() },
    };
    HealthyCommand { target, timeout, live }
}

/// Makes a single reading complete: no later one has the result of a scan, and a second one reports what its own search of holders
/// misses.
fn read_once(collection: &mut Collection) {
    collection.enrich.wait_for_hooks = true;
    collection.enrich.pins = Duration::ZERO;
    collection.enrich.holders_share = None;
}

/// Turns off what a process without capabilities cannot do at all: each query of a scan needs one.
fn give_up(sandbox: SandboxOptions, collection: &mut Collection) {
    if sandbox.least {
        collection.enrich.hooks = None;
    }
}

fn sandbox(flags: &PrivilegeFlags) -> SandboxOptions {
    SandboxOptions {
        user: flags.user,
        harden: flags.harden_process,
        capabilities: flags.drop_capabilities,
        seccomp: flags.seccomp,
        landlock: flags.landlock,
        least: flags.least_privilege,
    }
}

/// Returns the addresses, whether sockets of systemd are used in their place, and the configuration file.
fn address(flags: AddressFlags, errors: &mut ConfigErrors) -> (Vec<ListenAddress>, bool, Option<PathBuf>) {
    let AddressFlags { web_listen_address, web_systemd_socket, web_config_file } = flags;
    let listen = list("--web.listen-address", web_listen_address, errors).unwrap_or_default();
    let listen = if web_systemd_socket { Vec::new() } else { listen };
    (listen, web_systemd_socket, web_config_file)
}

fn web(flags: WebFlags, errors: &mut ConfigErrors) -> Web {
    let (listen, systemd_socket, config_file) = address(flags.address, errors);
    Web {
        listen,
        systemd_socket,
        config_file,
        telemetry_path: flags.web_telemetry_path,
        max_requests: flags.web_max_requests,
        allowed_hosts: flags.web_allowed_hosts,
        socket_mode: flags.web_socket_mode,
        created_timestamps: flags.web_created_timestamps,
        page: flags.web_page,
    }
}

/// The values of a repeatable flag; `None` where it is not given.
fn list<T: PartialEq>(flag: &str, given: Vec<Setting<T>>, errors: &mut ConfigErrors) -> Option<Vec<T>> {
    if given.len() > 1 && given.contains(&Setting::None) {
        errors.lines.push(format!("{flag}: none and another value exclude each other"));
    }
    (!given.is_empty()).then(|| given.into_iter().filter_map(Setting::into_option).collect())
}

/// Follows events, which a single reading does not.
fn follow_events(flags: &EventStreamFlags, collection: &mut Collection) {
    collection.kernel.events = flags.event_stream.then_some(kernel::events::RING_BYTES);
    collection.enrich.events_per_second = flags.events_per_second;
}

fn collect(flags: CollectionFlags, errors: &mut ConfigErrors, warnings: &mut Vec<String>) -> Collection {
    let CollectionFlags { kernel, owners, selection, log: _ } = flags;
    let selects_all = selection.only.is_empty() && selection.except.is_empty() && selection.min_age.is_zero();
    if !(selection.per_object || selects_all) {
        warnings.push("--only, --except and --min-age have no effect with --no-per-object".to_owned());
    }
    let metrics = MetricFilter::new(&selection.include_metrics, &selection.exclude_metrics);
    if metrics.excludes_all() {
        errors.lines.push(
            "--include-metrics and --exclude-metrics leave nothing to do; leave one of the metrics"
                .to_owned(),
        );
    }
    let (enrich, lookup) = self::owners(owners, errors);
    Collection {
        kernel: kernel::ReaderOptions {
            reader: kernel.reader.kernel_reader,
            run_stats: kernel.run_stats.unwrap_or_default(),
            count_by_walking: kernel.count_by_walking,
            events: None,
        },
        enrich,
        lookup,
        selection: Selection {
            only: selection.only,
            except: selection.except,
            min_age: selection.min_age,
            per_object: selection.per_object,
            max_series: selection.max_series,
            program_maps: selection.program_maps,
            holders: selection.holders,
            metrics: metrics.into(),
        },
    }
}

fn owners(flags: OwnerFlags, errors: &mut ConfigErrors) -> (enrich::EnrichOptions, lookup::Settings) {
    let mut sockets = |flag, given| list(flag, given, errors).map_or(Sockets::WellKnown, Sockets::Given);
    let lookup = lookup::Settings {
        root: PathBuf::from("/"),
        cri: sockets("--cri-socket", flags.cri_socket),
        docker: sockets("--docker-socket", flags.docker_socket),
    };
    let enrich = enrich::EnrichOptions {
        bpffs: flags.bpffs,
        pins: PINS_INTERVAL,
        hooks: flags.hooks_interval.into_option(),
        every_netns: flags.every_netns,
        wait_for_hooks: false,
        holders_share: Some(HOLDERS_SHARE),
        events_per_second: 0,
        expected: None,
    };
    (enrich, lookup)
}

/// What variables without a flag say of the resource.
struct Telemetry {
    service_name: Option<String>,
    resource: Vec<(String, String)>,
    node_name: Option<String>,
}

impl Telemetry {
    fn read(environment: &Environment, errors: &mut ConfigErrors, warnings: &mut Vec<String>) -> Self {
        let service_name = environment.read(&otel::SERVICE_NAME, warnings, |text| Ok(text.to_owned()));
        let resource = environment.read(&otel::RESOURCE_ATTRIBUTES, warnings, values::resource_attributes);
        Self {
            service_name: service_name.map(|(_, name)| name),
            resource: resource.map_or_else(Vec::new, |(_, attributes)| attributes),
            node_name: environment.text("NODE_NAME", errors).map(str::to_owned),
        }
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut flags::command(), PROGRAM, &mut script);
    String::from_utf8(script).expect("scripts are text")
}

/// The manual page of the exporter, or of a subcommand.
fn manual(subcommand: Option<&str>) -> String {
    let mut command = flags::command().long_version(None::<&str>);
    command.build();
    if let Some(name) = subcommand {
        let subcommand = command.find_subcommand(name).expect("the parser knows its name").clone();
        command = subcommand.name(format!("{PROGRAM}-{name}"));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).expect("a vector takes everything");
    String::from_utf8(page).expect("a page is text")
}

#[cfg(test)]
mod tests;
