//! What is counted of BPF objects, against a real kernel: entries, backlogs, runs, misses. Each test makes objects of which it
//! knows the numbers, and holds them against what others can see of them, and what the reader by iterators finds.

use std::process::ExitCode;
use test_support::{readers, root, trials};

mod found_maps;
mod found_programs;
mod maps;
mod programs;
mod rings;

const TESTS: &[trials::Test] = &[
    ("walking_a_map_finds_as_many_entries_as_were_put_in", maps::walked),
    ("maps_that_are_not_counted_have_their_entries", maps::uncounted),
    ("a_million_entries_are_put_in", maps::million),
    ("a_frozen_map_refuses_entries", maps::frozen),
    ("the_backlog_of_a_ring_buffer_is_what_was_not_read", rings::backlog),
    ("the_backlog_of_a_user_ring_buffer_is_what_was_written", rings::user_backlog),
    ("runs_on_every_cpu_are_counted", programs::runs_everywhere),
    ("a_program_is_as_large_as_its_functions", programs::functions),
    ("a_program_keeps_the_maps_it_names_and_those_bound_to_it", programs::keeps_maps),
    ("a_program_misses_what_recurs", programs::misses),
    ("a_probe_misses_what_recurs", programs::probe_misses),
    ("programs_are_aimed_at_functions", programs::aimed),
    ("entries_are_found_exactly", found_maps::entries),
    ("maps_that_are_not_counted_have_no_entries_or_as_many_as_places", found_maps::uncounted),
    ("a_million_entries_are_found", found_maps::million),
    ("backlogs_are_found_exactly", found_maps::backlogs),
    ("a_consumer_that_writes_nonsense_has_no_backlog", found_maps::nonsense),
    ("a_map_is_found_frozen", found_maps::frozen),
    ("memory_of_every_map_is_found_and_followed", found_maps::memory),
    ("runs_on_every_cpu_are_found_exactly", found_programs::runs),
    ("missed_runs_are_found_exactly", found_programs::misses),
    ("functions_that_programs_are_aimed_at_are_found", found_programs::aims),
    ("maps_of_a_program_are_found_and_those_bound_later", found_programs::maps),
    ("the_size_of_a_program_is_that_of_its_functions", found_programs::sizes),
];

fn main() -> ExitCode {
    trials::run(TESTS, |_| root::missing())
}
