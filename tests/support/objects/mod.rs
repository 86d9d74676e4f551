//! Real BPF programs, maps, links and BTF for tests: made with raw bpf(2) and hand-written instructions.
//! It knows nothing of the product, so the two cannot be wrong together; whatever it makes is gone when the value is dropped.
//! Begin with [`Program::ready`], [`Map::ready`] and [`Link`]; [`Herd`] makes thousands, [`Churn`] makes them come and go;
//! [`Filled`], [`Ring`], [`Recursion`] and [`Aimed`] come with the numbers and names that are to be found in them.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared as source: each test uses its own part of it"
)]

mod aimed;
mod attachment;
mod attr;
mod btf;
mod cgroup;
mod churn;
mod countable;
mod cpu;
mod entries;
mod error;
mod fdinfo;
mod filled;
mod herd;
mod instruction;
mod kernel_types;
mod kind;
mod link;
mod link_network;
mod link_tracing;
mod map;
mod map_ready;
mod mount;
mod netlink;
mod network;
mod pin;
mod place;
mod probe;
mod program;
mod program_ready;
mod recursion;
mod ring;
mod sys;
pub mod uapi;
mod uncounted;
mod wait;

pub use aimed::{Aimed, every_aimed_program};
pub use attachment::{Direction, Event, filters_missing};
pub use btf::{Btf, Types};
pub use cgroup::Cgroup;
pub use churn::{Churn, Made};
pub use countable::{Fill, countable_kinds, every_countable_map};
pub use cpu::{cpus, on_cpu, possible_cpus};
pub use error::{errno, if_possible};
pub use fdinfo::fdinfo;
pub use filled::Filled;
pub use herd::Herd;
pub use instruction::Instruction;
pub use kernel_types::{KernelStruct, KernelTypes};
pub use kind::Kind;
pub use link::{Link, Target, every_link_kind};
pub use map::{Map, MapSpec, MapTypes, Shape};
pub use map_ready::every_map_type;
pub use mount::Mount;
pub use network::Network;
pub use pin::Pin;
pub use probe::probed;
pub use program::{Counts, Function, Program, ProgramSpec};
pub use program_ready::every_program_type;
pub use recursion::Recursion;
pub use ring::{Ring, UserRing};
pub use sys::run_statistics;
pub use uncounted::every_uncounted_map;
pub use wait::{wait_until, wait_until_gone};
