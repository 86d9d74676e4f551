//! Tests that need something the machine may not have: reported as ignored, with the reason, where it is missing, and never as
//! passed. With `REQUIRE_ALL_TESTS` set, as in CI, what is missing is a failure.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A test, by its name.
pub type Test = (&'static str, fn());

/// Runs tests one after the other: the kernel's tables are shared by all. `missing` says what they need and is not there.
pub fn run(tests: &[Test], missing: impl Fn(&str) -> Option<String>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let required = std::env::var_os("REQUIRE_ALL_TESTS").is_some();
    let trial = |&(name, test): &Test| {
        let reason = missing(name);
        if let Some(reason) = &reason {
            announce(name, reason);
        }
        let fails = reason.clone().filter(|_| required);
        let trial = Trial::test(name, move || {
            if let Some(reason) = fails {
                return Err(reason.into());
            }
            test();
            Ok(())
        });
        trial.with_ignored_flag(reason.is_some() && !required)
    };
    let trials = tests.iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[expect(clippy::print_stderr, reason = "for people who wonder")]
fn announce(name: &str, reason: &str) {
    eprintln!("{name} is not run: {reason}");
}
