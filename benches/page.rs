//! Cost of the page beyond the readings: the server in this process has readings of 7,000 programs and 9,000 maps that are made up, and
//! a client looks as a browser does. The processor time of the threads that take readings and look is left out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{BootTime, Build, Exporter, Snapshot, WallClock};
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::web::{self, Hosts, Listener, bounds};
use bpf_metrics_exporter::worker::Worker;
use nix::time::{ClockId, clock_gettime};
use test_support::golden::large;
use test_support::measure::{least, ratio, report, runs};
use tokio::sync::watch;

/// How many times the page is polled.
const POLLS: u32 = 20;

/// What a browser asks for.
const WINDOW: &str = "/api/v1/objects?kind=programs&sort=cpu_ratio&offset=0&limit=60&history=1";

/// Returns the processor time by a clock.
fn processor_time(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("Linux has the clock").into()
}

/// A server, and the processor time of its readings in nanoseconds.
struct Server {
    address: SocketAddr,
    reading: Arc<AtomicU64>,
    _runtime: tokio::runtime::Runtime,
    _stop: watch::Sender<bool>,
}

/// Serves readings of so many objects, with other run times each.
fn serve(programs: u32, maps: u32) -> Server {
    let listener = Listener::tcp(Some("127.0.0.1"), 0).expect("a port");
    let Listener::Tcp(socket) = &listener else { unreachable!("it is TCP") };
    let address = socket.local_addr().expect("it is bound");
    let reading = Arc::new(AtomicU64::new(0));
    let measured = Arc::clone(&reading);
    let example = large(programs, maps);
    let mut seconds = 0;
    let read = move || {
        let began = processor_time(ClockId::CLOCK_THREAD_CPUTIME_ID);
        seconds += 2;
        let mut snapshot: Snapshot = example.clone();
        snapshot.taken_at = BootTime(snapshot.taken_at.0 + seconds * 1_000_000_000);
        snapshot.run_stats.covered += Duration::from_secs(seconds);
        for (number, program) in (1..).zip(snapshot.programs.iter_mut().flatten()) {
            program.run_time = Some(Duration::from_micros(number * seconds));
            program.runs = Some(number * seconds);
        }
        let took = processor_time(ClockId::CLOCK_THREAD_CPUTIME_ID).saturating_sub(began);
        measured.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        snapshot
    };
    let build = Build { started_at: BootTime::default(), version: "bench", revision: None, rustc: None };
    let exporter = move || Exporter::of(build.clone());
    let worker = |name| Worker::start(name).expect("a thread");
    let source = Source::new(worker("reading"), read, Selected::all, exporter);
    let settings = web::Settings {
        telemetry_path: "/metrics".to_owned(),
        max_requests: bounds::MAX_REQUESTS,
        hosts: Hosts::default(),
        created: false,
        events: Events::default(),
        clock: Arc::new(WallClock::default),
        config: None,
        descriptors: 1 << 20,
        page: true,
        settings: Arc::default(),
    };
    let server = web::Server::new(source, worker("rendering"), settings);
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.spawn(server.serve(listener, stopped));
    Server { address, reading, _runtime: runtime, _stop: stop }
}

/// Returns the response to a request.
fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.0\r\nAccept-Encoding: gzip\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("it answers");
    let response = String::from_utf8_lossy(&response).into_owned();
    assert!(response.starts_with("HTTP/1.0 200") || response.starts_with("HTTP/1.0 304"), "{response}");
    response
}

/// Polls as an open page does, and returns its share of a processor, without the readings.
fn open_page(server: &Server, polls: u32) -> f64 {
    let others = |server: &Server| {
        let reading = Duration::from_nanos(server.reading.load(Ordering::Relaxed));
        reading + processor_time(ClockId::CLOCK_THREAD_CPUTIME_ID)
    };
    let before = (processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID), others(server));
    for _ in 0..polls {
        get(server.address, WINDOW, "");
        thread::sleep(bounds::PAGE_POLL);
    }
    let process = processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID).saturating_sub(before.0);
    let page = process.saturating_sub(others(server).saturating_sub(before.1));
    ratio(page, bounds::PAGE_POLL * polls)
}

fn main() {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let server = serve(20_000, 0);
    get(server.address, "/-/ready", "");
    let first_html = least(runs(10), || (), |()| get(server.address, "/", ""));
    let filtered = "/api/v1/objects?kind=programs&limit=60&sort=name&q=program_1";
    let mut number = 0;
    // Another filter each time: its order is not kept.
    let first_json = least(
        runs(10),
        || {
            number += 1;
            format!("{filtered}{number}")
        },
        |path| get(server.address, &path, ""),
    );
    drop(server);

    let server = serve(7_000, 9_000);
    get(server.address, WINDOW, "");
    let share = open_page(&server, runs(POLLS));
    let new_reading = || thread::sleep(bounds::PAGE_POLL);
    let polled = least(runs(5), new_reading, |()| get(server.address, WINDOW, ""));
    let (mut offset, mut tag) = (0, String::new());
    let scrolled = least(
        runs(50),
        || {
            offset += 60;
            WINDOW.replace("offset=0", &format!("offset={offset}"))
        },
        |path| tag = get(server.address, &path, ""),
    );
    let tag = tag.lines().find_map(|line| line.strip_prefix("etag: ")).expect("it has a tag");
    let known = format!("If-None-Match: {tag}\r\n");
    let unchanged = least(runs(50), || (), |()| get(server.address, WINDOW, &known));
    let nobody = processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    thread::sleep(bounds::PAGE_WATCHED + Duration::from_secs(6));
    let over = processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    thread::sleep(Duration::from_secs(10));
    let quiet = processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID).saturating_sub(over);

    report(format_args!("first table of 20,000 objects, as HTML      {:.0} ms", milliseconds(first_html)));
    report(format_args!("first table of 20,000, JSON with a filter   {:.0} ms", milliseconds(first_json)));
    report(format_args!("7,000 programs and 9,000 maps:"));
    report(format_args!("  a poll with a new reading, it included    {:.1} ms", milliseconds(polled)));
    report(format_args!("  another part of the same reading          {:.1} ms", milliseconds(scrolled)));
    report(format_args!("  a poll without anything new               {:.2} ms", milliseconds(unchanged)));
    report(format_args!("  one open page, beyond the readings        {:.2} % of a processor", share * 100.0));
    report(format_args!(
        "  history for a minute after the last look  {:.1} ms",
        milliseconds(over.saturating_sub(nobody))
    ));
    report(format_args!("  10 s after that                           {:.2} ms", milliseconds(quiet)));
}
