//! Columns of owners, attachments and orphans.

use super::objects::{object_key, program_name, text};
use super::typed::{Definition, derived, derived_number, derived_time, label, metric, number, while_covered};
use super::{Cell, Refers, RowKey};
use crate::metrics::Unit::{self, Bytes, Ratio};
use crate::metrics::Value;
use crate::metrics::table::{HOOK, ORPHAN, OWNER};
use crate::model::{Hook, Kind, Object, Orphan, OwnerTotal};

/// Owners.
pub(super) static OWNERS: Definition<OwnerTotal> = Definition {
    entity: &OWNER,
    values: |snapshot| Some(&snapshot.owners),
    columns: &[
        label("owner", "Owner", 0).refers(Refers::Owner),
        label("owner_kind", "Kind", 0),
        while_covered(
            ("cpu_ratio", "bpf_owner_run_time"),
            "CPU",
            0,
            (
                Ratio,
                "CPU time of the runs of its programs per time that run statistics were on, in the period: 1 is one CPU.",
            ),
        ),
        metric("mem_bytes", "bpf_owner_mem_bytes", "Memory", 0),
        metric("programs", "bpf_owner_programs", "Programs", 0),
        metric("maps", "bpf_owner_maps", "Maps", 0),
        metric("links", "bpf_owner_links", "Links", 0),
        metric("run_time_seconds", "bpf_owner_run_time", "Run time", 1),
        label("systemd.unit", "Unit", 3).named("unit"),
        label("container.name", "Container", 3).named("container"),
        label("container.id", "Container ID", 5).named("container_id"),
        label("k8s.namespace.name", "Namespace", 4).named("namespace"),
        label("k8s.pod.name", "Pod", 4).named("pod"),
        label("k8s.pod.uid", "Pod UID", 6).named("pod_uid"),
        label("identified_by", "Identified by", 6),
    ],
    key: |total| RowKey::Owner(total.owner.kind(), total.owner.name().to_owned()),
    is_own: |_, _| false,
};

/// Attachments.
pub(super) static HOOKS: Definition<Hook> = Definition {
    entity: &HOOK,
    values: |snapshot| snapshot.hooks.as_deref().map(|scan| &*scan.hooks),
    columns: &[
        label("hook", "Hook", 0),
        label("target", "Target", 0),
        metric("position", "bpf_hook_position", "Position", 1),
        number("prog_id", "Program", 0).of(Kind::Program),
        derived("program", "Program name", 1, (Unit::None, "The name of the program."), |row| {
            program_name(row.now.prog_id, row)
        }),
        derived("owner", "Owner", 1, (Unit::None, "The owner of the program."), |row| {
            let program = row.now.prog_id.and_then(|id| row.related.program(id));
            let owner = program.and_then(|program| program.owner.as_ref());
            owner.map_or(Cell::Unknown, |owner| Cell::Text(owner.name().into()))
        }),
        number("link_id", "Link", 2).of(Kind::Link),
        number("map_id", "Map", 4).of(Kind::Map),
        label("device", "Device", 5),
        number("priority", "Priority", 4),
        number("netns", "Network namespace", 4),
        label("netns_name", "Namespace name", 3),
    ],
    key: |hook| RowKey::Hook((HOOK.series)(hook).id),
    is_own: |hook, related| related.is_own(hook.object()),
};

/// Objects that nothing holds.
pub(super) static ORPHANS: Definition<Orphan> = Definition {
    entity: &ORPHAN,
    values: |snapshot| snapshot.orphans.as_deref(),
    columns: &[
        label("kind", "Kind", 0),
        number("id", "ID", 0),
        derived("name", "Name", 0, (Unit::None, "Its name."), |row| {
            let (name, _) = row.related.name_and_type(object(row.now));
            name.map_or(Cell::Unknown, |name| Cell::Text(name.into()))
        }),
        derived("type", "Type", 1, (Unit::None, "Its type as the kernel's tools spell it."), |row| {
            text(row.related.name_and_type(object(row.now)).1)
        }),
        derived_time("orphaned_since", "Orphaned since", 0, ORPHANED_SINCE, |row| Cell::Time(row.now.since)),
        derived_number("mem_bytes", "Memory", 0, (Bytes, "Memory charged for it."), |row| {
            let mem = row.related.mem(object(row.now));
            mem.map(Value::count).map_or(Cell::Unknown, super::typed::of_value)
        }),
        label("owner", "Last owner", 0).refers(Refers::Owner).named("last_owner"),
        label("owner_kind", "Owner kind", 2).named("last_owner_kind"),
    ],
    key: |orphan| object_key(orphan.kind, orphan.id),
    is_own: |orphan, related| related.is_own(object(orphan)),
};

const ORPHANED_SINCE: (Unit, &str) =
    (Unit::None, "When the exporter first saw no holder of the object, which is still loaded.");

const fn object(orphan: &Orphan) -> Object {
    Object { kind: orphan.kind, id: orphan.id }
}
