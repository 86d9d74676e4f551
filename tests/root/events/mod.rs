//! Events on a real kernel: programs loaded and unloaded here are counted to the last one, with their actors, and in order.

use crate::suite::Test;

mod baseline;
mod compared;
mod leaks;
mod loader;
mod storm;

pub(crate) use loader::run as helper;

pub(crate) const TESTS: &[Test] = &[
    Test::new("ten_thousand_programs_are_counted_with_their_actors_in_order", storm::counted),
    Test::new("with_a_tiny_ring_the_sums_are_right", storm::lost),
    Test::new("without_records_the_sums_are_right", storm::compared),
    Test::new("what_was_gone_before_the_start_counts_for_nothing", storm::before),
    Test::new("programs_that_are_not_in_the_baseline_are_events_once", baseline::published),
    Test::new("programs_that_are_not_in_the_baseline_are_counted_and_logged", baseline::counted),
    Test::new("a_wrong_baseline_is_refused_with_its_line", baseline::refused),
    Test::new("maps_links_pins_and_attachments_are_found_by_comparison", compared::found),
    Test::new("who_left_an_object_behind_is_told", leaks::told),
];
