//! Which maps hold programs and other maps, and what hangs at maps themselves: programs of sockets, structures of operations.
//! Knows no entry but such. Begin at [`look`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::Asking;
use super::merge::Place;
use super::network::hook;
use crate::kernel::btf::Operations;
use crate::kernel::btf::cache::BtfCache;
use crate::model::enums::{attach_type, map_type, program_type};
use crate::model::{Content, Kind, MapFacts};
use crate::sys::bpf::{self as sys, Attached, Entries, Hooked, attached};
use crate::sys::{Error, Result};

/// A map with room for more is not read.
const LARGEST: u32 = 1 << 17;

/// How many entries are read in one look: each costs a microsecond or some.
const MOST_ENTRIES: u64 = 1 << 18;

/// Where in the value of a map of struct operations its state stands (`struct bpf_struct_ops_common_value`).
const STATE: usize = 4;
/// `BPF_STRUCT_OPS_STATE_INUSE`: registered, and by no link.
const IN_USE: u32 = 1;

/// Where the programs of sockets hang at a map.
const AT_SOCKETS: [u32; 4] = [
    attach_type::SK_SKB_STREAM_PARSER,
    attach_type::SK_SKB_STREAM_VERDICT,
    attach_type::SK_MSG_VERDICT,
    attach_type::SK_SKB_VERDICT,
];

/// The structures of operations that were met, by the BTF object and the type in it; `None` for one that was not found.
pub(crate) type Structures = HashMap<(u32, u32), Option<Operations>>;

/// Looks into each map that can hold an object of which nobody else is known to.
pub(crate) fn look(asking: &mut Asking<'_>, structures: &mut Structures) {
    let Some(maps) = &asking.subject.maps else {
        asking.complete = false;
        return;
    };
    let sockets = [program_type::SK_SKB, program_type::SK_MSG];
    let with_sockets = asking.subject.has(&sockets);
    // To open a map and close it again is not for nothing: see what docs/operations.md says of program arrays. One that nobody has
    // any more may be just the one that the kernel is clearing.
    let (program_in_doubt, map_in_doubt) = asking.doubts();
    let lost = asking.lost();
    let mut left = MOST_ENTRIES;
    let mut btfs = BtfCache::below(&asking.root);
    let mut contents = BTreeSet::new();
    for map in maps {
        let wanted = match map.map_type.number {
            map_type::SOCKMAP | map_type::SOCKHASH => with_sockets,
            map_type::STRUCT_OPS => true,
            _ if lost.contains(&map.id) => false,
            _ => match held(map) {
                Some((Kind::Program, _)) => program_in_doubt,
                Some(_) => map_in_doubt,
                None => false,
            },
        };
        if !wanted {
            continue;
        }
        let fd = match sys::fd_by_id(Kind::Map, map.id) {
            Ok(fd) => fd,
            Err(Error { errno: Errno::ENOENT, .. }) => continue,
            Err(error) => {
                asking.issue(error);
                asking.complete = false;
                // Who may not open one may open none.
                if error.errno == Errno::EPERM {
                    break;
                }
                continue;
            }
        };
        let read = match map.map_type.number {
            map_type::SOCKMAP | map_type::SOCKHASH => {
                of_sockets(asking, map.id, fd.as_fd(), &sockets);
                Ok(true)
            }
            map_type::STRUCT_OPS => {
                of_operations(asking, map.id, fd.as_fd(), structures, &mut btfs, &mut contents)
            }
            _ => entries(map, fd.as_fd(), &mut left, &mut contents),
        };
        match read {
            Ok(true) => {}
            Ok(false) => asking.complete = false,
            Err(error) => {
                asking.issue(error);
                asking.complete = false;
            }
        }
    }
    asking.contents = contents.into_iter().collect();
}

/// What a map of this type and shape can hold, and where in its value the id stands.
fn held(map: &MapFacts) -> Option<(Kind, usize)> {
    match map.map_type.number {
        map_type::PROG_ARRAY => Some((Kind::Program, 0)),
        map_type::ARRAY_OF_MAPS | map_type::HASH_OF_MAPS => Some((Kind::Map, 0)),
        // Behind the index of an interface or the size of a queue (`struct bpf_devmap_val`, since 5.8, `struct bpf_cpumap_val`,
        // since 5.9), if the map was made for it.
        map_type::DEVMAP | map_type::DEVMAP_HASH | map_type::CPUMAP if map.value_size == 8 => {
            Some((Kind::Program, 4))
        }
        _ => None,
    }
}

/// Notes what a map's entries are. `false` when there are too many, or no end of them.
fn entries(
    map: &MapFacts,
    fd: BorrowedFd<'_>,
    left: &mut u64,
    contents: &mut BTreeSet<Content>,
) -> Result<bool> {
    let Some((kind, at)) = held(map) else { return Ok(true) };
    if map.max_entries > LARGEST || u64::from(map.max_entries) > *left {
        return Ok(false);
    }
    let entries = Entries::of(fd)?;
    let mut value = vec![0; entries.value_len()?];
    let mut note = |key: &[u8]| {
        if entries.lookup(key, &mut value)? {
            let id = value.get(at..).and_then(<[u8]>::first_chunk).map(|&id| u32::from_ne_bytes(id));
            contents.extend(id.filter(|&id| id != 0).map(|id| Content { map_id: map.id, kind, id }));
        }
        Ok(())
    };
    if ![map_type::HASH_OF_MAPS, map_type::DEVMAP_HASH].contains(&map.map_type.number) {
        *left -= u64::from(map.max_entries);
        (0..map.max_entries).try_for_each(|key| note(&key.to_ne_bytes()))?;
        return Ok(true);
    }
    let size = entries.key_size();
    let (mut key, mut next) = (vec![0; size], vec![0; size]);
    let mut there = entries.next_key(None, &mut key)?;
    // A walk begins anew when the key is deleted at which it stands.
    for _ in 0..=2 * u64::from(map.max_entries) {
        if !there {
            return Ok(true);
        }
        if *left == 0 {
            return Ok(false);
        }
        *left -= 1;
        note(&key)?;
        there = entries.next_key(Some(&key), &mut next)?;
        std::mem::swap(&mut key, &mut next);
    }
    Ok(false)
}

/// The programs that a map of sockets has run for them (asked since 5.17).
fn of_sockets(asking: &mut Asking<'_>, map: u32, fd: BorrowedFd<'_>, types: &[u32]) {
    let target: Arc<str> = format!("map {map}").into();
    let mut there = Attached::default();
    for attach_type in AT_SOCKETS {
        match attached(Hooked::At(fd), attach_type, &mut there) {
            Ok(()) => {
                let hook = hook(attach_type);
                asking.hanging.was_asked(&hook, &target);
                let target = Some(Arc::clone(&target));
                asking.hanging.add(&Place { hook, target, netns: None }, &there);
            }
            Err(Error { errno: Errno::EOPNOTSUPP, .. }) => {}
            Err(Error { errno: Errno::EINVAL, .. }) => asking.blind.extend(types),
            Err(error) => asking.refused(error, types),
        }
    }
}

/// A map of struct operations: its programs, and the hook that it is itself if it is registered.
fn of_operations(
    asking: &mut Asking<'_>,
    map: u32,
    fd: BorrowedFd<'_>,
    structures: &mut Structures,
    btfs: &mut BtfCache,
    contents: &mut BTreeSet<Content>,
) -> Result<bool> {
    let info = sys::map_info(fd)?.value;
    let entries = Entries::of(fd)?;
    let mut value = vec![0; entries.value_len()?];
    if !entries.lookup(&0_u32.to_ne_bytes(), &mut value)? {
        return Ok(true);
    }
    let of = (info.btf_vmlinux_id, info.btf_vmlinux_value_type_id);
    let operations = match structures.entry(of) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            // Before 6.9 it is the kernel's always, and the map does not tell its id.
            let types = match of.0 {
                0 => Some(btfs.kernel()?),
                id => btfs.described(id)?.map(|described| described.types),
            };
            new.insert(types.and_then(|types| types.operations(of.1)))
        }
    };
    let operations = operations.as_ref();
    let word =
        |at: usize| value.get(at..).and_then(<[u8]>::first_chunk).map(|&word| u32::from_ne_bytes(word));
    if word(STATE) == Some(IN_USE) || asking.hanging.has_map(map) {
        let target = operations.map(|operations| operations.name.as_str().into());
        asking.hanging.add_map(Place { hook: "struct_ops".into(), target, netns: None }, map);
    }
    // In the place of a pointer to a function stands the program's id (`bpf_struct_ops_map_update_elem`).
    let Some(operations) = operations else { return Ok(false) };
    let programs = operations.functions.iter().filter_map(|&at| word(at)).filter(|&id| id != 0);
    contents.extend(programs.map(|id| Content { map_id: map, kind: Kind::Program, id }));
    Ok(true)
}
