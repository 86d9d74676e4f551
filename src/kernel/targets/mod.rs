//! What links are attached to, as values and as people write it: the one place where that is put into words.
//! Knows no reader: whoever read a link, by its id or by an iterator, makes a [`Target`] of what it found and gets the
//! same words for it. Begin at [`describe`].

pub(crate) mod info;
pub(crate) mod resolver;

use std::fmt::Write as _;

use self::resolver::Resolver;
use crate::model::enums::{
    arp_hook, hardware_event, inet_hook, netdev_hook, netfilter_family, software_event,
};

/// What a link is attached to, as the kernel keeps it. Ids and indices that are 0 stand for what went while the link lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A raw tracepoint, of a program with or without BTF: `sched_switch`.
    RawTracepoint {
        /// Its name.
        name: String,
    },
    /// A function of the kernel: `tcp_connect`, `bpf_lsm_file_open`; or of another program: `handler (program 17)`.
    /// Where no name is found: `btf 1:12345`, the BTF object and the type in it, or `program 17`.
    Function {
        /// Whose function it is.
        of: FunctionOf,
        /// The type that describes the function, in the BTF object or in that of the program.
        type_id: u32,
        /// Its name where the reader knows it (`bpf_prog_aux.attach_func_name`); else it is looked up.
        name: Option<String>,
    },
    /// A cgroup, by its path from the root of the hierarchy: `/system.slice/x.service`; `cgroup 4721` where it is not found.
    Cgroup {
        /// The id, which is the number of the directory's inode.
        id: u64,
    },
    /// An iterator: `bpf_map`, `bpf_map_elem (map 17)`, `cgroup (/system.slice)`, `task (thread 12)`, `task (process 12)`.
    Iterator {
        /// Over which kind of thing it goes.
        name: String,
        /// To which one it keeps.
        within: Option<Within>,
    },
    /// A network namespace: `netns:[4026531840]`.
    NetworkNamespace {
        /// The number of its inode.
        inode: u32,
    },
    /// A network interface: `eth0 (2)`, `2` where the index has no name.
    Device {
        /// Its index.
        ifindex: u32,
        /// Its name where the reader knows it (`net_device.name`); else it is that of the index in this process's network
        /// namespace: only the index is known, not the namespace.
        name: Option<String>,
    },
    /// A probe in the kernel: `tcp_connect`, `tcp_connect+0x10`; on the return of a function `tcp_connect%return`. Where it
    /// was set by address and no symbol is found: `0xffffffff81234567`.
    Kprobe {
        /// The symbol; `None` where the probe was set by address.
        symbol: Option<String>,
        /// How far behind the symbol, in bytes.
        offset: u64,
        /// The address; 0 where the kernel does not tell it.
        address: u64,
        /// Whether it waits for the function to return.
        return_probe: bool,
    },
    /// A probe in a file: `/usr/bin/x:0x1234`, `/usr/bin/x:0x1234%return`.
    Uprobe {
        /// The file.
        path: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// Whether it waits for the function to return.
        return_probe: bool,
    },
    /// A tracepoint: `sched:sched_switch`, `sched_switch` where its group is not known.
    Tracepoint {
        /// The event's name, without its group.
        name: String,
        /// Its group where the reader knows it; else it is looked up.
        group: Option<String>,
    },
    /// A perf event: `software:cpu-clock`, `hardware:cpu-cycles`, else by the unit that counts it, `uncore_imc config 168`, or
    /// its number, `type 4 config 168`.
    PerfEvent {
        /// `perf_event_attr.type`.
        event_type: u32,
        /// `perf_event_attr.config`.
        config: u64,
    },
    /// Functions of the kernel: `12 functions`; a single one by its name. On their returns with `%return`.
    KprobeMulti {
        /// How many.
        count: u32,
        /// The address of the first; `None` where the kernel does not tell it.
        first: Option<u64>,
        /// Whether it waits for the functions to return.
        return_probe: bool,
    },
    /// Places in a file: `/usr/bin/x: 3 offsets`; a single one as [`Target::Uprobe`].
    UprobeMulti {
        /// The file.
        path: String,
        /// How many places.
        count: u32,
        /// The first of them; `None` where it is not known.
        first: Option<u64>,
        /// Whether it waits for the functions to return.
        return_probe: bool,
    },
    /// A map, of struct operations or of sockets: `map 17`.
    Map {
        /// Its id.
        id: u32,
    },
    /// A hook of netfilter: `ipv4 prerouting priority -100`, numbers where there is no name: `pf 99 hook 7 priority 0`.
    Netfilter {
        /// `enum nf_inet_proto` (`NFPROTO_*`).
        family: u32,
        /// The hook of that family.
        hook: u32,
        /// The smallest comes first.
        priority: i32,
    },
}

/// Whose function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FunctionOf {
    /// The kernel's or a module's, by the id of its BTF object.
    Btf(u32),
    /// A program's, by the program's id.
    Program(u32),
    /// One of both: `bpf_link_info.tracing.target_obj_id` does not tell which.
    Either(u32),
}

/// To what an iterator keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// A map, by its id.
    Map(u32),
    /// A cgroup and those below it, by its id.
    Cgroup(u64),
    /// A thread.
    Thread(u32),
    /// The threads of a process.
    Process(u32),
}

/// A target in words, in the form that stands beside its kind in [`Target`]; `None` for one that is gone or was not told.
///
/// Finding a name can cost milliseconds the first time in a reading. It is for a link that is new or of which something
/// changed; an interface alone can get another name while nothing changes in its link.
pub(crate) fn describe(target: &Target, resolver: &mut Resolver) -> Option<String> {
    match target {
        Target::RawTracepoint { name } => some_text(name),
        Target::Function { of, type_id, name } => function(*of, *type_id, name.as_deref(), resolver),
        Target::Cgroup { id } => cgroup(*id, resolver),
        Target::Iterator { name, within } => some_text(name).map(|name| iterator(&name, *within, resolver)),
        Target::NetworkNamespace { inode } => (*inode != 0).then(|| format!("netns:[{inode}]")),
        Target::Device { ifindex: 0, .. }
        | Target::KprobeMulti { count: 0, .. }
        | Target::UprobeMulti { count: 0, .. }
        | Target::Map { id: 0 } => None,
        Target::Device { ifindex, name } => {
            Some(match name.clone().or_else(|| resolver.interface(*ifindex)) {
                Some(name) => format!("{name} ({ifindex})"),
                None => ifindex.to_string(),
            })
        }
        Target::Kprobe { symbol, offset, address, return_probe } => {
            let place = match symbol.as_deref().and_then(some_text) {
                Some(symbol) => behind(&symbol, *offset),
                None => address_in_words(*address, resolver)?,
            };
            Some(suffixed(place, *return_probe))
        }
        Target::Uprobe { path, offset, return_probe } => {
            Some(suffixed(format!("{}:{offset:#x}", some_text(path)?), *return_probe))
        }
        Target::Tracepoint { name, group } => {
            let name = some_text(name)?;
            let group = group.clone().or_else(|| resolver.tracepoint_group(&name));
            Some(group.map_or(name.clone(), |group| format!("{group}:{name}")))
        }
        Target::PerfEvent { event_type, config } => Some(perf_event(*event_type, *config, resolver)),
        Target::KprobeMulti { count: 1, first: Some(address), return_probe } if *address != 0 => {
            Some(suffixed(address_in_words(*address, resolver)?, *return_probe))
        }
        Target::KprobeMulti { count, return_probe, .. } => {
            Some(suffixed(counted(*count, "function"), *return_probe))
        }
        Target::UprobeMulti { path, count, first, return_probe } => {
            let path = some_text(path)?;
            let place = match first {
                Some(offset) if *count == 1 => format!("{path}:{offset:#x}"),
                _ => format!("{path}: {}", counted(*count, "offset")),
            };
            Some(suffixed(place, *return_probe))
        }
        Target::Map { id } => Some(format!("map {id}")),
        Target::Netfilter { family, hook, priority } => Some(netfilter(*family, *hook, *priority)),
    }
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn function(of: FunctionOf, type_id: u32, name: Option<&str>, resolver: &mut Resolver) -> Option<String> {
    let named = |name: String, program: Option<u32>| match program {
        Some(id) => format!("{name} (program {id})"),
        None => name,
    };
    let name = name.and_then(some_text);
    match of {
        FunctionOf::Btf(0) | FunctionOf::Program(0) | FunctionOf::Either(0) => name,
        FunctionOf::Btf(id) => Some(
            name.or_else(|| resolver.kernel_function(id, type_id))
                .unwrap_or_else(|| format!("btf {id}:{type_id}")),
        ),
        FunctionOf::Program(id) => Some(
            name.or_else(|| resolver.program_function(id, type_id))
                .map_or_else(|| format!("program {id}"), |name| named(name, Some(id))),
        ),
        // The BTF of the kernel or of a module has a great many types before its first function, and that of a program ends
        // long before: at most one of the two has a function of this number.
        FunctionOf::Either(id) => Some(match resolver.kernel_function(id, type_id) {
            Some(found) => found,
            None => match resolver.program_function(id, type_id) {
                Some(found) => named(found, Some(id)),
                None => format!("btf {id}:{type_id}"),
            },
        }),
    }
}

fn cgroup(id: u64, resolver: &mut Resolver) -> Option<String> {
    (id != 0)
        .then(|| resolver.cgroup(id).map_or_else(|| format!("cgroup {id}"), |path| path.as_ref().to_owned()))
}

fn iterator(name: &str, within: Option<Within>, resolver: &mut Resolver) -> String {
    let place = match within {
        None | Some(Within::Map(0) | Within::Thread(0) | Within::Process(0)) => None,
        Some(Within::Map(id)) => Some(format!("map {id}")),
        Some(Within::Cgroup(id)) => cgroup(id, resolver),
        Some(Within::Thread(id)) => Some(format!("thread {id}")),
        Some(Within::Process(id)) => Some(format!("process {id}")),
    };
    place.map_or_else(|| name.to_owned(), |place| format!("{name} ({place})"))
}

/// An address of the kernel as its symbol; `None` for 0, which the kernel tells who may not know addresses.
fn address_in_words(address: u64, resolver: &mut Resolver) -> Option<String> {
    (address != 0).then(|| match resolver.symbol(address) {
        Some((symbol, offset)) => behind(&symbol, offset),
        None => format!("{address:#x}"),
    })
}

fn behind(symbol: &str, offset: u64) -> String {
    let mut place = symbol.to_owned();
    if offset != 0 {
        let _infallible = write!(place, "+{offset:#x}");
    }
    place
}

/// `%return` is how the kernel's own files of probes write it (`Documentation/trace/kprobetrace.rst`).
fn suffixed(mut place: String, return_probe: bool) -> String {
    if return_probe {
        place.push_str("%return");
    }
    place
}

fn counted(count: u32, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn perf_event(event_type: u32, config: u64, resolver: &mut Resolver) -> String {
    /// Numbers from here on are given out when a unit is registered (`PERF_TYPE_MAX`).
    const FIRST_DYNAMIC: u32 = 6;
    let unit = (event_type >= FIRST_DYNAMIC).then(|| resolver.perf_unit(event_type)).flatten();
    let named = u32::try_from(config).ok().and_then(|config| match (event_type, config, &unit) {
        (0, ..) => Some(("hardware", hardware_event::word(config)?)),
        // Since 6.4 the kernel turns the software events cpu-clock and task-clock into those of units of their own, which are the
        // first to be registered and have no name in sysfs (`perf_swevent_init`, `kernel/events/core.c`).
        (1, ..) | (6, 0, None) | (7, 1, None) => Some(("software", software_event::word(config)?)),
        _ => None,
    });
    match (unit, named) {
        (Some(unit), _) => format!("{unit} config {config}"),
        (None, Some((group, name))) => format!("{group}:{name}"),
        (None, None) => format!("type {event_type} config {config}"),
    }
}

fn netfilter(family: u32, hook: u32, priority: i32) -> String {
    let hook_name = match family {
        netfilter_family::ARP => arp_hook::word(hook),
        netfilter_family::NETDEV => netdev_hook::word(hook),
        _ => netfilter_family::word(family).and_then(|_| inet_hook::word(hook)),
    };
    let family = netfilter_family::word(family).map_or_else(|| format!("pf {family}"), str::to_owned);
    let hook = hook_name.map_or_else(|| format!("hook {hook}"), str::to_owned);
    format!("{family} {hook} priority {priority}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// In words, where nothing can be looked up.
    fn words(target: &Target) -> Option<String> {
        describe(target, &mut Resolver::below(Path::new("/nonexistent")))
    }

    fn kprobe(symbol: Option<&str>, offset: u64, address: u64, return_probe: bool) -> Target {
        Target::Kprobe { symbol: symbol.map(str::to_owned), offset, address, return_probe }
    }

    #[test]
    fn every_target_has_its_form() {
        let text = str::to_owned;
        let name = |of, name: &str| Target::Function { of, type_id: 12_345, name: Some(text(name)) };
        let unnamed = |of| Target::Function { of, type_id: 12_345, name: None };
        let iterator = |name: &str, within| Target::Iterator { name: text(name), within };
        let uprobe = |return_probe| Target::Uprobe { path: text("/usr/bin/x"), offset: 0x1234, return_probe };
        let uprobes = |count, first, return_probe| Target::UprobeMulti {
            path: text("/usr/bin/x"),
            count,
            first,
            return_probe,
        };
        let kprobes = |count, first, return_probe| Target::KprobeMulti { count, first, return_probe };
        let none = u32::MAX;
        for (target, expected) in [
            (Target::RawTracepoint { name: text("sched_switch") }, "sched_switch"),
            (name(FunctionOf::Btf(1), "tcp_connect"), "tcp_connect"),
            (name(FunctionOf::Program(17), "handler"), "handler (program 17)"),
            (unnamed(FunctionOf::Btf(none)), "btf 4294967295:12345"),
            (unnamed(FunctionOf::Program(none)), "program 4294967295"),
            (unnamed(FunctionOf::Either(none)), "btf 4294967295:12345"),
            (Target::Cgroup { id: 4721 }, "cgroup 4721"),
            (iterator("bpf_map", None), "bpf_map"),
            (iterator("bpf_map_elem", Some(Within::Map(17))), "bpf_map_elem (map 17)"),
            (iterator("cgroup", Some(Within::Cgroup(9))), "cgroup (cgroup 9)"),
            (iterator("task", Some(Within::Thread(12))), "task (thread 12)"),
            (iterator("task", Some(Within::Process(12))), "task (process 12)"),
            (iterator("task", Some(Within::Process(0))), "task"),
            (Target::NetworkNamespace { inode: 4_026_531_840 }, "netns:[4026531840]"),
            (Target::Device { ifindex: 2, name: Some(text("eth0")) }, "eth0 (2)"),
            (Target::Device { ifindex: none, name: None }, "4294967295"),
            (kprobe(Some("tcp_connect"), 0, 0xffff, false), "tcp_connect"),
            (kprobe(Some("tcp_connect"), 16, 0, false), "tcp_connect+0x10"),
            (kprobe(Some("tcp_connect"), 0, 0, true), "tcp_connect%return"),
            (kprobe(None, 0, 0xffff, false), "0xffff"),
            (uprobe(false), "/usr/bin/x:0x1234"),
            (uprobe(true), "/usr/bin/x:0x1234%return"),
            (Target::Tracepoint { name: text("sched_switch"), group: None }, "sched_switch"),
            (
                Target::Tracepoint { name: text("sched_switch"), group: Some(text("sched")) },
                "sched:sched_switch",
            ),
            (Target::PerfEvent { event_type: 0, config: 0 }, "hardware:cpu-cycles"),
            (Target::PerfEvent { event_type: 1, config: 11 }, "software:cgroup-switches"),
            (Target::PerfEvent { event_type: 7, config: 1 }, "software:task-clock"),
            (Target::PerfEvent { event_type: 1, config: 12 }, "type 1 config 12"),
            (Target::PerfEvent { event_type: 4, config: 168 }, "type 4 config 168"),
            (kprobes(12, Some(0xffff), false), "12 functions"),
            (kprobes(12, None, true), "12 functions%return"),
            (kprobes(1, None, false), "1 function"),
            (kprobes(1, Some(0xffff), false), "0xffff"),
            (uprobes(3, Some(5), false), "/usr/bin/x: 3 offsets"),
            (uprobes(1, Some(0x1234), true), "/usr/bin/x:0x1234%return"),
            (uprobes(1, None, false), "/usr/bin/x: 1 offset"),
            (Target::Map { id: 17 }, "map 17"),
            (Target::Netfilter { family: 2, hook: 0, priority: -100 }, "ipv4 prerouting priority -100"),
            (Target::Netfilter { family: 3, hook: 2, priority: 0 }, "arp forward priority 0"),
            (Target::Netfilter { family: 10, hook: 7, priority: 0 }, "ipv6 hook 7 priority 0"),
            (Target::Netfilter { family: 99, hook: 7, priority: 1 }, "pf 99 hook 7 priority 1"),
        ] {
            assert_eq!(words(&target).as_deref(), Some(expected), "{target:?}");
        }
    }

    #[test]
    fn what_is_gone_or_was_not_told_has_no_words() {
        for target in [
            Target::RawTracepoint { name: String::new() },
            Target::Function { of: FunctionOf::Either(0), type_id: 0, name: None },
            Target::Cgroup { id: 0 },
            Target::NetworkNamespace { inode: 0 },
            Target::Device { ifindex: 0, name: None },
            kprobe(None, 0, 0, false),
            Target::KprobeMulti { count: 0, first: None, return_probe: false },
            Target::UprobeMulti { path: String::new(), count: 0, first: None, return_probe: false },
            Target::Map { id: 0 },
        ] {
            assert_eq!(words(&target), None, "{target:?}");
        }
    }
}
