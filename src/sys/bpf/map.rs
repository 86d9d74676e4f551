//! Keys and values of maps, one by one and in batches, and elements of our own maps.
//! Knows lengths, and not what a value means. Begin at [`Entries::of`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::{Call, bpf, map_info};
use crate::model::enums::map_type;
use crate::sys::{Error, Result};

/// `union bpf_attr` as `BPF_MAP_UPDATE_ELEM` uses it.
#[repr(C, align(8))]
struct UpdateAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` as `BPF_MAP_GET_NEXT_KEY` uses it.
#[repr(C, align(8))]
struct NextKeyAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    next_key: u64,
    flags: u64,
}

/// `union bpf_attr` as `BPF_MAP_LOOKUP_BATCH` uses it.
#[repr(C, align(8))]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: i32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` as `BPF_MAP_LOOKUP_ELEM` uses it.
#[repr(C, align(8))]
struct LookupAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets an element of a map of our own, whose keys and values are `K` and `V`.
///
/// # Errors
///
/// `E2BIG` when there is no such element.
///
/// # Panics
///
/// When the map's values are not as long as `V`: the kernel would read beyond it.
pub(crate) fn update_map<V: IntoBytes + Immutable>(map: BorrowedFd<'_>, key: u32, value: &V) -> Result<()> {
    let info = map_info(map)?.value;
    assert_eq!((info.key_size as usize, info.value_size as usize), (size_of::<u32>(), size_of::<V>()));
    let mut attr = UpdateAttr {
        map_fd: map.as_raw_fd(),
        padding: 0,
        key: (&raw const key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    // SAFETY: `attr.key` and `attr.value` outlive the call and are as long as the map says, which was asked above and never
    // changes.
    unsafe { bpf(Call::MapUpdateElem, &mut attr) }?;
    Ok(())
}

/// A map's entries, with the sizes by which the kernel reads and writes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries<'a> {
    fd: BorrowedFd<'a>,
    map_type: u32,
    key_size: usize,
    value_size: usize,
}

/// Where in a map a batch begins, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// What one batch of entries held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// How many entries.
    pub(crate) count: u32,
    /// Where the next one begins; `None` at the end.
    pub(crate) next: Option<Position>,
}

impl<'a> Entries<'a> {
    /// The entries of a map, whose sizes the kernel is asked for.
    ///
    /// # Errors
    ///
    /// Those of `BPF_OBJ_GET_INFO_BY_FD`.
    pub(crate) fn of(fd: BorrowedFd<'a>) -> Result<Self> {
        let map = map_info(fd)?.value;
        Ok(Self {
            fd,
            map_type: map.map_type,
            key_size: map.key_size as usize,
            value_size: map.value_size as usize,
        })
    }

    /// The length of a key.
    pub(crate) fn key_size(&self) -> usize {
        self.key_size
    }

    /// What an entry takes in a batch.
    pub(crate) fn size(&self) -> usize {
        self.key_size + self.value_size
    }

    /// Writes the key that follows `key`, or the first, to `next`. `false` at the end. After a key that is not there any more
    /// comes the first one.
    ///
    /// # Errors
    ///
    /// `EPERM` when the map may not be read; `EINVAL` also for a slice that is not as long as a key.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool> {
        if next.len() != self.key_size || key.is_some_and(|key| key.len() != self.key_size) {
            return Err(Error::new(Call::MapGetNextKey.as_str(), Errno::EINVAL));
        }
        let mut attr = NextKeyAttr {
            map_fd: self.fd.as_raw_fd(),
            padding: 0,
            key: key.map_or(0, |key| key.as_ptr() as u64),
            next_key: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both slices outlive the call and are as long as the map's keys, by which the kernel goes: `of` asked it, and
        // the borrowed descriptor is of the same map still. A null key stands for none.
        match unsafe { bpf(Call::MapGetNextKey, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Error { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How long the value is that [`Self::lookup`] copies: that of a map that holds others is an id.
    pub(crate) fn value_len(&self) -> Result<usize> {
        match self.map_type {
            map_type::PROG_ARRAY | map_type::ARRAY_OF_MAPS | map_type::HASH_OF_MAPS => Ok(size_of::<u32>()),
            map_type::DEVMAP | map_type::DEVMAP_HASH | map_type::CPUMAP | map_type::STRUCT_OPS => {
                Ok(self.value_size)
            }
            _ => Err(Error::new(Call::MapLookupElem.as_str(), Errno::EOPNOTSUPP)),
        }
    }

    /// Copies the value of a key to `value`. `false` when there is none.
    ///
    /// # Errors
    ///
    /// `EPERM` when the map may not be read; `EOPNOTSUPP` for every type of map but those that hold programs and maps; `EINVAL`
    /// also for slices that are not as long as key and value.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        if key.len() != self.key_size || value.len() != self.value_len()? {
            return Err(Error::new(Call::MapLookupElem.as_str(), Errno::EINVAL));
        }
        let mut attr = LookupAttr {
            map_fd: self.fd.as_raw_fd(),
            padding: 0,
            key: key.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both slices outlive the call. The key is as long as the map's, and the value as long as what the kernel copies
        // for maps of these types (`bpf_map_value_size`, `kernel/bpf/syscall.c`): an id, or the size that `of` was told.
        match unsafe { bpf(Call::MapLookupElem, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Error { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Copies entries to `buffer`, from `after` on or from the beginning: whole buckets, as many as there is room for.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when a bucket holds more than there is room for; `EBUSY` when one is locked (since 6.0); `EINVAL` before 5.6;
    /// `EOPNOTSUPP` for every type but `hash` and `lru_hash`: those of others have another form or length.
    pub(crate) fn lookup_batch(&self, after: Option<Position>, buffer: &mut [u8]) -> Result<Batch> {
        if ![map_type::HASH, map_type::LRU_HASH].contains(&self.map_type) {
            return Err(Error::new(Call::MapLookupBatch.as_str(), Errno::EOPNOTSUPP));
        }
        let room = u32::try_from(buffer.len() / self.size()).unwrap_or(u32::MAX);
        let (keys, values) = buffer.split_at_mut(self.key_size * room as usize);
        let mut next = Position(0);
        let mut attr = BatchAttr {
            in_batch: after.as_ref().map_or(0, |after| (&raw const after.0) as u64),
            out_batch: (&raw mut next.0) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room,
            map_fd: self.fd.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: all that the addresses point to outlives the call. The kernel writes no more than `count` keys and as many
        // values, for which the two parts of the buffer have room: in maps of these two types an entry has one value, of the
        // size that `of` was told. A position is 4 bytes of the 8 (`__htab_map_lookup_and_delete_batch`,
        // `kernel/bpf/hashtab.c`).
        match unsafe { bpf(Call::MapLookupBatch, &mut attr) } {
            Ok(_) => Ok(Batch { count: attr.count, next: Some(next) }),
            Err(Error { errno: Errno::ENOENT, .. }) => Ok(Batch { count: attr.count, next: None }),
            Err(error) => Err(error),
        }
    }
}
