//! Enumerations of the kernel's user interface: each number once, with the word that the kernel's own tools print for it.
//! Entry point: the module of an enumeration, such as [`map_type`].
//!
//! Numbers stay plain `u32`: a newer kernel reports some that are not listed here. Source of the words for object types: the
//! `*_type_name` tables of libbpf. A test compares all of them with the BTF of the running kernel.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A value of one of the kernel's enumerations, and the word that bpftool prints for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectType {
    /// The kernel's number.
    pub number: u32,
    /// The word; `None` for a value that is newer than this program.
    pub name: Option<Cow<'static, str>>,
}

impl ObjectType {
    /// Returns the word, or the number if there is none.
    #[must_use]
    pub fn word_or_number(&self) -> Cow<'static, str> {
        self.name.clone().unwrap_or_else(|| Cow::Owned(self.number.to_string()))
    }
}

/// Defines the constants of one enumeration and the word of each. The prefix is that of the kernel's enumerators.
macro_rules! kernel_enum {
    ($(#[$doc:meta])* $module:ident, $prefix:literal { $($constant:ident = $number:literal $word:literal,)* }) => {
        $(#[$doc])*
        pub mod $module {
            use super::ObjectType;

            $(
                #[doc = concat!("`", $prefix, stringify!($constant), "`.")]
                pub const $constant: u32 = $number;
            )*

            /// The kernel's name, the number and the word of every enumerator.
            pub const ALL: &[(&str, u32, &str)] = &[$((concat!($prefix, stringify!($constant)), $number, $word),)*];

            /// Returns the word for a number; `None` for one that is newer than this program.
            #[must_use]
            pub const fn word(number: u32) -> Option<&'static str> {
                match number {
                    $($number => Some($word),)*
                    _ => None,
                }
            }

            /// Returns a number together with its word.
            #[must_use]
            pub fn from_number(number: u32) -> ObjectType {
                ObjectType { number, name: word(number).map(std::borrow::Cow::Borrowed) }
            }
        }
    };
}

kernel_enum! {
    /// `enum bpf_prog_type`.
    program_type, "BPF_PROG_TYPE_" {
        UNSPEC = 0 "unspec",
        SOCKET_FILTER = 1 "socket_filter",
        KPROBE = 2 "kprobe",
        SCHED_CLS = 3 "sched_cls",
        SCHED_ACT = 4 "sched_act",
        TRACEPOINT = 5 "tracepoint",
        XDP = 6 "xdp",
        PERF_EVENT = 7 "perf_event",
        CGROUP_SKB = 8 "cgroup_skb",
        CGROUP_SOCK = 9 "cgroup_sock",
        LWT_IN = 10 "lwt_in",
        LWT_OUT = 11 "lwt_out",
        LWT_XMIT = 12 "lwt_xmit",
        SOCK_OPS = 13 "sock_ops",
        SK_SKB = 14 "sk_skb",
        CGROUP_DEVICE = 15 "cgroup_device",
        SK_MSG = 16 "sk_msg",
        RAW_TRACEPOINT = 17 "raw_tracepoint",
        CGROUP_SOCK_ADDR = 18 "cgroup_sock_addr",
        LWT_SEG6LOCAL = 19 "lwt_seg6local",
        LIRC_MODE2 = 20 "lirc_mode2",
        SK_REUSEPORT = 21 "sk_reuseport",
        FLOW_DISSECTOR = 22 "flow_dissector",
        CGROUP_SYSCTL = 23 "cgroup_sysctl",
        RAW_TRACEPOINT_WRITABLE = 24 "raw_tracepoint_writable",
        CGROUP_SOCKOPT = 25 "cgroup_sockopt",
        TRACING = 26 "tracing",
        STRUCT_OPS = 27 "struct_ops",
        EXT = 28 "ext",
        LSM = 29 "lsm",
        SK_LOOKUP = 30 "sk_lookup",
        SYSCALL = 31 "syscall",
        NETFILTER = 32 "netfilter",
    }
}

kernel_enum! {
    /// `enum bpf_map_type`.
    map_type, "BPF_MAP_TYPE_" {
        UNSPEC = 0 "unspec",
        HASH = 1 "hash",
        ARRAY = 2 "array",
        PROG_ARRAY = 3 "prog_array",
        PERF_EVENT_ARRAY = 4 "perf_event_array",
        PERCPU_HASH = 5 "percpu_hash",
        PERCPU_ARRAY = 6 "percpu_array",
        STACK_TRACE = 7 "stack_trace",
        CGROUP_ARRAY = 8 "cgroup_array",
        LRU_HASH = 9 "lru_hash",
        LRU_PERCPU_HASH = 10 "lru_percpu_hash",
        LPM_TRIE = 11 "lpm_trie",
        ARRAY_OF_MAPS = 12 "array_of_maps",
        HASH_OF_MAPS = 13 "hash_of_maps",
        DEVMAP = 14 "devmap",
        SOCKMAP = 15 "sockmap",
        CPUMAP = 16 "cpumap",
        XSKMAP = 17 "xskmap",
        SOCKHASH = 18 "sockhash",
        CGROUP_STORAGE = 19 "cgroup_storage",
        REUSEPORT_SOCKARRAY = 20 "reuseport_sockarray",
        PERCPU_CGROUP_STORAGE = 21 "percpu_cgroup_storage",
        QUEUE = 22 "queue",
        STACK = 23 "stack",
        SK_STORAGE = 24 "sk_storage",
        DEVMAP_HASH = 25 "devmap_hash",
        STRUCT_OPS = 26 "struct_ops",
        RINGBUF = 27 "ringbuf",
        INODE_STORAGE = 28 "inode_storage",
        TASK_STORAGE = 29 "task_storage",
        BLOOM_FILTER = 30 "bloom_filter",
        USER_RINGBUF = 31 "user_ringbuf",
        CGRP_STORAGE = 32 "cgrp_storage",
        ARENA = 33 "arena",
        INSN_ARRAY = 34 "insn_array",
    }
}

kernel_enum! {
    /// `enum bpf_link_type`.
    link_type, "BPF_LINK_TYPE_" {
        UNSPEC = 0 "unspec",
        RAW_TRACEPOINT = 1 "raw_tracepoint",
        TRACING = 2 "tracing",
        CGROUP = 3 "cgroup",
        ITER = 4 "iter",
        NETNS = 5 "netns",
        XDP = 6 "xdp",
        PERF_EVENT = 7 "perf_event",
        KPROBE_MULTI = 8 "kprobe_multi",
        STRUCT_OPS = 9 "struct_ops",
        NETFILTER = 10 "netfilter",
        TCX = 11 "tcx",
        UPROBE_MULTI = 12 "uprobe_multi",
        NETKIT = 13 "netkit",
        SOCKMAP = 14 "sockmap",
        TRACING_MULTI = 15 "tracing_multi",
    }
}

kernel_enum! {
    /// `enum bpf_attach_type`.
    attach_type, "BPF_" {
        CGROUP_INET_INGRESS = 0 "cgroup_inet_ingress",
        CGROUP_INET_EGRESS = 1 "cgroup_inet_egress",
        CGROUP_INET_SOCK_CREATE = 2 "cgroup_inet_sock_create",
        CGROUP_SOCK_OPS = 3 "cgroup_sock_ops",
        SK_SKB_STREAM_PARSER = 4 "sk_skb_stream_parser",
        SK_SKB_STREAM_VERDICT = 5 "sk_skb_stream_verdict",
        CGROUP_DEVICE = 6 "cgroup_device",
        SK_MSG_VERDICT = 7 "sk_msg_verdict",
        CGROUP_INET4_BIND = 8 "cgroup_inet4_bind",
        CGROUP_INET6_BIND = 9 "cgroup_inet6_bind",
        CGROUP_INET4_CONNECT = 10 "cgroup_inet4_connect",
        CGROUP_INET6_CONNECT = 11 "cgroup_inet6_connect",
        CGROUP_INET4_POST_BIND = 12 "cgroup_inet4_post_bind",
        CGROUP_INET6_POST_BIND = 13 "cgroup_inet6_post_bind",
        CGROUP_UDP4_SENDMSG = 14 "cgroup_udp4_sendmsg",
        CGROUP_UDP6_SENDMSG = 15 "cgroup_udp6_sendmsg",
        LIRC_MODE2 = 16 "lirc_mode2",
        FLOW_DISSECTOR = 17 "flow_dissector",
        CGROUP_SYSCTL = 18 "cgroup_sysctl",
        CGROUP_UDP4_RECVMSG = 19 "cgroup_udp4_recvmsg",
        CGROUP_UDP6_RECVMSG = 20 "cgroup_udp6_recvmsg",
        CGROUP_GETSOCKOPT = 21 "cgroup_getsockopt",
        CGROUP_SETSOCKOPT = 22 "cgroup_setsockopt",
        TRACE_RAW_TP = 23 "trace_raw_tp",
        TRACE_FENTRY = 24 "trace_fentry",
        TRACE_FEXIT = 25 "trace_fexit",
        MODIFY_RETURN = 26 "modify_return",
        LSM_MAC = 27 "lsm_mac",
        TRACE_ITER = 28 "trace_iter",
        CGROUP_INET4_GETPEERNAME = 29 "cgroup_inet4_getpeername",
        CGROUP_INET6_GETPEERNAME = 30 "cgroup_inet6_getpeername",
        CGROUP_INET4_GETSOCKNAME = 31 "cgroup_inet4_getsockname",
        CGROUP_INET6_GETSOCKNAME = 32 "cgroup_inet6_getsockname",
        XDP_DEVMAP = 33 "xdp_devmap",
        CGROUP_INET_SOCK_RELEASE = 34 "cgroup_inet_sock_release",
        XDP_CPUMAP = 35 "xdp_cpumap",
        SK_LOOKUP = 36 "sk_lookup",
        XDP = 37 "xdp",
        SK_SKB_VERDICT = 38 "sk_skb_verdict",
        SK_REUSEPORT_SELECT = 39 "sk_reuseport_select",
        SK_REUSEPORT_SELECT_OR_MIGRATE = 40 "sk_reuseport_select_or_migrate",
        PERF_EVENT = 41 "perf_event",
        TRACE_KPROBE_MULTI = 42 "trace_kprobe_multi",
        LSM_CGROUP = 43 "lsm_cgroup",
        STRUCT_OPS = 44 "struct_ops",
        NETFILTER = 45 "netfilter",
        TCX_INGRESS = 46 "tcx_ingress",
        TCX_EGRESS = 47 "tcx_egress",
        TRACE_UPROBE_MULTI = 48 "trace_uprobe_multi",
        CGROUP_UNIX_CONNECT = 49 "cgroup_unix_connect",
        CGROUP_UNIX_SENDMSG = 50 "cgroup_unix_sendmsg",
        CGROUP_UNIX_RECVMSG = 51 "cgroup_unix_recvmsg",
        CGROUP_UNIX_GETPEERNAME = 52 "cgroup_unix_getpeername",
        CGROUP_UNIX_GETSOCKNAME = 53 "cgroup_unix_getsockname",
        NETKIT_PRIMARY = 54 "netkit_primary",
        NETKIT_PEER = 55 "netkit_peer",
        TRACE_KPROBE_SESSION = 56 "trace_kprobe_session",
        TRACE_UPROBE_SESSION = 57 "trace_uprobe_session",
        TRACE_FSESSION = 58 "trace_fsession",
        TRACE_FENTRY_MULTI = 59 "trace_fentry_multi",
        TRACE_FEXIT_MULTI = 60 "trace_fexit_multi",
        TRACE_FSESSION_MULTI = 61 "trace_fsession_multi",
    }
}

kernel_enum! {
    /// `enum bpf_task_fd_type`: what a perf event descriptor is.
    fd_type, "BPF_FD_TYPE_" {
        RAW_TRACEPOINT = 0 "raw_tracepoint",
        TRACEPOINT = 1 "tracepoint",
        KPROBE = 2 "kprobe",
        KRETPROBE = 3 "kretprobe",
        UPROBE = 4 "uprobe",
        URETPROBE = 5 "uretprobe",
    }
}

kernel_enum! {
    /// `enum bpf_perf_event_type`: what the event of a `perf_event` link is.
    perf_type, "BPF_PERF_EVENT_" {
        UNSPEC = 0 "unspec",
        UPROBE = 1 "uprobe",
        URETPROBE = 2 "uretprobe",
        KPROBE = 3 "kprobe",
        KRETPROBE = 4 "kretprobe",
        TRACEPOINT = 5 "tracepoint",
        EVENT = 6 "event",
    }
}

kernel_enum! {
    /// `enum perf_hw_id`, `include/uapi/linux/perf_event.h`, in the words of perf and bpftool.
    hardware_event, "PERF_COUNT_HW_" {
        CPU_CYCLES = 0 "cpu-cycles",
        INSTRUCTIONS = 1 "instructions",
        CACHE_REFERENCES = 2 "cache-references",
        CACHE_MISSES = 3 "cache-misses",
        BRANCH_INSTRUCTIONS = 4 "branch-instructions",
        BRANCH_MISSES = 5 "branch-misses",
        BUS_CYCLES = 6 "bus-cycles",
        STALLED_CYCLES_FRONTEND = 7 "stalled-cycles-frontend",
        STALLED_CYCLES_BACKEND = 8 "stalled-cycles-backend",
        REF_CPU_CYCLES = 9 "ref-cycles",
    }
}

kernel_enum! {
    /// `enum perf_sw_ids`, in the words of perf and bpftool.
    software_event, "PERF_COUNT_SW_" {
        CPU_CLOCK = 0 "cpu-clock",
        TASK_CLOCK = 1 "task-clock",
        PAGE_FAULTS = 2 "page-faults",
        CONTEXT_SWITCHES = 3 "context-switches",
        CPU_MIGRATIONS = 4 "cpu-migrations",
        PAGE_FAULTS_MIN = 5 "minor-faults",
        PAGE_FAULTS_MAJ = 6 "major-faults",
        ALIGNMENT_FAULTS = 7 "alignment-faults",
        EMULATION_FAULTS = 8 "emulation-faults",
        DUMMY = 9 "dummy",
        BPF_OUTPUT = 10 "bpf-output",
        CGROUP_SWITCHES = 11 "cgroup-switches",
    }
}

kernel_enum! {
    /// The families of netfilter that have hooks. Source: `include/uapi/linux/netfilter.h`.
    netfilter_family, "NFPROTO_" {
        INET = 1 "inet",
        IPV4 = 2 "ipv4",
        ARP = 3 "arp",
        NETDEV = 5 "netdev",
        BRIDGE = 7 "bridge",
        IPV6 = 10 "ipv6",
    }
}

kernel_enum! {
    /// `enum nf_inet_hooks`: the hooks of every family but those that have their own below.
    inet_hook, "NF_INET_" {
        PRE_ROUTING = 0 "prerouting",
        LOCAL_IN = 1 "input",
        FORWARD = 2 "forward",
        LOCAL_OUT = 3 "output",
        POST_ROUTING = 4 "postrouting",
    }
}

kernel_enum! {
    /// The hooks of `arp`, which are macros. Source: `include/uapi/linux/netfilter_arp.h`.
    arp_hook, "NF_ARP_" {
        IN = 0 "input",
        OUT = 1 "output",
        FORWARD = 2 "forward",
    }
}

kernel_enum! {
    /// `enum nf_dev_hooks`: the hooks of `netdev`.
    netdev_hook, "NF_NETDEV_" {
        INGRESS = 0 "ingress",
        EGRESS = 1 "egress",
    }
}
