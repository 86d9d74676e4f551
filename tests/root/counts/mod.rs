//! Entries, backlogs, runs and misses: each test makes objects with known numbers, and compares them with what other interfaces of the
//! kernel show, and with what the iterators report.

use test_support::readers;

use crate::suite::{Requirement, Test};

mod found_maps;
mod found_programs;
mod maps;
mod programs;
mod rings;

const ITERATORS: &[Requirement] = &[readers::iterators_missing];

pub(crate) const TESTS: &[Test] = &[
    Test::new("walking_a_map_yields_as_many_entries_as_were_inserted", maps::walked),
    Test::new("uncounted_maps_have_their_entries", maps::uncounted),
    Test::new("a_million_entries_are_inserted", maps::million),
    Test::new("frozen_maps_refuse_entries", maps::frozen),
    Test::new("ring_buffer_backlog_is_what_was_not_consumed", rings::backlog),
    Test::new("user_ring_buffer_backlog_is_what_was_written", rings::user_backlog),
    Test::new("runs_on_every_cpu_are_counted", programs::runs_everywhere),
    Test::new("program_size_is_the_sum_of_its_functions", programs::functions),
    Test::new("programs_keep_the_maps_they_use_or_are_bound_to", programs::keeps_maps),
    Test::new("recursive_program_runs_are_missed", programs::misses),
    Test::new("recursive_probe_runs_are_missed", programs::probe_misses),
    Test::new("programs_are_loaded_for_functions", programs::aimed),
    Test::new("entries_are_reported_exactly", found_maps::entries).requires(ITERATORS),
    Test::new("uncounted_maps_report_no_entries_or_max_entries", found_maps::uncounted).requires(ITERATORS),
    Test::new("a_million_entries_are_reported", found_maps::million).requires(ITERATORS),
    Test::new("backlogs_are_reported_exactly", found_maps::backlogs).requires(ITERATORS),
    Test::new("invalid_consumer_positions_have_no_backlog", found_maps::nonsense).requires(ITERATORS),
    Test::new("frozen_maps_are_reported_as_frozen", found_maps::frozen).requires(ITERATORS),
    Test::new("memory_of_every_map_is_reported_and_kept_current", found_maps::memory).requires(ITERATORS),
    Test::new("runs_on_every_cpu_are_reported_exactly", found_programs::runs).requires(ITERATORS),
    Test::new("missed_runs_are_reported_exactly", found_programs::misses).requires(ITERATORS),
    Test::new("functions_of_programs_are_reported", found_programs::aims).requires(ITERATORS),
    Test::new("maps_of_a_program_are_reported_with_those_bound_later", found_programs::maps)
        .requires(ITERATORS),
    Test::new("reported_program_size_is_the_sum_of_its_functions", found_programs::sizes).requires(ITERATORS),
];
