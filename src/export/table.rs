//! Tables for people, in as many columns as there is room for. Entry points: [`render`] and [`overview`](overview()).

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{csv, human, json};
use crate::metrics::Unit;
use crate::metrics::columns::{Cell, Filter, Sort, Table, TableKind};
use crate::metrics::overview::{self, SECTIONS, Section, Total};
use crate::model::{Kind, Snapshot};
use crate::text::{is_invisible, visible};

/// How tables are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Characters of a line: columns for which there is no room are left out, and long texts are cut. `None` to show everything.
    pub width: Option<usize>,
    /// Whether with the colours of a terminal.
    pub colour: bool,
    /// Whether to add a line about what is not shown, for a reader who does not count the rows.
    pub notes: bool,
    /// Whether also the less important columns are in the overview, which is to be short.
    pub wide: bool,
}

/// Spaces between two columns.
const GAP: usize = 2;

/// Texts are not cut to fewer characters than these, by the rank of their column: less important columns are left out rather.
const COMFORTABLE: [usize; 2] = [24, 16];

/// The same where that leaves no room for the most important columns, and for all others.
const SHORTEST: usize = 10;

/// The highest rank of columns in the overview.
const OVERVIEW_RANK: u8 = 2;

/// Marks rows about objects of the exporter itself.
const OWN: &str = "*";

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Returns the first rows, up to a limit, of those that were selected of a table.
#[must_use]
pub fn render(
    table: &Table<'_>,
    selected: &[usize],
    sort: Sort,
    limit: Option<usize>,
    style: Style,
) -> String {
    let shown = &selected[..selected.len().min(limit.unwrap_or(usize::MAX))];
    let grid = grid(table, shown, sort);
    let columns = grid.fitting(style.width);
    let mut text = grid.render(&columns, style);
    if style.notes {
        let mut notes = vec![counted(table, selected.len(), shown.len())];
        if shown.iter().any(|&row| table.is_own(row)) {
            notes.push(format!("{OWN} is the exporter's own"));
        }
        match grid.columns.len() - columns.len() {
            0 => {}
            1 => notes.push("1 more column with --wide".to_owned()),
            more => notes.push(format!("{more} more columns with --wide")),
        }
        let _infallible = writeln!(text, "\n{}", cut_line(&notes.join("; "), style.width));
    }
    text
}

/// Returns how many rows there are, and how many of them are shown: `340 programs`, `12 of 340 programs, 5 shown`.
fn counted(table: &Table<'_>, selected: usize, shown: usize) -> String {
    let (all, what) = (table.len(), table.kind().title());
    let what = if table.kind() == TableKind::Btfs { what.to_owned() } else { what.to_lowercase() };
    let mut text =
        if selected < all { format!("{selected} of {all} {what}") } else { format!("{all} {what}") };
    if shown < selected {
        let _infallible = write!(text, ", {shown} shown");
    }
    text
}

/// Returns the totals of a snapshot, and the first rows of the tables of each section.
#[must_use]
pub fn overview(
    later: &Snapshot,
    earlier: Option<&Snapshot>,
    filter: &Filter,
    limit: usize,
    style: Style,
) -> String {
    let mut when = human::cell(&Cell::Time(later.taken_at), Unit::None, later.clock);
    let programs = Table::new(TableKind::Programs, later, earlier);
    if let Some(period) = programs.as_ref().and_then(Table::period) {
        let _infallible = write!(when, ", rates over {}", human::duration(period.elapsed.as_secs_f64()));
    }
    let mut text = cut_line(&when, style.width) + "\n\n";
    let totals = totals(&overview::totals(later, earlier));
    text += &totals.render(&totals.fitting(style.width), style);
    let (mut has_own, mut left_out) = (false, false);
    for section in SECTIONS {
        let Section { kind, by } = section;
        let table = Table::new(kind, later, earlier);
        let Some(table) = table else {
            let line = format!("{}: not known; `doctor` says why", kind.title());
            let _infallible = writeln!(text, "\n{}", cut_line(&line, style.width));
            continue;
        };
        let (rows, sort) = section.select(&table, filter);
        if rows.is_empty() {
            // Without a map that can fill up there is nothing to say of it.
            if by.is_none() {
                let none = if table.is_empty() { "none" } else { "none match" };
                let line = format!("{}: {none}", kind.title());
                let _infallible = writeln!(text, "\n{}", cut_line(&line, style.width));
            }
            continue;
        }
        let shown = &rows[..rows.len().min(limit)];
        let all = grid(&table, shown, sort);
        let all_columns = all.columns.len();
        let grid = if style.wide { all } else { all.without_columns(|column| column.rank > OVERVIEW_RANK) };
        let columns = grid.fitting(style.width);
        has_own |= shown.iter().any(|&row| table.is_own(row));
        left_out |= columns.len() < all_columns;
        let mut title = kind.title().to_owned();
        // Without a cost they are in the order of the kernel.
        if sort.descending {
            let _infallible = write!(title, " by {}", lower(table.columns()[sort.column].title));
        }
        if shown.len() < rows.len() {
            let _infallible = write!(title, " ({} of {})", shown.len(), rows.len());
        }
        let (bold, plain) = if style.colour { (BOLD, PLAIN) } else { ("", "") };
        let _infallible = writeln!(text, "\n{bold}{}{plain}", cut_line(&title, style.width));
        text += &grid.render(&columns, style);
    }
    if style.notes {
        let own = has_own.then(|| format!("{OWN} is the exporter's own; "));
        let wide = if left_out { ", --wide for all columns" } else { "" };
        let note = format!(
            "{}`snapshot programs|maps|links|owners|hooks|orphans|btfs` for all rows{wide}",
            own.unwrap_or_default()
        );
        let _infallible = writeln!(text, "\n{}", cut_line(&note, style.width));
    }
    text
}

/// Returns a heading inside of a sentence: `memory`, but `CPU`.
fn lower(title: &str) -> String {
    let is_word = title.chars().nth(1).is_some_and(char::is_lowercase);
    if is_word { title.to_lowercase() } else { title.to_owned() }
}

fn totals(totals: &[Total]) -> Grid {
    let column = |title: &str, is_numeric| GridColumn { title: title.to_owned(), is_numeric, rank: 0 };
    let row = |total: &Total| {
        let name = match total.kind {
            Kind::Program => "Programs",
            Kind::Map => "Maps",
            Kind::Link => "Links",
            Kind::Btf => "BTF objects",
        };
        let number =
            |number: Option<f64>, unit| number.map_or(String::new(), |number| human::number(number, unit));
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let mem = number(total.mem.map(|mem| mem as f64), Unit::Bytes);
        let cells = [
            name.to_owned(),
            total.objects.to_string(),
            total.orphaned.map_or(String::new(), |orphaned| orphaned.to_string()),
            mem,
            number(total.cpu_ratio, Unit::Ratio),
        ];
        GridRow { cells: cells.into(), is_own: false }
    };
    let columns = vec![
        column("", false),
        column("Objects", true),
        column("Orphaned", true),
        column("Memory", true),
        column("CPU", true),
    ];
    Grid { columns, rows: totals.iter().map(row).collect() }.without_empty_columns()
}

fn grid(table: &Table<'_>, shown: &[usize], sort: Sort) -> Grid {
    let columns = table.columns().iter().enumerate().map(|(position, column)| GridColumn {
        title: column.title.to_owned(),
        is_numeric: column.is_numeric,
        // What rows are sorted by is shown in any case.
        rank: if position == sort.column { 0 } else { column.rank },
    });
    let mark = GridColumn { title: String::new(), is_numeric: false, rank: 0 };
    let row = |&row: &usize| {
        let is_own = table.is_own(row);
        let cells = table.columns().iter().enumerate().map(|(position, column)| {
            let text = human::cell(&table.cell(row, position), column.unit, table.clock());
            // The snapshot may be from a file of any origin.
            visible(&text).into_owned()
        });
        let mark = if is_own { OWN.to_owned() } else { String::new() };
        GridRow { cells: std::iter::once(mark).chain(cells).collect(), is_own }
    };
    Grid { columns: std::iter::once(mark).chain(columns).collect(), rows: shown.iter().map(row).collect() }
        .without_empty_columns()
}

/// Texts in rows and columns.
struct Grid {
    columns: Vec<GridColumn>,
    rows: Vec<GridRow>,
}

struct GridColumn {
    title: String,
    is_numeric: bool,
    rank: u8,
}

struct GridRow {
    cells: Vec<String>,
    is_own: bool,
}

/// A column that is shown, and its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fitted {
    column: usize,
    width: usize,
}

impl Grid {
    /// Drops columns in which no row has anything. The headings stay where there is no row at all.
    fn without_empty_columns(self) -> Self {
        let is_used = |column: usize| self.rows.iter().any(|row| !row.cells[column].is_empty());
        let is_empty = |(at, column): (usize, &GridColumn)| {
            if self.rows.is_empty() { column.title.is_empty() } else { !is_used(at) }
        };
        let empty: Vec<bool> = self.columns.iter().enumerate().map(is_empty).collect();
        self.without(&empty)
    }

    fn without_columns(self, is_dropped: impl Fn(&GridColumn) -> bool) -> Self {
        let dropped: Vec<bool> = self.columns.iter().map(is_dropped).collect();
        self.without(&dropped)
    }

    fn without(self, dropped: &[bool]) -> Self {
        fn kept<T>(all: Vec<T>, dropped: &[bool]) -> Vec<T> {
            all.into_iter().zip(dropped).filter(|(_, dropped)| !**dropped).map(|(kept, _)| kept).collect()
        }
        let rows = self.rows.into_iter();
        Self {
            columns: kept(self.columns, dropped),
            rows: rows.map(|row| GridRow { cells: kept(row.cells, dropped), ..row }).collect(),
        }
    }

    /// Returns the columns for which there is room, by importance, and how wide each is. The first ones are shown in any case.
    fn fitting(&self, width: Option<usize>) -> Vec<Fitted> {
        let full: Vec<usize> = (0..self.columns.len()).map(|column| self.full_width(column)).collect();
        let Some(width) = width else {
            return full.iter().enumerate().map(|(column, &width)| Fitted { column, width }).collect();
        };
        // A number is not cut, nor is a heading: what is cut has room for both.
        let least_of = |column: usize, comfortable: &[usize]| {
            let GridColumn { title, is_numeric, rank } = &self.columns[column];
            let shortest = comfortable.get(usize::from(*rank)).copied().unwrap_or(SHORTEST);
            if *is_numeric { full[column] } else { full[column].min(shortest.max(title.width())) }
        };
        let first = (0..self.columns.len()).filter(|&column| self.columns[column].rank == 0);
        let room_for_first: usize = first.map(|column| least_of(column, &COMFORTABLE) + GAP).sum();
        let comfortable = if room_for_first <= width + GAP { &COMFORTABLE[..] } else { &[] };
        let least = |column| least_of(column, comfortable);
        let mut by_rank: Vec<usize> = (0..self.columns.len()).collect();
        by_rank.sort_by_key(|&column| self.columns[column].rank);
        let mut kept: Vec<Fitted> = Vec::new();
        let mut used = 0;
        let mut last_rank = u8::MAX;
        for column in by_rank {
            let rank = self.columns[column].rank;
            if rank > last_rank {
                break;
            }
            let needed = least(column) + if kept.is_empty() { 0 } else { GAP };
            if used + needed > width && !kept.is_empty() {
                // Others of the same rank may be narrower. Less important ones would seem to be more.
                last_rank = rank;
                continue;
            }
            used += needed;
            kept.push(Fitted { column, width: least(column) });
        }
        kept.sort_by_key(|fitted| fitted.column);
        // The rest goes to the narrowest of those that are cut.
        while used < width {
            let cut = kept.iter_mut().filter(|fitted| fitted.width < full[fitted.column]);
            let Some(narrowest) = cut.min_by_key(|fitted| fitted.width) else { break };
            narrowest.width += 1;
            used += 1;
        }
        if let [only] = &mut kept[..] {
            only.width = only.width.min(width);
        }
        kept
    }

    /// Returns the characters of the longest text of a column.
    fn full_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row.cells[column].width());
        cells.chain([self.columns[column].title.width()]).max().unwrap_or_default()
    }

    fn render(&self, fitted: &[Fitted], style: Style) -> String {
        let mut text = String::new();
        let line = |text: &mut String, cell: &dyn Fn(usize) -> String, colour: &str| {
            let mut line = String::new();
            for (position, &Fitted { column, width }) in fitted.iter().enumerate() {
                let cell = cut(&cell(column), width);
                let padding = " ".repeat(width.saturating_sub(cell.width()));
                let gap = if position == 0 { 0 } else { GAP };
                let _infallible = write!(line, "{:gap$}", "");
                line += &if self.columns[column].is_numeric { padding + &cell } else { cell + &padding };
            }
            let line = line.trim_end();
            let _infallible = if style.colour && !colour.is_empty() && !line.is_empty() {
                writeln!(text, "{colour}{line}{PLAIN}")
            } else {
                writeln!(text, "{line}")
            };
        };
        line(&mut text, &|column| self.columns[column].title.clone(), BOLD);
        for row in &self.rows {
            line(&mut text, &|column| row.cells[column].clone(), if row.is_own { DIM } else { "" });
        }
        text
    }
}

/// Returns a text of at most so many characters of a terminal. One that is cut ends with an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        // The ellipsis takes one.
        if used + 1 > width {
            break;
        }
        cut.push(character);
    }
    if width > 0 {
        cut.push('\u{2026}');
    }
    cut
}

fn cut_line(line: &str, width: Option<usize>) -> String {
    width.map_or_else(|| line.to_owned(), |width| cut(line, width))
}

/// Shows every table of a snapshot of any origin in every format: no line is wider than it may be, and no character is invisible.
pub(crate) fn fuzz(snapshot: &Snapshot) {
    let check = |text: &str, width: Option<usize>| {
        assert!(!text.contains(|character| character != '\n' && is_invisible(character)), "{text:?}");
        assert!(text.lines().all(|line| width.is_none_or(|width| line.width() <= width)), "{text}");
    };
    for width in [Some(1), Some(40), Some(120), None] {
        let style = Style { width, colour: false, notes: true, wide: width.is_none() };
        check(&overview(snapshot, Some(snapshot), &Filter::default(), 5, style), width);
        for kind in TableKind::ALL {
            let Some(table) = Table::new(kind, snapshot, Some(snapshot)) else { continue };
            let sort = table.default_sort();
            let rows = table.select(&Filter::default(), sort);
            check(&render(&table, &rows, sort, None, style), width);
            check(&csv::render(&table, &rows, None).expect("a table is CSV"), None);
            check(&json::lines(&table, &rows, None).expect("rows are JSON"), None);
        }
    }
}

#[cfg(test)]
mod tests;
