//! What each of the kernel's tables says of its objects, as values of the model.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::{Pass, Table};
use crate::host::text::text;
use crate::kernel::fdinfo::FdInfo;
use crate::kernel::targets::info;
use crate::model::enums::{attach_type, link_type, map_type, program_type};
use crate::model::{Btf, Kind, Link, LinkFacts, Map, MapFacts, Program, ProgramFacts, Tag};
use crate::sys::Result;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::NO_PREALLOC;
use crate::sys::bpf::uapi::{
    BtfInfo, BtfName, LinkInfo, MapInfo, OBJ_NAME_LEN, ProgramInfo, Reported, reported,
};

/// The table of programs.
#[derive(Debug)]
pub(crate) struct Programs;

impl Table for Programs {
    const KIND: Kind = Kind::Program;
    type Info = Reported<ProgramInfo>;
    type Facts = ProgramFacts;
    type Kept = ();
    type Row = Program;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::program_info(fd)
    }

    fn id(facts: &ProgramFacts) -> u32 {
        facts.id
    }

    fn same(facts: &ProgramFacts, info: &Self::Info) -> bool {
        facts.loaded_at_boot_ns == info.value.load_time && facts.tag.0 == info.value.tag
    }

    fn facts(pass: &mut Pass<'_>, fd: BorrowedFd<'_>, info: &Self::Info) -> ProgramFacts {
        let value = &info.value;
        let btf_id = some_id(value.btf_id);
        let short_name = text(&value.name);
        let full_name = match btf_id {
            Some(btf_id) if short_name.len() == OBJ_NAME_LEN - 1 => pass.entry_function(fd, btf_id),
            _ => None,
        };
        ProgramFacts {
            id: value.id,
            name: full_name.unwrap_or(short_name),
            program_type: program_type::from_number(value.prog_type),
            tag: Tag(value.tag),
            gpl_compatible: value.gpl_compatible & 1 == 1,
            loaded_at: pass.boot.wall_second(value.load_time),
            loaded_at_boot_ns: value.load_time,
            uid: value.created_by_uid,
            btf_id,
            size_jitted: value.jited_prog_len,
            size_translated: value.xlated_prog_len,
            mem: pass.fdinfo(Self::KIND, fd).and_then(|info| info.memlock),
            verified_instructions: reported!(info, ProgramInfo, verified_insns),
            attach_to: attach_target(pass, info),
            map_ids: map_ids(pass, fd, value.nr_map_ids),
        }
    }

    fn changed(
        pass: &mut Pass<'_>,
        fd: BorrowedFd<'_>,
        known: &ProgramFacts,
        info: &Self::Info,
    ) -> Option<ProgramFacts> {
        let count = known.map_ids.as_ref().map(Vec::len);
        if count == usize::try_from(info.value.nr_map_ids).ok() {
            return None;
        }
        let map_ids = map_ids(pass, fd, info.value.nr_map_ids);
        (map_ids != known.map_ids).then(|| ProgramFacts { map_ids, ..known.clone() })
    }

    fn row(facts: Arc<ProgramFacts>, info: Option<&Self::Info>) -> Program {
        Program {
            facts,
            run_time: info.map(|info| Duration::from_nanos(info.value.run_time_ns)),
            runs: info.map(|info| info.value.run_cnt),
            recursion_misses: info.and_then(|info| reported!(info, ProgramInfo, recursion_misses)),
            owner: None,
        }
    }
}

/// The table of maps.
#[derive(Debug)]
pub(crate) struct Maps;

impl Table for Maps {
    const KIND: Kind = Kind::Map;
    type Info = Reported<MapInfo>;
    type Facts = MapFacts;
    type Kept = FdInfo;
    type Row = Map;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::map_info(fd)
    }

    fn id(map: &MapFacts) -> u32 {
        map.id
    }

    fn same(map: &MapFacts, info: &Self::Info) -> bool {
        let value = &info.value;
        map.map_type.number == value.map_type
            && map.key_size == value.key_size
            && map.value_size == value.value_size
            && map.max_entries == value.max_entries
            && map.flags == value.map_flags
            && map.btf_id == some_id(value.btf_id)
            && map.name == text(&value.name)
    }

    fn facts(pass: &mut Pass<'_>, _fd: BorrowedFd<'_>, info: &Self::Info) -> MapFacts {
        let value = &info.value;
        MapFacts {
            id: value.id,
            name: text(&value.name),
            map_type: map_type::from_number(value.map_type),
            key_size: value.key_size,
            value_size: value.value_size,
            max_entries: value.max_entries,
            flags: value.map_flags,
            btf_id: some_id(value.btf_id),
            first_seen: pass.taken_at,
        }
    }

    fn row(facts: Arc<MapFacts>, _info: Option<&Self::Info>) -> Map {
        let entries = entries_of_array(&facts);
        Map { facts, frozen: None, mem: None, entries, backlog: None, memory_cgroup: None, owner: None }
    }

    fn complete(pass: &mut Pass<'_>, fd: Option<BorrowedFd<'_>>, kept: &mut FdInfo, row: &mut Map) {
        *kept = lasting(&row.facts, *kept);
        if let Some(fd) = fd {
            if kept.memlock.is_none() || kept.frozen.is_none() {
                *kept = pass.fdinfo(Self::KIND, fd).unwrap_or(*kept);
            }
            row.entries = row.entries.or_else(|| pass.count_entries(fd, &row.facts));
        }
        (row.mem, row.frozen) = (kept.memlock, kept.frozen);
    }
}

/// How many entries a map has that has all of them from the beginning to the end, whatever is in them.
pub(crate) fn entries_of_array(map: &MapFacts) -> Option<u64> {
    let array = [map_type::ARRAY, map_type::PERCPU_ARRAY].contains(&map.map_type.number);
    array.then_some(map.max_entries.into())
}

/// Whether the memory of a map moves with its entries: it makes room for each when it comes.
///
/// Source: the functions `*_mem_usage` since 6.4, of which those of `devmap` and `xskmap` count what their places point to. Before, the
/// kernel says what a full map would take, which does not move. A type that this program does not know may grow.
pub(crate) fn can_grow(map: &MapFacts) -> bool {
    match map.map_type.number {
        map_type::HASH | map_type::PERCPU_HASH | map_type::HASH_OF_MAPS => map.flags & NO_PREALLOC != 0,
        map_type::LPM_TRIE
        | map_type::DEVMAP
        | map_type::XSKMAP
        | map_type::SOCKHASH
        | map_type::DEVMAP_HASH => true,
        _ => map.map_type.name.is_none(),
    }
}

/// What of an earlier look stays true: memory that does not move, and that a map is frozen, which nothing undoes.
fn lasting(map: &MapFacts, earlier: FdInfo) -> FdInfo {
    FdInfo {
        memlock: earlier.memlock.filter(|_| !can_grow(map)),
        frozen: earlier.frozen.filter(|&frozen| frozen),
    }
}

/// The table of links.
#[derive(Debug)]
pub(crate) struct Links;

impl Table for Links {
    const KIND: Kind = Kind::Link;
    type Info = Reported<LinkInfo>;
    type Facts = LinkFacts;
    type Kept = ();
    type Row = Link;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::link_info(fd)
    }

    fn id(link: &LinkFacts) -> u32 {
        link.id
    }

    fn same(link: &LinkFacts, info: &Self::Info) -> bool {
        link.link_type.number == info.value.link_type && link.prog_id == some_id(info.value.prog_id)
    }

    fn facts(pass: &mut Pass<'_>, fd: BorrowedFd<'_>, info: &Self::Info) -> LinkFacts {
        let value = &info.value;
        LinkFacts {
            id: value.id,
            link_type: link_type::from_number(value.link_type),
            prog_id: some_id(value.prog_id),
            attach_type: info::attach_type(info).map(attach_type::from_number),
            target: pass.link_target(fd, info).unwrap_or_default(),
            first_seen: pass.taken_at,
        }
    }

    fn changed(
        pass: &mut Pass<'_>,
        fd: BorrowedFd<'_>,
        link: &LinkFacts,
        info: &Self::Info,
    ) -> Option<LinkFacts> {
        if pass.links.is_known(info) {
            return None;
        }
        let target = pass.link_target(fd, info).ok()?;
        (link.target != target).then(|| LinkFacts { target, ..link.clone() })
    }

    fn row(facts: Arc<LinkFacts>, info: Option<&Self::Info>) -> Link {
        Link { facts, missed: info.and_then(info::missed), owner: None }
    }
}

/// The table of BTF objects.
#[derive(Debug)]
pub(crate) struct Btfs;

impl Table for Btfs {
    const KIND: Kind = Kind::Btf;
    type Info = (Reported<BtfInfo>, BtfName);
    type Facts = Btf;
    type Kept = ();
    type Row = Arc<Btf>;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::btf_info(fd)
    }

    fn id(btf: &Btf) -> u32 {
        btf.id
    }

    fn same(btf: &Btf, (info, name): &Self::Info) -> bool {
        btf.size == info.value.btf_size && btf.name == btf_name(name)
    }

    fn facts(pass: &mut Pass<'_>, _fd: BorrowedFd<'_>, (info, name): &Self::Info) -> Btf {
        Btf {
            id: info.value.id,
            name: btf_name(name),
            kernel: reported!(info, BtfInfo, kernel_btf).map(|kernel| kernel != 0),
            size: info.value.btf_size,
            first_seen: pass.taken_at,
        }
    }

    fn row(btf: Arc<Btf>, _info: Option<&Self::Info>) -> Arc<Btf> {
        btf
    }
}

/// The maps that a program uses, ascending.
fn map_ids(pass: &mut Pass<'_>, fd: BorrowedFd<'_>, count: u32) -> Option<Vec<u32>> {
    if count == 0 {
        return Some(Vec::new());
    }
    match sys::program_map_ids(fd, count) {
        Ok(mut ids) => {
            ids.sort_unstable();
            ids.dedup();
            Some(ids)
        }
        Err(error) => {
            pass.issues.record(Kind::Program, error);
            None
        }
    }
}

/// The function that a program was compiled against, as `bpf_prog_aux.attach_func_name` has it.
///
/// For `struct_ops` the kernel says only which structure, and that name is of a member. Of a program that was compiled against
/// another one, it forgets the other as soon as it is attached (`bpf_tracing_prog_attach`, `kernel/bpf/syscall.c`).
fn attach_target(pass: &mut Pass<'_>, info: &Reported<ProgramInfo>) -> Option<String> {
    // Only the later of the two fields tells whether this kernel has both.
    let type_id = reported!(info, ProgramInfo, attach_btf_id).and_then(some_id)?;
    let btf_id = some_id(info.value.attach_btf_obj_id)?;
    let has_function = [program_type::TRACING, program_type::EXT, program_type::LSM];
    let types = has_function.contains(&info.value.prog_type).then(|| pass.types(btf_id))??;
    types.attach_target(type_id).map(text)
}

/// Ids begin at 1: the kernel writes 0 where there is no such object.
pub(crate) fn some_id(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}

/// A loader's BTF object has no name, nor has any before 5.11: the kernel leaves the buffer as it was, zero.
fn btf_name(name: &BtfName) -> Option<String> {
    (name[0] != 0).then(|| text(name))
}
