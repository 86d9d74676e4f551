//! What the value of each setting may be, and what to say when it is something else.

use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use jiff::SignedDuration;
use percent_encoding::percent_decode_str;

use super::ListenAddress;

/// Least severity of what is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            _ => Err(format!("{text:?} is none of error, warn, info, debug")),
        }
    }
}

/// Form of what is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither text nor json")),
        }
    }
}

/// Form of a reading on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum SnapshotFormat {
    #[default]
    Table,
    Json,
    Prometheus,
}

impl FromStr for SnapshotFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "prometheus" => Ok(Self::Prometheus),
            _ => Err(format!("{text:?} is none of table, json, prometheus")),
        }
    }
}

/// How to read the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum KernelReader {
    #[default]
    Auto,
    Iter,
    Walk,
}

impl FromStr for KernelReader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "iter" => Ok(Self::Iter),
            "walk" => Ok(Self::Walk),
            _ => Err(format!("{text:?} is none of auto, iter, walk")),
        }
    }
}

/// Whether to have the runs of programs counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunStats {
    /// All the time.
    #[default]
    On,
    /// Not by us.
    Off,
    /// For a part of the time.
    Sample {
        /// How long at a time.
        lasting: Duration,
        /// How often.
        every: Duration,
    },
}

impl FromStr for RunStats {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            "sample" => sample("1s/10s"),
            _ => match text.strip_prefix("sample=") {
                Some(times) => sample(times),
                None => Err(format!("{text:?} is none of on, off, sample, sample=LASTING/EVERY")),
            },
        }
    }
}

fn sample(times: &str) -> Result<RunStats, String> {
    let malformed = || format!("{times:?} is not LASTING/EVERY, as in 1s/10s");
    let (lasting, every) = times.split_once('/').ok_or_else(malformed)?;
    let (lasting, every) = (duration(lasting)?, duration(every)?);
    if lasting < Duration::from_millis(100) {
        return Err(format!("{times:?} is too short: a sample lasts at least 100 ms"));
    }
    if every <= lasting {
        return Err(format!("{times:?} leaves no pause: give a longer time behind the slash, or on"));
    }
    Ok(RunStats::Sample { lasting, every })
}

/// Whether something is done.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{text:?} is neither on nor off")),
    }
}

/// A number of entries, at least one.
pub(super) fn capacity(text: &str) -> Result<u32, String> {
    let entries = text.parse().ok().filter(|&entries| entries > 0);
    entries.ok_or_else(|| format!("{text:?} is not a number of entries from 1 to {}", u32::MAX))
}

/// A number of series, at least one.
pub(super) fn series(text: &str) -> Result<u64, String> {
    let series = text.parse().ok().filter(|&series| series > 0);
    series.ok_or_else(|| format!("{text:?} is not a number of series, 1 or more"))
}

/// A receiver: `none`, a host with or without a port, or a URL.
pub(super) fn receiver(text: &str) -> Result<Option<Uri>, String> {
    if text == "none" {
        return Ok(None);
    }
    let advice = "give HOST:PORT, http://HOST:PORT, https://HOST:PORT, or none";
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    if scheme != "http" && scheme != "https" {
        return Err(format!("unknown scheme {scheme:?} in {text:?}; {advice}"));
    }
    let malformed = |what: &str| format!("malformed endpoint {text:?}: {what}; {advice}");
    let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |end| rest.split_at(end));
    if !matches!(path, "" | "/") {
        return Err(malformed("OTLP over gRPC takes no path"));
    }
    if authority.contains('@') {
        return Err(malformed("credentials belong in OTEL_EXPORTER_OTLP_HEADERS"));
    }
    let (host, port) = split_port(authority).map_err(|what| malformed(&what))?;
    if host.is_empty() {
        return Err(malformed("the host is missing"));
    }
    let port = port.unwrap_or(if scheme == "https" { 443 } else { 4317 });
    let uri = format!("{scheme}://{host}:{port}").parse().map_err(|error| malformed(&format!("{error}")))?;
    Ok(Some(uri))
}

/// A place to listen on: a host or nothing, a colon and a port.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let advice = "give HOST:PORT or none";
    let malformed = |what: &str| format!("malformed address {text:?}: {what}; {advice}");
    let (host, port) = split_port(text).map_err(|what| malformed(&what))?;
    let port = port.ok_or_else(|| malformed("the port is missing"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(ListenAddress { host: (!host.is_empty()).then(|| host.to_owned()), port })
}

/// Splits `host:port`, `[v6]:port` and either without a port; the brackets stay.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address stands in brackets".to_owned());
    }
    if host.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err("the host has a space in it".to_owned());
    }
    let number = |port: &str| port.parse().map_err(|_| format!("{port:?} is not a port from 0 to 65535"));
    Ok((host, port.map(number).transpose()?))
}

/// The time between two pushes, as people write it.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    at_least_a_second(text, duration(text)?)
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration like 10s or 1m 30s"))?;
    Duration::try_from(duration).map_err(|_| format!("{text:?} is negative"))
}

/// The time between two pushes, as OpenTelemetry's variables have it.
pub(super) fn interval_milliseconds(text: &str) -> Result<Duration, String> {
    at_least_a_second(text, milliseconds(text)?)
}

fn at_least_a_second(text: &str, duration: Duration) -> Result<Duration, String> {
    if duration < Duration::from_secs(1) {
        return Err(format!("{text:?} is too short: an interval is at least one second"));
    }
    Ok(duration)
}

/// A time in whole milliseconds, more than none.
pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.trim().parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a number of milliseconds above 0")),
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
    }
}

/// A number of bytes within limits.
pub(super) fn bytes(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let bytes = text.parse().ok().filter(|bytes| (least..=most).contains(bytes));
    bytes.ok_or_else(|| format!("{text:?} is not a number of bytes from {least} to {most}"))
}

/// A list of headers: `name=value,name=value`, values percent-encoded.
pub(super) fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut headers = pairs(text, "name=value,name=value")?;
    for (name, value) in &mut headers {
        name.make_ascii_lowercase();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(legal) || name.ends_with("-bin") || name.starts_with("grpc-")
        {
            return Err(format!("{name:?} is not a header that can be set: use letters, digits, -, _ and ."));
        }
        if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(format!("the value of header {name:?} has characters that are not visible ASCII"));
        }
    }
    Ok(headers)
}

/// A list of attributes: `key=value,key=value`, values percent-encoded.
pub(super) fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let attributes = pairs(text, "key=value,key=value")?;
    match attributes.iter().find(|(key, _)| key.is_empty()) {
        Some((_, value)) => Err(format!("the attribute with the value {value:?} has no name")),
        None => Ok(attributes),
    }
}

fn pairs(text: &str, form: &str) -> Result<Vec<(String, String)>, String> {
    let decode = |part: &str| {
        let decoded = percent_decode_str(part.trim()).decode_utf8();
        decoded.map(String::from).map_err(|_| format!("{part:?} is not UTF-8 when decoded"))
    };
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    members
        .map(|member| {
            // A secret may stand here: the message shows the name only, and only when there is one.
            let (key, value) =
                member.split_once('=').ok_or_else(|| format!("a member has no '='; the form is {form}"))?;
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}
