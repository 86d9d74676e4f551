//! GET requests over the same connections, for what an exporter serves. Entry point: [`Fetcher`].

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use prost::bytes::Bytes;

use super::connection::Connection;
use super::connector::Connector;
use super::payload::Payload;
use super::tls::TlsClient;
use super::{Failure, FailureKind, SetupError, Stage, Transport, broken, page};
use crate::export::otlp::settings::{Destination, Endpoint, Protocol, Secret};
use crate::grpc_response::read_text;
use crate::text::printable;
use crate::worker::Worker;

/// A client of an exporter's endpoint. It has no way to push, since its server may be one whose certificate is not verified.
pub struct Fetcher(Transport);

impl Fetcher {
    /// As [`Transport::new`].
    ///
    /// # Errors
    ///
    /// As [`Transport::new`].
    pub fn new(exporter: &Destination, resolver: Worker) -> Result<Self, SetupError> {
        Transport::new(exporter, resolver).map(Self)
    }

    /// Returns a client of this host's own endpoint, which accepts any certificate: it is for a name that others use, and often signed by
    /// itself. Sends nothing secret. With `tls` a Unix socket is encrypted as well.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be used.
    pub fn unverified(
        endpoint: Endpoint,
        tls: bool,
        timeout: Duration,
        resolver: Worker,
    ) -> Result<Self, SetupError> {
        let exporter = Destination::of_exporter(endpoint, Secret(None), timeout);
        let tls = tls.then(TlsClient::unverified).transpose()?;
        Transport::over(Connector::with_tls(&exporter, tls, resolver)?, &exporter).map(Self)
    }

    /// Requests the document at the path of the server: JSON of at most `limit` bytes. The time limit covers everything, from looking up
    /// the name to the end of the answer.
    ///
    /// # Errors
    ///
    /// Fails if the server is unreachable, does not answer in time, or answers with anything but success.
    pub async fn document(&mut self, limit: usize) -> Result<Bytes, Failure> {
        if let Ok(result) = tokio::time::timeout(self.0.timeout, self.try_document(limit)).await {
            return result;
        }
        Err(self.0.timed_out())
    }

    async fn try_document(&mut self, limit: usize) -> Result<Bytes, Failure> {
        let path = self.0.path.clone();
        let (connection, response) = self.get(&path, "application/json").await?;
        // A path on a socket is no URL that another one can be relative to.
        let base = (!self.0.connector.is_unix()).then(|| Base {
            scheme: self.0.scheme.as_str(),
            authority: self.0.authority.as_str(),
            path: path.path(),
        });
        let document = read(response, limit, base).await?;
        self.keep(connection);
        Ok(document)
    }

    /// Requests a page, whose path follows that of the server. Returns the status and the first line of the answer. The caller sets the
    /// time limit.
    ///
    /// # Errors
    ///
    /// Fails if the server is unreachable, or what it sends is not HTTP.
    pub async fn page(&mut self, page: &'static str) -> Result<(u16, String), Failure> {
        let path = format!("{}{page}", self.0.path.path().trim_end_matches('/'));
        let too_long =
            |error| Failure::dropping(FailureKind::Malformed, format!("failed to use {path}: {error}"));
        let path = path.parse().map_err(too_long)?;
        let (connection, response) = self.get(&path, "*/*").await?;
        let status = response.status().as_u16();
        let text = read_text(response.into_body()).await;
        self.keep(connection);
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Ok((status, printable(line.trim_ascii_end())))
    }

    /// Sends a request, on the kept connection if there is one. Returns the answer with its connection: the body is still to be read.
    async fn get(
        &mut self,
        path: &PathAndQuery,
        accept: &'static str,
    ) -> Result<(Connection, http::Response<Incoming>), Failure> {
        let Self(transport) = self;
        if transport.connector.renew().await {
            transport.connection = None;
        }
        if let Some(mut connection) = transport.connection.take_if(|connection| !connection.is_closed()) {
            transport.connector.stage = Stage::Answer;
            if let Ok(response) = connection.send(request(path, &transport.headers, accept)).await {
                return Ok((connection, response));
            }
        }
        // A server may close a connection just when it is used again: that is no failure.
        let stream = transport.connector.connect().await?;
        let connection = Connection::open(stream, Protocol::HttpProtobuf).await;
        let mut connection = connection.map_err(|error| broken(&*error))?;
        transport.connector.stage = Stage::Answer;
        let response = connection.send(request(path, &transport.headers, accept)).await;
        Ok((connection, response.map_err(|error| broken(&*error))?))
    }

    fn keep(&mut self, mut connection: Connection) {
        connection.finish();
        self.0.connection = Some(connection);
    }
}

fn request(path: &PathAndQuery, headers: &HeaderMap, accept: &'static str) -> http::Request<Payload> {
    let mut request = http::Request::new(Payload::plain(Bytes::new()));
    *request.uri_mut() = path.clone().into();
    request.headers_mut().clone_from(headers);
    request.headers_mut().remove(CONTENT_TYPE);
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
    request
}

async fn read(
    response: http::Response<Incoming>,
    limit: usize,
    base: Option<Base<'_>>,
) -> Result<Bytes, Failure> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let kind = FailureKind::Http(head.status.as_u16());
        if head.status.is_redirection() {
            let reason = redirection(head.status, head.headers.get(LOCATION), base);
            return Err(Failure::retryable(kind, reason));
        }
        return Err(Failure::retryable(kind, page(head.status, &read_text(body).await)));
    }
    let collected = Limited::new(body, limit).collect().await;
    let body = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let reason = format!("the answer has more than {limit} bytes");
            Failure::dropping(FailureKind::AnswerTooLarge, reason)
        } else {
            broken(error.as_ref())
        }
    })?;
    Ok(body.to_bytes())
}

/// What a request was sent to, for redirections relative to it. Source: RFC 3986, section 5.
#[derive(Clone, Copy)]
struct Base<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
}

impl Base<'_> {
    /// Returns the URL of a reference, without a fragment.
    fn resolve(self, reference: &str) -> String {
        let Self { scheme, authority, path } = self;
        let reference = reference.split('#').next().unwrap_or_default();
        let (target, query) = match reference.split_once('?') {
            Some((target, query)) => (target, format!("?{query}")),
            None => (reference, String::new()),
        };
        if has_scheme(target) {
            return reference.to_owned();
        }
        if target.starts_with("//") {
            return format!("{scheme}:{reference}");
        }
        let folder = &path[..=path.rfind('/').unwrap_or_default()];
        let path = match target {
            "" => path.to_owned(),
            _ if target.starts_with('/') => without_dots(target),
            _ => without_dots(&format!("{folder}{target}")),
        };
        format!("{scheme}://{authority}{path}{query}")
    }
}

/// Returns whether a reference is a URL of its own.
fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(is_known)
    })
}

/// Returns a path with each `.` and `..` applied.
fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let is_folder = path.ends_with("/.") || path.ends_with("/..");
    let end = if is_folder && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// Returns what to do about a redirection. It is not followed: credentials are for the server that was given.
///
/// One with a query leads to a login in nearly all cases: the exporter itself has no such URL.
fn redirection(status: StatusCode, location: Option<&HeaderValue>, base: Option<Base<'_>>) -> String {
    let Some(location) = location else {
        return format!("HTTP status {status}: redirections are not followed, and this one names no target");
    };
    let location = printable(location.as_bytes());
    let target = match base {
        Some(base) => base.resolve(&location),
        None => location,
    };
    match target.split_once('?') {
        Some((login, _)) => format!(
            "HTTP status {status}: the server redirects to a login, {login}; give the URL of the exporter itself"
        ),
        None if base.is_some() => {
            format!(
                "HTTP status {status}: redirections are not followed; give the URL of its target, {target}"
            )
        }
        None => format!("HTTP status {status}: redirections are not followed, and this one is to {target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Base<'_> = Base { scheme: "https", authority: "node-7:10048", path: "/bpf/api/v1/snapshot" };

    #[test]
    fn a_reference_is_resolved_against_the_url_of_the_request() {
        for (reference, expected) in [
            ("http://node-8/x", "http://node-8/x"),
            ("http://node-8/a?next=http://b#c", "http://node-8/a?next=http://b"),
            ("//node-8/x", "https://node-8/x"),
            ("/x/y", "https://node-7:10048/x/y"),
            ("/x/./y/../z", "https://node-7:10048/x/z"),
            ("x", "https://node-7:10048/bpf/api/v1/x"),
            ("../../snapshot/", "https://node-7:10048/bpf/snapshot/"),
            ("../../../../..", "https://node-7:10048/"),
            ("..", "https://node-7:10048/bpf/api/"),
            ("?a=b:c", "https://node-7:10048/bpf/api/v1/snapshot?a=b:c"),
            ("x?to=/a/../b", "https://node-7:10048/bpf/api/v1/x?to=/a/../b"),
            ("#x", "https://node-7:10048/bpf/api/v1/snapshot"),
        ] {
            assert_eq!(BASE.resolve(reference), expected, "{reference}");
        }
    }

    #[test]
    fn advice_about_a_redirection_can_be_followed() {
        let advice =
            |location, base| redirection(StatusCode::FOUND, Some(&HeaderValue::from_static(location)), base);
        let expected = "give the URL of its target, https://node-7:10048/metrics/api/v1/snapshot";
        assert!(advice("/metrics/api/v1/snapshot", Some(BASE)).ends_with(expected));
        let login = advice("/oauth2/sign_in?rd=%2Fapi&state=secret", Some(BASE));
        let expected =
            "redirects to a login, https://node-7:10048/oauth2/sign_in; give the URL of the exporter itself";
        assert!(login.ends_with(expected), "{login}");
        assert!(advice("/x", None).ends_with("this one is to /x"), "a socket has no such URL");
        let hostile = HeaderValue::from_bytes(b"/\xff?").expect("it is a value");
        assert!(redirection(StatusCode::FOUND, Some(&hostile), Some(BASE)).contains("redirects to a login"));
    }
}
