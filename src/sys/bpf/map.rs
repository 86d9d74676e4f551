//! Keys and values of maps, one by one and in batches, and updates of our own maps.
//!
//! Entry point: [`MapEntries::of`]. Independent of what a value means.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::{Command, bpf, map_info};
use crate::model::enums::map_type;
use crate::sys::{Error, Result};

/// `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C, align(8))]
struct UpdateAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for `BPF_MAP_GET_NEXT_KEY`.
#[repr(C, align(8))]
struct NextKeyAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    next_key: u64,
    flags: u64,
}

/// `union bpf_attr` for `BPF_MAP_LOOKUP_BATCH`.
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

/// `union bpf_attr` for `BPF_MAP_LOOKUP_ELEM`.
#[repr(C, align(8))]
struct LookupAttr {
    map_fd: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets an element of one of our own arrays.
///
/// # Errors
///
/// `E2BIG` if the map has no such element.
///
/// # Panics
///
/// If the map is not an array with values as long as `V`: the kernel would read beyond it.
pub(crate) fn update_map<V: IntoBytes + Immutable>(map: BorrowedFd<'_>, key: u32, value: &V) -> Result<()> {
    let info = map_info(map)?.value;
    // For per-CPU types, the kernel reads a value for each CPU.
    assert_eq!(info.map_type, map_type::ARRAY);
    assert_eq!((info.key_size as usize, info.value_size as usize), (size_of::<u32>(), size_of::<V>()));
    let mut attr = UpdateAttr {
        map_fd: map.as_raw_fd(),
        padding: 0,
        key: (&raw const key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    // SAFETY: `attr.key` and `attr.value` outlive the call and have the sizes of the map, which is an array: both were checked
    // above and never change.
    unsafe { bpf(Command::MapUpdateElem, &mut attr) }?;
    Ok(())
}

/// Refuses writes to a map by system calls from now on, whoever makes them. Programs can still write.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF`; `EINVAL` before 5.2.
pub(crate) fn freeze_map(map: BorrowedFd<'_>) -> Result<()> {
    let mut attr = map.as_raw_fd();
    // SAFETY: the command reads a descriptor, and nothing else.
    unsafe { bpf(Command::MapFreeze, &mut attr) }?;
    Ok(())
}

/// The entries of a map, with the sizes of keys and values that the kernel reads and writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapEntries<'a> {
    fd: BorrowedFd<'a>,
    map_type: u32,
    key_size: usize,
    value_size: usize,
}

/// The position of a batch in a map, an index of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchPosition(u64);

/// The result of a batched lookup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// The number of entries.
    pub(crate) count: u32,
    /// The position of the next batch; `None` after the last one.
    pub(crate) next: Option<BatchPosition>,
}

impl<'a> MapEntries<'a> {
    /// Queries the type and sizes of a map.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the descriptor is not of a map.
    pub(crate) fn of(fd: BorrowedFd<'a>) -> Result<Self> {
        let map = map_info(fd)?.value;
        Ok(Self {
            fd,
            map_type: map.map_type,
            key_size: map.key_size as usize,
            value_size: map.value_size as usize,
        })
    }

    /// Returns the size of a key in bytes.
    pub(crate) fn key_size(&self) -> usize {
        self.key_size
    }

    /// Returns the size of an entry in a batch, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.key_size + self.value_size
    }

    /// Writes the key after `key`, or the first key, to `next`. Returns `false` after the last key. The first key follows one that
    /// was deleted.
    ///
    /// # Errors
    ///
    /// `EPERM` if the map may not be read; `EINVAL` also for a slice that is not as long as a key.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool> {
        if next.len() != self.key_size || key.is_some_and(|key| key.len() != self.key_size) {
            return Err(Error::new(Command::MapGetNextKey.as_str(), Errno::EINVAL));
        }
        let mut attr = NextKeyAttr {
            map_fd: self.fd.as_raw_fd(),
            padding: 0,
            key: key.map_or(0, |key| key.as_ptr() as u64),
            next_key: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both slices outlive the call and are as long as the map's keys, whose size `of` queried; the borrowed descriptor is
        // still that of the same map. A null key requests the first one.
        match unsafe { bpf(Command::MapGetNextKey, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Error { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the size of the values that [`Self::lookup`] copies, in bytes: values of a map of programs or maps are ids.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for other types of maps than those that hold programs and maps, and arrays.
    pub(crate) fn value_len(&self) -> Result<usize> {
        match self.map_type {
            map_type::PROG_ARRAY | map_type::ARRAY_OF_MAPS | map_type::HASH_OF_MAPS => Ok(size_of::<u32>()),
            map_type::ARRAY
            | map_type::DEVMAP
            | map_type::DEVMAP_HASH
            | map_type::CPUMAP
            | map_type::STRUCT_OPS => Ok(self.value_size),
            _ => Err(Error::new(Command::MapLookupElem.as_str(), Errno::EOPNOTSUPP)),
        }
    }

    /// Copies the value of a key to `value`. Returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// `EPERM` if the map may not be read; `EOPNOTSUPP` for other types of maps than those of [`Self::value_len`]; `EINVAL` also for
    /// slices that are not as long as key and value.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        if key.len() != self.key_size || value.len() != self.value_len()? {
            return Err(Error::new(Command::MapLookupElem.as_str(), Errno::EINVAL));
        }
        let mut attr = LookupAttr {
            map_fd: self.fd.as_raw_fd(),
            padding: 0,
            key: key.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both slices outlive the call. The key is as long as the map's, and the value as long as what the kernel copies
        // for maps of these types (`bpf_map_value_size`, `kernel/bpf/syscall.c`): an id, or the size that `of` queried.
        match unsafe { bpf(Command::MapLookupElem, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Error { errno: Errno::ENOENT, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Copies entries to `buffer`, from a position or from the start: as many complete buckets as fit.
    ///
    /// # Errors
    ///
    /// `EPERM` if the map may not be read; `ENOSPC` if a bucket does not fit; `EBUSY` if one is locked (since 6.0); `EINVAL` before
    /// 5.6; `EOPNOTSUPP` for other types than `hash` and `lru_hash`, whose entries have another format or length.
    pub(crate) fn lookup_batch(&self, start: Option<BatchPosition>, buffer: &mut [u8]) -> Result<Batch> {
        if ![map_type::HASH, map_type::LRU_HASH].contains(&self.map_type) {
            return Err(Error::new(Command::MapLookupBatch.as_str(), Errno::EOPNOTSUPP));
        }
        let capacity = u32::try_from(buffer.len() / self.size()).unwrap_or(u32::MAX);
        let (keys, values) = buffer.split_at_mut(self.key_size * capacity as usize);
        let mut next = BatchPosition(0);
        let mut attr = BatchAttr {
            in_batch: start.as_ref().map_or(0, |start| (&raw const start.0) as u64),
            out_batch: (&raw mut next.0) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: capacity,
            map_fd: self.fd.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the addresses are those of variables and slices that outlive the call. The kernel writes at most `count` keys and
        // as many values, for which the two parts of the buffer have room: in maps of these two types an entry has one value, of the
        // size that `of` queried. A position takes 4 of the 8 bytes (`__htab_map_lookup_and_delete_batch`, `kernel/bpf/hashtab.c`).
        match unsafe { bpf(Command::MapLookupBatch, &mut attr) } {
            Ok(_) => Ok(Batch { count: attr.count, next: Some(next) }),
            Err(Error { errno: Errno::ENOENT, .. }) => Ok(Batch { count: attr.count, next: None }),
            Err(error) => Err(error),
        }
    }
}
