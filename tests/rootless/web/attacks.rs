//! Clients that send nothing, send for ever, take nothing, or come all at once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{Program, ProgramFacts, Snapshot};
use bpf_metrics_exporter::web::{self, bounds};
use test_support::golden::snapshot;

use super::{get, serve, serve_with, settings};

/// A snapshot whose text has megabytes.
fn large() -> Snapshot {
    let small = snapshot();
    let programs = small.programs.as_deref().expect("it has programs");
    let many = (0..10_000).map(|id| {
        let like = &programs[id as usize % programs.len()];
        Program { facts: Arc::new(ProgramFacts { id, ..(*like.facts).clone() }), ..like.clone() }
    });
    Snapshot { programs: Some(many.collect()), ..small.clone() }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
    stream
}

fn sent(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(text.as_bytes()).expect("it reads");
    stream
}

/// Returns whether the other end has closed a connection by now, or does within this time.
fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).expect("a time");
    matches!(stream.read(&mut [0; 1024]), Ok(0)) || {
        let again = stream.read(&mut [0; 1]);
        again.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    }
}

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn silent_connections_make_room_for_those_that_speak() {
    let server = serve(snapshot());
    let mut silent: Vec<_> = (0..bounds::CONNECTIONS * 2).map(|_| connect(server.address)).collect();
    assert_eq!(get(server.address, "/metrics", "").0, 200);
    assert!(is_closed(&mut silent[0], Duration::from_secs(10)), "the oldest one made room");
    assert!(!is_closed(silent.last_mut().expect("there are some"), Duration::from_millis(10)));
    std::thread::sleep(bounds::FRESH);
    // One that has spoken is kept where others have had time to.
    let mut kept = sent(server.address, "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).expect("it answers");
    let _more: Vec<_> = (0..bounds::CONNECTIONS / 2).map(|_| connect(server.address)).collect();
    assert_eq!(get(server.address, "/-/healthy", "").0, 200);
    kept.write_all(SCRAPE.as_bytes()).expect("it reads");
    let mut answer = vec![0; 4096];
    kept.read_exact(&mut answer).expect("it answers");
    assert!(String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[test]
fn unfinished_headers_and_silence_end_in_time() {
    let server = serve(snapshot());
    let began = Instant::now();
    let mut silent = connect(server.address);
    let mut unfinished = sent(server.address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nA: ");
    let mut drip = unfinished.try_clone().expect("a handle");
    let dripping = std::thread::spawn(move || {
        while drip.write_all(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    // A second request on a connection.
    let mut second = sent(server.address, "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = [0; 12];
    second.read_exact(&mut answer).expect("it answers");
    second.write_all(b"GET /-/hea").expect("it reads");
    assert!(is_closed(&mut silent, Duration::from_secs(20)), "it sends nothing");
    assert!(is_closed(&mut unfinished, Duration::from_secs(20)), "its headers never end");
    let mut answer = String::new();
    second.read_to_string(&mut answer).expect("it answers, and closes");
    assert!(answer.contains("healthy"), "{answer}");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(25), "{took:?}");
    dripping.join().expect("it does not panic");
}

#[test]
fn scrapes_above_the_limit_are_refused_and_may_try_again() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let blocked = move || {
        wait.recv().expect("the test sends once");
        snapshot()
    };
    let server = serve_with(web::Settings { max_requests: 3, ..settings() }, blocked, Selected::all);
    let scrape = |_| {
        let mut stream = sent(server.address, SCRAPE);
        std::thread::spawn(move || {
            let mut answer = vec![0; 150];
            stream.read_exact(&mut answer).expect("it answers");
            String::from_utf8_lossy(&answer).into_owned()
        })
    };
    let scrapes: Vec<_> = (0..4).map(scrape).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !scrapes.iter().any(std::thread::JoinHandle::is_finished) {
        assert!(Instant::now() < deadline, "one is refused while three wait");
        std::thread::yield_now();
    }
    assert_eq!(get(server.address, "/-/healthy", "").0, 200, "other pages are not scrapes");
    let (status, _, text) = get(server.address, "/metrics", "");
    assert!(status == 503 && text.contains("--web.max-requests"), "{text}");
    release.send(()).expect("the reading waits");
    let answers = scrapes.into_iter().map(|scrape| scrape.join().expect("it does not panic"));
    let (answered, refused): (Vec<_>, Vec<_>) =
        answers.partition(|answer| answer.starts_with("HTTP/1.1 200"));
    assert_eq!((answered.len(), refused.len()), (3, 1));
    assert!(refused[0].contains("503") && refused[0].contains("retry-after: 1"), "{}", refused[0]);
    assert_eq!(server.readings.load(Ordering::Relaxed), 1);
}

#[test]
fn a_scrape_comes_through_while_others_hold_their_answers() {
    let large = large();
    let server = serve_with(settings(), move || large.clone(), Selected::all);
    let whole = get(server.address, "/metrics", "").2;
    assert!(whole.len() > 8 << 20, "{}: too small to fill the buffers of the kernel", whole.len());
    // They ask, and read nothing.
    let mut stalled: Vec<_> = (0..bounds::MAX_REQUESTS).map(|_| sent(server.address, SCRAPE)).collect();
    let began = Instant::now();
    loop {
        let (status, _, text) = get(server.address, "/metrics", "");
        if status == 200 {
            assert!(text.len() > 8 << 20);
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The one that made room sees its answer end early, which its length shows.
    let ends = stalled.iter_mut().filter_map(|stream| {
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
        let mut taken = Vec::new();
        let _end = stream.read_to_end(&mut taken);
        (taken.len() < whole.len()).then_some(())
    });
    assert!(ends.take(1).count() == 1);
}

#[test]
fn scrapers_that_vanish_leave_no_renderings_behind() {
    let large = large();
    let server = serve_with(settings(), move || large.clone(), Selected::all);
    let whole = get(server.address, "/metrics", "").2;
    let began = Instant::now();
    assert_eq!(get(server.address, "/metrics?exclude[]=map", "").0, 200);
    let rendering = began.elapsed();
    let names = ["program", "map", "link", "btf", "holder", "pin", "cgroup"];
    // Each of another selection, so that each is rendered of its own.
    for attack in 0..300_u32 {
        let excluded = names.iter().enumerate().filter(|(bit, _)| attack >> bit & 1 == 1);
        let query: String = excluded.map(|(_, name)| ["exclude[]=", name, "&"].concat()).collect();
        let request = format!("GET /metrics?{query}exclude[]=host HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let vanishing = sent(server.address, &request);
        std::thread::sleep(Duration::from_millis(5));
        drop(vanishing);
    }
    let began = Instant::now();
    let (status, _, text) = get(server.address, "/metrics", "");
    let took = began.elapsed();
    assert_eq!(status, 200, "{text}");
    assert_eq!(text.len() / 1_000, whole.len() / 1_000);
    // A reading, a rendering that had begun, and its own.
    assert!(took < rendering * 6 + Duration::from_secs(1), "{took:?}; one rendering takes {rendering:?}");
}
