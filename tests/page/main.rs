//! The page in a real browser, with the running exporter and real BPF objects. The tests need root and what `tests/page/install`
//! installs. Every trial is named after its module: `cargo test --test page -- tables::` runs one module. The whole process has a
//! mount namespace of its own, so that no mount outlives it.

mod exporter;
mod life;
mod names;
mod people;
mod scene;
mod tables;
mod webdriver;

use std::process::ExitCode;

use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use test_support::{root, trials};

/// A test, by its name.
type Test = (&'static str, fn());

const MODULES: [(&str, &[Test]); 4] =
    [("tables", tables::TESTS), ("people", people::TESTS), ("names", names::TESTS), ("life", life::TESTS)];

fn main() -> ExitCode {
    scene::hold_if_asked();
    let missing = || root::missing().or_else(webdriver::missing).or_else(webdriver::axe_missing);
    let missing = missing();
    if root::missing().is_none() {
        unshare_mounts();
    }
    let trials = MODULES.iter().flat_map(|(module, tests)| {
        let missing = missing.clone();
        tests.iter().map(move |&(name, test)| -> Trial {
            trials::trial(format!("{module}::{name}"), missing.clone(), test)
        })
    });
    trials::run(trials.collect())
}

/// Moves this process into a mount namespace of its own, from which no mount propagates.
fn unshare_mounts() {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("root may unshare");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may change propagation");
}
