//! The lines around the list: title, status and keys. Entry points: [`title`], [`line`], [`keys`].

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::{Theme, put, width};
use crate::export::human;
use crate::metrics::Unit;
use crate::tui::state::{OfTable, Origin, Rows, State, Tab};

/// Where one part of a line ends and the next begins.
const SEPARATOR: &str = " | ";

/// How many intervals a reading may take before it counts as slow.
const SLOW: u32 = 2;

/// Draws what all of it is: the time of the reading and sums.
pub(super) fn title(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut parts = vec![("bpf-metrics-exporter top".to_owned(), bold)];
    if let Some(readings) = state.readings() {
        let snapshot = readings.now();
        let time = snapshot.clock.second(snapshot.taken_at).strftime("%Y-%m-%d %H:%M:%SZ");
        parts.push((time.to_string(), Style::new()));
        let summary = state.summary();
        let plain = |text: String| (text, Style::new());
        parts.extend(summary.cpu.map(|cpu| plain(format!("CPU {}", human::number(cpu, Unit::Ratio)))));
        parts.extend(
            summary.runs.map(|runs| plain(format!("{} runs", human::number(runs, Unit::Each("{run}/s"))))),
        );
        #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
        parts.extend(summary.mem.map(|mem| plain(human::number(mem as f64, Unit::Bytes))));
        let counts = [
            (snapshot.programs.as_ref().map(Vec::len), "programs"),
            (snapshot.maps.as_ref().map(Vec::len), "maps"),
            (snapshot.links.as_ref().map(Vec::len), "links"),
        ];
        let counts = counts.into_iter().filter_map(|(count, what)| Some(format!("{} {what}", count?)));
        parts.push(plain(counts.collect::<Vec<_>>().join(", ")));
    }
    join(buffer, area, &parts, theme);
}

/// Draws how current everything is, and what is shown of it.
pub(super) fn line(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme, now: Duration) {
    let (filter, is_typing) = state.filter();
    let mut parts = Vec::new();
    if is_typing {
        parts.push((format!("/{filter}_"), theme.warning()));
    }
    if state.is_paused() {
        parts.push(("PAUSED".to_owned(), theme.warning()));
    }
    if let Some(failure) = state.failure() {
        parts.push((format!("failed: {failure}"), theme.danger()));
    }
    parts.extend(run_statistics(state, theme));
    parts.extend(age(state, theme, now));
    if !filter.is_empty() && !is_typing {
        parts.push((format!("/{filter}"), theme.warning()));
    }
    let count = state.rows().len();
    let all = match state.rows() {
        Rows::Events(_) => Some(state.events().len()),
        Rows::Table(OfTable { total, .. }) => Some(*total),
        Rows::Tree(_) | Rows::Unknown => None,
    };
    if let Some(all) = all {
        parts.push((
            if all == count { format!("{all} rows") } else { format!("{count} of {all} rows") },
            Style::new(),
        ));
    }
    if !state.shows_own() {
        parts.push(("without own".to_owned(), Style::new()));
    }
    if state.events().missed() > 0 && state.tab() == Tab::Events {
        parts.push((format!("{} missed", state.events().missed()), theme.warning()));
    }
    if let Some(issues) = state.readings().map(|readings| &readings.now().issues)
        && let Some(issue) = issues.iter().find(|issue| issue.count > 0)
    {
        let text = format!("incomplete: {}: {} {}", issue.part.as_str(), issue.call, issue.error);
        parts.push((text, theme.warning()));
    }
    join(buffer, area, &parts, theme);
}

/// Returns who has runs counted.
fn run_statistics(state: &State, theme: Theme) -> Option<(String, Style)> {
    let run = state.run_stats()?;
    let text = match (state.origin().0, run.by_exporter, run.by_sysctl) {
        (_, _, Some(true)) => "run statistics on by sysctl",
        (Origin::Host, true, _) => "run statistics on while top runs",
        (Origin::Exporter(_), true, _) => "run statistics on by the exporter",
        (Origin::Recording(_), true, _) => "run statistics were on",
        (_, false, _) => return Some(("run statistics off: no run times".to_owned(), theme.warning())),
    };
    Some((text.to_owned(), Style::new()))
}

/// Returns how old everything is, which is all that changes without news or input.
pub(super) fn age(state: &State, theme: Theme, now: Duration) -> Option<(String, Style)> {
    let (origin, every) = state.origin();
    let (age, reading) = state.ages(now);
    // Whole seconds: a line that changes more often is only restless.
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    if let Some(reading) = reading.filter(|reading| *reading > every * SLOW) {
        return Some((format!("reading for {}", seconds(reading)), theme.warning()));
    }
    match (origin, state.has_ended()) {
        (Origin::Recording(name), true) => Some((format!("end of {name}"), theme.warning())),
        (Origin::Recording(name), false) => Some((name.clone(), Style::new())),
        (Origin::Exporter(_) | Origin::Host, true) => {
            let last = age.map_or_else(String::new, |age| format!(", the last was {} ago", seconds(age)));
            Some((format!("no further readings{last}"), theme.warning()))
        }
        (Origin::Exporter(url), false) => Some((format!("{url}, {} ago", seconds(age?)), Style::new())),
        (Origin::Host, false) => Some((format!("every {every:?}, {} ago", seconds(age?)), Style::new())),
    }
}

/// Draws what can be done.
pub(super) fn keys(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) {
    let keys: &[(&str, &str)] = if state.filter().1 {
        &[("Enter", "keep"), ("Esc", "clear"), ("", "words, FIELD:WORD, FIELD>NUMBER")]
    } else if state.shows_help() {
        &[("Esc", "back"), ("q", "quit")]
    } else if state.details().is_some() {
        &[("Esc", "back"), ("Tab", "connected objects"), ("Enter", "open"), ("p", "pause"), ("q", "quit")]
    } else if state.shows_tree() {
        &[
            ("q", "quit"),
            ("?", "help"),
            ("/", "filter"),
            ("Left/Right", "fold"),
            ("Enter", "details"),
            ("t", "table"),
        ]
    } else {
        &[
            ("q", "quit"),
            ("?", "help"),
            ("/", "filter"),
            ("s", "sort"),
            ("r", "reverse"),
            ("p", "pause"),
            ("Enter", "details"),
            ("t", "tree"),
            ("o", "own"),
        ]
    };
    let mut x = area.x;
    for (key, meaning) in keys {
        let room = |x: u16| area.right().saturating_sub(x);
        (x, _) = put(buffer, (x, area.y), key, room(x), theme.heading());
        (x, _) = put(buffer, (x, area.y), &format!(" {meaning}  "), room(x), Style::new());
    }
}

/// Returns why a list is empty.
pub(super) fn nothing(state: &State) -> &'static str {
    match (state.readings(), state.tab()) {
        (None, _) => "reading ...",
        (_, Tab::Events) if state.events().is_empty() => "nothing has happened so far",
        _ if *state.rows() == Rows::Unknown => "this could not be read, or is not known yet",
        _ if state.filter().0.is_empty() => "nothing is there",
        _ => "nothing matches the filter; Esc clears it",
    }
}

/// Draws parts of a line, as many as there is room for, and of the first that is too long what fits.
fn join(buffer: &mut Buffer, area: Rect, parts: &[(String, Style)], theme: Theme) {
    let mut x = area.x;
    for (position, (part, style)) in parts.iter().enumerate() {
        let room = area.right().saturating_sub(x);
        if position > 0 {
            if room < width(SEPARATOR) + 4 {
                return;
            }
            (x, _) = put(buffer, (x, area.y), SEPARATOR, room, theme.faint());
        }
        (x, _) = put(buffer, (x, area.y), part, area.right().saturating_sub(x), *style);
    }
}
