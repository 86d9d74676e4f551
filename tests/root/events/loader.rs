//! Other processes that load programs: this one in a role.

use std::env;
use std::ffi::CString;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::unistd::Pid;
use test_support::objects::{Program, ProgramSpec, uapi};

/// Environment variables of a loader: its name, the CPU it runs on, and how many programs it loads.
const NAME: &str = "LOADS_PROGRAMS_UNDER_NAME";
const CPU: &str = "LOADS_PROGRAMS_ON_CPU";
const COUNT: &str = "LOADS_PROGRAMS";

/// Starts a process that loads and unloads `count` programs as fast as it can, and ends with some that are still loaded.
pub(crate) fn start(name: &str, cpu: usize, count: u32) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.env(NAME, name).env(CPU, cpu.to_string()).env(COUNT, count.to_string()).stdin(Stdio::null());
    command.spawn().expect("it starts")
}

/// Runs in such a process.
pub(crate) fn run() -> Option<ExitCode> {
    let name = env::var(NAME).ok()?;
    let number = |variable| env::var(variable).ok().and_then(|text| text.parse::<usize>().ok());
    let (cpu, count) = number(CPU).zip(number(COUNT)).expect("the test says");
    prctl::set_name(&CString::new(name).expect("it has no zeros")).expect("every process may");
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("it is small");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("the CPU is online");
    let mut kept = Vec::new();
    for number in 0..count {
        let program = Program::load(&ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0));
        let program = program.expect("root may");
        match number % 100 {
            // Most live for some microseconds, some for a while, and some until the process has ended.
            50 => {
                thread::sleep(Duration::from_millis(1));
                kept.push(program);
            }
            51 => kept.clear(),
            99 => kept.push(program),
            _ => drop(program),
        }
    }
    Some(ExitCode::SUCCESS)
}

/// Loads one program.
pub(crate) fn one() -> Program {
    Program::load(&ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0)).expect("root may")
}
