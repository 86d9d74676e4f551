//! What hangs in one network namespace: XDP, tcx, netkit, filters and actions of traffic control, what looks up sockets.
//! Knows no other namespace than the calling thread's. Begin at [`look`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::Asking;
use super::merge::Place;
use super::tc::{
    self, EGRESS, Filter, INGRESS, Interface, Parents, Qdisc, RTM_GETACTION, RTM_GETLINK, RTM_GETQDISC,
    RTM_GETTCLASS, RTM_GETTFILTER,
};
use crate::host::netlink::Socket;
use crate::host::netns::Namespace;
use crate::model::enums::{attach_type, program_type};
use crate::sys::Error;
use crate::sys::bpf::{Attached, Hooked, attached};

/// The types of program that hang in a network namespace.
pub(crate) const TYPES: [u32; 5] = [
    program_type::XDP,
    program_type::SCHED_CLS,
    program_type::SCHED_ACT,
    program_type::FLOW_DISSECTOR,
    program_type::SK_LOOKUP,
];

/// More classes than that are not asked for their filters.
const MOST_CLASSES: usize = 4096;

/// What hangs in the network namespace in which this thread is.
pub(crate) fn look(asking: &mut Asking<'_>, namespace: &Namespace) {
    let has = |types: &[u32]| asking.subject.has(types);
    let (filters, actions) = (has(&[program_type::SCHED_CLS]), has(&[program_type::SCHED_ACT]));
    if has(&[program_type::FLOW_DISSECTOR, program_type::SK_LOOKUP]) {
        of_namespace(asking, namespace);
    }
    if filters || actions || has(&[program_type::XDP]) {
        match Socket::open() {
            Ok(mut socket) => of_interfaces(asking, namespace, &mut socket),
            Err(error) => asking.refused(error, &TYPES),
        }
    }
}

/// Programs that belong to the namespace as a whole.
fn of_namespace(asking: &mut Asking<'_>, namespace: &Namespace) {
    for (kind, attach_type) in [
        (program_type::FLOW_DISSECTOR, attach_type::FLOW_DISSECTOR),
        (program_type::SK_LOOKUP, attach_type::SK_LOOKUP),
    ] {
        if !asking.subject.has(&[kind]) || asking.unknown.contains(&attach_type) {
            continue;
        }
        let hook = hook(attach_type);
        let target: Arc<str> = format!("netns:[{}]", namespace.inode).into();
        let mut there = Attached::default();
        match attached(Hooked::At(namespace.file.as_fd()), attach_type, &mut there) {
            Ok(()) => {
                // A link knows its namespace by the number only.
                asking.hanging.was_asked(&hook, &target);
                let netns = Some(Arc::clone(&namespace.label));
                asking.hanging.add(&Place { hook, target: Some(target), netns }, &there);
            }
            Err(error) => asking.query_failed(attach_type, error, &[kind]),
        }
    }
}

fn of_interfaces(asking: &mut Asking<'_>, namespace: &Namespace, socket: &mut Socket) {
    let types = [program_type::XDP, program_type::SCHED_CLS, program_type::SCHED_ACT];
    let interfaces = match socket.dump("RTM_GETLINK", RTM_GETLINK, &tc::every_interface(), Interface::parse) {
        Ok(interfaces) => interfaces,
        Err(error) => return asking.refused(error, &types),
    };
    let mut places = BTreeMap::new();
    for interface in &interfaces {
        let target: Arc<str> = interface.words().into();
        for (order, &program) in (0..).zip(&interface.xdp) {
            asking.hanging.add_one(place("xdp", &target, namespace), order, program);
        }
        if asking.subject.has(&[program_type::SCHED_CLS]) {
            multi_program(asking, namespace, interface, &target);
        }
        places.insert(interface.index, target);
    }
    if asking.subject.has(&[program_type::SCHED_CLS, program_type::SCHED_ACT]) {
        of_traffic_control(asking, namespace, socket, &places);
    }
    if asking.subject.has(&[program_type::SCHED_ACT]) {
        match socket.dump("RTM_GETACTION", RTM_GETACTION, &tc::every_action(), tc::actions) {
            Ok(actions) => {
                for (index, program) in actions.into_iter().flatten() {
                    let target = format!("action {index}").into();
                    asking.hanging.add_one(place("tc_action", &target, namespace), 0, program);
                }
            }
            Err(error) => asking.refused(error, &[program_type::SCHED_ACT]),
        }
    }
}

/// The programs of an interface that the kernel keeps in order, with links and without (tcx since 6.6, netkit since 6.7).
fn multi_program(asking: &mut Asking<'_>, namespace: &Namespace, interface: &Interface, target: &Arc<str>) {
    let tcx = [attach_type::TCX_INGRESS, attach_type::TCX_EGRESS];
    let netkit = [attach_type::NETKIT_PRIMARY, attach_type::NETKIT_PEER];
    let mut there = Attached::default();
    for attach_type in tcx.into_iter().chain(netkit.into_iter().filter(|_| interface.is_netkit)) {
        if asking.unknown.contains(&attach_type) {
            continue;
        }
        match attached(Hooked::Interface(interface.index), attach_type, &mut there) {
            Ok(()) => asking.hanging.add(&place(hook(attach_type), target, namespace), &there),
            // It has no programs; it is gone; it is the end of a pair that is asked by the other.
            Err(Error { errno: Errno::ENOENT | Errno::ENODEV, .. }) => {}
            Err(Error { errno: Errno::EACCES, .. }) if netkit.contains(&attach_type) => {}
            Err(error) => asking.query_failed(attach_type, error, &[program_type::SCHED_CLS]),
        }
    }
}

/// Filters, of those interfaces only that have a queueing discipline that can have some.
fn of_traffic_control(
    asking: &mut Asking<'_>,
    namespace: &Namespace,
    socket: &mut Socket,
    places: &BTreeMap<u32, Arc<str>>,
) {
    let types = [program_type::SCHED_CLS, program_type::SCHED_ACT];
    let qdiscs = match socket.dump("RTM_GETQDISC", RTM_GETQDISC, &tc::below(0, 0), Qdisc::parse) {
        Ok(qdiscs) => qdiscs,
        Err(error) => return asking.refused(error, &types),
    };
    let mut classes_left = MOST_CLASSES;
    for Qdisc { index, handle, parents } in qdiscs {
        let target = places.get(&index).cloned().unwrap_or_else(|| index.to_string().into());
        let filters = |asking: &mut Asking<'_>, socket: &mut Socket, parent, hook, target: &Arc<str>| {
            match socket.dump("RTM_GETTFILTER", RTM_GETTFILTER, &tc::below(index, parent), Filter::parse) {
                Ok(mut filters) => {
                    filters.sort_by_key(|filter| filter.order);
                    for (order, filter) in (0..).zip(filters) {
                        asking.hanging.add_one(place(hook, target, namespace), order, filter.program);
                    }
                }
                Err(error) => asking.tc_failed(error, &types),
            }
        };
        match parents {
            Parents::Ingress => filters(asking, socket, INGRESS, "tc_ingress", &target),
            Parents::Both => {
                filters(asking, socket, INGRESS, "tc_ingress", &target);
                filters(asking, socket, EGRESS, "tc_egress", &target);
            }
            Parents::Itself | Parents::ItselfAndClasses => {
                filters(asking, socket, handle, "tc_qdisc", &at(&target, "qdisc", handle));
            }
        }
        if parents != Parents::ItselfAndClasses {
            continue;
        }
        match socket.dump("RTM_GETTCLASS", RTM_GETTCLASS, &tc::below(index, handle), tc::class) {
            Ok(classes) if classes.len() > classes_left => {
                asking.refused(Error::new("RTM_GETTCLASS", Errno::E2BIG), &types);
            }
            Ok(classes) => {
                classes_left -= classes.len();
                for class in classes {
                    filters(asking, socket, class, "tc_class", &at(&target, "class", class));
                }
            }
            Err(error) => asking.tc_failed(error, &types),
        }
    }
}

/// A queueing discipline or class of an interface as tc(8) writes them: `eth0 (2) class 1:10`.
fn at(interface: &str, what: &str, handle: u32) -> Arc<str> {
    let (major, minor) = (handle >> 16, handle & 0xffff);
    match minor {
        0 => format!("{interface} {what} {major:x}:").into(),
        _ => format!("{interface} {what} {major:x}:{minor:x}").into(),
    }
}

fn place(hook: impl Into<Cow<'static, str>>, target: &Arc<str>, namespace: &Namespace) -> Place {
    Place { hook: hook.into(), target: Some(Arc::clone(target)), netns: Some(Arc::clone(&namespace.label)) }
}

/// The word for a type of attachment, the number of one that has none.
pub(crate) fn hook(attach_type: u32) -> Cow<'static, str> {
    attach_type::from_number(attach_type).word_or_number()
}

impl Asking<'_> {
    /// An interface or queueing discipline that went meanwhile has no filters any more.
    fn tc_failed(&mut self, error: Error, types: &[u32]) {
        if ![Errno::ENODEV, Errno::EINVAL, Errno::ENOENT].contains(&error.errno) {
            self.refused(error, types);
        }
    }
}
