//! An event of every kind in every format of the subcommand `events`, hostile names included.

use std::sync::Arc;

use bpf_metrics_exporter::export::events::{EventFormat, EventWriter};
use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::model::{
    Actor, ActorSource, BootTime, Cgroup, Container, Device, Event, EventKind, EventSource, IdentifiedBy,
    Identity, Kind, Owner, Pod, Process, Subject, Tag, Target, WallClock,
};
use bpf_metrics_exporter::text::is_invisible;
use test_support::golden::assert_golden;

/// A name that is not readable as it is: a line feed, the end of a text, a command to a terminal, and letters that change the
/// direction of those that follow.
const HOSTILE: &str = "a\nb\0\u{7}\"\\\u{1b}[2J\u{9b}31m\u{202e}gnp.exe\u{2028}\u{e0041}\u{5d0}";

const SECOND: u64 = 1_000_000_000;

pub(super) fn clock() -> WallClock {
    WallClock { booted_at: "2026-03-01T12:00:00Z".parse().expect("it is a date") }
}

fn pod() -> Identity {
    let key = "8d2f1c34-5b6a-4c7d-9e8f-0a1b2c3d4e5f";
    Identity {
        pod: Some(Pod {
            key: key.to_owned(),
            uid: Some(key.to_owned()),
            namespace: Some("kube-system".to_owned()),
            name: Some("cilium-x7k2p".to_owned()),
        }),
        container: Some(Container {
            id: "d5a3c1b0e9f8a7b6c5d4e3f2a1b0c9d8".to_owned(),
            runtime: Some("containerd".into()),
            name: Some("agent".to_owned()),
        }),
        identified_by: Some(IdentifiedBy::Path),
        ..Identity::default()
    }
}

fn unit(name: &str) -> Identity {
    Identity { unit: Some(name.to_owned()), ..Identity::default() }
}

/// A process in a place.
fn actor(name: &str, place: Identity, known_by: ActorSource) -> Actor {
    let process = Process {
        pid: 812,
        started_at_boot_ns: 3 * SECOND,
        name: name.to_owned(),
        executable_name: Some(name.to_owned()),
    };
    Actor {
        pid: Some(812),
        thread: Some(813),
        parent: Some(1),
        executable: Some(format!("/usr/bin/{name}")),
        identity: Some(Owner::from(Identity { process: Some(process), ..place }).into()),
        known_by,
    }
}

fn owned_by(identity: Identity, event: Event) -> Event {
    Event { owner: Some(Arc::new(Owner::from(identity))), ..event }
}

/// Something that the kernel reported.
fn reported(kind: EventKind, second: u64, subject: Subject) -> Event {
    Event::new(
        kind,
        EventSource::Kernel,
        (BootTime(second * SECOND + 123_456_789), BootTime(second * SECOND + 124_000_000)),
        subject,
    )
}

/// Something that a reading found.
fn found(kind: EventKind, second: u64, subject: Subject) -> Event {
    let after = Some(BootTime((second - 1) * SECOND + 123_456_789));
    Event { after, source: EventSource::Comparison, ..reported(kind, second, subject) }
}

fn program(id: u32, name: &str, program_type: &str) -> Subject {
    Subject {
        kind: Some(Kind::Program),
        id: Some(id),
        name: Some(name.to_owned()),
        object_type: Some(program_type.to_owned()),
        tag: Some(Tag([0xca, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f, 0x60, 0x71])),
        ..Subject::default()
    }
}

fn map(id: u32, name: &str) -> Subject {
    Subject {
        kind: Some(Kind::Map),
        id: Some(id),
        name: Some(name.to_owned()),
        object_type: Some("lru_hash".to_owned()),
        ..Subject::default()
    }
}

fn link(id: u32, link_type: &str, target: Target) -> Subject {
    Subject {
        kind: Some(Kind::Link),
        id: Some(id),
        object_type: Some(link_type.to_owned()),
        prog_id: Some(17),
        target: Some(target),
        ..Subject::default()
    }
}

/// A program on a hook without a link.
fn hook(program: Option<u32>, hook: &str, target: Target) -> Subject {
    Subject {
        kind: program.map(|_| Kind::Program),
        id: program,
        prog_id: program,
        hook: Some(hook.to_owned()),
        target: Some(target),
        ..Subject::default()
    }
}

fn pin(id: u32, path: &str) -> Subject {
    Subject { kind: Some(Kind::Map), id: Some(id), path: Some(path.into()), ..Subject::default() }
}

/// An event of each kind, in the order of [`EventKind::ALL`], and one of a program that was gone at once.
pub(super) fn events() -> Vec<Event> {
    let eth0 = |name: Option<&str>| Target::Device(Device { ifindex: 2, name: name.map(Into::into) });
    let cgroup = Target::Cgroup(Cgroup { id: 4721, path: Some("/system.slice/ssh.service".into()) });
    let unloaded = Subject { since: Some(BootTime(5 * SECOND)), ..program(17, "trace_open", "kprobe") };
    let gone = Subject { name: None, object_type: None, ..program(402, "", "") };
    let unknown = Actor {
        parent: None,
        executable: None,
        identity: None,
        ..actor("", Identity::default(), ActorSource::Unknown)
    };
    let load = program(401, "cil_from_container_to_the_world", "sched_cls");
    let by = |actor, event| Event { actor: Some(actor), ..event };
    let events = vec![
        by(
            actor("cilium-agent", pod(), ActorSource::Process),
            owned_by(pod(), reported(EventKind::ProgramLoad, 10, load)),
        ),
        by(
            actor("bpftool", unit("ssh.service"), ActorSource::Memory),
            owned_by(pod(), reported(EventKind::ProgramUnload, 11, unloaded)),
        ),
        by(
            actor(HOSTILE, unit(HOSTILE), ActorSource::Memory),
            reported(EventKind::ProgramUnexpected, 12, program(4_294_967_295, HOSTILE, HOSTILE)),
        ),
        owned_by(pod(), found(EventKind::MapCreate, 13, map(5, "cilium_ct4_glob"))),
        owned_by(unit(HOSTILE), found(EventKind::MapDestroy, 14, map(6, HOSTILE))),
        owned_by(unit("ssh.service"), found(EventKind::LinkAttach, 15, link(9, "cgroup", cgroup))),
        found(EventKind::LinkDetach, 16, link(10, "xdp", eth0(Some(HOSTILE)))),
        found(EventKind::HookAttach, 17, hook(Some(17), "tc_ingress", eth0(Some("eth0")))),
        found(EventKind::HookDetach, 18, hook(None, "xdp", eth0(None))),
        found(EventKind::PinCreate, 19, pin(5, "/sys/fs/bpf/tc/globals/cilium_ct4_global")),
        found(EventKind::PinRemove, 20, pin(6, &format!("/sys/fs/bpf/{HOSTILE}"))),
        owned_by(
            Identity::default(),
            found(EventKind::ObjectOrphan, 21, program(17, "trace_open", "kprobe")),
        ),
        by(unknown, reported(EventKind::ProgramLoad, 22, gone)),
    ];
    let number = |(number, event)| Event { number, ..event };
    (1..).zip(events).map(number).collect()
}

fn written(format: EventFormat) -> String {
    let mut out = Vec::new();
    let mut writer = EventWriter::begin(&mut out, format).expect("a vector takes everything");
    let events: Vec<_> = events().into_iter().map(Arc::new).collect();
    writer.write(&events, clock()).expect("a vector takes everything");
    writer.finish().expect("a vector takes everything");
    String::from_utf8(out).expect("text")
}

#[test]
fn there_is_an_event_of_each_kind() {
    let kinds: Vec<_> = events().iter().map(|event| event.kind).collect();
    assert_eq!(kinds[..EventKind::ALL.len()], EventKind::ALL);
}

#[test]
fn events_as_text() {
    let text = written(EventFormat::Text { colour: false });
    assert_eq!(text.lines().count(), 1 + events().len(), "one line each");
    assert_golden("tests/golden/events/events.txt", &text);
    let colour = written(EventFormat::Text { colour: true });
    let without =
        ["\u{1b}[2m", "\u{1b}[33m", "\u{1b}[0m"].iter().fold(colour, |text, code| text.replace(code, ""));
    assert_eq!(without, text, "colours are all that is added, and none of them comes from a name");
}

#[test]
fn events_as_json() {
    let text = written(EventFormat::Json);
    let read: Vec<Event> = serde_json::from_str(&text).expect("it is one array");
    assert_eq!(read, events(), "nothing is lost");
    assert_golden("tests/golden/events/events.json", &text);
}

#[test]
fn events_as_lines_of_json() {
    let text = written(EventFormat::Ndjson);
    let of_the_endpoint = |event: &Event| json::event(event, clock()).expect("it is JSON");
    let expected: Vec<_> = events().iter().map(of_the_endpoint).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "as the endpoint sends them");
    assert_golden("tests/golden/events/events.ndjson", &text);
}

#[test]
fn no_format_shows_an_invisible_character() {
    for format in [EventFormat::Text { colour: false }, EventFormat::Json, EventFormat::Ndjson] {
        let text = written(format);
        assert!(!text.contains(|c| c != '\n' && is_invisible(c)), "{format:?}: {text:?}");
    }
}
