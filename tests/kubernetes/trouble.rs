//! A server that does not work as it should: it is asked again, not more than needs be, and said once.

use std::time::Duration;

use bpf_metrics_exporter::lookup::kubernetes::Patience;
use serde_json::json;
use tokio::net::TcpSocket;

use super::server::{Server, pod};
use super::{Log, PATIENCE, start, start_at};

/// How a server says that it forgot a version.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Event,
    Status,
}

#[tokio::test]
async fn a_forgotten_version_is_listed_anew() {
    for (gone, name) in [(Gone::Event, "gone-event"), (Gone::Status, "gone-status")] {
        let mut server = Server::start().await;
        let watcher = start(&server, name, PATIENCE);
        server.list().await.pods("10", &[pod("cart", "1")]);
        watcher.changed().await;
        let forget = async |server: &mut Server| {
            let watch = server.watch().await;
            match gone {
                Gone::Status => watch.refuse(410, "too old resource version"),
                Gone::Event => watch.accept().event("ERROR", &json!({"code": 410, "message": "too old"})),
            }
        };
        forget(&mut server).await;
        let list = server.list().await;
        assert_eq!(list.of("resourceVersion"), Some("0"), "{gone:?}: the cache answers");
        list.pods("20", &[pod("till", "15")]);
        watcher.changed().await;
        assert_eq!(watcher.known(&["cart", "till"]), ["till"], "{gone:?}: what went meanwhile is gone");

        forget(&mut server).await;
        let list = server.list().await;
        assert_eq!(list.of("resourceVersion"), None, "{gone:?}: the cache is too old, the store answers");
        list.pods("30", &[pod("till", "15")]);
        let watch = server.watch().await;
        assert_eq!(watch.of("resourceVersion"), Some("30"), "{gone:?}");
        let watch = watch.accept();
        watch.event("ADDED", &pod("shelf", "31"));
        watcher.changed().await;
        assert!(!Log::lines().iter().any(|line| line.contains("WARN")), "{gone:?}: {:?}", Log::lines());
        watcher.stop().await;
    }
}

#[tokio::test]
async fn garbage_in_a_watch_is_listed_anew() {
    let endless = vec![b'x'; 9 << 20];
    let garbage = [&b"<html>\n"[..], b"{\"type\":\"ADDED\"}\n", b"\xff\0\n", b"[[[[[[[[\n", &endless];
    for (index, garbage) in garbage.into_iter().enumerate() {
        let mut server = Server::start().await;
        let watcher = start(&server, &format!("garbage-{index}"), PATIENCE);
        server.list().await.pods("10", &[pod("cart", "1")]);
        let watch = server.watch().await.accept();
        watch.event("ADDED", &pod("till", "11"));
        watch.bytes(garbage);
        let list = server.list().await;
        assert_eq!(watcher.known(&["cart", "till"]), ["cart", "till"], "what is known stays known meanwhile");
        list.pods("20", &[pod("till", "11")]);
        server.watch().await.accept().bookmark("21");
        assert_eq!(watcher.known(&["cart", "till"]), ["till"]);
        let lines = Log::lines();
        let warnings: Vec<_> = lines.iter().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{lines:?}");
        assert!(warnings[0].contains("does not speak as one"), "{lines:?}");
        watcher.stop().await;
    }
}

#[tokio::test]
async fn garbage_instead_of_a_list_is_asked_for_again() {
    let mut server = Server::start().await;
    let watcher = start(&server, "garbage-list", PATIENCE);
    for garbage in [
        "",
        "null",
        "{}",
        "<html>",
        r#"{"metadata":{},"items":[]}"#,
        r#"{"metadata":{"resourceVersion":"1"},"items":[{}]}"#,
    ] {
        server.list().await.text(garbage);
    }
    server.list().await.text(r#"{"metadata":{"resourceVersion":"7"},"items":null}"#);
    assert_eq!(server.watch().await.of("resourceVersion"), Some("7"), "an empty list is written so, too");
    drop(watcher);
}

#[tokio::test]
async fn a_server_that_never_answers_is_asked_again() {
    let mut server = Server::start().await;
    let patience = Patience { answer: Duration::from_millis(50), ..PATIENCE };
    let _watcher = start(&server, "never-answers", patience);
    let _unanswered = (server.list().await, server.list().await, server.list().await);
    let lines = Log::lines();
    assert!(lines.len() == 1 && lines[0].contains("did not answer within 50ms"), "{lines:?}");
}

#[tokio::test]
async fn a_watch_that_falls_silent_goes_on_in_another() {
    let mut server = Server::start().await;
    let patience = Patience { watch: Duration::from_secs(1), grace: Duration::ZERO, ..PATIENCE };
    let watcher = start(&server, "silent", patience);
    server.list().await.pods("10", &[pod("cart", "1")]);
    let silent = server.watch().await.accept();
    silent.bookmark("20");
    let again = server.watch().await;
    assert_eq!(again.of("resourceVersion"), Some("20"), "it goes on from where it was, without a list");
    assert_eq!(watcher.known(&["cart"]), ["cart"]);
    drop(silent);
}

#[tokio::test]
async fn refusals_that_time_heals_keep_the_version_and_others_do_not() {
    for (status, kept) in [(500, true), (503, true), (429, true), (403, true), (400, false), (404, false)] {
        let mut server = Server::start().await;
        let watcher = start(&server, &format!("refused-{status}"), PATIENCE);
        server.list().await.pods("10", &[]);
        server.watch().await.refuse(status, "not now");
        let next = server.next().await;
        assert_eq!(next.of("watch").is_some(), kept, "{status}");
        watcher.stop().await;
    }
}

#[tokio::test]
async fn trouble_is_said_once_and_so_is_its_end() {
    let mut server = Server::start().await;
    let watcher = start(&server, "said-once", PATIENCE);
    for _ in 0..5 {
        server.list().await.refuse(403, r#"pods is forbidden: User "system:serviceaccount:a:b" cannot list"#);
    }
    server.list().await.pods("10", &[pod("cart", "1")]);
    for _ in 0..3 {
        server.watch().await.refuse(403, "cannot watch");
    }
    let watch = server.watch().await.accept();
    watch.event("ADDED", &pod("till", "11"));
    let lines = Log::first(3).await;
    assert_eq!(watcher.known(&["cart", "till"]), ["cart", "till"]);
    drop(watch);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, parts) in lines.iter().zip([
        &["WARN", "403", "system:serviceaccount:a:b", "list and watch of pods", "RBAC"][..],
        &["INFO", "watching the pods of node node-1", "1 of them"],
        &["INFO", "tells names of pods again"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

#[tokio::test]
async fn what_fails_again_and_again_after_a_moment_is_said_once() {
    let mut server = Server::start().await;
    let patience = Patience { longest_pause: Duration::from_secs(1), ..PATIENCE };
    let watcher = start(&server, "again-and-again", patience);
    server.list().await.pods("10", &[pod("cart", "1")]);
    for version in ["11", "12", "13", "14"] {
        let watch = server.watch().await.accept();
        watch.event("ADDED", &pod("till", version));
        watch.event("ERROR", &json!({"code": 500, "message": "etcd has no leader"}));
    }
    assert_eq!(server.watch().await.of("resourceVersion"), Some("14"));
    let lines = Log::lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[1].contains("WARN") && lines[1].contains("etcd has no leader"), "{lines:#?}");
    watcher.stop().await;
}

#[tokio::test]
async fn a_server_that_drops_each_watch_is_not_one_that_works() {
    let mut server = Server::start().await;
    // Longer than the end of an answer follows its beginning on a busy machine.
    let patience = Patience { first_pause: Duration::from_millis(200), ..PATIENCE };
    let _watcher = start(&server, "drops", patience);
    server.list().await.pods("10", &[pod("cart", "1")]);
    for _ in 0..6 {
        server.watch().await.accept().end();
    }
    let lines = Log::lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[1].contains("WARN") && lines[1].contains("ends each watch"), "{lines:#?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_by_its_address() {
    // A port at which nobody listens, and nobody else can meanwhile.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let url = format!("http://{}", socket.local_addr().expect("it is bound"));
    let watcher = start_at(&url, "absent", PATIENCE);
    let said = Log::first(1).await.concat();
    assert!(said.contains("WARN") && said.contains(&url) && said.contains("refused"), "{said}");
    watcher.stop().await;
}

#[tokio::test]
async fn no_pods_at_all_is_a_word_about_the_nodes_name() {
    let mut server = Server::start().await;
    let _watcher = start(&server, "no-pods", PATIENCE);
    server.list().await.pods("10", &[]);
    let _watch = server.watch().await;
    let lines = Log::lines();
    assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains("--node-name"), "{lines:?}");
}
