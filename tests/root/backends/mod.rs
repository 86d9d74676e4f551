//! The two backends, iterators and the id walk: both report the same, at full and at reduced privileges, and neither leaks
//! objects.

use test_support::readers;

use crate::suite::{Requirement, Test};

mod agreement;
mod fields;
mod growth;
mod lifetimes;
mod ours;
mod pass;
mod rights;

pub(crate) use rights::helper;

const ITERATORS: &[Requirement] = &[readers::iterators_missing];

pub(crate) const TESTS: &[Test] = &[
    Test::new("both_report_the_same_of_every_object", agreement::on_everything).requires(ITERATORS),
    Test::new("both_report_the_same_changes", agreement::on_changes).requires(ITERATORS),
    Test::new("both_report_the_same_runs", agreement::on_runs).requires(ITERATORS),
    Test::new("both_report_the_same_while_objects_come_and_go", agreement::under_churn).requires(ITERATORS),
    Test::new("known_objects_are_read_in_a_few_runs", pass::few_runs).requires(ITERATORS),
    Test::new("system_calls_cannot_write_addresses", pass::frozen_addresses).requires(ITERATORS),
    Test::new("a_pass_counts_every_run", pass::counts_are_exact).requires(ITERATORS),
    Test::new("a_pass_reports_maps_of_every_type_as_the_iterator_does", pass::entries_of_every_type)
        .requires(ITERATORS),
    Test::new("a_pass_takes_no_object_for_one_that_was_freed", pass::freed_objects).requires(ITERATORS),
    Test::new("a_pass_covers_any_number_of_objects", pass::growing_number).requires(ITERATORS),
    Test::new("without_a_pass_iterators_visit_all_objects", pass::refused).requires(ITERATORS),
    Test::for_both_backends("unchanged_facts_are_shared", lifetimes::facts_are_shared),
    Test::for_both_backends(
        "objects_made_are_reported_until_they_are_freed",
        lifetimes::exactly_what_was_made,
    ),
    Test::for_both_backends("new_objects_are_reported_completely", lifetimes::newcomers),
    Test::for_both_backends("objects_that_come_and_go_cause_no_issue", lifetimes::churn),
    Test::new("maps_that_grow_and_go_cause_no_issue", lifetimes::growing_churn).requires(ITERATORS),
    Test::new("memory_is_calculated_from_entries", growth::calculated).requires(ITERATORS),
    Test::new("memory_of_new_maps_is_that_of_others_of_their_shape", growth::of_new_maps).requires(ITERATORS),
    Test::new("memory_of_maps_in_motion_is_true_once_they_rest", growth::in_motion).requires(ITERATORS),
    Test::new("a_failed_reading_keeps_the_cache", lifetimes::failure).requires(ITERATORS),
    Test::for_both_backends("programs_with_very_many_maps_are_read_once", lifetimes::many_maps),
    Test::new("iterators_are_listed_and_freed_with_the_reader", ours::freed_with_the_reader)
        .requires(ITERATORS),
    Test::new("a_killed_exporter_leaves_nothing_behind", ours::freed_when_killed).requires(ITERATORS),
    Test::new("iterators_need_no_privilege_once_loaded", rights::given_up).requires(ITERATORS),
    Test::new("cap_bpf_and_cap_perfmon_suffice_for_iterators", rights::bpf_and_perfmon).requires(ITERATORS),
];
