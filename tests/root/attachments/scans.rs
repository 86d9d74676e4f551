//! Scans, the attachments of a test's own objects in them, and changes from one to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{AttachPointStatus, AttachmentScan, Hook, Issue, Part, Snapshot, Target};

use super::readers;
use test_support::objects::{Cgroup, Link, Network, Program, every_link_kind, uapi};
use test_support::root;

/// Collects, with a scan each time.
pub(crate) fn enricher(every_netns: bool) -> Enricher {
    enricher_by(readers::by_ids(), every_netns)
}

/// As [`enricher`], with readings by `reader`.
pub(crate) fn enricher_by(reader: Reader, every_netns: bool) -> Enricher {
    let hooks = Some(Duration::from_hours(1));
    let options = EnrichOptions { hooks, every_netns, wait_for_hooks: true, ..EnrichOptions::default() };
    Enricher::new(reader, options, NameCache::default())
}

/// Scans this thread's network namespace, or every one.
pub(crate) fn look(every_netns: bool) -> Arc<AttachmentScan> {
    looked(&enricher(every_netns).read())
}

/// Returns the scan of a snapshot, and asserts that its only issues are with processes that refuse everyone, and with maps that are too
/// large, of which a test makes one.
pub(crate) fn looked(snapshot: &Snapshot) -> Arc<AttachmentScan> {
    let excused = |issue: &Issue| {
        issue.call.starts_with("/proc/PID/") && root::some_process_refuses()
            || (&*issue.call, &*issue.error) == ("BPF_MAP_LOOKUP_ELEM", "E2BIG")
    };
    let issues = snapshot.issues.iter().filter(|issue| issue.part == Part::Hook && issue.count > 0);
    let issues: Vec<_> = issues.collect();
    assert!(issues.iter().all(|issue| excused(issue)), "{issues:?}");
    let collector = snapshot.collectors.iter().find(|collector| collector.part == Part::Hook);
    assert_eq!(collector.map(|collector| collector.success), Some(issues.is_empty()));
    snapshot.hooks.clone().expect("it was waited for")
}

/// Scans from inside a network namespace.
pub(crate) fn look_in(network: &Network) -> Arc<AttachmentScan> {
    network.inside(|| look(false)).expect("root may enter it")
}

/// Returns whether a target has this text.
pub(crate) fn is_at(target: Option<&Target>, text: &str) -> bool {
    target.is_some_and(|target| target.to_string() == text)
}

/// Returns the attachments of these programs.
pub(crate) fn of<'a>(look: &'a AttachmentScan, programs: &[u32]) -> Vec<&'a Hook> {
    look.hooks.iter().filter(|hook| hook.prog_id.is_some_and(|id| programs.contains(&id))).collect()
}

/// Returns the inode number of a hook's network namespace.
pub(crate) fn inode(hook: &Hook) -> Option<u64> {
    hook.netns.as_ref().map(|netns| netns.inode)
}

/// Formats the attachments of these programs as `hook target #position program link`.
pub(crate) fn words(look: &AttachmentScan, programs: &[u32]) -> Vec<String> {
    let line = |hook: &Hook| {
        let program = hook.prog_id.and_then(|id| programs.iter().position(|&program| program == id));
        let link = hook.link_id.map_or("-".to_owned(), |id| id.to_string());
        let target = hook.target.as_ref().map_or("-".to_owned(), ToString::to_string);
        let position = hook.position.map_or("-".to_owned(), |position| position.to_string());
        format!("{} {target} #{position} {} {link}", hook.hook, program.expect("it is one of them"))
    };
    of(look, programs).into_iter().map(line).collect()
}

pub(crate) fn detached() {
    let cgroup = Cgroup::new().expect("it can be made");
    let program = |name| Program::ready(uapi::program_type::CGROUP_SKB, name).expect("it can be loaded");
    let stays = program("stays").link_cgroup(&cgroup).expect("it can be attached");
    let goes = program("goes").link_cgroup(&cgroup).expect("it can be attached");
    let target = format!("/{}", cgroup.name());
    let mut enricher = enricher(false);
    let mut place = || {
        let look = looked(&enricher.read());
        let place = look.attach_points.iter().find(|place| is_at(place.target.as_ref(), &target));
        place.cloned().expect("it is known")
    };
    let AttachPointStatus { hook, netns, programs, detached, since, .. } = place();
    assert_eq!((&*hook, netns, programs, detached), ("cgroup_inet_ingress", None, 2, Some(0)));
    drop(goes);
    let later = place();
    assert_eq!((later.programs, later.detached, later.since), (1, Some(1), since));
    let replacing = program("replaces");
    stays.replace_program(&replacing).expect("it can be replaced");
    let later = place();
    assert_eq!((later.programs, later.detached), (1, Some(2)));
    drop(stays);
    let later = place();
    assert_eq!((later.programs, later.detached), (0, Some(3)), "the count stays");
}

pub(crate) fn every_link() {
    let made: Vec<_> =
        every_link_kind().into_iter().filter_map(|(name, link)| Some((name, link.ok()?))).collect();
    assert!(made.len() > 8, "most kinds can be made");
    // Before 6.6 only the iterator reports the event of a link.
    let by_ids = (readers::version() >= (6, 6)).then(readers::by_ids);
    for reader in [readers::best()].into_iter().chain(by_ids) {
        each_once(&made, &looked(&enricher_by(reader, false).read()));
    }
}

/// Asserts that each of these links is attached once, to its hook.
fn each_once(made: &[(&str, Link)], look: &AttachmentScan) {
    let mut words = BTreeSet::new();
    for (name, link) in made {
        let hooks: Vec<&Hook> = look.hooks.iter().filter(|hook| hook.link_id == Some(link.id())).collect();
        if link.kind() == uapi::link_type::ITER {
            assert!(hooks.is_empty(), "an iterator is no hook: {hooks:?}");
            continue;
        }
        let [hook] = hooks[..] else { panic!("{name} is at one hook: {hooks:?}") };
        assert_eq!(hook.prog_id, link.program().map(Program::id), "{name}");
        assert_eq!(hook.map_id.is_some(), link.kind() == uapi::link_type::STRUCT_OPS, "{name}");
        words.insert((*name, hook.hook.to_string()));
    }
    for (name, word) in [
        ("raw_tracepoint", "raw_tracepoint"),
        ("tracing_fentry_program", "trace_fentry"),
        ("tracing_extension", "tracing"),
        ("cgroup", "cgroup_inet_ingress"),
        ("netns_sk_lookup", "sk_lookup"),
        ("xdp", "xdp"),
        ("perf_event_software", "perf_event"),
        ("perf_event_tracepoint", "tracepoint"),
        ("perf_event_uprobe", "uprobe"),
        ("perf_event_uretprobe", "uretprobe"),
        ("perf_event_kprobe", "kprobe"),
        ("kprobe_multi", "kprobe_multi"),
        ("struct_ops", "struct_ops"),
        ("netfilter", "netfilter"),
        ("tcx_egress", "tcx_egress"),
        ("uprobe_multi", "uprobe_multi"),
        ("netkit", "netkit_primary"),
        ("sockmap", "sk_msg_verdict"),
    ] {
        let is_made = made.iter().any(|(made, _)| *made == name);
        assert_eq!(words.contains(&(name, word.to_owned())), is_made, "{name} is at {word}: {words:?}");
    }
}
