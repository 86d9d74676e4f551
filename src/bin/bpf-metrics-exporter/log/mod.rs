//! The log on standard error. It never holds up what is logged: lines wait in a bounded queue for a thread that writes them.
//!
//! Entry points: [`start`], [`flush`] at the end, [`complain`] for what has to be said with or without a log.

mod limit;
mod logfmt;
mod queue;
mod stderr;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use bpf_metrics_exporter::cli::{Log, LogFormat, LogLevel};
use bpf_metrics_exporter::text::visible;
use tracing::field::Field;
use tracing_subscriber::Layer as _;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::limit::{LIMIT, LimitFilter};
use self::queue::QUEUE;

/// How long the end of the program waits for standard error to take what is left.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts the log. Libraries log warnings only.
///
/// # Errors
///
/// If the system refuses another thread.
pub(super) fn start(log: Log) -> io::Result<()> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    queue::start_writer()?;
    // A line that cannot be formatted is no reason to write to standard error from here.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let layer = layer.with_writer(|| &QUEUE).with_target(false).with_ansi(false);
    let layer = match log.format {
        LogFormat::Text => {
            let fields = debug_fn(write_field).delimited(" ");
            layer.with_ansi(io::stderr().is_terminal()).fmt_fields(fields).boxed()
        }
        LogFormat::Logfmt => layer.event_format(logfmt::Logfmt).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer.with_filter(LimitFilter(&LIMIT))).init();
    Ok(())
}

/// The number of lines that standard error did not take since the start.
pub(super) fn lost_lines() -> u64 {
    QUEUE.lost()
}

/// Waits until everything is written, for a bounded time.
pub(super) fn flush() {
    LIMIT.report_all();
    QUEUE.flush(Instant::now() + FLUSH_TIMEOUT);
}

/// Writes a message of one or more lines to standard error, after what is logged already. It neither waits for ever for a standard
/// error that takes nothing, nor fails.
pub(super) fn complain(message: &str) {
    flush();
    let lines: Vec<_> = message.split('\n').map(visible).collect();
    let text = format!("bpf-metrics-exporter: {}\n", lines.join("\n"));
    // Nobody is left to tell.
    let _lost: io::Result<()> = stderr::write(text.as_bytes(), Some(Instant::now() + FLUSH_TIMEOUT));
}

/// Writes a field of a line: what a peer, or the kernel, says is part of some, and must not look like another line.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if is_location(field) {
        return Ok(());
    }
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    writer.write_str(&visible(&format!("{value:?}")))
}

/// Whether a field says where in its source a library logged, which those do that use the `log` crate.
fn is_location(field: &Field) -> bool {
    field.name().starts_with("log.")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no writer panics").clone()).expect("UTF-8")
        }
    }

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
        assert_eq!(
            written.text().trim_start(),
            "WARN refused: \\x1b[2J\\x0aERROR forged \\u{202e}txet port=5\n"
        );
    }
}
