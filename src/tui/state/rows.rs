//! The list of the tab: which rows it has, in which order. Entry point: [`Rows`].

use super::key::Key;
use super::tree::{self, Node};
use super::{State, Tab};
use crate::metrics::columns::{Column, Filter, Sort};

/// The rows of a table that are in the list, and what about the table is found out once for each reading.
#[derive(Clone, Debug, PartialEq)]
pub struct OfTable {
    /// Rows by their positions in the table, in the order of the list.
    pub rows: Vec<usize>,
    /// The order.
    pub sort: Sort,
    /// Rows of the table.
    pub total: usize,
    /// Every column.
    pub columns: Vec<Column>,
    /// The positions of the columns that have a value in some row.
    pub known: Vec<usize>,
}

/// What is in the list of the tab.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Nothing yet, or the kernel refuses this table.
    Unknown,
    /// Rows of the table.
    Table(OfTable),
    /// Owners and their objects.
    Tree(Vec<Node>),
    /// Events, by their numbers in the log.
    Events(Vec<u64>),
}

impl Rows {
    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Table(OfTable { rows, .. }) => rows.len(),
            Self::Events(numbers) => numbers.len(),
            Self::Tree(nodes) => nodes.len(),
        }
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// Selects and sorts the rows of the tab, and finds the row of the cursor again.
    pub(super) fn select(&mut self) {
        self.rows = self.selected();
        let (count, page) = (self.rows.len(), self.page);
        let list = self.list();
        let position = match list.key() {
            // What is at the top stays there: the most expensive, or the last event.
            Some(key) if list.position() > 0 => self.position_of(key).unwrap_or(list.position()),
            _ => 0,
        };
        let position = position.min(count.saturating_sub(1));
        let key = self.key(position);
        self.list_mut().move_to(position, key, count, page);
    }

    fn selected(&self) -> Rows {
        let kind = match self.tab {
            Tab::Table(kind) => kind,
            Tab::Events => return Rows::Events(self.events.select(&self.filter)),
        };
        let Some(readings) = &self.readings else { return Rows::Unknown };
        let filter = Filter::parse(&self.filter);
        let filter = if self.shows_own { filter } else { filter.without_own() };
        if self.shows_tree() {
            return Rows::Tree(tree::select(readings, &filter, &self.collapsed));
        }
        let Some(table) = readings.table(kind) else { return Rows::Unknown };
        let columns = table.columns().to_vec();
        let known = (0..columns.len()).filter(|&column| table.has_values(column)).collect();
        let sort = self.list().order(&table);
        Rows::Table(OfTable { rows: table.select(&filter, sort), sort, total: table.len(), columns, known })
    }

    fn position_of(&self, key: &Key) -> Option<usize> {
        match (&self.rows, key) {
            (Rows::Table(OfTable { rows, .. }), Key::Row(key)) => {
                let table = self.table()?;
                rows.iter().position(|&row| table.key(row) == *key)
            }
            (Rows::Tree(nodes), key) => nodes.iter().position(|node| node.key == *key),
            (Rows::Events(numbers), Key::Event(number)) => numbers.iter().position(|each| each == number),
            _ => None,
        }
    }

    pub(super) fn key(&self, position: usize) -> Option<Key> {
        match &self.rows {
            Rows::Unknown => None,
            Rows::Table(OfTable { rows, .. }) => {
                rows.get(position).and_then(|&row| Some(Key::Row(self.table()?.key(row))))
            }
            Rows::Tree(nodes) => nodes.get(position).map(|node| node.key.clone()),
            Rows::Events(numbers) => numbers.get(position).copied().map(Key::Event),
        }
    }
}
