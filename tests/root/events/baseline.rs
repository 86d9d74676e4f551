//! Programs that are not in the baseline, of this process and of the running exporter. Others may load programs meanwhile: those of these
//! tests have instructions of their own.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{self, Command};
use std::time::{Duration, Instant};

use bpf_metrics_exporter::baseline::{Baseline, Expected};
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::kernel::events::RING_BYTES;
use bpf_metrics_exporter::kernel::{Reader, ReaderOptions};
use bpf_metrics_exporter::model::{EventKind, EventSource, Snapshot};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use test_support::http::get;
use test_support::objects::uapi::program_type::SOCKET_FILTER;
use test_support::objects::{Program, ProgramSpec};

use crate::endpoint::Exporter;

const SOON: Duration = Duration::from_mins(1);

/// Loads a program that has the instructions of no other one.
fn unique(name: &str, number: i32) -> Program {
    let returns = i32::try_from(process::id()).expect("a pid is positive") * 16 + number;
    let spec = ProgramSpec { name, ..ProgramSpec::new(SOCKET_FILTER, returns) };
    Program::load(&spec).expect("root may")
}

fn tag(snapshot: &Snapshot, program: &Program) -> String {
    let programs = snapshot.programs.as_ref().expect("root may read them");
    let found = programs.iter().find(|found| found.facts.id == program.id()).expect("it is loaded");
    found.facts.tag.to_string()
}

/// Each unexpected program is an event once: those that were there, and those that are loaded, at once and with their actor.
pub(super) fn published() {
    let before = unique("was_there", 0);
    let events = Events::default();
    let mut subscription = events.subscribe(None);
    let reader = Reader::new(ReaderOptions { events: Some(RING_BYTES), ..ReaderOptions::default() });
    let expected = Expected::new(Baseline::default());
    let options = EnrichOptions { expected: Some(expected.clone()), ..EnrichOptions::default() };
    let mut enricher = Enricher::new(reader, options, NameCache::default()).publishing(events);
    let mut found = |id: u32| -> Vec<_> {
        let events = subscription.take(usize::MAX).events;
        let is = |event: &&std::sync::Arc<_>| {
            let event: &bpf_metrics_exporter::model::Event = event;
            event.kind == EventKind::ProgramUnexpected && event.subject.id == Some(id)
        };
        events.iter().filter(is).cloned().collect()
    };
    let first = enricher.read();
    let programs = first.programs.as_ref().expect("root may read them").len() as u64;
    let own = first.own_programs.len() as u64;
    let unexpected = first.unexpected.expect("every program was read");
    assert!(0 < unexpected && unexpected <= programs - own, "{unexpected} of {programs}, {own} of them ours");
    let [event] = &found(before.id())[..] else { panic!("it is reported once") };
    assert_eq!((event.source, event.actor.is_none()), (EventSource::Comparison, true));
    assert_eq!(event.subject.name.as_deref(), Some("was_there"));
    assert!(event.kind.is_warning() && event.subject.since.is_some());

    let loaded = unique("came_later", 1);
    let began = Instant::now();
    let events = loop {
        let events = found(loaded.id());
        if !events.is_empty() {
            break events;
        }
        assert!(began.elapsed() < SOON, "the kernel reports it");
        std::thread::sleep(Duration::from_millis(5));
    };
    let [event] = &events[..] else { panic!("{events:?}") };
    let actor = event.actor.as_ref().and_then(|actor| actor.pid);
    assert_eq!((event.source, actor), (EventSource::Kernel, Some(process::id())));
    for _ in 0..3 {
        let snapshot = enricher.read();
        assert!(snapshot.unexpected.is_some_and(|unexpected| unexpected >= 2));
        assert!(found(loaded.id()).is_empty(), "each is reported once");
    }

    // Its baseline expects everything.
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("baseline.txt");
    let began = Instant::now();
    loop {
        let text = bpf_metrics_exporter::baseline::render(&enricher.read()).expect("every program was read");
        fs::write(&file, text).expect("the folder is ours");
        expected.replace(Baseline::load(&file).expect("it is one"));
        if enricher.read().unexpected == Some(0) {
            break;
        }
        assert!(began.elapsed() < SOON, "a baseline of this host expects what is loaded");
    }
}

/// Returns the baseline that the program prints.
fn baseline() -> String {
    let printed =
        Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter")).args(["snapshot", "--baseline"]).output();
    let printed = printed.expect("it starts");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).expect("it is text")
}

fn replace(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    let replaced = || -> io::Result<()> {
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, path)
    };
    replaced().expect("the folder is ours");
}

/// The program reads its own baseline, counts what is not in it, names it in its log, and reads the file again.
pub(super) fn counted() {
    let expected = unique("is_expected", 2);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("baseline.txt");
    let first = baseline();
    let lines: Vec<&str> = first.lines().collect();
    assert!(lines.is_sorted() && lines.windows(2).all(|pair| pair[0] != pair[1]), "{first}");
    let of_expected = tag(&Reader::default().read(), &expected);
    assert!(first.contains(&format!("socket_filter\tis_expected\t{of_expected}\t")), "{first}");
    let own = Reader::default().read();
    for id in &own.own_programs {
        let program = own.programs.iter().flatten().find(|program| program.facts.id == *id);
        let tag = program.expect("it is loaded").facts.tag.to_string();
        assert!(!first.contains(&tag), "the exporter's programs are left out");
    }
    replace(&file, &first);
    let path = file.to_str().expect("UTF-8");
    let exporter = Exporter::with(&["--web.listen-address", "127.0.0.1:0", "--baseline", path]);
    let address = ([127, 0, 0, 1], exporter.port()).into();
    let count = || -> u64 {
        let text = get(address, "/metrics").expect("it serves");
        let line = text.lines().find_map(|line| line.strip_prefix("bpf_program_unexpected "));
        line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in {text}"))
    };
    // A scrape may be answered with the reading before.
    let becomes = |limit: Duration, is: fn(u64) -> bool| {
        let began = Instant::now();
        while !is(count()) {
            if began.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        true
    };
    let some = |count| count >= 1;
    let none = |count| count == 0;
    let reload = |text: &str| {
        replace(&file, text);
        exporter.signal(Signal::SIGHUP);
        exporter.says(" programs are expected");
    };
    // Others may load programs: then what they have is expected, too.
    let expects_all = || {
        let began = Instant::now();
        loop {
            let baseline = baseline();
            reload(&baseline);
            if becomes(Duration::from_secs(3), none) {
                return baseline;
            }
            assert!(began.elapsed() < SOON, "a baseline of this host expects what is loaded");
        }
    };
    let before = expects_all();

    let unexpected = unique("is_unexpected", 3);
    let line = exporter.says(&format!("program {} is not in the baseline", unexpected.id()));
    for part in
        ["name \"is_unexpected\"", "type socket_filter", &format!("loaded by process {}", process::id())]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(becomes(SOON, some), "it is counted");
    // It is expected from now on, and then no longer.
    expects_all();
    reload(&before);
    assert!(becomes(SOON, some), "it is counted");
    replace(&file, "# bpf-metrics-exporter baseline 1\nkprobe\n");
    exporter.signal(Signal::SIGHUP);
    exporter.says(
        "baseline.txt:2: not type, name, tag and owner, separated by tabs; the baseline stays as it was",
    );
    assert!(becomes(SOON, some), "it is counted");
    drop(unexpected);
    assert!(becomes(SOON, none), "it is gone");
}

/// A wrong file ends the program with one line.
pub(super) fn refused() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("baseline.txt");
    fs::write(&file, "# bpf-metrics-exporter baseline 1\n\nkprobe\tone\t12\t-\n")
        .expect("the folder is ours");
    let path = file.to_str().expect("UTF-8");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.args(["--otlp-grpc", "none", "--web.listen-address", "127.0.0.1:0", "--baseline", path]);
    let ended = command.output().expect("it starts");
    let says = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{says}");
    let line = format!("--baseline: {path}:3: the tag is not 16 hexadecimal digits: \"12\"");
    assert!(says.contains(&line) && says.lines().count() == 1, "{says}");
}
