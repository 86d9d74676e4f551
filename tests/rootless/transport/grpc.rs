//! Answers over gRPC: each code of the OTLP specification's table, each HTTP status of the gRPC specification's, and what is neither.

use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Request;
use bpf_metrics_exporter::export::otlp::settings::Protocol;
use bpf_metrics_exporter::export::otlp::transport::{FailureKind, Remedy, Retry};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message as _;
use test_support::answerer::Script;
use test_support::receiver;
use test_support::transport::{connect, destination, request};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{ANY, BACKOFF, answer_to, fail, failure_of, outcome, serve};

/// Returns what a tonic server's status becomes.
async fn of_status(status: Status) -> (FailureKind, Remedy) {
    let receiver = receiver::start(ANY.into(), move |_| Err(status.clone())).await;
    outcome(&fail(&mut connect(&destination(Protocol::Grpc, receiver.address))).await)
}

/// A test for each row of the table in "Failures" of "OTLP/gRPC Response": with `RetryInfo` and without.
macro_rules! codes {
    ($($name:ident: $code:ident => $without:expr, $with:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let kind = FailureKind::Grpc(Code::$code);
            assert_eq!(of_status(Status::new(Code::$code, "why")).await, (kind, $without));
            let details = ErrorDetails::with_retry_info(Some(DELAY));
            let status = Status::with_error_details(Code::$code, "why", details);
            assert_eq!(of_status(status).await, (kind, $with));
        }
    )*};
}

const DELAY: Duration = Duration::from_secs(7);
const AFTER: Remedy = Remedy::Retry(Retry::After(DELAY));

codes! {
    cancelled_is_retried: Cancelled => BACKOFF, AFTER;
    unknown_is_dropped: Unknown => Remedy::Drop, Remedy::Drop;
    invalid_argument_is_dropped: InvalidArgument => Remedy::Drop, Remedy::Drop;
    deadline_exceeded_is_retried: DeadlineExceeded => BACKOFF, AFTER;
    not_found_is_dropped: NotFound => Remedy::Drop, Remedy::Drop;
    already_exists_is_dropped: AlreadyExists => Remedy::Drop, Remedy::Drop;
    permission_denied_is_dropped: PermissionDenied => Remedy::Drop, Remedy::Drop;
    unauthenticated_is_dropped: Unauthenticated => Remedy::Drop, Remedy::Drop;
    resource_exhausted_is_retried_only_with_retry_info: ResourceExhausted => Remedy::Drop, AFTER;
    failed_precondition_is_dropped: FailedPrecondition => Remedy::Drop, Remedy::Drop;
    aborted_is_retried: Aborted => BACKOFF, AFTER;
    out_of_range_is_retried: OutOfRange => BACKOFF, AFTER;
    unimplemented_is_dropped: Unimplemented => Remedy::Drop, Remedy::Drop;
    internal_is_dropped: Internal => Remedy::Drop, Remedy::Drop;
    unavailable_is_retried: Unavailable => BACKOFF, AFTER;
    data_loss_is_retried: DataLoss => BACKOFF, AFTER;
}

#[tokio::test]
async fn a_success_may_be_partial() {
    let partial =
        ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "too\nold".to_owned() };
    let answer = ExportMetricsServiceResponse { partial_success: Some(partial) };
    let message = answer.encode_to_vec();
    let mut scripts = vec![Script::grpc(&message, 0)];
    // Servers in Go answer in the compression of the request.
    scripts.extend(super::http::compressed(&message).map(|(compression, bytes)| {
        Script::grpc_compressed(&bytes).header("grpc-encoding", compression.as_str())
    }));
    for script in scripts {
        let answer = answer_to(Protocol::Grpc, script).await.expect("it is a success");
        assert_eq!((answer.rejected, &*answer.message), (3, "too\\x0aold"));
    }
}

/// Source: the gRPC specification, "HTTP to gRPC Status Code Mapping".
#[tokio::test]
async fn a_page_of_a_proxy_is_the_code_of_its_status_whatever_its_body() {
    let table = [
        (400, Code::Internal, Remedy::Drop),
        (401, Code::Unauthenticated, Remedy::Drop),
        (403, Code::PermissionDenied, Remedy::Drop),
        (404, Code::Unimplemented, Remedy::Drop),
        (413, Code::Unknown, Remedy::Split),
        (429, Code::Unavailable, BACKOFF),
        (500, Code::Unknown, Remedy::Drop),
        (502, Code::Unavailable, BACKOFF),
        (503, Code::Unavailable, BACKOFF),
        (504, Code::Unavailable, BACKOFF),
        (200, Code::Unknown, Remedy::Drop),
    ];
    for (status, code, remedy) in table {
        let page = Script::page(status);
        let failure = failure_of(Protocol::Grpc, page.clone()).await;
        assert_eq!(outcome(&failure), (FailureKind::Grpc(code), remedy), "{status}");
        assert!(
            failure.reason.contains(&format!("<html> <h1>{status} of a proxy</h1>")),
            "{}",
            failure.reason
        );
        // The same with a body that claims to be gRPC, and without one.
        for answer in [page.header("content-type", "application/grpc"), Script::status(status)] {
            if status != 200 {
                let failure = failure_of(Protocol::Grpc, answer).await;
                assert_eq!(outcome(&failure), (FailureKind::Grpc(code), remedy), "{status}");
            }
        }
    }
    let busy = failure_of(Protocol::Grpc, Script::page(503).header("retry-after", "7")).await;
    assert_eq!(busy.remedy, AFTER);
    // A proxy that knows gRPC says so in a header.
    let knows = failure_of(Protocol::Grpc, Script::status(503).header("grpc-status", "7")).await;
    assert_eq!(outcome(&knows), (FailureKind::Grpc(Code::PermissionDenied), Remedy::Drop));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_before_its_status_is_retried() {
    let head = || Script::status(200).header("content-type", "application/grpc");
    for cut in [
        head().body(vec![0; 5]),
        head().body(vec![0; 5]).cut(),
        head().cut(),
        head(),
        head().body(vec![0; 2]),
    ] {
        let failure = failure_of(Protocol::Grpc, cut.clone()).await;
        assert_eq!(outcome(&failure), (FailureKind::Broken, BACKOFF), "{cut:?}: {}", failure.reason);
    }
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_retried() {
    let large = vec![0; 5 << 20];
    let head = Script::grpc(&[], 0).header("x-long", &"a".repeat(70 << 10));
    for answer in [Script::grpc(&large, 0), head] {
        let failure = failure_of(Protocol::Grpc, answer).await;
        assert_eq!(outcome(&failure), (FailureKind::AnswerTooLarge, Remedy::Drop), "{}", failure.reason);
    }
    // Long trailers are cut.
    let trailers = Script::grpc(&[], 14).trailer("grpc-message", &"a".repeat(70 << 10));
    let failure = failure_of(Protocol::Grpc, trailers).await;
    assert_eq!(outcome(&failure), (FailureKind::Grpc(Code::Unavailable), BACKOFF));
}

#[tokio::test]
async fn an_answer_that_is_not_one_of_otlp_is_not_retried() {
    let compressed = Script::status(200).header("content-type", "application/grpc").body(vec![1, 0, 0, 0, 0]);
    let no_message =
        Script::status(200).header("content-type", "application/grpc").header("grpc-status", "0");
    for answer in [Script::grpc(&[7; 9], 0), compressed.trailer("grpc-status", "0"), no_message] {
        let failure = failure_of(Protocol::Grpc, answer.clone()).await;
        assert_eq!(outcome(&failure), (FailureKind::Malformed, Remedy::Drop), "{answer:?}");
    }
}

#[tokio::test]
async fn the_text_of_a_receiver_is_one_line_with_a_bound() {
    let receiver = receiver::start(ANY.into(), |_| Err(Status::internal("a\u{202e}\nb".repeat(999)))).await;
    let failure = fail(&mut connect(&destination(Protocol::Grpc, receiver.address))).await;
    assert!(failure.reason.starts_with("Internal: a\\u{202e}\\x0ab"), "{}", failure.reason);
    assert!(failure.reason.len() <= 1024, "{}", failure.reason.len());
}

#[tokio::test]
async fn requests_have_the_headers_of_grpc_and_those_of_the_user() {
    let mut server = serve(Protocol::Grpc, [Script::grpc(&[], 0)]).await;
    let mut destination = destination(Protocol::Grpc, server.address);
    let given = [("Authorization", "Bearer abc"), ("x-tenant", "a b"), ("content-type", "text/plain")];
    destination.headers.0 = given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    connect(&destination).export(&request("a", 1)).await.expect("it is accepted");
    let seen = server.requests.recv().await.expect("a request");
    assert_eq!(seen.path, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
    assert_eq!(seen.authority, server.address.to_string());
    let version = env!("CARGO_PKG_VERSION");
    let agent = format!("bpf-metrics-exporter/{version} OTel-OTLP-Exporter-Rust/{version}");
    let expected = [
        ("authorization", "Bearer abc"),
        ("x-tenant", "a b"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "30000m"),
        ("user-agent", &agent),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), Some(value), "{name}");
        assert_eq!(seen.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert_eq!(seen.header("grpc-encoding"), None);
    assert_eq!(
        seen.body[..5],
        [&[0][..], &u32::try_from(seen.body.len() - 5).expect("short").to_be_bytes()].concat()
    );
}

#[tokio::test]
async fn compressed_requests_are_understood() {
    let mut server = serve(Protocol::Grpc, [Script::grpc(&[], 0)]).await;
    let mut transport = connect(&destination(Protocol::Grpc, server.address));
    let plain = request("a", 1);
    for (compression, bytes) in super::http::compressed(&plain.bytes) {
        let compressed = Request { bytes, compression, ..plain.clone() };
        transport.export(&compressed).await.expect("it is accepted");
        let seen = server.requests.recv().await.expect("a request");
        assert_eq!(seen.header("grpc-encoding"), Some(compression.as_str()));
        assert_eq!(seen.body[0], 1, "the message is marked as compressed");
        assert_eq!(super::http::plain(compression, &seen.body[5..]), plain.bytes);
    }
}
