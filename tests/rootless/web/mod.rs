//! The HTTP server over a real connection, as scrapers, browsers, orchestrators and attackers use it.

mod api;
mod attacks;
mod config;
mod events;
mod formats;
mod http2;
mod page;
mod requests;
mod sockets;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{BootTime, Build, Exporter, Snapshot, WallClock};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::web::{self, Hosts, Listener};
use bpf_metrics_exporter::worker::Worker;
use jiff::Timestamp;
use tokio::sync::watch;

use test_support::golden::snapshot;

/// A server on a port of its own, stopped when dropped.
struct Server {
    address: SocketAddr,
    readings: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Waits until it has ended by itself.
    fn stop(mut self) {
        self.stop.send_replace(true);
        let runtime = self.runtime.take().expect("it is dropped only once");
        runtime.block_on(&mut self.task).expect("it does not panic").expect("it was served");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Tests of asynchronous clients drop it on a runtime of their own, which may not wait.
            runtime.shutdown_background();
        }
    }
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
    read: impl FnMut() -> Snapshot + Send + 'static,
    select: impl FnMut(Arc<Snapshot>) -> Selected + Send + 'static,
) -> Server {
    serve_with(settings(), read, select)
}

/// The options of the program without flags.
fn settings() -> web::Settings {
    web::Settings {
        telemetry_path: "/metrics".to_owned(),
        max_requests: web::bounds::MAX_REQUESTS,
        hosts: Hosts::new(["node-1"]),
        created: false,
        events: Events::default(),
        clock: Arc::new(|| WallClock { booted_at: Timestamp::UNIX_EPOCH }),
        config: None,
        descriptors: 1 << 20,
        page: true,
        settings: Arc::default(),
    }
}

fn serve_with(
    settings: web::Settings,
    read: impl FnMut() -> Snapshot + Send + 'static,
    select: impl FnMut(Arc<Snapshot>) -> Selected + Send + 'static,
) -> Server {
    let listener = Listener::tcp(Some("127.0.0.1"), 0).expect("a port");
    let Listener::Tcp(socket) = &listener else { unreachable!("it is TCP") };
    let address = socket.local_addr().expect("it is bound");
    let (server, readings) = source(settings, read, select);
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let task = runtime.spawn(server.serve(listener, stopped));
    Server { address, readings, stop, task, runtime: Some(runtime) }
}

/// Returns a server, and the number of its readings.
fn source(
    settings: web::Settings,
    mut read: impl FnMut() -> Snapshot + Send + 'static,
    select: impl FnMut(Arc<Snapshot>) -> Selected + Send + 'static,
) -> (web::Server, Arc<AtomicUsize>) {
    let readings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&readings);
    let read = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        read()
    };
    let build =
        Build { started_at: BootTime::default(), version: "1.2.3", revision: None, rustc: Some("1.95.0") };
    let source = Source::new(worker("reading"), read, select, move || Exporter {
        resource: [("service.name", "web"), ("k8s.node.name", "n\"1\""), ("k8s.node-name", "2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Exporter::of(build.clone())
    });
    (web::Server::new(source, worker("rendering"), settings), readings)
}

fn worker(name: &str) -> Worker {
    Worker::start(name).expect("a thread")
}

/// Returns the status, the headers in lower case, and the body of a response.
fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
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
