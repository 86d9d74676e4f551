//! Maps, as the iterator tells them. Memory is not among it: only the fdinfo of a descriptor tells, which is read for each map
//! once, and again when its entries moved and its memory may have moved with them.

use std::sync::Arc;

use jiff::Timestamp;
use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::records::{MapIdentity, MapRecord};
use crate::kernel::sys::Call;
use crate::kernel::tables::{self, some_id};
use crate::kernel::walk::Pass;
use crate::kernel::{fdinfo, names};
use crate::model::{Kind, Map, MapFacts};

/// The table of maps, and what is known of them.
#[derive(Debug)]
pub(in crate::kernel) struct Maps {
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
        self.mem.is_some_and(|mem| mem.entries == entries || !tables::can_grow(&self.facts))
    }
}

impl Maps {
    pub(super) fn new(table: Table) -> Self {
        Self { table, known: Vec::new() }
    }

    /// Reads the table; `None`, and an issue, when that fails.
    pub(in crate::kernel) fn read(&mut self, pass: &mut Pass<'_>) -> Option<Vec<Map>> {
        let mut rows = Vec::with_capacity(self.known.len() + self.known.len() / 16 + 16);
        let mut met = Vec::with_capacity(rows.capacity());
        // Of which the memory is to be read: the place, and the entries.
        let mut moved = Vec::new();
        let mut earlier = self.known.iter().peekable();
        let taken_at = pass.taken_at;
        self.table.read(pass.issues, |bytes| {
            let mut rest = bytes;
            while let Ok((record, behind)) = MapRecord::read_from_prefix(rest) {
                rest = behind;
                let identity = record.identity;
                while earlier.next_if(|known| known.identity.id < identity.id).is_some() {}
                let known = earlier
                    .next_if(|known| known.identity.id == identity.id)
                    .filter(|known| known.identity == identity)
                    .cloned()
                    .unwrap_or_else(|| Known {
                        identity,
                        facts: Arc::new(facts(&identity, taken_at)),
                        mem: None,
                    });
                if !known.mem_holds(record.entries) {
                    moved.push((met.len(), record.entries));
                }
                rows.push(Map {
                    facts: Arc::clone(&known.facts),
                    frozen: Some(record.frozen != 0),
                    mem: known.mem.map(|mem| mem.bytes),
                    entries: u64::try_from(record.entries)
                        .ok()
                        .or_else(|| tables::entries_of_array(&known.facts)),
                    backlog: u64::try_from(record.backlog).ok(),
                    memory_cgroup: (record.memory_cgroup != 0).then_some(record.memory_cgroup),
                });
                met.push(known);
            }
            bytes.len() - rest.len()
        })?;
        let mut permitted = true;
        for (place, entries) in moved {
            let read = permitted.then(|| fdinfo::of_object(Kind::Map, met[place].facts.id));
            let bytes = match read {
                Some(Ok(info)) => info.memlock,
                Some(Err((call, errno))) => {
                    let went = errno == Errno::ENOENT && call == Call::MapGetFdById.as_str();
                    if !went {
                        pass.issues.met(Kind::Map, call, errno);
                    }
                    // Who may not open one map may open no other.
                    permitted = errno != Errno::EPERM;
                    None
                }
                None => None,
            };
            met[place].mem = bytes.map(|bytes| Mem { bytes, entries });
            rows[place].mem = bytes;
        }
        if pass.counts_by_walking() {
            for row in rows.iter_mut().filter(|row| row.entries.is_none()) {
                row.entries = pass.count_entries_of(&row.facts);
            }
        }
        self.known = met;
        Some(rows)
    }
}

fn facts(identity: &MapIdentity, first_seen: Timestamp) -> MapFacts {
    MapFacts {
        id: identity.id,
        name: names::text(&identity.name),
        map_type: names::map_type(identity.map_type),
        key_size: identity.key_size,
        value_size: identity.value_size,
        max_entries: identity.max_entries,
        flags: identity.flags,
        btf_id: some_id(identity.btf_id),
        first_seen,
    }
}
