//! How full maps are and what they take, which maps a program uses and what it was made for: what the reader asks beside the
//! information that every object has.

use std::sync::Arc;

use bpf_metrics_exporter::kernel::{Options, Reader, ReaderChoice, release};
use bpf_metrics_exporter::model::{Map as Found, Program as FoundProgram, ReaderKind, Snapshot};

use super::objects::{
    Filled, Map, MapSpec, Program, Shape, every_aimed_program, every_countable_map, every_map_type,
    every_uncounted_map, fdinfo, if_possible, uapi,
};
use super::read;
use uapi::{map_flag, map_type as kind};

/// A reader that goes by ids.
fn walk() -> Reader {
    let reader = ReaderChoice::Only(ReaderKind::Walk);
    Reader::new(Options { reader, ..Options::default() })
}

/// The map of a snapshot that has this id.
fn map(snapshot: &Snapshot, id: u32) -> &Found {
    let maps = snapshot.maps.as_ref().expect("maps can be listed");
    maps.iter().find(|map| map.facts.id == id).unwrap_or_else(|| panic!("map {id} is not found"))
}

/// The program of a snapshot that has this id.
fn program(snapshot: &Snapshot, id: u32) -> &FoundProgram {
    let programs = snapshot.programs.as_ref().expect("programs can be listed");
    programs.iter().find(|program| program.facts.id == id).expect("the program is found")
}

/// What the kernel says of a map's memory by another way, now.
fn memory(map: &Map) -> u64 {
    let memory = fdinfo(map.fd(), "memlock").expect("an open file has an fdinfo");
    memory.and_then(|memory| memory.parse().ok()).expect("every kernel says how much memory a map takes")
}

/// Whether a map is frozen, by another way.
fn frozen(map: &Map) -> bool {
    fdinfo(map.fd(), "frozen").expect("an open file has an fdinfo").as_deref() == Some("1")
}

/// An empty hash with keys of four bytes.
fn hash(kind: u32, value_size: u32, max_entries: u32, flags: u32) -> Map {
    let shape = Shape { kind, key_size: 4, value_size, max_entries, flags, extra: 0 };
    Map::create(&MapSpec { name: "occupied", shape, inner: None, types: None })
        .expect("a hash can be created")
}

pub(crate) fn every_map_has_its_memory() {
    let empty: Vec<_> = every_map_type().into_iter().filter_map(|(_, map)| map.ok()).collect();
    let uncounted = every_uncounted_map().into_iter().filter_map(|(_, map)| if_possible(map));
    let countable = every_countable_map().into_iter().filter_map(|(_, map)| if_possible(map));
    let filled: Vec<_> = uncounted.chain(countable).collect();
    let snapshot = read();
    for made in empty.iter().chain(filled.iter().map(Filled::map)) {
        let found = map(&snapshot, made.id());
        assert_eq!(found.mem, Some(memory(made)), "{:?}", made.shape());
        assert_eq!(found.frozen, Some(frozen(made)), "{:?}", made.shape());
    }
    assert!(empty.len() >= 25 && filled.len() >= 30, "{} and {} could be made", empty.len(), filled.len());
}

pub(crate) fn freezing_is_seen() {
    let frozen_later = Map::ready(kind::ARRAY, "frozen_later").expect("an array can be created");
    let grows = hash(kind::HASH, 8, 10, map_flag::NO_PREALLOC);
    let mut reader = walk();
    let before = reader.read();
    frozen_later.freeze().expect("an array can be frozen");
    grows.freeze().expect("a hash can be frozen");
    // What is frozen stays so, though an array is not asked again.
    let (after, later) = (reader.read(), reader.read());
    for made in [&frozen_later, &grows] {
        assert_eq!(map(&before, made.id()).frozen, Some(false));
        for snapshot in [&after, &later] {
            let found = map(snapshot, made.id());
            assert_eq!((found.frozen, found.mem), (Some(true), Some(memory(made))));
            assert!(Arc::ptr_eq(&found.facts, &map(&before, made.id()).facts), "it is the same map");
        }
    }
}

/// The kinds that take memory for each entry.
const GROWING: [(u32, u32); 6] = [
    (kind::HASH, map_flag::NO_PREALLOC),
    (kind::PERCPU_HASH, map_flag::NO_PREALLOC),
    (kind::LPM_TRIE, 0),
    (kind::DEVMAP, 0),
    (kind::SOCKHASH, 0),
    (kind::DEVMAP_HASH, 0),
];

pub(crate) fn growing_is_seen() {
    let ready = |&(kind, flags): &(u32, u32)| {
        let map = match kind {
            kind::HASH | kind::PERCPU_HASH => Ok(hash(kind, 8, 100, flags)),
            _ => Map::ready(kind, "grows"),
        };
        if_possible(map.and_then(Filled::empty))
    };
    let mut maps: Vec<_> = GROWING.iter().filter_map(ready).collect();
    assert!(maps.len() >= 3, "hashes and tries can be created on every kernel");
    let mut reader = walk();
    let mut agree = |maps: &[Filled]| {
        let snapshot = reader.read();
        let sizes = maps.iter().map(|filled| {
            let found = map(&snapshot, filled.map().id()).mem;
            assert_eq!(found, Some(memory(filled.map())), "{:?}", filled.map().shape());
            found
        });
        sizes.collect::<Vec<_>>()
    };
    let before = agree(&maps);
    // A map of devices takes one by its index, and refuses those that are not there; every machine has the first.
    for filled in &mut maps {
        filled.add(0..40).expect("there is room");
    }
    let full = agree(&maps);
    for filled in &mut maps {
        filled.remove(5..40).expect("they are in");
    }
    let after = agree(&maps);
    // Since 6.4 the kernel says what is in use, before it said what a full map takes.
    if since(6, 4) {
        assert!(before.iter().zip(&full).all(|(before, full)| before < full), "{before:?} {full:?}");
        assert!(after != full, "{full:?} {after:?}");
    }
}

/// Whether this kernel is as young as that.
fn since(major: u32, minor: u32) -> bool {
    let release = release().expect("Linux has /proc");
    let mut numbers = release.split(|end: char| !end.is_ascii_digit()).map(|number| number.parse().ok());
    let mut number = || numbers.next().flatten().expect("a release begins with two numbers");
    (number(), number()) >= (major, minor)
}

pub(crate) fn maps_of_a_program() {
    let maps = [(); 3].map(|()| Map::ready(kind::ARRAY, "used").expect("an array can be created"));
    let [first, second, bound_later] = &maps;
    let using = Program::using("uses_two", &[second, first]).expect("a socket filter can be loaded");
    let free = Program::ready(uapi::program_type::SOCKET_FILTER, "uses_none").expect("it can be loaded");
    let mut reader = walk();
    let before = reader.read();
    assert_eq!(program(&before, using.id()).facts.map_ids, Some(vec![first.id(), second.id()]));
    assert_eq!(program(&before, free.id()).facts.map_ids, Some(Vec::new()), "none is not unknown");

    // Kernels before 5.10 cannot bind.
    let Some(()) = if_possible(using.bind(bound_later)) else { return };
    let (after, later) = (reader.read(), reader.read());
    let [before, after, later] =
        [&before, &after, &later].map(|snapshot| &program(snapshot, using.id()).facts);
    assert_eq!(after.map_ids, Some(maps.iter().map(Map::id).collect()));
    let identity = |facts: &bpf_metrics_exporter::model::ProgramFacts| {
        (facts.id, facts.loaded_at, facts.loaded_at_boot_ns, facts.tag)
    };
    assert_eq!(identity(before), identity(after), "it is the same program");
    assert_eq!((&before.name, before.mem), (&after.name, after.mem));
    assert!(Arc::ptr_eq(after, later), "it is read again once");
    using.bind(bound_later).expect("binding once more changes nothing");
    assert!(Arc::ptr_eq(later, &program(&reader.read(), using.id()).facts));
}

pub(crate) fn targets_of_programs() {
    let aimed: Vec<_> = every_aimed_program()
        .into_iter()
        .filter_map(|(way, aimed)| Some((way, if_possible(aimed)?)))
        .collect();
    let snapshot = read();
    for (way, aimed) in &aimed {
        let found = program(&snapshot, aimed.program().id()).facts.attach_to.as_deref();
        // Of `struct_ops` the kernel tells the structure, and the name is of a member.
        let told = since(6, 0) && *way != "struct_ops";
        assert_eq!(found, told.then_some(aimed.attach_to()), "{way}");
    }
    assert!(aimed.len() >= 3, "only {aimed:#?} could be made");
    let aimless = Program::ready(uapi::program_type::SOCKET_FILTER, "aimless").expect("it can be loaded");
    assert_eq!(program(&read(), aimless.id()).facts.attach_to, None);
}
