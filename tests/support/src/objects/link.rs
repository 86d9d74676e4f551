//! Links: a program attached to a target, together with all that the target needs to exist.
//! [`super::link_network`] and [`super::link_tracing`] make each type. Entry point: [`every_link_kind`].

use super::cgroup::Cgroup;
use super::error::failed_to;
use super::kind::Kind;
use super::map::Map;
use super::network::Network;
use super::pin::Pin;
use super::place::Place;
use super::program::Program;
use super::sys;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What a link is attached to and keeps alive.
#[derive(Debug)]
pub enum Target {
    /// A place that is always there: an iterator's, a tracepoint, a function.
    Kernel,
    /// A cgroup of its own.
    Cgroup(Cgroup),
    /// A network namespace of its own, or an interface inside it.
    Network(Network),
    /// A perf event.
    Event(OwnedFd),
    /// A probe, at an offset in a file or a function.
    Probe {
        /// The perf event, if there is one.
        event: Option<OwnedFd>,
        /// In bytes.
        offset: u64,
    },
    /// Another program.
    Program(Program),
    /// A map: of sockets, or of struct operations.
    Map(Map),
}

/// An attached link. Dropping it detaches the program, then ends the program and the target.
#[derive(Debug)]
pub struct Link {
    // Fields are dropped in this order: the link is dropped before its target.
    fd: OwnedFd,
    program: Option<Program>,
    target: Target,
    id: u32,
    kind: u32,
}

impl Link {
    /// Attaches `program` with `BPF_LINK_CREATE`; the link is to be of this kind.
    pub(super) fn attach(kind: u32, program: Program, place: Place<'_>, target: Target) -> io::Result<Self> {
        let fd = create(program.fd(), place)?;
        Self::made(kind, fd, Some(program), target)
    }

    /// Takes over a link that was just made.
    pub(super) fn made(kind: u32, fd: OwnedFd, program: Option<Program>, target: Target) -> io::Result<Self> {
        let id = Kind::Link.id(fd.as_fd())?;
        Ok(Self { fd, program, target, id, kind })
    }

    /// Says where the probe is that its event makes.
    pub(super) fn at_offset(&mut self, offset: u64) {
        let target = std::mem::replace(&mut self.target, Target::Kernel);
        let event = if let Target::Event(event) = target { Some(event) } else { None };
        self.target = Target::Probe { event, offset };
    }

    /// Puts another program in the place of the one attached, which [`Link::program`] goes on to name.
    ///
    /// # Errors
    /// The kernel's refusal: not every kind of link can do it.
    pub fn replace_program(&self, program: &Program) -> io::Result<()> {
        sys::link_update(self.fd(), program.fd())
            .map_err(|error| failed_to(format!("replace the program of link {}", self.id), error))
    }

    /// How often a probe on a function of the kernel, by a perf event, should have run its program and could not (6.7);
    /// zero where the kernel does not know the field.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn missed(&self) -> io::Result<u64> {
        let info = sys::object_info(self.fd())?;
        // `perf_event.kprobe.missed` of `struct bpf_link_info`, at 48 bytes.
        Ok(u64::from(info[12]) | u64::from(info[13]) << 32)
    }

    /// Ends what it is attached to, as far as the link itself does not keep that: a cgroup, a network namespace.
    pub fn end_target(&mut self) {
        self.target = Target::Kernel;
    }

    /// Pins it at `path`, in a BPF file system.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn pin(&self, path: &Path) -> io::Result<Pin> {
        Pin::make(self.fd(), path)
    }

    /// Opens it again, by its id.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open_by_id(&self) -> io::Result<OwnedFd> {
        sys::link_by_id(self.id).map_err(|error| failed_to(format!("open link {}", self.id), error))
    }

    /// The kernel's id of this link.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Which of [`super::uapi::link_type`] it is.
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// The fd that keeps it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The program attached; `None` for struct operations, whose programs belong to the map.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// What it is attached to.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// `BPF_LINK_CREATE`, with a reason in the error.
pub(super) fn create(object: BorrowedFd<'_>, place: Place<'_>) -> io::Result<OwnedFd> {
    sys::link_create(object, place)
        .map_err(|error| failed_to(format!("create a link of attach type {}", place.attach_type), error))
}

/// Makes one link of some kind.
type Maker = fn() -> io::Result<Link>;

/// Every way to attach, by name. A kind of link that has several appears several times.
const MAKERS: &[(&str, Maker)] = &[
    ("raw_tracepoint", Link::raw_tracepoint),
    ("raw_tracepoint_btf", Link::raw_tracepoint_btf),
    ("tracing_fentry_kernel", Link::fentry_of_kernel),
    ("tracing_fentry_program", Link::fentry_of_program),
    ("tracing_extension", Link::extension),
    ("tracing_lsm", Link::lsm),
    ("cgroup", Link::cgroup),
    ("cgroup_lsm", Link::lsm_cgroup),
    ("iter", Link::iter),
    ("iter_map_elem", Link::iter_of_map),
    ("iter_cgroup", Link::iter_of_cgroup),
    ("iter_task", Link::iter_of_task),
    ("netns_sk_lookup", Link::sk_lookup),
    ("netns_flow_dissector", Link::flow_dissector),
    ("xdp", Link::xdp),
    ("perf_event_software", Link::perf_event),
    ("perf_event_tracepoint", Link::tracepoint),
    ("perf_event_uprobe", Link::uprobe),
    ("perf_event_uretprobe", Link::uretprobe),
    ("perf_event_kprobe", Link::kprobe),
    ("perf_event_kprobe_behind", Link::kprobe_behind),
    ("perf_event_kretprobe", Link::kretprobe),
    ("kprobe_multi", Link::kprobe_multi),
    ("kprobe_multi_several", Link::kprobe_multi_of_several),
    ("struct_ops", Link::struct_ops),
    ("netfilter", Link::netfilter),
    ("tcx", Link::tcx),
    ("tcx_egress", Link::tcx_egress),
    ("uprobe_multi", Link::uprobe_multi),
    ("uprobe_multi_several", Link::uprobe_multi_of_several),
    ("netkit", Link::netkit),
    ("netkit_peer", Link::netkit_peer),
    ("sockmap", Link::sockmap),
];

/// Tries to make one link of every kind: its name, and the link or the refusal.
#[must_use]
pub fn every_link_kind() -> Vec<(&'static str, io::Result<Link>)> {
    MAKERS.iter().map(|&(name, make)| (name, make())).collect()
}
