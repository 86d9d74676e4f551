//! Fingerprints of owners with the same programs and with others.

use std::env;
use std::sync::Arc;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::model::Snapshot;

use super::found::enricher;
use super::helper;
use super::loader::{command_in_group, enter_group};
use super::scene::Group;
use test_support::objects::{Program, ProgramSpec, uapi};
use test_support::running::Running;

/// Environment variable with what the programs of a process return: they differ in nothing else.
const RETURN: &str = "HOLDS_PROGRAMS_THAT_RETURN";

/// Starts a process of this name with programs that return these numbers.
fn start(name: &str, group: &Group, returned: &str) -> Running {
    helper::wait_for(command_in_group("programs", group).env(helper::NAME, name).env(RETURN, returned))
}

/// In such a process.
pub(crate) fn hold() {
    enter_group();
    let numbers = env::var(RETURN).expect("the test says");
    let load = |number: &str| {
        let number = number.parse().expect("a number");
        Program::load(&ProgramSpec::new(uapi::program_type::SOCKET_FILTER, number)).expect("root may")
    };
    let _programs: Vec<Program> = numbers.split(',').map(load).collect();
    helper::report_ready();
    helper::forever();
}

/// Returns the fingerprint of the owner with this name.
fn of(snapshot: &Snapshot, name: &str) -> Arc<str> {
    let owner = snapshot.owners.iter().find(|total| total.owner.name() == name);
    owner.and_then(|total| total.fingerprint.clone()).unwrap_or_else(|| panic!("{name} has programs"))
}

pub(crate) fn compared() {
    let group = Group::nameless("fingerprints");
    let names = ["one", "same", "more", "less"].map(|word| format!("{word}-{}", std::process::id()));
    let [one, same, more, less] = &names;
    let mut processes = vec![
        start(one, &group, "11,12"),
        start(same, &group, "12,11,12"),
        start(more, &group, "11,12,13"),
        start(less, &group, "11"),
    ];
    let mut enricher = enricher(NameCache::default(), false);
    let snapshot = enricher.read();
    let first = of(&snapshot, one);
    assert_eq!(first, of(&snapshot, same), "ids, order and copies do not matter");
    assert_ne!(first, of(&snapshot, more));
    assert_ne!(first, of(&snapshot, less));
    assert_ne!(snapshot.fingerprint, Some(first.clone()), "the host has all of them");
    processes.push(start(one, &group, "13"));
    let snapshot = enricher.read();
    assert_eq!(of(&snapshot, one), of(&snapshot, more), "another process of the name has another program");
    drop(processes.pop());
    assert_eq!(of(&enricher.read(), one), first, "it is gone");
}
