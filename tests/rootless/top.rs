//! The screens of `top` for the golden snapshot, at the size of an old terminal and of a large one. Its end on a terminal that takes
//! nothing.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::enrich::Differences;
use bpf_metrics_exporter::model::{BootTime, Snapshot};
use bpf_metrics_exporter::tui::source::Update;
use bpf_metrics_exporter::tui::state::{Input, Origin, State};
use bpf_metrics_exporter::tui::view::{self, Theme};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{FlowArg, tcflow, tcgetattr};
use nix::unistd::Pid;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use test_support::golden::{assert_golden, snapshot};
use test_support::running::Running;

const SECOND: Duration = Duration::from_secs(1);

/// The screens: the name of their file, and the keys that lead there from the first one. `\n` is Enter, `\t` Tab.
const SCREENS: [(&str, &str); 12] = [
    ("programs", "1"),
    ("maps", "2"),
    ("links", "3"),
    ("owners", "4"),
    ("tree", "t"),
    ("hooks", "5"),
    ("orphans", "6"),
    ("btf", "7"),
    ("events", "8"),
    ("filter", "1/cil"),
    ("details", "1\n\t"),
    ("help", "?"),
];

/// The state so many seconds earlier.
fn earlier(snapshot: &Snapshot, seconds: u64) -> Snapshot {
    let mut earlier = snapshot.clone();
    earlier.taken_at = BootTime(snapshot.taken_at.0 - seconds * 1_000_000_000);
    earlier.run_stats.covered -= Duration::from_secs(seconds);
    for program in earlier.programs.iter_mut().flatten().filter(|program| program.facts.id == 17) {
        program.runs = program.runs.map(|runs| runs - seconds * 12_500);
        program.run_time =
            program.run_time.map(|time| time.saturating_sub(Duration::from_millis(seconds * 34)));
    }
    for total in &mut earlier.totals {
        total.run_time = total.run_time.map(|time| time.saturating_sub(Duration::from_millis(seconds * 34)));
    }
    for map in earlier.maps.iter_mut().flatten() {
        map.entries = map.entries.map(|entries| entries.saturating_sub(seconds * 12));
    }
    earlier
}

fn state() -> State {
    let (later, mut differences) = (snapshot(), Differences::default());
    let mut state = State::new(Origin::Host, SECOND);
    let (mut first, second) = (earlier(&later, 2), earlier(&later, 1));
    // The last program was loaded after that.
    first.programs.as_mut().expect("it has programs").pop();
    first.maps.as_mut().expect("it has maps").pop();
    for (at, snapshot) in [(0, first), (1, second), (2, later)] {
        let at = Duration::from_secs(at);
        state.receive(at, Update::Happened(differences.update(&snapshot), 0));
        state.receive(at, Update::Read(Arc::new(snapshot)));
    }
    state
}

fn screen(state: &State, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it has no errors");
    let draw = |frame: &mut ratatui::Frame<'_>| {
        view::draw(frame, state, Theme { colour: true }, 2 * SECOND);
    };
    terminal.draw(draw).expect("it has no errors");
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(width.into());
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}

#[test]
fn golden_screens() {
    for (name, keys) in SCREENS {
        for (width, height) in [(80, 24), (160, 50)] {
            let mut state = state();
            state.set_page(view::page(height));
            for key in keys.chars() {
                state.handle(match key {
                    '\n' => Input::Enter,
                    '\t' => Input::Tab,
                    key => Input::Char(key),
                });
            }
            let path = format!("tests/golden/top/{name}-{width}x{height}.txt");
            assert_golden(&path, &screen(&state, (width, height)));
        }
    }
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_it_from_ending() {
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).expect("there are pseudo-terminals");
    let modes = tcgetattr(&pty.slave).expect("it is a terminal");
    let end = || Stdio::from(pty.slave.try_clone().expect("it can be copied"));
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/node/snapshot.json");
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(env!("CARGO_BIN_EXE_bpf-metrics-exporter")).args(["top", "--from", recording]);
    command.stdin(end()).stdout(end()).stderr(end());
    // It has the process id of `setsid`, which is not the leader of its group.
    let mut top = Running(command.spawn().expect("setsid is part of every Debian"));
    let pid = Pid::from_raw(top.0.id().try_into().expect("a process id"));
    let mut keyboard = File::from(pty.master);
    let deadline = Instant::now() + Duration::from_secs(30);
    while tcgetattr(&pty.slave).expect("it is a terminal") == modes {
        assert!(Instant::now() < deadline, "it does not take the terminal");
        thread::sleep(Duration::from_millis(10));
    }
    // Output stops: what is drawn for the key waits for ever.
    tcflow(&pty.slave, FlowArg::TCOOFF).expect("it is a terminal");
    keyboard.write_all(b"2").expect("the terminal takes input");
    thread::sleep(Duration::from_millis(500));
    kill(pid, Signal::SIGTERM).expect("it runs");
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = top.0.try_wait().expect("it is a child") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(1), "it could not restore the screen");
    assert!(tcgetattr(&pty.slave).expect("it is a terminal") == modes, "lines can be edited again");
}
