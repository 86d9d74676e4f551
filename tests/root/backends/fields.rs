//! The fields of an object as text, by name. All are destructured, so that a new one cannot be forgotten.

use std::fmt::Debug;

use bpf_metrics_exporter::model::{Link, LinkFacts, Map, MapFacts, Program, ProgramFacts};

/// Fields by name; `None` where it is not known.
pub(crate) type Fields = Vec<(&'static str, Option<String>)>;

/// An object: what distinguishes it from others with its id, the facts that both backends know, and the values that change or that only
/// one knows.
pub(crate) struct Parts {
    pub(crate) id: u32,
    pub(crate) identity: String,
    pub(crate) facts: Fields,
    pub(crate) moving: Fields,
}

/// A value that every backend reports.
#[expect(clippy::unnecessary_wraps, reason = "one of the two ways to write a field")]
fn reported(value: impl Debug) -> Option<String> {
    Some(format!("{value:?}"))
}

/// A value that a backend may not report.
fn known(value: Option<&impl Debug>) -> Option<String> {
    value.map(|value| format!("{value:?}"))
}

pub(crate) fn program(program: &Program) -> Parts {
    let Program { facts, run_time, runs, recursion_misses, capabilities, metadata, owner: _ } = program;
    let ProgramFacts {
        id,
        name,
        program_type,
        tag,
        gpl_compatible,
        loaded_at,
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
        identity: format!("{loaded_at:?} {tag}"),
        facts: vec![
            ("name", reported(name)),
            ("program_type", reported(program_type)),
            ("tag", reported(tag)),
            ("gpl_compatible", reported(gpl_compatible)),
            ("loaded_at", reported(loaded_at)),
            ("uid", reported(uid)),
            ("btf_id", reported(btf_id)),
            ("size_jitted", reported(size_jitted)),
            ("size_translated", reported(size_translated)),
            ("mem", known(mem.as_ref())),
            ("verified_instructions", known(verified_instructions.as_ref())),
        ],
        moving: vec![
            ("attach_to", known(attach_to.as_ref())),
            // It grows when a map is bound.
            ("map_ids", known(map_ids.as_ref())),
            ("capabilities", known(capabilities.as_ref())),
            // They are read again once a map is bound.
            ("metadata", known(metadata.as_ref())),
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
        // Only an iterator reports these three; `tests/root/counts` checks them.
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
        // It depends on the reader.
        first_seen: _,
    } = &**facts;
    let facts = vec![
        ("name", reported(name)),
        ("map_type", reported(map_type)),
        ("key_size", reported(key_size)),
        ("value_size", reported(value_size)),
        ("max_entries", reported(max_entries)),
        ("flags", reported(flags)),
        ("btf_id", reported(btf_id)),
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
        netns,
        // It depends on the reader.
        first_seen: _,
    } = &**facts;
    Parts {
        id: *id,
        identity: format!("{link_type:?} {prog_id:?}"),
        facts: vec![("link_type", reported(link_type)), ("prog_id", reported(prog_id))],
        // The target can be renamed or removed.
        moving: vec![
            ("attach_type", known(attach_type.as_ref())),
            ("target", known(target.as_ref())),
            ("netns", known(netns.as_ref())),
            ("missed", known(missed.as_ref())),
        ],
    }
}
