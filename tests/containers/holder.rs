//! This program as it runs in a container: it holds a map and a program until it is killed. The container has another root; the host's
//! is at [`HOST`].

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use test_support::objects::uapi::{map_type, program_type};
use test_support::objects::{Map, Program};

/// Path of the host's root in a container.
pub(crate) const HOST: &str = "/host";

/// Environment variable with the name of the objects to hold.
pub(crate) const VARIABLE: &str = "HOLD_OBJECTS_NAMED";

/// Returns the command of a container that holds objects of this name.
pub(crate) fn command(name: &str) -> Vec<String> {
    let program = std::env::current_exe().expect("Linux has /proc");
    let program = program.to_str().expect("it is text").to_owned();
    let command = ["/bin/busybox", "chroot", HOST, "/usr/bin/env", &format!("{VARIABLE}={name}"), &program];
    command.map(str::to_owned).to_vec()
}

/// Returns the name of the objects to hold, in such a process.
pub(crate) fn wanted() -> Option<String> {
    std::env::var_os(VARIABLE).map(OsString::into_string).map(|name| name.expect("it is text"))
}

/// Holds them until it is killed.
pub(crate) fn hold(name: &str) -> ExitCode {
    let _map = Map::ready(map_type::ARRAY, name).expect("maps can be made");
    let _program = Program::ready(program_type::SOCKET_FILTER, name).expect("programs can be loaded");
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
