//! The formats that Prometheus scrapes: text 0.0.4 and `OpenMetrics` 1.0 here, and [`protobuf`].
//! Entry points: [`render`] and [`write`](write()), which visit the table of metrics once and keep no state.

mod histogram;
pub mod protobuf;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io;

use jiff::Timestamp;

use crate::metrics::{
    Carries, Entity, Label, LabelValue, Metric, MetricKind, Rows, Sample, Value, Visitor, prometheus_name,
    visit,
};
use crate::model::WallClock;

/// How much text is gathered before it is passed on, in bytes.
const PIECE: usize = 64 << 10;

/// Exposition format that is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// The same, with the start of each counter and histogram as a series of its own: `_created`.
    OpenMetricsCreated,
}

impl Format {
    /// Returns the media type for the response.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics | Self::OpenMetricsCreated => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }

    const fn is_text(self) -> bool {
        matches!(self, Self::Text)
    }
}

/// Returns a sample in a format. `size_hint`, the size of the last one, avoids reallocation.
#[must_use]
pub fn render(sample: Sample<'_>, format: Format, size_hint: usize) -> String {
    let mut exposition = Exposition::new(sample, format, None);
    exposition.text.reserve(size_hint);
    exposition.all(sample);
    exposition.text
}

/// Writes a sample in a format, in pieces.
///
/// # Errors
///
/// The first error of `out`.
pub fn write(sample: Sample<'_>, format: Format, out: &mut dyn io::Write) -> io::Result<()> {
    let mut exposition = Exposition::new(sample, format, Some(out));
    exposition.all(sample);
    exposition.pass_on(0);
    exposition.result
}

struct Exposition<'a> {
    format: Format,
    clock: WallClock,
    text: String,
    keys: Blocks,
    /// Where the text goes; `None` gathers it.
    out: Option<&'a mut dyn io::Write>,
    result: io::Result<()>,
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

impl<'a> Exposition<'a> {
    fn new(sample: Sample<'_>, format: Format, out: Option<&'a mut dyn io::Write>) -> Self {
        let clock = sample.snapshot.clock;
        Self { format, clock, text: String::new(), keys: Blocks::default(), out, result: Ok(()) }
    }

    fn all(&mut self, sample: Sample<'_>) {
        visit(Some(sample), self);
        if let Some(exporter) = sample.exporter {
            self.target(&exporter.resource);
        }
        if !self.format.is_text() {
            self.text.push_str("# EOF\n");
        }
    }

    /// Passes the text on if there is more than this many bytes of it.
    fn pass_on(&mut self, more_than: usize) {
        let Some(out) = self.out.as_mut().filter(|_| self.text.len() > more_than) else { return };
        if self.result.is_ok() {
            self.result = out.write_all(self.text.as_bytes());
        }
        self.text.clear();
    }

    /// Writes the attributes of the resource, as labels of a metric of their own.
    ///
    /// Source: "Resource Attributes" in the OpenTelemetry specification's `compatibility/prometheus_and_openmetrics`.
    fn target(&mut self, resource: &[(String, String)]) {
        let labels = target_labels(resource);
        if labels.is_empty() {
            return;
        }
        self.text.push_str(match self.format {
            Format::Text => "# HELP target_info Attributes of the resource.\n# TYPE target_info gauge\n",
            Format::OpenMetrics | Format::OpenMetricsCreated => {
                "# TYPE target info\n# HELP target Attributes of the resource.\n"
            }
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

/// Returns the attributes of the resource as labels. Values of those whose names become the same label are joined, in the order of
/// the names.
fn target_labels(resource: &[(String, String)]) -> BTreeMap<String, String> {
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
    labels
}

impl Visitor for Exposition<'_> {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let Some(values) = values else { return };
        let info = named(entity.info);
        let mut keys = std::mem::take(&mut self.keys);
        keys.fill(&named(entity.key), values, self.clock);
        for (_, metric) in entity.rows(rows) {
            let family = prometheus_name::family(metric.name, metric.unit);
            let sample = prometheus_name::sample(metric.name, metric.unit, metric.kind);
            let created = (self.format == Format::OpenMetricsCreated && metric.kind.is_total())
                .then(|| format!("{family}_created"));
            let mut headed = false;
            for (value, key) in values.iter().zip(keys.iter()) {
                let Some(point) = (metric.read)(value) else { continue };
                if !headed {
                    write_head(&mut self.text, self.format, metric, &family, &sample);
                    headed = true;
                }
                let line = self.text.len();
                self.text.push_str(&sample);
                self.text.push('{');
                self.text.push_str(key);
                let mut empty = key.is_empty();
                if metric.carries == Carries::Info {
                    for label in &info {
                        write_label(&mut self.text, label, value, self.clock, &mut empty);
                    }
                }
                let begin = line + sample.len();
                if empty {
                    self.text.truncate(begin);
                } else {
                    self.text.push('}');
                }
                let created = created.as_ref().and_then(|name| Some((name, (entity.series)(value).birth?)));
                let are_repeated = created.is_some() || matches!(metric.kind, MetricKind::Histogram { .. });
                let labels = if are_repeated { self.text[begin..].to_owned() } else { String::new() };
                match (point, metric.kind) {
                    (Value::Histogram(histogram), MetricKind::Histogram { bounds }) => {
                        self.text.truncate(line);
                        histogram::write_lines(&mut self.text, &family, &labels, histogram, bounds);
                    }
                    (point, _) => write_value(&mut self.text, point, self.clock),
                }
                if let Some((name, birth)) = created {
                    self.text.push_str(name);
                    self.text.push_str(&labels);
                    write_created(&mut self.text, birth.by(self.clock));
                }
                self.pass_on(PIECE);
            }
        }
        self.keys = keys;
    }
}

fn write_head<T>(text: &mut String, format: Format, metric: &Metric<T>, family: &str, sample: &str) {
    let kind = match metric.kind {
        MetricKind::Gauge => "gauge",
        MetricKind::Counter => "counter",
        MetricKind::Histogram { .. } => "histogram",
    };
    match format {
        Format::Text => {
            put(text, format_args!("# HELP {sample} "));
            escape(text, metric.help, false);
            put(text, format_args!("\n# TYPE {sample} {kind}\n"));
        }
        Format::OpenMetrics | Format::OpenMetricsCreated => {
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
        LabelValue::Target(_) | LabelValue::Kfunc(_) => {
            write!(Escaped(text), "{}", value.by(clock)).expect("writing to a String never fails");
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

fn write_value(text: &mut String, value: Value<'_>, clock: WallClock) {
    match value {
        Value::Time(time) => put(text, format_args!(" {}\n", clock.second(time).as_second())),
        Value::Int(number) => put(text, format_args!(" {number}\n")),
        Value::Histogram(histogram) => put(text, format_args!(" {}\n", histogram.count())),
        Value::Float(number) if number.is_finite() => put(text, format_args!(" {number}\n")),
        Value::Float(number) if number.is_nan() => text.push_str(" NaN\n"),
        Value::Float(number) => text.push_str(if number > 0.0 { " +Inf\n" } else { " -Inf\n" }),
    }
}

/// Writes a moment in seconds since 1970, with a fraction where it has one.
fn write_created(text: &mut String, time: Timestamp) {
    match time.subsec_nanosecond() {
        0 => put(text, format_args!(" {}\n", time.as_second())),
        // Before 1970 both parts are negative; there is no object of that age.
        nanoseconds => put(text, format_args!(" {}.{:09}\n", time.as_second(), nanoseconds.abs())),
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
    use super::*;

    #[test]
    fn created_times_have_the_fraction_that_there_is() {
        let written = |second, nanosecond| {
            let mut text = String::new();
            write_created(&mut text, Timestamp::new(second, nanosecond).expect("a moment"));
            text
        };
        assert_eq!(written(1_700_000_000, 0), " 1700000000\n");
        assert_eq!(written(1_700_000_000, 1_500), " 1700000000.000001500\n");
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
