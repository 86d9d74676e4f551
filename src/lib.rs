//! Metrics of the eBPF objects that are loaded on a Linux host.
//!
//! This library exists for the program `bpf-metrics-exporter`, its tests and its benchmarks: **it has no stable API**, and any release may
//! change any of it. Only [`model`] is documented, since a snapshot as JSON has its form. `ARCHITECTURE.md` has the map of the modules.
//!
//! ```
//! use bpf_metrics_exporter::export::prometheus::{Format, render};
//! use bpf_metrics_exporter::kernel::Reader;
//! use bpf_metrics_exporter::metrics::Sample;
//!
//! // Never fails: without permission to list BPF objects, the snapshot has issues.
//! let snapshot = Reader::default().read();
//! let text = render(Sample::new(&snapshot), Format::Text, 0);
//! assert!(text.contains("bpf_exporter_collect_success{collector=\"program\",reader="));
//! ```

mod ascending;
mod backoff;
#[doc(hidden)]
pub mod baseline;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod enrich;
mod error_chain;
#[doc(hidden)]
pub mod events;
#[doc(hidden)]
pub mod export;
#[doc(hidden)]
pub mod fuzzing;
mod grpc_response;
#[doc(hidden)]
pub mod host;
#[doc(hidden)]
pub mod kernel;
#[doc(hidden)]
pub mod lookup;
#[doc(hidden)]
pub mod metrics;
pub mod model;
mod outage;
#[doc(hidden)]
pub mod sandbox;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod sys;
#[doc(hidden)]
pub mod text;
#[doc(hidden)]
pub mod tui;
#[doc(hidden)]
pub mod web;
#[doc(hidden)]
pub mod worker;
