//! Files that a test keeps as they should be: `UPDATE=1 cargo test` writes them anew.

use std::path::Path;

/// Compares a text with a file below the package's root, or replaces the file when `UPDATE` is set.
pub(crate) fn assert_golden(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("failed to write {path}: {error}"));
        return;
    }
    let golden =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("failed to read {path}: {error}"));
    if let Some((line, (is, was))) =
        text.lines().zip(golden.lines()).enumerate().find(|(_, (is, was))| is != was)
    {
        panic!("{path}:{} is no longer true; UPDATE=1 accepts the change\n was: {was}\n  is: {is}", line + 1);
    }
    assert!(text == golden, "{path} is longer or shorter than it should be; UPDATE=1 accepts the change");
}
