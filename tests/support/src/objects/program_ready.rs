//! One ready-made program of each type, and programs with special properties.
//! Each returns at once and accepts everything. Entry point: [`Program::ready`].

use super::error::invalid;
use super::instruction::Instruction;
use super::kernel_types::KernelTypes;
use super::map::Map;
use super::program::{Function, NAME_LENGTH, Program, ProgramSpec};
use super::uapi::{attach_type, program_flag, program_type as kind};
use std::io;

/// Program types, the harmless return value of each (pass, allow, accept), and its expected attach type.
const READY: &[(u32, i32, u32)] = &[
    (kind::SOCKET_FILTER, 0, 0),
    (kind::KPROBE, 0, 0),
    (kind::SCHED_CLS, 0, 0),
    (kind::SCHED_ACT, 0, 0),
    (kind::TRACEPOINT, 0, 0),
    (kind::XDP, 2, 0),
    (kind::PERF_EVENT, 0, 0),
    (kind::CGROUP_SKB, 1, attach_type::CGROUP_INET_INGRESS),
    (kind::CGROUP_SOCK, 1, attach_type::CGROUP_INET_SOCK_CREATE),
    (kind::LWT_IN, 0, 0),
    (kind::LWT_OUT, 0, 0),
    (kind::LWT_XMIT, 0, 0),
    (kind::SOCK_OPS, 1, attach_type::CGROUP_SOCK_OPS),
    (kind::SK_SKB, 1, attach_type::SK_SKB_STREAM_VERDICT),
    (kind::CGROUP_DEVICE, 1, attach_type::CGROUP_DEVICE),
    (kind::SK_MSG, 1, attach_type::SK_MSG_VERDICT),
    (kind::RAW_TRACEPOINT, 0, 0),
    (kind::CGROUP_SOCK_ADDR, 1, attach_type::CGROUP_INET4_CONNECT),
    (kind::LWT_SEG6LOCAL, 0, 0),
    (kind::LIRC_MODE2, 0, 0),
    (kind::SK_REUSEPORT, 1, attach_type::SK_REUSEPORT_SELECT),
    (kind::FLOW_DISSECTOR, 0, attach_type::FLOW_DISSECTOR),
    (kind::CGROUP_SYSCTL, 1, attach_type::CGROUP_SYSCTL),
    (kind::RAW_TRACEPOINT_WRITABLE, 0, 0),
    (kind::CGROUP_SOCKOPT, 1, attach_type::CGROUP_GETSOCKOPT),
    (kind::TRACING, 0, attach_type::TRACE_ITER),
    (kind::STRUCT_OPS, 0, 0),
    (kind::EXT, 0, 0),
    (kind::LSM, 0, attach_type::LSM_MAC),
    (kind::SK_LOOKUP, 1, attach_type::SK_LOOKUP),
    (kind::SYSCALL, 0, 0),
    (kind::NETFILTER, 1, attach_type::NETFILTER),
];

impl ProgramSpec<'_> {
    /// A nameless program of this type as the kernel's verifier wants it.
    ///
    /// # Errors
    /// A type that is not in the table; a kernel without the BTF that some types need.
    pub fn ready(kind: u32) -> io::Result<Self> {
        let &(_, returns, attach_type) = READY
            .iter()
            .find(|&&(ready, _, _)| ready == kind)
            .ok_or_else(|| invalid(format!("no ready program of type {kind}")))?;
        let spec = Self { attach_type, ..Self::new(kind, returns) };
        Ok(match kind {
            kind::TRACING => {
                let attach_btf_id = KernelTypes::read()?.function("bpf_iter_bpf_map")?;
                Self { attach_btf_id, ..spec }
            }
            kind::LSM => {
                let attach_btf_id = KernelTypes::read()?.function("bpf_lsm_file_open")?;
                Self { attach_btf_id, ..spec }
            }
            kind::STRUCT_OPS => {
                let operations = KernelTypes::read()?.structure("tcp_congestion_ops")?;
                let (attach_type, _) = operations.member("ssthresh")?;
                Self { attach_btf_id: operations.id, attach_type, ..spec }
            }
            kind::SYSCALL => Self { flags: program_flag::SLEEPABLE, ..spec },
            _ => spec,
        })
    }
}

impl Program {
    /// Loads a ready-made program of this type (see [`super::uapi::program_type`]).
    ///
    /// # Errors
    /// As [`Self::load`] and [`ProgramSpec::ready`].
    pub fn ready(kind: u32, name: &str) -> io::Result<Self> {
        let spec = ProgramSpec { name, ..ProgramSpec::ready(kind)? };
        if kind == kind::EXT {
            // The extension itself keeps the program it extends.
            return Self::for_function_of(&Self::with_function("ext_target")?, &spec);
        }
        Self::load(&spec)
    }

    /// A socket filter whose full name, in its BTF, is longer than the 15 characters that the syscall reports.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn with_full_name(full_name: &str) -> io::Result<Self> {
        Self::load(&ProgramSpec {
            // Loaders truncate the name like this, so that readers know that there may be more.
            name: full_name.get(..NAME_LENGTH).unwrap_or(full_name),
            functions: &[Function { name: full_name, first_instruction: 0 }],
            ..ProgramSpec::ready(kind::SOCKET_FILTER)?
        })
    }

    /// A socket filter that names each of `maps`, and so keeps them.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn using(name: &str, maps: &[&Map]) -> io::Result<Self> {
        Self::load(&ProgramSpec {
            name,
            instructions: Instruction::using(maps, 0),
            ..ProgramSpec::ready(kind::SOCKET_FILTER)?
        })
    }

    /// A socket filter that calls a second, global function of its own: two pieces of machine code, and something that
    /// other programs can extend or trace.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn with_function(name: &str) -> io::Result<Self> {
        Self::load(&ProgramSpec {
            name,
            instructions: vec![
                Instruction::call_function(1),
                Instruction::exit(),
                Instruction::mov(0, 0),
                Instruction::exit(),
            ],
            functions: &[
                Function { name: "calling_function", first_instruction: 0 },
                Function { name: "called_function", first_instruction: 2 },
            ],
            ..ProgramSpec::ready(kind::SOCKET_FILTER)?
        })
    }

    /// A socket filter that calls `called` functions of its own, each longer than the one before.
    /// The kernel reports the sum of their sizes and that of the first, which calls them.
    ///
    /// # Errors
    /// As [`Self::load`]; more than 255 are too many for the kernel.
    pub fn with_functions(name: &str, called: u8) -> io::Result<Self> {
        let called = i32::from(called);
        let mut instructions = Vec::new();
        // A call for each of them and two instructions to return come before the first.
        let mut first = called + 2;
        for number in 1..=called {
            instructions.push(Instruction::call_function(first - number));
            first += number + 1;
        }
        instructions.extend(Instruction::returning(0));
        for number in 1..=called {
            instructions.extend((0..number).map(|_| Instruction::mov(0, number)));
            instructions.push(Instruction::exit());
        }
        Self::load(&ProgramSpec { name, instructions, ..ProgramSpec::ready(kind::SOCKET_FILTER)? })
    }
}

/// Tries to load one program of every type: the type's number, and the program or the refusal.
#[must_use]
pub fn every_program_type() -> Vec<(u32, io::Result<Program>)> {
    READY.iter().map(|&(kind, _, _)| (kind, Program::ready(kind, &format!("program_type_{kind}")))).collect()
}
