//! Many objects, quickly, as on a busy node. Each is as small as the kernel allows, and is kept by an fd.
//! More than the limit on open files (20,000 on the project's machines) takes more than one process.

use super::instruction::Instruction;
use super::map::{Map, MapSpec, Shape};
use super::program::{Function, NAME_LENGTH, Program, ProgramSpec};
use super::uapi::{map_flag, map_type, program_type};
use std::io;
use std::os::fd::AsRawFd;

/// One program in this number has BTF and a full name that is longer than the kernel's 15 characters.
const FULL_NAME_EVERY: usize = 100;

/// Programs and maps, all gone when dropped.
#[derive(Debug)]
pub struct Herd {
    programs: Vec<Program>,
    maps: Vec<Map>,
}

impl Herd {
    /// Makes socket filters `herd_p_00000`, `herd_p_00001` and so on, and maps `herd_m_00000` and so on,
    /// arrays and hashes in turn.
    ///
    /// # Errors
    /// The kernel's first refusal; EMFILE beyond the limit on open files.
    pub fn new(programs: usize, maps: usize) -> io::Result<Self> {
        Ok(Self {
            programs: (0..programs).map(program).collect::<io::Result<_>>()?,
            maps: (0..maps).map(map).collect::<io::Result<_>>()?,
        })
    }

    /// Any number of programs: the entries of a program array hold them instead of descriptors, which is one more map.
    ///
    /// # Errors
    /// The kernel's first refusal; EMFILE with more maps than the limit on open files.
    pub fn without_program_fds(programs: usize, maps: usize) -> io::Result<Self> {
        let max_entries = u32::try_from(programs).map_err(io::Error::other)?;
        let kind = map_type::PROG_ARRAY;
        let shape = Shape { kind, key_size: 4, value_size: 4, max_entries, ..Shape::default() };
        let array = Map::create(&MapSpec { name: "herd_programs", shape, inner: None, types: None })?;
        for number in 0..max_entries {
            let program = program(number as usize)?;
            array.insert(&number.to_ne_bytes(), &program.fd().as_raw_fd().to_ne_bytes())?;
        }
        let mut herd = Self::new(0, maps)?;
        herd.maps.push(array);
        Ok(herd)
    }

    /// The programs, in the order of their names.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The maps, in the order of their names.
    #[must_use]
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }
}

fn program(number: usize) -> io::Result<Program> {
    let mut name = format!("herd_p_{number:05}");
    let full_name = format!("{name}_with_a_full_name");
    let mut functions = Vec::new();
    if number % FULL_NAME_EVERY == FULL_NAME_EVERY - 1 {
        functions.push(Function { name: &full_name, first_instruction: 0 });
        // As loaders cut it.
        full_name[..NAME_LENGTH].clone_into(&mut name);
    }
    Program::load(&ProgramSpec {
        name: &name,
        // A number of its own gives each program a tag of its own.
        instructions: Instruction::returning(i32::try_from(number).map_err(io::Error::other)?),
        functions: &functions,
        ..ProgramSpec::new(program_type::SOCKET_FILTER, 0)
    })
}

fn map(number: usize) -> io::Result<Map> {
    let (kind, flags) = match number % 2 {
        0 => (map_type::ARRAY, 0),
        _ => (map_type::HASH, map_flag::NO_PREALLOC),
    };
    let shape = Shape { kind, key_size: 4, value_size: 8, max_entries: 1, flags, ..Shape::default() };
    Map::create(&MapSpec { name: &format!("herd_m_{number:05}"), shape, inner: None, types: None })
}
