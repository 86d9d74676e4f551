//! An event as one line of text, for log records, and the words for a process that a terminal shows, too.
//! Entry point: [`line()`].

use std::fmt::Write as _;

use crate::model::{Actor, Event, EventKind, Kind, Owner, OwnerKind, Subject, Target};
use crate::text::visible;

/// Returns what happened, to what and by whom, without the time:
/// `program 17 "trace_open" (kprobe) loaded by bpftrace[812] in unit ssh.service`.
#[must_use]
pub fn line(event: &Event) -> String {
    let Event { kind, subject, .. } = event;
    let target = subject.target.as_ref().map(Target::to_string);
    let place = match (&target, &subject.hook) {
        (Some(target), Some(hook)) => Some(format!("{target} ({hook})")),
        (target, hook) => target.as_ref().or(hook.as_ref()).cloned(),
    };
    let path = subject.path.as_deref();
    let mut line = object(subject);
    line += match kind {
        EventKind::ProgramLoad => " loaded",
        EventKind::ProgramUnload => " unloaded",
        EventKind::ProgramUnexpected => " is not in the baseline",
        EventKind::MapCreate => " created",
        EventKind::MapDestroy => " destroyed",
        EventKind::LinkAttach | EventKind::HookAttach => " attached",
        EventKind::LinkDetach | EventKind::HookDetach => " detached",
        EventKind::PinCreate => " pinned",
        EventKind::PinRemove => " unpinned",
        EventKind::ObjectOrphan => " orphaned: its last holder ended",
    };
    let (word, place) = match kind {
        EventKind::LinkAttach | EventKind::HookAttach => (" to ", place.as_deref()),
        EventKind::LinkDetach | EventKind::HookDetach => (" from ", place.as_deref()),
        EventKind::PinCreate => (" at ", path),
        EventKind::PinRemove => (" from ", path),
        _ => ("", None),
    };
    if let Some(place) = place {
        line += word;
        line += place;
    }
    // The actor of an unexpected program is that of its load.
    let by = if *kind == EventKind::ProgramUnexpected { ", loaded by " } else { " by " };
    let located = match &event.actor {
        Some(actor) => {
            line += by;
            add_actor(&mut line, actor)
        }
        None => false,
    };
    if let Some(owner) = event.owner.as_ref().filter(|owner| !located && !owner.awaits_name())
        && owner.kind() != OwnerKind::Kernel
    {
        let _infallible = write!(line, "; owned by {} {}", owner.kind().as_str(), owner.name());
    }
    // Names are of any origin, and the event may be from another exporter.
    visible(&line).into_owned()
}

/// The object: `program 17 "trace_open" (kprobe)`, `link 9 (kprobe_multi) of program 17`.
fn object(subject: &Subject) -> String {
    let kind = match (subject.kind, &subject.hook) {
        (Some(kind), _) => kind.as_str(),
        (None, Some(_)) => Kind::Program.as_str(),
        (None, None) => "object",
    };
    let mut text = match subject.id.filter(|_| subject.kind.is_some()) {
        Some(id) => format!("{kind} {id}"),
        None => format!("a {kind}"),
    };
    if let Some(name) = subject.name.as_ref().filter(|name| !name.is_empty()) {
        let _infallible = write!(text, " \"{name}\"");
    }
    if let Some(object_type) = &subject.object_type {
        let _infallible = write!(text, " ({object_type})");
    }
    if let Some(program) = subject.prog_id.filter(|_| subject.kind == Some(Kind::Link)) {
        let _infallible = write!(text, " of program {program}");
    }
    text
}

/// Adds an actor: `bpftrace[812] in unit ssh.service`. Returns whether it says where the process is.
fn add_actor(line: &mut String, actor: &Actor) -> bool {
    line.push_str(&process(actor).unwrap_or_else(|| "an unknown process".to_owned()));
    let Some(place) = place(actor) else { return false };
    let _infallible = write!(line, " in {} {}", place.kind().as_str(), place.name());
    true
}

/// Returns a process: `bpftool[812]`. `None` if neither its name nor its pid is known.
pub(super) fn process(actor: &Actor) -> Option<String> {
    let process = actor.identity.as_ref().and_then(|identity| identity.process.as_ref());
    let name = process.map(|process| &*process.name).or_else(|| actor.file_name());
    match (name, actor.pid) {
        (Some(name), Some(pid)) => Some(format!("{name}[{pid}]")),
        (Some(name), None) => Some(name.to_owned()),
        (None, pid) => Some(format!("process {}", pid?)),
    }
}

/// Returns the pod, container or unit of a process, which says more of it than its name.
pub(super) fn place(actor: &Actor) -> Option<&Owner> {
    let has_place =
        |owner: &&Owner| matches!(owner.kind(), OwnerKind::Pod | OwnerKind::Container | OwnerKind::Unit);
    actor.identity.as_deref().filter(has_place)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{ActorSource, BootTime, Container, EventSource, Identity, Process};

    fn event(kind: EventKind, subject: Subject) -> Event {
        Event {
            number: 1,
            kind,
            at: BootTime(1),
            after: None,
            observed_at: BootTime(2),
            source: EventSource::Kernel,
            subject,
            actor: None,
            owner: None,
        }
    }

    fn subject(kind: Kind, id: u32, name: Option<&str>, object_type: &str) -> Subject {
        Subject {
            kind: Some(kind),
            id: Some(id),
            name: name.map(str::to_owned),
            object_type: Some(object_type.to_owned()),
            ..Subject::default()
        }
    }

    fn actor(identity: Option<Identity>) -> Actor {
        Actor {
            pid: Some(812),
            thread: Some(812),
            parent: None,
            executable: None,
            identity: identity.map(|identity| Arc::new(Owner::from(identity))),
            known_by: ActorSource::Process,
        }
    }

    fn process() -> Process {
        Process { pid: 812, started_at_boot_ns: 1, name: "bpftrace".to_owned(), executable_name: None }
    }

    #[test]
    fn each_kind_of_event_is_a_sentence() {
        let program = || subject(Kind::Program, 17, Some("trace_open"), "kprobe");
        let device = crate::model::Device { ifindex: 2, name: Some("eth0".into()) };
        let link = Subject {
            prog_id: Some(17),
            target: Some(Target::StructOps { name: "tcp_congestion_ops".into() }),
            ..subject(Kind::Link, 9, None, "struct_ops")
        };
        let hook = Subject {
            prog_id: Some(17),
            hook: Some("tcx_ingress".to_owned()),
            target: Some(Target::Device(device)),
            ..program()
        };
        let pin = Subject { path: Some("/sys/fs/bpf/x".into()), ..program() };
        let map = || subject(Kind::Map, 5, Some("counts"), "hash");
        let unknown = Subject { hook: Some("cgroup_device".to_owned()), ..Subject::default() };
        for (kind, subject, expected) in [
            (EventKind::ProgramLoad, program(), "program 17 \"trace_open\" (kprobe) loaded"),
            (EventKind::ProgramUnload, program(), "program 17 \"trace_open\" (kprobe) unloaded"),
            (
                EventKind::ProgramUnexpected,
                program(),
                "program 17 \"trace_open\" (kprobe) is not in the baseline",
            ),
            (EventKind::MapCreate, map(), "map 5 \"counts\" (hash) created"),
            (EventKind::MapDestroy, map(), "map 5 \"counts\" (hash) destroyed"),
            (
                EventKind::LinkAttach,
                link.clone(),
                "link 9 (struct_ops) of program 17 attached to tcp_congestion_ops",
            ),
            (
                EventKind::LinkDetach,
                link,
                "link 9 (struct_ops) of program 17 detached from tcp_congestion_ops",
            ),
            (
                EventKind::HookAttach,
                hook.clone(),
                "program 17 \"trace_open\" (kprobe) attached to eth0 (tcx_ingress)",
            ),
            (
                EventKind::HookDetach,
                hook,
                "program 17 \"trace_open\" (kprobe) detached from eth0 (tcx_ingress)",
            ),
            (EventKind::HookDetach, unknown, "a program detached from cgroup_device"),
            (EventKind::PinCreate, pin.clone(), "program 17 \"trace_open\" (kprobe) pinned at /sys/fs/bpf/x"),
            (EventKind::PinRemove, pin, "program 17 \"trace_open\" (kprobe) unpinned from /sys/fs/bpf/x"),
            (EventKind::ObjectOrphan, map(), "map 5 \"counts\" (hash) orphaned: its last holder ended"),
        ] {
            assert_eq!(line(&event(kind, subject)), expected, "{kind:?}");
        }
    }

    #[test]
    fn the_actor_is_named_with_the_place_it_is_in_and_else_the_owner_is() {
        let by = |actor: Actor, owner: Option<Identity>| {
            let subject = Subject { kind: Some(Kind::Program), id: Some(17), ..Subject::default() };
            let owner = owner.map(|identity| Arc::new(Owner::from(identity)));
            let event = Event { actor: Some(actor), owner, ..event(EventKind::ProgramLoad, subject) };
            let line = line(&event);
            line.strip_prefix("program 17 loaded by ").expect("it begins so").to_owned()
        };
        let unit = Identity { unit: Some("ssh.service".to_owned()), ..Identity::default() };
        let in_unit = Identity { process: Some(process()), ..unit.clone() };
        assert_eq!(by(actor(Some(in_unit)), Some(unit.clone())), "bpftrace[812] in unit ssh.service");
        let container = Container { id: "c0ffee".to_owned(), runtime: None, name: None };
        let in_container =
            Identity { process: Some(process()), container: Some(container), ..Identity::default() };
        assert_eq!(by(actor(Some(in_container)), None), "bpftrace[812] in container c0ffee");
        let alone = Identity { process: Some(process()), ..Identity::default() };
        assert_eq!(by(actor(Some(alone)), Some(unit)), "bpftrace[812]; owned by unit ssh.service");
        let named = Actor { executable: Some("/usr/bin/bpftool".to_owned()), ..actor(None) };
        assert_eq!(by(named, Some(Identity::default())), "bpftool[812]");
        assert_eq!(by(actor(None), None), "process 812");
        assert_eq!(by(Actor { pid: None, ..actor(None) }, None), "an unknown process");
    }

    #[test]
    fn a_name_cannot_add_lines() {
        let subject = subject(Kind::Map, 5, Some("a\nb\u{202e}"), "hash");
        assert_eq!(line(&event(EventKind::MapCreate, subject)), "map 5 \"a\\x0ab\\u{202e}\" (hash) created");
    }
}
