//! This program as it runs in a container, in a [`Role`]. The container has another root; the host's is at [`HOST`].
//! Entry points: [`command`], and [`run`] in the container.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use test_support::objects::uapi::{map_type, program_type};
use test_support::objects::{Map, Program};

/// Path of the host's root in a container.
pub(crate) const HOST: &str = "/host";

/// What a process in a container does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Holds a map and a program until it is killed.
    Hold,
    /// Loads a program, unloads it, and stays until it is killed.
    Stay,
    /// Loads a program, and ends at once.
    Exit,
}

impl Role {
    const ALL: [Self; 3] = [Self::Hold, Self::Stay, Self::Exit];

    /// Environment variable with the name of the objects.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Hold => "HOLD_OBJECTS_NAMED",
            Self::Stay => "LOAD_A_PROGRAM_AND_STAY",
            Self::Exit => "LOAD_A_PROGRAM_AND_EXIT",
        }
    }
}

/// Returns the command of a container for a role with objects of this name.
pub(crate) fn command(role: Role, name: &str) -> Vec<String> {
    let program = std::env::current_exe().expect("Linux has /proc");
    let program = program.to_str().expect("it is text").to_owned();
    let variable = format!("{}={name}", role.variable());
    let command = ["/bin/busybox", "chroot", HOST, "/usr/bin/env", &variable, &program];
    command.map(str::to_owned).to_vec()
}

/// Runs in such a process.
pub(crate) fn run() -> Option<ExitCode> {
    let wanted = |role: Role| std::env::var_os(role.variable()).map(|name| (role, name));
    let (role, name) = Role::ALL.into_iter().find_map(wanted)?;
    let name = name.into_string().expect("it is text");
    let load = || Program::ready(program_type::SOCKET_FILTER, &name).expect("programs can be loaded");
    match role {
        Role::Hold => {
            let _map = Map::ready(map_type::ARRAY, &name).expect("maps can be made");
            let _program = load();
            stay()
        }
        Role::Stay => {
            drop(load());
            stay()
        }
        Role::Exit => {
            let _program = load();
            std::process::exit(0)
        }
    }
}

fn stay() -> ! {
    // Some runtimes create the log with the first line.
    writeln!(std::io::stdout(), "holding").expect("the runtime reads it");
    loop {
        std::thread::park();
    }
}

/// Returns the processes with a descriptor of this object, by `map_id` or `prog_id`.
pub(crate) fn holders(line: &str, id: u32) -> Vec<u32> {
    let wanted = format!("{line}:\t{id}");
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let mut texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        texts.any(|text| text.lines().any(|line| line == wanted))
    };
    super::host::processes().filter(holds).collect()
}
