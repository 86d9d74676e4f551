//! The log as its reader has it, and as nobody reads it: formats, secrets, a standard error that is full or stuck.

use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use test_support::pipe::full_pipe;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node/snapshot.json");

/// Far more than the end of the program waits for standard error.
const SOON: Duration = Duration::from_secs(30);

/// The program, with nothing in its environment that would set it up.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is a child") {
            return status;
        }
        if start.elapsed() > SOON {
            child.kill().expect("it runs");
            panic!("it still runs after {SOON:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Something that ends with this code: on a full disk, and with a pipe that nobody reads.
fn assert_ends_without_standard_error(arguments: &[&str], code: i32) {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let status = wait(&mut program(arguments).stderr(full).spawn().expect("it starts"));
    assert_eq!(status.code(), Some(code), "{arguments:?} on a full disk");

    let (_reader, writer) = full_pipe();
    let status = wait(&mut program(arguments).stderr(writer).spawn().expect("it starts"));
    assert_eq!(status.code(), Some(code), "{arguments:?} on a pipe that nobody reads");
}

#[test]
fn a_full_or_stuck_standard_error_changes_no_exit_code() {
    assert_ends_without_standard_error(&["--no-such-flag"], 2);
    assert_ends_without_standard_error(&["snapshot", "--from", "/nowhere"], 2);
    assert_ends_without_standard_error(&["--otlp-grpc=none", "--web.listen-address=192.0.2.1:1"], 1);
    // With warnings in the log.
    assert_ends_without_standard_error(&["snapshot", "--from", GOLDEN, "--max-series", "40"], 0);
}

/// The lines of a snapshot with warnings.
fn logged(format: &str) -> Vec<String> {
    let arguments = ["snapshot", "--from", GOLDEN, "--max-series", "40", "--log.format", format];
    let output = program(&arguments).stderr(Stdio::piped()).output().expect("it starts");
    assert!(output.status.success());
    String::from_utf8(output.stderr).expect("it is text").lines().map(str::to_owned).collect()
}

#[test]
fn each_format_has_every_line() {
    let [text, logfmt, json] = ["text", "logfmt", "json"].map(logged);
    assert!(text.len() > 1, "{text:#?}");
    assert_eq!((text.len(), text.len()), (logfmt.len(), json.len()));
    for ((text, logfmt), json) in text.iter().zip(&logfmt).zip(&json) {
        let (_, message) = text.split_once(" WARN ").expect("it is a warning");
        assert!(logfmt.starts_with("time=20") && logfmt.contains(" level=warn msg=\""), "{logfmt}");
        let json: serde_json::Value = serde_json::from_str(json).expect("it is JSON");
        assert_eq!((json["level"].as_str(), json["message"].as_str()), (Some("WARN"), Some(message)));
        assert!(logfmt.contains(&message.replace('"', "\\\"")), "{logfmt}");
    }
}

/// The output of a program that ends by itself, or is killed once it has written a line.
fn said(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = program(arguments);
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().expect("it starts");
    let bytes = [output.stdout, output.stderr].concat();
    String::from_utf8(bytes).expect("it is text")
}

#[test]
fn no_secret_is_in_help_or_in_a_message() {
    const SECRET: &str = "hunter2";
    let headers =
        format!("authorization=Bearer%20{SECRET},{SECRET},x-{SECRET}%ff=1,te={SECRET},a={SECRET}%0a");
    let proxy = format!("socks5://user:{SECRET}@proxy:1");
    let endpoint = format!("http://user:{SECRET}@collector/?token={SECRET}");
    let with_query = format!("ftp://collector/?token={SECRET}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_HEADERS", &*headers),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", &*headers),
        ("HTTPS_PROXY", &*proxy),
        ("HTTP_PROXY", &*proxy),
        ("ALL_PROXY", &*proxy),
    ];
    // An address that this host does not have: the program ends before it exports.
    let nowhere = "--web.listen-address=192.0.2.1:1";
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["man"],
        &["--log.level=debug", nowhere],
        &["--otlp-grpc=http://collector:4317", nowhere],
        &["--otlp-grpc=https://collector:4317", nowhere],
        &["--otlp-http", &endpoint, nowhere],
        &["--otlp-grpc", &with_query, nowhere],
        &["--no-such-flag"],
        &["snapshot", "--from", "/nowhere", "--log.level=debug"],
    ] {
        for endpoint in [&*endpoint, &*with_query, "https://collector", ""] {
            let variables = [&variables[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]].concat();
            let said = said(arguments, &variables);
            assert!(!said.is_empty());
            assert!(!said.contains(SECRET), "{arguments:?} {endpoint}: {said}");
        }
    }
}

#[test]
fn nothing_is_lost_at_the_end_if_standard_error_is_read_late() {
    let mut child = program(&["snapshot", "--from", GOLDEN, "--max-series", "40"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    assert!(wait(&mut child).success());
    let mut text = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("it is text");
    assert_eq!(text.lines().count(), logged("text").len());
}
