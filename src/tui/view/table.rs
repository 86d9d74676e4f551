//! A table: which columns there is room for, and the rows that are shown. Entry point: [`draw`].

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::cells::{style_of, text_of, widest};
use super::{Screen, Theme, put, put_right, text, width};
use crate::metrics::columns::{Cell, Column, Sort, Table};
use crate::tui::state::{OfTable, Rows, State, Target};

/// Columns between two columns.
const GAP: u16 = 2;

/// Columns before the first one, with a mark of the exporter's own objects.
const MARK: u16 = 2;

/// How many of the most important columns always stay.
const FIXED: usize = 2;

/// A column that is shown.
struct Shown<'a> {
    position: usize,
    column: &'a Column,
    title: String,
    width: u16,
    /// The cells of the rows that are shown.
    cells: Vec<(Cell<'a>, String)>,
}

/// Draws the headings on the first line of `area`, and `rows`.
pub(super) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    rows: Rect,
    state: &State,
    theme: Theme,
    screen: &mut Screen,
) {
    let (Rows::Table(selected), Some(table)) = (state.rows(), state.table()) else { return };
    let OfTable { rows: selected, sort, known, .. } = selected;
    let (sort, list) = (*sort, state.list());
    let page: Vec<usize> = selected.iter().copied().skip(list.offset()).take(rows.height.into()).collect();
    let columns = chosen(&table, &page, (known, sort, list.shift()), area.width.saturating_sub(MARK));
    for (line, &row) in (0..).zip(&page) {
        if table.is_own(row) {
            put(buffer, (rows.x, rows.y + line), "*", 1, theme.faint());
        }
    }
    let mut x = area.x + MARK;
    for Shown { position, column, title, width, cells } in &columns {
        let heading = if *position == sort.column { theme.heading().underlined() } else { theme.heading() };
        let align = if column.is_numeric { put_right } else { put_left };
        align(buffer, (x, area.y), title, *width, heading);
        screen.add(Rect { x, y: area.y, width: *width, height: 1 }, Target::Heading(column.field));
        for (line, (cell, text)) in (0..).zip(cells) {
            align(buffer, (x, rows.y + line), text, *width, style_of(cell, column, theme));
        }
        x += width + GAP;
    }
}

fn put_left(buffer: &mut Buffer, at: (u16, u16), text: &str, room: u16, style: ratatui::style::Style) {
    put(buffer, at, text, room, style);
}

/// Returns the columns that there is room for, in the order of the table: the first ones, the one that rows are sorted by, and the most
/// important others, of which the first `shift` make room for the next.
fn chosen<'a>(
    table: &'a Table<'_>,
    page: &[usize],
    (known, sort, shift): (&[usize], Sort, usize),
    room: u16,
) -> Vec<Shown<'a>> {
    let mut by_rank: Vec<usize> = known.to_vec();
    by_rank.sort_by_key(|&column| (table.columns()[column].rank, column));
    let fixed: Vec<usize> = by_rank.iter().copied().take(FIXED).collect();
    let sorting = known.contains(&sort.column).then_some(sort.column);
    let sorting = sorting.filter(|column| !fixed.contains(column));
    let others = by_rank.iter().copied().skip(FIXED).filter(|&column| Some(column) != sorting).skip(shift);
    let mut columns: Vec<Shown<'_>> = Vec::new();
    let mut left = room;
    for position in fixed.iter().copied().chain(sorting).chain(others) {
        let mut shown = shown(table, page, (position, sort), room);
        let gap = if columns.is_empty() { 0 } else { GAP };
        if shown.width + gap > left {
            // Of the first columns what there is room for is better than nothing.
            if columns.len() >= FIXED || left < gap + 4 {
                break;
            }
            shown.width = left - gap;
        }
        left -= shown.width + gap;
        columns.push(shown);
    }
    columns.sort_by_key(|shown| shown.position);
    columns
}

fn shown<'a>(
    table: &'a Table<'_>,
    page: &[usize],
    (position, sort): (usize, Sort),
    screen: u16,
) -> Shown<'a> {
    let column = &table.columns()[position];
    let cell = |&row: &usize| {
        let cell = table.cell(row, position);
        let shown = text(&text_of(&cell, column, table.clock())).into_owned();
        (cell, shown)
    };
    let cells: Vec<_> = page.iter().map(cell).collect();
    let mark = match sort {
        Sort { column, descending } if column == position => {
            if descending {
                "▼"
            } else {
                "▲"
            }
        }
        _ => "",
    };
    let title = format!("{}{mark}", column.title);
    let widest_cell = cells.iter().map(|(_, text)| width(text)).max().unwrap_or(0);
    let width = widest_cell.min(widest(column, screen)).max(width(&title));
    Shown { position, column, title, width, cells }
}
