//! The table of maps, read by an iterator, or by a pass over those that it has visited.
//!
//! Entry point: [`Maps::read`]. Neither reports memory, which only the fdinfo of a descriptor has: it is read once
//! for each map. When the number of entries, and with it the memory, may have changed, it is calculated, or read again.

use std::sync::Arc;

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::known::{Counters, KnownTable};
use super::map_growth::Growth;
use super::records::{MapCounters, MapIdentity, MapRecord};
use crate::ascending::Ascending;
use crate::host::issues::Issues;
use crate::kernel::backend::Refusal;
use crate::kernel::fdinfo;
use crate::kernel::map_memory::{array_entries, can_grow};
use crate::kernel::reading::{ReadContext, nonzero};
use crate::model::enums::map_type;
use crate::model::{BootTime, Kind, Map, MapFacts};
use crate::sys::Error;
use crate::sys::bpf::Command;
use crate::text::printable;

/// The memory of a map is not what its entries and earlier readings of maps of its shape say.
const NOT_AS_CALCULATED: Error = Error::new("memory by entries", Errno::ERANGE);

/// The table of maps, with a cache of facts and memory.
#[derive(Debug)]
pub(crate) struct Maps {
    table: KnownTable,
    /// In ascending order of ids.
    cache: Vec<CachedMap>,
    growth: Growth,
}

#[derive(Clone, Debug)]
pub(super) struct CachedMap {
    identity: MapIdentity,
    facts: Arc<MapFacts>,
    /// `None` if it could not be read.
    mem: Option<CachedMem>,
}

/// The memory of a map in bytes, and the number of its entries at that time.
#[derive(Clone, Copy, Debug)]
struct CachedMem {
    bytes: u64,
    entries: i64,
    /// Whether it was read, rather than calculated.
    is_read: bool,
}

impl CachedMap {
    /// Returns whether the cached memory is valid. It changes with the number of entries if each is allocated separately.
    fn has_valid_mem(&self, entries: i64) -> bool {
        let same_entries = |mem: CachedMem| mem.entries == entries && entries >= 0;
        self.mem.is_some_and(|mem| same_entries(mem) || !can_grow(&self.facts))
    }

    /// Returns the map with the cached memory.
    fn row(&self, counters: &MapCounters) -> Map {
        let entries = u64::try_from(counters.entries).ok();
        Map {
            facts: Arc::clone(&self.facts),
            frozen: Some(counters.frozen != 0),
            mem: self.mem.map(|mem| mem.bytes),
            entries: entries.or_else(|| array_entries(&self.facts)),
            backlog: u64::try_from(counters.backlog).ok(),
            memory_cgroup: (counters.memory_cgroup != 0).then_some(counters.memory_cgroup),
            owner: None,
        }
    }
}

impl Counters for MapCounters {
    fn head(&self) -> (u32, u32) {
        (self.id, self.frozen)
    }
}

impl Maps {
    pub(crate) fn new(table: KnownTable) -> Self {
        Self { table, cache: Vec::new(), growth: Growth::default() }
    }

    /// Returns why each reading has one run for each map; `None` if it has not.
    pub(crate) fn pass_refusal(&self) -> Option<&Refusal> {
        self.table.refusal()
    }

    /// Reads the table; `None`, and an issue, on failure.
    pub(crate) fn read(&mut self, cx: &mut ReadContext<'_>) -> Option<Vec<Map>> {
        let is_known = self.table.begin(cx.taken_at, cx.issues)?;
        let mut parser = MapParser::new(&self.cache, cx.taken_at);
        let known = is_known && self.table.read_known(cx.issues, |counters| parser.add_known(counters));
        if known && parser.all_cached {
            self.table.read_new(cx.issues, |bytes| parser.take(bytes))?;
            self.table.reached(parser.highest());
        } else {
            parser = MapParser::new(&self.cache, cx.taken_at);
            self.table.read_all(0, cx.issues, |bytes| parser.take(bytes))?;
            self.table.learned(cx.taken_at, parser.highest());
        }
        let MapParser { mut rows, unchanged, others, stale_mem, .. } = parser;
        self.cache.truncate(unchanged);
        self.cache.extend(others);
        self.update_mem(&stale_mem, &mut rows, cx.issues);
        if cx.counts_keys() {
            for row in rows.iter_mut().filter(|row| row.entries.is_none()) {
                row.entries = cx.count_entries_by_id(&row.facts);
            }
        }
        Some(rows)
    }

    /// Calculates or reads the memory of maps, given as index of the row and number of entries.
    fn update_mem(&mut self, stale: &[(usize, i64)], rows: &mut [Map], issues: &mut Issues) {
        let known = stale.iter().filter(|&&(index, entries)| self.calculated(index, entries).is_some());
        let known: Vec<&MapFacts> = known.map(|&(index, _)| &*self.cache[index].facts).collect();
        let checked = self.growth.choose_checked(&known);
        let mut permitted = true;
        for &(index, entries) in stale {
            // Also from what was read of those before it.
            let calculated = self.calculated(index, entries);
            let is_read = calculated.is_none() || checked.contains(&self.cache[index].facts.id);
            let read = if is_read { self.read_mem(index, entries, &mut permitted, issues) } else { None };
            rows[index].mem = self.keep_mem(index, entries, read, calculated);
        }
        // What was calculated by a line that has ended, in this reading or before, is calculated or read again.
        if self.growth.take_line_ended() {
            for (index, row) in rows.iter_mut().enumerate() {
                let CachedMap { facts, mem, .. } = &self.cache[index];
                let Some(CachedMem { entries, is_read: false, .. }) = *mem else { continue };
                let calculated = self.growth.memory(facts, entries);
                let is_read = calculated.is_none();
                let read = if is_read { self.read_mem(index, entries, &mut permitted, issues) } else { None };
                row.mem = self.keep_mem(index, entries, read, calculated);
            }
        }
        self.growth.forget_unused(self.cache.iter().map(|cached| &*cached.facts));
    }

    /// Calculates the memory of a map; `None` if it has to be read. Of one that grows, that is so the first time: each is checked once.
    fn calculated(&self, index: usize, entries: i64) -> Option<u64> {
        let CachedMap { facts, mem, .. } = &self.cache[index];
        if mem.is_none() && can_grow(facts) {
            return None;
        }
        self.growth.memory(facts, entries)
    }

    /// Keeps the memory of a map as read, else as calculated, with the number of entries that it belongs to. Returns it in bytes.
    fn keep_mem(
        &mut self,
        index: usize,
        entries: i64,
        read: Option<u64>,
        calculated: Option<u64>,
    ) -> Option<u64> {
        let bytes = read.or(calculated);
        self.cache[index].mem = bytes.map(|bytes| CachedMem { bytes, entries, is_read: read.is_some() });
        bytes
    }

    /// Reads the memory of a map in bytes, and compares it with the given number of entries. `None` if the map is gone; `None`, and an
    /// issue, on failure.
    fn read_mem(
        &mut self,
        index: usize,
        entries: i64,
        permitted: &mut bool,
        issues: &mut Issues,
    ) -> Option<u64> {
        let facts = &self.cache[index].facts;
        if !*permitted {
            return None;
        }
        let bytes = match fdinfo::of_object(Kind::Map, facts.id) {
            Ok(info) => info.memlock?,
            Err(error) => {
                let removed = error == Error::new(Command::MapGetFdById.as_str(), Errno::ENOENT);
                if !removed {
                    issues.record(Kind::Map, error);
                }
                // Without permission for one map there is none for any other.
                *permitted = error.errno != Errno::EPERM;
                return None;
            }
        };
        if self.growth.measured(facts, entries, bytes) {
            issues.record(Kind::Map, NOT_AS_CALCULATED);
        }
        Some(bytes)
    }
}

/// Parses the stream of one run over the table.
pub(super) struct MapParser<'a> {
    cache: Ascending<CachedMap, &'a [CachedMap]>,
    taken_at: BootTime,
    rows: Vec<Map>,
    /// The number of leading rows that equal the leading cached maps.
    unchanged: usize,
    /// Cache entries of the other rows.
    others: Vec<CachedMap>,
    /// Maps whose memory is to be read: index of the row, and number of entries.
    stale_mem: Vec<(usize, i64)>,
    /// Whether all maps that a pass reported are cached.
    all_cached: bool,
}

impl<'a> MapParser<'a> {
    pub(super) fn new(cache: &'a [CachedMap], taken_at: BootTime) -> Self {
        let rows = Vec::with_capacity(cache.len() + cache.len() / 16 + 16);
        let cache = Ascending::new(cache, |cached| cached.identity.id);
        Self {
            cache,
            taken_at,
            rows,
            unchanged: 0,
            others: Vec::new(),
            stale_mem: Vec::new(),
            all_cached: true,
        }
    }

    /// Returns the highest id.
    fn highest(&self) -> u32 {
        self.rows.last().map_or(0, |last| last.facts.id)
    }

    /// Takes the complete records at the start of `bytes`, and returns their length.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Ok((record, after)) = MapRecord::read_from_prefix(rest) {
            rest = after;
            let identity = record.identity;
            let position = self.cache.position(identity.id);
            let is_cached = self.cache.rows().get(position).is_some_and(|cached| cached.identity == identity);
            let counters = MapCounters {
                id: identity.id,
                frozen: u32::from(record.frozen != 0),
                entries: record.entries,
                backlog: record.backlog,
                memory_cgroup: record.memory_cgroup,
            };
            if is_cached {
                self.add_cached(position, &counters);
            } else {
                let facts = Arc::new(facts(&identity, self.taken_at));
                let new = CachedMap { identity, facts, mem: None };
                self.stale_mem.push((self.rows.len(), counters.entries));
                self.rows.push(new.row(&counters));
                self.others.push(new);
            }
        }
        bytes.len() - rest.len()
    }

    /// Adds a map that a pass reports. Its id says that it is the cached one.
    pub(super) fn add_known(&mut self, counters: &MapCounters) {
        let position = self.cache.position(counters.id);
        if self.cache.rows().get(position).is_some_and(|cached| cached.identity.id == counters.id) {
            self.add_cached(position, counters);
        } else {
            self.all_cached = false;
        }
    }

    fn add_cached(&mut self, position: usize, counters: &MapCounters) {
        let cached = &self.cache.rows()[position];
        if position == self.unchanged && self.unchanged == self.rows.len() {
            self.unchanged += 1;
        } else {
            self.others.push(cached.clone());
        }
        if !cached.has_valid_mem(counters.entries) {
            self.stale_mem.push((self.rows.len(), counters.entries));
        }
        self.rows.push(cached.row(counters));
    }
}

fn facts(identity: &MapIdentity, first_seen: BootTime) -> MapFacts {
    MapFacts {
        id: identity.id,
        name: printable(&identity.name),
        map_type: map_type::from_number(identity.map_type),
        key_size: identity.key_size,
        value_size: identity.value_size,
        max_entries: identity.max_entries,
        flags: identity.flags,
        btf_id: nonzero(identity.btf_id),
        first_seen,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    const HASH: u32 = 1;
    const ARRAY: u32 = 2;
    const NO_PREALLOC: u32 = 1;

    fn map(id: u32, map_type: u32, entries: i64) -> MapRecord {
        let mut name = [0; 16];
        name[..5].copy_from_slice(b"a_map");
        let identity = MapIdentity {
            id,
            map_type,
            key_size: 4,
            value_size: 8,
            max_entries: 100,
            flags: NO_PREALLOC,
            btf_id: 0,
            padding: 0,
            name,
            cookie: 1,
        };
        MapRecord { identity, memory_cgroup: 0, entries, backlog: -1, frozen: 0 }
    }

    /// Parses a stream at a time in seconds, with a cache.
    fn read<'a>(cache: &'a [CachedMap], seconds: u64, stream: &[MapRecord]) -> MapParser<'a> {
        let mut parser = MapParser::new(cache, BootTime::from_secs(seconds));
        let bytes = stream.as_bytes();
        assert_eq!(parser.take(bytes), bytes.len());
        parser
    }

    /// Returns the cache after a first reading in which the memory of each map in bytes equals its id.
    fn cache(stream: &[MapRecord]) -> Vec<CachedMap> {
        let mut cache = read(&[], 1, stream).others;
        for (cached, record) in cache.iter_mut().zip(stream) {
            cached.mem =
                Some(CachedMem { bytes: cached.facts.id.into(), entries: record.entries, is_read: true });
        }
        cache
    }

    #[test]
    fn records_become_maps() {
        let record = MapRecord { memory_cgroup: 77, backlog: 24, frozen: 1, ..map(5, HASH, 3) };
        let found = read(&[], 1, &[record, map(6, ARRAY, -1)]);
        let [hash, array] = &found.rows[..] else { panic!("{:?}", found.rows) };
        assert_eq!((hash.facts.id, &*hash.facts.name, hash.facts.btf_id), (5, "a_map", None));
        assert_eq!(hash.facts.map_type.name.as_deref(), Some("hash"));
        assert_eq!((hash.facts.key_size, hash.facts.value_size, hash.facts.max_entries), (4, 8, 100));
        assert_eq!((hash.entries, hash.backlog, hash.memory_cgroup), (Some(3), Some(24), Some(77)));
        assert_eq!((hash.frozen, hash.mem), (Some(true), None));
        assert_eq!((array.entries, array.backlog, array.memory_cgroup), (Some(100), None, None));
        assert_eq!(array.frozen, Some(false));
        assert_eq!(found.stale_mem, [(0, 3), (1, -1)], "the memory of a new map is to be read");
    }

    #[test]
    fn unchanged_facts_are_shared_and_memory_is_read_again_if_it_may_have_changed() {
        let cache = cache(&[map(5, HASH, 3), map(6, HASH, 3), map(7, ARRAY, -1)]);
        let found = read(&cache, 2, &[map(5, HASH, 3), map(6, HASH, 4), map(7, ARRAY, -1)]);
        for (cached, row) in cache.iter().zip(&found.rows) {
            assert!(Arc::ptr_eq(&cached.facts, &row.facts));
            assert_eq!(row.mem, Some(row.facts.id.into()));
        }
        assert_eq!(found.stale_mem, [(1, 4)]);
    }

    #[test]
    fn growing_memory_is_read_each_time_without_a_number_of_entries() {
        const UNKNOWN_TYPE: u32 = 4000;
        let stream = [map(5, UNKNOWN_TYPE, -1), map(6, HASH, -1), map(7, ARRAY, -1)];
        let cache = cache(&stream);
        assert_eq!(read(&cache, 2, &stream).stale_mem, [(0, -1), (1, -1)]);
    }

    #[test]
    fn a_pass_reports_cached_maps() {
        let cache = cache(&[map(5, HASH, 3), map(6, HASH, 3), map(7, ARRAY, -1)]);
        let known = |id, entries, backlog| MapCounters { id, frozen: 1, entries, backlog, memory_cgroup: 77 };
        let mut parser = MapParser::new(&cache, BootTime::from_secs(2));
        for map in [known(5, 3, -1), known(6, 4, -1), known(7, -1, 24)] {
            parser.add_known(&map);
        }
        assert_eq!((parser.unchanged, parser.all_cached, parser.highest()), (3, true, 7));
        assert_eq!(parser.stale_mem, [(1, 4)], "its memory may have changed");
        let values = parser.rows.iter().map(|row| (row.entries, row.backlog));
        assert_eq!(values.collect::<Vec<_>>(), [(Some(3), None), (Some(4), None), (Some(100), Some(24))]);
        for (cached, row) in cache.iter().zip(&parser.rows) {
            assert!(Arc::ptr_eq(&cached.facts, &row.facts));
            assert_eq!((row.frozen, row.memory_cgroup), (Some(true), Some(77)));
        }
        // New ones follow from the iterator.
        let new = map(9, HASH, 1);
        parser.take(new.as_bytes());
        assert_eq!((parser.highest(), parser.others.len()), (9, 1));
        parser.add_known(&known(8, 0, -1));
        assert!(!parser.all_cached, "the iterator has to describe it");
    }

    #[test]
    fn a_change_of_any_identity_field_makes_another_map() {
        let before = map(5, HASH, 3);
        let cache = cache(&[before]);
        let others: [fn(&mut MapIdentity); 8] = [
            |other| other.map_type = 5,
            |other| other.key_size = 8,
            |other| other.value_size = 16,
            |other| other.max_entries = 101,
            |other| other.flags = 0,
            |other| other.btf_id = 9,
            |other| other.name[0] = b'b',
            |other| other.cookie = 2,
        ];
        for change in others {
            let mut other = before;
            change(&mut other.identity);
            let found = read(&cache, 2, &[other]);
            let row = &found.rows[0];
            assert!(!Arc::ptr_eq(&cache[0].facts, &row.facts), "{other:?}");
            assert_eq!(row.facts.first_seen, BootTime::from_secs(2), "{other:?}");
            assert_eq!(
                (row.mem, &found.stale_mem[..]),
                (None, &[(0, 3)][..]),
                "its memory is not the other's"
            );
        }
    }

    #[test]
    fn added_and_removed_maps_leave_the_cache_of_others_intact() {
        let cache = cache(&[map(3, HASH, 0), map(5, HASH, 0), map(9, HASH, 0)]);
        let found = read(&cache, 2, &[map(2, HASH, 0), map(5, HASH, 0), map(7, HASH, 0)]);
        let ids: Vec<_> = found.rows.iter().map(|row| row.facts.id).collect();
        let seen: Vec<_> = found.rows.iter().map(|row| row.facts.first_seen).collect();
        assert_eq!((ids, seen), (vec![2, 5, 7], [2, 1, 2].map(BootTime::from_secs).to_vec()));
        assert_eq!((found.unchanged, found.others.len()), (0, 3), "removed maps are dropped");
        let found = read(&cache, 2, &[map(3, HASH, 0), map(5, HASH, 0), map(7, HASH, 0), map(9, HASH, 0)]);
        let others: Vec<_> = found.others.iter().map(|cached| cached.identity.id).collect();
        assert_eq!((found.unchanged, others), (2, vec![7, 9]), "leading unchanged maps are not copied");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(stream in prop::collection::vec(any::<u8>(), 0..400)) {
            let cache = cache(&[map(1, HASH, 0), map(0x0101_0101, HASH, 0)]);
            let mut parser = MapParser::new(&cache, BootTime::default());
            let taken = parser.take(&stream);
            prop_assert_eq!(taken, stream.len() / size_of::<MapRecord>() * size_of::<MapRecord>());
            prop_assert_eq!(parser.rows.len(), parser.unchanged + parser.others.len());
        }

        #[test]
        fn ids_in_any_order_do_not_panic(ids in prop::collection::vec(0_u32..9, 0..12)) {
            let cache = cache(&[map(2, HASH, 0), map(4, HASH, 0), map(6, HASH, 0)]);
            let stream: Vec<_> = ids.iter().map(|&id| map(id, HASH, 0)).collect();
            prop_assert_eq!(read(&cache, 2, &stream).rows.len(), ids.len());
        }
    }
}
