//! Objects and owners for the tests of this module.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    BootTime, Btf, Collector, HeldBy, Holder, Identity, Link, LinkFacts, Map, MapFacts, ObjectType, Owner,
    Part, Pod, Process, Program, ProgramFacts, Snapshot, Tag, WallClock,
};

pub(super) fn second(second: u64) -> BootTime {
    BootTime::from_secs(second)
}

pub(super) fn snapshot(programs: Vec<Program>, maps: Vec<Map>, links: Vec<Link>) -> Snapshot {
    let mut snapshot = Snapshot {
        programs: Some(programs),
        maps: Some(maps),
        links: Some(links),
        btfs: Some(Vec::new()),
        ..Snapshot::begun(second(1_000), second(900), WallClock::default())
    };
    snapshot.run_stats.by_exporter = true;
    snapshot
}

pub(super) fn program(id: u32, map_ids: &[u32]) -> Program {
    let facts = ProgramFacts {
        id,
        name: format!("program_{id}"),
        program_type: ObjectType { number: 3, name: None },
        tag: Tag([0; 8]),
        gpl_compatible: true,
        loaded_at: second(id.into()),
        uid: 0,
        btf_id: None,
        size_jitted: 0,
        size_translated: 0,
        mem: Some(4096),
        verified_instructions: None,
        attach_to: None,
        map_ids: Some(map_ids.to_vec()),
    };
    Program {
        facts: Arc::new(facts),
        run_time: None,
        runs: None,
        recursion_misses: None,
        capabilities: None,
        metadata: None,
        owner: None,
    }
}

pub(super) fn map(id: u32) -> Map {
    let facts = MapFacts {
        id,
        name: format!("map_{id}"),
        map_type: ObjectType { number: 1, name: None },
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        flags: 0,
        btf_id: None,
        first_seen: second(1_000),
    };
    Map {
        facts: Arc::new(facts),
        frozen: None,
        mem: Some(100),
        entries: None,
        backlog: None,
        memory_cgroup: None,
        owner: None,
    }
}

pub(super) fn link(id: u32, prog_id: Option<u32>) -> Link {
    let facts = LinkFacts {
        id,
        link_type: ObjectType { number: 1, name: None },
        prog_id,
        attach_type: None,
        target: None,
        netns: None,
        first_seen: second(1_000),
    };
    Link { facts: Arc::new(facts), missed: None, owner: None }
}

pub(super) fn btf(id: u32, kernel: bool) -> Arc<Btf> {
    Arc::new(Btf { id, name: None, kernel: Some(kernel), size: 1, first_seen: second(1_000) })
}

pub(super) fn process(pid: u32) -> Identity {
    let name = format!("process_{pid}");
    let process = Process { pid, started_at_boot_ns: pid.into(), name, executable_name: None };
    Identity { process: Some(process), ..Identity::default() }
}

pub(super) fn unit(name: &str) -> Identity {
    Identity { unit: Some(name.to_owned()), ..Identity::default() }
}

pub(super) fn pod(key: &str) -> Identity {
    let pod = Pod { key: key.to_owned(), uid: None, namespace: None, name: None };
    Identity { pod: Some(pod), ..Identity::default() }
}

pub(super) fn pin(directory: &str) -> Identity {
    Identity { pin: Some(directory.to_owned()), ..Identity::default() }
}

pub(super) fn holder(id: u32, held_by: HeldBy, identity: Identity) -> Holder {
    Holder { id, held_by, owner: Arc::new(Owner::from(identity)) }
}

/// How the reading of a part went.
pub(super) fn collector(part: Part, success: bool) -> Collector {
    Collector { part, reader: None, duration: Duration::ZERO, age: Duration::ZERO, success }
}
