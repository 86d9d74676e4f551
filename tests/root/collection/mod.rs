//! Every object that can be made here is in the snapshot, with every field as it was made and as bpftool reports it.

use std::collections::BTreeSet;

use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{ReaderKind, Snapshot};
use test_support::{http, readers};

use crate::suite::Test;

mod bpftool;
mod lifetimes;
mod links;
mod maps;
mod occupancy;
mod posture;
pub(crate) mod privileges;
pub(crate) mod programs;

const BPFTOOL: &[crate::suite::Requirement] = &[test_support::bpftool::missing];

pub(crate) const TESTS: &[Test] = &[
    Test::for_both_backends("every_program_type_is_reported", programs::every_type_is_reported),
    Test::for_both_backends("program_fields_are_those_of_the_loaded_program", programs::every_field),
    Test::for_both_backends("truncated_program_names_are_completed_from_btf", programs::full_names),
    Test::for_both_backends("every_map_type_is_reported_with_every_field", maps::every_type_is_reported),
    Test::for_both_backends("typed_maps_name_their_btf", maps::btf),
    Test::new("map_memory_is_that_of_fdinfo", occupancy::memory_is_that_of_fdinfo),
    Test::new("frozen_maps_are_reported_as_frozen", occupancy::frozen_maps),
    Test::new("memory_of_frozen_maps_is_read_again", occupancy::frozen_maps_may_shrink),
    Test::new("memory_of_growing_maps_is_read_again", occupancy::growing_maps),
    Test::new("maps_of_a_program_include_those_bound_later", occupancy::maps_of_a_program),
    Test::new("programs_name_the_function_they_attach_to", occupancy::attach_to),
    Test::new("entries_are_counted_only_if_enabled", occupancy::entries_are_counted_only_if_enabled),
    Test::new("large_values_and_write_only_maps_are_counted", occupancy::large_values_and_write_only_maps),
    Test::new("maps_above_the_limit_are_not_counted", occupancy::maps_above_the_limit),
    Test::new("counting_ends_while_entries_come_and_go", occupancy::counting_ends_under_churn),
    Test::for_both_backends("every_link_type_is_reported", links::every_type_is_reported),
    Test::for_both_backends("links_have_their_attach_type_and_target", links::every_target),
    Test::for_both_backends("long_paths_of_link_targets_are_complete", links::long_path),
    Test::for_both_backends("unchanged_link_facts_are_shared", links::facts_are_shared),
    Test::for_both_backends("cgroups_made_after_the_first_reading_have_their_path", links::later_cgroup),
    Test::for_both_backends("renamed_interfaces_have_their_new_name", links::renamed_interface),
    Test::for_both_backends("links_keep_their_series_when_the_target_is_removed", links::removed_target),
    Test::for_both_backends("links_start_a_new_series_when_the_program_is_replaced", links::replaced_program),
    Test::new("objects_made_are_reported_until_they_are_freed", lifetimes::exactly_what_was_made),
    Test::new("unchanged_facts_are_shared", lifetimes::facts_are_shared),
    Test::new("readings_leave_no_descriptor_open", lifetimes::no_descriptor_is_kept),
    Test::new("objects_that_come_and_go_cause_no_issue", lifetimes::churn),
    Test::new("objects_that_cannot_be_opened_are_kept_and_counted", lifetimes::no_descriptors_left),
    Test::new("bpftool_reports_the_same_programs", bpftool::programs).requires(BPFTOOL),
    Test::new("bpftool_reports_the_same_maps", bpftool::maps).requires(BPFTOOL),
    Test::new("bpftool_reports_the_same_links", bpftool::links).requires(BPFTOOL),
    Test::new("bpftool_reports_the_same_btf", bpftool::btfs).requires(BPFTOOL),
    Test::new("settings_of_the_host_are_those_of_its_sysctls", posture::settings),
    Test::new("without_rights_settings_are_absent_not_zero", posture::without_rights),
    Test::new("settings_of_another_network_namespace_are_absent", posture::in_another_network_namespace),
    Test::new("a_bpffs_that_delegates_counts_once", posture::delegations),
    Test::new("memory_of_machine_code_grows_and_shrinks_or_is_unknown", posture::memory_of_machine_code),
    Test::new("without_capabilities_tables_are_refused_not_empty", privileges::none),
    Test::new("with_only_cap_bpf_tables_are_refused_not_empty", privileges::cap_bpf_only),
    Test::new("as_nobody_the_program_names_the_missing_capability", privileges::as_nobody),
    Test::new("a_refused_table_leaves_the_others_exported", privileges::one_table_refused),
];

/// A reader with this backend and nothing cached.
fn reader(backend: ReaderKind) -> Reader {
    readers::by(backend)
}

/// The first snapshot of a new reader.
fn read(backend: ReaderKind) -> Snapshot {
    let snapshot = reader(backend).read();
    assert_eq!(snapshot.issues, [], "root may read everything");
    snapshot
}

/// Whether tables are read by iterators.
fn is_iter(backend: ReaderKind) -> bool {
    backend == ReaderKind::Iter
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
