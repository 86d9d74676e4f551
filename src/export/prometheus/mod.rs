//! The formats that Prometheus scrapes: text 0.0.4 and `OpenMetrics` 1.0 here, and [`protobuf`].
//! Entry points: [`render`], [`write`](write()) and [`lines`](lines()), which visit the table of metrics once and keep no state.

mod histogram;
mod labels;
mod lines;
pub mod protobuf;

use std::io;
use std::sync::Arc;

use jiff::Timestamp;

use self::labels::{Blocks, Named, escape, named, put, target_labels, write_labels};
use self::lines::Output;
pub use self::lines::{Cursor, Lines};
use crate::metrics::{
    Carries, Entity, Metric, MetricKind, Rows, Sample, Value, Visitor, prometheus_name, visit,
};
use crate::model::WallClock;

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
    let output = Output::pieces(String::with_capacity(size_hint), None);
    std::mem::take(Exposition::of(sample, format, output).text())
}

/// Writes a sample in a format, in pieces.
///
/// # Errors
///
/// The first error of `out`.
pub fn write(sample: Sample<'_>, format: Format, out: &mut dyn io::Write) -> io::Result<()> {
    Exposition::of(sample, format, Output::pieces(String::new(), Some(out))).finish()
}

/// Returns a sample in a format, with the labels of a value in memory once: to be read piece by piece.
#[must_use]
pub fn lines(sample: Sample<'_>, format: Format) -> Lines {
    Exposition::of(sample, format, Output::lines()).into_lines()
}

struct Exposition<'a> {
    format: Format,
    clock: WallClock,
    output: Output<'a>,
    /// A buffer for those of each entity.
    keys: Blocks,
}

impl<'a> Exposition<'a> {
    /// Writes a sample, and returns where it went.
    fn of(sample: Sample<'_>, format: Format, output: Output<'a>) -> Output<'a> {
        let mut exposition = Self { format, clock: sample.snapshot.clock, output, keys: Blocks::default() };
        visit(Some(sample), &mut exposition);
        if let Some(exporter) = sample.exporter {
            exposition.target(&exporter.resource);
        }
        if !format.is_text() {
            exposition.output.text().push_str("# EOF\n");
        }
        exposition.output
    }

    /// Writes the attributes of the resource, as labels of a metric of their own.
    ///
    /// Source: "Resource Attributes" in the OpenTelemetry specification's `compatibility/prometheus_and_openmetrics`.
    fn target(&mut self, resource: &[(String, String)]) {
        let labels = target_labels(resource);
        if labels.is_empty() {
            return;
        }
        let text = self.output.text();
        text.push_str(match self.format {
            Format::Text => "# HELP target_info Attributes of the resource.\n# TYPE target_info gauge\n",
            Format::OpenMetrics | Format::OpenMetricsCreated => {
                "# TYPE target info\n# HELP target Attributes of the resource.\n"
            }
        });
        let mut separator = "target_info{";
        for (name, value) in &labels {
            put(text, format_args!("{separator}{name}=\""));
            escape(text, value, true);
            text.push('"');
            separator = ",";
        }
        text.push_str("} 1\n");
    }

    /// Writes a metric, unless no value has it.
    fn metric<T>(
        &mut self,
        entity: &Entity<T>,
        metric: &Metric<T>,
        values: &[T],
        keys: &Arc<Blocks>,
        info: &[Named<T>],
    ) {
        let clock = self.clock;
        let family = prometheus_name::family(metric.name, metric.unit);
        let sample = prometheus_name::sample(metric.name, metric.unit, metric.kind);
        let created = (self.format == Format::OpenMetricsCreated && metric.kind.is_total())
            .then(|| format!("{family}_created"));
        let info = if metric.carries == Carries::Info { info } else { &[] };
        let names: Vec<&str> = std::iter::once(&sample).chain(&created).map(String::as_str).collect();
        self.output.begin(&names);
        let mut headed = false;
        for (value, key) in values.iter().zip(keys.iter()) {
            let Some(point) = (metric.read)(value) else {
                self.output.end_value();
                continue;
            };
            if !headed {
                write_head(self.output.text(), self.format, metric, &family, &sample);
                headed = true;
            }
            let birth = created.as_deref().and_then(|name| Some((name, (entity.series)(value).birth?)));
            if let (Value::Histogram(histogram), MetricKind::Histogram { bounds }) = (point, metric.kind) {
                let mut labels = if key.is_empty() { String::new() } else { format!("{{{key}") };
                write_labels(&mut labels, key, info, value, clock);
                let text = self.output.text();
                histogram::write_lines(text, &family, &labels, histogram, bounds);
                if let Some((name, birth)) = birth {
                    text.push_str(name);
                    text.push_str(&labels);
                    write_created(text, birth.by(clock));
                }
                self.output.end_value();
                continue;
            }
            let text = self.output.line(0, &sample, key);
            write_labels(text, key, info, value, clock);
            write_value(text, point, clock);
            if let Some((name, birth)) = birth {
                let text = self.output.line(1, name, key);
                write_labels(text, key, info, value, clock);
                write_created(text, birth.by(clock));
            }
            self.output.end_value();
        }
        self.output.end(keys);
    }
}

impl Visitor for Exposition<'_> {
    fn entity<T>(&mut self, entity: &'static Entity<T>, rows: Rows, values: Option<&[T]>) {
        let Some(values) = values else { return };
        let info = named(entity.info);
        let mut keys = std::mem::take(&mut self.keys);
        keys.fill(&named(entity.key), values, self.clock);
        if self.output.keeps_keys() {
            keys.shrink();
        }
        let keys = Arc::new(keys);
        for (_, metric) in entity.rows(rows) {
            self.metric(entity, metric, values, &keys, &info);
        }
        // Lines have it now.
        self.keys = Arc::into_inner(keys).unwrap_or_default();
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

fn write_value(text: &mut String, value: Value<'_>, clock: WallClock) {
    match value {
        Value::Time(time) => write_int(text, clock.second(time).as_second()),
        Value::Int(number) => write_int(text, number),
        Value::Histogram(histogram) => write_int(text, histogram.count()),
        Value::Float(number) if number.is_finite() => put(text, format_args!(" {number}\n")),
        Value::Float(number) if number.is_nan() => text.push_str(" NaN\n"),
        Value::Float(number) => text.push_str(if number > 0.0 { " +Inf\n" } else { " -Inf\n" }),
    }
}

fn write_int(text: &mut String, number: impl itoa::Integer) {
    text.push(' ');
    text.push_str(itoa::Buffer::new().format(number));
    text.push('\n');
}

/// Writes a moment in seconds since 1970, with a fraction where it has one.
fn write_created(text: &mut String, time: Timestamp) {
    match time.subsec_nanosecond() {
        0 => put(text, format_args!(" {}\n", time.as_second())),
        // Before 1970 both parts are negative; there is no object of that age.
        nanoseconds => put(text, format_args!(" {}.{:09}\n", time.as_second(), nanoseconds.abs())),
    }
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
