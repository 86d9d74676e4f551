//! Finding places in tables that are in ascending order, by questions that mostly are as well. Knows nothing of what is in them.

use std::cell::Cell;

/// How far from the last place is looked before the rest is halved again and again.
const NEAR: usize = 4;

/// Remembers the last place that was found in a table.
#[derive(Debug, Default)]
pub(super) struct Cursor(Cell<usize>);

impl Cursor {
    /// How many rows of the table come before what is asked for: the rows of which `before` holds, all of which come first.
    pub(super) fn place<T>(&self, rows: &[T], before: impl Fn(&T) -> bool) -> usize {
        let last = self.0.get().min(rows.len());
        let (from, rest) = match rows[..last].last() {
            Some(row) if !before(row) => (0, &rows[..last]),
            _ => (last, &rows[last..]),
        };
        let near = rest.iter().take(NEAR).take_while(|row| before(row)).count();
        let place = from + if near < NEAR { near } else { rest.partition_point(before) };
        self.0.set(place);
        place
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_place_is_that_of_a_search_from_the_beginning(
            mut rows in prop::collection::vec(0_u32..40, 0..60),
            asked in prop::collection::vec(0_u32..42, 0..60),
        ) {
            rows.sort_unstable();
            let cursor = Cursor::default();
            for number in asked {
                let place = rows.partition_point(|&row| row < number);
                prop_assert_eq!(cursor.place(&rows, |&row| row < number), place, "{} in {:?}", number, rows);
            }
        }

        #[test]
        fn it_serves_when_the_table_is_another(lengths in prop::collection::vec(0_u32..20, 0..20)) {
            let cursor = Cursor::default();
            for length in lengths {
                let rows: Vec<u32> = (0..length).collect();
                prop_assert_eq!(cursor.place(&rows, |&row| row < 10), rows.len().min(10));
            }
        }
    }
}
