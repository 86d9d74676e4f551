//! Tests whose requirements a machine may lack: where one is missing they are reported as ignored, with the reason, and never as
//! passed. With `REQUIRE_ALL_TESTS` set, as in CI, they fail instead.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Creates a trial; `missing` is the requirement that the machine lacks.
pub fn trial(name: String, missing: Option<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    let required = std::env::var_os("REQUIRE_ALL_TESTS").is_some();
    if let Some(reason) = &missing {
        announce(&name, reason);
    }
    let is_ignored = missing.is_some() && !required;
    let run = move || match missing {
        Some(reason) if required => Err(reason.into()),
        _ => {
            test();
            Ok(())
        }
    };
    Trial::test(name, run).with_ignored_flag(is_ignored)
}

/// Runs trials one after the other, since all of them share the kernel's tables.
#[must_use]
pub fn run(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[expect(clippy::print_stderr, reason = "shows why a test is ignored")]
fn announce(name: &str, reason: &str) {
    eprintln!("{name} is not run: {reason}");
}
