//! The reader that works on every kernel from 5.4 on: ids, then a descriptor for each, then what the kernel says of it.
//! Walks one table at a time, in ascending order of ids, and knows objects again that an earlier walk has met.
//! Begin at [`walk`].

mod count;
pub(crate) mod tables;

use std::fmt::Debug;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use nix::errno::Errno;

use super::Options;
use super::backend::Refusal;
use super::btf::Types;
use super::btf::cache::BtfObjects;
use super::fdinfo::FdInfo;
use super::targets::info::LinkMemory;
use crate::host::clock::BootOffset;
use crate::host::issues::Issues;
use crate::host::text::text;
use crate::model::{Kind, MapFacts};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};

/// What one reading carries from table to table.
pub(crate) struct Pass<'a> {
    pub(crate) taken_at: Timestamp,
    pub(crate) boot: BootOffset,
    pub(crate) issues: &'a mut Issues,
    pub(crate) links: &'a mut LinkMemory,
    /// Up to which capacity the keys of a map are walked.
    count_by_walking: Option<u32>,
    /// Where entries are copied to that are only counted.
    entries: Vec<u8>,
    btfs: BtfObjects,
}

/// What the reader remembers of an object from one reading to the next.
#[derive(Debug)]
pub(crate) struct Known<T: Table> {
    pub(crate) facts: Arc<T::Facts>,
    kept: T::Kept,
}

/// One of the kernel's tables of objects.
pub(crate) trait Table {
    /// Which objects it holds.
    const KIND: Kind;
    /// What the kernel says of an object.
    type Info;
    /// What of it never changes.
    type Facts: Debug;
    /// What else is remembered of it, since asking for it costs more than the rest.
    type Kept: Copy + Debug + Default;
    /// What a snapshot holds of it.
    type Row;

    /// Asks the kernel.
    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info>;
    /// The id that facts are about.
    fn id(facts: &Self::Facts) -> u32;
    /// Whether facts with the same id are about the same object: ids are given out again.
    fn same(facts: &Self::Facts, info: &Self::Info) -> bool;
    /// Reads what never changes, for an object not met before.
    fn facts(pass: &mut Pass<'_>, fd: BorrowedFd<'_>, info: &Self::Info) -> Self::Facts;
    /// The facts of a known object where they are not what they were; `None` when they are.
    fn changed(
        _pass: &mut Pass<'_>,
        _fd: BorrowedFd<'_>,
        _known: &Self::Facts,
        _info: &Self::Info,
    ) -> Option<Self::Facts> {
        None
    }
    /// Joins the facts and what moves; `info` is missing where the object could not be asked again.
    fn row(facts: Arc<Self::Facts>, info: Option<&Self::Info>) -> Self::Row;
    /// Adds what other questions answer; `fd` is missing where the object could not be asked again.
    fn complete(
        _pass: &mut Pass<'_>,
        _fd: Option<BorrowedFd<'_>>,
        _kept: &mut Self::Kept,
        _row: &mut Self::Row,
    ) {
    }
}

/// Reads a table. `known` holds the objects that the last complete walk met, and afterwards those of this one.
///
/// `None` when the kernel refuses to list it, which is an issue, or does not have such a table, which is none.
pub(crate) fn walk<T: Table>(known: &mut Vec<Known<T>>, pass: &mut Pass<'_>) -> Option<Vec<T::Row>> {
    let mut rows = Vec::with_capacity(known.len());
    let mut met = Vec::with_capacity(known.len());
    let mut earlier = known.iter().peekable();
    let mut id = 0;
    loop {
        match sys::next_id(T::KIND, id) {
            Ok(Some(next)) => id = next,
            Ok(None) => break,
            // A kernel older than the table does not know the command.
            Err(Error { errno: Errno::EINVAL, .. }) if id == 0 => return None,
            Err(error) => {
                pass.issues.record(T::KIND, error);
                return None;
            }
        }
        while earlier.next_if(|known| T::id(&known.facts) < id).is_some() {}
        let earlier = earlier.next_if(|known| T::id(&known.facts) == id);
        if let Some((known, row)) = object::<T>(pass, id, earlier) {
            met.push(known);
            rows.push(row);
        }
    }
    *known = met;
    Some(rows)
}

/// Reads one object; `None` when it is gone, or was refused and is not known from before.
///
/// The descriptor is closed at once: it would keep a dead object alive.
fn object<T: Table>(pass: &mut Pass<'_>, id: u32, earlier: Option<&Known<T>>) -> Option<(Known<T>, T::Row)> {
    let fd = match sys::fd_by_id(T::KIND, id) {
        Ok(fd) => fd,
        // It went between the two calls. A link that is still being made answers EAGAIN, and does not exist yet.
        Err(Error { errno: Errno::ENOENT | Errno::EAGAIN, .. }) => return None,
        Err(error) => {
            pass.issues.record(T::KIND, error);
            return unasked(pass, earlier);
        }
    };
    let fd = fd.as_fd();
    let info = match T::info(fd) {
        Ok(info) => info,
        Err(error) => {
            pass.issues.record(T::KIND, error);
            return unasked(pass, earlier);
        }
    };
    let mut known = match earlier.filter(|earlier| T::same(&earlier.facts, &info)) {
        Some(Known { facts, kept }) => {
            let changed = T::changed(pass, fd, facts, &info);
            Known { facts: changed.map_or_else(|| Arc::clone(facts), Arc::new), kept: *kept }
        }
        None => Known { facts: Arc::new(T::facts(pass, fd, &info)), kept: T::Kept::default() },
    };
    let mut row = T::row(Arc::clone(&known.facts), Some(&info));
    T::complete(pass, Some(fd), &mut known.kept, &mut row);
    Some((known, row))
}

/// What is known of an object that is listed, hence alive, and could not be asked: what never changes is still true.
fn unasked<T: Table>(pass: &mut Pass<'_>, earlier: Option<&Known<T>>) -> Option<(Known<T>, T::Row)> {
    let Known { facts, kept } = earlier?;
    let mut known = Known { facts: Arc::clone(facts), kept: *kept };
    let mut row = T::row(Arc::clone(facts), None);
    T::complete(pass, None, &mut known.kept, &mut row);
    Some((known, row))
}

impl<'a> Pass<'a> {
    /// The beginning of a reading.
    pub(crate) fn new(
        taken_at: Timestamp,
        boot: BootOffset,
        options: &Options,
        issues: &'a mut Issues,
        links: &'a mut LinkMemory,
    ) -> Self {
        Self {
            taken_at,
            boot,
            issues,
            links,
            count_by_walking: options.count_by_walking,
            entries: Vec::new(),
            btfs: BtfObjects::below(Path::new("/")),
        }
    }

    /// A table that cannot be read by the road that was asked for: an issue in each reading, and no rows.
    pub(crate) fn closed<Row>(&mut self, kind: Kind, refusal: &Refusal) -> Option<Vec<Row>> {
        self.issues.record(kind, refusal.error);
        None
    }

    /// What the fdinfo of an object's descriptor says; `None` when it could not be read, which is an issue.
    pub(crate) fn fdinfo(&mut self, kind: Kind, fd: BorrowedFd<'_>) -> Option<FdInfo> {
        FdInfo::of(fd).map_err(|error| self.issues.record(kind, error)).ok()
    }

    /// How many entries a map has, counted if that is wanted and can be done; that it could not is an issue.
    pub(crate) fn count_entries(&mut self, fd: BorrowedFd<'_>, map: &MapFacts) -> Option<u64> {
        match count::entries(fd, map, self.count_by_walking?, &mut self.entries) {
            Ok(count) => count,
            Err(error) => {
                self.issues.record(Kind::Map, error);
                None
            }
        }
    }

    /// Whether the keys of maps are walked to count them.
    pub(crate) fn counts_by_walking(&self) -> bool {
        self.count_by_walking.is_some()
    }

    /// As [`Self::count_entries`], without a descriptor; nothing of a map that went.
    pub(crate) fn count_entries_of(&mut self, map: &MapFacts) -> Option<u64> {
        match sys::fd_by_id(Kind::Map, map.id) {
            Ok(fd) => self.count_entries(fd.as_fd(), map),
            Err(Error { errno: Errno::ENOENT, .. }) => None,
            Err(error) => {
                self.issues.record(Kind::Map, error);
                None
            }
        }
    }

    /// The name in BTF of a program's entry function.
    pub(crate) fn entry_function(&mut self, fd: BorrowedFd<'_>, btf_id: u32) -> Option<String> {
        let function = match sys::program_entry_function(fd) {
            Ok(function) => function?,
            Err(error) => {
                self.issues.record(Kind::Program, error);
                return None;
            }
        };
        self.types(btf_id)?.function(function.type_id).map(text)
    }

    /// The types of a BTF object; `None` when it is gone or could not be read, which is an issue.
    pub(crate) fn types(&mut self, btf_id: u32) -> Option<Arc<Types>> {
        match self.btfs.described(btf_id) {
            Ok(found) => found.map(|found| found.types),
            Err(error) => {
                self.issues.record(Kind::Btf, error);
                None
            }
        }
    }
}
