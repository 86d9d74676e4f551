//! Maps that hold programs and other maps, and attachments to maps themselves: programs of sockets, structures of operations.
//! Entry point: [`scan`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::merge::AttachPoint;
use super::{ScanContext, hook};
use crate::kernel::btf::Operations;
use crate::model::enums::{attach_type, map_type, program_type};
use crate::model::{Content, Kind, MapFacts, Target};
use crate::sys::bpf::{self as sys, AttachedPrograms, Command, MapEntries, QueryTarget, prog_query};
use crate::sys::{Error, Result};

/// A map with room for more entries is not read.
const LARGEST: u32 = 1 << 17;

/// The number of entries read in one scan: each costs about a microsecond.
const MOST_ENTRIES: u64 = 1 << 18;

/// Position of the state in the value of a map of struct operations (`struct bpf_struct_ops_common_value`).
const STATE: usize = 4;
/// `BPF_STRUCT_OPS_STATE_INUSE`: registered without a link.
const IN_USE: u32 = 1;

/// The hooks of a map of sockets.
const SOCKET_HOOKS: [u32; 4] = [
    attach_type::SK_SKB_STREAM_PARSER,
    attach_type::SK_SKB_STREAM_VERDICT,
    attach_type::SK_MSG_VERDICT,
    attach_type::SK_SKB_VERDICT,
];

/// The types of program that attach to maps of sockets.
const SOCKET_TYPES: [u32; 2] = [program_type::SK_SKB, program_type::SK_MSG];

/// The structures of operations, by the BTF object and the type in it; `None` for one that was not found.
pub(crate) type Structures = HashMap<(u32, u32), Option<Operations>>;

/// The scan of maps.
struct MapScan<'a, 'b> {
    cx: &'a mut ScanContext<'b>,
    structures: &'a mut Structures,
    contents: BTreeSet<Content>,
    entries_left: u64,
}

/// Reads each map that can hold an object without another known holder, and queries those that programs attach to.
pub(crate) fn scan(cx: &mut ScanContext<'_>, structures: &mut Structures) {
    let Some(maps) = &cx.subject.maps else {
        cx.complete = false;
        return;
    };
    let with_sockets = cx.subject.has(&SOCKET_TYPES);
    // Opening and closing a map has side effects: see what docs/operations.md says of program arrays. An unreferenced one may be
    // just the one that the kernel is clearing.
    let (with_programs, with_maps) = (cx.needs_content_scan(Kind::Program), cx.needs_content_scan(Kind::Map));
    let unreferenced = cx.unreferenced_maps();
    let is_wanted = |map: &MapFacts| match map.map_type.number {
        map_type::SOCKMAP | map_type::SOCKHASH => with_sockets,
        map_type::STRUCT_OPS => true,
        _ if unreferenced.contains(&map.id) => false,
        _ => match held_objects(map) {
            Some((Kind::Program, _)) => with_programs,
            Some(_) => with_maps,
            None => false,
        },
    };
    let mut scan = MapScan { cx, structures, contents: BTreeSet::new(), entries_left: MOST_ENTRIES };
    for map in maps.iter().filter(|map| is_wanted(map)) {
        match sys::fd_by_id(Kind::Map, map.id) {
            Ok(fd) => scan.read(map, fd.as_fd()),
            Err(Error { errno: Errno::ENOENT, .. }) => {}
            Err(error) => {
                scan.failed(error);
                // A process that may not open one map may open none.
                if error.errno == Errno::EPERM {
                    break;
                }
            }
        }
    }
    let contents = scan.contents.into_iter().collect();
    cx.contents = contents;
}

/// The kind of object that a map of this type and shape holds, and the position of the id in its value.
fn held_objects(map: &MapFacts) -> Option<(Kind, usize)> {
    match map.map_type.number {
        map_type::PROG_ARRAY => Some((Kind::Program, 0)),
        map_type::ARRAY_OF_MAPS | map_type::HASH_OF_MAPS => Some((Kind::Map, 0)),
        // After the index of an interface or the size of a queue (`struct bpf_devmap_val`, since 5.8, `struct bpf_cpumap_val`,
        // since 5.9), if the map was created for it.
        map_type::DEVMAP | map_type::DEVMAP_HASH | map_type::CPUMAP if map.value_size == 8 => {
            Some((Kind::Program, 4))
        }
        _ => None,
    }
}

impl MapScan<'_, '_> {
    fn failed(&mut self, error: Error) {
        self.cx.issue(error);
        self.cx.complete = false;
    }

    fn read(&mut self, map: &MapFacts, fd: BorrowedFd<'_>) {
        let read = match map.map_type.number {
            map_type::SOCKMAP | map_type::SOCKHASH => {
                self.query_sockets(map.id, fd);
                Ok(true)
            }
            map_type::STRUCT_OPS => self.read_operations(map.id, fd),
            _ => self.read_contents(map, fd),
        };
        match read {
            Ok(true) => {}
            Ok(false) => self.failed(Error::new(Command::MapLookupElem.as_str(), Errno::E2BIG)),
            Err(error) => self.failed(error),
        }
    }

    /// Reads the objects in a map. Returns `false` when there are too many, or no end of them.
    fn read_contents(&mut self, map: &MapFacts, fd: BorrowedFd<'_>) -> Result<bool> {
        let Some((kind, at)) = held_objects(map) else { return Ok(true) };
        if map.max_entries > LARGEST || u64::from(map.max_entries) > self.entries_left {
            return Ok(false);
        }
        let entries = MapEntries::of(fd)?;
        let mut value = vec![0; entries.value_len()?];
        let contents = &mut self.contents;
        let mut read = |key: &[u8]| {
            if entries.lookup(key, &mut value)? {
                let id = word(&value, at).filter(|&id| id != 0);
                contents.extend(id.map(|id| Content { map_id: map.id, kind, id }));
            }
            Ok(())
        };
        if [map_type::HASH_OF_MAPS, map_type::DEVMAP_HASH].contains(&map.map_type.number) {
            let most = 2 * u64::from(map.max_entries) + 1;
            return walk_keys(&entries, most, &mut self.entries_left, read);
        }
        self.entries_left -= u64::from(map.max_entries);
        (0..map.max_entries).try_for_each(|key| read(&key.to_ne_bytes()))?;
        Ok(true)
    }

    /// Queries the programs of a map of sockets, which the kernel reports since 5.17.
    fn query_sockets(&mut self, map: u32, fd: BorrowedFd<'_>) {
        let target = Target::Map { id: map };
        let mut found = AttachedPrograms::default();
        for attach_type in SOCKET_HOOKS {
            match prog_query(QueryTarget::Fd(fd), attach_type, &mut found) {
                Ok(()) => {
                    let hook = hook(attach_type);
                    self.cx.attachments.was_queried(&hook, &target);
                    let point = AttachPoint { hook, target: Some(target.clone()), netns: None };
                    self.cx.attachments.add(&point, &found);
                }
                Err(Error { errno: Errno::EOPNOTSUPP, .. }) => {}
                Err(Error { errno: Errno::EINVAL, .. }) => self.cx.unqueryable.extend(SOCKET_TYPES),
                Err(error) => self.cx.refused(error, &SOCKET_TYPES),
            }
        }
    }

    /// Reads a map of struct operations: its programs, and its own attachment if it is registered.
    fn read_operations(&mut self, map: u32, fd: BorrowedFd<'_>) -> Result<bool> {
        let info = sys::map_info(fd)?.value;
        let entries = MapEntries::of(fd)?;
        let mut value = vec![0; entries.value_len()?];
        if !entries.lookup(&0_u32.to_ne_bytes(), &mut value)? {
            return Ok(true);
        }
        let key = (info.btf_vmlinux_id, info.btf_vmlinux_value_type_id);
        let operations = match self.structures.entry(key) {
            Entry::Occupied(cached) => cached.into_mut(),
            Entry::Vacant(missing) => {
                // Before 6.9 it is always the kernel's, and its id is not reported.
                let types = match key.0 {
                    0 => Some(self.cx.names.btf().kernel()?),
                    id => self.cx.names.btf().described(id)?.map(|described| described.types),
                };
                missing.insert(types.and_then(|types| types.operations(key.1)))
            }
        };
        if word(&value, STATE) == Some(IN_USE) || self.cx.attachments.has_map(map) {
            let target = operations
                .as_ref()
                .map(|operations| Target::StructOps { name: operations.name.as_str().into() });
            self.cx.attachments.add_map(AttachPoint { hook: "struct_ops".into(), target, netns: None }, map);
        }
        let Some(operations) = operations else { return Ok(false) };
        // A pointer to a function is replaced by the program's id (`bpf_struct_ops_map_update_elem`).
        let programs = operations.functions.iter().filter_map(|&at| word(&value, at)).filter(|&id| id != 0);
        self.contents.extend(programs.map(|id| Content { map_id: map, kind: Kind::Program, id }));
        Ok(true)
    }
}

/// Passes each key of a hash to `read`, `most` of them at most. Returns `false` when there are more: deleting the current key
/// restarts `BPF_MAP_GET_NEXT_KEY` from the beginning.
fn walk_keys(
    entries: &MapEntries<'_>,
    most: u64,
    left: &mut u64,
    mut read: impl FnMut(&[u8]) -> Result<()>,
) -> Result<bool> {
    let size = entries.key_size();
    let (mut key, mut next) = (vec![0; size], vec![0; size]);
    let mut has_key = entries.next_key(None, &mut key)?;
    for _ in 0..most {
        if !has_key {
            return Ok(true);
        }
        if *left == 0 {
            return Ok(false);
        }
        *left -= 1;
        read(&key)?;
        has_key = entries.next_key(Some(&key), &mut next)?;
        std::mem::swap(&mut key, &mut next);
    }
    Ok(false)
}

/// The number at a position of a map's value.
fn word(value: &[u8], at: usize) -> Option<u32> {
    value.get(at..)?.first_chunk().map(|&word| u32::from_ne_bytes(word))
}
