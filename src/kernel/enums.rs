//! The words that the kernel's own tools print for the numbers of its enumerations.
//! Source of the numbers: `include/uapi/linux/bpf.h`; of the words: the `*_type_name` tables of libbpf.

use std::borrow::Cow;

use crate::model::ObjectType;

/// `enum bpf_prog_type`.
#[rustfmt::skip]
const PROGRAM_TYPES: &[&str] = &[
    "unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp", "perf_event",
    "cgroup_skb", "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops", "sk_skb", "cgroup_device",
    "sk_msg", "raw_tracepoint", "cgroup_sock_addr", "lwt_seg6local", "lirc_mode2", "sk_reuseport",
    "flow_dissector", "cgroup_sysctl", "raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops",
    "ext", "lsm", "sk_lookup", "syscall", "netfilter",
];

/// `enum bpf_map_type`.
#[rustfmt::skip]
const MAP_TYPES: &[&str] = &[
    "unspec", "hash", "array", "prog_array", "perf_event_array", "percpu_hash", "percpu_array", "stack_trace",
    "cgroup_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "array_of_maps", "hash_of_maps", "devmap",
    "sockmap", "cpumap", "xskmap", "sockhash", "cgroup_storage", "reuseport_sockarray",
    "percpu_cgroup_storage", "queue", "stack", "sk_storage", "devmap_hash", "struct_ops", "ringbuf",
    "inode_storage", "task_storage", "bloom_filter", "user_ringbuf", "cgrp_storage", "arena", "insn_array",
];

/// `enum bpf_link_type`.
#[rustfmt::skip]
const LINK_TYPES: &[&str] = &[
    "unspec", "raw_tracepoint", "tracing", "cgroup", "iter", "netns", "xdp", "perf_event", "kprobe_multi",
    "struct_ops", "netfilter", "tcx", "uprobe_multi", "netkit", "sockmap", "tracing_multi",
];

/// `enum bpf_attach_type`.
#[rustfmt::skip]
const ATTACH_TYPES: &[&str] = &[
    "cgroup_inet_ingress", "cgroup_inet_egress", "cgroup_inet_sock_create", "cgroup_sock_ops",
    "sk_skb_stream_parser", "sk_skb_stream_verdict", "cgroup_device", "sk_msg_verdict", "cgroup_inet4_bind",
    "cgroup_inet6_bind", "cgroup_inet4_connect", "cgroup_inet6_connect", "cgroup_inet4_post_bind",
    "cgroup_inet6_post_bind", "cgroup_udp4_sendmsg", "cgroup_udp6_sendmsg", "lirc_mode2", "flow_dissector",
    "cgroup_sysctl", "cgroup_udp4_recvmsg", "cgroup_udp6_recvmsg", "cgroup_getsockopt", "cgroup_setsockopt",
    "trace_raw_tp", "trace_fentry", "trace_fexit", "modify_return", "lsm_mac", "trace_iter",
    "cgroup_inet4_getpeername", "cgroup_inet6_getpeername", "cgroup_inet4_getsockname",
    "cgroup_inet6_getsockname", "xdp_devmap", "cgroup_inet_sock_release", "xdp_cpumap", "sk_lookup", "xdp",
    "sk_skb_verdict", "sk_reuseport_select", "sk_reuseport_select_or_migrate", "perf_event",
    "trace_kprobe_multi", "lsm_cgroup", "struct_ops", "netfilter", "tcx_ingress", "tcx_egress",
    "trace_uprobe_multi", "cgroup_unix_connect", "cgroup_unix_sendmsg", "cgroup_unix_recvmsg",
    "cgroup_unix_getpeername", "cgroup_unix_getsockname", "netkit_primary", "netkit_peer",
    "trace_kprobe_session", "trace_uprobe_session", "trace_fsession", "trace_fentry_multi", "trace_fexit_multi",
    "trace_fsession_multi",
];

pub(crate) fn program_type(number: u32) -> ObjectType {
    object_type(PROGRAM_TYPES, number)
}

pub(crate) fn map_type(number: u32) -> ObjectType {
    object_type(MAP_TYPES, number)
}

pub(crate) fn link_type(number: u32) -> ObjectType {
    object_type(LINK_TYPES, number)
}

/// At which hook a link attaches.
pub(crate) fn attach_type(number: u32) -> ObjectType {
    object_type(ATTACH_TYPES, number)
}

fn object_type(names: &[&'static str], number: u32) -> ObjectType {
    let name = usize::try_from(number).ok().and_then(|index| names.get(index)).copied();
    ObjectType { number, name: name.map(Cow::Borrowed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_words_of_bpftool_and_unknown_ones_their_number() {
        assert_eq!(program_type(6).name.as_deref(), Some("xdp"));
        assert_eq!(program_type(32).name.as_deref(), Some("netfilter"));
        assert_eq!(map_type(27).name.as_deref(), Some("ringbuf"));
        assert_eq!(link_type(11).name.as_deref(), Some("tcx"));
        for (number, word) in [
            (0, "cgroup_inet_ingress"),
            (24, "trace_fentry"),
            (37, "xdp"),
            (41, "perf_event"),
            (46, "tcx_ingress"),
            (54, "netkit_primary"),
            (58, "trace_fsession"),
        ] {
            assert_eq!(attach_type(number).name.as_deref(), Some(word));
        }
        assert_eq!(attach_type(999), ObjectType { number: 999, name: None });
        assert_eq!(program_type(4_000_000_000), ObjectType { number: 4_000_000_000, name: None });
    }
}
