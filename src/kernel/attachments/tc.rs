//! Parsers of rtnetlink messages about interfaces and traffic control, as far as programs are attached there.
//! Entry points: [`Interface::parse`], [`Qdisc::parse`] and [`Filter::parse`]. Independent of sockets: bytes in, values out.

use crate::host::netlink::{Attributes, attribute, c_string, read_u32};
use crate::model::Device;
use crate::text::printable;

pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_GETQDISC: u16 = 38;
pub(crate) const RTM_GETTCLASS: u16 = 42;
pub(crate) const RTM_GETTFILTER: u16 = 46;
pub(crate) const RTM_GETACTION: u16 = 50;

/// `struct ifinfomsg`.
const INTERFACE_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_SKIP_STATS`: the counters of every interface are long, and not needed here.
const SKIP_STATS: u32 = 1 << 3;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
/// The attribute and the number of each mode, in the order in which a packet passes them: in hardware, in the driver, after it.
const XDP_MODES: [(u16, u8); 3] =
    [(IFLA_XDP_HW_PROG_ID, 3), (IFLA_XDP_DRV_PROG_ID, 1), (IFLA_XDP_SKB_PROG_ID, 2)];
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;

/// The body of a request for every interface.
pub(crate) fn every_interface() -> Vec<u8> {
    [vec![0; INTERFACE_HEADER], attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes())].concat()
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Whether it is one of a pair of netkit, which have hooks of their own.
    pub(crate) is_netkit: bool,
    /// Its XDP programs in execution order: in hardware, in the driver, after it.
    pub(crate) xdp: Vec<u32>,
}

impl Interface {
    /// Parses a message.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let index = read_u32(body, 4)?;
        let attributes = Attributes(body.get(INTERFACE_HEADER..)?);
        let name = printable(attributes.find(IFLA_IFNAME)?);
        let kind = attributes.nested(IFLA_LINKINFO).find(IFLA_INFO_KIND);
        let xdp = attributes.nested(IFLA_XDP);
        let mut programs: Vec<u32> = XDP_MODES
            .iter()
            .filter_map(|&(attribute, _)| xdp.find_u32(attribute))
            .filter(|&id| id != 0)
            .collect();
        if programs.is_empty() {
            // Before 4.19 there was one program in one mode.
            let attached = xdp.find(IFLA_XDP_ATTACHED).and_then(|mode| mode.first().copied());
            let known = attached.is_some_and(|mode| XDP_MODES.iter().any(|&(_, number)| number == mode));
            programs.extend(xdp.find_u32(IFLA_XDP_PROG_ID).filter(|&id| known && id != 0));
        }
        Some(Self { index, name, is_netkit: kind.map(c_string) == Some(b"netkit"), xdp: programs })
    }

    /// The interface as a target.
    pub(crate) fn device(&self) -> Device {
        Device { ifindex: self.index, name: Some(self.name.as_str().into()) }
    }
}

/// `struct tcmsg`: family and padding, index, handle, parent, information.
const TC_HEADER: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_ID: u16 = 11;

/// The body of a traffic control request, for an interface (0 for every one) and a parent.
pub(crate) fn below(index: u32, parent: u32) -> [u8; TC_HEADER] {
    let mut request = [0; TC_HEADER];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    request[12..16].copy_from_slice(&parent.to_ne_bytes());
    request
}

/// The parents that can have filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parents {
    /// What comes in.
    Ingress,
    /// What comes in and what goes out.
    Both,
    /// The queueing discipline itself.
    Itself,
    /// It and each of its classes.
    ItselfAndClasses,
}

/// A queueing discipline that can have filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Qdisc {
    /// The interface.
    pub(crate) index: u32,
    pub(crate) handle: u32,
    pub(crate) parents: Parents,
}

/// The parents of filters at `clsact` and `ingress` (`TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`).
pub(crate) const INGRESS: u32 = 0xffff_fff2;
pub(crate) const EGRESS: u32 = 0xffff_fff3;

/// Queueing disciplines that take no filter: their `cl_ops` have no `tcf_block`, or they have no `cl_ops` at all
/// (`net/sched/sch_*.c`).
const WITHOUT_FILTERS: [&[u8]; 10] = [
    b"noqueue",
    b"noop",
    b"pfifo_fast",
    b"pfifo",
    b"bfifo",
    b"pfifo_head_drop",
    b"mq",
    b"mqprio",
    b"fq",
    b"tbf",
];

/// Queueing disciplines in which each class has filters of its own.
const WITH_FILTERS_OF_CLASSES: [&[u8]; 4] = [b"htb", b"hfsc", b"cbq", b"atm"];

impl Qdisc {
    /// Parses a message; `None` for one that can have no filter.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let (index, handle) = (read_u32(body, 4)?, read_u32(body, 8)?);
        let kind = c_string(Attributes(body.get(TC_HEADER..)?).find(TCA_KIND)?);
        let parents = match kind {
            b"clsact" => Parents::Both,
            b"ingress" => Parents::Ingress,
            kind if WITHOUT_FILTERS.contains(&kind) => return None,
            kind if WITH_FILTERS_OF_CLASSES.contains(&kind) => Parents::ItselfAndClasses,
            _ => Parents::Itself,
        };
        Some(Self { index, handle, parents })
    }
}

/// The handle of a class.
pub(crate) fn class(body: &[u8]) -> Option<u32> {
    read_u32(body, 8)
}

/// A filter with a program.
///
/// Filters of the same chain and priority run in the order of the dump: the latest first (`cls_bpf_change`, `cls_bpf_walk` and
/// `cls_bpf_classify` in `net/sched/cls_bpf.c` use the same list). Their handles do not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Its chain and its priority: the smallest runs first.
    pub(crate) order: (u32, u32),
    pub(crate) program: u32,
}

impl Filter {
    /// Parses a message; `None` for a filter without a program.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let attributes = Attributes(body.get(TC_HEADER..)?);
        if c_string(attributes.find(TCA_KIND)?) != b"bpf" {
            return None;
        }
        let program = attributes.nested(TCA_OPTIONS).find_u32(TCA_BPF_ID).filter(|&id| id != 0)?;
        // Before 4.14 there was only chain 0.
        let chain = attributes.find_u32(TCA_CHAIN).unwrap_or(0);
        Some(Self { order: (chain, read_u32(body, 16)? >> 16), program })
    }
}

/// `struct tcamsg`.
const ACTION_HEADER: usize = 4;
const TCA_ACT_TAB: u16 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_BPF_PARMS: u16 = 2;
const TCA_ACT_BPF_ID: u16 = 9;

/// The body of a request for every action with a program.
pub(crate) fn every_action() -> Vec<u8> {
    let first = attribute(1, &attribute(TCA_ACT_KIND, b"bpf\0"));
    [vec![0; ACTION_HEADER], attribute(TCA_ACT_TAB, &first)].concat()
}

/// Parses a message with actions, each as its index and program.
pub(crate) fn actions(body: &[u8]) -> Option<Vec<(u32, u32)>> {
    let table = Attributes(body.get(ACTION_HEADER..)?).nested(TCA_ACT_TAB);
    let action = |(_, action)| {
        let action = Attributes(action);
        let options = action.nested(TCA_ACT_OPTIONS);
        let program = options.find_u32(TCA_ACT_BPF_ID).filter(|&id| id != 0)?;
        (c_string(action.find(TCA_ACT_KIND)?) == b"bpf")
            .then_some((options.find_u32(TCA_ACT_BPF_PARMS)?, program))
    };
    Some(table.filter_map(action).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(kind: u16, id: u32) -> Vec<u8> {
        attribute(kind, &id.to_ne_bytes())
    }

    fn interface(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; INTERFACE_HEADER];
        body[4..8].copy_from_slice(&2_u32.to_ne_bytes());
        [body, attribute(IFLA_IFNAME, b"eth0\0"), attributes.concat()].concat()
    }

    #[test]
    fn xdp_programs_are_in_execution_order() {
        let xdp = |attributes: &[Vec<u8>]| attribute(IFLA_XDP | 0x8000, &attributes.concat());
        let netkit = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"netkit\0"));
        let (one, old) = (attribute(IFLA_XDP_ATTACHED, &[2]), attribute(IFLA_XDP_ATTACHED, &[0]));
        for (attributes, is_netkit, programs) in [
            (vec![], false, vec![]),
            (vec![netkit, xdp(&[attribute(IFLA_XDP_ATTACHED, &[0])])], true, vec![]),
            (vec![xdp(&[one.clone(), id(4, 7), id(6, 7)])], false, vec![7]),
            (vec![xdp(&[attribute(2, &[4]), id(6, 7), id(5, 8), id(7, 9)])], false, vec![9, 8, 7]),
            (vec![xdp(&[one, id(4, 7)])], false, vec![7]),
            (vec![xdp(&[old, id(4, 7)])], false, vec![]),
        ] {
            let found = Interface::parse(&interface(&attributes)).expect("it is complete");
            assert_eq!((found.device().name.as_deref(), found.is_netkit), (Some("eth0"), is_netkit));
            assert_eq!(found.xdp, programs);
        }
    }

    fn tc(handle: u32, information: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = below(3, INGRESS).to_vec();
        body[8..12].copy_from_slice(&handle.to_ne_bytes());
        body[16..20].copy_from_slice(&information.to_ne_bytes());
        [body, attributes.concat()].concat()
    }

    #[test]
    fn the_kind_of_a_qdisc_decides_which_parents_have_filters() {
        for (kind, parents) in [
            (&b"clsact\0"[..], Some(Parents::Both)),
            (b"ingress\0", Some(Parents::Ingress)),
            (b"noqueue\0", None),
            (b"htb\0", Some(Parents::ItselfAndClasses)),
            (b"fq_codel\0", Some(Parents::Itself)),
        ] {
            let expected = parents.map(|parents| Qdisc { index: 3, handle: 5, parents });
            assert_eq!(Qdisc::parse(&tc(5, 0, &[attribute(TCA_KIND, kind)])), expected);
        }
    }

    #[test]
    fn a_filter_has_an_order_and_a_program() {
        let filter = |kind: &[u8], chain: &[u8], program| {
            let options = attribute(TCA_OPTIONS, &id(TCA_BPF_ID, program));
            let attributes = [attribute(TCA_KIND, kind), chain.to_vec(), options];
            Filter::parse(&tc(1, 2 << 16 | 3, &attributes))
        };
        let chain = id(TCA_CHAIN, 1);
        assert_eq!(filter(b"bpf\0", &chain, 11), Some(Filter { order: (1, 2), program: 11 }));
        assert_eq!(filter(b"bpf\0", &[], 11), Some(Filter { order: (0, 2), program: 11 }));
        assert_eq!(filter(b"flower\0", &[], 11), None);
        assert_eq!(filter(b"bpf\0", &[], 0), None, "a filter of classic BPF has no id");
    }

    #[test]
    fn actions_are_read_from_a_table() {
        let action = |kind: &[u8], program| {
            let parameters = attribute(TCA_ACT_BPF_PARMS, &[5_u32.to_ne_bytes(), [0; 4]].concat());
            let options = attribute(TCA_ACT_OPTIONS, &[parameters, id(TCA_ACT_BPF_ID, program)].concat());
            attribute(1, &[attribute(TCA_ACT_KIND, kind), options].concat())
        };
        let table = attribute(
            TCA_ACT_TAB,
            &[action(b"bpf\0", 17), action(b"gact\0", 18), action(b"bpf\0", 0)].concat(),
        );
        assert_eq!(actions(&[vec![0; 4], table].concat()), Some(vec![(5, 17)]));
        assert_eq!(actions(&[0; 4]), Some(vec![]));
    }

    proptest! {
        #[test]
        fn damaged_messages_do_not_panic(mut bytes: Vec<u8>, cut in 0_usize..80, at in 0_usize..80, byte: u8) {
            let mut body = interface(&[attribute(IFLA_XDP, &id(IFLA_XDP_SKB_PROG_ID, 7))]);
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
            body.truncate(cut);
            bytes.extend(body.clone());
            for body in [body, bytes] {
                let _any = (Interface::parse(&body), Qdisc::parse(&body), Filter::parse(&body), actions(&body));
            }
        }
    }
}
