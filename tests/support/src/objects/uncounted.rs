//! One map of each type that has entries without a count in the kernel: arrays, where every element exists from the start, storage
//! that belongs to other objects, and those that only programs fill. Entry point: [`every_uncounted_map`].

use super::cgroup::Cgroup;
use super::cpu::cpus;
use super::filled::{Filled, Kept};
use super::instruction::Instruction;
use super::link::{Link, Target};
use super::map::Map;
use super::place::Place;
use super::program::{Program, ProgramSpec};
use super::uapi::{attach_type, helper, link_type, map_type as kind, program_type};
use std::io;

/// Makes one map of a type.
type Maker = fn(u32) -> io::Result<Filled>;

/// The kinds by name. In an array, an entry is a place that something was put in.
const MAKERS: &[(&str, u32, Maker)] = &[
    ("array", kind::ARRAY, with::<7>),
    ("percpu_array", kind::PERCPU_ARRAY, with::<7>),
    ("prog_array", kind::PROG_ARRAY, with::<7>),
    ("perf_event_array", kind::PERF_EVENT_ARRAY, with::<7>),
    ("cgroup_array", kind::CGROUP_ARRAY, with::<7>),
    ("array_of_maps", kind::ARRAY_OF_MAPS, with::<7>),
    ("devmap", kind::DEVMAP, with::<7>),
    ("sockmap", kind::SOCKMAP, with::<7>),
    ("cpumap", kind::CPUMAP, first_cpu),
    ("xskmap", kind::XSKMAP, with::<7>),
    // A socket can be in one element only.
    ("reuseport_sockarray", kind::REUSEPORT_SOCKARRAY, with::<1>),
    ("sk_storage", kind::SK_STORAGE, with::<1>),
    ("inode_storage", kind::INODE_STORAGE, with::<1>),
    ("task_storage", kind::TASK_STORAGE, with::<1>),
    ("cgrp_storage", kind::CGRP_STORAGE, with::<1>),
    ("cgroup_storage", kind::CGROUP_STORAGE, of_cgroup),
    ("percpu_cgroup_storage", kind::PERCPU_CGROUP_STORAGE, of_cgroup),
    ("bloom_filter", kind::BLOOM_FILTER, with::<7>),
    ("stack_trace", kind::STACK_TRACE, one_stack),
];

/// Tries to make a map of each kind with entries that the kernel does not count: its name, and the map or the refusal.
#[must_use]
pub fn every_uncounted_map() -> Vec<(&'static str, io::Result<Filled>)> {
    MAKERS.iter().map(|&(name, kind, make)| (name, make(kind))).collect()
}

fn with<const ENTRIES: u32>(kind: u32) -> io::Result<Filled> {
    let mut filled = Filled::ready(kind, &format!("uncounted_{kind}"))?;
    filled.add(0..ENTRIES)?;
    Ok(filled)
}

/// The key is a CPU; one that this thread may run on is certainly there, and the ready map has room for the first two.
fn first_cpu(kind: u32) -> io::Result<Filled> {
    let mut filled = Filled::ready(kind, "uncounted_cpu")?;
    let first = u32::try_from(cpus()?[0]).map_err(io::Error::other)?;
    filled.add(first..first + 1)?;
    Ok(filled)
}

/// The kernel puts an entry in when a program that names the map is attached to a cgroup.
fn of_cgroup(kind: u32) -> io::Result<Filled> {
    let map = Map::ready(kind, "uncounted_cgrp")?;
    let program = Program::load(&ProgramSpec {
        name: "names_storage",
        instructions: Instruction::using(&[&map], 1),
        ..ProgramSpec::ready(program_type::CGROUP_SKB)?
    })?;
    let cgroup = Cgroup::new()?;
    let place = Place::at(cgroup.fd(), attach_type::CGROUP_INET_INGRESS);
    let link = Link::attach(link_type::CGROUP, program, place, Target::Cgroup(cgroup))?;
    Ok(Filled::by_other_means(map, 1, Kept::Link(link)))
}

/// A program puts its own stack in. It runs as a raw tracepoint's (5.10) that is attached to nothing.
fn one_stack(kind: u32) -> io::Result<Filled> {
    let map = Map::ready(kind, "uncounted_stack")?;
    // The argument of the program is already in register 1.
    let mut instructions = Instruction::load_map(2, &map).to_vec();
    instructions.extend([
        Instruction::mov(3, 0),
        Instruction::call_helper(helper::GET_STACKID),
        Instruction::mov(0, 0),
        Instruction::exit(),
    ]);
    let program = Program::load(&ProgramSpec {
        name: "keeps_stack",
        instructions,
        ..ProgramSpec::ready(program_type::RAW_TRACEPOINT)?
    })?;
    program.run_bare()?;
    Ok(Filled::by_other_means(map, 1, Kept::Program(program)))
}
