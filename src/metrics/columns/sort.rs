//! Orders and fields as people give them. Entry points: [`Sort::parse`] and [`Filter::of_table`].

use std::fmt;

use super::filter::age;
use super::{Filter, Sort, TableKind};

/// A text is no order of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SortError {
    /// There is no such column.
    #[error(transparent)]
    Field(#[from] UnknownField),
    /// What follows the colon is no direction.
    #[error("{0:?} is no direction: write FIELD:asc or FIELD:desc")]
    Direction(String),
}

/// A text is no filter of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such column.
    #[error(transparent)]
    Field(#[from] UnknownField),
    /// The column has no numbers.
    #[error("{0} has no numbers to compare: write {0}:WORD")]
    NoNumbers(String),
    /// What a time is compared with is no age.
    #[error(
        "{field} is compared by its age, and {value:?} is none: write {field}>90s, or with m, h or d, as in 1h30m"
    )]
    Age {
        /// The field of the column.
        field: String,
        /// The text in place of an age, in small letters.
        value: String,
    },
    /// What follows the mark is no number.
    #[error(
        "{field} is compared with {value:?}, which is no number: write it without a unit, such as 1000000 or 1e6"
    )]
    Value {
        /// The field of the column.
        field: String,
        /// The text in place of a number, in small letters.
        value: String,
    },
}

/// A table has no such field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnknownField {
    /// The table.
    pub kind: TableKind,
    /// The text in place of a field.
    pub field: String,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, field } = self;
        write!(f, "{} have no field {field:?}; there are", kind.as_str())?;
        for (position, column) in kind.columns().iter().enumerate() {
            write!(f, "{} {}", if position == 0 { "" } else { "," }, column.field)?;
        }
        Ok(())
    }
}

impl Sort {
    /// Returns the order that a text means: `FIELD`, which has the largest numbers first and texts from A to Z, `FIELD:asc` or
    /// `FIELD:desc`. What is not known comes last in each.
    ///
    /// # Errors
    ///
    /// If the table has no such field, and if what follows the colon is neither of the words.
    pub fn parse(text: &str, kind: TableKind) -> Result<Self, SortError> {
        let (field, direction) =
            text.split_once(':').map_or((text, None), |(field, word)| (field, Some(word)));
        let columns = kind.columns();
        let column = columns.iter().position(|column| column.field == field);
        let column = column.ok_or_else(|| UnknownField { kind, field: field.to_owned() })?;
        let descending = match direction {
            None => columns[column].is_numeric,
            Some("asc") => false,
            Some("desc") => true,
            Some(word) => return Err(SortError::Direction(word.to_owned())),
        };
        Ok(Self { column, descending })
    }
}

impl Filter {
    /// Returns the filter that a text means, as [`Filter::parse`] does, for one table only.
    ///
    /// # Errors
    ///
    /// If a word compares a field that the table does not have or that has no numbers, or compares it with what is no number, or no age if
    /// it is a time.
    /// `WORD:WORD` may be part of a name.
    pub fn of_table(text: &str, kind: TableKind) -> Result<Self, FilterError> {
        let filter = Self::parse(text);
        let columns = kind.columns();
        for (field, value) in filter.comparisons() {
            let field = field.to_owned();
            let Some(column) = columns.iter().find(|column| column.field == field) else {
                return Err(UnknownField { kind, field }.into());
            };
            if !column.is_numeric {
                return Err(FilterError::NoNumbers(field));
            }
            if column.is_time {
                let is_age = age(value).is_some_and(f64::is_finite);
                if !is_age {
                    return Err(FilterError::Age { field, value: value.to_owned() });
                }
                continue;
            }
            if !value.parse().is_ok_and(f64::is_finite) {
                return Err(FilterError::Value { field, value: value.to_owned() });
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_field_and_a_direction() {
        let kind = TableKind::Maps;
        let fields = kind.columns();
        let parsed = |text: &str| {
            let sort = Sort::parse(text, kind).unwrap_or_else(|error| panic!("{text}: {error}"));
            (fields[sort.column].field, sort.descending)
        };
        assert_eq!(parsed("mem_bytes"), ("mem_bytes", true));
        assert_eq!(parsed("name"), ("name", false));
        assert_eq!(parsed("mem_bytes:asc"), ("mem_bytes", false));
        assert_eq!(parsed("name:desc"), ("name", true));
        for (text, start) in [
            ("memory", "maps have no field \"memory\"; there are id, type, name, "),
            ("", "maps have no field \"\"; there are "),
            ("name:up", "\"up\" is no direction: write FIELD:asc or FIELD:desc"),
            ("mem_bytes:", "\"\" is no direction"),
        ] {
            let error = Sort::parse(text, kind).expect_err(text).to_string();
            assert!(error.starts_with(start) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_comparison_needs_a_field() {
        let of_maps = |text| Filter::of_table(text, TableKind::Maps);
        assert_eq!(of_maps("kfunc:x mem_bytes>7 a"), Ok(Filter::parse("kfunc:x mem_bytes>7 a")));
        let unknown = of_maps("cilium size>7").expect_err("it is none of maps");
        assert_eq!(unknown, UnknownField { kind: TableKind::Maps, field: "size".to_owned() }.into());
    }

    #[test]
    fn times_are_compared_with_ages() {
        let of_programs = |text| Filter::of_table(text, TableKind::Programs);
        for text in ["load_time>1h", "load_time<1h30m", "load_time>7d", "load_time<90", "load_time:x"] {
            assert_eq!(of_programs(text), Ok(Filter::parse(text)));
        }
        for text in
            ["load_time>yesterday", "load_time<2026-01-01", "load_time>", "load_time>-1h", "load_time<inf"]
        {
            let error = of_programs(text).expect_err(text).to_string();
            assert!(
                error.starts_with("load_time is compared by its age") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn numbers_are_compared_with_numbers() {
        let of_maps = |text| Filter::of_table(text, TableKind::Maps);
        for text in ["mem_bytes>1e6", "fill_ratio<0.5", "id>-1", "mem_bytes:1M"] {
            assert_eq!(of_maps(text), Ok(Filter::parse(text)));
        }
        for (text, start) in [
            ("mem_bytes>1M", "mem_bytes is compared with \"1m\", which is no number"),
            ("x mem_bytes<", "mem_bytes is compared with \"\", which is no number"),
            ("id>nan", "id is compared with \"nan\", which is no number"),
            ("name>5", "name has no numbers to compare: write name:WORD"),
        ] {
            let error = of_maps(text).expect_err(text).to_string();
            assert!(error.starts_with(start) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
