//! Names by Docker's interface.

use axum::body::Body;
use axum::response::Response;
use bpf_metrics_exporter::enrich::names::{ContainerName, PodName};
use hyper::body::Bytes;

use super::fake::{Fake, Wrong, http};
use super::{CART, SANDBOX, SIDECAR, WEB, only_docker, unknown};
use tempfile::TempDir;
use test_support::looking_up::LookingUp;

/// A host with a container that others link to, one without a name yet, and two that a kubelet made.
fn host(path: &str) -> Response {
    if path != "/containers/json" {
        return http(404, "{\"message\":\"page not found\"}");
    }
    let labels = format!(
        "\"io.kubernetes.pod.uid\":\"{CART}\",\"io.kubernetes.pod.name\":\"cart\",\"io.kubernetes.pod.namespace\":\"shop\""
    );
    http(
        200,
        format!(
            r#"[{{"Id":"{WEB}","Names":["/proxy/backend","/web"],"Image":"x","Labels":{{"a":"b"}},"State":"running"}},
                {{"Id":"{}","Names":null,"Labels":null}},
                {{"Id":"{SANDBOX}","Names":["/k8s_POD_cart_shop_{CART}_0"],"Labels":{{{labels},"io.kubernetes.container.name":"POD"}}}},
                {{"Id":"{SIDECAR}","Names":["/k8s_side_cart_shop_{CART}_0"],"Labels":{{{labels},"io.kubernetes.container.name":"side"}}}}]"#,
            unknown(1)
        ),
    )
}

fn container(name: Option<&str>, pod: Option<&str>) -> ContainerName {
    ContainerName { name: name.map(str::to_owned), pod: pod.map(str::to_owned) }
}

#[test]
fn names_without_slashes_and_by_labels() {
    let directory = TempDir::with_prefix("docker-").expect("there is room");
    let docker = Fake::http(&directory.path().join("docker.sock"), host);
    let looking_up = LookingUp::start(only_docker(directory.path(), &docker.socket));
    assert_eq!(looking_up.container(WEB), container(Some("web"), None));
    assert_eq!(looking_up.container(SANDBOX), container(None, Some(CART)));
    assert_eq!(looking_up.container(SIDECAR), container(Some("side"), Some(CART)));
    assert_eq!(looking_up.names.container(&unknown(1)), None, "it has no name");
    assert_eq!(looking_up.log(), "");
}

#[test]
fn a_pod_that_docker_knows() {
    let directory = TempDir::with_prefix("docker-").expect("there is room");
    let docker = Fake::http(&directory.path().join("docker.sock"), host);
    let looking_up = LookingUp::start(only_docker(directory.path(), &docker.socket));
    let name = PodName { namespace: "shop".into(), name: "cart".into() };
    let found = looking_up.until("the pod has a name", || {
        let _asked_for = looking_up.names.container(SANDBOX);
        looking_up.names.pod(CART)
    });
    assert_eq!(found, name);
}

#[test]
fn one_that_fails_is_said_to_fail_once_and_asked_again() {
    let endless = || {
        let chunks =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 20])));
        http(200, Body::from_stream(chunks))
    };
    // (what it says, what the log says of that)
    let failures: [Wrong; 5] = [
        (|| http(500, "{\"message\":\"no\"}"), "500 Internal Server Error"),
        (|| http(200, "<html>"), "unexpected response"),
        (|| http(200, "[{\"Id\":7}]"), "unexpected response"),
        (|| http(200, ""), "unexpected response"),
        (endless, "length limit exceeded"),
    ];
    for (failure, words) in failures {
        let directory = TempDir::with_prefix("docker-").expect("there is room");
        let docker = Fake::http(&directory.path().join("docker.sock"), move |_| failure());
        let looking_up = LookingUp::start(only_docker(directory.path(), &docker.socket));
        looking_up.until(words, || {
            let _asked_for = looking_up.names.container(WEB);
            (looking_up.said("WARN") > 0).then_some(())
        });
        assert!(looking_up.log().contains(words), "{}", looking_up.log());
        docker.answer(host);
        assert_eq!(looking_up.container(WEB), container(Some("web"), None));
        assert_eq!((looking_up.said("WARN"), looking_up.said("INFO")), (1, 1), "{}", looking_up.log());
    }
}
