//! Links, as the iterator tells them: all that it tells of a link but its missed runs says what it is, and is compared with what
//! it told before.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::records::{LinkRecord, UNKNOWN_U32, target};
use crate::kernel::link::{FunctionOf, Target, Within, describe};
use crate::kernel::resolver::Resolver;
use crate::kernel::sys::{self, Call};
use crate::kernel::tables::some_id;
use crate::kernel::uapi::link_type;
use crate::kernel::walk::Pass;
use crate::kernel::{link_info, names};
use crate::model::{Kind, Link, LinkFacts};

/// The table of links, and what is known of them.
#[derive(Debug)]
pub(in crate::kernel) struct Links {
    table: Table,
    resolver: Resolver,
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
    pub(super) fn new(table: Table) -> Self {
        Self { table, resolver: Resolver::default(), known: Vec::new() }
    }

    /// Reads the table; `None`, and an issue, when that fails.
    pub(in crate::kernel) fn read(&mut self, pass: &mut Pass<'_>) -> Option<Vec<Link>> {
        let mut rows = Vec::with_capacity(self.known.len() + self.known.len() / 16 + 16);
        let mut met = Vec::with_capacity(rows.capacity());
        let mut earlier = std::mem::take(&mut self.known).into_iter().peekable();
        let (taken_at, resolver) = (pass.taken_at, &mut self.resolver);
        // Those whose target only the link itself tells, by their places.
        let mut unsaid = Vec::new();
        let read = self.table.read(pass.issues, |bytes| {
            let mut rest = bytes;
            while let Some((told, behind)) = Told::first(rest) {
                rest = behind;
                let id = told.record.id;
                while earlier.next_if(|known| known.facts.id < id).is_some() {}
                let known = match earlier.next_if(|known| known.facts.id == id) {
                    Some(known) if *known.told == *told.bytes => known,
                    known => {
                        let same = known.filter(|known| same(&known.facts, &told.record));
                        let first_seen = same.map_or(taken_at, |known| known.facts.first_seen);
                        let facts = told.facts(first_seen, resolver);
                        let again = resolver.take_incomplete();
                        if told.record.link_type == link_type::UPROBE_MULTI {
                            unsaid.push(rows.len());
                        }
                        let told = if again { Box::default() } else { told.bytes.into() };
                        Known { told, facts: Arc::new(facts) }
                    }
                };
                let missed = u64::try_from(told.record.missed).ok();
                rows.push(Link { facts: Arc::clone(&known.facts), missed });
                met.push(known);
            }
            bytes.len() - rest.len()
        });
        for place in unsaid {
            match asked(met[place].facts.id) {
                Ok(target) => {
                    let target = target.and_then(|target| describe(&target, &mut self.resolver));
                    let facts = Arc::new(LinkFacts { target, ..(*met[place].facts).clone() });
                    (met[place].facts, rows[place].facts) = (Arc::clone(&facts), facts);
                }
                // It went meanwhile.
                Err((_, Errno::ENOENT)) => {}
                Err((call, errno)) => {
                    pass.issues.met(Kind::Link, call.as_str(), errno);
                    met[place].told = Box::default();
                }
            }
        }
        self.resolver.end_reading();
        self.known = met;
        read.map(|()| rows)
    }
}

/// What a link is attached to, as the link itself tells. The path of a file is beyond an iterator: it would have to climb from
/// directory to directory and over mounts.
fn asked(id: u32) -> Result<Option<Target>, (Call, Errno)> {
    let fd = sys::fd_by_id(Kind::Link, id).map_err(|errno| (Call::fd_by_id(Kind::Link), errno))?;
    let info = sys::link_info(fd.as_fd()).map_err(|errno| (Call::ObjGetInfoByFd, errno))?;
    link_info::target(fd.as_fd(), &info).map_err(|errno| (Call::ObjGetInfoByFd, errno))
}

/// Whether a record is of the link that the facts are about.
fn same(facts: &LinkFacts, record: &LinkRecord) -> bool {
    facts.link_type.number == record.link_type && facts.prog_id == some_id(record.prog_id)
}

impl<'a> Told<'a> {
    /// The first link in the stream, and what is behind it; `None` when it is not all there.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (record, texts) = LinkRecord::read_from_prefix(bytes).ok()?;
        let (name, rest) = texts.split_at_checked(record.name_len as usize)?;
        let (group, rest) = rest.split_at_checked(record.group_len as usize)?;
        let told = &bytes[..bytes.len() - rest.len()];
        Some((Self { record, bytes: told, name, group }, rest))
    }

    fn facts(&self, first_seen: jiff::Timestamp, resolver: &mut Resolver) -> LinkFacts {
        let record = &self.record;
        let attach_type = (record.attach_type != UNKNOWN_U32).then_some(record.attach_type);
        LinkFacts {
            id: record.id,
            link_type: names::link_type(record.link_type),
            prog_id: some_id(record.prog_id),
            attach_type: attach_type.map(names::attach_type),
            target: self.target().and_then(|target| describe(&target, resolver)),
            first_seen,
        }
    }

    fn target(&self) -> Option<Target> {
        /// In the key of a trampoline: the type is of a BTF object and not of a program.
        const OF_BTF: u64 = 1 << 31;
        let LinkRecord { first, second, return_probe, .. } = self.record;
        let name = || names::text(self.name);
        let some_name = || (!self.name.is_empty()).then(name);
        let return_probe = return_probe & 1 != 0;
        let iterator = |within| Target::Iterator { name: name(), within };
        Some(match self.record.target {
            target::RAW_TRACEPOINT => Target::RawTracepoint { name: name() },
            target::FUNCTION => Target::Function {
                of: if second & OF_BTF == 0 {
                    FunctionOf::Program(low(first))
                } else {
                    FunctionOf::Btf(low(first))
                },
                type_id: low(second & !OF_BTF),
                name: some_name(),
            },
            target::CGROUP => Target::Cgroup { id: first },
            target::ITERATOR => iterator(None),
            target::ITERATOR_MAP => iterator(Some(Within::Map(low(first)))),
            target::ITERATOR_CGROUP => iterator(Some(Within::Cgroup(first))),
            target::ITERATOR_THREAD => iterator(Some(Within::Thread(low(first)))),
            target::ITERATOR_PROCESS => iterator(Some(Within::Process(low(first)))),
            target::NETNS => Target::NetworkNamespace { inode: low(first) },
            target::DEVICE => Target::Device { ifindex: low(first), name: some_name() },
            target::KPROBE => {
                Target::Kprobe { symbol: some_name(), offset: first, address: second, return_probe }
            }
            target::UPROBE => Target::Uprobe { path: name(), offset: first, return_probe },
            target::TRACEPOINT => Target::Tracepoint {
                name: name(),
                group: (!self.group.is_empty()).then(|| names::text(self.group)),
            },
            target::PERF_EVENT => Target::PerfEvent { event_type: low(first), config: second },
            target::KPROBE_MULTI => {
                Target::KprobeMulti { count: low(first), first: Some(second), return_probe }
            }
            target::MAP => Target::Map { id: low(first) },
            target::NETFILTER => Target::Netfilter {
                family: low(first),
                hook: low(second >> 32),
                priority: low(second).cast_signed(),
            },
            _ => return None,
        })
    }
}

/// The lower half, where that is all there is.
const fn low(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}
