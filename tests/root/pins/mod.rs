//! Pins in every arrangement of bpffs mounts and while they come and go, and the paths of cgroups.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_support::readers;

use crate::suite::{Requirement, Test};

mod bpftool;
mod cgroups;
mod floods;
mod found;
mod helper;
mod lifetimes;
mod scene;
mod trees;
mod views;

pub(crate) use helper::run as helper;

const BPFTOOL: &[Requirement] = &[test_support::bpftool::missing];
const ITERATORS: &[Requirement] = &[readers::iterators_missing];

pub(crate) const TESTS: &[Test] = &[
    Test::new("three_thousand_pins_are_reported_once_each", found::thousands),
    Test::new("pins_of_every_kind_are_reported_with_their_directory", found::kinds_and_directories),
    Test::new("unreadable_pins_are_issues", found::rights),
    Test::new("bpftool_reports_the_same_pins", bpftool::pins).requires(BPFTOOL),
    Test::new("deep_trees_are_read_to_their_end", trees::deep),
    Test::new("wide_and_deep_trees_take_few_descriptors", trees::few_descriptors),
    Test::new("a_flood_of_directories_hides_no_other_pins_and_is_counted", floods::flat),
    Test::new("nested_directories_cost_no_more_than_others", floods::nested),
    Test::new("a_scan_that_takes_long_delays_no_reading", floods::in_background),
    Test::new("unusual_names_are_reported_and_symbolic_links_not_followed", trees::names),
    Test::new("a_bpffs_mounted_twice_is_reported_by_its_best_mount", views::twice),
    Test::new("a_bpffs_bound_into_itself_is_read_to_its_end", views::into_itself),
    Test::new("pins_hidden_by_a_mount_are_reported_by_another", views::hidden),
    Test::new("a_bpffs_below_another_is_reported_by_its_own_path", views::nested),
    Test::new("a_bpffs_of_another_mount_namespace_is_read_through_its_process", views::other_namespace),
    Test::new("pins_keep_their_series_when_they_are_read_through_another_process", views::other_process),
    Test::new("equal_paths_in_two_mount_namespaces_are_distinct_series", views::equal_paths),
    Test::new("another_pin_at_the_same_path_replaces_the_first", lifetimes::reused_path),
    Test::new("renamed_pins_have_their_new_path", lifetimes::renamed),
    Test::new("pins_that_come_and_go_cause_no_issue", lifetimes::churn),
    Test::new("pins_outlive_their_loader", lifetimes::loader),
    Test::new("an_object_newer_than_the_scan_of_pins_is_not_the_kernels", lifetimes::newer_than_the_scan),
    Test::new("pins_of_an_unmounted_bpffs_are_dropped", lifetimes::unmounted),
    Test::new("the_memory_cgroup_of_a_map_has_its_path", cgroups::of_maps).requires(ITERATORS),
    Test::new("a_cgroup_made_again_has_another_id", cgroups::made_again),
    Test::new("without_cap_dac_read_search_cgroups_are_listed", cgroups::listed),
    Test::new("a_cgroup_namespace_hides_paths_that_no_mount_shows", cgroups::namespace),
];

/// This program as another process.
pub(crate) fn again(role: &str, argument: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("Linux has /proc"));
    command.env(helper::ROLE, role).env(helper::ARGUMENT, argument);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Path for a directory of the test's own.
pub(crate) fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("root-pins-{}-{name}", std::process::id()))
}
