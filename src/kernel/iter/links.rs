//! Links, as the iterator tells them: all that it tells of a link but its missed runs says what it is, and is compared with what
//! it told before.

use std::iter::Peekable;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::vec;

use jiff::Timestamp;
use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::records::{LinkRecord, UNKNOWN_U32, target};
use crate::host::text::printable;
use crate::kernel::reading::{ReadContext, nonzero};
use crate::kernel::targets::resolver::Resolver;
use crate::kernel::targets::{info, probed, resolve};
use crate::model::enums::{attach_type, link_type};
use crate::model::{Cgroup, CodeAddress, Device, FunctionObject, Kind, Link, LinkFacts, Target, Within};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};

/// The table of links, and what is known of them.
#[derive(Debug)]
pub(crate) struct Links {
    table: Table,
    /// In ascending order of ids.
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    /// What was told; nothing where a name is to be looked up once more.
    told: Box<[u8]>,
    facts: Arc<LinkFacts>,
}

/// A link in the stream.
struct Told<'a> {
    record: LinkRecord,
    /// All but the missed runs.
    bytes: &'a [u8],
    name: &'a [u8],
    group: &'a [u8],
}

impl Links {
    pub(crate) fn new(table: Table) -> Self {
        Self { table, known: Vec::new() }
    }

    /// Reads the table; `None`, and an issue, when that fails.
    pub(crate) fn read(&mut self, cx: &mut ReadContext<'_>) -> Option<Vec<Link>> {
        let mut found = Found::new(std::mem::take(&mut self.known), cx.taken_at, cx.names);
        let read = self.table.read(cx.issues, |bytes| found.take(bytes));
        let Found { earlier, mut rows, mut met, unsaid, .. } = found;
        for place in unsaid {
            match asked(met[place].facts.id) {
                Ok(target) => {
                    let target = target.and_then(|target| resolve(target, cx.names));
                    let facts = Arc::new(LinkFacts { target, ..(*met[place].facts).clone() });
                    (met[place].facts, rows[place].facts) = (Arc::clone(&facts), facts);
                }
                // It went meanwhile.
                Err(Error { errno: Errno::ENOENT, .. }) => {}
                Err(error) => {
                    cx.issues.record(Kind::Link, error);
                    met[place].told = Box::default();
                }
            }
        }
        if read.is_none() {
            // What was not reached is still known.
            met.extend(earlier);
        }
        self.known = met;
        read.map(|()| rows)
    }
}

/// What a link is attached to, as the link itself tells. The path of a file is beyond an iterator: it would have to climb from
/// directory to directory and over mounts.
fn asked(id: u32) -> Result<Option<Target>> {
    let fd = sys::fd_by_id(Kind::Link, id)?;
    let info = sys::link_info(fd.as_fd())?;
    info::target(fd.as_fd(), &info)
}

/// What a run over the table found so far.
struct Found<'a> {
    /// Those of the known that are still to come.
    earlier: Peekable<vec::IntoIter<Known>>,
    taken_at: Timestamp,
    resolver: &'a mut Resolver,
    rows: Vec<Link>,
    /// What is known of each row's link.
    met: Vec<Known>,
    /// Those whose target only the link itself tells, by their places.
    unsaid: Vec<usize>,
}

impl<'a> Found<'a> {
    fn new(known: Vec<Known>, taken_at: Timestamp, resolver: &'a mut Resolver) -> Self {
        let capacity = known.len() + known.len() / 16 + 16;
        let (rows, met) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Self { earlier: known.into_iter().peekable(), taken_at, resolver, rows, met, unsaid: Vec::new() }
    }

    /// Takes the links at the beginning of these bytes, and says how many bytes those were.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((told, behind)) = Told::first(rest) {
            rest = behind;
            let id = told.record.id;
            if id == 0 {
                // It is still being attached, and may never be: it gets its id in the end (`bpf_link_settle`, kernel/bpf/syscall.c).
                continue;
            }
            while self.earlier.next_if(|known| known.facts.id < id).is_some() {}
            let known = match self.earlier.next_if(|known| known.facts.id == id) {
                Some(known) if *known.told == *told.bytes => known,
                known => {
                    let same = known.filter(|known| same(&known.facts, &told.record));
                    let first_seen = same.map_or(self.taken_at, |known| known.facts.first_seen);
                    let facts = told.facts(first_seen, self.resolver);
                    let again = self.resolver.take_incomplete();
                    if told.record.link_type == link_type::UPROBE_MULTI {
                        self.unsaid.push(self.rows.len());
                    }
                    let told = if again { Box::default() } else { told.bytes.into() };
                    Known { told, facts: Arc::new(facts) }
                }
            };
            let missed = u64::try_from(told.record.missed).ok();
            self.rows.push(Link { facts: Arc::clone(&known.facts), missed, owner: None });
            self.met.push(known);
        }
        bytes.len() - rest.len()
    }
}

/// Whether a record is of the link that the facts are about.
fn same(facts: &LinkFacts, record: &LinkRecord) -> bool {
    facts.link_type.number == record.link_type && facts.prog_id == nonzero(record.prog_id)
}

impl<'a> Told<'a> {
    /// The first link in the stream, and what is behind it; `None` when it is not all there.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (record, texts) = LinkRecord::read_from_prefix(bytes).ok()?;
        let (name, rest) = texts.split_at_checked(record.name_len as usize)?;
        let (group, rest) = rest.split_at_checked(record.group_len as usize)?;
        let told = &bytes[size_of_val(&record.missed)..bytes.len() - rest.len()];
        Some((Self { record, bytes: told, name, group }, rest))
    }

    fn facts(&self, first_seen: Timestamp, resolver: &mut Resolver) -> LinkFacts {
        let record = &self.record;
        // The extension of a program has no hook, and 0 is `cgroup_inet_ingress`.
        let unhooked = record.link_type == link_type::TRACING && record.attach_type == 0;
        let attach_type = (record.attach_type != UNKNOWN_U32 && !unhooked).then_some(record.attach_type);
        LinkFacts {
            id: record.id,
            link_type: link_type::from_number(record.link_type),
            prog_id: nonzero(record.prog_id),
            attach_type: attach_type.map(attach_type::from_number),
            target: self.target().and_then(|target| resolve(target, resolver)),
            first_seen,
        }
    }

    fn target(&self) -> Option<Target> {
        /// In the key of a trampoline: the type is of a BTF object and not of a program.
        const OF_BTF: u64 = 1 << 31;
        let LinkRecord { first, second, return_probe, .. } = self.record;
        let name = || Arc::from(printable(self.name));
        let optional = |bytes: &[u8]| (!bytes.is_empty()).then(|| Arc::from(printable(bytes)));
        let at_return = return_probe & 1 != 0;
        let cgroup = Cgroup { id: first, path: None };
        let iterator = |within| Target::Iterator { name: name(), within };
        Some(match self.record.target {
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
            target::DEVICE => Target::Device(Device { ifindex: low(first), name: optional(self.name) }),
            target::KPROBE => {
                Target::Kprobe { address: probed(Some(&printable(self.name)), first, second), at_return }
            }
            target::UPROBE => Target::Uprobe { path: name(), offset: first, at_return },
            target::TRACEPOINT => Target::Tracepoint { group: optional(self.group), name: name() },
            target::PERF_EVENT => Target::PerfEvent { event_type: low(first), config: second, unit: None },
            target::KPROBE_MULTI => {
                Target::KprobeMulti { count: low(first), single: Some(CodeAddress::Raw(second)), at_return }
            }
            target::MAP => Target::Map { id: low(first) },
            target::NETFILTER => Target::Netfilter {
                family: low(first),
                hook: low(second >> 32),
                priority: Some(low(second).cast_signed()),
            },
            _ => return None,
        })
    }
}

/// The lower half, where that is all there is.
const fn low(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    /// The same, with so many runs missed.
    fn with_missed(mut bytes: Vec<u8>, missed: i64) -> Vec<u8> {
        bytes[..8].copy_from_slice(&missed.to_ne_bytes());
        bytes
    }

    /// A table that is read from streams.
    #[derive(Default)]
    struct Streams {
        resolver: Resolver,
        known: Vec<Known>,
        readings: u64,
    }

    impl Streams {
        fn read(&mut self, stream: &[Vec<u8>]) -> Vec<Link> {
            let stream = stream.concat();
            self.readings += 1;
            let taken_at = Timestamp::UNIX_EPOCH + Duration::from_secs(self.readings);
            let mut found = Found::new(std::mem::take(&mut self.known), taken_at, &mut self.resolver);
            assert_eq!(found.take(&stream), stream.len());
            let Found { rows, met, .. } = found;
            self.known = met;
            rows
        }
    }

    fn first_seen(link: &Link) -> i64 {
        link.facts.first_seen.as_second()
    }

    #[test]
    fn what_is_still_being_attached_is_no_link_yet() {
        let stream = [link(7, 70, 2, "eth0"), link(0, 71, 3, "eth1"), link(9, 72, 4, "eth2")];
        let ids = |rows: Vec<Link>| rows.iter().map(|row| row.facts.id).collect::<Vec<_>>();
        let mut streams = Streams::default();
        assert_eq!(ids(streams.read(&stream)), [7, 9]);
        assert_eq!(ids(streams.read(&stream)), [7, 9], "nor does it keep others from being known");
    }

    #[test]
    fn a_link_is_what_was_told_of_it() {
        let links = Streams::default().read(&[with_missed(link(7, 70, 3, "uplink"), 12), link(9, 0, 4, "")]);
        let [first, second] = &links[..] else { panic!("{links:?}") };
        assert_eq!((first.facts.id, first.facts.prog_id, first.missed), (7, Some(70), Some(12)));
        assert_eq!(first.facts.link_type.name.as_deref(), Some("tcx"));
        assert_eq!(
            first.facts.attach_type.as_ref().and_then(|kind| kind.name.as_deref()),
            Some("tcx_ingress")
        );
        assert_eq!(first.facts.target.as_ref().map(ToString::to_string).as_deref(), Some("uplink (3)"));
        assert_eq!((second.facts.id, second.facts.prog_id, second.missed), (9, None, None));
    }

    #[test]
    fn only_the_extension_of_a_program_has_no_hook() {
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
    fn facts_are_shared_until_something_else_is_told() {
        let mut streams = Streams::default();
        let before = streams.read(&[link(7, 70, 3, "a"), link(8, 80, 3, "a")]);
        let after = streams.read(&[with_missed(link(7, 70, 3, "a"), 5), link(8, 80, 3, "b")]);
        assert!(Arc::ptr_eq(&before[0].facts, &after[0].facts), "missed runs do not make it another link");
        assert_eq!(after[0].missed, Some(5));
        assert_ne!(before[1].facts.target, after[1].facts.target);
        assert_eq!(first_seen(&after[1]), 1, "a link whose target was renamed is the same");
    }

    #[test]
    fn a_link_with_another_program_or_of_another_type_is_another() {
        let mut streams = Streams::default();
        streams.read(&[link(7, 70, 3, "a"), link(8, 80, 3, "a")]);
        let mut other_type = link(8, 80, 3, "a");
        other_type[12..16].copy_from_slice(&13_u32.to_ne_bytes());
        let after = streams.read(&[link(7, 71, 3, "a"), other_type]);
        assert_eq!(after.iter().map(first_seen).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn links_come_and_go_between_those_that_stay() {
        let mut streams = Streams::default();
        let before = streams.read(&[link(3, 1, 1, "a"), link(5, 1, 1, "a"), link(9, 1, 1, "a")]);
        let after = streams.read(&[link(2, 1, 1, "a"), link(5, 1, 1, "a"), link(7, 1, 1, "a")]);
        assert_eq!(after.iter().map(|link| link.facts.id).collect::<Vec<_>>(), [2, 5, 7]);
        assert!(Arc::ptr_eq(&before[1].facts, &after[1].facts));
        assert_eq!(after.iter().map(first_seen).collect::<Vec<_>>(), [2, 1, 2]);
        assert_eq!(streams.known.len(), 3, "what went is forgotten");
    }

    #[test]
    fn every_kind_of_target_is_understood_and_an_unknown_one_is_none() {
        for kind in 0..=target::NETFILTER + 1 {
            let record = LinkRecord {
                target: kind,
                ..LinkRecord::read_from_prefix(&link(1, 1, 1, "")[..]).expect("it is whole").0
            };
            let told = Told { record, bytes: &[], name: b"name", group: b"group" };
            assert_eq!(told.target().is_some(), (1..=target::NETFILTER).contains(&kind), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(stream: Vec<u8>) {
            let mut resolver = Resolver::below(std::path::Path::new("/nowhere"));
            let taken = Found::new(Vec::new(), Timestamp::UNIX_EPOCH, &mut resolver).take(&stream);
            prop_assert!(taken <= stream.len());
        }

        #[test]
        fn a_damaged_stream_is_read_without_harm(
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
            let mut found = Found::new(Vec::new(), Timestamp::UNIX_EPOCH, &mut resolver);
            prop_assert!(found.take(&bytes) <= bytes.len());
            prop_assert_eq!(found.rows.len(), found.met.len());
        }

        #[test]
        fn a_stream_that_is_cut_anywhere_has_all_that_is_whole(cut in 0_usize..200) {
            let stream = [link(1, 1, 1, "one"), link(2, 2, 2, ""), link(3, 3, 3, "three")];
            let ends: Vec<usize> = stream.iter().scan(0, |end, link| { *end += link.len(); Some(*end) }).collect();
            let bytes = stream.concat();
            let cut = cut.min(bytes.len());
            let mut resolver = Resolver::below(std::path::Path::new("/nowhere"));
            let mut found = Found::new(Vec::new(), Timestamp::UNIX_EPOCH, &mut resolver);
            let whole = ends.iter().copied().filter(|&end| end <= cut).max().unwrap_or(0);
            prop_assert_eq!(found.take(&bytes[..cut]), whole);
            prop_assert_eq!(found.rows.len(), ends.iter().filter(|&&end| end <= cut).count());
        }
    }
}
