//! What a backlog on disk has, read without the program: the format is documented in `src/export/otlp/queue/disk/record.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bpf_metrics_exporter::export::otlp::encode::{Items, Request, Signal, plain};
use bpf_metrics_exporter::export::otlp::settings::Compression;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;

/// Returns the times of the readings that wait in a directory: whole records that are not settled.
pub(super) fn waiting(directory: &Path) -> BTreeSet<u64> {
    let own =
        fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("it can be listed").path());
    let files = own.flat_map(|own| fs::read_dir(own).expect("it is there"));
    let paths = files.map(|file| file.expect("it can be listed").path());
    let segments = paths.filter(|path| path.extension().is_some_and(|extension| extension == "segment"));
    segments.flat_map(|path| times(&fs::read(path).expect("it can be read"))).collect()
}

fn times(mut rest: &[u8]) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<48>() {
        let len = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
        let Some((body, after)) = after.split_at_checked(len) else { break };
        rest = after;
        if header.starts_with(b"BPQ1") {
            // Of logs: others on the host load programs meanwhile.
            if header[40] == 1 {
                continue;
            }
            assert_eq!(header[41], 2, "requests to a receiver without compression are kept with Zstandard");
            let items = Items { signal: Signal::Metrics, count: 0 };
            let request = Request { bytes: body.to_vec().into(), compression: Compression::Zstd, items };
            let plain = plain(&request).expect("it is whole").bytes;
            times.push(super::time(&ExportMetricsServiceRequest::decode(plain).expect("it is a request")));
        } else {
            assert!(header.starts_with(b"DONE"), "a record begins here");
        }
    }
    times
}
