//! Rtnetlink as far as dumps go: a request out, messages in, and what stands in them (`Documentation/userspace-api/netlink`).
//! Knows no kind of message, and believes no length that it is told. Begin at [`Socket::dump`].

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::sys::{Error, Result, failed};

/// `struct nlmsghdr`: length, kind, flags, sequence number, port.
const HEADER: usize = 16;
/// `struct nlattr`: length, kind.
const ATTRIBUTE_HEADER: usize = 4;
/// The bits of an attribute's kind that are not flags (`NLA_TYPE_MASK`).
const ATTRIBUTE_KIND: u16 = 0x3fff;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

/// How often a dump is asked for again that was interrupted by a change.
const ATTEMPTS: usize = 5;

/// Longer than any part of a dump: the kernel puts at most 32 KiB of it together (`netlink_dump`, `net/netlink/af_netlink.c`).
const BUFFER: usize = 64 << 10;

/// The kernel answers at once; whoever waits longer waits for nothing.
const PATIENCE_SECONDS: i64 = 5;

/// A socket of rtnetlink, of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    file: File,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Those of socket(2).
    pub(crate) fn open() -> Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(failed("socket(AF_NETLINK)"))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))
            .map_err(failed("setsockopt(SO_RCVTIMEO)"))?;
        Ok(Self { file: File::from(fd), sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Everything that the kernel tells when asked for all objects of a kind. `request` is what follows the message's header;
    /// `parse` makes something of each message's body, or nothing.
    ///
    /// # Errors
    ///
    /// The kernel's refusal; `EINTR` when something changed during each of several dumps; `EBADMSG` for what is no message.
    pub(crate) fn dump<T>(
        &mut self,
        name: &'static str,
        kind: u16,
        request: &[u8],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            self.sequence = self.sequence.wrapping_add(1);
            let asked =
                self.file.write_all(&message(kind, NLM_F_REQUEST | NLM_F_DUMP, self.sequence, request));
            asked.map_err(failed(name))?;
            let mut found = Vec::new();
            let mut whole = true;
            loop {
                let len = self.receive().map_err(failed(name))?;
                let part = part(&self.buffer[..len], self.sequence, |body| found.extend(parse(body)));
                match part.map_err(failed(name))? {
                    Part { ends: true, interrupted } => {
                        whole &= !interrupted;
                        break;
                    }
                    Part { ends: false, interrupted } => whole &= !interrupted,
                }
            }
            if whole {
                return Ok(found);
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

/// What was learnt of a dump from one part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Whether it is the last one.
    ends: bool,
    /// Whether something changed meanwhile, so that the dump may lack some and have others twice.
    interrupted: bool,
}

/// Hands the bodies of the messages with this sequence number to `each`.
fn part(bytes: &[u8], sequence: u32, mut each: impl FnMut(&[u8])) -> Result<Part, Errno> {
    let mut interrupted = false;
    let mut rest = bytes;
    if rest.is_empty() {
        return Err(Errno::EBADMSG);
    }
    while !rest.is_empty() {
        let len = number(rest, 0).map(|len| len as usize).ok_or(Errno::EBADMSG)?;
        let (kind, flags) = (short(rest, 4).ok_or(Errno::EBADMSG)?, short(rest, 6).ok_or(Errno::EBADMSG)?);
        let body = rest.get(HEADER..len).ok_or(Errno::EBADMSG)?;
        if number(rest, 8) == Some(sequence) {
            interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match kind {
                NLMSG_ERROR | NLMSG_DONE => {
                    let result = number(body, 0).map_or(0, u32::cast_signed);
                    return match result {
                        ..0 => Err(Errno::from_raw(result.saturating_neg())),
                        _ => Ok(Part { ends: true, interrupted }),
                    };
                }
                _ => each(body),
            }
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Part { ends: false, interrupted })
}

/// A message with this body.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER + body.len()).expect("requests are short");
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// An attribute of a request.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("attributes of requests are short");
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes that stand behind each other: their kinds, and what they hold. They end where one does not end within them.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(short(self.0, 0)?);
        let kind = short(self.0, 2)? & ATTRIBUTE_KIND;
        let value = self.0.get(ATTRIBUTE_HEADER..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of a kind.
    pub(crate) fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes within the first attribute of a kind; none where there is no such.
    pub(crate) fn within(&self, kind: u16) -> Self {
        Self(self.find(kind).unwrap_or_default())
    }

    /// The number in the first attribute of a kind.
    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        number(self.find(kind)?, 0)
    }
}

/// The number that stands at a place.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(number.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let number = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(number.try_into().ok()?))
}

/// A text up to its first zero byte.
pub(crate) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = message(kind, flags, 7, body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// What [`part`] makes of these bytes, and the bodies it found.
    fn parsed(bytes: &[u8]) -> (Result<Part, Errno>, Vec<Vec<u8>>) {
        let mut bodies = Vec::new();
        (part(bytes, 7, |body| bodies.push(body.to_vec())), bodies)
    }

    #[test]
    fn a_dump_ends_where_the_kernel_says_so() {
        let refused = (-i32::from(1_u8)).to_ne_bytes();
        let two = [answer(16, 2, b"one"), answer(16, NLM_F_DUMP_INTR, b"two4")].concat();
        let bodies = vec![b"one".to_vec(), b"two4".to_vec()];
        let part = |ends, interrupted| Ok(Part { ends, interrupted });
        let ended = [&*two, &answer(NLMSG_DONE, 2, &[0; 4])].concat();
        let of_others = [message(16, 2, 6, b"late"), answer(16, 2, b"one")].concat();
        for (bytes, expected) in [
            (two.clone(), (part(false, true), bodies.clone())),
            (ended, (part(true, true), bodies)),
            (answer(NLMSG_DONE, 2, &refused), (Err(Errno::EPERM), vec![])),
            (answer(NLMSG_ERROR, 0, &refused), (Err(Errno::EPERM), vec![])),
            (answer(NLMSG_DONE, 2, &[]), (part(true, false), vec![])),
            (of_others, (part(false, false), vec![b"one".to_vec()])),
            (vec![], (Err(Errno::EBADMSG), vec![])),
            (two[..10].to_vec(), (Err(Errno::EBADMSG), vec![])),
            (two[..two.len() - 1].to_vec(), (Err(Errno::EBADMSG), vec![b"one".to_vec()])),
        ] {
            assert_eq!(parsed(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_message_that_says_it_is_shorter_than_its_header_is_none() {
        let mut bytes = answer(16, 2, b"one");
        bytes[..4].copy_from_slice(&15_u32.to_ne_bytes());
        assert_eq!(parsed(&bytes), (Err(Errno::EBADMSG), vec![]));
    }

    #[test]
    fn attributes_stand_within_each_other() {
        let inner = [attribute(2, &5_u32.to_ne_bytes()), attribute(3, b"x\0")].concat();
        let bytes = [attribute(1, b"odd"), attribute(9 | 0x8000, &inner)].concat();
        let attributes = Attributes(&bytes);
        assert_eq!(attributes.find(1), Some(&b"odd"[..]));
        assert_eq!(attributes.within(9).number(2), Some(5));
        assert_eq!(attributes.within(9).find(3).map(text), Some(&b"x"[..]));
        assert_eq!(attributes.within(8).number(2), None);
        assert_eq!(attributes.within(9).number(3), None, "two bytes are no number");
        assert_eq!(Attributes(&bytes[..bytes.len() - 1]).find(9), None, "what is cut off is not there");
    }

    #[test]
    fn every_namespace_has_a_loopback_interface() {
        let mut socket = Socket::open().expect("nobody is refused one");
        let index = |body: &[u8]| number(body, 4);
        assert!(socket.dump("RTM_GETLINK", 18, &[0; 16], index).expect("anybody may ask").contains(&1));
        assert_eq!(
            socket.dump("unknown", 999, &[0; 16], index),
            Err(Error::new("unknown", Errno::EOPNOTSUPP)),
            "there is no such kind of message"
        );
        assert!(
            !socket.dump("RTM_GETLINK", 18, &[0; 16], index).expect("the socket is of use still").is_empty()
        );
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(bytes: Vec<u8>) {
            let _parsed = parsed(&bytes);
            for (kind, value) in Attributes(&bytes) {
                prop_assert!(kind <= ATTRIBUTE_KIND && value.len() < bytes.len());
                let _inner = Attributes(value).count();
            }
        }

        #[test]
        fn attributes_are_read_as_they_were_written(
            values in prop::collection::vec((0..=ATTRIBUTE_KIND, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in 0_usize..400,
        ) {
            let written: Vec<u8> = values.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect();
            let read = |bytes: &[u8]| -> Vec<_> {
                Attributes(bytes).map(|(kind, value)| (kind, value.to_vec())).collect()
            };
            prop_assert_eq!(&read(&written), &values);
            let damaged = read(&written[..cut.min(written.len())]);
            prop_assert_eq!(&damaged[..], &values[..damaged.len()]);
        }

        #[test]
        fn a_dump_that_is_cut_anywhere_is_an_error_or_shorter(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in 0_usize..400,
        ) {
            let written: Vec<u8> = bodies.iter().flat_map(|body| answer(16, 2, body)).collect();
            prop_assert_eq!(&parsed(&written).1, &bodies);
            let (result, found) = parsed(&written[..cut.min(written.len())]);
            prop_assert_eq!(&found[..], &bodies[..found.len()]);
            prop_assert!(result.is_err() || !result.expect("it is not").ends);
        }
    }
}
