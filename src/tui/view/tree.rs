//! The tree of owners and their objects. Entry point: [`draw`].

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::cells::{style_of, text_of};
use super::{Theme, put, put_right};
use crate::metrics::columns::{Cell, RowKey, Table, TableKind};
use crate::tui::state::{Key, Node, State};

/// The columns beside the name, as far as a table has them: field, heading and width.
const COLUMNS: [(&str, &str, u16); 5] = [
    ("mem_bytes", "Memory", 9),
    ("cpu_ratio", "CPU", 9),
    ("runs_per_second", "Runs", 9),
    ("fill_ratio", "Fill", 8),
    ("mean_run_time_seconds", "Run", 8),
];

/// The least room for names.
const NAME: u16 = 24;

/// Draws the headings on the first line of `area`, and `rows`.
pub(super) fn draw(
    buffer: &mut Buffer,
    area: Rect,
    rows: Rect,
    (state, nodes): (&State, &[Node]),
    theme: Theme,
) {
    let Some(readings) = state.readings() else { return };
    let mut room = area.width.saturating_sub(2);
    let columns: Vec<_> = COLUMNS
        .into_iter()
        .take_while(|(_, _, width)| {
            let fits = room > NAME + width;
            room -= if fits { width + 1 } else { 0 };
            fits
        })
        .collect();
    put(buffer, (area.x + 2, area.y), "Owner and objects", room, theme.heading());
    let mut x = area.x + 2 + room;
    for (_, heading, width) in &columns {
        put_right(buffer, (x, area.y), heading, width + 1, theme.heading());
        x += width + 1;
    }
    let tables: Vec<_> = [TableKind::Owners, TableKind::Programs, TableKind::Maps, TableKind::Links]
        .into_iter()
        .filter_map(|kind| readings.table(kind))
        .collect();
    let shown = nodes.iter().skip(state.list().offset());
    for (y, node) in (rows.y..rows.bottom()).zip(shown) {
        let table = tables.iter().find(|table| table.kind() == node.table);
        let row = table.zip(node.row);
        if row.is_some_and(|(table, row)| table.is_own(row)) {
            put(buffer, (rows.x, y), "*", 1, theme.faint());
        }
        let style = if node.depth == 0 { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        put(buffer, (rows.x + 2, y), &name(state, node, row), room, style);
        let Some((table, row)) = row else { continue };
        let mut x = rows.x + 2 + room;
        for (field, _, width) in &columns {
            if let Some(position) = table.column(field) {
                let (cell, column) = (table.cell(row, position), &table.columns()[position]);
                let text = text_of(&cell, column, table.clock());
                put_right(buffer, (x, y), &text, width + 1, style_of(&cell, column, theme));
            }
            x += width + 1;
        }
    }
}

fn name(state: &State, node: &Node, row: Option<(&Table<'_>, usize)>) -> String {
    let text = |field: &str| {
        let (table, row) = row?;
        match table.cell(row, table.column(field)?) {
            Cell::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    };
    if node.depth == 0 {
        let mark = if state.is_collapsed(node) { '+' } else { '-' };
        let name = match &node.key {
            // There is only one kernel.
            Key::Row(RowKey::Owner(kind, name)) if kind.as_str() == name => name.clone(),
            Key::Row(RowKey::Owner(kind, name)) => format!("{} {name}", kind.as_str()),
            _ => "without an owner".to_owned(),
        };
        return format!("{mark} {name} ({})", node.objects);
    }
    let what = match &node.key {
        Key::Row(key) => key.to_string().replacen('/', " ", 1),
        _ => String::new(),
    };
    let words = [Some(what), text("name").or_else(|| text("program")), text("type")];
    let words = words.into_iter().flatten().filter(|word| !word.is_empty());
    format!("    {}", words.collect::<Vec<_>>().join("  "))
}
