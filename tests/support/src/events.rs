//! Events in tests, and their numbers in requests.

use std::sync::Arc;

use bpf_metrics_exporter::model::{
    Actor, ActorSource, BootTime, Container, Event, EventKind, EventSource, Identity, Kind, Owner, Process,
    Subject, Tag,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

/// Returns the load of a program by a process in a container.
#[must_use]
pub fn load(id: u32, at: BootTime) -> Event {
    let process = Process {
        pid: 812,
        started_at_boot_ns: 1,
        name: "bpftrace".to_owned(),
        executable_name: Some("bpftrace".to_owned()),
    };
    let container = Container {
        id: "c0ffee".to_owned(),
        runtime: Some("podman".into()),
        name: Some("tracer".to_owned()),
    };
    let identity = Identity { process: Some(process), container: Some(container), ..Identity::default() };
    let owner = Identity { unit: Some("ssh.service".to_owned()), ..Identity::default() };
    Event {
        number: 0,
        kind: EventKind::ProgramLoad,
        at,
        after: None,
        observed_at: BootTime(at.0 + 1_000),
        source: EventSource::Kernel,
        subject: Subject {
            kind: Some(Kind::Program),
            id: Some(id),
            name: Some("trace_open".to_owned()),
            object_type: Some("kprobe".to_owned()),
            tag: Some(Tag([7; 8])),
            since: Some(at),
            ..Subject::default()
        },
        actor: Some(Actor {
            pid: Some(812),
            thread: Some(813),
            parent: Some(1),
            executable: Some("/usr/bin/bpftrace".to_owned()),
            identity: Some(Arc::new(Owner::from(identity))),
            known_by: ActorSource::Process,
        }),
        owner: Some(Arc::new(Owner::from(owner))),
    }
}

/// Returns the log records of a request.
pub fn records(message: &ExportLogsServiceRequest) -> impl Iterator<Item = &LogRecord> {
    let scopes = message.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.flat_map(|scope| &scope.log_records)
}

/// Returns an attribute of a record, a number as text.
#[must_use]
pub fn attribute(record: &LogRecord, key: &str) -> Option<String> {
    let attribute = record.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the numbers of the events in a request.
#[must_use]
pub fn numbers(message: &ExportLogsServiceRequest) -> Vec<u64> {
    let number = |record| attribute(record, "bpf.event.number")?.parse().ok();
    records(message).filter_map(number).collect()
}
