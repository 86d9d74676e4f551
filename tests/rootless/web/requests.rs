//! What is answered to which request.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::web::{self, Hosts, Listener};
use flate2::read::GzDecoder;
use test_support::golden::snapshot;

use super::{get, refused, request, serve, serve_from, serve_with, settings};

#[test]
fn metrics_are_served_in_the_accepted_format() {
    let server = serve(snapshot());
    let (status, head, text) = get(server.address, "/metrics", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(text.contains("# TYPE bpf_map_max_entries_total counter") && !text.contains("# EOF"));
    assert!(text.contains("bpf_exporter_build_info{version=\"1.2.3\",rustc=\"1.95.0\"} 1"));

    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let (_, head, text) = get(server.address, "/metrics", accept);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(text.contains("# TYPE bpf_map_max_entries counter") && text.ends_with("# EOF\n"));
}

#[test]
fn metrics_are_compressed_if_accepted() {
    let server = serve(snapshot());
    let (_, head, body) = request(server.address, "GET", "/metrics", "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&*body).read_to_string(&mut text).expect("it is gzip");
    assert!(body.len() < text.len() / 2);
    assert_eq!(text, get(server.address, "/metrics", "").2);
    assert!(!get(server.address, "/metrics", "Accept-Encoding: gzip;q=0\r\n").1.contains("content-encoding"));
}

#[test]
fn a_refused_reading_is_healthy_and_not_ready() {
    let server = serve(snapshot());
    assert_eq!(get(server.address, "/-/healthy", "").0, 200);
    assert_eq!(get(server.address, "/-/ready", "").0, 200);
    let server = serve(refused());
    assert_eq!(get(server.address, "/-/healthy", "").0, 200);
    let (status, _, text) = get(server.address, "/-/ready", "");
    assert_eq!(status, 503);
    assert!(text.contains("refuses"), "{text}");
    let healthy = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        command.env_clear().args(["healthy", "--web.listen-address", &server.address.to_string()]);
        let output = command.args(arguments).output().expect("it starts");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        (output.status.code(), text)
    };
    assert_eq!(healthy(&["--live"]), (Some(0), "alive\n".to_owned()));
    let (code, text) = healthy(&[]);
    assert!(code == Some(1) && text.contains("/-/ready: status 503: ") && text.contains("refuses"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_selection_applies_to_the_metrics_only() {
    let selection = Selection { per_object: false, ..Selection::default() };
    let select = move |snapshot| selection.apply(Selected::all(snapshot), None);
    let server = serve_from(snapshot, select);
    let text = get(server.address, "/metrics", "").2;
    assert!(text.contains("bpf_objects{") && !text.contains("bpf_program_info{"), "{text}");
    let page = get(server.address, "/", "").2;
    assert!(page.contains("Programs <span class=\"count\">4</span>"), "{page}");
    assert_eq!(get(server.address, "/-/ready", "").0, 200);
}

#[test]
fn only_the_page_and_the_metrics_are_served() {
    let server = serve(snapshot());
    let (status, head, page) = get(server.address, "/", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(page.contains("href=\"./metrics\""), "{page}");
    assert_eq!(get(server.address, "/nothing", "").0, 404);
    assert_eq!(request(server.address, "POST", "/metrics", "").0, 405);
    let (status, _, body) = request(server.address, "HEAD", "/metrics", "");
    assert_eq!((status, body.len()), (200, 0));
}

#[test]
fn a_scrape_has_the_attributes_of_the_resource_once() {
    let server = serve(snapshot());
    let target = |accept: &str| -> Vec<String> {
        let (_, _, body) = get(server.address, "/metrics", accept);
        let is_target = |line: &&str| {
            line.starts_with("target_info")
                || line.contains("Attributes of the resource")
                || line.starts_with("# TYPE target")
        };
        body.lines().filter(is_target).map(str::to_owned).collect()
    };
    // Both names of the node are the same label; `-` sorts before `.`.
    let sample = r#"target_info{k8s_node_name="2;n\"1\"",service_name="web"} 1"#;
    let help = "Attributes of the resource.";
    assert_eq!(target(""), [&format!("# HELP target_info {help}"), "# TYPE target_info gauge", sample]);
    assert_eq!(
        target("Accept: application/openmetrics-text;version=1.0.0\r\n"),
        ["# TYPE target info", &format!("# HELP target {help}"), sample]
    );
}

#[test]
fn concurrent_scrapes_share_one_reading() {
    let server = serve(snapshot());
    let address = server.address;
    let scrapes: Vec<_> =
        (0..20).map(|_| std::thread::spawn(move || get(address, "/metrics", "").0)).collect();
    assert!(scrapes.into_iter().all(|scrape| scrape.join().expect("it does not panic") == 200));
    assert_eq!(server.readings.load(Ordering::Relaxed), 1);
}

#[test]
fn all_addresses_can_be_bound_and_used_ones_are_refused() {
    let listener = Listener::tcp(None, 0).expect("a port");
    let Listener::Tcp(socket) = &listener else { unreachable!("it is TCP") };
    let port = socket.local_addr().expect("it is bound").port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "IPv4 is served as well");
    assert_eq!(Listener::tcp(None, port).expect_err("it is in use").kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn methods_and_unknown_paths_have_their_own_status() {
    let server = serve(snapshot());
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let (status, head, _) = request(server.address, method, "/metrics", "");
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head, options"), "{head}");
    }
    let (status, head, body) = request(server.address, "OPTIONS", "/metrics", "");
    assert!(status == 204 && body.is_empty() && head.contains("allow: get, head, options"), "{head}");
    assert_eq!(request(server.address, "POST", "/nothing", "").0, 404);
    assert_eq!(request(server.address, "GET", "/metrics", "Content-Length: 1\r\n").0, 413);
    assert_eq!(request(server.address, "GET", "/-/healthy", "Content-Length: 0\r\n").0, 200);
}

#[test]
fn a_host_that_is_not_served_is_refused_with_a_reason() {
    let server = serve(snapshot());
    let status = |host: &str| get(server.address, "/metrics", &format!("Host: {host}\r\n")).0;
    for host in ["127.0.0.1", "localhost:10048", "[::1]:10048", "node-1:10048", "NODE-1."] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in ["rebound.example", "localhost.rebound.example:10048", ""] {
        assert_eq!(status(host), 421, "{host}");
    }
    let (_, _, text) = get(server.address, "/-/ready", "Host: rebound.example\r\n");
    assert!(text.contains("--web.allowed-hosts") && text.lines().count() == 1, "{text}");
    assert_eq!(get(server.address, "/", "Host: localhost\r\nHost: localhost\r\n").0, 400);
    // The host of an absolute URL comes before the header.
    assert_eq!(get(server.address, "http://rebound.example/metrics", "Host: localhost\r\n").0, 421);

    let allowed = web::Settings { hosts: Hosts::new(["*.example"]), ..settings() };
    let server = serve_with(allowed, snapshot, Selected::all);
    assert_eq!(get(server.address, "/metrics", "Host: metrics.example\r\n").0, 200);
    assert_eq!(get(server.address, "/metrics", "Host: metrics.other\r\n").0, 421);
}

#[test]
fn a_request_of_http_1_1_names_a_host() {
    let server = serve(snapshot());
    let status = |request: &str| {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it closes");
        answer.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(status("GET /-/healthy HTTP/1.1\r\nConnection: close\r\n\r\n").as_deref(), Some("400"));
    let with_host = "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(with_host).as_deref(), Some("200"));
}

#[test]
fn the_metrics_are_where_the_flag_says() {
    let elsewhere = web::Settings { telemetry_path: "/a&b".to_owned(), ..settings() };
    let server = serve_with(elsewhere, snapshot, Selected::all);
    assert!(get(server.address, "/a&b", "").2.contains("bpf_program_info"));
    assert_eq!(get(server.address, "/metrics", "").0, 404);
    assert!(get(server.address, "/", "").2.contains("href=\"./a&amp;b\""));
    let root = web::Settings { telemetry_path: "/".to_owned(), ..settings() };
    assert!(get(serve_with(root, snapshot, Selected::all).address, "/", "").2.contains("bpf_program_info"));
}

#[test]
fn a_scrape_chooses_collectors() {
    let server = serve(snapshot());
    let body = |query: &str| get(server.address, &format!("/metrics?{query}"), "").2;
    let maps = body("collect[]=map&collect%5B%5D=link");
    assert!(maps.contains("bpf_map_info{") && maps.contains("bpf_link_info{"));
    assert!(!maps.contains("bpf_program_info{") && maps.contains("bpf_exporter_build_info"));
    let others = body("exclude[]=map");
    assert!(!others.contains("bpf_map_info{") && others.contains("bpf_program_info{"));
    assert_eq!(body("name=ignored"), body(""));
    let (status, _, text) = get(server.address, "/metrics?collect[]=cpu", "");
    assert!(status == 400 && text.contains("program, map, link, btf, holder, pin"), "{text}");
    assert_eq!(get(server.address, "/metrics?collect[]=map&exclude[]=link", "").0, 400);
    assert_eq!(server.readings.load(Ordering::Relaxed), 1, "the reading is the same for all");
}

#[test]
fn an_answer_comes_before_the_scraper_gives_up() {
    let slow = || {
        std::thread::sleep(Duration::from_secs(2));
        snapshot()
    };
    let server = serve_from(slow, Selected::all);
    let began = Instant::now();
    let (status, head, text) =
        get(server.address, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 0.5\r\n");
    assert_eq!(status, 503, "{text}");
    assert!(head.contains("retry-after: 1") && text.contains("longer than the scrape"), "{head} {text}");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    for ignored in ["0", "-1", "soon", "NaN"] {
        let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {ignored}\r\n");
        assert_eq!(get(server.address, "/metrics", &header).0, 200, "{ignored}");
    }
}

/// Returns the status of a response to text that is sent as it is.
fn status_of(address: SocketAddr, text: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
    std::io::Write::write_all(&mut stream, text.as_bytes()).expect("it reads");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("it answers");
    String::from_utf8_lossy(&head[9..]).parse().expect("a status")
}

#[test]
fn requests_are_bounded() {
    let server = serve(snapshot());
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let long = |bytes: usize| "a".repeat(bytes);
    assert_eq!(status_of(server.address, &get(&format!("/-/healthy?{}", long(4_000)), "")), 200);
    assert_eq!(status_of(server.address, &get(&format!("/-/healthy?{}", long(5_000)), "")), 414);
    assert_eq!(status_of(server.address, &get("/-/healthy", &format!("A: {}\r\n", long(8_000)))), 200);
    assert_eq!(status_of(server.address, &get("/-/healthy", &format!("A: {}\r\n", long(17_000)))), 431);
    assert_eq!(status_of(server.address, &get("/-/healthy", &"A: 1\r\n".repeat(60))), 200);
    assert_eq!(status_of(server.address, &get("/-/healthy", &"A: 1\r\n".repeat(70))), 431);
    assert_eq!(status_of(server.address, &get("/-/healthy", "Transfer-Encoding: chunked\r\n")), 413);
}
