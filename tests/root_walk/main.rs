//! The reader against a real kernel: objects of every type are made, and exactly those are found, field by field, as they
//! were made and as bpftool sees them. By ids, unless a test says otherwise.

use std::collections::BTreeSet;
use std::process::ExitCode;
use test_support::{bpftool, http, objects, readers, root, trials};

use std::sync::atomic::{AtomicBool, Ordering};

use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{Kind, ReaderKind, Snapshot};

mod lifetimes;
mod links;
mod maps;
mod occupancy;
mod opinion;
mod privileges;
mod programs;
mod statistics;

const TESTS: &[trials::Test] = &[
    ("every_type_of_program_is_found", programs::every_type_is_found),
    ("every_field_of_a_program_is_what_was_loaded", programs::every_field),
    ("a_name_that_was_cut_is_read_from_btf", programs::full_names),
    ("every_type_of_map_is_found_with_every_field", maps::every_type_is_found),
    ("a_map_with_types_names_its_btf", maps::btf),
    ("every_map_has_the_memory_of_its_fdinfo", occupancy::every_map_has_its_memory),
    ("a_map_that_is_frozen_is_seen_to_be", occupancy::freezing_is_seen),
    ("a_frozen_map_that_a_program_changes_is_asked_again", occupancy::a_frozen_map_may_shrink),
    ("memory_that_moves_with_entries_is_read_again", occupancy::growing_is_seen),
    ("maps_of_a_program_are_found_and_those_bound_later", occupancy::maps_of_a_program),
    ("a_program_has_the_function_it_was_compiled_against", occupancy::targets_of_programs),
    ("entries_are_counted_by_walking_if_wanted", occupancy::entries_are_counted_if_wanted),
    ("large_values_and_private_maps_are_counted", occupancy::large_values_and_private_maps_are_counted),
    ("maps_over_the_limit_are_not_walked", occupancy::maps_over_the_limit_are_not_walked),
    ("counting_ends_while_entries_come_and_go", occupancy::counting_ends_while_entries_come_and_go),
    ("every_kind_of_link_is_found", links::every_kind_is_found),
    ("every_link_has_its_hook_and_its_target", links::every_target),
    ("facts_of_links_are_read_once_and_shared", links::facts_are_shared),
    ("a_cgroup_made_after_the_first_reading_has_its_path", links::later_cgroup),
    ("an_interface_that_is_renamed_has_its_new_name", links::renamed_interface),
    ("a_link_whose_target_is_gone_has_none_and_is_the_same_series", links::target_gone),
    ("a_link_whose_program_is_replaced_is_another_series", links::replaced_program),
    ("by_iterators_every_type_of_program_is_found", || by_iterators(programs::every_type_is_found)),
    ("by_iterators_every_field_of_a_program_is_what_was_loaded", || by_iterators(programs::every_field)),
    ("by_iterators_a_name_that_was_cut_is_read_from_btf", || by_iterators(programs::full_names)),
    ("by_iterators_every_type_of_map_is_found_with_every_field", || by_iterators(maps::every_type_is_found)),
    ("by_iterators_a_map_with_types_names_its_btf", || by_iterators(maps::btf)),
    ("by_iterators_every_kind_of_link_is_found", || by_iterators(links::every_kind_is_found)),
    ("by_iterators_every_link_has_its_hook_and_its_target", || by_iterators(links::every_target)),
    ("by_iterators_facts_of_links_are_read_once_and_shared", || by_iterators(links::facts_are_shared)),
    ("by_iterators_a_cgroup_made_after_the_first_reading_has_its_path", || by_iterators(links::later_cgroup)),
    ("by_iterators_an_interface_that_is_renamed_has_its_new_name", || by_iterators(links::renamed_interface)),
    ("by_iterators_a_link_whose_target_is_gone_has_none", || by_iterators(links::target_gone)),
    ("by_iterators_a_link_whose_program_is_replaced_is_another_series", || {
        by_iterators(links::replaced_program);
    }),
    ("exactly_what_was_made_is_found_and_gone_when_it_is_gone", lifetimes::exactly_what_was_made),
    ("facts_are_read_once_and_shared", lifetimes::facts_are_shared),
    ("no_descriptor_outlives_a_reading", lifetimes::no_descriptor_is_kept),
    ("objects_that_come_and_go_cause_no_issue_and_no_ghost", lifetimes::churn),
    ("what_cannot_be_opened_any_more_is_kept_and_counted", lifetimes::no_descriptors_left),
    ("runs_are_counted_while_statistics_are_on", statistics::on),
    ("runs_are_absent_while_statistics_are_off", statistics::off),
    ("runs_are_shown_while_the_sysctl_is_on", statistics::sysctl),
    ("runs_are_not_counted_after_a_sigkill", statistics::killed),
    ("a_sample_tells_the_true_share_of_a_cpu", statistics::sample),
    ("covered_time_and_runs_never_go_back", statistics::monotonic),
    ("statistics_that_are_refused_are_an_issue_and_absent", statistics::refused),
    ("statistics_leave_neither_descriptor_nor_thread", statistics::nothing_left),
    ("bpftool_sees_the_same_programs", opinion::programs),
    ("bpftool_sees_the_same_maps", opinion::maps),
    ("bpftool_sees_the_same_links", opinion::links),
    ("bpftool_sees_the_same_btf", opinion::btfs),
    ("without_capabilities_there_are_issues_and_not_emptiness", privileges::none),
    ("with_cap_bpf_only_there_are_issues_and_not_emptiness", privileges::cap_bpf_only),
    ("as_nobody_the_program_says_what_is_missing", privileges::as_nobody),
    ("with_one_table_refused_the_others_are_exported", privileges::one_table_refused),
];

fn main() -> ExitCode {
    trials::run(TESTS, |name| {
        let bpftool = || name.starts_with("bpftool_").then(bpftool::missing).flatten();
        root::missing().or_else(bpftool)
    })
}

/// Whether readers are to read by iterators.
static BY_ITERATORS: AtomicBool = AtomicBool::new(false);

/// A reader that has met nothing yet.
fn reader() -> Reader {
    readers::by(if reads_by_iterators() { ReaderKind::Iter } else { ReaderKind::Walk })
}

/// Whether a test is done with readers by iterators.
fn reads_by_iterators() -> bool {
    BY_ITERATORS.load(Ordering::Relaxed)
}

/// Does a test with readers by iterators, where this kernel has them.
fn by_iterators(test: fn()) {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            BY_ITERATORS.store(false, Ordering::Relaxed);
        }
    }
    if readers::by_iterators(&[Kind::Program, Kind::Map, Kind::Link]).is_some() {
        let _again = Again;
        BY_ITERATORS.store(true, Ordering::Relaxed);
        test();
    }
}

/// A reading, by a reader that has met nothing before.
fn read() -> Snapshot {
    let snapshot = reader().read();
    assert_eq!(snapshot.issues, [], "root may read everything");
    snapshot
}

/// The ids of every program, map, link and BTF object.
fn ids(snapshot: &Snapshot) -> [BTreeSet<u32>; 4] {
    [
        snapshot.programs.iter().flatten().map(|program| program.facts.id).collect(),
        snapshot.maps.iter().flatten().map(|map| map.facts.id).collect(),
        snapshot.links.iter().flatten().map(|link| link.facts.id).collect(),
        snapshot.btfs.iter().flatten().map(|btf| btf.id).collect(),
    ]
}
