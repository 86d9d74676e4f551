//! Every parser of bytes from outside, with the inputs that `fuzz/` found worth keeping, and with variations of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bpf_metrics_exporter::fuzzing::TARGETS;
use proptest::prelude::*;
use proptest::sample::Index;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Files that are inputs, too.
const FILES: [(&str, &str); 2] =
    [("object", "bpf/collector.bpf.o"), ("snapshot", "tests/golden/node/snapshot.json")];

/// Returns the inputs for a parser.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = corpus().join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let files = FILES.iter().filter(|(of, _)| *of == target);
    let files = files.map(|(_, file)| Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .chain(files)
        .map(|path| (path.clone(), fs::read(path).expect("it can be read")))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} has inputs", directory.display());
    inputs
}

#[test]
fn every_input_is_parsed() {
    for (target, parse) in TARGETS {
        for (path, bytes) in inputs(target) {
            let parsed = std::panic::catch_unwind(|| parse(&bytes));
            assert!(parsed.is_ok(), "{target} fails with {}", path.display());
        }
    }
}

#[test]
fn every_directory_of_inputs_has_a_parser() {
    let entries = fs::read_dir(corpus()).expect("there is a corpus");
    let directories: BTreeSet<_> = entries
        .map(|entry| entry.expect("it can be listed").file_name().into_string().expect("UTF-8"))
        .collect();
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(directories, targets);
    assert_eq!(targets.len(), TARGETS.len(), "each has its own name");
}

/// The files of a target and their contents.
type Inputs = Vec<(PathBuf, Vec<u8>)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Damaged and cut inputs, and two that follow each other.
    #[test]
    fn variations_of_inputs_are_parsed(
        damages in prop::collection::vec((any::<Index>(), any::<u8>()), 0..8),
        [one, other, start, cut] in any::<[Index; 4]>(),
        noise: Vec<u8>,
    ) {
        static INPUTS: LazyLock<Vec<Inputs>> =
            LazyLock::new(|| TARGETS.iter().map(|(target, _)| inputs(target)).collect());
        for ((_, parse), inputs) in TARGETS.iter().zip(&*INPUTS) {
            let mut bytes = one.get(inputs).1.clone();
            bytes.splice(start.index(bytes.len() + 1).., other.get(inputs).1.iter().copied());
            for (place, byte) in damages.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            parse(&bytes);
            bytes.truncate(cut.index(bytes.len() + 1));
            parse(&bytes);
            parse(&noise);
        }
    }
}
