//! Names over CRI.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixListener;

use axum::response::Response;
use bpf_metrics_exporter::enrich::names::{ContainerName, PodName};
use bpf_metrics_exporter::lookup::cri::messages::{
    ContainerMetadata, CriContainer, PodSandbox, PodSandboxMetadata,
};
use prost::Message;
use tonic::Code;

use super::fake::{BadResponse, Fake, framed, message, status};
use super::{CART, ETCD, SANDBOX, SIDECAR, STATIC, WEB, only_cri, unknown};
use tempfile::TempDir;
use test_support::background_lookup::BackgroundLookup;

/// A list of messages, already encoded, as each of the responses has in field 1: messages and bytes have the same wire format.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedList {
    #[prost(bytes = "vec", repeated, tag = "1")]
    items: Vec<Vec<u8>>,
}

/// Fields of a sandbox that runtimes set and the exporter does not read.
#[derive(Clone, PartialEq, prost::Message)]
struct UnreadSandboxFields {
    #[prost(message, optional, tag = "2")]
    metadata: Option<UnreadMetadataFields>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(map = "string, string", tag = "5")]
    labels: HashMap<String, String>,
}

/// The same of a container.
#[derive(Clone, PartialEq, prost::Message)]
struct UnreadContainerFields {
    #[prost(string, tag = "5")]
    image_ref: String,
    #[prost(map = "string, string", tag = "8")]
    labels: HashMap<String, String>,
}

/// Of `PodSandboxMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
struct UnreadMetadataFields {
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

/// Encodes two messages as one that has the fields of both.
fn merged(read: &impl Message, unread: &impl Message) -> Vec<u8> {
    [read.encode_to_vec(), unread.encode_to_vec()].concat()
}

fn labelled_sandbox(id: &str, namespace: &str, name: &str, uid: &str, label: &str) -> Vec<u8> {
    let metadata = PodSandboxMetadata { name: name.into(), uid: uid.into(), namespace: namespace.into() };
    let unread = UnreadSandboxFields {
        metadata: Some(UnreadMetadataFields { attempt: 1 }),
        state: 1,
        created_at: 1,
        labels: HashMap::from([("app".to_owned(), label.to_owned())]),
    };
    merged(&PodSandbox { id: id.into(), metadata: Some(metadata) }, &unread)
}

fn sandbox(id: &str, namespace: &str, name: &str, uid: &str) -> Vec<u8> {
    labelled_sandbox(id, namespace, name, uid, name)
}

fn container(id: &str, sandbox: &str, name: &str) -> Vec<u8> {
    let metadata = Some(ContainerMetadata { name: name.into() });
    let container = CriContainer { id: id.into(), pod_sandbox_id: sandbox.into(), metadata };
    let labels = HashMap::from([("tier".to_owned(), "front".to_owned())]);
    merged(&container, &UnreadContainerFields { image_ref: "sha256:1".into(), labels })
}

/// Responses of a node with an ordinary pod and a static one.
fn node(path: &str) -> Response {
    match path.rsplit('/').next() {
        Some("ListPodSandbox") => message(&EncodedList {
            items: vec![
                sandbox(SANDBOX, "shop", "cart-7c5d-x2x", CART),
                sandbox(&unknown(1), "kube-system", "etcd-node", STATIC),
                PodSandbox { id: unknown(2), metadata: None }.encode_to_vec(),
            ],
        }),
        Some("ListContainers") => message(&EncodedList {
            items: vec![
                container(WEB, SANDBOX, "web"),
                container(ETCD, &unknown(1), "etcd"),
                container(SIDECAR, &unknown(3), "in a removed pod"),
            ],
        }),
        _ => status(Code::Unimplemented),
    }
}

fn assert_names_of_the_node(lookup: &BackgroundLookup) {
    let pod = |namespace: &str, name: &str| PodName { namespace: namespace.into(), name: name.into() };
    let container = |name: Option<&str>, pod: &str| ContainerName {
        name: name.map(str::to_owned),
        pod: Some(pod.to_owned()),
    };
    assert_eq!(lookup.pod(CART), pod("shop", "cart-7c5d-x2x"));
    assert_eq!(lookup.pod(STATIC), pod("kube-system", "etcd-node"));
    assert_eq!(lookup.container(WEB), container(Some("web"), CART));
    assert_eq!(lookup.container(ETCD), container(Some("etcd"), STATIC));
    assert_eq!(lookup.container(SANDBOX), container(None, CART));
}

#[test]
fn pods_containers_and_sandboxes_are_named() {
    let directory = TempDir::with_prefix("cri-").expect("the test directory is writable");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), node);
    let lookup = BackgroundLookup::start(only_cri(directory.path(), &runtime.socket));
    assert_names_of_the_node(&lookup);
    assert_eq!(lookup.names.container(SIDECAR), None, "its pod is unknown");
    assert_eq!(lookup.log(), "");
}

#[test]
fn long_lists_are_accepted() {
    let directory = TempDir::with_prefix("cri-").expect("the test directory is writable");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), |path| {
        if !path.ends_with("ListPodSandbox") {
            return node(path);
        }
        // 8 MiB, mostly labels.
        let label = "x".repeat(64 << 10);
        let others = (0..128).map(|number| {
            let id = unknown(1000 + number);
            labelled_sandbox(&id, "shop", "other", &id, &label)
        });
        let items = others.chain([sandbox(SANDBOX, "shop", "cart", CART)]).collect();
        message(&EncodedList { items })
    });
    let lookup = BackgroundLookup::start(only_cri(directory.path(), &runtime.socket));
    assert_eq!(lookup.pod(CART).name, "cart");
    assert_eq!(lookup.log(), "");
}

#[test]
fn runtimes_with_only_the_old_service_are_supported() {
    let directory = TempDir::with_prefix("cri-").expect("the test directory is writable");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), |path| {
        if path.starts_with("/runtime.v1alpha2.RuntimeService/") {
            node(path)
        } else {
            status(Code::Unimplemented)
        }
    });
    let lookup = BackgroundLookup::start(only_cri(directory.path(), &runtime.socket));
    assert_names_of_the_node(&lookup);
    assert_eq!(lookup.log(), "");
}

#[test]
fn failures_are_logged_once_and_retried() {
    // (response, part of the log line)
    let failures: [BadResponse; 5] = [
        (|| status(Code::PermissionDenied), "PermissionDenied: no"),
        (|| status(Code::Unimplemented), "Unimplemented: no"),
        (|| framed(vec![0xff; 100]), "decode"),
        // The limit is 16 MiB.
        (|| framed(vec![0; 17 << 20]), "OutOfRange"),
        (|| super::fake::http(404, "not found"), "404"),
    ];
    for (response, part) in failures {
        let directory = TempDir::with_prefix("cri-").expect("the test directory is writable");
        let runtime = Fake::grpc(&directory.path().join("cri.sock"), move |_| response());
        let lookup = BackgroundLookup::start(only_cri(directory.path(), &runtime.socket));
        lookup.until(part, || {
            let _missing = lookup.names.container(WEB);
            (lookup.count_logged("WARN") > 0).then_some(())
        });
        assert!(lookup.log().contains(part), "{}", lookup.log());
        runtime.respond(node);
        assert_names_of_the_node(&lookup);
        assert_eq!((lookup.count_logged("WARN"), lookup.count_logged("INFO")), (1, 1), "{}", lookup.log());
    }
}

#[test]
fn another_protocol_is_an_error() {
    let directory = TempDir::with_prefix("cri-").expect("the test directory is writable");
    let socket = directory.path().join("cri.sock");
    let listener = UnixListener::bind(&socket).expect("the path is new");
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("the runtime is queried");
        connection.write_all(b"220 mail.example ESMTP\r\n").expect("the peer reads it");
    });
    let lookup = BackgroundLookup::start(only_cri(directory.path(), &socket));
    lookup.until("the query fails", || {
        let _missing = lookup.names.container(WEB);
        (lookup.count_logged("WARN") > 0).then_some(())
    });
    server.join().expect("it does not panic");
}
