//! What stays the same row of a list. Entry point: [`Key`].

use crate::metrics::columns::RowKey;

/// Identity of a row of a list over readings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An object, an owner or an attachment.
    Row(RowKey),
    /// What has no owner.
    Unowned,
    /// An event, by its number in the log.
    Event(u64),
}
