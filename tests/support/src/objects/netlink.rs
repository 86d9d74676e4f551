//! A few requests of rtnetlink, in the calling thread's network namespace: make a pair of interfaces, rename one, attach programs.
//! Only the kernel's errno is read back. The layouts are rtnetlink(7).

use super::error::{failed_to, invalid};
use super::sys;
use std::io::{self, Read, Write};

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const ERROR: u16 = 2;
const INTERFACE_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const TC_KIND: u16 = 1;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `VETH_INFO_PEER` and `IFLA_NETKIT_PEER_INFO` alike.
const INFO_PEER: u16 = 1;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// Makes two connected interfaces of this kind ("veth", "netkit"): the first with this name, each with its index.
pub(super) fn create_pair(kind: &str, name: &str, index: i32, peer_index: i32) -> io::Result<()> {
    let peer = [&[0; 4], &peer_index.to_ne_bytes(), &[0; 8][..]].concat();
    let pair = attribute(INFO_DATA, &attribute(INFO_PEER, &peer)?)?;
    let about = [attribute(INFO_KIND, &with_zero(kind))?, pair].concat();
    let attributes = [attribute(INTERFACE_NAME, &with_zero(name))?, attribute(LINK_INFO, &about)?].concat();
    let message = message(EXCLUSIVE | CREATE, index, &attributes)?;
    request(&message).map_err(|error| failed_to(format!("make interface {name} of kind {kind}"), error))
}

/// Removes the interface that has this index, and with it its peer.
pub(super) fn delete_interface(index: i32) -> io::Result<()> {
    let body = [&[0; 4], &index.to_ne_bytes()[..], &[0; 8]].concat();
    request(&with_header(DELETE_LINK, 0, &body)?)
        .map_err(|error| failed_to(format!("remove interface {index}"), error))
}

/// Gives another name to the interface that has this index.
pub(super) fn rename_interface(index: i32, name: &str) -> io::Result<()> {
    let message = message(0, index, &attribute(INTERFACE_NAME, &with_zero(name))?)?;
    request(&message).map_err(|error| failed_to(format!("rename interface {index} to {name}"), error))
}

/// Attaches an XDP program to an interface without a link, in the mode that every interface has.
pub(super) fn attach_xdp(index: u32, program: u32) -> io::Result<()> {
    const XDP: u16 = 43;
    const PROGRAM: u16 = 1;
    const FLAGS: u16 = 3;
    const GENERIC_MODE: u32 = 1 << 1;
    let fields =
        [attribute(PROGRAM, &program.to_ne_bytes())?, attribute(FLAGS, &GENERIC_MODE.to_ne_bytes())?]
            .concat();
    let message = message(0, index.cast_signed(), &attribute(XDP | NESTED, &fields)?)?;
    request(&message).map_err(|error| failed_to(format!("attach XDP to interface {index}"), error))
}

/// Makes the queueing discipline of an interface that has filters for what comes in and what goes out.
pub(super) fn create_clsact(index: u32) -> io::Result<()> {
    const NEW_QDISC: u16 = 36;
    const HANDLE: u32 = 0xffff_0000;
    const PARENT: u32 = 0xffff_fff1;
    let message = traffic(NEW_QDISC, index, [HANDLE, PARENT, 0], &attribute(TC_KIND, b"clsact\0")?)?;
    request(&message).map_err(|error| failed_to(format!("make clsact at interface {index}"), error))
}

/// Attaches a program as a filter below `parent`.
pub(super) fn attach_filter(index: u32, parent: u32, priority: u16, program: u32) -> io::Result<()> {
    const NEW_FILTER: u16 = 44;
    const OPTIONS: u16 = 2;
    const PROGRAM: u16 = 6;
    const NAME: u16 = 7;
    const FLAGS: u16 = 8;
    const DIRECT_ACTION: u32 = 1;
    let every_protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be();
    let fields = [
        attribute(PROGRAM, &program.to_ne_bytes())?,
        attribute(NAME, b"objects\0")?,
        attribute(FLAGS, &DIRECT_ACTION.to_ne_bytes())?,
    ];
    let attributes = [attribute(TC_KIND, b"bpf\0")?, attribute(OPTIONS | NESTED, &fields.concat())?].concat();
    let information = u32::from(priority) << 16 | u32::from(every_protocol);
    let message = traffic(NEW_FILTER, index, [0, parent, information], &attributes)?;
    request(&message).map_err(|error| failed_to(format!("attach a filter to interface {index}"), error))
}

/// A message of traffic control (`struct tcmsg`): handle, parent and information, and what follows.
fn traffic(kind: u16, index: u32, fields: [u32; 3], attributes: &[u8]) -> io::Result<Vec<u8>> {
    let fields = fields.map(u32::to_ne_bytes).concat();
    let body = [&[0; 4], &index.to_ne_bytes()[..], &fields, attributes].concat();
    with_header(kind, EXCLUSIVE | CREATE, &body)
}

fn request(message: &[u8]) -> io::Result<()> {
    let mut socket = sys::route_socket()?;
    socket.write_all(message)?;
    let mut answer = [0_u8; 1024];
    let length = socket.read(&mut answer)?;
    match acknowledged(&answer[..length]) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(invalid("rtnetlink gave no acknowledgement".to_owned())),
    }
}

fn message(flags: u16, index: i32, attributes: &[u8]) -> io::Result<Vec<u8>> {
    // Family and device type: any. Behind the index flags and the mask of flags to change: none.
    let body = [&[0; 4], &index.to_ne_bytes()[..], &[0; 8], attributes].concat();
    with_header(NEW_LINK, flags, &body)
}

fn with_header(kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let total = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut message = total.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | ACKNOWLEDGE | flags).to_ne_bytes());
    // Sequence number and port, of no use for one request.
    message.extend([0; 8]);
    message.extend(body);
    Ok(message)
}

/// An attribute: its length, its type, what it holds, and zeros up to a multiple of four.
fn attribute(kind: u16, holds: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(4 + holds.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(holds);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

fn with_zero(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The number in an answer of type `NLMSG_ERROR`: 0, or an errno below zero.
fn acknowledged(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ERROR).then_some(number)
}
