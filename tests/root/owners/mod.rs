//! Ownership on a real kernel: objects made here are reported with their holders and owners, and dropped when those end.

use std::time::Duration;

use test_support::{objects, readers};

use crate::suite::{Requirement, Test};

mod cgroups;
mod creators;
mod fingerprints;
mod found;
mod helper;
mod holders;
mod loader;
mod named;
mod orphans;
mod owned;
mod scene;
mod sums;
mod time;

pub(crate) use helper::run as helper;
pub(crate) use holders::copy;

pub(crate) const SOON: Duration = Duration::from_secs(20);

const MEMORY_CGROUPS: &[Requirement] = &[scene::missing];
const FILTERS: &[Requirement] = &[objects::filters_missing];

pub(crate) const TESTS: &[Test] = &[
    Test::new("two_processes_hold_a_map_until_they_end", holders::shared),
    Test::new("objects_of_every_kind_are_held", holders::every_kind),
    Test::new("a_sent_descriptor_is_held_by_its_receiver", holders::sent),
    Test::new("a_process_with_threads_is_one_holder", holders::threads),
    Test::new("a_process_with_very_many_descriptors_is_read_completely", holders::many_descriptors),
    Test::new("processes_of_other_pid_namespaces_have_the_pid_of_ours", holders::pid_namespace),
    Test::new("inside_a_pid_namespace_all_processes_of_the_host_are_reported", holders::within_pid_namespace),
    // Before 6.2 a process cannot start another one by vfork(2) in a new time namespace.
    Test::new("a_time_namespace_shifts_neither_load_times_nor_processes", time::namespace).since(6, 2),
    Test::new("executables_are_reported_as_in_proc", holders::executables),
    Test::new("thousands_of_threads_with_their_own_descriptors_are_read_completely", holders::crowd),
    // Iterators only: /proc has no walk to resume.
    Test::new("processes_that_end_while_they_are_read_hide_no_others", holders::interrupted).since(5, 19),
    Test::new("of_our_own_objects_only_those_kept_are_held", holders::own_objects),
    Test::new("a_process_that_executes_another_program_is_read_again", holders::executed),
    Test::new("a_process_moved_to_another_cgroup_is_of_another_unit", cgroups::moved),
    Test::new("holders_are_reported_after_privileges_are_dropped", holders::given_up),
    Test::new("objects_shared_by_processes_of_one_name_belong_to_all_and_count_once", owned::shared),
    Test::new("pins_left_by_a_loader_belong_to_their_directory", owned::left_pinned),
    Test::new("a_process_in_another_network_namespace_owns_its_objects", owned::network_namespace),
    Test::new("a_process_in_another_pid_namespace_owns_its_objects", owned::pid_namespace),
    Test::new("a_unit_is_the_creator_after_its_process_has_exited", creators::unit).requires(MEMORY_CGROUPS),
    Test::new("a_pod_is_the_creator_and_is_renamed_after_its_lookup", creators::pod).requires(MEMORY_CGROUPS),
    Test::new("processes_of_a_script_are_one_owner_with_its_name", named::scripts),
    Test::new("a_forged_cgroup_does_not_make_a_pod", creators::forged),
    Test::new("descriptors_in_flight_have_no_holder", orphans::in_flight),
    Test::new("a_link_holds_its_program_and_its_maps", orphans::by_link),
    Test::new("a_hook_holds_its_program", orphans::by_hooks),
    Test::new("a_filter_holds_its_program", orphans::by_filter).requires(FILTERS),
    Test::new("a_pinned_program_array_holds_its_programs", orphans::by_array),
    Test::new("owners_of_the_same_programs_have_the_same_fingerprint", fingerprints::compared),
    Test::new("owners_add_up_to_the_host_while_loaders_come_and_go", sums::hold),
];
