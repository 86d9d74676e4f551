//! Columns of programs, maps, links and BTF objects.

use std::sync::Arc;

use super::typed::{
    Definition, Row, derived, derived_ids, derived_number, derived_time, label, metric, number, per_second,
    time, while_covered,
};
use super::{Cell, Refers, RowKey};
use crate::metrics::Unit::{self, Each, Ratio, Seconds};
use crate::metrics::Value;
use crate::metrics::table::{BTF, LINK, MAP, PROGRAM};
use crate::model::{Btf, Kind, Link, Map, Object, Program};

const RUNS_PER_SECOND: (Unit, &str) =
    (Each("{run}/s"), "Runs per second while run statistics were on, in the period.");

const CPU: (Unit, &str) = (
    Ratio,
    "CPU time of its runs per time that run statistics were on, in the period: 1 is one CPU. It includes interrupts and sleep.",
);

const MEAN_RUN_TIME: (Unit, &str) = (Seconds, "Mean time of a run in the period.");

const MEAN_RUN_TIME_TOTAL: (Unit, &str) = (Seconds, "Mean time of a run since the program was loaded.");

const PROCESSES: (Unit, &str) = (Unit::None, "The processes that have a descriptor of it: name[pid].");

const PINS: (Unit, &str) = (Unit::None, "The paths at which it is pinned.");

/// Programs.
pub(super) static PROGRAMS: Definition<Program> = Definition {
    entity: &PROGRAM,
    values: |snapshot| snapshot.programs.as_deref(),
    columns: &[
        number("id", "ID", 0).of(Kind::Program),
        label("type", "Type", 1),
        label("name", "Name", 0),
        label("owner", "Owner", 1).refers(Refers::Owner),
        label("owner_kind", "Owner kind", 6),
        while_covered(("cpu_ratio", "bpf_program_run_time"), "CPU", 0, CPU),
        while_covered(("runs_per_second", "bpf_program_runs"), "Runs", 1, RUNS_PER_SECOND),
        derived_number("mean_run_time_seconds", "Run", 2, MEAN_RUN_TIME, |row| mean_in_period(row).into()),
        derived_number("mean_run_time_total_seconds", "Run, total", 3, MEAN_RUN_TIME_TOTAL, |row| {
            mean(row.now).into()
        }),
        metric("mem_bytes", "bpf_program_mem_bytes", "Memory", 1),
        metric("run_time_seconds", "bpf_program_run_time", "Run time", 4),
        metric("runs", "bpf_program_runs", "Runs, total", 5),
        metric("recursion_misses", "bpf_program_recursion_misses", "Missed", 4),
        derived_ids(("map_ids", Kind::Map), "Maps", 3, "The maps that it uses.", |row| {
            ids(row.now.facts.map_ids.as_deref())
        }),
        derived_ids(("link_ids", Kind::Link), "Links", 3, "The links that keep it attached.", |row| {
            ids(row.related.links_of(row.now.facts.id))
        }),
        derived("processes", "Processes", 2, PROCESSES, |row| {
            text(row.related.processes(Kind::Program, row.now.facts.id))
        }),
        derived("pins", "Pins", 6, PINS, |row| text(row.related.pins(Kind::Program, row.now.facts.id))),
        derived(
            "capabilities",
            "Capabilities",
            7,
            (Unit::None, "What it can do to the host, by its instructions and its type."),
            capabilities,
        ),
        label("attach_to", "Attaches to", 5),
        time("load_time", "Loaded", 4),
        metric("size_jitted_bytes", "bpf_program_size_jitted_bytes", "Machine code", 6),
        metric("size_translated_bytes", "bpf_program_size_translated_bytes", "Instructions", 6),
        metric("verified_instructions", "bpf_program_verified_instructions", "Verified", 7),
        label("tag", "Tag", 5),
        number("uid", "UID", 7),
        label("gpl_compatible", "GPL", 8),
        number("btf_id", "BTF", 7).of(Kind::Btf),
    ],
    key: |program| object_key(Kind::Program, program.facts.id),
    is_own: |program, related| related.is_own(Object { kind: Kind::Program, id: program.facts.id }),
};

fn mean(program: &Program) -> Option<f64> {
    let runs = program.runs.filter(|&runs| runs > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "a mean of so many runs is precise enough")]
    Some(program.run_time?.as_secs_f64() / runs as f64)
}

fn mean_in_period(row: &Row<'_, Program>) -> Option<f64> {
    let runs = row.covered_rate(|program| program.runs.map(Value::count)).filter(|&runs| runs > 0.0)?;
    let time = row.covered_rate(|program| program.run_time.map(|time| Value::Float(time.as_secs_f64())))?;
    Some(time / runs)
}

fn capabilities<'a>(row: &Row<'a, Program>) -> Cell<'a> {
    let capabilities = row.now.capabilities.as_deref().map(|all| {
        let words = all.words.iter().map(|word| word.as_str().to_owned());
        words.chain(all.kfuncs.iter().map(|name| format!("kfunc:{name}"))).collect::<Vec<_>>().join(", ")
    });
    text(capabilities.filter(|text| !text.is_empty()))
}

/// Maps.
pub(super) static MAPS: Definition<Map> = Definition {
    entity: &MAP,
    values: |snapshot| snapshot.maps.as_deref(),
    columns: &[
        number("id", "ID", 0).of(Kind::Map),
        derived(
            "type",
            "Type",
            1,
            (Unit::None, "Its type as the kernel's tools spell it, or the number."),
            |row| Cell::Text(row.now.facts.map_type.word_or_number()),
        ),
        label("name", "Name", 0),
        label("owner", "Owner", 1).refers(Refers::Owner),
        label("owner_kind", "Owner kind", 6),
        metric("mem_bytes", "bpf_map_mem_bytes", "Memory", 0),
        metric("fill_ratio", "bpf_map_fill", "Fill", 0),
        metric("entries", "bpf_map_entries", "Entries", 1),
        per_second(
            ("entries_per_second", "bpf_map_entries"),
            "Growth",
            2,
            (
                Each("{entry}/s"),
                "How many entries more there are per second, in the period; negative if there are fewer.",
            ),
        ),
        metric("max_entries", "bpf_map_max_entries", "Max entries", 2),
        derived_number(
            "full_in_seconds",
            "Full in",
            2,
            (Seconds, "When the map refuses another entry, if it goes on to grow as in the period."),
            |row| full_in(row).into(),
        ),
        metric("key_size_bytes", "bpf_map_key_size", "Key", 4),
        metric("value_size_bytes", "bpf_map_value_size", "Value", 4),
        metric("backlog_bytes", "bpf_map_backlog_bytes", "Backlog", 3),
        derived_ids(("program_ids", Kind::Program), "Programs", 3, "The programs that use it.", |row| {
            ids(row.related.programs_of(row.now.facts.id))
        }),
        derived("processes", "Processes", 3, PROCESSES, |row| {
            text(row.related.processes(Kind::Map, row.now.facts.id))
        }),
        derived("pins", "Pins", 5, PINS, |row| text(row.related.pins(Kind::Map, row.now.facts.id))),
        label("frozen", "Frozen", 6),
        number("flags", "Flags", 7),
        number("btf_id", "BTF", 7).of(Kind::Btf),
        derived_time("first_seen", "First seen", 6, FIRST_SEEN, |row| Cell::Time(row.now.facts.first_seen)),
    ],
    key: |map| object_key(Kind::Map, map.facts.id),
    is_own: |map, related| related.is_own(Object { kind: Kind::Map, id: map.facts.id }),
};

const FIRST_SEEN: (Unit, &str) =
    (Unit::None, "The first reading that found it: the kernel does not report when it was created.");

fn full_in(row: &Row<'_, Map>) -> Option<f64> {
    row.now.fill()?;
    let free = u64::from(row.now.facts.max_entries).checked_sub(row.now.entries?)?;
    let growth = row.rate(|map| map.entries.map(Value::count)).filter(|&growth| growth > 0.0)?;
    #[expect(clippy::cast_precision_loss, reason = "a map has far less than 2^52 entries")]
    Some(free as f64 / growth)
}

/// Links.
pub(super) static LINKS: Definition<Link> = Definition {
    entity: &LINK,
    values: |snapshot| snapshot.links.as_deref(),
    columns: &[
        number("id", "ID", 0).of(Kind::Link),
        derived(
            "type",
            "Type",
            0,
            (Unit::None, "Its type as the kernel's tools spell it, or the number."),
            |row| Cell::Text(row.now.facts.link_type.word_or_number()),
        ),
        number("prog_id", "Program", 0).of(Kind::Program),
        derived("program", "Program name", 1, (Unit::None, "The name of the program."), |row| {
            program_name(row.now.facts.prog_id, row)
        }),
        label("target", "Target", 0),
        label("attach_type", "Hook", 2),
        label("owner", "Owner", 1).refers(Refers::Owner),
        label("owner_kind", "Owner kind", 6),
        metric("missed", "bpf_link_missed", "Missed", 3),
        per_second(
            ("missed_per_second", "bpf_link_missed"),
            "Misses",
            3,
            (Each("{miss}/s"), "Missed runs of its program per second, in the period."),
        ),
        derived("processes", "Processes", 3, PROCESSES, |row| {
            text(row.related.processes(Kind::Link, row.now.facts.id))
        }),
        derived("pins", "Pins", 5, PINS, |row| text(row.related.pins(Kind::Link, row.now.facts.id))),
        number("netns", "Network namespace", 6),
        label("netns_name", "Namespace name", 5),
        number("priority", "Priority", 6),
        derived_time("first_seen", "First seen", 6, FIRST_SEEN, |row| Cell::Time(row.now.facts.first_seen)),
    ],
    key: |link| object_key(Kind::Link, link.facts.id),
    is_own: |link, related| related.is_own(Object { kind: Kind::Link, id: link.facts.id }),
};

/// BTF objects.
pub(super) static BTFS: Definition<Arc<Btf>> = Definition {
    entity: &BTF,
    values: |snapshot| snapshot.btfs.as_deref(),
    columns: &[
        number("id", "ID", 0).of(Kind::Btf),
        label("name", "Name", 0),
        metric("size_bytes", "bpf_btf_size_bytes", "Size", 0),
        label("kernel", "Kernel", 1),
        derived("processes", "Processes", 2, PROCESSES, |row| {
            text(row.related.processes(Kind::Btf, row.now.id))
        }),
        derived_time("first_seen", "First seen", 3, FIRST_SEEN, |row| Cell::Time(row.now.first_seen)),
    ],
    key: |btf| object_key(Kind::Btf, btf.id),
    is_own: |btf, related| related.is_own(Object { kind: Kind::Btf, id: btf.id }),
};

pub(super) fn program_name<'a, T>(id: Option<u32>, row: &Row<'a, T>) -> Cell<'a> {
    let program = id.and_then(|id| row.related.program(id));
    program.map_or(Cell::Unknown, |program| Cell::Text((&*program.facts.name).into()))
}

pub(super) fn object_key(kind: Kind, id: u32) -> RowKey {
    RowKey::Object(Object { kind, id })
}

/// Ids of objects; no value for none, too.
fn ids(ids: Option<&[u32]>) -> Cell<'_> {
    ids.filter(|ids| !ids.is_empty()).map_or(Cell::Unknown, |ids| Cell::Ids(ids.into()))
}

pub(super) fn text<'a>(text: Option<String>) -> Cell<'a> {
    text.map_or(Cell::Unknown, |text| Cell::Text(text.into()))
}
