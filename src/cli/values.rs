//! Parsers of the values of flags and variables, with a message for each value that does not parse.

use std::fmt::{self, Display};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use percent_encoding::percent_decode_str;

use crate::kernel::RunStatsMode;
use crate::metrics::select::{is_any_event_like, is_any_like, metric_names};
use crate::model::EventKind;

/// The longest time between two readings.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A port of a host.
    Tcp {
        /// A name or an address; `None` for every address of the host.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: Some(host), port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{}:{port}", host.as_deref().unwrap_or_default()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A value, or the word `none` in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting<T> {
    None,
    Value(T),
}

impl<T> Setting<T> {
    pub(super) fn into_option(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// Parses `none`, or anything else by another parser.
pub(super) fn or_none<T>(
    parse: impl Fn(&str) -> Result<T, String> + Clone,
) -> impl Fn(&str) -> Result<Setting<T>, String> + Clone {
    move |text| if text == "none" { Ok(Setting::None) } else { parse(text).map(Setting::Value) }
}

/// Parses `true` or `false`, for a switch that is off by default.
pub(super) fn true_or_false(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "it is neither true nor false".to_owned())
}

/// The one of several words that is most like a given one, if any is like it. The measure and the threshold are clap's.
pub(super) fn nearest<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = words.into_iter().map(|word| (strsim::jaro(given, word), word));
    let best = likeness.filter(|&(likeness, _)| likeness > 0.7).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    Some(best.1)
}

/// When runs of programs are counted: `on`, `off`, `sample`, `sample=WINDOW/PERIOD`.
pub(super) fn run_stats(text: &str) -> Result<RunStatsMode, String> {
    match text {
        "on" => Ok(RunStatsMode::On),
        "off" => Ok(RunStatsMode::Off),
        "sample" => sample("1s/10s"),
        _ => match text.strip_prefix("sample=") {
            Some(times) => sample(times),
            None => Err(format!("{text:?} is none of on, off, sample, sample=WINDOW/PERIOD")),
        },
    }
}

fn sample(times: &str) -> Result<RunStatsMode, String> {
    let malformed = || format!("{times:?} is not WINDOW/PERIOD, as in 1s/10s");
    let (window, period) = times.split_once('/').ok_or_else(malformed)?;
    let (window, period) = (duration(window)?, duration(period)?);
    if window < Duration::from_millis(100) {
        return Err(format!("{times:?} is too short: the window is at least 100ms"));
    }
    if period <= window {
        return Err(format!("{times:?} leaves no pause: give a longer period after the slash, or on"));
    }
    Ok(RunStatsMode::Sample { window, period: at_most_a_day(times, period)? })
}

/// A directory that exists.
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    match std::fs::metadata(text) {
        Ok(found) if found.is_dir() => Ok(text.into()),
        Ok(_) => Err(format!("{text} is not a directory")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("{text} does not exist")),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

/// Parses the path of a socket, with or without `unix://`, as in Kubernetes' tools. It may not exist before its server starts.
#[expect(clippy::unnecessary_wraps, reason = "the form of all parsers")]
pub(super) fn socket(text: &str) -> Result<PathBuf, String> {
    Ok(text.strip_prefix("unix://").unwrap_or(text).into())
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

/// A number, at least one.
pub(super) fn one_or_more(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| format!("{text:?} is not a number, 1 or more"))
}

/// A number of events per second; 0 for no limit.
pub(super) fn events(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number of events per second, 0 or more"))
}

/// A pattern that matches the name of a metric.
pub(super) fn metric_pattern(text: &str) -> Result<String, String> {
    if is_any_like(text) {
        return Ok(text.to_owned());
    }
    let names = metric_names();
    let near = nearest(text, names.iter().map(String::as_str));
    let advice =
        near.map_or_else(|| "docs/metrics.md lists them".to_owned(), |near| format!("did you mean {near}?"));
    Err(format!("{text:?} matches no metric; {advice}"))
}

/// A pattern of the names of events, which matches one at least.
pub(super) fn event_pattern(text: &str) -> Result<String, String> {
    if is_any_event_like(text) {
        return Ok(text.to_owned());
    }
    let names = EventKind::ALL.map(EventKind::as_str);
    let advice = match nearest(text, names) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", names.join(", ")),
    };
    Err(format!("{text:?} matches no event; {advice}"))
}

/// An address to listen on: a host or nothing, a colon and a port; or `unix:` and a path.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let advice = "give HOST:PORT, unix:/PATH or none";
    let malformed = |what: &str| format!("malformed address {text:?}: {what}; {advice}");
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        // The kernel's limit (`struct sockaddr_un`), less what is appended until the socket is ready.
        return match path {
            _ if !path.starts_with('/') => Err(malformed("the path is not absolute")),
            _ if path.len() > 90 => Err(malformed("the path has more than 90 bytes")),
            _ => Ok(ListenAddress::Unix(path.into())),
        };
    }
    let (host, port) = split_port(text).map_err(|what| malformed(&what))?;
    let port = port.ok_or_else(|| malformed("the port is missing"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(ListenAddress::Tcp { host: (!host.is_empty()).then(|| host.to_owned()), port })
}

/// The path of a page.
pub(super) fn page(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"?#%<>\"".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(legal) {
        return Err(format!(
            "{text:?} is not the path of a page: begin with / and use letters, digits and -._~/"
        ));
    }
    if text.starts_with("/-/") {
        return Err(format!("{text:?} is not free: /-/ is for health and readiness"));
    }
    if text.starts_with("/api/") {
        return Err(format!("{text:?} is not free: /api/ is for events and for the page"));
    }
    if text.starts_with("/assets/") {
        return Err(format!("{text:?} is not free: /assets/ is for the page"));
    }
    Ok(text.to_owned())
}

/// Permission bits, in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("{text:?} is not a mode from 0000 to 0777"))
}

/// A number of requests; 0 for any number.
pub(super) fn requests(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number of requests: give 0 for no limit, or 1 or more"))
}

/// A host without a port, `*`, or `*.` and a domain.
pub(super) fn allowed_host(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text == "*" || (!name.is_empty() && name.bytes().all(legal)) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a host name: give a name without a port, *.DOMAIN or *"))
}

/// Splits `host:port`, `[v6]:port` and either without a port; the brackets stay.
pub(super) fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address needs brackets".to_owned());
    }
    if host.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err("the host contains a space".to_owned());
    }
    let number = |port: &str| port.parse().map_err(|_| format!("{port:?} is not a port from 0 to 65535"));
    Ok((host, port.map(number).transpose()?))
}

/// The time between two readings.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_secs(1) {
        return Err(format!("{text:?} is too short: an interval is at least 1s"));
    }
    at_most_a_day(text, interval)
}

fn at_most_a_day(text: &str, duration: Duration) -> Result<Duration, String> {
    if duration > LONGEST_INTERVAL {
        return Err(format!(
            "{text:?} is too long: an interval is at most 24h, since objects that are loaded and unloaded within one are never seen"
        ));
    }
    Ok(duration)
}

/// A duration of at least 0.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: &str = "ms, s, m, h";
    if text.trim().parse::<f64>().is_ok_and(f64::is_finite) {
        let number = text.trim().trim_start_matches(['-', '+']);
        return Err(format!("{text:?} has no unit: write {number}s, or use another of {UNITS}"));
    }
    let malformed =
        || format!("{text:?} is not a duration: write numbers with a unit of {UNITS}, as in 10s or 1m 30s");
    let span: Span = text.parse().map_err(|_| malformed())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| malformed())?;
    Duration::try_from(duration).map_err(|_| format!("{text:?} is negative"))
}

/// A duration of more than 0.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err(format!("{text:?} is no time at all"));
    }
    Ok(duration)
}

/// No limit, as the OpenTelemetry specification suggests: 49 days.
pub(super) const FOR_EVER: Duration = Duration::from_millis(u32::MAX as u64);

/// A number of milliseconds in OpenTelemetry's variables as a flag has it, with its unit.
pub(super) fn with_unit(text: &str) -> Result<String, String> {
    milliseconds(text).map(|milliseconds| format!("{milliseconds}ms"))
}

/// A limit in OpenTelemetry's variables; `None` for no limit, which is 0 there.
pub(super) fn timeout(text: &str) -> Result<Option<Duration>, String> {
    let limit = Duration::from_millis(milliseconds(text)?).min(FOR_EVER);
    Ok((!limit.is_zero()).then_some(limit))
}

/// A whole number of milliseconds.
fn milliseconds(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a whole number of milliseconds, 0 or more"))
}

/// Where requests are split.
pub(super) fn request_bytes(text: &str) -> Result<usize, String> {
    bytes(text, 64 << 10, 256 << 20)
}

/// How much may wait for the receiver.
pub(super) fn backlog_bytes(text: &str) -> Result<u64, String> {
    bytes(text, 0, 1 << 40)
}

fn bytes<T: Copy + FromStr + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    let bytes = text.parse().ok().filter(|bytes| (&least..=&most).contains(&bytes));
    bytes.ok_or_else(|| format!("{text:?} is not a number of bytes from {least} to {most}"))
}

/// Headers that a request has by itself, and those of its connection.
const OWN_HEADERS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// A list of headers, `name=value,name=value` with percent-encoded values, and what is wrong with the members that it lacks. No message
/// shows a value.
pub(super) fn headers(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut headers, mut problems) = (Vec::new(), Vec::new());
    for member in members(text) {
        match pair(member).and_then(header) {
            Ok(header) => headers.push(header),
            Err(problem) => problems.push(problem),
        }
    }
    (headers, problems)
}

fn header((mut name, value): (String, String)) -> Result<(String, String), String> {
    name.make_ascii_lowercase();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(legal) {
        return Err("its name has other characters than letters, digits, -, _ and .".to_owned());
    }
    if OWN_HEADERS.contains(&name.as_str()) || name.ends_with("-bin") || name.starts_with("grpc-") {
        return Err(format!("{name:?} cannot be set"));
    }
    if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(format!("the value of {name:?} has characters that are not visible ASCII"));
    }
    Ok((name, value))
}

/// A list of attributes: `key=value,key=value`, values percent-encoded.
pub(super) fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let attributes: Vec<_> = members(text).map(pair).collect::<Result<_, _>>()?;
    match attributes.iter().find(|(key, _)| key.is_empty()) {
        Some((_, value)) => Err(format!("the attribute with the value {value:?} has no name")),
        None => Ok(attributes),
    }
}

fn members(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|member| !member.is_empty())
}

/// A member of a list, decoded. It may be a secret: the message does not show it.
fn pair(member: &str) -> Result<(String, String), String> {
    let decode = |part: &str| {
        let decoded = percent_decode_str(part.trim()).decode_utf8();
        decoded.map(String::from).map_err(|_| "it is not UTF-8 when decoded".to_owned())
    };
    let (key, value) = member.split_once('=').ok_or("it has no '='; the form is name=value,name=value")?;
    Ok((decode(key)?, decode(value)?))
}
