//! State of the exporter itself, which is no part of a reading.

use std::sync::Arc;

use serde::Serialize;

use super::host::OwnProcess;
use super::time::BootTime;

/// State of the exporter at one moment.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// The program's build.
    pub build: Build,
    /// Its process; `None` if it could not be read.
    pub process: Option<OwnProcess>,
    /// Attributes of its OpenTelemetry resource.
    pub resource: Arc<[(String, String)]>,
    /// Lines of its log that were lost since its start.
    pub lost_log_lines: u64,
    /// Receivers over OTLP; empty without one.
    pub destinations: Vec<Destination>,
    /// Delivery over OTLP; `None` without a receiver.
    pub delivery: Option<Delivery>,
}

impl Exporter {
    /// Returns the state of an exporter of which nothing but its build is known, and that delivers to nothing.
    #[must_use]
    pub fn of(build: Build) -> Self {
        Self {
            build,
            process: None,
            resource: Arc::default(),
            lost_log_lines: 0,
            destinations: Vec::new(),
            delivery: None,
        }
    }
}

/// A receiver over OTLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The value that distinguishes it from other receivers, the endpoint; `None` if there is only one.
    pub destination: Option<Arc<str>>,
    /// Scheme, host, port and path, without secrets: `http://localhost:4317`.
    pub endpoint: Arc<str>,
    /// Whether a flag or a variable gives it: the default receiver may not exist.
    pub configured: bool,
}

/// Version, source revision and compiler of the program.
#[derive(Clone, Debug)]
pub struct Build {
    /// When this process started.
    pub started_at: BootTime,
    /// Version of the package.
    pub version: &'static str,
    /// Source revision; `None` unless built from a checkout.
    pub revision: Option<&'static str>,
    /// Version of the compiler; `None` if the build could not query it.
    pub rustc: Option<&'static str>,
}

/// Counters of the delivery over OTLP, to each destination.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Points by outcome at the receiver.
    pub points: Vec<Tally>,
    /// Dropped points by reason.
    pub dropped: Vec<Tally>,
    /// Log records by outcome at the receiver; empty if none are pushed.
    pub log_records: Vec<Tally>,
    /// Dropped log records by reason; empty if none are pushed.
    pub dropped_log_records: Vec<Tally>,
    /// Requests by outcome.
    pub requests: Vec<Tally>,
    /// Requests waiting to be sent.
    pub backlog: Vec<Backlog>,
}

/// One of several counters that differ in a label.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The receiver, as [`Destination::endpoint`]; `None` if there is only one.
    pub destination: Option<Arc<str>>,
    /// Value of the label.
    pub label: &'static str,
    /// Value of the counter.
    pub count: u64,
    /// Start of the counter.
    pub since: BootTime,
}

/// Requests waiting to be sent to one receiver.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// The receiver, as [`Destination::endpoint`]; `None` if there is only one.
    pub destination: Option<Arc<str>>,
    /// Size as kept, in bytes.
    pub bytes: u64,
    /// Start of the series: the exporter's start.
    pub since: BootTime,
}

/// A setting in force, as it may be shown: without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingInForce {
    /// The flag with its dashes, or the variable where there is no flag.
    pub name: String,
    /// Its value; those of a repeatable flag are separated by commas.
    pub value: String,
    /// What sets it.
    pub origin: SettingOrigin,
}

/// What sets a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingOrigin {
    /// The command line.
    Flag,
    /// A variable.
    Environment,
    /// Nothing: it has its default.
    Default,
}

impl SettingOrigin {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Default => "default",
        }
    }
}
