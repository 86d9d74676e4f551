//! Which rows belong together: links from cells to other rows, and the rows of other tables that are about the same thing.
//! Entry points: [`referred_keys`] and [`related`].

use std::collections::HashSet;

use crate::metrics::columns::{Cell, Column, Refers, RowKey, Table, TableKind};
use crate::metrics::facts::Fact;
use crate::model::{Kind, Object, OwnerKind};
use crate::web::live::View;

/// Rows of a table that belong to a row of another one.
pub(in crate::web) struct RelatedRows<'a> {
    pub(in crate::web) table: Table<'a>,
    pub(in crate::web) rows: Vec<usize>,
}

/// Returns the table in which a key has its row.
pub(in crate::web) const fn table_of(key: &RowKey) -> TableKind {
    match key {
        RowKey::Object(object) => match object.kind {
            Kind::Program => TableKind::Programs,
            Kind::Map => TableKind::Maps,
            Kind::Link => TableKind::Links,
            Kind::Btf => TableKind::Btfs,
        },
        RowKey::Owner(..) => TableKind::Owners,
        RowKey::Hook(_) => TableKind::Hooks,
    }
}

/// Returns the column with the kinds of the owners in a column.
pub(in crate::web) fn owner_kind_field(columns: &[Column], owner: &Column) -> Option<usize> {
    columns.iter().position(|column| column.field.strip_suffix("_kind") == Some(owner.field))
}

/// Returns the keys of the rows to which a cell refers, one for each of its values, up to `most`.
pub(in crate::web) fn referred_keys(
    table: &Table<'_>,
    row: usize,
    column: usize,
    most: usize,
) -> Vec<RowKey> {
    match (table.columns()[column].refers, table.cell(row, column)) {
        (Refers::Object(kind), Cell::Int(id)) => {
            u32::try_from(id).map(|id| RowKey::Object(Object { kind, id })).into_iter().collect()
        }
        (Refers::Object(kind), Cell::Ids(ids)) => {
            ids.iter().take(most).map(|&id| RowKey::Object(Object { kind, id })).collect()
        }
        (Refers::Owner, Cell::Text(name)) => {
            let kind = owner_kind_field(table.columns(), &table.columns()[column]);
            let Some(Cell::Text(kind)) = kind.map(|kind| table.cell(row, kind)) else { return Vec::new() };
            let kind = OwnerKind::ALL.into_iter().find(|each| each.as_str() == kind);
            kind.map(|kind| RowKey::Owner(kind, name.into_owned())).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the key of the row to which a fact refers, one of these facts.
pub(in crate::web) fn link_of_fact(facts: &[Fact], fact: &Fact) -> Option<String> {
    let kind = match fact.name {
        "prog_id" => Kind::Program,
        "map_id" => Kind::Map,
        "link_id" => Kind::Link,
        "btf_id" => Kind::Btf,
        "owner" => {
            let kind = facts.iter().find(|other| other.name == "owner_kind")?;
            return match (&kind.cell, &fact.cell) {
                (Cell::Text(kind), Cell::Text(name)) => Some(format!("owner/{kind}/{name}")),
                _ => None,
            };
        }
        _ => return None,
    };
    match fact.cell {
        Cell::Int(id) => Some(format!("{}/{id}", kind.as_str())),
        _ => None,
    }
}

/// Returns the row of a key; `None` if it is not there.
pub(in crate::web) fn row_of(table: &Table<'_>, key: &RowKey) -> Option<usize> {
    (0..table.len()).find(|&row| table.key(row) == *key)
}

/// Returns the rows of other tables that refer to a row, or to which it refers. Tables without any are left out.
pub(in crate::web) fn related<'a>(view: &'a View, own: &Table<'_>, row: usize) -> Vec<RelatedRows<'a>> {
    let key = own.key(row);
    let kind = table_of(&key);
    let mut referred: HashSet<RowKey> = (0..own.columns().len())
        .flat_map(|column| referred_keys(own, row, column, usize::MAX))
        .filter(|other| *other != key)
        .collect();
    // An orphan is the same object again.
    referred.insert(key.clone());
    let others = TableKind::ALL.into_iter().filter(|other| *other != kind && *other != own.kind());
    let tables = others.filter_map(|other| {
        let table = view.table(other)?;
        let referring = referring_columns(table.columns(), &key);
        let to_it = referred.iter().any(|key| table_of(key) == other) || other == TableKind::Orphans;
        if referring.is_empty() && !to_it {
            return None;
        }
        let belongs = |&row: &usize| {
            referring.iter().any(|&column| refers(&table, row, column, &key))
                || (to_it && referred.contains(&table.key(row)))
        };
        let rows: Vec<_> = (0..table.len()).filter(belongs).collect();
        (!rows.is_empty()).then_some(RelatedRows { table, rows })
    });
    tables.collect()
}

/// Returns the columns that can refer to a row.
fn referring_columns(columns: &[Column], key: &RowKey) -> Vec<usize> {
    let can = |column: &Column| match (column.refers, key) {
        (Refers::Object(kind), RowKey::Object(object)) => kind == object.kind,
        (Refers::Owner, RowKey::Owner(..)) => true,
        _ => false,
    };
    columns.iter().enumerate().filter(|(_, column)| can(column)).map(|(at, _)| at).collect()
}

fn refers(table: &Table<'_>, row: usize, column: usize, key: &RowKey) -> bool {
    match (key, table.cell(row, column)) {
        (RowKey::Object(object), Cell::Int(id)) => id == i64::from(object.id),
        (RowKey::Object(object), Cell::Ids(ids)) => ids.contains(&object.id),
        (RowKey::Owner(_, name), Cell::Text(text)) if *name == *text => {
            referred_keys(table, row, column, 1).contains(key)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_owners_has_one_of_their_kinds_and_a_key_its_table() {
        for kind in TableKind::ALL {
            let columns = kind.columns();
            for column in columns.iter().filter(|column| column.refers == Refers::Owner) {
                assert!(owner_kind_field(&columns, column).is_some(), "{}: {}", kind.as_str(), column.field);
            }
        }
        let keys = ["program/1", "map/1", "link/1", "btf/1", "owner/unit/a/b", "hook/00000000000000ff"];
        let tables = keys.map(|key| table_of(&key.parse().expect("a key")).as_str());
        assert_eq!(tables, ["programs", "maps", "links", "btfs", "owners", "hooks"]);
    }
}
