//! What identifies a host, its settings for BPF, and the exporter's own process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::BootTime;

/// What identifies a host. A field is `None` if it is unknown, as in a container that does not see the host's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// What `hostname` prints on the host.
    pub name: Option<String>,
    /// 32 hexadecimal digits. Source: `/etc/machine-id`, `/var/lib/dbus/machine-id`.
    pub machine_id: Option<String>,
    /// Identifies a host without machine id: the UUID of the machine or virtual machine, else that of the boot.
    /// Source: `/sys/class/dmi/id/product_uuid`, `/proc/sys/kernel/random/boot_id`.
    pub fallback_id: Option<String>,
    /// Name and version of the distribution. Source: `PRETTY_NAME` of `/etc/os-release`.
    pub os_description: Option<String>,
    /// Version of the distribution. Source: `VERSION_ID` of `/etc/os-release`.
    pub os_version: Option<String>,
    /// Release of the kernel. Source: `/proc/sys/kernel/osrelease`.
    pub kernel_release: Option<String>,
}

/// Settings of the kernel for BPF, and the memory of machine code. A field is `None` if it could not be read, or if the kernel
/// does not have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSettings {
    /// Source: `/proc/sys/net/core/bpf_jit_enable`.
    pub jit_enabled: Option<u32>,
    /// Source: `/proc/sys/net/core/bpf_jit_harden`.
    pub jit_harden: Option<u32>,
    /// Source: `/proc/sys/kernel/unprivileged_bpf_disabled`.
    pub unprivileged_disabled: Option<u32>,
    /// Limit of the memory for machine code, in bytes. Source: `/proc/sys/net/core/bpf_jit_limit`.
    pub jit_limit: Option<u64>,
    /// Memory allocated for machine code, in bytes, up to a minute old. Source: `/proc/vmallocinfo`.
    ///
    /// The kernel does not report what counts towards the limit (`bpf_jit_current`, `kernel/bpf/core.c`): where programs share
    /// packs, only the used part of each does.
    pub jit_used: Option<u64>,
    /// What the kernel refuses even to root: 0 (nothing), 1 (what changes the kernel: integrity) or 2 (also what reads its memory:
    /// confidentiality). Source: `/sys/kernel/security/lockdown`, since 5.4.
    pub lockdown: Option<u32>,
    /// Whether programs can be attached to hooks of security modules. Source: `bpf` in `/sys/kernel/security/lsm`, since 5.7.
    pub lsm_enabled: Option<bool>,
    /// Number of bpffs in the exporter's mount namespace that delegate BPF to a user namespace, up to a minute old. Source: `delegate_cmds`,
    /// `delegate_maps`, `delegate_progs` and `delegate_attachs` of `/proc/self/mountinfo`, since 6.9.
    pub delegations: Option<u64>,
}

/// Resources that the exporter's own process uses.
#[derive(Clone, Copy, Debug)]
pub struct OwnProcess {
    /// CPU time in user and kernel mode. Source: `utime` and `stime` of `/proc/self/stat`.
    pub cpu: Duration,
    /// In bytes. Source: `rss` of `/proc/self/stat`.
    pub resident_memory: u64,
    /// In bytes. Source: `vsize` of `/proc/self/stat`.
    pub virtual_memory: u64,
    /// Source: `num_threads` of `/proc/self/stat`.
    pub threads: u64,
    /// Number of open descriptors. Source: `/proc/self/fd`.
    pub open_fds: u64,
    /// Limit of open descriptors. Source: `getrlimit(RLIMIT_NOFILE)`.
    pub max_fds: u64,
    /// When it was started. Source: `starttime` of `/proc/self/stat`.
    pub started_at: BootTime,
}
