//! What identifies a host, and the exporter's own process.

use std::time::Duration;

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
