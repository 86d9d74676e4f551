//! Programs as iterators report them, compared with what was done with them.

use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::model::ReaderKind;

use super::readers;
use test_support::objects::{
    Map, Program, Recursion, cpus, every_aimed_program, if_possible, run_statistics, uapi,
};

pub(crate) fn runs() {
    let mut reader = readers::counting_by(ReaderKind::Iter);
    let mut by_ids = readers::counting_by(ReaderKind::Walk);
    let statistics = run_statistics().expect("statistics can be switched on");
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "found_runs").expect("it can be loaded");
    let mut runs = 0;
    for round in 1..=3 {
        for (cpu, times) in cpus().expect("there are CPUs").into_iter().zip(100 * round..) {
            program.run_on(cpu, times).expect("it can be run there");
            runs += u64::from(times);
            let (snapshot, walked) = (reader.read(), by_ids.read());
            let found = readers::program(&snapshot, program.id());
            let counts = program.counts().expect("it can be queried");
            assert_eq!((found.runs, found.run_time), (Some(runs), Some(counts.run_time)), "after CPU {cpu}");
            assert!(found.run_time > Some(Duration::ZERO));
            let walked = readers::program(&walked, program.id());
            assert_eq!((walked.runs, walked.run_time), (found.runs, found.run_time));
        }
    }
    drop(statistics);
}

pub(crate) fn misses() {
    let mut reader = readers::counting_by(ReaderKind::Iter);
    for recursion in [Recursion::by_function(), Recursion::by_page_fault()] {
        let Some(recursion) = if_possible(recursion) else { continue };
        for round in 1..=3 {
            recursion.miss(250).expect("it can be run");
            let snapshot = reader.read();
            let found = readers::program(&snapshot, recursion.program().id());
            assert_eq!(found.recursion_misses, Some(250 * round), "{recursion:?}");
        }
    }
}

pub(crate) fn aims() {
    let mut reader = readers::by_iterators();
    let made: Vec<_> = every_aimed_program()
        .into_iter()
        .filter_map(|(name, aimed)| Some((name, if_possible(aimed)?)))
        .collect();
    let aimless = Program::ready(uapi::program_type::XDP, "aimless").expect("it can be loaded");
    let snapshot = reader.read();
    for (name, aimed) in &made {
        let found = readers::program(&snapshot, aimed.program().id());
        assert_eq!(found.facts.attach_to.as_deref(), Some(aimed.attach_to()), "{name}");
    }
    assert!(made.len() >= 2);
    assert_eq!(readers::program(&snapshot, aimless.id()).facts.attach_to, None);
}

pub(crate) fn maps() {
    let mut reader = readers::by_iterators();
    let make = |name| Map::ready(uapi::map_type::HASH, name).expect("a hash can be made");
    let maps: Vec<Map> = (0..12).map(|_| make("used")).collect();
    // In another order than that of their ids.
    let used: Vec<&Map> = maps[..10].iter().rev().collect();
    let program = Program::using("found_maps", &used).expect("it can be loaded");
    let without = Program::ready(uapi::program_type::XDP, "no_maps").expect("it can be loaded");
    let mut readings = vec![reader.read(), reader.read()];
    for map in &maps[10..] {
        program.bind(map).expect("maps can be bound since 5.10");
        readings.push(reader.read());
        readings.push(reader.read());
    }
    let facts: Vec<_> =
        readings.iter().map(|reading| &readers::program(reading, program.id()).facts).collect();
    for (facts, count) in facts.chunks(2).zip(10..) {
        let ids: Vec<_> = maps[..count].iter().map(Map::id).collect();
        assert_eq!(facts[0].map_ids, Some(ids));
        assert!(Arc::ptr_eq(facts[0], facts[1]), "it is read once");
    }
    let series = |number: usize| {
        let facts = facts[number];
        (facts.id, facts.loaded_at, facts.tag)
    };
    assert_eq!(series(0), series(5), "it is the same series");
    for reading in &readings {
        assert_eq!(readers::program(reading, without.id()).facts.map_ids, Some(Vec::new()));
    }
}

pub(crate) fn sizes() {
    let mut reader = readers::by_iterators();
    let programs = [0, 1, 5, 60].map(|called| {
        Program::with_functions("found_sizes", called).unwrap_or_else(|error| panic!("{called}: {error}"))
    });
    let (snapshot, walked) = (reader.read(), readers::by_ids().read());
    for program in &programs {
        let sizes = program.function_sizes().expect("root may query it");
        let found = readers::program(&snapshot, program.id());
        assert_eq!(found.facts.size_jitted, sizes.iter().sum::<u32>(), "{} functions", sizes.len());
        let walked = readers::program(&walked, program.id());
        assert_eq!(walked.facts.size_jitted, found.facts.size_jitted);
        assert_eq!(walked.facts.size_translated, found.facts.size_translated);
    }
}
