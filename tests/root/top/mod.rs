//! The subcommand `top` in a real terminal: what it shows of the running kernel, keys, sizes, and that the terminal and the kernel are as
//! before when it ends, whatever ends it. Beside bpftop it reports the same of the same program.

mod terminal;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{BootTime, Snapshot};
use bpf_metrics_exporter::tui::terminal::{Terminal, restore_on_panic};
use nix::sys::signal::Signal;
use test_support::golden;
use test_support::http::free_address;
use test_support::objects::{Instruction, Program, ProgramSpec, uapi};
use test_support::receivers;
use test_support::run_stats::holders;

use self::terminal::Pty;
use crate::suite::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("it_shows_a_program_its_rate_and_its_event", shows),
    Test::new("it_follows_the_size_of_the_terminal", resize),
    Test::new("the_terminal_is_restored_after_q_and_signals", endings),
    Test::new("the_terminal_is_restored_after_a_panic", panics),
    Test::new("run_statistics_are_on_only_while_it_runs", statistics),
    Test::new("a_recording_is_replayed", recording),
    Test::new("another_exporter_is_read", exporter),
    Test::new("it_agrees_with_bpftop", bpftop).requires(&[bpftop_missing]),
];

const EXPORTER: &str = env!("CARGO_BIN_EXE_bpf-metrics-exporter");

/// The part that a helper process plays.
const HELPER: &str = "TEST_OF_TOP";

/// The size of most tests.
const SIZE: (u16, u16) = (160, 40);

fn top(arguments: &[&str]) -> Pty {
    Pty::start(EXPORTER, &[&["top"], arguments].concat(), SIZE)
}

/// A program whose run takes about a microsecond: long compared with what is rounded.
fn slow_program(name: &str) -> Program {
    let additions = std::iter::repeat_n(Instruction::add(0, 1), 3000);
    let body = std::iter::once(Instruction::mov(0, 0)).chain(additions).chain([Instruction::exit()]);
    let spec = ProgramSpec {
        name,
        instructions: body.collect(),
        ..ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0)
    };
    Program::load(&spec).expect("a socket filter can be loaded")
}

/// Sets a flag when it is dropped: also if a test fails.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a program at a steady rate while something else is done.
fn while_running<T>(program: &Program, runs_per_second: u32, work: impl FnOnce() -> T) -> T {
    const TICKS: u32 = 50;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            for tick in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                program.run(64, runs_per_second / TICKS).expect("a socket filter can be run");
                // From the beginning, so that a late tick makes no later one late.
                let due = began + Duration::from_secs(1) * tick / TICKS;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let _stop = SetWhenDropped(&stop);
        work()
    })
}

/// Returns the line of a screen that is about an object.
fn line_of(text: &str, id: u32) -> Option<&str> {
    let id = id.to_string();
    text.lines().find(|line| line.trim_start_matches(['│', '*', ' ']).split_whitespace().next() == Some(&id))
}

/// Returns what is below a right-aligned heading in a line of `top`.
fn below(text: &str, heading: &str, line: &str) -> Option<String> {
    let headings = text.lines().find(|line| line.contains("  Type  ") || line.contains(" Type "))?;
    let headings: Vec<char> = headings.chars().collect();
    let sought: Vec<char> = heading.chars().collect();
    // Not the beginning of another one.
    let is_there = |start: &usize| {
        headings[*start..].starts_with(&sought)
            && headings.get(start + sought.len()).is_none_or(|&next| next == ' ')
    };
    let start = (0..headings.len()).find(is_there)?;
    let end = start + sought.len();
    let line: Vec<char> = line.chars().collect();
    let cell: String = line.get(..end)?.iter().collect();
    // Columns are two spaces apart.
    cell.rsplit("  ").next().map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty())
}

/// Returns a number as `top` shows it; `None` for half of one, on a screen that is just being drawn.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_end_matches("/s");
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

fn shows() {
    let program = slow_program("top_busy");
    let mut top = top(&[]);
    top.wait_for("run statistics on while top runs");
    top.assert_taken();
    top.press("/top_busy\r");
    while_running(&program, 10_000, || {
        let has_rate = |text: &str| {
            let line = line_of(text, program.id());
            let runs = line.and_then(|line| below(text, "  Runs", line));
            runs.and_then(|runs| number(&runs)).is_some_and(|runs| (8_000.0..12_000.0).contains(&runs))
        };
        let text = top.wait("rate of 10,000 runs per second", has_rate);
        assert!(text.contains("socket_filter") && text.contains("1 of "), "{text}");
        top.press("\r");
        let details = top.wait_for("Time per run");
        assert!(details.contains("Runs per second") && details.contains("bpf_program_run_time"), "{details}");
        // The bars of a graph.
        top.wait("graph", |text| text.contains('█'));
        top.press("\x1b");
        top.wait_for("Enter details");
        top.press("\x1b");
        top.wait("everything", |text| !text.contains("1 of "));
    });
    // An event while another tab is open.
    let event = slow_program("top_event");
    top.press("8");
    let loaded = format!("program {} \"top_event\" (socket_filter) loaded", event.id());
    top.wait_for(&loaded);
    let id = event.id();
    drop(event);
    top.wait_for(&format!("program {id} \"top_event\" (socket_filter) unloaded"));
    // Each key is seen on the screen.
    for (key, shown) in [
        ("2", "Max entries"),
        ("3", "Target"),
        ("4", "Kind"),
        ("t", "Owner and objects"),
        ("?", "reverse the order"),
    ] {
        top.press(key);
        top.wait_for(shown);
    }
    top.press("qq");
    assert_eq!(top.ended().code(), Some(0), "{}", top.text());
}

fn resize() {
    let top = top(&[]);
    top.wait_for("run statistics");
    for (columns, rows) in [(60, 20), (30, 8), (200, 50), (80, 24)] {
        top.resize((columns, rows));
        let is_drawn = |text: &str| {
            let lines: Vec<_> = text.lines().collect();
            let last = lines.last().copied().unwrap_or_default();
            lines.len() == usize::from(rows)
                && last.starts_with("q quit")
                && lines[0].starts_with("bpf-metrics-exporter")
        };
        top.wait(&format!("screen of {columns} x {rows}"), is_drawn);
    }
}

/// What ends it.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Key(&'static str),
    Signal(Signal),
}

fn endings() {
    for ending in [
        Ending::Key("q"),
        Ending::Key("\x03"),
        Ending::Signal(Signal::SIGTERM),
        Ending::Signal(Signal::SIGINT),
        Ending::Signal(Signal::SIGHUP),
        Ending::Signal(Signal::SIGQUIT),
    ] {
        let mut top = top(&[]);
        top.wait_for("run statistics");
        top.assert_taken();
        match ending {
            Ending::Signal(signal) => top.signal(signal),
            Ending::Key(key) => top.press(key),
        }
        assert_eq!(top.ended().code(), Some(0), "{ending:?}: {}", top.text());
        top.assert_restored();
    }
}

/// A process with the terminal that panics: in another thread than the one that draws, or while it draws.
pub(crate) fn helper() -> Option<ExitCode> {
    let part = std::env::var(HELPER).ok()?;
    std::panic::set_hook(Box::new(|panic| {
        let _gone = writeln!(std::io::stderr(), "reported: {}", panic.payload_as_str().unwrap_or_default());
        std::process::exit(1);
    }));
    restore_on_panic();
    let mut terminal = Terminal::open().expect("it has a terminal");
    terminal.draw(|frame| frame.render_widget("shown", frame.area())).expect("it can be drawn on");
    // The test looks at the terminal, and then presses a key.
    std::io::Read::read_exact(&mut std::io::stdin(), &mut [0]).expect("a key");
    match &*part {
        "drawing" => drop(terminal.draw(|_| panic!("out of luck"))),
        _ => drop(thread::spawn(|| panic!("out of luck")).join()),
    }
    Some(ExitCode::from(3))
}

fn panics() {
    let own = std::env::current_exe().expect("Linux has it");
    for part in ["drawing", "beside"] {
        let own = own.to_str().expect("it is text");
        let mut helper = Pty::start_with(own, &[], SIZE, &[(HELPER, part)]);
        helper.wait_for("shown");
        helper.assert_taken();
        helper.press("x");
        assert_eq!(helper.ended().code(), Some(1), "{part}: {}", helper.text());
        helper.assert_restored();
        let text = helper.text();
        assert!(text.contains("reported: out of luck") && !text.contains("shown"), "{part}: {text}");
    }
}

fn statistics() {
    for ending in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
        let mut top = top(&[]);
        top.wait_for("run statistics on");
        let pid = top.pid();
        assert!(holders().contains(&pid), "they are on while it runs");
        match ending {
            Some(signal) => top.signal(signal),
            None => top.press("q"),
        }
        top.ended();
        assert!(!holders().contains(&pid), "{ending:?}");
    }
    let mut off = top(&["--run-stats", "off"]);
    let text = off.wait_for("run statistics");
    assert!(text.contains("run statistics off") || text.contains("run statistics on by sysctl"), "{text}");
    assert!(!holders().contains(&off.pid()));
    off.press("q");
    off.ended();
}

/// A snapshot of many objects, at a time.
fn snapshot(seconds: u64) -> Snapshot {
    let mut snapshot = golden::snapshot();
    snapshot.taken_at = BootTime(snapshot.taken_at.0 + seconds * 1_000_000_000);
    snapshot.run_stats.covered += Duration::from_secs(seconds);
    for program in snapshot.programs.iter_mut().flatten() {
        program.runs = program.runs.map(|runs| runs + seconds * 250);
    }
    snapshot
}

fn document(seconds: u64) -> String {
    json::render(&Selected::all(snapshot(seconds).into())).expect("it is JSON")
}

fn recording() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("host.ndjson");
    let line = |seconds| {
        serde_json::from_str::<serde_json::Value>(&document(seconds)).expect("it is JSON").to_string()
    };
    let lines: Vec<_> = (0..3).map(line).collect();
    fs::write(&file, lines.join("\n")).expect("it can be written");
    let path = file.to_str().expect("it is text");
    let mut replay = top(&["--from", path]);
    let text = replay.wait_for("end of host.ndjson");
    assert!(
        text.contains("cil_from_container") && text.contains("250/s") && text.contains("statistics were on"),
        "{text}"
    );
    assert!(!holders().contains(&replay.pid()), "a recording needs none");
    replay.press("q");
    assert_eq!(replay.ended().code(), Some(0));

    fs::write(&file, "{\"programs\": 7}").expect("it can be written");
    let mut wrong = top(&["--from", path]);
    assert_eq!(wrong.ended().code(), Some(2));
    let text = wrong.text().replace('\n', "");
    assert!(text.contains("--from: ") && text.contains("line 1: not a snapshot as JSON"), "{text}");
    wrong.assert_restored();
}

fn exporter() {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port");
    let address = listener.local_addr().expect("it has one");
    thread::spawn(move || {
        for (seconds, stream) in (0..).zip(listener.incoming().flatten()) {
            let mut head = String::new();
            let mut reader = BufReader::new(&stream);
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let is_right = head.starts_with("GET /api/v1/snapshot HTTP/1.1")
                && head.to_lowercase().contains("authorization: basic qwxhzgrpbjpvcgvuihnlc2ftzq==");
            let (status, body) =
                if is_right { ("200 OK", document(seconds)) } else { ("401 Unauthorized", head) };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            // The program ends during an answer.
            let _gone = (&stream).write_all(answer.as_bytes());
        }
    });
    let mut remote = top(&["--url", &format!("http://Aladdin:open%20sesame@{address}")]);
    let text = remote.wait_for("250/s");
    assert!(
        text.contains("cil_from_container") && text.contains("run statistics on by the exporter"),
        "{text}"
    );
    assert!(text.contains(&format!("http://{address}")) && !text.contains("sesame"), "{text}");
    remote.press("q");
    assert_eq!(remote.ended().code(), Some(0));

    let mut unauthorized = top(&["--url", &format!("http://{address}")]);
    assert_eq!(unauthorized.ended().code(), Some(1));
    assert!(unauthorized.text().contains("HTTP status 401 Unauthorized"), "{}", unauthorized.text());
    unauthorized.assert_restored();

    let mut nobody = top(&["--url", &free_address().to_string()]);
    assert_eq!(nobody.ended().code(), Some(1));
    assert!(nobody.text().contains("Connection refused"), "{}", nobody.text());
    nobody.assert_restored();
}

fn bpftop_missing() -> Option<String> {
    let path = receivers::path("bpftop");
    (!path.exists()).then(|| "bpftop is not installed; tests/receivers/install does it".to_owned())
}

/// What a program shows of another one: mean time of a run in the period and since the load, and runs per second.
type Shown = [f64; 3];

fn of_top(text: &str, id: u32) -> Option<Shown> {
    let line = line_of(text, id)?;
    let cell = |heading| below(text, heading, line).and_then(|cell| number(&cell));
    Some([cell("  Run")?, cell("Run, total")?, cell("  Runs")?])
}

fn of_bpftop(text: &str, id: u32) -> Option<Shown> {
    let line = line_of(text, id)?;
    let cells: Vec<_> = line.split_whitespace().filter(|cell| *cell != "│").collect();
    // The type may have several words: the numbers are at the end.
    let [.., period, total, events, _cpu] = cells[..] else { return None };
    Some([period.parse::<f64>().ok()? / 1e9, total.parse::<f64>().ok()? / 1e9, events.parse().ok()?])
}

fn bpftop() {
    const SAMPLES: usize = 8;
    let program = slow_program("top_compared");
    let path = receivers::path("bpftop");
    let mut ours = top(&[]);
    let theirs = Pty::start(path.to_str().expect("it is text"), &[], SIZE);
    ours.wait_for("run statistics");
    ours.press("/top_compared\r");
    let (ours, theirs) = while_running(&program, 10_000, || {
        let of_ours = |text: &str| of_top(text, program.id()).is_some_and(|[period, ..]| period > 0.0);
        ours.wait("program in top", of_ours);
        theirs.wait("program in bpftop", |text| {
            of_bpftop(text, program.id()).is_some_and(|[.., runs]| runs > 0.0)
        });
        // Both have whole periods from now on.
        thread::sleep(Duration::from_secs(2));
        let mut samples = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            thread::sleep(Duration::from_secs(1));
            samples.0.extend(of_top(&ours.text(), program.id()));
            samples.1.extend(of_bpftop(&theirs.text(), program.id()));
        }
        samples
    });
    assert!(ours.len() > SAMPLES / 2 && theirs.len() > SAMPLES / 2, "{ours:?} {theirs:?}");
    // The median of each: a reading that was late on a busy machine does not count.
    let median = |samples: &[Shown], which: usize| {
        let mut values: Vec<f64> = samples.iter().map(|shown| shown[which]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    for (which, what) in
        [(0, "time of a run in the period"), (1, "time of a run since load"), (2, "runs per second")]
    {
        let (ours_shown, theirs_shown) = (median(&ours, which), median(&theirs, which));
        let ratio = ours_shown / theirs_shown;
        assert!(
            (0.95..=1.05).contains(&ratio),
            "{what}: {ours_shown} and {theirs_shown}:\n{ours:?}\n{theirs:?}"
        );
    }
}
