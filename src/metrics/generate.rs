//! The table of metrics as a page of documentation: `docs/metrics.md`, which a test compares with [`markdown`].

use std::fmt::Write;

use super::{Carries, Entity, Label, MetricKind, Rows, Visitor, prometheus_name, visit};

const HEAD: &str = "\
# Metrics

<!-- Made from src/metrics/table/ by `UPDATE=1 cargo test --test rootless generated::`. Do not edit. -->

Names are those sent over OTLP. The Prometheus name is OpenTelemetry's translation of each, so a scrape and any OTLP
route into Prometheus give the same series, histograms aside. A counter starts when its object was created: at the load
time of a program; for objects without a creation time in the kernel, when the exporter first saw them. A value that
could not be read has no series: no value is ever zero because it is unknown.

A histogram is exponential over OTLP, with buckets that grow by 9 % (scale 3). Where its values span more than 160 such
buckets, a factor of a million, pairs of buckets are merged: 19 % (scale 2), and so on. A scrape as text has `_bucket`,
`_sum` and `_count`; the bounds of its buckets (`le`) are powers of two, at which the counts are exact. A scrape in
protobuf has these and a native histogram (schema 3, merged beyond 160 buckets with values). What receivers make of them
is in [OTLP](otlp.md#histograms).

Labels in *italics* are only on the metrics in italics.
";

/// Returns the page.
#[must_use]
pub fn markdown() -> String {
    let mut page = Page { text: HEAD.to_owned() };
    visit(None, &mut page);
    page.text
}

struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("writing to a String never fails");
        self.text.push('\n');
    }

    fn labels<T>(&mut self, labels: &[Label<T>], mark: &str) {
        for label in labels {
            self.line(format_args!("| {mark}`{}`{mark} | {} |", label.name, label.help));
        }
    }
}

impl Visitor for Page {
    fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, _values: Option<&[T]>) {
        self.line(format_args!("\n## {}\n", entity.title));
        self.line(format_args!("| metric | Prometheus | kind | unit | meaning | source | since |"));
        self.line(format_args!("|---|---|---|---|---|---|---|"));
        for metric in entity.metrics {
            let name = match metric.carries {
                Carries::Key => format!("`{}`", metric.name),
                Carries::Info => format!("*`{}`*", metric.name),
            };
            let kind = match metric.kind {
                MetricKind::Gauge => "gauge",
                MetricKind::Counter => "counter",
                MetricKind::Histogram { .. } => "histogram",
            };
            let bounds = match metric.kind {
                MetricKind::Gauge | MetricKind::Counter => String::new(),
                MetricKind::Histogram { bounds } => {
                    let bounds: Vec<String> = bounds.iter().map(|exponent| format!("2^{exponent}")).collect();
                    format!(" Bounds in a scrape: {}.", bounds.join(", "))
                }
            };
            let unit = match metric.unit.as_otlp() {
                "" => String::new(),
                unit => format!("`{unit}`"),
            };
            self.line(format_args!(
                "| {name} | `{}` | {kind} | {unit} | {}{bounds} | {} | {} |",
                prometheus_name::sample(metric.name, metric.unit, metric.kind),
                metric.help,
                metric.source,
                metric.since,
            ));
        }
        if !(entity.key.is_empty() && entity.info.is_empty()) {
            self.line(format_args!("\n| label | meaning |"));
            self.line(format_args!("|---|---|"));
            self.labels(entity.key, "");
            self.labels(entity.info, "*");
        }
    }
}
