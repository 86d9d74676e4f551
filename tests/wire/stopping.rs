//! Termination: a last export, within a time limit.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::received;
use crate::receivers::{Collector, Verbosity};
use test_support::http::free_address;
use test_support::objects::Program;
use test_support::objects::uapi::program_type;

/// Time limit of the last export.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn last_export() {
    let scratch = Scratch::new();
    let folder = scratch.folder("collector");
    let mut collector = Collector::start(&folder, free_address(), Verbosity::Detailed, None);
    let mut exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, "1h", &[]);
    exporter.settles_with(&[&collector]);
    let by_the_clock = received::requests(&collector.received()).count();
    // Only the last export can have this one.
    let late = Program::ready(program_type::XDP, "wire_late").expect("the kernel has XDP");
    let id = late.id().to_string();

    let begin = Instant::now();
    exporter.process.terminate();
    let status = exporter.process.ended(SHUTDOWN_TIMEOUT);
    assert!(status.success(), "{status} after {:?}", begin.elapsed());
    assert_eq!(exporter.warnings(), Vec::<String>::new());
    assert!(collector.process.stop().success());
    let requests = received::read(&collector.received());
    let mut points = requests[by_the_clock..].iter().flat_map(|request| &request.points);
    assert!(points.any(|point| point.is("bpf_program_info", "id", &id)), "the last export does not have it");
}

pub(crate) fn second_signal() {
    let scratch = Scratch::new();
    let (mut exporter, _connection) = start_with_unresponsive_receiver(&scratch);
    exporter.process.terminate();
    exporter.process.says("SIGTERM: stopping after a last export");
    let begin = Instant::now();
    exporter.process.terminate();
    let status = exporter.process.ended(SOON);
    // Long before the time limit of the last export.
    assert!(begin.elapsed() < SHUTDOWN_TIMEOUT / 2, "it took {:?}", begin.elapsed());
    assert_eq!(status.code(), Some(1));
    exporter.process.says("SIGTERM again: stopped at once");
}

pub(crate) fn unresponsive_receiver() {
    let scratch = Scratch::new();
    let (mut exporter, _connection) = start_with_unresponsive_receiver(&scratch);
    let begin = Instant::now();
    exporter.process.terminate();
    let status = exporter.process.ended(SOON);
    let took = begin.elapsed();
    assert!(status.success(), "{status}");
    assert!(
        (SHUTDOWN_TIMEOUT..SHUTDOWN_TIMEOUT * 3 / 2).contains(&took.max(SHUTDOWN_TIMEOUT)),
        "it took {took:?}"
    );
    exporter.process.says(" not delivered");
}

pub(crate) fn sighup() {
    let scratch = Scratch::new();
    let (mut exporter, _connection) = start_with_unresponsive_receiver(&scratch);
    for _ in 0..2 {
        exporter.process.signal("HUP");
    }
    exporter.process.says("INFO SIGHUP ignored: there is no configuration to reload");
    assert!(exporter.exposition().contains("bpf_exporter_"));
    exporter.process.assert_running();
}

/// Starts an exporter with a receiver that accepts its connection and never responds.
fn start_with_unresponsive_receiver(scratch: &Scratch) -> (Exporter, (TcpListener, TcpStream)) {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port");
    listener.set_nonblocking(true).expect("a listener can be asked");
    let receiver = listener.local_addr().expect("it is bound");
    let exporter = Exporter::start(&scratch.folder("exporter"), receiver, "1h", &[]);
    let (connection, _) =
        eventually("the exporter connects", SOON, || listener.accept().map_err(|error| error.to_string()));
    (exporter, (listener, connection))
}
