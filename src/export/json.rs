//! A snapshot as JSON: the model itself, which can be read back.

use crate::model::Snapshot;

/// Writes a snapshot down.
///
/// # Errors
///
/// None that a snapshot can cause: its maps have text for keys.
pub fn render(snapshot: &Snapshot) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(snapshot)?;
    text.push('\n');
    Ok(text)
}

/// Reads a snapshot back.
///
/// # Errors
///
/// Where and why the text is not a snapshot.
pub fn parse(text: &str) -> serde_json::Result<Snapshot> {
    serde_json::from_str(text)
}
