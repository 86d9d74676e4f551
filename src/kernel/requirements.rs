//! Which right is missing when the kernel refuses to list BPF objects, and how to grant it.

use std::fs;

/// `CAP_SYS_ADMIN`. Source: `include/uapi/linux/capability.h`.
const CAP_SYS_ADMIN: u32 = 21;

/// What stands in the way of listing BPF objects, as one message that says what to do.
///
/// Walking by ids needs `CAP_SYS_ADMIN` in the initial user namespace, `CAP_BPF` is not enough
/// (`bpf_obj_get_next_id` in `kernel/bpf/syscall.c`). Loading iterators needs `CAP_BPF` and `CAP_PERFMON`.
#[must_use]
pub fn refusal() -> String {
    let status = fs::read_to_string("/proc/self/status").ok();
    let uid_map = fs::read_to_string("/proc/self/uid_map").ok();
    explain(status.as_deref().and_then(has_sys_admin), uid_map.as_deref().map(is_initial_user_namespace))
}

fn explain(sys_admin: Option<bool>, initial_namespace: Option<bool>) -> String {
    let cause = match (sys_admin, initial_namespace) {
        (_, Some(false)) => {
            "this process is in a user namespace, where the kernel refuses it to everyone; start it outside of it, \
             as root (a rootless container cannot do)"
        }
        (Some(true), _) => {
            "CAP_SYS_ADMIN is there, but a seccomp filter, a security module or kernel lockdown forbids bpf(2); in a \
             container, run it privileged or with a seccomp profile that allows bpf"
        }
        _ => {
            "CAP_SYS_ADMIN is missing; run as root, or grant it: `setcap cap_sys_admin+ep bpf-metrics-exporter`, \
             AmbientCapabilities=CAP_SYS_ADMIN in a systemd unit, or `--cap-add SYS_ADMIN` for a container; where the \
             kernel has BPF iterators (5.19), CAP_BPF and CAP_PERFMON suffice for all but the memory of maps, run \
             statistics and BTF objects"
        }
    };
    format!("not permitted to read any BPF object: {cause}")
}

/// Whether `/proc/self/status` lists the capability as effective; `None` when it does not say.
fn has_sys_admin(status: &str) -> Option<bool> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let bits = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(bits >> CAP_SYS_ADMIN & 1 == 1)
}

/// Whether `/proc/self/uid_map` is that of the initial user namespace, which maps every id to itself.
fn is_initial_user_namespace(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_message() {
        assert!(explain(Some(false), Some(true)).contains("CAP_SYS_ADMIN is missing; run as root"));
        assert!(explain(Some(true), Some(true)).contains("seccomp"));
        assert!(explain(Some(true), Some(false)).contains("user namespace"));
        assert!(explain(None, None).contains("setcap"));
        assert!(
            explain(Some(false), None)
                .contains("CAP_BPF and CAP_PERFMON suffice for all but the memory of maps")
        );
        assert!(!explain(Some(true), Some(true)).contains("CAP_BPF"), "who has more lacks something else");
    }

    #[test]
    fn the_files_of_proc_are_understood() {
        assert_eq!(has_sys_admin("Name:\tx\nCapEff:\t0000000000200000\n"), Some(true));
        assert_eq!(has_sys_admin("CapEff:\t000000c000001000\n"), Some(false));
        assert_eq!(has_sys_admin("Name:\tx\n"), None);
        assert!(is_initial_user_namespace("         0          0 4294967295\n"));
        assert!(!is_initial_user_namespace("         0       1000          1\n"));
    }
}
