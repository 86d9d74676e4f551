//! Orphans, and objects held otherwise than by a process: by a link, at a hook, in a map.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::process::Command;

use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::model::{Kind, Snapshot};

use super::SOON;
use super::found::{assert_owned, enricher, held_by, owner, owners, pids, word};
use super::helper;
use super::loader::{Loader, NAMES};
use super::scene::{Bpffs, Group};
use test_support::objects::{
    self, Cgroup, Direction, Map, Network, Program, uapi, wait_until, wait_until_gone,
};
use test_support::running::Running;

/// Counts orphans relative to those at the start: other programs can have some, too.
struct Counting {
    enricher: Enricher,
    before: BTreeMap<&'static str, usize>,
}

impl Counting {
    fn new() -> Self {
        let mut counting = Self { enricher: enricher(NameCache::default(), true), before: BTreeMap::new() };
        // Objects of others that are being freed are orphans for a moment.
        wait_until("the numbers are stable", SOON, || {
            let (one, other) = (counting.enricher.read(), counting.enricher.read());
            counting.before = unheld(&one).unwrap_or_default();
            Ok(!counting.before.is_empty() && unheld(&other).as_ref() == Some(&counting.before))
        })
        .expect("other programs orphan nothing");
        counting
    }

    /// Waits until there are this many more orphans than at the start, and returns the snapshot.
    #[track_caller]
    fn until(&mut self, programs: usize, maps: usize, links: usize) -> Snapshot {
        self.until_so(programs, maps, links, |_| true)
    }

    /// The same, until the snapshot also satisfies a condition.
    #[track_caller]
    fn until_so(
        &mut self,
        programs: usize,
        maps: usize,
        links: usize,
        is_so: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        let mut wanted = self.before.clone();
        for (kind, more) in [("program", programs), ("map", maps), ("link", links)] {
            *wanted.get_mut(kind).expect("it is counted") += more;
        }
        let mut found = None;
        let mut counted = None;
        let agreed = wait_until("there are as many orphans", SOON, || {
            let snapshot = self.enricher.read();
            counted = unheld(&snapshot);
            let agrees = counted.as_ref() == Some(&wanted) && is_so(&snapshot);
            found = Some(snapshot);
            Ok(agrees)
        });
        assert!(
            agreed.is_ok(),
            "{wanted:?} are expected and {counted:?} are counted, or the condition does not hold"
        );
        found.expect("it was read")
    }
}

/// Returns the number of orphans of each kind; `None` if it is not known.
fn unheld(snapshot: &Snapshot) -> Option<BTreeMap<&'static str, usize>> {
    snapshot.totals.iter().map(|total| Some((total.kind.as_str(), total.orphaned?))).collect()
}

pub(crate) fn in_flight() {
    let mut counting = Counting::new();
    let group = Group::nameless("sent");
    let loader = Loader::begin(&group);
    let made = loader.made;
    counting.until(0, 0, 0);
    let socket = loader.send_and_exit();
    // The link holds the program and its map, though nothing holds the link.
    counting.until_so(0, 0, 1, |snapshot| {
        made.all().iter().all(|&(kind, id)| held_by(snapshot, kind, id).is_empty())
            && owners(snapshot, made) == ["kernel kernel"; 3]
    });
    let receiver = helper::ready("receiver", socket.try_clone().expect("there is a descriptor left"));
    let snapshot = counting.until(0, 0, 0);
    assert_eq!(pids(&snapshot, Kind::Link, made.link), [receiver.0.id()]);
    drop((receiver, socket));
    made.wait_until_gone();
    assert_eq!(owners(&counting.until(0, 0, 0), made), [""; 0]);

    // Objects that are dropped in flight are freed.
    let loader = Loader::begin(&group);
    let made = loader.made;
    let socket = loader.send_and_exit();
    counting.until(0, 0, 1);
    drop(socket);
    made.wait_until_gone();
    assert_eq!(owners(&counting.until(0, 0, 0), made), [""; 0]);
}

pub(crate) fn by_link() {
    let mut counting = Counting::new();
    let (group, bpffs) = (Group::nameless("linked"), Bpffs::new());
    let directory = bpffs.make("agent");
    let made = Loader::pinning(&group, &directory).exit();
    for name in &NAMES[..2] {
        fs::remove_file(directory.join(name)).expect("it is there");
    }
    // A program that lists objects by id holds each for a moment.
    let snapshot = counting.until_so(0, 0, 0, |snapshot| {
        let rows = |(kind, id)| held_by(snapshot, kind, id);
        !made.all().into_iter().flat_map(rows).any(|row| row.starts_with("process "))
    });
    assert_owned(&snapshot, made, &format!("pin {}", directory.display()));
    for (kind, id) in [(Kind::Program, made.program), (Kind::Map, made.map)] {
        assert_eq!(held_by(&snapshot, kind, id), [""; 0], "only the link holds it");
    }
    fs::remove_file(directory.join(NAMES[2])).expect("it is there");
    made.wait_until_gone();
    assert_eq!(owners(&counting.until(0, 0, 0), made), [""; 0]);
}

/// Loads a program of this type. The descriptors of this process do not count.
fn program(kind: u32, name: &str) -> Program {
    Program::ready(kind, name).expect("it can be loaded")
}

/// Returns whether a program is attached to this hook only, and owned by the kernel.
fn is_attached(snapshot: &Snapshot, id: u32, at: &str) -> bool {
    let hooks = &snapshot.hooks.as_ref().expect("it was waited for").hooks;
    let found: Vec<_> =
        hooks.iter().filter(|hook| hook.prog_id == Some(id)).map(|hook| &*hook.hook).collect();
    found == [at] && owner(snapshot, Kind::Program, id).is_some_and(|owner| word(&owner) == "kernel kernel")
}

/// Returns whether programs of a type count as held, since their attachments could not be queried.
fn is_unqueryable(snapshot: &Snapshot, kind: u32) -> bool {
    snapshot.hooks.as_ref().expect("it was waited for").unqueryable.contains(&kind)
}

pub(crate) fn by_hooks() {
    let mut counting = Counting::new();
    let cgroup = Cgroup::new().expect("it can be made");
    let attached = program(uapi::program_type::CGROUP_SKB, "owners_cgroup");
    let id = attached.id();
    counting.until(1, 0, 0);
    attached.attach_to_cgroup(&cgroup).expect("it can be attached");
    drop(attached);
    counting.until_so(0, 0, 0, |snapshot| is_attached(snapshot, id, "cgroup_inet_ingress"));
    drop(cgroup);
    wait_until_gone(objects::Kind::Program, &[id], SOON).expect("its cgroup is gone");
    counting.until_so(0, 0, 0, |snapshot| owner(snapshot, Kind::Program, id).is_none());
    by_hook(&mut counting, uapi::program_type::XDP, "xdp", Program::attach_xdp);
}

pub(crate) fn by_filter() {
    let attach = |program: &Program| program.attach_filter(Direction::In, 1);
    by_hook(&mut Counting::new(), uapi::program_type::SCHED_CLS, "tc_ingress", attach);
}

/// Asserts that a hook in a network namespace holds a program as long as the namespace exists.
fn by_hook(counting: &mut Counting, kind: u32, hook: &str, attach: fn(&Program) -> std::io::Result<()>) {
    let attached = program(kind, "owners_network");
    let id = attached.id();
    let is_queried = !is_unqueryable(&counting.enricher.read(), kind);
    counting.until(usize::from(is_queried), 0, 0);
    let (process, network) = Network::new_with(|_| {
        attach(&attached)?;
        // It makes the namespace visible in /proc.
        Ok(Running(Command::new("sleep").arg("600").spawn()?))
    })
    .expect("it can be attached");
    drop(attached);
    counting.until_so(0, 0, 0, |snapshot| is_attached(snapshot, id, hook));
    drop((process, network));
    wait_until_gone(objects::Kind::Program, &[id], SOON).expect("its namespace is gone");
    counting.until_so(0, 0, 0, |snapshot| owner(snapshot, Kind::Program, id).is_none());
}

pub(crate) fn by_array() {
    let mut counting = Counting::new();
    let bpffs = Bpffs::new();
    let array = Map::ready(uapi::map_type::PROG_ARRAY, "owners_array").expect("it can be made");
    let tail = program(uapi::program_type::CGROUP_SKB, "owners_tail");
    let (array_id, tail_id) = (array.id(), tail.id());
    let pin = array.pin(&bpffs.make("agent").join("array")).expect("it can be pinned");
    counting.until(1, 0, 0);
    let number = tail.fd().as_raw_fd().to_ne_bytes();
    array.insert(&0_u32.to_ne_bytes(), &number).expect("it fits");
    drop((array, tail));
    let snapshot = counting.until(0, 0, 0);
    let contents = &snapshot.hooks.as_ref().expect("it was waited for").contents;
    assert!(contents.iter().any(|content| (content.map_id, content.id) == (array_id, tail_id)));
    drop(pin);
    // The array must not be opened while the kernel clears it.
    wait_until_gone(objects::Kind::Map, &[array_id], SOON).expect("nothing holds it");
    wait_until_gone(objects::Kind::Program, &[tail_id], SOON).expect("nothing holds it");
    counting.until(0, 0, 0);
}
