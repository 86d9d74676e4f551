//! A limit on lines that repeat: what a peer makes the program say a thousand times a second is said a few times a minute, with the
//! number of the rest. Entry points: [`LimitFilter`], [`LIMIT`].

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// The time over which lines are counted.
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// The most lines in that time that differ in numbers only.
const PER_KIND: u64 = 10;

/// The most lines in that time from one place in the source, whatever text from outside they have. With [`PER_KIND`] it bounds the
/// number of kinds that are remembered, too.
const PER_PLACE: u64 = 60;

/// The most of a line that its summary shows, in bytes.
const MAX_SAMPLE: usize = 300;

/// The target of what the log says of itself, which is not limited.
pub(super) const UNLIMITED: &str = concat!(env!("CARGO_CRATE_NAME"), "::log::unlimited");

/// The limit of the program's log.
pub(super) static LIMIT: LazyLock<LineLimit> = LazyLock::new(LineLimit::default);

/// What was logged lately.
#[derive(Default)]
pub(super) struct LineLimit(Mutex<Windows>);

/// The lines of each kind.
#[derive(Default)]
struct Windows {
    /// The present window of each kind.
    open: HashMap<Kind, Recent>,
    /// Windows that are over and not yet reported.
    over: Vec<Recent>,
}

/// A place in the source, and the text of a line without numbers, by its hash; or all lines of the place.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    place: Identifier,
    text: Option<u64>,
}

/// The lines of a kind in a window.
struct Recent {
    since: Instant,
    passed: u64,
    held: u64,
    level: Level,
    /// The last line that was held back.
    sample: String,
}

/// The filter in front of the log: drops lines that are over the limit.
pub(super) struct LimitFilter(pub(super) &'static LineLimit);

impl<S: Subscriber> Filter<S> for LimitFilter {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        // Who asks for debug lines wants all of them.
        let is_limited = *event.metadata().level() <= Level::INFO && event.metadata().target() != UNLIMITED;
        !is_limited || self.0.admit(event, Instant::now())
    }
}

impl LineLimit {
    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a line, and returns whether it is within the limit. Logs nothing itself, since it runs within the log.
    fn admit(&self, event: &Event<'_>, now: Instant) -> bool {
        let mut text = Text::default();
        event.record(&mut text);
        let place = event.metadata().callsite();
        let kind = Kind { place: place.clone(), text: Some(text.hash_without_numbers()) };
        let level = *event.metadata().level();
        let mut windows = self.lock();
        windows.end(|recent| now.saturating_duration_since(recent.since) >= WINDOW);
        let mut is_admitted = true;
        for (kind, most) in [(Kind { place, text: None }, PER_PLACE), (kind, PER_KIND)] {
            let of_kind = windows.open.entry(kind).or_insert_with(|| Recent {
                since: now,
                passed: 0,
                held: 0,
                level,
                sample: String::new(),
            });
            if of_kind.passed < most {
                of_kind.passed += 1;
                continue;
            }
            of_kind.held += 1;
            of_kind.level = level;
            of_kind.sample.clone_from(&text.0);
            is_admitted = false;
            break;
        }
        is_admitted
    }

    /// Reports what was held back in windows that are over, and forgets them.
    pub(super) fn report_old(&self) {
        self.report(|recent| recent.since.elapsed() >= WINDOW);
    }

    /// Reports everything that was held back.
    pub(super) fn report_all(&self) {
        self.report(|_| true);
    }

    fn report(&self, is_over: impl Fn(&Recent) -> bool) {
        let over = {
            let mut windows = self.lock();
            windows.end(is_over);
            std::mem::take(&mut windows.over)
        };
        for Recent { held, level, sample, .. } in over {
            let end = sample.floor_char_boundary(MAX_SAMPLE);
            let sample = &sample[..end];
            if level == Level::ERROR {
                tracing::error!(target: UNLIMITED, "{held} more lines like this one were held back: {sample}");
            } else if level == Level::WARN {
                tracing::warn!(target: UNLIMITED, "{held} more lines like this one were held back: {sample}");
            } else {
                tracing::info!(target: UNLIMITED, "{held} more lines like this one were held back: {sample}");
            }
        }
    }
}

impl Windows {
    /// Ends windows. What was held back in them is reported later, at most once for each kind in a window.
    fn end(&mut self, is_over: impl Fn(&Recent) -> bool) {
        let ended = self.open.extract_if(|_, recent| is_over(recent)).map(|(_, recent)| recent);
        self.over.extend(ended.filter(|recent| recent.held > 0));
    }
}

/// The text of a line.
#[derive(Default)]
struct Text(String);

impl Text {
    fn hash_without_numbers(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0
            .chars()
            .filter(|character| !character.is_ascii_digit())
            .for_each(|character| character.hash(&mut hasher));
        hasher.finish()
    }
}

impl Visit for Text {
    fn record_debug(&mut self, _field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        write!(self.0, "{space}{value:?}").expect("writing to a String never fails");
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::tests::Written;
    use super::*;

    /// Returns what is logged by `log` under a limit, and the limit.
    fn logged(log: impl FnOnce(&'static LineLimit)) -> Vec<String> {
        let limit: &'static LineLimit = Box::leak(Box::default());
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_filter(LimitFilter(limit));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || log(limit));
        written.text().lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn lines_that_differ_in_numbers_only_are_limited_and_counted() {
        let lines = logged(|limit| {
            for number in 0..25 {
                tracing::warn!("refused after {number} s");
            }
            tracing::info!("another line");
            limit.report_all();
            limit.report_all();
        });
        assert_eq!(lines.len(), 12, "{lines:#?}");
        assert_eq!(lines[9], "WARN refused after 9 s");
        assert_eq!(lines[10], "INFO another line");
        assert_eq!(lines[11], "WARN 15 more lines like this one were held back: refused after 24 s");
    }

    #[test]
    fn one_place_is_limited_whatever_it_says() {
        let lines = logged(|limit| {
            for letter in ('a'..='z').chain('A'..='Z').chain('\u{3b1}'..='\u{3c9}') {
                tracing::error!("a peer says {letter}");
            }
            assert!(limit.lock().open.len() <= 1 + 60, "{} kinds", limit.lock().open.len());
            limit.report_all();
        });
        assert_eq!(lines.len(), 61, "{lines:#?}");
        assert_eq!(lines[60], "ERROR 17 more lines like this one were held back: a peer says \u{3c9}");
    }

    #[test]
    fn a_new_window_reports_the_last_one_and_starts_again() {
        let lines = logged(|limit| {
            for part in 0..2 {
                for number in 0..12 {
                    tracing::info!("line {number}");
                }
                if part == 0 {
                    for recent in limit.lock().open.values_mut() {
                        recent.since -= WINDOW;
                    }
                }
            }
            limit.report_old();
        });
        assert_eq!(lines.len(), 10 + 10 + 1, "{lines:#?}");
        assert!(lines[20].starts_with("INFO 2 more lines"), "{lines:#?}");
    }

    #[test]
    fn debug_lines_are_not_limited() {
        let lines = logged(|_| (0..30).for_each(|number| tracing::debug!("reading {number}")));
        assert_eq!(lines.len(), 30);
    }
}
