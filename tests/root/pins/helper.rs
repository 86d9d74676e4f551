//! Other processes that tests need: this program in a role.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};

use super::{cgroups, floods};
use test_support::objects::{Map, Mount, uapi};

/// Environment variable with the role.
pub(crate) const ROLE: &str = "ROOT_PINS_ROLE";

/// Environment variable with a path for the role.
pub(crate) const ARGUMENT: &str = "ROOT_PINS_ARGUMENT";

/// Plays the role of this process, if it has one.
pub(crate) fn run() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let argument = PathBuf::from(std::env::var_os(ARGUMENT).expect("each role has one"));
    match &*role {
        "loader" => load_and_leave(&argument),
        "mounts" => mount_for_itself(&argument),
        "enters" => enter_mounts(&argument),
        "cgroup-loader" => {
            cgroups::enter(argument.parent().expect("it is a file in a directory"));
            load_and_leave(&wait_for_line());
        }
        "measured-reader" => floods::measure(&argument),
        "flat" => floods::create_flat(&argument),
        "slow" => floods::create_slow(&argument),
        "nested" => floods::create_nested(&argument),
        "cgroup-namespace" => cgroups::in_namespace(&argument),
        other => panic!("there is no role {other}"),
    }
    Some(ExitCode::SUCCESS)
}

/// Pins a map, writes its id, and exits without removing the pin.
fn load_and_leave(path: &Path) {
    let map = Map::ready(uapi::map_type::ARRAY, "left").expect("it can be made");
    std::mem::forget(map.pin(path).expect("it can be pinned"));
    println(&map.id().to_string());
}

/// Mounts a bpffs in a mount namespace of its own, and pins a map in a directory of it. For each line of its input it does so again,
/// with the same map, and at the end of its input it exits.
fn mount_for_itself(at: &Path) {
    let map = Map::ready(uapi::map_type::ARRAY, "elsewhere").expect("it can be made");
    let mut mounted = Vec::new();
    let mut line = String::from("\n");
    while !line.is_empty() {
        crate::unshare_mounts();
        let mount = Mount::visible(c"bpf", at).expect("it can be mounted");
        fs::create_dir(at.join("agent")).expect("it can be made");
        let pin = map.pin(&at.join("agent/map")).expect("it can be pinned");
        mounted.push((pin, mount));
        println(&map.id().to_string());
        line.clear();
        std::io::stdin().read_line(&mut line).expect("it is a pipe");
    }
    // The pins and mounts end with the mount namespaces.
    std::mem::forget(mounted);
}

/// Enters a mount namespace, and waits for its input to end.
fn enter_mounts(namespace: &Path) {
    let namespace = fs::File::open(namespace).expect("root may");
    setns(namespace, CloneFlags::CLONE_NEWNS).expect("root may");
    println("entered");
    let _end = std::io::stdin().read_to_end(&mut Vec::new()).expect("it is a pipe");
}

fn wait_for_line() -> PathBuf {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("it is a pipe");
    line.trim_end().into()
}

pub(crate) fn println(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("the parent reads");
}
