//! Names by the interface of container runtimes.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixListener;

use axum::response::Response;
use bpf_metrics_exporter::enrich::names::{ContainerName, PodName};
use tonic::Code;

use super::fake::{Fake, Wrong, framed, message, status};
use super::{CART, ETCD, SANDBOX, SIDECAR, STATIC, WEB, only_cri, unknown};
use tempfile::TempDir;
use test_support::looking_up::LookingUp;

// What runtimes send, with more fields than are read.

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(map = "string, string", tag = "5")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerMetadata>,
    #[prost(string, tag = "5")]
    image_ref: String,
    #[prost(map = "string, string", tag = "8")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

fn sandbox(id: &str, namespace: &str, name: &str, uid: &str) -> PodSandbox {
    let metadata =
        PodSandboxMetadata { name: name.into(), uid: uid.into(), namespace: namespace.into(), attempt: 1 };
    let labels = HashMap::from([("app".to_owned(), name.to_owned())]);
    PodSandbox { id: id.into(), metadata: Some(metadata), state: 1, created_at: 1, labels }
}

fn container(id: &str, sandbox: &str, name: &str) -> Container {
    Container {
        id: id.into(),
        pod_sandbox_id: sandbox.into(),
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 2 }),
        image_ref: "sha256:1".into(),
        labels: HashMap::new(),
    }
}

/// A node with an ordinary pod and a static one.
fn node(path: &str) -> Response {
    match path.rsplit('/').next() {
        Some("ListPodSandbox") => message(&ListPodSandboxResponse {
            items: vec![
                sandbox(SANDBOX, "shop", "cart-7c5d-x2x", CART),
                sandbox(&unknown(1), "kube-system", "etcd-node", STATIC),
                PodSandbox { id: unknown(2), metadata: None, ..PodSandbox::default() },
            ],
        }),
        Some("ListContainers") => message(&ListContainersResponse {
            containers: vec![
                container(WEB, SANDBOX, "web"),
                container(ETCD, &unknown(1), "etcd"),
                container(SIDECAR, &unknown(3), "of a pod that is gone"),
            ],
        }),
        _ => status(Code::Unimplemented),
    }
}

fn assert_knows_the_node(looking_up: &LookingUp) {
    let pod = |namespace: &str, name: &str| PodName { namespace: namespace.into(), name: name.into() };
    let container = |name: Option<&str>, pod: &str| ContainerName {
        name: name.map(str::to_owned),
        pod: Some(pod.to_owned()),
    };
    assert_eq!(looking_up.pod(CART), pod("shop", "cart-7c5d-x2x"));
    assert_eq!(looking_up.pod(STATIC), pod("kube-system", "etcd-node"));
    assert_eq!(looking_up.container(WEB), container(Some("web"), CART));
    assert_eq!(looking_up.container(ETCD), container(Some("etcd"), STATIC));
    assert_eq!(looking_up.container(SANDBOX), container(None, CART));
}

#[test]
fn names_of_pods_containers_and_sandboxes() {
    let directory = TempDir::with_prefix("cri-").expect("there is room");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), node);
    let looking_up = LookingUp::start(only_cri(directory.path(), &runtime.socket));
    assert_knows_the_node(&looking_up);
    assert_eq!(looking_up.names.container(SIDECAR), None, "nobody knows its pod");
    assert_eq!(looking_up.log(), "");
}

#[test]
fn a_long_list_is_taken() {
    let directory = TempDir::with_prefix("cri-").expect("there is room");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), |path| {
        if !path.ends_with("ListPodSandbox") {
            return node(path);
        }
        // 8 MiB, of which most is labels.
        let labels = HashMap::from([("long".to_owned(), "x".repeat(64 << 10))]);
        let others = (0..128).map(|number| {
            let id = unknown(1000 + number);
            PodSandbox { labels: labels.clone(), ..sandbox(&id, "shop", "other", &id) }
        });
        let items = others.chain([sandbox(SANDBOX, "shop", "cart", CART)]).collect();
        message(&ListPodSandboxResponse { items })
    });
    let looking_up = LookingUp::start(only_cri(directory.path(), &runtime.socket));
    assert_eq!(looking_up.pod(CART).name, "cart");
    assert_eq!(looking_up.log(), "");
}

#[test]
fn a_runtime_that_has_only_the_old_service() {
    let directory = TempDir::with_prefix("cri-").expect("there is room");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), |path| {
        if path.starts_with("/runtime.v1alpha2.RuntimeService/") {
            node(path)
        } else {
            status(Code::Unimplemented)
        }
    });
    let looking_up = LookingUp::start(only_cri(directory.path(), &runtime.socket));
    assert_knows_the_node(&looking_up);
    assert_eq!(looking_up.log(), "");
}

#[test]
fn a_runtime_that_fails_is_said_to_fail_once_and_asked_again() {
    // (what it says, what the log says of that)
    let failures: [Wrong; 5] = [
        (|| status(Code::PermissionDenied), "PermissionDenied: no"),
        (|| status(Code::Unimplemented), "Unimplemented: no"),
        (|| framed(vec![0xff; 100]), "decode"),
        // A length of 17 MiB is more than is taken.
        (|| framed(vec![0; 17 << 20]), "OutOfRange"),
        (|| super::fake::http(404, "not found"), "404"),
    ];
    for (failure, words) in failures {
        let directory = TempDir::with_prefix("cri-").expect("there is room");
        let runtime = Fake::grpc(&directory.path().join("cri.sock"), move |_| failure());
        let looking_up = LookingUp::start(only_cri(directory.path(), &runtime.socket));
        looking_up.until(words, || {
            let _asked_for = looking_up.names.container(WEB);
            (looking_up.said("WARN") > 0).then_some(())
        });
        assert!(looking_up.log().contains(words), "{}", looking_up.log());
        runtime.answer(node);
        assert_knows_the_node(&looking_up);
        assert_eq!((looking_up.said("WARN"), looking_up.said("INFO")), (1, 1), "{}", looking_up.log());
    }
}

#[test]
fn one_that_speaks_something_else() {
    let directory = TempDir::with_prefix("cri-").expect("there is room");
    let socket = directory.path().join("cri.sock");
    let listener = UnixListener::bind(&socket).expect("nobody else has this path");
    let speaker = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("somebody asks");
        connection.write_all(b"220 mail.example ESMTP\r\n").expect("it is read");
    });
    let looking_up = LookingUp::start(only_cri(directory.path(), &socket));
    looking_up.until("it fails", || {
        let _asked_for = looking_up.names.container(WEB);
        (looking_up.said("WARN") > 0).then_some(())
    });
    speaker.join().expect("it spoke");
}
