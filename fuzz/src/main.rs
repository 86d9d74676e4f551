//! A fuzzer for one parser: the name of the parser is in the variable `TARGET`, the arguments are those of libFuzzer.
#![no_main]

use std::process;
use std::sync::LazyLock;

use bpf_metrics_exporter::fuzzing::TARGETS;
use libfuzzer_sys::fuzz_target;

static PARSE: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    let Some((_, parse)) = found else {
        let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!("set TARGET to one of {}", names.join(", "));
        process::exit(2);
    };
    *parse
});

fuzz_target!(|bytes: &[u8]| PARSE(bytes));
