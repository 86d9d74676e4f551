//! The programs that `tests/receivers/install` installs.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the path of a program, if it is installed: below `RECEIVERS`, or where `tests/receivers/install` puts it.
#[must_use]
pub fn path(program: &str) -> PathBuf {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/receivers");
    env::var_os("RECEIVERS").map_or_else(installed, PathBuf::from).join("bin").join(program)
}
