//! Maps: the number of their entries.

use std::io;

use test_support::objects::{
    Filled, Map, countable_kinds, errno, every_countable_map, every_uncounted_map, fdinfo, if_possible, uapi,
};

/// Map types of every kernel since 5.10, in every configuration.
const EVERYWHERE: [&str; 5] = ["hash", "percpu_hash", "lru_hash", "lpm_trie", "queue"];

/// Counts the entries by walking; queues and stacks are emptied.
fn walk(map: &Map) -> io::Result<u64> {
    if map.shape().key_size > 0 {
        return Ok(map.keys()?.len() as u64);
    }
    let mut entries = 0;
    while map.pop()?.is_some() {
        entries += 1;
    }
    Ok(entries)
}

pub(crate) fn walked() {
    let mut seen = Vec::new();
    for (name, filled) in every_countable_map() {
        // A type that this kernel does not have cannot be made.
        let Some(filled) = if_possible(filled) else { continue };
        assert_eq!(walk(filled.map()).expect("it can be walked"), filled.entries(), "{name}");
        seen.push(name);
    }
    let complete =
        |kind: &&str| seen.iter().filter(|name| name.split(',').next() == Some(*kind)).count() == 5;
    let kinds = countable_kinds().filter(complete).collect::<Vec<_>>();
    assert!(EVERYWHERE.iter().all(|kind| kinds.contains(kind)), "only {kinds:?}");
    assert!(kinds.len() >= 12, "only {kinds:?} could be made");
}

/// Counts the keys of a map that have a value; `None` where the kernel does not allow it.
fn places(filled: &Filled) -> Option<u64> {
    let map = filled.map();
    let Ok(keys) = map.keys() else {
        // Storage cannot be walked, and has one element here. A bloom filter has no keys at all.
        let one = map.shape().key_size > 0;
        return one.then(|| filled.contains(0).ok().map(u64::from)).flatten();
    };
    let mut entries = 0;
    for key in keys {
        entries += u64::from(map.lookup(&key).ok()?.is_some());
    }
    Some(entries)
}

pub(crate) fn uncounted() {
    let (mut seen, mut compared) = (Vec::new(), Vec::new());
    for (name, filled) in every_uncounted_map() {
        let Some(filled) = if_possible(filled) else { continue };
        seen.push(name);
        let entries = match filled.map().shape().kind {
            // Every element of these is an entry, with any value.
            uapi::map_type::ARRAY | uapi::map_type::PERCPU_ARRAY => filled.map().shape().max_entries.into(),
            _ => filled.entries(),
        };
        if let Some(found) = places(&filled) {
            assert_eq!(found, entries, "{name}");
            compared.push(name);
        }
    }
    let everywhere = ["array", "prog_array", "array_of_maps", "percpu_array", "sk_storage", "cgroup_storage"];
    assert!(everywhere.iter().all(|kind| compared.contains(kind)), "only {compared:?}");
    assert!(seen.len() >= 12, "only {seen:?} could be made");
}

pub(crate) fn million() {
    const MILLION: u32 = 1_000_000;
    for flags in [0, uapi::map_flag::NO_PREALLOC] {
        let map = Map::hash_of(MILLION, flags).expect("there is memory");
        for number in [0, 1, MILLION / 2, MILLION - 1] {
            let value = map.lookup(&number.to_ne_bytes()).expect("it can be looked up");
            assert_eq!(value, Some(vec![0; 8]), "{number}");
        }
        let more = map.insert(&MILLION.to_ne_bytes(), &[0; 8]).expect_err("it is full");
        assert_eq!(errno(&more), Some(libc::E2BIG));
    }
}

pub(crate) fn frozen() {
    let mut filled = Filled::ready(uapi::map_type::HASH, "frozen").expect("a hash can be made");
    filled.add(0..3).expect("there is room");
    let frozen = || fdinfo(filled.map().fd(), "frozen").expect("an open file has an fdinfo");
    assert_eq!(frozen().as_deref(), Some("0"));
    filled.map().freeze().expect("a hash can be frozen");
    assert_eq!(frozen().as_deref(), Some("1"));
    let refused = filled.add(3..4).expect_err("it is frozen");
    assert_eq!(errno(&refused), Some(libc::EPERM));
    assert_eq!(filled.entries(), 3);
}
