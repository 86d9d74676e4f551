//! What hangs where: links, attachments that have none, maps that hold others; each made for the test, found with its place, its
//! order and its link, and compared with what bpftool says.

use std::process::ExitCode;
use test_support::{bpftool, objects, readers, root, trials};

mod cgroups;
mod contents;
mod events;
mod looks;
mod network;
mod opinion;
mod rights;

const TESTS: &[trials::Test] = &[
    ("filters_of_traffic_control_are_found_in_their_order", network::filters),
    ("xdp_without_a_link_is_found", network::xdp),
    ("tcx_is_found_in_its_order_with_links_and_without", network::tcx),
    ("two_programs_of_the_same_name_at_one_hook_are_two", network::same_name),
    ("what_belongs_to_a_network_namespace_is_found", network::of_namespace),
    ("another_network_namespace_is_found_if_every_one_is_wanted", network::elsewhere),
    ("programs_of_a_cgroup_are_found_in_their_order", cgroups::in_order),
    ("a_link_whose_cgroup_is_gone_hangs_nowhere", cgroups::gone),
    ("a_tracepoint_without_a_link_is_found", events::tracepoint),
    ("maps_that_hold_others_are_found", contents::held),
    ("maps_are_looked_into_only_where_it_is_in_doubt_who_holds_an_object", contents::only_in_doubt),
    ("programs_of_sockets_are_found_at_their_map", contents::sockets),
    ("struct_operations_are_found_with_a_link_and_without", contents::operations),
    ("a_hook_that_lost_a_program_is_told", looks::lost),
    ("every_kind_of_link_is_at_a_hook_once", looks::every_link),
    ("who_may_not_ask_says_so", rights::refused),
    ("bpftool_agrees_on_the_network", opinion::network),
    ("bpftool_agrees_on_cgroups", opinion::cgroups),
];

/// What older kernels cannot do, and since when they can.
const SINCE: &[(&str, (u32, u32))] = &[
    ("tcx_is_found_in_its_order_with_links_and_without", (6, 6)),
    ("two_programs_of_the_same_name_at_one_hook_are_two", (6, 6)),
    // A map of sockets could not be asked before.
    ("programs_of_sockets_are_found_at_their_map", (5, 17)),
    // bpftool asks for flags of each program, which older kernels refuse altogether.
    ("bpftool_agrees_on_cgroups", (6, 0)),
];

/// What needs filters of traffic control.
const FILTERS: [&str; 2] =
    ["filters_of_traffic_control_are_found_in_their_order", "bpftool_agrees_on_the_network"];

fn main() -> ExitCode {
    trials::run(TESTS, |name| {
        let since = SINCE.iter().find(|(known, _)| *known == name).map(|&(_, since)| since);
        let too_old = || since.filter(|&since| readers::version() < since);
        root::missing()
            .or_else(|| too_old().map(|(major, minor)| format!("needs Linux {major}.{minor}")))
            .or_else(|| FILTERS.contains(&name).then(objects::filters_missing).flatten())
            .or_else(|| name.starts_with("bpftool").then(bpftool::missing).flatten())
    })
}
