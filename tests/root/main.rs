//! Tests against the running kernel, as root: each makes its own BPF objects and compares what the product reports of them with what
//! it made. Every trial is named after its module, so that `cargo test --test root -- owners::` runs one module. The whole process has
//! a mount namespace of its own, so that no mount outlives it.

mod attachments;
mod backends;
mod capabilities;
mod collection;
mod counts;
mod delivery;
mod endpoint;
mod events;
mod log;
mod owners;
mod pins;
mod printed_events;
mod run_stats;
mod sandbox;
mod snapshot;
mod suite;
mod tls;
mod top;
mod view;

use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use suite::Test;
use test_support::{root, trials};

const MODULES: [(&str, &[Test]); 18] = [
    ("collection", collection::TESTS),
    ("run_stats", run_stats::TESTS),
    ("counts", counts::TESTS),
    ("backends", backends::TESTS),
    ("capabilities", capabilities::TESTS),
    ("owners", owners::TESTS),
    ("pins", pins::TESTS),
    ("attachments", attachments::TESTS),
    ("events", events::TESTS),
    ("tls", tls::TESTS),
    ("log", log::TESTS),
    ("view", view::TESTS),
    ("sandbox", sandbox::TESTS),
    ("endpoint", endpoint::TESTS),
    ("delivery", delivery::TESTS),
    ("printed_events", printed_events::TESTS),
    ("snapshot", snapshot::TESTS),
    ("top", top::TESTS),
];

fn main() -> ExitCode {
    // Some tests start this program as another process.
    for helper in [
        backends::helper,
        owners::helper,
        pins::helper,
        view::helper,
        sandbox::helper,
        events::helper,
        top::helper,
    ] {
        if let Some(code) = helper() {
            return code;
        }
    }
    if root::missing().is_none() {
        unshare_mounts();
    }
    let trials_of = |&(module, tests): &(&str, &[Test])| -> Vec<_> {
        tests.iter().flat_map(|test| test.trials(module)).collect()
    };
    trials::run(MODULES.iter().flat_map(trials_of).collect())
}

/// Moves this process into a mount namespace of its own, from which no mount propagates.
fn unshare_mounts() {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("root may unshare");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may change propagation");
}
