//! Events one by one as they happen: lines for a terminal, or JSON. Entry point: [`EventWriter`].

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use crate::export::{event_text, json};
use crate::model::{Event, EventKind, Kind, Owner, OwnerKind, Subject, WallClock};
use crate::text::visible;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// One line for each, in columns.
    Text {
        /// Whether with the colours of a terminal.
        colour: bool,
    },
    /// One array.
    Json,
    /// One line of JSON for each.
    Ndjson,
}

/// Characters of the column of times: `2026-03-01T12:00:00.000Z`.
const TIME_WIDTH: usize = 24;

/// Characters of the column of events: those of the longest name.
const EVENT_WIDTH: usize = {
    let (mut longest, mut at) = (0, 0);
    while at < EventKind::ALL.len() {
        let len = EventKind::ALL[at].as_str().len();
        longest = if len > longest { len } else { longest };
        at += 1;
    }
    longest
};

/// Characters of the column of objects. A longer one moves the actor.
const OBJECT_WIDTH: usize = 48;

const DIM: &str = "\x1b[2m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// Writes events.
#[derive(Debug)]
pub struct EventWriter<W> {
    out: W,
    format: EventFormat,
    is_empty: bool,
}

impl<W: Write> EventWriter<W> {
    /// Writes what comes before the first event.
    ///
    /// # Errors
    ///
    /// Those of `out`, as for all that follows.
    pub fn begin(mut out: W, format: EventFormat) -> io::Result<Self> {
        match format {
            EventFormat::Text { .. } => writeln!(
                out,
                "{:TIME_WIDTH$}  {:EVENT_WIDTH$}  {:OBJECT_WIDTH$}  ACTOR",
                "TIME", "EVENT", "OBJECT"
            )?,
            EventFormat::Json => out.write_all(b"[")?,
            EventFormat::Ndjson => {}
        }
        out.flush()?;
        Ok(Self { out, format, is_empty: true })
    }

    /// Writes events, and has them arrive.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn write(&mut self, events: &[Arc<Event>], clock: WallClock) -> io::Result<()> {
        for event in events {
            match self.format {
                EventFormat::Text { colour } => writeln!(self.out, "{}", line(event, clock, colour))?,
                EventFormat::Json => {
                    let comma = if self.is_empty { "" } else { "," };
                    write!(self.out, "{comma}\n{}", json::event(event, clock)?)?;
                }
                EventFormat::Ndjson => writeln!(self.out, "{}", json::event(event, clock)?)?,
            }
            self.is_empty = false;
        }
        self.out.flush()
    }

    /// Writes what comes after the last event.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.format == EventFormat::Json {
            self.out.write_all(if self.is_empty { b"]\n" } else { b"\n]\n" })?;
        }
        self.out.flush()
    }
}

/// Returns an event as one line: when, what, on which object, and by whom.
fn line(event: &Event, clock: WallClock, colour: bool) -> String {
    let time = format!("{:.3}", clock.at(event.at));
    let name = event.kind.as_str();
    // Names are of any origin: none may be another line, or move the cursor.
    let (object, actor) = (object(&event.subject), actor(event));
    let (object, actor) = (visible(&object), visible(&actor));
    let (dim, bright, plain) = match colour {
        true if event.kind.is_warning() => (DIM, YELLOW, PLAIN),
        true => (DIM, "", PLAIN),
        false => ("", "", ""),
    };
    format!(
        "{dim}{time:TIME_WIDTH$}{plain}  {bright}{name:EVENT_WIDTH$}{plain}  {object:OBJECT_WIDTH$}  {actor}"
    )
}

/// Returns an object: `program 17 kprobe trace_open`, `link 9 xdp of program 17 on eth0`, `map 5 hash ct at /sys/fs/bpf/ct`.
fn object(subject: &Subject) -> String {
    // What is attached to a hook is a program, known or not.
    let mut text = subject.kind.unwrap_or(Kind::Program).as_str().to_owned();
    let id = subject.id.map(|id| id.to_string());
    for part in [id.as_deref(), subject.object_type.as_deref(), subject.name.as_deref()] {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            let _infallible = write!(text, " {part}");
        }
    }
    if let Some(program) = subject.prog_id.filter(|_| subject.kind == Some(Kind::Link)) {
        let _infallible = write!(text, " of program {program}");
    }
    let _infallible = match (&subject.target, &subject.hook) {
        (Some(target), Some(hook)) => write!(text, " on {target} ({hook})"),
        (Some(target), None) => write!(text, " on {target}"),
        (None, Some(hook)) => write!(text, " on {hook}"),
        (None, None) => Ok(()),
    };
    if let Some(path) = &subject.path {
        let _infallible = write!(text, " at {path}");
    }
    text
}

/// Returns who did it, `bpftool[812] in unit ssh.service`, and the owner of the object where that is somebody else.
fn actor(event: &Event) -> String {
    let mut parts = Vec::new();
    let identity = event.actor.as_ref().and_then(|actor| actor.identity.as_deref());
    if let Some(actor) = &event.actor {
        let name = event_text::process(actor).unwrap_or_else(|| "unknown".to_owned());
        parts.push(match event_text::place(actor) {
            Some(place) => format!("{name} in {} {}", place.kind().as_str(), place.name()),
            None => name,
        });
    }
    let is_else = |owner: &&Owner| {
        let same = |actor: &Owner| actor.kind() == owner.kind() && actor.name() == owner.name();
        owner.kind() != OwnerKind::Kernel && !owner.awaits_name() && !identity.is_some_and(same)
    };
    if let Some(owner) = event.owner.as_deref().filter(is_else) {
        parts.push(format!("owner {} {}", owner.kind().as_str(), owner.name()));
    }
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::{
        Actor, ActorSource, BootTime, EventSource, Identity, Process, Tag, Target, WallClock,
    };
    use crate::text::is_invisible;

    fn clock() -> WallClock {
        WallClock { booted_at: "2026-03-01T12:00:00Z".parse().expect("it is a date") }
    }

    fn event(kind: EventKind, subject: Subject) -> Event {
        Event {
            number: 4,
            kind,
            at: BootTime(1_234_567_890),
            after: None,
            observed_at: BootTime(2_000_000_000),
            source: EventSource::Kernel,
            subject,
            actor: None,
            owner: None,
        }
    }

    fn program(name: &str) -> Subject {
        Subject {
            kind: Some(Kind::Program),
            id: Some(17),
            name: Some(name.to_owned()),
            object_type: Some("kprobe".to_owned()),
            ..Subject::default()
        }
    }

    fn of_unit(unit: &str) -> Identity {
        Identity { unit: Some(unit.to_owned()), ..Identity::default() }
    }

    fn bpftool(place: Identity) -> Actor {
        let process = Process {
            pid: 812,
            started_at_boot_ns: 10,
            name: "bpftool".to_owned(),
            executable_name: Some("bpftool".to_owned()),
        };
        Actor {
            pid: Some(812),
            thread: Some(813),
            parent: Some(1),
            executable: Some("/usr/sbin/bpftool".to_owned()),
            identity: Some(Owner::from(Identity { process: Some(process), ..place }).into()),
            known_by: ActorSource::Process,
        }
    }

    fn written(format: EventFormat, events: Vec<Event>) -> String {
        let mut out = Vec::new();
        let mut writer = EventWriter::begin(&mut out, format).expect("a vector takes everything");
        let events: Vec<_> = events.into_iter().map(Arc::new).collect();
        let (first, rest) = events.split_at(events.len().min(1));
        for events in [first, rest] {
            writer.write(events, clock()).expect("a vector takes everything");
        }
        writer.finish().expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_are_aligned_below_their_titles() {
        let by = Event {
            actor: Some(bpftool(of_unit("ssh.service"))),
            ..event(EventKind::ProgramLoad, program("a"))
        };
        let text = written(
            EventFormat::Text { colour: false },
            vec![by, event(EventKind::ProgramUnexpected, program("b"))],
        );
        let expected = "\
TIME                      EVENT                   OBJECT                                            ACTOR
2026-03-01T12:00:01.234Z  bpf.program.load        program 17 kprobe a                               bpftool[812] in unit ssh.service
2026-03-01T12:00:01.234Z  bpf.program.unexpected  program 17 kprobe b                               -
";
        assert_eq!(text, expected);
    }

    #[test]
    fn objects_are_described_as_far_as_they_are_known() {
        let link = Subject {
            kind: Some(Kind::Link),
            id: Some(9),
            object_type: Some("tracing".to_owned()),
            prog_id: Some(17),
            target: Some(Target::Tracepoint { group: Some("sched".into()), name: "sched_switch".into() }),
            ..Subject::default()
        };
        let hook = Subject {
            kind: None,
            hook: Some("tc_ingress".to_owned()),
            target: Some(Target::NetNs { inode: 5 }),
            ..Subject::default()
        };
        let pin = Subject {
            kind: Some(Kind::Map),
            id: Some(5),
            path: Some("/sys/fs/bpf/ct".into()),
            ..Subject::default()
        };
        let gone = Subject {
            kind: Some(Kind::Program),
            id: Some(3),
            tag: Some(Tag([1; 8])),
            name: Some(String::new()),
            ..Subject::default()
        };
        for (subject, expected) in [
            (program("trace_open"), "program 17 kprobe trace_open"),
            (link, "link 9 tracing of program 17 on sched:sched_switch"),
            (hook, "program on netns 5 (tc_ingress)"),
            (pin, "map 5 at /sys/fs/bpf/ct"),
            (gone, "program 3"),
        ] {
            assert_eq!(object(&subject), expected);
        }
    }

    #[test]
    fn the_owner_is_named_where_the_actor_does_not_say_it() {
        let with = |actor: Option<Actor>, owner: Option<Identity>| {
            let owner = owner.map(|owner| Arc::new(Owner::from(owner)));
            self::actor(&Event { actor, owner, ..event(EventKind::MapCreate, Subject::default()) })
        };
        let (ssh, cilium) = (|| of_unit("ssh.service"), || of_unit("cilium.service"));
        let unknown = Actor { pid: None, identity: None, executable: None, ..bpftool(ssh()) };
        let ended = Actor { identity: None, ..bpftool(ssh()) };
        for (actor, owner, expected) in [
            (None, None, "-"),
            (None, Some(Identity::default()), "-"),
            (None, Some(cilium()), "owner unit cilium.service"),
            (Some(bpftool(ssh())), Some(ssh()), "bpftool[812] in unit ssh.service"),
            (
                Some(bpftool(ssh())),
                Some(cilium()),
                "bpftool[812] in unit ssh.service, owner unit cilium.service",
            ),
            (Some(bpftool(Identity::default())), None, "bpftool[812]"),
            (
                Some(bpftool(Identity::default())),
                Some(Identity::processes("bpftool".to_owned())),
                "bpftool[812]",
            ),
            (
                Some(bpftool(Identity::default())),
                Some(Identity::processes("agent".to_owned())),
                "bpftool[812], owner process agent",
            ),
            (Some(Actor { pid: Some(9), executable: None, ..unknown.clone() }), None, "process 9"),
            (Some(ended), None, "bpftool[812]"),
            (Some(unknown), None, "unknown"),
        ] {
            assert_eq!(with(actor, owner), expected);
        }
    }

    #[test]
    fn a_name_cannot_add_lines_or_move_the_cursor() {
        let evil = "a\n2026\t\u{1b}[2J\u{202e}\u{9b}";
        let subject = Subject { path: Some(evil.into()), hook: Some(evil.to_owned()), ..program(evil) };
        let event = Event {
            actor: Some(bpftool(of_unit(evil))),
            owner: Some(Owner::from(of_unit("x\r")).into()),
            ..event(EventKind::PinCreate, subject)
        };
        for format in [EventFormat::Text { colour: false }, EventFormat::Ndjson] {
            let text = written(format, vec![event.clone()]);
            let lines = if format == EventFormat::Ndjson { 1 } else { 2 };
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(!text.contains(|c| c != '\n' && is_invisible(c)), "{text:?}");
        }
        let text = written(EventFormat::Json, vec![event.clone()]);
        let read: Vec<Event> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, [event], "escapes mean what was there");
    }

    #[test]
    fn only_warnings_have_a_colour_of_their_own() {
        let text = |kind| line(&event(kind, program("a")), clock(), true);
        assert!(text(EventKind::ObjectOrphan).contains("\u{1b}[33mbpf.object.orphan"));
        assert!(!text(EventKind::ProgramLoad).contains("\u{1b}[33m"));
        let plain = line(&event(EventKind::ObjectOrphan, program("a")), clock(), false);
        assert_eq!(
            text(EventKind::ObjectOrphan)
                .replace("\u{1b}[2m", "")
                .replace("\u{1b}[33m", "")
                .replace(PLAIN, ""),
            plain
        );
    }

    #[test]
    fn an_array_is_complete_with_any_number_of_events() {
        for count in 0..3 {
            let text = written(EventFormat::Json, vec![event(EventKind::MapCreate, program("a")); count]);
            let array: Vec<Event> = serde_json::from_str(&text).expect("JSON");
            assert_eq!(array, vec![event(EventKind::MapCreate, program("a")); count]);
            assert!(text.ends_with("]\n"), "{text}");
        }
    }

    #[test]
    fn each_line_of_ndjson_is_an_event_with_dates() {
        let text = written(EventFormat::Ndjson, vec![event(EventKind::ObjectOrphan, program("a")); 2]);
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(value["kind"], "bpf.object.orphan");
            assert_eq!(value["severity"], "WARN");
            assert_eq!(value["at"], "2026-03-01T12:00:01.23456789Z");
            assert_eq!(value["at_boot_ns"], 1_234_567_890);
            let names: Vec<_> = value.as_object().expect("an object").keys().collect();
            assert_eq!(
                names[..5],
                ["schema_version", "number", "kind", "at", "at_boot_ns"],
                "the date is before the number"
            );
        }
    }

    #[test]
    fn events_arrive_at_once_and_a_failing_output_is_an_error() {
        #[derive(Debug)]
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let begun = EventWriter::begin(Full, EventFormat::Ndjson);
        assert_eq!(begun.expect_err("it is flushed").kind(), io::ErrorKind::BrokenPipe);
        let mut writer = EventWriter { out: Full, format: EventFormat::Ndjson, is_empty: true };
        let events = [Arc::new(event(EventKind::MapCreate, program("a")))];
        assert!(writer.write(&events, clock()).is_err(), "it is flushed");
    }
}
