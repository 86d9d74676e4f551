//! Links: every type that can be attached on this machine, with its attach type and target, and what changes in their lifetime.

use std::ffi::CString;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::kernel::release;
use bpf_metrics_exporter::model::{Link as Found, LinkFacts, ReaderKind};

use super::{is_iter, read, reader};
use tempfile::TempDir;
use test_support::objects::{Link, Program, Target, every_link_kind, if_possible, uapi, wait_until};

/// Deadline for the kernel to free the target of a link.
const SOON: Duration = Duration::from_secs(20);

fn row(links: Option<Vec<Found>>, id: u32) -> Found {
    let links = links.expect("links can be listed");
    links.into_iter().find(|link| link.facts.id == id).expect("the link is reported")
}

fn target_text(facts: &LinkFacts) -> Option<String> {
    facts.target.as_ref().map(ToString::to_string)
}

fn find(links: Option<Vec<Found>>, id: u32) -> Arc<LinkFacts> {
    row(links, id).facts
}

/// Link types that every kernel with links can attach, 5.9 and later, on every architecture.
const EVERYWHERE: [&str; 5] = ["raw_tracepoint", "cgroup", "iter", "netns_sk_lookup", "xdp"];

pub(crate) fn every_type_is_reported(backend: ReaderKind) {
    let made = every_link_kind();
    let links = read(backend).links;
    let mut seen = Vec::new();
    for (name, link) in &made {
        // A type that this kernel cannot attach cannot be made.
        let Ok(link) = link else { continue };
        let found = find(links.clone(), link.id());
        assert_eq!(found.link_type.number, link.kind(), "{name}");
        assert!(found.link_type.name.is_some(), "{name} has a name");
        assert_eq!(found.prog_id, link.program().map(Program::id), "{name}");
        seen.push(*name);
    }
    assert!(EVERYWHERE.iter().all(|kind| seen.contains(kind)), "only {seen:?} could be made: {made:#?}");
}

pub(crate) fn long_path(backend: ReaderKind) {
    const NAME_LEN: usize = 200;
    let directory = TempDir::new().expect("a temporary directory can be created");
    let names = ["a", "b", "c", "d"].map(|letter| letter.repeat(NAME_LEN));
    let path = names.iter().fold(directory.path().to_owned(), |path, name| path.join(name));
    fs::create_dir_all(&path).expect("the directory is writable");
    let file = path.join("file");
    fs::write(&file, [0; 4096]).expect("the directory is writable");
    let name = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path has no zeros");
    let Some(link) = if_possible(Link::uprobe_of(&name)) else { return };
    let found = target_text(&find(read(backend).links, link.id()));
    if is_iter(backend) || version() >= (6, 6) {
        assert_eq!(found, Some(format!("{}:0x0", file.display())));
    }
}

/// Returns the version of the running kernel.
fn version() -> (u32, u32) {
    let release = release().expect("Linux has /proc");
    let mut numbers = release.split(|end: char| !end.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).expect("a release begins with two numbers");
    (next(), next())
}

/// Returns whether a file system of this type is mounted.
fn is_mounted(file_system: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    mounts.contains(&format!(" - {file_system} "))
}

/// Returns whether every cgroup is one of version 2.
fn is_only_hierarchy() -> bool {
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("Linux has /proc");
    cgroups.lines().all(|line| line.starts_with("0::"))
}

/// Returns the attach type and the target that a link must have, on a kernel that reports both.
fn expected(backend: ReaderKind, name: &str, link: &Link) -> (Option<&'static str>, String) {
    let target = link.target();
    let cgroup = || match target {
        Target::Cgroup(cgroup) if is_mounted("cgroup2") => format!("/{}", cgroup.name()),
        Target::Cgroup(cgroup) => format!("cgroup {}", cgroup.id()),
        other => panic!("{other:?} is no cgroup"),
    };
    // Where there are hierarchies of version 1, the id of an iterator's cgroup may be one of theirs.
    let iterated = || match target {
        Target::Cgroup(other) if !is_only_hierarchy() => format!("cgroup {}", other.id()),
        _ => cgroup(),
    };
    let network = || match target {
        Target::Network(network) => format!("netns {}", network.inode()),
        other => panic!("{other:?} is no network"),
    };
    // By ids the kernel reports the index only, and the interfaces are not in this network namespace.
    let device = |name: &str, index: u32| if is_iter(backend) { name.to_owned() } else { index.to_string() };
    let map = || match target {
        Target::Map(map) => format!("map {}", map.id()),
        other => panic!("{other:?} is no map"),
    };
    let function = || match target {
        Target::Program(program) => format!("called_function of program {}", program.id()),
        other => panic!("{other:?} is no program"),
    };
    let offset = || match target {
        Target::Probe { offset, .. } => format!("{offset:#x}"),
        other => panic!("{other:?} is no probe"),
    };
    let tracepoint = "sched_process_exec";
    let kernel_function = "bpf_fentry_test1";
    let this_file = std::env::current_exe().expect("Linux has /proc");
    let this_file = this_file.display();
    match name {
        // The id walk finds the group only there.
        "perf_event_tracepoint" if is_mounted("tracefs") || is_iter(backend) => {
            (None, format!("sched:{tracepoint}"))
        }
        "raw_tracepoint" | "raw_tracepoint_btf" | "perf_event_tracepoint" => (None, tracepoint.to_owned()),
        "tracing_fentry_kernel" => (Some("trace_fentry"), kernel_function.to_owned()),
        "tracing_fentry_program" => (Some("trace_fentry"), function()),
        "tracing_extension" => (None, function()),
        "tracing_lsm" => (Some("lsm_mac"), "bpf_lsm_file_open".to_owned()),
        "cgroup" => (Some("cgroup_inet_ingress"), cgroup()),
        "cgroup_lsm" => (Some("lsm_cgroup"), cgroup()),
        "iter" => (None, "bpf_map".to_owned()),
        "iter_map_elem" => (None, format!("bpf_map_elem of {}", map())),
        "iter_cgroup" => (None, format!("cgroup of {}", iterated())),
        "iter_task" => (None, format!("task of process {}", std::process::id())),
        "netns_sk_lookup" => (Some("sk_lookup"), network()),
        "netns_flow_dissector" => (Some("flow_dissector"), network()),
        "xdp" => (None, device("lo", 1)),
        "tcx" => (Some("tcx_ingress"), device("lo", 1)),
        "tcx_egress" => (Some("tcx_egress"), device("lo", 1)),
        "netkit" => (Some("netkit_primary"), device("objects", 77)),
        "netkit_peer" => (Some("netkit_peer"), device("nk0", 78)),
        "perf_event_software" => (None, "software:cpu-clock".to_owned()),
        "perf_event_uprobe" => (None, format!("/proc/self/exe:{}", offset())),
        "perf_event_uretprobe" => (None, format!("/proc/self/exe:{}%return", offset())),
        "perf_event_kprobe" | "kprobe_multi" => (None, kernel_function.to_owned()),
        "perf_event_kprobe_behind" => (None, format!("{kernel_function}+{}", offset())),
        "perf_event_kretprobe" => (None, format!("{kernel_function}%return")),
        "kprobe_multi_several" => (None, "2 functions".to_owned()),
        "uprobe_multi" => (None, format!("{this_file}:{}", offset())),
        "uprobe_multi_several" => (None, format!("{this_file}: 2 offsets")),
        "struct_ops" => (None, map()),
        "sockmap" => (Some("sk_msg_verdict"), map()),
        "netfilter" => (None, "ipv4 input priority -128".to_owned()),
        other => panic!("the target of {other} is not known to this test"),
    }
}

/// Returns the kernel version that first reports the target.
fn reported_since(name: &str, kind: u32) -> (u32, u32) {
    use uapi::link_type;
    match (name, kind) {
        ("iter_cgroup" | "iter_task", _) => (6, 1),
        (_, link_type::ITER) => (5, 10),
        (_, link_type::TRACING) => (5, 13),
        (_, link_type::PERF_EVENT | link_type::KPROBE_MULTI) => (6, 6),
        (_, link_type::UPROBE_MULTI) => (6, 8),
        _ => (0, 0),
    }
}

pub(crate) fn every_target(backend: ReaderKind) {
    let made = every_link_kind();
    let links = read(backend).links;
    for (name, link) in &made {
        let Ok(link) = link else { continue };
        let found = row(links.clone(), link.id());
        let (attach_type, target) = expected(backend, name, link);
        let attach_type_name =
            found.facts.attach_type.as_ref().map(|hook| hook.name.as_deref().expect("it has a name"));
        assert_eq!(attach_type_name, attach_type, "{name}");
        let is_reported = is_iter(backend) || version() >= reported_since(name, link.kind());
        let target = is_reported.then_some(target);
        assert_eq!(target_text(&found.facts), target, "{name}");
        let netns = match (link.target(), link.kind()) {
            (Target::Network(network), uapi::link_type::NETNS) => Some(network.inode()),
            (Target::Network(network), _) if is_iter(backend) => Some(network.inode()),
            _ => None,
        };
        assert_eq!(found.facts.netns.as_ref().map(|netns| netns.inode), netns, "{name}");
        let in_kernel =
            name.starts_with("kprobe_multi") || name.contains("_kprobe") || name.contains("_kretprobe");
        let counted = in_kernel && (is_iter(backend) || version() >= (6, 7));
        assert_eq!(found.missed, counted.then_some(0), "{name}");
    }
}

pub(crate) fn facts_are_shared(backend: ReaderKind) {
    let made = every_link_kind();
    let mut reader = reader(backend);
    let (first, second) = (reader.read().links, reader.read().links);
    for (name, link) in &made {
        let Ok(link) = link else { continue };
        let (first, second) = (find(first.clone(), link.id()), find(second.clone(), link.id()));
        assert!(Arc::ptr_eq(&first, &second), "{name}");
    }
}

pub(crate) fn replaced_program(backend: ReaderKind) {
    let link = Link::cgroup().expect("a link to a cgroup can be made");
    let mut reader = reader(backend);
    let before = find(reader.read().links, link.id());
    let other = Program::ready(uapi::program_type::CGROUP_SKB, "other").expect("it can be loaded");
    link.replace_program(&other).expect("a cgroup's link takes another program");
    let after = find(reader.read().links, link.id());
    assert_eq!((before.prog_id, after.prog_id), (link.program().map(Program::id), Some(other.id())));
    assert_eq!(before.target, after.target);
    assert!(after.first_seen > before.first_seen, "it is a new series");
}

pub(crate) fn renamed_interface(backend: ReaderKind) {
    let link = Link::xdp().expect("a link to an interface can be made");
    let Target::Network(network) = link.target() else { panic!("it is in a network of its own") };
    let mut reader = reader(backend);
    let mut seen = || {
        let links = network.inside(|| reader.read().links).expect("the network can be entered");
        find(links, link.id())
    };
    let before = seen();
    // By ids the kernel reports the index only, in whatever network namespace the reader is.
    let name = |name| Some(if is_iter(backend) { name } else { "1" });
    assert_eq!(target_text(&before).as_deref(), name("lo"));
    network.rename_loopback("renamed").expect("an interface that is down takes another name");
    let after = seen();
    assert_eq!(target_text(&after).as_deref(), name("renamed"));
    assert_eq!(after.first_seen, before.first_seen, "it is the same series");
    assert!(Arc::ptr_eq(&after, &seen()), "nothing changed since");
}

pub(crate) fn removed_target(backend: ReaderKind) {
    let makers = [Link::cgroup, Link::lsm_cgroup, Link::sk_lookup, Link::xdp, Link::tcx, Link::netkit];
    let mut reader = reader(backend);
    for (make, needed) in makers.into_iter().zip([true, false, true, true, false, false]) {
        let mut link = match make() {
            Ok(link) => link,
            Err(error) if needed => panic!("{error}"),
            Err(_) => continue,
        };
        let before = find(reader.read().links, link.id());
        assert!(before.target.is_some(), "{before:?}");
        link.end_target();
        wait_until("the target is removed", SOON, || {
            Ok(find(reader.read().links, link.id()).target.is_none())
        })
        .unwrap_or_else(|error| panic!("{before:?}: {error}"));
        let after = find(reader.read().links, link.id());
        let expected = LinkFacts { target: None, netns: None, ..LinkFacts::clone(&before) };
        assert_eq!(*after, expected, "it is the same series");
        assert!(Arc::ptr_eq(&after, &find(reader.read().links, link.id())), "{before:?}");
    }
}

pub(crate) fn later_cgroup(backend: ReaderKind) {
    let mut reader = reader(backend);
    let first = Link::cgroup().expect("a link to a cgroup can be made");
    reader.read();
    let second = Link::cgroup().expect("a link to a cgroup can be made");
    let links = reader.read().links;
    for link in [first, second] {
        let found = find(links.clone(), link.id());
        assert_eq!(target_text(&found), Some(expected(backend, "cgroup", &link).1));
    }
}
