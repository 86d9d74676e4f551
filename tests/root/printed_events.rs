//! The subcommand `events`: it ends in order, whatever ends it, and says how it sees events.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::model::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::suite::Test;
use test_support::pipe::full_pipe;
use test_support::running::Running;

/// From the start to the end of the first reading, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// How long the end may take: a second for a standard output that takes nothing, and a busy machine.
const END: Duration = Duration::from_secs(5);

pub(crate) const TESTS: &[Test] = &[
    Test::new("json_is_an_array_when_the_time_is_over", time),
    Test::new("json_is_an_array_after_a_signal", signals),
    Test::new("lines_of_json_have_no_frame", lines),
    Test::new("a_closed_pipe_ends_it_although_nothing_happens", closed),
    Test::new("an_output_that_takes_nothing_does_not_keep_it", full),
    Test::new("a_full_disk_is_a_failure", full_disk),
];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.arg("events").args(arguments).env_clear().stderr(Stdio::piped());
    command
}

/// Starts it, and waits until the first reading was taken.
fn started(mut command: Command) -> (Running, Option<ChildStdout>) {
    let mut child = command.spawn().expect("it starts");
    let stdout = child.stdout.take();
    let log = BufReader::new(child.stderr.take().expect("a pipe"));
    let running = Running(child);
    let began = Instant::now();
    let mut seen = Vec::new();
    for line in log.lines() {
        seen.push(line.expect("the log is text"));
        if seen.last().is_some_and(|line| line.contains("comparing readings every 1s")) {
            return (running, stdout);
        }
        assert!(began.elapsed() < START, "{seen:#?}");
    }
    panic!("it ended: {seen:#?}");
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().expect("a process id")), signal).expect("it runs");
}

fn ended(running: &mut Running) -> ExitStatus {
    let began = Instant::now();
    loop {
        match running.0.try_wait().expect("it is a child") {
            Some(status) => return status,
            None if began.elapsed() > END => panic!("it still runs after {END:?}"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn text(stdout: Option<ChildStdout>) -> String {
    let mut text = String::new();
    stdout.expect("a pipe").read_to_string(&mut text).expect("it is text");
    text
}

fn time() {
    let began = Instant::now();
    let output = command(&["--format=json", "--for=1500ms"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let array: Result<Vec<Event>, _> = serde_json::from_slice(&output.stdout);
    assert!(array.is_ok(), "{array:?}: {}", String::from_utf8_lossy(&output.stdout));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1500) && took < START, "{took:?}");
}

fn signals() {
    for ending in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = command(&["--format=json"]);
        command.stdout(Stdio::piped());
        let (mut running, stdout) = started(command);
        signal(&running.0, ending);
        assert_eq!(ended(&mut running).code(), Some(0), "{ending}");
        let text = text(stdout);
        let array: Result<Vec<Event>, _> = serde_json::from_str(&text);
        assert!(array.is_ok(), "{ending}: {array:?}: {text}");
    }
}

fn lines() {
    // No program has this name, so nothing matches.
    let arguments = ["--format=ndjson", "--only=name=nothing-has-this-name", "--for=1s"];
    let output = command(&arguments).output().expect("it starts");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    let output = command(&["--only=name=nothing-has-this-name", "--for=1s"]).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert!(text.starts_with("TIME ") && text.lines().count() == 1, "{text}");
}

fn closed() {
    let mut command = command(&["--format=ndjson", "--only=name=nothing-has-this-name"]);
    command.stdout(Stdio::piped());
    let (mut running, stdout) = started(command);
    drop(stdout);
    assert_eq!(ended(&mut running).code(), Some(0));
}

fn full() {
    let (_reader, writer) = full_pipe();
    let mut command = command(&["--format=json"]);
    command.stdout(writer);
    let (mut running, _) = started(command);
    assert_eq!(running.0.try_wait().expect("it is a child"), None, "it waits");
    signal(&running.0, Signal::SIGTERM);
    assert_eq!(ended(&mut running).code(), Some(0));
}

fn full_disk() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = command(&["--format=json"]).stdout(full).output().expect("it starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    let expected = io::Error::from_raw_os_error(nix::libc::ENOSPC).to_string();
    assert!(log.contains("failed to write to standard output") && log.contains(&expected), "{log}");
}
