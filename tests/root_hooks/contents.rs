//! Maps that hold other objects, and what hangs at maps.

use std::os::fd::AsRawFd;

use bpf_metrics_exporter::model::{Content, Kind};

use super::looks::{look, words};
use super::objects::{Link, Map, MapSpec, Program, ProgramSpec, Shape, Target, if_possible, uapi};

fn number(fd: &impl AsRawFd) -> [u8; 4] {
    fd.as_raw_fd().to_ne_bytes()
}

/// What a map holds.
fn contents(map: u32) -> Vec<(Kind, u32)> {
    let content = |content: &Content| (content.map_id == map).then_some((content.kind, content.id));
    look(false).contents.iter().filter_map(content).collect()
}

pub(crate) fn held() {
    let kinds = uapi::map_type::ARRAY_OF_MAPS..=uapi::map_type::HASH_OF_MAPS;
    let mut array = Map::ready(uapi::map_type::PROG_ARRAY, "hooks_programs").expect("it can be made");
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "hooks_tail").expect("it can be loaded");
    assert_eq!(contents(array.id()), []);
    // The last one is read too, and each program told once.
    let last = array.shape().max_entries - 1;
    for key in [0, last] {
        array.insert(&key.to_ne_bytes(), &number(&program.fd())).expect("it fits");
    }
    assert_eq!(contents(array.id()), [(Kind::Program, program.id())]);
    for kind in kinds {
        array = Map::ready(kind, "hooks_maps").expect("it can be made");
        let inner = Map::ready(uapi::map_type::ARRAY, "inner").expect("it can be made");
        let key = vec![0; array.shape().key_size as usize];
        array.insert(&key, &number(&inner.fd())).expect("it fits");
        assert_eq!(contents(array.id()), [(Kind::Map, inner.id())]);
        array.delete(&key).expect("it is there");
        assert_eq!(contents(array.id()), []);
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
    let spec = MapSpec { name: "hooks_cpumap", shape, inner: None, types: None };
    let map = Map::create(&spec).expect("it can be made");
    let value = [64_u32.to_ne_bytes(), number(&program.fd())].concat();
    map.insert(&0_u32.to_ne_bytes(), &value).expect("it fits");
    assert_eq!(contents(map.id()), [(Kind::Program, program.id())]);
}

pub(crate) fn too_large() {
    let shape = Shape {
        kind: uapi::map_type::PROG_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1 << 18,
        ..Shape::default()
    };
    let spec = MapSpec { name: "hooks_large", shape, inner: None, types: None };
    let _map = Map::create(&spec).expect("it can be made");
    assert!(!look(true).complete);
}

pub(crate) fn sockets() {
    let map = Map::ready(uapi::map_type::SOCKMAP, "hooks_sockets").expect("it can be made");
    let program = Program::ready(uapi::program_type::SK_MSG, "hooks_message").expect("it can be loaded");
    program.attach_to_sockets(&map).expect("it can be attached");
    assert_eq!(words(&look(false), &[program.id()]), [format!("sk_msg_verdict map {} #0 0 -", map.id())]);
}

pub(crate) fn operations() {
    // Kernels before 6.4 know no link of them.
    if let Some(link) = if_possible(Link::struct_ops()) {
        let Target::Map(map) = link.target() else { panic!("it is a map") };
        found(map, Some(link.id()));
    }
    let map = Map::operations("hooks_struct", 0).expect("it can be registered");
    found(&map, None);
    map.delete(&0_u32.to_ne_bytes()).expect("it can be taken back");
    assert!(!look(false).hooks.iter().any(|hook| hook.map_id == Some(map.id())));
}

/// A map of operations is at a hook, and holds its three programs.
fn found(map: &Map, link: Option<u32>) {
    let look = look(false);
    let hooks: Vec<_> = look.hooks.iter().filter(|hook| hook.map_id == Some(map.id())).collect();
    let [hook] = hooks[..] else { panic!("it is at one hook: {hooks:?}") };
    assert_eq!((&*hook.hook, hook.target.as_deref()), ("struct_ops", Some("tcp_congestion_ops")));
    assert_eq!((hook.prog_id, hook.link_id), (None, link));
    let programs = look.contents.iter().filter(|content| content.map_id == map.id());
    let programs: Vec<_> = programs.filter(|content| content.kind == Kind::Program).collect();
    assert_eq!(programs.len(), 3, "{programs:?}");
}
