//! The cursor, the part that is shown, and the order of a list. Entry point: [`List`].

use super::Key;
use crate::metrics::columns::{Sort, Table};

/// Where one is in a list.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The field of the column that rows are sorted by, and whether the largest comes first; `None` for the most expensive first.
    pub(super) sort: Option<(&'static str, bool)>,
    key: Option<Key>,
    position: usize,
    offset: usize,
    shift: usize,
}

impl List {
    /// Returns the position of the cursor.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Returns the position of the first row that is shown.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Returns how many of the most important columns make room for others.
    #[must_use]
    pub const fn shift(&self) -> usize {
        self.shift
    }

    pub(super) const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Returns the order of a table.
    pub(super) fn order(&self, table: &Table<'_>) -> Sort {
        let chosen = self.sort.and_then(|(field, descending)| Some((table.column(field)?, descending)));
        chosen.map_or_else(|| table.default_sort(), |(column, descending)| Sort { column, descending })
    }

    /// Moves the cursor, and shows as many rows of the list as there is room for, with that of the cursor.
    pub(super) fn move_to(&mut self, position: usize, key: Option<Key>, count: usize, page: usize) {
        (self.position, self.key) = (position, key);
        let last = count.saturating_sub(page);
        self.offset = self.offset.min(last).min(position).max((position + 1).saturating_sub(page));
    }

    pub(super) fn return_to_top(&mut self) {
        (self.position, self.offset, self.key) = (0, 0, None);
    }

    pub(super) const fn shift_left(&mut self) {
        self.shift = self.shift.saturating_sub(1);
    }

    pub(super) fn shift_right(&mut self, most: usize) {
        self.shift = (self.shift + 1).min(most);
    }
}
