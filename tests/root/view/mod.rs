//! What the exporter says where it does not see all of the host: hidden holders and pins are never reported as absent.

mod helper;
mod pins;
mod processes;

use crate::suite::Test;

pub(crate) use helper::run as helper;

pub(crate) const TESTS: &[Test] = &[
    Test::new("in_a_pid_namespace_nothing_is_concluded_from_hidden_processes", processes::pid_namespace),
    // Before 5.8 the options of /proc belong to the pid namespace, which is the host's.
    Test::new("with_hidepid_nothing_is_concluded_from_hidden_processes", processes::hidepid).since(5, 8),
    Test::new("without_cap_sys_ptrace_nothing_is_concluded_from_hidden_processes", processes::untraceable),
    Test::new("a_bpffs_that_cannot_be_reached_makes_pins_incomplete", pins::unreachable),
    Test::new("a_link_opened_by_id_or_pin_is_held_by_its_process", processes::reopened_links),
];
