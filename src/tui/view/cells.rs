//! Cells of a table as text, and what about them needs attention. Entry points: [`text_of`] and [`style_of`].

use ratatui::style::Style;

use super::Theme;
use crate::export::human;
use crate::metrics::Unit;
use crate::metrics::columns::{Cell, Column};
use crate::model::WallClock;

/// From which share on a map is nearly full, and nearly full of danger.
const FILL: (f64, f64) = (0.8, 0.95);

/// How soon a map is full that is a danger, in seconds.
const SOON: f64 = 600.0;

/// Returns the text of a cell; empty for what is not known.
pub(super) fn text_of(cell: &Cell<'_>, column: &Column, clock: WallClock) -> String {
    human::cell(cell, column.unit, clock)
}

/// Returns the widest that a column gets on a screen of this width: on a narrow one, several texts are better than a long one.
pub(super) fn widest(column: &Column, screen: u16) -> u16 {
    match column.unit {
        Unit::None if !column.is_numeric => (screen / 5).clamp(12, 40),
        _ => 24,
    }
}

/// Returns the style of a cell: a map that fills up stands out.
pub(super) fn style_of(cell: &Cell<'_>, column: &Column, theme: Theme) -> Style {
    let Some(number) = cell.number() else { return Style::new() };
    match column.field {
        "fill_ratio" if number >= FILL.1 => theme.danger(),
        "fill_ratio" if number >= FILL.0 => theme.warning(),
        "full_in_seconds" if number <= SOON => theme.danger(),
        _ => Style::new(),
    }
}
