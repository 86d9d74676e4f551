//! The parameters of tables and objects, in URLs of the page and of the API. Entry points: [`TableQuery::parse`] and [`key`].

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::metrics::columns::{Column, RowKey, Sort, TableKind};
use crate::web::{bounds, query};

/// Which rows of which table.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::web) struct TableQuery {
    pub(in crate::web) kind: TableKind,
    /// `None` for the order of the table: the most expensive first.
    pub(in crate::web) sort: Option<Sort>,
    pub(in crate::web) filter: String,
    /// Whether objects of the exporter itself are among them.
    pub(in crate::web) own: bool,
    pub(in crate::web) offset: usize,
    pub(in crate::web) limit: usize,
    /// Whether the last values of some columns are wanted.
    pub(in crate::web) history: bool,
}

/// The parameters beside the one that names the table.
const NAMES: [&str; 6] = ["sort", "q", "offset", "limit", "own", "history"];

/// What stays as it is in the value of a parameter.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

impl TableQuery {
    /// Returns the query of a table without further parameters.
    pub(in crate::web) const fn of(kind: TableKind) -> Self {
        Self {
            kind,
            sort: None,
            filter: String::new(),
            own: true,
            offset: 0,
            limit: bounds::DEFAULT_ROWS,
            history: false,
        }
    }

    /// Parses the query of a request to the API.
    ///
    /// # Errors
    ///
    /// What is wrong, in one line, with what there is instead.
    pub(in crate::web) fn parse(query: &str) -> Result<Self, String> {
        let kinds = || TableKind::ALL.map(TableKind::as_str).join(", ");
        let pairs: Vec<_> = query::pairs(query).collect();
        let mut named = pairs.iter().filter(|(name, _)| name == "kind");
        let (_, word) = named.next().ok_or_else(|| format!("kind is missing: use {}", kinds()))?;
        let kind = TableKind::from_word(word)
            .ok_or_else(|| format!("kind={:?} is no table: use {}", query::shortened(word), kinds()))?;
        if named.next().is_some() {
            return Err("kind is given twice".to_owned());
        }
        if let Some((unknown, _)) = pairs.iter().find(|(name, _)| name != "kind" && !NAMES.contains(&&**name))
        {
            let known = NAMES.join(", ");
            return Err(format!("{:?} is no parameter: use kind, {known}", query::shortened(unknown)));
        }
        Self::with(kind, &pairs)
    }

    /// Parses the parameters of a table that is named elsewhere. Others are ignored: a link to the page may have any.
    ///
    /// # Errors
    ///
    /// As [`TableQuery::parse`].
    pub(in crate::web) fn with(kind: TableKind, pairs: &[(String, String)]) -> Result<Self, String> {
        let mut parsed = Self::of(kind);
        for (at, (name, value)) in pairs.iter().enumerate() {
            let shown = || format!("{name}={:?}", query::shortened(value));
            if NAMES.contains(&&**name) && pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(format!("{name} is given twice"));
            }
            match &**name {
                "sort" if value.is_empty() => {}
                "sort" => {
                    let no_field = || {
                        let fields: Vec<_> = kind.columns().iter().map(|column| column.field).collect();
                        format!("{} is no field of {}: use {}", shown(), kind.as_str(), fields.join(", "))
                    };
                    parsed.sort = Some(sort(kind, value).ok_or_else(no_field)?);
                }
                "q" if value.chars().count() > bounds::FILTER => {
                    return Err(format!("q has more than {} characters", bounds::FILTER));
                }
                "q" => value.trim().clone_into(&mut parsed.filter),
                "offset" => {
                    parsed.offset =
                        value.parse().map_err(|_| format!("{} is not a number of rows", shown()))?;
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit <= bounds::ROWS);
                    parsed.limit = limit
                        .ok_or_else(|| format!("{} is not a number from 0 to {}", shown(), bounds::ROWS))?;
                }
                "own" => parsed.own = flag(value).ok_or_else(|| format!("{} is neither 0 nor 1", shown()))?,
                "history" => {
                    parsed.history = flag(value).ok_or_else(|| format!("{} is neither 0 nor 1", shown()))?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Returns the URL of this table on the page.
    pub(in crate::web) fn link(&self) -> String {
        let mut link = format!("?tab={}", self.kind.as_str());
        let columns = self.kind.columns();
        let mut add = |name: &str, value: &str| {
            let _infallible = write!(link, "&{name}={}", utf8_percent_encode(value, ESCAPED));
        };
        if let Some(sort) = self.sort {
            add("sort", &sort_word(&columns, sort));
        }
        if !self.filter.is_empty() {
            add("q", &self.filter);
        }
        if self.limit != bounds::DEFAULT_ROWS {
            add("limit", &self.limit.to_string());
        }
        if self.offset > 0 {
            add("offset", &self.offset.to_string());
        }
        if !self.own {
            add("own", "0");
        }
        link
    }
}

/// Returns the order with this word: `FIELD` as a first click on its heading sorts, `-FIELD` the other way round; or, as on the command
/// line, `FIELD:asc` and `FIELD:desc`.
fn sort(kind: TableKind, word: &str) -> Option<Sort> {
    match word.strip_prefix('-') {
        None => Sort::parse(word, kind).ok(),
        Some(field) if field.contains(':') => None,
        Some(field) => {
            Sort::parse(field, kind).ok().map(|sort| Sort { descending: !sort.descending, ..sort })
        }
    }
}

/// Returns the word of an order.
pub(in crate::web) fn sort_word(columns: &[Column], sort: Sort) -> String {
    let column = &columns[sort.column];
    let mark = if column.is_numeric == sort.descending { "" } else { "-" };
    format!("{mark}{}", column.field)
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// Returns the URL of an object on the page.
pub(in crate::web) fn object_link(key: &str) -> String {
    format!("?key={}", utf8_percent_encode(key, ESCAPED))
}

/// Parses the query of a request for one object.
///
/// # Errors
///
/// What is wrong, in one line.
pub(in crate::web) fn key(query: &str) -> Result<RowKey, String> {
    let mut key = None;
    for (name, value) in query::pairs(query) {
        if name != "key" {
            return Err(format!("{:?} is no parameter: use key", query::shortened(&name)));
        }
        if key.replace(value).is_some() {
            return Err("key is given twice".to_owned());
        }
    }
    parse_key(&key.ok_or("key is missing: give one, such as key=program/17")?)
}

/// Parses a key.
///
/// # Errors
///
/// What is wrong, in one line.
pub(in crate::web) fn parse_key(text: &str) -> Result<RowKey, String> {
    text.parse().map_err(|problem| format!("key={:?}: {problem}", query::shortened(text)))
}

/// Parses any text as the queries of the page and of the API: what is accepted is in its bounds, and its link means the same.
pub(in crate::web) fn fuzz(text: &str) {
    if let Ok(parsed) = TableQuery::parse(text) {
        assert!(parsed.limit <= bounds::ROWS && parsed.filter.chars().count() <= bounds::FILTER);
        let link = parsed.link();
        assert!(link.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"'".contains(&byte)), "{link}");
        let query = link.replacen("?tab=", "kind=", 1);
        let again = TableQuery::parse(&query).expect("a link is right");
        assert_eq!(again, TableQuery { history: false, ..parsed });
    }
    if let Ok(key) = key(text) {
        let link = object_link(&key.to_string());
        assert_eq!(self::key(link.trim_start_matches('?')).as_ref(), Ok(&key), "{link}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_has_a_table_and_defaults() {
        assert_eq!(TableQuery::parse("kind=maps"), Ok(TableQuery::of(TableKind::Maps)));
        let query = "kind=programs&sort=-cpu_ratio&q=+xdp%20a%3Ab+&offset=40&limit=60&own=0&history=1";
        let parsed = TableQuery::parse(query).expect("it is right");
        let column = TableKind::Programs.columns().iter().position(|column| column.field == "cpu_ratio");
        let sort = Sort { column: column.expect("it is there"), descending: false };
        assert_eq!(parsed.sort, Some(sort));
        assert_eq!((&*parsed.filter, parsed.offset, parsed.limit), ("xdp a:b", 40, 60));
        assert!(!parsed.own && parsed.history);
        assert_eq!(parsed.link(), "?tab=programs&sort=-cpu_ratio&q=xdp%20a%3Ab&limit=60&offset=40&own=0");
        assert_eq!(TableQuery::parse("kind=maps&sort=&q="), Ok(TableQuery::of(TableKind::Maps)));
    }

    #[test]
    fn a_first_click_sorts_numbers_from_the_largest_and_texts_from_a() {
        let descending = |word| {
            let parsed = TableQuery::parse(&format!("kind=maps&sort={word}")).expect("it is right");
            let sort = parsed.sort.expect("it is given");
            assert_eq!(sort_word(&TableKind::Maps.columns(), sort), word);
            sort.descending
        };
        assert_eq!(["mem_bytes", "-mem_bytes", "name", "-name"].map(descending), [true, false, false, true]);
        let same = |one: &str, other: &str| {
            let sort = |word| TableQuery::parse(&format!("kind=maps&sort={word}")).expect("it is right").sort;
            assert_eq!(sort(one), sort(other), "{one}");
        };
        same("mem_bytes:desc", "mem_bytes");
        same("mem_bytes:asc", "-mem_bytes");
        same("name:asc", "name");
        assert!(TableQuery::parse("kind=maps&sort=-name:asc").is_err());
    }

    #[test]
    fn what_is_wrong_is_one_line_with_what_there_is() {
        let long = format!("kind=maps&q={}", "x".repeat(bounds::FILTER + 1));
        for (query, expected) in [
            ("", "kind is missing: use programs, maps"),
            ("kind=map", "kind=\"map\" is no table: use programs, maps"),
            ("kind=maps&kind=maps", "kind is given twice"),
            ("kind=maps&sort=cpu", "sort=\"cpu\" is no field of maps: use id, type, name"),
            ("kind=maps&x%0ay=1", "\"x\\ny\" is no parameter: use kind, sort, q"),
            ("kind=maps&limit=1001", "limit=\"1001\" is not a number from 0 to 1000"),
            ("kind=maps&limit=-1", "limit=\"-1\" is not a number from 0 to 1000"),
            ("kind=maps&offset=x", "offset=\"x\" is not a number of rows"),
            ("kind=maps&limit=1&limit=1", "limit is given twice"),
            ("kind=maps&own=yes", "own=\"yes\" is neither 0 nor 1"),
            ("kind=maps&history=2", "history=\"2\" is neither 0 nor 1"),
            (&long, "q has more than 256 characters"),
        ] {
            let problem = TableQuery::parse(query).expect_err("it is wrong");
            assert!(problem.starts_with(expected) && !problem.contains('\n'), "{query}: {problem}");
        }
        for (query, expected) in [
            ("", "key is missing"),
            ("key=program/1&key=program/1", "key is given twice"),
            ("id=1", "\"id\" is no parameter: use key"),
            ("key=program", "key=\"program\": a key is KIND/ID"),
        ] {
            assert!(key(query).expect_err("it is wrong").starts_with(expected), "{query}");
        }
    }

    #[test]
    fn a_page_ignores_parameters_of_others() {
        let pairs = [("utm".to_owned(), "x".to_owned()), ("limit".to_owned(), "7".to_owned())];
        let parsed = TableQuery::with(TableKind::Maps, &pairs).expect("it is right");
        assert_eq!(parsed, TableQuery { limit: 7, ..TableQuery::of(TableKind::Maps) });
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC*", value in "\\PC{0,300}") {
            fuzz(&text);
            let encoded = utf8_percent_encode(&value, ESCAPED).to_string();
            fuzz(&format!("kind=owners&q={encoded}&sort=-owner&offset=7"));
            fuzz(&format!("key=owner/unit/{encoded}"));
        }
    }
}
