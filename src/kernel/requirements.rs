//! Why the kernel refuses every table. Entry points: [`Standing::read`] and [`refusal`]. What single sources need is in
//! [`crate::model::feature`].

use std::fs;

use crate::model::Capability;
use crate::sys::os;

/// Why no BPF object can be read, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRefusal {
    /// The cause.
    pub cause: &'static str,
    /// What helps, a line each.
    pub remedies: &'static [&'static str],
}

/// In a user namespace the kernel refuses `bpf(2)` to everyone.
const USER_NAMESPACE: AccessRefusal = AccessRefusal {
    cause: "this process runs in a user namespace, where the kernel refuses bpf(2)",
    remedies: &[
        "run it as root on the host, or in a container without a user namespace",
        "a rootless container cannot read BPF objects",
    ],
};

const SECCOMP: AccessRefusal = AccessRefusal {
    cause: "the capabilities are present, but a seccomp filter is active and may refuse bpf(2)",
    remedies: &[
        "docker, podman: --security-opt seccomp=unconfined, or a profile that allows bpf",
        "Kubernetes: securityContext.seccompProfile.type: Unconfined, or a Localhost profile that allows bpf",
        "systemd: SystemCallFilter=bpf in the unit",
    ],
};

const SECURITY_MODULE: AccessRefusal = AccessRefusal {
    cause: "the capabilities are present, but a security module or kernel lockdown refuses bpf(2)",
    remedies: &[
        "lockdown: /sys/kernel/security/lockdown must not be [confidentiality]",
        "SELinux, AppArmor: the audit log (ausearch -m avc, journalctl -k) has the denial",
        "container: run it privileged",
    ],
};

const CAPABILITIES: AccessRefusal = AccessRefusal {
    cause: "CAP_SYS_ADMIN is missing",
    remedies: &[
        "run it as root",
        "grant it: setcap cap_sys_admin+ep bpf-metrics-exporter",
        "systemd: AmbientCapabilities=CAP_SYS_ADMIN in the unit",
        "docker, podman: --cap-add SYS_ADMIN",
        "Kubernetes: securityContext.capabilities.add: [SYS_ADMIN]",
        "Linux 5.19 and later: CAP_BPF and CAP_PERFMON are enough, without map memory, run statistics and BTF objects",
    ],
};

/// What the process could do before it gave anything up: afterwards it would see its own restrictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The effective capabilities, one bit each; `None` when the kernel did not tell.
    effective: Option<u64>,
    /// Whether somebody else's seccomp filter is active.
    is_filtered: bool,
    /// Whether it is in the initial user namespace; `None` when that is unknown.
    is_initial_namespace: Option<bool>,
}

impl Standing {
    /// Reads that of the calling thread. To be called before [`crate::sandbox::Sandbox::enter`].
    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let uid_map = fs::read_to_string("/proc/self/uid_map").ok();
        Self {
            effective: os::effective_capabilities().ok(),
            is_filtered: is_filtered(&status),
            is_initial_namespace: uid_map.as_deref().map(is_initial_user_namespace),
        }
    }

    fn has(self, capability: Capability) -> bool {
        self.effective.is_some_and(|bits| bits >> (capability as u32) & 1 == 1)
    }
}

/// Explains why every table is refused to a process that could do this at its start.
///
/// Reading by id needs `CAP_SYS_ADMIN` in the initial user namespace, `CAP_BPF` is not enough (`bpf_obj_get_next_id` in
/// `kernel/bpf/syscall.c`). Loading iterators needs `CAP_BPF` and `CAP_PERFMON`.
#[must_use]
pub fn refusal(at_start: Standing) -> AccessRefusal {
    let may_iterate = at_start.has(Capability::Bpf) && at_start.has(Capability::Perfmon);
    let may_list = at_start.has(Capability::SysAdmin);
    if at_start.is_initial_namespace == Some(false) {
        USER_NAMESPACE
    } else if at_start.is_filtered && (may_list || may_iterate) {
        SECCOMP
    } else if may_list {
        SECURITY_MODULE
    } else {
        CAPABILITIES
    }
}

/// Whether `/proc/self/status` reports a seccomp filter. Source: `SECCOMP_MODE_FILTER` in `include/uapi/linux/seccomp.h`.
fn is_filtered(status: &str) -> bool {
    status.lines().find_map(|line| line.strip_prefix("Seccomp:")).is_some_and(|mode| mode.trim() == "2")
}

/// Whether `/proc/self/uid_map` is that of the initial user namespace, which maps every id to itself.
fn is_initial_user_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYS_ADMIN: Option<u64> = Some(1 << Capability::SysAdmin as u32);
    const BPF_AND_PERFMON: Option<u64> = Some(1 << Capability::Bpf as u32 | 1 << Capability::Perfmon as u32);

    #[test]
    fn each_cause_has_its_own_message() {
        for (effective, is_filtered, is_initial_namespace, expected) in [
            (Some(0), false, Some(true), CAPABILITIES),
            (None, false, None, CAPABILITIES),
            (Some(0), true, Some(true), CAPABILITIES),
            (BPF_AND_PERFMON, false, Some(true), CAPABILITIES),
            (BPF_AND_PERFMON, true, Some(true), SECCOMP),
            (SYS_ADMIN, true, Some(true), SECCOMP),
            (SYS_ADMIN, false, Some(true), SECURITY_MODULE),
            (SYS_ADMIN, true, Some(false), USER_NAMESPACE),
        ] {
            let at_start = Standing { effective, is_filtered, is_initial_namespace };
            assert_eq!(refusal(at_start), expected, "{at_start:?}");
        }
        assert!(CAPABILITIES.remedies.iter().any(|line| line.contains("setcap")));
        assert!(!SECCOMP.cause.contains("CAP_SYS_ADMIN"), "present capabilities are not reported as missing");
    }

    #[test]
    fn causes_and_remedies_fit_a_line() {
        for AccessRefusal { cause, remedies } in [USER_NAMESPACE, SECCOMP, SECURITY_MODULE, CAPABILITIES] {
            assert!(!remedies.is_empty());
            assert!(
                remedies.iter().chain([&cause]).all(|line| line.len() < 120 && !line.contains('\n')),
                "{cause}"
            );
        }
    }

    #[test]
    fn fields_of_proc_status_are_parsed() {
        assert!(is_filtered("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!is_filtered("Seccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(is_initial_user_namespace("         0          0 4294967295\n"));
        assert!(!is_initial_user_namespace("         0       1000          1\n"));
    }
}
