//! Events of real programs through the real Collector, over gRPC and HTTP: what they say is what the metrics of the same programs say,
//! and both have one resource.

use std::net::SocketAddr;
use std::sync::Arc;

use bpf_metrics_exporter::export::otlp::resource::{self, UserAttributes};
use bpf_metrics_exporter::export::otlp::settings::{Compression, Destination, Protocol};
use bpf_metrics_exporter::host::clock::HostClock;
use bpf_metrics_exporter::host::identity;
use bpf_metrics_exporter::model::{
    Actor, ActorSource, BootTime, Container, Event, EventKind, EventSource, Identity, Kind, Owner, Pod,
    Process, Program as Reported, Subject,
};
use serde_json::json;
use test_support::http::free_address;
use test_support::log_pipeline::{Pipeline, Settings};
use test_support::objects::Program;
use test_support::objects::uapi::program_type;
use test_support::readers;
use test_support::transport::destination;
use tokio::runtime::Runtime;

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::received;
use crate::received_logs::{self, Record};
use crate::receivers::{Collector, Verbosity};
use crate::series::Labels;

const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn test() {
    let scratch = Scratch::new();
    let (grpc, http) = (free_address(), free_address());
    let protocols = json!({"grpc": {"endpoint": grpc}, "http": {"endpoint": http}});
    let folder = scratch.folder("collector");
    let collector = Collector::start_with(&folder, grpc, &protocols, Verbosity::Detailed, None);
    let xdp = Program::ready(program_type::XDP, "wire_event").expect("the kernel has XDP");
    let snapshot = readers::best().read();
    let reported = readers::program(&snapshot, xdp.id());

    let exporter = Exporter::start(&scratch.folder("exporter"), grpc, "1h", &[]);
    exporter.settles_with(&[&collector]);
    let requests = received::read(&collector.received());
    let id = xdp.id().to_string();
    let mut points = requests.iter().flat_map(|request| &request.points);
    let info = points.find(|point| point.is("bpf_program_info", "id", &id)).expect("it is reported");
    let (of_metrics, info) = (&requests[0].resource, &info.attributes);

    let runtime = Runtime::new().expect("a runtime");
    for (protocol, address, compression) in
        [(Protocol::Grpc, grpc, Compression::Gzip), (Protocol::HttpProtobuf, http, Compression::Zstd)]
    {
        let before = received_logs::read(&collector.received_logs()).len();
        let to = destination(protocol, address);
        let to = Destination {
            endpoint: to.endpoint.of_logs().expect("it has the usual path"),
            compression: compression.into(),
            ..to
        };
        let ledger = runtime.block_on(async {
            let settings = Settings {
                resource: resource_of(grpc),
                clock: HostClock::default().read(),
                ..Settings::default()
            };
            let pipeline = Pipeline::start(&to, settings);
            pipeline.events.publish(events(reported, snapshot.taken_at));
            pipeline.finish().await
        });
        assert_eq!((ledger.logs.accepted.get(), ledger.logs.rejected.get()), (3, 0), "{protocol:?}");
        let records = eventually("the Collector prints the records", SOON, || {
            let records = received_logs::read(&collector.received_logs()).split_off(before);
            if records.len() == 3 { Ok(records) } else { Err(format!("{} records", records.len())) }
        });
        let names: Vec<_> = records.iter().map(|record| &*record.event_name).collect();
        assert_eq!(names, ["bpf.program.load", "bpf.program.unexpected", "bpf.program.unload"], "in order");
        for record in &records {
            assert_eq!(&record.resource, of_metrics);
            let scope = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
            assert_eq!(record.scope, scope);
        }
        assert_load(&records[0], info);
        let severities = records.iter().map(|record| (&*record.severity, &*record.severity_number));
        assert!(
            severities.eq([("INFO", "Info(9)"), ("WARN", "Warn(13)"), ("INFO", "Info(9)")]),
            "{records:?}"
        );
        assert_eq!(
            records[2].body,
            format!("Str(program {id} \"wire_event\" (xdp) unloaded by an unknown process)")
        );
    }
}

/// What the program itself sees reaches the Collector: the load and the unload of a program that lives between two readings.
pub(crate) fn test_program() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch.folder("collector"), free_address(), Verbosity::Detailed, None);
    let mut exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, "1h", &[]);
    exporter.settles_with(&[&collector]);
    let program = Program::ready(program_type::XDP, "wire_shown").expect("the kernel has XDP");
    let id = program.id().to_string();
    let records = |kind: &str| {
        let records = received_logs::read(&collector.received_logs());
        let of_program = |record: &Record| {
            record.event_name == kind
                && record.attributes.get("bpf.program.id").is_some_and(|is| *is == format!("Int({id})"))
        };
        records.into_iter().filter(of_program).collect::<Vec<_>>()
    };
    let one = |kind: &str| {
        let mut found = eventually(&format!("the Collector has {kind}"), SOON, || match records(kind) {
            found if found.is_empty() => Err("it has not".to_owned()),
            found => Ok(found),
        });
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    };
    let load = one("bpf.program.load");
    drop(program);
    let unload = one("bpf.program.unload");
    let of_metrics = received::read(&collector.received()).remove(0).resource;
    for record in [&load, &unload] {
        assert_eq!(record.resource, of_metrics);
        let has = |key: &str| record.attributes.get(key).map(String::as_str);
        assert_eq!(has("bpf.program.name"), Some("Str(wire_shown)"), "{record:?}");
        assert_eq!(has("bpf.program.type"), Some("Str(xdp)"), "{record:?}");
        assert_eq!(has("bpf.event.source"), Some("Str(kernel)"), "{record:?}");
    }
    assert_eq!(load.attributes["process.pid"], format!("Int({})", std::process::id()));
    assert!(load.time <= load.observed && load.time < unload.time, "{load:?} {unload:?}");
    exporter.process.terminate();
    assert!(exporter.process.ended(SOON).success());
    assert_eq!(exporter.warnings(), Vec::<String>::new());
}

/// Returns the resource of an exporter with this receiver.
fn resource_of(receiver: SocketAddr) -> Vec<(String, String)> {
    let flags = ["127.0.0.1:0".to_owned(), format!("http://{receiver}")];
    let deployment: Vec<_> = identity::deployment().into_iter().chain(flags).collect();
    resource::attributes(&identity::host_identity(None), &UserAttributes::default(), &deployment)
}

/// Returns events of a program: a load by this process, as if in a container of a pod, that the program is unexpected, and its unload.
fn events(program: &Reported, now: BootTime) -> Vec<Event> {
    let facts = &program.facts;
    let subject = Subject {
        kind: Some(Kind::Program),
        id: Some(facts.id),
        name: Some(facts.name.clone()),
        object_type: Some(facts.program_type.word_or_number().into_owned()),
        tag: Some(facts.tag),
        since: Some(facts.loaded_at),
        ..Subject::default()
    };
    let process = Process {
        pid: std::process::id(),
        started_at_boot_ns: 1,
        name: "wire".to_owned(),
        executable_name: Some("wire".to_owned()),
    };
    let container = Container {
        id: CONTAINER.to_owned(),
        runtime: Some("containerd".into()),
        name: Some("agent".to_owned()),
    };
    let pod = Pod {
        key: "key".to_owned(),
        uid: Some("2c48913c-b29f-4b4a-9e0a-5f5d3c6f8a11".to_owned()),
        namespace: Some("kube-system".to_owned()),
        name: Some("agent-x7k2p".to_owned()),
    };
    let identity = Identity {
        process: Some(process),
        container: Some(container),
        pod: Some(pod),
        ..Identity::default()
    };
    let owner = Arc::new(Owner::from(identity));
    let actor = Actor {
        pid: Some(std::process::id()),
        thread: Some(std::process::id()),
        parent: Some(std::os::unix::process::parent_id()),
        executable: Some("/opt/wire".to_owned()),
        identity: Some(Arc::clone(&owner)),
        known_by: ActorSource::Process,
    };
    let unknown = Actor {
        pid: None,
        thread: None,
        parent: None,
        executable: None,
        identity: None,
        known_by: ActorSource::Unknown,
    };
    let event = |kind, at, actor: &Actor, owner| Event {
        number: 0,
        kind,
        at,
        after: None,
        observed_at: now,
        source: EventSource::Kernel,
        subject: subject.clone(),
        actor: Some(actor.clone()),
        owner,
    };
    vec![
        event(EventKind::ProgramLoad, facts.loaded_at, &actor, Some(owner)),
        event(EventKind::ProgramUnexpected, now, &actor, None),
        event(EventKind::ProgramUnload, now, &unknown, None),
    ]
}

/// Asserts that the load of a program says what its info metric says.
fn assert_load(record: &Record, info: &Labels) {
    let text = |key: &str| {
        let value = record.attributes.get(key).unwrap_or_else(|| panic!("no {key}: {record:?}"));
        let inner = value.strip_prefix("Str(").or_else(|| value.strip_prefix("Int("));
        inner.and_then(|inner| inner.strip_suffix(')')).expect("it is text or a number")
    };
    for (key, label) in [
        ("bpf.program.id", "id"),
        ("bpf.program.name", "name"),
        ("bpf.program.type", "type"),
        ("bpf.program.tag", "tag"),
        ("bpf.object.since", "load_time"),
    ] {
        assert_eq!(text(key), info[label], "{key}");
    }
    let (process, parent) = (std::process::id().to_string(), std::os::unix::process::parent_id().to_string());
    for (key, value) in [
        ("bpf.event.source", "kernel"),
        ("bpf.object.kind", "program"),
        ("bpf.actor.known_by", "process"),
        ("bpf.actor.comm", "wire"),
        ("process.pid", &process),
        ("thread.id", &process),
        ("process.parent_pid", &parent),
        ("process.executable.path", "/opt/wire"),
        ("process.executable.name", "wire"),
        ("container.id", CONTAINER),
        ("container.runtime.name", "containerd"),
        ("k8s.namespace.name", "kube-system"),
        ("k8s.pod.name", "agent-x7k2p"),
        ("k8s.pod.uid", "2c48913c-b29f-4b4a-9e0a-5f5d3c6f8a11"),
        ("k8s.container.name", "agent"),
        ("owner", "kube-system/agent-x7k2p"),
        ("owner_kind", "pod"),
    ] {
        assert_eq!(text(key), value, "{key}");
    }
    for key in ["bpf.program.id", "process.pid", "bpf.event.number"] {
        assert!(record.attributes[key].starts_with("Int("), "{key} is a number: {record:?}");
    }
    // Within the second that the label of the metric has.
    let since: jiff::Timestamp = info["load_time"].parse().expect("it is a date");
    assert_eq!(record.time.as_second(), since.as_second());
    assert!(record.observed > record.time, "{record:?}");
    let body = record.body.as_str();
    assert!(
        body.contains("\"wire_event\" (xdp) loaded by wire[") && body.contains("in pod kube-system/"),
        "{body}"
    );
}
