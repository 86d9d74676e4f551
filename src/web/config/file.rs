//! The text of a configuration file: its keys, and what their values may be. Entry point: [`read`].
//!
//! Source: `docs/web-configuration.md` in github.com/prometheus/exporter-toolkit.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::{Span, SpanRelativeTo};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::rate::Rate;
use super::section::{Mistake, TlsSection};
use super::users::{Users, costs, is_hash};
use super::{Config, ConfigError, tls};

/// Headers that may be set, and their values where only some make sense.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    tls_server_config: Option<TlsSection>,
    http_server_config: Option<HttpSection>,
    rate_limit: Option<RateSection>,
    basic_auth_users: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpSection {
    http2: Option<bool>,
    headers: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateSection {
    interval: Option<Interval>,
    burst: Option<u32>,
}

/// A duration as Go writes it, or a number of nanoseconds.
struct Interval(Duration);

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Interval;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as 1s or 500ms")
            }

            fn visit_u64<E: de::Error>(self, nanoseconds: u64) -> Result<Interval, E> {
                Ok(Interval(Duration::from_nanos(nanoseconds)))
            }

            fn visit_i64<E: de::Error>(self, nanoseconds: i64) -> Result<Interval, E> {
                u64::try_from(nanoseconds)
                    .map_err(|_| E::custom("a negative duration"))
                    .and_then(|n| self.visit_u64(n))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Interval, E> {
                if let Ok(nanoseconds) = text.parse() {
                    return self.visit_u64(nanoseconds);
                }
                let span: Option<Span> = text.parse().ok();
                let duration =
                    span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
                let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
                duration.map(Interval).ok_or_else(|| E::custom("not a duration such as 1s or 500ms"))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Reads a configuration file and the files that it names.
pub(super) fn read(path: &Path) -> Result<Config, ConfigError> {
    let failed = |line, problem| ConfigError { path: path.to_owned(), line, problem };
    let bytes = super::read(path).map_err(|error| failed(None, error.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(None, "not UTF-8".to_owned()))?;
    let root = parse(text).map_err(|(line, problem)| failed(line, problem))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    build(root, path, folder)
        .map_err(|Mistake { key, problem }| failed(line_of(text, key), format!("{key}: {problem}")))
}

pub(super) fn parse(text: &str) -> Result<Root, (Option<u64>, String)> {
    let is_blank =
        |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---";
    if text.lines().all(is_blank) {
        return Ok(Root::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line());
        let message = error.without_snippet().to_string();
        (line, without_values(message.lines().next().unwrap_or_default()))
    })
}

/// Leaves out what a message quotes of the file: it may be a secret.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}...{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

/// Returns the line where a key is.
fn line_of(text: &str, key: &str) -> Option<u64> {
    let is_key = |line: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    (1..).zip(text.lines()).find(|(_, line)| is_key(line)).map(|(number, _)| number)
}

fn build(root: Root, path: &Path, folder: &Path) -> Result<Config, Mistake> {
    let http = root.http_server_config.unwrap_or_default();
    let http2 = http.http2.unwrap_or(true);
    let headers = headers(http.headers.unwrap_or_default())?;
    let users = root.basic_auth_users.unwrap_or_default();
    if let Some((user, _)) = users.iter().find(|(_, hash)| !is_hash(hash)) {
        let problem =
            format!("the password of {user:?} is not a bcrypt hash: make one with htpasswd -nB {user}");
        return Err(Mistake::new("basic_auth_users", problem));
    }
    let rate = root.rate_limit.unwrap_or_default();
    let interval = rate.interval.map_or(Duration::ZERO, |interval| interval.0);
    let mut tls = root.tls_server_config.unwrap_or_default();
    for file in [&mut tls.cert_file, &mut tls.key_file, &mut tls.client_ca_file] {
        // An empty name counts as none.
        *file = file.take().filter(|name| !name.as_os_str().is_empty()).map(|name| folder.join(name));
    }
    let named = [&tls.cert_file, &tls.key_file, &tls.client_ca_file].into_iter().flatten().cloned();
    let files = std::iter::once(path.to_owned()).chain(named).collect();
    let mut warnings = Vec::new();
    let server = tls::server(&tls, http2, &mut warnings)?;
    if let Some((least, most)) = costs(users.values()).filter(|(least, most)| least != most) {
        warnings.push(format!(
            "basic_auth_users: the hashes have costs from {least} to {most}, so that the time of an answer shows who is a \
             user; hash all passwords with the same cost"
        ));
    }
    Ok(Config {
        tls: server.map(Arc::new),
        headers,
        users: (!users.is_empty()).then(|| Users::new(users).into()),
        rate: (!interval.is_zero()).then(|| Rate::new(interval, rate.burst.unwrap_or(0)).into()),
        warnings,
        files,
    })
}

fn headers(given: HashMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, Mistake> {
    let mut headers = Vec::new();
    for (name, value) in given {
        let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = HEADERS.iter().map(|(known, _)| *known).collect();
            let problem = format!("{name} cannot be set, only {}", known.join(", "));
            return Err(Mistake::new("headers", problem));
        };
        if value.is_empty() {
            continue;
        }
        if !values.is_empty() && !values.contains(&&*value) {
            return Err(Mistake::new(
                "headers",
                format!("the value of {name} is none of {}", values.join(", ")),
            ));
        }
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value).ok());
        headers.push(
            parsed
                .ok_or_else(|| Mistake::new("headers", format!("the value of {name} is no header value")))?,
        );
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_line_and_quote_no_value() {
        let error = |text: &str| parse(text).err().expect("it is wrong");
        let (line, problem) = error("tls_server_config:\n  cert_file: a\n  cert_flie: b\n");
        assert!(line == Some(3) && problem.contains("cert_flie"), "{line:?} {problem}");
        let (_, problem) = error("basic_auth_users: \"hunter2\"\n");
        assert!(!problem.contains("hunter2"), "{problem}");
        let (_, problem) = error("basic_auth_users:\n  a: [hunter2]\n");
        assert!(!problem.contains("hunter2"), "{problem}");
        assert_eq!(line_of("a:\n  key_file: x\n", "key_file"), Some(2));
    }

    #[test]
    fn empty_files_and_sections_are_valid() {
        for text in
            ["", "# nothing\n", "---\n", "tls_server_config:\nbasic_auth_users:\n", "rate_limit: {}\n"]
        {
            assert!(parse(text).is_ok(), "{text:?}");
        }
        for text in
            ["hello", "- a\n- b\n", "tls_server_config: 5\n", "a: b: c\n", "rate_limit:\n  interval: soon\n"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn intervals_are_gos() {
        let interval = |text: &str| {
            let root = parse(&format!("rate_limit:\n  interval: {text}\n  burst: 3\n"));
            root.ok()?.rate_limit?.interval.map(|interval| interval.0)
        };
        assert_eq!(interval("1h"), Some(Duration::from_hours(1)));
        assert_eq!(interval("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(interval("0"), Some(Duration::ZERO));
        assert_eq!(interval("1000"), Some(Duration::from_micros(1)));
        assert_eq!(interval("-1s"), None);
    }
}
