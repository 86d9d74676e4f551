//! Owners with their programs, maps and links. Entry point: [`select`].

use std::collections::{HashMap, HashSet};

use super::{Key, owner_of};
use crate::metrics::columns::{Filter, RowKey, SnapshotPair, TableKind};

/// The tables whose rows are below owners.
const OBJECTS: [TableKind; 3] = [TableKind::Programs, TableKind::Maps, TableKind::Links];

/// A row of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub key: Key,
    /// The table that has it.
    pub table: TableKind,
    /// Its position there; `None` for what has no row: the objects without an owner.
    pub row: Option<usize>,
    /// 0 for an owner, 1 for an object.
    pub depth: usize,
    /// How many objects are below it and match.
    pub objects: usize,
}

/// Returns owners, the most expensive first, each with its objects, likewise. An owner is there if it matches or an object of it does;
/// all objects of an owner that matches are there.
pub(super) fn select(readings: &SnapshotPair, filter: &Filter, collapsed: &HashSet<Key>) -> Vec<Node> {
    let everything =
        if filter.is_without_own() { Filter::default().without_own() } else { Filter::default() };
    let Some(owners) = readings.table(TableKind::Owners) else { return Vec::new() };
    let sort = owners.default_sort();
    let matching: HashSet<_> = owners.select(filter, sort).into_iter().map(|row| owners.key(row)).collect();

    // Objects by their owner, in the order of the tables.
    let mut below: HashMap<Option<RowKey>, Vec<Node>> = HashMap::new();
    for kind in OBJECTS {
        let Some(table) = readings.table(kind) else { continue };
        let sort = table.default_sort();
        let matching_rows: HashSet<_> = table.select(filter, sort).into_iter().collect();
        for row in table.select(&everything, sort) {
            let owner = owner_of(&table, row);
            let is_shown =
                matching_rows.contains(&row) || owner.as_ref().is_some_and(|key| matching.contains(key));
            if is_shown {
                let key = Key::Row(table.key(row));
                below.entry(owner).or_default().push(Node {
                    key,
                    table: kind,
                    row: Some(row),
                    depth: 1,
                    objects: 0,
                });
            }
        }
    }
    let mut nodes = Vec::new();
    let mut add = |key: Key, row, objects: Vec<Node>| {
        let is_collapsed = collapsed.contains(&key);
        nodes.push(Node { key, table: TableKind::Owners, row, depth: 0, objects: objects.len() });
        if !is_collapsed {
            nodes.extend(objects);
        }
    };
    for row in owners.select(&everything, sort) {
        let key = owners.key(row);
        let objects = below.remove(&Some(key.clone())).unwrap_or_default();
        if matching.contains(&key) || !objects.is_empty() {
            add(Key::Row(key), Some(row), objects);
        }
    }
    // Owners that have no totals: a snapshot of which only some objects were selected.
    let mut others: Vec<_> = below.into_iter().collect();
    others.sort_by_key(|(owner, _)| owner.as_ref().map(ToString::to_string));
    for (owner, objects) in others.into_iter().rev() {
        add(owner.map_or(Key::Unowned, Key::Row), None, objects);
    }
    nodes
}
