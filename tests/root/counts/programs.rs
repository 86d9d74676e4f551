//! Programs: runs, misses, functions and maps.

use std::time::Duration;

use test_support::objects::{
    Counts, Kind, Map, Program, Recursion, cpus, every_aimed_program, fdinfo, if_possible, run_statistics,
    uapi, wait_until_gone,
};

pub(crate) fn runs_everywhere() {
    let program =
        Program::ready(uapi::program_type::SOCKET_FILTER, "runs_everywhere").expect("it can be loaded");
    let statistics = run_statistics().expect("statistics can be switched on");
    let mut runs = 0;
    for (cpu, times) in cpus().expect("there are CPUs").into_iter().zip(100..) {
        program.run_on(cpu, times).expect("it can be run there");
        runs += u64::from(times);
    }
    let counts = program.counts().expect("it can be queried");
    assert_eq!(counts.runs, runs);
    assert!(counts.run_time > Duration::ZERO);
    drop(statistics);
}

pub(crate) fn functions() {
    let program = Program::with_functions("functions", 5).expect("it can be loaded");
    program.run(64, 1).expect("it can be run");
    let sizes = program.function_sizes().expect("root may query it");
    assert_eq!(sizes.len(), 6);
    assert!(sizes.iter().all(|&size| size > 0), "{sizes:?}");
}

pub(crate) fn keeps_maps() {
    const SOON: Duration = Duration::from_secs(20);
    let make = |name| Map::ready(uapi::map_type::HASH, name).expect("a hash can be made");
    let (first, second, bound) = (make("first"), make("second"), make("bound"));
    let program = Program::using("keeps_maps", &[&first, &second]).expect("it can be loaded");
    program.bind(&bound).expect("maps can be bound since 5.10");
    let ids = [first.id(), second.id(), bound.id()];
    drop((first, second, bound));
    for id in ids {
        assert!(Kind::Map.exists(id).expect("root may query it"), "the program keeps map {id}");
    }
    drop(program);
    wait_until_gone(Kind::Map, &ids, SOON).expect("nothing else keeps them");
}

pub(crate) fn misses() {
    let statistics = run_statistics().expect("statistics can be switched on");
    // A kernel may be able to do either, both or none.
    let mut seen = 0;
    for recursion in [Recursion::by_function(), Recursion::by_page_fault()] {
        let Some(recursion) = if_possible(recursion) else { continue };
        recursion.miss(250).expect("it can be run");
        let Counts { runs, misses, .. } = recursion.program().counts().expect("it can be queried");
        assert_eq!(misses, 250, "{recursion:?}");
        assert!(runs >= 250, "{runs}");
        seen += 1;
    }
    drop(statistics);
    // On x86 one of them is always possible, from 5.12 on, when kernels began to count.
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "counts").expect("it can be loaded");
    let counts = fdinfo(program.fd(), "recursion_misses").expect("an open file has an fdinfo").is_some();
    assert!(seen > 0 || !counts || cfg!(not(target_arch = "x86_64")), "no program could be made to recur");
}

pub(crate) fn probe_misses() {
    // It needs kprobes, and before 6.7 no link reports misses.
    let Some(recursion) = if_possible(Recursion::by_probe()) else { return };
    recursion.miss(250).expect("it can be run");
    let missed = recursion.link().missed().expect("it can be queried");
    assert!(missed == 0 || missed >= 250, "{missed}");
}

pub(crate) fn aimed() {
    let mut seen = Vec::new();
    for (name, aimed) in every_aimed_program() {
        let Some(aimed) = if_possible(aimed) else { continue };
        assert!(!aimed.attach_to().is_empty());
        assert_eq!(aimed.target().is_some(), name.ends_with("_of_program") || name == "extension");
        seen.push(name);
    }
    // The others need trampolines, which kernels can be built without.
    let everywhere = ["iter", "raw_tracepoint_btf"];
    assert!(everywhere.iter().all(|name| seen.contains(name)), "only {seen:?} could be loaded");
}
