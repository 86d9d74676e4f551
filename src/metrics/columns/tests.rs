use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::enums::{map_type, program_type};
use crate::model::{BootTime, Map, MapFacts, Program, ProgramFacts, RunStats, Tag, WallClock};

/// A snapshot of a real mixture of objects.
fn golden() -> Snapshot {
    serde_json::from_str(include_str!("../../../tests/golden/node/snapshot.json")).expect("it is a snapshot")
}

fn program(id: u32, name: &str, run: Option<(u64, u64)>) -> Program {
    let facts = ProgramFacts {
        id,
        name: name.to_owned(),
        program_type: program_type::from_number(program_type::XDP),
        tag: Tag([0; 8]),
        gpl_compatible: true,
        loaded_at: BootTime::from_secs(1),
        uid: 0,
        btf_id: None,
        size_jitted: 0,
        size_translated: 0,
        mem: Some(4096),
        verified_instructions: None,
        attach_to: None,
        map_ids: Some(vec![5, 70]),
    };
    Program {
        facts: Arc::new(facts),
        run_time: run.map(|(time, _)| Duration::from_nanos(time)),
        runs: run.map(|(_, runs)| runs),
        recursion_misses: None,
        capabilities: None,
        metadata: None,
        owner: None,
    }
}

fn map(id: u32, entries: u64) -> Map {
    let facts = MapFacts {
        id,
        name: "flows".to_owned(),
        map_type: map_type::from_number(map_type::HASH),
        key_size: 4,
        value_size: 8,
        max_entries: 1000,
        flags: 0,
        btf_id: None,
        first_seen: BootTime::from_secs(1),
    };
    Map {
        facts: Arc::new(facts),
        frozen: None,
        mem: Some(100),
        entries: Some(entries),
        backlog: None,
        memory_cgroup: None,
        owner: None,
    }
}

fn snapshot(seconds: u64, covered: u64, programs: Vec<Program>, maps: Vec<Map>) -> Snapshot {
    let begun = Snapshot::begun(BootTime::from_secs(seconds), BootTime::default(), WallClock::default());
    let run_stats = RunStats { by_exporter: true, by_sysctl: None, covered: Duration::from_secs(covered) };
    Snapshot { programs: Some(programs), maps: Some(maps), run_stats, ..begun }
}

fn value(table: &Table<'_>, row: usize, field: &str) -> Cell<'static> {
    table.cell(row, table.column(field).unwrap_or_else(|| panic!("there is no {field}"))).into_owned()
}

#[test]
fn each_column_is_found_and_its_name_has_its_unit() {
    for kind in TableKind::ALL {
        assert_eq!(TableKind::from_word(kind.as_str()), Some(kind));
        let columns = kind.columns();
        let fields: BTreeSet<_> = columns.iter().map(|column| column.field).collect();
        assert_eq!(fields.len(), columns.len(), "{kind:?}: a field is there twice");
        let titles: BTreeSet<_> = columns.iter().map(|column| column.title).collect();
        assert_eq!(titles.len(), columns.len(), "{kind:?}: a title is there twice");
        assert!(columns.iter().filter(|column| column.rank == 0).count() >= 2, "{kind:?}");
        for Column { field, unit, help, .. } in columns {
            let suffix = match unit {
                Unit::Bytes => "_bytes",
                Unit::Seconds => "_seconds",
                Unit::Ratio => "_ratio",
                Unit::Each(what) if what.ends_with("/s") => "_per_second",
                Unit::Each(_) | Unit::None => "",
            };
            assert!(field.ends_with(suffix), "{kind:?}: {field} has not the unit {unit:?}");
            assert!(help.len() > 5, "{kind:?}: {field}");
        }
        for field in kind.costs() {
            assert!(fields.contains(field), "{kind:?}: {field}");
        }
    }
}

#[test]
fn every_table_of_a_real_host_can_be_shown() {
    let snapshot = golden();
    for kind in TableKind::ALL {
        let table =
            Table::new(kind, &snapshot, Some(&snapshot)).unwrap_or_else(|| panic!("{kind:?} is there"));
        assert_eq!(table.period(), None, "no time has passed");
        let rows = table.select(&Filter::default(), table.default_sort());
        assert_eq!(rows.len(), table.len());
        let keys: Vec<_> = rows.iter().map(|&row| table.key(row)).collect();
        for key in &keys {
            assert_eq!(key.to_string().parse().as_ref(), Ok(key));
        }
        for row in rows {
            for column in 0..table.columns().len() {
                let _shown = table.cell(row, column);
            }
        }
    }
    assert!(Table::new(TableKind::Programs, &snapshot, None).is_some_and(|table| table.len() > 3));
}

#[test]
fn costs_are_those_of_the_period() {
    let earlier = snapshot(100, 10, vec![program(3, "old", Some((1_000_000_000, 10)))], vec![map(5, 100)]);
    let programs = vec![
        program(3, "old", Some((3_000_000_000, 1_010))),
        program(9, "new", Some((6_000, 3))),
        program(11, "idle", Some((0, 0))),
    ];
    let later = snapshot(120, 14, programs, vec![map(5, 400), map(6, 1)]);
    let table = Table::new(TableKind::Programs, &later, Some(&earlier)).expect("there are programs");
    assert_eq!(value(&table, 0, "cpu_ratio"), Cell::Float(0.5));
    assert_eq!(value(&table, 0, "runs_per_second"), Cell::Float(250.0));
    assert_eq!(value(&table, 0, "mean_run_time_seconds"), Cell::Float(0.002));
    assert_eq!(value(&table, 1, "cpu_ratio"), Cell::Unknown, "it was not there");
    assert_eq!(value(&table, 1, "mean_run_time_total_seconds"), Cell::Float(2e-6));
    assert_eq!(value(&table, 2, "mean_run_time_total_seconds"), Cell::Unknown, "it never ran");
    assert_eq!(value(&table, 0, "map_ids"), Cell::Ids(vec![5, 70].into()));
    assert_eq!(
        table.default_sort(),
        Sort { column: table.column("cpu_ratio").expect("it is there"), descending: true }
    );
    let maps = Table::new(TableKind::Maps, &later, Some(&earlier)).expect("there are maps");
    assert_eq!(value(&maps, 0, "entries_per_second"), Cell::Float(15.0));
    assert_eq!(value(&maps, 0, "full_in_seconds"), Cell::Float(40.0));
    assert_eq!(value(&maps, 0, "program_ids"), Cell::Ids(vec![3, 9, 11].into()));
    assert_eq!(value(&maps, 1, "full_in_seconds"), Cell::Unknown, "its growth is not known");

    let alone = Table::new(TableKind::Programs, &later, None).expect("there are programs");
    assert_eq!(value(&alone, 0, "cpu_ratio"), Cell::Unknown);
    let by_time = Sort { column: alone.column("run_time_seconds").expect("it is there"), descending: true };
    assert_eq!(alone.default_sort(), by_time);
}

#[test]
fn unknown_values_come_last_in_either_direction() {
    let programs = vec![program(1, "b", None), program(2, "a", Some((7, 1))), program(3, "c", Some((9, 1)))];
    let snapshot = snapshot(1, 0, programs, Vec::new());
    let table = Table::new(TableKind::Programs, &snapshot, None).expect("there are programs");
    let by = |field, descending| {
        let column = table.column(field).expect("it is there");
        table.select(&Filter::default(), Sort { column, descending })
    };
    assert_eq!(by("run_time_seconds", true), [2, 1, 0]);
    assert_eq!(by("run_time_seconds", false), [1, 2, 0]);
    assert_eq!(by("name", false), [1, 0, 2]);
    assert_eq!(by("type", false), [0, 1, 2], "equal ones stay in order");
    assert_eq!(by("type", true), [0, 1, 2], "equal ones stay in order");
}

#[test]
fn times_are_marked_and_compared_by_their_age() {
    let snapshot = golden();
    let mut compared = BTreeSet::new();
    for kind in TableKind::ALL {
        let table = Table::new(kind, &snapshot, None).expect("it is there");
        for (position, column) in table.columns().iter().enumerate() {
            let cells: Vec<_> = (0..table.len()).map(|row| table.cell(row, position)).collect();
            for cell in cells.iter().filter(|cell| cell.is_known()) {
                let is_number = matches!(cell, Cell::Int(_) | Cell::Float(_) | Cell::Time(_));
                assert!(is_number || !column.is_numeric, "{kind:?}: {} has {cell:?}", column.field);
                assert_eq!(matches!(cell, Cell::Time(_)), column.is_time, "{kind:?}: {}", column.field);
            }
            if !column.is_time {
                continue;
            }
            compared.insert(column.field);
            let matching = |text: String| {
                let filter = Filter::of_table(&text, kind).unwrap_or_else(|error| panic!("{text}: {error}"));
                table.select(&filter, table.default_sort()).len()
            };
            let field = column.field;
            let ages = cells.iter().filter_map(|cell| match cell {
                Cell::Time(time) => Some(table.taken_at().since(*time).as_secs()),
                _ => None,
            });
            let ages: Vec<_> = ages.collect();
            let oldest = ages.iter().max().unwrap_or_else(|| panic!("{kind:?}: {field} has no value"));
            assert_eq!(matching(format!("{field}<{}m", oldest / 60 + 1)), ages.len(), "{kind:?}: {field}");
            assert_eq!(matching(format!("{field}>{}m", oldest / 60 + 1)), 0, "{kind:?}: {field}");
            assert!(matching(format!("{field}>{}s", oldest.saturating_sub(1))) > 0, "{kind:?}: {field}");
        }
    }
    assert_eq!(compared.into_iter().collect::<Vec<_>>(), ["first_seen", "load_time", "orphaned_since"]);
}

#[test]
fn words_select_rows() {
    let programs = vec![program(17, "Trace_Open", Some((10, 1))), program(5, "other", Some((20, 1)))];
    let taken = snapshot(1, 0, programs, Vec::new());
    let snapshot = Snapshot { own_programs: vec![5], ..taken };
    let table = Table::new(TableKind::Programs, &snapshot, None).expect("there are programs");
    let matching = |text: &str| {
        let sort = Sort { column: 0, descending: true };
        table.select(&Filter::parse(text), sort).len()
    };
    for (text, rows) in [
        ("", 2),
        ("xdp", 2),
        ("XDP trace", 1),
        ("xdp nothing", 0),
        ("17", 1),
        ("1", 0),
        ("70", 2),
        ("4096", 0),
        ("mem_bytes:4096", 2),
        ("mem_bytes>4095", 2),
        ("mem_bytes<4096", 0),
        ("name:TRACE", 1),
        ("type:trace", 0),
        ("name:", 2),
        ("no_field:xdp", 0),
        ("gpl_compatible:true", 2),
        ("runs>x", 0),
    ] {
        assert_eq!(matching(text), rows, "{text:?}");
    }
    let sort = Sort { column: 0, descending: false };
    assert_eq!(table.select(&Filter::parse("xdp").without_own(), sort), [0]);
    assert!(table.is_own(1) && !table.is_own(0));
}

#[test]
fn keys_are_read_back_and_nothing_else_is() {
    for text in [
        "",
        "program",
        "program/",
        "program/x",
        "program/-1",
        "owner/",
        "owner/pod",
        "owner/what/x",
        "hook/xyz",
    ] {
        assert_eq!(text.parse::<RowKey>(), Err(NoRowKey), "{text:?}");
    }
    let key = RowKey::Owner(OwnerKind::Pod, "kube-system/cilium/x".to_owned());
    assert_eq!("owner/pod/kube-system/cilium/x".parse(), Ok(key));
}

proptest! {
    #[test]
    fn any_text_is_a_filter(text in "\\PC{0,40}|[a-z_:<>0-9 ]{0,40}") {
        let snapshot = golden();
        for kind in TableKind::ALL {
            let table = Table::new(kind, &snapshot, None).expect("it is there");
            let rows = table.select(&Filter::parse(&text), table.default_sort());
            prop_assert!(rows.len() <= table.len());
        }
    }
}

#[test]
fn no_table_has_rates_of_run_times_beside_others() {
    for kind in TableKind::ALL {
        let (has_rate, has_covered_rate) = kind.rates();
        assert!(!(has_rate && has_covered_rate), "{kind:?}");
        assert_eq!(has_covered_rate, kind.has_run_times(), "{kind:?}");
    }
}
