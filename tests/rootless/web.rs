//! The HTTP server over a real connection, as scrapers, browsers and orchestrators use it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::model::{BootTime, Build, Exporter, Snapshot};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::web;
use bpf_metrics_exporter::worker::Worker;
use flate2::read::GzDecoder;
use tokio::sync::watch;

use test_support::golden::snapshot;

/// A server on a port of its own, stopped when dropped.
struct Server {
    address: SocketAddr,
    readings: Arc<AtomicUsize>,
    _stop: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

/// A snapshot in which every table was refused.
fn refused() -> Snapshot {
    Snapshot { programs: None, maps: None, links: None, btfs: None, ..snapshot() }
}

fn serve(snapshot: Snapshot) -> Server {
    serve_from(move || snapshot.clone(), Selected::all)
}

/// Serves readings by `read`, of which `select` selects what to export.
fn serve_from(
    mut read: impl FnMut() -> Snapshot + Send + 'static,
    select: impl FnMut(Arc<Snapshot>) -> Selected + Send + 'static,
) -> Server {
    let listener = web::bind(Some("127.0.0.1"), 0).expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let readings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&readings);
    let read = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        read()
    };
    let build =
        Build { started_at: BootTime::default(), version: "1.2.3", revision: None, rustc: Some("1.95.0") };
    let source = Source::new(worker("reading"), read, select, move || Exporter {
        build: build.clone(),
        process: None,
        resource: [("service.name", "web"), ("k8s.node.name", "n\"1\""), ("k8s.node-name", "2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        lost_log_lines: 0,
        destinations: Vec::new(),
        delivery: None,
    });
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.spawn(web::serve(listener, source, worker("rendering"), stopped));
    Server { address, readings, _stop: stop, _runtime: runtime }
}

fn worker(name: &str) -> Worker {
    Worker::start(name).expect("a thread")
}

/// Returns the status, the headers in lower case, and the body of a response.
fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    // HTTP/1.0: no chunks, and the end of the connection is the end of the body.
    stream.write_all(format!("{method} {path} HTTP/1.0\r\n{headers}\r\n").as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("headers end");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head, answer.split_off(end + 4))
}

fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let (status, head, body) = request(address, "GET", path, headers);
    (status, head, String::from_utf8(body).expect("text"))
}

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
}

#[test]
fn a_selection_applies_to_the_metrics_only() {
    let selection = Selection { per_object: false, ..Selection::default() };
    let select = move |snapshot| selection.apply(Selected::all(snapshot), None);
    let server = serve_from(snapshot, select);
    let text = get(server.address, "/metrics", "").2;
    assert!(text.contains("bpf_objects{") && !text.contains("bpf_program_info{"), "{text}");
    assert!(get(server.address, "/", "").2.contains("<li>program: 4</li>"));
    assert_eq!(get(server.address, "/-/ready", "").0, 200);
}

#[test]
fn only_the_page_and_the_metrics_are_served() {
    let server = serve(snapshot());
    let (status, head, page) = get(server.address, "/", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(page.contains("href=\"/metrics\"") && page.contains("<li>program: 4</li>"), "{page}");
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
    let listener = web::bind(None, 0).expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "IPv4 is served as well");
    assert_eq!(web::bind(None, port).expect_err("it is in use").kind(), std::io::ErrorKind::AddrInUse);
}
