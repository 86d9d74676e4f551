//! Reads what eBPF is loaded on a Linux host and exports it as metrics.
//!
//! [`kernel`] reads the host into a [`model::Snapshot`], [`source`] shares one reading among all who ask, [`metrics`] says
//! which metric is read from it, and [`export`] and [`web`] bring them to people and machines. `ARCHITECTURE.md` has the
//! map and its rules.

pub mod cli;
pub mod export;
pub mod kernel;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod source;
pub mod web;
