//! Everything that is known of one object, owner or attachment, and what it is connected with. Entry point: [`Details::of`].

use super::{owner_of, table_of};
use crate::metrics::columns::{Cell, Column, Refers, RowKey, SnapshotPair, Table, TableKind, name_and_type};
use crate::metrics::facts::{Fact, Section, facts};
use crate::model::{Object, Orphan};

/// The most connected objects that are listed.
const MAX_LINKED: usize = 200;

/// Something that the object is connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// How: the heading of the column that says so.
    pub relation: &'static str,
    /// What.
    pub key: RowKey,
    /// Its name, which may be of any origin.
    pub name: String,
    /// Its type; empty for what has none.
    pub object_type: String,
}

/// Everything that is known of one thing.
#[derive(Clone, Debug)]
pub struct Details {
    /// What.
    pub key: RowKey,
    /// Its name, which may be of any origin.
    pub name: String,
    /// What is known. As of the last reading that had it.
    pub sections: Vec<Section>,
    /// What it is connected with.
    pub linked: Vec<Linked>,
    /// How many more it is connected with.
    pub more: usize,
    /// Whether it is gone.
    pub is_gone: bool,
    /// The first line that is shown.
    pub scroll: usize,
    /// Whether the chosen object is shown wherever that line is.
    pub follows_choice: bool,
    chosen: Option<usize>,
}

impl Details {
    /// Returns what is known of something.
    pub(super) fn of(key: RowKey, readings: &SnapshotPair) -> Self {
        let mut details = Self {
            key,
            name: String::new(),
            sections: Vec::new(),
            linked: Vec::new(),
            more: 0,
            is_gone: false,
            scroll: 0,
            follows_choice: false,
            chosen: None,
        };
        details.read(readings);
        details
    }

    /// Takes what a reading knows. Of what is gone, the last state stays.
    pub(super) fn read(&mut self, readings: &SnapshotPair) {
        let table = readings.table(table_of(&self.key));
        let row = table.as_ref().and_then(|table| Some((table, position(table, &self.key)?)));
        // An orphan may have disappeared from its table between the two parts of a reading.
        let is_orphan =
            |orphan: &Orphan| self.key == RowKey::Object(Object { kind: orphan.kind, id: orphan.id });
        self.is_gone = row.is_none() && !readings.now().orphans.iter().flatten().any(is_orphan);
        if self.is_gone {
            return;
        }
        let mut sections = facts(readings.now(), &self.key);
        if let Some((table, row)) = row {
            let known = sections.first().map(|section| section.values.concat()).unwrap_or_default();
            sections.insert(0, of_row(table, row, &known));
        }
        sections.retain(|section| section.values.iter().any(|value| !value.is_empty()));
        let chosen = self.chosen().map(|linked| linked.key.clone());
        self.sections = sections;
        self.name = name(readings, &self.key).0;
        let mut linked = linked(readings, &self.key);
        self.more = linked.len().saturating_sub(MAX_LINKED);
        linked.truncate(MAX_LINKED);
        for linked in &mut linked {
            (linked.name, linked.object_type) = name(readings, &linked.key);
        }
        self.linked = linked;
        self.chosen = chosen.and_then(|key| self.linked.iter().position(|linked| linked.key == key));
    }

    /// Chooses the next or the previous connected object.
    pub(super) fn choose(&mut self, forward: bool) {
        let count = self.linked.len();
        self.follows_choice = true;
        self.chosen = match self.chosen {
            _ if count == 0 => None,
            None => Some(if forward { 0 } else { count - 1 }),
            Some(position) => Some((position + if forward { 1 } else { count - 1 }) % count),
        };
    }

    /// Shows other lines, wherever the chosen object is.
    pub(super) const fn scroll_to(&mut self, line: usize) {
        (self.scroll, self.follows_choice) = (line, false);
    }

    /// Returns the chosen object.
    #[must_use]
    pub fn chosen(&self) -> Option<&Linked> {
        self.linked.get(self.chosen?)
    }
}

/// Returns the position of something in its table.
fn position(table: &Table<'_>, key: &RowKey) -> Option<usize> {
    (0..table.len()).find(|&row| table.key(row) == *key)
}

/// Returns what the columns of a row have beyond what is known already: rates, means, processes and pins.
fn of_row(table: &Table<'_>, row: usize, known: &[Fact]) -> Section {
    let columns = table.columns().iter().enumerate();
    let columns = columns.filter(|(_, column)| column.refers == Refers::Nothing);
    let facts = columns.filter_map(|(position, column)| {
        let &Column { field, unit, help, .. } = column;
        let cell = table.cell(row, position).into_owned();
        let is_new = cell.is_known() && known.iter().all(|fact| fact.name != field && fact.cell != cell);
        is_new.then_some(Fact { name: field, help, unit, cell })
    });
    Section { title: "Rates, means, processes and pins", values: vec![facts.collect()] }
}

/// Returns the name and the type of something.
fn name(readings: &SnapshotPair, key: &RowKey) -> (String, String) {
    match key {
        RowKey::Object(object) => {
            let (name, object_type) = name_and_type(readings.now(), *object);
            (name.unwrap_or_default().to_owned(), object_type.unwrap_or_default())
        }
        RowKey::Owner(kind, name) => (name.clone(), kind.as_str().to_owned()),
        RowKey::Hook(_) => {
            let hooks = readings.table(TableKind::Hooks);
            let text = hooks.and_then(|table| {
                let row = position(&table, key)?;
                match table.cell(row, table.column("hook")?) {
                    Cell::Text(text) => Some(text.into_owned()),
                    _ => None,
                }
            });
            (text.unwrap_or_default(), String::new())
        }
    }
}

/// Returns what the row of something refers to; of an owner its objects. Without names.
fn linked(readings: &SnapshotPair, key: &RowKey) -> Vec<Linked> {
    let linked = |relation, key| Linked { relation, key, name: String::new(), object_type: String::new() };
    if let RowKey::Owner(..) = key {
        let mut all = Vec::new();
        for kind in [TableKind::Programs, TableKind::Maps, TableKind::Links] {
            let Some(table) = readings.table(kind) else { continue };
            let rows = table.select(&crate::metrics::columns::Filter::default(), table.default_sort());
            let owned = rows.into_iter().filter(|&row| owner_of(&table, row).as_ref() == Some(key));
            all.extend(owned.map(|row| linked(kind.title(), table.key(row))));
        }
        return all;
    }
    let Some(table) = readings.table(table_of(key)) else { return Vec::new() };
    let Some(row) = position(&table, key) else { return Vec::new() };
    let mut all = Vec::new();
    for (position, column) in table.columns().iter().enumerate() {
        match (column.refers, table.cell(row, position)) {
            (Refers::Owner, _) => all.extend(owner_of(&table, row).map(|key| linked(column.title, key))),
            (Refers::Object(kind), Cell::Ids(ids)) => {
                all.extend(ids.iter().map(|&id| linked(column.title, RowKey::Object(Object { kind, id }))));
            }
            (Refers::Object(kind), Cell::Int(id)) => {
                let other = u32::try_from(id).ok().map(|id| RowKey::Object(Object { kind, id }));
                all.extend(other.filter(|other| other != key).map(|key| linked(column.title, key)));
            }
            _ => {}
        }
    }
    all
}
