//! Run statistics: who has runs counted, what is reported of them, and that nothing of it is left behind. The kernel's own counters are
//! read from the fdinfo of a program. Other processes may hold `BPF_ENABLE_STATS` at any time; only one test cannot cope with that.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::kernel::{Reader, ReaderChoice, ReaderOptions, RunStatsMode};
use bpf_metrics_exporter::model::{Feature, Program as Found, ReaderKind, Reason, Snapshot};

use crate::collection::privileges::refuse;
use crate::collection::programs::fdinfo;
use crate::suite::Test;
use test_support::objects::{Instruction, Program, ProgramSpec, run_statistics, uapi, wait_until};
use test_support::readers;
use test_support::run_stats::{counted_by_others, holders};
use test_support::running::Running;

pub(crate) const TESTS: &[Test] = &[
    Test::new("runs_are_counted_while_run_stats_are_on", on),
    Test::new("runs_are_absent_while_run_stats_are_off", off),
    Test::new("runs_are_reported_while_the_sysctl_is_on", sysctl),
    Test::new("runs_are_not_counted_after_sigkill", killed),
    Test::new("samples_report_the_true_cpu_share", sample).requires(&[counted_by_others]),
    Test::new("covered_time_and_runs_never_decrease", monotonic),
    Test::new("refused_run_stats_are_an_issue_and_runs_absent", refused),
    Test::new("run_stats_leave_neither_descriptor_nor_thread", nothing_left),
];

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Deadline for the kernel on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// So frequent and short that a test covers many of them.
const SAMPLE: RunStatsMode =
    RunStatsMode::Sample { window: Duration::from_millis(100), period: Duration::from_millis(250) };

fn reader(run_stats: RunStatsMode) -> Reader {
    Reader::new(ReaderOptions { run_stats, ..ReaderOptions::default() })
}

/// A program that can be run.
fn program(name: &str) -> Program {
    Program::ready(uapi::program_type::SOCKET_FILTER, name).expect("a socket filter can be loaded")
}

fn run(program: &Program, times: u32) {
    program.run(64, times).expect("a socket filter can be run");
}

/// Returns how often the program ran, by the kernel's own counter.
fn counted(program: &Program) -> u64 {
    let runs = fdinfo(program.fd(), "run_cnt").expect("the kernel counts runs since 5.1");
    runs.parse().expect("it is a number")
}

/// Returns the program of a snapshot.
fn find<'a>(snapshot: &'a Snapshot, program: &Program) -> &'a Found {
    let programs = snapshot.programs.as_ref().expect("programs can be listed");
    programs.iter().find(|found| found.facts.id == program.id()).expect("the program is reported")
}

/// Returns how long runs were counted between two snapshots.
fn covered_between(first: &Snapshot, second: &Snapshot) -> Duration {
    second.run_stats.covered.checked_sub(first.run_stats.covered).expect("it never decreases")
}

/// The sysctl with another value, restored when dropped. Another process that runs these tests waits until then.
struct Sysctl {
    before: String,
    _lock: File,
}

impl Sysctl {
    fn off() -> Self {
        let lock = File::open(SYSCTL).expect("the kernel has it since 5.1");
        lock.lock().expect("any file can be locked");
        let before = fs::read_to_string(SYSCTL).expect("it can be read");
        let sysctl = Self { before, _lock: lock };
        set_sysctl("0");
        sysctl
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        set_sysctl(&self.before);
    }
}

fn set_sysctl(value: &str) {
    fs::write(SYSCTL, value).expect("root may set it");
}

fn on() {
    let _sysctl = Sysctl::off();
    let program = program("on");
    let mut reader = reader(RunStatsMode::On);
    let first = reader.read();
    assert!(first.run_stats.by_exporter && first.run_stats.by_sysctl == Some(false));
    let (runs, run_time) = (find(&first, &program).runs, find(&first, &program).run_time);
    assert_eq!((runs, run_time), (Some(0), Some(Duration::ZERO)));
    run(&program, 1000);
    let second = reader.read();
    assert_eq!(find(&second, &program).runs, Some(1000));
    assert!(find(&second, &program).run_time > Some(Duration::ZERO));
    let covered = second.run_stats.covered;
    assert!(covered > first.run_stats.covered, "{covered:?}");
    assert_eq!(second.issues, []);
}

fn off() {
    let _sysctl = Sysctl::off();
    let program = program("off");
    // Runs were counted before, and are not any more.
    let statistics = run_statistics().expect("statistics can be switched on");
    run(&program, 10);
    drop(statistics);
    assert!(counted(&program) >= 10);

    let mut reader = reader(RunStatsMode::Off);
    for _ in 0..2 {
        let snapshot = reader.read();
        let found = find(&snapshot, &program);
        assert_eq!((found.runs, found.run_time), (None, None), "stale counters are not reported");
        let misses = fdinfo(program.fd(), "recursion_misses");
        assert_eq!(found.recursion_misses.map(|misses| misses.to_string()), misses);
        assert!(!snapshot.run_stats.is_on() && snapshot.run_stats.covered == Duration::ZERO);
        assert_eq!(snapshot.issues, []);
    }
}

fn sysctl() {
    let _sysctl = Sysctl::off();
    let program = program("sysctl");
    let mut reader = reader(RunStatsMode::Off);
    let mut sampling = self::reader(SAMPLE);
    assert_eq!(find(&reader.read(), &program).runs, None);
    set_sysctl("1");

    let begun = reader.read();
    assert!(!begun.run_stats.by_exporter && begun.run_stats.by_sysctl == Some(true));
    assert_eq!(begun.run_stats.covered, Duration::ZERO, "it was off at the last reading");
    sampling.read();
    let before = sampling.read();
    let started = Instant::now();
    let runs = find(&begun, &program).runs.expect("they are counted");
    run(&program, 100);
    // Longer than a sample and its pause.
    thread::sleep(Duration::from_millis(600));
    let least = started.elapsed();
    let sampled = covered_between(&before, &sampling.read());
    assert!(sampled >= least, "all the time is covered, not only the samples: {sampled:?} of {least:?}");
    let snapshot = reader.read();
    assert_eq!(find(&snapshot, &program).runs, Some(runs + 100));
    assert!(snapshot.run_stats.covered >= least);

    set_sysctl("0");
    let ended = reader.read();
    assert_eq!(ended.run_stats.covered, snapshot.run_stats.covered, "it is off again");
    assert_eq!(find(&ended, &program).runs, None);
}

/// Waits until runs are not counted any more, or only by other processes, which did it before.
fn wait_until_off(program: &Program, others: &BTreeSet<u32>) {
    wait_until("runs are not counted any more", SOON, || {
        let before = counted(program);
        program.run(64, 10)?;
        Ok(counted(program) == before || !holders().is_disjoint(others))
    })
    .expect("statistics are off");
}

fn killed() {
    let _sysctl = Sysctl::off();
    let program = program("killed");
    for mode in ["on", "sample=1h/2h"] {
        let others = holders();
        let mut exporter = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        exporter.args(["--run-stats", mode, "--otlp-grpc", "none", "--web.listen-address", "127.0.0.1:0"]);
        let mut exporter = Running(exporter.stderr(Stdio::piped()).spawn().expect("it starts"));
        let log = BufReader::new(exporter.0.stderr.take().expect("a pipe"));
        let mut lines = Vec::new();
        for line in log.lines() {
            lines.push(line.expect("the log is text"));
            if lines.last().is_some_and(|line| line.contains("serving")) {
                break;
            }
        }
        let of_statistics: Vec<_> = lines.iter().filter(|line| line.contains("run statistics")).collect();
        let is_on = |line: &str| line.contains("INFO run statistics are on");
        assert!(of_statistics.len() == 1 && is_on(of_statistics[0]), "{lines:#?}");
        let before = counted(&program);
        run(&program, 100);
        assert_eq!(counted(&program), before + 100, "the exporter has runs counted");
        // By SIGKILL.
        drop(exporter);
        wait_until_off(&program, &others);
    }
}

/// Runs a program continuously on a thread of its own.
struct Load<'a> {
    program: &'a Program,
    made: AtomicU64,
    stop: AtomicBool,
}

impl Load<'_> {
    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            const PIECE: u32 = 100;
            run(self.program, PIECE);
            self.made.fetch_add(PIECE.into(), Ordering::Relaxed);
        }
    }
}

/// Ends the load even if a test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn sample() {
    let _sysctl = Sysctl::off();
    // Long enough that reading the clock twice, as the kernel does while it counts, does not slow it down.
    let mut instructions = vec![Instruction::mov(0, 0); 20_000];
    instructions.push(Instruction::exit());
    let program = Program::load(&ProgramSpec {
        name: "sample",
        instructions,
        ..ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0)
    })
    .expect("a long socket filter can be loaded");
    let load = Load { program: &program, made: AtomicU64::new(0), stop: AtomicBool::new(false) };
    thread::scope(|scope| {
        let _stopping = Stopping(&load.stop);
        scope.spawn(|| load.run());
        let mut reader = reader(SAMPLE);
        let end = Instant::now() + SOON;
        // A measurement is void if another process had runs counted at the same time.
        while !measure_sample(&mut reader, &load) {
            assert!(Instant::now() < end, "another process had runs counted each time: {:?}", holders());
        }
    });
}

/// Compares the reported CPU share with the true one; returns false where another process had runs counted at the same time.
fn measure_sample(reader: &mut Reader, load: &Load<'_>) -> bool {
    const DURATION: Duration = Duration::from_secs(4);
    let mut read = || {
        let (at, made) = (Instant::now(), load.made.load(Ordering::Relaxed));
        (at, made, reader.read())
    };
    let (begun, made_before, first) = read();
    while begun.elapsed() < DURATION {
        if !holders().is_empty() {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let (ended, made_after, second) = read();
    assert_eq!(second.issues, []);

    let elapsed = (ended - begun).as_secs_f64();
    let covered = covered_between(&first, &second).as_secs_f64();
    assert!(covered > 0.0 && covered < elapsed * 0.8, "{covered} s of {elapsed} s");
    let runs = |snapshot| find(snapshot, load.program).runs.expect("samples are taken");
    let run_time = |snapshot| find(snapshot, load.program).run_time.expect("samples are taken").as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a test has far less than 2^52 runs")]
    let (runs, made) = ((runs(&second) - runs(&first)) as f64, (made_after - made_before) as f64);
    assert!(runs < made * 0.8, "{runs} of {made} runs were counted");
    let run_time = run_time(&second) - run_time(&first);
    // The average duration of a run times the true number of runs.
    let truth = run_time / runs * made / elapsed;
    let reported = run_time / covered;
    let ratio = reported / truth;
    assert!((0.75..1.33).contains(&ratio), "{reported} of a CPU is reported, {truth} is true: {ratio}");
    true
}

fn monotonic() {
    let _sysctl = Sysctl::off();
    let program = program("monotonic");
    let mut reader = reader(SAMPLE);
    let begun = Instant::now();
    let mut last = reader.read();
    let (mut grew, mut unchanged) = (0, 0);
    // During samples, during pauses, and across the changes between them.
    while grew < 50 || unchanged < 50 {
        assert!(begun.elapsed() < SOON, "it grew {grew} times, and was unchanged {unchanged} times");
        run(&program, 10);
        let next = reader.read();
        assert!(next.run_stats.covered >= last.run_stats.covered);
        assert!(find(&next, &program).runs >= find(&last, &program).runs);
        assert!(find(&next, &program).run_time >= find(&last, &program).run_time);
        if next.run_stats.covered > last.run_stats.covered {
            grew += 1;
        } else {
            unchanged += 1;
        }
        last = next;
    }
    let elapsed = begun.elapsed();
    assert!(last.run_stats.covered < elapsed, "{:?} of {elapsed:?}", last.run_stats.covered);
}

fn refused() {
    const BPF_ENABLE_STATS: u64 = 32;
    let _sysctl = Sysctl::off();
    let program = program("refused");
    let readings = |mode: RunStatsMode, error: i32| {
        // A filter belongs to the thread, which ends.
        let read = move || {
            refuse(BPF_ENABLE_STATS, error);
            let mut reader = reader(mode);
            [reader.read(), reader.read()]
        };
        thread::spawn(read).join().expect("a reading does not panic")
    };
    let often = RunStatsMode::Sample { window: Duration::from_hours(1), period: Duration::from_hours(2) };
    // With every capability, `EPERM` is a failure. A kernel before 5.8 does not have it, and is called once.
    for (mode, error, totals) in [
        (RunStatsMode::On, libc::EPERM, [1, 2]),
        (RunStatsMode::On, libc::EINVAL, [0, 0]),
        (often, libc::EPERM, [1, 1]),
        (often, libc::EINVAL, [0, 0]),
    ] {
        for (snapshot, total) in readings(mode, error).iter().zip(totals) {
            let issues: Vec<_> =
                snapshot.issues.iter().map(|issue| (&*issue.call, &*issue.error, issue.total)).collect();
            let refused = [("BPF_ENABLE_STATS", "EPERM", total)];
            assert_eq!(issues, if total == 0 { &refused[..0] } else { &refused }, "{mode:?}");
            let reason = snapshot.feature(Feature::RunStatistics).and_then(|state| state.reason);
            assert_eq!(reason, (error == libc::EINVAL).then_some(Reason::Kernel));
            assert!(!snapshot.run_stats.is_on() && snapshot.run_stats.covered == Duration::ZERO);
            let found = find(snapshot, &program);
            assert_eq!((found.runs, found.run_time), (None, None), "{mode:?}");
        }
    }

    // Runs are reported all the same while the sysctl is on.
    set_sysctl("1");
    let [_, snapshot] = readings(RunStatsMode::On, libc::EPERM);
    assert!(find(&snapshot, &program).runs.is_some() && snapshot.run_stats.covered > Duration::ZERO);
}

fn nothing_left() {
    let _sysctl = Sysctl::off();
    let threads = || fs::read_dir("/proc/self/task").expect("Linux has /proc").count();
    let open = || (readers::descriptors(), threads());
    let program = program("left");
    let before = open();
    let long = RunStatsMode::Sample { window: Duration::from_hours(1), period: Duration::from_hours(2) };
    // Each reader keeps the file of the kernel's symbols open.
    for (mode, more) in
        [(RunStatsMode::Off, (1, 0)), (RunStatsMode::On, (2, 0)), (SAMPLE, (1, 1)), (long, (2, 1))]
    {
        let others = holders();
        // Iterators have descriptors of their own.
        let reader = ReaderChoice::Only(ReaderKind::Walk);
        let mut reader = Reader::new(ReaderOptions { reader, run_stats: mode, ..ReaderOptions::default() });
        reader.read();
        let during = open();
        // A short sample may have ended by now.
        assert!(during.0 >= before.0 + more.0 && during.0 <= before.0 + 2, "{mode:?}: {during:?}");
        assert_eq!(during.1, before.1 + more.1, "{mode:?}");
        let begun = Instant::now();
        drop(reader);
        assert!(begun.elapsed() < SOON, "it does not wait for the end of a sample");
        // A thread that ended stays listed for a moment.
        wait_until("nothing is left", SOON, || Ok(open() == before)).expect("nothing is left");
        wait_until_off(&program, &others);
    }
}
