//! Attachments without a link, as older loaders make them: they last as long as their target. Entry point: [`Program::attach_filter`].

use super::cgroup::Cgroup;
use super::error::failed_to;
use super::link::{self, Link, Target};
use super::map::Map;
use super::netlink;
use super::network::{LOOPBACK, Network};
use super::place::{self, Place};
use super::probe;
use super::program::Program;
use super::sys;
use super::uapi::{attach_type, link_type, program_type};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Which way a packet goes.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    /// Ingress.
    In,
    /// Egress.
    Out,
}

/// A perf event of this process, with a program.
#[derive(Debug)]
pub struct Event {
    _event: OwnedFd,
}

/// Why no filter of traffic control can be attached; `None` where one can. Many kernels have what it takes in modules.
#[must_use]
pub fn filters_missing() -> Option<String> {
    let attached = Network::new_with(|_| {
        Program::ready(program_type::SCHED_CLS, "probe")?.attach_filter(Direction::In, 1)
    });
    attached.err().map(|error| format!("needs a kernel with clsact and cls_bpf: {error}"))
}

/// What is attached to the loopback interface of the calling thread's network namespace: call these in
/// [`super::Network::new_with`].
impl Program {
    /// Attaches it as a filter of traffic control. The smallest priority comes first.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_filter(&self, direction: Direction, priority: u16) -> io::Result<()> {
        let parent = match direction {
            Direction::In => 0xffff_fff2,
            Direction::Out => 0xffff_fff3,
        };
        // It is there already for the second filter.
        let _made = netlink::create_clsact(LOOPBACK);
        netlink::attach_filter(LOOPBACK, parent, priority, sys::number(self.fd()))
    }

    /// Attaches it as XDP.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_xdp(&self) -> io::Result<()> {
        self.attach_xdp_at(LOOPBACK)
    }

    /// Attaches it as XDP to the interface with this index.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_xdp_at(&self, index: u32) -> io::Result<()> {
        netlink::attach_xdp(index, sys::number(self.fd()))
    }

    /// Has a link attach it as XDP to the interface with this index.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.9 do not know it.
    pub fn link_xdp_at(&self, index: u32) -> io::Result<Link> {
        const GENERIC_MODE: u32 = 1 << 1;
        let place = Place { target: index, flags: GENERIC_MODE, ..Place::of(attach_type::XDP) };
        let fd = link::create(self.fd(), place)?;
        Link::made(link_type::XDP, fd, None, Target::Kernel)
    }

    /// Attaches it as tcx, after those that are there.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.6 do not know it.
    pub fn attach_tcx(&self) -> io::Result<()> {
        self.attach(LOOPBACK, attach_type::TCX_INGRESS, 0)
    }

    /// Has a link attach it as tcx, before those that are there or after them.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.6 do not know it.
    pub fn link_tcx(self, first: bool) -> io::Result<Link> {
        const BEFORE: u32 = 1 << 3;
        let flags = if first { BEFORE } else { 0 };
        let place = Place { target: LOOPBACK, flags, ..Place::of(attach_type::TCX_INGRESS) };
        let fd = link::create(self.fd(), place)?;
        Link::made(link_type::TCX, fd, Some(self), Target::Kernel)
    }

    /// Makes it the flow dissector of the network namespace.
    ///
    /// # Errors
    /// The kernel's refusal, EEXIST if the initial namespace has one.
    pub fn attach_dissector(&self) -> io::Result<()> {
        self.attach(0, attach_type::FLOW_DISSECTOR, 0)
    }
}

impl Program {
    /// Attaches it to what sockets of a cgroup receive, after those that are there, until the cgroup is removed.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_to_cgroup(&self, cgroup: &Cgroup) -> io::Result<()> {
        const SEVERAL: u32 = 1 << 1;
        self.attach(sys::number(cgroup.fd()), attach_type::CGROUP_INET_INGRESS, SEVERAL)
    }

    /// Has a link attach it to the same.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn link_cgroup(self, cgroup: &Cgroup) -> io::Result<Link> {
        let place = Place::at(cgroup.fd(), attach_type::CGROUP_INET_INGRESS);
        Link::attach(link_type::CGROUP, self, place, Target::Kernel)
    }

    /// Attaches it to what is sent to the sockets of a map, until the map is gone.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_to_sockets(&self, map: &Map) -> io::Result<()> {
        self.attach(sys::number(map.fd()), attach_type::SK_MSG_VERDICT, 0)
    }

    /// Attaches it to a tracepoint of the scheduler that fires whenever a process executes a program.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_to_tracepoint(&self) -> io::Result<Event> {
        let id = probe::tracepoint(c"sched_process_exec")?;
        let event = sys::perf_event_open(&place::Event::Tracepoint(id))?;
        sys::perf_event_set_program(event.as_fd(), self.fd())
            .map_err(|error| failed_to(format!("attach program {} to an event", self.id()), error))?;
        Ok(Event { _event: event })
    }

    fn attach(&self, target: u32, attach_type: u32, flags: u32) -> io::Result<()> {
        sys::program_attach(self.fd(), target, attach_type, flags)
            .map_err(|error| failed_to(format!("attach program {} as {attach_type}", self.id()), error))
    }
}
