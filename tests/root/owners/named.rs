//! Names of processes as owners: scripts, many processes of one name, and restarts.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::model::{HeldBy, Kind, OwnerKind, Snapshot};

use super::SOON;
use super::found::{enricher, owner, total};
use super::helper;
use super::holders::copy;
use super::loader::{command_in_group, enter_group};
use super::scene::Group;
use tempfile::TempDir;
use test_support::objects::uapi::map_type;
use test_support::objects::{Map, wait_until};
use test_support::running::Running;

const SCRIPT: &str = "HOLDS_BY_SCRIPT";

/// Processes that hold one map.
const HOLDERS: usize = 30;

/// In a helper: starts processes of a script that hold a map with the name of the script, and keeps them until it is killed.
pub(crate) fn start_scripts() {
    enter_group();
    let script = PathBuf::from(std::env::var_os(SCRIPT).expect("it is given"));
    let name = script.file_name().map(OsString::from).expect("it has a name");
    let map = Map::ready(map_type::ARRAY, name.to_str().expect("it is text")).expect("it can be made");
    let start = |_| {
        let mut command = Command::new(&script);
        helper::wait_for(command.stdin(Stdio::piped()).stderr(copy(map.fd())))
    };
    let _running: Vec<Running> = (0..HOLDERS).map(start).collect();
    drop(map);
    helper::report_ready();
    helper::forever();
}

fn start(script: &Path, group: &Group) -> Running {
    helper::wait_for(command_in_group("scripts", group).env(SCRIPT, script))
}

fn map_named(snapshot: &Snapshot, name: &str) -> Option<u32> {
    let maps = snapshot.maps.iter().flatten();
    maps.filter(|map| map.facts.name == name).map(|map| map.facts.id).next()
}

pub(crate) fn scripts() {
    let group = Group::nameless("scripts");
    let directory = TempDir::with_prefix("root-owners-").expect("there is room");
    let name = format!("snoop{}", std::process::id());
    let script = directory.path().join(&name);
    fs::write(&script, "#!/bin/sh\necho ready\nread line\n").expect("there is room");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is our own");
    let shell = fs::canonicalize("/bin/sh").expect("there is a shell");
    let shell = shell.file_name().and_then(|name| name.to_str());

    let mut enricher = enricher(NameCache::default(), false);
    let mut keys = Vec::new();
    for _restart in 0..2 {
        let running = start(&script, &group);
        let snapshot = enricher.read();
        let id = map_named(&snapshot, &name).expect("it is held");
        let its = owner(&snapshot, Kind::Map, id).expect("it is held");
        assert_eq!((its.kind(), its.name()), (OwnerKind::Process, &*name), "not the interpreter");
        assert!(its.process.is_none(), "all processes of this name are one");
        assert_eq!(total(&snapshot, &its).expect("it has a map").maps, Some(1));
        let named = snapshot.owners.iter().filter(|total| total.owner.name() == name);
        assert_eq!(named.count(), 1);
        let holders = snapshot.holders.as_ref().expect("root may know").maps.iter();
        let holders = holders.filter(|holder| (holder.id, holder.held_by) == (id, HeldBy::Process));
        let processes: Vec<_> = holders.filter_map(|holder| holder.owner.process.as_ref()).collect();
        assert_eq!(processes.len(), HOLDERS);
        for process in processes {
            assert_eq!((&*process.name, process.executable_name.as_deref()), (&*name, shell));
        }
        keys.push(its.key());
        drop(running);
        wait_until("the scripts have exited", SOON, || Ok(map_named(&enricher.read(), &name).is_none()))
            .expect("their standard input ends");
    }
    assert_eq!(keys[0], keys[1], "a restart is the same owner");
}
