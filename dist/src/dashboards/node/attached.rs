//! Hooks and links, and what came and went.

use super::{SCOPE, selected_programs};
use crate::dashboards::{label, map_id, program_id, program_names};
use crate::grafana::{Column, Panel, Query, Row, Unit};
use crate::names::{
    BUILD_INFO, HOOK_DETACHED_PROGRAMS, HOOK_INFO, HOOK_POSITION, HOOK_PROGRAMS, LINK_INFO, MAP_INFO,
    OBJECTS, OBJECTS_ORPHANED, PROGRAM_LOAD_TIME,
};
use crate::promql::{ATTACHMENT, HOOK, NODE, OBJECT};

const HOOKS: [Column; 8] = [
    label("hook", "Hook"),
    label("target", "Target"),
    label("netns", "Network namespace"),
    label("name", "Program"),
    program_id("prog_id", "Program id"),
    label("link_id", "Link id"),
    label("owner_kind", "Owner kind"),
    label("owner", "Owner"),
];

const LINKS: [Column; 8] = [
    label("link_id", "Link id"),
    label("type_name", "Type"),
    label("attach_type", "Attach type"),
    label("target", "Target"),
    label("name", "Program"),
    program_id("prog_id", "Program id"),
    label("owner_kind", "Owner kind"),
    label("owner", "Owner"),
];

pub(super) fn hooks() -> Row {
    let names = program_names(SCOPE);
    // A struct_ops map is attached without a program.
    let attached = format!("max by ({ATTACHMENT}) ({})", SCOPE.of(HOOK_INFO));
    let hooks = format!(
        "{attached} * on (job, instance, prog_id) group_left (name, owner_kind, owner) {names} or on ({ATTACHMENT}) {attached}"
    );
    let link = "job, instance, link_id, type_name, attach_type, target, prog_id, owner_kind, owner";
    let listed = format!("max by ({link}) ({})", SCOPE.with(LINK_INFO, r#"owner=~"$owner""#));
    let links = format!(
        "{listed} * on (job, instance, prog_id) group_left (name) {names} or on (job, instance, link_id) {listed}"
    );
    Row {
        title: "Hooks and links",
        panels: vec![
            Panel::table(
                "Hooks in order of execution",
                "Programs at each hook and target, by links and without; the one at position 0 runs first.",
                &HOOKS,
                vec![
                    Query::new("Info", Unit::Count, hooks),
                    Query::new(
                        "Position",
                        Unit::Count,
                        format!("max by ({ATTACHMENT}) ({})", SCOPE.of(HOOK_POSITION)),
                    ),
                ],
                &[("Hook", false), ("Target", false), ("Network namespace", false), ("Position", false)],
            )
            .hide("Info"),
            Panel::list(
                "Links and their targets",
                "What each link attaches, and to what.",
                &LINKS,
                links,
                &[("Type", false), ("Target", false)],
            ),
        ],
    }
}

const CAME: [Column; 4] =
    [label("name", "Program"), label("type", "Type"), program_id("id", "Id"), label("owner", "Owner")];

const GONE: [Column; 3] = [label("name", "Program"), label("type", "Type"), label("id", "Id")];

const NEW_MAPS: [Column; 3] = [label("name", "Map"), label("type_name", "Type"), map_id("id", "Id")];

pub(super) fn changes() -> Row {
    let loaded = SCOPE.of(PROGRAM_LOAD_TIME);
    let came = format!(
        "1000 * max by ({OBJECT}) ({loaded} > time() - $__range_s) * on ({OBJECT}) group_left (owner) {}",
        selected_programs(),
    );
    let gone = format!(
        "1000 * max by ({OBJECT}) (last_over_time({loaded}[$__range])) unless on ({OBJECT}) {loaded}"
    );
    let map = SCOPE.of(MAP_INFO);
    let new_maps = format!("max by ({OBJECT}, type_name) ({map}) unless on ({OBJECT}) {map} offset $__range");
    Row {
        title: "What came and went",
        panels: vec![
            Panel::graph(
                "Objects",
                "Objects of each kind over time.",
                Unit::Count,
                "{{kind}}",
                format!("max by (job, instance, kind) ({})", SCOPE.of(OBJECTS)),
            ),
            Panel::graph(
                "Loads and detachments",
                "Programs loaded in the last five minutes that are still there, and programs detached from a hook whose target is still there.",
                Unit::Count,
                "loaded in 5 minutes",
                format!("count by ({NODE}) (max by ({OBJECT}) ({loaded}) > time() - 300) or on ({NODE}) 0 * max by ({NODE}) ({})", SCOPE.of(BUILD_INFO)),
            )
            .and(
                "detached from {{hook}} {{target}}",
                format!("max by ({HOOK}) (increase({}[5m])) > 0", SCOPE.of(HOOK_DETACHED_PROGRAMS)),
            ),
            Panel::graph(
                "Orphans",
                "Objects of each kind that no process, pin, link or hook holds; absent unless everything could be seen.",
                Unit::Count,
                "{{kind}}",
                format!("max by (job, instance, kind) ({})", SCOPE.of(OBJECTS_ORPHANED)),
            ),
            Panel::table(
                "Loaded in the time range",
                "Programs that were loaded in the selected time and are still there.",
                &CAME,
                vec![Query::new("Loaded", Unit::Date, came)],
                &[("Loaded", true)],
            )
            .size(12, 8),
            Panel::table(
                "Gone in the time range",
                "Programs that were there in the selected time and are no more.",
                &GONE,
                vec![Query::new("Loaded", Unit::Date, gone)],
                &[("Loaded", true)],
            )
            .size(12, 8),
            Panel::list(
                "Maps new in the time range",
                "Maps that were not there at the beginning of the selected time.",
                &NEW_MAPS,
                new_maps,
                &[("Map", false)],
            )
            .size(12, 8),
            Panel::table(
                "Hooks without a program",
                "Hooks that lost their last program within an hour while their target is still there.",
                &[label("hook", "Hook"), label("target", "Target"), label("netns", "Network namespace")],
                vec![Query::new(
                    "Programs",
                    Unit::Count,
                    format!("max by ({HOOK}) ({} == 0)", SCOPE.of(HOOK_PROGRAMS)),
                )],
                &[("Hook", false)],
            )
            .size(12, 8),
        ],
    }
}
