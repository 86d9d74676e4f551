//! Links, read by the iterator. Everything in a record but the missed runs is a fact: a record with the same bytes as before has the
//! same facts.

use std::iter::Peekable;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::vec;

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::records::{LinkRecord, UNKNOWN_U32, target};
use crate::kernel::reading::{ReadContext, nonzero};
use crate::kernel::targets::resolver::Resolver;
use crate::kernel::targets::{RawTarget, info, kprobe, resolve};
use crate::model::enums::{attach_type, link_type};
use crate::model::{BootTime, Cgroup, Device, FunctionObject, Kind, Link, LinkFacts, Target, Within};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};
use crate::text::printable;

/// The table of links, with the facts of the last reading.
#[derive(Debug)]
pub(crate) struct Links {
    table: Table,
    /// In ascending order of ids.
    cached: Vec<CachedLink>,
}

/// A link of an earlier reading.
#[derive(Debug)]
pub(super) struct CachedLink {
    /// The record without the missed runs; empty while a name is to be looked up again.
    bytes: Box<[u8]>,
    facts: Arc<LinkFacts>,
}

/// A link in the stream.
struct ParsedLink<'a> {
    record: LinkRecord,
    /// The record without the missed runs.
    bytes: &'a [u8],
    name: &'a [u8],
    group: &'a [u8],
}

impl Links {
    pub(crate) fn new(table: Table) -> Self {
        Self { table, cached: Vec::new() }
    }

    /// Reads the table. `None`, and an issue, on failure.
    pub(crate) fn read(&mut self, cx: &mut ReadContext<'_>) -> Option<Vec<Link>> {
        let mut parser = LinkParser::new(std::mem::take(&mut self.cached), cx.taken_at, cx.names);
        let read = self.table.read(cx.issues, |bytes| parser.take(bytes));
        let LinkParser { earlier, mut rows, mut cached, by_id, .. } = parser;
        for index in by_id {
            match target_by_id(cached[index].facts.id) {
                Ok(target) => {
                    let target =
                        target.and_then(|target| resolve(target, cx.names)).map(|(target, _)| target);
                    let facts = Arc::new(LinkFacts { target, ..(*cached[index].facts).clone() });
                    (cached[index].facts, rows[index].facts) = (Arc::clone(&facts), facts);
                }
                // It was removed.
                Err(Error { errno: Errno::ENOENT, .. }) => {}
                Err(error) => {
                    cx.issues.record(Kind::Link, error);
                    cached[index].bytes = Box::default();
                }
            }
        }
        if read.is_none() {
            // Links after the failure stay cached.
            cached.extend(earlier);
        }
        self.cached = cached;
        read.map(|()| rows)
    }
}

/// Queries a link for its target. The path of a file is beyond an iterator: it would have to climb from directory to directory and
/// over mounts.
fn target_by_id(id: u32) -> Result<Option<RawTarget>> {
    let fd = sys::fd_by_id(Kind::Link, id)?;
    let info = sys::link_info(fd.as_fd())?;
    info::target(fd.as_fd(), &info)
}

/// Parses the stream of one run over the table.
pub(super) struct LinkParser<'a> {
    /// The cached links that are still to come.
    earlier: Peekable<vec::IntoIter<CachedLink>>,
    taken_at: BootTime,
    resolver: &'a mut Resolver,
    rows: Vec<Link>,
    /// The cached link of each row.
    cached: Vec<CachedLink>,
    /// The rows whose target has to be queried by the link's id.
    by_id: Vec<usize>,
}

impl<'a> LinkParser<'a> {
    pub(super) fn new(earlier: Vec<CachedLink>, taken_at: BootTime, resolver: &'a mut Resolver) -> Self {
        let capacity = earlier.len() + earlier.len() / 16 + 16;
        let (rows, cached) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Self { earlier: earlier.into_iter().peekable(), taken_at, resolver, rows, cached, by_id: Vec::new() }
    }

    /// Parses the links at the start of these bytes. Returns the number of bytes consumed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((parsed, after)) = ParsedLink::first(rest) {
            rest = after;
            let id = parsed.record.id;
            if id == 0 {
                // It is still being attached, and gets its id when that is done (`bpf_link_settle`, kernel/bpf/syscall.c).
                continue;
            }
            while self.earlier.next_if(|cached| cached.facts.id < id).is_some() {}
            let cached = match self.earlier.next_if(|cached| cached.facts.id == id) {
                Some(cached) if *cached.bytes == *parsed.bytes => cached,
                cached => {
                    let same = cached.filter(|cached| is_same(&cached.facts, &parsed.record));
                    let first_seen = same.map_or(self.taken_at, |cached| cached.facts.first_seen);
                    let facts = parsed.facts(first_seen, self.resolver);
                    let again = self.resolver.take_incomplete();
                    if parsed.record.link_type == link_type::UPROBE_MULTI {
                        self.by_id.push(self.rows.len());
                    }
                    let bytes = if again { Box::default() } else { parsed.bytes.into() };
                    CachedLink { bytes, facts: Arc::new(facts) }
                }
            };
            let missed = u64::try_from(parsed.record.missed).ok();
            self.rows.push(Link { facts: Arc::clone(&cached.facts), missed, owner: None });
            self.cached.push(cached);
        }
        bytes.len() - rest.len()
    }
}

/// Returns whether a record describes the link that the facts are about.
fn is_same(facts: &LinkFacts, record: &LinkRecord) -> bool {
    facts.link_type.number == record.link_type && facts.prog_id == nonzero(record.prog_id)
}

impl<'a> ParsedLink<'a> {
    /// Parses the first link in the stream and returns the bytes after it; `None` when it is incomplete.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (record, texts) = LinkRecord::read_from_prefix(bytes).ok()?;
        let (name, rest) = texts.split_at_checked(record.name_len as usize)?;
        let (group, rest) = rest.split_at_checked(record.group_len as usize)?;
        let bytes = &bytes[size_of_val(&record.missed)..bytes.len() - rest.len()];
        Some((Self { record, bytes, name, group }, rest))
    }

    fn facts(&self, first_seen: BootTime, resolver: &mut Resolver) -> LinkFacts {
        let record = &self.record;
        // The extension of a program has no hook, and 0 is `cgroup_inet_ingress`.
        let unhooked = record.link_type == link_type::TRACING && record.attach_type == 0;
        let attach_type = (record.attach_type != UNKNOWN_U32 && !unhooked).then_some(record.attach_type);
        let (target, netns) = self.target().and_then(|target| resolve(target, resolver)).unzip();
        LinkFacts {
            id: record.id,
            link_type: link_type::from_number(record.link_type),
            prog_id: nonzero(record.prog_id),
            attach_type: attach_type.map(attach_type::from_number),
            target,
            netns: netns.flatten(),
            first_seen,
        }
    }

    fn target(&self) -> Option<RawTarget> {
        /// In the key of a trampoline: the type is of a BTF object and not of a program.
        const OF_BTF: u64 = 1 << 31;
        let LinkRecord { first, second, return_probe, .. } = self.record;
        let name = || Arc::from(printable(self.name));
        let optional = |bytes: &[u8]| (!bytes.is_empty()).then(|| Arc::from(printable(bytes)));
        let at_return = return_probe & 1 != 0;
        let cgroup = Cgroup { id: first, path: None };
        let iterator = |within| Target::Iterator { name: name(), within };
        let target = match self.record.target {
            target::RAW_TRACEPOINT => Target::RawTracepoint { name: name() },
            target::FUNCTION => Target::Function {
                object: if second & OF_BTF == 0 {
                    FunctionObject::Program(low(first))
                } else {
                    FunctionObject::Btf(low(first))
                },
                type_id: low(second & !OF_BTF),
                name: optional(self.name),
            },
            target::CGROUP => Target::Cgroup(cgroup),
            target::ITERATOR => iterator(None),
            target::ITERATOR_MAP => iterator(Some(Within::Map { id: low(first) })),
            target::ITERATOR_CGROUP => iterator(Some(Within::Cgroup(cgroup))),
            target::ITERATOR_THREAD => iterator(Some(Within::Thread { tid: low(first) })),
            target::ITERATOR_PROCESS => iterator(Some(Within::Process { pid: low(first) })),
            target::NETNS => Target::NetNs { inode: low(first).into() },
            target::DEVICE => {
                let device = Target::Device(Device { ifindex: low(first), name: optional(self.name) });
                return Some(RawTarget { netns: second, ..device.into() });
            }
            target::KPROBE => return Some(kprobe(Some(&printable(self.name)), first, second, at_return)),
            target::UPROBE => Target::Uprobe { path: name(), offset: first, at_return },
            target::TRACEPOINT => Target::Tracepoint { group: optional(self.group), name: name() },
            target::PERF_EVENT => Target::PerfEvent { event_type: low(first), config: second, unit: None },
            target::KPROBE_MULTI => {
                let multi = Target::KprobeMulti { count: low(first), single: None, at_return };
                return Some(RawTarget { address: second, ..multi.into() });
            }
            target::MAP => Target::Map { id: low(first) },
            target::NETFILTER => {
                let (family, hook) = (low(first & 0xff), low(second >> 32));
                let hook = Target::Netfilter { family, hook, priority: Some(low(second).cast_signed()) };
                return Some(RawTarget { netns: first >> 32, ..hook.into() });
            }
            _ => return None,
        };
        Some(target.into())
    }
}

/// The lower half of a number that has no upper one.
const fn low(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    const TCX: u32 = 11;

    /// A link to an interface of this index and name.
    fn link(id: u32, prog_id: u32, index: u64, name: &str) -> Vec<u8> {
        let record = LinkRecord {
            missed: -1,
            id,
            link_type: TCX,
            prog_id,
            attach_type: 46,
            target: target::DEVICE,
            return_probe: 0,
            first: index,
            second: 0,
            name_len: name.len().try_into().expect("a short name"),
            group_len: 0,
        };
        [record.as_bytes(), name.as_bytes()].concat()
    }

    /// The same with a number of missed runs.
    fn with_missed(mut bytes: Vec<u8>, missed: i64) -> Vec<u8> {
        bytes[..8].copy_from_slice(&missed.to_ne_bytes());
        bytes
    }

    /// A table that is read from streams.
    #[derive(Default)]
    struct Streams {
        resolver: Resolver,
        cached: Vec<CachedLink>,
        readings: u64,
    }

    impl Streams {
        fn read(&mut self, stream: &[Vec<u8>]) -> Vec<Link> {
            let stream = stream.concat();
            self.readings += 1;
            let taken_at = BootTime::from_secs(self.readings);
            let mut parser = LinkParser::new(std::mem::take(&mut self.cached), taken_at, &mut self.resolver);
            assert_eq!(parser.take(&stream), stream.len());
            let LinkParser { rows, cached, .. } = parser;
            self.cached = cached;
            rows
        }
    }

    fn first_seen(link: &Link) -> u64 {
        link.facts.first_seen.since(BootTime::default()).as_secs()
    }

    #[test]
    fn links_without_an_id_are_skipped() {
        let stream = [link(7, 70, 2, "eth0"), link(0, 71, 3, "eth1"), link(9, 72, 4, "eth2")];
        let ids = |rows: Vec<Link>| rows.iter().map(|row| row.facts.id).collect::<Vec<_>>();
        let mut streams = Streams::default();
        assert_eq!(ids(streams.read(&stream)), [7, 9]);
        assert_eq!(ids(streams.read(&stream)), [7, 9], "the others stay cached");
    }

    #[test]
    fn a_record_becomes_a_link() {
        let links = Streams::default().read(&[with_missed(link(7, 70, 3, "uplink"), 12), link(9, 0, 4, "")]);
        let [first, second] = &links[..] else { panic!("{links:?}") };
        assert_eq!((first.facts.id, first.facts.prog_id, first.missed), (7, Some(70), Some(12)));
        assert_eq!(first.facts.link_type.name.as_deref(), Some("tcx"));
        assert_eq!(
            first.facts.attach_type.as_ref().and_then(|kind| kind.name.as_deref()),
            Some("tcx_ingress")
        );
        assert_eq!(first.facts.target.as_ref().map(ToString::to_string).as_deref(), Some("uplink"));
        assert_eq!((second.facts.id, second.facts.prog_id, second.missed), (9, None, None));
    }

    #[test]
    fn only_extensions_have_no_attach_type() {
        let mut bytes = link(7, 70, 3, "");
        let hook = |bytes: Vec<u8>| {
            let links = Streams::default().read(&[bytes]);
            links[0].facts.attach_type.as_ref().map(|hook| hook.number)
        };
        bytes[20..24].copy_from_slice(&0_u32.to_ne_bytes());
        assert_eq!(hook(bytes.clone()), Some(0));
        bytes[12..16].copy_from_slice(&link_type::TRACING.to_ne_bytes());
        assert_eq!(hook(bytes), None);
    }

    #[test]
    fn unchanged_facts_are_shared() {
        let mut streams = Streams::default();
        let before = streams.read(&[link(7, 70, 3, "a"), link(8, 80, 3, "a")]);
        let after = streams.read(&[with_missed(link(7, 70, 3, "a"), 5), link(8, 80, 3, "b")]);
        assert!(Arc::ptr_eq(&before[0].facts, &after[0].facts), "missed runs do not change the facts");
        assert_eq!(after[0].missed, Some(5));
        assert_ne!(before[1].facts.target, after[1].facts.target);
        assert_eq!(first_seen(&after[1]), 1, "renaming the target does not make it another link");
    }

    #[test]
    fn another_program_or_type_makes_another_link() {
        let mut streams = Streams::default();
        streams.read(&[link(7, 70, 3, "a"), link(8, 80, 3, "a")]);
        let mut other_type = link(8, 80, 3, "a");
        other_type[12..16].copy_from_slice(&13_u32.to_ne_bytes());
        let after = streams.read(&[link(7, 71, 3, "a"), other_type]);
        assert_eq!(after.iter().map(first_seen).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn new_and_removed_links_do_not_disturb_the_others() {
        let mut streams = Streams::default();
        let before = streams.read(&[link(3, 1, 1, "a"), link(5, 1, 1, "a"), link(9, 1, 1, "a")]);
        let after = streams.read(&[link(2, 1, 1, "a"), link(5, 1, 1, "a"), link(7, 1, 1, "a")]);
        assert_eq!(after.iter().map(|link| link.facts.id).collect::<Vec<_>>(), [2, 5, 7]);
        assert!(Arc::ptr_eq(&before[1].facts, &after[1].facts));
        assert_eq!(after.iter().map(first_seen).collect::<Vec<_>>(), [2, 1, 2]);
        assert_eq!(streams.cached.len(), 3, "removed links are dropped");
    }

    #[test]
    fn every_kind_of_target_is_parsed_and_an_unknown_one_is_none() {
        for kind in 0..=target::NETFILTER + 1 {
            let record = LinkRecord {
                target: kind,
                ..LinkRecord::read_from_prefix(&link(1, 1, 1, "")[..]).expect("it is complete").0
            };
            let parsed = ParsedLink { record, bytes: &[], name: b"name", group: b"group" };
            assert_eq!(parsed.target().is_some(), (1..=target::NETFILTER).contains(&kind), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(stream: Vec<u8>) {
            let mut resolver = Resolver::below(std::path::Path::new("/nowhere"));
            let taken = LinkParser::new(Vec::new(), BootTime::default(), &mut resolver).take(&stream);
            prop_assert!(taken <= stream.len());
        }

        #[test]
        fn damaged_streams_do_not_panic(
            links in prop::collection::vec((1_u32..20, 0_u32..3, "[a-z]{0,8}"), 1..8),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut: prop::sample::Index,
        ) {
            let stream = links.iter().map(|(id, program, name)| link(*id, *program, 1, name)).collect::<Vec<_>>();
            let mut bytes = stream.concat();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let mut resolver = Resolver::below(std::path::Path::new("/nowhere"));
            let mut parser = LinkParser::new(Vec::new(), BootTime::default(), &mut resolver);
            prop_assert!(parser.take(&bytes) <= bytes.len());
            prop_assert_eq!(parser.rows.len(), parser.cached.len());
        }

        #[test]
        fn a_truncated_stream_has_all_complete_links(cut in 0_usize..200) {
            let stream = [link(1, 1, 1, "one"), link(2, 2, 2, ""), link(3, 3, 3, "three")];
            let ends: Vec<usize> = stream.iter().scan(0, |end, link| { *end += link.len(); Some(*end) }).collect();
            let bytes = stream.concat();
            let cut = cut.min(bytes.len());
            let mut resolver = Resolver::below(std::path::Path::new("/nowhere"));
            let mut parser = LinkParser::new(Vec::new(), BootTime::default(), &mut resolver);
            let complete = ends.iter().copied().filter(|&end| end <= cut).max().unwrap_or(0);
            prop_assert_eq!(parser.take(&bytes[..cut]), complete);
            prop_assert_eq!(parser.rows.len(), ends.iter().filter(|&&end| end <= cut).count());
        }
    }
}
