//! What the tests, benchmarks and examples share. Entry points: [`objects`] makes real BPF objects, [`trials`] runs the tests that
//! need them.

pub mod answerer;
pub mod background_lookup;
pub mod bpftool;
pub mod delivery;
pub mod events;
pub mod faults;
pub mod golden;
pub mod holding;
pub mod http;
pub mod log_pipeline;
pub mod measure;
pub mod objects;
pub mod pipe;
pub mod points;
pub mod readers;
pub mod receiver;
pub mod receivers;
pub mod root;
pub mod run_stats;
pub mod running;
pub mod snapshots;
pub mod transport;
pub mod trials;
