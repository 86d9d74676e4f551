//! Reads what eBPF is loaded on a Linux host and exports it as metrics.
//!
//! [`kernel`] reads the host into a [`model::Snapshot`], [`source`] shares one reading among all who ask, [`metrics`] says
//! which metric is read from it, and [`export`] and [`web`] bring them to people and machines. `ARCHITECTURE.md` has the
//! map and its rules.
//!
//! ```
//! use bpf_metrics_exporter::export::prometheus::{Format, render};
//! use bpf_metrics_exporter::kernel::Reader;
//! use bpf_metrics_exporter::metrics::Sample;
//!
//! // Never fails: without the right to list BPF objects, the snapshot says so.
//! let snapshot = Reader::default().read();
//! let text = render(Sample::new(&snapshot), Format::Text, 0);
//! assert!(text.contains("bpf_exporter_collect_success{collector=\"program\",reader="));
//! ```

mod ascending;
mod backoff;
pub mod cli;
pub mod enrich;
mod error_chain;
pub mod export;
pub mod host;
pub mod kernel;
pub mod lookup;
pub mod metrics;
pub mod model;
mod outage;
pub mod source;
pub mod sys;
pub mod web;
