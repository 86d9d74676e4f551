//! Attachments: links, programs attached without a link, and maps that hold objects; each is made for the test, and is reported with
//! its attach point, its position and its link, as bpftool reports it.

use test_support::{bpftool as tool, objects, readers};

use crate::suite::{Requirement, Test};

mod bpftool;
mod cgroups;
mod contents;
mod ends;
mod events;
mod network;
mod places;
mod rights;
mod scans;

const BPFTOOL: &[Requirement] = &[tool::missing];
const FILTERS: &[Requirement] = &[objects::filters_missing];
const PAIRS: &[Requirement] = &[objects::pairs_missing];
const BPFTOOL_AND_FILTERS: &[Requirement] = &[tool::missing, objects::filters_missing];

pub(crate) const TESTS: &[Test] = &[
    Test::new("tc_filters_are_reported_in_execution_order", network::filters).requires(FILTERS),
    Test::new("xdp_programs_without_a_link_are_reported", network::xdp),
    Test::new("tcx_programs_are_reported_in_execution_order", network::tcx).since(6, 6),
    Test::new("two_programs_of_the_same_name_at_one_hook_are_two", network::same_name).since(6, 6),
    Test::new("programs_attached_to_a_network_namespace_are_reported", network::of_namespace),
    Test::new("other_network_namespaces_are_scanned_if_enabled", network::elsewhere),
    Test::new("programs_of_a_cgroup_are_reported_in_execution_order", cgroups::in_order),
    Test::new("a_link_whose_cgroup_is_removed_is_not_attached", cgroups::removed),
    Test::new("tracepoint_programs_without_a_link_are_reported", events::tracepoint),
    Test::new("maps_that_hold_objects_are_reported", contents::held),
    Test::new("maps_are_scanned_only_for_objects_without_a_known_holder", contents::only_in_doubt),
    // A map of sockets cannot be queried before.
    Test::new("programs_of_sockets_are_attached_to_their_map", contents::sockets).since(5, 17),
    Test::new("struct_ops_are_reported_with_a_link_and_without", contents::operations),
    Test::new("detached_programs_are_counted", scans::detached),
    Test::for_both_backends("interfaces_of_the_same_index_are_separate_places", places::same_index),
    Test::for_both_backends("names_of_interfaces_are_those_of_their_namespace", places::named),
    Test::new("links_of_one_program_in_several_namespaces_are_not_mixed_up", places::one_program),
    Test::for_both_backends("interfaces_that_go_lose_no_program", ends::interfaces).requires(PAIRS),
    Test::for_both_backends("namespaces_that_go_lose_no_program", ends::namespaces),
    Test::for_both_backends("cgroups_that_go_lose_no_program", ends::cgroups),
    Test::for_both_backends("maps_and_programs_that_go_lose_no_program", ends::objects).since(5, 17),
    Test::for_both_backends("user_probes_that_go_are_not_counted", ends::user_probes),
    Test::new("iterators_of_other_tools_are_no_hooks", ends::iterators).requires(BPFTOOL),
    Test::new("links_of_every_type_are_attached_once", scans::every_link),
    Test::new("refused_queries_are_issues_and_detach_nothing", rights::refused),
    Test::new("bpftool_reports_the_same_network_attachments", bpftool::network).requires(BPFTOOL_AND_FILTERS),
    // bpftool queries flags of each program, which older kernels refuse altogether.
    Test::new("bpftool_reports_the_same_cgroup_attachments", bpftool::cgroups).since(6, 0).requires(BPFTOOL),
];
