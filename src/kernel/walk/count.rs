//! How many entries a map has, where the kernel keeps no count of them: by walking its keys.
//! That takes time for every entry, so somebody has to ask for it, and up to a capacity only. Begin at [`entries`].

use std::mem;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::model::MapFacts;
use crate::model::enums::map_type;
use crate::sys::bpf::{Entries, Position};
use crate::sys::{Error, Result};

/// What a map that is too big to be counted is called among the issues.
const CALL: &str = "count_by_walking";

/// The most memory that a batch of entries takes, in bytes.
const LONGEST_BATCH: usize = 1 << 20;

/// The fewest entries that a batch has room for. Seldom are as many in one bucket, and a batch takes whole buckets.
const SMALLEST_BATCH: usize = 64;

/// Counts the entries of a map, if it can have no more of them than `limit`.
///
/// `None` for a type whose entries cannot be walked or are always all there, and when so many were deleted during the walk that
/// it found no end. What comes and goes meanwhile may be counted or not. `buffer` holds what the kernel copies, at most a
/// megabyte.
///
/// # Errors
///
/// The call and its error: `count_by_walking` and `E2BIG` for a map that was not walked because of the limit.
pub(crate) fn entries(
    fd: BorrowedFd<'_>,
    map: &MapFacts,
    limit: u32,
    buffer: &mut Vec<u8>,
) -> Result<Option<u64>> {
    let in_batches = match map.map_type.number {
        map_type::HASH | map_type::LRU_HASH => true,
        // A batch would copy values for every CPU, or make the same steps inside the kernel.
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
    let entries = Entries::of(fd)?;
    let counted = if in_batches { batch_by_batch(&entries, map.max_entries, buffer) } else { None };
    match counted {
        Some(count) => Ok(Some(count)),
        None => key_by_key(&entries, map.max_entries, buffer),
    }
}

/// Counts whole buckets, which is exact whatever happens in the others. `None` when that cannot be done: before 5.6, with
/// entries of which only a few have room, with a bucket that has more or is locked.
fn batch_by_batch(entries: &Entries<'_>, max_entries: u32, buffer: &mut Vec<u8>) -> Option<u64> {
    let room = LONGEST_BATCH / entries.size();
    if room < SMALLEST_BATCH {
        return None;
    }
    let room = room.min((max_entries as usize).max(SMALLEST_BATCH));
    buffer.resize(room * entries.size(), 0);
    let (mut count, mut position) = (0, None::<Position>);
    loop {
        let batch = entries.lookup_batch(position, buffer).ok()?;
        count += u64::from(batch.count);
        let Some(next) = batch.next else { return Some(count) };
        // Each batch has a bucket at least. A kernel that stays where it is would never come to an end.
        position = Some(next).filter(|next| position.is_none_or(|position| *next > position));
        position?;
    }
}

/// Counts keys one by one. A walk begins anew when the key is deleted at which it stands.
fn key_by_key(entries: &Entries<'_>, max_entries: u32, buffer: &mut Vec<u8>) -> Result<Option<u64>> {
    let size = entries.key_size();
    buffer.resize(3 * size, 0);
    let (first, rest) = buffer.split_at_mut(size);
    let (mut key, mut next) = rest.split_at_mut(size);
    if !entries.next_key(None, first)? {
        return Ok(Some(0));
    }
    key.copy_from_slice(first);
    let mut count = 1;
    // Stack traces lie in a power of two of places, which may be nearly twice as many as were asked for.
    for _ in 0..2 * u64::from(max_entries) {
        if !entries.next_key(Some(key), next)? {
            return Ok(Some(count));
        }
        count = if next == first { 1 } else { count + 1 };
        mem::swap(&mut key, &mut next);
    }
    Ok(None)
}
