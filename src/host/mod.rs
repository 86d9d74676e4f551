//! Linux interfaces other than bpf(2): processes, mounts, cgroups, namespaces, netlink, clocks, CPUs, symbols and settings.
//!
//! Independent of BPF objects but for their kinds and ids.

pub mod cgroups;
pub mod clock;
pub(crate) mod cpus;
pub mod identity;
pub(crate) mod issues;
pub(crate) mod kallsyms;
pub(crate) mod kept_file;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod netlink;
pub(crate) mod netns;
pub mod own_process;
pub mod posture;
pub(crate) mod procfs;
