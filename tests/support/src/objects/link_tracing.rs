//! Links to attach points in code: iterators, tracepoints, perf events, probes, functions of the kernel and of programs.
//! Each is code that seldom or never runs, so that a test's links cost the machine nothing.

use super::cgroup::Cgroup;
use super::error::failed_to;
use super::kernel_types::KernelTypes;
use super::link::{Link, Target};
use super::map::Map;
use super::place::{Event, Options, Place};
use super::probe::{self, OWN_FILE};
use super::program::{Program, ProgramSpec};
use super::sys;
use super::uapi::{attach_type, link_type, map_type, program_type};
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::process;

/// The tracepoint that links here attach to: it fires whenever a process executes a program.
const TRACEPOINT: &CStr = c"sched_process_exec";
/// The function of the kernel that links here attach to: one that the kernel calls only to test BPF.
const KERNEL_FUNCTION: &CStr = c"bpf_fentry_test1";
/// Another one, for links that attach to several.
const OTHER_KERNEL_FUNCTION: &CStr = c"bpf_fentry_test2";

impl Link {
    /// An iterator over maps.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.8 do not know it.
    pub fn iter() -> io::Result<Self> {
        let program = Program::ready(program_type::TRACING, "link_iter")?;
        let place = Place::of(attach_type::TRACE_ITER);
        Self::attach(link_type::ITER, program, place, Target::Kernel)
    }

    /// An iterator over the elements of an array.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.9 do not know it.
    pub fn iter_of_map() -> io::Result<Self> {
        let map = Map::ready(map_type::ARRAY, "link_iter_map")?;
        let within = [sys::number(map.fd())];
        Self::iterating("bpf_iter_bpf_map_elem", &within, Target::Map(map))
    }

    /// An iterator over a new cgroup and those below it.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.1 do not know it.
    pub fn iter_of_cgroup() -> io::Result<Self> {
        const SELF_AND_BELOW: u32 = 2;
        let cgroup = Cgroup::new()?;
        let within = [SELF_AND_BELOW, sys::number(cgroup.fd()), 0, 0];
        Self::iterating("bpf_iter_cgroup", &within, Target::Cgroup(cgroup))
    }

    /// An iterator over the threads of this process.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.1 do not know it.
    pub fn iter_of_task() -> io::Result<Self> {
        Self::iterating("bpf_iter_task", &[0, process::id(), 0, 0], Target::Kernel)
    }

    fn iterating(function: &str, within: &[u32], target: Target) -> io::Result<Self> {
        let program = Program::load(&ProgramSpec {
            name: "link_iter",
            attach_type: attach_type::TRACE_ITER,
            attach_btf_id: KernelTypes::read()?.function(function)?,
            ..ProgramSpec::new(program_type::TRACING, 0)
        })?;
        let place = Place { options: Options::Iterator(within), ..Place::of(attach_type::TRACE_ITER) };
        Self::attach(link_type::ITER, program, place, target)
    }

    /// A raw tracepoint, `sched_process_exec`.
    ///
    /// # Errors
    /// The kernel's refusal; before 5.8 it is an fd, but no link.
    pub fn raw_tracepoint() -> io::Result<Self> {
        let program = Program::ready(program_type::RAW_TRACEPOINT, "link_raw_tp")?;
        let fd = sys::raw_tracepoint_open(program.fd(), Some(TRACEPOINT))
            .map_err(|error| failed_to("open a raw tracepoint".to_owned(), error))?;
        Self::made(link_type::RAW_TRACEPOINT, fd, Some(program), Target::Kernel)
    }

    /// The same raw tracepoint, with a program that knows its types by BTF.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.5 do not know it.
    pub fn raw_tracepoint_btf() -> io::Result<Self> {
        let program = Program::load(&ProgramSpec {
            name: "link_tp_btf",
            attach_type: attach_type::TRACE_RAW_TP,
            attach_btf_id: KernelTypes::read()?.raw_tracepoint("sched_process_exec")?,
            ..ProgramSpec::new(program_type::TRACING, 0)
        })?;
        Self::where_it_says(link_type::RAW_TRACEPOINT, program, Target::Kernel)
    }

    /// The entry of a function of the kernel.
    ///
    /// # Errors
    /// The kernel's refusal: it needs function tracing.
    pub fn fentry_of_kernel() -> io::Result<Self> {
        let program = Program::load(&ProgramSpec {
            name: "link_fentry",
            attach_type: attach_type::TRACE_FENTRY,
            attach_btf_id: KernelTypes::read()?.function("bpf_fentry_test1")?,
            ..ProgramSpec::new(program_type::TRACING, 0)
        })?;
        Self::where_it_says(link_type::TRACING, program, Target::Kernel)
    }

    /// The entry of a function of another program, which needs no function tracing.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.5 do not know it.
    pub fn fentry_of_program() -> io::Result<Self> {
        let target = Program::with_function("fentry_target")?;
        let spec = ProgramSpec {
            name: "link_fentry_bpf",
            attach_type: attach_type::TRACE_FENTRY,
            ..ProgramSpec::new(program_type::TRACING, 0)
        };
        let program = Program::for_function_of(&target, &spec)?;
        Self::where_it_says(link_type::TRACING, program, Target::Program(target))
    }

    /// A function of another program, replaced.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.6 do not know it.
    pub fn extension() -> io::Result<Self> {
        let target = Program::with_function("ext_target")?;
        let spec = ProgramSpec { name: "link_ext", ..ProgramSpec::new(program_type::EXT, 0) };
        let program = Program::for_function_of(&target, &spec)?;
        Self::attach(link_type::TRACING, program, Place::default(), Target::Program(target))
    }

    /// A hook of the Linux security modules.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.7 do not know it.
    pub fn lsm() -> io::Result<Self> {
        let program = Program::ready(program_type::LSM, "link_lsm")?;
        Self::where_it_says(link_type::TRACING, program, Target::Kernel)
    }

    /// A hook of the Linux security modules, for processes of a new cgroup.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.0 do not know it.
    pub fn lsm_cgroup() -> io::Result<Self> {
        let program = Program::load(&ProgramSpec {
            name: "link_lsm_cgroup",
            attach_type: attach_type::LSM_CGROUP,
            attach_btf_id: KernelTypes::read()?.function("bpf_lsm_socket_bind")?,
            ..ProgramSpec::new(program_type::LSM, 1)
        })?;
        let cgroup = Cgroup::new()?;
        let place = Place::at(cgroup.fd(), attach_type::LSM_CGROUP);
        Self::attach(link_type::CGROUP, program, place, Target::Cgroup(cgroup))
    }

    /// A software perf event, one that happens every hundred seconds on the first CPU.
    ///
    /// # Errors
    /// The kernel's refusal; perf event links are of 5.15.
    pub fn perf_event() -> io::Result<Self> {
        const CPU_CLOCK: u64 = 0;
        let program = Program::ready(program_type::PERF_EVENT, "link_perf_event")?;
        let hundred_seconds = 100_000_000_000;
        Self::on_event(program, &Event::Software { id: CPU_CLOCK, period: hundred_seconds })
    }

    /// A tracepoint, `sched_process_exec`.
    ///
    /// # Errors
    /// The kernel's refusal; perf event links are of 5.15.
    pub fn tracepoint() -> io::Result<Self> {
        let program = Program::ready(program_type::TRACEPOINT, "link_tracepoint")?;
        Self::on_event(program, &Event::Tracepoint(probe::tracepoint(TRACEPOINT)?))
    }

    /// A probe on [`probe::probed`], by a perf event.
    ///
    /// # Errors
    /// The kernel's refusal; perf event links are of 5.15.
    pub fn uprobe() -> io::Result<Self> {
        Self::on_probe("uprobe", OWN_FILE, probe::offset_of_probed()?, false)
    }

    /// A probe on the first instruction in a file, by a perf event.
    ///
    /// # Errors
    /// As [`Self::uprobe`].
    pub fn uprobe_of(file: &CStr) -> io::Result<Self> {
        Self::on_probe("uprobe", file, 0, false)
    }

    /// A probe on the return of [`probe::probed`], by a perf event.
    ///
    /// # Errors
    /// The kernel's refusal; perf event links are of 5.15.
    pub fn uretprobe() -> io::Result<Self> {
        Self::on_probe("uprobe", OWN_FILE, probe::offset_of_probed()?, true)
    }

    /// A probe on a function of the kernel, by a perf event.
    ///
    /// # Errors
    /// The kernel's refusal; perf event links are of 5.15, and kernels can be built without kprobes.
    pub fn kprobe() -> io::Result<Self> {
        Self::on_probe("kprobe", KERNEL_FUNCTION, 0, false)
    }

    /// A probe on an instruction of a function of the kernel after its first, by a perf event.
    ///
    /// # Errors
    /// As [`Self::kprobe`].
    pub fn kprobe_behind() -> io::Result<Self> {
        // Behind the function tracer's call, with and without a landing pad for indirect branches before it.
        let made = [9, 5, 8].map(|offset| Self::on_probe("kprobe", KERNEL_FUNCTION, offset, false));
        made.into_iter().reduce(Result::or).expect("there are offsets to try")
    }

    /// A probe on the return of a function of the kernel, by a perf event.
    ///
    /// # Errors
    /// As [`Self::kprobe`].
    pub fn kretprobe() -> io::Result<Self> {
        Self::on_probe("kprobe", KERNEL_FUNCTION, 0, true)
    }

    /// A probe on [`probe::probed`], without a perf event.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.6 do not know it.
    pub fn uprobe_multi() -> io::Result<Self> {
        Self::on_own_functions(&[probe::offset_of_probed()?])
    }

    /// Probes on two functions of this program, without a perf event.
    ///
    /// # Errors
    /// As [`Self::uprobe_multi`].
    pub fn uprobe_multi_of_several() -> io::Result<Self> {
        Self::on_own_functions(&[probe::offset_of_probed()?, probe::offset_of(probe::probed_as_well)?])
    }

    /// A probe on a function of the kernel, without a perf event.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.18 do not know it, and it needs function tracing.
    pub fn kprobe_multi() -> io::Result<Self> {
        Self::on_kernel_functions(&[KERNEL_FUNCTION])
    }

    /// Probes on two functions of the kernel, without a perf event.
    ///
    /// # Errors
    /// As [`Self::kprobe_multi`].
    pub fn kprobe_multi_of_several() -> io::Result<Self> {
        Self::on_kernel_functions(&[KERNEL_FUNCTION, OTHER_KERNEL_FUNCTION])
    }

    /// Attaches where the program was loaded to attach. `BPF_LINK_CREATE` does it, too, but only since 5.18.
    fn where_it_says(kind: u32, program: Program, target: Target) -> io::Result<Self> {
        let fd = sys::raw_tracepoint_open(program.fd(), None)
            .map_err(|error| failed_to("attach a tracing program".to_owned(), error))?;
        Self::made(kind, fd, Some(program), target)
    }

    fn on_own_functions(offsets: &[u64]) -> io::Result<Self> {
        let options = Options::UserFunctions { path: OWN_FILE, offsets };
        let target = Target::Probe { event: None, offset: offsets[0] };
        Self::on_functions(
            link_type::UPROBE_MULTI,
            "link_uprobes",
            attach_type::TRACE_UPROBE_MULTI,
            options,
            target,
        )
    }

    fn on_kernel_functions(functions: &[&CStr]) -> io::Result<Self> {
        let options = Options::KernelFunctions(functions);
        Self::on_functions(
            link_type::KPROBE_MULTI,
            "link_kprobes",
            attach_type::TRACE_KPROBE_MULTI,
            options,
            Target::Kernel,
        )
    }

    fn on_functions(
        kind: u32,
        name: &str,
        attach_type: u32,
        options: Options<'_>,
        target: Target,
    ) -> io::Result<Self> {
        let ready = ProgramSpec::ready(program_type::KPROBE)?;
        let program = Program::load(&ProgramSpec { name, attach_type, ..ready })?;
        let place = Place { options, ..Place::of(attach_type) };
        Self::attach(kind, program, place, target)
    }

    /// A probe on this function of the kernel, by a perf event.
    pub(super) fn kprobe_on(program: Program, function: &CStr) -> io::Result<Self> {
        Self::by_probe(program, "kprobe", function, 0, false)
    }

    fn on_probe(pmu: &str, place: &CStr, offset: u64, on_return: bool) -> io::Result<Self> {
        let program = Program::ready(program_type::KPROBE, &format!("link_{pmu}"))?;
        Self::by_probe(program, pmu, place, offset, on_return)
    }

    fn by_probe(program: Program, pmu: &str, place: &CStr, offset: u64, on_return: bool) -> io::Result<Self> {
        let pmu = probe::pmu(pmu)?;
        let mut link = Self::on_event(program, &Event::Probe { pmu, place, offset, on_return })?;
        link.at_offset(offset);
        Ok(link)
    }

    fn on_event(program: Program, event: &Event<'_>) -> io::Result<Self> {
        let opened =
            sys::perf_event_open(event).map_err(|error| failed_to("open a perf event".to_owned(), error))?;
        let place = Place::at(opened.as_fd(), attach_type::PERF_EVENT);
        Self::attach(link_type::PERF_EVENT, program, place, Target::Event(opened))
    }
}
