//! Maps that hold other objects, and programs attached to maps.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{AttachmentScan, Content, Issue, Kind};

use super::scans::{is_at, look, words};
use test_support::objects::{
    self, Link, Map, MapSpec, Program, ProgramSpec, Shape, Target, if_possible, uapi,
};
use test_support::objects::{wait_until, wait_until_gone};
use test_support::running::Running;

const SOON: Duration = Duration::from_secs(20);

/// A map that holds others, and a process that holds it, as descriptors of this process do not count. It is emptied before its last
/// descriptor is closed, and then waited for: opening a program array by id while the kernel clears it can leak it, and a reading
/// opens everything.
struct Holding {
    map: Option<Map>,
    process: Option<Running>,
}

/// Starts a process that holds a descriptor.
fn having(fd: BorrowedFd<'_>) -> Running {
    let stdin = Stdio::from(fd.try_clone_to_owned().expect("there is a descriptor left"));
    Running(Command::new("sleep").arg("600").stdin(stdin).spawn().expect("it starts"))
}

impl Holding {
    fn ready(kind: u32, name: &str) -> Self {
        Self::with(Map::ready(kind, name))
    }

    fn of(name: &str, shape: Shape) -> Self {
        let spec = MapSpec { name, shape, inner: None, types: None };
        Self::with(Map::create(&spec))
    }

    fn with(made: io::Result<Map>) -> Self {
        let map = made.expect("it can be made");
        let process = Some(having(map.fd()));
        Self { map: Some(map), process }
    }

    /// Inserts an object by its descriptor.
    fn put(&self, key: &[u8], value: &impl AsRawFd) {
        self.insert(key, &value.as_raw_fd().to_ne_bytes()).expect("it fits");
    }

    /// Returns its contents in a scan.
    fn contents(&self, look: &AttachmentScan) -> Vec<(Kind, u32)> {
        let content = |content: &Content| (content.map_id == self.id()).then_some((content.kind, content.id));
        look.contents.iter().filter_map(content).collect()
    }
}

impl Deref for Holding {
    type Target = Map;

    fn deref(&self) -> &Map {
        self.map.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        drop(self.process.take());
        let Some(map) = self.map.take() else { return };
        // An array has keys without an element, and refuses to delete those.
        for key in map.keys().into_iter().flatten() {
            let _nothing_there = map.delete(&key);
        }
        let id = map.id();
        drop(map);
        let gone = wait_until_gone(objects::Kind::Map, &[id], SOON);
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

pub(crate) fn held() {
    let array = Holding::ready(uapi::map_type::PROG_ARRAY, "hooks_programs");
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "hooks_tail").expect("it can be loaded");
    assert_eq!(array.contents(&look(false)), []);
    // The last element is read too, and each program is reported once.
    let last = array.shape().max_entries - 1;
    for key in [0, last] {
        array.put(&key.to_ne_bytes(), &program.fd());
    }
    let id = program.id();
    drop(program);
    assert_eq!(array.contents(&look(false)), [(Kind::Program, id)]);
    drop(array);
    wait_until_gone(objects::Kind::Program, &[id], SOON).expect("nothing else held it");

    for kind in uapi::map_type::ARRAY_OF_MAPS..=uapi::map_type::HASH_OF_MAPS {
        let outer = Holding::ready(kind, "hooks_maps");
        let inner = Map::ready(uapi::map_type::ARRAY, "inner").expect("it can be made");
        let key = vec![0; outer.shape().key_size as usize];
        outer.put(&key, &inner.fd());
        let id = inner.id();
        drop(inner);
        assert_eq!(outer.contents(&look(false)), [(Kind::Map, id)]);
        outer.delete(&key).expect("it is there");
        assert_eq!(outer.contents(&look(false)), []);
    }

    let ready = ProgramSpec::ready(uapi::program_type::XDP).expect("it is known");
    let spec = ProgramSpec { attach_type: uapi::attach_type::XDP_CPUMAP, name: "hooks_cpumap", ..ready };
    let program = Program::load(&spec).expect("it can be loaded");
    let shape = Shape {
        kind: uapi::map_type::CPUMAP,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        ..Shape::default()
    };
    let map = Holding::of("hooks_cpumap", shape);
    let value = [64_u32.to_ne_bytes(), program.fd().as_raw_fd().to_ne_bytes()].concat();
    map.insert(&0_u32.to_ne_bytes(), &value).expect("it fits");
    let id = program.id();
    drop(program);
    assert_eq!(map.contents(&look(false)), [(Kind::Program, id)]);
}

pub(crate) fn only_in_doubt() {
    let shape = Shape { kind: uapi::map_type::PROG_ARRAY, key_size: 4, value_size: 4, ..Shape::default() };
    let mut array = Holding::of("hooks_small", Shape { max_entries: 4, ..shape });
    let mut large = Holding::of("hooks_large", Shape { max_entries: 1 << 18, ..shape });
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "hooks_tail").expect("it can be loaded");
    for map in [&array, &large] {
        map.put(&0_u32.to_ne_bytes(), &program.fd());
    }
    let id = program.id();
    let holder = having(program.fd());
    drop(program);
    // A process holds it; for other objects of the host the holder may be unknown for a moment.
    wait_until("no program array is scanned", SOON, || {
        let look = look(false);
        Ok(look.complete && array.contents(&look).is_empty() && large.contents(&look).is_empty())
    })
    .expect("each program has a known holder");
    drop(holder);
    let hooks = Some(Duration::ZERO);
    let options = EnrichOptions { hooks, wait_for_hooks: true, ..EnrichOptions::default() };
    // With iterators, which report the descriptors of every process.
    let mut enricher = Enricher::new(Reader::default(), options, NameCache::default());
    let last = enricher.read();
    let is_too_large = |issue: &Issue| (&*issue.call, &*issue.error) == ("BPF_MAP_LOOKUP_ELEM", "E2BIG");
    assert!(last.issues.iter().any(is_too_large), "{:?}", last.issues);
    let scan = last.hooks.expect("it was waited for");
    assert_eq!(array.contents(&scan), [(Kind::Program, id)]);
    assert!(!scan.complete, "one array is too large, and may be the only holder");
    // A map without a holder is not opened, and holds nothing.
    (array.process, large.process) = (None, None);
    wait_until("arrays without a holder are not scanned", SOON, || {
        let look = enricher.read().hooks.expect("it was waited for");
        Ok(look.complete && array.contents(&look).is_empty())
    })
    .expect("only this process holds them");
}

pub(crate) fn sockets() {
    let map = Map::ready(uapi::map_type::SOCKMAP, "hooks_sockets").expect("it can be made");
    let program = Program::ready(uapi::program_type::SK_MSG, "hooks_message").expect("it can be loaded");
    program.attach_to_sockets(&map).expect("it can be attached");
    assert_eq!(words(&look(false), &[program.id()]), [format!("sk_msg_verdict map {} #0 0 -", map.id())]);
}

pub(crate) fn operations() {
    // Kernels before 6.4 have no link of them.
    if let Some(link) = if_possible(Link::struct_ops()) {
        let Target::Map(map) = link.target() else { panic!("it is a map") };
        found(map, Some(link.id()));
    }
    let map = Map::operations("hooks_struct", 0).expect("it can be registered");
    found(&map, None);
    map.delete(&0_u32.to_ne_bytes()).expect("it can be taken back");
    assert!(!look(false).hooks.iter().any(|hook| hook.map_id == Some(map.id())));
}

/// Asserts that a map of operations is attached to a hook, and holds its three programs.
fn found(map: &Map, link: Option<u32>) {
    let look = look(false);
    let hooks: Vec<_> = look.hooks.iter().filter(|hook| hook.map_id == Some(map.id())).collect();
    let [hook] = hooks[..] else { panic!("it is at one hook: {hooks:?}") };
    assert!(is_at(hook.target.as_ref(), "tcp_congestion_ops") && hook.hook == "struct_ops", "{hook:?}");
    assert_eq!((hook.prog_id, hook.link_id), (None, link));
    let programs = look.contents.iter().filter(|content| content.map_id == map.id());
    let programs: Vec<_> = programs.filter(|content| content.kind == Kind::Program).collect();
    assert_eq!(programs.len(), 3, "{programs:?}");
}
