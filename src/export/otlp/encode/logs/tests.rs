use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::export::otlp::encode::halves;
use crate::model::{
    ActorSource, BootTime, Container, EventKind, EventSource, IdentifiedBy, Identity, Owner, Pod, Process,
    Tag,
};

fn clock() -> WallClock {
    WallClock { booted_at: "2026-03-01T03:00:00.25Z".parse().expect("it is a date") }
}

fn resource() -> Vec<(String, String)> {
    vec![("service.name".to_owned(), "bpf-metrics-exporter".to_owned())]
}

/// An event of which everything is known.
fn full(kind: EventKind, of: Kind) -> Event {
    let process = Process {
        pid: 812,
        started_at_boot_ns: 7,
        name: "bpftrace".to_owned(),
        executable_name: Some("bpftrace-aot".to_owned()),
    };
    let container = Container {
        id: "c0ffee".to_owned(),
        runtime: Some("containerd".into()),
        name: Some("agent".to_owned()),
    };
    let pod = Pod {
        key: "key".to_owned(),
        uid: Some("2c48913c".to_owned()),
        namespace: Some("kube-system".to_owned()),
        name: Some("agent-x7k2p".to_owned()),
    };
    let actor = Identity {
        process: Some(process),
        container: Some(container),
        pod: Some(pod),
        identified_by: Some(IdentifiedBy::Path),
        unit: Some("kubepods.slice".to_owned()),
        ..Identity::default()
    };
    let owner = Identity { unit: Some("ssh.service".to_owned()), ..Identity::default() };
    Event {
        number: 5,
        kind,
        at: BootTime::from_secs(720),
        after: Some(BootTime::from_secs(710)),
        observed_at: BootTime::from_secs(721),
        source: EventSource::Comparison,
        subject: Subject {
            kind: Some(of),
            id: Some(17),
            name: Some("trace_open".to_owned()),
            object_type: Some("kprobe".to_owned()),
            tag: Some(Tag([0, 1, 2, 3, 4, 5, 6, 0xff])),
            since: Some(BootTime::from_secs(719)),
            prog_id: Some(3),
            hook: Some("tcx_ingress".to_owned()),
            target: Some(Target::StructOps { name: "tcp_congestion_ops".into() }),
            path: Some("/sys/fs/bpf/x".into()),
        },
        actor: Some(Actor {
            pid: Some(812),
            thread: Some(813),
            parent: Some(1),
            executable: Some("/usr/bin/bpftrace".to_owned()),
            identity: Some(Arc::new(Owner::from(actor))),
            known_by: ActorSource::Memory,
        }),
        owner: Some(Arc::new(Owner::from(owner))),
    }
}

/// The same of which nothing is known.
fn bare() -> Event {
    let subject = Subject::default();
    Event { after: None, subject, actor: None, owner: None, ..full(EventKind::ProgramLoad, Kind::Map) }
}

fn decoded(request: &Request) -> ExportLogsServiceRequest {
    let message = ExportLogsServiceRequest::decode(&*request.bytes).expect("it is a request");
    let count: usize = message
        .resource_logs
        .iter()
        .flat_map(|resource| &resource.scope_logs)
        .map(|scope| scope.log_records.len())
        .sum();
    assert_eq!(request.items, Items { signal: Signal::Logs, count: count as u64 });
    message
}

fn records(message: &ExportLogsServiceRequest) -> &[LogRecord] {
    let [resource] = &message.resource_logs[..] else { panic!("one resource: {message:?}") };
    let [scope] = &resource.scope_logs[..] else { panic!("one scope: {message:?}") };
    &scope.log_records
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => format!("#{number}"),
        other => panic!("{other:?}"),
    }
}

/// Returns attributes; a number begins with `#`.
fn map(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pair = |attribute: &KeyValue| {
        (attribute.key.clone(), text(attribute.value.as_ref().expect("each has a value")))
    };
    let map: BTreeMap<_, _> = attributes.iter().map(pair).collect();
    assert_eq!(map.len(), attributes.len(), "no key occurs twice: {attributes:?}");
    map
}

fn record(event: Event) -> LogRecord {
    let requests = LogEncoder::new(&resource()).encode(&[Arc::new(event)], clock(), 1 << 20);
    let [request] = &requests[..] else { panic!("one request: {requests:?}") };
    let message = decoded(request);
    let [record] = records(&message) else { panic!("one record: {message:?}") };
    record.clone()
}

#[test]
fn a_record_has_everything_that_is_known() {
    let record = record(full(EventKind::ProgramLoad, Kind::Program));
    let nanoseconds = |date: &str| {
        u64::try_from(date.parse::<Timestamp>().expect("a date").as_nanosecond()).expect("later")
    };
    assert_eq!(record.time_unix_nano, nanoseconds("2026-03-01T03:12:00.25Z"));
    assert_eq!(record.observed_time_unix_nano, nanoseconds("2026-03-01T03:12:01.25Z"));
    assert_eq!((record.severity_number(), &*record.severity_text), (SeverityNumber::Info, "INFO"));
    assert_eq!(record.event_name, "bpf.program.load");
    assert_eq!(
        text(record.body.as_ref().expect("it has a body")),
        "program 17 \"trace_open\" (kprobe) loaded by bpftrace[812] in pod kube-system/agent-x7k2p"
    );
    let expected = [
        ("bpf.actor.comm", "bpftrace"),
        ("bpf.actor.identified_by", "path"),
        ("bpf.actor.known_by", "memory"),
        ("bpf.event.after", "2026-03-01T03:11:50.25Z"),
        ("bpf.event.number", "#5"),
        ("bpf.event.source", "comparison"),
        ("bpf.hook", "tcx_ingress"),
        ("bpf.object.kind", "program"),
        ("bpf.object.since", "2026-03-01T03:11:59Z"),
        ("bpf.pin.path", "/sys/fs/bpf/x"),
        ("bpf.program.id", "#17"),
        ("bpf.program.name", "trace_open"),
        ("bpf.program.tag", "00010203040506ff"),
        ("bpf.program.type", "kprobe"),
        ("bpf.target", "tcp_congestion_ops"),
        ("container.id", "c0ffee"),
        ("container.runtime.name", "containerd"),
        ("k8s.container.name", "agent"),
        ("k8s.namespace.name", "kube-system"),
        ("k8s.pod.name", "agent-x7k2p"),
        ("k8s.pod.uid", "2c48913c"),
        ("owner", "ssh.service"),
        ("owner_kind", "unit"),
        ("process.executable.name", "bpftrace-aot"),
        ("process.executable.path", "/usr/bin/bpftrace"),
        ("process.parent_pid", "#1"),
        ("process.pid", "#812"),
        ("systemd.unit", "kubepods.slice"),
        ("thread.id", "#813"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(map(&record.attributes), BTreeMap::from(expected));
}

#[test]
fn what_is_not_known_is_left_out() {
    let record = record(bare());
    let expected = [("bpf.event.number", "#5"), ("bpf.event.source", "comparison")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(map(&record.attributes), BTreeMap::from(expected));
}

#[test]
fn an_object_has_the_attributes_of_its_kind_and_a_link_those_of_its_program() {
    let of = |kind| map(&record(full(EventKind::LinkAttach, kind)).attributes);
    let link = of(Kind::Link);
    assert_eq!(
        [&link["bpf.link.id"], &link["bpf.program.id"], &link["bpf.link.type"]],
        ["#17", "#3", "kprobe"]
    );
    let map = of(Kind::Map);
    assert_eq!(
        [&map["bpf.map.id"], &map["bpf.map.name"], &map["bpf.map.type"]],
        ["#17", "trace_open", "kprobe"]
    );
    let btf = of(Kind::Btf);
    assert_eq!([&btf["bpf.btf.id"], &btf["bpf.btf.name"]], ["#17", "trace_open"]);
}

#[test]
fn a_container_outside_of_pods_has_a_name_of_its_own() {
    let mut event = full(EventKind::ProgramLoad, Kind::Program);
    let actor = event.actor.as_mut().expect("it is known");
    let mut identity = Identity::from(Owner::clone(actor.identity.as_ref().expect("it is known")));
    identity.pod = None;
    actor.identity = Some(Arc::new(Owner::from(identity)));
    let attributes = map(&record(event).attributes);
    assert_eq!(attributes.get("container.name").map(String::as_str), Some("agent"));
    assert!(!attributes.keys().any(|key| key.starts_with("k8s.")), "{attributes:?}");
}

#[test]
fn what_somebody_should_look_at_is_a_warning() {
    for kind in EventKind::ALL {
        let record = record(full(kind, Kind::Program));
        let expected = match kind {
            EventKind::ProgramUnexpected | EventKind::ObjectOrphan => (SeverityNumber::Warn, "WARN"),
            _ => (SeverityNumber::Info, "INFO"),
        };
        assert_eq!((record.severity_number(), &*record.severity_text), expected, "{kind:?}");
        assert_eq!(record.event_name, kind.as_str());
    }
}

#[test]
fn an_owner_whose_name_is_awaited_has_only_a_kind() {
    let mut event = bare();
    let identity = Identity { unit: Some("x.service".to_owned()), ..Identity::default() };
    event.owner = Some(Arc::new(Owner::awaiting_name(identity)));
    let attributes = map(&record(event).attributes);
    assert_eq!(attributes.get("owner_kind").map(String::as_str), Some("unit"));
    assert!(!attributes.contains_key("owner"), "{attributes:?}");
}

#[test]
fn every_attribute_and_every_name_is_documented() {
    let page = include_str!("../../../../../docs/otlp.md");
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let is_documented = |name: &str| {
        rows.iter().any(|row| {
            row.split(" | ").next().is_some_and(|cell| format!("`{cell}").contains(&format!("`{name}`")))
        })
    };
    for kind in EventKind::ALL {
        assert!(is_documented(kind.as_str()), "{kind:?}");
    }
    for kind in Kind::ALL {
        for with_pod in [true, false] {
            let mut event = full(EventKind::LinkAttach, kind);
            if !with_pod {
                let actor = event.actor.as_mut().expect("it is known");
                let mut identity =
                    Identity::from(Owner::clone(actor.identity.as_ref().expect("it is known")));
                identity.pod = None;
                actor.identity = Some(Arc::new(Owner::from(identity)));
            }
            attributes(&event, clock(), |key, _| assert!(is_documented(key), "{key}"));
        }
    }
}

#[test]
fn every_request_has_the_resource_and_the_scope_of_metrics() {
    let events: Vec<_> = (0..20).map(|_| Arc::new(bare())).collect();
    let requests = LogEncoder::new(&resource()).encode(&events, clock(), 600);
    assert!(requests.len() > 3, "{} requests", requests.len());
    for request in &requests {
        let message = decoded(request);
        let [logs] = &message.resource_logs[..] else { panic!("one resource: {message:?}") };
        let attributes = map(&logs.resource.as_ref().expect("it has a resource").attributes);
        assert_eq!(attributes["service.name"], "bpf-metrics-exporter");
        let scope = logs.scope_logs[0].scope.as_ref().expect("it has a scope");
        assert_eq!((&*scope.name, &*scope.version), (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")));
    }
    assert!(LogEncoder::new(&resource()).encode(&[], clock(), 600).is_empty());
}

/// Divides until nothing can be divided.
fn pieces(request: Request) -> Vec<Request> {
    match halves(&request) {
        Some(halves) => halves.into_iter().flat_map(pieces).collect(),
        None => vec![request],
    }
}

proptest! {
    #[test]
    fn requests_are_within_their_size_and_can_be_divided_down_to_records(
        names in prop::collection::vec("[a-z]{0,200}", 1..30),
        max in 200_usize..4000,
    ) {
        let events: Vec<_> = (1..).zip(&names).map(|(number, name)| {
            let subject = Subject { name: Some(name.clone()), ..full(EventKind::MapCreate, Kind::Map).subject };
            Arc::new(Event { number, subject, ..bare() })
        }).collect();
        let requests = LogEncoder::new(&resource()).encode(&events, clock(), max);
        let mut numbers = Vec::new();
        for request in &requests {
            let message = decoded(request);
            let records = records(&message);
            prop_assert!(request.bytes.len() <= max || records.len() == 1, "{} bytes", request.bytes.len());
            numbers.extend(records.iter().map(|record| map(&record.attributes)["bpf.event.number"].clone()));
        }
        let all: Vec<_> = (1..=names.len()).map(|number| format!("#{number}")).collect();
        prop_assert_eq!(&numbers, &all, "each arrives once, in order");
        let pieces: Vec<_> = requests.into_iter().flat_map(pieces).collect();
        prop_assert_eq!(pieces.len(), names.len(), "in the end each record is alone");
        let alone = pieces.iter().map(|piece| {
            let message = decoded(piece);
            map(&records(&message)[0].attributes)["bpf.event.number"].clone()
        });
        prop_assert!(alone.eq(all));
    }
}
