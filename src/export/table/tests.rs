use std::sync::Arc;

use super::*;
use crate::model::{BootTime, Btf, WallClock};

const ALL: Style = Style { width: None, colour: false, notes: false, wide: false };

fn narrow(width: usize) -> Style {
    Style { width: Some(width), ..ALL }
}

/// A snapshot of a real mixture of objects.
fn golden() -> Snapshot {
    serde_json::from_str(include_str!("../../../tests/golden/node/snapshot.json")).expect("it is a snapshot")
}

fn shown(snapshot: &Snapshot, kind: TableKind, limit: Option<usize>, style: Style) -> String {
    let table = Table::new(kind, snapshot, None).expect("it was read");
    let sort = table.default_sort();
    render(&table, &table.select(&Filter::default(), sort), sort, limit, style)
}

fn with_btfs(names: &[&str]) -> Snapshot {
    let start = BootTime::default();
    let btf = |(id, name): (u32, &&str)| {
        Arc::new(Btf { id, name: Some((*name).into()), kernel: None, size: 100 * id, first_seen: start })
    };
    let btfs = Some((1..).zip(names).map(btf).collect());
    Snapshot { btfs, ..Snapshot::begun(start, start, WallClock::default()) }
}

#[test]
fn numbers_are_at_the_right_and_the_most_expensive_rows_are_first() {
    let text = shown(&with_btfs(&["a", "日本語", "c"]), TableKind::Btfs, None, narrow(20));
    assert_eq!(text, "ID  Name     Size\n 3  c       300 B\n 2  日本語  200 B\n 1  a       100 B\n");
}

#[test]
fn a_name_cannot_add_lines_or_reorder_text() {
    let text = shown(&with_btfs(&["one\n8\t\u{1b}[1m", "two\u{202e}\u{200b}"]), TableKind::Btfs, None, ALL);
    assert!(text.contains("one\\x0a8\\x09\\x1b[1m"), "{text}");
    assert!(text.contains("two\\u{202e}\\u{200b}"), "{text}");
    assert!(!text.contains(|character| character != '\n' && is_invisible(character)), "{text}");
}

#[test]
fn long_texts_are_cut_and_numbers_never_are() {
    let name = "a_name_that_is_longer_than_its_column";
    let snapshot = with_btfs(&[name]);
    let text = shown(&snapshot, TableKind::Btfs, None, narrow(26));
    assert_eq!(text, "ID  Name              Size\n 1  a_name_that_is…  100 B\n");
    assert!(shown(&snapshot, TableKind::Btfs, None, ALL).contains(name));
}

#[test]
fn columns_are_left_out_by_rank_and_the_sorted_one_never() {
    let snapshot = golden();
    let table = Table::new(TableKind::Programs, &snapshot, None).expect("it was read");
    let sort = Sort { column: table.column("verified_instructions").expect("it is one"), descending: true };
    let rows = table.select(&Filter::default(), sort);
    let headings = |width| {
        let text = render(&table, &rows, sort, None, Style { width, ..ALL });
        text.lines().next().expect("it has a heading").to_owned()
    };
    assert!(headings(Some(60)).contains("Verified"), "{}", headings(Some(60)));
    let rank =
        |title: &str| table.columns().iter().find(|column| column.title == title).map(|column| column.rank);
    for width in 20..260 {
        let headings = headings(Some(width));
        let is_shown = |title: &str| headings.split("  ").any(|heading| heading.trim() == title);
        let shown: Vec<_> = table.columns().iter().filter(|column| is_shown(column.title)).collect();
        let highest =
            shown.iter().filter(|column| column.title != "Verified").map(|column| column.rank).max();
        for column in table.columns().iter().enumerate().filter(|(at, _)| table.has_values(*at)) {
            let column = column.1;
            let is_more_important = highest.is_some_and(|highest| column.rank < highest);
            assert!(!is_more_important || is_shown(column.title), "{width}: {} {headings}", column.title);
        }
    }
    assert_eq!(rank("Verified"), Some(7));
}

#[test]
fn every_table_fits_every_width() {
    fuzz(&golden());
    let snapshot = golden();
    for width in 1..250 {
        for kind in TableKind::ALL {
            let style = Style { notes: true, ..narrow(width) };
            for line in shown(&snapshot, kind, None, style).lines() {
                assert!(line.width() <= width, "{kind:?} at {width}: {line}");
            }
        }
    }
}

#[test]
fn notes_say_what_is_not_shown() {
    let snapshot = golden();
    let notes = |style| {
        let text = shown(&snapshot, TableKind::Programs, Some(2), Style { notes: true, ..style });
        text.lines().last().expect("it has notes").to_owned()
    };
    let all = snapshot.programs.as_ref().expect("they were read").len();
    assert_eq!(notes(ALL), format!("{all} programs, 2 shown"));
    let narrow = notes(narrow(80));
    assert!(narrow.starts_with(&format!("{all} programs, 2 shown; ")), "{narrow}");
    assert!(narrow.ends_with(" more columns with --wide"), "{narrow}");
}

#[test]
fn the_exporters_own_are_marked_with_and_without_colour() {
    let mut snapshot = golden();
    let own = snapshot.programs.as_ref().expect("they were read")[0].facts.id;
    snapshot.own_programs = vec![own];
    let marked = |style| {
        let text = shown(&snapshot, TableKind::Programs, None, style);
        text.lines().filter(|line| line.contains(OWN)).map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = marked(narrow(100));
    assert!(plain.len() == 1 && plain[0].contains(&own.to_string()), "{plain:?}");
    let coloured = marked(Style { colour: true, ..narrow(100) });
    assert!(coloured[0].starts_with(DIM) && coloured[0].ends_with(PLAIN), "{coloured:?}");
    snapshot.own_programs.clear();
    assert!(!shown(&snapshot, TableKind::Programs, None, ALL).lines().any(|line| line.starts_with(OWN)));
}

#[test]
fn the_overview_says_what_is_not_known_and_what_there_is_none_of() {
    let start = BootTime::default();
    let nothing = Snapshot::begun(start, start, WallClock::default());
    let text = overview(&nothing, None, &Filter::default(), 5, ALL);
    assert!(
        text.contains("\nPrograms: not known; `doctor` says why\n")
            && text.contains("\nOrphans: not known; `doctor` says why\n"),
        "{text}"
    );
    let none = Snapshot { orphans: Some(Vec::new()), ..nothing };
    let text = overview(&none, None, &Filter::default(), 5, ALL);
    assert!(text.contains("\nOwners: none\n") && text.contains("\nOrphans: none\n"), "{text}");
}
