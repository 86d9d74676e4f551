//! Everything that is known of one thing: graphs, connected objects, and facts. Entry point: [`draw`].

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Sparkline, Widget as _};

use super::{Screen, Theme, put};
use crate::export::human;
use crate::metrics::columns::{Cell, RowKey};
use crate::tui::state::{Details, Linked, State, Target};

/// Lines of a graph, without what is above it.
const GRAPH: u16 = 3;

/// Steps of the highest bar.
const STEPS: f64 = 1_000_000.0;

/// Room for the names of facts.
const NAME: usize = 38;

/// A line below the graphs.
enum Line<'a> {
    Heading(String),
    Linked(usize, &'a Linked),
    Fact(String, String),
    Empty,
}

/// Draws details: the name, graphs side by side where there is room, and lines that can be scrolled.
pub(super) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    state: &State,
    details: &Details,
    theme: Theme,
    screen: &mut Screen,
) {
    let what = match &details.key {
        RowKey::Owner(kind, name) => format!("{} {name}", kind.as_str()),
        RowKey::Hook(_) => format!("hook {}", details.name),
        key @ RowKey::Object(_) => format!("{} {}", key.to_string().replacen('/', " ", 1), details.name),
    };
    let gone = match (details.is_gone, details.sections.is_empty()) {
        (false, _) => "",
        (true, true) => " (is not there)",
        (true, false) => " (is gone; this is its last state)",
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let (x, y) = put(buffer, (area.x + 1, area.y), &what, area.width.saturating_sub(1), bold);
    put(buffer, (x, y), gone, area.right().saturating_sub(x), theme.warning());
    let graphs = graphs(buffer, area, state, details, theme);
    let used = 1 + graphs;
    let body = Rect { y: area.y + used, height: area.height.saturating_sub(used), ..area }.intersection(area);
    let lines = lines(state, details);
    let chosen = details.chosen();
    let mut first = details.scroll.min(lines.len().saturating_sub(body.height.into()));
    // The chosen object is shown until something else is scrolled to.
    let is_chosen = |line: &Line<'_>| matches!(line, Line::Linked(_, linked) if Some(*linked) == chosen);
    if details.follows_choice
        && let Some(line) = lines.iter().position(is_chosen)
    {
        first = first.min(line).max((line + 1).saturating_sub(body.height.into()));
    }
    screen.first_line = Some(first);
    for (y, line) in (body.y..body.bottom()).zip(lines.iter().skip(first)) {
        let (x, room) = (body.x + 1, body.width.saturating_sub(2));
        match line {
            Line::Empty => {}
            Line::Heading(text) => {
                put(buffer, (x, y), text, room, theme.heading());
            }
            Line::Linked(position, linked) => {
                let what = match &linked.key {
                    RowKey::Owner(kind, _) => kind.as_str().to_owned(),
                    key => key.to_string().replacen('/', " ", 1),
                };
                let of_owner = matches!(linked.key, RowKey::Owner(..));
                let object_type = if of_owner { "" } else { &linked.object_type };
                let text = format!("  {:<14}{what}  {}  {object_type}", linked.relation, linked.name);
                put(buffer, (x, y), &text, room, Style::new());
                let line = Rect { x: body.x, y, width: body.width, height: 1 };
                screen.add(line, Target::Row(*position));
                if Some(*linked) == chosen {
                    buffer.set_style(line, Theme::chosen());
                }
            }
            Line::Fact(name, value) => {
                let indent = u16::try_from(NAME).expect("it is small").min(room / 2);
                put(buffer, (x + 2, y), name, indent.saturating_sub(3), theme.faint());
                put(buffer, (x + indent, y), value, room.saturating_sub(indent), Style::new());
            }
        }
    }
}

/// Returns the lines below the graphs.
fn lines<'a>(state: &State, details: &'a Details) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    if !details.linked.is_empty() {
        lines.push(Line::Heading("Connected".to_owned()));
        lines.extend(
            details.linked.iter().enumerate().map(|(position, linked)| Line::Linked(position, linked)),
        );
        if details.more > 0 {
            lines.push(Line::Fact("and more".to_owned(), details.more.to_string()));
        }
        lines.push(Line::Empty);
    }
    let clock = state.readings().map(|readings| readings.now().clock).unwrap_or_default();
    for section in &details.sections {
        lines.push(Line::Heading(section.title.to_owned()));
        for (position, value) in section.values.iter().enumerate() {
            if position > 0 {
                lines.push(Line::Empty);
            }
            for fact in value {
                let text = match &fact.cell {
                    Cell::Text(text) if text.is_empty() => "\"\"".to_owned(),
                    cell => human::cell(cell, fact.unit, clock),
                };
                lines.push(Line::Fact(fact.name.to_owned(), text));
            }
        }
        lines.push(Line::Empty);
    }
    lines
}

/// Draws the graphs of what is measured. Returns how many lines they have.
fn graphs(buffer: &mut Buffer, area: Rect, state: &State, details: &Details, theme: Theme) -> u16 {
    let Some((kind, measures, points)) = state.history().of(&details.key) else { return 0 };
    let height = GRAPH + 3;
    if area.height < height + 4 || area.width < 30 {
        return 0;
    }
    let columns = kind.columns();
    let count = u16::try_from(measures.len()).expect("there are three at most");
    let width = area.width / count;
    for (position, measure) in measures.iter().enumerate() {
        let x = area.x + width * u16::try_from(position).expect("there are three at most");
        let part = Rect { x: x + 1, y: area.y + 1, width: width.saturating_sub(2), height: 1 };
        let unit = columns.iter().find(|column| column.field == measure.field).map(|column| column.unit);
        let unit = unit.expect("a test looks up each measure");
        let (last, most) =
            (points.of(position).next_back().flatten(), points.of(position).flatten().reduce(f64::max));
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| human::number(value, unit));
        put(buffer, (part.x, part.y), measure.title, part.width, theme.heading());
        let numbers = format!("{}, at most {}", number(last), number(most));
        put(buffer, (part.x, part.y + 1), &numbers, part.width, Style::new());
        let most = most.filter(|&most| most > 0.0).unwrap_or(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to the steps"
        )]
        let bar = |value: f64| (value / most * STEPS).clamp(0.0, STEPS) as u64;
        // One column for each reading, the last one on the right.
        let values = points.of(position).rev().take(part.width.into()).map(|value| value.map(bar));
        let mut bars: Vec<Option<u64>> = values.collect();
        bars.resize(part.width.into(), None);
        bars.reverse();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number")]
        let sparkline = Sparkline::default().data(bars).max(STEPS as u64).style(theme.graph());
        sparkline.render(Rect { y: part.y + 2, height: GRAPH, ..part }, buffer);
    }
    height
}
