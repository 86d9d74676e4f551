//! Rtnetlink dumps: sends a request, receives messages and parses their attributes (`Documentation/userspace-api/netlink`).
//!
//! Entry point: [`Socket::dump`]. Independent of the types of messages; every length is checked.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::sys::{Error, Result, failed, os};

/// The length of `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER_LEN: usize = 16;
/// The length of `struct nlattr`: length, type.
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// `NLA_TYPE_MASK`: the bits of an attribute's type that are not flags.
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

/// The number of requests for a dump that changes interrupt.
const ATTEMPTS: usize = 5;

/// Longer than any part of a dump: the kernel sends at most 32 KiB at a time (`netlink_dump`, `net/netlink/af_netlink.c`).
const BUFFER_LEN: usize = 64 << 10;

/// The receive timeout. The kernel replies to a dump request at once, so none occurs in practice.
const TIMEOUT_SECONDS: i64 = 5;

/// An rtnetlink socket in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    file: File,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Returns the error of socket(2) or setsockopt(2).
    pub(crate) fn open() -> Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(failed("socket(AF_NETLINK)"))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(TIMEOUT_SECONDS))
            .map_err(failed("setsockopt(SO_RCVTIMEO)"))?;
        Ok(Self { file: File::from(fd), sequence: 0, buffer: vec![0; BUFFER_LEN] })
    }

    /// Returns the cookie of the socket's network namespace, which no other one ever gets. Since 5.14.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT` on older kernels.
    pub(crate) fn netns_cookie(&self) -> Result<u64> {
        os::netns_cookie(self.file.as_fd())
    }

    /// Requests all objects of a type, and returns what `parse` makes of each reply's body. `request` follows the header of the
    /// message; `name` is that of the request in errors.
    ///
    /// # Errors
    ///
    /// The error that the kernel replies; `EINTR` if changes interrupted all attempts; `EBADMSG` for a malformed reply.
    pub(crate) fn dump<T>(
        &mut self,
        name: &'static str,
        message_type: u16,
        request: &[u8],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            self.sequence = self.sequence.wrapping_add(1);
            let request = message(message_type, NLM_F_REQUEST | NLM_F_DUMP, self.sequence, request);
            self.file.write_all(&request).map_err(failed(name))?;
            let mut objects = Vec::new();
            let mut consistent = true;
            loop {
                let len = self.receive().map_err(failed(name))?;
                let part = parse_part(&self.buffer[..len], self.sequence, |body| objects.extend(parse(body)));
                let DumpPart { is_last, interrupted } = part.map_err(failed(name))?;
                consistent &= !interrupted;
                if is_last {
                    break;
                }
            }
            if consistent {
                return Ok(objects);
            }
        }
        Err(Error::new(name, Errno::EINTR))
    }

    fn receive(&mut self) -> io::Result<usize> {
        loop {
            match self.file.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// The state of a dump after one part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DumpPart {
    is_last: bool,
    /// Whether something changed during the dump, so that objects may be missing or reported twice.
    interrupted: bool,
}

/// Passes the bodies of the messages with this sequence number to `each`.
fn parse_part(bytes: &[u8], sequence: u32, mut each: impl FnMut(&[u8])) -> Result<DumpPart, Errno> {
    let mut interrupted = false;
    let mut rest = bytes;
    if rest.is_empty() {
        return Err(Errno::EBADMSG);
    }
    while !rest.is_empty() {
        let len = read_u32(rest, 0).map(|len| len as usize).ok_or(Errno::EBADMSG)?;
        let message_type = read_u16(rest, 4).ok_or(Errno::EBADMSG)?;
        let flags = read_u16(rest, 6).ok_or(Errno::EBADMSG)?;
        let body = rest.get(HEADER_LEN..len).ok_or(Errno::EBADMSG)?;
        if read_u32(rest, 8) == Some(sequence) {
            interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match message_type {
                NLMSG_ERROR | NLMSG_DONE => {
                    let result = read_u32(body, 0).map_or(0, u32::cast_signed);
                    return match result {
                        ..0 => Err(Errno::from_raw(result.saturating_neg())),
                        _ => Ok(DumpPart { is_last: true, interrupted }),
                    };
                }
                _ => each(body),
            }
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(DumpPart { is_last: false, interrupted })
}

/// Entry point of a fuzzer: passes the bodies of the messages to `each`, whatever the sequence number of the first is.
pub(crate) fn parse_any_part(bytes: &[u8], each: impl FnMut(&[u8])) {
    let _part = parse_part(bytes, read_u32(bytes, 8).unwrap_or_default(), each);
}

/// Encodes a message.
fn message(message_type: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_LEN + body.len()).expect("requests are short");
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(message_type.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// Encodes an attribute of a request.
pub(crate) fn attribute(attribute_type: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(ATTRIBUTE_HEADER_LEN + value.len()).expect("attributes of requests are short");
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(attribute_type.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Iterates over consecutive attributes: type and value. Stops at the first malformed one.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(read_u16(self.0, 0)?);
        let attribute_type = read_u16(self.0, 2)? & ATTRIBUTE_TYPE_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER_LEN..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((attribute_type, value))
    }
}

impl<'a> Attributes<'a> {
    /// Returns the value of the first attribute of a type.
    pub(crate) fn find(&self, attribute_type: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(found, value)| (found == attribute_type).then_some(value))
    }

    /// Returns the attributes nested in the first attribute of a type; none if it is missing.
    pub(crate) fn nested(&self, attribute_type: u16) -> Self {
        Self(self.find(attribute_type).unwrap_or_default())
    }

    /// Returns the number in the first attribute of a type.
    pub(crate) fn find_u32(&self, attribute_type: u16) -> Option<u32> {
        read_u32(self.find(attribute_type)?, 0)
    }
}

/// Reads a number at an offset; `None` if it does not fit.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(number.try_into().ok()?))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let number = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(number.try_into().ok()?))
}

/// Returns the bytes before the first zero byte.
pub(crate) fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(message_type: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = message(message_type, flags, 7, body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The result of [`parse_part`], and the bodies it found.
    fn parsed(bytes: &[u8]) -> (Result<DumpPart, Errno>, Vec<Vec<u8>>) {
        let mut bodies = Vec::new();
        (parse_part(bytes, 7, |body| bodies.push(body.to_vec())), bodies)
    }

    #[test]
    fn a_dump_ends_with_done_or_an_error() {
        let eperm = (-i32::from(1_u8)).to_ne_bytes();
        let two = [reply(16, 2, b"one"), reply(16, NLM_F_DUMP_INTR, b"two4")].concat();
        let bodies = vec![b"one".to_vec(), b"two4".to_vec()];
        let part = |is_last, interrupted| Ok(DumpPart { is_last, interrupted });
        let complete = [&*two, &reply(NLMSG_DONE, 2, &[0; 4])].concat();
        let with_earlier = [message(16, 2, 6, b"late"), reply(16, 2, b"one")].concat();
        for (bytes, expected) in [
            (two.clone(), (part(false, true), bodies.clone())),
            (complete, (part(true, true), bodies)),
            (reply(NLMSG_DONE, 2, &eperm), (Err(Errno::EPERM), vec![])),
            (reply(NLMSG_ERROR, 0, &eperm), (Err(Errno::EPERM), vec![])),
            (reply(NLMSG_DONE, 2, &[]), (part(true, false), vec![])),
            (with_earlier, (part(false, false), vec![b"one".to_vec()])),
            (vec![], (Err(Errno::EBADMSG), vec![])),
            (two[..10].to_vec(), (Err(Errno::EBADMSG), vec![])),
            (two[..two.len() - 1].to_vec(), (Err(Errno::EBADMSG), vec![b"one".to_vec()])),
        ] {
            assert_eq!(parsed(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_message_shorter_than_its_header_is_malformed() {
        let mut bytes = reply(16, 2, b"one");
        bytes[..4].copy_from_slice(&15_u32.to_ne_bytes());
        assert_eq!(parsed(&bytes), (Err(Errno::EBADMSG), vec![]));
    }

    #[test]
    fn nested_attributes_are_found() {
        let inner = [attribute(2, &5_u32.to_ne_bytes()), attribute(3, b"x\0")].concat();
        let bytes = [attribute(1, b"odd"), attribute(9 | 0x8000, &inner)].concat();
        let attributes = Attributes(&bytes);
        assert_eq!(attributes.find(1), Some(&b"odd"[..]));
        assert_eq!(attributes.nested(9).find_u32(2), Some(5));
        assert_eq!(attributes.nested(9).find(3).map(c_string), Some(&b"x"[..]));
        assert_eq!(attributes.nested(8).find_u32(2), None);
        assert_eq!(attributes.nested(9).find_u32(3), None, "two bytes are too short for a number");
        assert_eq!(Attributes(&bytes[..bytes.len() - 1]).find(9), None, "a truncated attribute is missing");
    }

    #[test]
    fn every_namespace_has_a_loopback_interface() {
        let mut socket = Socket::open().expect("rtnetlink sockets need no capability");
        let index = |body: &[u8]| read_u32(body, 4);
        let links = socket.dump("RTM_GETLINK", 18, &[0; 16], index);
        assert!(links.expect("RTM_GETLINK needs no capability").contains(&1));
        assert_eq!(
            socket.dump("unknown", 999, &[0; 16], index),
            Err(Error::new("unknown", Errno::EOPNOTSUPP)),
            "the message type does not exist"
        );
        let links = socket.dump("RTM_GETLINK", 18, &[0; 16], index);
        assert!(!links.expect("the socket is usable after an error").is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _parsed = parsed(&bytes);
            for (attribute_type, value) in Attributes(&bytes) {
                prop_assert!(attribute_type <= ATTRIBUTE_TYPE_MASK && value.len() < bytes.len());
                let _nested = Attributes(value).count();
            }
        }

        #[test]
        fn attributes_survive_a_round_trip(
            values in prop::collection::vec((0..=ATTRIBUTE_TYPE_MASK, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in 0_usize..400,
        ) {
            let written: Vec<u8> =
                values.iter().flat_map(|(attribute_type, value)| attribute(*attribute_type, value)).collect();
            let read = |bytes: &[u8]| -> Vec<_> {
                Attributes(bytes).map(|(attribute_type, value)| (attribute_type, value.to_vec())).collect()
            };
            prop_assert_eq!(&read(&written), &values);
            let truncated = read(&written[..cut.min(written.len())]);
            prop_assert_eq!(&truncated[..], &values[..truncated.len()]);
        }

        #[test]
        fn a_truncated_dump_is_malformed_or_incomplete(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in 0_usize..400,
        ) {
            let written: Vec<u8> = bodies.iter().flat_map(|body| reply(16, 2, body)).collect();
            prop_assert_eq!(&parsed(&written).1, &bodies);
            let (result, found) = parsed(&written[..cut.min(written.len())]);
            prop_assert_eq!(&found[..], &bodies[..found.len()]);
            prop_assert!(result.is_err() || !result.expect("checked before").is_last);
        }
    }
}
