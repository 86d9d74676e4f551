//! Places: what attachments belong to and end with, and which of them a scan saw.
//! Entry point: [`Survey`]. Makes no system call.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{Device, FunctionObject, Hook, MapFacts, Target};

/// A thing whose end ends what is attached to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// The kernel itself.
    Kernel,
    /// A network interface. An interface that moves to another namespace is another place.
    Device {
        /// Its network namespace.
        namespace: NamespaceId,
        /// Its index there.
        ifindex: u32,
    },
    /// A network namespace.
    Namespace(NamespaceId),
    /// A cgroup of version 2, by its id, which is not reused.
    Cgroup(u64),
    /// A map.
    Map(u32),
    /// A program.
    Program(u32),
    /// A thing that no scan can look for: a file as its owner named it, in a mount namespace that is not known.
    Unseen,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespaceId {
    /// Its inode number, which is reused.
    inode: u64,
    /// Its cookie, which is not. `None` where the scan did not enter it, and before 5.14.
    cookie: Option<u64>,
}

impl Place {
    pub(crate) const fn is_device(&self) -> bool {
        matches!(self, Self::Device { .. })
    }

    /// Returns whether it is a network namespace or in one.
    pub(crate) const fn is_in_namespace(&self) -> bool {
        matches!(self, Self::Device { .. } | Self::Namespace(_))
    }
}

/// The places that a scan saw.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By inode number.
    namespaces: HashMap<u64, SeenNamespace>,
    /// The ids of the cgroups.
    pub(crate) cgroups: HashSet<u64>,
    programs: HashSet<u32>,
    maps: HashSet<u32>,
}

#[derive(Debug)]
struct SeenNamespace {
    cookie: Option<u64>,
    /// The indices of its interfaces, where they were listed.
    devices: HashSet<u32>,
}

impl Survey {
    /// Begins with the programs and maps of the reading before the scan.
    pub(crate) fn of<'a>(
        programs: Option<impl Iterator<Item = &'a u32>>,
        maps: Option<&[Arc<MapFacts>]>,
    ) -> Self {
        let programs = programs.into_iter().flatten().copied().collect();
        let maps = maps.into_iter().flatten().map(|map| map.id).collect();
        Self { programs, maps, ..Self::default() }
    }

    /// Adds a network namespace.
    pub(crate) fn add_namespace(&mut self, inode: u64, cookie: Option<u64>) {
        self.namespaces.insert(inode, SeenNamespace { cookie, devices: HashSet::new() });
    }

    /// Adds the interfaces of a network namespace.
    pub(crate) fn add_devices(&mut self, inode: u64, devices: impl Iterator<Item = u32>) {
        if let Some(namespace) = self.namespaces.get_mut(&inode) {
            namespace.devices.extend(devices);
        }
    }

    /// Returns the place of an attachment; `None` where attachments with the same labels may be at different places.
    pub(crate) fn place(&self, hook: &Hook) -> Option<Place> {
        if !hook.is_placed() {
            return None;
        }
        let namespace = || {
            let inode = hook.netns.as_ref()?.inode;
            let cookie = self.namespaces.get(&inode).and_then(|namespace| namespace.cookie);
            Some(NamespaceId { inode, cookie })
        };
        Some(match &hook.target {
            Some(Target::Device(device) | Target::Qdisc { device, .. } | Target::Class { device, .. }) => {
                let Device { ifindex, .. } = *device;
                Place::Device { namespace: namespace()?, ifindex }
            }
            Some(Target::NetNs { .. } | Target::Action { .. } | Target::Netfilter { .. }) => {
                Place::Namespace(namespace()?)
            }
            Some(Target::Cgroup(cgroup)) => Place::Cgroup(cgroup.id),
            Some(Target::Map { id }) => Place::Map(*id),
            Some(Target::Function { object: FunctionObject::Program(id), .. }) => Place::Program(*id),
            Some(Target::Uprobe { .. } | Target::UprobeMulti { .. }) => Place::Unseen,
            // Before 6.6 links do not report the target of a probe.
            None if hook.hook != "tracepoint" => Place::Unseen,
            _ => Place::Kernel,
        })
    }

    /// Returns whether the scan saw a place.
    pub(crate) fn has(&self, place: &Place) -> bool {
        let namespace = |wanted: &NamespaceId| {
            self.namespaces.get(&wanted.inode).filter(|seen| seen.cookie == wanted.cookie)
        };
        match place {
            Place::Kernel => true,
            Place::Device { namespace: wanted, ifindex } => {
                namespace(wanted).is_some_and(|seen| seen.devices.contains(ifindex))
            }
            Place::Namespace(wanted) => namespace(wanted).is_some(),
            Place::Cgroup(id) => self.cgroups.contains(id),
            Place::Map(id) => self.maps.contains(id),
            Place::Program(id) => self.programs.contains(id),
            Place::Unseen => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cgroup, NetNs, Symbol};

    fn hook(target: Option<Target>, netns: Option<u64>) -> Hook {
        Hook {
            hook: "hook".into(),
            target,
            netns: netns.map(|inode| NetNs { inode, name: None }),
            position: None,
            priority: None,
            prog_id: Some(1),
            link_id: None,
            map_id: None,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
    fn device(ifindex: u32) -> Option<Target> {
        Some(Target::Device(Device { ifindex, name: None }))
    }

    /// A survey of namespace 7 with this cookie and interface 2, of cgroup 4, program 5 and map 6.
    fn survey(cookie: u64) -> Survey {
        let mut survey =
            Survey { cgroups: [4].into(), programs: [5].into(), maps: [6].into(), ..Survey::default() };
        survey.add_namespace(7, Some(cookie));
        survey.add_devices(7, [2].into_iter());
        survey
    }

    #[test]
    fn a_place_is_there_if_the_scan_saw_it() {
        let function = |object| Some(Target::Function { object, type_id: 1, name: Some("f".into()) });
        let cgroup = |id| Some(Target::Cgroup(Cgroup { id, path: None }));
        let netfilter = || Some(Target::Netfilter { family: 2, hook: 0, priority: None });
        let kprobe = |symbol| Some(Target::Kprobe { symbol, at_return: false });
        let uprobe = || Some(Target::Uprobe { path: "/bin/x".into(), offset: 1, at_return: false });
        for (target, netns, there) in [
            (device(2), Some(7), Some(true)),
            (device(3), Some(7), Some(false)),
            (device(2), Some(8), Some(false)),
            (device(2), None, None),
            (netfilter(), Some(7), Some(true)),
            (netfilter(), None, None),
            (Some(Target::NetNs { inode: 8 }), Some(8), Some(false)),
            (cgroup(4), None, Some(true)),
            (cgroup(5), None, Some(false)),
            (Some(Target::Map { id: 6 }), None, Some(true)),
            (Some(Target::Map { id: 5 }), None, Some(false)),
            (function(FunctionObject::Program(5)), None, Some(true)),
            (function(FunctionObject::Program(6)), None, Some(false)),
            (function(FunctionObject::Btf(1)), None, Some(true)),
            (kprobe(Some(Symbol { name: "f".into(), offset: 0 })), None, Some(true)),
            (kprobe(None), None, None),
            (uprobe(), None, Some(false)),
            (None, None, Some(false)),
        ] {
            let survey = survey(1);
            let hook = hook(target, netns);
            assert_eq!(survey.place(&hook).map(|place| survey.has(&place)), there, "{hook:?}");
        }
    }

    #[test]
    fn a_reused_inode_number_is_another_namespace() {
        let before = survey(1).place(&hook(device(2), Some(7))).expect("it has a place");
        assert!(survey(1).has(&before) && !survey(2).has(&before));
        assert_ne!(survey(2).place(&hook(device(2), Some(7))), Some(before));
    }
}
