//! Lookup in rows that are in ascending order of an id, by ids that mostly ascend as well: a merge join.
//! Entry point: [`Ascending::seek`].

use std::cell::Cell;
use std::ops::Deref;

/// How many rows after the last position are compared one by one before a binary search of the rest.
const NEAR: usize = 4;

/// Rows in ascending order of an id, owned or borrowed, and the position of the last lookup.
#[derive(Debug)]
pub(crate) struct Ascending<T, R = Vec<T>> {
    rows: R,
    id: fn(&T) -> u32,
    last: Cell<usize>,
}

impl<T, R: Deref<Target = [T]>> Ascending<T, R> {
    /// Looks up in `rows`, which are in ascending order of `id`.
    pub(crate) const fn new(rows: R, id: fn(&T) -> u32) -> Self {
        Self { rows, id, last: Cell::new(0) }
    }

    /// Returns all rows.
    pub(crate) fn rows(&self) -> &[T] {
        &self.rows
    }

    /// Returns the first row with this id.
    pub(crate) fn seek(&self, id: u32) -> Option<&T> {
        self.rows.get(self.position(id)).filter(|row| (self.id)(row) == id)
    }

    /// Returns all rows with this id.
    pub(crate) fn equal(&self, id: u32) -> &[T] {
        let rest = &self.rows[self.position(id)..];
        let len = rest.iter().take_while(|row| (self.id)(row) == id).count();
        &rest[..len]
    }

    /// Returns the number of rows with a smaller id.
    pub(crate) fn position(&self, id: u32) -> usize {
        let before = |row: &T| (self.id)(row) < id;
        let last = self.last.get();
        let (from, rest) = match self.rows[..last].last() {
            Some(row) if !before(row) => (0, &self.rows[..last]),
            _ => (last, &self.rows[last..]),
        };
        let near = rest.iter().take(NEAR).take_while(|row| before(row)).count();
        let position = from + if near < NEAR { near } else { rest.partition_point(before) };
        self.last.set(position);
        position
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lookups_in_any_order_equal_a_search_from_the_beginning(
            mut rows in prop::collection::vec(0_u32..40, 0..60),
            ids in prop::collection::vec(0_u32..42, 0..60),
        ) {
            rows.sort_unstable();
            let ascending = Ascending::new(&rows[..], |&row| row);
            for id in ids {
                let position = rows.partition_point(|&row| row < id);
                prop_assert_eq!(ascending.position(id), position, "{} in {:?}", id, rows);
                let equal: Vec<u32> = rows.iter().copied().filter(|&row| row == id).collect();
                prop_assert_eq!(ascending.equal(id), &equal[..]);
                prop_assert_eq!(ascending.seek(id), equal.first());
            }
        }
    }
}
