//! Entries and memory of maps, and the maps and the attach function of programs: all that takes a query besides the object info.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bpf_metrics_exporter::kernel::{Reader, ReaderChoice, ReaderOptions, release};
use bpf_metrics_exporter::model::{Map as Found, Program as FoundProgram, ReaderKind, Snapshot};

use super::read;
use test_support::objects::{
    Filled, Instruction, Map, MapSpec, Program, ProgramSpec, Shape, every_aimed_program, every_countable_map,
    every_map_type, every_uncounted_map, fdinfo, if_possible, uapi,
};
use uapi::{map_flag, map_type as kind};

/// A reader by the id walk that counts the entries of maps up to this size.
fn walk(count_by_walking: Option<u32>) -> Reader {
    let reader = ReaderChoice::Only(ReaderKind::Walk);
    Reader::new(ReaderOptions { reader, count_by_walking, ..ReaderOptions::default() })
}

/// Returns the map with this id.
fn map(snapshot: &Snapshot, id: u32) -> &Found {
    let maps = snapshot.maps.as_ref().expect("maps can be listed");
    maps.iter().find(|map| map.facts.id == id).unwrap_or_else(|| panic!("map {id} is not reported"))
}

/// Returns the program with this id.
fn program(snapshot: &Snapshot, id: u32) -> &FoundProgram {
    let programs = snapshot.programs.as_ref().expect("programs can be listed");
    programs.iter().find(|program| program.facts.id == id).expect("the program is reported")
}

/// Returns the current memory of a map, from its fdinfo.
fn memory(map: &Map) -> u64 {
    let memory = fdinfo(map.fd(), "memlock").expect("an open file has an fdinfo");
    memory.and_then(|memory| memory.parse().ok()).expect("every kernel reports it")
}

/// Returns whether a map is frozen, from its fdinfo.
fn frozen(map: &Map) -> bool {
    fdinfo(map.fd(), "frozen").expect("an open file has an fdinfo").as_deref() == Some("1")
}

/// An empty hash with keys of four bytes.
fn hash(kind: u32, value_size: u32, max_entries: u32, flags: u32) -> Map {
    let shape = Shape { kind, key_size: 4, value_size, max_entries, flags, extra: 0 };
    Map::create(&MapSpec { name: "occupied", shape, inner: None, types: None })
        .expect("a hash can be created")
}

/// The same with this many entries.
fn filled(kind: u32, value_size: u32, max_entries: u32, flags: u32, entries: u32) -> Filled {
    let mut filled =
        Filled::empty(hash(kind, value_size, max_entries, flags)).expect("nothing refuses an empty map");
    filled.add(0..entries).expect("there is room");
    filled
}

pub(crate) fn memory_is_that_of_fdinfo() {
    let empty: Vec<_> = every_map_type().into_iter().filter_map(|(_, map)| map.ok()).collect();
    let uncounted = every_uncounted_map().into_iter().filter_map(|(_, map)| if_possible(map));
    let countable = every_countable_map().into_iter().filter_map(|(_, map)| if_possible(map));
    let filled: Vec<_> = uncounted.chain(countable).collect();
    let snapshot = read(ReaderKind::Walk);
    for made in empty.iter().chain(filled.iter().map(Filled::map)) {
        let found = map(&snapshot, made.id());
        assert_eq!(found.mem, Some(memory(made)), "{:?}", made.shape());
        assert_eq!(found.frozen, Some(frozen(made)), "{:?}", made.shape());
    }
    assert!(empty.len() >= 25 && filled.len() >= 30, "{} and {} could be made", empty.len(), filled.len());
}

pub(crate) fn frozen_maps() {
    let frozen_later = Map::ready(kind::ARRAY, "frozen_later").expect("an array can be created");
    let grows = hash(kind::HASH, 8, 10, map_flag::NO_PREALLOC);
    let mut reader = walk(None);
    let before = reader.read();
    frozen_later.freeze().expect("an array can be frozen");
    grows.freeze().expect("a hash can be frozen");
    // A frozen map stays frozen, though an array is not queried again.
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

pub(crate) fn frozen_maps_may_shrink() {
    let shrinks = filled(kind::HASH, 8, 100, map_flag::NO_PREALLOC, 40);
    let shrinks = shrinks.map();
    shrinks.freeze().expect("a hash can be frozen");
    let mut reader = walk(None);
    let before = map(&reader.read(), shrinks.id()).mem;
    // Only user space may not change a frozen map; this program deletes the key 0.
    let mut instructions =
        vec![Instruction::push(-8, 0), Instruction::copy(2, Instruction::STACK), Instruction::add(2, -8)];
    instructions.extend(Instruction::load_map(1, shrinks));
    instructions.push(Instruction::call_helper(uapi::helper::MAP_DELETE_ELEM));
    instructions.extend(Instruction::returning(0));
    let deleting = Program::load(&ProgramSpec {
        name: "deletes",
        instructions,
        ..ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0)
    });
    deleting.and_then(|program| program.run(64, 1)).expect("a socket filter may delete");
    let snapshot = reader.read();
    let after = map(&snapshot, shrinks.id());
    assert_eq!((after.mem, after.frozen), (Some(memory(shrinks)), Some(true)));
    if since(6, 4) {
        assert!(after.mem < before, "{before:?} {:?}", after.mem);
    }
}

/// Map types that allocate memory for each entry.
const GROWING: [(u32, u32); 6] = [
    (kind::HASH, map_flag::NO_PREALLOC),
    (kind::PERCPU_HASH, map_flag::NO_PREALLOC),
    (kind::LPM_TRIE, 0),
    (kind::DEVMAP, 0),
    (kind::SOCKHASH, 0),
    (kind::DEVMAP_HASH, 0),
];

pub(crate) fn growing_maps() {
    let ready = |&(kind, flags): &(u32, u32)| {
        let map = match kind {
            kind::HASH | kind::PERCPU_HASH => Ok(hash(kind, 8, 100, flags)),
            _ => Map::ready(kind, "grows"),
        };
        if_possible(map.and_then(Filled::empty))
    };
    let mut maps: Vec<_> = GROWING.iter().filter_map(ready).collect();
    assert!(maps.len() >= 3, "hashes and tries can be created on every kernel");
    let mut reader = walk(None);
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
    for filled in &mut maps {
        filled.add(0..40).expect("there is room");
    }
    let full = agree(&maps);
    for filled in &mut maps {
        filled.remove(5..40).expect("they are in");
    }
    let after = agree(&maps);
    // Since 6.4 the kernel reports the memory in use, before that of a full map.
    if since(6, 4) {
        assert!(before.iter().zip(&full).all(|(before, full)| before < full), "{before:?} {full:?}");
        assert!(after != full, "{full:?} {after:?}");
    }
}

/// Returns whether this kernel has at least this version.
fn since(major: u32, minor: u32) -> bool {
    let release = release().expect("Linux has /proc");
    let mut numbers = release.split(|end: char| !end.is_ascii_digit()).map(|number| number.parse().ok());
    let mut number = || numbers.next().flatten().expect("a release starts with two numbers");
    (number(), number()) >= (major, minor)
}

pub(crate) fn maps_of_a_program() {
    let maps = [(); 3].map(|()| Map::ready(kind::ARRAY, "used").expect("an array can be created"));
    let [first, second, bound_later] = &maps;
    let using = Program::using("uses_two", &[second, first]).expect("a socket filter can be loaded");
    let free = Program::ready(uapi::program_type::SOCKET_FILTER, "uses_none").expect("it can be loaded");
    let mut reader = walk(None);
    let before = reader.read();
    assert_eq!(program(&before, using.id()).facts.map_ids, Some(vec![first.id(), second.id()]));
    assert_eq!(program(&before, free.id()).facts.map_ids, Some(Vec::new()), "none is not unknown");

    // Kernels before 5.10 cannot bind.
    let Some(()) = if_possible(using.bind(bound_later)) else { return };
    let (after, later) = (reader.read(), reader.read());
    let [before, after, later] =
        [&before, &after, &later].map(|snapshot| &program(snapshot, using.id()).facts);
    assert_eq!(after.map_ids, Some(maps.iter().map(Map::id).collect()));
    let identity = |facts: &bpf_metrics_exporter::model::ProgramFacts| (facts.id, facts.loaded_at, facts.tag);
    assert_eq!(identity(before), identity(after), "it is the same program");
    assert_eq!((&before.name, before.mem), (&after.name, after.mem));
    assert!(Arc::ptr_eq(after, later), "it is read again only once");
    using.bind(bound_later).expect("binding once more changes nothing");
    assert!(Arc::ptr_eq(later, &program(&reader.read(), using.id()).facts));
}

pub(crate) fn attach_to() {
    let aimed: Vec<_> = every_aimed_program()
        .into_iter()
        .filter_map(|(way, aimed)| Some((way, if_possible(aimed)?)))
        .collect();
    let snapshot = read(ReaderKind::Walk);
    for (way, aimed) in &aimed {
        let found = program(&snapshot, aimed.program().id()).facts.attach_to.as_deref();
        // For `struct_ops` the kernel reports the structure, and the name is that of a member.
        let is_reported = since(6, 0) && *way != "struct_ops";
        assert_eq!(found, is_reported.then_some(aimed.attach_to()), "{way}");
    }
    assert!(aimed.len() >= 2, "only {aimed:#?} could be made");
    let aimless = Program::ready(uapi::program_type::SOCKET_FILTER, "aimless").expect("it can be loaded");
    assert_eq!(program(&read(ReaderKind::Walk), aimless.id()).facts.attach_to, None);
}

pub(crate) fn entries_are_counted_only_if_enabled() {
    let made: BTreeMap<String, Filled> = every_countable_map()
        .into_iter()
        .chain(every_uncounted_map().into_iter().map(|(name, map)| (name.to_owned(), map)))
        .filter_map(|(name, map)| Some((name, if_possible(map)?)))
        .collect();
    let most = made.values().map(|filled| filled.map().shape().max_entries).max().expect("there are maps");
    let (counting, not_counting) = (walk(Some(most)).read(), walk(None).read());
    assert_eq!(not_counting.issues, []);
    let mut counted = 0;
    for (name, filled) in &made {
        let shape = filled.map().shape();
        let array = [kind::ARRAY, kind::PERCPU_ARRAY].contains(&shape.kind);
        let always = array.then(|| shape.max_entries.into());
        assert_eq!(map(&not_counting, filled.map().id()).entries, always, "{name}");
        let expected = if WALKED.contains(&shape.kind) { Some(filled.entries()) } else { always };
        assert_eq!(map(&counting, filled.map().id()).entries, expected, "{name}");
        counted += u32::from(WALKED.contains(&shape.kind));
    }
    assert!(counted >= 30, "only {:?} could be made", made.keys());
}

/// Map types whose entries can be counted by walking.
const WALKED: [u32; 9] = [
    kind::HASH,
    kind::PERCPU_HASH,
    kind::STACK_TRACE,
    kind::LRU_HASH,
    kind::LRU_PERCPU_HASH,
    kind::LPM_TRIE,
    kind::HASH_OF_MAPS,
    kind::SOCKHASH,
    kind::DEVMAP_HASH,
];

pub(crate) fn large_values_and_write_only_maps() {
    const WRITE_ONLY: u32 = 1 << 4;
    let made = [
        // Many batches, and values so large that a batch holds only a few.
        filled(kind::HASH, 8_000, 500, 0, 499),
        filled(kind::HASH, 20_000, 200, 0, 150),
        // Buckets with many entries, next to each other.
        filled(kind::LRU_HASH, 12, 3_000, 0, 1_000),
        // The restriction applies to the creator's descriptor, and not to one that is opened by id.
        filled(kind::HASH, 8, 10, WRITE_ONLY, 3),
    ];
    let snapshot = walk(Some(3_000)).read();
    for filled in &made {
        assert_eq!(map(&snapshot, filled.map().id()).entries, Some(filled.entries()), "{:?}", filled.map());
    }
}

pub(crate) fn maps_above_the_limit() {
    const MANY: u32 = 1_000_000;
    let many = Map::hash_of(MANY, 0).expect("there is memory for a million entries");
    let few = filled(kind::HASH, 8, 100, 0, 10);
    let snapshot = walk(Some(100)).read();
    assert_eq!(map(&snapshot, many.id()).entries, None);
    assert_eq!(map(&snapshot, few.map().id()).entries, Some(10));
    let over = snapshot
        .maps
        .iter()
        .flatten()
        .filter(|map| WALKED.contains(&map.facts.map_type.number) && map.facts.max_entries > 100);
    let over = over.count() as u64;
    let issues: Vec<_> = snapshot
        .issues
        .iter()
        .map(|issue| (issue.part.as_str(), &*issue.call, &*issue.error, issue.count))
        .collect();
    assert!(over > 0);
    assert_eq!(issues, [("map", "count_by_walking", "E2BIG", over)]);
    assert_eq!(map(&walk(Some(MANY)).read(), many.id()).entries, Some(MANY.into()));
}

pub(crate) fn counting_ends_under_churn() {
    const STAYING: u32 = 500;
    let kinds = [kind::HASH, kind::LRU_HASH, kind::PERCPU_HASH];
    let mut made = kinds.map(|kind| filled(kind, 8, 2_000, 0, STAYING));
    let ids = [0, 1, 2].map(|index: usize| made[index].map().id());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for filled in &mut made {
                    filled.add(STAYING..STAYING + 1).expect("there is room");
                    filled.remove(STAYING..STAYING + 1).expect("it is in");
                }
            }
        });
        let mut reader = walk(Some(2_000));
        let readings: Vec<_> = (0..20).map(|_| reader.read()).collect();
        ended.store(true, Ordering::Relaxed);
        for snapshot in readings {
            let entries = ids.map(|id| map(&snapshot, id).entries);
            // Each bucket is counted at one moment.
            let staying = u64::from(STAYING);
            assert!(
                entries[..2].iter().all(
                    |entries| entries.is_some_and(|entries| entries >= staying && entries <= staying + 1)
                ),
                "{entries:?}"
            );
        }
    });
}
