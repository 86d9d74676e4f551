//! The reader that works on every kernel from 5.4 on: ids, then a descriptor for each, then what the kernel says of it.
//! Walks one table at a time, in ascending order of ids, and knows objects again that an earlier walk has met.
//! Begin at [`walk`].

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use jiff::Timestamp;
use nix::errno::Errno;

use super::btf::Functions;
use super::clock::BootOffset;
use super::issues::Issues;
use super::link_info::LinkMemory;
use super::sys::{self, Call};
use crate::model::Kind;

/// What one reading carries from table to table.
pub(super) struct Pass<'a> {
    pub(super) taken_at: Timestamp,
    pub(super) boot: BootOffset,
    pub(super) issues: &'a mut Issues,
    /// The functions of the BTF objects asked for in this reading.
    pub(super) functions: HashMap<u32, Option<Functions>>,
    pub(super) links: &'a mut LinkMemory,
}

/// One of the kernel's tables of objects.
pub(super) trait Table {
    /// Which objects it holds.
    const KIND: Kind;
    /// What the kernel says of an object.
    type Info;
    /// What of it never changes.
    type Facts;
    /// What a snapshot holds of it.
    type Row;

    /// Asks the kernel.
    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info, Errno>;
    /// The id that facts are about.
    fn id(facts: &Self::Facts) -> u32;
    /// Whether facts with the same id are about the same object: ids are given out again.
    fn same(facts: &Self::Facts, info: &Self::Info) -> bool;
    /// Reads what never changes, for an object not met before.
    fn facts(pass: &mut Pass<'_>, fd: BorrowedFd<'_>, info: &Self::Info) -> Self::Facts;
    /// New facts about the same object, where something changed that seldom does; `None` where they are still true.
    fn changed(
        _pass: &mut Pass<'_>,
        _fd: BorrowedFd<'_>,
        _facts: &Self::Facts,
        _info: &Self::Info,
    ) -> Option<Self::Facts> {
        None
    }
    /// Joins the facts and what moves; `info` is missing where the object could not be asked again.
    fn row(facts: Arc<Self::Facts>, info: Option<&Self::Info>) -> Self::Row;
}

/// Reads a table. `known` holds the facts that the last complete walk met, and afterwards those of this one.
///
/// `None` when the kernel refuses to list it, which is an issue, or does not have such a table, which is none.
pub(super) fn walk<T: Table>(pass: &mut Pass<'_>, known: &mut Vec<Arc<T::Facts>>) -> Option<Vec<T::Row>> {
    let mut rows = Vec::with_capacity(known.len());
    let mut met = Vec::with_capacity(known.len());
    let mut earlier = known.iter().peekable();
    let mut id = 0;
    loop {
        match sys::next_id(T::KIND, id) {
            Ok(Some(next)) => id = next,
            Ok(None) => break,
            // A kernel older than the table does not know the command.
            Err(Errno::EINVAL) if id == 0 => return None,
            Err(errno) => {
                pass.issues.met(T::KIND, Call::next_id(T::KIND).as_str(), errno);
                return None;
            }
        }
        while earlier.next_if(|facts| T::id(facts) < id).is_some() {}
        let earlier = earlier.next_if(|facts| T::id(facts) == id);
        if let Some((facts, row)) = object::<T>(pass, id, earlier) {
            met.push(facts);
            rows.push(row);
        }
    }
    *known = met;
    Some(rows)
}

/// Reads one object; `None` when it is gone, or was refused and is not known from before.
///
/// The descriptor is closed at once: it would keep a dead object alive.
fn object<T: Table>(
    pass: &mut Pass<'_>,
    id: u32,
    earlier: Option<&Arc<T::Facts>>,
) -> Option<(Arc<T::Facts>, T::Row)> {
    let fd = match sys::fd_by_id(T::KIND, id) {
        Ok(fd) => fd,
        // It went between the two calls. A link that is still being made answers EAGAIN, and does not exist yet.
        Err(Errno::ENOENT | Errno::EAGAIN) => return None,
        Err(errno) => {
            pass.issues.met(T::KIND, Call::fd_by_id(T::KIND).as_str(), errno);
            // Listed, hence alive: what never changes is still true.
            return earlier.map(|facts| (Arc::clone(facts), T::row(Arc::clone(facts), None)));
        }
    };
    let fd = std::os::fd::AsFd::as_fd(&fd);
    let info = match T::info(fd) {
        Ok(info) => info,
        Err(errno) => {
            pass.issues.met(T::KIND, Call::ObjGetInfoByFd.as_str(), errno);
            return earlier.map(|facts| (Arc::clone(facts), T::row(Arc::clone(facts), None)));
        }
    };
    let facts = match earlier {
        Some(facts) if T::same(facts, &info) => {
            T::changed(pass, fd, facts, &info).map_or_else(|| Arc::clone(facts), Arc::new)
        }
        _ => Arc::new(T::facts(pass, fd, &info)),
    };
    let row = T::row(Arc::clone(&facts), Some(&info));
    Some((facts, row))
}

impl Pass<'_> {
    /// The memory charged for the object behind a descriptor, in bytes: only its fdinfo tells.
    pub(super) fn memlock(&mut self, kind: Kind, fd: BorrowedFd<'_>) -> Option<u64> {
        let text = match std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())) {
            Ok(text) => text,
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                self.issues.met(kind, "fdinfo", errno);
                return None;
            }
        };
        text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
    }

    /// The name in BTF of a program's entry function.
    pub(super) fn entry_function(&mut self, fd: BorrowedFd<'_>, btf_id: u32) -> Option<String> {
        let function = match sys::program_entry_function(fd) {
            Ok(function) => function?,
            Err(errno) => {
                self.issues.met(Kind::Program, Call::ObjGetInfoByFd.as_str(), errno);
                return None;
            }
        };
        if !self.functions.contains_key(&btf_id) {
            let functions = self.read_functions(btf_id);
            self.functions.insert(btf_id, functions);
        }
        let name = self.functions.get(&btf_id)?.as_ref()?.name(function.type_id)?;
        Some(super::names::text(name))
    }

    fn read_functions(&mut self, btf_id: u32) -> Option<Functions> {
        let read = || {
            let fd = sys::fd_by_id(Kind::Btf, btf_id).map_err(|errno| (Call::BtfGetFdById, errno))?;
            let fd = std::os::fd::AsFd::as_fd(&fd);
            let (info, _name) = sys::btf_info(fd).map_err(|errno| (Call::ObjGetInfoByFd, errno))?;
            sys::btf_data(fd, info.value.btf_size).map_err(|errno| (Call::ObjGetInfoByFd, errno))
        };
        match read() {
            Ok(data) => Some(Functions::parse(data)),
            Err((_, Errno::ENOENT)) => None,
            Err((call, errno)) => {
                self.issues.met(Kind::Btf, call.as_str(), errno);
                None
            }
        }
    }
}
