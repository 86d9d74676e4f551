//! Events as logs, from the hub to receivers: over gRPC and HTTP, through outages, refusals and the end of the program, and beside
//! metrics of the same receiver.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::queue::Disk;
use bpf_metrics_exporter::export::otlp::settings::{Compression, CompressionPolicy, Destination, Protocol};
use bpf_metrics_exporter::model::{BootTime, Event};
use bpf_metrics_exporter::worker::Worker;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use prost::Message as _;
use test_support::answerer::{self, Http, Script};
use test_support::delivery::{Delivery, until};
use test_support::events::{attribute, load, numbers, records};
use test_support::log_pipeline::{DEADLINE, Pipeline, Settings};
use test_support::receiver::{self, LogsAnswer, Receiver};
use test_support::transport;
use tonic::Status;

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Returns where a server takes logs.
fn destination(protocol: Protocol, address: SocketAddr) -> Destination {
    let metrics = transport::destination(protocol, address);
    Destination { endpoint: metrics.endpoint.of_logs().expect("it is at the usual path"), ..metrics }
}

fn start(destination: &Destination, disk: Option<Disk>) -> Pipeline {
    Pipeline::start(destination, Settings { disk, ..Settings::default() })
}

fn loads(ids: std::ops::Range<u32>) -> Vec<Event> {
    ids.map(|id| load(id, BootTime::from_secs(720))).collect()
}

/// Returns the numbers of the events in each request that has arrived.
fn arrived(receiver: &mut Receiver<ExportLogsServiceRequest>) -> Vec<Vec<u64>> {
    std::iter::from_fn(|| receiver.requests.try_recv().ok())
        .map(|request| numbers(&request.message))
        .collect()
}

/// Returns the answers in order, then accepts every request.
fn in_turn(answers: Vec<LogsAnswer>) -> impl FnMut(&ExportLogsServiceRequest) -> LogsAnswer + Send + 'static {
    let mut answers = answers.into_iter();
    move |message| answers.next().unwrap_or_else(|| receiver::ok_logs(message))
}

fn assert_load(message: &ExportLogsServiceRequest) {
    let record = records(message).next().expect("there is a record");
    assert_eq!(record.event_name, "bpf.program.load");
    let time = "2026-03-01T00:12:00Z".parse::<jiff::Timestamp>().expect("it is a date").as_nanosecond();
    assert_eq!(i128::from(record.time_unix_nano), time);
    assert_eq!(record.observed_time_unix_nano - record.time_unix_nano, 1_000);
    assert_eq!(record.severity_number(), SeverityNumber::Info);
    for (key, value) in [
        ("bpf.program.id", "17"),
        ("bpf.program.tag", "0707070707070707"),
        ("process.pid", "812"),
        ("process.executable.path", "/usr/bin/bpftrace"),
        ("container.name", "tracer"),
        ("owner", "ssh.service"),
    ] {
        assert_eq!(attribute(record, key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test]
async fn records_arrive_over_grpc() {
    let mut receiver = receiver::start_logs(ANY.into(), receiver::ok_logs).await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), None);
    pipeline.events.publish(loads(17..20));
    let arrived = tokio::time::timeout(DEADLINE, receiver.requests.recv()).await.expect("in time");
    let message = arrived.expect("the receiver runs").message;
    assert_load(&message);
    assert_eq!(numbers(&message), [1, 2, 3], "they are one batch");
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.accepted.get(), ledger.logs.succeeded.get()), (3, 1));
    assert_eq!((ledger.metrics.accepted.get(), ledger.metrics.succeeded.get()), (0, 0));
}

#[tokio::test]
async fn records_arrive_over_http_at_the_path_of_logs_in_every_compression() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut server = answerer::start(Http::One, ANY.into(), None, [Script::accepted()]).await;
        let destination = destination(Protocol::HttpProtobuf, server.address);
        let pipeline = start(&Destination { compression: compression.into(), ..destination }, None);
        pipeline.events.publish(loads(17..20));
        let seen = tokio::time::timeout(DEADLINE, server.requests.recv()).await.expect("in time");
        let seen = seen.expect("the server runs");
        assert_eq!(seen.path, "/v1/logs");
        let encoding = seen.header("content-encoding").unwrap_or("identity");
        assert_eq!(encoding, compression.as_str());
        let message = ExportLogsServiceRequest::decode(&*decompressed(&seen.body, compression));
        let message = message.expect("it is a request");
        assert_load(&message);
        assert_eq!(numbers(&message), [1, 2, 3]);
        let ledger = pipeline.finish().await;
        assert_eq!((ledger.logs.accepted.get(), ledger.logs.succeeded.get()), (3, 1));
    }
}

fn decompressed(body: &[u8], compression: Compression) -> Vec<u8> {
    let mut plain = Vec::new();
    match compression {
        Compression::None => plain.write_all(body),
        Compression::Gzip => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).map(drop),
        Compression::Zstd => zstd::stream::copy_decode(body, &mut plain),
    }
    .expect("it is compressed as it says");
    plain
}

#[tokio::test]
async fn every_record_arrives_once_and_in_order_after_an_outage() {
    // A port that was free a moment ago: connections are refused.
    let address = std::net::TcpListener::bind(SocketAddr::from(ANY))
        .and_then(|port| port.local_addr())
        .expect("a port");
    let pipeline = start(&destination(Protocol::Grpc, address), None);
    pipeline.events.publish(loads(0..600));
    until(|| pipeline.ledger.logs.retryable.get() > 0).await;
    pipeline.events.publish(loads(600..700));
    until(|| pipeline.queue.waiting() == 700).await;
    let busy = || Err(Status::unavailable("busy"));
    let mut receiver = receiver::start_logs(address, in_turn(vec![busy(), busy()])).await;
    until(|| pipeline.ledger.logs.accepted.get() == 700).await;
    let ledger = pipeline.finish().await;
    assert_eq!(
        (ledger.logs.accepted.get(), ledger.logs.refused.get(), ledger.logs.overflowed.get()),
        (700, 0, 0)
    );
    let mut requests = arrived(&mut receiver);
    assert!(
        requests[0] == requests[1] && requests[1] == requests[2],
        "the first is sent until it is accepted"
    );
    requests.drain(..2);
    assert!(requests.concat().into_iter().eq(1..=700), "{requests:?}");
}

#[tokio::test]
async fn a_receiver_that_restarts_misses_nothing() {
    let mut first = receiver::start_logs(ANY.into(), receiver::ok_logs).await;
    let pipeline = start(&destination(Protocol::Grpc, first.address), None);
    pipeline.events.publish(loads(0..100));
    until(|| pipeline.ledger.logs.accepted.get() == 100).await;
    let (address, before) = (first.address, arrived(&mut first).concat());
    drop(first);
    pipeline.events.publish(loads(100..300));
    until(|| pipeline.ledger.logs.retryable.get() > 0).await;
    pipeline.events.publish(loads(300..400));
    let mut second = receiver::start_logs(address, receiver::ok_logs).await;
    until(|| pipeline.ledger.logs.accepted.get() == 400).await;
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.refused.get(), ledger.logs.overflowed.get()), (0, 0));
    let after = arrived(&mut second).concat();
    assert!(before.into_iter().chain(after).eq(1..=400), "each arrives once and in order");
}

#[tokio::test]
async fn what_waits_for_a_silent_receiver_is_bounded_and_what_is_dropped_is_counted() {
    const LIMIT: u64 = 8 << 10;
    const BATCH: u32 = 50;
    // It accepts connections, and never answers.
    let silent = tokio::net::TcpListener::bind(SocketAddr::from(ANY)).await.expect("a port");
    let address = silent.local_addr().expect("it is bound");
    let short = Duration::from_millis(300);
    let destination = Destination { timeout: short, ..destination(Protocol::Grpc, address) };
    let pipeline = Pipeline::start(&destination, Settings { max_bytes: LIMIT, ..Settings::default() });
    let mut published = 0;
    while pipeline.ledger.logs.overflowed.get() == 0 && published < 2000 {
        pipeline.events.publish(loads(0..BATCH));
        published += u64::from(BATCH);
        // One batch may be in flight.
        let waiting = || pipeline.queue.waiting() + pipeline.ledger.logs.overflowed.get();
        until(|| waiting() + u64::from(BATCH) >= published).await;
    }
    // A single batch may be longer than the limit, and have what was published meanwhile.
    let (backlog, batch) = (pipeline.ledger.backlog.get(), u64::from(2 * BATCH) << 10);
    assert!(backlog <= LIMIT + batch, "{backlog} bytes wait");
    let ledger = pipeline.finish().await;
    let counts = &ledger.logs;
    assert!(counts.overflowed.get() > 0, "{counts:?}");
    let dropped = counts.overflowed.get() + counts.shut_down.get();
    assert_eq!((dropped, counts.accepted.get()), (published, 0), "{counts:?}");
}

#[tokio::test]
async fn what_a_restart_finds_on_disk_is_delivered_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = || {
        let worker = Worker::start("backlog").expect("a thread");
        Disk::new(directory.path(), "http://a#logs", "the receiver", 1 << 20, worker)
    };
    let silent = tokio::net::TcpListener::bind(SocketAddr::from(ANY)).await.expect("a port");
    let address = silent.local_addr().expect("it is bound");
    let short = Duration::from_millis(300);
    let pipeline =
        start(&Destination { timeout: short, ..destination(Protocol::Grpc, address) }, Some(disk()));
    pipeline.events.publish(loads(0..5));
    until(|| pipeline.ledger.logs.retryable.get() > 0).await;
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.shut_down.get(), ledger.logs.accepted.get()), (0, 0), "they are kept");

    let mut receiver = receiver::start_logs(ANY.into(), receiver::ok_logs).await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), Some(disk()));
    pipeline.events.publish(loads(0..2));
    until(|| pipeline.ledger.logs.accepted.get() == 7).await;
    pipeline.finish().await;
    assert_eq!(arrived(&mut receiver), [vec![1, 2, 3, 4, 5], vec![1, 2]]);
}

#[tokio::test]
async fn partial_success_is_counted_and_not_retried() {
    let partial = |rejected, message: &str| {
        let partial =
            ExportLogsPartialSuccess { rejected_log_records: rejected, error_message: message.to_owned() };
        ExportLogsServiceResponse { partial_success: Some(partial) }
    };
    let mut receiver = receiver::start_logs(ANY.into(), in_turn(vec![Ok(partial(3, "too old"))])).await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), None);
    pipeline.events.publish(loads(0..10));
    until(|| pipeline.ledger.logs.succeeded.get() == 1).await;
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.accepted.get(), ledger.logs.rejected.get()), (7, 3));
    assert_eq!(arrived(&mut receiver).len(), 1);

    let body = partial(4, "too old").encode_to_vec();
    let server = answerer::start(Http::One, ANY.into(), None, [Script::accepted().body(body)]).await;
    let pipeline = start(&destination(Protocol::HttpProtobuf, server.address), None);
    pipeline.events.publish(loads(0..10));
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.accepted.get(), ledger.logs.rejected.get()), (6, 4));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_parts() {
    const LIMIT: usize = 70 << 10;
    let mut receiver = receiver::start_logs(ANY.into(), |message: &ExportLogsServiceRequest| {
        if message.encoded_len() > LIMIT {
            Err(Status::resource_exhausted("message too large"))
        } else {
            receiver::ok_logs(message)
        }
    })
    .await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), None);
    pipeline.events.publish(loads(0..500));
    until(|| pipeline.ledger.logs.accepted.get() == 500).await;
    assert!(pipeline.limit.get() < 4 << 20, "later ones are smaller");
    let ledger = pipeline.finish().await;
    assert!(ledger.logs.split.get() > 0);
    assert_eq!((ledger.logs.refused.get(), ledger.logs.failed.get()), (0, 0));
    let sent = std::iter::from_fn(|| receiver.requests.try_recv().ok()).map(|request| request.message);
    let accepted =
        sent.filter(|message| message.encoded_len() <= LIMIT).flat_map(|message| numbers(&message));
    assert!(accepted.eq(1..=500), "every record arrives once, in order");
}

#[tokio::test]
async fn what_is_refused_is_counted_and_what_follows_is_sent() {
    let refusal = vec![Err(Status::invalid_argument("no"))];
    let receiver = receiver::start_logs(ANY.into(), in_turn(refusal)).await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), None);
    pipeline.events.publish(loads(0..3));
    until(|| pipeline.ledger.logs.refused.get() == 3).await;
    pipeline.events.publish(loads(0..2));
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.accepted.get(), ledger.logs.refused.get(), ledger.logs.failed.get()), (2, 3, 1));
}

/// Publishes one batch of two events after another, until the receiver has said that it takes none and all wait.
async fn held_back(pipeline: &Pipeline, batches: u64) {
    for batch in 1..=batches {
        pipeline.events.publish(loads(0..2));
        until(|| {
            // The first may be in flight.
            pipeline.queue.waiting() >= 2 * (batch - 1) && pipeline.ledger.logs.retryable.get() > 0
        })
        .await;
    }
    until(|| pipeline.queue.waiting() == 2 * batches).await;
}

#[tokio::test]
async fn a_receiver_without_logs_gets_the_metrics_and_the_logs_wait() {
    // It takes metrics only: the service of logs is not implemented.
    let mut receiver = receiver::start(ANY.into(), receiver::ok).await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), None);
    let of_metrics = transport::destination(Protocol::Grpc, receiver.address);
    let metrics = Delivery::start(&of_metrics, Duration::from_secs(1), 4 << 20);
    held_back(&pipeline, 3).await;
    metrics.push([transport::request("a", 7)]);
    let ledger = pipeline.finish().await;
    let counts = &ledger.logs;
    assert_eq!(
        (counts.failed.get(), counts.refused.get(), counts.accepted.get(), counts.shut_down.get()),
        (0, 0, 0, 6)
    );
    let metrics = metrics.finish().await;
    assert_eq!((metrics.metrics.accepted.get(), metrics.metrics.failed.get()), (7, 0));
    assert_eq!(receiver.requests.recv().await.expect("it arrived").message.resource_metrics.len(), 1);
}

#[tokio::test]
async fn a_path_that_is_not_there_for_a_while_costs_no_record() {
    // A proxy answers so while the receiver behind it is replaced.
    for status in [404, 405, 501] {
        let accepted = Script::accepted;
        for scripts in
            [vec![Script::page(status), accepted()], vec![accepted(), Script::page(status), accepted()]]
        {
            let requests = scripts.len();
            let mut server = answerer::start(Http::One, ANY.into(), None, scripts).await;
            let pipeline = start(&destination(Protocol::HttpProtobuf, server.address), None);
            let ledger = Arc::clone(&pipeline.ledger);
            if requests > 2 {
                pipeline.events.publish(loads(0..1));
                until(|| ledger.logs.accepted.get() == 1).await;
            }
            let before = ledger.logs.accepted.get();
            pipeline.events.publish(loads(0..2));
            until(|| ledger.logs.accepted.get() == before + 2).await;
            pipeline.finish().await;
            let counts = &ledger.logs;
            assert_eq!(
                (counts.retryable.get(), counts.failed.get(), counts.refused.get()),
                (1, 0, 0),
                "{status}"
            );
            let seen: Vec<_> = std::iter::from_fn(|| server.requests.try_recv().ok()).collect();
            assert_eq!(seen.len(), requests, "{status}");
            assert_eq!(seen[requests - 1].body, seen[requests - 2].body, "{status}: it is sent again");
        }
    }
}

#[tokio::test]
async fn a_path_that_is_not_there_for_a_while_says_nothing_of_compression() {
    let scripts = [Script::page(404), Script::page(404), Script::accepted()];
    let mut server = answerer::start(Http::One, ANY.into(), None, scripts).await;
    let compression = CompressionPolicy::Negotiated;
    let destination = destination(Protocol::HttpProtobuf, server.address);
    let pipeline = start(&Destination { compression, ..destination }, None);
    let ledger = Arc::clone(&pipeline.ledger);
    for number in 0..2 {
        pipeline.events.publish(loads(0..2));
        until(|| ledger.logs.accepted.get() == 2 * (number + 1)).await;
    }
    pipeline.finish().await;
    assert_eq!((ledger.logs.failed.get(), ledger.logs.refused.get()), (0, 0));
    let seen: Vec<_> = std::iter::from_fn(|| server.requests.try_recv().ok()).collect();
    let encodings: Vec<_> =
        seen.iter().map(|seen| seen.header("content-encoding").unwrap_or("identity")).collect();
    assert_eq!(encodings, ["zstd", "gzip", "gzip", "zstd"]);
}

#[tokio::test]
async fn a_path_that_is_not_there_leaves_the_backlog_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = || {
        let worker = Worker::start("backlog").expect("a thread");
        Disk::new(directory.path(), "http://a#logs", "the receiver", 1 << 20, worker)
    };
    let server = answerer::start(Http::One, ANY.into(), None, [Script::page(404)]).await;
    let pipeline = start(&destination(Protocol::HttpProtobuf, server.address), Some(disk()));
    held_back(&pipeline, 3).await;
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.refused.get(), ledger.logs.shut_down.get()), (0, 0), "they are kept");

    let mut receiver = receiver::start_logs(ANY.into(), receiver::ok_logs).await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), Some(disk()));
    until(|| pipeline.ledger.logs.accepted.get() == 6).await;
    pipeline.finish().await;
    assert!(arrived(&mut receiver).concat().into_iter().eq(1..=6));
}

#[tokio::test]
async fn what_the_last_reading_finds_is_sent_before_the_end() {
    let mut receiver = receiver::start_logs(ANY.into(), receiver::ok_logs).await;
    let pipeline = start(&destination(Protocol::Grpc, receiver.address), None);
    pipeline.stop.send_replace(true);
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The producer of metrics is still at it.
    pipeline.events.publish(loads(0..4));
    let ledger = pipeline.finish().await;
    assert_eq!((ledger.logs.accepted.get(), ledger.logs.shut_down.get()), (4, 0));
    assert_eq!(arrived(&mut receiver), [[1, 2, 3, 4]]);
}
