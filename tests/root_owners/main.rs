//! Whose objects are, on a real kernel: what is made here is found with those who have it, and gone when they are gone.

use std::process::ExitCode;

#[path = "../support/memory_cgroup.rs"]
mod memory_cgroup;
#[path = "../support/objects/mod.rs"]
mod objects;
#[path = "../support/readers.rs"]
mod readers;
#[path = "../support/running.rs"]
mod running;
#[path = "../support/trials.rs"]
mod trials;

mod cgroups;
mod helper;
mod holders;

const TESTS: &[trials::Test] = &[
    ("two_processes_hold_a_map_until_they_end", holders::shared),
    ("objects_of_every_kind_are_held", holders::every_kind),
    ("a_descriptor_that_was_sent_is_held_by_who_got_it", holders::sent),
    ("a_process_with_threads_is_one_holder", holders::threads),
    ("a_process_in_another_pid_namespace_has_the_pid_of_ours", holders::pid_namespace),
    ("in_a_pid_namespace_its_own_processes_are_told", holders::within_pid_namespace),
    ("of_our_own_only_what_we_keep_is_held", holders::own_objects),
    ("a_process_that_executes_something_else_is_looked_up_again", holders::executed),
    ("a_process_that_moves_to_another_cgroup_is_another_unit", cgroups::moved),
    ("who_gives_up_all_rights_still_learns_who_holds_what", holders::given_up),
];

fn main() -> ExitCode {
    if let Some(role) = helper::role() {
        return helper::play(&role);
    }
    trials::run(TESTS, |_| trials::root::missing())
}
