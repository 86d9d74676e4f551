//! The rows of a table as CSV (RFC 4180, with line feeds): for spreadsheets and scripts. Entry point: [`render`].

use std::borrow::Cow;

use crate::metrics::columns::{Cell, Table};
use crate::text::visible;

/// How a text begins that a spreadsheet takes for a formula. Tabs and line ends, which some skip, are escaped anyway.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// Writes the first rows, up to a limit, of those that were selected of a table: a header, then a line for each row, with the fields
/// of its JSON. Numbers and times are as in JSON, ids are separated by spaces, and what is not known is empty.
///
/// Names are of any origin: invisible characters are escaped, and a text that begins like a formula has an apostrophe before it. So has
/// the rest of one after a semicolon: where the comma is the decimal sign, a spreadsheet divides lines there.
///
/// # Errors
///
/// None that a table can cause: each row has as many fields as the header.
pub fn render(table: &Table<'_>, selected: &[usize], limit: Option<usize>) -> csv::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fields = table.columns().iter().map(|column| column.field);
    writer.write_record(std::iter::once("key").chain(fields).chain(["exporter_own"]))?;
    for &row in selected.iter().take(limit.unwrap_or(usize::MAX)) {
        writer.write_field(text(&table.key(row).to_string()).as_bytes())?;
        for column in 0..table.columns().len() {
            let field = match table.cell(row, column) {
                Cell::Unknown => String::new(),
                Cell::Text(value) => text(&value).into_owned(),
                Cell::Int(number) => number.to_string(),
                Cell::Float(number) => number.to_string(),
                Cell::Time(time) => table.clock().at(time).to_string(),
                Cell::Flag(flag) => flag.to_string(),
                Cell::Ids(ids) => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
            };
            writer.write_field(field)?;
        }
        writer.write_field(table.is_own(row).to_string())?;
        writer.write_record(None::<&[u8]>)?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8(bytes).expect("only text was written"))
}

/// Returns a text that no spreadsheet takes for a formula.
fn text(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    let is_formula = |part: &str| part.starts_with(FORMULA);
    if !text.split(';').any(is_formula) {
        return text;
    }
    let parts =
        text.split(';').map(|part| if is_formula(part) { format!("'{part}") } else { part.to_owned() });
    parts.collect::<Vec<_>>().join(";").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::columns::{Filter, TableKind};
    use crate::model::{BootTime, Btf, Snapshot, WallClock};

    #[test]
    fn a_name_is_neither_a_formula_nor_another_field() {
        let names = [
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("\t=1", "\\x09=1"),
            ("a,b\"c", "\"a,b\"\"c\""),
            ("a\r\nb\u{202e}", "\\x0d\\x0a"),
            ("a-b=c", "a-b=c"),
            ("a;=1+1;-2;b", "a;'=1+1;'-2;b"),
            ("=1;@x", "'=1;'@x"),
        ];
        let start = BootTime::default();
        let btf = |(id, (name, _)): (u32, &(&str, &str))| Btf {
            id,
            name: Some((*name).into()),
            kernel: None,
            size: 4096,
            first_seen: start,
        };
        let btfs = (1..).zip(&names).map(|row| btf(row).into()).collect();
        let snapshot = Snapshot { btfs: Some(btfs), ..Snapshot::begun(start, start, WallClock::default()) };
        let table = Table::new(TableKind::Btfs, &snapshot, None).expect("it was read");
        let rows = table.select(&Filter::default(), table.default_sort());
        let text = render(&table, &rows, None).expect("it is written");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + names.len(), "{text}");
        assert!(lines[0].starts_with("key,id,name,size_bytes,") && lines[0].ends_with(",exporter_own"));
        for (line, (name, expected)) in lines[1..].iter().zip(names) {
            assert!(line.contains(expected), "{name:?}: {line}");
            assert!(line.contains(",4096,") && line.ends_with(",false"), "{line}");
        }
        assert_eq!(render(&table, &rows, Some(2)).expect("it is written").lines().count(), 3);
    }
}
