//! Programs: any type, loaded from a [`ProgramSpec`].
//! [`super::link`] attaches them. Entry point: [`Program::load`]; [`super::program_ready`] has one of each type.

use super::attr;
use super::btf::{Btf, FunctionTypes, log_text};
use super::cpu::on_cpu;
use super::error::{failed_to, invalid};
use super::instruction::Instruction;
use super::kind::Kind;
use super::map::Map;
use super::pin::Pin;
use super::sys;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The longest name the kernel keeps for a program or a map (`BPF_OBJ_NAME_LEN` less the zero byte).
pub(super) const NAME_LENGTH: usize = 15;

/// A function of a program, for its BTF.
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    /// Its name, of any length. That of the first function is the program's full name.
    pub name: &'a str,
    /// The index of its first instruction; 0 for the first function.
    pub first_instruction: u32,
}

/// What to load. Fill in what matters over [`ProgramSpec::new`] or [`ProgramSpec::ready`].
#[derive(Clone, Debug)]
pub struct ProgramSpec<'a> {
    /// One of [`super::uapi::program_type`].
    pub kind: u32,
    /// At most 15 characters.
    pub name: &'a str,
    /// `GPL` makes the program GPL compatible.
    pub license: &'a CStr,
    /// What it does.
    pub instructions: Vec<Instruction>,
    /// `expected_attach_type`, or, for struct operations, the index of the member.
    pub attach_type: u32,
    /// The function (or struct) of the kernel or of `attach_program` that it is for.
    pub attach_btf_id: u32,
    /// The program whose function `attach_btf_id` is.
    pub attach_program: Option<&'a Program>,
    /// Functions to describe in BTF; none, no BTF.
    pub functions: &'a [Function<'a>],
    /// Flags of `BPF_PROG_LOAD`.
    pub flags: u32,
}

impl ProgramSpec<'_> {
    /// A nameless program of this type that returns `returns` at once.
    #[must_use]
    pub fn new(kind: u32, returns: i32) -> Self {
        Self {
            kind,
            name: "",
            license: c"GPL",
            instructions: Instruction::returning(returns),
            attach_type: 0,
            attach_btf_id: 0,
            attach_program: None,
            functions: &[],
            flags: 0,
        }
    }
}

/// Counters of `BPF_OBJ_GET_INFO_BY_FD`; zero where the kernel does not have the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Time spent in it, while statistics were on.
    pub run_time: Duration,
    /// How often it ran, while statistics were on.
    pub runs: u64,
    /// How often it did not run, since it was already running on that CPU (5.12), statistics or not.
    pub misses: u64,
}

/// A loaded program. Dropping it closes its fd.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    id: u32,
    types: Option<FunctionTypes>,
}

impl Program {
    /// Loads `spec`.
    ///
    /// # Errors
    /// A name that is too long; the kernel's refusal, with the end of the verifier's log.
    pub fn load(spec: &ProgramSpec<'_>) -> io::Result<Self> {
        let names = spec.functions.iter().map(|function| function.name);
        let types = match spec.functions {
            [] => None,
            _ => Some(FunctionTypes::load(names)?),
        };
        let ids = types.iter().flat_map(|types| &types.ids);
        let functions: Vec<_> = spec
            .functions
            .iter()
            .zip(ids)
            .map(|(function, &type_id)| attr::FunctionRecord {
                first_instruction: function.first_instruction,
                type_id,
            })
            .collect();
        let btf_fd = types.as_ref().map(|types| sys::number(types.btf.fd()));
        let attach_program_fd = spec.attach_program.map(|program| sys::number(program.fd()));
        let attr = attr::ProgramLoad {
            program_type: spec.kind,
            flags: spec.flags,
            name: kernel_name(spec.name)?,
            expected_attach_type: spec.attach_type,
            btf_fd: btf_fd.unwrap_or(0),
            attach_btf_id: spec.attach_btf_id,
            attach_program_fd: attach_program_fd.unwrap_or(0),
            ..Default::default()
        };
        let load =
            |log: &mut [u8]| sys::program_load(&attr, &spec.instructions, spec.license, &functions, log);
        let fd = load(&mut []).map_err(|error| {
            // A log costs time and memory, so it is requested only to explain a failure.
            let mut log = vec![0; 64 * 1024];
            let _refused_again = load(&mut log);
            let reason = log_text(&log);
            let doing = format!("load program '{}' of type {} ({reason})", spec.name, spec.kind);
            failed_to(doing, error)
        })?;
        let id = Kind::Program.id(fd.as_fd())?;
        Ok(Self { fd, id, types })
    }

    /// Loads `spec` to extend or trace the last function of `target`, as from [`Self::with_function`].
    ///
    /// # Errors
    /// As [`Self::load`]; a target without functions.
    pub fn for_function_of(target: &Self, spec: &ProgramSpec<'_>) -> io::Result<Self> {
        let functions = target.types.as_ref().map(|types| types.ids.as_slice());
        let &attach_btf_id = functions
            .and_then(<[u32]>::last)
            .ok_or_else(|| invalid("the target has no functions".to_owned()))?;
        Self::load(&ProgramSpec {
            attach_btf_id,
            attach_program: Some(target),
            functions: &[Function { name: "standing_in_for_called", first_instruction: 0 }],
            ..spec.clone()
        })
    }

    /// Runs it on an empty packet of `packet_size` bytes (14 at least), so that it has run `times` times more.
    /// For the types that look at packets.
    ///
    /// # Errors
    /// The kernel's refusal: ENOTSUPP for a type that cannot be run this way.
    pub fn run(&self, packet_size: usize, times: u32) -> io::Result<()> {
        sys::program_run(self.fd(), &vec![0; packet_size], times)
            .map(drop)
            .map_err(|error| failed_to(format!("run program {}", self.id), error))
    }

    /// The same on this CPU and no other, so that its statistics of runs are that CPU's.
    ///
    /// # Errors
    /// As [`Self::run`]; a CPU that this thread may not run on.
    pub fn run_on(&self, cpu: usize, times: u32) -> io::Result<()> {
        on_cpu(cpu, || self.run(64, times))
    }

    /// Runs it once without a packet: for raw tracepoints (5.10) that look at none of their arguments, and system calls (5.14).
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_bare(&self) -> io::Result<()> {
        sys::program_run(self.fd(), &[], 0)
            .map(drop)
            .map_err(|error| failed_to(format!("run program {}", self.id), error))
    }

    /// Makes it keep `map`, after those that its instructions name (`BPF_PROG_BIND_MAP`, 5.10).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn bind(&self, map: &Map) -> io::Result<()> {
        sys::program_bind_map(self.fd(), map.fd())
            .map_err(|error| failed_to(format!("bind map {} to program {}", map.id(), self.id), error))
    }

    /// The sizes in bytes of its functions as machine code, whose sum is the program's. Needs `CAP_BPF`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn function_sizes(&self) -> io::Result<Vec<u32>> {
        const MOST: u32 = 256;
        sys::function_sizes(self.fd(), MOST)
    }

    /// Queries the kernel's counters of this program.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn counts(&self) -> io::Result<Counts> {
        let info = sys::object_info(self.fd())?;
        let number = |word: usize| u64::from(info[word]) | u64::from(info[word + 1]) << 32;
        // `run_time_ns`, `run_cnt` and `recursion_misses` of `struct bpf_prog_info`, at 192 bytes and after it.
        Ok(Counts { run_time: Duration::from_nanos(number(48)), runs: number(50), misses: number(52) })
    }

    /// Pins it at `path`, in a BPF file system.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn pin(&self, path: &Path) -> io::Result<Pin> {
        Pin::make(self.fd(), path)
    }

    /// The kernel's id of this program.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The fd that keeps it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its BTF, if it was loaded with functions.
    #[must_use]
    pub fn btf(&self) -> Option<&Btf> {
        self.types.as_ref().map(|types| &types.btf)
    }
}

/// A name as the kernel keeps it.
pub(super) fn kernel_name(name: &str) -> io::Result<[u8; 16]> {
    if name.len() > NAME_LENGTH {
        return Err(invalid(format!("the name '{name}' is longer than {NAME_LENGTH} characters")));
    }
    let mut kept = [0; 16];
    kept[..name.len()].copy_from_slice(name.as_bytes());
    Ok(kept)
}
