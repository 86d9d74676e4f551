//! The table of maps, as `bpf_map_info` and fdinfo describe them.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::ObjectTable;
use crate::kernel::fdinfo::FdInfo;
use crate::kernel::map_memory::{array_entries, can_grow};
use crate::kernel::reading::{ReadContext, nonzero};
use crate::model::enums::map_type;
use crate::model::{Kind, Map, MapFacts};
use crate::sys::Result;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{MapInfo, Reported};
use crate::text::printable;

/// The table of maps.
#[derive(Debug)]
pub(crate) struct MapTable;

impl ObjectTable for MapTable {
    const KIND: Kind = Kind::Map;
    type Info = Reported<MapInfo>;
    type Facts = MapFacts;
    type Extra = FdInfo;
    type Row = Map;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::map_info(fd)
    }

    fn id(map: &MapFacts) -> u32 {
        map.id
    }

    fn is_same(map: &MapFacts, info: &Self::Info) -> bool {
        let value = &info.value;
        map.map_type.number == value.map_type
            && map.key_size == value.key_size
            && map.value_size == value.value_size
            && map.max_entries == value.max_entries
            && map.flags == value.map_flags
            && map.btf_id == nonzero(value.btf_id)
            && map.name == printable(&value.name)
    }

    fn facts(
        cx: &mut ReadContext<'_>,
        _fd: BorrowedFd<'_>,
        info: &Self::Info,
        _extra: &mut FdInfo,
    ) -> MapFacts {
        let value = &info.value;
        MapFacts {
            id: value.id,
            name: printable(&value.name),
            map_type: map_type::from_number(value.map_type),
            key_size: value.key_size,
            value_size: value.value_size,
            max_entries: value.max_entries,
            flags: value.map_flags,
            btf_id: nonzero(value.btf_id),
            first_seen: cx.taken_at,
        }
    }

    fn row(facts: Arc<MapFacts>, _info: Option<&Self::Info>) -> Map {
        let entries = array_entries(&facts);
        Map { facts, frozen: None, mem: None, entries, backlog: None, memory_cgroup: None, owner: None }
    }

    fn complete(cx: &mut ReadContext<'_>, fd: Option<BorrowedFd<'_>>, cached: &mut FdInfo, row: &mut Map) {
        *cached = immutable(&row.facts, *cached);
        if let Some(fd) = fd {
            if cached.memlock.is_none() || cached.frozen.is_none() {
                *cached = cx.fdinfo(Self::KIND, fd).unwrap_or(*cached);
            }
            row.entries = row.entries.or_else(|| cx.count_entries(fd, &row.facts));
        }
        (row.mem, row.frozen) = (cached.memlock, cached.frozen);
    }
}

/// Keeps what cannot change: memory that does not grow, and that a map is frozen, which cannot be undone.
fn immutable(map: &MapFacts, cached: FdInfo) -> FdInfo {
    FdInfo {
        memlock: cached.memlock.filter(|_| !can_grow(map)),
        frozen: cached.frozen.filter(|&frozen| frozen),
    }
}
