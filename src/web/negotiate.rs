//! The format and the compression of an answer, by what the client accepts. Entry points: [`format`](format()) and [`coding`].
//!
//! Source: "Content Negotiation" in RFC 9110. The most specific range that matches decides on a format's weight.

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Text,
    OpenMetrics,
    Protobuf,
}

/// How an answer is compressed on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// Returns the value of `Content-Encoding`; `None` for no header.
    pub(super) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// A member of a list with weights.
struct Member<'a> {
    value: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths.
    weight: u16,
}

/// Returns the members of the values of a header. Those that are malformed are left out.
fn members<'a>(values: &'a [&'a str]) -> impl Iterator<Item = Member<'a>> {
    values.iter().flat_map(|value| split(value, ',')).filter_map(|member| {
        let mut parts = split(member, ';').map(str::trim);
        let mut member = Member { value: parts.next()?, parameters: Vec::new(), weight: 1000 };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("q") {
                member.weight = weight(value)?;
            } else {
                member.parameters.push((name, value.trim_matches('"')));
            }
        }
        Some(member)
    })
}

/// Splits at a character outside of quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == at && !quoted
    })
}

/// Parses a weight: from 0 to 1, with at most three digits after the point.
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// Returns the format that `Accept` prefers: of those with the same weight the first one named, and text if it accepts none.
pub(super) fn format(accept: &[&str]) -> Format {
    let members: Vec<Member<'_>> = members(accept).collect();
    let preference = |format: Format| {
        let matching =
            members.iter().enumerate().filter_map(|(at, member)| Some((specificity(format, member)?, at)));
        let (_, at) = matching.max_by_key(|&(specificity, at)| (specificity, std::cmp::Reverse(at)))?;
        let weight = members[at].weight;
        (weight > 0).then_some((weight, std::cmp::Reverse(at)))
    };
    // Of formats that one range matches, text wins: `max_by_key` returns the last.
    let formats = [Format::Protobuf, Format::OpenMetrics, Format::Text];
    let accepted = formats.into_iter().filter_map(|format| Some((preference(format)?, format)));
    accepted.max_by_key(|&(preference, _)| preference).map_or(Format::Text, |(_, format)| format)
}

/// Returns how exactly a range describes a format; `None` if it does not match.
fn specificity(format: Format, member: &Member<'_>) -> Option<usize> {
    let is = |name: &str| member.value.eq_ignore_ascii_case(name);
    // What is only of interest for names beyond ASCII makes no difference for ours.
    let has = |name: &str, wanted: &str| {
        member.parameters.iter().all(|(given, value)| !given.eq_ignore_ascii_case(name) || *value == wanted)
    };
    let says = |name: &str| member.parameters.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let exact = match format {
        Format::Text => is("text/plain") && has("version", "0.0.4"),
        Format::OpenMetrics => is("application/openmetrics-text") && has("version", "1.0.0"),
        Format::Protobuf => {
            is("application/vnd.google.protobuf")
                && says("proto")
                && has("proto", "io.prometheus.client.MetricFamily")
                && says("encoding")
                && has("encoding", "delimited")
        }
    };
    if exact {
        return Some(2 + member.parameters.len());
    }
    match format {
        // A client that takes anything takes text.
        Format::Text if is("text/*") => Some(1),
        Format::Text if is("*/*") => Some(0),
        _ => None,
    }
}

/// Returns the compression that `Accept-Encoding` prefers, gzip before others of the same weight; `None` if it accepts none. No
/// header accepts none but the plain answer, as scrapers mean it.
pub(super) fn coding(accept: &[&str]) -> Option<Coding> {
    let members: Vec<Member<'_>> = members(accept).collect();
    let named = |names: &[&str]| {
        let mut of =
            members.iter().filter(|member| names.iter().any(|name| member.value.eq_ignore_ascii_case(name)));
        of.next().map(|member| member.weight)
    };
    let others = named(&["*"]);
    let gzip = named(&["gzip", "x-gzip"]).or(others).unwrap_or(0);
    let zstd = named(&["zstd"]).or(others).unwrap_or(0);
    // Without a word about it, the plain answer is acceptable, and the last choice.
    let identity = named(&["identity"]).or(others.filter(|&weight| weight == 0)).unwrap_or(1);
    let codings = [(identity, Coding::Identity), (zstd, Coding::Zstd), (gzip, Coding::Gzip)];
    let best = codings.into_iter().filter(|&(weight, _)| weight > 0).max_by_key(|&(weight, _)| weight)?;
    Some(best.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_accepted_format_of_highest_weight_is_chosen() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf_first = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
                              q=0.6,text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;q=0.2";
        let protobuf_text =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text";
        for (accept, expected) in [
            (prometheus_2, Format::OpenMetrics),
            (prometheus_3, Format::OpenMetrics),
            (protobuf_first, Format::Protobuf),
            (protobuf_text, Format::Text),
            ("application/vnd.google.protobuf", Format::Text),
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,*/*;q=0.8", Format::Text),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text;q=0,text/plain;q=0.1", Format::Text),
            // The exact range decides, whatever `*/*` says.
            ("text/plain;q=0.1, */*, application/openmetrics-text;q=0.5", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text", Format::Text),
            ("application/openmetrics-text, text/plain", Format::OpenMetrics),
            ("application/openmetrics-text;q=1.001, text/plain;q=0.1", Format::Text),
            ("nonsense;;=,", Format::Text),
        ] {
            assert_eq!(format(&[accept]), expected, "{accept}");
        }
        assert_eq!(format(&["text/plain;q=0.5", "application/openmetrics-text"]), Format::OpenMetrics);
    }

    #[test]
    fn the_accepted_compression_of_highest_weight_is_chosen() {
        use Coding::{Gzip, Identity, Zstd};
        for (accept, expected) in [
            ("", Some(Identity)),
            ("gzip", Some(Gzip)),
            ("X-GZIP", Some(Gzip)),
            ("deflate, br", Some(Identity)),
            ("deflate, gzip, br, zstd", Some(Gzip)),
            ("gzip;q=0.5, zstd", Some(Zstd)),
            ("gzip;q=0", Some(Identity)),
            ("*", Some(Gzip)),
            ("*, gzip;q=0", Some(Zstd)),
            ("identity, gzip;q=0.5", Some(Identity)),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("*;q=0, zstd", Some(Zstd)),
            ("*;q=0, identity;q=0.001", Some(Identity)),
            ("gzip;q=2", Some(Identity)),
        ] {
            assert_eq!(coding(&[accept]), expected, "{accept}");
        }
    }

    #[test]
    fn weights_have_three_digits() {
        for (text, expected) in
            [("0", Some(0)), ("1", Some(1000)), ("0.", Some(0)), ("0.5", Some(500)), ("1.000", Some(1000))]
        {
            assert_eq!(weight(text), expected, "{text}");
        }
        for text in ["", "2", "1.1", "-0", "0.1234", "0.+1", "nan", ".5"] {
            assert_eq!(weight(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_header_has_a_format(text in ".{0,60}") {
            let _any = (format(&[&text]), coding(&[&text]));
        }
    }
}
