//! Whose objects are, on a real kernel: what is made here is found with those who have it, and gone when they are gone.

use std::process::ExitCode;
use std::time::Duration;
use test_support::{objects, readers, root, trials};

mod cgroups;
mod creators;
mod found;
mod helper;
mod holders;
mod loader;
mod owned;
mod scene;
mod sums;
mod unheld;

const SOON: Duration = Duration::from_secs(20);

const TESTS: &[trials::Test] = &[
    ("two_processes_hold_a_map_until_they_end", holders::shared),
    ("objects_of_every_kind_are_held", holders::every_kind),
    ("a_descriptor_that_was_sent_is_held_by_who_got_it", holders::sent),
    ("a_process_with_threads_is_one_holder", holders::threads),
    ("a_process_with_very_many_descriptors_is_told_whole", holders::many_descriptors),
    ("a_process_in_another_pid_namespace_has_the_pid_of_ours", holders::pid_namespace),
    ("in_a_pid_namespace_its_own_processes_are_told", holders::within_pid_namespace),
    ("of_our_own_only_what_we_keep_is_held", holders::own_objects),
    ("a_process_that_executes_something_else_is_looked_up_again", holders::executed),
    ("a_process_that_moves_to_another_cgroup_is_another_unit", cgroups::moved),
    ("who_gives_up_all_rights_still_learns_who_holds_what", holders::given_up),
    ("what_two_processes_share_belongs_to_the_first_and_counts_once", owned::shared),
    ("what_a_loader_left_pinned_belongs_to_the_directory", owned::left_pinned),
    ("a_process_in_another_network_namespace_owns_what_it_has", owned::network_namespace),
    ("a_process_in_another_pid_namespace_owns_what_it_has", owned::pid_namespace),
    ("a_unit_is_the_creator_also_after_its_process_has_exited", creators::unit),
    ("a_pod_is_the_creator_and_gets_its_name_when_that_is_told", creators::pod),
    ("descriptors_on_their_way_are_held_by_nobody", unheld::on_their_way),
    ("a_link_holds_its_program_and_that_its_map", unheld::by_link),
    ("a_hook_holds_its_program", unheld::by_hooks),
    ("a_filter_holds_its_program", unheld::by_filter),
    ("a_pinned_program_array_holds_its_programs", unheld::by_array),
    ("owners_add_up_to_the_host_while_loaders_come_and_go", sums::hold),
];

fn main() -> ExitCode {
    if let Some(role) = helper::role() {
        return helper::play(&role);
    }
    let missing = root::missing();
    if missing.is_none() {
        scene::unshare_mounts();
    }
    trials::run(TESTS, |name| {
        let creator = || name.contains("creator").then(scene::missing).flatten();
        let filter = || name.contains("filter").then(objects::filters_missing).flatten();
        missing.clone().or_else(creator).or_else(filter)
    })
}
