//! The log of a running exporter where nothing takes it: pushes, scrapes and the end of the program must not notice.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;

use crate::suite::Test;
use test_support::http::{free_address, get};
use test_support::pipe::full_pipe;
use test_support::receiver;
use test_support::running::Running;

const DEADLINE: Duration = Duration::from_secs(30);

/// How long a push may take: three intervals, on a busy machine.
const MAX_DELAY: Duration = Duration::from_secs(3);

/// How long the end may take: the last export has five seconds, its tasks half a second.
const MAX_END: Duration = Duration::from_secs(8);

pub(crate) const TESTS: &[Test] = &[
    Test::new("a_log_that_nobody_reads_delays_nothing", not_read),
    Test::new("a_log_on_a_full_disk_delays_nothing_and_is_counted", full_disk),
];

/// The lines that are lost by its own count.
fn lost_lines(web: SocketAddr) -> f64 {
    let text = get(web, "/metrics").expect("it serves");
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("bpf_exporter_log_dropped_lines_total "));
    line.and_then(|count| count.parse().ok()).expect("it counts them")
}

/// Runs the exporter with this standard error, and returns how many lines it counted as lost after three pushes.
fn run(stderr: Stdio) -> f64 {
    let runtime = Runtime::new().expect("a runtime");
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut receiver = runtime.block_on(receiver::start(any_port, receiver::ok));
    let web = free_address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.args(["--interval=1s", "--log.level=debug", &format!("--web.listen-address={web}")]);
    command.arg(format!("--otlp-grpc={}", receiver.address)).env_clear().stderr(stderr);
    let mut exporter = Running(command.spawn().expect("it starts"));
    for push in 0..3 {
        let asked = Instant::now();
        let next = async { tokio::time::timeout(DEADLINE, receiver.requests.recv()).await };
        runtime.block_on(next).expect("it pushes in time").expect("the receiver runs");
        // The first one includes the start.
        assert!(push == 0 || asked.elapsed() < MAX_DELAY, "push {push} came after {:?}", asked.elapsed());
    }
    let lost = lost_lines(web);
    let pid = Pid::from_raw(exporter.0.id().try_into().expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    let start = Instant::now();
    let status = loop {
        match exporter.0.try_wait().expect("it is a child") {
            Some(status) => break status,
            None if start.elapsed() > MAX_END => panic!("it still runs after {MAX_END:?}"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(status.success(), "{status}");
    lost
}

fn not_read() {
    let (_reader, writer) = full_pipe();
    assert!(run(writer.into()) < 1.0, "they wait");
}

fn full_disk() {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    assert!(run(full.into()) >= 3.0, "every line is lost");
}
