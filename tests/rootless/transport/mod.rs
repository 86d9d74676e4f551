//! Transports against real servers on real sockets: what receivers and proxies answer, TLS and its files, names and addresses, and
//! connections that break.

mod authority;
mod connections;
mod fetch;
mod grpc;
mod http;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::settings::{Destination, Endpoint, Protocol};
use bpf_metrics_exporter::export::otlp::transport::{Answer, Failure, FailureKind, Remedy, Retry, Transport};
use test_support::answerer::{self, Answerer, Http, Script};
use test_support::transport::{connect, destination, request};

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

const BACKOFF: Remedy = Remedy::Retry(Retry::WithBackoff);

const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

/// Returns the version of HTTP below a protocol.
fn http_of(protocol: Protocol) -> Http {
    match protocol {
        Protocol::Grpc => Http::Two,
        Protocol::HttpProtobuf => Http::One,
    }
}

/// Returns the answer of a receiver that accepts everything.
fn accepted(protocol: Protocol) -> Script {
    match protocol {
        Protocol::Grpc => Script::grpc(&[], 0),
        Protocol::HttpProtobuf => Script::accepted(),
    }
}

/// Starts a server in plaintext.
async fn serve(protocol: Protocol, scripts: impl IntoIterator<Item = Script>) -> Answerer {
    answerer::start(http_of(protocol), ANY.into(), None, scripts).await
}

/// Sends one request to a server that gives this answer.
async fn answer_to(protocol: Protocol, script: Script) -> Result<Answer, Failure> {
    let server = serve(protocol, [script]).await;
    connect(&destination(protocol, server.address)).export(&request("a", 1)).await
}

/// The same for an answer that is a failure.
async fn failure_of(protocol: Protocol, script: Script) -> Failure {
    answer_to(protocol, script.clone()).await.map_or_else(
        |failure| failure,
        |answer| panic!("{protocol:?} {script:?} is a failure, not {answer:?}"),
    )
}

/// Sends a request that fails.
async fn fail(transport: &mut Transport) -> Failure {
    transport.export(&request("a", 1)).await.expect_err("it fails")
}

/// Returns a destination with another host, as it is given in a URL.
fn at(mut destination: Destination, new: &str, secure: bool) -> Destination {
    let Endpoint::Tcp { tls, host, .. } = &mut destination.endpoint else { panic!("it has a host") };
    new.clone_into(host);
    *tls = secure;
    destination
}

/// Returns a destination with a short time limit.
fn hurried(protocol: Protocol, address: SocketAddr) -> Destination {
    Destination { timeout: Duration::from_millis(700), ..destination(protocol, address) }
}

/// Returns what matters of a failure.
fn outcome(failure: &Failure) -> (FailureKind, Remedy) {
    (failure.kind, failure.remedy)
}
