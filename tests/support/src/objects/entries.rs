//! Entries of maps: inserted, deleted, and looked up one by one.
//! Sizes are checked here; [`super::filled`] knows the keys and values that a type requires. Entry point: [`Map::insert`].

use super::cpu::possible_cpus;
use super::error::{failed_to, invalid};
use super::map::Map;
use super::sys::{self, Element};
use super::uapi::map_type as kind;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How many entries one call of `BPF_MAP_UPDATE_BATCH` puts in: a few hundred kilobytes.
const BATCH: u32 = 1 << 15;

/// How long a batch is tried again that finds no memory.
const MEMORY_DEADLINE: Duration = Duration::from_secs(10);

impl Map {
    /// Puts one entry in: in a per-CPU map the same value for each CPU. Queues, stacks and bloom filters take an empty key.
    ///
    /// # Errors
    /// A key or value of another size than the map's; the kernel's refusal, E2BIG from a full hash.
    pub fn insert(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key)?;
        let value = self.for_every_cpu(value)?;
        sys::map_update(self.element()?, key, &value)
            .map_err(|error| self.failed_to("put an entry in", error))
    }

    /// Puts in an entry for each of the numbers below `count`, its first four bytes, with a value of zeros: a million in
    /// well under a second. For hashes and arrays whose values are nothing but bytes (`BPF_MAP_UPDATE_BATCH`, 5.6).
    ///
    /// # Errors
    /// Keys of less than four bytes; the kernel's refusal.
    pub fn insert_many(&self, count: u32) -> io::Result<()> {
        let element = self.element()?;
        if element.key_size < size_of::<u32>() {
            return Err(invalid(format!("the keys of {:?} are too short for a number", self.shape())));
        }
        let values = vec![0; element.value_size * BATCH as usize];
        for first in (0..count).step_by(BATCH as usize) {
            let numbers = first..count.min(first.saturating_add(BATCH));
            let mut keys = Vec::with_capacity(element.key_size * numbers.len());
            for number in numbers.clone() {
                keys.extend(number.to_ne_bytes());
                keys.resize(keys.len() + element.key_size - size_of::<u32>(), 0);
            }
            let values = &values[..element.value_size * numbers.len()];
            let deadline = Instant::now() + MEMORY_DEADLINE;
            loop {
                match sys::map_update_batch(element, &keys, values) {
                    // The memory of entries is refilled in the background (`bpf_mem_alloc`, since 6.1), which a burst can outrun.
                    Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && Instant::now() < deadline => {
                        thread::yield_now();
                    }
                    result => break result.map_err(|error| self.failed_to("put many entries in", error))?,
                }
            }
        }
        Ok(())
    }

    /// Takes the entry with this key out.
    ///
    /// # Errors
    /// A key of another size than the map's; the kernel's refusal, ENOENT where there is no such entry.
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check(key)?;
        sys::map_delete(self.element()?, key).map_err(|error| self.failed_to("delete an entry of", error))
    }

    /// Takes the next entry out of a queue or stack: `None` when it is empty.
    ///
    /// # Errors
    /// A map with keys; the kernel's refusal.
    pub fn pop(&self) -> io::Result<Option<Vec<u8>>> {
        self.check(&[])?;
        self.unless_missing("take an entry out of", sys::map_pop(self.element()?))
    }

    /// The value of this key (of a per-CPU map those of all CPUs, each at a multiple of 8 bytes), or `None`.
    ///
    /// # Errors
    /// A key of another size than the map's; the kernel's refusal, ENOTSUPP for types whose values only programs can look up.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check(key)?;
        self.unless_missing("look an entry up in", sys::map_lookup(self.element()?, key))
    }

    /// Every key, by walking them all. Arrays have a key for each element, also for empty ones.
    ///
    /// # Errors
    /// The kernel's refusal, ENOTSUPP or EINVAL for types that cannot be walked.
    pub fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let element = self.element()?;
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let next = |last: Option<&Vec<u8>>| {
            self.unless_missing("walk", sys::map_next_key(element, last.map(Vec::as_slice)))
        };
        while let Some(key) = next(keys.last())? {
            keys.push(key);
        }
        Ok(keys)
    }

    fn element(&self) -> io::Result<Element<'_>> {
        let shape = self.shape();
        let one = shape.value_size as usize;
        let value_size = if self.is_per_cpu() { one.next_multiple_of(8) * possible_cpus()? } else { one };
        Ok(Element { map: self.fd(), key_size: shape.key_size as usize, value_size })
    }

    /// The kernel reads one value for each CPU there could be, each at a multiple of 8 bytes.
    fn for_every_cpu(&self, value: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = value.to_vec();
        if value.len() != self.shape().value_size as usize {
            return Err(invalid(format!("a value of another size than {:?}", self.shape())));
        }
        if self.is_per_cpu() {
            all.resize(value.len().next_multiple_of(8), 0);
            all = all.repeat(possible_cpus()?);
        }
        Ok(all)
    }

    fn check(&self, key: &[u8]) -> io::Result<()> {
        if key.len() == self.shape().key_size as usize {
            return Ok(());
        }
        Err(invalid(format!("a key of another size than {:?}", self.shape())))
    }

    fn is_per_cpu(&self) -> bool {
        matches!(
            self.shape().kind,
            kind::PERCPU_HASH | kind::PERCPU_ARRAY | kind::LRU_PERCPU_HASH | kind::PERCPU_CGROUP_STORAGE
        )
    }

    fn unless_missing<T>(&self, doing: &str, answer: io::Result<T>) -> io::Result<Option<T>> {
        match answer {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed_to(doing, error)),
        }
    }

    fn failed_to(&self, doing: &str, error: io::Error) -> io::Error {
        failed_to(format!("{doing} map {}", self.id()), error)
    }
}
