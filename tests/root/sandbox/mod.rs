//! What the exporter gives up once it runs: it still reports the same, and an attempt to do more is refused.

mod doctor;
mod exporter;
mod families;
mod inside;
mod memory;
mod refusal;
mod systemd;

use test_support::readers;

use crate::suite::Test;

pub(crate) use inside::run as helper;

pub(crate) const TESTS: &[Test] = &[
    Test::new("as_nobody_with_every_layer_the_same_families_as_root_with_none", families::as_nobody),
    Test::new("as_nobody_pins_of_links_are_missing_and_that_is_reported", families::pinned_link),
    Test::new("each_layer_can_be_turned_off", families::turned_off),
    Test::new("with_least_privilege_iterators_need_no_capability", families::least)
        .requires(&[readers::iterators_missing]),
    Test::new("from_inside_more_is_refused", inside::refused),
    Test::new("root_below_a_filter_is_told_of_the_filter", refusal::told),
    Test::new("doctor_says_what_works_by_trying_it", doctor::tries),
    Test::new("systemd_rates_the_unit_at_most_2_1_and_has_no_complaints", systemd::rated)
        .requires(&[systemd::analyze_missing]),
    Test::new("the_exporter_runs_as_its_unit_says", systemd::runs)
        .requires(&[systemd::analyze_missing, readers::iterators_missing]),
    Test::new("reloads_are_told_between_ready_and_stopping", systemd::reloads),
    Test::new("in_32_mb_of_memory_100_objects_are_read", memory::small).requires(&[memory::limits_missing]),
    Test::new("in_48_mb_of_memory_16_000_objects_are_read", memory::large)
        .requires(&[memory::limits_missing]),
];
