//! Attachments in one network namespace: XDP, tcx, netkit, filters and actions of traffic control, socket lookup.
//! Entry point: [`scan`], for the calling thread's network namespace.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::merge::AttachPoint;
use super::tc::{
    self, EGRESS, Filter, INGRESS, Interface, Parents, Qdisc, RTM_GETACTION, RTM_GETLINK, RTM_GETQDISC,
    RTM_GETTCLASS, RTM_GETTFILTER,
};
use super::{ScanContext, hook};
use crate::host::netlink::Socket;
use crate::host::netns::Namespace;
use crate::model::enums::{attach_type, program_type};
use crate::model::{Device, Target};
use crate::sys::Error;
use crate::sys::bpf::{AttachedPrograms, QueryTarget, prog_query};

/// The types of program that are attached in a network namespace.
pub(crate) const TYPES: [u32; 5] = [
    program_type::XDP,
    program_type::SCHED_CLS,
    program_type::SCHED_ACT,
    program_type::FLOW_DISSECTOR,
    program_type::SK_LOOKUP,
];

/// The types of program that run in traffic control.
const TRAFFIC_CONTROL: [u32; 2] = [program_type::SCHED_CLS, program_type::SCHED_ACT];

/// Classes beyond this number are not queried for their filters.
const MOST_CLASSES: usize = 4096;

/// Queries the network namespace that this thread is in.
pub(crate) fn scan(cx: &mut ScanContext<'_>, namespace: &Namespace) {
    let socket = match Socket::open() {
        Ok(socket) => socket,
        Err(error) => return cx.refused(error, &TYPES),
    };
    let cookie = match socket.netns_cookie() {
        Ok(cookie) => Some(cookie),
        Err(Error { errno: Errno::ENOPROTOOPT, .. }) => None,
        // Without the cookie its places would have other names than before: it counts as not surveyed.
        Err(error) => return cx.refused(error, &TYPES),
    };
    cx.survey.add_namespace(namespace.netns.inode, cookie);
    cx.namespaces.push(namespace.netns.clone());
    query_namespace(cx, namespace);
    let on_interfaces = [program_type::XDP, program_type::SCHED_CLS, program_type::SCHED_ACT];
    if cx.subject.has(&on_interfaces) || cx.watched.iter().any(|(place, _)| place.is_device()) {
        InterfaceScan { cx, namespace, socket, classes_left: MOST_CLASSES }.run();
    }
}

/// Queries the hooks of the namespace itself.
fn query_namespace(cx: &mut ScanContext<'_>, namespace: &Namespace) {
    for (program_type, attach_type) in [
        (program_type::FLOW_DISSECTOR, attach_type::FLOW_DISSECTOR),
        (program_type::SK_LOOKUP, attach_type::SK_LOOKUP),
    ] {
        if !cx.subject.has(&[program_type]) || cx.unsupported.contains(&attach_type) {
            continue;
        }
        let mut found = AttachedPrograms::default();
        match prog_query(QueryTarget::Fd(namespace.file.as_fd()), attach_type, &mut found) {
            Ok(()) => {
                let target = Target::NetNs { inode: namespace.netns.inode };
                let point = point(hook(attach_type), target.clone(), namespace);
                cx.attachments.was_queried(&point.hook, &target);
                cx.attachments.add(&point, &found);
            }
            Err(error) => cx.query_failed(attach_type, error, &[program_type]),
        }
    }
}

fn point(hook: impl Into<Cow<'static, str>>, target: Target, namespace: &Namespace) -> AttachPoint {
    AttachPoint { hook: hook.into(), target: Some(target), netns: Some(namespace.netns.clone()) }
}

/// The scan of a namespace's interfaces.
struct InterfaceScan<'a, 'b> {
    cx: &'a mut ScanContext<'b>,
    namespace: &'a Namespace,
    /// A socket in the namespace.
    socket: Socket,
    classes_left: usize,
}

impl InterfaceScan<'_, '_> {
    fn run(&mut self) {
        let interfaces =
            self.socket.dump("RTM_GETLINK", RTM_GETLINK, &tc::every_interface(), Interface::parse);
        let interfaces = match interfaces {
            Ok(interfaces) => interfaces,
            Err(error) => {
                let types = [program_type::XDP, program_type::SCHED_CLS, program_type::SCHED_ACT];
                return self.cx.refused(error, &types);
            }
        };
        let mut devices = BTreeMap::new();
        self.cx
            .survey
            .add_devices(self.namespace.netns.inode, interfaces.iter().map(|interface| interface.index));
        for interface in &interfaces {
            let device = interface.device();
            for (order, &program) in (0..).zip(&interface.xdp) {
                let point = point("xdp", Target::Device(device.clone()), self.namespace);
                self.cx.attachments.add_one(point, order, program);
            }
            if self.cx.subject.has(&[program_type::SCHED_CLS]) {
                self.query_multi_program(interface, &device);
            }
            devices.insert(interface.index, device);
        }
        if self.cx.subject.has(&TRAFFIC_CONTROL) {
            self.read_qdiscs(&devices);
        }
        if self.cx.subject.has(&[program_type::SCHED_ACT]) {
            self.read_actions();
        }
    }

    /// Queries the hooks at which the kernel keeps several programs in order, with and without links (tcx since 6.6, netkit since
    /// 6.7).
    fn query_multi_program(&mut self, interface: &Interface, device: &Device) {
        let tcx = [attach_type::TCX_INGRESS, attach_type::TCX_EGRESS];
        let netkit = [attach_type::NETKIT_PRIMARY, attach_type::NETKIT_PEER];
        let mut found = AttachedPrograms::default();
        for attach_type in tcx.into_iter().chain(netkit.into_iter().filter(|_| interface.is_netkit)) {
            if self.cx.unsupported.contains(&attach_type) {
                continue;
            }
            match prog_query(QueryTarget::Interface(interface.index), attach_type, &mut found) {
                Ok(()) => {
                    let point = point(hook(attach_type), Target::Device(device.clone()), self.namespace);
                    self.cx.attachments.add(&point, &found);
                }
                // It has no programs; it is gone; it is the end of a pair whose other end is queried.
                Err(Error { errno: Errno::ENOENT | Errno::ENODEV, .. }) => {}
                Err(Error { errno: Errno::EACCES, .. }) if netkit.contains(&attach_type) => {}
                Err(error) => self.cx.query_failed(attach_type, error, &[program_type::SCHED_CLS]),
            }
        }
    }

    /// Reads the filters of interfaces with a queueing discipline that can have some.
    fn read_qdiscs(&mut self, devices: &BTreeMap<u32, Device>) {
        match self.socket.dump("RTM_GETQDISC", RTM_GETQDISC, &tc::below(0, 0), Qdisc::parse) {
            Ok(qdiscs) => {
                for qdisc in qdiscs {
                    let unnamed = || Device { ifindex: qdisc.index, name: None };
                    self.read_qdisc(qdisc, &devices.get(&qdisc.index).cloned().unwrap_or_else(unnamed));
                }
            }
            Err(error) => self.cx.refused(error, &TRAFFIC_CONTROL),
        }
    }

    fn read_qdisc(&mut self, qdisc: Qdisc, device: &Device) {
        let Qdisc { handle, parents, .. } = qdisc;
        match parents {
            Parents::Ingress => {
                self.read_filters("tc_ingress", &Target::Device(device.clone()), device, INGRESS);
            }
            Parents::Both => {
                let target = Target::Device(device.clone());
                self.read_filters("tc_ingress", &target, device, INGRESS);
                self.read_filters("tc_egress", &target, device, EGRESS);
            }
            Parents::Itself | Parents::ItselfAndClasses => {
                let target = Target::Qdisc { device: device.clone(), handle };
                self.read_filters("tc_qdisc", &target, device, handle);
            }
        }
        if parents == Parents::ItselfAndClasses {
            self.read_classes(device, handle);
        }
    }

    /// Reads the filters of the classes of a queueing discipline.
    fn read_classes(&mut self, device: &Device, handle: u32) {
        match self.socket.dump("RTM_GETTCLASS", RTM_GETTCLASS, &tc::below(device.ifindex, handle), tc::class)
        {
            Ok(classes) if classes.len() > self.classes_left => {
                self.cx.refused(Error::new("RTM_GETTCLASS", Errno::E2BIG), &TRAFFIC_CONTROL);
            }
            Ok(classes) => {
                self.classes_left -= classes.len();
                for class in classes {
                    let target = Target::Class { device: device.clone(), handle: class };
                    self.read_filters("tc_class", &target, device, class);
                }
            }
            Err(error) => self.traffic_control_failed(error),
        }
    }

    /// Reads the filters below a parent, which is a queueing discipline, a class, or a direction.
    fn read_filters(&mut self, hook: &'static str, target: &Target, device: &Device, parent: u32) {
        let request = tc::below(device.ifindex, parent);
        match self.socket.dump("RTM_GETTFILTER", RTM_GETTFILTER, &request, Filter::parse) {
            Ok(mut filters) => {
                filters.sort_by_key(|filter| filter.order);
                for (order, filter) in (0..).zip(filters) {
                    let point = point(hook, target.clone(), self.namespace);
                    self.cx.attachments.add_one(point, order, filter.program);
                }
            }
            Err(error) => self.traffic_control_failed(error),
        }
    }

    fn read_actions(&mut self) {
        match self.socket.dump("RTM_GETACTION", RTM_GETACTION, &tc::every_action(), tc::actions) {
            Ok(actions) => {
                for (index, program) in actions.into_iter().flatten() {
                    let point = point("tc_action", Target::Action { index }, self.namespace);
                    self.cx.attachments.add_one(point, 0, program);
                }
            }
            Err(error) => self.cx.refused(error, &[program_type::SCHED_ACT]),
        }
    }

    /// Records an error, unless the interface or queueing discipline is gone and with it its filters.
    fn traffic_control_failed(&mut self, error: Error) {
        if ![Errno::ENODEV, Errno::EINVAL, Errno::ENOENT].contains(&error.errno) {
            self.cx.refused(error, &TRAFFIC_CONTROL);
        }
    }
}
