//! Delivery over gRPC to a receiver that is slow, full, absent, unwilling or back again: nothing is lost, nothing sent twice
//! without need, and everything counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use test_support::receiver;

use bpf_metrics_exporter::export::otlp::deliver::deliver;
use bpf_metrics_exporter::export::otlp::encode::Request;
use bpf_metrics_exporter::export::otlp::grpc::{Client, SetupError};
use bpf_metrics_exporter::export::otlp::ledger::Ledger;
use bpf_metrics_exporter::export::otlp::outbox::Outbox;
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message as _;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use test_support::receiver::Answer;

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const DEADLINE: Duration = Duration::from_secs(30);

/// An outbox that is being emptied.
struct Delivery {
    outbox: Arc<Outbox>,
    ledger: Arc<Ledger>,
    task: JoinHandle<()>,
}

fn start(address: SocketAddr, headers: &[(String, String)], timeout: Duration) -> Delivery {
    let uri = format!("http://{address}").parse().expect("an address is a URI");
    let client = Client::new(uri, headers, timeout).expect("the headers are legal");
    let ledger = Arc::new(Ledger::new(Timestamp::now()));
    let outbox = Arc::new(Outbox::new(1 << 20, Arc::clone(&ledger)));
    let task = tokio::spawn({
        let (outbox, ledger) = (Arc::clone(&outbox), Arc::clone(&ledger));
        async move { deliver(&outbox, &ledger, client, "the receiver").await }
    });
    Delivery { outbox, ledger, task }
}

impl Delivery {
    /// A sample.
    fn push<const COUNT: usize>(&self, requests: [Request; COUNT]) {
        self.outbox.begin_sample();
        for request in requests {
            self.outbox.push(request);
        }
    }

    /// Waits until everything is delivered, and fails when that does not happen.
    async fn finish(self) -> Arc<Ledger> {
        until(|| self.ledger.backlog.get() == 0).await;
        self.outbox.close();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it ends in time").expect("it does not panic");
        self.ledger
    }
}

async fn until(mut reached: impl FnMut() -> bool) {
    let reached = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.expect("it happens in time");
}

/// A request that a receiver can tell by its resource's schema; it stands for `points` points.
fn request(name: &str, points: u64) -> Request {
    let mut message = ExportMetricsServiceRequest::default();
    message.resource_metrics.push(opentelemetry_proto::tonic::metrics::v1::ResourceMetrics {
        schema_url: name.to_owned(),
        ..Default::default()
    });
    Request { bytes: message.encode_to_vec().into(), points }
}

fn name(message: &ExportMetricsServiceRequest) -> &str {
    &message.resource_metrics[0].schema_url
}

/// Answers in turn, and then takes everything.
fn in_turn(answers: Vec<Answer>) -> impl FnMut(&ExportMetricsServiceRequest) -> Answer + Send + 'static {
    let mut answers = answers.into_iter();
    move |message| answers.next().unwrap_or_else(|| receiver::ok(message))
}

async fn names(mut receiver: receiver::Receiver, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let next = tokio::time::timeout(DEADLINE, receiver.requests.recv()).await;
        names.push(name(&next.expect("it comes in time").expect("the receiver lives").message).to_owned());
    }
    assert!(receiver.requests.try_recv().is_err(), "no more than that came in");
    names
}

#[tokio::test]
async fn what_can_be_tried_again_is_and_keeps_its_order() {
    let busy = || Err(Status::unavailable("busy"));
    let receiver = receiver::start(ANY.into(), in_turn(vec![busy(), busy()])).await;
    let delivery = start(receiver.address, &[], DEADLINE);
    delivery.push([request("a", 1), request("b", 2)]);
    delivery.push([request("c", 4)]);
    let ledger = delivery.finish().await;
    assert_eq!(names(receiver, 5).await, ["a", "a", "a", "b", "c"]);
    assert_eq!((ledger.accepted.get(), ledger.succeeded.get(), ledger.retryable.get()), (7, 3, 2));
    assert_eq!((ledger.failed.get(), ledger.refused.get(), ledger.overflowed.get()), (0, 0, 0));
}

#[tokio::test]
async fn a_final_refusal_is_counted_and_the_next_request_goes_on() {
    let receiver = receiver::start(
        ANY.into(),
        in_turn(vec![
            Err(Status::invalid_argument("no")),
            // Without a delay it is final: the request itself is too large.
            Err(Status::resource_exhausted("too large")),
        ]),
    )
    .await;
    let delivery = start(receiver.address, &[], DEADLINE);
    delivery.push([request("a", 1), request("b", 2), request("c", 4)]);
    let ledger = delivery.finish().await;
    assert_eq!(names(receiver, 3).await, ["a", "b", "c"]);
    assert_eq!((ledger.accepted.get(), ledger.refused.get(), ledger.failed.get()), (4, 3, 2));
    assert_eq!(ledger.retryable.get(), 0);
}

#[tokio::test]
async fn a_receiver_that_asks_for_patience_gets_it() {
    let delay = Duration::from_millis(1500);
    let details = ErrorDetails::with_retry_info(Some(delay));
    let patience = Status::with_error_details(Code::ResourceExhausted, "later", details);
    let receiver = receiver::start(ANY.into(), in_turn(vec![Err(patience)])).await;
    let delivery = start(receiver.address, &[], DEADLINE);
    let started = std::time::Instant::now();
    delivery.push([request("a", 1)]);
    let ledger = delivery.finish().await;
    assert!(started.elapsed() >= delay, "not before the time that the receiver named");
    assert_eq!(names(receiver, 2).await, ["a", "a"]);
    assert_eq!((ledger.accepted.get(), ledger.retryable.get()), (1, 1));
}

#[tokio::test]
async fn partial_success_is_counted_and_never_tried_again() {
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
    assert_eq!((ledger.accepted.get(), ledger.rejected.get(), ledger.succeeded.get()), (17, 13, 3));
}

#[tokio::test]
async fn a_receiver_that_comes_late_or_back_gets_everything() {
    // A port that was free a moment ago: nobody answers there yet.
    let address = std::net::TcpListener::bind(SocketAddr::from(ANY))
        .and_then(|port| port.local_addr())
        .expect("a port");
    let delivery = start(address, &[], DEADLINE);
    delivery.push([request("a", 1)]);
    until(|| delivery.ledger.retryable.get() > 0).await;

    let mut receiver = receiver::start(address, receiver::ok).await;
    let first =
        tokio::time::timeout(DEADLINE, receiver.requests.recv()).await.expect("in time").expect("a request");
    assert_eq!(name(&first.message), "a");
    until(|| delivery.ledger.backlog.get() == 0).await;
    drop(receiver);

    // The connection is cut: the next request finds nobody, until somebody is there again.
    until(|| std::net::TcpStream::connect(address).is_err()).await;
    delivery.push([request("b", 2)]);
    until(|| delivery.ledger.retryable.get() > 1).await;
    let receiver = receiver::start(address, receiver::ok).await;
    let ledger = delivery.finish().await;
    assert_eq!(names(receiver, 1).await, ["b"]);
    assert_eq!((ledger.accepted.get(), ledger.overflowed.get()), (3, 0));
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_given_up_after_the_timeout() {
    let silent = tokio::net::TcpListener::bind(SocketAddr::from(ANY)).await.expect("a port");
    let address = silent.local_addr().expect("it is bound");
    let delivery = start(address, &[], Duration::from_millis(200));
    delivery.push([request("a", 1)]);
    until(|| delivery.ledger.retryable.get() > 0).await;
    // Closed, it takes one more try and then gives up rather than wait.
    delivery.outbox.close();
    tokio::time::timeout(DEADLINE, delivery.task).await.expect("it ends in time").expect("it does not panic");
    assert_eq!((delivery.ledger.shut_down.get(), delivery.ledger.backlog.get()), (1, 0));
}

#[tokio::test]
async fn headers_and_the_name_of_the_sender_come_along() {
    let mut receiver = receiver::start(ANY.into(), receiver::ok).await;
    let headers =
        [("authorization".to_owned(), "Bearer abc".to_owned()), ("x-tenant".to_owned(), "a b".to_owned())];
    let delivery = start(receiver.address, &headers, DEADLINE);
    delivery.push([request("a", 1)]);
    let metadata = receiver.requests.recv().await.expect("a request").metadata;
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(text("authorization").as_deref(), Some("Bearer abc"));
    assert_eq!(text("x-tenant").as_deref(), Some("a b"));
    assert!(text("user-agent").expect("it says who it is").starts_with("bpf-metrics-exporter/"));
    assert!(text("grpc-timeout").is_some(), "the receiver knows how long we wait");
    delivery.finish().await;
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_refused_at_once() {
    let uri = "http://localhost:4317".parse().expect("a URI");
    let header = [("not a name".to_owned(), String::new())];
    let client = Client::new(uri, &header, DEADLINE);
    assert!(matches!(client, Err(SetupError::Header(name)) if name == "not a name"));
}
