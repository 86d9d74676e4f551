//! Where a receiver is, as flags and variables have it. Entry points: [`of_grpc_flag`], [`of_http_flag`], [`of_variable`].
//!
//! Without a scheme a flag means plaintext and a variable means TLS, as the OpenTelemetry specification has it. Unix sockets and `dns:`
//! are written as in gRPC's naming.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use base64::Engine as _;
use percent_encoding::percent_decode_str;

use super::values::split_port;
use crate::export::otlp::encode::Signal;
use crate::export::otlp::settings::{Endpoint, LOGS_PATH, METRICS_PATH, Protocol, Secret};

/// The port of OTLP/gRPC.
const GRPC_PORT: u16 = 4317;
/// The port of OTLP/HTTP.
const HTTP_PORT: u16 = 4318;

/// The port of the exporter's own endpoint.
const EXPORTER_PORT: u16 = 10048;
/// The path of a snapshot as JSON.
const SNAPSHOT_PATH: &str = "/api/v1/snapshot";

/// What a text says of a receiver.
struct Place<'t> {
    at: At,
    /// From the first slash on; empty for none.
    path: &'t str,
    /// Whether there is a query or a fragment.
    has_query: bool,
    /// Whether a `dns:` name has a server to query.
    has_dns_server: bool,
}

enum At {
    Host {
        /// Whether the scheme asks for TLS; `None` without a scheme.
        tls: Option<bool>,
        host: String,
        port: Option<u16>,
    },
    Socket(PathBuf),
}

/// How the variable of an endpoint is to be understood.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) protocol: Protocol,
    pub(super) signal: Signal,
    /// Whether `OTEL_EXPORTER_OTLP_INSECURE` is set, and to what.
    pub(super) insecure: Option<bool>,
    /// Whether it is the variable for all signals.
    pub(super) is_general: bool,
}

/// The value of `--otlp-grpc`.
pub(super) fn of_grpc_flag(text: &str) -> Result<Endpoint, String> {
    const ADVICE: &str =
        "give HOST:PORT, http://HOST:PORT, https://HOST:PORT, unix:/PATH, dns:HOST:PORT, or none";
    let place = place(text, ADVICE)?;
    if !matches!(place.path, "" | "/") || place.has_query {
        return Err(malformed(text, "OTLP over gRPC takes no path", ADVICE));
    }
    Ok(match place.at {
        At::Socket(socket) => Endpoint::Unix { socket, path: String::new() },
        At::Host { tls, host, port } => {
            let tls = tls.unwrap_or(false);
            let port = port.unwrap_or(if tls { 443 } else { GRPC_PORT });
            Endpoint::Tcp { tls, host, port, path: String::new() }
        }
    })
}

/// The value of `--otlp-http`. A URL without a path gets that of metrics.
pub(super) fn of_http_flag(text: &str) -> Result<Endpoint, String> {
    const ADVICE: &str = "give http://HOST:PORT, https://HOST:PORT, unix:/PATH, or none";
    let place = place(text, ADVICE)?;
    if place.has_query {
        return Err(malformed(text, "a query or a fragment is not sent", ADVICE));
    }
    let path = if matches!(place.path, "" | "/") { METRICS_PATH } else { place.path };
    let path = path.to_owned();
    Ok(match place.at {
        At::Socket(socket) => Endpoint::Unix { socket, path },
        At::Host { tls, host, port } => {
            let tls = tls.unwrap_or(false);
            let port = port.unwrap_or(if tls { 443 } else { HTTP_PORT });
            Endpoint::Tcp { tls, host, port, path }
        }
    })
}

/// Another exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExporterUrl {
    pub(super) endpoint: Endpoint,
    pub(super) authorization: Secret<Option<String>>,
}

/// Parses the URL of an exporter whose snapshots are read.
pub(super) fn exporter(text: &str) -> Result<ExporterUrl, String> {
    let (endpoint, authorization) = of_exporter(text, SNAPSHOT_PATH)?;
    Ok(ExporterUrl { endpoint, authorization: Secret(authorization) })
}

/// Parses the URL of an exporter whose health is asked for.
pub(super) fn healthy(text: &str) -> Result<ExporterUrl, String> {
    let (endpoint, authorization) = of_exporter(text, "")?;
    Ok(ExporterUrl { endpoint, authorization: Secret(authorization) })
}

/// The value of `--url`: an exporter, and the value of the header `Authorization` where there is a user in it. `page` follows the path, which
/// is a prefix, unless it ends in it.
fn of_exporter(text: &str, page: &str) -> Result<(Endpoint, Option<String>), String> {
    const ADVICE: &str = "give http://[USER:PASSWORD@]HOST:PORT, https://... or unix:/PATH";
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let is_unix = without_scheme(text, "unix:").is_some();
    // The message does not show what may be a password.
    if !is_unix && rest[authority_end..].contains('@') {
        return Err(format!(
            "there is a slash before the @: in a user or a password, write / as %2F, @ as %40 and % as %25; {ADVICE}"
        ));
    }
    let credentials = rest[..authority_end].rfind('@').filter(|_| !is_unix);
    let (credentials, plain) = match credentials {
        Some(at) => (Some(&rest[..at]), format!("{scheme}://{}", &rest[at + 1..]).into()),
        None => (None, Cow::Borrowed(text)),
    };
    let credentials = credentials.map(|given| {
        let given = percent_decode_str(given).collect::<Vec<_>>();
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(given))
    });
    let Place { at, path, has_query, .. } = place(&plain, ADVICE)?;
    if has_query {
        return Err(malformed(&plain, "a query or a fragment is not sent", ADVICE));
    }
    let prefix = path.trim_end_matches('/');
    let path = if prefix.ends_with(page) { prefix.to_owned() } else { format!("{prefix}{page}") };
    let endpoint = match at {
        At::Socket(socket) => Endpoint::Unix { socket, path },
        At::Host { tls, host, port } => {
            let (tls, port) = (tls.unwrap_or(false), port.unwrap_or(EXPORTER_PORT));
            Endpoint::Tcp { tls, host, port, path }
        }
    };
    Ok((endpoint, credentials))
}

/// The value of the variable `name`. What of it has no effect is a warning.
pub(super) fn of_variable(
    name: &str,
    text: &str,
    context: Context,
    warnings: &mut Vec<String>,
) -> Result<Endpoint, String> {
    const ADVICE: &str = "give http://HOST:PORT, https://HOST:PORT, HOST:PORT, unix:/PATH or dns:HOST:PORT";
    let Context { protocol, signal, insecure, is_general } = context;
    let standard_path = path_of(signal);
    let Place { at, path, has_query, has_dns_server } = place(text, ADVICE)?;
    if has_query {
        warnings.push(format!("{name}: the query and the fragment of the URL are not sent"));
    }
    if has_dns_server {
        warnings.push(format!(
            "{name}: names are looked up as the system does it, not at the server of the dns: URL"
        ));
    }
    let path = match protocol {
        Protocol::Grpc => {
            if !matches!(path, "" | "/") {
                warnings.push(format!(
                    "{name}: the path {path:?} is ignored, since OTLP over gRPC has none; for OTLP over HTTP set \
                     OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
                ));
            }
            String::new()
        }
        Protocol::HttpProtobuf if is_general => {
            format!("{}{standard_path}", path.strip_suffix('/').unwrap_or(path))
        }
        Protocol::HttpProtobuf if path.is_empty() => "/".to_owned(),
        Protocol::HttpProtobuf => path.to_owned(),
    };
    let (given_tls, host, given_port) = match at {
        At::Socket(socket) => {
            // A socket has no URL with a path of its own.
            let path = if protocol == Protocol::Grpc { path } else { standard_path.to_owned() };
            return Ok(Endpoint::Unix { socket, path });
        }
        At::Host { tls, host, port } => (tls, host, port),
    };
    let tls = given_tls.unwrap_or(insecure != Some(true));
    if given_tls.is_none() && insecure.is_none() {
        warnings.push(format!(
            "{name} has no scheme, which means TLS; write http:// before the host, or set OTEL_EXPORTER_OTLP_INSECURE=true, for \
             plaintext"
        ));
    }
    if protocol == Protocol::Grpc && given_port == Some(HTTP_PORT) {
        warnings.push(format!(
            "{name}: {HTTP_PORT} is the usual port of OTLP over HTTP, but gRPC is used; set \
             OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf for HTTP"
        ));
    }
    let port = given_port.unwrap_or(match (protocol, given_tls) {
        // As for any URL.
        (_, Some(true)) => 443,
        (Protocol::HttpProtobuf, Some(false)) => 80,
        (Protocol::HttpProtobuf, None) => HTTP_PORT,
        (Protocol::Grpc, _) => GRPC_PORT,
    });
    Ok(Endpoint::Tcp { tls, host, port, path })
}

/// The receiver where neither a flag nor a variable gives one.
pub(super) fn by_default(protocol: Protocol, signal: Signal) -> Endpoint {
    let (port, path) = match protocol {
        Protocol::Grpc => (GRPC_PORT, ""),
        Protocol::HttpProtobuf => (HTTP_PORT, path_of(signal)),
    };
    Endpoint::Tcp { tls: false, host: "localhost".to_owned(), port, path: path.to_owned() }
}

/// Where a signal is received over HTTP.
fn path_of(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => METRICS_PATH,
        Signal::Logs => LOGS_PATH,
    }
}

/// Whether what is sent stays on this host.
pub(super) fn is_local(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Unix { .. } => true,
        Endpoint::Tcp { host, .. } => is_loopback(host),
    }
}

/// Whether a host is this one by its name or address.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address = host.split_once('%').map_or(host, |(address, _)| address).parse();
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(is_loopback)
}

/// Takes a text apart. A scheme has any case.
fn place<'t>(text: &'t str, advice: &str) -> Result<Place<'t>, String> {
    if text.contains('@') && without_scheme(text, "unix:").is_none() {
        // The message does not show them.
        return Err(format!(
            "an endpoint has no credentials; they belong in OTEL_EXPORTER_OTLP_HEADERS; {advice}"
        ));
    }
    let malformed = |what: &str| malformed(text, what, advice);
    if let Some(rest) = without_scheme(text, "unix:") {
        let path = match rest.strip_prefix("//") {
            Some(path) if !path.starts_with('/') => {
                return Err(malformed("the path after unix:// begins with a slash"));
            }
            Some(path) => path,
            None => rest,
        };
        if path.is_empty() {
            return Err(malformed("the path of the socket is missing"));
        }
        let at = At::Socket(path.into());
        return Ok(Place { at, path: "", has_query: false, has_dns_server: false });
    }
    let (mut tls, mut rest, mut has_dns_server) = (None, text, false);
    if let Some(target) = without_scheme(text, "dns:") {
        rest = target;
        if let Some(target) = target.strip_prefix("//") {
            let (server, name) =
                target.split_once('/').ok_or_else(|| malformed("the name after dns://SERVER/ is missing"))?;
            (rest, has_dns_server) = (name, !server.is_empty());
        }
    } else if let Some(target) = without_scheme(text, "https://") {
        (tls, rest) = (Some(true), target);
    } else if let Some(target) = without_scheme(text, "http://") {
        (tls, rest) = (Some(false), target);
    } else if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("unknown scheme {scheme:?} in {:?}; {advice}", shown(text)));
    }
    let (rest, has_query) = match rest.find(['?', '#']) {
        Some(end) => (&rest[..end], true),
        None => (rest, false),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    // An empty port is the default one, as in any URL.
    let authority = if tls.is_some() { authority.strip_suffix(':').unwrap_or(authority) } else { authority };
    let (host, port) = split_port(authority).map_err(|what| malformed(&what))?;
    let host = plain_host(host).map_err(|what| malformed(&what))?;
    Ok(Place { at: At::Host { tls, host, port }, path, has_query, has_dns_server })
}

/// A host without its brackets; a zone may be written with `%25`, as in URLs.
fn plain_host(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let (address, zone) = match literal.split_once('%') {
            Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
            None => (literal, None),
        };
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{address:?} is not an IPv6 address"));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        return match zone {
            None => Ok(address.to_owned()),
            Some(zone) if !zone.is_empty() && zone.bytes().all(is_name) => Ok(format!("{address}%{zone}")),
            Some(zone) => Err(format!("{zone:?} is not a zone of an IPv6 address")),
        };
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if host.bytes().all(is_name) {
        Ok(host.to_owned())
    } else {
        Err("the host has characters that names have not".to_owned())
    }
}

fn without_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn malformed(text: &str, what: &str, advice: &str) -> String {
    format!("malformed endpoint {:?}: {what}; {advice}", shown(text))
}

/// A text without its query, which may have a secret.
fn shown(text: &str) -> &str {
    text.find(['?', '#']).map_or(text, |end| &text[..end])
}
