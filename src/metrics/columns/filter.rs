//! Which rows a text selects. Entry point: [`Filter::parse`].

use std::str::FromStr as _;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

use super::{Cell, Column, Refers, Table};

/// Words that a row must all have, in any case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    words: Vec<Word>,
    without_own: bool,
}

/// One word: `xdp`, `owner:cilium`, `mem_bytes>1000` or `load_time<1h`.
#[derive(Clone, Debug, PartialEq)]
struct Word {
    /// The word in small letters.
    text: String,
    /// The part before a mark and the rest, if there is one: a field and its value, if there is such a column.
    of_field: Option<(String, Mark, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Has,
    More,
    Less,
}

impl Filter {
    /// The most words that are compared.
    pub const MAX_WORDS: usize = 16;

    /// Returns the filter that a text means: each word must be part of a name, type, owner or other text of the row, or be the id of
    /// the object or of one it refers to. `FIELD:WORD` must be in that column; `FIELD>NUMBER` and `FIELD<NUMBER` compare it, a time by
    /// its age: `load_time>1h` is what was loaded more than an hour ago. Words after the sixteenth are ignored.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let word = |word: &str| {
            let text = word.to_lowercase();
            let of_field = text.find([':', '>', '<']).map(|at| {
                let mark = match text.as_bytes()[at] {
                    b':' => Mark::Has,
                    b'>' => Mark::More,
                    _ => Mark::Less,
                };
                (text[..at].to_owned(), mark, text[at + 1..].to_owned())
            });
            Word { text, of_field }
        };
        Self { words: text.split_whitespace().take(Self::MAX_WORDS).map(word).collect(), without_own: false }
    }

    /// Returns the filter that also leaves out objects of the exporter itself.
    #[must_use]
    pub fn without_own(self) -> Self {
        Self { without_own: true, ..self }
    }

    /// Returns whether objects of the exporter itself are left out.
    #[must_use]
    pub fn is_without_own(&self) -> bool {
        self.without_own
    }

    /// Returns whether every row matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && !self.without_own
    }

    /// Returns the words before `>` and `<`, each with what follows.
    pub(super) fn comparisons(&self) -> impl Iterator<Item = (&str, &str)> {
        self.words.iter().filter_map(|word| match &word.of_field {
            Some((field, Mark::More | Mark::Less, value)) => Some((&**field, &**value)),
            _ => None,
        })
    }

    pub(super) fn matches(&self, table: &Table<'_>, row: usize) -> bool {
        let is_out = self.without_own && table.is_own(row);
        !is_out && self.words.iter().all(|word| word.matches(table, row))
    }
}

impl Word {
    fn matches(&self, table: &Table<'_>, row: usize) -> bool {
        if let Some((field, mark, value)) = &self.of_field
            && let Some(column) = table.column(field)
        {
            let cell = table.cell(row, column);
            return match mark {
                // While somebody types, the value is still missing.
                _ if value.is_empty() => true,
                Mark::Has => has(&cell, value),
                Mark::More => compare(table, &cell, value).is_some_and(|(cell, value)| cell > value),
                Mark::Less => compare(table, &cell, value).is_some_and(|(cell, value)| cell < value),
            };
        }
        let columns = table.columns().iter().enumerate().filter(|(_, column)| is_searched(column));
        columns.map(|(column, _)| table.cell(row, column)).any(|cell| has(&cell, &self.text))
    }
}

/// Returns whether a word without a field is searched for in a column: in texts and in ids.
const fn is_searched(column: &Column) -> bool {
    !column.is_numeric || matches!(column.refers, Refers::Object(_))
}

/// Returns whether a text contains a word, or a number is equal to it.
fn has(cell: &Cell<'_>, word: &str) -> bool {
    let number = || word.parse::<f64>().ok();
    match cell {
        Cell::Unknown | Cell::Time(_) => false,
        Cell::Text(text) => contains(text, word),
        #[expect(clippy::float_cmp, reason = "the same text gives the same number")]
        Cell::Int(_) | Cell::Float(_) => cell.number().zip(number()).is_some_and(|(cell, word)| cell == word),
        Cell::Flag(flag) => bool::from_str(word).is_ok_and(|word| word == *flag),
        Cell::Ids(ids) => word.parse().is_ok_and(|id| ids.contains(&id)),
    }
}

/// Returns whether a text contains a word of small letters, in any case.
fn contains(text: &str, word: &str) -> bool {
    if text.is_ascii() {
        let (text, word) = (text.as_bytes(), word.as_bytes());
        return word.is_empty() || text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    }
    text.to_lowercase().contains(word)
}

/// Returns the two numbers that are compared.
fn compare(table: &Table<'_>, cell: &Cell<'_>, value: &str) -> Option<(f64, f64)> {
    match cell {
        Cell::Time(time) => Some(table.taken_at().since(*time).as_secs_f64()).zip(age(value)),
        _ => cell.number().zip(value.parse().ok()),
    }
}

/// Returns an age in seconds: `90s`, `1h30m`, `7d`, or a number of seconds; `None` for what is none.
pub(super) fn age(text: &str) -> Option<f64> {
    let span = || {
        let span: Span = text.parse().ok()?;
        let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
        Duration::try_from(duration).ok().map(|duration| duration.as_secs_f64())
    };
    text.parse().ok().filter(|seconds| *seconds >= 0.0).or_else(span)
}
