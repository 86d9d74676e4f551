//! The subcommand `snapshot` on real objects: its tables and rates, recordings, and files that others read meanwhile.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::metrics::columns::{Filter, Table, TableKind};
use bpf_metrics_exporter::model::Snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::suite::{Requirement, Test};
use test_support::objects::{Filled, Map, Program, uapi, wait_until};
use test_support::run_stats::holders;
use test_support::running::Running;
use test_support::{bpftool, readers};

const BPFTOOL: &[Requirement] = &[bpftool::missing];
const ITERATORS: &[Requirement] = &[readers::iterators_missing];

/// From the start to the end of the first reading, and for the end, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

pub(crate) const TESTS: &[Test] = &[
    Test::new("programs_have_the_numbers_of_bpftool", programs).requires(BPFTOOL),
    Test::new("maps_have_the_numbers_of_bpftool", maps).requires(BPFTOOL),
    Test::new("a_program_that_runs_has_its_rate", rates),
    Test::new("run_stats_are_on_for_the_period_only", run_stats),
    Test::new("the_exporters_own_are_marked_or_left_out", own).requires(ITERATORS),
    Test::new("a_recording_is_read_back_with_its_rates", recording),
    Test::new("a_recording_ends_with_a_whole_line", endings),
    Test::new("a_closed_pipe_ends_a_recording", closed),
    Test::new("a_recording_grows_in_its_file", growing),
    Test::new("a_reader_never_sees_a_part_of_a_file", atomic),
];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.arg("snapshot").args(arguments).env_clear();
    command
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What it prints, as JSON.
fn document(arguments: &[&str]) -> Value {
    let output = command(arguments).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", log(&output));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// The only row of a table that a filter selects.
fn row(table: &str, filter: &str, more: &[&str]) -> Value {
    let filter = format!("--filter={filter}");
    let document = document(&[&[table, "--format=json", &filter], more].concat());
    let rows = document["rows"].as_array().expect("it has rows");
    assert_eq!(rows.len(), 1, "{filter}: {document}");
    rows[0].clone()
}

/// Waits until a child has ended.
fn ended(running: &mut Running) -> ExitStatus {
    let began = Instant::now();
    loop {
        match running.0.try_wait().expect("it is a child") {
            Some(status) => return status,
            None if began.elapsed() > SOON => panic!("it still runs after {SOON:?}"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().expect("a process id")), signal).expect("it runs");
}

/// Reads the log until a line has these words, and returns the rest of it.
fn wait_for(stderr: Option<ChildStderr>, words: &str) -> BufReader<ChildStderr> {
    let mut log = BufReader::new(stderr.expect("a pipe"));
    let mut seen = String::new();
    while !seen.contains(words) {
        let length = log.read_line(&mut seen).expect("the log is text");
        assert!(length > 0, "it ended: {seen}");
    }
    log
}

fn named(name: &str) -> Program {
    Program::ready(uapi::program_type::SOCKET_FILTER, name).expect("a socket filter can be loaded")
}

/// A program that runs all the time, and how often it has run.
struct Busy {
    program: Arc<Program>,
    runs: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn start(name: &str) -> Self {
        const AT_ONCE: u32 = 50;
        let program = Arc::new(named(name));
        let (runs, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (program, runs, stop) = (Arc::clone(&program), Arc::clone(&runs), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    program.run(64, AT_ONCE).expect("a socket filter can be run");
                    runs.fetch_add(AT_ONCE.into(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { program, runs, stop, thread: Some(thread) }
    }

    fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it is joined once").join();
        assert!(ended.is_ok() || thread::panicking(), "the thread of the program has failed");
    }
}

fn programs() {
    let map = Map::ready(uapi::map_type::HASH, "snap_used").expect("a hash map can be made");
    let program = Program::using("snap_program", &[&map]).expect("a socket filter can be loaded");
    let id = program.id().to_string();
    let expected = bpftool::query(&["prog", "show", "id", &id]);
    let row = row("programs", &format!("name:snap_program id:{id}"), &[]);
    assert_eq!(row["key"], format!("program/{id}"));
    for (ours, theirs) in [
        ("id", "id"),
        ("type", "type"),
        ("name", "name"),
        ("tag", "tag"),
        ("uid", "uid"),
        ("gpl_compatible", "gpl_compatible"),
        ("mem_bytes", "bytes_memlock"),
        ("size_translated_bytes", "bytes_xlated"),
        ("size_jitted_bytes", "bytes_jited"),
        ("map_ids", "map_ids"),
    ] {
        assert_eq!(row[ours], expected[theirs], "{ours}: {row} {expected}");
    }
    assert_eq!(row["exporter_own"], Value::Null);
}

fn maps() {
    let map = Map::ready(uapi::map_type::HASH, "snap_filled").expect("a hash map can be made");
    let mut filled = Filled::empty(map).expect("a hash map needs nothing else");
    filled.add(0..7).expect("it has room");
    let id = filled.map().id().to_string();
    let expected = bpftool::query(&["map", "show", "id", &id]);
    let row = row("maps", &format!("name:snap_filled id:{id}"), &["--count-by-walking=100000"]);
    for (ours, theirs) in [
        ("id", "id"),
        ("type", "type"),
        ("name", "name"),
        ("mem_bytes", "bytes_memlock"),
        ("max_entries", "max_entries"),
        ("key_size_bytes", "bytes_key"),
        ("value_size_bytes", "bytes_value"),
    ] {
        assert_eq!(row[ours], expected[theirs], "{ours}: {row} {expected}");
    }
    let dumped = bpftool::query(&["map", "dump", "id", &id]);
    let entries = dumped.as_array().expect("bpftool lists the entries").len();
    assert_eq!((row["entries"].as_u64(), entries), (Some(7), 7));
}

fn rates() {
    let busy = Busy::start("snap_busy");
    let (before, began) = (busy.runs(), Instant::now());
    let filter = format!("--filter=id:{}", busy.program.id());
    let arguments = ["programs", "--for=1s", "--format=json", &filter];
    let output = command(&arguments).output().expect("it starts");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let expected = (busy.runs() - before) as f64 / began.elapsed().as_secs_f64();
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert!(log(&output).contains("run statistics are on for 1s"), "{}", log(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let row = &document["rows"][0];
    let found = row["runs_per_second"].as_f64().unwrap_or_else(|| panic!("it has a rate: {document}"));
    assert!((0.5..2.0).contains(&(found / expected)), "{found} is not {expected} runs per second");
    assert!(
        row["cpu_ratio"].as_f64() > Some(0.0) && row["mean_run_time_seconds"].as_f64() > Some(0.0),
        "{row}"
    );
    let period = document["period_seconds"].as_f64().expect("it has a period");
    assert!((1.0..SOON.as_secs_f64()).contains(&period), "{period}");

    let output = command(&["programs", "--format=json", &filter]).output().expect("it starts");
    let document: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!(
        (&document["period_seconds"], &document["rows"][0]["runs_per_second"]),
        (&Value::Null, &Value::Null)
    );
    assert!(!log(&output).contains("run statistics"), "{}", log(&output));
}

fn run_stats() {
    for ending in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut command = command(&["programs", "--for=10m"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut running = Running(child);
        let pid = running.0.id();
        let _log = wait_for(running.0.stderr.take(), "run statistics are on for 600s");
        assert!(holders().contains(&pid));
        signal(&running.0, ending);
        assert!(!ended(&mut running).success());
        assert!(!holders().contains(&pid), "{ending}");
    }
    let mut off = command(&["programs", "--for=1s", "--run-stats=off"]);
    let output = off.output().expect("it starts");
    assert!(output.status.success() && !log(&output).contains("run statistics"), "{}", log(&output));
}

fn own() {
    let others = named("snap_other");
    let program = |row: &Value| (row["id"].as_u64(), row["name"].as_str().unwrap_or_default().to_owned());
    let document = document(&["programs", "--format=json", "--kernel-reader=auto"]);
    let rows = document["rows"].as_array().expect("it has rows");
    let (own, rest): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["exporter_own"] == true);
    assert!(!own.is_empty(), "it reads by iterators: {document}");
    assert!(own.iter().all(|row| program(row).1.starts_with("bpf_metrics")), "{own:?}");
    assert!(rest.iter().any(|row| row["id"] == others.id()), "{rest:?}");

    let text = |arguments: &[&str]| {
        let output = command(arguments).output().expect("it starts");
        assert!(output.status.success(), "{}", log(&output));
        String::from_utf8(output.stdout).expect("it is text")
    };
    let table = text(&["programs"]);
    let marked = table.lines().filter(|line| line.starts_with("*  ")).count();
    assert_eq!(marked, own.len(), "{table}");
    let without = text(&["programs", "--no-own"]);
    assert!(
        without.contains("snap_other") && !without.lines().any(|line| line.starts_with('*')),
        "{without}"
    );
    let csv = text(&["programs", "--format=csv", "--no-own"]);
    assert!(csv.contains("snap_other") && !csv.lines().any(|line| line.ends_with(",true")), "{csv}");
}

/// The readings of a recording.
fn read_back(text: &str) -> Vec<Snapshot> {
    let parse = |line: &str| json::parse(line).unwrap_or_else(|error| panic!("{error}: {line:.200}"));
    text.lines().map(|line| Snapshot::clone(&parse(line).snapshot)).collect()
}

fn recording() {
    let busy = Busy::start("snap_recorded");
    let output = command(&["--every=300ms", "--count=4", "--format=json"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    assert!(log(&output).contains("run statistics are on until the recording ends"), "{}", log(&output));
    let readings = read_back(&String::from_utf8(output.stdout).expect("it is text"));
    assert_eq!(readings.len(), 4);
    for pair in readings.windows(2) {
        let between = pair[1].taken_at.since(pair[0].taken_at);
        assert!(between >= Duration::from_millis(250), "{between:?}");
        assert!(pair[1].run_stats.covered > pair[0].run_stats.covered);
        let table = Table::new(TableKind::Programs, &pair[1], Some(&pair[0])).expect("they were read");
        let column = table.column("runs_per_second").expect("it is one");
        let filter = Filter::parse(&format!("id:{}", busy.program.id()));
        let [row] = table.select(&filter, table.default_sort())[..] else { panic!("one program has the id") };
        assert!(table.cell(row, column).number() > Some(100.0), "{:?}", table.cell(row, column));
    }
}

fn endings() {
    for ending in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = command(&["--every=50ms", "--format=ndjson"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut running = Running(child);
        let pid = running.0.id();
        let mut stdout = running.0.stdout.take().expect("a pipe");
        let _log = wait_for(running.0.stderr.take(), "run statistics are on until the recording ends");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        thread::sleep(Duration::from_millis(400));
        signal(&running.0, ending);
        assert_eq!(ended(&mut running).code(), Some(0), "{ending}");
        let text = reader.join().expect("it does not panic").expect("it is text");
        assert!(text.ends_with('\n') && !read_back(&text).is_empty(), "{ending}");
        assert!(!holders().contains(&pid), "{ending}");
    }
}

fn closed() {
    let mut command = command(&["--every=10m", "--format=json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut running = Running(child);
    let mut first = String::new();
    let mut stdout = BufReader::new(running.0.stdout.take().expect("a pipe"));
    stdout.read_line(&mut first).expect("it is text");
    assert_eq!(read_back(&first).len(), 1);
    // As `head -1` does, long before the next reading.
    drop(stdout);
    assert_eq!(ended(&mut running).code(), Some(0));
}

fn growing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording.ndjson");
    fs::write(&file, "an earlier recording\n").expect("the folder is new");
    let path = file.to_str().expect("it is text");
    let mut command = command(&["--every=50ms", "--format=json", "--output", path]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut running = Running(child);
    let lines = || -> io::Result<usize> {
        let text = fs::read_to_string(&file)?;
        Ok(if text.starts_with('{') { text.lines().count() } else { 0 })
    };
    for least in [1, 3] {
        wait_until("the recording grows", SOON, || Ok(lines()? >= least)).expect("it records");
    }
    signal(&running.0, Signal::SIGINT);
    assert_eq!(ended(&mut running).code(), Some(0));
    let text = fs::read_to_string(&file).expect("it is there");
    assert!(text.ends_with('\n') && read_back(&text).len() >= 3);
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing else is left");
}

fn atomic() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("snapshot.json");
    let write = |file: &Path| {
        let path = file.to_str().expect("it is text");
        let output = command(&["--format=json", "--output", path]).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{}", log(&output));
    };
    write(&file);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = thread::spawn({
        let (stop, file) = (Arc::clone(&stop), file.clone());
        move || {
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&file).expect("it is there at any time");
                let read = json::parse(&text).expect("it is whole at any time");
                seen.insert(read.snapshot.taken_at);
            }
            seen.len()
        }
    });
    for _ in 0..8 {
        write(&file);
    }
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().expect("each text is whole");
    assert!(seen > 1, "the reader saw {seen} of nine");
}
