//! A program that misses runs: whatever makes it run, its own work makes it run again, and the kernel refuses that and counts,
//! for the program or, where a probe misses, for the link. Entry points: [`Recursion::new`] and [`Recursion::by_probe`].

use super::error::{failed_to, invalid, unsupported};
use super::instruction::Instruction;
use super::kernel_types::KernelTypes;
use super::link::{Link, Target};
use super::map::{Map, MapSpec, Shape};
use super::program::{Program, ProgramSpec};
use super::sys;
use super::uapi::{attach_type, helper, link_type, map_type as kind, program_type};
use std::ffi::CString;
use std::fs;
use std::io;

/// An address of no process, in the lowest pages, which Linux never maps (`vm.mmap_min_addr`).
const NOWHERE: i32 = 0x1bad;

/// The kernel's function that deletes from a hash.
const FUNCTION: &str = "htab_map_delete_elem";

/// A program that is attached to its own actions. Only [`Recursion::miss`] makes it recur, unless noted.
#[derive(Debug)]
pub struct Recursion {
    link: Link,
    trigger: Trigger,
}

/// What makes the program run once, and miss once.
#[derive(Debug)]
enum Trigger {
    /// Deleting from this map.
    Map(Map),
    /// Running this program.
    Program(Program),
}

impl Recursion {
    /// In whichever way this kernel can.
    ///
    /// # Errors
    /// The last refusal. Kernels before 5.12 cannot do it; those that cannot trace functions can since 6.4.
    pub fn new() -> io::Result<Self> {
        Self::by_function().or_else(|_| Self::by_page_fault())
    }

    /// A program at the entry of the kernel's function that deletes from a hash, which itself deletes from a hash (5.12).
    ///
    /// # Errors
    /// The kernel's refusal: it needs function tracing.
    pub fn by_function() -> io::Result<Self> {
        // Before 5.12 nothing keeps it from recurring for ever, so the release is checked first.
        if release()? < (5, 12) {
            return Err(unsupported("a kernel before 5.12 does not stop recursion at a function"));
        }
        let kernel = KernelTypes::read()?;
        let (_, offset_of_id) = kernel.structure("bpf_map")?.member("id")?;
        let map = deleted_from()?;
        let mut instructions = vec![
            // The function's first argument is the map. Of all maps that anybody deletes from it looks at this one.
            Instruction::load(1, 1, 0),
            Instruction::load_half(1, 1, i16::try_from(offset_of_id).map_err(io::Error::other)?),
            Instruction::skip_unless(1, map.id().cast_signed(), 6),
        ];
        instructions.extend(deleting(&map));
        instructions.extend(Instruction::returning(0));
        let program = Program::load(&ProgramSpec {
            name: "delete_recurs",
            instructions,
            attach_type: attach_type::TRACE_FENTRY,
            attach_btf_id: kernel.function(FUNCTION)?,
            ..ProgramSpec::new(program_type::TRACING, 0)
        })?;
        let fd = sys::raw_tracepoint_open(program.fd(), None)
            .map_err(|error| failed_to("attach a tracing program".to_owned(), error))?;
        let link = Link::made(link_type::TRACING, fd, Some(program), Target::Kernel)?;
        Ok(Self { link, trigger: Trigger::Map(map) })
    }

    /// A program at the raw tracepoint of page faults within the kernel, which itself causes one (x86, 6.4).
    ///
    /// # Errors
    /// The kernel's refusal: it needs that tracepoint.
    pub fn by_page_fault() -> io::Result<Self> {
        // Before 6.1 nothing keeps a raw tracepoint's program from recurring for ever, so the release is asked and nothing
        // tried. Before 6.4 the kernel tries even a single byte twice.
        if release()? < (6, 4) {
            return Err(unsupported("a kernel before 6.4 may not stop recursion at a raw tracepoint"));
        }
        let mut instructions = vec![
            // The tracepoint's first argument is the address. Of all that anybody touches it looks at this one.
            Instruction::load(1, 1, 0),
            Instruction::skip_unless(1, NOWHERE, 5),
        ];
        instructions.extend(touching_nowhere());
        instructions.extend(Instruction::returning(0));
        let program = Program::load(&ProgramSpec {
            name: "fault_recurs",
            instructions,
            ..ProgramSpec::ready(program_type::RAW_TRACEPOINT)?
        })?;
        let mut instructions = touching_nowhere().to_vec();
        instructions.extend(Instruction::returning(0));
        let trigger = Program::load(&ProgramSpec {
            name: "faults",
            instructions,
            ..ProgramSpec::ready(program_type::SOCKET_FILTER)?
        })?;
        let fd = sys::raw_tracepoint_open(program.fd(), Some(c"page_fault_kernel"))
            .map_err(|error| failed_to("open a raw tracepoint".to_owned(), error))?;
        let link = Link::made(link_type::RAW_TRACEPOINT, fd, Some(program), Target::Kernel)?;
        Ok(Self { link, trigger: Trigger::Program(trigger) })
    }

    /// A probe on the kernel's function that deletes from a hash, whose program does that: the probe misses, and its link
    /// counts it (`bpf_link_info.perf_event.kprobe.missed`, 6.7). It misses, too, when anybody's program deletes from a hash.
    ///
    /// # Errors
    /// The kernel's refusal: it needs kprobes.
    pub fn by_probe() -> io::Result<Self> {
        let map = deleted_from()?;
        let deletes = |name, kind| {
            let mut instructions = deleting(&map);
            instructions.extend(Instruction::returning(0));
            Program::load(&ProgramSpec { name, instructions, ..ProgramSpec::ready(kind)? })
        };
        let program = deletes("delete_recurs", program_type::KPROBE)?;
        // A system call would not do: while it changes a map, the kernel runs no program of a probe.
        let trigger = deletes("deletes", program_type::SOCKET_FILTER)?;
        let link = Link::kprobe_on(program, &CString::new(FUNCTION)?)?;
        Ok(Self { link, trigger: Trigger::Program(trigger) })
    }

    /// Makes the program, or its link, miss this number of runs.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn miss(&self, times: u32) -> io::Result<()> {
        match &self.trigger {
            Trigger::Program(program) => program.run(64, times),
            Trigger::Map(map) => (0..times).try_for_each(|_| {
                // There is nothing to delete: it is the attempt that makes the program run.
                let answer = map.delete(&[0; 8]);
                answer.or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })
            }),
        }
    }

    /// The program that misses runs.
    ///
    /// # Panics
    /// Never: the link was made with it.
    #[must_use]
    pub fn program(&self) -> &Program {
        self.link.program().expect("the link was made with its program")
    }

    /// Its link.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }
}

fn deleted_from() -> io::Result<Map> {
    let shape = Shape { kind: kind::HASH, key_size: 8, value_size: 8, max_entries: 1, ..Shape::default() };
    Map::create(&MapSpec { name: "deleted_from", shape, inner: None, types: None })
}

/// Deletes from the map, in which there is nothing: six instructions.
fn deleting(map: &Map) -> Vec<Instruction> {
    let mut instructions =
        vec![Instruction::push(-8, 0), Instruction::copy(2, Instruction::STACK), Instruction::add(2, -8)];
    instructions.extend(Instruction::load_map(1, map));
    instructions.push(Instruction::call_helper(helper::MAP_DELETE_ELEM));
    instructions
}

/// Asks for a byte of user space where there is none. The kernel handles the fault, and answers EFAULT.
/// Where it copies more than one byte, it tries again byte by byte, and one call causes two faults.
fn touching_nowhere() -> [Instruction; 5] {
    [
        Instruction::copy(1, Instruction::STACK),
        Instruction::add(1, -8),
        Instruction::mov(2, 1),
        Instruction::mov(3, NOWHERE),
        Instruction::call_helper(helper::PROBE_READ_USER),
    ]
}

/// The first two numbers of the kernel's release ("6.12.94+deb13").
fn release() -> io::Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|end: char| !end.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(invalid(format!("unknown release: {release}"))),
    }
}
