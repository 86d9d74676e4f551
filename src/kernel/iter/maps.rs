//! Maps, as the iterator tells them. Memory is not among it: only the fdinfo of a descriptor tells, which is read for each map
//! once, and again when its entries moved and its memory may have moved with them.

use std::iter::Peekable;
use std::slice;
use std::sync::Arc;

use jiff::Timestamp;
use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::records::{MapIdentity, MapRecord};
use crate::host::text::printable;
use crate::kernel::fdinfo;
use crate::kernel::map_memory::{array_entries, can_grow};
use crate::kernel::reading::{ReadContext, nonzero};
use crate::model::enums::map_type;
use crate::model::{Kind, Map, MapFacts};
use crate::sys::Error;
use crate::sys::bpf::Command;

/// The table of maps, and what is known of them.
#[derive(Debug)]
pub(crate) struct Maps {
    table: Table,
    /// In ascending order of ids.
    known: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    identity: MapIdentity,
    facts: Arc<MapFacts>,
    /// Its memory, and with how many entries that was; `None` where it could not be read.
    mem: Option<Mem>,
}

#[derive(Clone, Copy, Debug)]
struct Mem {
    bytes: u64,
    entries: i64,
}

impl Known {
    /// Whether the memory is still what it was. It moves with the entries, where each has its own.
    fn mem_holds(&self, entries: i64) -> bool {
        let unmoved = |mem: Mem| mem.entries == entries && entries >= 0;
        self.mem.is_some_and(|mem| unmoved(mem) || !can_grow(&self.facts))
    }
}

impl Maps {
    pub(crate) fn new(table: Table) -> Self {
        Self { table, known: Vec::new() }
    }

    /// Reads the table; `None`, and an issue, when that fails.
    pub(crate) fn read(&mut self, cx: &mut ReadContext<'_>) -> Option<Vec<Map>> {
        let mut found = Found::new(&self.known, cx.taken_at);
        self.table.read(cx.issues, |bytes| found.take(bytes))?;
        let Found { mut rows, same, others, moved, .. } = found;
        self.known.truncate(same);
        self.known.extend(others);
        let mut permitted = true;
        for (place, entries) in moved {
            let read = permitted.then(|| fdinfo::of_object(Kind::Map, self.known[place].facts.id));
            let bytes = match read {
                Some(Ok(info)) => info.memlock,
                Some(Err(error)) => {
                    let went = error == Error::new(Command::MapGetFdById.as_str(), Errno::ENOENT);
                    if !went {
                        cx.issues.record(Kind::Map, error);
                    }
                    // Who may not open one map may open no other.
                    permitted = error.errno != Errno::EPERM;
                    None
                }
                None => None,
            };
            self.known[place].mem = bytes.map(|bytes| Mem { bytes, entries });
            rows[place].mem = bytes;
        }
        if cx.counts_keys() {
            for row in rows.iter_mut().filter(|row| row.entries.is_none()) {
                row.entries = cx.count_entries_by_id(&row.facts);
            }
        }
        Some(rows)
    }
}

/// What a run over the table found so far.
struct Found<'a> {
    /// Those of the known that are still to come.
    earlier: Peekable<slice::Iter<'a, Known>>,
    taken_at: Timestamp,
    rows: Vec<Map>,
    /// How many of the first rows are of the first known maps, one by one.
    same: usize,
    /// What is known of the maps of the other rows.
    others: Vec<Known>,
    /// Of which the memory is to be read: the place among the rows, and the entries.
    moved: Vec<(usize, i64)>,
}

impl<'a> Found<'a> {
    fn new(known: &'a [Known], taken_at: Timestamp) -> Self {
        let rows = Vec::with_capacity(known.len() + known.len() / 16 + 16);
        let earlier = known.iter().peekable();
        Self { earlier, taken_at, rows, same: 0, others: Vec::new(), moved: Vec::new() }
    }

    /// Takes the maps at the beginning of these bytes, and says how many bytes those were.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Ok((record, behind)) = MapRecord::read_from_prefix(rest) {
            rest = behind;
            let identity = record.identity;
            let mut skipped = false;
            while self.earlier.next_if(|known| known.identity.id < identity.id).is_some() {
                skipped = true;
            }
            let earlier = self.earlier.next_if(|known| known.identity.id == identity.id);
            let earlier = earlier.filter(|known| known.identity == identity);
            let known = if let Some(known) = earlier {
                if !skipped && self.same == self.rows.len() {
                    self.same += 1;
                } else {
                    self.others.push(known.clone());
                }
                known
            } else {
                let facts = Arc::new(facts(&identity, self.taken_at));
                self.others.push(Known { identity, facts, mem: None });
                self.others.last().expect("it was just added")
            };
            if !known.mem_holds(record.entries) {
                self.moved.push((self.rows.len(), record.entries));
            }
            let entries = u64::try_from(record.entries).ok();
            self.rows.push(Map {
                facts: Arc::clone(&known.facts),
                frozen: Some(record.frozen != 0),
                mem: known.mem.map(|mem| mem.bytes),
                entries: entries.or_else(|| array_entries(&known.facts)),
                backlog: u64::try_from(record.backlog).ok(),
                memory_cgroup: (record.memory_cgroup != 0).then_some(record.memory_cgroup),
                owner: None,
            });
        }
        bytes.len() - rest.len()
    }
}

fn facts(identity: &MapIdentity, first_seen: Timestamp) -> MapFacts {
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
    use std::time::Duration;

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

    /// What a stream says, at so many seconds, to one who knows this.
    fn read<'a>(known: &'a [Known], seconds: u64, stream: &[MapRecord]) -> Found<'a> {
        let mut found = Found::new(known, Timestamp::UNIX_EPOCH + Duration::from_secs(seconds));
        let bytes = stream.as_bytes();
        assert_eq!(found.take(bytes), bytes.len());
        found
    }

    /// What is known after a first reading, in which each map has as much memory as its id says.
    fn known(stream: &[MapRecord]) -> Vec<Known> {
        let mut met = read(&[], 1, stream).others;
        for (known, record) in met.iter_mut().zip(stream) {
            known.mem = Some(Mem { bytes: known.facts.id.into(), entries: record.entries });
        }
        met
    }

    #[test]
    fn a_map_is_what_was_told_of_it() {
        let told = MapRecord { memory_cgroup: 77, backlog: 24, frozen: 1, ..map(5, HASH, 3) };
        let found = read(&[], 1, &[told, map(6, ARRAY, -1)]);
        let [hash, array] = &found.rows[..] else { panic!("{:?}", found.rows) };
        assert_eq!((hash.facts.id, &*hash.facts.name, hash.facts.btf_id), (5, "a_map", None));
        assert_eq!(hash.facts.map_type.name.as_deref(), Some("hash"));
        assert_eq!((hash.facts.key_size, hash.facts.value_size, hash.facts.max_entries), (4, 8, 100));
        assert_eq!((hash.entries, hash.backlog, hash.memory_cgroup), (Some(3), Some(24), Some(77)));
        assert_eq!((hash.frozen, hash.mem), (Some(true), None));
        assert_eq!((array.entries, array.backlog, array.memory_cgroup), (Some(100), None, None));
        assert_eq!(array.frozen, Some(false));
        assert_eq!(found.moved, [(0, 3), (1, -1)], "the memory of a new map is to be read");
    }

    #[test]
    fn facts_are_shared_and_memory_is_read_again_where_it_can_have_moved() {
        let known = known(&[map(5, HASH, 3), map(6, HASH, 3), map(7, ARRAY, -1)]);
        let found = read(&known, 2, &[map(5, HASH, 3), map(6, HASH, 4), map(7, ARRAY, -1)]);
        for (known, row) in known.iter().zip(&found.rows) {
            assert!(Arc::ptr_eq(&known.facts, &row.facts));
            assert_eq!(row.mem, Some(row.facts.id.into()));
        }
        assert_eq!(found.moved, [(1, 4)]);
    }

    #[test]
    fn memory_that_may_move_unseen_is_read_each_time() {
        const UNKNOWN_TYPE: u32 = 4000;
        let stream = [map(5, UNKNOWN_TYPE, -1), map(6, HASH, -1), map(7, ARRAY, -1)];
        let known = known(&stream);
        assert_eq!(read(&known, 2, &stream).moved, [(0, -1), (1, -1)]);
    }

    #[test]
    fn every_part_of_a_map_s_identity_tells_it_from_another() {
        let before = map(5, HASH, 3);
        let known = known(&[before]);
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
            let found = read(&known, 2, &[other]);
            let row = &found.rows[0];
            assert!(!Arc::ptr_eq(&known[0].facts, &row.facts), "{other:?}");
            assert_eq!(row.facts.first_seen.as_second(), 2, "{other:?}");
            assert_eq!((row.mem, &found.moved[..]), (None, &[(0, 3)][..]), "its memory is not the other's");
        }
    }

    #[test]
    fn maps_come_and_go_between_those_that_stay() {
        let known = known(&[map(3, HASH, 0), map(5, HASH, 0), map(9, HASH, 0)]);
        let found = read(&known, 2, &[map(2, HASH, 0), map(5, HASH, 0), map(7, HASH, 0)]);
        let ids: Vec<_> = found.rows.iter().map(|row| row.facts.id).collect();
        let seen: Vec<_> = found.rows.iter().map(|row| row.facts.first_seen.as_second()).collect();
        assert_eq!((ids, seen), (vec![2, 5, 7], vec![2, 1, 2]));
        assert_eq!((found.same, found.others.len()), (0, 3), "what went is forgotten");
        let found = read(&known, 2, &[map(3, HASH, 0), map(5, HASH, 0), map(7, HASH, 0), map(9, HASH, 0)]);
        let others: Vec<_> = found.others.iter().map(|known| known.identity.id).collect();
        assert_eq!((found.same, others), (2, vec![7, 9]), "what stays in its place is not copied");
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(stream in prop::collection::vec(any::<u8>(), 0..400)) {
            let known = known(&[map(1, HASH, 0), map(0x0101_0101, HASH, 0)]);
            let mut found = Found::new(&known, Timestamp::UNIX_EPOCH);
            let taken = found.take(&stream);
            prop_assert_eq!(taken, stream.len() / size_of::<MapRecord>() * size_of::<MapRecord>());
            prop_assert_eq!(found.rows.len(), found.same + found.others.len());
        }

        #[test]
        fn ids_in_any_order_are_read_without_harm(ids in prop::collection::vec(0_u32..9, 0..12)) {
            let known = known(&[map(2, HASH, 0), map(4, HASH, 0), map(6, HASH, 0)]);
            let stream: Vec<_> = ids.iter().map(|&id| map(id, HASH, 0)).collect();
            prop_assert_eq!(read(&known, 2, &stream).rows.len(), ids.len());
        }
    }
}
