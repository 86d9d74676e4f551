//! Settings of the push: where to send, how, and what to keep meanwhile. Entry point: [`Push`].

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use uuid::Uuid;

/// Settings of the push to all destinations.
#[derive(Clone, Debug)]
pub struct Push {
    /// The destinations of metrics.
    pub destinations: Vec<Destination>,
    /// The destinations of logs. With [`Push::destinations`] there is at least one.
    pub logs: Vec<Destination>,
    /// Time between two pushes.
    pub interval: Duration,
    /// Limit of the reading for one push; `None` for no limit.
    pub interval_timeout: Option<Duration>,
    /// Longest time between two points of a series whose value does not change; `None` to send every point in every push.
    pub unchanged_interval: Option<Duration>,
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
    pub headers: Secret<Vec<(String, String)>>,
    /// Limit of a request, from connecting to the end of the answer.
    pub timeout: Duration,
    /// Compression of requests.
    pub compression: CompressionPolicy,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// The HTTP proxy to connect through.
    pub proxy: Option<Secret<Uri>>,
    /// Temporality of counters and histograms.
    pub temporality: Temporality,
}

impl Destination {
    /// Returns an exporter whose pages are requested, with the value of the header `Authorization`.
    #[must_use]
    pub fn of_exporter(endpoint: Endpoint, authorization: Secret<Option<String>>, timeout: Duration) -> Self {
        let headers = authorization.0.map(|value| ("authorization".to_owned(), value));
        Self {
            protocol: Protocol::HttpProtobuf,
            endpoint,
            configured: true,
            headers: Secret(headers.into_iter().collect()),
            timeout,
            compression: Compression::None.into(),
            tls: TlsFiles::default(),
            proxy: None,
            temporality: Temporality::default(),
        }
    }
}

/// What must not be in the log: its `Debug` is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(pub T);

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A protocol of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with binary protobuf.
    HttpProtobuf,
}

/// Where a receiver is. `Display` and `Debug` give its name, for the log and for metrics: a URL without secrets, so that a path of the
/// user's own, which may have a token, is an ellipsis and a short hash of the URL.
#[derive(Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A host and a port.
    Tcp {
        /// Whether the connection is encrypted.
        tls: bool,
        /// A name, an IPv4 address or an IPv6 address without brackets, with a zone if it was given: `fe80::1%eth0`.
        host: String,
        /// The port.
        port: u16,
        /// The path of the signal for OTLP/HTTP, `/v1/metrics` or `/v1/logs` mostly; empty for gRPC.
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

/// The paths that the specification gives.
pub(crate) const METRICS_PATH: &str = "/v1/metrics";
pub(crate) const LOGS_PATH: &str = "/v1/logs";

impl Endpoint {
    /// Returns the whole URL, which identifies the receiver. It may have a secret.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Tcp { path, .. } => format!("{}{path}", self.origin()),
            Self::Unix { .. } => self.origin(),
        }
    }

    /// Returns where the receiver of metrics there takes logs: at the path beside that of metrics. `None` if that of metrics is one of
    /// the user's own.
    #[must_use]
    pub fn of_logs(&self) -> Option<Self> {
        let mut endpoint = self.clone();
        let (Self::Tcp { path, .. } | Self::Unix { path, .. }) = &mut endpoint;
        if !path.is_empty() {
            *path = format!("{}{LOGS_PATH}", path.strip_suffix(METRICS_PATH)?);
        }
        Some(endpoint)
    }

    /// Returns the URL without its path.
    fn origin(&self) -> String {
        match self {
            Self::Tcp { tls, host, port, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    format!("{scheme}://[{host}]:{port}")
                } else {
                    format!("{scheme}://{host}:{port}")
                }
            }
            Self::Unix { socket, .. } => format!("unix:{}", socket.display()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { path, .. } if !["", "/", METRICS_PATH, LOGS_PATH].contains(&&**path) => {
                let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, self.url().as_bytes()).simple().to_string();
                write!(f, "{}/…#{}", self.origin(), &hash[..8])
            }
            _ => f.write_str(&self.url()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

/// Which compression the requests to a destination have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompressionPolicy {
    /// This one.
    Fixed(Compression),
    /// Zstandard, or gzip if the receiver does not accept that.
    Negotiated,
}

impl CompressionPolicy {
    /// Returns the compression of the first request.
    #[must_use]
    pub fn first(self) -> Compression {
        match self {
            Self::Fixed(compression) => compression,
            Self::Negotiated => Compression::Zstd,
        }
    }
}

impl From<Compression> for CompressionPolicy {
    fn from(compression: Compression) -> Self {
        Self::Fixed(compression)
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

/// Temporality of counters and histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Each point is the value since the start of the series.
    #[default]
    Cumulative,
    /// Each point is what came since the last reading that the receiver acknowledged.
    Delta,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(path: &str) -> Destination {
        Destination {
            protocol: Protocol::HttpProtobuf,
            endpoint: Endpoint::Tcp {
                tls: true,
                host: "vendor".to_owned(),
                port: 443,
                path: path.to_owned(),
            },
            configured: true,
            headers: Secret(vec![("api-key".to_owned(), "hunter2".to_owned())]),
            timeout: Duration::from_secs(10),
            compression: CompressionPolicy::Negotiated,
            tls: TlsFiles::default(),
            proxy: Some(Secret("http://user:hunter2@proxy:80".parse().expect("a URL"))),
            temporality: Temporality::Cumulative,
        }
    }

    #[test]
    fn no_secret_is_in_a_name_or_in_debugging_output() {
        let [first, second] = ["/hunter2/v1/metrics", "/hunter22"].map(destination);
        for destination in [&first, &second] {
            let texts = [format!("{destination:?}"), destination.endpoint.to_string()];
            assert!(texts.iter().all(|text| !text.contains("hunter2")), "{texts:?}");
            assert!(destination.endpoint.to_string().starts_with("https://vendor:443/…#"));
            assert!(destination.endpoint.url().contains("hunter2"));
        }
        assert_ne!(first.endpoint.to_string(), second.endpoint.to_string());
        assert_eq!(destination("/v1/metrics").endpoint.to_string(), "https://vendor:443/v1/metrics");
        assert_eq!(destination("").endpoint.to_string(), "https://vendor:443");
    }

    #[test]
    fn logs_have_a_path_beside_that_of_metrics() {
        let of_logs = |path| destination(path).endpoint.of_logs().map(|endpoint| endpoint.url());
        assert_eq!(of_logs("/otlp/v1/metrics").as_deref(), Some("https://vendor:443/otlp/v1/logs"));
        assert_eq!(of_logs("").as_deref(), Some("https://vendor:443"), "gRPC has no paths");
        assert_eq!(of_logs("/ingest"), None);
        let socket = Endpoint::Unix { socket: "/s".into(), path: METRICS_PATH.to_owned() };
        assert_eq!(
            socket.of_logs(),
            Some(Endpoint::Unix { socket: "/s".into(), path: LOGS_PATH.to_owned() })
        );
    }
}
