//! Checks [`crate::model::enums`] against the BTF of the running kernel.

use std::collections::HashMap;
use std::fs;

use super::btf::all_enumerators;
use crate::model::ObjectType;
use crate::model::enums::{
    attach_type, fd_type, hardware_event, inet_hook, link_type, map_type, netdev_hook, netfilter_family,
    perf_type, program_type, software_event,
};
use crate::sys::bpf::Command;

/// The listed enumerators of an enumeration: name, number and word.
type Listed = &'static [(&'static str, u32, &'static str)];

/// Enumerations by the kernel's names. Every enumerator must be listed.
const COMPLETE: [(&str, Listed); 10] = [
    ("bpf_prog_type", program_type::ALL),
    ("bpf_map_type", map_type::ALL),
    ("bpf_link_type", link_type::ALL),
    ("bpf_attach_type", attach_type::ALL),
    ("bpf_task_fd_type", fd_type::ALL),
    ("bpf_perf_event_type", perf_type::ALL),
    ("perf_hw_id", hardware_event::ALL),
    ("perf_sw_ids", software_event::ALL),
    ("nf_inet_hooks", inet_hook::ALL),
    ("nf_dev_hooks", netdev_hook::ALL),
];

/// Enumerators that end an enumeration or repeat one under its former name, and the one that is for `inet` only.
fn is_no_value(name: &str) -> bool {
    const COUNTS: [&str; 3] = ["NF_INET_NUMHOOKS", "NF_NETDEV_NUMHOOKS", "NF_INET_INGRESS"];
    name.starts_with("__MAX")
        || name.ends_with("_MAX")
        || name.ends_with("_DEPRECATED")
        || COUNTS.contains(&name)
}

#[test]
#[expect(clippy::print_stderr, reason = "a unit test cannot be reported as ignored while it runs")]
fn every_enumerator_of_the_running_kernel_is_listed_with_its_number() {
    let Ok(data) = fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("not checked: this kernel has no BTF");
        return;
    };
    let mut kernel: HashMap<String, Vec<(String, u32)>> = HashMap::new();
    for (enumeration, name, value) in all_enumerators(&data) {
        kernel.entry(enumeration).or_default().push((name, value));
    }
    for (enumeration, listed) in COMPLETE {
        // An older kernel may not have it.
        let Some(enumerators) = kernel.get(enumeration) else { continue };
        for (name, value) in enumerators.iter().filter(|(name, _)| !is_no_value(name)) {
            let number = listed.iter().find(|(listed, ..)| listed == name).map(|&(_, number, _)| number);
            assert_eq!(number, Some(*value), "{name} of enum {enumeration}");
        }
    }
    assert!(kernel.contains_key("bpf_prog_type"), "the enumerations were found");
    for (name, number) in Command::ALL {
        let found = kernel["bpf_cmd"].iter().find(|(enumerator, _)| enumerator == name);
        // An older kernel may not have it.
        assert!(found.is_none_or(|(_, value)| value == number), "{name}");
    }
    for (name, number, _) in netfilter_family::ALL {
        let values = kernel.values().flatten().filter(|(enumerator, _)| enumerator == name);
        assert!(values.into_iter().all(|(_, value)| value == number), "{name}");
    }
}

#[test]
fn types_have_the_kernel_names_in_lower_case() {
    let prefixes = [
        (program_type::ALL, "BPF_PROG_TYPE_"),
        (map_type::ALL, "BPF_MAP_TYPE_"),
        (link_type::ALL, "BPF_LINK_TYPE_"),
        (attach_type::ALL, "BPF_"),
    ];
    for (listed, prefix) in prefixes {
        for (name, _, word) in listed {
            assert_eq!(name.strip_prefix(prefix).map(str::to_lowercase).as_deref(), Some(*word));
        }
    }
}

#[test]
fn known_types_have_a_word_and_unknown_types_only_a_number() {
    assert_eq!(program_type::from_number(6).name.as_deref(), Some("xdp"));
    assert_eq!(program_type::from_number(32).name.as_deref(), Some("netfilter"));
    assert_eq!(map_type::from_number(27).name.as_deref(), Some("ringbuf"));
    assert_eq!(link_type::from_number(11).name.as_deref(), Some("tcx"));
    for (number, word) in [
        (0, "cgroup_inet_ingress"),
        (24, "trace_fentry"),
        (37, "xdp"),
        (41, "perf_event"),
        (46, "tcx_ingress"),
        (54, "netkit_primary"),
        (58, "trace_fsession"),
    ] {
        assert_eq!(attach_type::from_number(number).name.as_deref(), Some(word));
    }
    assert_eq!(attach_type::from_number(999), ObjectType { number: 999, name: None });
    assert_eq!(program_type::from_number(4_000_000_000), ObjectType { number: 4_000_000_000, name: None });
}
