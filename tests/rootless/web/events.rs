//! Streams of events, as browsers and collectors of events read them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bpf_metrics_exporter::events::{Events, HISTORY};
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{
    BootTime, Event, EventKind, EventSource, Identity, Kind, Owner, Snapshot, Subject,
};
use bpf_metrics_exporter::web::{self, bounds};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use test_support::golden::snapshot;

use super::config::{ANN, Folder, hash};
use super::{Server, get, request, serve_with, settings};

const PATH: &str = "/api/v1/events";

/// A program, or another object, with an owner.
pub(super) fn event(kind: EventKind, name: &str) -> Event {
    let unit = Identity { unit: Some("cilium.service".to_owned()), ..Identity::default() };
    Event {
        number: 0,
        kind,
        at: BootTime(1_500_000_000),
        after: None,
        observed_at: BootTime(1_500_000_001),
        source: EventSource::Kernel,
        subject: Subject {
            kind: Some(if kind == EventKind::MapCreate { Kind::Map } else { Kind::Program }),
            id: Some(7),
            name: Some(name.to_owned()),
            object_type: Some(if kind == EventKind::MapCreate { "hash" } else { "xdp" }.to_owned()),
            ..Subject::default()
        },
        actor: None,
        owner: Some(Owner::from(unit).into()),
    }
}

fn serve(events: &Events) -> Server {
    serve_with(web::Settings { events: events.clone(), ..settings() }, snapshot, Selected::all)
}

/// A message of a stream: its fields in order. A comment is a field without a name.
type Message = Vec<(String, String)>;

/// A client that follows events.
struct Follower {
    head: String,
    lines: BufReader<TcpStream>,
}

impl Follower {
    /// Sends a request, and reads the headers of the answer.
    fn new(address: SocketAddr, query: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
        // HTTP/1.0: no chunks.
        let request = format!("GET {PATH}{query} HTTP/1.0\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).expect("it answers") > 0, "{head}");
        }
        Self { head: head.to_lowercase(), lines }
    }

    /// A stream that has begun.
    fn begun(address: SocketAddr, query: &str, headers: &str) -> Self {
        let mut follower = Self::new(address, query, headers);
        assert!(follower.head.starts_with("http/1.0 200"), "{}", follower.head);
        assert_eq!(follower.field("retry").as_deref(), Some("2000"));
        follower
    }

    /// Waits for a message; `None` at the end of the stream.
    fn next(&mut self) -> Option<Message> {
        let mut message = Vec::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("it is open or ended") == 0 {
                assert!(message.is_empty(), "it ends within {message:?}");
                return None;
            }
            let line = line.strip_suffix('\n').expect("lines are complete");
            if line.is_empty() {
                return Some(message);
            }
            let (name, value) = line.split_once(':').expect("a field has a colon");
            message.push((name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned()));
        }
    }

    /// Waits for a message of this one field.
    fn field(&mut self, name: &str) -> Option<String> {
        let message = self.next()?;
        assert!(message.len() == 1 && message[0].0 == name, "{message:?}");
        Some(message[0].1.clone())
    }

    /// Waits for an event: its number, its name and the rest.
    fn event(&mut self) -> (u64, String, Value) {
        let message = self.next().expect("it goes on");
        let fields: Vec<_> = message.iter().map(|(name, value)| (&**name, &**value)).collect();
        let [("id", id), ("event", name), ("data", data)] = fields[..] else { panic!("{fields:?}") };
        let data: Value = serde_json::from_str(data).expect("one line of JSON");
        assert_eq!((&data["number"].to_string()[..], &data["kind"]), (id, &name.into()));
        (id.parse().expect("a number"), name.to_owned(), data)
    }

    fn numbers(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.event().0).collect()
    }

    /// Returns whether nothing comes for a short time.
    fn is_silent(&mut self) -> bool {
        let stream = self.lines.get_ref();
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
        let silent = self.lines.fill_buf().is_err();
        self.lines.get_ref().set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
        silent
    }
}

#[test]
fn a_stream_has_the_history_and_then_what_happens() {
    let events = Events::default();
    events.publish(vec![event(EventKind::ProgramLoad, "first"), event(EventKind::MapCreate, "second")]);
    let server = serve(&events);
    let mut follower = Follower::begun(server.address, "", "");
    assert!(follower.head.contains("content-type: text/event-stream\r\n"), "{}", follower.head);
    assert!(follower.head.contains("cache-control: no-store\r\n"), "{}", follower.head);
    let (number, name, data) = follower.event();
    assert_eq!((number, &*name), (1, "bpf.program.load"));
    assert_eq!(data["at"], "1970-01-01T00:00:01.5Z");
    assert_eq!(data["at_boot_ns"], 1_500_000_000);
    assert_eq!(data["observed_at"], "1970-01-01T00:00:01.500000001Z");
    assert_eq!((&data["severity"], &data["source"]), (&"INFO".into(), &"kernel".into()));
    assert_eq!((&data["subject"]["name"], &data["subject"]["type"]), (&"first".into(), &"xdp".into()));
    assert_eq!(data["owner"]["unit"], "cilium.service");
    let parsed: Event = serde_json::from_value(data).expect("it can be read back");
    assert_eq!(parsed, Event { number: 1, ..event(EventKind::ProgramLoad, "first") });
    assert_eq!(follower.event().1, "bpf.map.create");
    assert!(follower.is_silent());
    events.publish(vec![event(EventKind::ObjectOrphan, "third")]);
    let (number, name, data) = follower.event();
    assert_eq!((number, &*name, &data["severity"]), (3, "bpf.object.orphan", &"WARN".into()));
}

#[test]
fn the_history_is_bounded_by_the_reader_and_by_what_is_kept() {
    let events = Events::default();
    events.publish(vec![event(EventKind::ProgramLoad, "a"); HISTORY + 6]);
    events.publish(vec![event(EventKind::MapCreate, "b"); 4]);
    let last = (HISTORY + 10) as u64;
    let server = serve(&events);
    let all: Vec<u64> = (11..=last).collect();
    assert_eq!(
        Follower::begun(server.address, "", "").numbers(HISTORY),
        all,
        "the older ones were not missed"
    );
    assert_eq!(Follower::begun(server.address, "?history=2", "").numbers(2), [last - 1, last]);
    let mut programs = Follower::begun(server.address, "?history=2&kind=bpf.program.*", "");
    assert_eq!(programs.numbers(2), [last - 5, last - 4], "the last ones that it wants");
    let mut none = Follower::begun(server.address, "?history=0", "");
    assert!(none.is_silent());
    events.publish(vec![event(EventKind::MapCreate, "b")]);
    assert_eq!(none.numbers(1), [last + 1]);
}

#[test]
fn a_reader_that_comes_back_gets_what_it_missed_or_how_much() {
    let events = Events::default();
    events.publish(vec![event(EventKind::ProgramLoad, "a"); 5]);
    let server = serve(&events);
    let resumed = |number: &str| {
        // The URL is the same as that of the first request.
        Follower::begun(server.address, "?history=1", &format!("Last-Event-ID: {number}\r\n"))
    };
    assert_eq!(resumed("3").numbers(2), [4, 5]);
    assert!(resumed("5").is_silent());
    assert_eq!(resumed("99").numbers(5), [1, 2, 3, 4, 5], "the exporter was restarted meanwhile");
    events.publish(vec![event(EventKind::ProgramLoad, "a"); HISTORY + 1]);
    let mut late = resumed("3");
    let missed = [("event", "missed"), ("data", "{\"count\":3}")];
    assert_eq!(
        late.next().expect("it goes on"),
        missed.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(late.numbers(1), [7]);
}

#[test]
fn filters_hold_for_the_history_and_later() {
    let events = Events::default();
    let publish = || {
        events.publish(vec![
            event(EventKind::ProgramLoad, "trace_open"),
            event(EventKind::ProgramUnload, "trace_open"),
            event(EventKind::MapCreate, "cilium_ct4"),
        ]);
    };
    publish();
    let server = serve(&events);
    let cases = [
        ("?kind=bpf.program.load", vec![1, 4]),
        ("?kind=bpf.program.*", vec![1, 2, 4, 5]),
        ("?kind=bpf.map.*&kind=*.unload", vec![2, 3, 5, 6]),
        ("?owner=cilium*", vec![1, 2, 3, 4, 5, 6]),
        ("?type=hash", vec![3, 6]),
        ("?name=cilium_%2A&type=hash", vec![3, 6]),
        ("?name=trace_?pen&kind=bpf.program.unload", vec![2, 5]),
    ];
    let followers =
        cases.map(|(query, numbers)| (Follower::begun(server.address, query, ""), query, numbers));
    let mut nothing = Follower::begun(server.address, "?owner=tetragon*", "");
    publish();
    for (mut follower, query, numbers) in followers {
        assert_eq!(follower.numbers(numbers.len()), numbers, "{query}");
    }
    assert!(nothing.is_silent());
}

#[test]
fn parameters_that_are_wrong_are_refused_in_one_line() {
    let server = serve(&Events::default());
    for (query, headers, part) in [
        ("?history=4097", "", "history=\"4097\" is not a number from 0 to 4096"),
        ("?history=-1", "", "history=\"-1\" is not a number"),
        ("?history=", "", "history=\"\" is not a number"),
        ("?history=1&history=2", "", "history is given twice"),
        ("?kind=bpf.prog.*", "", "kind=\"bpf.prog.*\" matches no event: there are bpf.program.load, "),
        ("?kind", "", "kind=\"\" matches no event"),
        ("?name=", "", "name is empty"),
        ("?owner=a&owner=b", "", "owner is given twice"),
        ("?kinds=a", "", "\"kinds\" is no parameter: use history, kind, owner, type or name"),
        ("?a%0Ab=c", "", "\"a\\nb\" is no parameter"),
        ("", "Last-Event-ID: x\r\n", "Last-Event-ID is not the number of an event"),
    ] {
        for method in ["GET", "HEAD"] {
            let (status, _, body) = request(server.address, method, &format!("{PATH}{query}"), headers);
            let text = String::from_utf8(body).expect("text");
            assert_eq!(status, 400, "{query}: {text}");
            if method == "GET" {
                assert!(text.starts_with(part) && text.lines().count() == 1, "{query}: {text}");
            }
        }
    }
}

#[test]
fn only_the_headers_are_sent_if_they_are_wanted_and_other_methods_are_refused() {
    let server = serve(&Events::default());
    let (status, head, body) = request(server.address, "HEAD", PATH, "");
    assert_eq!((status, body.len()), (200, 0));
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(request(server.address, "POST", PATH, "").0, 405);
    assert_eq!(request(server.address, "OPTIONS", PATH, "").0, 204);
    assert_eq!(get(server.address, PATH, "Host: rebound.example\r\n").0, 421);
    assert!(get(server.address, "/", "").2.contains("href=\"api/v1/events\""));
}

#[test]
fn a_stream_in_chunks_leaves_the_connection_to_later_requests_of_others() {
    let events = Events::default();
    events.publish(vec![event(EventKind::ProgramLoad, "a")]);
    let server = serve(&events);
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
    stream.write_all(format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("it reads");
    let mut answer = String::new();
    let mut lines = BufReader::new(stream);
    while !answer.contains("data: ") {
        assert!(lines.read_line(&mut answer).expect("it answers") > 0, "{answer}");
    }
    assert!(answer.contains("transfer-encoding: chunked\r\n") && answer.contains("id: 1\n"), "{answer}");
    assert_eq!(get(server.address, "/metrics", "").0, 200);
}

#[test]
fn streams_end_when_the_exporter_stops() {
    let events = Events::default();
    let server = serve(&events);
    let mut followers: Vec<_> = (0..3).map(|_| Follower::begun(server.address, "", "")).collect();
    let began = Instant::now();
    server.stop();
    assert!(followers.iter_mut().all(|follower| follower.next().is_none()));
    // Before the connections are closed for want of an end.
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

#[test]
fn streams_above_the_limit_are_refused_until_one_ends() {
    let events = Events::default();
    let server = serve(&events);
    let mut followers: Vec<_> =
        (0..bounds::EVENT_STREAMS).map(|_| Follower::begun(server.address, "", "")).collect();
    let (status, head, text) = get(server.address, PATH, "");
    assert!(status == 503 && head.contains("retry-after: 1") && text.lines().count() == 1, "{head}\n{text}");
    assert_eq!(request(server.address, "HEAD", PATH, "").0, 200, "that is no stream");
    assert_eq!(get(server.address, "/metrics", "").0, 200, "scrapes have a limit of their own");
    drop(followers.pop());
    let began = Instant::now();
    while !Follower::new(server.address, "", "").head.starts_with("http/1.0 200") {
        assert!(began.elapsed() < Duration::from_secs(20), "the place is free");
        std::thread::sleep(Duration::from_millis(20));
    }
    events.publish(vec![event(EventKind::ProgramLoad, "a")]);
    assert!(followers.iter_mut().all(|follower| follower.numbers(1) == [1]));
}

#[test]
fn streams_make_room_for_other_connections() {
    let settings = web::Settings { descriptors: 0, ..settings() };
    let server = serve_with(settings, snapshot, Selected::all);
    // As many as there may be connections.
    let mut followers: Vec<_> =
        (0..bounds::EVENT_STREAMS).map(|_| Follower::begun(server.address, "", "")).collect();
    assert_eq!(get(server.address, "/metrics", "").0, 200);
    followers[0].lines.get_ref().set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
    assert!(
        followers[0].lines.read(&mut [0]).map_or(true, |read| read == 0),
        "the oldest one was closed, and will connect again"
    );
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_one_that_waits_is_not() {
    let events = Events::default();
    let server = serve(&events);
    let began = Instant::now();
    let mut idle: Vec<_> =
        (1..bounds::EVENT_STREAMS).map(|_| Follower::begun(server.address, "?owner=nobody", "")).collect();
    let stalled = Follower::begun(server.address, "", "");
    setsockopt(stalled.lines.get_ref(), sockopt::RcvBuf, &4096).expect("a size");
    // More than the buffers of the kernel take.
    for _ in 0..12 {
        events.publish(vec![event(EventKind::ProgramLoad, &"x".repeat(10_000)); HISTORY]);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(get(server.address, PATH, "").0, 503);
    let mut closed_after = None;
    while closed_after.is_none() && began.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(500));
        // Its own place is free again at once.
        let probe = Follower::new(server.address, "?history=0", "");
        closed_after = probe.head.starts_with("http/1.0 200").then(|| began.elapsed());
    }
    let closed_after = closed_after.expect("it is closed");
    assert!(closed_after > Duration::from_secs(25), "slow readers have time: {closed_after:?}");
    for follower in &mut idle {
        for _ in 0..2 {
            assert_eq!(follower.field("").as_deref(), Some(""), "a comment in every 15 s");
        }
        assert!(follower.is_silent(), "and nothing else");
    }
}

#[test]
fn a_stream_needs_a_password_and_ends_when_the_configuration_changes() {
    let folder = Folder::new();
    let users = |more: &str| format!("basic_auth_users:\n  ann: {}\n{more}", hash());
    let config = folder.load(&users("")).expect("it is valid");
    config.start().expect("threads");
    let events = Events::default();
    let with = web::Settings { events: events.clone(), config: Some(config), ..settings() };
    let server = serve_with(with, snapshot, Selected::all);
    assert_eq!(get(server.address, PATH, "").0, 401);
    let mut follower = Follower::begun(server.address, "", ANN);
    events.publish(vec![event(EventKind::ProgramLoad, "a")]);
    assert_eq!(follower.numbers(1), [1]);
    let began = Instant::now();
    folder.write("web.yml", &users("http_server_config:\n  headers:\n    X-Frame-Options: deny\n"));
    // Whoever may no longer read must not read on: the reader connects again, and is admitted again or not.
    assert_eq!(follower.next(), None);
    assert!(began.elapsed() < bounds::HEARTBEAT + Duration::from_secs(5), "{:?}", began.elapsed());
    let mut again = Follower::begun(server.address, "", &format!("{ANN}Last-Event-ID: 1\r\n"));
    assert!(again.head.contains("x-frame-options: deny"), "{}", again.head);
    assert!(again.is_silent());
}

#[test]
fn a_refused_reading_has_a_stream_all_the_same() {
    let refused: fn() -> Snapshot = super::refused;
    let events = Events::default();
    let server = serve_with(web::Settings { events: events.clone(), ..settings() }, refused, Selected::all);
    let mut follower = Follower::begun(server.address, "", "");
    events.publish(vec![event(EventKind::ProgramLoad, "a")]);
    assert_eq!(follower.numbers(1), [1]);
}
