//! The text formats that Prometheus scrapes: text 0.0.4 and `OpenMetrics` 1.0, by what the scraper accepts.
//! Entry point: [`render`], which visits the table of metrics once and keeps no state.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::metrics::{
    Carries, Entity, Label, LabelValue, Metric, MetricKind, Rows, Sample, Value, Visitor, prometheus_name,
    visit,
};
use crate::model::WallClock;

/// Exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns the media type for the response.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns the format that an `Accept` header prefers: the first of several with the same quality; text if it accepts neither.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for (format, quality) in accept.split(',').filter_map(media_range) {
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }
}

/// Returns the format that a media range matches, and its quality; `None` if it matches neither.
fn media_range(range: &str) -> Option<(Format, f64)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?;
    let mut quality = 1.0;
    let mut version = None;
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("q", value)) => {
                quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            }
            Some(("version", value)) => version = Some(value.trim_matches('"')),
            // `escaping` and `charset` make no difference for our names and text.
            _ => {}
        }
    }
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    let format = if is("application/openmetrics-text") && version.is_none_or(|version| version == "1.0.0") {
        Format::OpenMetrics
    } else if (is("text/plain") && version.is_none_or(|version| version == "0.0.4"))
        || is("text/*")
        || is("*/*")
    {
        Format::Text
    } else {
        return None;
    };
    Some((format, quality))
}

/// Writes a sample in a format. `size_hint`, the size of the last one, avoids reallocation.
#[must_use]
pub fn render(sample: Sample<'_>, format: Format, size_hint: usize) -> String {
    let mut exposition = Exposition {
        format,
        clock: sample.snapshot.clock,
        text: String::with_capacity(size_hint),
        keys: Blocks::default(),
    };
    visit(Some(sample), &mut exposition);
    if let Some(exporter) = sample.exporter {
        exposition.target(&exporter.resource);
    }
    if format == Format::OpenMetrics {
        exposition.text.push_str("# EOF\n");
    }
    exposition.text
}

struct Exposition {
    format: Format,
    clock: WallClock,
    text: String,
    keys: Blocks,
}

/// The key labels of every value of an entity, written once for all of its metrics.
#[derive(Default)]
struct Blocks {
    text: String,
    ends: Vec<usize>,
}

impl Blocks {
    fn fill<T>(&mut self, labels: &[Named<T>], values: &[T], clock: WallClock) {
        self.text.clear();
        self.ends.clear();
        for value in values {
            let mut empty = true;
            for label in labels {
                write_label(&mut self.text, label, value, clock, &mut empty);
            }
            self.ends.push(self.text.len());
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| &self.text[start..end])
    }
}

/// A label with its Prometheus name.
struct Named<T: 'static> {
    name: String,
    label: &'static Label<T>,
}

fn named<T>(labels: &'static [Label<T>]) -> Vec<Named<T>> {
    labels.iter().map(|label| Named { name: prometheus_name::label(label.name), label }).collect()
}

impl Exposition {
    /// Writes the attributes of the resource, as labels of a metric of their own.
    ///
    /// Source: "Resource Attributes" in the OpenTelemetry specification's `compatibility/prometheus_and_openmetrics`.
    fn target(&mut self, resource: &[(String, String)]) {
        // Values of attributes whose names become the same label are joined, in the order of the names.
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        let ordered: BTreeMap<_, _> = resource.iter().map(|(name, value)| (name, value)).collect();
        for (name, value) in ordered {
            labels
                .entry(prometheus_name::label(name))
                .and_modify(|joined| {
                    joined.push(';');
                    joined.push_str(value);
                })
                .or_insert_with(|| value.clone());
        }
        if labels.is_empty() {
            return;
        }
        self.text.push_str(match self.format {
            Format::Text => "# HELP target_info Attributes of the resource.\n# TYPE target_info gauge\n",
            Format::OpenMetrics => "# TYPE target info\n# HELP target Attributes of the resource.\n",
        });
        let mut separator = "target_info{";
        for (name, value) in &labels {
            put(&mut self.text, format_args!("{separator}{name}=\""));
            escape(&mut self.text, value, true);
            self.text.push('"');
            separator = ",";
        }
        self.text.push_str("} 1\n");
    }
}

impl Visitor for Exposition {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let Some(values) = values else { return };
        let info = named(entity.info);
        self.keys.fill(&named(entity.key), values, self.clock);
        for (_, metric) in entity.rows(rows) {
            let family = prometheus_name::family(metric.name, metric.unit);
            let sample = prometheus_name::sample(metric.name, metric.unit, metric.kind);
            let mut headed = false;
            for (value, key) in values.iter().zip(self.keys.iter()) {
                let Some(point) = (metric.read)(value) else { continue };
                if !headed {
                    write_head(&mut self.text, self.format, metric, &family, &sample);
                    headed = true;
                }
                self.text.push_str(&sample);
                let begin = self.text.len();
                self.text.push('{');
                self.text.push_str(key);
                let mut empty = key.is_empty();
                if metric.carries == Carries::Info {
                    for label in &info {
                        write_label(&mut self.text, label, value, self.clock, &mut empty);
                    }
                }
                if empty {
                    self.text.truncate(begin);
                } else {
                    self.text.push('}');
                }
                write_value(&mut self.text, point, self.clock);
            }
        }
    }
}

fn write_head<T>(text: &mut String, format: Format, metric: &Metric<T>, family: &str, sample: &str) {
    let kind = match metric.kind {
        MetricKind::Gauge => "gauge",
        MetricKind::Counter => "counter",
    };
    match format {
        Format::Text => {
            put(text, format_args!("# HELP {sample} "));
            escape(text, metric.help, false);
            put(text, format_args!("\n# TYPE {sample} {kind}\n"));
        }
        Format::OpenMetrics => {
            put(text, format_args!("# TYPE {family} {kind}\n"));
            let unit = prometheus_name::unit_word(metric.unit);
            // OpenMetrics allows a unit only where the name ends in it.
            if !unit.is_empty() && family.ends_with(unit) {
                put(text, format_args!("# UNIT {family} {unit}\n"));
            }
            put(text, format_args!("# HELP {family} "));
            escape(text, metric.help, true);
            text.push('\n');
        }
    }
}

/// Writes a label, unless it is missing or empty, which is the same to Prometheus.
fn write_label<T>(text: &mut String, named: &Named<T>, value: &T, clock: WallClock, empty: &mut bool) {
    let Some(value) = (named.label.read)(value) else { return };
    let before = text.len();
    if !*empty {
        text.push(',');
    }
    text.push_str(&named.name);
    text.push_str("=\"");
    let begin = text.len();
    match value {
        LabelValue::Text(value) => escape(text, value, true),
        LabelValue::Target(target) => {
            write!(Escaped(text), "{target}").expect("writing to a String never fails");
        }
        value => put(text, format_args!("{}", value.by(clock))),
    }
    if text.len() == begin {
        text.truncate(before);
        return;
    }
    text.push('"');
    *empty = false;
}

fn write_value(text: &mut String, value: Value, clock: WallClock) {
    match value {
        Value::Time(time) => put(text, format_args!(" {}\n", clock.second(time).as_second())),
        Value::Int(number) => put(text, format_args!(" {number}\n")),
        Value::Float(number) if number.is_finite() => put(text, format_args!(" {number}\n")),
        Value::Float(number) if number.is_nan() => text.push_str(" NaN\n"),
        Value::Float(number) => text.push_str(if number > 0.0 { " +Inf\n" } else { " -Inf\n" }),
    }
}

/// Escapes the parts of a label value as they are written.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        escape(self.0, part, true);
        Ok(())
    }
}

/// Escapes backslash and line feed, and the quote in label values and in the help of `OpenMetrics`.
fn escape(text: &mut String, value: &str, quotes: bool) {
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        let escaped = match byte {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'"' if quotes => "\\\"",
            _ => continue,
        };
        text.push_str(&value[plain..at]);
        text.push_str(escaped);
        plain = at + 1;
    }
    text.push_str(&value[plain..]);
}

fn put(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String never fails");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_range_of_the_highest_quality_is_chosen(
            ranges in prop::collection::vec((0_usize..4, 0_u32..=1000), 0..6),
            noise in "[a-z*/;=, \"]{0,20}",
        ) {
            let known = ["application/openmetrics-text", "text/plain", "*/*", "image/png"];
            let header = ranges.iter().map(|&(range, quality)| {
                format!("{};q={}.{:03}", known[range], quality / 1000, quality % 1000)
            });
            let header = header.collect::<Vec<_>>().join(" , ");
            let mut expected = (0, Format::Text);
            for &(range, quality) in ranges.iter().filter(|(range, _)| *range < 3) {
                if quality > expected.0 {
                    expected = (quality, if range == 0 { Format::OpenMetrics } else { Format::Text });
                }
            }
            prop_assert_eq!(Format::negotiate(&header), expected.1, "{}", header);
            let _any = Format::negotiate(&noise);
        }
    }

    #[test]
    fn the_accepted_format_of_highest_quality_is_chosen() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf_first = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
                              q=0.6,text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;q=0.2";
        assert_eq!(Format::negotiate(prometheus_2), Format::OpenMetrics);
        assert_eq!(Format::negotiate(prometheus_3), Format::OpenMetrics);
        assert_eq!(Format::negotiate(protobuf_first), Format::Text);
        for text in
            ["", "*/*", "text/html,*/*;q=0.8", "application/openmetrics-text;version=0.0.1", "nonsense;;=,"]
        {
            assert_eq!(Format::negotiate(text), Format::Text, "{text}");
        }
        assert_eq!(Format::negotiate("application/openmetrics-text;q=0,text/plain;q=0.1"), Format::Text);
        assert_eq!(Format::negotiate("application/openmetrics-text; version=\"1.0.0\""), Format::OpenMetrics);
    }

    #[test]
    fn infinities_and_nan_are_spelled_as_prometheus_does() {
        let written = |value| {
            let mut text = String::new();
            write_value(&mut text, value, WallClock::default());
            text
        };
        assert_eq!(written(Value::Int(-3)), " -3\n");
        assert_eq!(written(Value::Float(0.25)), " 0.25\n");
        assert_eq!(written(Value::Float(f64::INFINITY)), " +Inf\n");
        assert_eq!(written(Value::Float(f64::NEG_INFINITY)), " -Inf\n");
        assert_eq!(written(Value::Float(f64::NAN)), " NaN\n");
    }
}
