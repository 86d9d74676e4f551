//! Arbitrary snapshots: any that the model can hold, with names that try to break out of every format.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::model::{
    Btf, Collector, Issue, Kind, Link, Map, ObjectType, Program, ProgramFacts, Snapshot, Tag,
};
use jiff::Timestamp;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

/// A text that formats have to escape, or any other.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_.]{0,15}",
        "\\PC{0,20}",
        Just("quote \" backslash \\ line\nfeed {}=,# \\n \\xff".to_owned()),
        Just("# EOF".to_owned()),
    ]
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_000_000_000)
        .prop_map(|second| Timestamp::from_second(second).expect("a second of this century"))
}

fn object_type() -> impl Strategy<Value = ObjectType> {
    (any::<u32>(), option::of(text()))
        .prop_map(|(number, name)| ObjectType { number, name: name.map(Cow::Owned) })
}

/// A table of at most twenty rows in ascending order of ids.
fn table<T: std::fmt::Debug>(
    row: impl Strategy<Value = T>,
    with_id: impl Fn(T, u32) -> T,
) -> impl Strategy<Value = Option<Vec<T>>> {
    let with_ids = move |(ids, rows): (BTreeSet<u32>, Vec<T>)| {
        ids.into_iter().zip(rows).map(|(id, row)| with_id(row, id)).collect()
    };
    option::weighted(0.9, (btree_set(any::<u32>(), 0..20), vec(row, 20)).prop_map(with_ids))
}

fn program() -> impl Strategy<Value = Program> {
    let facts = (
        (text(), object_type(), any::<[u8; 8]>(), any::<bool>(), moment(), any::<u64>()),
        (any::<u32>(), option::of(any::<u32>()), any::<u32>(), any::<u32>()),
        (option::of(any::<u64>()), option::of(any::<u32>())),
    );
    let moving = (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>()));
    (facts, moving).prop_map(|((named, sized, counted), (run_time, runs, recursion_misses))| {
        let (name, program_type, tag, gpl_compatible, loaded_at, loaded_at_boot_ns) = named;
        let (uid, btf_id, size_jitted, size_translated) = sized;
        let (mem, verified_instructions) = counted;
        let facts = ProgramFacts {
            id: 0,
            name,
            program_type,
            tag: Tag(tag),
            gpl_compatible,
            loaded_at,
            loaded_at_boot_ns,
            uid,
            btf_id,
            size_jitted,
            size_translated,
            mem,
            verified_instructions,
        };
        Program {
            facts: Arc::new(facts),
            run_time: run_time.map(Duration::from_nanos),
            runs,
            recursion_misses,
        }
    })
}

fn map() -> impl Strategy<Value = Map> {
    let sizes = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    (text(), object_type(), sizes, option::of(any::<u32>()), moment()).prop_map(
        |(name, map_type, (key_size, value_size, max_entries, flags), btf_id, first_seen)| Map {
            id: 0,
            name,
            map_type,
            key_size,
            value_size,
            max_entries,
            flags,
            btf_id,
            first_seen,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (object_type(), option::of(any::<u32>()), moment()).prop_map(|(link_type, prog_id, first_seen)| Link {
        id: 0,
        link_type,
        prog_id,
        first_seen,
    })
}

fn btf() -> impl Strategy<Value = Btf> {
    (option::of(text()), option::of(any::<bool>()), any::<u32>(), moment())
        .prop_map(|(name, kernel, size, first_seen)| Btf { id: 0, name, kernel, size, first_seen })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Program), Just(Kind::Map), Just(Kind::Link), Just(Kind::Btf)]
}

fn issues() -> impl Strategy<Value = Vec<Issue>> {
    let names = btree_set((kind(), text(), text()), 0..4);
    (names, any::<u32>()).prop_map(|(names, total)| {
        let issue = |(kind, call, error)| Issue {
            kind,
            call: Cow::Owned(call),
            error: Cow::Owned(error),
            count: 1,
            total: total.into(),
        };
        names.into_iter().map(issue).collect()
    })
}

fn collectors() -> impl Strategy<Value = Vec<Collector>> {
    (btree_set(kind(), 0..4), any::<u32>(), any::<bool>()).prop_map(|(kinds, nanoseconds, success)| {
        let duration = Duration::from_nanos(nanoseconds.into());
        kinds.into_iter().map(|kind| Collector { kind, duration, success }).collect()
    })
}

/// Any snapshot.
pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let tables = (
        table(program(), |program, id| Program {
            facts: Arc::new(ProgramFacts { id, ..(*program.facts).clone() }),
            ..program
        }),
        table(map(), |map, id| Map { id, ..map }),
        table(link(), |link, id| Link { id, ..link }),
        table(btf(), |btf, id| Btf { id, ..btf }),
    );
    (tables, collectors(), issues(), moment(), moment()).prop_map(
        |((programs, maps, links, btfs), collectors, issues, taken_at, reader_started_at)| Snapshot {
            taken_at,
            reader_started_at,
            programs,
            maps: maps.map(shared),
            links: links.map(shared),
            btfs: btfs.map(shared),
            collectors,
            issues,
        },
    )
}

fn shared<T>(rows: Vec<T>) -> Vec<Arc<T>> {
    rows.into_iter().map(Arc::new).collect()
}
