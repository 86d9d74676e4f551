//! Transports to a receiver. A transport sends a request and classifies the outcome; the delivery only obeys.
//! Entry points: [`Transport::export`], and [`Fetcher`] for what an exporter serves.
//!
//! `connector` opens a stream, by `tls` and `proxy` if need be; `connection` speaks HTTP on it; `grpc` and `http` say what a
//! request and an answer are in each protocol.

mod answer;
mod connection;
mod connector;
mod fetch;
pub(crate) mod grpc;
pub(crate) mod http;
mod payload;
mod proxy;
mod stream;
mod tls;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use ::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, USER_AGENT};
use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use hyper::body::Incoming;
use rustls::AlertDescription;
use tonic::Code;
use tracing::{debug, warn};

use self::connection::{Cause, Connection};
use self::connector::{Connector, Stage};
pub use self::fetch::Fetcher;
use self::payload::Payload;
pub use self::tls::TlsError;
use self::tls::tls_error;
use super::encode::Request;
use super::settings::{Destination, Endpoint, Protocol};
use crate::error_chain::error_chain;
use crate::text::printable;
use crate::worker::Worker;

/// The longest answer that is read, in bytes: an answer to a request has a few hundred.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Source: the OTLP exporter specification, "User Agent": the product, then the library.
const USER_AGENT_VALUE: &str = concat!(
    "bpf-metrics-exporter/",
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
);

/// A connection to a receiver.
pub struct Transport {
    protocol: Protocol,
    connector: Connector,
    /// The connection of the last request.
    connection: Option<Connection>,
    /// How many connections were opened.
    connections: u64,
    scheme: Scheme,
    authority: Authority,
    /// The path for OTLP/HTTP.
    path: PathAndQuery,
    /// Headers of every request.
    headers: HeaderMap,
    timeout: Duration,
}

/// Invalid settings of a transport.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The header is invalid.
    #[error("failed to use header {0:?}: names are words of ASCII, values visible ASCII")]
    Header(String),
    /// The host or the path cannot be in a request.
    #[error("failed to use the address {0}: host or path has characters that a URL cannot have")]
    Address(String),
    /// The proxy is not supported.
    #[error("failed to use the proxy: {0}")]
    Proxy(&'static str),
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Answer of a receiver that accepted a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Number of items that the receiver rejected nevertheless.
    pub rejected: u64,
    /// Reason for the rejection, or a warning; mostly empty.
    pub message: String,
}

/// A failed attempt to deliver a request.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What failed: repeats are recognised by it, since the text may differ each time.
    pub kind: FailureKind,
    /// Cause of the failure, for the log.
    pub reason: String,
    /// What to do with the request.
    pub remedy: Remedy,
}

/// What failed in an attempt to deliver a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// There is no connection: the name is unknown, or the receiver or its proxy refuses or cannot be reached in time.
    Connect,
    /// The proxy answered the request for a tunnel with this HTTP status.
    Proxy(u16),
    /// There is no TLS session: a certificate is not trusted, expired or for another name. Or it took too long: the receiver did not
    /// answer, or the files for TLS were not read.
    Tls,
    /// The server ended TLS because the client has no certificate.
    CertificateRequired,
    /// There was no answer in time to a request on an open connection.
    Timeout,
    /// The connection ended before the answer did.
    Broken,
    /// The receiver, or what stands before it, answered with this gRPC status.
    Grpc(Code),
    /// The receiver, or what stands before it, answered with this HTTP status.
    Http(u16),
    /// The answer is not one of OTLP.
    Malformed,
    /// The answer is longer than [`MAX_ANSWER_BYTES`].
    AnswerTooLarge,
}

impl FailureKind {
    /// Returns whether the receiver does not have the service, or its path, at all.
    pub(crate) fn is_not_served(self) -> bool {
        matches!(self, Self::Grpc(Code::Unimplemented) | Self::Http(404 | 405 | 501))
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("no connection"),
            Self::Proxy(status) => write!(f, "HTTP status {status} of the proxy"),
            Self::Tls => f.write_str("no TLS session"),
            Self::CertificateRequired => f.write_str("no client certificate"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Broken => f.write_str("broken connection"),
            Self::Grpc(code) => write!(f, "gRPC status {code:?}"),
            Self::Http(status) => write!(f, "HTTP status {status}"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::AnswerTooLarge => f.write_str("too long answer"),
        }
    }
}

/// What to do with a request that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Send it again: the failure may pass.
    Retry(Retry),
    /// Send it in smaller parts: the receiver refuses its size.
    Split,
    /// Drop it: the receiver would refuse it again.
    Drop,
}

/// When to retry a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After the sender's own back-off.
    WithBackoff,
    /// After the delay that the receiver demands.
    After(Duration),
}

impl Failure {
    fn retryable(kind: FailureKind, reason: String) -> Self {
        Self { kind, reason, remedy: Remedy::Retry(Retry::WithBackoff) }
    }

    fn dropping(kind: FailureKind, reason: String) -> Self {
        Self { kind, reason, remedy: Remedy::Drop }
    }

    /// The receiver may have accepted the request, and would answer a repetition as long.
    fn too_large() -> Self {
        let reason = format!("the answer has more than {MAX_ANSWER_BYTES} bytes");
        Self::dropping(FailureKind::AnswerTooLarge, reason)
    }
}

impl Transport {
    /// Returns a transport that connects with its first request, and again after the connection is lost. Names are looked up on the
    /// thread of the resolver.
    ///
    /// # Errors
    ///
    /// Fails if the address, a header, the proxy or a file for TLS cannot be used.
    pub fn new(destination: &Destination, resolver: Worker) -> Result<Self, SetupError> {
        Self::over(Connector::new(destination, resolver)?, destination)
    }

    /// Returns a transport over the streams of a connector.
    fn over(connector: Connector, destination: &Destination) -> Result<Self, SetupError> {
        let invalid = || SetupError::Address(destination.endpoint.to_string());
        let (scheme, authority, path) = match &destination.endpoint {
            Endpoint::Tcp { tls, host, port, path } => {
                let scheme = if *tls { Scheme::HTTPS } else { Scheme::HTTP };
                (scheme, connector::authority(host, *port), path)
            }
            Endpoint::Unix { path, .. } => (Scheme::HTTP, "localhost".to_owned(), path),
        };
        let path = if path.is_empty() { "/" } else { path };
        let path: PathAndQuery = path.parse().map_err(|_| invalid())?;
        let authority = Authority::try_from(authority).map_err(|_| invalid())?;
        let mut headers = given_headers(&destination.headers.0)?;
        if !headers.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        }
        match destination.protocol {
            Protocol::Grpc => headers.extend(grpc::headers(destination.timeout)),
            Protocol::HttpProtobuf => {
                headers.extend(http::headers());
                let host = HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?;
                headers.insert(HOST, host);
            }
        }
        Ok(Self {
            protocol: destination.protocol,
            connector,
            connection: None,
            connections: 0,
            scheme,
            authority,
            path,
            headers,
            timeout: destination.timeout,
        })
    }

    /// Returns how many connections were opened. Behind another one there can be another receiver.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Sends a request. The time limit covers everything, from looking up the name to the end of the answer.
    ///
    /// # Errors
    ///
    /// Fails if the receiver is unreachable, does not answer in time, or refuses the request.
    pub async fn export(&mut self, request: &Request) -> Result<Answer, Failure> {
        if let Ok(result) = tokio::time::timeout(self.timeout, self.attempt(request)).await {
            return result;
        }
        Err(self.timed_out())
    }

    fn timed_out(&self) -> Failure {
        let stage = self.connector.stage;
        Failure::retryable(stage.kind(), format!("{stage} within {:?}", self.timeout))
    }

    async fn attempt(&mut self, request: &Request) -> Result<Answer, Failure> {
        if self.connector.renew().await {
            self.connection = None;
        }
        if let Some(connection) = self.connection.take_if(|connection| !connection.is_closed()) {
            match self.exchange(connection, request).await {
                Ok(result) => return result,
                // It was answered, and would be again.
                Err(error) if causes(&*error).any(is_too_large) => return Err(broken(&*error)),
                Err(error) => debug!("the connection ended: {}; another one is opened", error_chain(&*error)),
            }
        }
        // A receiver may close a connection just when it is used again: that is no failure. The same request on a new one is as a retry.
        let stream = self.connector.connect().await?;
        let connection = Connection::open(stream, self.protocol).await;
        let connection = connection.map_err(|error| broken(&*error))?;
        self.connections += 1;
        self.exchange(connection, request).await.map_err(|error| broken(&*error))?
    }

    /// Sends a request and reads the answer; keeps the connection if it can be used again.
    ///
    /// # Errors
    ///
    /// Fails if the connection ends before the answer begins.
    async fn exchange(
        &mut self,
        mut connection: Connection,
        request: &Request,
    ) -> Result<Result<Answer, Failure>, Cause> {
        self.connector.stage = Stage::Answer;
        let response: ::http::Response<Incoming> = connection.send(self.request(request)).await?;
        let result = match self.protocol {
            Protocol::Grpc => grpc::read(response).await,
            Protocol::HttpProtobuf => http::read(response).await,
        };
        if !matches!(result, Err(Failure { kind: FailureKind::Broken, .. })) {
            connection.finish();
            self.connection = Some(connection);
        }
        Ok(result)
    }

    fn request(&self, request: &Request) -> ::http::Request<Payload> {
        let mut headers = self.headers.clone();
        let (payload, uri) = match self.protocol {
            Protocol::Grpc => {
                let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
                (grpc::request(request, &mut headers), uri.path_and_query(grpc::path(request.items.signal)))
            }
            // A request to an origin has the host in a header.
            Protocol::HttpProtobuf => {
                (http::request(request, &mut headers), Uri::builder().path_and_query(self.path.clone()))
            }
        };
        let mut request = ::http::Request::post(uri.build().expect("its parts were checked")).body(payload);
        let request_headers = request.as_mut().expect("its parts were checked").headers_mut();
        *request_headers = headers;
        request.expect("its parts were checked")
    }
}

/// Returns the headers that the user gave, without those that the protocol sets.
fn given_headers(given: &[(String, String)]) -> Result<HeaderMap, SetupError> {
    /// The protocol depends on them.
    const SET: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING];
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let invalid = || SetupError::Header(name.clone());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        if SET.contains(&name) || name.as_str().starts_with("grpc-") {
            warn!("header {name} is set by the protocol; the given value is ignored");
            continue;
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Describes an answer that is no answer of the protocol: the status and the text, on one line.
fn page(status: StatusCode, text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    let separator = if text.is_empty() { "" } else { ": " };
    printable(format!("HTTP status {status}{separator}{text}").as_bytes())
}

/// Classifies the end of a connection. It is not an answer, whatever the peer may have meant by it, and it may pass.
fn broken(error: &(dyn Error + 'static)) -> Failure {
    let reason = error_chain(error);
    if causes(error).any(is_too_large) {
        return Failure::dropping(
            FailureKind::AnswerTooLarge,
            format!("the head of the answer is too long: {reason}"),
        );
    }
    let kind = if wants_certificate(error) { FailureKind::CertificateRequired } else { FailureKind::Broken };
    Failure::retryable(kind, reason)
}

/// Returns whether the server ended TLS because the client has no certificate.
fn wants_certificate(error: &(dyn Error + 'static)) -> bool {
    let error = causes(error).find_map(|error| tls_error(error.downcast_ref()?));
    matches!(error, Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)))
}

/// Returns an error and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns whether the head of an answer was beyond the limit. In HTTP/2 it is the only error of ours that ends only the stream.
fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    let http = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large);
    let http2 = error.downcast_ref::<h2::Error>();
    http || http2.is_some_and(|error| error.is_library() && error.is_reset())
}
