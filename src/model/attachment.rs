//! Targets: what links and other attachments are attached to, as values with a readable form.
//! Entry point: [`Target`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::enums::{arp_hook, hardware_event, inet_hook, netdev_hook, netfilter_family, software_event};

/// What a program or a map is attached to.
///
/// The kernel reports ids and indices; names are `None` until they are looked up, and where there is none. An address of the
/// kernel's code is no part of a target: it would tell where the kernel lies in memory.
/// [`Display`](fmt::Display) is the only place that puts a target into words; the form stands beside each variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// A raw tracepoint, of a program with or without BTF: `sched_switch`.
    RawTracepoint {
        /// Its name.
        name: Arc<str>,
    },
    /// A function of the kernel: `tcp_connect`, `bpf_lsm_file_open`; or of another program: `handler of program 17`.
    /// Without a name: `btf 1:12345`, the BTF object and the type in it, or `program 17`.
    Function {
        /// The object that defines the function.
        object: FunctionObject,
        /// The type that describes the function, in the BTF object or in that of the program.
        type_id: u32,
        /// Its name. Source: `bpf_prog_aux.attach_func_name`, or the BTF object.
        name: Option<Arc<str>>,
    },
    /// A cgroup: `/system.slice/x.service`, `cgroup 4721` without a path.
    Cgroup(Cgroup),
    /// An iterator: `bpf_map`, `bpf_map_elem of map 17`, `cgroup of /system.slice`, `task of thread 12`, `task of process 12`.
    Iterator {
        /// What it iterates over.
        name: Arc<str>,
        /// The part that it is limited to.
        within: Option<Within>,
    },
    /// A network namespace: `netns 4026531840`.
    #[serde(rename = "netns")]
    NetNs {
        /// The inode number in nsfs.
        inode: u64,
    },
    /// A network interface: `eth0`, `2` without a name.
    Device(Device),
    /// A queueing discipline, as tc(8) writes it: `eth0 qdisc 1:`.
    Qdisc {
        /// Its interface.
        device: Device,
        /// Its handle.
        handle: u32,
    },
    /// A class of a queueing discipline: `eth0 class 1:10`.
    Class {
        /// Its interface.
        device: Device,
        /// Its handle.
        handle: u32,
    },
    /// An action of traffic control: `action 7`.
    Action {
        /// Its index among those of its kind.
        index: u32,
    },
    /// A probe in the kernel: `tcp_connect`, `tcp_connect+0x10`; at the return of a function `tcp_connect%return`; without a
    /// symbol `1 function`.
    Kprobe {
        /// The probed instruction; `None` where no symbol is found, or the kernel hides its addresses.
        symbol: Option<Symbol>,
        /// Whether it fires when the function returns.
        at_return: bool,
    },
    /// Functions of the kernel: `12 functions`; a single one as [`Target::Kprobe`].
    KprobeMulti {
        /// The number of functions.
        count: u32,
        /// The function, when it is a single one whose symbol is found.
        single: Option<Symbol>,
        /// Whether it fires when a function returns.
        at_return: bool,
    },
    /// A probe in a file: `/usr/bin/x:0x1234`, `/usr/bin/x:0x1234%return`.
    Uprobe {
        /// The file, as its owner named it: relative paths occur.
        path: Arc<str>,
        /// Position in the file, in bytes.
        offset: u64,
        /// Whether it fires when the function returns.
        at_return: bool,
    },
    /// Probes in a file: `/usr/bin/x: 3 offsets`; a single one as [`Target::Uprobe`].
    UprobeMulti {
        /// The file.
        path: Arc<str>,
        /// The number of probes.
        count: u32,
        /// The offset, when it is a single one that is reported.
        single: Option<u64>,
        /// Whether it fires when a function returns.
        at_return: bool,
    },
    /// A tracepoint: `sched:sched_switch`, `sched_switch` without a group.
    Tracepoint {
        /// Its group. Source: `trace_event_class.system`, or the only directory in tracefs that has the event.
        group: Option<Arc<str>>,
        /// The event's name, without its group.
        name: Arc<str>,
    },
    /// A perf event: `software:cpu-clock`, `hardware:cpu-cycles`, else by the unit that counts it, `uncore_imc config 168`, or
    /// its number, `type 4 config 168`.
    PerfEvent {
        /// `perf_event_attr.type`.
        event_type: u32,
        /// `perf_event_attr.config`.
        #[serde(with = "hexadecimal")]
        config: u64,
        /// The unit that counts it, for a type that is registered at run time. Source: `/sys/bus/event_source/devices`.
        unit: Option<Arc<str>>,
    },
    /// A map, of struct operations or of sockets: `map 17`.
    Map {
        /// Its id.
        id: u32,
    },
    /// A structure of operations: `tcp_congestion_ops`.
    StructOps {
        /// The structure's name.
        name: Arc<str>,
    },
    /// A hook of netfilter: `ipv4 prerouting priority -100`, numbers where there is no word: `pf 99 hook 7 priority 0`.
    Netfilter {
        /// Protocol family (`NFPROTO_*`).
        family: u32,
        /// The hook of that family.
        hook: u32,
        /// The smallest runs first. `None` for the hook as such, which programs of every priority share.
        priority: Option<i32>,
    },
}

/// The object that defines a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionObject {
    /// The kernel or a module, by the id of its BTF object; 0 where it is not reported.
    Btf(u32),
    /// A program, by its id.
    Program(u32),
    /// Either of them: `bpf_link_info.tracing.target_obj_id` does not say which, and neither has the function.
    BtfOrProgram(u32),
}

/// A cgroup of version 2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its id: the inode number of its directory.
    pub id: u64,
    /// Its path from the root of the hierarchy; `None` where it was not found.
    pub path: Option<Arc<str>>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Its index in its network namespace.
    pub ifindex: u32,
    /// Its name in its network namespace. `None` where the namespace is not known: `bpf_link_info` has only the index.
    pub name: Option<Arc<str>>,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetNs {
    /// Its inode number in nsfs. The kernel gives the number of a namespace that is gone to a new one.
    pub inode: u64,
    /// Its name in `/run/netns`: of several the first in alphabetical order; `None` without one.
    pub name: Option<Arc<str>>,
}

/// The part that an iterator is limited to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Within {
    /// A map.
    Map {
        /// Its id.
        id: u32,
    },
    /// A cgroup and its descendants; of any hierarchy, so that it has a path only where no other hierarchy has such an id.
    Cgroup(Cgroup),
    /// A thread.
    Thread {
        /// Its id, in the pid namespace of the process that made the iterator.
        tid: u32,
    },
    /// The threads of a process.
    Process {
        /// Its id, likewise.
        pid: u32,
    },
}

/// An instruction of the kernel, by its symbol: `tcp_connect`, `tcp_connect+0x10`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Symbol {
    /// The symbol.
    pub name: Arc<str>,
    /// Distance from the symbol, in bytes.
    pub offset: u64,
}

/// Numbers of 64 bits as text, since JSON numbers lose precision beyond 2^53 in some readers: `"0x1122334455667788"`.
mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:#x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("a number without 0x"))?;
        u64::from_str_radix(digits, 16).map_err(D::Error::custom)
    }
}

impl Target {
    /// The target by numbers alone, as far as they identify it: interfaces are renamed, and a path may not be found.
    #[must_use]
    pub fn without_names(&self) -> Self {
        let unnamed = |device: &Device| Device { ifindex: device.ifindex, name: None };
        match self {
            Self::Device(device) => Self::Device(unnamed(device)),
            Self::Qdisc { device, handle } => Self::Qdisc { device: unnamed(device), handle: *handle },
            Self::Class { device, handle } => Self::Class { device: unnamed(device), handle: *handle },
            Self::Cgroup(Cgroup { id, .. }) => Self::Cgroup(Cgroup { id: *id, path: None }),
            target => target.clone(),
        }
    }

    /// The network interface, of queueing disciplines and classes as well.
    #[must_use]
    pub const fn device(&self) -> Option<&Device> {
        match self {
            Self::Device(device) | Self::Qdisc { device, .. } | Self::Class { device, .. } => Some(device),
            _ => None,
        }
    }

    /// The cgroup's path.
    #[must_use]
    pub fn cgroup_path(&self) -> Option<&str> {
        match self {
            Self::Cgroup(Cgroup { path, .. }) => path.as_deref(),
            _ => None,
        }
    }

    /// The function, or the symbol of a probe in the kernel.
    #[must_use]
    pub fn symbol(&self) -> Option<&str> {
        match self {
            Self::Function { name, .. } => name.as_deref(),
            Self::Kprobe { symbol: Some(Symbol { name, .. }), .. }
            | Self::KprobeMulti { single: Some(Symbol { name, .. }), .. } => Some(name),
            _ => None,
        }
    }

    /// The priority at a hook of netfilter.
    #[must_use]
    pub const fn priority(&self) -> Option<i32> {
        match self {
            Self::Netfilter { priority, .. } => *priority,
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RawTracepoint { name }
            | Self::StructOps { name }
            | Self::Iterator { name, within: None }
            | Self::Tracepoint { group: None, name } => f.write_str(name),
            Self::Function { object, type_id, name } => write_function(f, *object, *type_id, name.as_deref()),
            Self::Cgroup(cgroup) => cgroup.fmt(f),
            Self::Iterator { name, within: Some(within) } => write!(f, "{name} of {within}"),
            Self::NetNs { inode } => write!(f, "netns {inode}"),
            Self::Device(device) => device.fmt(f),
            Self::Qdisc { device, handle } => write!(f, "{device} qdisc {}", Handle(*handle)),
            Self::Class { device, handle } => write!(f, "{device} class {}", Handle(*handle)),
            Self::Action { index } => write!(f, "action {index}"),
            Self::Kprobe { symbol: Some(symbol), at_return }
            | Self::KprobeMulti { single: Some(symbol), at_return, .. } => {
                write!(f, "{symbol}{}", Return(*at_return))
            }
            Self::Kprobe { symbol: None, at_return } => write!(f, "1 function{}", Return(*at_return)),
            Self::KprobeMulti { count, single: None, at_return } => {
                write!(f, "{count} function{}{}", Plural(*count), Return(*at_return))
            }
            Self::Uprobe { path, offset, at_return }
            | Self::UprobeMulti { path, single: Some(offset), at_return, .. } => {
                write!(f, "{path}:{offset:#x}{}", Return(*at_return))
            }
            Self::UprobeMulti { path, count, single: None, at_return } => {
                write!(f, "{path}: {count} offset{}{}", Plural(*count), Return(*at_return))
            }
            Self::Tracepoint { group: Some(group), name } => write!(f, "{group}:{name}"),
            Self::PerfEvent { config, unit: Some(unit), .. } => write!(f, "{unit} config {config}"),
            Self::PerfEvent { event_type, config, unit: None } => write_perf_event(f, *event_type, *config),
            Self::Map { id } => write!(f, "map {id}"),
            Self::Netfilter { family, hook, priority } => write_netfilter(f, *family, *hook, *priority),
        }
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => f.write_str(path),
            None => write!(f, "cgroup {}", self.id),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => self.ifindex.fmt(f),
        }
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { id } => write!(f, "map {id}"),
            Self::Cgroup(cgroup) => cgroup.fmt(f),
            Self::Thread { tid } => write!(f, "thread {tid}"),
            Self::Process { pid } => write!(f, "process {pid}"),
        }
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { name, offset: 0 } => f.write_str(name),
            Self { name, offset } => write!(f, "{name}+{offset:#x}"),
        }
    }
}

/// The handle of a queueing discipline or class, as tc(8) writes it.
struct Handle(u32);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 >> 16, self.0 & 0xffff) {
            (major, 0) => write!(f, "{major:x}:"),
            (major, minor) => write!(f, "{major:x}:{minor:x}"),
        }
    }
}

/// The suffix of a return probe, as in the kernel's own list of probes (`Documentation/trace/kprobetrace.rst`).
struct Return(bool);

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "%return" } else { "" })
    }
}

/// The ending of a counted noun.
struct Plural(u32);

impl fmt::Display for Plural {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == 1 { "" } else { "s" })
    }
}

fn write_function(
    f: &mut fmt::Formatter<'_>,
    object: FunctionObject,
    type_id: u32,
    name: Option<&str>,
) -> fmt::Result {
    match (object, name) {
        (FunctionObject::Program(id), Some(name)) => write!(f, "{name} of program {id}"),
        (FunctionObject::Program(id), None) => write!(f, "program {id}"),
        (_, Some(name)) => f.write_str(name),
        (FunctionObject::Btf(id) | FunctionObject::BtfOrProgram(id), None) => write!(f, "btf {id}:{type_id}"),
    }
}

fn write_perf_event(f: &mut fmt::Formatter<'_>, event_type: u32, config: u64) -> fmt::Result {
    let named = u32::try_from(config).ok().and_then(|config| match (event_type, config) {
        (0, _) => Some(("hardware", hardware_event::word(config)?)),
        // Since 6.4 the kernel turns the software events cpu-clock and task-clock into those of units of their own, which are the
        // first to be registered and have no name in sysfs (`perf_swevent_init`, `kernel/events/core.c`).
        (1, _) | (6, 0) | (7, 1) => Some(("software", software_event::word(config)?)),
        _ => None,
    });
    match named {
        Some((group, name)) => write!(f, "{group}:{name}"),
        None => write!(f, "type {event_type} config {config}"),
    }
}

fn write_netfilter(f: &mut fmt::Formatter<'_>, family: u32, hook: u32, priority: Option<i32>) -> fmt::Result {
    let family_word = netfilter_family::word(family);
    let hook_word = match family {
        netfilter_family::ARP => arp_hook::word(hook),
        netfilter_family::NETDEV => netdev_hook::word(hook),
        _ => family_word.and_then(|_| inet_hook::word(hook)),
    };
    match family_word {
        Some(word) => write!(f, "{word} ")?,
        None => write!(f, "pf {family} ")?,
    }
    match hook_word {
        Some(word) => f.write_str(word)?,
        None => write!(f, "hook {hook}")?,
    }
    priority.map_or(Ok(()), |priority| write!(f, " priority {priority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
    fn symbol(name: &str, offset: u64) -> Option<Symbol> {
        Some(Symbol { name: name.into(), offset })
    }

    /// Every form of every target, with its text.
    fn targets() -> Vec<(Target, &'static str)> {
        let function = |object, name: Option<&str>| Target::Function {
            object,
            type_id: 12_345,
            name: name.map(Arc::from),
        };
        let cgroup = |id, path: Option<&str>| Cgroup { id, path: path.map(Arc::from) };
        let iterator = |name: &str, within| Target::Iterator { name: name.into(), within };
        let device = |ifindex, name: Option<&str>| Device { ifindex, name: name.map(Arc::from) };
        let kprobe = |symbol, at_return| Target::Kprobe { symbol, at_return };
        let kprobes = |count, single, at_return| Target::KprobeMulti { count, single, at_return };
        let uprobe = |path: &str, at_return| Target::Uprobe { path: path.into(), offset: 0x1234, at_return };
        let uprobes = |count, single, at_return| Target::UprobeMulti {
            path: "/usr/bin/x".into(),
            count,
            single,
            at_return,
        };
        let tracepoint = |group: Option<&str>| Target::Tracepoint {
            group: group.map(Arc::from),
            name: "sched_switch".into(),
        };
        let event = |event_type, config, unit: Option<&str>| Target::PerfEvent {
            event_type,
            config,
            unit: unit.map(Arc::from),
        };
        let netfilter = |family, hook, priority| Target::Netfilter { family, hook, priority };
        vec![
            (Target::RawTracepoint { name: "sched_switch".into() }, "sched_switch"),
            (function(FunctionObject::Btf(1), Some("tcp_connect")), "tcp_connect"),
            (function(FunctionObject::Btf(0), Some("tcp_connect")), "tcp_connect"),
            (function(FunctionObject::Program(17), Some("handler")), "handler of program 17"),
            (function(FunctionObject::Btf(u32::MAX), None), "btf 4294967295:12345"),
            (function(FunctionObject::Program(17), None), "program 17"),
            (function(FunctionObject::BtfOrProgram(17), None), "btf 17:12345"),
            (Target::Cgroup(cgroup(4721, None)), "cgroup 4721"),
            (Target::Cgroup(cgroup(4721, Some("/system.slice"))), "/system.slice"),
            (iterator("bpf_map", None), "bpf_map"),
            (iterator("bpf_map_elem", Some(Within::Map { id: 17 })), "bpf_map_elem of map 17"),
            (iterator("cgroup", Some(Within::Cgroup(cgroup(9, None)))), "cgroup of cgroup 9"),
            (iterator("cgroup", Some(Within::Cgroup(cgroup(9, Some("/a"))))), "cgroup of /a"),
            (iterator("task", Some(Within::Thread { tid: 12 })), "task of thread 12"),
            (iterator("task", Some(Within::Process { pid: 12 })), "task of process 12"),
            (Target::NetNs { inode: 4_026_531_840 }, "netns 4026531840"),
            (Target::Device(device(2, Some("eth0"))), "eth0"),
            (Target::Device(device(u32::MAX, None)), "4294967295"),
            (Target::Qdisc { device: device(2, Some("eth0")), handle: 0x0001_0000 }, "eth0 qdisc 1:"),
            (Target::Class { device: device(2, None), handle: 0x0001_00a0 }, "2 class 1:a0"),
            (Target::Action { index: 7 }, "action 7"),
            (kprobe(symbol("tcp_connect", 0), false), "tcp_connect"),
            (kprobe(symbol("tcp_connect", 16), false), "tcp_connect+0x10"),
            (kprobe(symbol("tcp_connect", 16), true), "tcp_connect+0x10%return"),
            (kprobe(None, false), "1 function"),
            (kprobe(None, true), "1 function%return"),
            (kprobes(12, None, false), "12 functions"),
            (kprobes(12, None, true), "12 functions%return"),
            (kprobes(1, None, false), "1 function"),
            (kprobes(1, symbol("tcp_connect", 0), true), "tcp_connect%return"),
            (uprobe("/usr/bin/x", false), "/usr/bin/x:0x1234"),
            (uprobe("relative/x", true), "relative/x:0x1234%return"),
            (uprobes(3, None, false), "/usr/bin/x: 3 offsets"),
            (uprobes(1, Some(0x1234), true), "/usr/bin/x:0x1234%return"),
            (uprobes(1, None, false), "/usr/bin/x: 1 offset"),
            (tracepoint(None), "sched_switch"),
            (tracepoint(Some("sched")), "sched:sched_switch"),
            (event(0, 0, None), "hardware:cpu-cycles"),
            (event(1, 11, None), "software:cgroup-switches"),
            (event(7, 1, None), "software:task-clock"),
            (event(7, 1, Some("uncore")), "uncore config 1"),
            (event(1, 12, None), "type 1 config 12"),
            (event(4, 168, None), "type 4 config 168"),
            (Target::Map { id: 17 }, "map 17"),
            (Target::StructOps { name: "tcp_congestion_ops".into() }, "tcp_congestion_ops"),
            (netfilter(2, 0, Some(-100)), "ipv4 prerouting priority -100"),
            (netfilter(2, 0, None), "ipv4 prerouting"),
            (netfilter(3, 2, Some(0)), "arp forward priority 0"),
            (netfilter(5, 1, Some(0)), "netdev egress priority 0"),
            (netfilter(10, 7, Some(0)), "ipv6 hook 7 priority 0"),
            (netfilter(99, 7, Some(1)), "pf 99 hook 7 priority 1"),
        ]
    }

    #[test]
    fn every_target_has_its_text() {
        for (target, expected) in targets() {
            assert_eq!(target.to_string(), expected, "{target:?}");
        }
    }

    #[test]
    fn targets_are_read_back_from_json() {
        for (target, _) in targets() {
            let json = serde_json::to_string(&target).expect("a target can be written");
            assert_eq!(serde_json::from_str::<Target>(&json).expect("it can be read"), target, "{json}");
        }
    }

    #[test]
    fn targets_have_their_parts() {
        let device = Device { ifindex: 2, name: Some("eth0".into()) };
        let class = Target::Class { device: device.clone(), handle: 1 };
        assert_eq!((class.device(), Target::Device(device.clone()).device()), (Some(&device), Some(&device)));
        let cgroup = Target::Cgroup(Cgroup { id: 1, path: Some("/a".into()) });
        assert_eq!((cgroup.cgroup_path(), cgroup.symbol()), (Some("/a"), None));
        let probe = Target::Kprobe { symbol: symbol("f", 16), at_return: true };
        assert_eq!((probe.symbol(), probe.priority()), (Some("f"), None));
        assert_eq!(Target::Netfilter { family: 2, hook: 1, priority: Some(-5) }.priority(), Some(-5));
    }
}
