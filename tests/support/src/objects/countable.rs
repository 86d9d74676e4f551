//! One map of each kind whose entries the kernel counts, empty, filled and emptied in several ways.
//! The number of entries follows from the insertions and deletions, never from a query. Entry point: [`every_countable_map`].

use super::cpu::{cpus, on_cpu, possible_cpus};
use super::error::{errno, invalid};
use super::filled::Filled;
use super::map::{Map, MapSpec, Shape};
use super::uapi::{map_flag as flag, map_type as kind};
use std::fmt;
use std::io;

/// How many entries each CPU puts in where several take part.
const FROM_EACH_CPU: u32 = 8;

/// A kind of map that counts.
struct Countable {
    name: &'static str,
    kind: u32,
    key_size: u32,
    value_size: u32,
    flags: u32,
}

const fn row(name: &'static str, kind: u32, key_size: u32, value_size: u32, flags: u32) -> Countable {
    Countable { name, kind, key_size, value_size, flags }
}

#[rustfmt::skip]
const KINDS: &[Countable] = &[
    row("hash",                     kind::HASH,             5, 11, 0),
    row("hash_no_prealloc",         kind::HASH,             5, 11, flag::NO_PREALLOC),
    row("percpu_hash",              kind::PERCPU_HASH,      6, 15, 0),
    row("percpu_hash_no_prealloc",  kind::PERCPU_HASH,      6, 15, flag::NO_PREALLOC),
    row("lru_hash",                 kind::LRU_HASH,         7, 19, 0),
    row("lru_hash_of_each_cpu",     kind::LRU_HASH,         7, 19, flag::NO_COMMON_LRU),
    row("lru_percpu_hash",          kind::LRU_PERCPU_HASH,  9, 20, 0),
    row("hash_of_maps",             kind::HASH_OF_MAPS,    13,  4, 0),
    row("hash_of_maps_no_prealloc", kind::HASH_OF_MAPS,    13,  4, flag::NO_PREALLOC),
    row("lpm_trie",                 kind::LPM_TRIE,         8, 21, flag::NO_PREALLOC),
    row("queue",                    kind::QUEUE,            0, 32, 0),
    row("stack",                    kind::STACK,            0, 33, 0),
    row("devmap_hash",              kind::DEVMAP_HASH,      4,  8, 0),
    row("sockhash",                 kind::SOCKHASH,        18,  8, 0),
];

/// What has been done to a map since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing.
    Empty,
    /// A few entries were put in.
    Some,
    /// A few more were put in and taken out again.
    AfterDeletion,
    /// Each CPU has put some in, and the last has taken out more than it had put in: counted for each CPU apart, its
    /// number is negative where there are several.
    AcrossCpus,
    /// As many were put in as go in; where the map throws out what is old, more than that.
    Full,
}

impl Fill {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Empty, Self::Some, Self::AfterDeletion, Self::AcrossCpus, Self::Full];
}

impl fmt::Display for Fill {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "empty",
            Self::Some => "some",
            Self::AfterDeletion => "after deletion",
            Self::AcrossCpus => "across CPUs",
            Self::Full => "full",
        })
    }
}

impl Countable {
    fn is_lru(&self) -> bool {
        matches!(self.kind, kind::LRU_HASH | kind::LRU_PERCPU_HASH)
    }

    fn make(&self, fill: Fill) -> io::Result<Filled> {
        // Room for what every CPU puts in. An LRU map gives each CPU a share, of up to 128 entries at a time, to fill on
        // its own; one that runs out makes others lose entries (kernel/bpf/bpf_lru_list.c), so there is plenty for all.
        let for_each = if self.is_lru() { 512 } else { 2 * FROM_EACH_CPU };
        let all = u32::try_from(possible_cpus()?).map_err(io::Error::other)?;
        let inner = match self.kind {
            kind::HASH_OF_MAPS => Some(Map::ready(kind::ARRAY, "inner")?),
            _ => None,
        };
        let map = Map::create(&MapSpec {
            name: self.name.get(..15).unwrap_or(self.name),
            shape: Shape {
                kind: self.kind,
                key_size: self.key_size,
                value_size: self.value_size,
                max_entries: 50 + for_each * all,
                flags: self.flags,
                extra: 0,
            },
            inner: inner.as_ref(),
            types: None,
        })?;
        let mut filled = Filled::empty(map)?;
        match fill {
            Fill::Empty => {}
            Fill::Some => filled.add(0..5)?,
            Fill::AfterDeletion => {
                filled.add(0..17)?;
                filled.remove(3..13)?;
            }
            Fill::AcrossCpus => across_cpus(&mut filled)?,
            Fill::Full if self.is_lru() => overfull(&mut filled)?,
            Fill::Full => full(&mut filled)?,
        }
        Ok(filled)
    }
}

fn across_cpus(filled: &mut Filled) -> io::Result<()> {
    let cpus = cpus()?;
    let mut next = 0;
    for &cpu in &cpus {
        let numbers = next..next + FROM_EACH_CPU;
        next = numbers.end;
        on_cpu(cpu, || filled.add(numbers))?;
    }
    let last = *cpus.last().ok_or_else(|| invalid("there is no CPU".to_owned()))?;
    // Half of its own are left in, and one CPU alone is left with half.
    let removed = if cpus.len() > 1 { FROM_EACH_CPU + FROM_EACH_CPU / 2 } else { FROM_EACH_CPU / 2 };
    on_cpu(last, || filled.remove(0..removed))
}

/// Fills it to the last entry, which it knows by the refusal of one more.
fn full(filled: &mut Filled) -> io::Result<()> {
    let most = filled.map().shape().max_entries;
    filled.add(0..most)?;
    match filled.add(most..most + 1) {
        Err(error) if matches!(errno(&error), Some(libc::E2BIG | libc::ENOSPC)) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(invalid(format!("the map takes more than its {most} entries"))),
    }
}

/// Puts in twice as many as fit. Which of them are left is the kernel's choice, so it is the walk that counts them.
fn overfull(filled: &mut Filled) -> io::Result<()> {
    filled.add(0..2 * filled.map().shape().max_entries)?;
    filled.set_entries(filled.map().keys()?.len() as u64);
    Ok(())
}

/// Tries to make a map of each kind that counts its entries, in each state: what it is, and the map or the refusal.
#[must_use]
pub fn every_countable_map() -> Vec<(String, io::Result<Filled>)> {
    let every = KINDS.iter().flat_map(|kind| Fill::ALL.map(|fill| (kind, fill)));
    every.map(|(kind, fill)| (format!("{}, {fill}", kind.name), kind.make(fill))).collect()
}

/// The names of the kinds, as [`every_countable_map`] begins its names with them.
pub fn countable_kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}

impl Map {
    /// A hash with this many entries, and room for no more.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.6 do not know how to do it in a second.
    pub fn hash_of(entries: u32, flags: u32) -> io::Result<Self> {
        let shape =
            Shape { kind: kind::HASH, key_size: 4, value_size: 8, max_entries: entries, flags, extra: 0 };
        let map = Self::create(&MapSpec { name: "hash_of_many", shape, inner: None, types: None })?;
        map.insert_many(entries)?;
        Ok(map)
    }
}
