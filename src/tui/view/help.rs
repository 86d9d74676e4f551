//! What the keys do. Entry point: [`draw`].

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Theme, put};

const KEYS: [(&str, &str); 19] = [
    ("1 to 8, Tab, Shift-Tab", "tabs"),
    ("Up, Down, PgUp, PgDn,", "move"),
    ("Home, End", ""),
    ("Left, Right", "other columns; in the tree: hide and show objects"),
    ("s, S, >, <", "sort by the next or the previous column"),
    ("r", "reverse the order"),
    ("/", "filter: words that a row must have, in any text;"),
    ("", "also owner:cilium  mem_bytes>1000  fill_ratio>0.8"),
    ("Esc", "clear the filter, go back"),
    ("Enter", "everything known of a row, graphs, what it uses"),
    ("Tab, Enter in details", "go to a connected object"),
    ("t", "owners with their objects, as a tree"),
    ("o", "leave out the exporter's own objects (*)"),
    ("p, Space", "pause"),
    ("q, Ctrl-C", "quit"),
    ("Mouse", "click a row, again for details; a heading to sort;"),
    ("", "a tab; the wheel moves"),
    ("", ""),
    ("", "CPU is time of runs per time: 100 % is one CPU. Rates are of the last period."),
];

/// Room for the keys.
const KEY: u16 = 25;

/// Draws the list.
pub(super) fn draw(buffer: &mut Buffer, area: Rect, theme: Theme) {
    for (y, (key, meaning)) in (area.y..area.bottom()).zip(KEYS) {
        put(buffer, (area.x + 1, y), key, KEY.min(area.width.saturating_sub(2)), theme.heading());
        let is_note = key.is_empty() && meaning.starts_with("CPU");
        let x = area.x + if is_note { 1 } else { 1 + KEY };
        put(buffer, (x, y), meaning, area.right().saturating_sub(x), Style::new());
    }
}
