//! Names over Docker's HTTP API.

use axum::body::Body;
use axum::response::Response;
use bpf_metrics_exporter::enrich::names::{ContainerName, NameCache, PodName};
use bpf_metrics_exporter::lookup::once;
use hyper::body::Bytes;

use super::fake::{BadResponse, Fake, http};
use super::{CART, ENDED, SANDBOX, SIDECAR, WEB, only_docker, unknown};
use tempfile::TempDir;
use test_support::background_lookup::{BackgroundLookup, DEADLINE};

/// Responses of a host with a container that has a link alias, one without a name yet, and two made by a kubelet.
fn host(path: &str) -> Response {
    if let Some(filter) = path.strip_prefix("/containers/json?all=true&filters=") {
        let filter = percent_encoding::percent_decode_str(filter).decode_utf8().expect("it is text");
        let ended = filter == format!(r#"{{"id":["{ENDED}"]}}"#);
        return http(
            200,
            if ended { format!(r#"[{{"Id":"{ENDED}","Names":["/job"]}}]"#) } else { "[]".to_owned() },
        );
    }
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
fn names_have_no_slash_and_labels_take_precedence() {
    let directory = TempDir::with_prefix("docker-").expect("the test directory is writable");
    let docker = Fake::http(&directory.path().join("docker.sock"), host);
    let lookup = BackgroundLookup::start(only_docker(directory.path(), &docker.socket));
    assert_eq!(lookup.container(WEB), container(Some("web"), None));
    assert_eq!(lookup.container(SANDBOX), container(None, Some(CART)));
    assert_eq!(lookup.container(SIDECAR), container(Some("side"), Some(CART)));
    assert_eq!(lookup.names.container(&unknown(1)), None, "it has no name yet");
    assert_eq!(lookup.log(), "");
}

#[test]
fn a_container_that_has_ended_is_named() {
    let directory = TempDir::with_prefix("docker-").expect("the test directory is writable");
    let docker = Fake::http(&directory.path().join("docker.sock"), host);
    let lookup = BackgroundLookup::start(only_docker(directory.path(), &docker.socket));
    assert_eq!(lookup.container(WEB), container(Some("web"), None));
    assert_eq!(docker.requests(), ["/containers/json"], "it is running");
    assert_eq!(lookup.container(ENDED), container(Some("job"), None));
    assert_eq!(lookup.log(), "");
}

#[test]
fn pods_are_named_by_labels() {
    let directory = TempDir::with_prefix("docker-").expect("the test directory is writable");
    let docker = Fake::http(&directory.path().join("docker.sock"), host);
    let lookup = BackgroundLookup::start(only_docker(directory.path(), &docker.socket));
    let name = PodName { namespace: "shop".into(), name: "cart".into() };
    let found = lookup.until("the pod has a name", || {
        let _missing = lookup.names.container(SANDBOX);
        lookup.names.pod(CART)
    });
    assert_eq!(found, name);
}

#[test]
fn one_round_names_containers_and_their_pods() {
    let directory = TempDir::with_prefix("docker-").expect("the test directory is writable");
    let docker = Fake::http(&directory.path().join("docker.sock"), host);
    let names = NameCache::default();
    let _missing = names.container(SIDECAR);
    let settings = only_docker(directory.path(), &docker.socket);
    let errors = once(&names, &settings, DEADLINE).expect("a runtime");
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(names.container(SIDECAR), Some(container(Some("side"), Some(CART))));
    let pod = PodName { namespace: "shop".into(), name: "cart".into() };
    assert_eq!(names.pod(CART), Some(pod), "only the labels of its containers have it");
}

#[test]
fn failures_are_logged_once_and_retried() {
    let endless = || {
        let chunks =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 20])));
        http(200, Body::from_stream(chunks))
    };
    // (response, part of the log line)
    let failures: [BadResponse; 5] = [
        (|| http(500, "{\"message\":\"no\"}"), "500 Internal Server Error"),
        (|| http(200, "<html>"), "unexpected response"),
        (|| http(200, "[{\"Id\":7}]"), "unexpected response"),
        (|| http(200, ""), "unexpected response"),
        (endless, "length limit exceeded"),
    ];
    for (response, part) in failures {
        let directory = TempDir::with_prefix("docker-").expect("the test directory is writable");
        let docker = Fake::http(&directory.path().join("docker.sock"), move |_| response());
        let lookup = BackgroundLookup::start(only_docker(directory.path(), &docker.socket));
        lookup.until(part, || {
            let _missing = lookup.names.container(WEB);
            (lookup.count_logged("WARN") > 0).then_some(())
        });
        assert!(lookup.log().contains(part), "{}", lookup.log());
        docker.respond(host);
        assert_eq!(lookup.container(WEB), container(Some("web"), None));
        assert_eq!((lookup.count_logged("WARN"), lookup.count_logged("INFO")), (1, 1), "{}", lookup.log());
    }
}
