//! Which compression a receiver gets that says nothing of it beforehand: all arrives, with Zstandard where that is taken.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::{Compressor, Request};
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::settings::{CompressionPolicy, Destination, Protocol};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use test_support::answerer::{self, Answerer, Http, Script};
use test_support::delivery::Delivery;
use test_support::transport::{destination, points, request, times};

/// Points of each request.
const POINTS: u64 = 7;

/// What became of requests.
struct Sent {
    ledger: Arc<Ledger>,
    /// The compression in which each was queued.
    queued: Vec<&'static str>,
}

/// Starts the delivery to a receiver.
fn start(protocol: Protocol, address: SocketAddr) -> Delivery {
    let to = Destination { compression: CompressionPolicy::Negotiated, ..destination(protocol, address) };
    Delivery::start(&to, Duration::from_secs(1), 1 << 20)
}

/// Sends `count` requests, one after the other.
async fn send(protocol: Protocol, address: SocketAddr, count: usize) -> Sent {
    let delivery = start(protocol, address);
    let (mut compressor, mut queued) = (Compressor::default(), Vec::new());
    for number in 0..count {
        delivery.queue.begin_reading();
        delivery.queue.push(|form| {
            queued.push(form.as_str());
            compressor.compressed(&named(number), form)
        });
        delivery.settled().await;
    }
    Sent { ledger: delivery.finish().await, queued }
}

fn named(number: usize) -> Request {
    request(&format!("the request {number}"), POINTS)
}

/// A receiver that gives these answers, and the protocol that it speaks.
async fn receiver(protocol: Protocol, scripts: Vec<Script>) -> Answerer {
    let http = match protocol {
        Protocol::Grpc => Http::Two,
        Protocol::HttpProtobuf => Http::One,
    };
    answerer::start(http, ([127, 0, 0, 1], 0).into(), None, scripts).await
}

/// Returns the requests that have arrived.
fn seen(receiver: &mut Answerer) -> Vec<answerer::Seen> {
    std::iter::from_fn(|| receiver.requests.try_recv().ok()).collect()
}

fn encoding(seen: &answerer::Seen) -> &str {
    seen.header("grpc-encoding").or_else(|| seen.header("content-encoding")).unwrap_or("identity")
}

/// Returns the compression of each request that has arrived.
fn arrived(receiver: &mut Answerer) -> Vec<String> {
    seen(receiver).iter().map(|seen| encoding(seen).to_owned()).collect()
}

fn accepted(protocol: Protocol) -> Script {
    match protocol {
        Protocol::Grpc => Script::grpc(&[], 0),
        Protocol::HttpProtobuf => Script::accepted(),
    }
}

/// What servers answer to a compression that they do not know.
fn refusals(protocol: Protocol) -> Vec<Script> {
    match protocol {
        // `UNIMPLEMENTED`, and `INTERNAL` of some.
        Protocol::Grpc => vec![Script::grpc(&[], 12), Script::grpc(&[], 13)],
        Protocol::HttpProtobuf => vec![Script::status(415), Script::status(400), Script::page(500)],
    }
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

#[tokio::test]
async fn a_receiver_that_takes_zstd_gets_nothing_else() {
    for protocol in PROTOCOLS {
        let mut receiver = receiver(protocol, vec![accepted(protocol)]).await;
        let Sent { ledger, .. } = send(protocol, receiver.address, 3).await;
        assert_eq!(arrived(&mut receiver), ["zstd"; 3], "{protocol:?}");
        assert_eq!((ledger.metrics.accepted.get(), ledger.metrics.retryable.get()), (3 * POINTS, 0));
    }
}

#[tokio::test]
async fn a_receiver_that_refuses_zstd_gets_everything_with_gzip() {
    for protocol in PROTOCOLS {
        for refusal in refusals(protocol) {
            let mut receiver = receiver(protocol, vec![refusal, accepted(protocol)]).await;
            let Sent { ledger, queued } = send(protocol, receiver.address, 3).await;
            assert_eq!(arrived(&mut receiver), ["zstd", "gzip", "gzip", "gzip"], "{protocol:?}");
            assert_eq!(queued, ["zstd", "gzip", "gzip"], "nothing is compressed twice");
            let counts = &ledger.metrics;
            assert_eq!((counts.accepted.get(), counts.succeeded.get()), (3 * POINTS, 3));
            assert_eq!((counts.retryable.get(), counts.failed.get(), counts.refused.get()), (1, 0, 0));
        }
    }
}

#[tokio::test]
async fn a_receiver_that_fails_whenever_it_gets_zstd_gets_gzip() {
    for protocol in PROTOCOLS {
        for failure in [accepted(protocol).cut(), Script::page(502)] {
            let failures = |count| vec![failure.clone(); count];
            let scripts = [failures(3), vec![accepted(protocol)], failures(1), vec![accepted(protocol)]];
            let mut receiver = receiver(protocol, scripts.concat()).await;
            let Sent { ledger, .. } = send(protocol, receiver.address, 3).await;
            let expected = ["zstd", "zstd", "zstd", "gzip", "zstd", "gzip", "gzip"];
            assert_eq!(arrived(&mut receiver), expected, "{protocol:?}");
            let counts = &ledger.metrics;
            assert_eq!((counts.accepted.get(), counts.refused.get()), (3 * POINTS, 0));
            assert_eq!(counts.retryable.get(), 4);
        }
    }
}

#[tokio::test]
async fn another_receiver_behind_the_address_may_refuse_zstd() {
    for protocol in PROTOCOLS {
        let refusal = refusals(protocol).remove(0);
        let scripts = vec![accepted(protocol), refusal, accepted(protocol)];
        let mut receiver = receiver(protocol, scripts).await;
        let Sent { ledger, .. } = send(protocol, receiver.address, 3).await;
        assert_eq!(arrived(&mut receiver), ["zstd", "zstd", "gzip", "gzip"], "{protocol:?}");
        assert_eq!((ledger.metrics.accepted.get(), ledger.metrics.refused.get()), (3 * POINTS, 0));
    }
}

#[tokio::test]
async fn what_is_refused_in_any_compression_is_sent_twice_only_once() {
    for protocol in PROTOCOLS {
        let refusal = match protocol {
            // `PERMISSION_DENIED`.
            Protocol::Grpc => Script::grpc(&[], 7),
            Protocol::HttpProtobuf => Script::status(403),
        };
        let mut receiver = receiver(protocol, vec![refusal]).await;
        let Sent { ledger, .. } = send(protocol, receiver.address, 3).await;
        assert_eq!(arrived(&mut receiver), ["zstd", "gzip", "gzip", "gzip"], "{protocol:?}");
        let counts = &ledger.metrics;
        assert_eq!((counts.accepted.get(), counts.refused.get(), counts.failed.get()), (0, 3 * POINTS, 3));
        assert_eq!(counts.retryable.get(), 1);
    }
}

#[tokio::test]
async fn parts_of_a_request_that_is_too_large_get_gzip_as_well() {
    for protocol in PROTOCOLS {
        let too_large = match protocol {
            // `RESOURCE_EXHAUSTED`.
            Protocol::Grpc => Script::grpc(&[], 8).trailer("grpc-message", "message too large"),
            Protocol::HttpProtobuf => Script::status(413),
        };
        let scripts = vec![too_large, refusals(protocol).remove(0), accepted(protocol)];
        let mut receiver = receiver(protocol, scripts).await;
        let delivery = start(protocol, receiver.address);
        delivery.queue.begin_reading();
        delivery.queue.push(|form| Compressor::default().compressed(&points(1, 100), form));
        let ledger = delivery.finish().await;
        let seen = seen(&mut receiver);
        let encodings: Vec<_> = seen.iter().map(encoding).collect();
        assert_eq!(encodings, ["zstd", "zstd", "gzip", "gzip"], "{protocol:?}");
        let accepted = seen[2..].iter().flat_map(|part| {
            let start = if matches!(protocol, Protocol::Grpc) { 5 } else { 0 };
            let mut plain = Vec::new();
            GzDecoder::new(&part.body[start..]).read_to_end(&mut plain).expect("it is gzip");
            times(&ExportMetricsServiceRequest::decode(&*plain).expect("it is a request"))
        });
        assert!(accepted.eq(1..=100), "every point arrives once, in order");
        let counts = &ledger.metrics;
        assert_eq!((counts.split.get(), counts.retryable.get(), counts.refused.get()), (1, 1, 0));
        assert_eq!(counts.accepted.get(), 100);
    }
}
