//! The log on standard error.

use std::fmt;
use std::io::{self, IsTerminal as _};

use bpf_metrics_exporter::cli::{Log, LogFormat, LogLevel};
use bpf_metrics_exporter::text::visible;
use tracing::field::Field;
use tracing_subscriber::Layer as _;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts the log. Libraries log warnings only.
pub(super) fn start(log: Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    // A closed standard error must not end the program: the default reports a failed write there, and panics.
    let layer = layer.log_internal_errors(false);
    let layer = match log.format {
        LogFormat::Text => {
            let fields = debug_fn(write_field).delimited(" ");
            layer.with_ansi(io::stderr().is_terminal()).fmt_fields(fields).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
}

/// Writes a field of a line: what a peer, or the kernel, says is part of some, and must not look like another line.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    // Libraries that log with the `log` crate add where they did.
    if field.name().starts_with("log.") {
        return Ok(());
    }
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    writer.write_str(&visible(&format!("{value:?}")))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_message_is_one_line_of_visible_characters() {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .fmt_fields(debug_fn(write_field).delimited(" "));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(port = 5, "refused: \u{1b}[2J\nERROR forged \u{202e}txet");
        });
        let text = String::from_utf8(written.0.lock().expect("no writer panics").clone()).expect("UTF-8");
        assert_eq!(text.trim_start(), "WARN refused: \\x1b[2J\\x0aERROR forged \\u{202e}txet port=5\n");
    }
}
