//! Targets of links and events: the names that belong to the ids and addresses that the kernel reports.
//! Entry point: [`resolve`]. Independent of the backend: both make a [`Target`] without names of what they read.

pub(crate) mod info;
pub(crate) mod resolver;

use std::sync::Arc;

use self::resolver::Resolver;
use crate::model::{Cgroup, FunctionObject, NetNs, Symbol, Target, Within};

/// A target as the kernel reports it: without names that have to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawTarget {
    pub(crate) target: Target,
    /// The inode number of the network namespace that an interface or a hook of netfilter is in; 0 where it is not reported.
    pub(crate) netns: u64,
    /// The address of a probe that is not reported by its symbol; 0 without one, and for a process that may not know addresses.
    pub(crate) address: u64,
}

impl From<Target> for RawTarget {
    fn from(target: Target) -> Self {
        let netns = if let Target::NetNs { inode } = target { inode } else { 0 };
        Self { target, netns, address: 0 }
    }
}

/// Looks up the names of a target, and of its network namespace. `None` for a target that is gone or not reported: the kernel writes
/// 0 or an empty name.
///
/// A name can cost milliseconds the first time in a reading. It is for a link that is new or changed.
pub(crate) fn resolve(raw: RawTarget, resolver: &mut Resolver) -> Option<(Target, Option<NetNs>)> {
    if !is_reported(&raw) {
        return None;
    }
    let RawTarget { target, netns, address } = raw;
    let netns = (netns != 0).then(|| resolver.netns(netns));
    let target = match target {
        Target::Function { object, type_id, name } => function(object, type_id, name, resolver),
        Target::Cgroup(cgroup) => Target::Cgroup(with_path(cgroup, resolver)),
        Target::Iterator { name, within } => Target::Iterator {
            name,
            within: match within {
                Some(
                    Within::Map { id: 0 }
                    | Within::Cgroup(Cgroup { id: 0, .. })
                    | Within::Thread { tid: 0 }
                    | Within::Process { pid: 0 },
                ) => None,
                Some(Within::Cgroup(Cgroup { id, path })) => {
                    let path = path.or_else(|| resolver.cgroup_of_any_hierarchy(id));
                    Some(Within::Cgroup(Cgroup { id, path }))
                }
                within => within,
            },
        },
        Target::Kprobe { symbol, at_return } => {
            Target::Kprobe { symbol: symbol.or_else(|| find_symbol(address, resolver)), at_return }
        }
        Target::KprobeMulti { count, single, at_return } => {
            let find = || if count == 1 { find_symbol(address, resolver) } else { None };
            Target::KprobeMulti { count, single: single.or_else(find), at_return }
        }
        Target::UprobeMulti { path, count, single, at_return } => {
            Target::UprobeMulti { path, count, single: single.filter(|_| count == 1), at_return }
        }
        Target::Tracepoint { group, name } => {
            let group = group.or_else(|| resolver.tracepoint_group(&name).map(Arc::from));
            Target::Tracepoint { group, name }
        }
        Target::PerfEvent { event_type, config, unit } => {
            /// `PERF_TYPE_MAX`: numbers from here on are assigned when a unit is registered.
            const FIRST_DYNAMIC: u32 = 6;
            let unit = unit.or_else(|| {
                (event_type >= FIRST_DYNAMIC).then(|| resolver.perf_unit(event_type)).flatten().map(Arc::from)
            });
            Target::PerfEvent { event_type, config, unit }
        }
        target => target,
    };
    Some((target, netns))
}

/// Returns whether the kernel reports the target.
fn is_reported(raw: &RawTarget) -> bool {
    match &raw.target {
        Target::RawTracepoint { name } | Target::Iterator { name, .. } | Target::Tracepoint { name, .. } => {
            !name.is_empty()
        }
        Target::Function { object, name, .. } => {
            let (FunctionObject::Btf(id) | FunctionObject::Program(id) | FunctionObject::BtfOrProgram(id)) =
                object;
            *id != 0 || name.is_some()
        }
        Target::Cgroup(cgroup) => cgroup.id != 0,
        Target::NetNs { inode } => *inode != 0,
        // Neither is reported: the probe is gone, or the kernel hides its addresses.
        Target::Kprobe { symbol, .. } => symbol.is_some() || raw.address != 0,
        Target::Device(device) => device.ifindex != 0,
        Target::KprobeMulti { count, .. } => *count != 0,
        Target::Uprobe { path, .. } => !path.is_empty(),
        Target::UprobeMulti { path, count, .. } => *count != 0 && !path.is_empty(),
        Target::Map { id } => *id != 0,
        _ => true,
    }
}

fn function(object: FunctionObject, type_id: u32, name: Option<Arc<str>>, resolver: &mut Resolver) -> Target {
    let of_kernel = |id, resolver: &mut Resolver| resolver.kernel_function(id, type_id).map(Arc::from);
    let of_program = |id, resolver: &mut Resolver| resolver.program_function(id, type_id).map(Arc::from);
    let (object, name) = match (object, name) {
        // Without an object, the name is all there is.
        (FunctionObject::Program(0), name) => (FunctionObject::Btf(0), name),
        (object, Some(name)) => (object, Some(name)),
        (FunctionObject::Btf(id), None) => (object, of_kernel(id, resolver)),
        (FunctionObject::Program(id), None) => (object, of_program(id, resolver)),
        // The BTF of the kernel or of a module has a great many types before its first function, and that of a program ends
        // long before: at most one of the two has a function of this number.
        (FunctionObject::BtfOrProgram(id), None) => match of_kernel(id, resolver) {
            Some(name) => (FunctionObject::Btf(id), Some(name)),
            None => match of_program(id, resolver) {
                Some(name) => (FunctionObject::Program(id), Some(name)),
                None => (object, None),
            },
        },
    };
    Target::Function { object, type_id, name }
}

fn with_path(cgroup: Cgroup, resolver: &mut Resolver) -> Cgroup {
    let Cgroup { id, path } = cgroup;
    Cgroup { id, path: path.or_else(|| resolver.cgroup(id)) }
}

/// Finds the symbol of an address, where there is one.
fn find_symbol(address: u64, resolver: &mut Resolver) -> Option<Symbol> {
    let (name, offset) = if address == 0 { None } else { resolver.symbol(address) }?;
    Some(Symbol { name: name.into(), offset })
}

/// A probe in the kernel as the kernel reports it: by the symbol it was set by, if any, else by address.
pub(crate) fn kprobe(symbol: Option<&str>, offset: u64, address: u64, at_return: bool) -> RawTarget {
    let symbol = symbol.filter(|name| !name.is_empty()).map(|name| Symbol { name: name.into(), offset });
    RawTarget { address, ..Target::Kprobe { symbol, at_return }.into() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::Device;

    /// Resolves where no name can be looked up.
    fn resolved(target: &Target) -> Option<Target> {
        let raw = RawTarget { address: 0xffff, ..target.clone().into() };
        resolve(raw, &mut Resolver::below(Path::new("/nonexistent"))).map(|(target, _)| target)
    }

    fn function(object: FunctionObject, name: Option<&str>) -> Target {
        Target::Function { object, type_id: 12_345, name: name.map(Arc::from) }
    }

    fn kprobes(count: u32) -> Target {
        Target::KprobeMulti { count, single: None, at_return: false }
    }

    fn uprobes(count: u32, single: Option<u64>) -> Target {
        Target::UprobeMulti { path: "/usr/bin/x".into(), count, single, at_return: false }
    }

    fn iterator(within: Option<Within>) -> Target {
        Target::Iterator { name: "task".into(), within }
    }

    #[test]
    fn targets_without_names_are_kept_as_reported() {
        for target in [
            Target::RawTracepoint { name: "sched_switch".into() },
            function(FunctionObject::Btf(1), Some("tcp_connect")),
            function(FunctionObject::Program(17), Some("handler")),
            function(FunctionObject::Btf(u32::MAX), None),
            function(FunctionObject::Program(u32::MAX), None),
            function(FunctionObject::BtfOrProgram(u32::MAX), None),
            Target::Cgroup(Cgroup { id: 4721, path: None }),
            iterator(None),
            iterator(Some(Within::Process { pid: 12 })),
            Target::NetNs { inode: 4_026_531_840 },
            Target::Device(Device { ifindex: u32::MAX, name: None }),
            kprobe(Some("tcp_connect"), 16, 0xffff, true).target,
            kprobe(Some(""), 16, 0xffff, false).target,
            Target::Tracepoint { group: None, name: "sched_switch".into() },
            Target::PerfEvent { event_type: 7, config: 1, unit: None },
            kprobes(1),
            kprobes(12),
            uprobes(1, Some(5)),
            Target::Map { id: 17 },
            Target::Netfilter { family: 2, hook: 0, priority: Some(-100) },
        ] {
            assert_eq!(resolved(&target), Some(target));
        }
    }

    #[test]
    fn only_a_single_probe_has_an_offset() {
        assert_eq!(resolved(&uprobes(3, Some(5))), Some(uprobes(3, None)));
    }

    #[test]
    fn an_unnamed_namespace_has_its_number() {
        let mut resolver = Resolver::below(Path::new("/nonexistent"));
        let device = || Target::Device(Device { ifindex: 2, name: None });
        for (raw, netns) in [
            (RawTarget { netns: 7, ..device().into() }, Some(NetNs { inode: 7, name: None })),
            (device().into(), None),
            (Target::NetNs { inode: 8 }.into(), Some(NetNs { inode: 8, name: None })),
        ] {
            let target = raw.target.clone();
            assert_eq!(resolve(raw, &mut resolver), Some((target, netns)));
        }
    }

    #[test]
    fn an_iterator_without_a_part_covers_everything() {
        for within in [
            Within::Map { id: 0 },
            Within::Thread { tid: 0 },
            Within::Process { pid: 0 },
            Within::Cgroup(Cgroup { id: 0, path: None }),
        ] {
            assert_eq!(resolved(&iterator(Some(within))), Some(iterator(None)));
        }
    }

    #[test]
    fn removed_and_unreported_targets_are_none() {
        for target in [
            Target::RawTracepoint { name: "".into() },
            function(FunctionObject::BtfOrProgram(0), None),
            Target::Cgroup(Cgroup { id: 0, path: None }),
            Target::NetNs { inode: 0 },
            Target::Device(Device { ifindex: 0, name: None }),
            Target::Uprobe { path: "".into(), offset: 1, at_return: false },
            kprobes(0),
            uprobes(0, None),
            Target::Map { id: 0 },
        ] {
            assert_eq!(resolved(&target), None, "{target:?}");
        }
        let hidden = kprobe(Some(""), 0, 0, false);
        assert_eq!(resolve(hidden, &mut Resolver::below(Path::new("/nonexistent"))), None);
    }
}
