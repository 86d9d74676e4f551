//! Every parser of bytes from outside, as a function that may not panic whatever it is given. `fuzz/` finds inputs for them, and
//! `tests/rootless/corpus.rs` replays those that are kept.
//! Entry point: [`TARGETS`].

use crate::baseline;
use crate::enrich::cgroup::CgroupIdentity;
use crate::export::prometheus::{self, Format};
use crate::export::{json, otlp, series, table};
use crate::host::{kallsyms::KernelSymbols, mounts, posture, procfs};
use crate::kernel::fuzzing as kernel;
use crate::kernel::iter::fuzzing as iter;
use crate::{lookup, text, web};

/// A parser: its name, which is that of the directory of its corpus, and a function that gives it bytes.
pub type Target = (&'static str, fn(&[u8]));

/// The parsers.
pub const TARGETS: [Target; 30] = [
    ("accept", web::fuzz_headers),
    ("backlog", otlp::queue::fuzz_records),
    ("baseline", baseline::fuzz),
    ("btf", kernel::btf),
    ("certificate", web::fuzz_certificate),
    ("cgroup", cgroup),
    ("cri", lookup::cri::fuzz),
    ("docker", lookup::docker::fuzz),
    ("fdinfo", kernel::fdinfo),
    ("grpc-answer", otlp::transport::grpc::fuzz_answer),
    ("grpc-body", otlp::transport::grpc::fuzz_body),
    ("grpc-status", otlp::transport::grpc::fuzz_status),
    ("http-answer", otlp::transport::http::fuzz_http),
    ("instructions", kernel::instructions),
    ("iter-files", iter::files),
    ("iter-links", iter::links),
    ("iter-maps", iter::maps),
    ("iter-programs", iter::programs),
    ("kallsyms", kallsyms),
    ("log-names", lookup::logs::fuzz),
    ("mountinfo", mounts::fuzz),
    ("netlink", kernel::netlink),
    ("object", iter::object),
    ("perf-records", kernel::perf_records),
    ("procfs", procfs::fuzz),
    ("snapshot", snapshot),
    ("text", printable),
    ("vmallocinfo", posture::fuzz),
    ("web-config", web::fuzz_config),
    ("web-page", web::fuzz_page),
];

fn cgroup(bytes: &[u8]) {
    let CgroupIdentity { container, unit, .. } = CgroupIdentity::of(&text::escaped(bytes));
    for text in [container, unit].into_iter().flatten() {
        assert!(text.len() <= text::MAX_LEN && !text.contains(text::is_invisible), "{text:?}");
    }
}

fn kallsyms(bytes: &[u8]) {
    if let Ok(symbols) = KernelSymbols::read(bytes) {
        let _found = (symbols.find(0), symbols.find(u64::MAX));
        for (address, name) in symbols.all() {
            assert!(!name.is_empty() && symbols.starting_at(address).is_some());
        }
    }
}

/// A snapshot that can be read can be written in every format, and read back.
fn snapshot(bytes: &[u8]) {
    let Ok(read) = json::parse(&String::from_utf8_lossy(bytes)) else { return };
    let written = json::render(&read).expect("what was read can be written");
    let again = json::parse(&written).and_then(|again| json::render(&again));
    assert_eq!(again.expect("what was written can be read"), written);
    let series = series::render(read.sample(None));
    assert!(!series.contains(|character| character != '\n' && text::is_invisible(character)));
    table::fuzz(&read.snapshot);
    for format in [Format::Text, Format::OpenMetrics, Format::OpenMetricsCreated] {
        let _text = prometheus::render(read.sample(None), format, 0);
    }
}

fn printable(bytes: &[u8]) {
    let printable = text::printable(bytes);
    assert!(printable.len() <= text::MAX_LEN && !printable.contains(text::is_invisible));
    assert_eq!(text::visible(&printable), printable);
}
