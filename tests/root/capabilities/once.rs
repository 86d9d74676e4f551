//! A program is analysed once: in the first reading that finds it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread;

use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{Feature, Part, ReaderKind, Snapshot};
use test_support::objects::{Herd, Program, uapi};
use test_support::readers;

use super::Argument::Number;
use super::{calling, words};
use crate::collection::privileges::refuse;

/// What the exporter logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads, and returns with the snapshot how many programs were analysed.
fn read(reader: &mut Reader) -> (Snapshot, usize) {
    let log = Log::default();
    let writer = {
        let log = log.clone();
        move || log.clone()
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    let snapshot = tracing::subscriber::with_default(subscriber, || reader.read());
    let log = String::from_utf8(log.0.lock().expect("no writer panics").clone()).expect("the log is text");
    let counts = log
        .lines()
        .filter_map(|line| line.split_once(" analysed ")?.1.split_once(" programs")?.0.parse::<usize>().ok());
    (snapshot, counts.sum())
}

/// Reads three times while more programs come. In sum each was analysed once, those of other processes included.
fn each_once(mut reader: Reader, count: usize) {
    let herd = Herd::without_program_fds(count, 0).expect("they can be made");
    let mut seen = BTreeSet::new();
    let mut later = Vec::new();
    for round in 0..4 {
        let (snapshot, analysed) = read(&mut reader);
        let found = snapshot.programs.as_deref().expect("programs can be read");
        let new =
            found.iter().filter(|program| seen.insert((program.facts.id, program.facts.loaded_at))).count();
        assert_eq!(analysed, new, "in reading {round}");
        assert!(round > 0 || analysed >= count);
        assert!(found.iter().all(|program| program.capabilities.is_some()), "all are known");
        later.extend((0..10).map(|_| {
            let kind = uapi::program_type::SOCKET_FILTER;
            Program::ready(kind, "later").expect("it can be made")
        }));
    }
    drop((herd, later));
}

pub(crate) fn some_hundred(backend: ReaderKind) {
    each_once(readers::by(backend), 300);
}

pub(crate) fn seven_thousand() {
    each_once(readers::best(), 7_000);
}

/// After the first reading no program can be opened any more.
pub(crate) fn refused() {
    const BPF_PROG_GET_FD_BY_ID: u64 = 13;
    let signals = || calling(uapi::program_type::KPROBE, 109, &[Number(0)]).expect("it can be made");
    let signals: Vec<_> = (0..20).map(|_| signals()).collect();
    let read = || {
        let mut reader = readers::by_iterators();
        let first = reader.read();
        refuse(BPF_PROG_GET_FD_BY_ID, libc::EIO);
        let later = calling(uapi::program_type::KPROBE, 109, &[Number(0)]).expect("it can be made");
        let second = reader.read();
        (first, words(&second, later.id()), second)
    };
    let (first, of_new, second) = thread::spawn(read).join().expect("a reading does not panic");
    assert_eq!(of_new, None, "only programs that are new cannot be analysed");
    for program in &signals {
        for snapshot in [&first, &second] {
            assert_eq!(words(snapshot, program.id()), Some(vec!["send_signal".to_owned()]));
        }
    }
    let state = first.feature(Feature::ProgramCapabilities).expect("it is reported");
    assert_eq!(state.reason, None);
    assert!(second.issues.iter().any(|issue| issue.part == Part::Program), "{:?}", second.issues);
}
