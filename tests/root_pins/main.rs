//! What is pinned where, in whatever way bpffs are mounted and while pins come and go; and which cgroup has which path. All of it in
//! a mount namespace of its own, so that no mount outlives this process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use test_support::{bpftool, readers, root, trials};

mod cgroups;
mod found;
mod helper;
mod lifetimes;
mod opinion;
mod scene;
mod trees;
mod views;

const TESTS: &[trials::Test] = &[
    ("three_thousand_pins_are_found_once_each", found::thousands),
    ("every_kind_of_object_is_found_and_where_it_is", found::kinds_and_directories),
    ("pins_that_may_not_be_read_are_issues", found::rights),
    ("bpftool_sees_the_same_pins", opinion::pins),
    ("a_deep_tree_is_read_to_its_end", trees::deep),
    ("a_wide_and_deep_tree_takes_few_descriptors", trees::few_descriptors),
    ("unusual_names_are_told_and_symbolic_links_are_not_followed", trees::names),
    ("a_bpffs_that_is_mounted_twice_is_told_by_its_best_mount", views::twice),
    ("a_bpffs_that_is_mounted_into_itself_is_read_to_its_end", views::into_itself),
    ("what_another_mount_hides_is_told_by_a_mount_that_shows_it", views::hidden),
    ("a_bpffs_below_another_is_told_by_its_own_path", views::nested),
    ("a_bpffs_of_another_mount_namespace_is_read_where_it_is_named", views::other_namespace),
    ("a_pin_that_goes_is_gone_and_another_at_its_path_is_another", lifetimes::reused_path),
    ("what_is_renamed_has_its_new_path", lifetimes::renamed),
    ("pins_that_come_and_go_cause_no_issue_and_no_ghost", lifetimes::churn),
    ("pins_outlive_their_loader", lifetimes::loader),
    ("a_bpffs_that_is_unmounted_is_gone", lifetimes::unmounted),
    ("the_cgroup_that_pays_for_a_map_has_its_path", cgroups::of_maps),
    ("a_cgroup_that_is_made_again_is_another", cgroups::made_again),
    ("without_the_right_to_open_by_handle_cgroups_are_listed", cgroups::listed),
    ("a_cgroup_namespace_hides_what_nothing_shows", cgroups::namespace),
];

fn main() -> ExitCode {
    if let Some(code) = helper::run() {
        return code;
    }
    let missing = root::missing();
    if missing.is_none() {
        helper::unshare_mounts();
    }
    trials::run(TESTS, |name| {
        let bpftool = || name.starts_with("bpftool_").then(bpftool::missing).flatten();
        missing.clone().or_else(bpftool)
    })
}

/// This program again, to be another process.
fn again(role: &str, argument: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("Linux has /proc"));
    command.env(helper::ROLE, role).env(helper::ARGUMENT, argument);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A directory of the test's own.
fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("root-pins-{}-{name}", std::process::id()))
}
