//! Hash of a value as a number.

use std::hash::{BuildHasher as _, Hash};

use foldhash::quality::FixedState;

/// Returns the hash of a value: stable for the lifetime of the process; collisions are negligible.
pub(crate) fn hash(value: impl Hash) -> u64 {
    FixedState::default().hash_one(value)
}
