//! Ring buffers with a known backlog: a program that writes records, and a consumer that reads as many as requested.
//! The layout is that of kernel/bpf/ringbuf.c. Entry points: [`Ring::new`], and [`UserRing::new`] for the other direction.

use super::error::{failed_to, invalid};
use super::instruction::Instruction;
use super::map::{Map, MapSpec, Shape};
use super::program::{Program, ProgramSpec};
use super::sys::{self, Access, Mapping};
use super::uapi::{helper, map_type as kind, program_type};
use std::io;
use std::ops::Range;

/// Before each record stand its length and, where a program wrote it, how far away the buffer begins.
const HEADER: u64 = 8;
/// The length of the records that are written here: not a multiple of 8, so that rounding shows.
const RECORD: u32 = 20;

/// What a record takes up in the buffer.
const fn taken_up(length: u32) -> u64 {
    (HEADER + length as u64).next_multiple_of(8)
}

fn create(kind: u32, name: &str, bytes: u32) -> io::Result<Map> {
    let shape = Shape { kind, max_entries: bytes, ..Shape::default() };
    Map::create(&MapSpec { name, shape, inner: None, types: None })
}

fn map_pages(map: &Map, pages: Range<usize>, access: Access) -> io::Result<Mapping> {
    let size = sys::page_size()?;
    Mapping::new(map.fd(), pages.start * size, pages.len() * size, access)
        .map_err(|error| failed_to(format!("map ring buffer {}", map.id()), error))
}

/// How many pages the buffer has beside its data, which is mapped twice in a row.
fn pages_of(bytes: u32) -> io::Result<usize> {
    Ok(2 + 2 * bytes as usize / sys::page_size()?)
}

/// A ring buffer that a program writes and this process reads (5.8).
#[derive(Debug)]
pub struct Ring {
    map: Map,
    program: Program,
    consumer: Mapping,
    producer: Mapping,
}

impl Ring {
    /// What each record takes up in the buffer, in bytes.
    pub const RECORD: u64 = taken_up(RECORD);

    /// An empty buffer of this size in bytes: a power of two, and a multiple of the page size.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.8 do not know it.
    pub fn new(bytes: u32) -> io::Result<Self> {
        let map = create(kind::RINGBUF, "ring", bytes)?;
        let mut instructions = Instruction::load_map(1, &map).to_vec();
        instructions.extend([
            Instruction::push(-8, 1),
            Instruction::push(-16, 2),
            Instruction::push(-24, 3),
            Instruction::copy(2, Instruction::STACK),
            Instruction::add(2, -24),
            Instruction::mov(3, RECORD.cast_signed()),
            Instruction::mov(4, 0),
            Instruction::call_helper(helper::RINGBUF_OUTPUT),
            Instruction::exit(),
        ]);
        let program = Program::load(&ProgramSpec {
            name: "writes_ring",
            instructions,
            ..ProgramSpec::ready(program_type::SOCKET_FILTER)?
        })?;
        let consumer = map_pages(&map, 0..1, Access::ReadAndWrite)?;
        let producer = map_pages(&map, 1..pages_of(bytes)?, Access::Read)?;
        Ok(Self { map, program, consumer, producer })
    }

    /// Has the program write this number of records.
    ///
    /// # Errors
    /// The kernel's refusal; a buffer that is full before.
    pub fn produce(&self, records: u32) -> io::Result<()> {
        let before = self.producer.load(0);
        self.program.run(64, records)?;
        let written = self.producer.load(0) - before;
        if written == Self::RECORD * u64::from(records) {
            return Ok(());
        }
        Err(invalid(format!("of {records} records only {} went in", written / Self::RECORD)))
    }

    /// Reads this number of records, one by one, as a consumer does.
    ///
    /// # Errors
    /// A buffer that has fewer.
    pub fn consume(&self, records: u32) -> io::Result<()> {
        const BUSY: u32 = 1 << 31;
        const DISCARDED: u32 = 1 << 30;
        let mask = u64::from(self.map.shape().max_entries) - 1;
        for _ in 0..records {
            let position = self.consumer.load(0);
            if position >= self.producer.load(0) {
                return Err(invalid("there is nothing more to read".to_owned()));
            }
            let header = sys::page_size()? + usize::try_from(position & mask).map_err(io::Error::other)?;
            let length = self.producer.load_half(header);
            if length & BUSY != 0 {
                return Err(invalid("a record is still being written".to_owned()));
            }
            self.consumer.store(0, position + taken_up(length & !DISCARDED));
        }
        Ok(())
    }

    /// The bytes that were written and not yet read, by the positions that this process sees.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.producer.load(0) - self.consumer.load(0)
    }

    /// Writes a position of the consumer as any process can that maps the buffer, true or not.
    pub fn claim_consumed(&self, position: u64) {
        self.consumer.store(0, position);
    }

    /// The buffer.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The program that writes it.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// A ring buffer that this process writes and a program would read (6.1). None does: whatever is written stays.
#[derive(Debug)]
pub struct UserRing {
    map: Map,
    consumer: Mapping,
    producer: Mapping,
}

impl UserRing {
    /// An empty buffer of this size in bytes: a power of two, and a multiple of the page size.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.1 do not know it.
    pub fn new(bytes: u32) -> io::Result<Self> {
        let map = create(kind::USER_RINGBUF, "user_ring", bytes)?;
        let consumer = map_pages(&map, 0..1, Access::Read)?;
        let producer = map_pages(&map, 1..pages_of(bytes)?, Access::ReadAndWrite)?;
        Ok(Self { map, consumer, producer })
    }

    /// Writes this number of records of `length` bytes each.
    ///
    /// # Errors
    /// A buffer in which there is no room for one more: what went in before stays.
    pub fn produce(&self, records: u32, length: u32) -> io::Result<()> {
        let bytes = u64::from(self.map.shape().max_entries);
        for _ in 0..records {
            if self.backlog() + taken_up(length) > bytes {
                return Err(invalid("there is no room for one more record".to_owned()));
            }
            let position = self.producer.load(0);
            let place = usize::try_from(position & (bytes - 1)).map_err(io::Error::other)?;
            // The length comes first in memory, and zeros after it.
            let header = if cfg!(target_endian = "little") { length.into() } else { u64::from(length) << 32 };
            self.producer.store(sys::page_size()? + place, header);
            self.producer.store(0, position + taken_up(length));
        }
        Ok(())
    }

    /// Returns the space of this number of records of `length` bytes in the buffer, in bytes.
    #[must_use]
    pub fn taken_up(records: u32, length: u32) -> u64 {
        u64::from(records) * taken_up(length)
    }

    /// The bytes that were written and not yet read, by the positions that this process sees.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.producer.load(0) - self.consumer.load(0)
    }

    /// The buffer.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }
}
