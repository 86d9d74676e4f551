//! Targets of links and events: the names that belong to the ids and addresses that the kernel reports.
//! Entry point: [`resolve`]. Independent of the backend: both make a [`Target`] without names of what they read.

pub(crate) mod info;
pub(crate) mod resolver;

use std::sync::Arc;

use self::resolver::Resolver;
use crate::model::{Cgroup, CodeAddress, Device, FunctionObject, Target, Within};

/// Looks up the names of a target. `None` for a target that is gone or not reported: the kernel writes 0 or an empty name.
///
/// A name can cost milliseconds the first time in a reading. It is for a link that is new or changed; only an interface can be
/// renamed while its link does not change.
pub(crate) fn resolve(target: Target, resolver: &mut Resolver) -> Option<Target> {
    if !is_reported(&target) {
        return None;
    }
    Some(match target {
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
                Some(Within::Cgroup(cgroup)) => Some(Within::Cgroup(with_path(cgroup, resolver))),
                within => within,
            },
        },
        Target::Device(Device { ifindex, name }) => {
            let name = name.or_else(|| resolver.interface(ifindex).map(Arc::from));
            Target::Device(Device { ifindex, name })
        }
        Target::Kprobe { address, at_return } => {
            Target::Kprobe { address: with_symbol(address, resolver), at_return }
        }
        Target::KprobeMulti { count, single, at_return } => {
            let single = single.filter(|address| count == 1 && *address != CodeAddress::Raw(0));
            let single = single.map(|address| with_symbol(address, resolver));
            Target::KprobeMulti { count, single, at_return }
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
    })
}

/// Returns whether the kernel reports the target.
fn is_reported(target: &Target) -> bool {
    match target {
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
        Target::Device(device) => device.ifindex != 0,
        Target::Kprobe { address, .. } => *address != CodeAddress::Raw(0),
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

/// Replaces an address by its symbol, where there is one.
fn with_symbol(address: CodeAddress, resolver: &mut Resolver) -> CodeAddress {
    match address {
        CodeAddress::Raw(raw) => match resolver.symbol(raw) {
            Some((name, offset)) => CodeAddress::Symbol { name: name.into(), offset },
            None => address,
        },
        CodeAddress::Symbol { .. } => address,
    }
}

/// A probed instruction as the kernel reports it: by the symbol it was set by, if any, else by address. The address is 0 for
/// a process that may not know kernel addresses.
pub(crate) fn probed(symbol: Option<&str>, offset: u64, address: u64) -> CodeAddress {
    match symbol {
        Some(name) if !name.is_empty() => CodeAddress::Symbol { name: name.into(), offset },
        _ => CodeAddress::Raw(address),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Resolves where no name can be looked up.
    fn resolved(target: &Target) -> Option<Target> {
        resolve(target.clone(), &mut Resolver::below(Path::new("/nonexistent")))
    }

    fn function(object: FunctionObject, name: Option<&str>) -> Target {
        Target::Function { object, type_id: 12_345, name: name.map(Arc::from) }
    }

    fn kprobes(count: u32, single: Option<u64>) -> Target {
        Target::KprobeMulti { count, single: single.map(CodeAddress::Raw), at_return: false }
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
            Target::Kprobe { address: probed(Some("tcp_connect"), 16, 0xffff), at_return: true },
            Target::Kprobe { address: CodeAddress::Raw(0xffff), at_return: false },
            Target::Tracepoint { group: None, name: "sched_switch".into() },
            Target::PerfEvent { event_type: 7, config: 1, unit: None },
            kprobes(1, Some(0xffff)),
            uprobes(1, Some(5)),
            Target::Map { id: 17 },
            Target::Netfilter { family: 2, hook: 0, priority: Some(-100) },
        ] {
            assert_eq!(resolved(&target), Some(target));
        }
    }

    #[test]
    fn only_a_single_probe_has_an_address() {
        assert_eq!(resolved(&kprobes(12, Some(0xffff))), Some(kprobes(12, None)));
        assert_eq!(resolved(&kprobes(1, Some(0))), Some(kprobes(1, None)));
        assert_eq!(resolved(&uprobes(3, Some(5))), Some(uprobes(3, None)));
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
            Target::Kprobe { address: probed(None, 0, 0), at_return: false },
            Target::Uprobe { path: "".into(), offset: 1, at_return: false },
            kprobes(0, None),
            uprobes(0, None),
            Target::Map { id: 0 },
        ] {
            assert_eq!(resolved(&target), None, "{target:?}");
        }
    }
}
