//! A server that works as it should: what it is asked, and that nothing is asked twice.

use bpf_metrics_exporter::enrich::names::{ContainerName, Names};
use serde_json::json;

use super::server::{Server, pod};
use super::{PATIENCE, start};

#[tokio::test]
async fn one_list_and_one_watch_of_this_nodes_pods() {
    let mut server = Server::start().await;
    let watcher = start(&server, "one", PATIENCE);
    let list = server.list().await;
    assert_eq!(list.of("fieldSelector"), Some("spec.nodeName=node-1"));
    assert_eq!((list.of("resourceVersion"), list.of("limit")), (Some("0"), Some("500")), "its cache answers");
    let agent = format!("bpf-metrics-exporter/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!((list.header("user-agent"), list.header("authorization")), (Some(&*agent), None));
    list.pods("10", &[pod("cart", "3"), pod("till", "9")]);
    watcher.changed().await;
    assert_eq!(watcher.known(&["cart", "till", "shelf"]), ["cart", "till"]);

    let watch = server.watch().await;
    assert_eq!(watch.of("fieldSelector"), Some("spec.nodeName=node-1"));
    assert_eq!(watch.of("resourceVersion"), Some("10"), "of the list, not of its newest pod");
    let lasting: u64 = watch.of("timeoutSeconds").expect("it has an end").parse().expect("seconds");
    assert!((24..=30).contains(&lasting), "{lasting}: a part of the patience, at random");
    let watch = watch.accept();
    watch.event("ADDED", &pod("shelf", "11"));
    watcher.changed().await;
    assert_eq!(watcher.known(&["cart", "till", "shelf"]), ["cart", "till", "shelf"]);

    watch.event("DELETED", &pod("cart", "12"));
    watch.event("MODIFIED", &pod("door", "13"));
    watcher.changed().await;
    assert_eq!(watcher.known(&["cart", "till", "shelf", "door"]), ["till", "shelf", "door"]);
    assert!(server.is_left_alone());
    watcher.stop().await;
}

#[tokio::test]
async fn containers_and_static_pods_are_told_too() {
    let mut server = Server::start().await;
    let watcher = start(&server, "containers", PATIENCE);
    let mut etcd = pod("etcd", "1");
    etcd["metadata"]["annotations"] =
        json!({"kubernetes.io/config.hash": "hash-1", "kubernetes.io/config.mirror": "hash-1"});
    server.list().await.pods("10", &[etcd, pod("cart", "2")]);
    watcher.changed().await;
    let names = Names::default();
    let _unknown = (names.pod("hash-1"), names.container("id-of-etcd"), names.container("id-of-cart"));
    watcher.cluster.answer(&names);
    let told = names.pod("hash-1").expect("it is told");
    assert_eq!((&*told.name, told.uid.as_deref()), ("etcd", Some("uid-of-etcd")));
    for (id, pod) in [("id-of-etcd", "hash-1"), ("id-of-cart", "uid-of-cart")] {
        let (name, pod) = (Some("main".to_owned()), Some(pod.to_owned()));
        assert_eq!(names.container(id), Some(ContainerName { name, pod }));
    }
}

#[tokio::test]
async fn a_list_in_pages_is_one_list() {
    let mut server = Server::start().await;
    let watcher = start(&server, "pages", PATIENCE);
    server.list().await.page("10", &[pod("cart", "1")], "next/=");
    let second = server.list().await;
    assert_eq!(second.of("continue"), Some("next/="));
    assert_eq!(second.of("resourceVersion"), None, "the server refuses both together");
    second.pods("10", &[pod("till", "2")]);
    watcher.changed().await;
    assert_eq!(watcher.known(&["cart", "till"]), ["cart", "till"]);
}

#[tokio::test]
async fn a_watch_goes_on_where_it_ended_without_a_list() {
    let mut server = Server::start().await;
    let watcher = start(&server, "resumes", PATIENCE);
    server.list().await.pods("10", &[]);
    let watch = server.watch().await.accept();
    watch.event("ADDED", &pod("cart", "11"));
    watch.end();

    let watch = server.watch().await;
    assert_eq!(watch.of("resourceVersion"), Some("11"), "of the last event");
    let watch = watch.accept();
    watch.bookmark("20");
    watch.end();

    let watch = server.watch().await;
    assert_eq!(watch.of("resourceVersion"), Some("20"), "of the bookmark");
    let watch = watch.accept();
    let line = json!({"type": "ADDED", "object": pod("till", "21")}).to_string();
    watch.bytes(format!("{line}\n").as_bytes());
    watch.bytes(&line.as_bytes()[..40]);
    while watcher.known(&["till"]).is_empty() {
        watcher.changed().await;
    }
    watch.cut();

    let watch = server.watch().await;
    assert_eq!(watch.of("resourceVersion"), Some("21"), "what was cut off comes again");
    let watch = watch.accept();
    let line = json!({"type": "ADDED", "object": pod("shelf", "22")}).to_string() + "\n";
    for byte in line.as_bytes() {
        watch.bytes(&[*byte]);
    }
    while watcher.known(&["shelf"]).is_empty() {
        watcher.changed().await;
    }
    assert_eq!(watcher.known(&["cart", "till"]), ["cart", "till"], "no interruption lost what was known");
    assert!(server.is_left_alone());
}
