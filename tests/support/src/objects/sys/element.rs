//! The commands of bpf(2) on a map's elements. Independent of the requirements of map types.
//! Every call takes an [`Element`], which guarantees that key and value are as long as the kernel reads and writes.

use super::{address, address_mut, attr, bpf, length, number};
use std::ffi::c_int;
use std::io;
use std::os::fd::BorrowedFd;

const MAP_LOOKUP_ELEM: c_int = 1;
const MAP_UPDATE_ELEM: c_int = 2;
const MAP_DELETE_ELEM: c_int = 3;
const MAP_GET_NEXT_KEY: c_int = 4;
const MAP_LOOKUP_AND_DELETE_ELEM: c_int = 21;
const MAP_FREEZE: c_int = 22;
const MAP_UPDATE_BATCH: c_int = 26;

/// A map, and the lengths in bytes that the kernel takes for a key and a value of it.
/// `Map::element`, the only maker, has them from the shape that the map was created with.
#[derive(Clone, Copy)]
pub(in super::super) struct Element<'a> {
    pub(in super::super) map: BorrowedFd<'a>,
    pub(in super::super) key_size: usize,
    pub(in super::super) value_size: usize,
}

impl Element<'_> {
    fn attr(&self) -> attr::MapElement {
        attr::MapElement { map_fd: number(self.map), ..Default::default() }
    }

    /// The address of a key, which is none where the map has no keys.
    fn key(&self, key: &[u8]) -> u64 {
        assert_eq!(key.len(), self.key_size, "a key is as long as the map's");
        if key.is_empty() { 0 } else { address(key) }
    }
}

/// `BPF_MAP_UPDATE_ELEM`. An empty key is none, as for queues and stacks.
pub(in super::super) fn map_update(element: Element<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    assert_eq!(value.len(), element.value_size, "a value is as long as the map's");
    let mut attr = attr::MapElement { key: element.key(key), value: address(value), ..element.attr() };
    // SAFETY: the kernel reads key and value, which are as long as the map requires, and writes nothing.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// `BPF_MAP_DELETE_ELEM`.
pub(in super::super) fn map_delete(element: Element<'_>, key: &[u8]) -> io::Result<()> {
    let mut attr = attr::MapElement { key: element.key(key), ..element.attr() };
    // SAFETY: the kernel reads the key, which is as long as the map requires, and writes nothing.
    unsafe { bpf(MAP_DELETE_ELEM, &mut attr) }.map(drop)
}

/// `BPF_MAP_LOOKUP_ELEM`.
pub(in super::super) fn map_lookup(element: Element<'_>, key: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = vec![0; element.value_size];
    let mut attr =
        attr::MapElement { key: element.key(key), value: address_mut(&mut *value), ..element.attr() };
    // SAFETY: the kernel reads the key and writes the value, both as long as the map requires.
    unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) }?;
    Ok(value)
}

/// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`, which of a queue or stack is a pop.
pub(in super::super) fn map_pop(element: Element<'_>) -> io::Result<Vec<u8>> {
    let mut value = vec![0; element.value_size];
    let mut attr = attr::MapElement { value: address_mut(&mut *value), ..element.attr() };
    // SAFETY: the kernel takes no key from a map without keys, and writes a value as long as the map requires.
    unsafe { bpf(MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) }?;
    Ok(value)
}

/// `BPF_MAP_GET_NEXT_KEY`: the key that comes after `after`, or the first.
pub(in super::super) fn map_next_key(element: Element<'_>, after: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut next = vec![0; element.key_size];
    let key = after.map_or(0, |after| element.key(after));
    let mut attr = attr::MapElement { key, value: address_mut(&mut *next), ..element.attr() };
    // SAFETY: the kernel reads a key, if any, and writes one, both as long as the map requires.
    unsafe { bpf(MAP_GET_NEXT_KEY, &mut attr) }?;
    Ok(next)
}

/// `BPF_MAP_UPDATE_BATCH` (5.6): keys and values stand one after the other.
pub(in super::super) fn map_update_batch(element: Element<'_>, keys: &[u8], values: &[u8]) -> io::Result<()> {
    let count = keys.len() / element.key_size;
    assert_eq!(keys.len(), count * element.key_size, "keys are as long as the map's");
    assert_eq!(values.len(), count * element.value_size, "there is a value for each key");
    let mut attr = attr::MapBatch {
        keys: address(keys),
        values: address(values),
        count: length(keys)? / u32::try_from(element.key_size).map_err(io::Error::other)?,
        map_fd: number(element.map),
        ..Default::default()
    };
    // SAFETY: the kernel reads `count` keys and values, which the assertions above have found to be there.
    unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}

/// `BPF_MAP_FREEZE` (5.2).
pub(in super::super) fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attr::MapFreeze { map_fd: number(map) };
    // SAFETY: the attribute holds a number only.
    unsafe { bpf(MAP_FREEZE, &mut attr) }.map(drop)
}
