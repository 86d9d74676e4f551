//! Which compression a receiver gets that says nothing of it beforehand: all arrives, with Zstandard where that is taken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::{Compressor, Request};
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::queue::Queue;
use bpf_metrics_exporter::export::otlp::settings::{CompressionPolicy, Protocol};
use bpf_metrics_exporter::export::otlp::{DeliverySettings, RequestLimit, deliver};
use bpf_metrics_exporter::model::BootTime;
use test_support::answerer::{self, Answerer, Http, Script};
use test_support::transport::{connect, destination, request};

const DEADLINE: Duration = Duration::from_secs(30);

/// Points of each request.
const POINTS: u64 = 7;

/// What became of requests.
struct Sent {
    ledger: Arc<Ledger>,
    /// The compression in which each was queued.
    queued: Vec<&'static str>,
}

/// Sends so many requests, one after the other.
async fn send(protocol: Protocol, address: SocketAddr, count: usize) -> Sent {
    let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
    let policy = CompressionPolicy::Negotiated;
    let queue = Arc::new(Queue::new("the receiver", 1 << 20, policy.first(), Arc::clone(&ledger)));
    let settings = DeliverySettings {
        receiver: "the receiver".to_owned(),
        compression: policy,
        interval: Duration::from_secs(1),
        max_request: Arc::new(RequestLimit::new(1 << 20)),
    };
    let transport = connect(&destination(protocol, address));
    let delivery = tokio::spawn({
        let (queue, ledger) = (Arc::clone(&queue), Arc::clone(&ledger));
        async move { deliver(&queue, &ledger, transport, settings).await }
    });
    let (mut compressor, mut queued) = (Compressor::default(), Vec::new());
    for number in 0..count {
        queue.begin_reading();
        queue.push(|form| {
            queued.push(form.as_str());
            compressor.compressed(&named(number), form)
        });
        let settled = async {
            while !queue.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DEADLINE, settled).await.expect("it is settled in time");
    }
    queue.close();
    delivery.await.expect("it does not panic");
    Sent { ledger, queued }
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

/// Returns the compression of each request that arrived.
fn arrived(receiver: &mut Answerer) -> Vec<String> {
    let requests = std::iter::from_fn(|| receiver.requests.try_recv().ok());
    let encoding = |name| move |seen: &answerer::Seen| seen.header(name).map(str::to_owned);
    requests
        .map(|seen| encoding("grpc-encoding")(&seen).or_else(|| encoding("content-encoding")(&seen)))
        .map(|encoding| encoding.unwrap_or_else(|| "identity".to_owned()))
        .collect()
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
