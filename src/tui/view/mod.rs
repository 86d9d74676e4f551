//! Draws the state. Entry points: [`Painter`], and [`draw`] for one frame, which returns what is where for the mouse.
//!
//! Names are of any origin, so each text passes `text` on its way to the screen.

mod cells;
mod details;
mod help;
mod painter;
mod status;
mod table;
mod tree;

use std::borrow::Cow;
use std::time::Duration;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

pub use self::painter::Painter;
use super::state::{Rows, State, Tab, Target};
use crate::export::event_text;
use crate::text::visible;

/// Lines of the screen that are not rows of a list: title, tabs, headings, status and keys.
const OTHER_LINES: u16 = 5;

/// How the screen may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Whether there are colours. Without them there are bold and reversed texts.
    pub colour: bool,
}

impl Theme {
    fn in_colour(self, colour: Color, otherwise: Modifier) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new().add_modifier(otherwise) }
    }

    fn heading(self) -> Style {
        self.in_colour(Color::Cyan, Modifier::empty()).add_modifier(Modifier::BOLD)
    }

    fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn warning(self) -> Style {
        self.in_colour(Color::Yellow, Modifier::BOLD)
    }

    fn danger(self) -> Style {
        self.in_colour(Color::Red, Modifier::BOLD)
    }

    fn faint(self) -> Style {
        self.in_colour(Color::DarkGray, Modifier::DIM)
    }

    fn graph(self) -> Style {
        self.in_colour(Color::Green, Modifier::empty())
    }
}

/// What is where on the screen.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    targets: Vec<(Rect, Target)>,
    /// The first line of the details that is shown; `None` if they are not.
    pub first_line: Option<usize>,
}

impl Screen {
    /// Returns what is at a place.
    #[must_use]
    pub fn hit(&self, column: u16, row: u16) -> Option<Target> {
        let place = Position::new(column, row);
        self.targets.iter().find(|(area, _)| area.contains(place)).map(|(_, target)| target.clone())
    }

    fn add(&mut self, area: Rect, target: Target) {
        self.targets.push((area, target));
    }
}

/// Returns how many rows of a list a screen of this height has room for.
#[must_use]
pub const fn page(height: u16) -> usize {
    height.saturating_sub(OTHER_LINES) as usize
}

/// Draws the state at a time since the start.
pub fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme, now: Duration) -> Screen {
    let area = frame.area();
    let mut screen = Screen::default();
    if area.width == 0 || area.height < 2 {
        return screen;
    }
    let buffer = frame.buffer_mut();
    let line = |row: u16| Rect { y: area.y + row, height: 1, ..area }.intersection(area);
    status::title(buffer, line(0), state, theme);
    tabs(buffer, line(1), state, &mut screen);
    let body = Rect { y: area.y + 2, height: area.height.saturating_sub(4), ..area };
    if state.shows_help() {
        help::draw(buffer, body, theme);
    } else if let Some(details) = state.details() {
        details::draw(buffer, body, state, details, theme, &mut screen);
    } else {
        list(buffer, body, state, theme, &mut screen);
    }
    if area.height >= 4 {
        status::line(buffer, line(area.height - 2), state, theme, now);
        status::keys(buffer, line(area.height - 1), state, theme);
    }
    screen
}

fn tabs(buffer: &mut Buffer, area: Rect, state: &State, screen: &mut Screen) {
    let titles = Tab::ALL.iter().zip(1..).map(|(tab, digit)| format!(" {digit} {} ", tab.title()));
    let titles: Vec<_> = titles.collect();
    let is_narrow = titles.iter().map(String::len).sum::<usize>() > usize::from(area.width);
    let mut x = area.x;
    for (digit, (&tab, title)) in (1..).zip(Tab::ALL.iter().zip(&titles)) {
        let is_open = tab == state.tab();
        let short = format!(" {digit} ");
        let title = if is_narrow && !is_open { &short } else { title };
        let style = if is_open { Theme::chosen() } else { Style::new() };
        let (end, _) = put(buffer, (x, area.y), title, area.right().saturating_sub(x), style);
        screen.add(Rect { x, y: area.y, width: end - x, height: 1 }, Target::Tab(tab));
        x = end;
    }
}

fn list(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme, screen: &mut Screen) {
    let rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area }.intersection(area);
    match state.rows() {
        Rows::Table(..) => table::draw(buffer, area, rows, state, theme, screen),
        Rows::Tree(nodes) => tree::draw(buffer, area, rows, (state, nodes), theme),
        Rows::Events(events) => {
            put(
                buffer,
                (area.x + 2, area.y),
                "Time      What happened",
                area.width.saturating_sub(2),
                theme.heading(),
            );
            let shown = events.iter().skip(state.list().offset());
            for (line, &number) in (0..rows.height).zip(shown) {
                // During a pause, one may have made room for later ones.
                let Some(event) = state.events().get(number) else { continue };
                let clock = state.readings().map(|readings| readings.now().clock).unwrap_or_default();
                let time = clock.second(event.at).strftime("%H:%M:%S");
                let style = if event.kind.is_warning() { theme.warning() } else { Style::new() };
                let text = format!("{time}  {}", event_text::line(event));
                put(buffer, (rows.x + 2, rows.y + line), &text, rows.width.saturating_sub(2), style);
            }
        }
        Rows::Unknown => {}
    }
    if state.rows().is_empty() {
        put(
            buffer,
            (rows.x + 2, rows.y),
            status::nothing(state),
            rows.width.saturating_sub(2),
            theme.faint(),
        );
        return;
    }
    let list = state.list();
    let shown = usize::from(rows.height).min(state.rows().len() - list.offset());
    for line in 0..u16::try_from(shown).expect("it is at most the height") {
        let area = Rect { y: rows.y + line, height: 1, ..rows };
        screen.add(area, Target::Row(list.offset() + usize::from(line)));
    }
    let cursor = list.position() - list.offset();
    if let Ok(line) = u16::try_from(cursor)
        && line < rows.height
    {
        buffer.set_style(Rect { y: rows.y + line, height: 1, ..rows }, Theme::chosen());
    }
}

/// Returns a text of any origin as it may be shown.
fn text(text: &str) -> Cow<'_, str> {
    visible(text)
}

/// Returns how many columns a text has.
fn width(text: &str) -> u16 {
    Span::raw(text).width().try_into().unwrap_or(u16::MAX)
}

/// Writes text of any origin, cut to a width with an ellipsis. Returns where it ends.
fn put(buffer: &mut Buffer, (x, y): (u16, u16), foreign: &str, room: u16, style: Style) -> (u16, u16) {
    if room == 0 || !buffer.area().contains(Position::new(x, y)) {
        return (x, y);
    }
    let shown = text(foreign);
    if width(&shown) <= room {
        return buffer.set_stringn(x, y, shown, room.into(), style);
    }
    let (end, _) = buffer.set_stringn(x, y, &shown, (room - 1).into(), style);
    buffer.set_stringn(end, y, "…", 1, style)
}

/// Writes text of any origin at the right end of a width.
fn put_right(buffer: &mut Buffer, (x, y): (u16, u16), text: &str, room: u16, style: Style) {
    let free = room.saturating_sub(width(&self::text(text)));
    put(buffer, (x + free, y), text, room - free, style);
}
