//! The push: flags and variables of OTLP, brought together. Entry point: [`resolve`].

mod logs;

use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::{self, Context};
use super::environment::Environment;
use super::flags::OtlpFlags;
use super::otel::{self, Variable};
use super::values;
use super::{ConfigErrors, list, proxy};
use crate::export::otlp::encode::Signal;
use crate::export::otlp::settings::{
    Compression, CompressionPolicy, Destination, Endpoint, Protocol, Push, Secret, Temporality, TlsFiles,
};

/// The most receivers: each has a queue of its own.
const MAX_DESTINATIONS: usize = 16;

/// The limit of a request by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the Prometheus endpoint is by default.
const LISTEN_HOST: &str = "127.0.0.1";
const LISTEN_PORT: u16 = 10048;

/// What is exported without being scraped.
pub(super) struct Pushed {
    /// To receivers.
    pub(super) push: Option<Push>,
    /// To standard output.
    pub(super) console: Option<Duration>,
}

/// Makes the settings of the push from flags and variables.
pub(super) fn resolve(
    flags: OtlpFlags,
    environment: &Environment,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> Pushed {
    let grpc = list("--otlp-grpc", flags.otlp_grpc, errors);
    let http = list("--otlp-http", flags.otlp_http, errors);
    let is_given = grpc.is_some() || http.is_some();
    let given = [(Protocol::Grpc, grpc), (Protocol::HttpProtobuf, http)];
    let given: Vec<_> = given
        .into_iter()
        .flat_map(|(protocol, endpoints)| {
            endpoints.unwrap_or_default().into_iter().map(move |endpoint| (protocol, endpoint))
        })
        .collect();
    let exporters = Exporters::read(environment, warnings);
    warn_of_unused(environment, warnings);
    if environment.read_bool(Signal::Metrics, &otel::SDK_DISABLED, warnings) == Some(true) {
        if !given.is_empty() {
            warnings
                .push("OTEL_SDK_DISABLED=true: nothing is pushed, although flags give a receiver".to_owned());
        }
        return Pushed { push: None, console: None };
    }
    let console = exporters.console.then_some(flags.interval);
    let insecure = environment.read_bool(Signal::Metrics, &otel::INSECURE, warnings);
    let (receivers, configured) = if is_given {
        (given.clone(), true)
    } else if exporters.otlp {
        let (receiver, name) = from_variables(Signal::Metrics, insecure, environment, errors, warnings);
        (receiver.into_iter().collect(), name.is_some())
    } else {
        (Vec::new(), false)
    };
    check_list(&receivers, errors);
    if let Some(unchanged) = flags.unchanged_interval.filter(|unchanged| *unchanged <= flags.interval) {
        let interval = flags.interval;
        errors.lines.push(format!(
            "--unchanged-interval {unchanged:?} is not longer than --interval {interval:?}: every push would have every point"
        ));
    }
    let mut destinations = Vec::new();
    if !receivers.is_empty() {
        let shared = Shared::read(Signal::Metrics, insecure, flags.otlp_compression, environment, warnings);
        for (protocol, endpoint) in receivers {
            shared.check(&endpoint, errors, warnings);
            let proxy = proxy::of(&endpoint, environment, warnings);
            destinations.push(shared.destination(protocol, endpoint, configured, proxy));
        }
    }
    let logs = if flags.event_logs {
        let of_metrics = logs::OfMetrics { given: is_given.then_some(given), destinations: &destinations };
        logs::resolve(of_metrics, flags.otlp_compression, environment, errors, warnings)
    } else {
        Vec::new()
    };
    if destinations.is_empty() && logs.is_empty() {
        return Pushed { push: None, console };
    }
    let push = Push {
        destinations,
        logs,
        interval: flags.interval,
        interval_timeout: environment
            .read(&otel::EXPORT_TIMEOUT, warnings, values::timeout)
            .and_then(|(_, timeout)| timeout),
        unchanged_interval: flags.unchanged_interval,
        max_request: flags.otlp_max_request_bytes,
        backlog: flags.otlp_backlog_bytes,
        backlog_dir: flags.otlp_backlog_dir,
    };
    Pushed { push: Some(push), console }
}

/// Warns of variables of metrics exporters that change nothing here, whether something is pushed or not.
fn warn_of_unused(environment: &Environment, warnings: &mut Vec<String>) {
    for name in [&otel::CONFIG_FILE, &otel::EXPERIMENTAL_CONFIG_FILE].map(|variable| variable.name) {
        if environment.get(name).is_some() {
            warnings
                .push(format!("{name} is ignored: no configuration file is read; use flags and variables"));
        }
    }
    if environment.get(otel::METRIC_INSECURE.name).is_some() {
        warnings.push(format!(
            "{} is ignored: it is obsolete; set OTEL_EXPORTER_OTLP_METRICS_INSECURE",
            otel::METRIC_INSECURE.name
        ));
    }
    environment.read(&otel::HISTOGRAMS, warnings, |text| match word(text).as_str() {
        "base2_exponential_bucket_histogram" => Ok(()),
        "explicit_bucket_histogram" => Err("histograms are base2_exponential_bucket_histogram".to_owned()),
        _ => {
            Err(format!("{text:?} is none of explicit_bucket_histogram, base2_exponential_bucket_histogram"))
        }
    });
    check_words(&otel::EXEMPLARS, &["always_on", "always_off", "trace_based"], environment, warnings);
}

/// Refuses what no queue can be made for.
fn check_list(receivers: &[(Protocol, Endpoint)], errors: &mut ConfigErrors) {
    if receivers.len() > MAX_DESTINATIONS {
        errors.lines.push(format!("{} receivers are more than {MAX_DESTINATIONS}", receivers.len()));
    }
    for (at, (_, endpoint)) in receivers.iter().enumerate() {
        if receivers[..at].iter().any(|(_, other)| other.url() == endpoint.url()) {
            errors.lines.push(format!("the receiver {endpoint} is given twice"));
        }
    }
}

/// The receiver of a signal by the variables, with the name of the one that gives it; the default one without a name.
fn from_variables(
    signal: Signal,
    insecure: Option<bool>,
    environment: &Environment,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> (Option<(Protocol, Endpoint)>, Option<&'static str>) {
    let mut downgraded = None;
    let protocol = environment.read_for(signal, &otel::PROTOCOL, warnings, |text| {
        Ok(match word(text).as_str() {
            "grpc" => (Protocol::Grpc, false),
            "http/protobuf" => (Protocol::HttpProtobuf, false),
            "http/json" => (Protocol::HttpProtobuf, true),
            _ => return Err(format!("{text:?} is none of grpc, http/protobuf")),
        })
    });
    let protocol = protocol.map_or(Protocol::Grpc, |(name, (protocol, is_json))| {
        downgraded = is_json.then_some(name);
        protocol
    });
    if let Some(name) = downgraded {
        warnings.push(format!("{name}=http/json is not supported: http/protobuf is used"));
    }
    let text = environment.read_for(signal, &otel::ENDPOINT, warnings, |text| Ok(text.trim()));
    let Some((name, text)) = text.filter(|(_, text)| !text.is_empty()) else {
        return (Some((protocol, endpoint::by_default(protocol, signal))), None);
    };
    let context = Context { protocol, signal, insecure, is_general: name == otel::ENDPOINT.name };
    let endpoint = endpoint::of_variable(name, text, context, warnings);
    (errors.keep(name, endpoint).map(|endpoint| (protocol, endpoint)), Some(name))
}

/// What `OTEL_METRICS_EXPORTER` selects.
struct Exporters {
    otlp: bool,
    console: bool,
}

impl Exporters {
    fn read(environment: &Environment, warnings: &mut Vec<String>) -> Self {
        let mut unknown = Vec::new();
        let list = environment.read(&otel::METRICS_EXPORTER, warnings, |text| Ok(text.split(',').map(word)));
        let Some((name, words)) = list else { return Self { otlp: true, console: false } };
        let (mut exporters, mut known) = (Self { otlp: false, console: false }, 0);
        for word in words.filter(|word| !word.is_empty()) {
            known += 1;
            match word.as_str() {
                "otlp" => exporters.otlp = true,
                "console" => exporters.console = true,
                // The endpoint is a matter of --web.listen-address.
                "prometheus" | "none" => {}
                _ => {
                    known -= 1;
                    unknown.push(word);
                }
            }
        }
        for word in unknown {
            let list = "otlp, console, prometheus, none";
            warnings.push(format!("{name}: {word:?} is ignored; there are {list}"));
        }
        // A list of nothing that is known counts as unset.
        exporters.otlp |= known == 0;
        exporters
    }
}

/// What all receivers of a signal have in common.
struct Shared {
    /// Whether credentials may be sent without TLS.
    insecure: Option<bool>,
    headers: Vec<(String, String)>,
    timeout: Duration,
    /// `None` to choose by the receiver.
    compression: Option<Compression>,
    tls: TlsFiles,
    temporality: Temporality,
}

impl Shared {
    /// `compression` is that of the flag, which wins.
    fn read(
        signal: Signal,
        insecure: Option<bool>,
        compression: Option<Compression>,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Self {
        let headers =
            environment.read_for(signal, &otel::HEADERS, warnings, |text| Ok(values::headers(text)));
        let (headers, problems) = match headers {
            Some((name, (headers, problems))) => (
                headers,
                problems
                    .into_iter()
                    .map(|problem| format!("{name}: a header is left out: {problem}"))
                    .collect(),
            ),
            None => (Vec::new(), Vec::new()),
        };
        warnings.extend(problems);
        let timeout = environment.read_for(signal, &otel::TIMEOUT, warnings, values::timeout);
        let compression = compression.or_else(|| {
            let compression =
                environment.read_for(signal, &otel::COMPRESSION, warnings, |text| {
                    match word(text).as_str() {
                        "none" => Ok(Compression::None),
                        "gzip" => Ok(Compression::Gzip),
                        "zstd" => Ok(Compression::Zstd),
                        _ => Err(format!("{text:?} is none of none, gzip, zstd")),
                    }
                });
            compression.map(|(_, compression)| compression)
        });
        let temporality = environment.read(&otel::TEMPORALITY, warnings, |text| match word(text).as_str() {
            // Low memory is delta for synchronous counters only.
            "cumulative" | "lowmemory" => Ok(Temporality::Cumulative),
            "delta" => Ok(Temporality::Delta),
            _ => Err(format!("{text:?} is none of cumulative, delta, lowmemory")),
        });
        Self {
            insecure,
            headers,
            timeout: timeout.map_or(TIMEOUT, |(_, timeout)| timeout.unwrap_or(values::FOR_EVER)),
            compression,
            tls: tls_files(signal, environment, warnings),
            temporality: temporality.map_or_else(Temporality::default, |(_, temporality)| temporality),
        }
    }

    /// Returns whether it has the same as this for [`Self::check`].
    fn has_credentials_of(&self, other: &Self) -> bool {
        self.insecure == other.insecure && self.headers == other.headers && self.tls == other.tls
    }

    /// Refuses to send credentials that others could read, and warns of settings of TLS where there is none.
    fn check(&self, endpoint: &Endpoint, errors: &mut ConfigErrors, warnings: &mut Vec<String>) {
        if matches!(endpoint, Endpoint::Tcp { tls: true, .. }) {
            return;
        }
        let what = if !self.headers.is_empty() {
            "headers, which may have credentials"
        } else if self.tls.key.is_some() {
            "a client key"
        } else if self.tls.authorities.is_some() {
            "certificates to trust"
        } else {
            return;
        };
        let is_credential = !self.headers.is_empty() || self.tls.key.is_some();
        if is_credential && !endpoint::is_local(endpoint) && self.insecure != Some(true) {
            errors.lines.push(format!(
                "{endpoint} is reached without TLS, but variables set {what}; give an https:// URL, or set \
                 OTEL_EXPORTER_OTLP_INSECURE=true to allow that"
            ));
        } else if self.tls != TlsFiles::default() {
            warnings.push(format!(
                "{endpoint} is reached without TLS: certificates and keys have no effect there"
            ));
        }
    }

    fn destination(
        &self,
        protocol: Protocol,
        endpoint: Endpoint,
        configured: bool,
        proxy: Option<http::Uri>,
    ) -> Destination {
        let by_default = if endpoint::is_local(&endpoint) {
            CompressionPolicy::Fixed(Compression::None)
        } else {
            CompressionPolicy::Negotiated
        };
        Destination {
            protocol,
            configured,
            headers: Secret(self.headers.clone()),
            timeout: self.timeout,
            compression: self.compression.map_or(by_default, CompressionPolicy::Fixed),
            tls: self.tls.clone(),
            proxy: proxy.map(Secret),
            temporality: self.temporality,
            endpoint,
        }
    }
}

/// The files for TLS. Half of a client's certificate and key is no use.
fn tls_files(signal: Signal, environment: &Environment, warnings: &mut Vec<String>) -> TlsFiles {
    let mut file =
        |variable| environment.read_for(signal, variable, warnings, |text| Ok(PathBuf::from(text)));
    let (authorities, certificate, key) =
        (file(&otel::CERTIFICATE), file(&otel::CLIENT_CERTIFICATE), file(&otel::CLIENT_KEY));
    let authorities = authorities.map(|(_, file)| file);
    match (certificate, key) {
        (Some((_, certificate)), Some((_, key))) => {
            TlsFiles { authorities, certificate: Some(certificate), key: Some(key) }
        }
        (None, None) => TlsFiles { authorities, ..TlsFiles::default() },
        (certificate, key) => {
            let missing = if key.is_none() { &otel::CLIENT_KEY } else { &otel::CLIENT_CERTIFICATE };
            for (name, _) in certificate.into_iter().chain(key) {
                warnings.push(format!("{name} is ignored: {} is not set", missing.name));
            }
            TlsFiles { authorities, ..TlsFiles::default() }
        }
    }
}

/// Warns of a value that the specification does not have, for a variable that changes nothing here.
fn check_words(variable: &Variable, words: &[&str], environment: &Environment, warnings: &mut Vec<String>) {
    environment.read(variable, warnings, |text| {
        if words.contains(&word(text).as_str()) {
            Ok(())
        } else {
            Err(format!("{text:?} is none of {}", words.join(", ")))
        }
    });
}

/// A word of a variable, in lower case.
fn word(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

/// Values of flags that variables of the specification give where neither the flag nor its own variable is set: the id of the flag,
/// and what it would be given.
pub(super) fn as_flag(
    id: &str,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Option<(&'static str, String)> {
    match id {
        "interval" => environment.read(&otel::EXPORT_INTERVAL, warnings, |text| {
            let interval = values::with_unit(text)?;
            values::interval(&interval).map(|_| interval)
        }),
        "log_level" => environment.read(&otel::LOG_LEVEL, warnings, |text| {
            let level = match word(text).as_str() {
                "fatal" | "error" => "error",
                "warn" | "warning" => "warn",
                "info" => "info",
                "debug" | "trace" => "debug",
                _ => return Err(format!("{text:?} is none of error, warn, info, debug")),
            };
            Ok(level.to_owned())
        }),
        "web_listen_address" => prometheus_address(environment, warnings),
        _ => None,
    }
}

/// The address of the Prometheus endpoint by the specification's variables.
fn prometheus_address(
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Option<(&'static str, String)> {
    let host = environment.read(&otel::PROMETHEUS_HOST, warnings, |text| {
        let host = text.trim().trim_matches(['[', ']']);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        values::listen_address(&format!("{host}:0")).map(|_| host)
    });
    let port = environment.read(&otel::PROMETHEUS_PORT, warnings, |text| {
        text.trim().parse::<u16>().map_err(|_| format!("{text:?} is not a port from 0 to 65535"))
    });
    let name = host.as_ref().map(|(name, _)| *name).or(port.map(|(name, _)| name))?;
    let host = host.map_or_else(|| LISTEN_HOST.to_owned(), |(_, host)| host);
    Some((name, format!("{host}:{}", port.map_or(LISTEN_PORT, |(_, port)| port))))
}
