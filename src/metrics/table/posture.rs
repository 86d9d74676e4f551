//! Metrics of the host's settings for BPF.

use crate::metrics::Carries::Key;
use crate::metrics::MetricKind::Gauge;
use crate::metrics::Unit::Bytes;
use crate::metrics::Value::Int;
use crate::metrics::{Entity, Metric, Series, Unit, Value};
use crate::model::{HostSettings, Part};

/// Settings of the kernel, and the memory of machine code.
pub static POSTURE: Entity<HostSettings> = Entity {
    title: "Settings of the host",
    part: Some(Part::Host),
    key: &[],
    info: &[],
    metrics: &[
        setting(
            "bpf_jit_enabled",
            "Whether programs are compiled to machine code: 0 (interpreted), 1, or 2 (and the code is logged).",
            "`/proc/sys/net/core/bpf_jit_enable`",
            "3.0",
            |p| p.jit_enabled.map(|number| Int(number.into())),
        ),
        setting(
            "bpf_jit_harden",
            "Whether constants in machine code are blinded: 0 (no), 1 (for unprivileged users) or 2 (for all).",
            "`/proc/sys/net/core/bpf_jit_harden`",
            "4.7",
            |p| p.jit_harden.map(|number| Int(number.into())),
        ),
        setting(
            "bpf_unprivileged_disabled",
            "Whether bpf(2) is refused to unprivileged users: 0 (no), 1 (until reboot), 2 (until it is changed).",
            "`/proc/sys/kernel/unprivileged_bpf_disabled`",
            "4.4",
            |p| p.unprivileged_disabled.map(|number| Int(number.into())),
        ),
        bytes(
            "bpf_jit_limit_bytes",
            "Limit of the memory for machine code; above it, the kernel compiles nothing for processes without CAP_BPF, whose seccomp \
             filters may then fail to load.",
            "`/proc/sys/net/core/bpf_jit_limit`",
            |p| p.jit_limit.map(Value::count),
        ),
        bytes(
            "bpf_jit_used_bytes",
            "Memory allocated for machine code, that of classic BPF (seccomp and socket filters) included; where programs share \
             packs (x86_64 since 5.18), an upper bound of what counts towards the limit; absent where the kernel does not name \
             the JIT as the caller (bpf_exporter_feature_available of host_settings is then 0, with reason kernel).",
            "`/proc/vmallocinfo`: `bpf_prog_pack_alloc`, `bpf_jit_binary_alloc` and other callers",
            |p| p.jit_used.map(Value::count),
        ),
        setting(
            "bpf_lockdown",
            "What the kernel refuses even to root: 0 (nothing), 1 (integrity: what changes the kernel, as bpf_probe_write_user) or \
             2 (confidentiality: also what reads its memory, as bpf_probe_read_kernel); absent without lockdown or securityfs.",
            "`/sys/kernel/security/lockdown`",
            "5.4",
            |p| p.lockdown.map(|number| Int(number.into())),
        ),
        setting(
            "bpf_lsm_enabled",
            "Whether BPF is an enabled security module, so that programs of type lsm take effect: 1 or 0; absent without \
             securityfs.",
            "`bpf` in `/sys/kernel/security/lsm`",
            "5.7",
            |p| p.lsm_enabled.map(|enabled| Int(enabled.into())),
        ),
        Metric {
            name: "bpf_bpffs_delegations",
            kind: Gauge,
            unit: Unit::Each("{mount}"),
            help: "Number of bpffs in the exporter's mount namespace that delegate BPF to a user namespace (BPF tokens), each \
                   once, however often it is mounted.",
            source: "`delegate_cmds`, `delegate_maps`, `delegate_progs`, `delegate_attachs` in `/proc/self/mountinfo`",
            since: "6.9",
            carries: Key,
            read: |p| p.delegations.map(Value::count),
        },
    ],
    object: None,
    series: |_| Series::fixed(0, None),
};

/// Returns a gauge with the number of a sysctl.
const fn setting(
    name: &'static str,
    help: &'static str,
    source: &'static str,
    since: &'static str,
    read: for<'a> fn(&'a HostSettings) -> Option<Value<'a>>,
) -> Metric<HostSettings> {
    Metric { name, kind: Gauge, unit: Unit::None, help, source, since, carries: Key, read }
}

/// Returns a gauge of memory for machine code, which is limited since 4.20.
const fn bytes(
    name: &'static str,
    help: &'static str,
    source: &'static str,
    read: for<'a> fn(&'a HostSettings) -> Option<Value<'a>>,
) -> Metric<HostSettings> {
    Metric { name, kind: Gauge, unit: Bytes, help, source, since: "4.20", carries: Key, read }
}
