//! Linux interfaces other than bpf(2): processes, mounts, cgroups, namespaces, netlink, clocks and symbols.
//!
//! Independent of BPF objects but for their kinds and ids.

pub mod cgroups;
pub(crate) mod clock;
pub(crate) mod issues;
pub(crate) mod kallsyms;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod procfs;
