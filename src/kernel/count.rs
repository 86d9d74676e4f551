//! Counts the entries of maps whose number the kernel does not report, by walking their keys.
//!
//! Entry point: [`entries`]. The time is proportional to the number of entries, so it is optional and limited by capacity.

use std::mem;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::model::MapFacts;
use crate::model::enums::map_type;
use crate::sys::bpf::{BatchPosition, MapEntries};
use crate::sys::{Error, Result};

/// The name in issues of a map that is too large to be counted.
const CALL: &str = "count_by_walking";

/// The maximum size of a batch, in bytes.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// The minimum capacity of a batch, in entries. A batch takes complete buckets, and few buckets have as many entries.
const MIN_BATCH_ENTRIES: usize = 64;

/// Counts the entries of a map with a capacity of up to `limit`.
///
/// `None` for a type whose keys cannot be walked or all exist always, and if deletions during the walk kept it from reaching the
/// end. Entries that are added or deleted during the walk may be counted or not. `buffer` receives the entries, at most a
/// megabyte.
///
/// # Errors
///
/// `count_by_walking` and `E2BIG` for a map with a capacity above the limit; `EPERM` if the map may not be read.
pub(crate) fn entries(
    fd: BorrowedFd<'_>,
    map: &MapFacts,
    limit: u32,
    buffer: &mut Vec<u8>,
) -> Result<Option<u64>> {
    let in_batches = match map.map_type.number {
        map_type::HASH | map_type::LRU_HASH => true,
        // A batch would copy values for every CPU, or take the same steps inside the kernel.
        map_type::PERCPU_HASH
        | map_type::LRU_PERCPU_HASH
        | map_type::STACK_TRACE
        | map_type::LPM_TRIE
        | map_type::HASH_OF_MAPS
        | map_type::SOCKHASH
        | map_type::DEVMAP_HASH => false,
        _ => return Ok(None),
    };
    if map.max_entries > limit {
        return Err(Error::new(CALL, Errno::E2BIG));
    }
    let entries = MapEntries::of(fd)?;
    let counted = if in_batches { count_by_batch(&entries, map.max_entries, buffer) } else { None };
    match counted {
        Some(count) => Ok(Some(count)),
        None => count_by_key(&entries, map.max_entries, buffer),
    }
}

/// Counts complete buckets, which is exact whatever happens in the others. `None` if it is not possible: before 5.6, if only a few
/// entries fit in a batch, if a bucket does not fit or is locked.
fn count_by_batch(entries: &MapEntries<'_>, max_entries: u32, buffer: &mut Vec<u8>) -> Option<u64> {
    let capacity = MAX_BATCH_BYTES / entries.size();
    if capacity < MIN_BATCH_ENTRIES {
        return None;
    }
    let capacity = capacity.min((max_entries as usize).max(MIN_BATCH_ENTRIES));
    buffer.resize(capacity * entries.size(), 0);
    let (mut count, mut position) = (0, None::<BatchPosition>);
    loop {
        let batch = entries.lookup_batch(position, buffer).ok()?;
        count += u64::from(batch.count);
        let Some(next) = batch.next else { return Some(count) };
        // Each batch has at least one bucket. A position that does not advance would make the loop endless.
        position = Some(next).filter(|next| position.is_none_or(|position| *next > position));
        position?;
    }
}

/// Counts keys one by one. Deleting the current key restarts the walk at the first key.
fn count_by_key(entries: &MapEntries<'_>, max_entries: u32, buffer: &mut Vec<u8>) -> Result<Option<u64>> {
    let size = entries.key_size();
    buffer.resize(3 * size, 0);
    let (first, rest) = buffer.split_at_mut(size);
    let (mut key, mut next) = rest.split_at_mut(size);
    if !entries.next_key(None, first)? {
        return Ok(Some(0));
    }
    key.copy_from_slice(first);
    let mut count = 1;
    // A map of stack traces has a power of two of buckets, which may be nearly twice its nominal capacity.
    for _ in 0..2 * u64::from(max_entries) {
        if !entries.next_key(Some(key), next)? {
            return Ok(Some(count));
        }
        count = if next == first { 1 } else { count + 1 };
        mem::swap(&mut key, &mut next);
    }
    Ok(None)
}
