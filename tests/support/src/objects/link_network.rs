//! Links to attach points of the network: interfaces, namespaces, cgroups, socket maps, TCP's congestion control.
//! Whatever is attached to an interface or a namespace is made inside a new namespace, on its loopback interface.

use super::cgroup::Cgroup;
use super::kernel_types::KernelTypes;
use super::link::{self, Link, Target};
use super::map::Map;
use super::netlink;
use super::network::{LOOPBACK, Network};
use super::place::{Options, Place};
use super::program::{Program, ProgramSpec};
use super::uapi::{attach_type, link_type, map_flag, map_type, program_type};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// `XDP_FLAGS_SKB_MODE`: the mode that every interface has.
const XDP_SKB_MODE: u32 = 1 << 1;

impl Link {
    /// XDP, on the loopback interface of a new network namespace.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.9 do not know it.
    pub fn xdp() -> io::Result<Self> {
        let program = Program::ready(program_type::XDP, "link_xdp")?;
        Self::on_loopback(link_type::XDP, program, attach_type::XDP, XDP_SKB_MODE)
    }

    /// Traffic control's way in (tcx), on the loopback interface of a new network namespace.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.6 do not know it.
    pub fn tcx() -> io::Result<Self> {
        let program = Program::ready(program_type::SCHED_CLS, "link_tcx")?;
        Self::on_loopback(link_type::TCX, program, attach_type::TCX_INGRESS, 0)
    }

    /// Traffic control's way out, likewise.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.6 do not know it.
    pub fn tcx_egress() -> io::Result<Self> {
        let program = Program::ready(program_type::SCHED_CLS, "link_tcx_egress")?;
        Self::on_loopback(link_type::TCX, program, attach_type::TCX_EGRESS, 0)
    }

    /// A netkit interface with the index 77, in a new network namespace.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.7 do not know it, and many are built without.
    pub fn netkit() -> io::Result<Self> {
        Self::on_netkit("link_netkit", attach_type::NETKIT_PRIMARY)
    }

    /// The other end of a netkit interface, with the index 78. It is attached to by the first one's index.
    ///
    /// # Errors
    /// As [`Self::netkit`].
    pub fn netkit_peer() -> io::Result<Self> {
        Self::on_netkit("link_netkit_end", attach_type::NETKIT_PEER)
    }

    fn on_netkit(name: &str, attach_type: u32) -> io::Result<Self> {
        const INDEX: u32 = 77;
        const PEER_INDEX: i32 = 78;
        let program = Program::ready(program_type::SCHED_CLS, name)?;
        let place = Place { target: INDEX, ..Place::of(attach_type) };
        Self::inside(link_type::NETKIT, program, |program, _| {
            netlink::create_pair("netkit", "objects", INDEX.cast_signed(), PEER_INDEX)?;
            link::create(program, place)
        })
    }

    /// Netfilter, where packets come in, in a new network namespace.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.4 do not know it.
    pub fn netfilter() -> io::Result<Self> {
        const LOCAL_IN: u32 = 1;
        let program = Program::ready(program_type::NETFILTER, "link_netfilter")?;
        let family = libc::AF_INET.cast_unsigned();
        let options = Options::Netfilter { family, hook: LOCAL_IN, priority: -128 };
        let place = Place { options, ..Place::of(attach_type::NETFILTER) };
        Self::inside(link_type::NETFILTER, program, |program, _| link::create(program, place))
    }

    /// Socket lookup in a new network namespace.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.9 do not know it.
    pub fn sk_lookup() -> io::Result<Self> {
        let program = Program::ready(program_type::SK_LOOKUP, "link_sk_lookup")?;
        Self::inside(link_type::NETNS, program, |program, network| {
            link::create(program, Place::at(network.fd(), attach_type::SK_LOOKUP))
        })
    }

    /// The flow dissector of a new network namespace.
    ///
    /// # Errors
    /// The kernel's refusal, EEXIST if the initial namespace has one; kernels before 5.8 do not know it.
    pub fn flow_dissector() -> io::Result<Self> {
        let program = Program::ready(program_type::FLOW_DISSECTOR, "link_dissector")?;
        Self::inside(link_type::NETNS, program, |program, network| {
            link::create(program, Place::at(network.fd(), attach_type::FLOW_DISSECTOR))
        })
    }

    /// What sockets of a new cgroup receive.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 5.7 do not know it.
    pub fn cgroup() -> io::Result<Self> {
        let program = Program::ready(program_type::CGROUP_SKB, "link_cgroup")?;
        let cgroup = Cgroup::new()?;
        let place = Place::at(cgroup.fd(), attach_type::CGROUP_INET_INGRESS);
        Self::attach(link_type::CGROUP, program, place, Target::Cgroup(cgroup))
    }

    /// What is sent to sockets of a new socket map.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.10 do not know it.
    pub fn sockmap() -> io::Result<Self> {
        let program = Program::ready(program_type::SK_MSG, "link_sockmap")?;
        let map = Map::ready(map_type::SOCKMAP, "link_sockmap")?;
        let place = Place::at(map.fd(), attach_type::SK_MSG_VERDICT);
        Self::attach(link_type::SOCKMAP, program, place, Target::Map(map))
    }

    /// A congestion control of TCP that nothing uses (`struct tcp_congestion_ops`), made of three programs.
    /// It is listed in `/proc/sys/net/ipv4/tcp_available_congestion_control` as "o", the process's id, "_" and a number.
    ///
    /// # Errors
    /// The kernel's refusal; kernels before 6.4 do not know it.
    pub fn struct_ops() -> io::Result<Self> {
        let map = Map::operations("link_struct_ops", map_flag::LINK)?;
        let place = Place::of(attach_type::STRUCT_OPS);
        let fd = link::create(map.fd(), place)?;
        Self::made(link_type::STRUCT_OPS, fd, None, Target::Map(map))
    }

    fn on_loopback(kind: u32, program: Program, attach_type: u32, flags: u32) -> io::Result<Self> {
        let place = Place { target: LOOPBACK, flags, ..Place::of(attach_type) };
        Self::inside(kind, program, |program, _| link::create(program, place))
    }

    /// Makes a link on a thread inside a new network namespace, which the link then keeps.
    fn inside(
        kind: u32,
        program: Program,
        create: impl FnOnce(BorrowedFd<'_>, &Network) -> io::Result<OwnedFd> + Send,
    ) -> io::Result<Self> {
        let (fd, network) = Network::new_with(|network| create(program.fd(), network))?;
        Self::made(kind, fd, Some(program), Target::Network(network))
    }
}

impl Map {
    /// A congestion control of TCP as [`Link::struct_ops`] attaches it. Without the flag that it is for a link it is registered at
    /// once, until its entry 0 is deleted.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn operations(name: &str, flags: u32) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let map = Self::ready_with(map_type::STRUCT_OPS, name, flags)?;
        let kernel = KernelTypes::read()?;
        let operations = kernel.structure("tcp_congestion_ops")?;
        let wrapper = kernel.structure("bpf_struct_ops_tcp_congestion_ops")?;
        let (_, start) = wrapper.member("data")?;

        let mut value = vec![0_u8; wrapper.size as usize];
        let mut put = |offset: usize, bytes: &[u8]| {
            value[start + offset..][..bytes.len()].copy_from_slice(bytes);
        };
        // The kernel takes no second congestion control of the same name.
        let name = format!("o{}_{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        put(operations.member("name")?.1, name.as_bytes());
        // The kernel keeps the programs as long as the map; these fds are needed only until it has them.
        let mut programs = Vec::new();
        for member in ["ssthresh", "cong_avoid", "undo_cwnd"] {
            let (attach_type, offset) = operations.member(member)?;
            let ready = ProgramSpec::ready(program_type::STRUCT_OPS)?;
            let program = Program::load(&ProgramSpec { name: member, attach_type, ..ready })?;
            // The pointer is replaced by the fd of the program.
            let pointer = usize::try_from(program.fd().as_raw_fd()).map_err(io::Error::other)?;
            put(offset, &pointer.to_ne_bytes());
            programs.push(program);
        }
        map.insert(&0_u32.to_ne_bytes(), &value)?;
        Ok(map)
    }
}
