//! Events as OTLP log records, written field by field, in requests split at a maximum size.
//! Entry point: [`LogEncoder::encode`]. Source: `opentelemetry/proto/logs/v1/logs.proto`.

use std::sync::Arc;

use jiff::Timestamp;
use prost::bytes::Bytes;

use super::request::{Items, Request, RequestHead, Signal, nanoseconds, write_attribute, write_number};
use crate::export::event_text;
use crate::export::otlp::settings::Compression;
use crate::export::wire;
use crate::model::{Actor, Event, IdentifiedBy, Kind, Subject, Target, WallClock};

/// `SeverityNumber.SEVERITY_NUMBER_INFO` and `SEVERITY_NUMBER_WARN`.
const INFO: u64 = 9;
const WARN: u64 = 13;

/// Encodes events for one resource.
#[derive(Debug)]
pub struct LogEncoder {
    head: RequestHead,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// Text.
    Text(&'a str),
    /// Text that was put together.
    Composed(String),
    /// A number.
    Number(u64),
}

impl LogEncoder {
    /// Returns an encoder with these attributes of the resource.
    #[must_use]
    pub fn new(resource: &[(String, String)]) -> Self {
        Self { head: RequestHead::new(resource) }
    }

    /// Encodes events as requests of at most `max_request` bytes (a single record may be longer).
    #[must_use]
    pub fn encode(&self, events: &[Arc<Event>], clock: WallClock, max_request: usize) -> Vec<Request> {
        let max_request = max_request.min(wire::MAX_LEN);
        let (mut requests, mut record) = (Vec::new(), Vec::new());
        let (mut buffer, mut count) = (Vec::new(), 0);
        for event in events {
            record.clear();
            write_record(&mut record, event, clock);
            let framed = 1 + wire::varint_len(record.len() as u64) + record.len();
            if count > 0 && buffer.len() + framed > max_request {
                requests.push(self.finish(std::mem::take(&mut buffer), std::mem::take(&mut count)));
            }
            if count == 0 {
                buffer.extend_from_slice(self.head.bytes());
            }
            wire::bytes(&mut buffer, 2, &record);
            count += 1;
        }
        if count > 0 {
            requests.push(self.finish(buffer, count));
        }
        requests
    }

    fn finish(&self, mut buffer: Vec<u8>, count: u64) -> Request {
        self.head.close(&mut buffer);
        let items = Items { signal: Signal::Logs, count };
        Request { bytes: Bytes::from(buffer), compression: Compression::None, items }
    }
}

/// Appends the fields of a `LogRecord`.
fn write_record(out: &mut Vec<u8>, event: &Event, clock: WallClock) {
    wire::fixed64(out, 1, nanoseconds(clock.at(event.at)));
    wire::number(out, 2, if event.kind.is_warning() { WARN } else { INFO });
    wire::bytes(out, 3, event.kind.severity().as_bytes());
    let body = event_text::line(event);
    wire::header(out, 5, 1 + wire::varint_len(body.len() as u64) + body.len());
    wire::bytes(out, 1, body.as_bytes());
    attributes(event, clock, |key, value| match value {
        AttributeValue::Text(text) => write_attribute(out, 6, key, text),
        AttributeValue::Composed(text) => write_attribute(out, 6, key, &text),
        AttributeValue::Number(number) => write_number(out, 6, key, number),
    });
    wire::fixed64(out, 11, nanoseconds(clock.at(event.observed_at)));
    wire::bytes(out, 12, event.kind.as_str().as_bytes());
}

/// Passes each attribute of an event that is known to `add`. No key occurs twice.
pub fn attributes<'e>(
    event: &'e Event,
    clock: WallClock,
    mut add: impl FnMut(&'static str, AttributeValue<'e>),
) {
    let Event { number, after, source, subject, actor, owner, .. } = event;
    let add: &mut dyn FnMut(&'static str, AttributeValue<'e>) = &mut add;
    let date = |time: Timestamp| AttributeValue::Composed(time.to_string());
    add("bpf.event.number", AttributeValue::Number(*number));
    add("bpf.event.source", AttributeValue::Text(source.as_str()));
    if let Some(after) = after {
        add("bpf.event.after", date(clock.at(*after)));
    }
    if let Some(since) = subject.since {
        // As labels of metrics have it, which a restarted exporter reports alike.
        add("bpf.object.since", date(clock.second(since)));
    }
    add_subject(subject, add);
    if let Some(actor) = actor {
        add_actor(actor, add);
    }
    if let Some(owner) = owner {
        if !owner.awaits_name() {
            add("owner", AttributeValue::Text(owner.name()));
        }
        add("owner_kind", AttributeValue::Text(owner.kind().as_str()));
    }
}

fn add_subject<'e>(subject: &'e Subject, add: &mut dyn FnMut(&'static str, AttributeValue<'e>)) {
    let Subject { kind, id, name, object_type, tag, since: _, prog_id, hook, target, path } = subject;
    if let Some(kind) = kind {
        add("bpf.object.kind", AttributeValue::Text(kind.as_str()));
    }
    let mut has_program = false;
    if let Some(kind) = kind {
        let [id_key, name_key, type_key] = match kind {
            Kind::Program => ["bpf.program.id", "bpf.program.name", "bpf.program.type"].map(Some),
            Kind::Map => ["bpf.map.id", "bpf.map.name", "bpf.map.type"].map(Some),
            Kind::Link => [Some("bpf.link.id"), None, Some("bpf.link.type")],
            Kind::Btf => [Some("bpf.btf.id"), Some("bpf.btf.name"), None],
        };
        if let (Some(id_key), Some(id)) = (id_key, id) {
            has_program = *kind == Kind::Program;
            add(id_key, AttributeValue::Number((*id).into()));
        }
        if let (Some(name_key), Some(name)) = (name_key, name) {
            add(name_key, AttributeValue::Text(name));
        }
        if let (Some(type_key), Some(object_type)) = (type_key, object_type) {
            add(type_key, AttributeValue::Text(object_type));
        }
    }
    if let Some(tag) = tag {
        add("bpf.program.tag", AttributeValue::Composed(tag.to_string()));
    }
    if let Some(program) = prog_id.filter(|_| !has_program) {
        add("bpf.program.id", AttributeValue::Number(program.into()));
    }
    if let Some(hook) = hook {
        add("bpf.hook", AttributeValue::Text(hook));
    }
    if let Some(target) = target.as_ref().map(Target::to_string) {
        add("bpf.target", AttributeValue::Composed(target));
    }
    if let Some(path) = path {
        add("bpf.pin.path", AttributeValue::Text(path));
    }
}

/// The actor, by the names of the semantic conventions where there are any. Source: their pages "Process", "Thread", "Container" and
/// "Kubernetes".
fn add_actor<'e>(actor: &'e Actor, add: &mut dyn FnMut(&'static str, AttributeValue<'e>)) {
    let Actor { pid, thread, parent, executable, identity, known_by } = actor;
    add("bpf.actor.known_by", AttributeValue::Text(known_by.as_str()));
    for (key, id) in [("process.pid", pid), ("thread.id", thread), ("process.parent_pid", parent)] {
        if let Some(id) = id {
            add(key, AttributeValue::Number((*id).into()));
        }
    }
    let identity = identity.as_deref();
    let process = identity.and_then(|identity| identity.process.as_ref());
    let text = |text: Option<&'e str>| text.map(AttributeValue::Text);
    let executable_name = process.and_then(|process| process.executable_name.as_deref());
    let container = identity.and_then(|identity| identity.container.as_ref());
    let pod = identity.and_then(|identity| identity.pod.as_ref());
    let container_name = container.and_then(|container| container.name.as_deref());
    let (own_name, name_in_pod) = if pod.is_some() { (None, container_name) } else { (container_name, None) };
    let texts = [
        ("bpf.actor.comm", text(process.map(|process| &*process.name))),
        ("process.executable.path", text(executable.as_deref())),
        ("process.executable.name", text(executable_name.or_else(|| actor.file_name()))),
        ("container.id", text(container.map(|container| &*container.id))),
        ("container.name", text(own_name)),
        ("container.runtime.name", text(container.and_then(|container| container.runtime.as_deref()))),
        ("k8s.namespace.name", text(pod.and_then(|pod| pod.namespace.as_deref()))),
        ("k8s.pod.name", text(pod.and_then(|pod| pod.name.as_deref()))),
        ("k8s.pod.uid", text(pod.and_then(|pod| pod.uid.as_deref()))),
        ("k8s.container.name", text(name_in_pod)),
        ("systemd.unit", text(identity.and_then(|identity| identity.unit.as_deref()))),
        (
            "bpf.actor.identified_by",
            text(identity.and_then(|identity| identity.identified_by).map(IdentifiedBy::as_str)),
        ),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            add(key, value);
        }
    }
}

#[cfg(test)]
mod tests;
