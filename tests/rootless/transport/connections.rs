//! Connections that are kept, that break, that lead through a proxy, a Unix socket or to an address with a zone, and none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::export::otlp::settings::{Destination, Endpoint, Protocol, Secret};
use bpf_metrics_exporter::export::otlp::transport::{FailureKind, SetupError, Transport};
use test_support::answerer::{self, Script};
use test_support::faults::{Fault, FaultProxy};
use test_support::http::free_address;
use test_support::transport::{connect, destination, request, resolver};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{ANY, BACKOFF, BOTH, accepted, at, fail, http_of, hurried, outcome, serve};

#[tokio::test]
async fn a_connection_is_kept_and_a_closed_one_replaced_without_a_failure() {
    for protocol in BOTH {
        let mut server = serve(protocol, [accepted(protocol)]).await;
        let mut transport = connect(&destination(protocol, server.address));
        for _ in 0..3 {
            transport.export(&request("a", 1)).await.expect("it is accepted");
            assert_eq!(server.requests.recv().await.expect("a request").connection, 1);
        }
        // The server is restarted at the same address between two requests.
        let address = server.address;
        drop(server);
        tokio::task::yield_now().await;
        let mut server = answerer::start(http_of(protocol), address, None, [accepted(protocol)]).await;
        transport.export(&request("b", 1)).await.expect("on a new connection");
        assert_eq!(server.requests.recv().await.expect("a request").connection, 1);
        assert!(server.requests.try_recv().is_err(), "it was sent once");
    }
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_is_connected_to_again() {
    let mut server = serve(Protocol::HttpProtobuf, [Script::accepted().close()]).await;
    let mut transport = connect(&destination(Protocol::HttpProtobuf, server.address));
    for number in 1..=3 {
        transport.export(&request("a", 1)).await.expect("it is accepted");
        assert_eq!(server.requests.recv().await.expect("a request").connection, number);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_with_a_failure_is_a_failure_to_retry() {
    for protocol in BOTH {
        let server = serve(protocol, [accepted(protocol)]).await;
        let proxy = FaultProxy::start(server.address, Fault::None).await;
        let mut transport = connect(&hurried(protocol, proxy.address));
        let table = [
            (Fault::Refuse, FailureKind::Broken),
            (Fault::BlackHole, FailureKind::Timeout),
            (Fault::Delay(Duration::from_secs(30)), FailureKind::Timeout),
            (Fault::Throttle(Duration::from_millis(300)), FailureKind::Timeout),
            (Fault::CutAfter(0), FailureKind::Broken),
            (Fault::CutAfter(20), FailureKind::Broken),
        ];
        for (fault, kind) in table {
            proxy.set(fault);
            let failure = fail(&mut transport).await;
            assert_eq!(outcome(&failure), (kind, BACKOFF), "{protocol:?} {fault:?}: {failure}");
            proxy.set(Fault::None);
            transport.export(&request("a", 1)).await.expect("it is accepted again");
        }
        // What is corrupted is never taken for a success, nor does it end anything.
        for first in [0, 9, 15, 30, 60] {
            proxy.set(Fault::Corrupt(first));
            let failure = fail(&mut connect(&hurried(protocol, proxy.address))).await;
            assert!(failure.reason.len() <= 1024, "{failure}");
        }
        proxy.set(Fault::None);
        transport.export(&request("a", 1)).await.expect("it is accepted again");
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_a_failure_to_retry_that_names_it() {
    let nobody = free_address();
    for protocol in BOTH {
        let failure = fail(&mut connect(&destination(protocol, nobody))).await;
        assert_eq!(outcome(&failure), (FailureKind::Connect, BACKOFF));
        let expected = format!("failed to connect to {nobody}: Connection refused (os error 111)");
        assert_eq!(failure.reason, expected);

        let unknown = at(destination(protocol, nobody), "name.invalid", false);
        let failure = fail(&mut connect(&unknown)).await;
        assert_eq!(outcome(&failure), (FailureKind::Connect, BACKOFF));
        assert!(failure.reason.starts_with("failed to look up the name name.invalid: "), "{failure}");

        let mut missing = destination(protocol, nobody);
        missing.endpoint =
            Endpoint::Unix { socket: "/nonexistent/otlp.sock".into(), path: "/v1/metrics".to_owned() };
        let failure = fail(&mut connect(&missing)).await;
        assert_eq!(outcome(&failure), (FailureKind::Connect, BACKOFF));
        assert!(failure.reason.contains("/nonexistent/otlp.sock"), "{failure}");
    }
}

#[tokio::test]
async fn the_time_limit_covers_the_connection_and_says_what_was_waited_for() {
    // A queue of connections that is full: the kernel does not answer another one.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(ANY.into()).expect("a port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    let mut filling = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        filling.push(stream);
    }
    let started = Instant::now();
    let failure = fail(&mut connect(&hurried(Protocol::Grpc, address))).await;
    assert_eq!(outcome(&failure), (FailureKind::Connect, BACKOFF));
    assert_eq!(failure.reason, "there was no connection within 700ms");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_in_order() {
    // localhost is ::1 and 127.0.0.1 where there is IPv6; the server has only the latter.
    for protocol in BOTH {
        let mut server = serve(protocol, [accepted(protocol)]).await;
        let mut transport = connect(&at(destination(protocol, server.address), "localhost", false));
        transport.export(&request("a", 1)).await.expect("it is accepted");
        let seen = server.requests.recv().await.expect("a request");
        assert_eq!(seen.authority, format!("localhost:{}", server.address.port()));
    }
}

#[tokio::test]
async fn an_address_may_have_a_zone() {
    for protocol in BOTH {
        let mut server = answerer::start(
            http_of(protocol),
            "[::1]:0".parse().expect("an address"),
            None,
            [accepted(protocol)],
        )
        .await;
        let mut transport = connect(&at(destination(protocol, server.address), "::1%lo", false));
        transport.export(&request("a", 1)).await.expect("it is accepted");
        let seen = server.requests.recv().await.expect("a request");
        assert_eq!(seen.authority, server.address.to_string(), "the zone is not sent");
    }
}

#[tokio::test]
async fn a_unix_socket_takes_both_protocols() {
    let folder = tempfile::tempdir().expect("a folder");
    for protocol in BOTH {
        let socket = folder.path().join(format!("{protocol:?}"));
        let mut server = answerer::start_unix(http_of(protocol), &socket, [accepted(protocol)]);
        let mut destination = destination(protocol, ANY.into());
        destination.endpoint = Endpoint::Unix { socket, path: "/v1/metrics".to_owned() };
        let mut transport = connect(&destination);
        for _ in 0..2 {
            transport.export(&request("a", 1)).await.expect("it is accepted");
            let seen = server.requests.recv().await.expect("a request");
            assert_eq!((&*seen.authority, seen.connection), ("localhost", 1));
        }
    }
}

/// Starts an HTTP proxy that opens one tunnel to a server, or answers with a status; returns the head of its request.
async fn proxy(server: SocketAddr, status: &'static str) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind(SocketAddr::from(ANY)).await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let task = tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("it listens");
        let mut client = BufReader::new(client);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            client.read_line(&mut line).await.expect("the head is complete");
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let answer = format!("HTTP/1.1 {status}\r\n\r\n");
        client.write_all(answer.as_bytes()).await.expect("the client waits");
        if status.starts_with("200") {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.expect("it listens");
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
        head
    });
    (address, task)
}

#[tokio::test]
async fn a_proxy_opens_a_tunnel_with_its_password_and_sees_no_header() {
    for protocol in BOTH {
        let mut server = serve(protocol, [accepted(protocol)]).await;
        for userinfo in ["", "us%65r:p%40ss@"] {
            let (address, head) = proxy(server.address, "200 Connection established").await;
            let mut destination = at(destination(protocol, server.address), "receiver.invalid", false);
            destination.proxy = Some(Secret(format!("http://{userinfo}{address}").parse().expect("a URL")));
            destination.headers.0 = vec![("authorization".to_owned(), "Bearer of-the-receiver".to_owned())];
            let mut transport = connect(&destination);
            // The name of the receiver is the proxy's to look up.
            transport.export(&request("a", 1)).await.expect("it is accepted");
            let target = format!("receiver.invalid:{}", server.address.port());
            assert_eq!(server.requests.recv().await.expect("a request").authority, target);
            let head = head.await.expect("the proxy runs");
            assert_eq!(head[0], format!("CONNECT {target} HTTP/1.1"));
            let has = |line: &str| head.iter().any(|given| given.eq_ignore_ascii_case(line));
            assert!(has(&format!("host: {target}")), "{head:?}");
            // "user:p@ss".
            assert_eq!(has("proxy-authorization: Basic dXNlcjpwQHNz"), !userinfo.is_empty(), "{head:?}");
            assert!(!head.concat().contains("of-the-receiver"), "{head:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_a_failure_to_retry_without_its_password() {
    let server = free_address();
    for (status, code) in [("407 Proxy Authentication Required", 407), ("502 Bad Gateway", 502)] {
        let (address, _head) = proxy(server, status).await;
        let mut destination = destination(Protocol::Grpc, server);
        destination.proxy = Some(Secret(format!("http://user:s3cret@{address}").parse().expect("a URL")));
        let failure = fail(&mut connect(&destination)).await;
        assert_eq!(outcome(&failure), (FailureKind::Proxy(code), BACKOFF));
        assert!(failure.reason.contains(status) && !failure.reason.contains("s3cret"), "{failure}");
    }
    let mut destination = hurried(Protocol::Grpc, server);
    let silent = TcpListener::bind(SocketAddr::from(ANY)).await.expect("a port");
    let address = silent.local_addr().expect("it is bound");
    destination.proxy = Some(Secret(format!("http://{address}").parse().expect("a URL")));
    let failure = fail(&mut connect(&destination)).await;
    assert_eq!(outcome(&failure), (FailureKind::Connect, BACKOFF), "{failure}");
}

#[test]
fn settings_that_cannot_be_sent_are_errors() {
    let of = |change: fn(&mut Destination)| {
        let mut destination = destination(Protocol::Grpc, ANY.into());
        change(&mut destination);
        Transport::new(&destination, resolver()).err()
    };
    let header = of(|destination| destination.headers.0.push(("not a name".to_owned(), String::new())));
    assert!(matches!(header, Some(SetupError::Header(name)) if name == "not a name"));
    let value = of(|destination| destination.headers.0.push(("name".to_owned(), "s3cret\n".to_owned())));
    assert!(value.is_some_and(|error| !error.to_string().contains("s3cret")));
    let proxy = of(|destination| {
        destination.proxy = Some(Secret("https://user:s3cret@proxy".parse().expect("a URL")));
    });
    assert!(proxy.is_some_and(|error| !error.to_string().contains("s3cret")));
    let host = of(|destination| {
        destination.endpoint =
            Endpoint::Tcp { tls: false, host: "a b".to_owned(), port: 1, path: String::new() };
    });
    assert!(matches!(host, Some(SetupError::Address(_))));
}
