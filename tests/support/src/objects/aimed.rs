//! Programs that are loaded for one function of the kernel or of another program, with the name that the kernel keeps
//! (`aux->attach_func_name`). None of them is attached. Entry point: [`every_aimed_program`].

use super::kernel_types::KernelTypes;
use super::program::{Program, ProgramSpec};
use super::uapi::{attach_type, program_type as kind};
use std::io;

/// A program that is loaded for one attach point.
#[derive(Debug)]
pub struct Aimed {
    program: Program,
    attach_to: &'static str,
    target: Option<Program>,
}

impl Aimed {
    fn at_kernel(spec: &ProgramSpec<'_>, attach_to: &'static str) -> io::Result<Self> {
        Ok(Self { program: Program::load(spec)?, attach_to, target: None })
    }

    fn at_program(spec: &ProgramSpec<'_>) -> io::Result<Self> {
        let target = Program::with_function("aimed_at")?;
        let program = Program::for_function_of(&target, spec)?;
        Ok(Self { program, attach_to: "called_function", target: Some(target) })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The name of the function, tracepoint or member of a struct.
    #[must_use]
    pub fn attach_to(&self) -> &'static str {
        self.attach_to
    }

    /// The program whose function it is; `None` where it is the kernel's.
    #[must_use]
    pub fn target(&self) -> Option<&Program> {
        self.target.as_ref()
    }
}

/// Makes one program.
type Maker = fn() -> io::Result<Aimed>;

/// Every way to aim, by name.
const MAKERS: &[(&str, Maker)] = &[
    ("iter", || Aimed::at_kernel(&ProgramSpec::ready(kind::TRACING)?, "bpf_iter_bpf_map")),
    ("raw_tracepoint_btf", || {
        // The kernel's type of it has a prefix, which the kernel leaves off (`bpf_check_attach_target`).
        const TRACEPOINT: &str = "sched_process_exec";
        let attach_btf_id = KernelTypes::read()?.raw_tracepoint(TRACEPOINT)?;
        let spec = tracing("aimed_tp_btf", attach_type::TRACE_RAW_TP);
        Aimed::at_kernel(&ProgramSpec { attach_btf_id, ..spec }, TRACEPOINT)
    }),
    ("fentry", || at_function(&tracing("aimed_fentry", attach_type::TRACE_FENTRY))),
    ("fexit", || at_function(&tracing("aimed_fexit", attach_type::TRACE_FEXIT))),
    ("fentry_of_program", || Aimed::at_program(&tracing("aimed_fentry_p", attach_type::TRACE_FENTRY))),
    ("fexit_of_program", || Aimed::at_program(&tracing("aimed_fexit_p", attach_type::TRACE_FEXIT))),
    ("extension", || Aimed::at_program(&ProgramSpec { name: "aimed_ext", ..ProgramSpec::new(kind::EXT, 0) })),
    ("lsm", || Aimed::at_kernel(&ProgramSpec::ready(kind::LSM)?, "bpf_lsm_file_open")),
    ("struct_ops", || Aimed::at_kernel(&ProgramSpec::ready(kind::STRUCT_OPS)?, "ssthresh")),
];

fn tracing(name: &str, attach_type: u32) -> ProgramSpec<'_> {
    ProgramSpec { name, attach_type, ..ProgramSpec::new(kind::TRACING, 0) }
}

/// A function that the kernel calls only to test BPF.
fn at_function(spec: &ProgramSpec<'_>) -> io::Result<Aimed> {
    const FUNCTION: &str = "bpf_fentry_test1";
    let attach_btf_id = KernelTypes::read()?.function(FUNCTION)?;
    Aimed::at_kernel(&ProgramSpec { attach_btf_id, ..spec.clone() }, FUNCTION)
}

/// Tries to load a program for each way to aim: its name, and the program or the refusal.
#[must_use]
pub fn every_aimed_program() -> Vec<(&'static str, io::Result<Aimed>)> {
    MAKERS.iter().map(|&(name, make)| (name, make())).collect()
}
