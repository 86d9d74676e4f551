//! The two ways to read the kernel, by iterators and by ids: that they find the same, each at its best and with fewer rights, and
//! that nothing of them is left behind. A kernel without iterators passes what is not about them.

use std::process::ExitCode;
use test_support::{readers, root, trials};

mod agreement;
mod fields;
mod lifetimes;
mod ours;
mod rights;

const TESTS: &[trials::Test] = &[
    ("both_readers_agree_on_everything_that_can_be_made", agreement::on_everything),
    ("both_readers_agree_on_what_was_changed", agreement::on_changes),
    ("both_readers_agree_on_runs", agreement::on_runs),
    ("both_readers_agree_while_objects_come_and_go", agreement::under_churn),
    ("facts_are_read_once_and_shared", lifetimes::facts_are_shared),
    ("exactly_what_was_made_is_found_and_gone_when_it_is_gone", lifetimes::exactly_what_was_made),
    ("what_came_since_the_last_reading_is_found_whole", lifetimes::newcomers),
    ("objects_that_come_and_go_cause_no_issue_and_no_ghost", lifetimes::churn),
    ("maps_that_grow_and_go_cause_no_issue", lifetimes::growing_churn),
    ("a_reading_that_failed_forgets_nothing", lifetimes::failure),
    ("a_program_that_keeps_very_many_maps_is_read_once", lifetimes::many_maps),
    ("iterators_are_listed_and_gone_with_the_reader", ours::gone_with_the_reader),
    ("nothing_is_left_of_an_exporter_that_was_killed", ours::gone_when_killed),
    ("who_gives_up_all_rights_reads_on", rights::given_up),
    ("with_cap_bpf_and_cap_perfmon_all_that_iterators_tell_is_there", rights::bpf_and_perfmon),
];

fn main() -> ExitCode {
    if rights::is_helper() {
        return rights::help();
    }
    trials::run(TESTS, |_| root::missing())
}
