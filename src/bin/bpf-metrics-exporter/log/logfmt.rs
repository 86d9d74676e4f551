//! Lines of `key=value` pairs, as Prometheus and Loki read them. Entry point: [`Logfmt`].

use std::fmt::{self, Write as _};

use bpf_metrics_exporter::text::visible;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The format: `time=… level=warn msg="…"`, and the fields.
pub(super) struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("time=")?;
        SystemTime.format_time(&mut writer)?;
        writer.write_str(&pairs(event))
    }
}

/// A line from its level on.
fn pairs(event: &Event<'_>) -> String {
    let mut pairs = Pairs::default();
    event.record(&mut pairs);
    let level = event.metadata().level().as_str().to_ascii_lowercase();
    format!(" level={level} msg={}{}\n", quoted(&pairs.message), pairs.fields)
}

/// The fields of a line.
#[derive(Default)]
struct Pairs {
    message: String,
    /// The others, each after a space.
    fields: String,
}

impl Visit for Pairs {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message = value;
        } else if !super::is_location(field) {
            write!(self.fields, " {}={}", field.name(), quoted(&value))
                .expect("writing to a String never fails");
        }
    }
}

/// A value, in quotes where it needs them. No invisible character is in it.
fn quoted(value: &str) -> String {
    let value = visible(value);
    let is_plain = |character: char| !matches!(character, ' ' | '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.into_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::tests::Written;
    use super::*;

    #[test]
    fn a_line_is_pairs_with_quotes_where_they_are_needed() {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(Logfmt);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(port = 5, peer = "a\"b", none = "", "refused: \u{1b}[2J\nlevel=error forged");
            tracing::info!("stopped");
        });
        let text = written.text();
        let lines: Vec<_> = text.lines().collect();
        let (time, rest) = lines[0].split_once(" level=").expect("it has a level");
        assert!(time.starts_with("time=20") && time.ends_with('Z'), "{time}");
        assert_eq!(
            rest,
            "warn msg=\"refused: \\\\x1b[2J\\\\x0alevel=error forged\" port=5 peer=\"a\\\"b\" none=\"\""
        );
        assert!(lines[1].ends_with(" level=info msg=stopped"), "{}", lines[1]);
    }
}
