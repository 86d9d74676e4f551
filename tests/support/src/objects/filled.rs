//! Maps with a given number of entries: keys and values that the kernel accepts for each type, and the objects that the entries point
//! to. The number of entries follows from the insertions; the kernel is not queried. Entry point: [`Filled::ready`].

use super::cgroup::Cgroup;
use super::error::invalid;
use super::link::Link;
use super::map::Map;
use super::network::LOOPBACK;
use super::place::Event;
use super::program::Program;
use super::sys;
use super::uapi::{map_type as kind, program_type};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// What an entry points to and does not keep alive by itself.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
pub(super) enum Kept {
    Nothing,
    Descriptor(OwnedFd),
    Cgroup(Cgroup),
    Map(Map),
    Program(Program),
    Link(Link),
}

/// A map, and how many entries were put in it.
#[derive(Debug)]
pub struct Filled {
    map: Map,
    entries: u64,
    /// The one key of a map whose keys are not free to choose.
    key: Option<Vec<u8>>,
    /// The value of every entry.
    value: Vec<u8>,
    _kept: Kept,
}

impl Filled {
    /// A ready-made map of this type, empty.
    ///
    /// # Errors
    /// As [`Map::ready`]; a refusal of what its entries are to point to.
    pub fn ready(kind: u32, name: &str) -> io::Result<Self> {
        Self::empty(Map::ready(kind, name)?)
    }

    /// Takes over an empty map of any type.
    ///
    /// # Errors
    /// A refusal of what its entries are to point to.
    pub fn empty(map: Map) -> io::Result<Self> {
        let size = map.shape().value_size as usize;
        let (key, value, kept) = match map.shape().kind {
            kind::SK_STORAGE => one_key(size, udp_socket()?),
            kind::INODE_STORAGE => one_key(size, std::fs::File::open("/proc/self/exe")?.into()),
            kind::TASK_STORAGE => one_key(size, sys::process_fd()?),
            kind::CGRP_STORAGE => {
                let cgroup = Cgroup::new()?;
                (Some(four_bytes(cgroup.fd())), vec![0; size], Kept::Cgroup(cgroup))
            }
            other => {
                let (value, kept) = value_of(other, size)?;
                (None, value, kept)
            }
        };
        Ok(Self { map, entries: 0, key, value, _kept: kept })
    }

    /// Takes over a map whose entries come from somewhere else, and what makes them come.
    pub(super) fn by_other_means(map: Map, entries: u64, kept: Kept) -> Self {
        Self { map, entries, key: None, value: Vec::new(), _kept: kept }
    }

    /// Puts in one entry for each of these numbers, none of which is in yet.
    ///
    /// # Errors
    /// The kernel's refusal, E2BIG or ENOSPC from a full map: what went in before it is counted.
    pub fn add(&mut self, numbers: Range<u32>) -> io::Result<()> {
        for number in numbers {
            self.map.insert(&self.key(number), &self.value)?;
            self.entries += 1;
        }
        Ok(())
    }

    /// Takes the entries of these numbers out again. Of a queue or stack it takes as many, whichever they are.
    ///
    /// # Errors
    /// The kernel's refusal, ENOENT where there is none: what went out before it is counted.
    pub fn remove(&mut self, numbers: Range<u32>) -> io::Result<()> {
        for number in numbers {
            let key = self.key(number);
            if key.is_empty() {
                self.map.pop()?.ok_or_else(|| invalid("there is nothing more to take out".to_owned()))?;
            } else {
                self.map.delete(&key)?;
            }
            self.entries -= 1;
        }
        Ok(())
    }

    /// Queries whether the map has the entry of this number.
    ///
    /// # Errors
    /// As [`Map::lookup`].
    pub fn contains(&self, number: u32) -> io::Result<bool> {
        self.map.lookup(&self.key(number)).map(|value| value.is_some())
    }

    /// Says how many entries there are, where the map itself has thrown some out.
    pub(super) fn set_entries(&mut self, entries: u64) {
        self.entries = entries;
    }

    /// The map.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// How many entries were put in and not taken out.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn key(&self, number: u32) -> Vec<u8> {
        let size = self.map.shape().key_size as usize;
        if let Some(key) = &self.key {
            return key.clone();
        }
        let mut key = if self.map.shape().kind == kind::LPM_TRIE {
            // As many bits as there are, so that no key is a prefix of another; the kernel counts them in big endian.
            const BITS: u32 = 32;
            [BITS.to_ne_bytes(), number.to_be_bytes()].concat()
        } else {
            number.to_ne_bytes().to_vec()
        };
        key.resize(size, 0);
        key
    }
}

/// The value of every entry in a map of this type, and what it points to.
fn value_of(kind: u32, size: usize) -> io::Result<(Vec<u8>, Kept)> {
    Ok(match kind {
        kind::ARRAY_OF_MAPS | kind::HASH_OF_MAPS => {
            let inner = Map::ready(kind::ARRAY, "inner")?;
            (four_bytes(inner.fd()), Kept::Map(inner))
        }
        kind::PROG_ARRAY => {
            let program = Program::ready(program_type::SOCKET_FILTER, "in_prog_array")?;
            (four_bytes(program.fd()), Kept::Program(program))
        }
        kind::CGROUP_ARRAY => {
            let cgroup = Cgroup::new()?;
            (four_bytes(cgroup.fd()), Kept::Cgroup(cgroup))
        }
        kind::PERF_EVENT_ARRAY => {
            const CPU_CLOCK: u64 = 0;
            let hundred_seconds = 100_000_000_000;
            of_descriptor(
                size,
                sys::perf_event_open(&Event::Software { id: CPU_CLOCK, period: hundred_seconds })?,
            )
        }
        kind::SOCKMAP | kind::SOCKHASH => of_descriptor(size, udp_socket()?),
        kind::REUSEPORT_SOCKARRAY => of_descriptor(size, sys::shared_udp_socket()?),
        kind::XSKMAP => of_descriptor(size, sys::xdp_socket()?),
        kind::DEVMAP | kind::DEVMAP_HASH => (number(size, LOOPBACK), Kept::Nothing),
        // How many packets may wait for the CPU.
        kind::CPUMAP => (number(size, 16), Kept::Nothing),
        _ => (vec![0; size], Kept::Nothing),
    })
}

fn one_key(size: usize, descriptor: OwnedFd) -> (Option<Vec<u8>>, Vec<u8>, Kept) {
    let key = descriptor.as_raw_fd().to_ne_bytes().to_vec();
    (Some(key), vec![0; size], Kept::Descriptor(descriptor))
}

fn of_descriptor(size: usize, descriptor: OwnedFd) -> (Vec<u8>, Kept) {
    let fd = descriptor.as_raw_fd().cast_unsigned();
    let value = if size == 8 { u64::from(fd).to_ne_bytes().to_vec() } else { number(size, fd) };
    (value, Kept::Descriptor(descriptor))
}

/// A number of 4 bytes, the first member of a struct of this size.
fn number(size: usize, number: u32) -> Vec<u8> {
    let mut bytes = number.to_ne_bytes().to_vec();
    bytes.resize(size, 0);
    bytes
}

fn four_bytes(descriptor: BorrowedFd<'_>) -> Vec<u8> {
    descriptor.as_raw_fd().to_ne_bytes().to_vec()
}

/// A bound socket, as the kernel requires, that receives nothing.
fn udp_socket() -> io::Result<OwnedFd> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(OwnedFd::from)
}
