//! Delivery over gRPC to a receiver that is slow, overloaded, unreachable, refusing or restarted: no request is lost or sent
//! twice without need, and every point is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use test_support::{receiver, transport};

use bpf_metrics_exporter::export::otlp::ledger::SignalCounts;
use bpf_metrics_exporter::export::otlp::settings::Protocol;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use test_support::delivery::{DEADLINE, Delivery, until};
use test_support::receiver::Answer;
use test_support::transport::{points, request, times};

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn start(address: SocketAddr, headers: &[(String, String)], timeout: Duration) -> Delivery {
    let mut destination = transport::destination(Protocol::Grpc, address);
    (destination.headers.0, destination.timeout) = (headers.to_vec(), timeout);
    Delivery::start(&destination, Duration::from_secs(10), 4 << 20)
}

/// Waits until the first request is delivered, on a connection that counts as another one, and forgets that.
async fn connect(delivery: &Delivery) {
    delivery.push([request("first", 1)]);
    delivery.settled().await;
    assert!(delivery.queue.take_may_lack(), "there can be another receiver behind another connection");
}

fn name(message: &ExportMetricsServiceRequest) -> &str {
    &message.resource_metrics[0].schema_url
}

/// Returns the answers in order, then accepts every request.
fn in_turn(answers: Vec<Answer>) -> impl FnMut(&ExportMetricsServiceRequest) -> Answer + Send + 'static {
    let mut answers = answers.into_iter();
    move |message| answers.next().unwrap_or_else(|| receiver::ok(message))
}

async fn names(mut receiver: receiver::Receiver, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let next = tokio::time::timeout(DEADLINE, receiver.requests.recv()).await;
        names.push(
            name(&next.expect("a request arrives in time").expect("the receiver runs").message).to_owned(),
        );
    }
    assert!(receiver.requests.try_recv().is_err(), "no other request arrived");
    names
}

#[tokio::test]
async fn retryable_requests_are_retried_in_order() {
    let busy = || Err(Status::unavailable("busy"));
    let receiver = receiver::start(ANY.into(), in_turn(vec![busy(), busy()])).await;
    let delivery = start(receiver.address, &[], DEADLINE);
    delivery.push([request("a", 1), request("b", 2)]);
    delivery.push([request("c", 4)]);
    let ledger = delivery.finish().await;
    assert_eq!(names(receiver, 5).await, ["a", "a", "a", "b", "c"]);
    assert_eq!(
        (ledger.metrics.accepted.get(), ledger.metrics.succeeded.get(), ledger.metrics.retryable.get()),
        (7, 3, 2)
    );
    assert_eq!(
        (ledger.metrics.failed.get(), ledger.metrics.refused.get(), ledger.metrics.overflowed.get()),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn refused_requests_are_counted_and_not_retried() {
    let receiver = receiver::start(
        ANY.into(),
        in_turn(vec![
            Err(Status::invalid_argument("no")),
            // Permanent without a delay: the request itself is too large, and has nothing to divide.
            Err(Status::resource_exhausted("message too large")),
        ]),
    )
    .await;
    let delivery = start(receiver.address, &[], DEADLINE);
    delivery.push([request("a", 1), request("b", 2), request("c", 4)]);
    let ledger = delivery.finish().await;
    assert_eq!(names(receiver, 3).await, ["a", "b", "c"]);
    assert_eq!(
        (ledger.metrics.accepted.get(), ledger.metrics.refused.get(), ledger.metrics.failed.get()),
        (4, 3, 2)
    );
    assert_eq!(ledger.metrics.retryable.get(), 0);
}

#[tokio::test]
async fn a_retry_waits_for_the_delay_of_the_receiver() {
    let delay = Duration::from_millis(1500);
    let details = ErrorDetails::with_retry_info(Some(delay));
    let throttled = Status::with_error_details(Code::ResourceExhausted, "later", details);
    let receiver = receiver::start(ANY.into(), in_turn(vec![Err(throttled)])).await;
    let delivery = start(receiver.address, &[], DEADLINE);
    let started = std::time::Instant::now();
    delivery.push([request("a", 1)]);
    let ledger = delivery.finish().await;
    assert!(started.elapsed() >= delay, "not before the delay of the receiver");
    assert_eq!(names(receiver, 2).await, ["a", "a"]);
    assert_eq!((ledger.metrics.accepted.get(), ledger.metrics.retryable.get()), (1, 1));
}

#[tokio::test]
async fn what_may_cost_a_point_is_noted() {
    let partial = |rejected| {
        let partial =
            ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: "some".to_owned() };
        Ok(ExportMetricsServiceResponse { partial_success: Some(partial) })
    };
    let outcomes = [
        (Ok(ExportMetricsServiceResponse::default()), false),
        (partial(0), false),
        (partial(1), true),
        (Err(Status::invalid_argument("no")), true),
        (Err(Status::unavailable("busy")), true),
    ];
    for (answer, expected) in outcomes {
        let first = Ok(ExportMetricsServiceResponse::default());
        let text = format!("{answer:?}");
        let receiver = receiver::start(ANY.into(), in_turn(vec![first, answer])).await;
        let delivery = start(receiver.address, &[], DEADLINE);
        connect(&delivery).await;
        delivery.push([request("a", 1)]);
        delivery.settled().await;
        assert_eq!(delivery.queue.take_may_lack(), expected, "{text}");
        delivery.finish().await;
    }
}

#[tokio::test]
async fn partial_success_is_counted_and_not_retried() {
    let partial = |rejected, message: &str| {
        let partial =
            ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: message.to_owned() };
        Ok(ExportMetricsServiceResponse { partial_success: Some(partial) })
    };
    let answers =
        vec![partial(3, "three are too old"), partial(0, "a warning"), partial(99, "more than there were")];
    let receiver = receiver::start(ANY.into(), in_turn(answers)).await;
    let delivery = start(receiver.address, &[], DEADLINE);
    delivery.push([request("a", 10), request("b", 10), request("c", 10)]);
    let ledger = delivery.finish().await;
    assert_eq!(names(receiver, 3).await, ["a", "b", "c"]);
    assert_eq!(
        (ledger.metrics.accepted.get(), ledger.metrics.rejected.get(), ledger.metrics.succeeded.get()),
        (17, 13, 3)
    );
}

#[tokio::test]
async fn everything_is_delivered_after_an_outage() {
    // A port that was free a moment ago: connections are refused.
    let address = std::net::TcpListener::bind(SocketAddr::from(ANY))
        .and_then(|port| port.local_addr())
        .expect("a port");
    let delivery = start(address, &[], DEADLINE);
    delivery.push([request("a", 1)]);
    until(|| delivery.ledger.metrics.retryable.get() > 0).await;

    let mut receiver = receiver::start(address, receiver::ok).await;
    let first =
        tokio::time::timeout(DEADLINE, receiver.requests.recv()).await.expect("in time").expect("a request");
    assert_eq!(name(&first.message), "a");
    delivery.settled().await;
    drop(receiver);

    // The connection is closed: the next request fails until a receiver listens again.
    until(|| std::net::TcpStream::connect(address).is_err()).await;
    delivery.push([request("b", 2)]);
    until(|| delivery.ledger.metrics.retryable.get() > 1).await;
    let receiver = receiver::start(address, receiver::ok).await;
    let ledger = delivery.finish().await;
    assert_eq!(names(receiver, 1).await, ["b"]);
    assert_eq!((ledger.metrics.accepted.get(), ledger.metrics.overflowed.get()), (3, 0));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_times_out() {
    let silent = tokio::net::TcpListener::bind(SocketAddr::from(ANY)).await.expect("a port");
    let address = silent.local_addr().expect("it is bound");
    let delivery = start(address, &[], Duration::from_millis(200));
    delivery.push([request("a", 1)]);
    until(|| delivery.ledger.metrics.retryable.get() > 0).await;
    // Once closed, the delivery makes one more attempt and then drops the request instead of waiting.
    delivery.queue.close();
    tokio::time::timeout(DEADLINE, delivery.task)
        .await
        .expect("the delivery ends in time")
        .expect("the delivery does not panic");
    assert_eq!((delivery.ledger.metrics.shut_down.get(), delivery.ledger.backlog.get()), (1, 0));
}

#[tokio::test]
async fn requests_carry_headers_and_user_agent() {
    let mut receiver = receiver::start(ANY.into(), receiver::ok).await;
    let headers =
        [("authorization".to_owned(), "Bearer abc".to_owned()), ("x-tenant".to_owned(), "a b".to_owned())];
    let delivery = start(receiver.address, &headers, DEADLINE);
    delivery.push([request("a", 1)]);
    let metadata = receiver.requests.recv().await.expect("a request").metadata;
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(text("authorization").as_deref(), Some("Bearer abc"));
    assert_eq!(text("x-tenant").as_deref(), Some("a b"));
    assert!(text("user-agent").expect("requests have a user agent").starts_with("bpf-metrics-exporter/"));
    assert!(text("grpc-timeout").is_some(), "requests have a deadline");
    delivery.finish().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_parts_and_later_ones_are_smaller() {
    const LIMIT: usize = 100 << 10;
    const POINTS: u64 = 40_000;
    let mut receiver = receiver::start(ANY.into(), |message: &ExportMetricsServiceRequest| {
        if message.encoded_len() > LIMIT {
            Err(Status::resource_exhausted("message too large"))
        } else {
            receiver::ok(message)
        }
    })
    .await;
    let delivery = start(receiver.address, &[], DEADLINE);
    let limit = Arc::clone(&delivery.limit);
    delivery.push([points(1, POINTS)]);
    until(|| delivery.ledger.metrics.accepted.get() == POINTS).await;
    let split = delivery.ledger.metrics.split.get();
    assert!((2..20).contains(&split), "{split} requests were too large");
    assert!((64 << 10..=LIMIT).contains(&limit.get()), "{} bytes from now on", limit.get());
    // A request that was encoded before.
    delivery.push([points(POINTS + 1, POINTS)]);
    let ledger = delivery.finish().await;
    assert_eq!(ledger.metrics.split.get(), split, "it is divided before it is sent");
    assert_eq!((ledger.metrics.accepted.get(), ledger.metrics.refused.get()), (2 * POINTS, 0));
    let mut accepted = Vec::new();
    while let Ok(received) = receiver.requests.try_recv() {
        if received.message.encoded_len() <= LIMIT {
            accepted.extend(times(&received.message));
        }
    }
    assert!(accepted.into_iter().eq(1..=2 * POINTS), "every point arrives once, in order");
}

#[tokio::test]
async fn a_single_point_that_is_too_large_is_dropped_and_the_others_arrive() {
    let receiver = receiver::start(ANY.into(), |message: &ExportMetricsServiceRequest| {
        if times(message).contains(&5) {
            Err(Status::resource_exhausted("message too large"))
        } else {
            receiver::ok(message)
        }
    })
    .await;
    let delivery = start(receiver.address, &[], DEADLINE);
    delivery.push([points(1, 8)]);
    let ledger = delivery.finish().await;
    assert_eq!((ledger.metrics.accepted.get(), ledger.metrics.refused.get()), (7, 1));
}

#[tokio::test]
async fn a_receiver_that_refuses_every_size_is_not_sent_each_point() {
    let receiver = receiver::start(ANY.into(), |_: &ExportMetricsServiceRequest| {
        Err(Status::resource_exhausted("message too large"))
    })
    .await;
    let delivery = start(receiver.address, &[], DEADLINE);
    delivery.push([points(1, 40_000)]);
    delivery.push([points(1, 40_000)]);
    let ledger = delivery.finish().await;
    let SignalCounts { split, failed, refused, .. } = &ledger.metrics;
    assert_eq!(refused.get(), 80_000);
    let requests = split.get() + failed.get();
    assert!(requests < 300, "{requests} requests");
}
