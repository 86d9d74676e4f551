//! Every variable of the OpenTelemetry specification that an exporter of metrics and events meets: what it does here. Entry points:
//! [`ALL`], from which `docs/opentelemetry-variables.md` is made by [`markdown`], and a constant for each variable that is read.
//!
//! Source: the specification's pages "Environment Variable Specification", "OpenTelemetry Protocol Exporter" and "Metrics Exporter -
//! OTLP".

use std::fmt::Write as _;

use crate::export::otlp::encode::Signal;

/// A variable of the specification.
#[derive(Debug)]
pub(super) struct Variable {
    /// Its name.
    pub(super) name: &'static str,
    /// The names of its variants for metrics and for logs, each of which wins for its signal.
    variants: Option<[&'static str; 2]>,
    state: State,
    /// What it does here, with the values that it takes.
    effect: &'static str,
    /// What holds without it.
    default: &'static str,
}

/// What becomes of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has the effect that the specification describes.
    Honoured,
    /// It is checked. There is nothing here that it could change.
    Accepted,
    /// It is answered by a warning.
    Warned,
    /// It is about traces, propagation, or logs in a way that events are not.
    OtherSignal,
}

impl Variable {
    /// All of its names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.variants.into_iter().flatten().chain([self.name])
    }

    /// Its names for a signal, the one that wins first.
    pub(super) fn names_for(&self, signal: Signal) -> impl Iterator<Item = &'static str> {
        let variant = self.variants.map(|[metrics, logs]| match signal {
            Signal::Metrics => metrics,
            Signal::Logs => logs,
        });
        variant.into_iter().chain([self.name])
    }
}

const fn honoured(
    name: &'static str,
    variants: Option<[&'static str; 2]>,
    effect: &'static str,
    default: &'static str,
) -> Variable {
    Variable { name, variants, state: State::Honoured, effect, default }
}

const fn warned(name: &'static str, effect: &'static str) -> Variable {
    Variable { name, variants: None, state: State::Warned, effect, default: "" }
}

const fn accepted(name: &'static str, effect: &'static str) -> Variable {
    Variable { name, variants: None, state: State::Accepted, effect, default: "" }
}

const fn other(name: &'static str, effect: &'static str) -> Variable {
    Variable { name, variants: None, state: State::OtherSignal, effect, default: "" }
}

pub(super) const SDK_DISABLED: Variable = honoured(
    "OTEL_SDK_DISABLED",
    None,
    "`true`: nothing is pushed or printed, whatever flags and other variables say. The Prometheus endpoint stays: \
     `--web.listen-address none` disables it",
    "`false`",
);
pub(super) const METRICS_EXPORTER: Variable = honoured(
    "OTEL_METRICS_EXPORTER",
    None,
    "A list. `otlp`: push to the receiver of the variables below. `console`: print each reading to standard output, in Prometheus' \
     text format. `prometheus`: the endpoint, which is served in any case. `none`: nothing. A list without `otlp` disables the push, \
     except to receivers that flags give",
    "`otlp`",
);
pub(super) const LOGS_EXPORTER: Variable = honoured(
    "OTEL_LOGS_EXPORTER",
    None,
    "`otlp`: events are pushed as logs to the receiver of the variables below, and to those that flags give. `none`: nowhere. As \
     `--no-event-logs`, which wins",
    "`otlp` where a receiver of logs is given, or metrics are pushed to the default one",
);
pub(super) const RESOURCE_ATTRIBUTES: Variable = honoured(
    "OTEL_RESOURCE_ATTRIBUTES",
    None,
    "Attributes of the resource: `key=value,key=value`, percent-encoded. They win over what is detected. One malformed member \
     discards the whole value, as specified",
    "",
);
pub(super) const SERVICE_NAME: Variable = honoured(
    "OTEL_SERVICE_NAME",
    None,
    "The attribute `service.name`. Wins over OTEL_RESOURCE_ATTRIBUTES",
    "`bpf-metrics-exporter`",
);
pub(super) const LOG_LEVEL: Variable = honoured(
    "OTEL_LOG_LEVEL",
    None,
    "The level of the log, as `--log.level`: `error`, `warn`, `info`, `debug`; `fatal` counts as `error`, `trace` as `debug`",
    "`info`",
);
pub(super) const EXPORT_INTERVAL: Variable = honoured(
    "OTEL_METRIC_EXPORT_INTERVAL",
    None,
    "The time between two pushes in milliseconds, as `--interval`: from 1000 to 86400000",
    "`10000`; the specification has 60000",
);
pub(super) const EXPORT_TIMEOUT: Variable = honoured(
    "OTEL_METRIC_EXPORT_TIMEOUT",
    None,
    "The limit of a reading for a push in milliseconds: one that takes longer is not pushed; `0` is no limit. The time of a \
     request is OTEL_EXPORTER_OTLP_TIMEOUT",
    "no limit; the specification has 30000",
);
pub(super) const ENDPOINT: Variable = honoured(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    Some(["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]),
    "The receiver: a URL, `HOST:PORT`, `unix:/PATH` or `dns:HOST:PORT`. Without a scheme TLS is used, unless \
     OTEL_EXPORTER_OTLP_INSECURE says otherwise. Over HTTP the general variable is a base, to which `v1/metrics` or `v1/logs` is \
     added, and that for a signal is used as it is; over gRPC a path is ignored with a warning. With `--otlp-grpc` or `--otlp-http` \
     only that for logs is used",
    "`http://localhost:4317`; over HTTP `http://localhost:4318`",
);
pub(super) const PROTOCOL: Variable = honoured(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    Some(["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"]),
    "`grpc` or `http/protobuf`. `http/json` is a warning, and `http/protobuf` is used. With `--otlp-grpc` or `--otlp-http` it \
     is only used for OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "`grpc`; the specification prefers `http/protobuf`",
);
pub(super) const INSECURE: Variable = honoured(
    "OTEL_EXPORTER_OTLP_INSECURE",
    Some(["OTEL_EXPORTER_OTLP_METRICS_INSECURE", "OTEL_EXPORTER_OTLP_LOGS_INSECURE"]),
    "`true`: no TLS for an endpoint without a scheme. It also permits headers and client keys for a receiver beyond this host \
     without TLS, which are refused otherwise",
    "`false`",
);
pub(super) const CERTIFICATE: Variable = honoured(
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    Some(["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE"]),
    "A file with the certificates to trust, in PEM; read again when it changes",
    "the system's",
);
pub(super) const CLIENT_KEY: Variable = honoured(
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    Some(["OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY"]),
    "A file with the key of the client's certificate, in PEM; read again when it changes",
    "",
);
pub(super) const CLIENT_CERTIFICATE: Variable = honoured(
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    Some(["OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE"]),
    "A file with the client's certificate and its chain, in PEM; read again when it changes. Needs the key as well",
    "",
);
pub(super) const HEADERS: Variable = honoured(
    "OTEL_EXPORTER_OTLP_HEADERS",
    Some(["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"]),
    "Headers of every request: `name=value,name=value`, values percent-encoded. A malformed member is left out with a warning that \
     does not show it",
    "",
);
pub(super) const COMPRESSION: Variable = honoured(
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    Some(["OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION"]),
    "`none`, `gzip` or `zstd`, as `--otlp-compression`",
    "`zstd`, or `gzip` if the receiver does not accept that; `none` on this host",
);
pub(super) const TIMEOUT: Variable = honoured(
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    Some(["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"]),
    "The limit of a request in milliseconds, from connecting to the end of the answer; `0` is no limit",
    "`10000`",
);
pub(super) const TEMPORALITY: Variable = honoured(
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    None,
    "`cumulative`, `delta`, or `lowmemory`, which is cumulative for the counters and histograms of this exporter, since they are \
     asynchronous",
    "`cumulative`",
);
pub(super) const HISTOGRAMS: Variable = accepted(
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "`base2_exponential_bucket_histogram`, which is what is sent. `explicit_bucket_histogram` is a warning",
);
pub(super) const EXEMPLARS: Variable = accepted(
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "`always_on`, `always_off` or `trace_based`. There are no exemplars, since there are no traces",
);
pub(super) const PROMETHEUS_HOST: Variable = honoured(
    "OTEL_EXPORTER_PROMETHEUS_HOST",
    None,
    "The host of the Prometheus endpoint. Unused with `--web.listen-address`",
    "`127.0.0.1`",
);
pub(super) const PROMETHEUS_PORT: Variable = honoured(
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    None,
    "The port of the Prometheus endpoint. Unused with `--web.listen-address`",
    "`10048`; the specification has 9464",
);
pub(super) const CONFIG_FILE: Variable =
    warned("OTEL_CONFIG_FILE", "A configuration file of SDKs is not read; flags and variables are");
pub(super) const EXPERIMENTAL_CONFIG_FILE: Variable =
    warned("OTEL_EXPERIMENTAL_CONFIG_FILE", "The former name of OTEL_CONFIG_FILE");
pub(super) const METRIC_INSECURE: Variable = warned(
    "OTEL_EXPORTER_OTLP_METRIC_INSECURE",
    "Obsolete in the specification. OTEL_EXPORTER_OTLP_METRICS_INSECURE is its present name",
);

/// Every variable of the specification, in the order of the page.
pub(super) const ALL: [Variable; 50] = [
    SDK_DISABLED,
    METRICS_EXPORTER,
    LOGS_EXPORTER,
    RESOURCE_ATTRIBUTES,
    SERVICE_NAME,
    LOG_LEVEL,
    EXPORT_INTERVAL,
    EXPORT_TIMEOUT,
    ENDPOINT,
    PROTOCOL,
    INSECURE,
    CERTIFICATE,
    CLIENT_KEY,
    CLIENT_CERTIFICATE,
    HEADERS,
    COMPRESSION,
    TIMEOUT,
    TEMPORALITY,
    HISTOGRAMS,
    EXEMPLARS,
    PROMETHEUS_HOST,
    PROMETHEUS_PORT,
    CONFIG_FILE,
    EXPERIMENTAL_CONFIG_FILE,
    METRIC_INSECURE,
    other("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "Attributes of metrics and resources are exempt from it"),
    other("OTEL_ATTRIBUTE_COUNT_LIMIT", "Attributes of metrics and resources are exempt from it"),
    other("OTEL_PROPAGATORS", PROPAGATION),
    other("OTEL_TRACES_SAMPLER", TRACES),
    other("OTEL_TRACES_SAMPLER_ARG", TRACES),
    other("OTEL_TRACES_EXPORTER", TRACES),
    other("OTEL_BSP_SCHEDULE_DELAY", TRACES),
    other("OTEL_BSP_EXPORT_TIMEOUT", TRACES),
    other("OTEL_BSP_MAX_QUEUE_SIZE", TRACES),
    other("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", TRACES),
    other("OTEL_BLRP_SCHEDULE_DELAY", BATCHES),
    other("OTEL_BLRP_EXPORT_TIMEOUT", BATCHES),
    other("OTEL_BLRP_MAX_QUEUE_SIZE", BATCHES),
    other("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", BATCHES),
    other("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", TRACES),
    other("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", TRACES),
    other("OTEL_SPAN_EVENT_COUNT_LIMIT", TRACES),
    other("OTEL_SPAN_LINK_COUNT_LIMIT", TRACES),
    other("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", TRACES),
    other("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", TRACES),
    other("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", LOGS),
    other("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", LOGS),
    other("OTEL_EXPORTER_ZIPKIN_ENDPOINT", TRACES),
    other("OTEL_EXPORTER_ZIPKIN_TIMEOUT", TRACES),
    other("OTEL_EXPORTER_OTLP_SPAN_INSECURE", TRACES),
];

const TRACES: &str = "Traces";
const LOGS: &str = "Logs. Text in events has bounds of its own";
const BATCHES: &str = "Logs. Events are sent in batches of at most 512, after a second at most";
const PROPAGATION: &str = "Propagation of contexts";

/// The beginnings of names by which a variable is taken to be meant for an exporter of metrics and events.
const OURS: [&str; 5] =
    ["OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_PROMETHEUS_", "OTEL_METRIC_", "OTEL_METRICS_", "OTEL_LOGS_"];

/// The beginnings of names of OTLP variables of other signals.
const OTHER_SIGNALS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_PROFILES_"];

/// Whether a name looks like that of a variable for metrics or logs and is none.
pub(super) fn is_unknown(name: &str) -> bool {
    OURS.iter().any(|prefix| name.starts_with(prefix))
        && !OTHER_SIGNALS.iter().any(|prefix| name.starts_with(prefix))
        && !ALL.iter().any(|variable| variable.names().any(|known| known == name))
}

/// The names of all variables that concern metrics or events.
pub(super) fn known_names() -> impl Iterator<Item = &'static str> {
    let ours = ALL.iter().filter(|variable| variable.state != State::OtherSignal);
    ours.flat_map(Variable::names)
}

/// The variables that are honoured.
pub(super) fn honoured_variables() -> impl Iterator<Item = &'static Variable> {
    ALL.iter().filter(|variable| variable.state == State::Honoured)
}

/// The page `docs/opentelemetry-variables.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(PAGE_START);
    for state in [State::Honoured, State::Accepted, State::Warned, State::OtherSignal] {
        let (title, text) = section(state);
        let _infallible = write!(page, "\n## {title}\n\n{text}\n\n");
        let rows = ALL.iter().filter(|variable| variable.state == state);
        if state == State::Honoured {
            page.push_str("| variable | for metrics, for logs | effect | default |\n|---|---|---|---|\n");
            for Variable { name, variants, effect, default, .. } in rows {
                let variants =
                    variants.map_or_else(String::new, |[metrics, logs]| format!("`{metrics}`, `{logs}`"));
                let _infallible = writeln!(page, "| `{name}` | {variants} | {effect} | {default} |");
            }
        } else {
            page.push_str("| variable | |\n|---|---|\n");
            for Variable { name, effect, .. } in rows {
                let _infallible = writeln!(page, "| `{name}` | {effect} |");
            }
        }
    }
    page.push_str(PAGE_END);
    page
}

fn section(state: State) -> (&'static str, &'static str) {
    match state {
        State::Honoured => (
            "Honoured",
            "A variable for metrics or for logs wins over the general one beside it. Events are exported as logs.",
        ),
        State::Accepted => ("Without effect", "Known values are accepted, others are a warning."),
        State::Warned => ("Answered by a warning", "One warning at the start says what to do instead."),
        State::OtherSignal => (
            "Not about metrics or events",
            "These are ignored without a warning, and so is every `OTEL_EXPORTER_OTLP_TRACES_*` and\n\
             `OTEL_EXPORTER_OTLP_PROFILES_*`.",
        ),
    }
}

const PAGE_START: &str = "\
# OpenTelemetry's variables

<!-- Made of the table in src/cli/otel.rs; UPDATE=1 cargo test --test rootless -- generated -->

Every variable of the OpenTelemetry specification that an exporter of metrics and events may find set, and what it does
here. The command line wins over `BPF_METRICS_EXPORTER_*`, which wins over `OTEL_*`. An empty variable counts as unset.
A value that cannot be used is one warning, and the variable counts as unset; only an endpoint that cannot be
understood, and credentials that would be sent without encryption, end the program with exit code 2.

The subcommands read `OTEL_LOG_LEVEL` and no other of these variables.
";

const PAGE_END: &str = "
## Not in the specification

| variable | effect |
|---|---|
| `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` | The proxy for receivers with TLS, without TLS, and for both: \
`http://[USER:PASSWORD@]HOST:PORT`. Lower-case names win |
| `NO_PROXY` | Receivers that are reached directly: a list of names (with all below them), `.SUFFIX`, addresses, CIDR ranges, each with \
an optional port, or `*`. Receivers on this host never need it |
| `NODE_NAME` | The attribute `k8s.node.name`, unless `--node-name` or OTEL_RESOURCE_ATTRIBUTES has it |

Any other variable that begins with `OTEL_EXPORTER_OTLP_`, `OTEL_EXPORTER_PROMETHEUS_`, `OTEL_METRIC_`, `OTEL_METRICS_`
or `OTEL_LOGS_` is a warning with the nearest name that exists.
";
