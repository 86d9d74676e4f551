//! A time namespace shifts the time since boot that a process reads, but not what it reports of objects and processes.

use std::fs;
use std::thread;
use std::time::Duration;

use bpf_metrics_exporter::model::{Kind, Process, Snapshot};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use test_support::objects::Program;
use test_support::objects::uapi::program_type;
use test_support::readers;

use super::{helper, holders};

/// `CLONE_NEWTIME`, since 5.6.
const NEW_TIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// Seconds and nanoseconds by which the namespace is ahead: no multiple of a tick.
const AHEAD: &str = "boottime 100000000 123456789";

/// The longest tick of `/proc`: each side rounds to its own.
const TICK: u64 = 10_000_000;

/// Takes snapshots in a process with a time namespace of its own.
fn in_time_namespace() -> Vec<Snapshot> {
    let start = || {
        unshare(NEW_TIME).expect("root may");
        fs::write(format!("/proc/{}/timens_offsets", gettid()), AHEAD).expect("nothing runs in it yet");
        helper::snapshots("timed")
    };
    thread::scope(|scope| scope.spawn(start).join().expect("it starts"))
}

pub(crate) fn namespace() {
    let program = Program::ready(program_type::XDP, "timed").expect("the kernel has XDP");
    let map = holders::array();
    let holder = holders::sleeping(map.fd());
    let found = |snapshot: &Snapshot| {
        let holders = holders::holders(snapshot, Kind::Map, map.id());
        holders.into_iter().find(|process| process.pid == holder.0.id()).expect("it holds the map")
    };
    let mut enrichers = holders::enrichers();
    holders::wait_for(&mut enrichers, Kind::Map, map.id(), vec![holder.0.id()]);
    let ours = enrichers[0].read();
    let loaded_at = readers::program(&ours, program.id()).facts.loaded_at;
    let Process { started_at_boot_ns: started_at, executable_name: executable, .. } = found(&ours);
    let inside = in_time_namespace();
    assert_eq!(inside.len(), 2, "one for each backend");
    assert_eq!(
        found(&inside[0]),
        found(&inside[1]),
        "in `/proc` it is shifted, in the records of the iterator not"
    );
    for snapshot in inside {
        let process = found(&snapshot);
        assert_eq!(process.executable_name, executable, "it was found in `/proc`");
        let off = process.started_at_boot_ns.abs_diff(started_at);
        assert!(off < TICK, "{process:?} was started {off} ns apart from {started_at}");
        assert_eq!(
            readers::program(&snapshot, program.id()).facts.loaded_at,
            loaded_at,
            "reported by the kernel"
        );
        let booted = snapshot.clock.booted_at.duration_since(ours.clock.booted_at).unsigned_abs();
        assert!(booted < Duration::from_secs(1), "{:?} is not {:?}", snapshot.clock, ours.clock);
        let age = snapshot.taken_at.since(ours.taken_at);
        assert!(snapshot.taken_at > ours.taken_at && age < super::SOON, "{age:?}");
    }
}
