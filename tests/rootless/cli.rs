//! The command line: output and exit codes, with good and bad input.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node/snapshot.json");

/// The program with an empty environment.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.args(arguments).env_clear();
    command
}

fn output(arguments: &[&str]) -> Output {
    program(arguments).output().expect("it starts")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

#[test]
fn every_wrong_value_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = program(&[
        "--otlp-grpc",
        "ftp://x",
        "--interval",
        "0s",
        "--nonsense",
        "--web.listen-address",
        &address,
    ])
    .env("OTEL_EXPORTER_OTLP_HEADERS", "broken")
    .output()
    .expect("it starts");
    let lines = lines(&output);
    assert_eq!(output.status.code(), Some(2));
    for part in [
        "--nonsense",
        "unknown scheme \"ftp\"",
        "\"0s\" is too short",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "failed to listen on",
    ] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part} in {lines:#?}");
    }
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("bpf-metrics-exporter: ")));
    assert!(output.stdout.is_empty());
}

#[test]
fn an_unreadable_snapshot_is_an_error_with_its_position() {
    let missing = output(&["snapshot", "--from", "/nowhere/snapshot.json"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(lines(&missing)[0].contains("/nowhere/snapshot.json: No such file"), "{:?}", lines(&missing));

    let mut child = program(&["snapshot", "--from", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"{\"taken_at\": 3}").expect("it reads");
    let broken = child.wait_with_output().expect("it ends");
    assert_eq!(broken.status.code(), Some(2));
    assert!(lines(&broken)[0].contains("at line 1 column"), "{:?}", lines(&broken));
    assert_eq!(lines(&broken).len(), 1);
}

#[test]
fn snapshots_are_printed_in_every_format() {
    let golden = std::fs::read_to_string(GOLDEN).expect("the file is there");
    for (format, expected) in
        [("json", &*golden), ("prometheus", "# TYPE bpf_map_info gauge"), ("table", "Programs")]
    {
        let output = output(&["snapshot", "--from", GOLDEN, "--format", format]);
        assert_eq!(output.status.code(), Some(0), "{:?}", lines(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{format}");
    }
}

/// Returns the samples of a snapshot in Prometheus' format, and the lines on standard error.
fn samples(arguments: &[&str]) -> (Vec<String>, Vec<String>) {
    let all = [&["snapshot", "--from", GOLDEN, "--format", "prometheus"], arguments].concat();
    let output = output(&all);
    assert_eq!(output.status.code(), Some(0), "{:?}", lines(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect(), lines(&output))
}

#[test]
fn selections_apply_to_snapshots_from_a_file() {
    const OBJECTS: [&str; 6] =
        ["bpf_program_", "bpf_map_", "bpf_link_", "bpf_btf_", "bpf_pin_", "bpf_hook_info"];
    let of_objects = |line: &String| OBJECTS.iter().any(|prefix| line.starts_with(prefix));
    let left_out = |line: &String| line.starts_with("bpf_exporter_left_out_series");
    let (all, _) = samples(&[]);
    let (rest, said) = samples(&["--per-object", "off"]);
    assert!(all.iter().any(of_objects) && !rest.iter().any(of_objects));
    assert_eq!(rest, all.iter().filter(|line| !of_objects(line)).cloned().collect::<Vec<_>>());

    let issues = said.len();
    let max = rest.len() + 1 + (all.len() - rest.len()) / 2;
    let (some, said) = samples(&["--max-series", &max.to_string()]);
    assert!(some.iter().any(of_objects) && some.len() <= max, "{} of {max}", some.len());
    let missing = all.len() - some.iter().filter(|line| !left_out(line)).count();
    assert!(some.contains(&format!("bpf_exporter_left_out_series {missing}")), "{some:#?}");
    assert_eq!(said.len(), issues + 1);
    assert!(said[issues].contains(&format!("{missing} series of single objects are left out")), "{said:?}");

    let (maps, _) = samples(&["--only", "kind=map"]);
    // A map of struct operations is attached itself.
    let of_map = ["bpf_map_", "bpf_pin_info{kind=\"map\"", "bpf_hook_info{hook=\"struct_ops\""];
    let expected = |line: &&String| !of_objects(line) || of_map.iter().any(|prefix| line.starts_with(prefix));
    assert_eq!(maps, all.iter().filter(expected).cloned().collect::<Vec<_>>());
    assert!(maps.len() > rest.len() && maps.len() < all.len());
    let (others, _) = samples(&["--except", "kind=map"]);
    assert_eq!(others.len() + maps.len(), all.len() + rest.len());
}

#[test]
fn each_wrong_rule_is_one_line_and_exit_code_2() {
    let output = output(&["snapshot", "--only", "kind=maps", "--except", "nonsense", "--max-series", "none"]);
    assert_eq!(output.status.code(), Some(2));
    let lines = lines(&output);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, part) in
        lines.iter().zip(["--only: kind=maps", "--except: the term \"nonsense\"", "--max-series: \"none\""])
    {
        assert!(line.starts_with("bpf-metrics-exporter: ") && line.contains(part), "{line}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn a_closed_standard_output_is_no_failure() {
    let mut child = program(&["snapshot", "--from", GOLDEN])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // The other end of the pipe is closed.
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (flag, part) in [("--help", "--web.listen-address"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = output(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(part));
        assert!(output.stderr.is_empty());
    }
}
