//! The program as its user sees it: output, messages and exit codes, with good and bad input.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use test_support::golden::assert_golden;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node/snapshot.json");

/// The program, with nothing in its environment that would set it up.
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
fn all_wrong_values_are_one_line_each_and_the_code_is_2() {
    let output = program(&[
        "--otlp-grpc",
        "ftp://x",
        "--interval",
        "10",
        "--only",
        "type=lru_hsah",
        "--bpffs",
        "/nowhere",
    ])
    .env("BPF_METRICS_EXPORTER_MAX_SERIES", "many")
    .output()
    .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let expected = [
        "--otlp-grpc: unknown scheme \"ftp\"",
        "--interval: \"10\" has no unit: write 10s, or use another of ms, s, m, h",
        "--bpffs: /nowhere does not exist",
        "--only: there is no type \"lru_hsah\"; did you mean lru_hash?",
        "BPF_METRICS_EXPORTER_MAX_SERIES: \"many\" is not a number of series, 1 or more",
    ];
    let lines = lines(&output);
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("bpf-metrics-exporter: {expected}")), "{line}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn flags_that_do_not_apply_and_unknown_flags_are_refused() {
    for (arguments, line) in [
        (&["--otlp-grpc", "x", "snapshot"][..], "--otlp-grpc does not apply to the subcommand snapshot"),
        (
            &["--intervall", "3s"],
            "unexpected argument '--intervall' found; a similar argument exists: '--interval'",
        ),
    ] {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(lines(&output), [format!("bpf-metrics-exporter: {line}")]);
    }
}

#[test]
fn arguments_that_are_not_utf8_are_reported() {
    let output = program(&["snapshot"]).arg(OsStr::from_bytes(b"--only=\xff")).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(lines(&output), ["bpf-metrics-exporter: --only: the value is not UTF-8"]);
}

#[test]
fn an_address_in_use_is_a_failure_and_the_code_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = output(&["--otlp-grpc", "none", "--web.listen-address", &address]);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let start = format!("bpf-metrics-exporter: failed to listen on {address}: ");
    assert!(lines.len() == 1 && lines[0].starts_with(&start), "{lines:#?}");
    assert!(lines[0].contains("is another instance running?"), "{lines:#?}");
}

#[test]
fn an_unknown_variable_is_one_warning() {
    let output = program(&["snapshot", "--from", GOLDEN, "--no-per-object"])
        .env("BPF_METRICS_EXPORTER_LOG_LEVLE", "debug")
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    let lines = lines(&output);
    let warnings: Vec<_> =
        lines.iter().filter(|line| line.contains("unknown environment variable")).collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("did you mean BPF_METRICS_EXPORTER_LOG_LEVEL?"),
        "{lines:#?}"
    );
}

#[test]
fn an_unreadable_snapshot_file_is_reported_with_its_path_and_the_code_is_2() {
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
fn a_last_line_that_is_cut_off_is_left_out() {
    let golden = std::fs::read_to_string(GOLDEN).expect("the file is there");
    let line = serde_json::from_str::<serde_json::Value>(&golden).expect("it is JSON").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("host.ndjson");
    std::fs::write(&file, format!("{line}\n{line}\n{}", &line[..line.len() / 2])).expect("the folder is new");
    let path = file.to_str().expect("it is text");
    let output = output(&["snapshot", "programs", "--from", path]);
    let said = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{said:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("cil_from_container"));
    let warning = format!("the last line of {path} is cut off; left out");
    assert!(said.iter().any(|line| line.contains(&warning)), "{said:?}");
}

#[test]
fn names_of_a_file_do_not_control_the_terminal() {
    let golden = std::fs::read_to_string(GOLDEN).expect("the file is there");
    let name = "cil_from_container_to_the_world";
    let evil = golden.replace(&format!("\"{name}\""), r#""evil\u001b[2J\u202e""#);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("evil.json");
    std::fs::write(&file, evil).expect("the folder is new");
    let path = file.to_str().expect("it is text");
    for arguments in ["--format prometheus", "--format series", "programs --wide", "--baseline"] {
        let text = of_file_on_terminal(path, 80, arguments, "NO_COLOR=1");
        assert!(text.contains(r"evil\x1b[2J\u{202e}"), "{arguments}: {text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{arguments}: {text:?}");
    }
    let plain = output(&["snapshot", "--from", path, "--format", "prometheus"]);
    let text = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(text.contains("evil\u{1b}[2J\u{202e}"), "a file has the names as they are");
}

#[test]
fn a_snapshot_is_shown_in_every_format() {
    let golden = std::fs::read_to_string(GOLDEN).expect("the file is there");
    for (format, expected) in [
        ("json", &*golden),
        ("ndjson", "{\"schema_version\":1,\"taken_at\":"),
        ("prometheus", "# TYPE bpf_map_info gauge"),
        ("series", "\nMaps\nID  "),
        ("table", "Programs by run time"),
    ] {
        let output = output(&["snapshot", "--from", GOLDEN, "--format", format]);
        assert_eq!(output.status.code(), Some(0), "{:?}", lines(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{format}");
    }
}

/// Runs `snapshot` of the golden host, and returns what it prints.
fn printed(arguments: &[&str]) -> String {
    let output = output(&[&["snapshot", "--from", GOLDEN], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{:?}", lines(&output));
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn a_table_is_shown_in_every_format() {
    for (arguments, expected) in [
        (&["maps"][..], "\n         8  lpm_trie  policy "),
        (&["maps", "--format=json"], "{\"schema_version\":1,\"kind\":\"maps\",\"taken_at\":"),
        (&["maps", "--format=ndjson"], "{\"key\":\"map/5\",\"id\":5,\"type\":\"lru_hash\","),
        (&["maps", "--format=csv"], "key,id,type,name,"),
    ] {
        let text = printed(arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn rows_are_sorted_filtered_and_limited() {
    let ids = |arguments: &[&str]| {
        let text = printed(&[&["maps", "--format=ndjson"], arguments].concat());
        let id = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
            row["id"].as_u64().expect("a map has an id")
        };
        text.lines().map(id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), [5, 7, 8, 6, 4_294_967_295], "by memory");
    assert_eq!(ids(&["--sort=id:asc", "--limit=3"]), [5, 6, 7]);
    assert_eq!(ids(&["--sort=id"]), [4_294_967_295, 8, 7, 6, 5]);
    assert_eq!(ids(&["--filter=mem_bytes>2000000 owner_kind:pod"]), [5]);
    assert_eq!(ids(&["--filter=no-such-map"]), [0_u64; 0]);
    assert_eq!(ids(&["--only=name=policy"]), [8], "a selection holds as well");
    let headings =
        |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let none = headings(&printed(&["maps", "--filter=no-such-map"]));
    assert!(none.len() == 1 && none[0].starts_with("ID  Type  Name "), "{none:?}");
}

#[test]
fn a_table_that_is_not_known_is_a_failure() {
    let text = std::fs::read_to_string(GOLDEN).expect("it is there");
    let mut unknown: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    unknown["orphans"] = serde_json::Value::Null;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("snapshot.json");
    std::fs::write(&file, unknown.to_string()).expect("the folder is new");
    let file = file.to_str().expect("it is text");
    let output = output(&["snapshot", "orphans", "--from", file]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = lines(&output);
    assert!(said.last().is_some_and(|line| line.contains("orphans are not known; ")), "{said:?}");
}

#[test]
fn of_a_recording_the_last_reading_is_shown_with_rates_since_the_first() {
    let reading = |seconds: u64, runs: u64| {
        let text = std::fs::read_to_string(GOLDEN).expect("it is there");
        let mut reading: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let later = |value: &serde_json::Value| value.as_u64().expect("a time") + seconds * 1_000_000_000;
        reading["taken_at_boot_ns"] = later(&reading["taken_at_boot_ns"]).into();
        let covered = reading["run_stats"]["covered"]["secs"].as_u64().expect("a time") + seconds;
        reading["run_stats"]["covered"]["secs"] = covered.into();
        for program in reading["programs"].as_array_mut().expect("programs") {
            if let Some(before) = program["runs"].as_u64() {
                program["runs"] = (before + runs).into();
            }
        }
        reading.to_string()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording.ndjson");
    let lines = [reading(0, 0), reading(1, 7000), reading(4, 10_000)].join("\n");
    std::fs::write(&file, lines).expect("the folder is new");
    let file = file.to_str().expect("it is text");
    let output = output(&["snapshot", "programs", "--from", file, "--format=json", "--filter=17"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(document["period_seconds"], 4.0);
    assert_eq!(document["rows"][0]["runs_per_second"], 2500.0, "{document}");
}

#[test]
fn a_file_is_replaced_as_a_whole_and_readable_for_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bpf.prom");
    let path = file.to_str().expect("it is text");
    for before in [None, Some("old")] {
        if let Some(text) = before {
            std::fs::write(&file, text).expect("the folder is ours");
        }
        let command = format!(
            "umask 077; exec {} snapshot --from {GOLDEN} --format prometheus --output {path}",
            env!("CARGO_BIN_EXE_bpf-metrics-exporter")
        );
        let output = Command::new("sh").args(["-c", &command]).env_clear().output().expect("it starts");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{:?}", lines(&output));
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), printed(&["--format=prometheus"]));
        let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left");
    }
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bpf.prom");
    std::fs::write(&file, "old").expect("the folder is new");
    // No file may become larger than some kilobytes. The log is a pipe.
    let command = format!(
        "trap '' XFSZ; ulimit -f 4; exec {} snapshot --from {GOLDEN} --format prometheus --output {}",
        env!("CARGO_BIN_EXE_bpf-metrics-exporter"),
        file.display()
    );
    let output = Command::new("sh").args(["-c", &command]).env_clear().output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{:?}", lines(&output));
    let said = lines(&output);
    let expected = format!("failed to write {}: File too large", file.display());
    assert!(said.last().is_some_and(|line| line.contains(&expected)), "{said:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "old");
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left");
}

#[test]
fn only_a_regular_file_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("target"), "untouched").expect("the folder is new");
    std::os::unix::fs::symlink(at("target"), at("link")).expect("the folder is ours");
    std::fs::create_dir(at("folder")).expect("the folder is ours");
    for (path, problem) in [
        (at("link"), "it is a symbolic link; give the path that it leads to"),
        (at("folder"), "it is not a regular file"),
        ("/dev/null".into(), "it is not a regular file"),
        (at("missing").join("x"), "No such file or directory"),
        ("/".into(), "it is not a regular file"),
    ] {
        let path = path.to_str().expect("it is text");
        let output = output(&["snapshot", "--from", GOLDEN, "--output", path]);
        assert_eq!(output.status.code(), Some(1), "{path}: {:?}", lines(&output));
        let said = lines(&output);
        let expected = format!("failed to write {path}: {problem}");
        assert!(said.last().is_some_and(|line| line.contains(&expected)), "{path}: {said:?}");
    }
    assert_eq!(std::fs::read_to_string(at("target")).expect("it is there"), "untouched");
    assert!(std::fs::metadata("/dev/null").is_ok_and(|found| !found.is_file()));
}

/// What `snapshot` of the golden host prints on a terminal of this size, without its log.
fn on_terminal(columns: usize, arguments: &str, environment: &str) -> String {
    of_file_on_terminal(GOLDEN, columns, arguments, environment)
}

fn of_file_on_terminal(file: &str, columns: usize, arguments: &str, environment: &str) -> String {
    let program = env!("CARGO_BIN_EXE_bpf-metrics-exporter");
    let command = format!(
        "stty cols {columns} rows 40; {environment} exec {program} snapshot --from {file} {arguments} 2> /dev/null"
    );
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output();
    let output = output.expect("script is a part of every Debian");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text").replace("\r\n", "\n")
}

#[test]
fn on_a_terminal_tables_fit_it_and_elsewhere_they_are_whole() {
    for columns in [80, 120, 200] {
        for table in ["", "programs", "maps", "links", "owners", "hooks", "orphans", "btfs"] {
            let text = on_terminal(columns, table, "NO_COLOR=1");
            assert!(text.lines().count() > 3, "{text}");
            let width = |line: &str| unicode_width::UnicodeWidthStr::width(line);
            assert!(text.lines().all(|line| width(line) <= columns), "{columns}: {text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }
    let narrow = on_terminal(80, "programs", "NO_COLOR=1");
    assert!(narrow.contains(" more columns with --wide") && narrow.contains('…'), "{narrow}");
    let wide = on_terminal(80, "programs --wide", "NO_COLOR=1");
    assert!(!wide.contains('…') && wide.lines().any(|line| line.len() > 200), "{wide}");
    assert!(on_terminal(80, "programs", "NO_COLOR=").contains("\u{1b}[1m"));
    let piped = printed(&["programs"]);
    assert!(!piped.contains(['…', '\u{1b}']) && !piped.contains("--wide"), "{piped}");
    assert!(wide.starts_with(&*piped), "{wide}");
}

/// The lines of a reading in Prometheus' format that are samples.
fn samples(arguments: &[&str]) -> (Vec<String>, Vec<String>) {
    let all = [&["snapshot", "--from", GOLDEN, "--format", "prometheus"], arguments].concat();
    let output = output(&all);
    assert_eq!(output.status.code(), Some(0), "{:?}", lines(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect(), lines(&output))
}

#[test]
fn a_baseline_is_printed_from_a_file_and_excludes_a_format() {
    let golden = include_str!("../golden/node/baseline.txt");
    let printed = output(&["snapshot", "--baseline", "--from", GOLDEN, "--max-series", "1", "--no-holders"]);
    assert!(printed.status.success(), "{:?}", lines(&printed));
    assert_eq!(String::from_utf8_lossy(&printed.stdout), golden);
    let warnings = lines(&printed);
    for flag in ["--max-series has", "--no-holders has"] {
        let warning = format!("{flag} no effect with --baseline");
        assert!(warnings.iter().any(|line| line.contains(&warning)), "{warning}: {warnings:?}");
    }
    let some = output(&["snapshot", "--baseline", "--from", GOLDEN, "--only", "type=tracing"]);
    assert_eq!(String::from_utf8_lossy(&some.stdout).lines().count(), 3, "the type is selected");

    for (arguments, problem) in [
        (
            &["snapshot", "--baseline", "--format", "json"][..],
            "'--baseline' cannot be used with '--format <FORMAT>'",
        ),
        (&["snapshot", "--baseline=x"], "unexpected value 'x' for '--baseline'"),
        (&["--baseline", "x", "snapshot"], "--baseline does not apply to the subcommand snapshot"),
        (&["doctor", "--baseline"], "unexpected argument '--baseline'"),
    ] {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let lines = lines(&output);
        assert!(lines.len() == 1 && lines[0].contains(problem), "{arguments:?}: {lines:?}");
    }
    // The variable is that of the exporter's flag.
    let with_variable =
        program(&["snapshot", "--from", GOLDEN]).env("BPF_METRICS_EXPORTER_BASELINE", "/x").output();
    assert!(with_variable.expect("it starts").status.success());
}

#[test]
fn there_is_no_baseline_unless_every_program_was_read() {
    let refused = std::fs::read_to_string(GOLDEN).expect("it is there");
    let mut refused: serde_json::Value = serde_json::from_str(&refused).expect("it is JSON");
    refused["programs"] = serde_json::Value::Null;
    let mut child = program(&["snapshot", "--baseline", "--from", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stdin = child.stdin.take().expect("a pipe");
    serde_json::to_writer(stdin, &refused).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(lines(&output).last().is_some_and(|line| line.contains("not every program could be read")));
}

#[test]
fn a_wrong_baseline_is_one_line_and_the_code_is_2() {
    let missing = output(&["--otlp-grpc", "none", "--baseline", "/nowhere/baseline.txt"]);
    assert_eq!(missing.status.code(), Some(2));
    let [line] = &lines(&missing)[..] else { panic!("{:?}", lines(&missing)) };
    assert!(line.contains("--baseline: /nowhere/baseline.txt: No such file or directory"), "{line}");
}

#[test]
fn a_selection_holds_for_a_snapshot_from_a_file() {
    const OBJECTS: [&str; 7] =
        ["bpf_program_", "bpf_map_", "bpf_link_", "bpf_btf_", "bpf_pin_", "bpf_hook_", "bpf_object_"];
    const AGGREGATES: [&str; 6] = [
        "bpf_hook_programs",
        "bpf_hook_detached_programs",
        "bpf_program_loads",
        "bpf_program_unloads",
        "bpf_program_lifetime",
        "bpf_program_unexpected",
    ];
    let of_objects = |line: &String| {
        let is_aggregate = AGGREGATES.iter().any(|prefix| line.starts_with(prefix));
        !is_aggregate && OBJECTS.iter().any(|prefix| line.starts_with(prefix))
    };
    let dropped = |line: &String| line.starts_with("bpf_exporter_dropped_series");
    let (all, _) = samples(&[]);
    let (rest, said) = samples(&["--no-per-object"]);
    assert!(all.iter().any(of_objects) && !rest.iter().any(of_objects));
    assert_eq!(rest, all.iter().filter(|line| !of_objects(line)).cloned().collect::<Vec<_>>());

    let issues = said.len();
    let max = rest.len() + 1 + (all.len() - rest.len()) / 2;
    let (some, said) = samples(&["--max-series", &max.to_string()]);
    assert!(some.iter().any(of_objects) && some.len() <= max, "{} of {max}", some.len());
    let missing = all.len() - some.iter().filter(|line| !dropped(line)).count();
    assert!(
        some.contains(&format!("bpf_exporter_dropped_series{{reason=\"max_series\"}} {missing}")),
        "{some:#?}"
    );
    assert_eq!(said.len(), issues + 1);
    assert!(said[issues].contains(&format!("dropped {missing} per-object series")), "{said:?}");

    let (maps, _) = samples(&["--only", "kind=map"]);
    // A map of struct operations is at its hook itself.
    let of_map = [
        "bpf_map_",
        "bpf_object_orphan_time_seconds{kind=\"map\"",
        "bpf_pin_info{kind=\"map\"",
        "bpf_hook_info{hook=\"struct_ops\"",
    ];
    let expected = |line: &&String| !of_objects(line) || of_map.iter().any(|prefix| line.starts_with(prefix));
    assert_eq!(maps, all.iter().filter(expected).cloned().collect::<Vec<_>>());
    assert!(maps.len() > rest.len() && maps.len() < all.len());
    let (others, _) = samples(&["--except", "kind=map"]);
    assert_eq!(others.len() + maps.len(), all.len() + rest.len());
}

#[test]
fn bad_rules_are_a_line_each_and_the_code_is_2() {
    let output = output(&["snapshot", "--only", "kind=maps", "--except", "nonsense", "--max-series", "none"]);
    assert_eq!(output.status.code(), Some(2));
    let lines = lines(&output);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, part) in lines.iter().zip([
        "--only: there is no kind \"maps\"",
        "--except: the term \"nonsense\"",
        "--max-series: \"none\"",
    ]) {
        assert!(line.starts_with("bpf-metrics-exporter: ") && line.contains(part), "{line}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_flags_of_events_are_a_line_each_and_the_code_is_2() {
    for (arguments, line) in [
        (&["--for", "0s"][..], "--for: \"0s\" is no time at all"),
        (&["--for", "10"], "--for: \"10\" has no unit: write 10s, or use another of ms, s, m, h"),
        (&["--for", "-1s"], "--for: \"-1s\" is negative"),
        (&["--for="], "--for: "),
        (
            &["--kind", "bpf.prog.load"],
            "--kind: \"bpf.prog.load\" matches no event; did you mean bpf.program.load?",
        ),
        (
            &["--kind", "x"],
            "--kind: \"x\" matches no event; there are bpf.program.load, bpf.program.unload, ",
        ),
        (&["--only", "type=lru_hsah"], "--only: there is no type \"lru_hsah\"; did you mean lru_hash?"),
        (&["--format", "xml"], "--format: "),
        (&["--interval", "1s"], "unexpected argument '--interval'"),
    ] {
        let output = output(&[&["events"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let lines = lines(&output);
        let start = format!("bpf-metrics-exporter: {line}");
        assert!(lines.len() == 1 && lines[0].starts_with(&start), "{arguments:?}: {lines:#?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_closed_pipe_on_standard_output_is_no_failure() {
    let mut child = program(&["snapshot", "--from", GOLDEN])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // As `head` does.
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_full_standard_output_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = program(&["snapshot", "--from", GOLDEN]).stdout(full).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(lines(&output).concat().contains("failed to write to standard output"), "{:?}", lines(&output));
}

#[test]
fn a_closed_standard_error_is_no_failure() {
    let mut child = program(&["snapshot", "--from", GOLDEN, "--max-series", "40"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let mut child = program(&["--interval", "10"]).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(2));
}

#[test]
fn texts_go_to_standard_output() {
    for (arguments, part) in [
        (&["--help"][..], "--web.listen-address"),
        (&["-V"], env!("CARGO_PKG_VERSION")),
        (&["--version"], "target: "),
        (&["completions", "bash"], "complete -F"),
        (&["man"], ".TH bpf-metrics-exporter 1"),
        (&["man", "snapshot"], ".TH bpf-metrics-exporter-snapshot 1"),
        (&["man", "events"], ".TH bpf-metrics-exporter-events 1"),
        (&["man", "top"], ".TH bpf-metrics-exporter-top 1"),
        (&["man", "healthy"], ".TH bpf-metrics-exporter-healthy 1"),
    ] {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(part), "{arguments:?}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn top_without_a_terminal_is_refused_in_one_line() {
    for (arguments, line) in [
        (&[][..], "top needs a terminal for input and output"),
        (&["--from", "/nowhere"], "top needs a terminal for input and output"),
        (&["--every", "1ms"], "--every: "),
        (&["--url", "ftp://host"], "--url: unknown scheme \"ftp\""),
        (&["--url", "http://u:secret@host:x"], "--url: malformed endpoint \"http://host:x\""),
        (&["--max-series", "1"], "unexpected argument '--max-series'"),
    ] {
        let output = output(&[&["top"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let lines = lines(&output);
        let start = format!("bpf-metrics-exporter: {line}");
        assert!(lines.len() == 1 && lines[0].starts_with(&start), "{arguments:?}: {lines:#?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

fn help(arguments: &[&str], columns: usize) -> String {
    let mut program = program(arguments);
    let output =
        program.env("COLUMNS", columns.to_string()).stdin(Stdio::null()).output().expect("it starts");
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn help_is_as_in_the_golden_files_and_fits_the_terminal() {
    for columns in [80, 120, 200] {
        for (arguments, name) in [
            (&["-h"][..], "short"),
            (&["--help"], "long"),
            (&["snapshot", "-h"], "snapshot-short"),
            (&["snapshot", "--help"], "snapshot-long"),
            (&["events", "-h"], "events-short"),
            (&["events", "--help"], "events-long"),
            (&["top", "-h"], "top-short"),
            (&["top", "--help"], "top-long"),
            (&["healthy", "-h"], "healthy-short"),
            (&["healthy", "--help"], "healthy-long"),
        ] {
            let text = help(arguments, columns);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{name} at {columns}: {text}");
            assert_golden(&format!("tests/golden/help/{name}-{columns}.txt"), &text);
        }
    }
}

#[test]
fn short_help_has_one_line_of_text_for_each_flag() {
    for columns in [80, 120, 200] {
        let text = help(&["-h"], columns);
        let sections = text.split("\n\n").filter(|section| section.contains("      --"));
        for section in sections {
            let flags = section.lines().filter(|line| line.trim_start().starts_with('-')).count();
            let texts = section.lines().skip(1).filter(|line| {
                line.trim_start().split_once("  ").is_some() || !line.trim_start().starts_with('-')
            });
            assert_eq!(texts.count(), flags, "{columns}: {section}");
        }
    }
}
