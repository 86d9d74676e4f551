//! Clients of HTTP/2, which can take nothing without a full socket, and ask for much at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::model::EventKind;
use bpf_metrics_exporter::web::{self, bounds};
use h2::client::{Builder, SendRequest};
use http::Request;
use hyper::body::Bytes;
use rustls::pki_types::ServerName;
use test_support::golden::snapshot;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{Folder, SERVER};
use super::events::event;
use super::{Selected, Server, serve_with, settings};

/// Connects with a window of this size for each stream, in bytes. Returns what sends requests, and the connection.
async fn connect(
    folder: &Folder,
    address: SocketAddr,
    window: u32,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let mut config = folder.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    let (client, connection) =
        Builder::new().initial_window_size(window).handshake(stream).await.expect("HTTP/2");
    (client, tokio::spawn(connection))
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}")).body(()).expect("a request")
}

fn serve(folder: &Folder, settings: web::Settings) -> Server {
    let config = folder.load(SERVER).expect("it is valid");
    config.start().expect("threads");
    serve_with(web::Settings { config: Some(config), ..settings }, snapshot, Selected::all)
}

/// Returns the status and the body of a response.
async fn fetch(client: &SendRequest<Bytes>, path: &str) -> (u16, Vec<u8>) {
    let mut client = client.clone().ready().await.expect("it is open");
    let (response, _) = client.send_request(get(path), true).expect("it is open");
    let response = response.await.expect("it answers");
    let (status, mut body) = (response.status().as_u16(), response.into_body());
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.expect("it is whole");
        body.flow_control().release_capacity(piece.len()).expect("as much as arrived");
        whole.extend_from_slice(&piece);
    }
    (status, whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_closed_whatever_it_asked_for() {
    let folder = Folder::new();
    let server = serve(&folder, settings());
    let began = Instant::now();
    let stalled = ["/-/healthy", "/nothing", "/metrics", "/api/v1/events"].map(|path| {
        let (folder, address) = (&folder, server.address);
        async move {
            let (client, connection) = connect(folder, address, 0).await;
            let mut client = client.ready().await.expect("it is open");
            let (response, _) = client.send_request(get(path), true).expect("it is open");
            let _taken_by_nobody = response.await.expect("its head needs no window");
            let closed = tokio::time::timeout(Duration::from_secs(50), connection).await;
            assert!(closed.is_ok(), "{path} is not closed");
        }
    });
    futures_util::future::join_all(stalled).await;
    assert!(began.elapsed() > Duration::from_secs(25), "slow clients have time: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_and_large_headers_are_answered_or_refused() {
    let folder = Folder::new();
    let server = serve(&folder, web::Settings { max_requests: 2, ..settings() });
    let (client, _connection) = connect(&folder, server.address, 1 << 20).await;
    // From its first answer on, the client knows the bound and waits.
    assert_eq!(fetch(&client, "/-/healthy").await.0, 200);
    let many = (0..200).map(|_| fetch(&client, "/metrics"));
    let answers = futures_util::future::join_all(many).await;
    assert!(answers.iter().all(|(status, _)| matches!(status, 200 | 503)));
    assert!(answers.iter().any(|(status, body)| *status == 200 && body.starts_with(b"#")));
    assert_eq!(fetch(&client, "/metrics").await.0, 200, "nothing of them is left");

    let mut large = get("/-/healthy");
    large.headers_mut().insert("a", "a".repeat(bounds::HEAD * 2).parse().expect("a value"));
    let mut sender = client.clone().ready().await.expect("it is open");
    // Refused here already where the client knows the bound.
    if let Ok((response, _)) = sender.send_request(large, true) {
        assert!(response.await.map_or(true, |response| response.status() == 431));
    }
    let (client, _connection) = connect(&folder, server.address, 1 << 20).await;
    assert_eq!(fetch(&client, "/-/healthy").await, (200, b"healthy\n".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_when_tls_changes() {
    let folder = Folder::new();
    let server = serve(&folder, settings());
    let (client, connection) = connect(&folder, server.address, 1 << 20).await;
    assert_eq!(fetch(&client, "/-/healthy").await.0, 200);
    // Something else than TLS.
    folder.write("web.yml", &format!("{SERVER}rate_limit:\n  interval: 1ns\n  burst: 9\n"));
    assert_eq!(fetch(&client, "/-/healthy").await.0, 200);
    assert!(!connection.is_finished());
    let verifying = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let text = format!("{SERVER}{verifying}rate_limit:\n  interval: 1ns\n  burst: 9\n");
    folder.write("web.yml", &text);
    assert_eq!(fetch(&client, "/metrics").await.0, 421, "it has no certificate");
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await;
    // The client may still have something to say when the connection is closed.
    let _in_order: Result<(), h2::Error> = ended.expect("it is closed").expect("it does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_scrapes_share_a_connection() {
    let folder = Folder::new();
    let events = Events::default();
    events.publish(vec![event(EventKind::ProgramLoad, "first")]);
    let server = serve(&folder, web::Settings { events: events.clone(), ..settings() });
    let (client, connection) = connect(&folder, server.address, 1 << 20).await;
    let mut sender = client.clone().ready().await.expect("it is open");
    let (response, _) = sender.send_request(get("/api/v1/events"), true).expect("it is open");
    let response = response.await.expect("it answers");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("\"first\"") {
        let piece = body.data().await.expect("it goes on").expect("it is open");
        text += std::str::from_utf8(&piece).expect("text");
    }
    assert_eq!(fetch(&client, "/metrics").await.0, 200);
    events.publish(vec![event(EventKind::ProgramUnload, "second")]);
    let piece = body.data().await.expect("it goes on").expect("it is open");
    assert!(piece.starts_with(b"id: 2\nevent: bpf.program.unload\n"), "{piece:?}");
    let began = Instant::now();
    server.stop.send_replace(true);
    while let Some(piece) = body.data().await {
        assert_eq!(piece.expect("it ends in order"), Bytes::new(), "the last frame is an empty one");
    }
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await;
    // The client may still have something to say when the connection is closed.
    let _in_order: Result<(), h2::Error> = ended.expect("it is closed").expect("it does not panic");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}
