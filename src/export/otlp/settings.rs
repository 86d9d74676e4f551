//! Settings of the push: where to send, how, and what to keep meanwhile. Entry point: [`Push`].

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

/// Settings of the push to all destinations.
#[derive(Clone, Debug)]
pub struct Push {
    /// The destinations, at least one.
    pub destinations: Vec<Destination>,
    /// Time between two pushes.
    pub interval: Duration,
    /// Limit of reading and encoding for one push; `None` for no limit but the interval.
    pub interval_timeout: Option<Duration>,
    /// Where requests are split, in bytes before compression.
    pub max_request: usize,
    /// Limit of what waits for each destination in memory, in bytes as kept.
    pub backlog: u64,
    /// Where to keep what waits, to survive a restart; `None` for memory only.
    pub backlog_dir: Option<PathBuf>,
}

/// A receiver, and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The protocol.
    pub protocol: Protocol,
    /// Where the receiver is.
    pub endpoint: Endpoint,
    /// Whether a flag or a variable gives the receiver: the default one may not exist.
    pub configured: bool,
    /// Headers of every request. They may have secrets.
    pub headers: Vec<(String, String)>,
    /// Limit of a request, from connecting to the end of the answer.
    pub timeout: Duration,
    /// Compression of requests.
    pub compression: Compression,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// The HTTP proxy to connect through.
    pub proxy: Option<Uri>,
    /// Temporality of counters.
    pub temporality: Temporality,
}

/// A protocol of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with binary protobuf.
    HttpProtobuf,
}

/// Where a receiver is. `Display` gives a URL without secrets, for the log and for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and a port.
    Tcp {
        /// Whether the connection is encrypted.
        tls: bool,
        /// A name, an IPv4 address or an IPv6 address without brackets, with a zone if it was given: `fe80::1%eth0`.
        host: String,
        /// The port.
        port: u16,
        /// The path of metrics for OTLP/HTTP, `/v1/metrics` mostly; empty for gRPC.
        path: String,
    },
    /// A Unix socket. Never encrypted.
    Unix {
        /// The path of the socket.
        socket: PathBuf,
        /// As of [`Endpoint::Tcp`].
        path: String,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { tls, host, port, path } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}{path}")
                } else {
                    write!(f, "{scheme}://{host}:{port}{path}")
                }
            }
            Self::Unix { socket, path: _ } => write!(f, "unix:{}", socket.display()),
        }
    }
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip, which every receiver takes.
    Gzip,
    /// Zstandard, which the Collector takes.
    Zstd,
}

impl Compression {
    /// Returns the name that headers have: `identity`, `gzip`, `zstd`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Files for TLS, in PEM, read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates to trust; `None` for those of the system.
    pub authorities: Option<PathBuf>,
    /// The client's own certificate chain.
    pub certificate: Option<PathBuf>,
    /// The key of [`TlsFiles::certificate`].
    pub key: Option<PathBuf>,
}

/// Temporality of counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Each point is the value since the start of the series.
    #[default]
    Cumulative,
    /// Each point is what came since the last reading that the receiver acknowledged.
    Delta,
}
