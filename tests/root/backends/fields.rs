//! The fields of an object as text, each with its name: all of them, so that a new one has to be put on its list.

use std::fmt::Debug;

use bpf_metrics_exporter::model::{Link, LinkFacts, Map, MapFacts, Program, ProgramFacts};

/// Fields by name; `None` where it is not known.
pub(crate) type Fields = Vec<(&'static str, Option<String>)>;

/// An object: what tells it from others with its id, what both readers know, and what moves or is not known to each.
pub(crate) struct Parts {
    pub(crate) id: u32,
    pub(crate) identity: String,
    pub(crate) facts: Fields,
    pub(crate) moving: Fields,
}

/// A value that every reader has.
#[expect(clippy::unnecessary_wraps, reason = "one of the two ways to write a field")]
fn said(value: impl Debug) -> Option<String> {
    Some(format!("{value:?}"))
}

/// A value that a reader may not know.
fn known(value: Option<&impl Debug>) -> Option<String> {
    value.map(|value| format!("{value:?}"))
}

pub(crate) fn program(program: &Program) -> Parts {
    let Program { facts, run_time, runs, recursion_misses, owner: _ } = program;
    let ProgramFacts {
        id,
        name,
        program_type,
        tag,
        gpl_compatible,
        // The same second, or the one beside it where that ends just then: each reader measures how far the clocks are apart.
        loaded_at: _,
        loaded_at_boot_ns,
        uid,
        btf_id,
        size_jitted,
        size_translated,
        mem,
        verified_instructions,
        attach_to,
        map_ids,
    } = &**facts;
    Parts {
        id: *id,
        identity: format!("{loaded_at_boot_ns} {tag}"),
        facts: vec![
            ("name", said(name)),
            ("program_type", said(program_type)),
            ("tag", said(tag)),
            ("gpl_compatible", said(gpl_compatible)),
            ("loaded_at_boot_ns", said(loaded_at_boot_ns)),
            ("uid", said(uid)),
            ("btf_id", said(btf_id)),
            ("size_jitted", said(size_jitted)),
            ("size_translated", said(size_translated)),
            ("mem", known(mem.as_ref())),
            ("verified_instructions", known(verified_instructions.as_ref())),
        ],
        moving: vec![
            ("attach_to", known(attach_to.as_ref())),
            // It grows when a map is bound.
            ("map_ids", known(map_ids.as_ref())),
            ("run_time", known(run_time.as_ref())),
            ("runs", known(runs.as_ref())),
            ("recursion_misses", known(recursion_misses.as_ref())),
        ],
    }
}

pub(crate) fn map(map: &Map) -> Parts {
    let Map {
        facts,
        frozen,
        mem,
        // Only an iterator sees these three; `tests/root/counts` holds them against what was made.
        entries: _,
        backlog: _,
        memory_cgroup: _,
        owner: _,
    } = map;
    let MapFacts {
        id,
        name,
        map_type,
        key_size,
        value_size,
        max_entries,
        flags,
        btf_id,
        // That is about the reader.
        first_seen: _,
    } = &**facts;
    let facts = vec![
        ("name", said(name)),
        ("map_type", said(map_type)),
        ("key_size", said(key_size)),
        ("value_size", said(value_size)),
        ("max_entries", said(max_entries)),
        ("flags", said(flags)),
        ("btf_id", said(btf_id)),
    ];
    let moving = vec![("frozen", known(frozen.as_ref())), ("mem", known(mem.as_ref()))];
    Parts { id: *id, identity: format!("{facts:?}"), facts, moving }
}

pub(crate) fn link(link: &Link) -> Parts {
    let Link { facts, missed, owner: _ } = link;
    let LinkFacts {
        id,
        link_type,
        prog_id,
        attach_type,
        target,
        // That is about the reader.
        first_seen: _,
    } = &**facts;
    Parts {
        id: *id,
        identity: format!("{link_type:?} {prog_id:?}"),
        facts: vec![("link_type", said(link_type)), ("prog_id", said(prog_id))],
        // What it is attached to can be renamed, or go.
        moving: vec![
            ("attach_type", known(attach_type.as_ref())),
            ("target", known(target.as_ref())),
            ("missed", known(missed.as_ref())),
        ],
    }
}
