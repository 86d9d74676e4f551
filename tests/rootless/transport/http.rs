//! Answers over HTTP: each status of the OTLP specification's table, both forms of `Retry-After`, and what is no answer.

use std::io::{Read as _, Write as _};
use std::time::{Duration, SystemTime};

use bpf_metrics_exporter::export::otlp::encode::Request;
use bpf_metrics_exporter::export::otlp::settings::{Compression, Endpoint, Protocol};
use bpf_metrics_exporter::export::otlp::transport::{Answer, FailureKind, Remedy, Retry};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message as _;
use prost::bytes::Bytes;
use test_support::answerer::Script;
use test_support::transport::{connect, destination, request};
use tonic_types::pb;

use super::{BACKOFF, answer_to, failure_of, outcome, serve};

const HTTP: Protocol = Protocol::HttpProtobuf;

/// A test for each row of the table in "Failures" of "OTLP/HTTP Response", and the statuses that no row names.
macro_rules! statuses {
    ($($name:ident: $($status:literal)|+ => $remedy:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            for status in [$($status),+] {
                let failure = failure_of(HTTP, Script::page(status)).await;
                assert_eq!(outcome(&failure), (FailureKind::Http(status), $remedy));
                assert!(failure.reason.starts_with(&format!("HTTP status {status}")), "{}", failure.reason);
            }
        }
    )*};
}

statuses! {
    too_many_requests_is_retried: 429 => BACKOFF;
    bad_gateway_is_retried: 502 => BACKOFF;
    service_unavailable_is_retried: 503 => BACKOFF;
    gateway_timeout_is_retried: 504 => BACKOFF;
    too_large_is_split: 413 => Remedy::Split;
    bad_request_is_dropped: 400 => Remedy::Drop;
    other_statuses_of_clients_are_dropped: 401 | 403 | 404 | 405 | 408 | 409 | 415 | 422 | 431 => Remedy::Drop;
    other_statuses_of_servers_are_dropped: 500 | 501 | 505 | 507 | 599 => Remedy::Drop;
    redirections_are_dropped: 301 | 302 | 303 | 304 | 307 | 308 => Remedy::Drop;
}

#[tokio::test]
async fn a_redirection_is_not_followed_and_says_where_it_leads() {
    let script = Script::status(308).header("location", "https://other/v1/metrics");
    let failure = failure_of(HTTP, script).await;
    assert!(failure.reason.contains("not followed; send to https://other/v1/metrics"), "{}", failure.reason);
}

#[tokio::test]
async fn retry_after_is_seconds_or_a_date() {
    let seconds = failure_of(HTTP, Script::status(429).header("retry-after", "120")).await;
    assert_eq!(seconds.remedy, Remedy::Retry(Retry::After(Duration::from_mins(2))));
    let date = SystemTime::now() + Duration::from_mins(1);
    let date = httpdate::fmt_http_date(date);
    let failure = failure_of(HTTP, Script::status(503).header("retry-after", &date)).await;
    let Remedy::Retry(Retry::After(delay)) = failure.remedy else { panic!("{failure:?}") };
    assert!((Duration::from_secs(50)..=Duration::from_mins(1)).contains(&delay), "{delay:?}");
    for past in ["Sun, 06 Nov 1994 08:49:37 GMT", "0", "soon"] {
        let failure = failure_of(HTTP, Script::status(503).header("retry-after", past)).await;
        assert_eq!(failure.remedy, BACKOFF, "{past}");
    }
}

#[tokio::test]
async fn a_success_may_be_partial_or_say_nothing() {
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "old".to_owned() };
    let partial = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let answer = answer_to(HTTP, Script::accepted().body(partial.clone())).await.expect("it is a success");
    assert_eq!(answer, Answer { rejected: 3, message: "old".to_owned() });
    for (compression, bytes) in compressed(&partial) {
        let script = Script::accepted().header("content-encoding", compression.as_str()).body(bytes);
        assert_eq!(answer_to(HTTP, script).await.expect("it is a success").rejected, 3, "{compression:?}");
    }
    let json = Script::status(200).header("content-type", "application/json").body("{}");
    for answer in [Script::accepted(), Script::status(202), Script::status(204), json] {
        assert_eq!(answer_to(HTTP, answer).await.expect("it is a success"), Answer::default());
    }
}

#[tokio::test]
async fn a_status_in_protobuf_says_why() {
    let body =
        pb::Status { code: 3, message: "a\nbad point".to_owned(), details: Vec::new() }.encode_to_vec();
    let script = Script::status(400).header("content-type", "application/x-protobuf").body(body);
    assert_eq!(failure_of(HTTP, script).await.reason, "HTTP status 400 Bad Request: a bad point");
    let script = Script::status(400).body("\u{1b}[31m plain\r\ntext".repeat(100_000));
    let reason = failure_of(HTTP, script).await.reason;
    assert!(reason.starts_with("HTTP status 400 Bad Request: \\x1b[31m plain text\\x1b"), "{reason}");
    assert!(reason.len() <= 1024, "{}", reason.len());
}

#[tokio::test]
async fn what_is_no_answer_is_not_retried() {
    let malformed = Script::accepted().body(vec![7; 9]);
    let portal = Script::page(200);
    let table = [
        (malformed, FailureKind::Malformed),
        (portal, FailureKind::Malformed),
        (Script::accepted().body(vec![0; 5 << 20]), FailureKind::AnswerTooLarge),
        (Script::accepted().header("x-long", &"a".repeat(500 << 10)), FailureKind::AnswerTooLarge),
    ];
    for (script, kind) in table {
        assert_eq!(outcome(&failure_of(HTTP, script).await), (kind, Remedy::Drop));
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_retried() {
    for cut in [Script::accepted().cut(), Script::accepted().header("content-length", "9").body("abc").cut()]
    {
        assert_eq!(outcome(&failure_of(HTTP, cut).await), (FailureKind::Broken, BACKOFF));
    }
}

#[tokio::test]
async fn requests_have_the_headers_of_otlp_and_go_to_the_path_as_given() {
    let mut server = serve(HTTP, [Script::accepted()]).await;
    for (given, expected) in [("/v1/metrics", "/v1/metrics"), ("/a%20b?key=1", "/a%20b?key=1"), ("", "/")] {
        let mut destination = destination(HTTP, server.address);
        destination.headers.0 = vec![("x-api-key".to_owned(), "secret".to_owned())];
        if let Endpoint::Tcp { path, .. } = &mut destination.endpoint {
            given.clone_into(path);
        }
        let sent = request("a", 1);
        connect(&destination).export(&sent).await.expect("it is accepted");
        let seen = server.requests.recv().await.expect("a request");
        assert_eq!(seen.path, expected);
        assert_eq!(seen.authority, server.address.to_string());
        let length = sent.bytes.len().to_string();
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("x-api-key", "secret"),
            ("content-length", &length),
        ];
        for (name, value) in headers {
            assert_eq!(seen.header(name), Some(value), "{name}");
        }
        assert!(seen.header("user-agent").expect("it has one").contains(" OTel-OTLP-Exporter-Rust/"));
        assert_eq!((seen.header("content-encoding"), &seen.body), (None, &sent.bytes));
    }
}

/// Returns bytes in each compression.
pub(super) fn compressed(bytes: &[u8]) -> [(Compression, Bytes); 2] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).expect("there is memory");
    let gzip = gzip.finish().expect("there is memory");
    let zstd = zstd::encode_all(bytes, 1).expect("there is memory");
    [(Compression::Gzip, gzip.into()), (Compression::Zstd, zstd.into())]
}

/// Returns what was compressed.
pub(super) fn plain(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match compression {
        Compression::None => plain.extend(bytes),
        Compression::Gzip => {
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).expect("it is gzip");
        }
        Compression::Zstd => plain = zstd::decode_all(bytes).expect("it is zstd"),
    }
    plain
}

#[tokio::test]
async fn compressed_requests_are_understood() {
    let mut server = serve(HTTP, [Script::accepted()]).await;
    let mut transport = connect(&destination(HTTP, server.address));
    let sent = request("a", 1);
    for (compression, bytes) in compressed(&sent.bytes) {
        let compressed = Request { bytes, compression, ..sent.clone() };
        transport.export(&compressed).await.expect("it is accepted");
        let seen = server.requests.recv().await.expect("a request");
        assert_eq!(seen.header("content-encoding"), Some(compression.as_str()));
        assert_eq!(plain(compression, &seen.body), sent.bytes);
    }
}
