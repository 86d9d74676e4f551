//! What an exporter's endpoint answers, and endpoints whose certificate is not verified.

use std::time::Duration;

use bpf_metrics_exporter::export::otlp::settings::{Destination, Endpoint, Secret};
use bpf_metrics_exporter::export::otlp::transport::{FailureKind, Fetcher};
use test_support::answerer::{self, Answerer, Http, Script};
use test_support::transport::resolver;

use super::ANY;
use super::authority::Authority;

fn endpoint(server: &Answerer, tls: bool, path: &str) -> Endpoint {
    let (host, port) = (server.address.ip().to_string(), server.address.port());
    Endpoint::Tcp { tls, host, port, path: path.to_owned() }
}

fn fetcher(server: &Answerer, tls: bool, path: &str) -> Fetcher {
    let authorization = Secret(Some("Basic eDp5".to_owned()));
    let exporter =
        Destination::of_exporter(endpoint(server, tls, path), authorization, Duration::from_secs(30));
    Fetcher::new(&exporter, resolver()).expect("the settings are valid")
}

#[tokio::test]
async fn a_page_is_any_status_with_its_first_line() {
    let scripts = [
        Script::status(200).body("healthy\r\nmore"),
        Script::status(503).body("refused\u{1b}[1m\n"),
        Script::status(401),
        Script::status(302).header("location", "/login"),
    ];
    let mut server = answerer::start(Http::One, ANY.into(), None, scripts).await;
    let mut fetcher = fetcher(&server, false, "/bpf");
    let mut answers = Vec::new();
    for page in ["/-/healthy", "/-/ready", "/-/ready", "/-/ready"] {
        answers.push(fetcher.page(page).await.expect("it answers"));
        let seen = server.requests.recv().await.expect("a request");
        assert_eq!((&*seen.path, seen.connection), (&*format!("/bpf{page}"), 1));
        assert_eq!((seen.header("authorization"), seen.header("content-type")), (Some("Basic eDp5"), None));
    }
    let answers: Vec<(u16, &str)> = answers.iter().map(|(status, line)| (*status, &**line)).collect();
    assert_eq!(answers, [(200, "healthy"), (503, "refused\\x1b[1m"), (401, ""), (302, "")]);
}

#[tokio::test]
async fn a_page_without_the_end_of_its_text_is_an_answer_all_the_same() {
    let server = answerer::start(Http::One, ANY.into(), None, [Script::status(200).body("healthy").cut()]);
    let server = server.await;
    let mut fetcher = fetcher(&server, false, "");
    for _ in 0..2 {
        assert_eq!(fetcher.page("/-/healthy").await.expect("it answers"), (200, "healthy".to_owned()));
    }
}

#[tokio::test]
async fn only_an_unverified_fetcher_accepts_any_certificate() {
    let authority = Authority::new();
    let config = authority.server(&authority.issue_expired("other.example"), false);
    let mut server = answerer::start(Http::One, ANY.into(), Some(config), [Script::status(200)]).await;
    let unverified = |server: &Answerer, tls| {
        let limit = Duration::from_secs(30);
        Fetcher::unverified(endpoint(server, tls, ""), tls, limit, resolver()).expect("it needs no file")
    };
    assert_eq!(unverified(&server, true).page("/").await.expect("it answers").0, 200);
    let seen = server.requests.recv().await.expect("a request");
    assert_eq!((seen.client, seen.headers.get("authorization")), (None, None));
    let failure = unverified(&server, false).page("/").await.expect_err("it speaks TLS only");
    assert_eq!(failure.kind, FailureKind::Broken, "{failure}");

    let config = authority.server(&authority.issue("localhost"), true);
    let server = answerer::start(Http::One, ANY.into(), Some(config), [Script::status(200)]).await;
    let failure = unverified(&server, true).page("/").await.expect_err("the client has no certificate");
    assert_eq!(failure.kind, FailureKind::CertificateRequired, "{failure}");
}
