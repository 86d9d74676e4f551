//! Rows of a table as HTML. Entry point: [`ShownRows::write`].

use std::borrow::Cow;

use super::html::Html;
use crate::export::human;
use crate::metrics::columns::{Cell, Column, Sort, Table};
use crate::web::api::parameters::{TableQuery, object_link};
use crate::web::api::related::referred_keys;
use crate::web::bounds;

/// Columns of this importance, or a greater one, are in the table without a script.
const HIGHEST_RANK: u8 = 3;

/// Rows of a table.
pub(super) struct ShownRows<'a> {
    pub(super) table: &'a Table<'a>,
    pub(super) positions: &'a [usize],
    /// For links that sort: what is shown, and in which order.
    pub(super) sorted: Option<(&'a TableQuery, Sort)>,
    pub(super) id: &'a str,
}

impl ShownRows<'_> {
    pub(super) fn write(&self, html: &mut Html) {
        let Self { table, positions, id, .. } = self;
        let shown: Vec<_> =
            table.columns().iter().enumerate().filter(|(at, column)| self.is_shown(*at, column)).collect();
        // The cell that names the row.
        let named = table.column("id").unwrap_or(0);
        let title = table.kind().title();
        html.open(
            "div",
            &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", title)],
        );
        html.open("table", &[("id", id), ("class", "table")]);
        html.element("caption", &[("class", "hidden")], title);
        html.open("thead", &[]);
        html.open("tr", &[]);
        for (at, column) in &shown {
            self.heading(html, *at, column);
        }
        html.close("tr");
        html.close("thead");
        html.line();
        html.open("tbody", &[]);
        for &row in *positions {
            let key = table.key(row).to_string();
            let mut attributes = vec![("data-key", &*key)];
            attributes.extend(table.is_own(row).then_some(("class", "own")));
            html.open("tr", &attributes);
            for (at, column) in &shown {
                if *at == named {
                    let text = human::cell(&table.cell(row, *at), column.unit, table.clock());
                    html.open("th", &[("scope", "row")]);
                    html.link(&object_link(&key), if text.is_empty() { "(no name)" } else { &text });
                    html.close("th");
                } else {
                    self.cell(html, row, *at, column);
                }
            }
            html.close("tr");
            html.line();
        }
        html.close("tbody");
        html.close("table");
        html.close("div");
        html.line();
    }

    /// Returns whether a column is important enough and has something to show.
    fn is_shown(&self, at: usize, column: &Column) -> bool {
        column.rank == 0
            || (column.rank <= HIGHEST_RANK
                && self.positions.iter().any(|&row| self.table.cell(row, at).is_known()))
    }

    fn heading(&self, html: &mut Html, at: usize, column: &Column) {
        let mut attributes = vec![("scope", "col"), ("data-field", column.field), ("title", column.help)];
        attributes.extend(column.is_numeric.then_some(("class", "number")));
        let Some((query, sort)) = self.sorted else {
            html.element("th", &attributes, column.title);
            return;
        };
        let is_current = sort.column == at;
        if is_current {
            attributes.push(("aria-sort", if sort.descending { "descending" } else { "ascending" }));
        }
        let descending = if is_current { !sort.descending } else { column.is_numeric };
        let next = Sort { column: at, descending };
        let query = TableQuery { sort: Some(next), offset: 0, ..query.clone() };
        html.open("th", &attributes);
        html.link(&query.link(), column.title);
        html.close("th");
    }

    fn cell(&self, html: &mut Html, row: usize, at: usize, column: &Column) {
        let class = column.is_numeric.then_some(("class", "number"));
        html.open("td", class.as_slice());
        let cell = self.table.cell(row, at);
        let keys = referred_keys(self.table, row, at, bounds::CELL_IDS);
        if keys.is_empty() {
            html.text(&human::cell(&cell, column.unit, self.table.clock()));
        }
        for (number, key) in keys.iter().enumerate() {
            if number > 0 {
                html.text(", ");
            }
            let text = match &cell {
                Cell::Ids(ids) => Cow::from(ids[number].to_string()),
                cell => human::cell(cell, column.unit, self.table.clock()).into(),
            };
            html.link(&object_link(&key.to_string()), &text);
        }
        if let Cell::Ids(ids) = &cell
            && ids.len() > keys.len()
        {
            html.text(&format!(" +{}", ids.len() - keys.len()));
        }
        html.close("td");
    }
}
